//! The back-fill of a meter from the events that are kept.
//!
//! A page at a time, the newest events first; where it has come to is kept with
//! the back-fill, so that it goes on from there whoever takes it up. An event that
//! was counted already counts no second time, whether it came by itself or by an
//! earlier back-fill.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::outcome::report;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::absence::ABSENCE_MAX;
use crate::model::access::Access;
use crate::model::id::{EventId, ProjectId};
use crate::model::meter::{self, Definition, Meter, Reading};
use crate::model::meter_set::MeterSet;
use crate::store::backfills::{self, Backfill};
use crate::store::events::{self, StoredEvent};
use crate::store::meters;
use crate::store::readings::DueItem;
use crate::store::timeline::TimelineRange;
use crate::store::usage::{self, CountSummary, UsageEntry};

/// Events of a page whose type is right.
pub const PAGE_EVENTS: usize = 500;
/// Pages read before others have their turn.
const PAGES_MAX: usize = 10;
/// How long a back-fill is left to whoever claimed it.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// What a page of a back-fill did.
#[derive(Debug, PartialEq, Eq)]
pub struct BackfillPage {
    /// Events looked at.
    pub read: usize,
    /// Readings newly counted.
    pub counted: u64,
    /// Events that could not be read or counted, and were passed over.
    pub skipped: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// Goes on with the back-fill that is due, for some pages; whether there is more.
///
/// # Errors
/// When a store is out of reach; it is due again when its lease is over.
pub async fn run(app: &App, due: &DueItem, now: Timestamp) -> Result<bool> {
    let Some(mut backfill) = backfills::claim(&app.dynamo, due, now + LEASE).await? else {
        return Ok(false);
    };
    let row = meters::get_any(&app.postgres, backfill.meter.as_str()).await?;
    if row.is_none() && now.duration_since(backfill.started) <= ABSENCE_MAX {
        // A database that was given back may not have the meter yet: the lease runs out,
        // and it is looked for again.
        tracing::warn!(meter.id = %backfill.meter, "backfill deferred: its meter is not here");
        return Ok(false);
    }
    let Some(row) = row.filter(|row| row.deleted_at.is_none()) else {
        backfills::forget(&app.dynamo, &backfill.meter).await?;
        return Ok(false);
    };
    let meter = Meter {
        id: row.id,
        definition: Definition::new(&row.spec)?,
    };
    let meter = Arc::new(MeterSet::new(vec![meter]));
    for page in 1..=PAGES_MAX {
        let range = range(&backfill);
        let progress = backfill_page(app, &meter, &backfill.project, &range, now).await?;
        backfill.read += i64::try_from(progress.read).unwrap_or(i64::MAX);
        backfill.skipped += i64::try_from(progress.skipped).unwrap_or(i64::MAX);
        backfill.counted += i64::try_from(progress.counted).unwrap_or(i64::MAX);
        backfill.finished = progress.next.is_none().then_some(now);
        backfill.position = progress.next;
        // Given back after the last page of this turn.
        let due = if page < PAGES_MAX { now + LEASE } else { now };
        if !backfills::advance(&app.dynamo, &mut backfill, due).await? {
            return Ok(false);
        }
        if backfill.finished.is_some() {
            let (read, counted, skipped) = (backfill.read, backfill.counted, backfill.skipped);
            tracing::info!(meter.id = %backfill.meter, read, counted, skipped, "meter backfill finished");
            return Ok(false);
        }
    }
    Ok(true)
}

fn range(backfill: &Backfill) -> TimelineRange {
    TimelineRange {
        since: Some(backfill.since),
        until: Some(backfill.until),
        after: backfill.position.clone(),
        limit: PAGE_EVENTS,
    }
}

/// What the meter reads of an event, and the moment it counts for.
struct FoundReading {
    event: EventId,
    tenant: Option<String>,
    received: Timestamp,
    expires: Timestamp,
    at: Timestamp,
    reading: Reading,
}

/// Holds a page of the events a project received against `meter`, a set of it alone, and
/// counts what it reads of them. Doing it again counts nothing.
///
/// Cost: a page of the timeline, a read of each event whose type is right, and a
/// statement.
///
/// # Errors
/// When a store is out of reach; nothing, or part of the page, is counted then.
pub async fn backfill_page(
    app: &App,
    meter: &Arc<MeterSet>,
    project: &ProjectId,
    range: &TimelineRange,
    now: Timestamp,
) -> Result<BackfillPage> {
    let wanted = |event_type: &str, _: Option<&str>| meter.counts(event_type);
    let access = Access::to_project(project);
    let scan = events::scan(&app.dynamo, &access, range, wanted).await?;
    let loaded = events::load_full(&app.dynamo, &scan.rows).await?;
    let (stored, unreadable) = (loaded.events, scan.unreadable + loaded.unreadable);
    let (meters, late_max) = (Arc::clone(meter), app.config.meters.late_max());
    // Of those that have expired, DynamoDB is late in deleting them.
    let countable = stored
        .into_iter()
        .filter(move |stored| stored.expires > now);
    // Hundreds of events, of up to 256 KiB each: what else runs must not wait for them.
    let read = tokio::task::spawn_blocking(move || read_all(&meters, countable, late_max));
    let read = read.await.map_err(Error::internal)?;
    let counted = count(app, &read.found).await?;
    Ok(BackfillPage {
        read: scan.examined,
        counted: counted.newly,
        skipped: unreadable + read.unreadable + counted.refused,
        next: scan.next,
    })
}

/// What became of readings.
#[derive(Default)]
struct Counted {
    newly: u64,
    /// Those that PostgreSQL would not take, or of a day that is forgotten.
    refused: usize,
}

/// Counts `found`. One that cannot be counted does not keep the others from it.
async fn count(app: &App, found: &[FoundReading]) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut left = vec![found];
    while let Some(part) = left.pop() {
        match count_part(app, part).await {
            Ok(part) => {
                counted.newly += part.newly_counted;
                counted.refused += usize::try_from(part.forgotten).unwrap_or(usize::MAX);
            }
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => match part {
                [one] => {
                    report("backfill", one.event.as_str(), &error);
                    counted.refused += 1;
                }
                _ => left.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
            },
        }
    }
    Ok(counted)
}

