//! A recovery: a job that goes through part of what is kept, page by page, and
//! sends it again or archives it.
//!
//! ```text
//!             last page              ┌──────────┐
//!           ┌───────────────────────▶│   done   │
//! ┌─────────┐  a person cancels it   ├──────────┤
//! │ running │───────────────────────▶│ canceled │
//! └─────────┘  its endpoint is gone  ├──────────┤
//!           └───────────────────────▶│  failed  │
//!                                    └──────────┘
//! ```
//!
//! While running it has a due time; no other state has one, and none is left.

use std::ops::Range;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::delivery;
use super::id::{EndpointId, ProjectId, RecoveryId};

/// What a recovery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryKind {
    /// Resends what failed at one endpoint.
    Recover,
    /// Sends one endpoint the events that match its filter now and never went.
    ReplayMissing,
    /// Resends an endpoint's deliveries in one state.
    Retry,
    /// Writes a project's events of one day to the archive.
    Archive,
}

/// Where a recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    /// A page is due now or later.
    Running,
    /// It has gone through all of it.
    Done,
    /// A person ended it.
    Canceled,
    /// It cannot go on.
    Failed,
}

/// Which look at what is kept a recovery is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryPass {
    /// All of it.
    First,
    /// What was accepted while some process did not know the endpoint as it is yet, and
    /// what the index did not have at the first.
    Second,
}

macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),* }) => {
        impl $name {
            /// The name in JSON and in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownRecoveryName;

            fn from_str(text: &str) -> Result<Self, UnknownRecoveryName> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownRecoveryName) }
            }
        }
    };
}
names!(RecoveryKind { Recover = "recover", ReplayMissing = "replay_missing", Retry = "retry", Archive = "archive" });
names!(RecoveryState { Running = "running", Done = "done", Canceled = "canceled", Failed = "failed" });

/// Not the name of a [`RecoveryKind`] or [`RecoveryState`].
#[derive(Debug, thiserror::Error)]
#[error("expected the name of a kind or state of recoveries")]
pub struct UnknownRecoveryName;

/// A recovery, as it is stored.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "what the API says of each is here too")]
pub struct Recovery {
    pub id: RecoveryId,
    pub project: ProjectId,
    pub kind: RecoveryKind,
    /// Where it sends to; none for an archive.
    pub endpoint: Option<EndpointId>,
    /// The deliveries it resends are in this state.
    pub deliveries: Option<delivery::DeliveryState>,
    /// Pending ones too, which are attempted now.
    pub includes_pending: bool,
    /// Only events of this type, or of those that it stands for.
    pub event_type: Option<String>,
    /// Only events of this tenant.
    pub tenant: Option<String>,
    /// It goes through what came at or after this,
    pub since: Timestamp,
    /// and before this, the newest first.
    pub until: Timestamp,
    pub state: RecoveryState,
    /// Pages done: also which page a queued message is about.
    pub page: u32,
    /// What the last page ended at.
    pub cursor: Option<String>,
    /// How often it goes through what is kept, and at which.
    pub pass: RecoveryPass,
    /// The version of the endpoint that its first page went by.
    pub endpoint_version: Option<i64>,
    /// Of an archive that is late: what came before this is kept for longer.
    pub held_until: Option<Timestamp>,
    /// Rows read so far.
    pub examined: u64,
    /// Deliveries begun, or events archived.
    pub resent: u64,
    /// What could not be read, and was passed over.
    pub skipped: u64,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// When it was asked for: also the name of its replay of a delivery.
    pub created: Timestamp,
    /// When it last went on.
    pub updated: Timestamp,
}

