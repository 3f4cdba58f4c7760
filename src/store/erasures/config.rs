//! The deletion of what people configured: first it stops, as if somebody had deleted
//! it, and at the very end its rows go.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::erasure::{Erasure, ErasureState};
use crate::model::id::{EndpointId, MeterId};
use crate::store::change::{Audit, Change, Committed};
use crate::store::outbox::ChangeKind;
use crate::store::postgres::{Postgres, classify};

/// Endpoints of a page.
const ENDPOINTS_MAX: i64 = 100;

// Of a tenant, those there were when its erasure began: it may come back.
const ENDPOINTS: &str = "\
    select id, state from endpoints \
    where project_id = $1 and id > $2 and ($3::text is null or tenant = $3) \
        and ($4::timestamptz is null or created_at <= $4) \
    order by id limit $5 for update";

const DELETE_ENDPOINTS: &str = "\
    update endpoints set state = 'deleted', extras_sealed = null, updated_at = $2, \
        version = version + 1 \
    where id = any($1)";

const DELETE_SECRETS: &str = "delete from endpoint_secrets where endpoint_id = any($1)";

/// A page of endpoints that have stopped.
#[derive(Debug)]
pub struct StoppedEndpoints {
    /// All of the page, those included that were deleted before.
    pub ids: Vec<EndpointId>,
    /// How many this page deleted.
    pub deleted: usize,
    /// There may be more after the last.
    pub has_more: bool,
}

/// Deletes the next page of endpoints after `after`, with their secrets; the change
/// still has to be projected. Their rows stay as tombstones for now.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn stop_endpoints(
    postgres: &Postgres,
    by: &AuditContext,
    erasure: &Erasure,
    after: &str,
) -> Result<Committed<StoppedEndpoints>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let (project, tenant) = (erasure.project.as_str(), erasure.tenant());
    let values: &[&(dyn ToSql + Sync)] =
        &[&project, &after, &tenant, &erasure.until(), &ENDPOINTS_MAX];
    let rows = tx.query(ENDPOINTS, values).await?;
    let all: Vec<&str> = rows.iter().map(|row| row.get("id")).collect();
    let is_live = |row: &&tokio_postgres::Row| row.get::<_, &str>("state") != "deleted";
    let live = rows.iter().filter(is_live).count();
    // At first those too that were deleted before: an early version's tombstone has
    // their owner's URL.
    let is_first_round = erasure.state == ErasureState::Running;
    let changed = rows.iter().filter(|row| is_first_round || is_live(row));
    let changed: Vec<String> = changed.map(|row| row.get("id")).collect();
    tx.execute(DELETE_ENDPOINTS, &[&changed, &by.at]).await?;
    tx.execute(DELETE_SECRETS, &[&all]).await?;
    let ids = all.iter().map(|id| id.parse().map_err(Error::internal));
    let stopped = StoppedEndpoints {
        ids: ids.collect::<Result<_>>()?,
        deleted: live,
        has_more: all.len() >= usize::try_from(ENDPOINTS_MAX).unwrap_or(usize::MAX),
    };
    // Said once, by the entry of the erasure itself.
    tx.commit_many(Audit::Repeated, ChangeKind::Endpoint, &changed, stopped)
        .await
}

const STOP_EVENT_TYPES: &str = "\
    update event_types set deleted_at = $2, updated_at = $2, version = version + 1 \
    where project_id = $1 and deleted_at is null returning project_id || '/' || name as id";

const STOP_METERS: &str = "\
    update meters set deleted_at = $2, updated_at = $2, version = version + 1 \
    where project_id = $1 and deleted_at is null returning id";

/// Deletes a project's event types; the change still has to be projected.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn stop_event_types(postgres: &Postgres, by: &AuditContext) -> Result<Committed<()>> {
    stop_all(postgres, by, STOP_EVENT_TYPES, ChangeKind::EventType).await
}

/// Deletes a project's meters; the change still has to be projected.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn stop_meters(postgres: &Postgres, by: &AuditContext) -> Result<Committed<()>> {
    stop_all(postgres, by, STOP_METERS, ChangeKind::Meter).await
}

