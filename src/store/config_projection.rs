//! The configuration projection: API keys, endpoints, event types and meters as the
//! data plane reads them, in DynamoDB and for a moment in memory.
//!
//! Written by [`projector`](super::projector) after each change, and by deliveries
//! that show an endpoint's health; read by every request and job. Reads are cached
//! for `cache.ttl_s`, which bounds how long another instance acts on what has
//! changed; a write through this instance is seen by it at once. A project's is read as
//! a whole when its revision is another than before, a number that rises with each
//! change. The files below hold the cache, what each item looks like, the operations on
//! an endpoint's health, reads past the cache and the check that the projection is
//! complete.

mod cache;
pub mod check;
pub mod current;
mod endpoint_item;
mod event_type_item;
pub mod health;
mod key_item;
mod meter_item;

pub use self::key_item::Grant;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use self::cache::{Ages, ConfigCache, Entry, View};
use super::api_keys::ApiKey;
use super::dynamo::{self, Dynamo, DynamoErrorKind, Item, ItemExt, kind, n, s, unavailable};
use super::endpoints::{Endpoint, SealedEndpoint};
use super::event_types::EventType;
use super::keys;
use super::meters::StoredMeter;
use super::secrets::CachedSecret;
use super::table;
use crate::config::CacheConfig;
use crate::error::{Error, Result};
use crate::model::absence::ABSENCE_MAX;
use crate::model::endpoint::{EndpointState, Targets};
use crate::model::failure_streak::FailureStreak;
use crate::model::id::{EndpointId, ProjectId};
use crate::model::meter_set::MeterSet;
use crate::model::project_config::ProjectConfig;
use crate::model::seal::KeyRing;

/// How long a deleted thing stays in the projection as a tombstone: longer than any
/// projection can be late.
pub const TOMBSTONE_KEPT: SignedDuration = ABSENCE_MAX;

/// Keys known to have been good; the least recently used are forgotten first.
const KNOWN_KEYS_MAX: u64 = 10_000;

/// Times something is read that is invalidated meanwhile; the last read is used as
/// it is.
const UNCONTENDED_READS_MAX: u32 = 4;

fn known_keys() -> Cache<[u8; 32], ()> {
    Cache::builder()
        .max_capacity(KNOWN_KEYS_MAX)
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// The projection of every project, cached.
#[derive(Clone)]
pub struct ConfigProjection {
    dynamo: Dynamo,
    key_ring: Option<CachedSecret<KeyRing>>,
    grants: Cache<[u8; 32], Option<Grant>>,
    /// Hashes of keys that were good when they were last seen here.
    known_keys: Cache<[u8; 32], ()>,
    project_configs: ConfigCache,
    /// Counts invalidations of keys, so that a read begun before one is not cached after.
    generation: Arc<AtomicU64>,
}

impl std::fmt::Debug for ConfigProjection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigProjection").finish_non_exhaustive()
    }
}

impl ConfigProjection {
    /// The projection in `dynamo`, which opens secrets with `key_ring` and caches keys
    /// and projects as `config` says.
    pub fn new(dynamo: Dynamo, key_ring: CachedSecret<KeyRing>, config: &CacheConfig) -> Self {
        let grants = Cache::builder()
            .max_capacity(config.keys_max)
            .time_to_live(config.ttl)
            .build();
        let ages = Ages {
            ttl: config.ttl,
            stale_max: config.staleness_max(),
        };
        Self {
            dynamo,
            key_ring: Some(key_ring),
            grants,
            known_keys: known_keys(),
            project_configs: ConfigCache::new(config.projects_max, ages),
            generation: Arc::default(),
        }
    }

    /// One that only projects: it opens no secret and caches nothing.
    pub fn writer(dynamo: Dynamo) -> Self {
        Self {
            dynamo,
            key_ring: None,
            grants: Cache::new(0),
            known_keys: Cache::new(0),
            project_configs: ConfigCache::new(0, Ages::NONE),
            generation: Arc::default(),
        }
    }

