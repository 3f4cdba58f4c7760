//! An erasure: a job that deletes for good what is kept of a project, of a tenant or
//! of one event, step by step, twice over.
//!
//! ```text
//!             all steps taken            all steps taken again
//! ┌─────────┐              ┌──────────┐                    ┌──────┐
//! │ running │─────────────▶│ settling │───────────────────▶│ done │
//! └─────────┘              └──────────┘                    └──────┘
//! ```
//!
//! The first round deletes what is there. The second begins when no request and no job
//! can be under way any more that saw it, and deletes what those wrote since; what only
//! the second round deletes would be missed by them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::id::{ErasureId, EventId, ProjectId};

/// What an erasure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureKind {
    /// A project with all that belongs to it.
    Project,
    /// The events, endpoints and usage of one tenant.
    Tenant,
    /// One event with its deliveries.
    Event,
}

/// Where an erasure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureState {
    /// It deletes what is there.
    Running,
    /// All that was there is deleted. A last look is left, for what was under way.
    Settling,
    /// Nothing is left but what docs/erasure.md names.
    Done,
}

/// A part of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureStep {
    /// The API keys stop working.
    Keys,
    /// The endpoints stop, and what is kept of their health goes.
    Endpoints,
    /// Event types and meters stop.
    EventTypes,
    /// The back-fills of meters.
    Backfills,
    /// The recoveries.
    Recoveries,
    /// The events, with their deliveries and readings.
    Events,
    /// Deliveries whose event is gone.
    StrayDeliveries,
    /// The events in the archive.
    Archive,
    /// What was counted.
    Usage,
    /// The items of the configuration.
    Projection,
    /// The rows of the configuration.
    Rows,
}

macro_rules! names {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $name {
            /// The name in JSON and in the store.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownErasureName;

            fn from_str(text: &str) -> Result<Self, UnknownErasureName> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownErasureName) }
            }
        }
    };
}
names!(ErasureKind {
    Project = "project",
    Tenant = "tenant",
    Event = "event"
});
names!(ErasureState {
    Running = "running",
    Settling = "settling",
    Done = "done"
});
names!(ErasureStep {
    Keys = "keys",
    Endpoints = "endpoints",
    EventTypes = "event_types",
    Backfills = "backfills",
    Recoveries = "recoveries",
    Events = "events",
    StrayDeliveries = "stray_deliveries",
    Archive = "archive",
    Usage = "usage",
    Rows = "rows",
    Projection = "projection",
});

/// Not the name of a kind, a state or a step of erasures.
#[derive(Debug, thiserror::Error)]
#[error("expected the name of a kind, a state or a step of erasures")]
pub struct UnknownErasureName;

impl ErasureKind {
    /// The steps of a round, in their order: first what makes more, last what the
    /// others need to know what there is.
    fn steps(self) -> &'static [ErasureStep] {
        use ErasureStep::{
            Archive, Backfills, Endpoints, EventTypes, Events, Keys, Projection, Recoveries, Rows,
            StrayDeliveries, Usage,
        };
        match self {
            Self::Project => &[
                Keys,
                Endpoints,
                EventTypes,
                Backfills,
                Recoveries,
                Events,
                StrayDeliveries,
                Archive,
                Usage,
                Projection,
                Rows,
            ],
            Self::Tenant => &[
                Keys,
                Endpoints,
                Recoveries,
                Events,
                StrayDeliveries,
                Archive,
                Usage,
                Rows,
            ],
            Self::Event => &[Events, Archive],
        }
    }

    /// The first step of a round.
    pub fn first_step(self) -> ErasureStep {
        self.steps()[0]
    }
}

impl ErasureStep {
    /// Whether it is left to the last round: what was under way may still read the row
    /// or write the item.
    fn is_last_round_only(self) -> bool {
        matches!(self, Self::StrayDeliveries | Self::Rows | Self::Projection)
    }
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "what the API says of each is in http::erasures"
)]
pub struct ErasureProgress {
    pub events: u64,
    pub deliveries: u64,
    pub readings: u64,
    pub endpoints: u64,
    pub recoveries: u64,
    pub archived_objects: u64,
    pub usage_rows: u64,
}

/// An erasure, as it is stored.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "what the API says of each is in http::erasures"
)]
pub struct Erasure {
    pub id: ErasureId,
    pub project: ProjectId,
    pub kind: ErasureKind,
    /// The tenant or the event's id. A tenant's name goes with its data.
    pub subject: Option<String>,
    /// When the event was received.
    pub received: Option<Timestamp>,
    pub state: ErasureState,
    pub step: ErasureStep,
    /// Where in the step it goes on; none at its beginning.
    pub position: Option<String>,
    pub progress: ErasureProgress,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// When it goes on: also the token of whoever claimed it.
    pub due: Timestamp,
    pub finished: Option<Timestamp>,
}

/// What comes after a page of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextStep {
    /// What it is then.
    pub state: ErasureState,
    /// What it does then.
    pub step: ErasureStep,
    /// Where in that.
    pub position: Option<String>,
}

