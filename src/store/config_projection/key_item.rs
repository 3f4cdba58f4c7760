//! The item of an API key in the configuration projection.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::error::{Error, Result};
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
    /// The one tenant whose part of the project it reaches; all of it if none.
    pub tenant: Option<Arc<str>>,
    /// From when on it may do nothing.
    pub expires_at: Option<Timestamp>,
}

impl Grant {
    /// Whether it may still do anything at `now`.
    pub(super) fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

/// What a restricted key may do. A version that knows of no restrictions reads
/// [`SCOPES`] alone, and so lets the key do nothing instead of everything.
const RESTRICTED_SCOPES: &str = "restricted_scopes";
/// What any other key may do.
const SCOPES: &str = "scopes";

/// The item of `key`.
pub(super) fn write(key: &ApiKey) -> Item {
    let mut item = Item::new();
    item.insert("pk".into(), s(keys::key(&key.hash)));
    item.insert("sk".into(), s(keys::KEY));
    item.insert("version".into(), n(key.version));
    item.insert("key".into(), s(key.id.as_str()));
    item.insert("project".into(), s(key.project.as_str()));
    let scopes = key.scopes.iter().map(|scope| s(scope.as_str())).collect();
    let may = if key.is_restricted() {
        RESTRICTED_SCOPES
    } else {
        SCOPES
    };
    item.insert(may.into(), AttributeValue::L(scopes));
    if let Some(tenant) = &key.tenant {
        item.insert("tenant".into(), s(tenant));
    }
    if let Some(at) = key.expires_at {
        item.insert("expires".into(), ms(at));
    }
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
    let scopes = item.texts(SCOPES).chain(item.texts(RESTRICTED_SCOPES));
    let scopes = scopes.filter_map(Scope::from_name).collect();
    let expires_at = item.num_opt("expires").map(Timestamp::from_millisecond);
    Ok(Some(Grant {
        key: item.parse("key")?,
        project: item.parse("project")?,
        scopes,
        rate_limit: item
            .num_opt("rate")
            .and_then(|rate| NonZeroU32::new(u32::try_from(rate).ok()?)),
        tenant: item.str_opt("tenant").map(Arc::from),
        expires_at: expires_at.transpose().map_err(Error::internal)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: Option<&str>, expires_at: Option<Timestamp>) -> ApiKey {
        ApiKey {
            id: KeyId::new(0, [1; 10]),
            project: ProjectId::new(0, [1; 10]),
            name: "key".into(),
            hash: [0; 32],
            hint: String::new(),
            scopes: Scope::ALL.into(),
            rate_limit: None,
            tenant: tenant.map(str::to_owned),
            expires_at,
            created_at: Timestamp::UNIX_EPOCH,
            revoked_at: None,
            version: 1,
        }
    }

    /// What the version before read of an item: of these attributes it knew `scopes`.
    fn scopes_as_before(item: &Item) -> usize {
        item.texts("scopes").filter_map(Scope::from_name).count()
    }

    #[test]
    fn a_version_that_knows_no_restrictions_lets_a_restricted_key_do_nothing() {
        let at = Timestamp::from_second(60).unwrap();
        for (tenant, expires_at) in [(Some("a"), None), (None, Some(at)), (Some("a"), Some(at))] {
            let item = write(&key(tenant, expires_at));
            assert_eq!(scopes_as_before(&item), 0);
            let grant = read(&item).unwrap().unwrap();
            assert_eq!(*grant.scopes, Scope::ALL);
            assert_eq!(grant.tenant.as_deref(), tenant);
            assert_eq!(grant.expires_at, expires_at);
        }
        let item = write(&key(None, None));
        assert_eq!(scopes_as_before(&item), Scope::ALL.len());
        assert_eq!(*read(&item).unwrap().unwrap().scopes, Scope::ALL);
    }

    #[test]
    fn a_grant_ends_at_the_moment_it_expires() {
        let at = Timestamp::from_second(60).unwrap();
        let grant = read(&write(&key(None, Some(at)))).unwrap().unwrap();
        let ms = jiff::SignedDuration::from_millis(1);
        assert!(grant.is_in_force(at - ms));
        assert!(!grant.is_in_force(at));
        assert!(!grant.is_in_force(at + ms));
    }
}
