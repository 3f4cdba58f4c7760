//! Meters in PostgreSQL.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::NewAuditEntry;
use super::change::{Audit, Change, Committed};
use super::outbox::Subject;
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::id::{MeterId, ProjectId};
use crate::model::metadata::Metadata;
use crate::model::meter::MeterSpec;

/// Meters of a project: each event is matched with all of them.
pub const METERS_MAX: i64 = 100;

/// A meter as people configured it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct StoredMeter {
    pub id: MeterId,
    pub project: ProjectId,
    /// What it is called, unique in its project.
    pub name: String,
    pub description: String,
    pub metadata: Metadata,
    /// What it counts, as people wrote it.
    pub spec: MeterSpec,
    /// Whether it is published as a CloudWatch metric.
    pub is_published: bool,
    /// Events it matched and could not read a value of.
    pub skipped: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    /// Rises with each change: the projection keeps the highest.
    pub version: i64,
}

impl StoredMeter {
    /// The meter in the audit log.
    fn audit_value(&self) -> Value {
        let MeterSpec {
            event_type,
            aggregation,
            value,
            group_by,
            filters,
        } = &self.spec;
        json!({
            "name": self.name,
            "description": self.description,
            "metadata": self.metadata,
            "event_type": event_type,
            "aggregation": aggregation,
            "value": value,
            "group_by": group_by,
            "filters": filters,
            "metric": self.is_published,
        })
    }

    fn read(row: &Row) -> Result<Self> {
        let id: String = row.get("id");
        let project: String = row.get("project_id");
        let filters: &str = row.get("filters");
        let aggregation: &str = row.get("aggregation");
        Ok(Self {
            id: id.parse().map_err(Error::internal)?,
            project: project.parse().map_err(Error::internal)?,
            name: row.get("name"),
            description: row.get("description"),
            metadata: serde_json::from_value(row.get("metadata")).map_err(Error::internal)?,
            spec: MeterSpec {
                event_type: row.get("event_type"),
                aggregation: aggregation.parse().map_err(Error::internal)?,
                value: row.get("value"),
                group_by: row.get("group_by"),
                filters: serde_json::from_str(filters).map_err(Error::internal)?,
            },
            is_published: row.get("metric"),
            skipped: row.get("skipped"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            deleted_at: row.get("deleted_at"),
            version: row.get("version"),
        })
    }
}

const LOCK_PROJECT: &str =
    "select id from projects where id = $1 and erased_at is null for no key update";

const COUNT: &str = "select count(*) from meters where project_id = $1 and deleted_at is null";

const CREATE: &str = "\
    insert into meters \
        (id, project_id, name, description, event_type, aggregation, value, group_by, filters, \
        metric, created_at, updated_at, metadata) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12)";

/// Creates a meter; the change still has to be projected.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken, or the project has
/// [`METERS_MAX`] meters; [`Error::NotFound`] when there is no such project;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn create(
    postgres: &Postgres,
    by: &AuditContext,
    meter: StoredMeter,
) -> Result<Committed<StoredMeter>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let project = &by.project.as_str();
    // One at a time, or two would both be the last that is allowed.
    tx.query_opt(LOCK_PROJECT, &[project])
        .await?
        .ok_or_else(|| Error::not_found("project", project))?;
    let existing = tx.query_one(COUNT, &[project]).await?;
    if existing.get::<_, i64>(0) >= METERS_MAX {
        let detail = format!("a project has at most {METERS_MAX} meters: delete one first");
        return Err(Error::Conflict(detail.into()));
    }
    let spec = &meter.spec;
    let filters = serde_json::to_string(&spec.filters).map_err(Error::internal)?;
    let values: &[&(dyn ToSql + Sync)] = &[
        &meter.id.as_str(),
        project,
        &meter.name,
        &meter.description,
        &spec.event_type,
        &spec.aggregation.as_str(),
        &spec.value,
        &spec.group_by,
        &filters,
        &meter.is_published,
        &meter.created_at,
        &serde_json::to_value(&meter.metadata).map_err(Error::internal)?,
    ];
    tx.execute(CREATE, values).await?;
    let id = meter.id.clone();
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "meter.create",
        subject: id.as_str(),
        before: None,
        after: Some(meter.audit_value()),
    });
    tx.commit(audit, Subject::Meter(&id), meter).await
}

