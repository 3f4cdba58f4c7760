//! The objects of an archive: those of a page, each of one span of the day, side by side.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::error::{Error, Result};
use crate::jobs::recover::page::PageOutcome;
use crate::model::access::Access;
use crate::model::archive::{ArchivePage, ArchiveSpan};
use crate::model::id::EventId;
use crate::model::recovery::{Day, Recovery, archive_key};
use crate::model::time::Time;
use crate::store::events::{self, StoredEvent};
use crate::store::objects::Objects;
use crate::store::recoveries::PageResult;
use crate::store::timeline::TimelineRange;

/// Events read at a time, at first.
const READ_EVENTS: usize = 16;
/// And at most.
const READ_EVENTS_MAX: usize = 100;
/// Bytes that are read at a time, if no event is larger than those before it.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// Events of an object, at most.
const PART_EVENTS_MAX: usize = 1_000;
/// Bytes of events after which an object takes no more; the last read may go
/// beyond.
const PART_BYTES: usize = 4 * 1024 * 1024;
/// Objects written at a time: as many are in memory.
const PARTS_AT_ONCE: usize = 8;

/// In this process, whatever number of archives are due in it.
static PARTS: Semaphore = Semaphore::const_new(PARTS_AT_ONCE);

/// Writes the next objects of a day.
pub async fn run_page(app: &App, recovery: &Recovery) -> Result<PageOutcome> {
    let Some(archive) = &app.archive else {
        let why = "archive.bucket is not set in the process that was to write it";
        return Ok(PageOutcome::Failed(why.into()));
    };
    let page = ArchivePage::of(recovery)?;
    let writes = page.spans.iter().enumerate().map(|(at, span)| {
        let name = page.part_name(recovery.page, at);
        write_part(app, archive, recovery, span, name)
    });
    let writes: Vec<_> = writes.collect();
    let written = stream::iter(writes).buffered(PARTS_AT_ONCE);
    let written: Vec<PageResult> = written.try_collect().await?;
    let mut step = PageResult::default();
    let mut left = Vec::new();
    for (span, part) in page.spans.iter().zip(written) {
        step.examined += part.examined;
        step.resent += part.resent;
        step.skipped += part.skipped;
        left.extend(part.next.map(|after| span.clone().after(after)));
    }
    step.next = page.cursor_of(&left);
    Ok(PageOutcome::Stepped(step))
}

/// Writes the next object of a span.
async fn write_part(
    app: &App,
    archive: &Objects,
    recovery: &Recovery,
    span: &ArchiveSpan,
    name: String,
) -> Result<PageResult> {
    let mut step = PageResult {
        next: span.after.clone(),
        ..PageResult::default()
    };
    let _permit = PARTS.acquire().await.map_err(Error::internal)?;
    let (mut events, mut bytes, mut largest) = (Vec::new(), 0, 0);
    let access = Access::to_project(&recovery.project);
    loop {
        let range = TimelineRange {
            since: Some(span.since),
            until: Some(span.until),
            after: step.next.take(),
            limit: read_max(largest, PART_EVENTS_MAX - step.examined),
        };
        let page = events::scan(&app.dynamo, &access, &range, |_, _| true).await?;
        let loaded = events::load_full(&app.dynamo, &page.rows).await?;
        step.examined += page.examined;
        step.skipped += page.unreadable + loaded.unreadable;
        for size in loaded.events.iter().map(|one| one.body.len()) {
            bytes += size;
            largest = largest.max(size);
        }
        events.extend(loaded.events);
        step.next = page.next;
        if step.next.is_none() || step.examined >= PART_EVENTS_MAX || bytes >= PART_BYTES {
            break;
        }
    }
    // Megabytes: what else runs must not wait for them.
    let object = tokio::task::spawn_blocking(move || compress(&events)).await;
    let object = object.map_err(Error::internal)??;
    step.skipped += object.unreadable;
    step.resent = object.lines;
    if object.lines > 0 {
        let prefix = &app.config.archive.prefix;
        let day = Day::of(recovery.since);
        let key = archive_key(prefix, &recovery.project, day, &name);
        archive.put(&key, object.gzip).await?;
    }
    Ok(step)
}

/// How many events to read next, where the largest so far has so many bytes and `left`
/// are yet to come.
fn read_max(largest: usize, left: usize) -> usize {
    let fit = READ_BYTES.checked_div(largest).unwrap_or(READ_EVENTS);
    fit.clamp(1, READ_EVENTS_MAX).min(left)
}

/// A line of the archive: the event with what Millrace knows of it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a EventId,
    received_at: Time,
    event: &'a RawValue,
}

/// An object to be written.
struct Compressed {
    gzip: Bytes,
    lines: usize,
    /// Events whose body is no JSON.
    unreadable: usize,
}

fn compress(events: &[StoredEvent]) -> Result<Compressed> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let (mut lines, mut unreadable) = (0, 0);
    for event in events {
        let body = match serde_json::from_slice(&event.body).map_err(Error::internal) {
            Ok(body) => body,
            Err(error) => {
                events::report_unreadable(event.id.as_str(), &error);
                unreadable += 1;
                continue;
            }
        };
        let line = Line {
            id: &event.id,
            received_at: event.received.into(),
            event: body,
        };
        serde_json::to_writer(&mut gzip, &line).map_err(Error::internal)?;
        gzip.write_all(b"\n").map_err(Error::internal)?;
        lines += 1;
    }
    Ok(Compressed {
        gzip: gzip.finish().map_err(Error::internal)?.into(),
        lines,
        unreadable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EVENT_BYTES_MAX;

    #[test]
    fn fewer_are_read_at_a_time_the_larger_they_are() {
        assert_eq!(read_max(0, PART_EVENTS_MAX), READ_EVENTS);
        assert_eq!(read_max(300, PART_EVENTS_MAX), READ_EVENTS_MAX);
        assert_eq!(read_max(300, 84), 84);
        let of_large = read_max(EVENT_BYTES_MAX, PART_EVENTS_MAX);
        assert!((1..=8).contains(&of_large), "{of_large}");
        assert_eq!(read_max(READ_BYTES * 2, PART_EVENTS_MAX), 1);
    }
}
