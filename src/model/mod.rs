//! The rules of Millrace as pure functions and plain types: no IO, no clock.
//!
//! Called by every other layer; imports nothing of them. Where a rule needs the
//! time or randomness, it takes them as parameters.

pub mod audit;
pub mod breaker;
pub mod decimal;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod event_type;
pub mod extras;
pub mod filter;
pub mod id;
pub mod ingest;
pub mod job;
pub mod key;
pub mod meter;
pub mod notice;
pub mod pace;
pub mod pointer;
pub mod rate;
pub mod recovery;
pub mod retry;
pub mod scalar;
pub mod schema;
pub mod seal;
pub mod signature;
pub mod time;
pub mod transition;
pub mod view;
pub mod window;
