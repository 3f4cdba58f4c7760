//! Endpoints and their sealed secrets in PostgreSQL.

mod filter;
pub mod left_behind;
pub mod named;
mod quota;
mod sealed;

pub use self::filter::EndpointFilter;
pub use self::sealed::{SealedSecret, open_secret, seal_secret};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::NewAuditEntry;
use super::change::{Audit, Change, Committed};
use super::outbox::Subject;
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::audit::{Actor, AuditContext};
use crate::model::credentials::RedactedCredentials;
use crate::model::endpoint::{DeliverySettings, EndpointState, PendingDisable};
use crate::model::endpoint_ref::EndpointUid;
use crate::model::id::{EndpointId, ProjectId};
use crate::model::metadata::Metadata;
use crate::model::time::Time;

/// Between two times at which an endpoint is enabled, at least: the finest that the data
/// plane tells apart.
const ENABLED_AGAIN_MIN: SignedDuration = SignedDuration::from_millis(1);

/// An endpoint as people configured it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct Endpoint {
    pub id: EndpointId,
    pub project: ProjectId,
    /// What its owner calls it, unique in its project.
    pub uid: Option<EndpointUid>,
    pub url: String,
    pub description: String,
    pub metadata: Metadata,
    /// Patterns: exact, `prefix.*`, or `*` for all.
    pub event_types: Vec<String>,
    /// The one tenant whose events it takes; all tenants' if absent.
    pub tenant: Option<String>,
    pub state: EndpointState,
    pub delivery_settings: DeliverySettings,
    /// Headers, authentication and certificate of its requests: sealed, bound to
    /// its id.
    pub credentials_sealed: Option<Vec<u8>>,
    /// What of them may be shown.
    pub credentials_redacted: RedactedCredentials,
    /// When it was last turned on.
    pub enabled_at: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Rises with each change: the projection keeps the highest.
    pub version: i64,
}

impl Endpoint {
    fn read(row: &Row) -> Result<Self> {
        let created_at = row.get("created_at");
        let number = |name| {
            let number: Option<i32> = row.get(name);
            number.map(u32::try_from).transpose()
        };
        let redacted: Value = row.get("extras_shown");
        let uid: Option<&str> = row.get("uid");
        Ok(Self {
            delivery_settings: DeliverySettings {
                rate_limit: number("rate_limit").map_err(Error::internal)?,
                max_concurrency: number("max_concurrency").map_err(Error::internal)?,
                body_format: row
                    .get::<_, &str>("body_format")
                    .parse()
                    .map_err(Error::internal)?,
                content_type: row
                    .get::<_, &str>("content_type")
                    .parse()
                    .map_err(Error::internal)?,
            },
            credentials_sealed: row.get("extras_sealed"),
            credentials_redacted: serde_json::from_value(redacted).map_err(Error::internal)?,
            enabled_at: row
                .get::<_, Option<Timestamp>>("enabled_at")
                .unwrap_or(created_at),
            id: row
                .get::<_, String>("id")
                .parse()
                .map_err(Error::internal)?,
            project: row
                .get::<_, String>("project_id")
                .parse()
                .map_err(Error::internal)?,
            uid: uid.map(str::parse).transpose().map_err(Error::internal)?,
            url: row.get("url"),
            description: row.get("description"),
            metadata: serde_json::from_value(row.get("metadata")).map_err(Error::internal)?,
            event_types: row.get("event_types"),
            tenant: row.get("tenant"),
            state: row
                .get::<_, &str>("state")
                .parse()
                .map_err(Error::internal)?,
            created_at,
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        })
    }

    /// The endpoint in the audit log.
    fn audit_value(&self) -> Value {
        json!({
            "uid": self.uid,
            "url": self.url,
            "description": self.description,
            "metadata": self.metadata,
            "event_types": self.event_types,
            "tenant": self.tenant,
            "state": self.state.as_str(),
            "rate_limit": self.delivery_settings.rate_limit,
            "max_concurrency": self.delivery_settings.max_concurrency,
            "body_format": self.delivery_settings.body_format.as_str(),
            "content_type": self.delivery_settings.content_type.as_str(),
            // Names alone: no value of a header, no credential.
            "header_names": self.credentials_redacted.headers,
            "auth_type": self.credentials_redacted.auth,
            "client_certificate_sha256": self.credentials_redacted.certificate_sha256,
        })
    }
}

