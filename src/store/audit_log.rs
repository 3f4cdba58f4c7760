//! The audit log in PostgreSQL: who changed what of the configuration.
//!
//! An entry is written in the transaction of the change, by
//! [`change`](super::change), so that there is neither a change without one nor one
//! without a change. It is never changed after.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::postgres::{Postgres, classify};
use crate::error::Result;
use crate::model::audit::{self, AuditContext};
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
pub(super) struct NewAuditEntry<'a> {
    pub(super) by: &'a AuditContext,
    pub(super) action: &'static str,
    pub(super) subject: &'a str,
    /// None of a new thing.
    pub(super) before: Option<Value>,
    /// None of a thing that was deleted.
    pub(super) after: Option<Value>,
}

/// Writes an entry in the transaction of its change. Cost: one insert.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does
/// not answer.
pub(super) async fn add(tx: &Transaction<'_>, entry: NewAuditEntry<'_>) -> Result<()> {
    let NewAuditEntry {
        by,
        action,
        subject,
        before,
        after,
    } = entry;
    // What did not change is left out, and secrets are masked.
    let audit::RedactedDiff { before, after } = audit::redacted_diff(before, after);
    let (before, after) = (before.map(without_nul), after.map(without_nul));
    let actor = by.actor.to_string();
    let values: &[&(dyn ToSql + Sync)] = &[
        &by.project.as_str(),
        &by.at,
        &actor,
        &action,
        &subject,
        &before,
        &after,
    ];
    tx.execute(ADD, values).await.map_err(classify)?;
    Ok(())
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

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[ADD, LIST, LIST_OF_SUBJECT];
