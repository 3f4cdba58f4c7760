//! The rules of Millrace as pure functions and plain types: no IO, no clock.
//!
//! Called by every other layer; imports nothing of them. Where a rule needs the
//! time or randomness, it takes them as parameters.

pub mod decimal;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod id;
pub mod ingest;
pub mod job;
pub mod key;
pub mod meter;
pub mod pointer;
pub mod recovery;
pub mod retry;
pub mod scalar;
pub mod seal;
pub mod signature;
pub mod time;
pub mod transition;
pub mod view;
pub mod window;
