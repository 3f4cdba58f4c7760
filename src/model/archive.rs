//! The spans of an archive: parts of a day that are written side by side, and what is
//! left of each.
//!
//! The first page of a day is one object. What it leaves is cut into spans by time, and
//! each page after it writes one object of each; where they have come to is kept in the
//! cursor of the recovery. A version that knows only one position a day finds none in
//! that, and begins the day again, under names that are not used here.

use std::cmp::Reverse;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::recovery::Recovery;
use crate::error::{Error, Result};

/// Spans that are written side by side.
pub const SPANS_MAX: usize = 8;
/// A span that is shorter is cut no more.
const CUT_MIN: SignedDuration = SignedDuration::from_mins(2);

/// Part of a day, of which the newest is written first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveSpan {
    /// What came at or after this,
    pub since: Timestamp,
    /// and before this;
    pub until: Timestamp,
    /// and where its next object begins.
    pub after: Option<String>,
}

impl ArchiveSpan {
    /// The span once all before `position` is written.
    pub fn after(self, position: String) -> Self {
        let after = Some(position);
        Self { after, ..self }
    }

    /// Above all that is left of it.
    pub fn end(&self) -> Timestamp {
        let after = self.after.as_deref().and_then(time_of_position);
        after.map_or(self.until, |at| at.min(self.until))
    }

    fn length(&self) -> SignedDuration {
        self.end().duration_since(self.since)
    }

    /// Whether what came at `received` may be yet to be written.
    pub fn holds(&self, received: Timestamp) -> bool {
        self.since <= received && received <= self.end() && received < self.until
    }

    /// Its older half and its newer, which has its position.
    fn halves(self) -> [Self; 2] {
        let middle = self.since + self.length() / 2;
        let older = Self {
            since: self.since,
            until: middle,
            after: None,
        };
        let since = middle;
        [older, Self { since, ..self }]
    }
}

/// The time that a position of a timeline begins with.
fn time_of_position(position: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(position.get(..13)?.parse().ok()?).ok()
}

/// What the next page of an archive writes.
#[derive(Debug, PartialEq, Eq)]
pub struct ArchivePage {
    /// The spans, an object each.
    pub spans: Vec<ArchiveSpan>,
    /// The whole of what is left, in one.
    is_whole: bool,
}

impl ArchivePage {
    /// The page that `recovery` is at. The same cursor gives the same, so that a page
    /// done again writes the same objects.
    ///
    /// # Errors
    /// [`Error::Internal`] for a cursor that this version cannot read.
    pub fn of(recovery: &Recovery) -> Result<Self> {
        let spans = left(recovery)?;
        if recovery.cursor.is_none() {
            let is_whole = true;
            return Ok(Self { spans, is_whole });
        }
        let is_plain = !is_of_spans(recovery);
        let spans = cut(spans);
        let is_whole = is_plain && spans.len() == 1;
        Ok(Self { spans, is_whole })
    }

    /// What the object of its span number `at` is called, in page `page`, from 0.
    pub fn part_name(&self, page: u32, at: usize) -> String {
        let page = page + 1;
        if self.is_whole {
            format!("part-{page:05}")
        } else {
            format!("part-{page:05}-{}", at + 1)
        }
    }

    /// The cursor after it, where `left` are left of its spans; none after the last page.
    pub fn cursor_of(&self, left: &[ArchiveSpan]) -> Option<String> {
        match left {
            [] => None,
            [only] if self.is_whole => only.after.clone(),
            left => serde_json::to_string(left).ok(),
        }
    }
}

/// A cursor of spans begins like no time does.
fn is_of_spans(recovery: &Recovery) -> bool {
    recovery
        .cursor
        .as_deref()
        .is_some_and(|at| at.starts_with('['))
}

