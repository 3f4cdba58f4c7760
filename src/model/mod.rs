//! The rules of Millrace as pure functions and plain types: no IO, no clock.
//!
//! Called by every other layer, and imports only `error`. Where a rule needs the
//! time or randomness, it takes them as parameters.

pub mod absence;
pub mod access;
pub mod activity;
pub mod api_key;
pub mod archive;
pub mod audit;
pub mod breaker;
pub mod credentials;
pub mod csv;
pub mod decimal;
pub mod delivery;
pub mod endpoint;
pub mod endpoint_ref;
pub mod erasure;
pub mod event;
pub mod event_type;
pub mod failure_streak;
pub mod filter;
pub mod id;
pub mod ingest;
pub mod job;
pub mod message_signature;
pub mod metadata;
pub mod meter;
pub mod meter_set;
pub mod number;
pub mod operational_event;
pub mod origin;
pub mod pacing;
pub mod parse_error;
pub mod pointer;
pub mod pointer_set;
pub mod project_config;
pub mod rate_limit;
pub mod recovery;
pub mod recovery_progress;
pub mod refusal;
pub mod retry;
pub mod rfc3339;
pub mod scalar;
pub mod schema;
pub mod seal;
pub mod sent_headers;
pub mod session;
pub mod signature;
pub mod time;
pub mod transition;
pub mod window;
