//! The admission of attempts: each endpoint's circuit breaker, its slots and how many
//! attempts are under way, as this process knows them.
//!
//! In memory and lost with the process, which costs a few attempts. Asked by the
//! deliver job and shown by the API. Endpoints that are healthy and have no limits
//! are not in it: they cost one look-up.

mod record_gate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

pub use self::record_gate::{GatePass, RecordGate};
use crate::error::Result;
use crate::model::breaker::{
    AttemptMode, Breaker, BreakerDecision, BreakerState, BreakerTransition, Observation, Policy,
    Ticket,
};
use crate::model::endpoint::Target;
use crate::model::failure_streak::FailureStreak;
use crate::model::id::EndpointId;
use crate::model::pacing::{AHEAD_MAX, Pace, Slot, SlotBlock, ask_at};
use crate::store::dynamo::Dynamo;
use crate::store::pacing;

/// Endpoints kept; of more, some are forgotten.
const ENDPOINTS_MAX: usize = 10_000;
/// How long an endpoint is certainly kept after it was last asked for.
const IDLE_TTL_MIN: SignedDuration = SignedDuration::from_mins(10);
/// Between two writes that an endpoint fails, so that one which fails now and then
/// does not cost a write each time. That it works again is written at once.
const PERSIST_INTERVAL: SignedDuration = SignedDuration::from_mins(1);

/// The endpoints that failed lately or have limits.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    endpoints: Mutex<HashMap<EndpointId, EndpointAdmission>>,
    /// Of which endpoints no attempts are begun, since they could not be recorded.
    pub records: RecordGate,
}

#[derive(Debug)]
struct EndpointAdmission {
    breaker: Breaker,
    /// When the endpoint was enabled: all this is of what came after.
    enabled_at: Timestamp,
    block: Option<SlotBlock>,
    /// Places behind the slots, when all of those are given away.
    places: Option<SlotBlock>,
    /// Locked by whoever claims a block.
    claiming: Arc<tokio::sync::Mutex<()>>,
    in_flight: usize,
    persisted_at: Option<Timestamp>,
    streak: StreakMemory,
    last_used: Timestamp,
}

impl EndpointAdmission {
    fn new(enabled_at: Timestamp, now: Timestamp) -> Self {
        Self {
            breaker: Breaker::default(),
            enabled_at,
            block: None,
            places: None,
            claiming: Arc::default(),
            in_flight: 0,
            persisted_at: None,
            streak: StreakMemory::default(),
            last_used: now,
        }
    }
}

/// What this process did about an endpoint's run of failures: the cached projection
/// shows it a little later.
#[derive(Debug, Clone, Copy, Default)]
struct StreakMemory {
    /// Since when it fails by what this process has written; none once that has ended.
    begun: Option<Timestamp>,
    /// When an attempt last ended a run: what began before is over.
    ended: Option<Timestamp>,
}

impl StreakMemory {
    /// Whether there is a run of failures: one begun here, or the one that is `shown` if
    /// it has not ended.
    fn goes_on(&self, shown: Option<FailureStreak>) -> bool {
        let is_over = |shown: FailureStreak| self.ended.is_some_and(|ended| shown.since <= ended);
        self.begun.is_some() || !shown.is_none_or(is_over)
    }
}

/// What an attempt showed of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedOutcome {
    /// What it did to the breaker.
    pub transition: BreakerTransition,
    /// Whether the endpoint may have a run of failures: a success without needs not ask.
    pub may_have_streak: bool,
}

/// What the API shows of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Closed, open or half-open.
    pub state: BreakerState,
    /// Failures since the last success.
    pub failures: u32,
    /// When the next attempt is made, while it is open.
    pub retry_at: Option<Timestamp>,
}

/// What became of the question for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotClaim {
    /// It is taken, for now; or none is needed.
    Now,
    /// There is one then.
    At(Timestamp),
    /// All that are given so far ahead are given away: it is to be asked for again then.
    AskAt(Timestamp),
}

