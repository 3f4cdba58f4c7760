//! The look-up of webhooks' host names by DNS, by the system's configuration of it.
//!
//! The system's own function takes a thread for as long as a name server does not
//! answer, and threads are few: names that nobody answers for would stop all
//! deliveries. Here a look-up costs a future and a socket. How many are under way is
//! bounded, in all and for each project; what was found, or not, is kept for a while.
//! Called by the connector, which checks each address.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverOpts};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::Name;
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::model::id::ProjectId;

/// Look-ups under way at a time, each of two questions.
const LOOK_UPS_MAX: usize = 1024;
/// Those of one project.
const OWNER_LOOK_UPS_MAX: usize = LOOK_UPS_MAX / 8;
/// Names that are kept with what was found.
const NAMES_MAX: u64 = 10_000;
/// How long addresses are kept, whatever their time to live says.
const FOUND_KEPT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// How long it is kept that a name has no address, whatever its zone says.
const NONE_KEPT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long it is kept that there was no answer: less than the wait for the second
/// attempt.
const FAILURE_KEPT: Duration = Duration::from_secs(3);
/// What the system's configuration of DNS is read from, and again when they change.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks names up, each once for all that ask at a time.
pub(super) struct Dns {
    files: Vec<PathBuf>,
    servers: Mutex<Option<Servers>>,
    found: Cache<String, Found>,
    /// What joins those of one project that ask for the same name: it keeps nothing.
    joined: Cache<(Option<ProjectId>, String), Found>,
    look_ups: Semaphore,
    owners: Mutex<HashMap<Option<ProjectId>, Arc<Semaphore>>>,
    /// For a look-up.
    timeout: Duration,
}

struct Servers {
    /// None where the system names no server: then it is asked itself.
    resolver: Option<TokioResolver>,
    read: Vec<Option<SystemTime>>,
}

/// What came of a look-up, and how long it is kept.
#[derive(Clone)]
struct Found {
    addresses: Arc<[IpAddr]>,
    kept: Duration,
}

impl Dns {
    /// By the system's configuration, which is read when first needed. A look-up takes
    /// most of `connect_timeout`.
    pub fn of_system(connect_timeout: Duration) -> Self {
        Self::new(
            SYSTEM_FILES.map(PathBuf::from).into(),
            None,
            connect_timeout,
        )
    }

    fn new(files: Vec<PathBuf>, servers: Option<Servers>, connect_timeout: Duration) -> Self {
        Self {
            files,
            servers: Mutex::new(servers),
            found: Cache::builder()
                .max_capacity(NAMES_MAX)
                .expire_after(KeptAsSaid)
                .build(),
            joined: Cache::builder()
                .max_capacity(NAMES_MAX)
                .time_to_live(Duration::ZERO)
                .build(),
            look_ups: Semaphore::new(LOOK_UPS_MAX),
            owners: Mutex::default(),
            timeout: connect_timeout * 4 / 5,
        }
    }

