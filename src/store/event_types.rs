//! Event types and all schemas they have had, in PostgreSQL.

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
use crate::model::event_type::ValidationMode;
use crate::model::id::ProjectId;
use crate::model::metadata::Metadata;

/// Schemas that one type may have had: all stay stored.
const VERSIONS_MAX: i64 = 1_000;

/// An event type as people registered it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct EventType {
    pub project: ProjectId,
    pub name: String,
    /// What people decide about it.
    pub spec: Spec,
    /// Number of the schema in force; none without a schema.
    pub schema_version: Option<i64>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it was deleted; then only its projection reads it.
    pub deleted_at: Option<Timestamp>,
    /// Rises with each change: the projection keeps the highest.
    pub version: i64,
}

/// What people decide about an event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// A note for people; empty if none was given.
    pub description: String,
    /// The schema in force, checked.
    pub schema: Option<String>,
    /// What becomes of events that do not satisfy it.
    pub validate: ValidationMode,
    /// What people note on it for programs of their own.
    pub metadata: Metadata,
}

/// How much a project may have.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Event types that are not deleted.
    pub types_max: usize,
    /// Bytes of all schemas in force.
    pub schema_bytes_max: usize,
}

/// One of the schemas of a type.
#[derive(Debug)]
pub struct SchemaVersion {
    /// Its number, counting up from 1.
    pub version: i64,
    /// The JSON Schema, as it was given.
    pub schema: String,
    /// Since when it was in force.
    pub created_at: Timestamp,
}

impl EventType {
    fn read(row: &Row) -> Result<Self> {
        let project = row.get::<_, &str>("project_id").parse();
        let validate = row.get::<_, &str>("validate").parse();
        Ok(Self {
            project: project.map_err(Error::internal)?,
            name: row.get("name"),
            spec: Spec {
                description: row.get("description"),
                schema: row.get("schema"),
                validate: validate.map_err(Error::internal)?,
                metadata: serde_json::from_value(row.get("metadata")).map_err(Error::internal)?,
            },
            schema_version: row.get("schema_version"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
            deleted_at: row.get("deleted_at"),
            version: row.get("version"),
        })
    }

    /// The event type in the audit log: of the schema its number, under which it is
    /// kept.
    fn audit_value(&self) -> Value {
        json!({
            "description": self.spec.description,
            "metadata": self.spec.metadata,
            "validate": self.spec.validate,
            "schema_version": self.schema_version,
        })
    }
}

const LOCK_PROJECT: &str = "select id from projects where id = $1 and erased_at is null for update";

/// Lets no one else change the types of the project until the end of `tx`.
async fn lock_project(tx: &Change<'_>, project: &ProjectId) -> Result<()> {
    // Two at once could exceed its quota together.
    tx.query_opt(LOCK_PROJECT, &[&project.as_str()])
        .await?
        .map(drop)
        .ok_or_else(|| Error::not_found("project", project))
}

const USED: &str = "\
    select count(*) as types, coalesce(sum(octet_length(s.schema)), 0)::bigint as bytes \
    from event_types t left join event_type_schemas s \
        on s.project_id = t.project_id and s.name = t.name and s.version = t.schema_version \
    where t.project_id = $1 and t.name <> $2 and t.deleted_at is null";

/// Checks that the project may have `event_type` besides its others.
async fn check_quota(tx: &Change<'_>, event_type: &EventType, quota: Quota) -> Result<()> {
    let (project, name) = (event_type.project.as_str(), &event_type.name);
    let row = tx.query_one(USED, &[&project, name]).await?;
    let count = |name: &str| usize::try_from(row.get::<_, i64>(name)).unwrap_or(usize::MAX);
    if count("types") >= quota.types_max {
        let detail = format!("the project has {} event types, its limit", quota.types_max);
        return Err(Error::Conflict(detail.into()));
    }
    let own = event_type.spec.schema.as_ref().map_or(0, String::len);
    if own > 0 && count("bytes").saturating_add(own) > quota.schema_bytes_max {
        let detail = format!(
            "schema: the project's schemas have {} bytes, of {} that they may have; this one {own}",
            count("bytes"),
            quota.schema_bytes_max
        );
        return Err(Error::Conflict(detail.into()));
    }
    Ok(())
}

const NEXT_VERSION: &str = "\
    select coalesce(max(version), 0) + 1 from event_type_schemas \
    where project_id = $1 and name = $2";

const ADD_SCHEMA: &str = "\
    insert into event_type_schemas (project_id, name, version, schema, created_at) \
    values ($1, $2, $3, $4, $5)";

/// The number of the next schema of a type.
async fn next_version(tx: &Change<'_>, by: &AuditContext, name: &str) -> Result<i64> {
    let row = tx
        .query_one(NEXT_VERSION, &[&by.project.as_str(), &name])
        .await?;
    match row.get(0) {
        version @ ..=VERSIONS_MAX => Ok(version),
        _ => Err(Error::Conflict(
            format!("schema: the event type has had {VERSIONS_MAX} of them, its limit").into(),
        )),
    }
}

/// Stores the schema in force under its number.
async fn add_schema(tx: &Change<'_>, by: &AuditContext, event_type: &EventType) -> Result<()> {
    let values: &[&(dyn ToSql + Sync)] = &[
        &by.project.as_str(),
        &event_type.name,
        &event_type.schema_version,
        &event_type.spec.schema,
        &by.at,
    ];
    tx.execute(ADD_SCHEMA, values).await?;
    Ok(())
}

// What was deleted comes back with a higher version than its tombstone's.
const CREATE: &str = "\
    insert into event_types \
        (project_id, name, description, validate, schema_version, created_at, updated_at, \
        metadata) \
    values ($1, $2, $3, $4, $5, $6, $8, $7) \
    on conflict (project_id, name) do update set \
        description = excluded.description, validate = excluded.validate, \
        schema_version = excluded.schema_version, created_at = excluded.created_at, \
        metadata = excluded.metadata, \
        updated_at = excluded.updated_at, deleted_at = null, version = event_types.version + 1 \
    where event_types.deleted_at is not null \
    returning version";

/// Registers an event type, which is known by `created_at` afterwards; the change still
/// has to be projected.
///
/// # Errors
/// [`Error::Conflict`] when there is one of that name or `quota` is reached;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn create(
    postgres: &Postgres,
    by: &AuditContext,
    name: String,
    spec: Spec,
    created_at: Timestamp,
    quota: Quota,
) -> Result<Committed<EventType>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    lock_project(&tx, &by.project).await?;
    let mut event_type = EventType {
        project: by.project.clone(),
        name,
        spec,
        schema_version: None,
        created_at,
        updated_at: by.at,
        deleted_at: None,
        version: 1,
    };
    check_quota(&tx, &event_type, quota).await?;
    if event_type.spec.schema.is_some() {
        event_type.schema_version = Some(next_version(&tx, by, &event_type.name).await?);
    }
    let values: &[&(dyn ToSql + Sync)] = &[
        &by.project.as_str(),
        &event_type.name,
        &event_type.spec.description,
        &event_type.spec.validate.as_str(),
        &event_type.schema_version,
        &event_type.created_at,
        &serde_json::to_value(&event_type.spec.metadata).map_err(Error::internal)?,
        &event_type.updated_at,
    ];
    let created = tx.query_opt(CREATE, values).await?;
    let taken = || Error::Conflict("name: an event type of that name exists already".into());
    event_type.version = created.ok_or_else(taken)?.get("version");
    if event_type.spec.schema.is_some() {
        add_schema(&tx, by, &event_type).await?;
    }
    let name = event_type.name.clone();
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "event_type.create",
        subject: &name,
        before: None,
        after: Some(event_type.audit_value()),
    });
    let subject = Subject::EventType(&by.project, &name);
    tx.commit(audit, subject, event_type).await
}