    /// What the key of that hash may do at `now`; none if it is unknown, revoked or
    /// expired.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not cached and DynamoDB does not answer.
    pub async fn grant(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Grant>> {
        // Whatever is cached, it is only in force until it expires.
        let known = self.known_grant(hash).await?;
        Ok(known.filter(|grant| grant.is_in_force(now)))
    }

    async fn known_grant(&self, hash: [u8; 32]) -> Result<Option<Grant>> {
        if let Some(grant) = self.grants.get(&hash).await {
            return Ok(grant);
        }
        let read = self.read_uncontended(|| self.read_grant(hash));
        self.grants
            .try_get_with(hash, read)
            .await
            .map_err(unwrap_shared_error)
    }

    async fn read_grant(&self, hash: [u8; 32]) -> Result<Option<Grant>> {
        let item = self.dynamo.get(keys::key(&hash), keys::KEY).await?;
        let grant = item.as_ref().map_or(Ok(None), key_item::read)?;
        match grant {
            Some(_) => self.known_keys.insert(hash, ()).await,
            None => self.known_keys.invalidate(&hash).await,
        }
        Ok(grant)
    }

    /// Whether the key of that hash was good when it was last seen here, or made here.
    /// It may not be any more: to know that costs a look at the store, and this none.
    pub async fn knows_key(&self, hash: &[u8; 32]) -> bool {
        self.known_keys.get(hash).await.is_some()
    }

    /// The configuration of `project`, at most `cache.ttl_s` behind what other processes
    /// have changed, or some seconds more while it takes long to read.
    ///
    /// Cost: one read unit each time it is looked at, which is about when that time is
    /// over; all of it is read when it has changed, once more then, and once a minute.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not cached and DynamoDB does not answer.
    pub async fn project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        let refresh = |entry: Arc<Entry>| {
            let (projection, project) = (self.clone(), project.clone());
            async move { projection.refresh(&project, &entry).await.map_err(Arc::new) }
        };
        let config = self.project_configs.get(project, refresh).await;
        config.map_err(unwrap_shared_error)
    }

