//! The deletion of usage that is no longer needed: minutes after 35 days, what was
//! seen of events that are deleted, the usage of deleted meters.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::ToSql;

use super::partition::{KEEP_DAYS, day, day_of_name, expired_before, first_day};
use crate::error::Result;
use crate::store::postgres::{Postgres, Session, classify};

/// How long usage by the minute is kept.
pub const MINUTES_KEPT: SignedDuration = SignedDuration::from_hours(24 * 35);
/// Rows deleted by one statement: well within its time.
const ROWS_MAX: i64 = 10_000;

const PARTITIONS: &str = "\
    select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    where i.inhparent = 'usage_seen'::regclass order by c.relname";

/// A function of the schema's owner: whoever counts may not change the schema.
const FORGET_DAY: &str = "select usage_seen_forget_day($1, $2)";

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
    keep_today(&client, now, retention_days).await?;
    forget_days(&client, now, retention_days).await?;
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

/// Records that events received today are kept for `retention_days`, those that no
/// meter counts yet too: a back-fill may.
async fn keep_today(client: &Session, now: Timestamp, retention_days: u32) -> Result<()> {
    let kept = now.saturating_add(SignedDuration::from_hours(24 * i64::from(retention_days)));
    let (days, untils) = (vec![day(now)], vec![day(kept.unwrap_or(Timestamp::MAX))]);
    let kept = client.execute(KEEP_DAYS, &[&days, &untils]).await;
    kept.map(drop).map_err(classify)
}

/// Drops the days of `usage_seen` of which no event can be left at `now`, the oldest
/// first. One whose events were kept for longer than `retention_days`, by an earlier
/// configuration or another process's, stays with all that follow.
async fn forget_days(client: &Session, now: Timestamp, retention_days: u32) -> Result<()> {
    let (first, expired) = (first_day(now, retention_days), expired_before(now));
    for row in client.query(PARTITIONS, &[]).await.map_err(classify)? {
        let name: &str = row.get("name");
        // Of another name, it was not made here.
        let Some(day) = day_of_name(name).filter(|day| *day < first) else {
            continue;
        };
        let values: &[&(dyn ToSql + Sync)] = &[&day, &expired];
        let forgotten = client.query_one(FORGET_DAY, values).await;
        if !forgotten.map_err(classify)?.get::<_, bool>(0) {
            break;
        }
        tracing::info!(partition = name, "usage_seen partition dropped");
    }
    Ok(())
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[
    PARTITIONS,
    FORGET_DAY,
    DELETE_MINUTES,
    DELETE_UNIQUE_MINUTES,
    DELETE_USAGE,
    DELETE_UNIQUE,
    DELETE_GROUPS,
];
