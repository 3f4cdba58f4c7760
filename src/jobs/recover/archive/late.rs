//! Archives that are late: of days whose events begin to expire before they are written.
//!
//! They are counted and logged, for an alarm, and what of them is about to expire is
//! kept for longer, the oldest first, until it is written or the extra days are over.

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use crate::app::App;
use crate::error::Result;
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
/// Part of a day that is looked at in one go, at least.
const HOLD_SPAN_MIN: SignedDuration = SignedDuration::from_mins(1);
/// Projects looked at at a time.
const PROJECTS_MAX: i64 = 100;
/// Events read at a time.
const READ_EVENTS: usize = 100;
/// Events kept for longer at a time.
const WRITES_MAX: usize = 32;
/// Events after which an archive leaves its turn to another.
const HELD_MAX: usize = 20_000;

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
/// # Errors
/// When a store is out of reach; the next look does the rest.
pub async fn watch(app: &App, now: Timestamp) -> Result<LateArchives> {
    let mut found = LateArchives::default();
    if app.archive.is_none() {
        return Ok(found);
    }
    for day in Day::late(now, app.config.retention_days) {
        if recoveries::archive_day(&app.dynamo, day).await? == ArchiveDay::Planned {
            watch_day(app, day, now, &mut found).await?;
        }
    }
    app.telemetry.metrics.archive_late.record(found.late);
    Ok(found)
}

async fn watch_day(app: &App, day: Day, now: Timestamp, found: &mut LateArchives) -> Result<()> {
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
        for late in recoveries::get_all(&app.dynamo, &ids).await? {
            if late.state != RecoveryState::Done {
                found.late += 1;
                hold(app, &late, now, found).await?;
            }
        }
    }
    if found.late == before {
        recoveries::set_archive_done(&app.dynamo, day).await?;
    }
    Ok(())
}

/// Keeps for longer what of a late archive is about to expire.
async fn hold(app: &App, late: &Recovery, now: Timestamp, found: &mut LateArchives) -> Result<()> {
    let (left, kept) = (archive::left(late)?, app.config.retention_days);
    let expiring = now - SignedDuration::from_hours(24) * i32::try_from(kept).unwrap_or(i32::MAX);
    let last = (expiring + HOLD_AHEAD).min(late.until);
    let (mut reached, mut held) = (late.held_until.unwrap_or(late.since), 0);
    let mut step = HOLD_SPAN_MIN;
    while reached < last && held < HELD_MAX {
        let until = (reached + step).min(last);
        let more = hold_span(app, late, &left, reached..until).await?;
        held += more;
        // What is empty is passed by quickly.
        step = match more {
            0 => (step * 2).min(HOLD_AHEAD),
            _ => HOLD_SPAN_MIN,
        };
        reached = until;
    }
    found.held += held;
    found.has_more |= reached < last;
    recoveries::set_held_until(&app.dynamo, &late.id, reached).await?;
    let day = Day::of(late.since);
    tracing::error!(recovery.id = %late.id, project.id = %late.project, %day, held, "archive late: its events are kept for longer");
    Ok(())
}

/// Keeps for longer what came within `span` and is among what is `left` to write.
async fn hold_span(
    app: &App,
    late: &Recovery,
    left: &[ArchiveSpan],
    span: std::ops::Range<Timestamp>,
) -> Result<usize> {
    let access = Access::to_project(&late.project);
    let mut range = TimelineRange {
        since: Some(span.start),
        until: Some(span.end),
        after: None,
        limit: READ_EVENTS,
    };
    let mut held = 0;
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
        held += kept.into_iter().filter(|is_longer| *is_longer).count();
        let Some(next) = next else {
            return Ok(held);
        };
        range.after = Some(next);
    }
}
