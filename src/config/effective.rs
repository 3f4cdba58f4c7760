//! The settings in force: what the keys decide together, and with where the process
//! runs.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::check::network;
use super::sections::{Config, Handler, HostChoice, MetricsChoice};

impl Config {
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

    /// Whether an admin key is generated, as none is configured.
    pub fn makes_admin_key(&self) -> bool {
        self.admin_key.expose_secret().is_empty() && self.admin_key_secret_arn.is_empty()
    }

    /// Whether anything is kept in `data_dir`. On AWS nothing is: its disk is not there
    /// to stay.
    pub fn needs_data_dir(&self) -> bool {
        self.uses_embedded_postgres()
            || self.uses_embedded_dynamodb()
            || self.key_ring.secret_arn.is_empty()
            || (self.makes_admin_key() && !self.runtime_env.is_aws())
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
        if self.uses_sqs() {
            self.sweep.sqs_lease
        } else {
            self.sweep.lease
        }
    }

    /// Whether an endpoint may lead to an address that is not public.
    pub fn allows_private_targets(&self) -> bool {
        let laptop = self.uses_embedded_postgres() && self.uses_embedded_dynamodb();
        self.delivery.allow_private_targets.unwrap_or(laptop)
    }

    /// The addresses and networks that webhooks come from, each once and as it is
    /// usually written.
    pub fn source_addresses(&self) -> Vec<String> {
        let mut shown = Vec::new();
        let given = self.delivery.source_addresses.iter();
        for network in given.filter_map(|text| network(text)) {
            let is_one = network.prefix_len() == network.max_prefix_len();
            let text = if is_one {
                network.addr().to_string()
            } else {
                network.trunc().to_string()
            };
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        shown
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
        if region.starts_with("cn-") {
            format!("{region}.amazonaws.com.cn")
        } else {
            format!("{region}.amazonaws.com")
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
