//! API keys in PostgreSQL, by their hash.

use std::num::NonZeroU32;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::NewAuditEntry;
use super::change::{Audit, Change, Committed};
use super::endpoints::left_behind::{self, EndpointsChoice, LeftBehind};
use super::outbox::Subject;
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::api_key::Scope;
use crate::model::audit::AuditContext;
use crate::model::id::{KeyId, ProjectId};
use crate::model::time::Time;

/// An API key, without its text.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct ApiKey {
    pub id: KeyId,
    pub project: ProjectId,
    pub name: String,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// How its text begins.
    pub hint: String,
    pub scopes: Vec<Scope>,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
    /// The one tenant whose part of the project it reaches; all of it if none.
    pub tenant: Option<String>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// Rises with each change: the projection keeps the highest.
    pub version: i64,
}

impl ApiKey {
    /// Whether a version that knows neither tenants nor ends of keys would let it do
    /// what it may not.
    pub(super) fn is_restricted(&self) -> bool {
        self.tenant.is_some() || self.expires_at.is_some()
    }

    fn read(row: &Row) -> Result<Self> {
        let hash: Vec<u8> = row.get("hash");
        let scopes: [Vec<String>; 2] = [row.get("scopes"), row.get("restricted_scopes")];
        Ok(Self {
            id: row
                .get::<_, String>("id")
                .parse()
                .map_err(Error::internal)?,
            project: row
                .get::<_, String>("project_id")
                .parse()
                .map_err(Error::internal)?,
            name: row.get("name"),
            hash: hash
                .try_into()
                .map_err(|_| Error::internal(anyhow::anyhow!("hash length")))?,
            hint: row.get("hint"),
            // A scope of a newer version is ignored.
            scopes: scopes
                .iter()
                .flatten()
                .filter_map(|name| Scope::from_name(name))
                .collect(),
            rate_limit: row
                .get::<_, Option<i32>>("rate_limit")
                .and_then(|limit| NonZeroU32::new(u32::try_from(limit).ok()?)),
            tenant: row.get("tenant"),
            expires_at: row.get("expires_at"),
            created_at: row.get("created_at"),
            revoked_at: row.get("revoked_at"),
            version: row.get("version"),
        })
    }

    /// The key in the audit log.
    fn audit_value(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "hint": self.hint,
            "scopes": self.scopes,
            "rate_limit": self.rate_limit,
        });
        if let Some(tenant) = &self.tenant {
            value["tenant"] = tenant.as_str().into();
        }
        if let Some(at) = self.expires_at {
            value["expires_at"] = json!(Time(at));
        }
        value
    }
}

/// Keys of a project that are neither revoked nor expired.
pub const KEYS_MAX: i64 = 1_000;

// Held to the end, so that an erasure that begins meanwhile revokes the key too.
const LOCK_PROJECT: &str =
    "select id from projects where id = $1 and erased_at is null for no key update";

const COUNT: &str = "\
    select count(*) from api_keys where project_id = $1 and revoked_at is null \
    and (expires_at is null or expires_at > $2)";

/// Refuses one more than the project may have, one at a time: two at once would both be
/// the last that is allowed.
async fn check_count(tx: &Change<'_>, project: &ProjectId, now: Timestamp) -> Result<()> {
    tx.query_opt(LOCK_PROJECT, &[&project.as_str()])
        .await?
        .ok_or_else(|| Error::not_found("project", project))?;
    let existing = tx.query_one(COUNT, &[&project.as_str(), &now]).await?;
    if existing.get::<_, i64>(0) < KEYS_MAX {
        return Ok(());
    }
    let detail = format!("the project has {KEYS_MAX} keys, its limit: revoke one first");
    Err(Error::Conflict(detail.into()))
}

const CREATE: &str = "\
    insert into api_keys \
        (id, project_id, name, hash, hint, scopes, rate_limit, created_at, restricted_scopes, \
        tenant, expires_at) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Creates a key; the change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`] when there is no such project; [`Error::Conflict`] when it has
/// [`KEYS_MAX`]; [`Error::Unavailable`] when the database does not answer.
pub async fn create(
    postgres: &Postgres,
    by: &AuditContext,
    key: ApiKey,
) -> Result<Committed<ApiKey>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    check_count(&tx, &key.project, key.created_at).await?;
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    let (scopes, restricted_scopes) = if key.is_restricted() {
        (vec![], scopes)
    } else {
        (scopes, vec![])
    };
    let rate_limit = key
        .rate_limit
        .map(|limit| i32::try_from(limit.get()).unwrap_or(i32::MAX));
    let values: &[&(dyn ToSql + Sync)] = &[
        &key.id.as_str(),
        &key.project.as_str(),
        &key.name,
        &key.hash.as_slice(),
        &key.hint,
        &scopes,
        &rate_limit,
        &key.created_at,
        &restricted_scopes,
        &key.tenant,
        &key.expires_at,
    ];
    tx.execute(CREATE, values).await?;
    let id = key.id.clone();
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "key.create",
        subject: id.as_str(),
        before: None,
        after: Some(key.audit_value()),
    });
    tx.commit(audit, Subject::ApiKey(&id), key).await
}

const LIST: &str = "select * from api_keys where project_id = $1 and id > $2 order by id limit $3";

/// Up to `limit` keys of a project in the order of their creation, those after
/// `after` only; revoked ones too.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<ApiKey>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST, &[&project.as_str(), &after, &limit])
        .await
        .map_err(classify)?;
    rows.iter().map(ApiKey::read).collect()
}

const LOCK: &str = "select * from api_keys where id = $1 and project_id = $2 for update";

const REVOKE: &str = "\
    update api_keys set revoked_at = coalesce(revoked_at, $2), version = version + 1 \
    where id = $1";

/// Revokes a key, or leaves it revoked as it is, and does with its endpoints as is
/// asked, all in one transaction. The change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn revoke(
    postgres: &Postgres,
    by: &AuditContext,
    id: &KeyId,
    endpoints: EndpointsChoice,
) -> Result<Committed<LeftBehind>> {
    let mut client = Change::connect(postgres).await?;
    let mut tx = Change::begin(&mut client).await?;
    let row = tx
        .query_opt(LOCK, &[&id.as_str(), &by.project.as_str()])
        .await?;
    let key = ApiKey::read(&row.ok_or_else(|| Error::not_found("key", id))?)?;
    tx.execute(REVOKE, &[&id.as_str(), &by.at]).await?;
    let audit = if key.revoked_at.is_some() {
        Audit::Repeated
    } else {
        Audit::Entry(NewAuditEntry {
            by,
            action: "key.revoke",
            subject: id.as_str(),
            before: Some(key.audit_value()),
            after: None,
        })
    };
    let left = left_behind::settle(&mut tx, by, id, endpoints).await?;
    tx.commit(audit, Subject::ApiKey(id), left).await
}

const GET: &str = "select * from api_keys where id = $1";

/// The key called `id`, if there is one, revoked or not.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, id: &str) -> Result<Option<ApiKey>> {
    let client = postgres.get().await?;
    let row = client.query_opt(GET, &[&id]).await.map_err(classify)?;
    row.as_ref().map(ApiKey::read).transpose()
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[CREATE, LOCK_PROJECT, COUNT, LIST, LOCK, REVOKE, GET];