    /// Looks whether the configuration has changed, and reads it if so.
    async fn refresh(&self, project: &ProjectId, entry: &Entry) -> Result<Arc<ProjectConfig>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (begun, generation) = (Instant::now(), entry.generation());
            let view = self.look(project, entry.view(), generation, begun);
            let view = view.await.inspect_err(|error| {
                let cause = error.causes();
                tracing::warn!(project.id = %project, %error, cause, "failed to refresh project configuration");
            })?;
            let config = view.config.clone();
            // What a slow read saw before a change must not be cached after it.
            if entry.keep(view) || tries == UNCONTENDED_READS_MAX {
                return Ok(config);
            }
        }
    }

    async fn look(
        &self,
        project: &ProjectId,
        known: Option<View>,
        generation: u64,
        begun: Instant,
    ) -> Result<View> {
        let before = known.as_ref().map(|known| known.revision);
        if let Some(known) = known.filter(|known| known.generation == generation) {
            let state = self.read_state(project).await?;
            if known.is_current(state.revision, generation, begun) {
                known.config.targets.set_failure_streaks(&state.failing);
                return Ok(View {
                    checked: begun,
                    ..known
                });
            }
        }
        let read = self.read_project_config(project).await?;
        Ok(View {
            config: read.config,
            revision: read.revision,
            read: begun,
            checked: begun,
            generation,
            is_settled: before.is_none_or(|before| before == read.revision),
        })
    }

    /// The configuration of `project`, read again if it lacks `endpoint` and that
    /// exists: another instance may have made it a moment ago. Costs one read more
    /// for an endpoint that is not cached.
    ///
    /// # Errors
    /// As [`ConfigProjection::project_config`].
    pub async fn project_config_with(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
    ) -> Result<Arc<ProjectConfig>> {
        let known = self.project_config(project).await?;
        if known.targets.contains(endpoint) {
            return Ok(known);
        }
        // Its item alone: an id that does not exist must not cost a read of the
        // whole project.
        let (pk, sk) = (keys::project(project), keys::endpoint(endpoint));
        if self.dynamo.get(pk, sk).await?.is_none() {
            return Ok(known);
        }
        self.invalidate(project);
        self.project_config(project).await
    }

    /// Whether the event store answers. One read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it does not.
    pub(super) async fn ping(&self) -> Result<()> {
        table::ping(&self.dynamo).await
    }

    /// Makes the configuration of `project` be read again before it is used.
    fn invalidate(&self, project: &ProjectId) {
        if let Some(entry) = self.project_configs.known(project) {
            entry.invalidate();
        }
    }

    /// Counts a change of the configuration of `project`, after it is written; the new
    /// revision. A writer that dies before is made up for: its outbox row is there.
    async fn count_change(&self, project: &ProjectId) -> Result<i64> {
        let update = self
            .dynamo
            .update(keys::project(project), keys::CONFIG_REVISION);
        let update = update
            .update_expression("add revision :one")
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::UpdatedNew);
        let updated = update.send().await.map_err(unavailable)?;
        updated.attributes.unwrap_or_default().num("revision")
    }

    /// Counts a change, which this process sees from now on.
    async fn changed(&self, project: &ProjectId) -> Result<()> {
        let counted = self.count_change(project).await;
        self.invalidate(project);
        counted.map(drop)
    }

    /// What is read to see whether the configuration has changed. One query.
    async fn read_state(&self, project: &ProjectId) -> Result<ProjectState> {
        let pk = keys::project(project);
        let range = (keys::CONFIG_REVISION, keys::ENDPOINT_HEALTH_END);
        Ok(ProjectState::of(
            &self.read_partition(&pk, Some(range)).await?,
        ))
    }

    async fn read_project_config(&self, project: &ProjectId) -> Result<ReadConfig> {
        let (mut targets, mut unreadable) = (Vec::new(), Vec::new());
        let mut meters = Vec::new();
        let mut event_types = Vec::new();
        // The revision comes first, before whatever changes while pages are read.
        let items = self.read_partition(&keys::project(project), None).await?;
        let key_ring = self.key_ring_for(&items).await;
        let state = ProjectState::of(&items);
        let mut is_erased = false;
        for item in &items {
            let sort = item.str("sk")?;
            is_erased |= sort == keys::ERASED;
            if let Some(name) = keys::event_type_of_sort(sort) {
                match event_type_item::read(item) {
                    Ok(schema) => {
                        event_types.extend(schema.map(|schema| (name.into(), schema)));
                    }
                    // Its events are accepted as they come.
                    Err(error) => {
                        let cause = error.causes();
                        tracing::error!(event.r#type = name, %error, cause, "event type unreadable: its events are not validated");
                    }
                }
            } else if let Some(id) = keys::meter_of_sort(sort) {
                meters.extend(meter_item::read(id, item));
            } else if let Some(id) = keys::endpoint_of_sort(sort) {
                let id: EndpointId = id.parse().map_err(Error::internal)?;
                match endpoint_item::read(key_ring.as_deref(), &id, item) {
                    Ok(target) => targets.push(target),
                    // One unreadable endpoint must not silence the others.
                    Err(error) => {
                        let cause = error.causes();
                        tracing::error!(endpoint.id = %id, %error, cause, "endpoint unreadable in the configuration projection");
                        unreadable.push(id);
                    }
                }
            }
            // What a newer version keeps here is ignored.
        }
        let targets = Targets::new(targets, unreadable);
        targets.set_failure_streaks(&state.failing);
        let config = ProjectConfig {
            targets,
            event_types: Arc::new(event_types.into_iter().collect()),
            meters: Arc::new(MeterSet::new(meters)),
            is_erased,
        };
        Ok(ReadConfig {
            config: Arc::new(config),
            revision: state.revision,
        })
    }

    /// The key ring, if there are secrets to decrypt and it is available.
    async fn key_ring_for(&self, items: &[Item]) -> Option<Arc<KeyRing>> {
        if !items.iter().any(|item| item.contains_key("secrets")) {
            return None;
        }
        let key_ring = self.key_ring.as_ref()?.get().await;
        key_ring
            .inspect_err(|error| {
                let cause = error.causes();
                tracing::error!(%error, cause, "key ring unavailable: deliveries deferred");
            })
            .ok()
    }

    /// All items of a partition, or those of a range of sort keys.
    async fn read_partition(&self, pk: &str, range: Option<(&str, &str)>) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let query = self.dynamo.client.query().table_name(&self.dynamo.table);
            let query = match range {
                None => query.key_condition_expression("pk = :pk"),
                Some((from, to)) => query
                    .key_condition_expression("pk = :pk and sk between :from and :to")
                    .expression_attribute_values(":from", s(from))
                    .expression_attribute_values(":to", s(to)),
            };
            let output = query
                .expression_attribute_values(":pk", s(pk))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable)?;
            items.extend(dynamo::kept(output.items.unwrap_or_default()));
            start = output.last_evaluated_key;
            if start.is_none() {
                return Ok(items);
            }
        }
    }

    /// Reads with `read`, again if an invalidation came in between.
    async fn read_uncontended<T, F: Future<Output = Result<T>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T> {
        // What a slow read saw before a change must not be cached after it.
        for _ in 1..UNCONTENDED_READS_MAX {
            let before = self.generation.load(Ordering::SeqCst);
            let value = read().await?;
            if self.generation.load(Ordering::SeqCst) == before {
                return Ok(value);
            }
        }
        read().await
    }

    /// Projects an endpoint, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_endpoint(&self, sealed: &SealedEndpoint) -> Result<()> {
        let endpoint = &sealed.endpoint;
        let is_deleted = endpoint.state == EndpointState::Deleted;
        let deleted_at = is_deleted.then_some(endpoint.updated_at);
        let item = endpoint_item::write(sealed);
        let is_written = self
            .put_newer(item.clone(), endpoint.version, deleted_at)
            .await?;
        // Not written, what is there is not known.
        if !is_written {
            return self.changed(&endpoint.project).await;
        }
        let counted = self.count_change(&endpoint.project).await;
        self.show_endpoint(endpoint, item, counted.as_ref().ok())
            .await;
        counted.map(drop)
    }

    /// Puts an endpoint that was written into what is cached: to read thousands again
    /// for each would take long.
    async fn show_endpoint(&self, endpoint: &Endpoint, item: Item, revision: Option<&i64>) {
        let Some(entry) = self.project_configs.known(&endpoint.project) else {
            return;
        };
        let items = [item];
        let key_ring = self.key_ring_for(&items).await;
        let target = endpoint_item::read(key_ring.as_deref(), &endpoint.id, &items[0]);
        match (target, revision) {
            (Ok(target), Some(revision)) => entry.change(*revision, |config| ProjectConfig {
                targets: config.targets.with(target),
                ..config.clone()
            }),
            _ => entry.invalidate(),
        }
    }

    /// Projects an event type, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_event_type(&self, event_type: &EventType) -> Result<()> {
        let item = event_type_item::write(event_type);
        self.put_newer(item, event_type.version, event_type.deleted_at)
            .await?;
        self.changed(&event_type.project).await
    }

    /// Projects a meter, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_meter(&self, meter: &StoredMeter) -> Result<()> {
        let item = meter_item::write(meter)?;
        self.put_newer(item, meter.version, meter.deleted_at)
            .await?;
        self.changed(&meter.project).await
    }

    /// Projects an API key, unless a later version is there. The same is written anew:
    /// a version that knows of no restrictions may have left them out.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_key(&self, key: &ApiKey) -> Result<()> {
        self.put_since(key_item::write(key), key.version, key.revoked_at)
            .await?;
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.grants.invalidate(&key.hash).await;
        if key.revoked_at.is_none() {
            self.known_keys.insert(key.hash, ()).await;
        }
        Ok(())
    }

    /// Notes that the project is erased, for good: nothing is accepted for it any more,
    /// whoever still names it. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn mark_erased(&self, project: &ProjectId) -> Result<()> {
        let item = Item::from([
            ("pk".into(), s(keys::project(project))),
            ("sk".into(), s(keys::ERASED)),
        ]);
        dynamo::put_new(&self.dynamo, item).await?;
        self.changed(project).await
    }

    /// Puts `item` in place of an older version, or of the same, of which an older
    /// Millrace may have written less; not where the data plane has changed the state of
    /// that. What was deleted stays a while as a tombstone, so that a late projection
    /// cannot bring it back. Whether it was put.
    async fn put_newer(
        &self,
        item: Item,
        version: i64,
        deleted_at: Option<Timestamp>,
    ) -> Result<bool> {
        let state = item.get("state").cloned();
        let put = self.put(item, version, deleted_at);
        let put = match state {
            Some(state) => put
                .condition_expression(
                    "attribute_not_exists(pk) or version < :version \
                     or (version = :version and #state = :state)",
                )
                .expression_attribute_names("#state", "state")
                .expression_attribute_values(":state", state),
            None => put.condition_expression("attribute_not_exists(pk) or version < :version"),
        };
        send_if_newer(put).await
    }

    /// Puts `item` in place of an older version or the same.
    async fn put_since(
        &self,
        item: Item,
        version: i64,
        deleted_at: Option<Timestamp>,
    ) -> Result<bool> {
        let put = self.put(item, version, deleted_at);
        let put = put.condition_expression("attribute_not_exists(pk) or version <= :version");
        send_if_newer(put).await
    }

    /// A put of `item`, as far as it is the same for all; what was deleted goes after
    /// [`TOMBSTONE_KEPT`].
    fn put(
        &self,
        mut item: Item,
        version: i64,
        deleted_at: Option<Timestamp>,
    ) -> PutItemFluentBuilder {
        if let Some(at) = deleted_at {
            let ends = at.saturating_add(TOMBSTONE_KEPT);
            let ends = ends.unwrap_or(Timestamp::MAX);
            item.insert("ttl".into(), n(ends.as_second()));
        }
        self.dynamo
            .client
            .put_item()
            .table_name(&self.dynamo.table)
            .set_item(Some(item))
            .expression_attribute_values(":version", n(version))
    }
}

