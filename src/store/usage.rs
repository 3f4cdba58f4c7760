//! The counting of usage: readings are added up in PostgreSQL, each once.
//!
//! A batch is one transaction: the meters' rows are locked, in the order of their ids,
//! and then, in one statement, the readings not seen before are recorded as
//! seen, put into groups and added up. The lock makes the
//! bound on groups hold however many count, and keeps writers from deadlocks.
//! Called by the meter job and by back-fills; [`report`] and [`values`] read what was
//! counted.

mod partition;
pub mod prune;
pub mod report;
pub mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::postgres::{Postgres, Session, SessionTransaction, classify};
use super::readings::StoredReadings;
use crate::error::Result;
use crate::model::id::{EventId, MeterId};
use crate::model::meter::{Measure, Reading, usage_tenant};

/// Tries of a batch that meets a missing partition or another writer.
const TRIES_MAX: u32 = 4;

/// A reading about to be counted.
#[derive(Debug, Clone)]
pub struct UsageEntry<'a> {
    /// The event that was read.
    pub event: &'a EventId,
    /// The event's tenant.
    pub tenant: Option<&'a str>,
    /// When the event was received.
    pub received: Timestamp,
    /// Until when the event is kept.
    pub expires: Timestamp,
    /// The time it counts at.
    pub at: Timestamp,
    /// What a meter read of it.
    pub reading: &'a Reading,
}

/// The readings of `stored`, to be counted together.
pub fn entries(stored: &[StoredReadings]) -> Vec<UsageEntry<'_>> {
    let of_one = stored.iter().flat_map(|one| {
        one.metered.readings.iter().map(|reading| UsageEntry {
            event: &one.event,
            tenant: one.tenant.as_deref(),
            received: one.received,
            expires: one.expires,
            at: one.metered.at,
            reading,
        })
    });
    of_one.collect()
}

/// What a batch newly counted.
#[derive(Debug, Default)]
pub struct CountSummary {
    /// Readings that had not been seen, with a value or without.
    pub newly_counted: u64,
    /// Those of them that had none.
    pub skipped: u64,
    /// Readings that count no more, since it is not known any more whether they were
    /// counted before.
    pub forgotten: u64,
    /// What they add up to, by meter and group.
    pub sums: Vec<GroupTotals>,
}

/// Readings of one group, added up.
#[derive(Debug)]
pub struct GroupTotals {
    /// The meter that counts them.
    pub meter: MeterId,
    /// The group, as usage has it.
    pub group: String,
    /// How many readings they are.
    pub count: u64,
    /// None where only events are counted.
    pub values: Option<ValueTotals>,
    /// What to publish it as, if it is to be published.
    pub metric: Option<Metric>,
}

/// The values of one group, in decimal.
#[derive(Debug)]
#[expect(missing_docs, reason = "aggregates by their names")]
pub struct ValueTotals {
    pub sum: String,
    pub min: String,
    pub max: String,
}

/// A meter that is published as a metric.
#[derive(Debug, Clone)]
pub struct Metric {
    /// What the metric is called.
    pub name: String,
    /// The project's id.
    pub project: String,
    /// The pointers of its groups.
    pub group_by: Vec<String>,
}

