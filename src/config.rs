//! Configuration: its shape, where it comes from, what it decides.
//!
//! `config.toml` is compiled in and documents every key; a file and then the
//! environment are laid over it, and the outcome is checked as a whole before
//! anything starts. Read by `main`, `host` and start-up, which hand the parts
//! on; nothing below reads a file or a variable by itself.

mod check;
mod database_url;
mod mask;
mod meters;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod units;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

pub use database_url::with_tls;
pub use meters::MetersConfig;
use source::Layer;
use units::{auto_bool, millis, seconds, seconds_list};

/// The documented defaults: every key there is, once.
pub const DEFAULTS: &str = include_str!("../config.toml");

/// The file that is read, if there, when none is named.
pub const DEFAULT_FILE: &str = "millrace.toml";

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
    /// A TCP listener, whatever the surroundings.
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
    pub connections_max: usize,
    pub events_per_second_max: u32,
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
    /// One JSON object a line, to stdout.
    Json,
    /// For eyes, to stderr.
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

/// What AWS's own variables say about where the process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeEnv {
    /// `AWS_LAMBDA_RUNTIME_API` is there: Lambda, or its Web Adapter.
    pub is_lambda: bool,
    /// `ECS_CONTAINER_METADATA_URI_V4` is there.
    pub is_ecs: bool,
    /// `AWS_REGION`, or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_LAMBDA_MAX_CONCURRENCY`, where it is more than one: invocations that
    /// one process of Lambda Managed Instances is given at a time.
    pub lambda_concurrency: Option<usize>,
}

impl RuntimeEnv {
    /// Reads them through `env`, which answers one variable by name.
    pub fn detect(env: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| env(name).filter(|value| !value.is_empty());
        Self {
            is_lambda: set("AWS_LAMBDA_RUNTIME_API").is_some(),
            is_ecs: set("ECS_CONTAINER_METADATA_URI_V4").is_some(),
            region: set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION")),
            lambda_concurrency: set("AWS_LAMBDA_MAX_CONCURRENCY")
                .and_then(|text| text.parse().ok())
                .filter(|concurrency| *concurrency > 1),
        }
    }

    /// Whether AWS runs this process, so that its disk is not there to stay.
    pub fn is_aws(&self) -> bool {
        self.is_lambda || self.is_ecs
    }
}

/// What a configuration has to be enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Everything its `handlers` name.
    Serve,
    /// The stores alone, as a task has that brings them up to date: it is given
    /// no admin key and no key ring.
    Migrate,
}

impl Config {
    /// Reads `file` (or [`DEFAULT_FILE`] if that is there), then the environment.
    ///
    /// # Errors
    /// The file cannot be read or is not TOML, or any key is unknown, of the
    /// wrong type or out of its range, or lacks what `purpose` takes: all such
    /// keys at once, each by name.
    pub fn load(file: Option<&Path>, purpose: Purpose) -> Result<Self, InvalidConfig> {
        let env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::layered(source::file(file)?, &env, purpose)
    }

