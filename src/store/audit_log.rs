//! The audit log in PostgreSQL: who changed what of the configuration, read a secret,
//! had something sent again, signed in, or was refused as the admin.
//!
//! The entry of a change is written in its transaction, by [`change`](super::change),
//! so that there is neither a change without one nor one without a change. It is never
//! changed after: the database refuses that.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::postgres::{Postgres, SessionTransaction, classify};
use crate::error::Result;
use crate::model::audit::{self, Actor, AuditContext};
use crate::model::id::ProjectId;

/// An entry: one change.
#[derive(Debug)]
#[expect(missing_docs, reason = "columns of the table")]
pub struct AuditEntry {
    /// Counts up with every entry of any project.
    pub id: i64,
    pub at: Timestamp,
    /// Who made it: `admin`, `key_…` or `millrace`.
    pub actor: String,
    /// The noun and what was done to it: `endpoint.update`.
    pub action: String,
    /// What it was done to: an id, or an event type's name.
    pub subject: String,
    /// What differed before; none of a new thing.
    pub before: Option<Value>,
    /// What differs since; none of a thing that was deleted.
    pub after: Option<Value>,
}

impl AuditEntry {
    fn read(row: &Row) -> Self {
        Self {
            id: row.get("id"),
            at: row.get("at"),
            actor: row.get("actor"),
            action: row.get("action"),
            subject: row.get("subject"),
            before: row.get("before"),
            after: row.get("after"),
        }
    }
}

const ADD: &str = "\
    insert into audit_log (project_id, at, actor, action, subject, before, after) \
    values ($1, $2, $3, $4, $5, $6, $7)";

/// An entry to be written: that `by` did `action` to `subject`, which was `before`
/// and is `after`. Both may be whole.
#[expect(missing_docs, reason = "columns of the table")]
pub struct NewAuditEntry<'a> {
    pub by: &'a AuditContext,
    pub action: &'static str,
    pub subject: &'a str,
    /// None of a new thing.
    pub before: Option<Value>,
    /// None of a thing that was deleted.
    pub after: Option<Value>,
}

/// Writes an entry in the transaction of its change. Cost: one insert.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub(super) async fn add(tx: &SessionTransaction<'_>, entry: NewAuditEntry<'_>) -> Result<()> {
    let row = NewRow::of(entry);
    tx.execute(ADD, &row.values()).await.map_err(classify)?;
    Ok(())
}

/// An entry as the log has it.
struct NewRow<'a> {
    by: &'a AuditContext,
    project: &'a str,
    actor: String,
    action: &'static str,
    subject: &'a str,
    before: Option<Value>,
    after: Option<Value>,
}

impl<'a> NewRow<'a> {
    fn of(entry: NewAuditEntry<'a>) -> Self {
        // What did not change is left out, and secrets are masked.
        let diff = audit::redacted_diff(entry.before, entry.after);
        Self {
            by: entry.by,
            project: entry.by.project.as_str(),
            actor: entry.by.actor.to_string(),
            action: entry.action,
            subject: entry.subject,
            before: diff.before.map(without_nul),
            after: diff.after.map(without_nul),
        }
    }

    /// Of [`ADD`].
    fn values(&self) -> [&(dyn ToSql + Sync); 7] {
        [
            &self.project,
            &self.by.at,
            &self.actor,
            &self.action,
            &self.subject,
            &self.before,
            &self.after,
        ]
    }
}

/// `value` as `jsonb` can hold it, which knows no NUL: its symbol stands for it.
fn without_nul(value: Value) -> Value {
    const SYMBOL_FOR_NUL: &str = "\u{2400}";
    let replaced = |text: String| {
        if text.contains('\0') {
            text.replace('\0', SYMBOL_FOR_NUL)
        } else {
            text
        }
    };
    match value {
        Value::String(text) => Value::String(replaced(text)),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let members = members.map(|(name, value)| (replaced(name), without_nul(value)));
            Value::Object(members.collect())
        }
        other => other,
    }
}

