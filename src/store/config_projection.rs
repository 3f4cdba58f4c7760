//! What the data plane knows of the configuration: API keys, endpoints, event types
//! and meters, in DynamoDB and for a moment in memory.
//!
//! Written by the outbox after each change, and by deliveries that show how an
//! endpoint does; read by every request and job. Reads are cached for `cache.ttl_s`, which
//! bounds how long another instance acts on what has changed; a write through
//! this instance is seen by it at once.

mod event_types;
pub mod health;
mod meters;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use secrecy::ExposeSecret;

use super::api_keys::ApiKey;
use super::dynamo::{Dynamo, DynamoErrorKind, Item, ItemExt, b, kind, ms, n, s, unavailable};
use super::endpoints::{Endpoint, SealedEndpoint};
use super::keys;
use super::secrets::CachedSecret;
use crate::error::{Error, Result, causes};
use crate::model::api_key::Scope;
use crate::model::credentials::EndpointCredentials;
use crate::model::endpoint::{
    BodyFormat, DeliverySettings, EndpointState, ExpiringSecret, Target, Targets,
};
use crate::model::filter::Filter;
use crate::model::id::{EndpointId, KeyId, ProjectId};
use crate::model::project_config::ProjectConfig;
use crate::model::seal::KeyRing;
use crate::model::signature::Secret;

/// How long a tombstone outlives what it stands for: longer than any projection
/// can be late.
pub const TOMBSTONE_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Reads of what keeps changing under them, before the last is taken as it is.
const CURRENT_TRIES_MAX: u32 = 4;

/// What a request may do, by its API key.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The key.
    pub key: KeyId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// What it may do there.
    pub scopes: Arc<[Scope]>,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
}

/// The data plane's view, cached.
#[derive(Clone)]
pub struct ConfigProjection {
    dynamo: Dynamo,
    key_ring: Option<CachedSecret<KeyRing>>,
    grants: Cache<[u8; 32], Option<Grant>>,
    project_configs: Cache<ProjectId, Arc<ProjectConfig>>,
    schemas: event_types::Schemas,
    /// Counts invalidations, so that a read begun before one is not kept after.
    generation: Arc<AtomicU64>,
}

impl std::fmt::Debug for ConfigProjection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigProjection").finish_non_exhaustive()
    }
}