/// Secrets of one endpoint that may sign at a time. Each adds to the header of
/// every webhook, and to the projection.
pub const SECRETS_MAX: i64 = 5;

/// An endpoint with its secrets, the newest first.
#[derive(Debug)]
pub struct SealedEndpoint {
    /// The row, in any state.
    pub endpoint: Endpoint,
    /// Those that sign or have signed.
    pub secrets: Vec<SealedSecret>,
}

const CREATE: &str = "\
    insert into endpoints \
        (id, project_id, url, description, event_types, tenant, state, created_at, updated_at, \
        rate_limit, max_concurrency, body_format, extras_sealed, extras_shown, enabled_at, uid, \
        content_type, metadata) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

const ADD_SECRET: &str = "\
    insert into endpoint_secrets (endpoint_id, number, sealed, created_at) \
    select $1, coalesce(max(number), 0) + 1, $2, $3 from endpoint_secrets where endpoint_id = $1";

/// Creates an endpoint with its first secret; the change still has to be
/// projected.
///
/// # Errors
/// [`Error::NotFound`] when there is no such project; [`Error::Conflict`] when its
/// uid is taken, or the project has `per_project_max` endpoints; [`Error::Forbidden`]
/// when it is to be of a tenant that `by` does not reach; [`Error::Unavailable`] when the
/// database does not answer.
pub async fn create(
    postgres: &Postgres,
    by: &AuditContext,
    endpoint: Endpoint,
    sealed: &[u8],
    per_project_max: u32,
) -> Result<Committed<Endpoint>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    quota::lock_project(&tx, &by.project).await?;
    insert(tx, by, endpoint, sealed, per_project_max).await
}

/// [`create`] as the end of a transaction that has the project locked.
async fn insert(
    tx: Change<'_>,
    by: &AuditContext,
    endpoint: Endpoint,
    sealed: &[u8],
    per_project_max: u32,
) -> Result<Committed<Endpoint>> {
    by.access().check(endpoint.tenant.as_deref())?;
    quota::check_count(&tx, &by.project, per_project_max).await?;
    let columns = EndpointColumns::of(&endpoint)?;
    let values: &[&(dyn ToSql + Sync)] = &[
        &endpoint.id.as_str(),
        &endpoint.project.as_str(),
        &endpoint.url,
        &endpoint.description,
        &endpoint.event_types,
        &endpoint.tenant,
        &endpoint.state.as_str(),
        &endpoint.created_at,
        &columns.rate_limit,
        &columns.max_concurrency,
        &endpoint.delivery_settings.body_format.as_str(),
        &endpoint.credentials_sealed,
        &columns.credentials_redacted,
        &endpoint.enabled_at,
        &columns.uid,
        &endpoint.delivery_settings.content_type.as_str(),
        &columns.metadata,
    ];
    tx.execute(CREATE, values).await?;
    let secret: &[&(dyn ToSql + Sync)] = &[&endpoint.id.as_str(), &sealed, &endpoint.created_at];
    tx.execute(ADD_SECRET, secret).await?;
    let id = endpoint.id.clone();
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "endpoint.create",
        subject: id.as_str(),
        before: None,
        after: Some(endpoint.audit_value()),
    });
    tx.commit(audit, Subject::Endpoint(&id), endpoint).await
}

const GET: &str = "\
    select * from endpoints \
    where id = $1 and project_id = $2 and state <> 'deleted' \
        and ($3::text is null or tenant = $3)";

/// The endpoint `id`, if `access` reaches it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, access: &Access, id: &EndpointId) -> Result<Endpoint> {
    let client = postgres.get().await?;
    let project = access.project().as_str();
    let row = client
        .query_opt(GET, &[&id.as_str(), &project, &access.tenant()])
        .await
        .map_err(classify)?;
    Endpoint::read(&row.ok_or_else(|| Error::not_found("endpoint", id))?)
}

const LIST: &str = "\
    select * from endpoints \
    where project_id = $1 and id > $2 and state <> 'deleted' \
        and ($4::text is null or tenant = $4) \
        and ($5::text is null or state = $5) \
        and ($7::bool is null or (id = any($6::text[])) = $7) \
    order by id limit $3";

