//! The support of all test modules: the harness and its stores, receivers and
//! queues, the binary, and shared fixtures. Test modules import from here and never
//! from each other.

pub mod authority;
#[cfg(feature = "embedded")]
pub mod binary;
pub mod browser;
pub mod bucket;
mod containers;
pub mod documented;
#[cfg(feature = "embedded")]
pub mod faults;
pub mod fixtures;
#[cfg(feature = "embedded")]
pub mod gate;
pub mod harness;
pub mod probes;
pub mod queues;
pub mod receiver;
#[cfg(feature = "embedded")]
pub mod relay;
pub mod sigv4;
#[cfg(feature = "embedded")]
pub mod sqs_server;
pub mod stores;
pub mod traces;
