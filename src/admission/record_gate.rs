//! The gate before attempts whose records the store refuses, by endpoint.
//!
//! An attempt that cannot be recorded is made again, so while an endpoint's records are
//! refused none of its attempts is begun, but one now and then, in case no record waits
//! here any more that would show that the store takes them again. By endpoint, because
//! it is an endpoint's index that gets hot: what another one's records show says nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::id::EndpointId;

/// Endpoints kept; more are not held up.
const ENDPOINTS_MAX: usize = 10_000;
/// For how long an endpoint is certainly kept of which nothing is begun any more.
const IDLE_TTL_MIN: SignedDuration = SignedDuration::from_mins(10);

/// The endpoints whose last record was refused, and when an attempt may show whether the
/// next one is.
#[derive(Debug, Default)]
pub struct RecordGate(Mutex<HashMap<EndpointId, Timestamp>>);

impl RecordGate {
    /// A record of `endpoint` was refused: nothing is begun before `until`. Whether the
    /// one before was not.
    pub fn refused(&self, endpoint: &EndpointId, until: Timestamp) -> bool {
        let mut refused = self.lock();
        if let Some(known) = refused.get_mut(endpoint) {
            *known = until.max(*known);
            return false;
        }
        if refused.len() >= ENDPOINTS_MAX {
            refused.retain(|_, known| *known + IDLE_TTL_MIN > until);
        }
        if refused.len() < ENDPOINTS_MAX {
            refused.insert(endpoint.clone(), until);
        }
        true
    }

    /// A record of `endpoint` was written: attempts go on.
    pub fn accepted(&self, endpoint: &EndpointId) {
        self.lock().remove(endpoint);
    }

    /// The way to an attempt at `endpoint` at `now`. Whoever has it is the only one within
    /// `pause`, unless a record is written or no attempt is begun after all.
    ///
    /// # Errors
    /// Until when none is to be begun.
    pub fn pass(
        &self,
        endpoint: &EndpointId,
        now: Timestamp,
        pause: Duration,
    ) -> Result<GatePass<'_>, Timestamp> {
        let mut refused = self.lock();
        let Some(until) = refused.get_mut(endpoint) else {
            return Ok(GatePass(None));
        };
        if now < *until {
            return Err(*until);
        }
        let (before, taken) = (*until, now + pause);
        *until = taken;
        let endpoint = endpoint.clone();
        Ok(GatePass(Some(Probe {
            gate: self,
            endpoint,
            before,
            taken,
        })))
    }

    fn give_back(&self, probe: &Probe<'_>) {
        let mut refused = self.lock();
        // Unless something was refused or begun meanwhile.
        if let Some(until) = refused.get_mut(&probe.endpoint)
            && *until == probe.taken
        {
            *until = probe.before;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Timestamp>> {
        // Nothing in between can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to begin an attempt; given back when this is dropped, unless it was used.
#[derive(Debug)]
pub struct GatePass<'a>(Option<Probe<'a>>);

#[derive(Debug)]
struct Probe<'a> {
    gate: &'a RecordGate,
    endpoint: EndpointId,
    before: Timestamp,
    taken: Timestamp,
}

impl GatePass<'_> {
    /// An attempt is begun, or the store has refused something before it could be.
    pub fn use_up(&mut self) {
        self.0 = None;
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        if let Some(probe) = self.0.take() {
            probe.gate.give_back(&probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn endpoint(name: &str) -> EndpointId {
        format!("ep_{name:a>26}").parse().unwrap()
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    /// Begins an attempt, or says until when none is to be.
    fn begin(gate: &RecordGate, endpoint: &EndpointId, now: i64) -> Option<Timestamp> {
        let pass = gate.pass(endpoint, at(now), PAUSE);
        pass.map(|mut pass| pass.use_up()).err()
    }

    #[test]
    fn one_attempt_a_pause_is_begun_until_a_record_is_written() {
        let gate = RecordGate::default();
        let (one, other) = (endpoint("b"), endpoint("c"));
        assert_eq!(begin(&gate, &one, 0), None);
        assert!(gate.refused(&one, at(5)));
        assert!(!gate.refused(&one, at(4)), "known, and no sooner");
        assert_eq!(begin(&gate, &one, 4), Some(at(5)));
        assert_eq!(begin(&gate, &other, 4), None);
        gate.accepted(&other);
        assert_eq!(begin(&gate, &one, 6), None, "the probe");
        assert_eq!(begin(&gate, &one, 7), Some(at(11)));
        gate.accepted(&one);
        assert_eq!(begin(&gate, &one, 7), None);
    }

    #[test]
    fn who_begins_no_attempt_leaves_it_to_the_next() {
        let gate = RecordGate::default();
        let one = endpoint("b");
        gate.refused(&one, at(5));
        let pass = gate.pass(&one, at(6), PAUSE).unwrap();
        assert_eq!(begin(&gate, &one, 6), Some(at(11)), "one at a time");
        drop(pass);
        assert_eq!(begin(&gate, &one, 6), None);
        assert_eq!(begin(&gate, &one, 6), Some(at(11)));
        // What was refused meanwhile counts.
        let pass = gate.pass(&one, at(11), PAUSE).unwrap();
        gate.refused(&one, at(20));
        drop(pass);
        assert_eq!(begin(&gate, &one, 12), Some(at(20)));
    }
}
