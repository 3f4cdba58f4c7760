//! Archives that are late: of days whose events begin to expire before they are written.
//!
//! They are counted and logged, for an alarm, and what of them is about to expire is
//! kept for longer, the oldest first, until it is written or the extra days are over.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::archive::{self, ArchiveSpan};
use crate::model::id::RecoveryId;
use crate::model::recovery::{Day, HELD_DAYS, Recovery, RecoveryState};
use crate::store::events::{self, EventFilter, EventPlace};
use crate::store::projects;
use crate::store::recoveries::{self, ArchiveDay};
use crate::store::timeline::TimelineRange;

/// How long before an event expires it is kept for longer, if it is not written: several
/// looks.
const HOLD_AHEAD: SignedDuration = SignedDuration::from_hours(3);
/// Part of a day that is looked at in one go, at first.
const HOLD_SPAN: SignedDuration = SignedDuration::from_secs(10);
/// And at least.
const HOLD_SPAN_MIN: SignedDuration = SignedDuration::from_secs(1);
/// Events of a part after which the next is half as long; at a tenth of them it is
/// twice as long.
const SPAN_EVENTS: usize = 1_000;
/// Projects looked at at a time.
const PROJECTS_MAX: i64 = 100;
/// Events read at a time.
const READ_EVENTS: usize = 100;
/// Events kept for longer at a time.
const WRITES_MAX: usize = 32;
/// Events after which an archive leaves its turn to another.
const HELD_MAX: usize = 20_000;
/// Archives at which a store does not answer before a look is given up.
const OUTAGES_MAX: usize = 5;

/// What a look at late archives found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LateArchives {
    /// Days of projects that are not written, though their events expire soon or do so
    /// already.
    pub late: usize,
    /// Events that are kept for longer.
    pub held: usize,
    /// More are about to expire than were kept in one look.
    pub has_more: bool,
}

/// Looks for archives that are late at `now`, and keeps for longer what of them is about
/// to expire. One read a day of the last ten, and while one of those is not known to be
/// done, one of each project.
///
/// All are counted and told before anything is kept, and how far that has come is noted
/// at each step: a look that is cut off is not lost. What fails of one leaves the others
/// their turn.
///
/// # Errors
/// When a store is out of reach; the next look does the rest.
pub async fn watch(app: &App, now: Timestamp) -> Result<LateArchives> {
    let mut found = LateArchives::default();
    if app.archive.is_none() {
        return Ok(found);
    }
    let (mut late, mut outcome) = (Vec::new(), Ok(()));
    for day in Day::late(now, app.config.retention_days) {
        if let Err(error) = look(app, day, &mut late, &mut found).await {
            report(&error, &format_args!("archives of {day} not looked at"));
            outcome = Err(error);
        }
    }
    // A look that saw nothing of some days does not say that nothing is late.
    if found.late > 0 || outcome.is_ok() {
        app.telemetry.metrics.archive_late.record(found.late);
    }
    let held = hold_all(app, late, now, &mut found).await;
    outcome.and(held).map(|()| found)
}

fn report(error: &Error, what: &std::fmt::Arguments<'_>) {
    let cause = error.causes();
    tracing::error!(%error, cause, "{what}");
}

/// Adds the archives of `day` that are late to `late`.
async fn look(
    app: &App,
    day: Day,
    late: &mut Vec<Recovery>,
    found: &mut LateArchives,
) -> Result<()> {
    if recoveries::archive_day(&app.dynamo, day).await? != ArchiveDay::Planned {
        return Ok(());
    }
    let before = found.late;
    let mut after = String::new();
    loop {
        let projects = projects::list(&app.postgres, &after, PROJECTS_MAX).await?;
        let Some(last) = projects.last() else {
            break;
        };
        after = last.id.to_string();
        let ids = projects
            .iter()
            .map(|one| RecoveryId::of_archive(&one.id, day));
        let ids: Vec<_> = ids.collect();
        let archives = recoveries::get_all(&app.dynamo, &ids).await?;
        // Whether it is done is for a version to say that can read it.
        found.late += archives.unreadable;
        for one in archives.recoveries {
            if one.state != RecoveryState::Done {
                tracing::error!(recovery.id = %one.id, project.id = %one.project, %day, "archive late");
                found.late += 1;
                late.push(one);
            }
        }
    }
    if found.late == before {
        recoveries::set_archive_done(&app.dynamo, day).await?;
    }
    Ok(())
}

