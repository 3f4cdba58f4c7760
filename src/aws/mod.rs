//! AWS, whichever of its services is called: clients, their HTTP, signatures, the
//! permissions that calls need, and refusals in words.

pub mod actions;
pub mod clients;
pub mod error;
mod http;
pub mod sigv4;
