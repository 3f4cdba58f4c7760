//! The outbox: control-plane changes on their way to the data plane.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::config_projection::ConfigProjection;
use super::postgres::{Postgres, classify};
use super::{api_keys, endpoints, event_types, meters};
use crate::error::{Error, Result};

/// Rows read at a time.
const PAGE: i64 = 100;
/// Changes in a row for which a store was out of reach before no more are tried:
/// it is no fault of theirs.
const OUTAGES_MAX: u32 = 3;

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// An endpoint or its secrets.
    Endpoint,
    /// An API key.
    ApiKey,
    /// An event type or its schema; the subject is `prj_…/<name>`.
    EventType,
    /// A meter.
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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A committed change that is not projected yet.
#[derive(Debug)]
#[must_use = "a change takes effect when it is projected"]
pub struct ConfigChange {
    id: i64,
    kind: ChangeKind,
    subject: String,
}

const ADD: &str = "insert into outbox (kind, subject_id) values ($1, $2) returning id";

/// Notes a change in the transaction that makes it.
pub(super) async fn add(
    tx: &Transaction<'_>,
    kind: ChangeKind,
    subject: &str,
) -> Result<ConfigChange> {
    let row = tx
        .query_one(ADD, &[&kind.as_str(), &subject])
        .await
        .map_err(classify)?;
    Ok(ConfigChange {
        id: row.get(0),
        kind,
        subject: subject.to_owned(),
    })
}

const ADD_ALL: &str = "\
    insert into outbox (kind, subject_id) \
    select 'endpoint', id from endpoints union all select 'api_key', id from api_keys \
    union all select 'event_type', project_id || '/' || name from event_types \
    union all select 'meter', id from meters";

/// Notes everything there is as changed, for an event store that has lost what
/// was projected, or some of it: what was deleted and revoked too, as it may be
/// back. How many changes that makes.
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
/// those after `after` only. What kinds a newer version adds are left to it.
async fn pending(
    postgres: &Postgres,
    age: Duration,
    after: Option<&ConfigChange>,
    limit: i64,
) -> Result<Vec<ConfigChange>> {
    let kinds = ChangeKind::ALL.map(ChangeKind::as_str);
    let after = after.map_or(0, |change| change.id);
    let values: &[&(dyn ToSql + Sync)] = &[&age.as_secs_f64(), &after, &limit, &kinds.as_slice()];
    let client = postgres.get().await?;
    let rows = client.query(PENDING, values).await.map_err(classify)?;
    let read = |row: &Row| {
        let kind = ChangeKind::named(row.get("kind"));
        Ok(ConfigChange {
            id: row.get("id"),
            kind: kind.ok_or_else(|| Error::internal(anyhow::anyhow!("unknown outbox kind")))?,
            subject: row.get("subject_id"),
        })
    };
    rows.iter().map(read).collect()
}

const DONE: &str = "delete from outbox where id = $1";

/// Projects a change: reads what is true now, writes it to the data plane unless
/// something newer is there, and takes it off the outbox. Doing it again changes
/// nothing.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer; the change then
/// stays in the outbox.
pub async fn project(
    postgres: &Postgres,
    plane: &ConfigProjection,
    change: &ConfigChange,
) -> Result<()> {
    match change.kind {
        ChangeKind::Endpoint => {
            if let Some(endpoint) = endpoints::get_sealed(postgres, &change.subject).await? {
                plane.put_endpoint(&endpoint).await?;
            }
        }
        ChangeKind::ApiKey => {
            if let Some(key) = api_keys::get(postgres, &change.subject).await? {
                plane.put_key(&key).await?;
            }
        }
        ChangeKind::EventType => {
            if let Some(event_type) = event_types::get_any(postgres, &change.subject).await? {
                plane.put_event_type(&event_type).await?;
            }
        }
        ChangeKind::Meter => {
            if let Some(meter) = meters::get_any(postgres, &change.subject).await? {
                plane.put_meter(&meter).await?;
            }
        }
    }
    let client = postgres.get().await?;
    client
        .execute(DONE, &[&change.id])
        .await
        .map_err(classify)?;
    Ok(())
}

/// Projects the changes that have waited for `age` or longer; how many those were.
/// One that cannot be projected is logged, stays in the outbox and holds up no
/// other. Takes a few calls for each.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer; the changes then stay
/// in the outbox.
pub async fn project_all(
    postgres: &Postgres,
    plane: &ConfigProjection,
    age: Duration,
) -> Result<usize> {
    let (mut projected, mut outages) = (0, 0);
    let mut last = None;
    loop {
        let page = pending(postgres, age, last.as_ref(), PAGE).await?;
        for change in &page {
            match project(postgres, plane, change).await {
                Ok(()) => (projected, outages) = (projected + 1, 0),
                Err(error) => {
                    outages += u32::from(error.is_outage());
                    if outages == OUTAGES_MAX {
                        return Err(error);
                    }
                    log_not_projected(change, &error);
                }
            }
        }
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        last = page.into_iter().next_back();
        if is_last {
            return Ok(projected);
        }
    }
}

fn log_not_projected(change: &ConfigChange, error: &Error) {
    let cause = error.causes();
    let subject = &change.subject;
    tracing::warn!(subject, %error, cause, "failed to project configuration change: left to the sweeper");
}

/// Projects a change that has just been committed. A failure is logged, not
/// returned: the change is made, and the sweeper projects it.
pub async fn project_best_effort(
    postgres: &Postgres,
    plane: &ConfigProjection,
    change: ConfigChange,
) {
    if let Err(error) = project(postgres, plane, &change).await {
        log_not_projected(&change, &error);
    }
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[ADD, ADD_ALL, PENDING, DONE];