async fn count_part(app: &App, found: &[FoundReading]) -> Result<CountSummary> {
    let entries = found.iter().map(|found| UsageEntry {
        event: &found.event,
        tenant: found.tenant.as_deref(),
        received: found.received,
        expires: found.expires,
        at: found.at,
        reading: &found.reading,
    });
    let entries: Vec<UsageEntry<'_>> = entries.collect();
    // No metric is published of them: CloudWatch would take them for new.
    usage::count(&app.postgres, &entries, app.config.meters.groups_max).await
}

/// What was read of a page.
#[derive(Default)]
struct ReadEvents {
    found: Vec<FoundReading>,
    /// Events whose content is none.
    unreadable: usize,
}

fn read_all(
    meters: &MeterSet,
    countable: impl Iterator<Item = StoredEvent>,
    late_max: SignedDuration,
) -> ReadEvents {
    let mut read = ReadEvents::default();
    for stored in countable {
        let event = match stored.event() {
            Ok(event) => event,
            Err(error) => {
                events::report_unreadable(stored.id.as_str(), &error);
                read.unreadable += 1;
                continue;
            }
        };
        let at = meter::counted_at(event.time(), stored.received, late_max);
        let readings = meters.readings(&event).into_iter();
        read.found.extend(readings.map(|reading| FoundReading {
            event: stored.id.clone(),
            tenant: stored.tenant.clone(),
            received: stored.received,
            expires: stored.expires,
            at,
            reading,
        }));
    }
    read
}