    /// The addresses of `host`, looked up in `owner`'s share.
    ///
    /// # Errors
    /// When there is none, or no answer.
    pub async fn look_up(&self, host: &str, owner: Option<ProjectId>) -> io::Result<Vec<IpAddr>> {
        let name = host.to_ascii_lowercase();
        let found = match self.found.get(&*name).await {
            Some(found) => found,
            None => {
                let asked = self.ask(&name, &owner);
                self.joined
                    .get_with((owner.clone(), name.clone()), asked)
                    .await
            }
        };
        if found.addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found.addresses.to_vec())
    }

    /// Forgets what was found for `host`.
    pub async fn forget(&self, host: &str) {
        self.found.invalidate(&*host.to_ascii_lowercase()).await;
    }

    /// Asks in `owner`'s share, which comes before others are joined that ask for the
    /// same name: nobody is to wait for a place in another's.
    async fn ask(&self, name: &str, owner: &Option<ProjectId>) -> Found {
        let share = self.share_of(owner);
        let waited = async {
            // The owner's first, so that who waits for it takes none from others.
            let own = share.acquire().await;
            (own, self.look_ups.acquire().await)
        };
        let found = match timeout(self.timeout, waited).await {
            Ok(_places) => {
                let asked = async {
                    let asked = timeout(self.timeout, self.ask_servers(name)).await;
                    asked.unwrap_or_else(|_| Found::none_for(FAILURE_KEPT))
                };
                self.found.get_with_by_ref(name, asked).await
            }
            // It says nothing of the name.
            Err(_) => Found::none_for(Duration::ZERO),
        };
        drop(share);
        self.lock_owners()
            .retain(|_, share| Arc::strong_count(share) > 1);
        found
    }

    async fn ask_servers(&self, host: &str) -> Found {
        let Ok(name) = Name::from_ascii(host) else {
            return Found::none_for(NONE_KEPT.1);
        };
        let Some(resolver) = self.resolver() else {
            let found = look_up_by_system(host).await;
            return found.map_or(Found::none_for(FAILURE_KEPT), |addresses| Found {
                addresses: addresses.into(),
                kept: FAILURE_KEPT,
            });
        };
        match resolver.lookup_ip(name).await {
            Ok(found) => Found {
                kept: found
                    .valid_until()
                    .saturating_duration_since(Instant::now())
                    .clamp(FOUND_KEPT.0, FOUND_KEPT.1),
                addresses: found.iter().collect(),
            },
            Err(error) => Found::none_for(kept_for(&error)),
        }
    }

    /// The resolver by the system's configuration as it is now.
    fn resolver(&self) -> Option<TokioResolver> {
        let modified = |file: &PathBuf| std::fs::metadata(file).and_then(|file| file.modified());
        let read: Vec<_> = self.files.iter().map(|file| modified(file).ok()).collect();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.as_ref().is_none_or(|servers| servers.read != read) {
            let resolver = system_resolver(self.timeout);
            *servers = Some(Servers { resolver, read });
        }
        servers.as_ref()?.resolver.clone()
    }

    fn share_of(&self, owner: &Option<ProjectId>) -> Arc<Semaphore> {
        let mut owners = self.lock_owners();
        let share = owners
            .entry(owner.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(OWNER_LOOK_UPS_MAX)));
        share.clone()
    }

    fn lock_owners(&self) -> MutexGuard<'_, HashMap<Option<ProjectId>, Arc<Semaphore>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks a name up as the system does: with a thread for as long as that takes.
///
/// # Errors
/// When there is no address, or no answer.
pub(super) async fn look_up_by_system(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

/// By /etc/resolv.conf and /etc/hosts; none if these name no server.
fn system_resolver(timeout: Duration) -> Option<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().ok()?;
    adapt(builder.options_mut(), timeout);
    builder.build().ok()
}

fn adapt(options: &mut ResolverOpts, timeout: Duration) {
    // A lost packet must leave time for another.
    options.timeout = options.timeout.min(timeout / 4);
    // Where there is no IPv6, addresses of it would only be refused first.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // What was found is kept here.
    options.cache_size = 0;
    options.max_active_requests = LOOK_UPS_MAX;
}

/// How long it is kept that nothing was found.
fn kept_for(error: &NetError) -> Duration {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return FAILURE_KEPT;
    };
    let said = none
        .negative_ttl
        .map(|seconds| Duration::from_secs(seconds.into()));
    said.unwrap_or(FAILURE_KEPT).clamp(NONE_KEPT.0, NONE_KEPT.1)
}

impl Found {
    fn none_for(kept: Duration) -> Self {
        Self {
            addresses: [].into(),
            kept,
        }
    }
}

struct KeptAsSaid;

impl Expiry<String, Found> for KeptAsSaid {
    fn expire_after_create(&self, _: &String, found: &Found, _: Instant) -> Option<Duration> {
        Some(found.kept)
    }
}