/// Up to `limit` endpoints that `access` reaches in the order of their creation, those
/// after `after` only, narrowed by `filter`.
///
/// # Errors
/// [`Error::Forbidden`] for a tenant that `access` does not reach;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    access: &Access,
    filter: &EndpointFilter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Endpoint>> {
    let tenant = access.narrow(filter.tenant)?;
    let state = filter.state.map(EndpointState::as_str);
    let (failing, is_failing) = filter.failing.unzip();
    let failing = failing.unwrap_or_default();
    let client = postgres.get().await?;
    let project = access.project().as_str();
    let rows = client
        .query(
            LIST,
            &[
                &project,
                &after,
                &limit,
                &tenant,
                &state,
                &failing,
                &is_failing,
            ],
        )
        .await;
    rows.map_err(classify)?.iter().map(Endpoint::read).collect()
}

const LOCK: &str = "\
    select * from endpoints \
    where id = $1 and project_id = $2 and state <> 'deleted' \
        and ($3::text is null or tenant = $3) \
    for update";

const UPDATE: &str = "\
    update endpoints set url = $2, description = $3, event_types = $4, tenant = $5, state = $6, \
        updated_at = $7, version = version + 1, rate_limit = $8, max_concurrency = $9, \
        body_format = $10, extras_sealed = $11, extras_shown = $12, enabled_at = $13, uid = $14, \
        content_type = $15, metadata = $16 \
    where id = $1";

/// Changes an endpoint as `apply` says, one writer at a time; the change still
/// has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when its uid is taken;
/// [`Error::Forbidden`] when it is to be of a tenant that `by` does not reach; whatever
/// `apply` refuses with; [`Error::Unavailable`] when the database does not answer.
pub async fn update(
    postgres: &Postgres,
    by: &AuditContext,
    id: &EndpointId,
    apply: impl FnOnce(&mut Endpoint) -> Result<()>,
) -> Result<Committed<Endpoint>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let before = lock(&tx, by, id).await?;
    let mut endpoint = before.clone();
    apply(&mut endpoint)?;
    write(tx, by, &before, endpoint).await
}

/// Writes what has become of the endpoint `before`, as the end of a transaction that
/// holds it.
async fn write(
    tx: Change<'_>,
    by: &AuditContext,
    before: &Endpoint,
    mut endpoint: Endpoint,
) -> Result<Committed<Endpoint>> {
    by.access().check(endpoint.tenant.as_deref())?;
    endpoint.updated_at = by.at;
    if endpoint.state == EndpointState::Enabled && before.state != EndpointState::Enabled {
        // Later than before whatever the clocks say: what is known of then is over.
        let next = before.enabled_at.saturating_add(ENABLED_AGAIN_MIN);
        endpoint.enabled_at = next.map_or(by.at, |next| next.max(by.at));
    }
    endpoint.version += 1;
    let columns = EndpointColumns::of(&endpoint)?;
    let id = endpoint.id.clone();
    let values: &[&(dyn ToSql + Sync)] = &[
        &id.as_str(),
        &endpoint.url,
        &endpoint.description,
        &endpoint.event_types,
        &endpoint.tenant,
        &endpoint.state.as_str(),
        &by.at,
        &columns.rate_limit,
        &columns.max_concurrency,
        &endpoint.delivery_settings.body_format.as_str(),
        &endpoint.credentials_sealed,
        &columns.credentials_redacted,
        &endpoint.enabled_at,
        &columns.uid,
        &endpoint.delivery_settings.content_type.as_str(),
        &columns.metadata,
    ];
    tx.execute(UPDATE, values).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "endpoint.update",
        subject: id.as_str(),
        before: Some(before.audit_value()),
        after: Some(endpoint.audit_value()),
    });
    tx.commit(audit, Subject::Endpoint(&id), endpoint).await
}

/// What of an endpoint is of another type in PostgreSQL.
struct EndpointColumns {
    rate_limit: Option<i32>,
    max_concurrency: Option<i32>,
    credentials_redacted: Value,
    uid: Option<String>,
    metadata: Value,
}

