//! Projects in PostgreSQL.

use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::audit_log::NewAuditEntry;
use super::change::{Audit, Change};
use super::postgres::{Postgres, classify};
use crate::error::{Error, Result};
use crate::model::audit::{Actor, AuditContext};
use crate::model::id::ProjectId;

/// A project: what its keys, endpoints, event types and meters belong to.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    pub created_at: Timestamp,
}

impl Project {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            id: row
                .get::<_, String>("id")
                .parse()
                .map_err(Error::internal)?,
            name: row.get("name"),
            created_at: row.get("created_at"),
        })
    }
}

const CREATE: &str = "insert into projects (id, name, created_at) values ($1, $2, $3)";

/// Creates a project on behalf of `actor`.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken; [`Error::Unavailable`] when the
/// database does not answer.
pub async fn create(postgres: &Postgres, actor: Actor, project: &Project) -> Result<()> {
    let mut client = Change::connect(postgres).await?;
    let tx = Change::begin(&mut client).await?;
    let values: &[&(dyn ToSql + Sync)] =
        &[&project.id.as_str(), &project.name, &project.created_at];
    tx.execute(CREATE, values).await?;
    let by = AuditContext {
        project: project.id.clone(),
        actor,
        at: project.created_at,
    };
    let entry = NewAuditEntry {
        by: &by,
        action: "project.create",
        subject: project.id.as_str(),
        before: None,
        after: Some(json!({ "name": project.name })),
    };
    tx.commit_unprojected(Audit::Entry(entry)).await
}

const LIST: &str = "\
    select id, name, created_at from projects \
    where id > $1 and erased_at is null order by id limit $2";

/// Up to `limit` projects that are not being erased, in the order of their ids, which is that of their
/// creation, those after `after` only.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn list(postgres: &Postgres, after: &str, limit: i64) -> Result<Vec<Project>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST, &[&after, &limit])
        .await
        .map_err(classify)?;
    rows.iter().map(Project::read).collect()
}

const GET: &str = "select id, name, created_at from projects where id = $1 and erased_at is null";

/// The project `id`, unless it is being erased.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when the database does not answer.
pub async fn get(postgres: &Postgres, id: &ProjectId) -> Result<Project> {
    let client = postgres.get().await?;
    let row = client
        .query_opt(GET, &[&id.as_str()])
        .await
        .map_err(classify)?;
    Project::read(&row.ok_or_else(|| Error::not_found("project", id))?)
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[CREATE, LIST, GET];
