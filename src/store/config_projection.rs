//! The configuration projection: API keys, endpoints, event types and meters as the
//! data plane reads them, in DynamoDB and for a moment in memory.
//!
//! Written by [`projector`](super::projector) after each change, and by deliveries
//! that show an endpoint's health; read by every request and job. Reads are cached
//! for `cache.ttl_s`, which bounds how long another instance acts on what has
//! changed; a write through this instance is seen by it at once. The files below
//! hold what each item looks like, the operations on an endpoint's health, reads past
//! the cache and the check that the projection is complete.

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
use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use super::api_keys::ApiKey;
use super::dynamo::{self, Dynamo, DynamoErrorKind, Item, ItemExt, kind, n, s, unavailable};
use super::endpoints::SealedEndpoint;
use super::event_types::EventType;
use super::keys;
use super::meters::StoredMeter;
use super::secrets::CachedSecret;
use crate::error::{Error, Result};
use crate::model::absence::ABSENCE_MAX;
use crate::model::endpoint::{EndpointState, Targets};
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
    project_configs: Cache<ProjectId, Arc<ProjectConfig>>,
    /// Counts invalidations, so that a read begun before one is not cached after.
    generation: Arc<AtomicU64>,
}

impl std::fmt::Debug for ConfigProjection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigProjection").finish_non_exhaustive()
    }
}

impl ConfigProjection {
    /// The projection in `dynamo`, which opens secrets with `key_ring` and caches up to
    /// `keys_max` keys and `projects_max` projects for `ttl`.
    pub fn new(
        dynamo: Dynamo,
        key_ring: CachedSecret<KeyRing>,
        ttl: Duration,
        keys_max: u64,
        projects_max: u64,
    ) -> Self {
        let grants = Cache::builder()
            .max_capacity(keys_max)
            .time_to_live(ttl)
            .build();
        let project_configs = Cache::builder()
            .max_capacity(projects_max)
            .time_to_live(ttl)
            .build();
        Self {
            dynamo,
            key_ring: Some(key_ring),
            grants,
            known_keys: known_keys(),
            project_configs,
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
            project_configs: Cache::new(0),
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

    /// The configuration of `project`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not cached and DynamoDB does not answer.
    pub async fn project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        if let Some(cached) = self.project_configs.get(project).await {
            return Ok(cached);
        }
        let read = self.read_uncontended(|| self.read_project_config(project));
        self.project_configs
            .try_get_with_by_ref(project, read)
            .await
            .map_err(unwrap_shared_error)
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
        self.invalidate(project).await;
        self.project_config(project).await
    }

    /// Drops the configuration of `project` from the cache.
    async fn invalidate(&self, project: &ProjectId) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.project_configs.invalidate(project).await;
    }

    async fn read_project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        let (mut targets, mut unreadable) = (Vec::new(), Vec::new());
        let mut meters = Vec::new();
        let mut event_types = Vec::new();
        let items = self.read_partition(&keys::project(project)).await?;
        let key_ring = self.key_ring_for(&items).await;
        let failing = items.iter().filter_map(endpoint_item::read_failure_streak);
        let failing: HashMap<_, _> = failing.collect();
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
                    Ok(mut target) => {
                        target.failure_streak = failing.get(&id).copied();
                        targets.push(target);
                    }
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
        Ok(Arc::new(ProjectConfig {
            targets: Targets::new(targets, unreadable),
            event_types: event_types.into_iter().collect(),
            meters: Arc::new(MeterSet::new(meters)),
            is_erased,
        }))
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

    /// All items of a partition.
    async fn read_partition(&self, pk: &str) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let mut start = None;
        loop {
            let output = self
                .dynamo
                .client
                .query()
                .table_name(&self.dynamo.table)
                .key_condition_expression("pk = :pk")
                .expression_attribute_values(":pk", s(pk))
                .consistent_read(true)
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(unavailable)?;
            items.extend(output.items.unwrap_or_default());
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
        self.put_newer(endpoint_item::write(sealed), endpoint.version, deleted_at)
            .await?;
        self.invalidate(&endpoint.project).await;
        Ok(())
    }

    /// Projects an event type, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_event_type(&self, event_type: &EventType) -> Result<()> {
        let item = event_type_item::write(event_type);
        self.put_newer(item, event_type.version, event_type.deleted_at)
            .await?;
        self.invalidate(&event_type.project).await;
        Ok(())
    }

    /// Projects a meter, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_meter(&self, meter: &StoredMeter) -> Result<()> {
        let item = meter_item::write(meter)?;
        self.put_newer(item, meter.version, meter.deleted_at)
            .await?;
        self.invalidate(&meter.project).await;
        Ok(())
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
        self.invalidate(project).await;
        Ok(())
    }

    /// Puts `item` in place of an older version, or of the same, of which an older
    /// Millrace may have written less; not where the data plane has changed the state of
    /// that. What was deleted stays a while as a tombstone, so that a late projection
    /// cannot bring it back.
    async fn put_newer(
        &self,
        item: Item,
        version: i64,
        deleted_at: Option<Timestamp>,
    ) -> Result<()> {
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
    ) -> Result<()> {
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

/// Sends a put whose condition says that what is there is older.
async fn send_if_newer(put: PutItemFluentBuilder) -> Result<()> {
    match put.send().await {
        Err(error) if kind(&error) != DynamoErrorKind::Condition => Err(unavailable(error)),
        _ => Ok(()),
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
