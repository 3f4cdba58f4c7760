//! The rules of the configuration: what each value must satisfy, alone and against
//! the others.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use super::database_url::with_tls;
use super::log_level;
use super::problem::{given, problem, text};
use super::sections::{Config, Handler, TracesChoice};

const DAY_S: u64 = 86_400;
const GIB: f64 = 1_073_741_824.0;

/// What every number may be, and in which unit.
pub const RANGES: &[(&str, RangeInclusive<f64>, &str)] = &[
    ("retention_days", 1.0..=3650.0, "days"),
    ("http.body_bytes_max", 1024.0..=16_777_216.0, "bytes"),
    ("http.request_timeout_s", 1.0..=900.0, "seconds"),
    ("http.header_timeout_s", 1.0..=300.0, "seconds"),
    ("http.idle_timeout_s", 1.0..=3600.0, "seconds"),
    ("http.write_stall_s", 1.0..=300.0, "seconds"),
    ("http.connections_max", 1.0..=1_000_000.0, "connections"),
    ("http.events_per_second_max", 0.0..=1_000_000.0, "events"),
    ("http.auth_failures_max", 0.0..=1_000_000.0, "failures"),
    ("http.drain_timeout_s", 0.0..=900.0, "seconds"),
    ("http.drain_grace_s", 0.0..=900.0, "seconds"),
    ("database.port", 1.0..=65_535.0, "as a port"),
    ("database.pool_size", 1.0..=1000.0, "connections"),
    ("database.connect_timeout_s", 1.0..=300.0, "seconds"),
    ("database.statement_timeout_s", 1.0..=900.0, "seconds"),
    ("queue.local_jobs_max", 1.0..=10_000_000.0, "jobs"),
    ("queue.local_bytes_max", 1_048_576.0..=64.0 * GIB, "bytes"),
    ("delivery.connect_timeout_s", 1.0..=300.0, "seconds"),
    ("delivery.timeout_s", 1.0..=900.0, "seconds"),
    ("delivery.response_bytes_max", 0.0..=1_048_576.0, "bytes"),
    ("delivery.concurrency", 1.0..=100_000.0, "attempts"),
    ("delivery.in_flight_max", 1.0..=100_000.0, "attempts"),
    ("delivery.endpoint_concurrency", 1.0..=100_000.0, "attempts"),
    ("delivery.breaker_failures", 0.0..=10_000.0, "failures"),
    ("delivery.breaker_open_s", 1.0..=86_400.0, "seconds"),
    ("delivery.breaker_open_max_s", 1.0..=86_400.0, "seconds"),
    ("delivery.disable_after_days", 0.0..=365.0, "days"),
    ("delivery.retry_jitter", 0.0..=1.0, "of the wait"),
    (
        "recovery.per_second_max",
        1.0..=10_000.0,
        "deliveries a second",
    ),
    ("erasure.per_second_max", 1.0..=10_000.0, "items a second"),
    ("endpoints.per_project_max", 1.0..=100_000.0, "endpoints"),
    ("event_types.per_project_max", 0.0..=10_000.0, "types"),
    (
        "event_types.schema_bytes_per_project_max",
        0.0..=16_777_216.0,
        "bytes",
    ),
    ("sweep.interval_ms", 10.0..=3_600_000.0, "milliseconds"),
    ("sweep.batch", 1.0..=10_000.0, "items"),
    ("sweep.lease_s", 1.0..=3600.0, "seconds"),
    ("sweep.sqs_lease_s", 1.0..=3600.0, "seconds"),
    ("meters.interval_ms", 10.0..=3_600_000.0, "milliseconds"),
    ("meters.batch", 1.0..=1000.0, "events"),
    ("meters.groups_max", 1.0..=100_000.0, "groups"),
    ("meters.late_days_max", 0.0..=3650.0, "days"),
    ("cache.ttl_s", 0.0..=3600.0, "seconds"),
    ("cache.keys_max", 0.0..=10_000_000.0, "keys"),
    ("cache.projects_max", 0.0..=10_000_000.0, "projects"),
    ("telemetry.metrics_interval_s", 1.0..=3600.0, "seconds"),
    ("telemetry.sample_ratio", 0.0..=1.0, "of the traces"),
    ("telemetry.kpi_series_max", 0.0..=100_000.0, "series"),
];

/// What a configuration has to be enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Everything its `handlers` name.
    Serve,
    /// The stores alone, as a task has that brings them up to date or makes a key: it
    /// is given no admin key and no key ring.
    Migrate,
}