impl Erasure {
    /// One that has done nothing yet.
    pub fn new(
        id: ErasureId,
        project: ProjectId,
        kind: ErasureKind,
        subject: Option<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            project,
            kind,
            subject,
            received: None,
            state: ErasureState::Running,
            step: kind.first_step(),
            position: None,
            progress: ErasureProgress::default(),
            created: now,
            updated: now,
            due: now,
            finished: None,
        }
    }

    /// The one tenant that it is of.
    pub fn tenant(&self) -> Option<&str> {
        let subject = self.subject.as_deref();
        subject.filter(|_| self.kind == ErasureKind::Tenant)
    }

    /// The one event that it is of.
    pub fn event(&self) -> Option<EventId> {
        let subject = self.subject.as_deref();
        let event = subject.filter(|_| self.kind == ErasureKind::Event);
        event.and_then(|id| id.parse().ok())
    }

    /// The moment before which what came is erased: a tenant may come back, and an event
    /// be published again. By the clock of whoever received the event, if that is ahead.
    pub fn until(&self) -> Option<Timestamp> {
        match self.kind {
            ErasureKind::Project => None,
            ErasureKind::Tenant => Some(self.created),
            ErasureKind::Event => self.received.max(Some(self.created)),
        }
    }

    /// What comes after a page that ended at `position`; the next step if the page was
    /// its last.
    pub fn after(&self, position: Option<String>) -> NextStep {
        if position.is_some() {
            return NextStep {
                state: self.state,
                step: self.step,
                position,
            };
        }
        let steps = self.kind.steps();
        let place = steps.iter().position(|step| *step == self.step);
        let left = &steps[place.map_or(0, |place| place + 1)..];
        let is_last_round = self.state != ErasureState::Running;
        let mut left = left
            .iter()
            .filter(|step| is_last_round || !step.is_last_round_only());
        let (state, step) = match (left.next(), self.state) {
            (Some(step), state) => (state, *step),
            (None, ErasureState::Running) => (ErasureState::Settling, self.kind.first_step()),
            (None, _) => (ErasureState::Done, self.step),
        };
        NextStep {
            state,
            step,
            position: None,
        }
    }
}

/// How long after `deleted` items the next page waits, when `per_second_max` may be
/// deleted in a second.
pub fn pause(deleted: usize, per_second_max: u32) -> Duration {
    Duration::from_millis((deleted as u64 * 1000).div_ceil(u64::from(per_second_max.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps that an erasure of `kind` takes, by its rounds.
    fn rounds(kind: ErasureKind) -> [Vec<ErasureStep>; 2] {
        let id = ErasureId::new(0, [0; 10]);
        let project = ProjectId::new(0, [0; 10]);
        let mut erasure = Erasure::new(id, project, kind, None, Timestamp::UNIX_EPOCH);
        let mut rounds = [vec![], vec![]];
        while erasure.state != ErasureState::Done {
            rounds[usize::from(erasure.state == ErasureState::Settling)].push(erasure.step);
            let next = erasure.after(None);
            (erasure.state, erasure.step) = (next.state, next.step);
        }
        rounds
    }

    #[test]
    fn the_last_round_does_all_that_the_first_does_and_more() {
        for kind in [
            ErasureKind::Project,
            ErasureKind::Tenant,
            ErasureKind::Event,
        ] {
            let [first, last] = rounds(kind);
            assert_eq!(last, kind.steps(), "{kind:?}");
            let is_in_both = |step: &&ErasureStep| !step.is_last_round_only();
            let expected: Vec<_> = last.iter().filter(is_in_both).copied().collect();
            assert_eq!(first, expected, "{kind:?}");
        }
        let [first, _] = rounds(ErasureKind::Project);
        assert!(!first.contains(&ErasureStep::Rows), "{first:?}");
    }

    #[test]
    fn a_page_that_is_not_the_last_goes_on_where_it_ended() {
        let id = ErasureId::new(0, [0; 10]);
        let project = ProjectId::new(0, [0; 10]);
        let tenant = Some("acme".to_owned());
        let kind = ErasureKind::Tenant;
        let erasure = Erasure::new(id, project, kind, tenant, Timestamp::UNIX_EPOCH);
        let next = erasure.after(Some("x".into()));
        assert_eq!(next.step, ErasureStep::Keys);
        assert_eq!(next.position.as_deref(), Some("x"));
        assert_eq!(next.state, ErasureState::Running);
        assert_eq!(erasure.tenant(), Some("acme"));
        assert_eq!(erasure.event(), None);
    }

    #[test]
    fn a_pause_keeps_the_rate() {
        assert_eq!(pause(100, 200), Duration::from_millis(500));
        assert_eq!(pause(1, 1000), Duration::from_millis(1));
        assert_eq!(pause(0, 50), Duration::ZERO);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for kind in [
            ErasureKind::Project,
            ErasureKind::Tenant,
            ErasureKind::Event,
        ] {
            assert_eq!(kind.as_str().parse::<ErasureKind>().unwrap(), kind);
            for step in kind.steps() {
                assert_eq!(step.as_str().parse::<ErasureStep>().unwrap(), *step);
            }
        }
        assert!("x".parse::<ErasureState>().is_err());
    }
}