const GET: &str = "\
    select t.*, s.schema from event_types t left join event_type_schemas s \
        on s.project_id = t.project_id and s.name = t.name and s.version = t.schema_version \
    where t.project_id = $1 and t.name = $2 and t.deleted_at is null";

/// The event type `name` of `project`.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, project: &ProjectId, name: &str) -> Result<EventType> {
    let client = postgres.get().await?;
    let row = client.query_opt(GET, &[&project.as_str(), &name]).await;
    let row = row.map_err(classify)?;
    EventType::read(&row.ok_or_else(not_found)?)
}

fn not_found() -> Error {
    // Without its name, which may be anything.
    Error::NotFound("event type".to_owned())
}

const LIST: &str = "\
    select t.*, s.schema from event_types t left join event_type_schemas s \
        on s.project_id = t.project_id and s.name = t.name and s.version = t.schema_version \
    where t.project_id = $1 and t.name collate \"C\" > $2 and t.deleted_at is null \
    order by t.name collate \"C\" limit $3";

/// Up to `limit` event types of a project by name, those after `after` only.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<EventType>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST, &[&project.as_str(), &after, &limit])
        .await;
    rows.map_err(classify)?
        .iter()
        .map(EventType::read)
        .collect()
}

const UPDATE: &str = "\
    update event_types set description = $3, validate = $4, schema_version = $5, \
        updated_at = $6, deleted_at = $7, metadata = $8, version = version + 1 \
    where project_id = $1 and name = $2";

