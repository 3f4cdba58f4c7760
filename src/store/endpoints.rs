//! Endpoints and their sealed secrets in PostgreSQL.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::Row;

use super::data_plane::Gone;
use super::outbox::{self, Change, Kind};
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::endpoint::State;
use crate::model::id::{EndpointId, ProjectId};

/// An endpoint as people configured it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub project: ProjectId,
    /// Where webhooks go.
    pub url: String,
    /// A note for people.
    pub description: String,
    /// Patterns of the event types it takes.
    pub event_types: Vec<String>,
    /// The one tenant whose events it takes; all if absent.
    pub tenant: Option<String>,
    /// Whether it takes events.
    pub state: State,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Changes so far.
    pub version: i64,
}

impl Endpoint {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row
                .get::<_, String>("id")
                .parse()
                .map_err(Error::internal)?,
            project: row
                .get::<_, String>("project_id")
                .parse()
                .map_err(Error::internal)?,
            url: row.get("url"),
            description: row.get("description"),
            event_types: row.get("event_types"),
            tenant: row.get("tenant"),
            state: row
                .get::<_, &str>("state")
                .parse()
                .map_err(Error::internal)?,
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            version: row.get("version"),
        })
    }
}

/// Secrets of one endpoint that sign at a time: each is a part of every webhook's
/// header and of the projection.
pub const SECRETS_MAX: i64 = 5;

/// A sealed secret and until when it signs.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// AES-256-GCM under the key ring, bound to the endpoint's id.
    pub sealed: Vec<u8>,
    /// Absent for the current one.
    pub expires_at: Option<Timestamp>,
}

/// An endpoint with its secrets, the newest first.
#[derive(Debug)]
pub struct SealedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its secrets.
    pub secrets: Vec<SealedSecret>,
}

const CREATE: &str = "\
    insert into endpoints \
        (id, project_id, url, description, event_types, tenant, state, created_at, updated_at) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8)";

const ADD_SECRET: &str = "\
    insert into endpoint_secrets (endpoint_id, number, sealed, created_at) \
    select $1, coalesce(max(number), 0) + 1, $2, $3 from endpoint_secrets where endpoint_id = $1";

/// Creates an endpoint with its first secret; the change still has to be
/// projected.
///
/// # Errors
/// [`Error::NotFound`] when there is no such project; [`Error::Unavailable`] when
/// the database does not answer.
pub async fn create(postgres: &Postgres, endpoint: &Endpoint, sealed: &[u8]) -> Result<Change> {
    let mut client = postgres.get().await?;
    let tx = client.transaction().await.map_err(classify)?;
    let values: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &endpoint.id.as_str(),
        &endpoint.project.as_str(),
        &endpoint.url,
        &endpoint.description,
        &endpoint.event_types,
        &endpoint.tenant,
        &endpoint.state.as_str(),
        &endpoint.created_at,
    ];
    tx.execute(CREATE, values).await.map_err(classify)?;
    let secret: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&endpoint.id.as_str(), &sealed, &endpoint.created_at];
    tx.execute(ADD_SECRET, secret).await.map_err(classify)?;
    commit(tx, &endpoint.id).await
}

async fn commit(tx: Transaction<'_>, id: &EndpointId) -> Result<Change> {
    let change = outbox::add(&tx, Kind::Endpoint, id.as_str()).await?;
    tx.commit().await.map_err(classify)?;
    Ok(change)
}

const GET: &str =
    "select * from endpoints where id = $1 and project_id = $2 and state <> 'deleted'";

/// The endpoint `id` of `project`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, project: &ProjectId, id: &EndpointId) -> Result<Endpoint> {
    let client = postgres.get().await?;
    let row = client
        .query_opt(GET, &[&id.as_str(), &project.as_str()])
        .await
        .map_err(classify)?;
    Endpoint::read(&row.ok_or_else(|| Error::not_found("endpoint", id))?)
}