impl EndpointColumns {
    fn of(endpoint: &Endpoint) -> Result<Self> {
        let number = |number: Option<u32>| number.map(i32::try_from).transpose();
        Ok(Self {
            rate_limit: number(endpoint.delivery_settings.rate_limit).map_err(Error::internal)?,
            max_concurrency: number(endpoint.delivery_settings.max_concurrency)
                .map_err(Error::internal)?,
            credentials_redacted: serde_json::to_value(&endpoint.credentials_redacted)
                .map_err(Error::internal)?,
            uid: endpoint.uid.as_ref().map(ToString::to_string),
            metadata: serde_json::to_value(&endpoint.metadata).map_err(Error::internal)?,
        })
    }
}

/// The endpoint, to be changed by this transaction alone.
async fn lock(tx: &Change<'_>, by: &AuditContext, id: &EndpointId) -> Result<Endpoint> {
    let access = by.access();
    let values: &[&(dyn ToSql + Sync)] =
        &[&id.as_str(), &access.project().as_str(), &access.tenant()];
    let row = tx.query_opt(LOCK, values).await?;
    Endpoint::read(&row.ok_or_else(|| Error::not_found("endpoint", id))?)
}

const DELETE: &str = "\
    update endpoints set state = 'deleted', updated_at = $2, version = version + 1 \
    where id = $1";

const DELETE_SECRETS: &str = "delete from endpoint_secrets where endpoint_id = $1";

/// Deletes an endpoint and its secrets, and gives it as it was; the change still has
/// to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn delete(
    postgres: &Postgres,
    by: &AuditContext,
    id: &EndpointId,
) -> Result<Committed<Endpoint>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let mut endpoint = lock(&tx, by, id).await?;
    let before = endpoint.audit_value();
    // The row stays as a tombstone, so that a late projection cannot bring it back.
    tx.execute(DELETE, &[&id.as_str(), &by.at]).await?;
    tx.execute(DELETE_SECRETS, &[&id.as_str()]).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "endpoint.delete",
        subject: id.as_str(),
        before: Some(before),
        after: None,
    });
    (endpoint.updated_at, endpoint.version) = (by.at, endpoint.version + 1);
    tx.commit(audit, Subject::Endpoint(id), endpoint).await
}

const SET_SECRETS_EXPIRY: &str = "\
    update endpoint_secrets set expires_at = $2 where endpoint_id = $1 and expires_at is null";

const DELETE_EXPIRED_SECRETS: &str =
    "delete from endpoint_secrets where endpoint_id = $1 and expires_at <= $2";

const COUNT_SECRETS: &str = "select count(*) from endpoint_secrets where endpoint_id = $1";

const RAISE_VERSION: &str =
    "update endpoints set updated_at = $2, version = version + 1 where id = $1";

/// Makes `sealed` the current secret; those before it sign until `overlap_ends`.
/// The change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when [`SECRETS_MAX`] sign already;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn rotate_secret(
    postgres: &Postgres,
    by: &AuditContext,
    id: &EndpointId,
    sealed: &[u8],
    overlap_ends: Timestamp,
) -> Result<Committed<Endpoint>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let mut endpoint = lock(&tx, by, id).await?;
    add_rotated(&tx, by, id, sealed, overlap_ends).await?;
    tx.execute(RAISE_VERSION, &[&id.as_str(), &by.at]).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "endpoint.rotate_secret",
        subject: id.as_str(),
        before: None,
        after: Some(json!({ "former_signs_until": Time(overlap_ends) })),
    });
    (endpoint.updated_at, endpoint.version) = (by.at, endpoint.version + 1);
    tx.commit(audit, Subject::Endpoint(id), endpoint).await
}

/// Makes `sealed` the current secret of an endpoint that the transaction holds.
async fn add_rotated(
    tx: &Change<'_>,
    by: &AuditContext,
    id: &EndpointId,
    sealed: &[u8],
    overlap_ends: Timestamp,
) -> Result<()> {
    tx.execute(DELETE_EXPIRED_SECRETS, &[&id.as_str(), &by.at])
        .await?;
    let signing = tx.query_one(COUNT_SECRETS, &[&id.as_str()]).await?;
    // None may stop before its overlap ends, so a further one has no place.
    if signing.get::<_, i64>(0) >= SECRETS_MAX {
        let detail = format!(
            "the endpoint has {SECRETS_MAX} secrets that sign; a rotated one does for a day"
        );
        return Err(Error::Conflict(detail.into()));
    }
    tx.execute(SET_SECRETS_EXPIRY, &[&id.as_str(), &overlap_ends])
        .await?;
    let secret: &[&(dyn ToSql + Sync)] = &[&id.as_str(), &sealed, &by.at];
    tx.execute(ADD_SECRET, secret).await?;
    Ok(())
}