/// Counts what has not been counted yet; of deleted meters nothing is counted, nor of
/// events of a day that is forgotten, which none of those is that are still stored.
/// Doing it again changes nothing and returns nothing newly counted.
///
/// Each group beyond `groups_max` of a meter is counted as
/// [`OVERFLOW_GROUP`](crate::model::meter::OVERFLOW_GROUP). Cost: a transaction of
/// four statements, and another to make the partition of a new day.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database
/// does not answer; nothing is counted then.
pub async fn count(
    postgres: &Postgres,
    entries: &[UsageEntry<'_>],
    groups_max: u32,
) -> Result<CountSummary> {
    if entries.is_empty() {
        return Ok(CountSummary::default());
    }
    let mut client = postgres.get().await?;
    for tries in 1.. {
        match try_count(&mut client, entries, groups_max).await {
            Err(error) if tries < TRIES_MAX && is_no_partition(&error) => {
                make_partitions(&client, entries).await?;
            }
            Err(error) if tries < TRIES_MAX && is_contention(&error) => {
                tokio::time::sleep(std::time::Duration::from_millis(10 << tries)).await;
            }
            counted => return counted.map_err(classify),
        }
    }
    unreachable!("the last try returns")
}

const LOCK: &str = "\
    select id, project_id, name, group_by, metric from meters \
    where id = any($1) and deleted_at is null order by id for no key update";

const FLOOR: &str = "select first_day from usage_floor";

const COUNT: &str = "\
    with input as materialized ( \
        select * from unnest($1::text[], $2::text[], $3::date[], $4::timestamptz[], \
            $5::text[], $6::text[], $7::text[], $8::bytea[], $9::boolean[]) \
            as t (meter_id, event_id, day, at, tenant, grp, value, hash, skipped) \
    ), seen as ( \
        insert into usage_seen (meter_id, event_id, day) \
        select meter_id, event_id, day from input order by meter_id, event_id \
        on conflict do nothing returning meter_id, event_id \
    ), fresh as ( \
        select i.* from input i join seen s using (meter_id, event_id) \
    ), wanted as ( \
        select f.meter_id, f.grp, \
            row_number() over (partition by f.meter_id order by min(f.at), f.grp) as place \
        from fresh f \
        where not f.skipped and not exists ( \
            select from usage_groups g where g.meter_id = f.meter_id and g.grp = f.grp) \
        group by f.meter_id, f.grp \
    ), held as ( \
        select meter_id, count(*) as groups from usage_groups \
        where meter_id in (select meter_id from wanted) group by meter_id \
    ), admitted as ( \
        insert into usage_groups (meter_id, grp) \
        select w.meter_id, w.grp from wanted w left join held h using (meter_id) \
        where w.place + coalesce(h.groups, 0) <= $10 \
        returning meter_id, grp \
    ), placed as ( \
        select f.meter_id, f.event_id, f.at, f.tenant, f.value::numeric as value, f.hash, \
            case when exists (select from usage_groups g \
                    where g.meter_id = f.meter_id and g.grp = f.grp) \
                or exists (select from admitted a \
                    where a.meter_id = f.meter_id and a.grp = f.grp) \
                then f.grp else 'other' end as grp \
        from fresh f where not f.skipped \
    ), bucketed as ( \
        select p.*, g.grain, date_bin(g.width, p.at, timestamptz '2000-01-01 00:00:00+00') as bucket \
        from placed p cross join (values \
            (1::smallint, interval '1 minute'), (15::smallint, interval '15 minutes') \
        ) as g (grain, width) \
    ), added as ( \
        insert into usage (meter_id, grain, bucket, tenant, grp, count, sum, min, max, \
            latest, latest_at, latest_event) \
        select meter_id, grain, bucket, tenant, grp, count(*), sum(value), min(value), max(value), \
            (array_agg(value order by at desc, event_id desc))[1], max(at), \
            (array_agg(event_id order by at desc, event_id desc))[1] \
        from bucketed group by meter_id, grain, bucket, tenant, grp \
        order by meter_id, grain, bucket, tenant, grp \
        on conflict (meter_id, grain, bucket, tenant, grp) do update set \
            count = usage.count + excluded.count, \
            sum = usage.sum + excluded.sum, \
            min = least(usage.min, excluded.min), \
            max = greatest(usage.max, excluded.max), \
            latest = case when (excluded.latest_at, excluded.latest_event) \
                > (usage.latest_at, usage.latest_event) \
                then excluded.latest else usage.latest end, \
            latest_event = case when (excluded.latest_at, excluded.latest_event) \
                > (usage.latest_at, usage.latest_event) \
                then excluded.latest_event else usage.latest_event end, \
            latest_at = greatest(usage.latest_at, excluded.latest_at) \
    ), distinguished as ( \
        insert into usage_unique (meter_id, grain, bucket, tenant, grp, hash) \
        select distinct meter_id, grain, bucket, tenant, grp, hash \
        from bucketed where hash is not null \
        order by meter_id, grain, bucket, tenant, grp, hash \
        on conflict do nothing \
    ), noted as ( \
        update meters m set skipped = m.skipped + s.readings \
        from (select meter_id, count(*) as readings from fresh where skipped group by meter_id) s \
        where m.id = s.meter_id \
    ) \
    select meter_id, grp, count(*) as count, false as skipped, \
        sum(value)::text as sum, min(value)::text as min, max(value)::text as max \
    from placed group by meter_id, grp \
    union all \
    select meter_id, '', count(*), true, null, null, null \
    from fresh where skipped group by meter_id";

async fn try_count(
    client: &mut Session,
    entries: &[UsageEntry<'_>],
    groups_max: u32,
) -> Result<CountSummary, tokio_postgres::Error> {
    let tx = client.transaction().await?;
    let mut ids: Vec<&str> = entries.iter().map(|e| e.reading.meter.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    let meters = tx.query(LOCK, &[&ids]).await?;
    let meter_row = |id: &str| meters.iter().find(|row| row.get::<_, &str>("id") == id);
    // If it rises from here on, the partition is gone, and the next try sees it.
    let floor: Date = tx.query_one(FLOOR, &[]).await?.get(0);
    let known = entries
        .iter()
        .filter(|entry| partition::day(entry.received) >= floor);
    let known: Vec<_> = known.collect();
    let mut counted = CountSummary {
        forgotten: (entries.len() - known.len()) as u64,
        ..CountSummary::default()
    };
    keep_days(&tx, &known).await?;
    let columns = Columns::of(known, |id| meter_row(id).is_some());
    let groups_max = i64::from(groups_max);
    let rows = tx.query(COUNT, &columns.values(&groups_max)).await?;
    tx.commit().await?;

    for row in rows {
        let count = row.get::<_, i64>("count").unsigned_abs();
        counted.newly_counted += count;
        if row.get("skipped") {
            counted.skipped += count;
            continue;
        }
        let id: &str = row.get("meter_id");
        let Ok(meter) = id.parse() else { continue };
        counted.sums.push(GroupTotals {
            meter,
            group: row.get("grp"),
            count,
            values: ValueTotals::read(&row),
            metric: meter_row(id)
                .filter(|row| row.get("metric"))
                .map(|row| Metric {
                    name: row.get("name"),
                    project: row.get("project_id"),
                    group_by: row.get("group_by"),
                }),
        });
    }
    Ok(counted)
}

/// Records until when what is seen of `entries` has to be remembered.
async fn keep_days(
    tx: &SessionTransaction<'_>,
    entries: &[&UsageEntry<'_>],
) -> Result<(), tokio_postgres::Error> {
    let mut kept = BTreeMap::<Date, Date>::new();
    for entry in entries {
        let until = partition::day(entry.expires);
        let longest = kept.entry(partition::day(entry.received)).or_insert(until);
        *longest = until.max(*longest);
    }
    let (days, until): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    tx.execute(partition::KEEP_DAYS, &[&days, &until]).await?;
    Ok(())
}

impl ValueTotals {
    fn read(row: &Row) -> Option<Self> {
        let value = |name| row.get::<_, Option<String>>(name);
        Some(Self {
            sum: value("sum")?,
            min: value("min")?,
            max: value("max")?,
        })
    }
}

/// The entries, column by column as `unnest` takes them.
#[derive(Default)]
struct Columns<'a> {
    meters: Vec<&'a str>,
    events: Vec<&'a str>,
    days: Vec<Date>,
    at: Vec<Timestamp>,
    tenants: Vec<Cow<'a, str>>,
    groups: Vec<&'a str>,
    values: Vec<Option<&'a str>>,
    hashes: Vec<Option<&'a [u8]>>,
    skipped: Vec<bool>,
}

impl<'a> Columns<'a> {
    /// Those of meters that `is_live`, each event once for each meter.
    fn of(entries: Vec<&'a UsageEntry<'a>>, is_live: impl Fn(&str) -> bool) -> Self {
        let key = |entry: &&UsageEntry<'a>| (entry.reading.meter.clone(), entry.event.clone());
        let mut live: Vec<_> = entries
            .into_iter()
            .filter(|entry| is_live(entry.reading.meter.as_str()))
            .collect();
        live.sort_by_cached_key(key);
        live.dedup_by_key(|entry| key(entry));
        let mut columns = Self::default();
        for entry in live {
            let measure = &entry.reading.measure;
            columns.meters.push(entry.reading.meter.as_str());
            columns.events.push(entry.event.as_str());
            columns.days.push(partition::day(entry.received));
            columns.at.push(entry.at);
            let tenant = entry.tenant.unwrap_or_default();
            columns.tenants.push(usage_tenant(tenant));
            columns.groups.push(&entry.reading.group);
            columns.values.push(match measure {
                Measure::Number(value) => Some(value.as_str()),
                _ => None,
            });
            columns.hashes.push(match measure {
                Measure::Unique(hash) => Some(hash),
                _ => None,
            });
            columns.skipped.push(*measure == Measure::Skipped);
        }
        columns
    }

    fn values<'b>(&'b self, groups_max: &'b i64) -> [&'b (dyn ToSql + Sync); 10] {
        [
            &self.meters,
            &self.events,
            &self.days,
            &self.at,
            &self.tenants,
            &self.groups,
            &self.values,
            &self.hashes,
            &self.skipped,
            groups_max,
        ]
    }
}

/// Whether there is no partition for a row's day (23514 without a constraint).
fn is_no_partition(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        *db.code() == SqlState::CHECK_VIOLATION
            && db.table() == Some("usage_seen")
            && db.constraint().is_none()
    })
}