const GET: &str = "select * from meters where id = $1 and project_id = $2 and deleted_at is null";

/// The meter `id` of `project`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, project: &ProjectId, id: &MeterId) -> Result<StoredMeter> {
    let client = postgres.get().await?;
    let row = client
        .query_opt(GET, &[&id.as_str(), &project.as_str()])
        .await
        .map_err(classify)?;
    StoredMeter::read(&row.ok_or_else(|| Error::not_found("meter", id))?)
}

const LIST: &str = "\
    select * from meters \
    where project_id = $1 and id > $2 and deleted_at is null order by id limit $3";

/// Up to `limit` meters of a project in the order of their creation, those after
/// `after` only.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<StoredMeter>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST, &[&project.as_str(), &after, &limit])
        .await;
    rows.map_err(classify)?
        .iter()
        .map(StoredMeter::read)
        .collect()
}

const LOCK: &str = "\
    select * from meters \
    where id = $1 and project_id = $2 and deleted_at is null for no key update";

const UPDATE: &str = "\
    update meters set name = $2, description = $3, metric = $4, updated_at = $5, \
        metadata = $6, version = version + 1 \
    where id = $1";

/// Changes the name, description, metadata or metric of a meter as `apply` says, one
/// writer at a time; the change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when the name is taken; whatever
/// `apply` refuses with; [`Error::Unavailable`] when the database does not
/// answer.
pub async fn update(
    postgres: &Postgres,
    by: &AuditContext,
    id: &MeterId,
    apply: impl FnOnce(&mut StoredMeter) -> Result<()>,
) -> Result<Committed<StoredMeter>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let mut meter = lock(&tx, by, id).await?;
    let before = meter.audit_value();
    apply(&mut meter)?;
    meter.updated_at = by.at;
    meter.version += 1;
    let values: &[&(dyn ToSql + Sync)] = &[
        &id.as_str(),
        &meter.name,
        &meter.description,
        &meter.is_published,
        &by.at,
        &serde_json::to_value(&meter.metadata).map_err(Error::internal)?,
    ];
    tx.execute(UPDATE, values).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "meter.update",
        subject: id.as_str(),
        before: Some(before),
        after: Some(meter.audit_value()),
    });
    tx.commit(audit, Subject::Meter(id), meter).await
}

/// The meter `id`, to be changed by this transaction alone.
async fn lock(tx: &Change<'_>, by: &AuditContext, id: &MeterId) -> Result<StoredMeter> {
    let row = tx
        .query_opt(LOCK, &[&id.as_str(), &by.project.as_str()])
        .await?;
    StoredMeter::read(&row.ok_or_else(|| Error::not_found("meter", id))?)
}

const DELETE: &str = "\
    update meters set deleted_at = $2, updated_at = $2, version = version + 1 where id = $1";

/// Deletes a meter: nothing more is counted from here on, and its usage can no
/// longer be read. The change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn delete(postgres: &Postgres, by: &AuditContext, id: &MeterId) -> Result<Committed<()>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let before = lock(&tx, by, id).await?.audit_value();
    // The row stays as a tombstone, so that a late projection cannot bring it back.
    tx.execute(DELETE, &[&id.as_str(), &by.at]).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "meter.delete",
        subject: id.as_str(),
        before: Some(before),
        after: None,
    });
    tx.commit(audit, Subject::Meter(id), ()).await
}

const GET_ANY: &str = "select * from meters where id = $1";

/// The meter called `id`, deleted or not, for its projection and its back-fill.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn get_any(postgres: &Postgres, id: &str) -> Result<Option<StoredMeter>> {
    let client = postgres.get().await?;
    let row = client.query_opt(GET_ANY, &[&id]).await.map_err(classify)?;
    row.as_ref().map(StoredMeter::read).transpose()
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[
    LOCK_PROJECT,
    COUNT,
    CREATE,
    GET,
    LIST,
    LOCK,
    UPDATE,
    DELETE,
    GET_ANY,
];