async fn stop_all(
    postgres: &Postgres,
    by: &AuditContext,
    statement: &str,
    kind: ChangeKind,
) -> Result<Committed<()>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let values: &[&(dyn ToSql + Sync)] = &[&by.project.as_str(), &by.at];
    let rows = tx.query(statement, values).await?;
    let subjects: Vec<String> = rows.iter().map(|row| row.get("id")).collect();
    tx.commit_many(Audit::Repeated, kind, &subjects, ()).await
}

const METERS: &str = "select id from meters where project_id = $1 order by id";

/// The ids of all meters a project has had. They are few.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn meters(postgres: &Postgres, erasure: &Erasure) -> Result<Vec<MeterId>> {
    let client = postgres.get().await?;
    let rows = client.query(METERS, &[&erasure.project.as_str()]).await;
    let id = |row: &tokio_postgres::Row| row.get::<_, &str>("id").parse().map_err(Error::internal);
    rows.map_err(classify)?.iter().map(id).collect()
}

const NEXT_ENDPOINT: &str = "\
    select id from endpoints where project_id = $1 and id > $2 order by id limit 1";

/// The project's next endpoint after `after`, in whatever state, if there is one.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn next_endpoint(
    postgres: &Postgres,
    erasure: &Erasure,
    after: &str,
) -> Result<Option<EndpointId>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&erasure.project.as_str(), &after];
    let row = client.query_opt(NEXT_ENDPOINT, values).await;
    let id = row.map_err(classify)?.map(|row| row.get::<_, String>("id"));
    id.map(|id| id.parse().map_err(Error::internal)).transpose()
}

const KEY_HASHES: &str = "\
    select hash from api_keys \
    where project_id = $1 and ($2::text is null or tenant = $2) \
        and ($3::timestamptz is null or created_at <= $3)";

/// The hashes of all keys that the project has had, or that the tenant had when its
/// erasure began.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn key_hashes(postgres: &Postgres, erasure: &Erasure) -> Result<Vec<[u8; 32]>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[
        &erasure.project.as_str(),
        &erasure.tenant(),
        &erasure.until(),
    ];
    let rows = client.query(KEY_HASHES, values).await;
    let hash = |row: &tokio_postgres::Row| row.get::<_, &[u8]>("hash").try_into();
    let hashes = rows.map_err(classify)?;
    let hashes = hashes.iter().map(|row| hash(row).map_err(Error::internal));
    hashes.collect()
}

// One that is not projected yet stays: what is not there cannot be projected.
const DELETE_TENANT_ENDPOINTS: &str = "\
    delete from endpoints e \
    where e.project_id = $1 and e.tenant = $2 and e.created_at <= $3 and e.state = 'deleted' \
        and not exists ( \
            select from outbox o where o.kind = 'endpoint' and o.subject_id = e.id)";

const TENANT_ENDPOINTS: &str = "\
    select count(*) from endpoints \
    where project_id = $1 and tenant = $2 and created_at <= $3";

/// Deletes the rows of the tenant's endpoints that there were when its erasure began.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer, and when one is left
/// because it is not projected yet.
pub async fn delete_endpoint_rows(postgres: &Postgres, erasure: &Erasure) -> Result<()> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let values: &[&(dyn ToSql + Sync)] = &[
        &erasure.project.as_str(),
        &erasure.tenant(),
        &erasure.created,
    ];
    tx.execute(DELETE_TENANT_ENDPOINTS, values).await?;
    let left = tx.query_one(TENANT_ENDPOINTS, values).await?.get(0);
    tx.commit_unprojected(Audit::Repeated).await?;
    match left {
        0_i64 => Ok(()),
        left => Err(not_projected(format!("{left} endpoints of a tenant"))),
    }
}

const UNPROJECTED_TENANT_KEYS: &str = "\
    select count(*) from outbox o join api_keys k on k.id = o.subject_id \
    where o.kind = 'api_key' and k.project_id = $1 and k.tenant = $2 and k.created_at <= $3";

const DELETE_TENANT_KEYS: &str = "\
    delete from api_keys where project_id = $1 and tenant = $2 and created_at <= $3";