/// Everything that is wrong with `config`, for `purpose`.
pub fn problems(config: &Config, purpose: Purpose) -> Vec<String> {
    let mut found = ranges(config);
    found.extend(general(config));
    found.extend(stores(config));
    if purpose == Purpose::Serve {
        found.extend(serving(config));
    }
    found.extend(queues(config));
    found.extend(deliveries(config));
    found.extend(archive(config));
    found.extend(telemetry(config));
    found
}

fn ranges(config: &Config) -> Vec<String> {
    let values = serde_json::to_value(config).unwrap_or_default();
    let out_of_range = RANGES.iter().filter_map(|(key, range, _)| {
        let given = value_at(&values, key).as_f64()?;
        let expected = || self::range(key).unwrap_or_default();
        (!range.contains(&given)).then(|| self::given(key, given, &expected()))
    });
    out_of_range.collect()
}

/// What a number may be, in words.
pub fn range(key: &str) -> Option<String> {
    let (_, range, unit) = RANGES.iter().find(|(name, ..)| *name == key)?;
    Some(format!("{} to {} {unit}", range.start(), range.end()))
}

/// The value under a dotted key.
pub fn value_at<'a>(values: &'a Value, key: &str) -> &'a Value {
    key.split('.').fold(values, |value, name| &value[name])
}

fn general(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.data_dir.as_os_str().is_empty() {
        found.push(text("data_dir", "", "a directory"));
    }
    let distinct: HashSet<Handler> = config.handlers.iter().copied().collect();
    if distinct.is_empty() || distinct.len() < config.handlers.len() {
        let expected = "at least one handler, each once";
        found.push(given(
            "handlers",
            format_args!("{:?}", config.handlers),
            expected,
        ));
    }
    if config.http.listen.parse::<SocketAddr>().is_err() {
        let expected = listen_expected(&config.http.listen);
        found.push(text("http.listen", &config.http.listen, &expected));
    }
    let proxies = config.http.trusted_proxies.iter();
    for proxy in proxies.filter(|proxy| network(proxy).is_none()) {
        let expected = "addresses and networks, such as 10.0.0.0/16";
        found.push(text("http.trusted_proxies", proxy, expected));
    }
    let sources = config.delivery.source_addresses.iter();
    for source in sources.filter(|source| network(source).is_none()) {
        let expected = "addresses and networks, such as 203.0.113.7";
        found.push(text("delivery.source_addresses", source, expected));
    }
    if log_level::directives(&config.log.level).is_none() {
        found.push(text("log.level", &config.log.level, log_level::EXPECTED));
    }
    let (grace, timeout) = (config.http.drain_grace, config.http.drain_timeout);
    if grace > timeout {
        let expected = format!(
            "at most http.drain_timeout_s, which is {}",
            timeout.as_secs()
        );
        found.push(given("http.drain_grace_s", grace.as_secs(), &expected));
    }
    if (1..32).contains(&config.admin_key.expose_secret().chars().count()) {
        let expected = "a secret of at least 32 characters";
        found.push(problem("admin_key", None, expected));
    }
    found
}

/// A name may stand for several addresses, and which one is a guess.
fn listen_expected(given: &str) -> String {
    let port = |given: &str| given.rsplit(':').next()?.parse::<u16>().ok();
    let port = port(given).unwrap_or(8080);
    let host = given.rsplit_once(':').map_or(given, |(host, _)| host);
    match host {
        "localhost" => format!("an IP address, not a name: 127.0.0.1:{port}"),
        "" | "*" => format!("an IP address and port: 0.0.0.0:{port} for every interface"),
        _ => format!("an IP address and port, such as 127.0.0.1:{port}"),
    }
}

/// What the API and the jobs cannot do without, and a migration can.
fn serving(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let aws = config.runtime_env.is_aws();
    let has_admin_key =
        !config.admin_key.expose_secret().is_empty() || !config.admin_key_secret_arn.is_empty();
    if aws && config.handles(Handler::Http) && !has_admin_key {
        let expected = "a secret of at least 32 characters on ECS and Lambda, \
             or admin_key_secret_arn";
        found.push(problem("admin_key", None, expected));
    }
    // A key ring on a disk that goes away takes all endpoint secrets with it.
    if aws && config.key_ring.secret_arn.is_empty() {
        let expected = "the ARN of a secret on ECS and Lambda";
        found.push(problem("key_ring.secret_arn", None, expected));
    }
    // All but counting sends jobs, and in a function nobody takes them from a
    // queue in process.
    let sends_jobs = config.handlers.iter().any(|h| *h != Handler::Meter);
    if config.runs_on_lambda() && sends_jobs && !config.uses_sqs() {
        let expected = "the URL of a queue on Lambda, which runs nothing between invocations";
        found.push(problem("sqs.deliver_url", None, expected));
    }
    found
}

