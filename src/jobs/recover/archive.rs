//! The archive: each project's events of a day, written to S3 before they expire.
//!
//! A day of a project is a recovery of kind `archive`, whose id follows from the
//! two, so that it is planned once; each of its pages is one object or some, whose names
//! follow from the page, so that a page done again replaces them. What a first page
//! leaves of a day is written in spans of it, side by side: `parts`.

mod late;
mod parts;

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

pub use self::late::{LateArchives, watch};
pub(super) use self::parts::run_page;
use crate::app::App;
use crate::error::Result;
use crate::model::id::RecoveryId;
use crate::model::job::Job;
use crate::model::recovery::{Day, HELD_DAYS, Recovery, RecoveryKind};
use crate::store::events;
use crate::store::projects::{self, Project};
use crate::store::recoveries;

/// Projects listed at a time.
const PROJECTS_MAX: i64 = 100;
/// Projects planned at a time.
const WRITES_MAX: usize = 16;

/// Plans the archiving of the days that are about to expire, for every project;
/// how many it planned. Once a day is planned, it costs one read.
///
/// # Errors
/// When a store is out of reach; a later call plans the rest.
pub async fn plan(app: &App, now: Timestamp) -> Result<usize> {
    let mut planned = 0;
    if app.archive.is_none() {
        return Ok(planned);
    }
    for day in Day::expiring(now, app.config.retention_days) {
        if recoveries::is_archive_planned(&app.dynamo, day).await? {
            continue;
        }
        let mut after = String::new();
        loop {
            let projects = projects::list(&app.postgres, &after, PROJECTS_MAX).await?;
            let Some(last) = projects.last() else {
                break;
            };
            after = last.id.to_string();
            let plans = projects
                .iter()
                .map(|project| plan_one(app, project, day, now));
            let plans: Vec<_> = plans.collect();
            let plans: Vec<bool> = stream::iter(plans)
                .buffer_unordered(WRITES_MAX)
                .try_collect()
                .await?;
            planned += plans.into_iter().filter(|is_new| *is_new).count();
        }
        let expires = events::expiry(now, app.config.retention_days);
        recoveries::set_archive_planned(&app.dynamo, day, expires).await?;
    }
    Ok(planned)
}

/// Plans one project's day, unless that has been done.
async fn plan_one(app: &App, project: &Project, day: Day, now: Timestamp) -> Result<bool> {
    let id = RecoveryId::of_archive(&project.id, day);
    let whole_day = day.start()..day.end();
    let kind = RecoveryKind::Archive;
    let recovery = Recovery::new(id, project.id.clone(), kind, whole_day, now);
    let due = app.queue.due(now, Duration::ZERO);
    // As long as its events may be there, and those are kept longer if it is late.
    let expires = events::expiry(now, app.config.retention_days + HELD_DAYS);
    let is_new = recoveries::put_new(&app.dynamo, &recovery, due, expires).await?;
    if is_new {
        let job = Job::Recover {
            recovery: recovery.id,
            page: 0,
        };
        app.queue.send(vec![job], Duration::ZERO).await;
    }
    Ok(is_new)
}
