//! The archive: each project's events of a day, written to S3 before they expire.
//!
//! A day of a project is a recovery of kind `archive`, whose id follows from the
//! two, so that it is planned once; each of its pages is one object, whose name
//! follows from the page, so that a page done again replaces it.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::page::{PageOutcome, range};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::id::{EventId, RecoveryId};
use crate::model::job::Job;
use crate::model::recovery::{Day, Recovery, RecoveryKind, archive_key};
use crate::model::time::Time;
use crate::store::events::{self, StoredEvent};
use crate::store::projects::{self, Project};
use crate::store::recoveries::{self, PageResult};

/// Events read at a time.
const READ_EVENTS: usize = 100;
/// Events of an object, at most.
const PART_EVENTS_MAX: usize = 1_000;
/// Bytes of events after which an object takes no more; the last read may go
/// beyond.
const PART_BYTES: usize = 4 * 1024 * 1024;
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
    let id = RecoveryId::derive(&project.id, &format!("archive {day}"));
    let whole_day = day.start()..day.end();
    let kind = RecoveryKind::Archive;
    let recovery = Recovery::new(id, project.id.clone(), kind, whole_day, now);
    let due = app.queue.due(now, Duration::ZERO);
    let expires = events::expiry(now, app.config.retention_days);
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

/// A line of the archive: the event with what Millrace knows of it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a EventId,
    received_at: Time,
    event: &'a RawValue,
}

/// Writes the next object of a day.
pub(super) async fn run_page(app: &App, recovery: &Recovery) -> Result<PageOutcome> {
    let Some(archive) = &app.archive else {
        let why = "archive.bucket is not set in the process that was to write it";
        return Ok(PageOutcome::Failed(why.into()));
    };
    let mut step = PageResult {
        next: recovery.cursor.clone(),
        ..PageResult::default()
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let mut bytes = 0;
    let access = Access::to_project(&recovery.project);
    loop {
        let mut range = range(recovery, READ_EVENTS);
        range.after = step.next.take();
        let page = events::scan(&app.dynamo, &access, &range, |_, _| true).await?;
        let events = events::load_full(&app.dynamo, &page.rows).await?;
        step.examined += page.examined;
        step.resent += events.len();
        for event in &events {
            bytes += event.body.len();
            write(&mut gzip, event)?;
        }
        step.next = page.next;
        if step.next.is_none() || step.examined >= PART_EVENTS_MAX || bytes >= PART_BYTES {
            break;
        }
    }
    if step.resent > 0 {
        let prefix = &app.config.archive.prefix;
        let day = Day::of(recovery.since);
        let key = archive_key(prefix, &recovery.project, day, recovery.page + 1);
        let object = gzip.finish().map_err(Error::internal)?;
        archive.put(&key, Bytes::from(object)).await?;
    }
    Ok(PageOutcome::Stepped(step))
}

fn write(gzip: &mut GzEncoder<Vec<u8>>, event: &StoredEvent) -> Result<()> {
    let line = Line {
        id: &event.id,
        received_at: event.received.into(),
        event: serde_json::from_slice(&event.body).map_err(Error::internal)?,
    };
    serde_json::to_writer(&mut *gzip, &line).map_err(Error::internal)?;
    gzip.write_all(b"\n").map_err(Error::internal)
}
