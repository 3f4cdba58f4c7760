//! The sections of the configuration, as `config.toml` has them.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::mask;
use super::runtime_env::RuntimeEnv;
use super::units::{auto_bool, millis, seconds, seconds_list};

/// All of it, checked. `config.toml` says what each key means.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct Config {
    pub data_dir: PathBuf,
    pub host: HostChoice,
    pub handlers: Vec<Handler>,
    #[serde(serialize_with = "mask::secret")]
    pub admin_key: SecretString,
    pub admin_key_secret_arn: String,
    pub retention_days: u32,
    pub http: HttpConfig,
    pub database: DatabaseConfig,
    pub key_ring: KeyRingConfig,
    pub aws: AwsConfig,
    pub dynamodb: DynamodbConfig,
    pub sqs: SqsConfig,
    pub queue: QueueConfig,
    pub delivery: DeliveryConfig,
    pub recovery: RecoveryConfig,
    pub archive: ArchiveConfig,
    pub erasure: ErasureConfig,
    pub endpoints: EndpointsConfig,
    pub event_types: EventTypesConfig,
    pub ingest: IngestConfig,
    pub sweep: SweepConfig,
    pub meters: MetersConfig,
    pub cache: CacheConfig,
    pub log: LogConfig,
    pub telemetry: TelemetryConfig,
    /// Where the process runs, read from the environment beside the keys.
    #[serde(skip)]
    pub runtime_env: RuntimeEnv,
}

/// `host`: what drives the process, unless detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostChoice {
    /// Lambda where its runtime API is announced, else TCP.
    Auto,
    /// A TCP listener, even on Lambda.
    Tcp,
    /// The Lambda runtime API.
    Lambda,
}

/// One kind of work a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// The API.
    Http,
    /// Jobs that find an event's endpoints.
    FanOut,
    /// Jobs that call one endpoint.
    Deliver,
    /// Events from AWS sources.
    Ingest,
    /// Retries and repair.
    Sweep,
    /// Usage counting.
    Meter,
}

/// `[http]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct HttpConfig {
    pub listen: String,
    pub body_bytes_max: usize,
    #[serde(rename = "request_timeout_s", with = "seconds")]
    pub request_timeout: Duration,
    #[serde(rename = "header_timeout_s", with = "seconds")]
    pub header_timeout: Duration,
    #[serde(rename = "idle_timeout_s", with = "seconds")]
    pub idle_timeout: Duration,
    #[serde(rename = "write_stall_s", with = "seconds")]
    pub write_timeout: Duration,
    pub connections_max: usize,
    pub events_per_second_max: u32,
    pub auth_failures_max: u32,
    /// Each as [`network`](super::network) reads it.
    pub trusted_proxies: Vec<String>,
    #[serde(rename = "drain_timeout_s", with = "seconds")]
    pub drain_timeout: Duration,
    #[serde(rename = "drain_grace_s", with = "seconds")]
    pub drain_grace: Duration,
}

/// `[database]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct DatabaseConfig {
    #[serde(serialize_with = "mask::url")]
    pub url: SecretString,
    pub secret_arn: String,
    pub app_role: String,
    pub app_secret_arn: String,
    pub host: String,
    pub port: u16,
    pub name: String,
    pub ca_file: PathBuf,
    /// As configured; [`Config::pool_size`] is what to use.
    pub pool_size: usize,
    #[serde(rename = "connect_timeout_s", with = "seconds")]
    pub connect_timeout: Duration,
    #[serde(rename = "statement_timeout_s", with = "seconds")]
    pub statement_timeout: Duration,
}

/// `[key_ring]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct KeyRingConfig {
    pub secret_arn: String,
}

/// `[aws]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct AwsConfig {
    pub endpoint_url: String,
    /// As configured; [`Config::region`] is what to use.
    pub region: String,
    pub ca_file: PathBuf,
}

/// `[dynamodb]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct DynamodbConfig {
    pub table: String,
    /// As configured; [`Config::dynamodb_endpoint`] is what to use.
    pub endpoint_url: String,
}

/// `[sqs]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct SqsConfig {
    pub fan_out_url: String,
    pub deliver_url: String,
    pub ingest_url: String,
    pub parked_url: String,
    /// As configured; [`Config::sqs_endpoint`] is what to use.
    pub endpoint_url: String,
}

/// `[queue]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct QueueConfig {
    pub local_jobs_max: usize,
    pub local_bytes_max: usize,
}