const DISABLE: &str = "\
    update endpoints set state = $4, updated_at = greatest(updated_at, $3), \
        version = version + 1 \
    where id = $1 and state = 'enabled' and version = $2 \
    returning *";

/// Writes that the data plane disabled an endpoint, unless it has been changed
/// since. None if there was nothing to change.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn mark_disabled(
    postgres: &Postgres,
    id: &EndpointId,
    pending: &PendingDisable,
) -> Result<Option<Committed<()>>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let values: &[&(dyn ToSql + Sync)] = &[
        &id.as_str(),
        &pending.version,
        &pending.at,
        &pending.state.as_str(),
    ];
    let Some(row) = tx.query_opt(DISABLE, values).await? else {
        // A later version is projected by its own change.
        return Ok(None);
    };
    let by = AuditContext {
        project: Endpoint::read(&row)?.project,
        actor: Actor::Millrace,
        at: pending.at,
    };
    let state = |state: EndpointState| Some(json!({ "state": state.as_str() }));
    let audit = Audit::Entry(NewAuditEntry {
        by: &by,
        action: "endpoint.disable",
        subject: id.as_str(),
        before: state(EndpointState::Enabled),
        after: state(pending.state),
    });
    tx.commit(audit, Subject::Endpoint(id), ()).await.map(Some)
}

const GET_ANY: &str = "select * from endpoints where id = $1";

const SECRETS: &str = "\
    select sealed, expires_at from endpoint_secrets where endpoint_id = $1 order by number desc";

/// The endpoint called `id` in any state, with its secrets as of the same moment,
/// for its projection.
pub(super) async fn get_sealed(postgres: &Postgres, id: &str) -> Result<Option<SealedEndpoint>> {
    let mut client = postgres.get().await?;
    let tx = client.snapshot().await.map_err(classify)?;
    let Some(row) = tx.query_opt(GET_ANY, &[&id]).await.map_err(classify)? else {
        return Ok(None);
    };
    let secrets = tx.query(SECRETS, &[&id]).await.map_err(classify)?;
    let secrets = secrets
        .iter()
        .map(|row| SealedSecret {
            sealed: row.get("sealed"),
            expires_at: row.get("expires_at"),
        })
        .collect();
    Ok(Some(SealedEndpoint {
        endpoint: Endpoint::read(&row)?,
        secrets,
    }))
}

const CURRENT_SECRET: &str = "\
    select s.sealed from endpoint_secrets s join endpoints e on e.id = s.endpoint_id \
    where e.id = $1 and e.project_id = $2 and e.state <> 'deleted' \
        and ($3::text is null or e.tenant = $3) \
    order by s.number desc limit 1";

/// The sealed current secret of an endpoint that `access` reaches.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn current_secret(
    postgres: &Postgres,
    access: &Access,
    id: &EndpointId,
) -> Result<Vec<u8>> {
    let client = postgres.get().await?;
    let project = access.project().as_str();
    let row = client
        .query_opt(CURRENT_SECRET, &[&id.as_str(), &project, &access.tenant()])
        .await;
    let row = row
        .map_err(classify)?
        .ok_or_else(|| Error::not_found("endpoint", id))?;
    Ok(row.get("sealed"))
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[
    CREATE,
    quota::LOCK_PROJECT,
    quota::COUNT,
    ADD_SECRET,
    GET,
    LIST,
    LOCK,
    UPDATE,
    DELETE,
    DELETE_SECRETS,
    SET_SECRETS_EXPIRY,
    DELETE_EXPIRED_SECRETS,
    COUNT_SECRETS,
    RAISE_VERSION,
    DISABLE,
    GET_ANY,
    SECRETS,
    CURRENT_SECRET,
];
