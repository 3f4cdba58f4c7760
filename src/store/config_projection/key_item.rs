//! The item of an API key in the configuration projection.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::error::Result;
use crate::model::api_key::Scope;
use crate::model::id::{KeyId, ProjectId};
use crate::store::api_keys::ApiKey;
use crate::store::dynamo::{Item, ItemExt, ms, n, s};
use crate::store::keys;

/// What a request may do, by its API key.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Which key it is, for rate limits and the audit log.
    pub key: KeyId,
    /// The project it belongs to.
    pub project: ProjectId,
    /// What it may do there.
    pub scopes: Arc<[Scope]>,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
}

/// The item of `key`.
pub(super) fn write(key: &ApiKey) -> Item {
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
    }
    item
}

/// What the key of `item` may do; none if it is revoked.
pub(super) fn read(item: &Item) -> Result<Option<Grant>> {
    if item.contains_key("revoked") {
        return Ok(None);
    }
    // A scope of a newer version is ignored.
    let scopes = item.texts("scopes").filter_map(Scope::from_name).collect();
    Ok(Some(Grant {
        key: item.parse("key")?,
        project: item.parse("project")?,
        scopes,
        rate_limit: item
            .num_opt("rate")
            .and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?)),
    }))
}
