//! The deletion of usage that is no longer needed: minutes after 35 days, what was
//! seen of events that are deleted, the usage of deleted meters.

use jiff::{SignedDuration, Timestamp};

use super::partition::{day_of_name, first_day};
use crate::error::Result;
use crate::store::postgres::{Postgres, classify};

/// How long usage by the minute is kept.
pub const MINUTES_KEPT: SignedDuration = SignedDuration::from_hours(24 * 35);
/// Rows deleted by one statement: well within its time.
const ROWS_MAX: i64 = 10_000;

const PARTITIONS: &str = "\
    select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    where i.inhparent = 'usage_seen'::regclass order by c.relname";

/// A function of the schema's owner: whoever counts may not change the schema.
const DROP_PARTITION: &str = "select usage_seen_drop_day($1)";

const DELETE_MINUTES: &str = "\
    delete from usage where ctid = any(array( \
        select u.ctid from meters m join usage u on u.meter_id = m.id and u.grain = 1 \
        where u.bucket < $1 limit $2))";

const DELETE_UNIQUE_MINUTES: &str = "\
    delete from usage_unique where ctid = any(array( \
        select u.ctid from meters m join usage_unique u on u.meter_id = m.id and u.grain = 1 \
        where u.bucket < $1 limit $2))";

const DELETE_USAGE: &str = "\
    delete from usage where ctid = any(array( \
        select u.ctid from meters m join usage u on u.meter_id = m.id \
        where m.deleted_at is not null limit $1))";

const DELETE_UNIQUE: &str = "\
    delete from usage_unique where ctid = any(array( \
        select u.ctid from meters m join usage_unique u on u.meter_id = m.id \
        where m.deleted_at is not null limit $1))";

const DELETE_GROUPS: &str = "\
    delete from usage_groups g using meters m \
    where m.id = g.meter_id and m.deleted_at is not null";

/// Deletes some of what is no longer needed at `now`; whether there is more.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database
/// does not answer; what is left is deleted the next time.
pub async fn prune(postgres: &Postgres, now: Timestamp, retention_days: u32) -> Result<bool> {
    let client = postgres.get().await?;
    let first = first_day(now, retention_days);
    for row in client.query(PARTITIONS, &[]).await.map_err(classify)? {
        let name: &str = row.get("name");
        // Of another name, it was not made here.
        if let Some(day) = day_of_name(name).filter(|day| *day < first) {
            let dropped = client.query(DROP_PARTITION, &[&day]).await;
            dropped.map_err(classify)?;
            tracing::info!(partition = name, "usage_seen partition dropped");
        }
    }
    let before = now.saturating_sub(MINUTES_KEPT).unwrap_or(Timestamp::MIN);
    let mut deleted_most = 0;
    for statement in [DELETE_MINUTES, DELETE_UNIQUE_MINUTES] {
        let deleted = client.execute(statement, &[&before, &ROWS_MAX]).await;
        deleted_most = deleted_most.max(deleted.map_err(classify)?);
    }
    for statement in [DELETE_USAGE, DELETE_UNIQUE] {
        let deleted = client.execute(statement, &[&ROWS_MAX]).await;
        deleted_most = deleted_most.max(deleted.map_err(classify)?);
    }
    client.execute(DELETE_GROUPS, &[]).await.map_err(classify)?;
    Ok(deleted_most >= ROWS_MAX.unsigned_abs())
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[
    PARTITIONS,
    DROP_PARTITION,
    DELETE_MINUTES,
    DELETE_UNIQUE_MINUTES,
    DELETE_USAGE,
    DELETE_UNIQUE,
    DELETE_GROUPS,
];