impl Recovery {
    /// One that has done nothing yet, of what came within `span`, to no endpoint and
    /// narrowed to nothing.
    pub fn new(
        id: RecoveryId,
        project: ProjectId,
        kind: RecoveryKind,
        span: Range<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            project,
            kind,
            endpoint: None,
            deliveries: None,
            includes_pending: false,
            event_type: None,
            tenant: None,
            since: span.start,
            until: span.end,
            state: RecoveryState::Running,
            page: 0,
            cursor: None,
            pass: RecoveryPass::First,
            endpoint_version: None,
            held_until: None,
            examined: 0,
            resent: 0,
            skipped: 0,
            error: None,
            created: now,
            updated: now,
        }
    }
}

impl Recovery {
    /// From when on what its pass looks at came, where the endpoint is at version
    /// `endpoint_version`. The second pass looks at what the first may have missed:
    /// at all of it, if the endpoint was another at its beginning.
    pub fn pass_since(&self, endpoint_version: i64) -> Timestamp {
        match self.pass {
            RecoveryPass::Second if self.endpoint_version == Some(endpoint_version) => {
                self.since.max(self.created - LATE_MAX)
            }
            _ => self.since,
        }
    }

    /// The states that deliveries are resent from: failed, unless another was asked
    /// for.
    pub fn resent_states(&self) -> Vec<delivery::DeliveryState> {
        use delivery::DeliveryState::{Failed, Pending};
        let state = self.deliveries.unwrap_or(Failed);
        let pending = self.includes_pending && state != Pending;
        let pending = pending.then_some(Pending);
        std::iter::once(state).chain(pending).collect()
    }
}

/// How long before a recovery was asked for events may have come that its first pass did
/// not see: the longest a request may take to write one, and then some.
pub const LATE_MAX: SignedDuration = SignedDuration::from_mins(1);

/// The largest page: deliveries begun in one run.
const PAGE_MAX: u32 = 100;

/// Deliveries begun in one run when `per_second_max` may be begun in a second.
pub fn page_size(per_second_max: u32) -> usize {
    per_second_max.clamp(1, PAGE_MAX) as usize
}

/// How long the next page waits after one that began `begun` deliveries.
pub fn pause(begun: usize, per_second_max: u32) -> Duration {
    Duration::from_millis((begun as u64 * 1000).div_ceil(u64::from(per_second_max.max(1))))
}

/// Days that events are kept beyond their retention whose archive is late.
pub const HELD_DAYS: u32 = 7;

/// How long before the first event of a day expires its archive is late.
const LATE_MARGIN: SignedDuration = SignedDuration::from_hours(12);

/// A day in UTC, as days since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(i64);

const DAY_S: i64 = 86_400;

impl Day {
    /// The day that `at` lies in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(DAY_S))
    }

    /// Its first moment: midnight in UTC.
    pub fn start(self) -> Timestamp {
        Timestamp::from_second(self.0 * DAY_S).expect("a day of a timestamp begins at one")
    }

    /// The first moment of the next.
    pub fn end(self) -> Timestamp {
        let end = self
            .start()
            .saturating_add(SignedDuration::from_secs(DAY_S));
        end.unwrap_or(Timestamp::MAX)
    }

    /// The days at `now` whose events expire within half a day or do so already, the
    /// oldest first, as long as what was not written of them may be kept.
    pub fn late(now: Timestamp, retention_days: u32) -> Vec<Self> {
        let (kept, held) = (i64::from(retention_days), i64::from(HELD_DAYS));
        let soon = now.saturating_add(LATE_MARGIN).unwrap_or(Timestamp::MAX);
        let last = Self::of(soon).0 - kept;
        (last - held..=last).map(Self).collect()
    }

    /// The days to archive at `now`, the oldest first: all that is about to expire
    /// and still there as a whole, and was over a day ago, so that nothing of it is
    /// still on its way. None while `retention_days` is below 3.
    pub fn expiring(now: Timestamp, retention_days: u32) -> Vec<Self> {
        let (today, kept) = (Self::of(now).0, i64::from(retention_days));
        let days = [kept - 1, kept - 2].into_iter().filter(|age| *age >= 2);
        days.map(|age| Self(today - age)).collect()
    }
}

