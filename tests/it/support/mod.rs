//! The support of all test modules: the harness and its stores, receivers and
//! queues, the binary, and shared fixtures. Test modules import from here and never
//! from each other.

pub mod authority;
#[cfg(feature = "embedded")]
pub mod binary;
pub mod bucket;
mod docker;
pub mod documented;
pub mod fixtures;
#[cfg(feature = "embedded")]
pub mod gate;
pub mod harness;
pub mod probes;
pub mod queues;
pub mod receiver;
#[cfg(feature = "embedded")]
pub mod relay;
pub mod stores;
pub mod traces;