/// What is yet to be written of an archive.
///
/// # Errors
/// As [`ArchivePage::of`].
pub fn left(recovery: &Recovery) -> Result<Vec<ArchiveSpan>> {
    match recovery.cursor.as_deref() {
        Some(spans) if is_of_spans(recovery) => {
            serde_json::from_str(spans).map_err(Error::internal)
        }
        after => Ok(vec![ArchiveSpan {
            since: recovery.since,
            until: recovery.until,
            after: after.map(str::to_owned),
        }]),
    }
}

/// Cuts the longest again and again, until there are as many as are written side by side.
fn cut(mut spans: Vec<ArchiveSpan>) -> Vec<ArchiveSpan> {
    while spans.len() < SPANS_MAX {
        let longest = (0..spans.len()).min_by_key(|at| Reverse(spans[*at].length()));
        let Some(longest) = longest.filter(|at| spans[*at].length() >= CUT_MIN) else {
            break;
        };
        let halves = spans.swap_remove(longest).halves();
        spans.extend(halves);
    }
    spans.sort_by_key(|span| span.since);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ProjectId, RecoveryId};
    use crate::model::recovery::RecoveryKind;

    fn archive(cursor: Option<&str>, page: u32) -> Recovery {
        let since: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        let day = since..since + SignedDuration::from_hours(24);
        let project = ProjectId::new(0, [0; 10]);
        let id = RecoveryId::derive(&project, "archive");
        let mut recovery = Recovery::new(id, project, RecoveryKind::Archive, day.clone(), day.end);
        (recovery.cursor, recovery.page) = (cursor.map(str::to_owned), page);
        recovery
    }

    fn position(at: Timestamp) -> String {
        format!("{:013}#evt_x", at.as_millisecond())
    }

    #[test]
    fn a_small_day_is_one_object_and_a_large_one_is_cut_without_a_gap() {
        let first = ArchivePage::of(&archive(None, 0)).unwrap();
        assert_eq!(first.spans.len(), 1);
        assert_eq!(first.part_name(0, 0), "part-00001");
        assert_eq!(first.cursor_of(&[]), None);

        let recovery = archive(None, 1);
        let noon = recovery.since + SignedDuration::from_hours(12);
        let left = first.spans[0].clone().after(position(noon));
        let cursor = first.cursor_of(&[left]).unwrap();
        assert_eq!(cursor, position(noon), "as a version before reads it");
        let second = ArchivePage::of(&archive(Some(&cursor), 1)).unwrap();
        assert_eq!(second.spans.len(), SPANS_MAX);
        assert_eq!(second.spans[0].since, recovery.since);
        for two in second.spans.windows(2) {
            assert_eq!(two[0].until, two[1].since);
            assert_eq!(two[0].length(), SignedDuration::from_mins(90));
        }
        let newest = &second.spans[SPANS_MAX - 1];
        assert_eq!(newest.after, Some(position(noon)));
        assert!(newest.holds(noon) && !newest.holds(noon + SignedDuration::from_secs(1)));
        assert_eq!(second.part_name(1, 7), "part-00002-8");

        // What is left of few is cut again, and said in a way of its own.
        let cursor = second.cursor_of(&second.spans[2..4]).unwrap();
        let third = ArchivePage::of(&archive(Some(&cursor), 2)).unwrap();
        assert_eq!(third.spans.len(), SPANS_MAX);
        assert_eq!(third.part_name(2, 0), "part-00003-1");
        assert_eq!(third.spans[0].since, second.spans[2].since);
        assert_eq!(third.spans[7].until, second.spans[3].until);
        let one = second.cursor_of(&second.spans[..1]).unwrap();
        assert!(one.starts_with('['), "not as the version before reads it");
    }

    #[test]
    fn what_lies_close_together_stays_in_one_object() {
        let recovery = archive(None, 1);
        let soon = recovery.since + SignedDuration::from_secs(30);
        let page = ArchivePage::of(&archive(Some(&position(soon)), 1)).unwrap();
        assert_eq!(page.spans.len(), 1);
        assert_eq!(page.part_name(1, 0), "part-00002");
        assert!(ArchivePage::of(&archive(Some("[{}]"), 1)).is_err());
    }
}