    /// The defaults with `toml` laid over them, and no environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(toml: &str) -> Result<Self, InvalidConfig> {
        let file = Layer::toml("this text", toml)?;
        Self::layered(Some(file), &[], Purpose::Serve)
    }

    fn layered(
        file: Option<Layer>,
        env: &[(String, String)],
        purpose: Purpose,
    ) -> Result<Self, InvalidConfig> {
        let sources = [file, Some(Layer::env(env))];
        let mut config: Self = source::extract(sources.into_iter().flatten().collect())?;
        config.runtime_env = RuntimeEnv::detect(|name| {
            let found = env.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        });
        config.validate(purpose)?;
        Ok(config)
    }

    /// Checks every value, alone and against the others, and that `purpose` has
    /// all it takes.
    ///
    /// # Errors
    /// Every problem there is, not only the first.
    pub fn validate(&self, purpose: Purpose) -> Result<(), InvalidConfig> {
        InvalidConfig::unless_empty(check::problems(self, purpose))
    }

    /// What is in force, as TOML in the order of `config.toml`, secrets masked.
    pub fn masked_toml(&self) -> String {
        mask::toml(self)
    }

    /// Whether PostgreSQL runs in this process.
    pub fn uses_embedded_postgres(&self) -> bool {
        cfg!(feature = "embedded")
            && !self.runtime_env.is_aws()
            && self.database.url.expose_secret().is_empty()
            && self.database.host.is_empty()
    }

    /// Whether DynamoDB runs in this process: nothing says where another is, and
    /// neither AWS around us nor a configured PostgreSQL says this is no laptop.
    pub fn uses_embedded_dynamodb(&self) -> bool {
        self.uses_embedded_postgres() && self.dynamodb_endpoint().is_none()
    }

    /// Whether the Lambda runtime API drives the process.
    pub fn runs_on_lambda(&self) -> bool {
        match self.host {
            HostChoice::Auto => self.runtime_env.is_lambda,
            HostChoice::Lambda => true,
            HostChoice::Tcp => false,
        }
    }

    /// Connections to PostgreSQL: the embedded one has a single backend.
    pub fn pool_size(&self) -> usize {
        let configured = self.database.pool_size;
        match (self.uses_embedded_postgres(), self.runs_on_lambda()) {
            (true, _) => 1,
            // A function has one for each request that it answers at a time: many
            // of them share what RDS Proxy has.
            (_, true) => configured.min(self.runtime_env.lambda_concurrency.unwrap_or(1)),
            (false, false) => configured,
        }
    }

    /// The AWS region, never asked of a metadata service.
    pub fn region(&self) -> &str {
        match (self.aws.region.as_str(), &self.runtime_env.region) {
            ("", Some(region)) => region,
            ("", None) => "us-east-1",
            (region, _) => region,
        }
    }

    /// Where DynamoDB is, unless it is the region's own or embedded.
    pub fn dynamodb_endpoint(&self) -> Option<&str> {
        first_set(&[&self.dynamodb.endpoint_url, &self.aws.endpoint_url])
    }

    /// Where Secrets Manager is, unless it is the region's own.
    pub fn secrets_endpoint(&self) -> Option<&str> {
        first_set(&[&self.aws.endpoint_url])
    }

    /// Where the database is, without who logs in if that is a secret's.
    pub fn database_url(&self) -> SecretString {
        let database = &self.database;
        if database.host.is_empty() {
            return database.url.clone();
        }
        let (host, port, name) = (&database.host, database.port, &database.name);
        format!("postgresql://{host}:{port}/{name}?sslmode=verify-full").into()
    }

    /// Where SQS is, unless it is the region's own.
    pub fn sqs_endpoint(&self) -> Option<&str> {
        first_set(&[&self.sqs.endpoint_url, &self.aws.endpoint_url])
    }

    /// Whether jobs go through SQS rather than the in-process queue.
    pub fn uses_sqs(&self) -> bool {
        !self.sqs.deliver_url.is_empty()
    }

    /// How long a queued delivery is left to its worker.
    pub fn lease(&self) -> Duration {
        match self.uses_sqs() {
            true => self.sweep.sqs_lease,
            false => self.sweep.lease,
        }
    }

    /// Whether an endpoint may lead to an address that is not public.
    pub fn allows_private_targets(&self) -> bool {
        let laptop = self.uses_embedded_postgres() && self.uses_embedded_dynamodb();
        self.delivery.allow_private_targets.unwrap_or(laptop)
    }

    /// How long an endpoint may do nothing but fail; none if that has no end.
    pub fn disable_after(&self) -> Option<Duration> {
        match self.delivery.disable_after_days {
            0 => None,
            days => Some(Duration::from_hours(24 * u64::from(days))),
        }
    }

    /// Whether metrics are written.
    pub fn emits_metrics(&self) -> bool {
        match self.telemetry.metrics {
            MetricsChoice::Auto => self.runtime_env.is_aws(),
            MetricsChoice::Emf => true,
            MetricsChoice::Off => false,
        }
    }

    /// Where traces are posted to.
    pub fn traces_url(&self) -> String {
        match (&*self.telemetry.otlp_url, &*self.aws.endpoint_url) {
            ("", "") => format!("https://xray.{}/v1/traces", self.aws_suffix()),
            ("", aws) => format!("{}/v1/traces", aws.trim_end_matches('/')),
            (url, _) => url.to_owned(),
        }
    }

    /// Where the archive's bucket is, with a slash at the end: below an endpoint by
    /// path, at AWS by host.
    pub fn archive_url(&self) -> String {
        let bucket = &self.archive.bucket;
        match first_set(&[&self.archive.endpoint_url, &self.aws.endpoint_url]) {
            Some(endpoint) => format!("{}/{bucket}/", endpoint.trim_end_matches('/')),
            None => format!("https://{bucket}.s3.{}/", self.aws_suffix()),
        }
    }

    /// What the names of the region's services end with.
    fn aws_suffix(&self) -> String {
        let region = self.region();
        match region.starts_with("cn-") {
            true => format!("{region}.amazonaws.com.cn"),
            false => format!("{region}.amazonaws.com"),
        }
    }

    /// Whether this process does `handler`'s work.
    pub fn handles(&self, handler: Handler) -> bool {
        self.handlers.contains(&handler)
    }
}

fn first_set<'a>(values: &[&'a String]) -> Option<&'a str> {
    values.iter().find(|v| !v.is_empty()).map(|v| v.as_str())
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// Each names the key, what it was given and what was expected.
    pub problems: Vec<String>,
}

impl InvalidConfig {
    fn one(problem: String) -> Self {
        Self {
            problems: vec![problem],
        }
    }

    fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Self { problems }),
        }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