/// Where the holding of a late archive has come to.
fn held_until(late: &Recovery) -> Timestamp {
    late.held_until.unwrap_or(late.since)
}

/// Keeps for longer what of `late` is about to expire, first where that is soonest.
async fn hold_all(
    app: &App,
    mut late: Vec<Recovery>,
    now: Timestamp,
    found: &mut LateArchives,
) -> Result<()> {
    late.sort_by_key(held_until);
    let mut outages = 0;
    for one in late {
        let Err(error) = hold(app, &one, now, found).await else {
            continue;
        };
        let what = format_args!(
            "{} not kept for longer: tried again at the next look",
            one.id
        );
        report(&error, &what);
        outages += usize::from(error.is_outage());
        if outages >= OUTAGES_MAX {
            return Err(error);
        }
    }
    Ok(())
}

/// Keeps for longer what of a late archive is about to expire.
async fn hold(app: &App, late: &Recovery, now: Timestamp, found: &mut LateArchives) -> Result<()> {
    let (left, kept) = (left_of(late), app.config.retention_days);
    let expiring = now - SignedDuration::from_hours(24) * i32::try_from(kept).unwrap_or(i32::MAX);
    let last = (expiring + HOLD_AHEAD).min(late.until);
    let (mut reached, mut held, mut step) = (held_until(late), 0, HOLD_SPAN);
    while reached < last && held < HELD_MAX {
        let until = (reached + step).min(last);
        let span = hold_span(app, late, &left, reached..until).await?;
        held += span.held;
        found.held += span.held;
        reached = until;
        // Cut off after this, the next look goes on from here.
        recoveries::set_held_until(&app.dynamo, &late.id, reached).await?;
        step = match span.seen {
            SPAN_EVENTS.. => (step / 2).max(HOLD_SPAN_MIN),
            seen if seen < SPAN_EVENTS / 10 => (step * 2).min(HOLD_AHEAD),
            _ => step,
        };
    }
    found.has_more |= reached < last;
    if held > 0 {
        tracing::warn!(recovery.id = %late.id, held, "events of a late archive kept for longer");
    }
    Ok(())
}

/// What is left to write of an archive: where that cannot be read, all of it.
fn left_of(late: &Recovery) -> Vec<ArchiveSpan> {
    archive::left(late).unwrap_or_else(|error| {
        report(
            &error,
            &format_args!("position of {} unreadable: all of it is kept", late.id),
        );
        vec![ArchiveSpan {
            since: late.since,
            until: late.until,
            after: None,
        }]
    })
}

/// What became of a part of a late archive.
#[derive(Default)]
struct HeldSpan {
    /// Events in it.
    seen: usize,
    /// Those that are kept for longer, and were not before.
    held: usize,
}

/// Keeps for longer what came within `span` and is among what is `left` to write.
async fn hold_span(
    app: &App,
    late: &Recovery,
    left: &[ArchiveSpan],
    span: std::ops::Range<Timestamp>,
) -> Result<HeldSpan> {
    let access = Access::to_project(&late.project);
    let mut range = TimelineRange {
        since: Some(span.start),
        until: Some(span.end),
        after: None,
        limit: READ_EVENTS,
    };
    let mut outcome = HeldSpan::default();
    loop {
        let filter = EventFilter::default();
        let page = events::list_places(&app.dynamo, &access, &filter, &range, |_| true);
        let (places, next) = page.await?;
        let is_left = |place: &&EventPlace| left.iter().any(|part| part.holds(place.received));
        let writes = places.iter().filter(is_left).map(|place| {
            let expires = events::expiry(place.received, app.config.retention_days + HELD_DAYS);
            events::keep_until(&app.dynamo, &place.id, expires)
        });
        let writes: Vec<_> = writes.collect();
        let kept = stream::iter(writes).buffer_unordered(WRITES_MAX);
        let kept: Vec<bool> = kept.try_collect().await?;
        outcome.seen += places.len();
        outcome.held += kept.into_iter().filter(|is_longer| *is_longer).count();
        let Some(next) = next else {
            return Ok(outcome);
        };
        range.after = Some(next);
    }
}
