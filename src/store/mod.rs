//! The stores: the only SQL and the only DynamoDB calls of Millrace.
//!
//! DynamoDB has everything that accepting and delivering events touches;
//! PostgreSQL has what people configure. A change is written to PostgreSQL
//! with an outbox row, projected to DynamoDB, and repaired from the outbox by the
//! sweeper. Errors are classified here: no SDK or driver error leaves this layer
//! but as the source of an [`Error`](crate::error::Error).

pub mod accept;
pub mod activity;
pub mod api_keys;
pub mod audit_log;
pub mod backfills;
mod batch;
pub mod change;
pub mod change_marker;
pub mod config_projection;
pub mod deliveries;
pub mod due;
pub mod dynamo;
pub mod endpoints;
pub mod erasures;
pub mod event_types;
pub mod events;
pub mod idempotency;
pub mod keys;
pub mod meters;
pub mod objects;
pub mod outbox;
pub mod pacing;
pub mod postgres;
pub mod projector;
pub mod projects;
pub mod readings;
pub mod recoveries;
pub mod recovery_selection;
pub mod retry_quota;
pub mod secrets;
pub mod sessions;
pub mod table;
pub mod timeline;
mod transact;
pub mod usage;