/// Writes an entry of what is no change of the configuration. Cost: one insert.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub async fn record(postgres: &Postgres, entry: NewAuditEntry<'_>) -> Result<()> {
    let client = postgres.get().await?;
    let row = NewRow::of(entry);
    client.execute(ADD, &row.values()).await.map_err(classify)?;
    Ok(())
}

/// Writes that somebody signed in to the console or out of it: `actor`, to see `project`
/// or all of them. Cost: one insert.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub async fn record_session(
    postgres: &Postgres,
    project: Option<&ProjectId>,
    entry: SessionEntry<'_>,
) -> Result<()> {
    let client = postgres.get().await?;
    let (project, before) = (project.map(ProjectId::as_str), None::<Value>);
    let actor = entry.actor.to_string();
    let values: &[&(dyn ToSql + Sync)] = &[
        &project,
        &entry.at,
        &actor,
        &entry.action,
        &entry.session,
        &before,
        &entry.after,
    ];
    client.execute(ADD, values).await.map_err(classify)?;
    Ok(())
}

/// What became of a session.
#[expect(missing_docs, reason = "columns of the table")]
pub struct SessionEntry<'a> {
    pub actor: Actor,
    pub at: Timestamp,
    /// `session.create` or `session.end`.
    pub action: &'static str,
    /// What the session is called: nothing that lets anybody in.
    pub session: &'a str,
    pub after: Option<Value>,
}

/// Who was refused as the admin, and as what.
const NOBODY: &str = "unknown";
const REFUSED_LOGIN: &str = "admin.refuse";
const ADMIN_KEY: &str = "admin_key";

/// Writes that logins as the admin were refused, as `after` says. Cost: one insert.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub async fn record_refused_login(postgres: &Postgres, at: Timestamp, after: Value) -> Result<()> {
    let client = postgres.get().await?;
    let (project, before) = (None::<&str>, None::<Value>);
    let values: &[&(dyn ToSql + Sync)] = &[
        &project,
        &at,
        &NOBODY,
        &REFUSED_LOGIN,
        &ADMIN_KEY,
        &before,
        &after,
    ];
    client.execute(ADD, values).await.map_err(classify)?;
    Ok(())
}

const LIST: &str = "\
    select id, at, actor, action, subject, before, after from audit_log \
    where project_id = $1 and id < $2 order by id desc limit $3";

const LIST_OF_SUBJECT: &str = "\
    select id, at, actor, action, subject, before, after from audit_log \
    where project_id = $1 and id < $2 and subject = $4 order by id desc limit $3";

/// Up to `limit` changes of a project, the newest first: those older than the one
/// numbered `before`, and only those of `subject` if one is given.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub async fn list(
    postgres: &Postgres,
    project: &ProjectId,
    subject: Option<&str>,
    before: i64,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let client = postgres.get().await?;
    let project = project.as_str();
    let rows = match subject {
        None => client.query(LIST, &[&project, &before, &limit]).await,
        Some(subject) => {
            let values: &[&(dyn ToSql + Sync)] = &[&project, &before, &limit, &subject];
            client.query(LIST_OF_SUBJECT, values).await
        }
    };
    Ok(rows
        .map_err(classify)?
        .iter()
        .map(AuditEntry::read)
        .collect())
}

const LIST_OF_NO_PROJECT: &str = "\
    select id, at, actor, action, subject, before, after from audit_log \
    where project_id is null and id < $1 and ($3::text is null or subject = $3) \
    order by id desc limit $2";

/// Up to `limit` entries of no project, as [`list`] gives those of one.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub async fn list_of_no_project(
    postgres: &Postgres,
    subject: Option<&str>,
    before: i64,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let client = postgres.get().await?;
    let rows = client
        .query(LIST_OF_NO_PROJECT, &[&before, &limit, &subject])
        .await;
    Ok(rows
        .map_err(classify)?
        .iter()
        .map(AuditEntry::read)
        .collect())
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[ADD, LIST, LIST_OF_SUBJECT, LIST_OF_NO_PROJECT];