/// Changes an event type as `apply` says, one writer at a time; another schema
/// than the one in force gets the next number. The change still has to be
/// projected.
///
/// # Errors
/// [`Error::NotFound`]; whatever `apply` refuses with; [`Error::Conflict`] when
/// `quota` is reached; [`Error::Unavailable`] when the database does not answer.
pub async fn update(
    postgres: &Postgres,
    by: &AuditContext,
    name: &str,
    quota: Quota,
    apply: impl FnOnce(&mut Spec) -> Result<()>,
) -> Result<Committed<EventType>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    lock_project(&tx, &by.project).await?;
    let before = lock(&tx, by, name).await?;
    let mut event_type = before.clone();
    apply(&mut event_type.spec)?;
    event_type.updated_at = by.at;
    event_type.version += 1;
    if event_type.spec.schema != before.spec.schema {
        event_type.schema_version = match event_type.spec.schema {
            None => None,
            Some(_) => Some(next_version(&tx, by, name).await?),
        };
        if event_type.spec.schema.is_some() {
            check_quota(&tx, &event_type, quota).await?;
            add_schema(&tx, by, &event_type).await?;
        }
    }
    write(&tx, &event_type).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "event_type.update",
        subject: name,
        before: Some(before.audit_value()),
        after: Some(event_type.audit_value()),
    });
    let subject = Subject::EventType(&by.project, name);
    tx.commit(audit, subject, event_type).await
}

/// The event type; its project is locked already.
async fn lock(tx: &Change<'_>, by: &AuditContext, name: &str) -> Result<EventType> {
    let row = tx.query_opt(GET, &[&by.project.as_str(), &name]).await?;
    EventType::read(&row.ok_or_else(not_found)?)
}

async fn write(tx: &Change<'_>, event_type: &EventType) -> Result<()> {
    let values: &[&(dyn ToSql + Sync)] = &[
        &event_type.project.as_str(),
        &event_type.name,
        &event_type.spec.description,
        &event_type.spec.validate.as_str(),
        &event_type.schema_version,
        &event_type.updated_at,
        &event_type.deleted_at,
        &serde_json::to_value(&event_type.spec.metadata).map_err(Error::internal)?,
    ];
    tx.execute(UPDATE, values).await?;
    Ok(())
}

/// Deletes an event type: its events are validated no more. Its schemas stay under
/// their numbers. The change still has to be projected.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn delete(postgres: &Postgres, by: &AuditContext, name: &str) -> Result<Committed<()>> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    lock_project(&tx, &by.project).await?;
    let mut event_type = lock(&tx, by, name).await?;
    let before = event_type.audit_value();
    event_type.updated_at = by.at;
    // The row stays as a tombstone, so that a late projection cannot bring it back.
    event_type.deleted_at = Some(by.at);
    write(&tx, &event_type).await?;
    let audit = Audit::Entry(NewAuditEntry {
        by,
        action: "event_type.delete",
        subject: name,
        before: Some(before),
        after: None,
    });
    let subject = Subject::EventType(&by.project, name);
    tx.commit(audit, subject, ()).await
}

const VERSIONS: &str = "\
    select s.version, s.schema, s.created_at from event_type_schemas s join event_types t \
        on t.project_id = s.project_id and t.name = s.name \
    where s.project_id = $1 and s.name = $2 and t.deleted_at is null and s.version < $3 \
    order by s.version desc limit $4";

/// Up to `limit` schemas of a type, the newest first, those numbered below
/// `before` only.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn versions(
    postgres: &Postgres,
    project: &ProjectId,
    name: &str,
    before: i64,
    limit: i64,
) -> Result<Vec<SchemaVersion>> {
    let client = postgres.get().await?;
    let values: &[&(dyn ToSql + Sync)] = &[&project.as_str(), &name, &before, &limit];
    let rows = client.query(VERSIONS, values).await.map_err(classify)?;
    let read = |row: &Row| SchemaVersion {
        version: row.get("version"),
        schema: row.get("schema"),
        created_at: row.get("created_at"),
    };
    Ok(rows.iter().map(read).collect())
}

const GET_ANY: &str = "\
    select t.*, s.schema from event_types t left join event_type_schemas s \
        on s.project_id = t.project_id and s.name = t.name and s.version = t.schema_version \
    where t.project_id = $1 and t.name = $2";

/// The event type `name` of `project`, deleted or not, for its projection.
pub(super) async fn get_any(
    postgres: &Postgres,
    project: &str,
    name: &str,
) -> Result<Option<EventType>> {
    let client = postgres.get().await?;
    let row = client.query_opt(GET_ANY, &[&project, &name]).await;
    row.map_err(classify)?
        .as_ref()
        .map(EventType::read)
        .transpose()
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[
    LOCK_PROJECT,
    USED,
    NEXT_VERSION,
    ADD_SCHEMA,
    CREATE,
    GET,
    LIST,
    UPDATE,
    VERSIONS,
    GET_ANY,
];
