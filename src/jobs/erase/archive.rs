//! The archive in an erasure: a project's objects are deleted; those with events of a
//! tenant, or with the event, are written again without them.

use std::borrow::Cow;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;

use super::page::StepPage;
use crate::app::App;
use crate::error::{Error, Result, causes};
use crate::model::erasure::{Erasure, ErasureKind};
use crate::model::recovery::{Day, archive_day, archive_project};
use crate::model::time::Time;
use crate::store::objects::Objects;

/// Objects of a page: each is read whole.
const OBJECTS_MAX: usize = 3;
/// Times an object is read again that was replaced meanwhile.
const TRIES_MAX: u32 = 3;

/// Takes what is to be erased out of the next objects.
pub(super) async fn delete_archived(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let mut page = StepPage::default();
    let Some(archive) = &app.archive else {
        return Ok(page);
    };
    let prefix = prefix(app, claimed);
    let mut names = archive.list(&prefix, claimed.position.as_deref()).await?;
    names.truncate(OBJECTS_MAX);
    for name in &names {
        let is_changed = match claimed.kind {
            ErasureKind::Project => {
                archive.delete(name).await?;
                true
            }
            ErasureKind::Tenant | ErasureKind::Event => rewrite(archive, claimed, name).await?,
        };
        page.progress.archived_objects += u64::from(is_changed);
        page.items += 1;
    }
    page.next = names.pop();
    Ok(page)
}

/// What the names of the objects begin with that may hold some of it.
fn prefix(app: &App, claimed: &Erasure) -> String {
    let prefix = &app.config.archive.prefix;
    match claimed.received {
        Some(received) => archive_day(prefix, &claimed.project, Day::of(received)),
        None => archive_project(prefix, &claimed.project),
    }
}

/// What a line of the archive says of what it is about.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    received_at: Time,
    #[serde(borrow)]
    event: ArchivedEvent<'a>,
}

#[derive(Deserialize)]
struct ArchivedEvent<'a> {
    #[serde(borrow)]
    tenant: Option<Cow<'a, str>>,
}

impl Line<'_> {
    fn is_erased(&self, claimed: &Erasure) -> bool {
        let is_before = claimed
            .until()
            .is_none_or(|until| self.received_at.0 <= until);
        match claimed.kind {
            ErasureKind::Project => true,
            ErasureKind::Event => is_before && claimed.subject.as_deref() == Some(&*self.id),
            ErasureKind::Tenant => is_before && self.event.tenant.as_deref() == claimed.tenant(),
        }
    }
}

/// Writes the object again without what is erased, or deletes it if nothing is left;
/// whether it held any of it.
async fn rewrite(archive: &Objects, claimed: &Erasure, name: &str) -> Result<bool> {
    for _ in 0..TRIES_MAX {
        let Some(object) = archive.get(name).await? else {
            return Ok(false);
        };
        let is_done = match without_erased(claimed, &object.gzip)? {
            Remainder::Untouched => return Ok(false),
            Remainder::Empty => archive.delete(name).await.map(|()| true)?,
            Remainder::Some(gzip) => archive.replace(name, &object, gzip).await?,
        };
        if is_done {
            return Ok(true);
        }
    }
    Err(Error::Unavailable {
        what: "the archive",
        source: anyhow::anyhow!("an object was replaced {TRIES_MAX} times while it was read"),
    })
}

/// What is left of an object.
enum Remainder {
    /// All of it.
    Untouched,
    Empty,
    /// Its lines, compressed.
    Some(Bytes),
}

fn without_erased(claimed: &Erasure, gzip: &[u8]) -> Result<Remainder> {
    let mut text = Vec::new();
    let mut decoder = MultiGzDecoder::new(gzip);
    decoder.read_to_end(&mut text).map_err(Error::internal)?;
    let mut kept = GzEncoder::new(Vec::new(), Compression::default());
    let (mut lines, mut kept_lines) = (0, 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        lines += 1;
        let is_erased = match serde_json::from_slice::<Line<'_>>(line) {
            Ok(read) => read.is_erased(claimed),
            // It holds up no other. What names the event or the tenant goes with it.
            Err(error) => {
                let cause = causes(&error);
                tracing::error!(erasure.id = %claimed.id, %error, cause, "archived event unreadable");
                names_subject(claimed, line)
            }
        };
        if !is_erased {
            kept_lines += 1;
            kept.write_all(line).map_err(Error::internal)?;
        }
    }
    Ok(match kept_lines {
        _ if kept_lines == lines => Remainder::Untouched,
        0 => Remainder::Empty,
        _ => Remainder::Some(kept.finish().map_err(Error::internal)?.into()),
    })
}

/// Whether a line that cannot be read holds, as it is or as JSON writes it, what names
/// the event or the tenant to erase.
fn names_subject(claimed: &Erasure, line: &[u8]) -> bool {
    let Some(subject) = claimed.subject.as_deref() else {
        return true;
    };
    let holds = |text: &str| {
        !text.is_empty() && line.windows(text.len()).any(|part| part == text.as_bytes())
    };
    let quoted = serde_json::Value::from(subject).to_string();
    holds(subject) || holds(quoted.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ErasureId, ProjectId};

    #[test]
    fn a_line_that_cannot_be_read_holds_up_no_other() {
        let whole = |id: &str| {
            format!("{{\"id\":\"{id}\",\"received_at\":\"2026-01-01T00:00:01Z\",\"event\":{{}}}}\n")
        };
        let lines = [
            whole("evt_a"),
            "{\"id\":\"evt_x\",\"rec\n".into(),
            "{\"id\":\"evt_b\",\"rec\n".into(),
            "\u{0}\n".into(),
            whole("evt_x"),
        ];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(lines.concat().as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let (id, project) = (ErasureId::new(0, [0; 10]), ProjectId::new(0, [0; 10]));
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let event = Some("evt_x".to_owned());
        let erasure = Erasure::new(id, project, ErasureKind::Event, event, now);
        let Remainder::Some(left) = without_erased(&erasure, &gzip).unwrap() else {
            panic!("three lines are to be left");
        };
        let mut text = String::new();
        let mut decoder = MultiGzDecoder::new(&*left);
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(text, [&*lines[0], &lines[2], &lines[3]].concat());
    }

    #[test]
    fn an_event_that_is_published_again_stays() {
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let line = |received: &str| {
            format!("{{\"id\":\"evt_x\",\"received_at\":\"{received}\",\"event\":{{}}}}\n")
        };
        let lines = ["2026-01-01T00:00:01Z", "2026-01-01T00:00:03Z"].map(line);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(lines.concat().as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let (id, project) = (ErasureId::new(0, [0; 10]), ProjectId::new(0, [0; 10]));
        let now = at("2026-01-01T00:00:02Z");
        let event = Some("evt_x".to_owned());
        let mut erasure = Erasure::new(id, project, ErasureKind::Event, event, now);
        erasure.received = Some(at("2026-01-01T00:00:01Z"));
        let Remainder::Some(left) = without_erased(&erasure, &gzip).unwrap() else {
            panic!("one line is to be left");
        };
        let mut text = String::new();
        MultiGzDecoder::new(&*left)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, lines[1]);
        // Received by a clock that is ahead of the one it was erased by.
        erasure.received = Some(at("2026-01-01T00:00:03Z"));
        let left = without_erased(&erasure, &gzip).unwrap();
        assert!(matches!(left, Remainder::Empty));
    }
}