/// Whether another writer was in the way: a retry may succeed at once.
fn is_contention(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE)
    )
}

/// A function of the schema's owner: whoever counts may not change the schema.
const MAKE_PARTITION: &str = "select usage_seen_make_day($1)";

async fn make_partitions(client: &Session, entries: &[UsageEntry<'_>]) -> Result<()> {
    let days = entries.iter().map(|entry| partition::day(entry.received));
    let mut days: Vec<Date> = days.collect();
    days.sort_unstable();
    days.dedup();
    for day in days {
        match client.query(MAKE_PARTITION, &[&day]).await {
            // Another instance has made it at the same moment.
            Err(error) if is_there_already(&error) => {}
            made => drop(made.map_err(classify)?),
        }
    }
    Ok(())
}

/// `if not exists` does not see what another transaction is about to commit.
fn is_there_already(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::DUPLICATE_TABLE | &SqlState::UNIQUE_VIOLATION)
    ) || is_contention(error)
}

/// Every statement of this file and those below it, for the test that prepares
/// them.
pub const STATEMENTS: &[&[&str]] = &[
    &[LOCK, FLOOR, partition::KEEP_DAYS, COUNT, MAKE_PARTITION],
    report::STATEMENTS,
    values::STATEMENTS,
    prune::STATEMENTS,
];