const LIST: &str = "\
    select * from endpoints \
    where project_id = $1 and id > $2 and state <> 'deleted' \
        and ($4::text is null or tenant = $4) \
    order by id limit $3";

/// Up to `limit` endpoints of a project in the order of their creation, those
/// after `after` only, and only those of `tenant` if one is given.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    tenant: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Endpoint>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST, &[&project.as_str(), &after, &limit, &tenant])
        .await;
    rows.map_err(classify)?.iter().map(Endpoint::read).collect()
}

const LOCK: &str = "\
    select * from endpoints \
    where id = $1 and project_id = $2 and state <> 'deleted' for update";

const UPDATE: &str = "\
    update endpoints set url = $2, description = $3, event_types = $4, tenant = $5, state = $6, \
        updated_at = $7, version = version + 1 \
    where id = $1";

/// Changes an endpoint as `change` says, one writer at a time; the change still
/// has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; whatever `change` refuses with; [`Error::Unavailable`]
/// when the database does not answer.
pub async fn update(
    postgres: &Postgres,
    project: &ProjectId,
    id: &EndpointId,
    now: Timestamp,
    change: impl FnOnce(&mut Endpoint) -> Result<()>,
) -> Result<(Endpoint, Change)> {
    let mut client = postgres.get().await?;
    let tx = client.transaction().await.map_err(classify)?;
    let row = tx
        .query_opt(LOCK, &[&id.as_str(), &project.as_str()])
        .await
        .map_err(classify)?;
    let mut endpoint = Endpoint::read(&row.ok_or_else(|| Error::not_found("endpoint", id))?)?;
    change(&mut endpoint)?;
    endpoint.updated_at = now;
    endpoint.version += 1;
    let values: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &id.as_str(),
        &endpoint.url,
        &endpoint.description,
        &endpoint.event_types,
        &endpoint.tenant,
        &endpoint.state.as_str(),
        &now,
    ];
    tx.execute(UPDATE, values).await.map_err(classify)?;
    let change = commit(tx, id).await?;
    Ok((endpoint, change))
}

const DELETE: &str = "\
    update endpoints set state = 'deleted', updated_at = $3, version = version + 1 \
    where id = $1 and project_id = $2 and state <> 'deleted'";

const DELETE_SECRETS: &str = "delete from endpoint_secrets where endpoint_id = $1";

/// Deletes an endpoint and its secrets. A tombstone stays, so that a late
/// projection cannot bring it back.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn delete(
    postgres: &Postgres,
    project: &ProjectId,
    id: &EndpointId,
    now: Timestamp,
) -> Result<Change> {
    let mut client = postgres.get().await?;
    let tx = client.transaction().await.map_err(classify)?;
    let deleted = tx
        .execute(DELETE, &[&id.as_str(), &project.as_str(), &now])
        .await;
    if deleted.map_err(classify)? == 0 {
        return Err(Error::not_found("endpoint", id));
    }
    tx.execute(DELETE_SECRETS, &[&id.as_str()])
        .await
        .map_err(classify)?;
    commit(tx, id).await
}

const EXPIRE_SECRETS: &str = "\
    update endpoint_secrets set expires_at = $2 where endpoint_id = $1 and expires_at is null";

const FORGET_SECRETS: &str =
    "delete from endpoint_secrets where endpoint_id = $1 and expires_at <= $2";

const COUNT_SECRETS: &str = "select count(*) from endpoint_secrets where endpoint_id = $1";

const BUMP: &str = "update endpoints set updated_at = $2, version = version + 1 where id = $1";