impl ConfigProjection {
    /// A view of `dynamo` that opens secrets with `key_ring` and keeps up to
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
        let views = Cache::builder()
            .max_capacity(projects_max)
            .time_to_live(ttl)
            .build();
        Self {
            dynamo,
            key_ring: Some(key_ring),
            grants,
            project_configs: views,
            schemas: event_types::schemas(),
            generation: Arc::default(),
        }
    }

    /// One that only projects: it opens no secret and keeps nothing.
    pub fn writer(dynamo: Dynamo) -> Self {
        Self {
            dynamo,
            key_ring: None,
            grants: Cache::new(0),
            project_configs: Cache::new(0),
            schemas: Cache::new(0),
            generation: Arc::default(),
        }
    }

    /// What the key of that hash may do; none if it is unknown or revoked.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not cached and DynamoDB does not answer.
    pub async fn grant(&self, hash: [u8; 32]) -> Result<Option<Grant>> {
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
        let Some(item) = item.filter(|item| !item.contains_key("revoked")) else {
            return Ok(None);
        };
        let scopes = texts(&item, "scopes")
            .filter_map(Scope::from_name)
            .collect();
        Ok(Some(Grant {
            key: item.parse("key")?,
            project: item.parse("project")?,
            scopes,
            rate_limit: item
                .num_opt("rate")
                .and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?)),
        }))
    }

    /// The configuration of `project`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it is not cached and DynamoDB does not answer.
    pub async fn project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        if let Some(view) = self.project_configs.get(project).await {
            return Ok(view);
        }
        let read = self.read_uncontended(|| self.read_project_config(project));
        self.project_configs
            .try_get_with_by_ref(project, read)
            .await
            .map_err(unwrap_shared_error)
    }

    /// The configuration of `project`, read again if it lacks `endpoint` and that
    /// is there: another instance may have made it a moment ago. Costs one read
    /// more for an endpoint that is not known.
    ///
    /// # Errors
    /// As [`ConfigProjection::project_config`].
    pub async fn project_config_with(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
    ) -> Result<Arc<ProjectConfig>> {
        let view = self.project_config(project).await?;
        if view.targets.contains(endpoint) {
            return Ok(view);
        }
        // Its item alone: a stranger's id must not cost a whole project's.
        let (pk, sk) = (keys::project(project), keys::endpoint(endpoint));
        if self.dynamo.get(pk, sk).await?.is_none() {
            return Ok(view);
        }
        self.invalidate(project).await;
        self.project_config(project).await
    }

    /// Has the configuration of `project` read again when it is next asked for.
    async fn invalidate(&self, project: &ProjectId) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.project_configs.invalidate(project).await;
    }

    async fn read_project_config(&self, project: &ProjectId) -> Result<Arc<ProjectConfig>> {
        let (mut targets, mut unreadable) = (Vec::new(), Vec::new());
        let mut meters = Vec::new();
        let mut types = Vec::new();
        let items = self.read_partition(&keys::project(project)).await?;
        let key_ring = self.key_ring_for(&items).await;
        let failing: HashMap<_, _> = items.iter().filter_map(health::read_failing).collect();
        for item in items {
            let sort = item.str("sk")?;
            if let Some(name) = keys::event_type_of_sort(sort) {
                match self.read_event_type(&item).await {
                    Ok(checked) => types.extend(checked.map(|checked| (name.into(), checked))),
                    // Its events are accepted as they come.
                    Err(error) => {
                        let cause = error.causes();
                        tracing::error!(event.r#type = name, %error, cause, "event type unreadable: its events are not validated");
                    }
                }
                continue;
            }
            if let Some(id) = keys::meter_of_sort(sort) {
                meters.extend(meters::read(id, &item));
                continue;
            }
            // What a newer version keeps here is none of this one's business.
            let Some(id) = sort.strip_prefix("endpoint#") else {
                continue;
            };
            let id: EndpointId = id.parse().map_err(Error::internal)?;
            match read_target(key_ring.as_deref(), &id, &item) {
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
        let targets = Targets::new(targets, unreadable);
        let types = types.into_iter().collect();
        Ok(Arc::new(ProjectConfig {
            targets,
            event_types: types,
            meters,
        }))
    }

    /// What opens secrets, if there are any to open and it is to be had.
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

    /// Reads with `read` again if an invalidation came in between: what a slow
    /// read saw before a change must not be cached after it.
    async fn read_uncontended<T, F: Future<Output = Result<T>>>(
        &self,
        read: impl Fn() -> F,
    ) -> Result<T> {
        for _ in 1..CURRENT_TRIES_MAX {
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
        let mut item = Item::new();
        item.insert("pk".into(), s(keys::project(&endpoint.project)));
        item.insert("sk".into(), s(keys::endpoint(&endpoint.id)));
        item.insert("version".into(), n(endpoint.version));
        item.insert("url".into(), s(&endpoint.url));
        let types = endpoint.event_types.iter().map(s).collect();
        item.insert("event_types".into(), AttributeValue::L(types));
        if let Some(tenant) = &endpoint.tenant {
            item.insert("tenant".into(), s(tenant));
        }
        item.insert("state".into(), s(endpoint.state.as_str()));
        let secrets = sealed.secrets.iter().map(|secret| {
            let mut map = HashMap::from([("sealed".to_owned(), b(secret.sealed.clone()))]);
            if let Some(at) = secret.expires_at {
                map.insert("expires".into(), ms(at));
            }
            AttributeValue::M(map)
        });
        item.insert("secrets".into(), AttributeValue::L(secrets.collect()));
        if endpoint.state == EndpointState::Deleted {
            item.insert("ttl".into(), n(tombstone_ends(endpoint.updated_at)));
        }
        put_delivery_settings(&mut item, endpoint);
        self.put_newer(item, endpoint.version).await?;
        self.invalidate(&endpoint.project).await;
        Ok(())
    }

    /// Projects an API key, unless a later version is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn put_key(&self, key: &ApiKey) -> Result<()> {
        let mut item = Item::new();
        item.insert("pk".into(), s(keys::key(&key.hash)));
        item.insert("sk".into(), s(keys::KEY));
        item.insert("version".into(), n(key.version));
        item.insert("key".into(), s(key.id.as_str()));
        item.insert("project".into(), s(key.project.as_str()));
        let scopes = key.scopes.iter().map(|scope| s(scope.as_str())).collect();
        item.insert("scopes".into(), AttributeValue::L(scopes));
        if let Some(limit) = key.rate_limit {
            item.insert("rate".into(), n(limit.get()));
        }
        if let Some(at) = key.revoked_at {
            item.insert("revoked".into(), ms(at));
            item.insert("ttl".into(), n(tombstone_ends(at)));
        }
        self.put_newer(item, key.version).await?;
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.grants.invalidate(&key.hash).await;
        Ok(())
    }

    async fn put_newer(&self, item: Item, version: i64) -> Result<()> {
        let result = self
            .dynamo
            .client
            .put_item()
            .table_name(&self.dynamo.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk) or version < :version")
            .expression_attribute_values(":version", n(version))
            .send()
            .await;
        match result {
            Err(error) if kind(&error) != DynamoErrorKind::Condition => Err(unavailable(error)),
            _ => Ok(()),
        }
    }
}

/// Opens a secret sealed for endpoint `id`.
///
/// # Errors
/// [`Error::Internal`] when the key ring lacks its key or it was sealed for
/// another endpoint.
pub fn open_secret(ring: &KeyRing, id: &EndpointId, sealed: &[u8]) -> Result<Secret> {
    let text = ring
        .open(id.as_str().as_bytes(), sealed)
        .map_err(Error::internal)?;
    let text = std::str::from_utf8(text.expose_secret()).map_err(Error::internal)?;
    Secret::parse(text).map_err(|invalid| Error::internal(anyhow::anyhow!("{invalid}")))
}

/// Seals `secret` for endpoint `id`.
pub fn seal_secret(ring: &KeyRing, nonce: [u8; 12], id: &EndpointId, secret: &Secret) -> Vec<u8> {
    ring.seal(
        nonce,
        id.as_str().as_bytes(),
        secret.to_text().expose_secret().as_bytes(),
    )
}

/// How the endpoint is called, as its item has it: what is not said is as ever.
fn put_delivery_settings(item: &mut Item, endpoint: &Endpoint) {
    let numbers = [
        ("rate_limit", endpoint.delivery_settings.rate_limit),
        (
            "max_concurrency",
            endpoint.delivery_settings.max_concurrency,
        ),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            item.insert(name.into(), n(number));
        }
    }
    if endpoint.delivery_settings.body_format != BodyFormat::default() {
        item.insert(
            "body_format".into(),
            s(endpoint.delivery_settings.body_format.as_str()),
        );
    }
    if let Some(sealed) = &endpoint.credentials_sealed {
        item.insert("extras".into(), b(sealed.clone()));
    }
    item.insert("enabled".into(), ms(endpoint.enabled_at));
}

fn read_delivery_settings(item: &Item) -> Result<DeliverySettings> {
    let number = |name| item.num_opt(name).map(u32::try_from).transpose();
    Ok(DeliverySettings {
        rate_limit: number("rate_limit").map_err(Error::internal)?,
        max_concurrency: number("max_concurrency").map_err(Error::internal)?,
        body_format: match item.str_opt("body_format") {
            Some(_) => item.parse("body_format")?,
            None => BodyFormat::default(),
        },
    })
}

/// What its requests carry beside the signature; none if that cannot be opened,
/// and deliveries wait.
fn read_credentials(
    key_ring: Option<&KeyRing>,
    id: &EndpointId,
    item: &Item,
) -> Option<EndpointCredentials> {
    let Some(sealed) = item.bytes_opt("extras") else {
        return Some(EndpointCredentials::default());
    };
    EndpointCredentials::open(key_ring?, id, sealed)
        .inspect_err(|error| {
            let cause = causes(error);
            tracing::error!(endpoint.id = %id, %error, cause, "failed to decrypt endpoint credentials: deliveries deferred");
        })
        .ok()
}

fn read_target(key_ring: Option<&KeyRing>, id: &EndpointId, item: &Item) -> Result<Target> {
    let event_types: Vec<_> = texts(item, "event_types").collect();
    let secrets = match item.get("secrets") {
        Some(AttributeValue::L(list)) => list.as_slice(),
        _ => &[],
    };
    let secrets = secrets.iter().filter_map(|value| value.as_m().ok());
    Ok(Target {
        id: id.clone(),
        version: item.num("version")?,
        url: item.parse("url")?,
        filter: Filter::new(&event_types, item.str_opt("tenant"))?,
        state: item.parse("state")?,
        // Events match without it; a delivery that nothing signs waits.
        secrets: secrets
            .filter_map(|secret| match open(key_ring?, id, secret) {
                Ok(signer) => Some(signer),
                Err(error) => {
                    let cause = error.causes();
                    tracing::error!(endpoint.id = %id, %error, cause, "failed to decrypt signing secret");
                    None
                }
            })
            .collect(),
        delivery_settings: read_delivery_settings(item)?,
        credentials: read_credentials(key_ring, id, item),
        enabled_at: match item.num_opt("enabled") {
            Some(_) => item.time("enabled")?,
            // Written by an older version, which knew of no failures either.
            None => Timestamp::UNIX_EPOCH,
        },
        failure_streak: None,
    })
}

fn open(key_ring: &KeyRing, id: &EndpointId, secret: &Item) -> Result<ExpiringSecret> {
    let sealed = secret
        .bytes_opt("sealed")
        .ok_or_else(|| Error::internal(anyhow::anyhow!("a secret of {id} has no bytes")))?;
    let expires_at = secret.num_opt("expires").map(Timestamp::from_millisecond);
    Ok(ExpiringSecret {
        secret: open_secret(key_ring, id, sealed)?,
        expires_at: expires_at.transpose().map_err(Error::internal)?,
    })
}

fn texts<'a>(item: &'a Item, name: &str) -> impl Iterator<Item = &'a str> {
    let list = match item.get(name) {
        Some(AttributeValue::L(list)) => list.as_slice(),
        _ => &[],
    };
    list.iter()
        .filter_map(|value| value.as_s().ok().map(String::as_str))
}

fn tombstone_ends(at: Timestamp) -> i64 {
    at.saturating_add(TOMBSTONE_KEPT)
        .unwrap_or(Timestamp::MAX)
        .as_second()
}

/// The error of a read that several callers waited for together.
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