/// As `2026-01-31`.
impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // RFC 3339 begins with the date.
        f.write_str(&self.start().to_string()[..10])
    }
}

impl RecoveryId {
    /// The archive of a project's day: there is one.
    pub fn of_archive(project: &ProjectId, day: Day) -> Self {
        Self::derive(project, &format!("archive {day}"))
    }
}

/// Where the object `name` of a project's day lies in the archive.
pub fn archive_key(prefix: &str, project: &ProjectId, day: Day, name: &str) -> String {
    let day = archive_day(prefix, project, day);
    format!("{day}{name}.jsonl.gz")
}

/// What the names of all parts of a project's day begin with.
pub fn archive_day(prefix: &str, project: &ProjectId, day: Day) -> String {
    let project = archive_project(prefix, project);
    format!("{project}day={day}/")
}

/// What the names of all parts of a project's archive begin with.
pub fn archive_project(prefix: &str, project: &ProjectId) -> String {
    let prefix = prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("{prefix}{slash}project={project}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in [
            RecoveryKind::Recover,
            RecoveryKind::ReplayMissing,
            RecoveryKind::Retry,
            RecoveryKind::Archive,
        ] {
            assert_eq!(kind.as_str().parse::<RecoveryKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        for state in [
            RecoveryState::Running,
            RecoveryState::Done,
            RecoveryState::Canceled,
            RecoveryState::Failed,
        ] {
            assert_eq!(state.as_str().parse::<RecoveryState>().unwrap(), state);
        }
        assert!("gone".parse::<RecoveryState>().is_err());
    }

    #[test]
    fn no_more_than_the_rate_is_begun_in_a_second() {
        for rate in [1, 3, 50, 100, 1000] {
            let page = page_size(rate);
            assert!(page <= 100 && page <= rate as usize);
            let begun = page as f64 / pause(page, rate).as_secs_f64();
            assert!(begun <= f64::from(rate), "{begun} a second at {rate}");
        }
        assert_eq!(pause(0, 50), Duration::ZERO);
    }

    #[test]
    fn a_day_is_archived_while_all_of_it_is_there() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let days = Day::expiring(now, 30);
        assert_eq!(
            days.iter().map(Day::to_string).collect::<Vec<_>>(),
            ["2026-02-09", "2026-02-10"]
        );
        for day in days {
            let kept = SignedDuration::from_hours(30 * 24);
            let over = now - SignedDuration::from_hours(24);
            assert!(day.end() <= over && day.start() + kept > now);
            assert_eq!(Day::of(day.end()).start(), day.end());
        }
        assert_eq!(Day::expiring(now, 4).len(), 2);
        assert_eq!(Day::expiring(now, 3).len(), 1);
        assert!(Day::expiring(now, 2).is_empty());
    }

    #[test]
    fn a_day_is_late_half_a_day_before_it_begins_to_expire() {
        let late = |now: &str| {
            let days = Day::late(now.parse().unwrap(), 30);
            assert_eq!(days.len(), 8);
            days.last().unwrap().to_string()
        };
        // The 9th of February begins to expire as the 11th of March does.
        assert_eq!(late("2026-03-10T11:59:59Z"), "2026-02-08");
        assert_eq!(late("2026-03-10T12:00:00Z"), "2026-02-09");
        assert_eq!(late("2026-03-11T11:00:00Z"), "2026-02-09");
    }

    #[test]
    fn a_part_is_named_by_project_day_and_number() {
        let project = ProjectId::new(0, [0; 10]);
        let day = Day::of("2026-03-10T12:00:00Z".parse().unwrap());
        insta::assert_snapshot!(
            archive_key("/events/", &project, day, "part-00001"),
            @"events/project=prj_00000000000000000000000000/day=2026-03-10/part-00001.jsonl.gz"
        );
        assert!(archive_key("", &project, day, "part-00001").starts_with("project="));
    }
}