/// Makes `sealed` the current secret; those before it sign until `overlap_ends`.
/// The change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when [`SECRETS_MAX`] sign already,
/// for none may stop before it was said to; [`Error::Unavailable`] when the database does not answer.
pub async fn rotate_secret(
    postgres: &Postgres,
    project: &ProjectId,
    id: &EndpointId,
    sealed: &[u8],
    now: Timestamp,
    overlap_ends: Timestamp,
) -> Result<Change> {
    let mut client = postgres.get().await?;
    let tx = client.transaction().await.map_err(classify)?;
    let row = tx
        .query_opt(LOCK, &[&id.as_str(), &project.as_str()])
        .await
        .map_err(classify)?;
    row.ok_or_else(|| Error::not_found("endpoint", id))?;
    tx.execute(FORGET_SECRETS, &[&id.as_str(), &now])
        .await
        .map_err(classify)?;
    let signing = tx.query_one(COUNT_SECRETS, &[&id.as_str()]).await;
    if signing.map_err(classify)?.get::<_, i64>(0) >= SECRETS_MAX {
        let detail = format!(
            "the endpoint has {SECRETS_MAX} secrets that sign; a rotated one does for a day"
        );
        return Err(Error::Conflict(detail.into()));
    }
    tx.execute(EXPIRE_SECRETS, &[&id.as_str(), &overlap_ends])
        .await
        .map_err(classify)?;
    let secret: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[&id.as_str(), &sealed, &now];
    tx.execute(ADD_SECRET, secret).await.map_err(classify)?;
    tx.execute(BUMP, &[&id.as_str(), &now])
        .await
        .map_err(classify)?;
    commit(tx, id).await
}

const GONE: &str = "\
    update endpoints set state = 'gone', updated_at = greatest(updated_at, $3), \
        version = version + 1 \
    where id = $1 and state = 'enabled' and version = $2";

/// Notes that an endpoint answered 410, unless it has been changed since. None if
/// there was nothing to change: a later version is projected by itself.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn mark_gone(postgres: &Postgres, id: &EndpointId, gone: Gone) -> Result<Option<Change>> {
    let mut client = postgres.get().await?;
    let tx = client.transaction().await.map_err(classify)?;
    let marked = tx
        .execute(GONE, &[&id.as_str(), &gone.version, &gone.at])
        .await;
    if marked.map_err(classify)? == 0 {
        return Ok(None);
    }
    commit(tx, id).await.map(Some)
}

const GET_ANY: &str = "select * from endpoints where id = $1";

const SECRETS: &str = "\
    select sealed, expires_at from endpoint_secrets where endpoint_id = $1 order by number desc";

/// The endpoint called `id` in any state, with its secrets, for its projection.
pub(super) async fn get_sealed(postgres: &Postgres, id: &str) -> Result<Option<SealedEndpoint>> {
    let mut client = postgres.get().await?;
    let tx = client
        .build_transaction()
        .isolation_level(SNAPSHOT)
        .read_only(true);
    let tx = tx.start().await.map_err(classify)?;
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

/// The endpoint and its secrets of one moment.
const SNAPSHOT: tokio_postgres::IsolationLevel = tokio_postgres::IsolationLevel::RepeatableRead;

const CURRENT_SECRET: &str = "\
    select s.sealed from endpoint_secrets s join endpoints e on e.id = s.endpoint_id \
    where e.id = $1 and e.project_id = $2 and e.state <> 'deleted' \
    order by s.number desc limit 1";

/// The sealed current secret of an endpoint.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn current_secret(
    postgres: &Postgres,
    project: &ProjectId,
    id: &EndpointId,
) -> Result<Vec<u8>> {
    let client = postgres.get().await?;
    let row = client
        .query_opt(CURRENT_SECRET, &[&id.as_str(), &project.as_str()])
        .await;
    let row = row
        .map_err(classify)?
        .ok_or_else(|| Error::not_found("endpoint", id))?;
    Ok(row.get("sealed"))
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[
    CREATE,
    ADD_SECRET,
    GET,
    LIST,
    LOCK,
    UPDATE,
    DELETE,
    DELETE_SECRETS,
    EXPIRE_SECRETS,
    FORGET_SECRETS,
    COUNT_SECRETS,
    BUMP,
    GONE,
    GET_ANY,
    SECRETS,
    CURRENT_SECRET,
];