/// A configuration as it is stored.
struct ReadConfig {
    config: Arc<ProjectConfig>,
    revision: i64,
}

/// What shows whether a configuration has changed, and the runs of failures.
struct ProjectState {
    revision: i64,
    failing: HashMap<EndpointId, FailureStreak>,
}

impl ProjectState {
    fn of(items: &[Item]) -> Self {
        let revision = items
            .iter()
            .find(|item| item.str_opt("sk") == Some(keys::CONFIG_REVISION));
        Self {
            revision: revision
                .and_then(|item| item.num_opt("revision"))
                .unwrap_or_default(),
            failing: items
                .iter()
                .filter_map(endpoint_item::read_failure_streak)
                .collect(),
        }
    }
}

/// Sends a put whose condition says that what is there is older; whether it is.
async fn send_if_newer(put: PutItemFluentBuilder) -> Result<bool> {
    match put.send().await {
        Ok(_) => Ok(true),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => Ok(false),
        Err(error) => Err(unavailable(error)),
    }
}

/// A copy of the error of a read that several callers shared.
fn unwrap_shared_error(error: Arc<Error>) -> Error {
    let source = match &*error {
        Error::Unavailable { source, .. } | Error::Internal(source) => format!("{source:#}"),
        other => other.to_string(),
    };
    match &*error {
        Error::Internal(_) => Error::internal(anyhow::anyhow!(source)),
        _ => Error::Unavailable {
            what: "the event store",
            source: anyhow::anyhow!(source),
        },
    }
}
