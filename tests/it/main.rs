//! Millrace as its users meet it: through HTTP, through the job entry points and
//! at a receiver. One binary, one set of stores, a fresh project for each test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backfills;
#[cfg(feature = "embedded")]
mod binary;
mod conformance;
mod contract;
mod deliveries;
mod endpoints;
mod events;
mod harness;
mod lambda;
mod layers;
mod meters;
mod outage;
#[cfg(feature = "embedded")]
mod process;
mod projects;
mod races;
mod receiver;
#[cfg(feature = "embedded")]
mod remote;
#[cfg(feature = "embedded")]
mod restore;
mod schema;
mod sqs;
mod stores;
mod telemetry;
mod usage;
mod webhooks;
