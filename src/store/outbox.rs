//! The outbox: control-plane changes on their way to the data plane.

use std::time::Duration;

use tokio_postgres::Transaction;

use super::data_plane::DataPlane;
use super::postgres::{Postgres, classify};
use super::{api_keys, endpoints, meters};
use crate::error::{Error, Result};

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An endpoint or its secrets.
    Endpoint,
    /// An API key.
    ApiKey,
    /// A meter.
    Meter,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::ApiKey => "api_key",
            Self::Meter => "meter",
        }
    }
}

/// A committed change that is not projected yet.
#[derive(Debug)]
#[must_use = "a change takes effect when it is projected"]
pub struct Change {
    id: i64,
    kind: Kind,
    subject: String,
}

const ADD: &str = "insert into outbox (kind, subject_id) values ($1, $2) returning id";

/// Notes a change in the transaction that makes it.
pub(super) async fn add(tx: &Transaction<'_>, kind: Kind, subject: &str) -> Result<Change> {
    let row = tx
        .query_one(ADD, &[&kind.as_str(), &subject])
        .await
        .map_err(classify)?;
    Ok(Change {
        id: row.get(0),
        kind,
        subject: subject.to_owned(),
    })
}

const PENDING: &str = "\
    select id, kind, subject_id from outbox \
    where created_at <= now() - make_interval(secs => $1) order by id limit $2";

/// Up to `limit` changes that have waited for `age` or longer.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub async fn pending(postgres: &Postgres, age: Duration, limit: i64) -> Result<Vec<Change>> {
    let client = postgres.get().await?;
    let rows = client
        .query(PENDING, &[&age.as_secs_f64(), &limit])
        .await
        .map_err(classify)?;
    rows.iter()
        .map(|row| {
            let kind = match row.get("kind") {
                "endpoint" => Kind::Endpoint,
                "api_key" => Kind::ApiKey,
                "meter" => Kind::Meter,
                other => return Err(Error::internal(anyhow::anyhow!("outbox kind {other:?}"))),
            };
            Ok(Change {
                id: row.get("id"),
                kind,
                subject: row.get("subject_id"),
            })
        })
        .collect()
}

const DONE: &str = "delete from outbox where id = $1";

/// Projects a change: reads what is true now, writes it to the data plane unless
/// something newer is there, and takes it off the outbox. Doing it again changes
/// nothing.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer; the change then
/// stays in the outbox.
pub async fn project(postgres: &Postgres, plane: &DataPlane, change: &Change) -> Result<()> {
    match change.kind {
        Kind::Endpoint => {
            if let Some(endpoint) = endpoints::get_sealed(postgres, &change.subject).await? {
                plane.put_endpoint(&endpoint).await?;
            }
        }
        Kind::ApiKey => {
            if let Some(key) = api_keys::get(postgres, &change.subject).await? {
                plane.put_key(&key).await?;
            }
        }
        Kind::Meter => {
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

/// Projects a change that has just been committed. A failure is logged, not
/// returned: the change is made, and the sweeper projects it.
pub async fn apply(postgres: &Postgres, plane: &DataPlane, change: Change) {
    if let Err(error) = project(postgres, plane, &change).await {
        let cause = std::error::Error::source(&error).map(|source| format!("{source:#}"));
        tracing::warn!(subject = change.subject, %error, cause, "change not projected yet");
    }
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[ADD, PENDING, DONE];