/// A place among an endpoint's attempts, free again when this is dropped.
#[derive(Debug)]
pub struct Permit<'a>(Option<(&'a Admission, EndpointId)>);

impl Admission {
    /// Admission by `policy`, of endpoints of which nothing is known yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            endpoints: Mutex::default(),
            records: RecordGate::default(),
        }
    }

    /// A place for one more attempt.
    ///
    /// # Errors
    /// With the endpoint's limit, if as many are under way.
    pub fn acquire_permit(&self, target: &Target, now: Timestamp) -> Result<Permit<'_>, usize> {
        let Some(most) = target.delivery_settings.max_concurrency else {
            return Ok(Permit(None));
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut endpoints = self.lock();
        let entry = entry(&mut endpoints, target, now);
        if entry.in_flight >= most {
            return Err(most);
        }
        entry.in_flight += 1;
        Ok(Permit(Some((self, target.id.clone()))))
    }

    /// Until when attempts are to be left, without asking for one.
    pub fn deferred_until(&self, target: &Target, now: Timestamp) -> Option<Timestamp> {
        let mut endpoints = self.lock();
        let entry = endpoints.get_mut(&target.id)?;
        reset_if_reenabled(entry, target, now);
        // On a copy: whoever only looks must not become the probe.
        let mut breaker = entry.breaker;
        match breaker.admit(&self.policy, now) {
            BreakerDecision::Allow(_) => None,
            BreakerDecision::Defer { until } => Some(until),
        }
    }

    /// Whether an attempt may be made.
    pub fn admit(&self, target: &Target, mode: AttemptMode, now: Timestamp) -> BreakerDecision {
        let mut endpoints = self.lock();
        let Some(entry) = endpoints.get_mut(&target.id) else {
            let fresh = Breaker::default();
            return BreakerDecision::Allow(fresh.issue_ticket(mode));
        };
        reset_if_reenabled(entry, target, now);
        match mode {
            AttemptMode::Forced => BreakerDecision::Allow(entry.breaker.issue_ticket(mode)),
            AttemptMode::Guarded => entry.breaker.admit(&self.policy, now),
        }
    }

    /// Records what an attempt that ended at `now` showed of its endpoint; what that did
    /// to the breaker.
    pub fn record_outcome(
        &self,
        target: &Target,
        ticket: Ticket,
        observation: Observation,
        now: Timestamp,
    ) -> RecordedOutcome {
        let shown = target.failure_streak();
        let mut endpoints = self.lock();
        if observation == Observation::Healthy {
            let Some(entry) = endpoints.get_mut(&target.id) else {
                return RecordedOutcome {
                    transition: BreakerTransition::None,
                    may_have_streak: shown.is_some(),
                };
            };
            // Whoever saw the last failure may be about to begin a run.
            let fails = entry.breaker.consecutive_failures() > 0;
            return RecordedOutcome {
                transition: entry.breaker.record_success(ticket),
                may_have_streak: fails || entry.streak.goes_on(shown),
            };
        }
        let entry = entry(&mut endpoints, target, now);
        RecordedOutcome {
            transition: entry.breaker.record_failure(&self.policy, ticket, now),
            may_have_streak: true,
        }
    }

    /// Whether it is time to persist that the endpoint fails; not again within
    /// `PERSIST_INTERVAL`.
    pub fn should_persist_failure(&self, target: &Target, now: Timestamp) -> bool {
        let mut endpoints = self.lock();
        let entry = entry(&mut endpoints, target, now);
        let due = entry
            .persisted_at
            .is_none_or(|at| now.duration_since(at).abs() >= PERSIST_INTERVAL);
        if due {
            entry.persisted_at = Some(now);
        }
        due
    }

    /// The run of failures of `target`, unless this process has seen it end.
    pub fn failure_streak(&self, target: &Target) -> Option<FailureStreak> {
        let streak = target.failure_streak()?;
        let endpoints = self.lock();
        let ended = endpoints.get(&target.id).and_then(|e| e.streak.ended);
        ended.is_none_or(|at| streak.since > at).then_some(streak)
    }

    /// Since when `target` fails, as far as this process knows.
    pub fn failing_since(&self, target: &Target) -> Option<Timestamp> {
        let shown = self.failure_streak(target).map(|streak| streak.since);
        let begun = self.lock().get(&target.id).and_then(|e| e.streak.begun);
        // The later run is in the other's place, which may be what the cache shows yet.
        shown.max(begun)
    }

    /// Remembers that a run of failures since `since` is written down, or about to be;
    /// when it ended, if it has meanwhile.
    pub fn begin_streak(
        &self,
        target: &Target,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut endpoints = self.lock();
        let streak = &mut entry(&mut endpoints, target, now).streak;
        if let Some(ended) = streak.ended.filter(|ended| *ended >= since) {
            return Some(ended);
        }
        streak.begun = Some(since);
        None
    }

    /// Whether a success at `now` has a run of failures to end. Whoever is told so
    /// writes it down, and is the only one.
    pub fn end_streak(&self, target: &Target, now: Timestamp) -> bool {
        let shown = target.failure_streak();
        let mut endpoints = self.lock();
        if shown.is_none() && !endpoints.contains_key(&target.id) {
            return false;
        }
        let streak = &mut entry(&mut endpoints, target, now).streak;
        if !streak.goes_on(shown) {
            return false;
        }
        *streak = StreakMemory {
            begun: None,
            ended: Some(now),
        };
        true
    }

    /// Takes back that a run of failures has ended, as that could not be written: the
    /// next success does.
    pub fn resume_streak(&self, target: &Target, now: Timestamp) {
        let shown = target.failure_streak().map(|streak| streak.since);
        let mut endpoints = self.lock();
        entry(&mut endpoints, target, now).streak = StreakMemory {
            begun: shown.or(Some(now)),
            ended: None,
        };
    }

    /// When an endpoint's next slot is, if it is known to have one and it is yet to
    /// come. Asked before anything is read.
    pub fn not_before(&self, id: &EndpointId, now: Timestamp) -> Option<Timestamp> {
        let endpoints = self.lock();
        let next = endpoints.get(id)?.block.as_ref()?.peek()?;
        (next > now).then_some(next)
    }

    /// Takes a slot for an attempt at `now`; when there is one, if not now. Claims
    /// more when they are used up: one or two writes, and as many for the places of those
    /// that have to ask again.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
    /// not answer.
    pub async fn acquire_slot(
        &self,
        dynamo: &Dynamo,
        target: &Target,
        now: Timestamp,
    ) -> Result<SlotClaim> {
        let Some(per_second) = target.delivery_settings.rate_limit else {
            return Ok(SlotClaim::Now);
        };
        let pace = Pace::new(per_second);
        let claiming = match self.take_slot(target, pace, now) {
            Ok(slot) => return Ok(slot),
            Err(claiming) => claiming,
        };
        // One claims; the others find what it claimed.
        let _claiming = claiming.lock().await;
        if let Ok(slot) = self.take_slot(target, pace, now) {
            return Ok(slot);
        }
        let Some(start) = pacing::claim(dynamo, &target.id, pace, now).await? else {
            let place = self.take_place(dynamo, target, pace, now).await?;
            return Ok(SlotClaim::AskAt(ask_at(place, now)));
        };
        entry(&mut self.lock(), target, now).block = Some(SlotBlock::new(pace, start));
        // A slot of one block is always there, now or later.
        let taken = self.take_slot(target, pace, now);
        Ok(taken.unwrap_or(SlotClaim::At(start)))
    }

    /// Takes the next place behind all slots; by whoever claims for the endpoint.
    async fn take_place(
        &self,
        dynamo: &Dynamo,
        target: &Target,
        pace: Pace,
        now: Timestamp,
    ) -> Result<Timestamp> {
        let known = entry(&mut self.lock(), target, now).places;
        // Places that slots have come to mean nothing any more.
        let is_behind = |block: &SlotBlock| block.peek() > Some(now + AHEAD_MAX);
        let known = known.filter(|block| block.pace() == pace && is_behind(block));
        let mut places = match known {
            Some(places) => places,
            None => pacing::claim_places(dynamo, &target.id, pace, now).await?,
        };
        let place = places.peek().unwrap_or(now + AHEAD_MAX);
        places.spend();
        entry(&mut self.lock(), target, now).places = Some(places);
        Ok(place)
    }

    fn take_slot(
        &self,
        target: &Target,
        pace: Pace,
        now: Timestamp,
    ) -> Result<SlotClaim, Arc<tokio::sync::Mutex<()>>> {
        let mut endpoints = self.lock();
        let entry = entry(&mut endpoints, target, now);
        // Slots of another pace are given up.
        entry.block = entry.block.filter(|block| block.pace() == pace);
        match entry.block.as_mut().map_or(Slot::None, |b| b.take(now)) {
            Slot::Now => Ok(SlotClaim::Now),
            Slot::At(at) => Ok(SlotClaim::At(at)),
            Slot::None => Err(entry.claiming.clone()),
        }
    }

    /// Gives the endpoint's next slot to an attempt that waits for it elsewhere.
    pub fn spend_slot(&self, id: &EndpointId) {
        if let Some(block) = self.lock().get_mut(id).and_then(|e| e.block.as_mut()) {
            block.spend();
        }
    }

    /// Where an endpoint's breaker stands.
    pub fn breaker_status(&self, target: &Target, now: Timestamp) -> BreakerSnapshot {
        let mut endpoints = self.lock();
        let breaker = match endpoints.get_mut(&target.id) {
            Some(entry) => {
                reset_if_reenabled(entry, target, now);
                entry.breaker
            }
            None => Breaker::default(),
        };
        BreakerSnapshot {
            state: breaker.state(now),
            failures: breaker.consecutive_failures(),
            retry_at: breaker.retry_at(),
        }
    }

    /// How many breakers are not closed.
    pub fn open_breakers(&self, now: Timestamp) -> usize {
        let endpoints = self.lock();
        let open = |entry: &&EndpointAdmission| entry.breaker.state(now) != BreakerState::Closed;
        endpoints.values().filter(open).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, EndpointAdmission>> {
        // No code that can panic leaves an entry half-changed.
        self.endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of `target`, from now on if nothing was.
fn entry<'a>(
    endpoints: &'a mut HashMap<EndpointId, EndpointAdmission>,
    target: &Target,
    now: Timestamp,
) -> &'a mut EndpointAdmission {
    if endpoints.len() >= ENDPOINTS_MAX && !endpoints.contains_key(&target.id) {
        make_room(endpoints, now);
    }
    let entry = endpoints
        .entry(target.id.clone())
        .or_insert_with(|| EndpointAdmission::new(target.enabled_at, now));
    reset_if_reenabled(entry, target, now);
    entry
}

/// Forgets what was found out before an endpoint was enabled again.
fn reset_if_reenabled(entry: &mut EndpointAdmission, target: &Target, now: Timestamp) {
    entry.last_used = now;
    if entry.enabled_at < target.enabled_at {
        entry.enabled_at = target.enabled_at;
        entry.breaker.reset();
        entry.persisted_at = None;
        entry.streak = StreakMemory::default();
    }
}

fn make_room(endpoints: &mut HashMap<EndpointId, EndpointAdmission>, now: Timestamp) {
    let is_recent = |entry: &EndpointAdmission| now.duration_since(entry.last_used) < IDLE_TTL_MIN;
    endpoints.retain(|_, entry| entry.in_flight > 0 || is_recent(entry));
    if endpoints.len() >= ENDPOINTS_MAX {
        let idle = endpoints.iter().find(|(_, entry)| entry.in_flight == 0);
        if let Some(id) = idle.map(|(id, _)| id.clone()) {
            endpoints.remove(&id);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some((admission, id)) = self.0.take()
            && let Some(entry) = admission.lock().get_mut(&id)
        {
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }
}
