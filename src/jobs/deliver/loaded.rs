//! A delivery and all that an attempt needs to know of it: carried along with its
//! job, or read from the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::exhausted;
use super::missing;
use crate::app::App;
use crate::error::Result;
use crate::model::delivery::{Attempt, DeliveryState, Progress};
use crate::model::filter::TEST_TYPE;
use crate::model::id::{DeliveryId, ProjectId};
use crate::model::job::{InlinePayload, Job};
use crate::queue::lanes::WaitReason;
use crate::store::deliveries::{self, HeldLease};

/// How early or late a slot that was given before may be used: what came later has no
/// slot any more, so that what was held up does not come all at once.
const SLOT_EARLY: Duration = Duration::from_secs(1);
const SLOT_LATE: Duration = Duration::from_mins(2);

/// What an attempt brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptKind {
    /// An event that was published.
    Event,
    /// The event that tests an endpoint. A receiver that does not know its type may
    /// refuse it and work all the same.
    Test,
}

/// A pending delivery, its event, and where it stands.
pub(super) struct LoadedDelivery {
    pub project: ProjectId,
    pub event_type: Arc<str>,
    pub tenant: Option<Arc<str>>,
    /// The CloudEvent in structured mode.
    pub body: Bytes,
    /// When the event came, or when it was asked for again.
    pub received: Timestamp,
    pub progress: Progress,
    /// The attempts that its record keeps, the oldest first.
    pub kept_attempts: Vec<Attempt>,
    /// When it is due again unless it is done: the lease of whoever makes its attempt.
    pub due: Timestamp,
    /// When its endpoint's rate limit has a place for it, if it has one already.
    pub slot: Option<Timestamp>,
    /// Since when something that it needs is not here.
    pub missing_since: Option<Timestamp>,
    /// It was made long after its event, or held back for its endpoint's sake.
    is_untimed: bool,
    /// It was carried along, and is again if it has to wait.
    is_inline: bool,
}

impl LoadedDelivery {
    pub fn from_inline(inline: InlinePayload) -> Self {
        Self {
            project: inline.project,
            event_type: inline.event_type,
            tenant: inline.tenant,
            body: inline.body,
            received: inline.received,
            progress: inline.progress,
            kept_attempts: vec![],
            due: inline.due,
            slot: None,
            missing_since: None,
            is_untimed: inline.is_untimed,
            is_inline: true,
        }
    }

    /// Reads it, if the attempt after `attempts_made` is still to be made and its event
    /// is here. Of one that has failed for good, publishes that first, if that is left
    /// to do.
    pub async fn load(
        app: &App,
        id: &DeliveryId,
        attempts_made: u32,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let (delivery, event) = deliveries::get_with_event(&app.dynamo, id).await?;
        if let Some(failed) = delivery.as_ref().filter(|delivery| delivery.owes_notice) {
            Box::pin(exhausted::publish_late(app, failed, now)).await?;
            return Ok(None);
        }
        let is_next = |delivery: &deliveries::StoredDelivery| {
            delivery.state == DeliveryState::Pending
                && delivery.progress.attempts_made == attempts_made
        };
        let Some(delivery) = delivery.filter(is_next) else {
            return Ok(None);
        };
        let Some(event) = event.filter(|_| !missing::has_expired(&delivery, now)) else {
            missing::without_event(app, &delivery, now).await?;
            return Ok(None);
        };
        Ok(Some(Self {
            project: delivery.project,
            event_type: delivery.event_type.into(),
            tenant: delivery.tenant.map(Into::into),
            body: event.body,
            received: event.received,
            progress: delivery.progress,
            kept_attempts: delivery.attempts,
            due: delivery.due.unwrap_or_default(),
            slot: delivery.slot,
            missing_since: delivery.missing_since,
            is_untimed: delivery.is_untimed,
            is_inline: false,
        }))
    }

    /// The job again, to be run later, when `wait` is over.
    pub fn into_job(self, id: &DeliveryId, wait: WaitReason) -> Job {
        // What waits for the store is late by this service's own doing.
        let is_held_back = !matches!(wait, WaitReason::Records(_));
        Job::Deliver {
            delivery: id.clone(),
            attempts_made: self.progress.attempts_made,
            payload: self.is_inline.then_some(InlinePayload {
                project: self.project,
                event_type: self.event_type,
                tenant: self.tenant,
                body: self.body,
                received: self.received,
                progress: self.progress,
                due: self.due,
                is_untimed: self.is_untimed || is_held_back,
            }),
        }
    }

    /// What moves its due time.
    pub fn lease<'a>(&self, id: &'a DeliveryId) -> HeldLease<'a> {
        HeldLease {
            id,
            attempts_made: self.progress.attempts_made,
            due: self.due,
        }
    }

    /// Whether a person asked for this very attempt: a retry, or a test.
    pub fn is_manual(&self) -> bool {
        let is_retry = self.progress.attempts_made > 0
            && self.progress.attempts_made == self.progress.round_start;
        is_retry || self.attempt_kind() == AttemptKind::Test
    }

    /// What is delivered: what was published, or a test of the endpoint.
    pub fn attempt_kind(&self) -> AttemptKind {
        if *self.event_type == *TEST_TYPE {
            AttemptKind::Test
        } else {
            AttemptKind::Event
        }
    }

    /// How late its first attempt is, if it begins at `now`: since its event came, but for
    /// what the schedule waits anyway. None for any other attempt, and where it was the
    /// endpoint that was waited for, or a person who came late.
    pub fn first_attempt_lag(&self, app: &App, now: Timestamp) -> Option<Duration> {
        let is_first = self.progress.attempts_made == 0 && self.progress.round_start == 0;
        let age = now.duration_since(self.received);
        let age: Duration = age.try_into().unwrap_or_default();
        (is_first && !self.is_untimed).then(|| age.saturating_sub(app.schedule.first_delay()))
    }

    /// Whether holding it back is still to be noted, so that its first attempt is not
    /// taken for a late one.
    pub fn is_first_held_back(&self) -> bool {
        self.progress.attempts_made == 0 && !self.is_untimed
    }

    /// Whether its endpoint's rate limit gave it a slot that may be used now.
    pub fn has_slot(&self, now: Timestamp) -> bool {
        self.slot
            .is_some_and(|slot| slot <= now + SLOT_EARLY && now <= slot + SLOT_LATE)
    }

    /// Whether it may still be deferred. What is older than the schedule takes is
    /// attempted whatever the endpoint does, so that it comes to an end.
    pub fn is_within_schedule(&self, app: &App, now: Timestamp) -> bool {
        let age = now.duration_since(self.received);
        let least = app.config.delivery.breaker_open_max;
        age.as_secs_f64() < app.schedule.total().max(least).as_secs_f64()
    }
}
