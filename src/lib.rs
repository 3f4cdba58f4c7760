//! Millrace: events in once, signed webhooks out, on a laptop, on ECS Fargate
//! and on AWS Lambda from one binary.
//!
//! The code map and the invariants are in `ARCHITECTURE.md`. Imports point one
//! way: `host → http, console, jobs → store, queue, sender → model`.

pub mod accept;
pub mod admission;
pub mod app;
pub mod assets;
pub mod auth_failures;
pub mod aws;
pub mod config;
pub mod console;
pub mod error;
pub mod host;
pub mod http;
pub mod jobs;
pub mod model;
pub mod operational_events;
pub mod publish;
pub mod queue;
pub mod rate_limits;
pub mod sender;
pub mod store;
pub mod telemetry;
pub mod validation;
