//! The outbox: a row for each control-plane change that is on its way to the data
//! plane.
//!
//! Written by [`change`](super::change) in the transaction of the change, read and
//! deleted by [`projector`](super::projector).

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::postgres::{Postgres, SessionTransaction, classify};
use crate::error::{Error, Result};
use crate::model::id::{EndpointId, KeyId, MeterId, ProjectId};

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// An endpoint or its secrets.
    Endpoint,
    ApiKey,
    /// An event type or its schema.
    EventType,
    Meter,
}

impl ChangeKind {
    const ALL: [Self; 4] = [Self::Endpoint, Self::ApiKey, Self::EventType, Self::Meter];

    fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::ApiKey => "api_key",
            Self::EventType => "event_type",
            Self::Meter => "meter",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What a change is about.
pub(super) enum Subject<'a> {
    Endpoint(&'a EndpointId),
    ApiKey(&'a KeyId),
    EventType(&'a ProjectId, &'a str),
    Meter(&'a MeterId),
}

impl Subject<'_> {
    fn kind(&self) -> ChangeKind {
        match self {
            Self::Endpoint(_) => ChangeKind::Endpoint,
            Self::ApiKey(_) => ChangeKind::ApiKey,
            Self::EventType(..) => ChangeKind::EventType,
            Self::Meter(_) => ChangeKind::Meter,
        }
    }

    /// Its name in the row.
    fn id(&self) -> String {
        match self {
            Self::Endpoint(id) => id.to_string(),
            Self::ApiKey(id) => id.to_string(),
            Self::EventType(project, name) => format!("{project}/{name}"),
            Self::Meter(id) => id.to_string(),
        }
    }
}

/// The event type that a row of [`ChangeKind::EventType`] names.
pub(super) struct EventTypeSubject<'a> {
    pub(super) project: &'a str,
    pub(super) name: &'a str,
}

impl<'a> EventTypeSubject<'a> {
    /// Reads `prj_…/<name>`; anything else names no event type there is.
    pub(super) fn parse(subject: &'a str) -> Self {
        let (project, name) = subject.split_once('/').unwrap_or_default();
        Self { project, name }
    }
}

/// A row of the outbox: a committed change that is not projected yet.
#[derive(Debug)]
pub(super) struct ConfigChange {
    pub(super) id: i64,
    pub(super) kind: ChangeKind,
    pub(super) subject: String,
}

const ADD: &str = "insert into outbox (kind, subject_id) values ($1, $2) returning id";

/// Adds the row of a change in the transaction that makes it.
pub(super) async fn add(
    tx: &SessionTransaction<'_>,
    subject: &Subject<'_>,
) -> Result<ConfigChange> {
    let (kind, subject) = (subject.kind(), subject.id());
    let row = tx
        .query_one(ADD, &[&kind.as_str(), &subject])
        .await
        .map_err(classify)?;
    let id = row.get(0);
    Ok(ConfigChange { id, kind, subject })
}

const ADD_MANY: &str = "\
    insert into outbox (kind, subject_id) select $1, unnest($2::text[]) returning id, subject_id";

/// Adds a row for each of `subjects` in the transaction that changes them.
pub(super) async fn add_many(
    tx: &SessionTransaction<'_>,
    kind: ChangeKind,
    subjects: &[String],
) -> Result<Vec<ConfigChange>> {
    if subjects.is_empty() {
        return Ok(vec![]);
    }
    let rows = tx.query(ADD_MANY, &[&kind.as_str(), &subjects]).await;
    let read = |row: &Row| ConfigChange {
        id: row.get("id"),
        kind,
        subject: row.get("subject_id"),
    };
    Ok(rows.map_err(classify)?.iter().map(read).collect())
}

// What was deleted and revoked too: it may be back.
const ADD_ALL: &str = "\
    insert into outbox (kind, subject_id) \
    select 'endpoint', id from endpoints union all select 'api_key', id from api_keys \
    union all select 'event_type', project_id || '/' || name from event_types \
    union all select 'meter', id from meters";

/// Adds a row for everything there is, for an event store that has lost what was
/// projected, or some of it. How many rows those are.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn add_all(postgres: &Postgres) -> Result<u64> {
    let client = postgres.get().await?;
    client.execute(ADD_ALL, &[]).await.map_err(classify)
}

const PENDING: &str = "\
    select id, kind, subject_id from outbox \
    where created_at <= now() - make_interval(secs => $1) and id > $2 and kind = any($4) \
    order by id limit $3";

/// Up to `limit` changes that have waited for `age` or longer, the oldest first,
/// those after the row `after` only.
pub(super) async fn pending(
    postgres: &Postgres,
    age: Duration,
    after: i64,
    limit: i64,
) -> Result<Vec<ConfigChange>> {
    // Kinds that a newer version adds are left to it.
    let kinds = ChangeKind::ALL.map(ChangeKind::as_str);
    let values: &[&(dyn ToSql + Sync)] = &[&age.as_secs_f64(), &after, &limit, &kinds.as_slice()];
    let client = postgres.get().await?;
    let rows = client.query(PENDING, values).await.map_err(classify)?;
    let read = |row: &Row| {
        let kind = ChangeKind::from_name(row.get("kind"));
        Ok(ConfigChange {
            id: row.get("id"),
            kind: kind.ok_or_else(|| Error::internal(anyhow::anyhow!("unknown outbox kind")))?,
            subject: row.get("subject_id"),
        })
    };
    rows.iter().map(read).collect()
}

const DELETE: &str = "delete from outbox where id = $1";

/// Takes a change that is projected off the outbox.
pub(super) async fn delete(postgres: &Postgres, change: &ConfigChange) -> Result<()> {
    let client = postgres.get().await?;
    let deleted = client.execute(DELETE, &[&change.id]).await;
    deleted.map(drop).map_err(classify)
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[ADD, ADD_MANY, ADD_ALL, PENDING, DELETE];
