//! The gate before attempts whose records the store refuses, by project.
//!
//! An attempt that cannot be recorded is made again, so while a project's records are
//! refused none of its attempts is begun, but one now and then, in case no record waits
//! here any more that would show that the store takes them again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::id::ProjectId;

/// Projects kept; more are not held up.
const PROJECTS_MAX: usize = 10_000;

/// The projects whose last record was refused, and when an attempt may show whether the
/// next one is.
#[derive(Debug, Default)]
pub struct RecordGate(Mutex<HashMap<ProjectId, Timestamp>>);

impl RecordGate {
    /// A record of `project` was refused: nothing is begun before `until`. Whether the
    /// one before was not.
    pub fn refused(&self, project: &ProjectId, until: Timestamp) -> bool {
        let mut refused = self.lock();
        if let Some(known) = refused.get_mut(project) {
            *known = until.max(*known);
            return false;
        }
        if refused.len() < PROJECTS_MAX {
            refused.insert(project.clone(), until);
        }
        true
    }

    /// A record of `project` was written: attempts go on.
    pub fn accepted(&self, project: &ProjectId) {
        self.lock().remove(project);
    }

    /// Until when no attempt of `project` is to be begun at `now`. Who is told none is
    /// the only one to begin one within `pause`, unless its record is written.
    pub fn paused_until(
        &self,
        project: &ProjectId,
        now: Timestamp,
        pause: Duration,
    ) -> Option<Timestamp> {
        let mut refused = self.lock();
        let until = refused.get_mut(project)?;
        if now < *until {
            return Some(*until);
        }
        *until = now + pause;
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectId, Timestamp>> {
        // Nothing in between can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attempt_a_pause_is_begun_until_a_record_is_written() {
        let gate = RecordGate::default();
        let project = |name: &str| -> ProjectId { format!("prj_{name:a>26}").parse().unwrap() };
        let (one, other) = (project("b"), project("c"));
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let pause = Duration::from_secs(5);
        assert_eq!(gate.paused_until(&one, at(0), pause), None);
        assert!(gate.refused(&one, at(5)));
        assert!(!gate.refused(&one, at(4)), "known, and no sooner");
        assert_eq!(gate.paused_until(&one, at(4), pause), Some(at(5)));
        assert_eq!(gate.paused_until(&other, at(4), pause), None);
        assert_eq!(gate.paused_until(&one, at(6), pause), None, "the probe");
        assert_eq!(gate.paused_until(&one, at(7), pause), Some(at(11)));
        gate.accepted(&one);
        assert_eq!(gate.paused_until(&one, at(7), pause), None);
    }
}