fn stores(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let database_url = config.database.url.expose_secret();
    if database_url.is_empty()
        && config.database.host.is_empty()
        && !config.uses_embedded_postgres()
    {
        let expected = if config.runtime_env.is_aws() {
            "PostgreSQL's URL, or database.host: on ECS and Lambda there is none in process"
        } else {
            "PostgreSQL's URL: this build has none in process"
        };
        found.push(problem("database.url", None, expected));
    }
    if !database_url.is_empty() && !is_postgres_url(database_url) {
        let expected = "a URL such as postgresql://user:password@host:5432/database";
        found.push(problem("database.url", None, expected));
    }
    found.extend(secrets(config));
    let table = &config.dynamodb.table;
    let table_char = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if !(3..=255).contains(&table.len()) || !table.chars().all(table_char) {
        let expected = "3 to 255 letters, digits, '_', '-' or '.'";
        found.push(text("dynamodb.table", table, expected));
    }
    let region = config.region();
    if !region
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-')
    {
        found.push(text("aws.region", region, "a region such as eu-west-1"));
    }
    found
}

fn secrets(config: &Config) -> Vec<String> {
    let database = &config.database;
    let url = config.database_url();
    let mut found = Vec::new();
    if !database.host.is_empty() && !database.url.expose_secret().is_empty() {
        found.push(text(
            "database.host",
            &database.host,
            "nothing, as database.url is set",
        ));
    }
    if !database.host.is_empty() && !is_postgres_url(url.expose_secret()) {
        found.push(text("database.host", &database.host, "a host name"));
    }
    if !database.host.is_empty() && database.secret_arn.is_empty() {
        let expected = "the ARN of a secret, as database.host is set and names no login";
        found.push(problem("database.secret_arn", None, expected));
    }
    found.extend(app_role(config));
    if !config.ingest.project.is_empty() && !config.ingest.project.starts_with("prj_") {
        found.push(text(
            "ingest.project",
            &config.ingest.project,
            "a project's id, prj_…",
        ));
    }
    found
}

/// The role of serving processes, where the database is another's.
fn app_role(config: &Config) -> Vec<String> {
    let role = &config.database.app_role;
    let role_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_name = role.len() <= 63
        && role.chars().all(role_char)
        && !role.starts_with(|c: char| c.is_ascii_digit())
        && !role.starts_with("pg_");
    let mut found = Vec::new();
    let keys = [
        ("database.app_role", role),
        ("database.app_secret_arn", &config.database.app_secret_arn),
    ];
    if config.uses_embedded_postgres() {
        let expected = "nothing, as PostgreSQL in process has one role";
        let set = keys.iter().filter(|(_, value)| !value.is_empty());
        found.extend(set.map(|(key, value)| text(key, value, expected)));
    } else if keys.iter().all(|(_, value)| !value.is_empty()) {
        let expected = "nothing, as database.app_secret_arn is set";
        found.push(text("database.app_role", role, expected));
    } else if !is_name {
        let expected = "up to 63 lower-case letters, digits or '_', not beginning with \
             a digit or \"pg_\"";
        found.push(text("database.app_role", role, expected));
    }
    found
}

fn is_postgres_url(text: &str) -> bool {
    let scheme =
        Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    scheme && with_tls(text).parse::<tokio_postgres::Config>().is_ok()
}

fn queues(config: &Config) -> Vec<String> {
    let sqs = &config.sqs;
    let urls = [
        ("aws.endpoint_url", &config.aws.endpoint_url),
        ("dynamodb.endpoint_url", &config.dynamodb.endpoint_url),
        ("archive.endpoint_url", &config.archive.endpoint_url),
        ("sqs.endpoint_url", &sqs.endpoint_url),
        ("sqs.fan_out_url", &sqs.fan_out_url),
        ("sqs.deliver_url", &sqs.deliver_url),
        ("sqs.ingest_url", &sqs.ingest_url),
        ("sqs.parked_url", &sqs.parked_url),
    ];
    let set = urls.iter().filter(|(_, url)| !url.is_empty());
    let mut found: Vec<String> = set
        .filter(|(_, url)| !is_http_url(url))
        .map(|(key, url)| text(key, url, "an http or https URL"))
        .collect();
    match (sqs.fan_out_url.is_empty(), sqs.deliver_url.is_empty()) {
        (true, false) => found.push(problem(
            "sqs.fan_out_url",
            None,
            "a URL, as sqs.deliver_url has one",
        )),
        (false, true) => found.push(problem(
            "sqs.deliver_url",
            None,
            "a URL, as sqs.fan_out_url has one",
        )),
        (false, false) if sqs.fan_out_url == sqs.deliver_url => {
            let expected = "another queue than sqs.fan_out_url";
            found.push(text("sqs.deliver_url", &sqs.deliver_url, expected));
        }
        _ => {}
    }
    let parked_url = &sqs.parked_url;
    if !parked_url.is_empty() && [&sqs.fan_out_url, &sqs.deliver_url].contains(&parked_url) {
        let expected = "another queue than sqs.fan_out_url and sqs.deliver_url";
        found.push(text("sqs.parked_url", parked_url, expected));
    }
    found
}