/// `[delivery]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct DeliveryConfig {
    /// `None` is "auto"; [`Config::allows_private_targets`] is what to use.
    #[serde(with = "auto_bool")]
    pub allow_private_targets: Option<bool>,
    #[serde(rename = "connect_timeout_s", with = "seconds")]
    pub connect_timeout: Duration,
    #[serde(rename = "timeout_s", with = "seconds")]
    pub timeout: Duration,
    pub response_bytes_max: usize,
    pub concurrency: usize,
    pub in_flight_max: usize,
    pub endpoint_concurrency: usize,
    pub ca_file: PathBuf,
    pub breaker_failures: u32,
    #[serde(rename = "breaker_open_s", with = "seconds")]
    pub breaker_open: Duration,
    #[serde(rename = "breaker_open_max_s", with = "seconds")]
    pub breaker_open_max: Duration,
    pub disable_after_days: u32,
    #[serde(rename = "retry_schedule_s", with = "seconds_list")]
    pub retry_schedule: Vec<Duration>,
    pub retry_jitter: f64,
    /// As configured; [`Config::source_addresses`] is what to show.
    pub source_addresses: Vec<String>,
}

/// `[recovery]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryConfig {
    /// Deliveries that one recovery begins in a second, at most.
    pub per_second_max: u32,
}

/// `[archive]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct ArchiveConfig {
    pub bucket: String,
    pub prefix: String,
    /// As configured; [`Config::archive_url`] is what to use.
    pub endpoint_url: String,
}

/// `[erasure]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureConfig {
    /// Items that one erasure deletes in a second, at most.
    pub per_second_max: u32,
}

/// `[endpoints]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsConfig {
    /// Endpoints that a project may have, deleted ones not counted.
    pub per_project_max: u32,
}

/// `[event_types]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct EventTypesConfig {
    pub per_project_max: usize,
    pub schema_bytes_per_project_max: usize,
}

/// `[ingest]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IngestConfig {
    /// A project's id, or nothing.
    pub project: String,
}

/// `[sweep]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct SweepConfig {
    #[serde(rename = "interval_ms", with = "millis")]
    pub interval: Duration,
    pub batch: usize,
    /// With the in-process queue; [`Config::lease`] is what to use.
    #[serde(rename = "lease_s", with = "seconds")]
    pub lease: Duration,
    /// With SQS; [`Config::lease`] is what to use.
    #[serde(rename = "sqs_lease_s", with = "seconds")]
    pub sqs_lease: Duration,
}

/// `[meters]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct MetersConfig {
    #[serde(rename = "interval_ms", with = "millis")]
    pub interval: Duration,
    pub batch: usize,
    pub groups_max: u32,
    pub late_days_max: u32,
}

impl MetersConfig {
    /// How late an event may be and still count at its own time.
    pub fn late_max(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.late_days_max))
    }
}

/// `[cache]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct CacheConfig {
    #[serde(rename = "ttl_s", with = "seconds")]
    pub ttl: Duration,
    pub keys_max: u64,
    pub projects_max: u64,
}

impl CacheConfig {
    /// How long a process acts on what has changed, if the event store does not tell it.
    pub fn staleness_max(&self) -> Duration {
        match self.ttl {
            Duration::ZERO => Duration::ZERO,
            ttl => ttl + STALE_MAX,
        }
    }
}

/// How long beyond `cache.ttl_s` a project's configuration is used that cannot be
/// looked at again.
const STALE_MAX: Duration = Duration::from_secs(10);

/// `[log]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Human,
}

/// `[telemetry]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct TelemetryConfig {
    pub service: String,
    /// As configured; [`Config::emits_metrics`] is what to use.
    pub metrics: MetricsChoice,
    #[serde(rename = "metrics_interval_s", with = "seconds")]
    pub metrics_interval: Duration,
    pub traces: TracesChoice,
    /// As configured; [`Config::traces_url`] is what to use.
    pub otlp_url: String,
    pub sample_ratio: f64,
    pub kpi_series_max: usize,
}

/// `telemetry.metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricsChoice {
    /// EMF on ECS and Lambda, none elsewhere.
    Auto,
    /// CloudWatch Embedded Metric Format, to stdout.
    Emf,
    /// None.
    Off,
}

/// `telemetry.traces`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TracesChoice {
    /// X-Ray, or what stands in for it, signed.
    Xray,
    /// A collector, unsigned.
    Otlp,
    /// None.
    Off,
}