/// Sees that the keys that the tenant had when its erasure began are projected: what is
/// projected later would bring an item back.
///
/// # Errors
/// [`Error::Unavailable`] when one is not, and when the database does not answer.
pub async fn ensure_tenant_keys_projected(postgres: &Postgres, erasure: &Erasure) -> Result<()> {
    let client = postgres.get().await?;
    let values = tenant_keys(erasure);
    let values: [&(dyn ToSql + Sync); 3] = [&values.0, &values.1, &values.2];
    let unprojected = client.query_one(UNPROJECTED_TENANT_KEYS, &values).await;
    match unprojected.map_err(classify)?.get(0) {
        0_i64 => Ok(()),
        left => Err(not_projected(format!("{left} keys of a tenant"))),
    }
}

fn tenant_keys(erasure: &Erasure) -> (&str, Option<&str>, Timestamp) {
    (erasure.project.as_str(), erasure.tenant(), erasure.created)
}

/// Deletes the rows of the keys that the tenant had when its erasure began, which are
/// projected.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn delete_tenant_keys(postgres: &Postgres, erasure: &Erasure) -> Result<()> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let values = tenant_keys(erasure);
    tx.execute(DELETE_TENANT_KEYS, &[&values.0, &values.1, &values.2])
        .await?;
    tx.commit_unprojected(Audit::Repeated).await
}

const UNPROJECTED: &str = "\
    select count(*) from outbox o \
    where (o.kind = 'endpoint' and o.subject_id in (select id from endpoints where project_id = $1)) \
        or (o.kind = 'api_key' and o.subject_id in (select id from api_keys where project_id = $1)) \
        or (o.kind = 'meter' and o.subject_id in (select id from meters where project_id = $1)) \
        or (o.kind = 'event_type' and o.subject_id like $1 || '/%')";

// In the order of what refers to what.
const DELETE_ROWS: [&str; 8] = [
    "delete from endpoint_secrets where endpoint_id in \
        (select id from endpoints where project_id = $1)",
    "delete from endpoints where project_id = $1",
    "update event_types set schema_version = null, validate = 'off' where project_id = $1",
    "delete from event_type_schemas where project_id = $1",
    "delete from event_types where project_id = $1",
    "delete from meters where project_id = $1",
    "delete from api_keys where project_id = $1",
    "delete from projects where id = $1",
];

/// Sees that every change of the project is projected: what is projected later would
/// bring an item back.
///
/// # Errors
/// [`Error::Unavailable`] when one is not, and when the database does not answer.
pub async fn ensure_projected(postgres: &Postgres, erasure: &Erasure) -> Result<()> {
    let client = postgres.get().await?;
    let project = erasure.project.as_str();
    let unprojected = client.query_one(UNPROJECTED, &[&project]).await;
    if unprojected.map_err(classify)?.get::<_, i64>(0) == 0 {
        return Ok(());
    }
    Err(not_projected(format!("changes of {project}")))
}

fn not_projected(what: String) -> Error {
    Error::Unavailable {
        what: "the event store",
        source: anyhow::anyhow!("{what} are not projected yet"),
    }
}

/// Deletes all rows of a project, and its own.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn delete_project_rows(postgres: &Postgres, erasure: &Erasure) -> Result<()> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let project = erasure.project.as_str();
    for statement in DELETE_ROWS {
        tx.execute(statement, &[&project]).await?;
    }
    tx.commit_unprojected(Audit::Repeated).await
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[
    ENDPOINTS,
    DELETE_ENDPOINTS,
    DELETE_SECRETS,
    STOP_EVENT_TYPES,
    STOP_METERS,
    METERS,
    NEXT_ENDPOINT,
    KEY_HASHES,
    DELETE_TENANT_ENDPOINTS,
    TENANT_ENDPOINTS,
    UNPROJECTED_TENANT_KEYS,
    DELETE_TENANT_KEYS,
    UNPROJECTED,
    DELETE_ROWS[0],
    DELETE_ROWS[1],
    DELETE_ROWS[2],
    DELETE_ROWS[3],
    DELETE_ROWS[4],
    DELETE_ROWS[5],
    DELETE_ROWS[6],
    DELETE_ROWS[7],
];