/// The network that `text` is, or the address; in IPv4, where it is mapped into IPv6.
pub fn network(text: &str) -> Option<IpNet> {
    let address = text.parse().map(|address: IpAddr| address.to_canonical());
    match address {
        Ok(address) => Some(address.into()),
        Err(_) => text.parse().ok(),
    }
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn deliveries(config: &Config) -> Vec<String> {
    let delivery = &config.delivery;
    let waits: Vec<u64> = delivery
        .retry_schedule
        .iter()
        .map(|wait| wait.as_secs())
        .collect();
    let mut found = Vec::new();
    if !(1..=20).contains(&waits.len()) || waits.iter().any(|wait| *wait > DAY_S) {
        let expected = "1 to 20 waits of at most 86400 seconds";
        found.push(given(
            "delivery.retry_schedule_s",
            format_args!("{waits:?}"),
            expected,
        ));
    }
    // What the store's expiry removes is retried no more: it would be lost in silence.
    let longest = delivery.retry_schedule.iter().sum::<Duration>();
    let longest = longest.mul_f64(1.0 + delivery.retry_jitter.clamp(0.0, 1.0));
    let days = longest.as_secs().div_ceil(DAY_S);
    if u64::from(config.retention_days) < days {
        let expected = format!("at least {days} days, as delivery.retry_schedule_s takes longer");
        found.push(given("retention_days", config.retention_days, &expected));
    }
    if delivery.endpoint_concurrency > delivery.concurrency {
        let expected = format!(
            "at most delivery.concurrency, which is {}",
            delivery.concurrency
        );
        let key = "delivery.endpoint_concurrency";
        found.push(given(key, delivery.endpoint_concurrency, &expected));
    }
    if delivery.breaker_open > delivery.breaker_open_max {
        let expected = format!(
            "at most delivery.breaker_open_max_s, which is {}",
            delivery.breaker_open_max.as_secs()
        );
        let key = "delivery.breaker_open_s";
        found.push(given(key, delivery.breaker_open.as_secs(), &expected));
    }
    if delivery.connect_timeout > delivery.timeout {
        let expected = format!(
            "at most delivery.timeout_s, which is {}",
            delivery.timeout.as_secs()
        );
        let key = "delivery.connect_timeout_s";
        found.push(given(key, delivery.connect_timeout.as_secs(), &expected));
    }
    found
}

fn archive(config: &Config) -> Vec<String> {
    let archive = &config.archive;
    let mut found = Vec::new();
    // Without full stops, for which AWS's certificate would not be valid.
    let name_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let bucket = &archive.bucket;
    if !bucket.is_empty() && (!(3..=63).contains(&bucket.len()) || !bucket.chars().all(name_char)) {
        let expected = "3 to 63 lower-case letters, digits or '-'";
        found.push(text("archive.bucket", bucket, expected));
    }
    let path_char = |c: char| c.is_ascii_alphanumeric() || "_-./=".contains(c);
    let is_path = !archive
        .prefix
        .split('/')
        .any(|part| part == "." || part == "..");
    if archive.prefix.len() > 512 || !archive.prefix.chars().all(path_char) || !is_path {
        let expected = "up to 512 letters, digits, '_', '-', '.', '=' or '/'";
        found.push(text("archive.prefix", &archive.prefix, expected));
    }
    // A day must be over before any of it expires.
    if !bucket.is_empty() && config.retention_days < 3 {
        let expected = "at least 3 days, as archive.bucket is set";
        found.push(given("retention_days", config.retention_days, expected));
    }
    found
}

fn telemetry(config: &Config) -> Vec<String> {
    let telemetry = &config.telemetry;
    let mut found = Vec::new();
    let service = &telemetry.service;
    let service_char = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if !(1..=100).contains(&service.len()) || !service.chars().all(service_char) {
        let expected = "1 to 100 letters, digits, '_', '-', '.' or '/'";
        found.push(text("telemetry.service", service, expected));
    }
    let url = &telemetry.otlp_url;
    match (telemetry.traces, url.is_empty()) {
        (TracesChoice::Otlp, true) => found.push(problem(
            "telemetry.otlp_url",
            None,
            "a URL, as telemetry.traces is \"otlp\"",
        )),
        (_, false) if !is_http_url(url) => {
            found.push(text("telemetry.otlp_url", url, "an http or https URL"));
        }
        _ => {}
    }
    found
}
