//! The application: the stores, the queue, the sender and the configuration, made
//! once at start-up and given to every request and job. Making it connects to nothing.

pub mod authentication;
pub mod data_files;
pub mod readiness;
pub mod refused_logins;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use jiff::Timestamp;
use moka::future::Cache;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use subtle::ConstantTimeEq;

use crate::admission::Admission;
use crate::auth_failures::AuthFailures;
use crate::config::{Config, network};
use crate::error::Result;
use crate::model::breaker::Policy;
use crate::model::retry::Schedule;
use crate::model::seal::KeyRing;
use crate::queue::Queue;
use crate::rate_limits::RateLimits;
use crate::sender::{Sender, SenderConfig};
use crate::store::config_projection::ConfigProjection;
use crate::store::dynamo::Dynamo;
use crate::store::objects::Objects;
use crate::store::postgres::Postgres;
use crate::store::secrets::{AdminKey, CachedSecret};
use crate::telemetry::Telemetry;
use crate::validation::Validation;
use data_files::DataFiles;
use readiness::StoreReadiness;
use refused_logins::RefusedLogins;

/// Everything a request or a job needs.
pub struct App {
    /// The effective configuration.
    pub config: Config,
    /// DynamoDB, the event store.
    pub dynamo: Dynamo,
    /// PostgreSQL, the control-plane database.
    pub postgres: Postgres,
    /// The projects' configuration, as DynamoDB has it.
    pub projection: ConfigProjection,
    /// Operational events this process has published lately, so as not to write them
    /// again.
    pub recently_published: Cache<String, ()>,
    /// Holds events' data against the schemas of their types.
    pub validation: Validation,
    /// What each API key has used of its rate.
    pub rate_limits: RateLimits,
    /// Which addresses came with keys that are not known.
    pub auth_failures: AuthFailures,
    /// The proxies that are believed who they had a request from.
    pub trusted_proxies: Vec<IpNet>,
    /// Logins as the admin that were refused.
    pub refused_logins: RefusedLogins,
    /// Jobs that wait: in SQS or in this process.
    pub queue: Queue,
    /// Which attempts each endpoint takes now, as this process knows it.
    pub admission: Admission,
    /// Posts webhooks.
    pub sender: Sender,
    /// Where events go before they expire, if anywhere.
    pub archive: Option<Objects>,
    /// Seals the secrets of endpoints.
    pub key_ring: CachedSecret<KeyRing>,
    /// What is counted and traced.
    pub telemetry: Arc<Telemetry>,
    /// When a failed attempt is made again.
    pub schedule: Schedule,
    /// What is known of whether the stores answer.
    pub readiness: StoreReadiness,
    admin_key: CachedSecret<AdminKey>,
    random: SystemRandom,
    draining: AtomicBool,
    data_files: OnceLock<DataFiles>,
}

/// What start-up found or made.
#[derive(Debug)]
pub struct Parts {
    /// DynamoDB, the event store.
    pub dynamo: Dynamo,
    /// PostgreSQL, the control-plane database.
    pub postgres: Postgres,
    /// Jobs that wait: in SQS or in this process.
    pub queue: Queue,
    /// The key that may manage projects.
    pub admin_key: CachedSecret<AdminKey>,
    /// Seals the secrets of endpoints.
    pub key_ring: CachedSecret<KeyRing>,
    /// Where events go before they expire, if anywhere.
    pub archive: Option<Objects>,
}

impl App {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When the retry schedule is not one, `http.trusted_proxies` are no networks, or
    /// `delivery.ca_file` cannot be read.
    pub fn new(config: Config, parts: Parts) -> anyhow::Result<Arc<Self>> {
        let delivery = &config.delivery;
        let schedule = Schedule::new(delivery.retry_schedule.clone(), delivery.retry_jitter)
            .map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
        let cache = &config.cache;
        Ok(Arc::new(Self {
            projection: ConfigProjection::new(parts.dynamo.clone(), parts.key_ring.clone(), cache),
            recently_published: Cache::builder()
                .max_capacity(RECENTLY_PUBLISHED_MAX)
                .time_to_live(RECENTLY_PUBLISHED_TTL)
                .build(),
            validation: Validation::default(),
            rate_limits: RateLimits::new(cache.keys_max),
            auth_failures: AuthFailures::new(config.http.auth_failures_max),
            trusted_proxies: trusted_proxies(&config)?,
            refused_logins: RefusedLogins::default(),
            queue: parts.queue,
            admission: Admission::new(breaker_policy(&config)),
            sender: Sender::new(SenderConfig {
                allow_private_targets: config.allows_private_targets(),
                connect_timeout: config.delivery.connect_timeout,
                timeout: config.delivery.timeout,
                response_bytes_max: config.delivery.response_bytes_max,
                response_kept_bytes: RESPONSE_KEPT_BYTES,
                user_agent: USER_AGENT,
                idle_per_host_max: config.delivery.endpoint_concurrency,
                idle_max: IDLE_CONNECTIONS_MAX,
                extra_roots: own_roots(&config)?,
            }),
            archive: parts.archive,
            postgres: parts.postgres.announcing_in(parts.dynamo.clone()),
            dynamo: parts.dynamo,
            readiness: StoreReadiness::default(),
            admin_key: parts.admin_key,
            key_ring: parts.key_ring,
            schedule,
            telemetry: Arc::new(Telemetry::new(&config)),
            config,
            random: SystemRandom::new(),
            draining: AtomicBool::new(false),
            data_files: OnceLock::new(),
        }))
    }

