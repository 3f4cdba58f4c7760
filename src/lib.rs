//! Millrace: events in once, signed webhooks out, on a laptop, on ECS Fargate
//! and on AWS Lambda from one binary.
//!
//! The code map and the invariants are in `ARCHITECTURE.md`. Imports point one
//! way: `host → http, jobs → store, queue, sender → model`.

pub mod accept;
pub mod app;
pub mod aws;
pub mod care;
pub mod config;
pub mod error;
pub mod host;
pub mod http;
pub mod jobs;
pub mod limits;
pub mod model;
pub mod notices;
pub mod queue;
pub mod sender;
pub mod store;
pub mod telemetry;
