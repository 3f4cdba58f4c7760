//! Millrace as its users meet it: through HTTP, through the job entry points and
//! at a receiver. One binary, one set of stores, a fresh project for each test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod activity;
mod admission;
mod alarms;
mod api_explorer;
mod api_keys;
mod archive;
mod audit_log;
mod audited_reads;
mod auth_failures;
mod backfills;
mod binary_delivery;
mod causes;
mod circuit_breaker;
#[cfg(feature = "embedded")]
mod config_cache;
mod conformance;
mod connections;
mod console_endpoints;
mod console_events;
mod console_meters;
mod console_overview;
mod console_routes;
mod console_sessions;
mod content_encoding;
mod contract;
mod credentials;
mod cursors;
mod database;
mod database_role;
mod deliveries;
mod delivery_settings;
mod endpoint_health;
mod endpoint_uids;
mod endpoints;
mod erasures;
mod event_attributes;
mod event_types;
mod events;
#[cfg(feature = "embedded")]
mod function;
mod idempotency;
mod ingest;
mod input;
#[cfg(feature = "embedded")]
mod kept;
mod lambda;
mod lanes;
mod layers;
mod lists;
#[cfg(feature = "embedded")]
mod long_polls;
#[cfg(feature = "embedded")]
mod lost_answers;
mod metadata;
mod meters;
mod missing_items;
mod numbers;
mod operational_events;
mod outage;
#[cfg(feature = "embedded")]
mod process;
mod projects;
mod races;
mod rate_limit;
#[cfg(feature = "embedded")]
mod rds_proxy;
mod receivers;
mod recoveries;
mod recovery_previews;
mod refusals;
#[cfg(feature = "embedded")]
mod remote;
mod repeats;
mod request_headers;
#[cfg(feature = "embedded")]
mod restore;
mod retention;
mod schema;
#[cfg(feature = "embedded")]
mod security;
mod signatures;
mod source_addresses;
mod sqs;
mod stale_views;
mod support;
#[cfg(feature = "embedded")]
mod sweeps;
mod telemetry;
mod tenant_keys;
#[cfg(feature = "embedded")]
mod throttling;
mod tls;
mod transitions;
mod unreadable_items;
mod usage;
mod usage_selection;
mod webhooks;