    /// `N` random bytes of the operating system.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .expect("the operating system gives random bytes");
        bytes
    }

    /// A random number in `0..1`.
    pub fn jitter(&self) -> f64 {
        f64::from(u32::from_be_bytes(self.random())) / f64::from(u32::MAX)
    }

    /// Makes readiness say that the process is about to end.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Makes what this process answers depend on these files, where its stores are in
    /// it. Done once, at start-up.
    pub fn depend_on(&self, files: DataFiles) {
        let _ = self.data_files.set(files);
    }

    /// A file of the stores in this process that is gone, or another by now: nothing
    /// that is written is kept any more.
    pub fn lost_file(&self) -> Option<&Path> {
        self.data_files.get()?.lost()
    }

    /// Whether `text` is the admin key. Takes as long for any text.
    ///
    /// # Errors
    /// As [`CachedSecret::get`].
    pub async fn is_admin_key(&self, text: &str) -> Result<bool> {
        let admin_key = self.admin_key.get().await?;
        Ok(AdminKey::of(text).0.ct_eq(&admin_key.0).into())
    }

    /// Whether `text` is the admin key as far as that is known: false while it has not
    /// been fetched. For what anybody may ask, which must not cost a fetch.
    pub fn is_known_admin_key(&self, text: &str) -> bool {
        let admin_key = self.admin_key.peek();
        admin_key.is_some_and(|known| AdminKey::of(text).0.ct_eq(&known.0).into())
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// What webhooks say they are from.
pub const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("Millrace/", env!("CARGO_PKG_VERSION")));

/// The certificate authorities of `delivery.ca_file`.
fn own_roots(config: &Config) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let file = &config.delivery.ca_file;
    if file.as_os_str().is_empty() {
        return Ok(vec![]);
    }
    let roots: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).and_then(|found| found.collect());
    match roots {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => anyhow::bail!("delivery.ca_file: no certificate in {}", file.display()),
        Err(error) => anyhow::bail!("delivery.ca_file: {}: {error}", file.display()),
    }
}

fn trusted_proxies(config: &Config) -> anyhow::Result<Vec<IpNet>> {
    let written = config.http.trusted_proxies.iter();
    let networks = written.map(|text| {
        network(text).ok_or_else(|| anyhow::anyhow!("http.trusted_proxies: {text} is no network"))
    });
    networks.collect()
}

fn breaker_policy(config: &Config) -> Policy {
    Policy {
        failure_threshold: config.delivery.breaker_failures,
        open: config.delivery.breaker_open,
        open_max: config.delivery.breaker_open_max,
        // And some time to record what it came to.
        probe_timeout: config.delivery.timeout + Duration::from_secs(5),
    }
}

/// Operational events remembered as published, and for how long: forgetting one costs
/// a write that changes nothing.
const RECENTLY_PUBLISHED_MAX: u64 = 10_000;
const RECENTLY_PUBLISHED_TTL: Duration = Duration::from_secs(3600);

/// Connections to endpoints that are kept for their next webhooks.
const IDLE_CONNECTIONS_MAX: usize = 1024;
/// Bytes of an answer that an attempt keeps.
const RESPONSE_KEPT_BYTES: usize = 256;

/// Now, in whole milliseconds: as precise as any store keeps it.
pub fn now() -> Timestamp {
    let now = Timestamp::now().as_millisecond();
    Timestamp::from_millisecond(now).expect("the clock is within jiff's range")
}
