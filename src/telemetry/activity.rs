//! The activity of projects as this process saw it: counts in memory, taken out now and
//! then by whoever writes them down.
//!
//! Counting costs a lock and an addition. Nothing waits for what is written, nothing fails
//! by it, and what is held is bounded: what there is no room for is not counted.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::metrics::Pace;
use crate::model::activity::{ActivityCounts, Counted, EndpointFailures, Span};
use crate::model::id::{EndpointId, ProjectId};

/// Projects counted at a time, each in five minutes: a few megabytes.
pub const PROJECTS_MAX: usize = 10_000;
/// Failing endpoints of one of them that are told apart.
pub const ENDPOINTS_MAX: usize = 100;
/// Of these, those that are written down: the ones that failed most.
pub const ENDPOINTS_WRITTEN_MAX: usize = 10;
/// Writes kept that the store refused.
const REFUSED_MAX: usize = 10_000;

/// What happened in this process and is not written down.
#[derive(Debug, Default)]
pub struct Activity {
    counted: Mutex<HashMap<(ProjectId, Timestamp), ProjectActivity>>,
    refused: Mutex<Vec<ActivityWrite>>,
    /// When it was last written down.
    pub flushes: Pace,
}

#[derive(Debug, Default)]
struct ProjectActivity {
    counts: ActivityCounts,
    failing: HashMap<EndpointId, EndpointFailures>,
}

/// What is to be added to one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityWrite {
    /// Whose it is.
    pub project: ProjectId,
    /// What it is added to.
    pub added: Added,
}

/// What is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// To the counts of a span that begins then.
    Counts(Span, Timestamp, Box<ActivityCounts>),
    /// To an endpoint's failures in the hour that begins then.
    Failures(Timestamp, EndpointFailures),
}

/// An attempt, as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct CountedAttempt<'a> {
    /// The endpoint that it was made at.
    pub endpoint: &'a EndpointId,
    /// From connecting to the end of the answer or the timeout.
    pub latency: Duration,
    /// How late it was, if it is the first and that says anything.
    pub lag: Option<Duration>,
    /// What it came to: an attempt that succeeded or failed.
    pub attempt: Counted,
    /// What became of its delivery, if that is decided.
    pub delivery: Option<Counted>,
}

impl Activity {
    /// Counts one of `what` at `now`.
    pub fn count(&self, project: &ProjectId, what: Counted, now: Timestamp) {
        self.update(project, now, |activity| activity.counts.add(what, 1));
    }

    /// Counts an attempt that ended at `now`.
    pub fn count_attempt(&self, project: &ProjectId, made: &CountedAttempt<'_>, now: Timestamp) {
        self.update(project, now, |activity| {
            let counts = &mut activity.counts;
            counts.add(made.attempt, 1);
            counts.attempt.record(millis(made.latency));
            if let Some(lag) = made.lag {
                counts.lag.record(millis(lag));
            }
            if let Some(delivery) = made.delivery {
                counts.add(delivery, 1);
            }
            if made.attempt == Counted::AttemptFailed {
                activity.add_failure(made.endpoint, made.delivery == Some(Counted::Failed));
            }
        });
    }

    /// Whether everything is written down.
    pub fn is_empty(&self) -> bool {
        lock(&self.counted).is_empty() && lock(&self.refused).is_empty()
    }

    /// All that is not written down, which it is taken to be from then on: what is, with
    /// the counts of its slot and of its hour apart.
    pub fn take(&self) -> Vec<ActivityWrite> {
        let counted = std::mem::take(&mut *lock(&self.counted));
        let mut writes = std::mem::take(&mut *lock(&self.refused));
        for ((project, slot), activity) in counted {
            activity.into_writes(&project, slot, &mut writes);
        }
        writes
    }

    /// Takes back what could not be written down, for the next time.
    pub fn put_back(&self, write: ActivityWrite) {
        let mut refused = lock(&self.refused);
        if refused.len() < REFUSED_MAX {
            refused.push(write);
        }
    }

    fn update(
        &self,
        project: &ProjectId,
        now: Timestamp,
        change: impl FnOnce(&mut ProjectActivity),
    ) {
        let mut counted = lock(&self.counted);
        let key = (project.clone(), Span::Slot.start(now));
        let has_room = counted.len() < PROJECTS_MAX;
        match counted.get_mut(&key) {
            Some(activity) => change(activity),
            None if has_room => change(counted.entry(key).or_default()),
            None => {}
        }
    }
}

impl ProjectActivity {
    fn add_failure(&mut self, endpoint: &EndpointId, is_given_up: bool) {
        if self.failing.len() >= ENDPOINTS_MAX && !self.failing.contains_key(endpoint) {
            return;
        }
        let failures = self.failing.entry(endpoint.clone());
        let failures = failures.or_insert_with(|| EndpointFailures {
            endpoint: endpoint.clone(),
            attempts: 0,
            deliveries: 0,
        });
        failures.attempts += 1;
        failures.deliveries += u64::from(is_given_up);
    }

    fn into_writes(self, project: &ProjectId, slot: Timestamp, writes: &mut Vec<ActivityWrite>) {
        let hour = Span::Hour.start(slot);
        let mut failing: Vec<_> = self.failing.into_values().collect();
        failing.sort_by_key(|failures| std::cmp::Reverse(failures.attempts));
        failing.truncate(ENDPOINTS_WRITTEN_MAX);
        let counts = Box::new(self.counts);
        let spans = [
            Added::Counts(Span::Slot, slot, counts.clone()),
            Added::Counts(Span::Hour, hour, counts),
        ];
        let failing = failing.into_iter();
        let failing = failing.map(|failures| Added::Failures(hour, failures));
        writes.extend(spans.into_iter().chain(failing).map(|added| ActivityWrite {
            project: project.clone(),
            added,
        }));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(n: u64) -> ProjectId {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        ProjectId::new(1, random)
    }

    fn endpoint(n: u8) -> EndpointId {
        EndpointId::new(1, [n; 10])
    }

    fn now() -> Timestamp {
        "2026-11-30T10:58:04Z".parse().unwrap()
    }

    #[test]
    fn what_is_taken_is_for_its_slot_and_its_hour_and_is_taken_once() {
        let activity = Activity::default();
        activity.count(&project(1), Counted::Accepted, now());
        let taken = activity.take();
        let starts: Vec<_> = taken
            .iter()
            .map(|write| match &write.added {
                Added::Counts(span, start, counts) => {
                    (*span, start.to_string(), counts.of(Counted::Accepted))
                }
                Added::Failures(..) => panic!("{write:?}"),
            })
            .collect();
        let expected = [
            (Span::Slot, "2026-11-30T10:55:00Z".to_owned(), 1),
            (Span::Hour, "2026-11-30T10:00:00Z".to_owned(), 1),
        ];
        assert_eq!(starts, expected);
        assert_eq!(activity.take(), []);
        activity.put_back(taken[0].clone());
        assert_eq!(activity.take(), taken[..1]);
    }

    #[test]
    fn the_endpoints_that_failed_most_are_written_down() {
        let activity = Activity::default();
        for n in 0..200 {
            let endpoint = endpoint(n);
            let made = CountedAttempt {
                endpoint: &endpoint,
                latency: Duration::from_millis(7),
                lag: None,
                attempt: Counted::AttemptFailed,
                delivery: (n == 3).then_some(Counted::Failed),
            };
            for _ in 0..=n {
                activity.count_attempt(&project(1), &made, now());
            }
        }
        let failures: Vec<_> = activity
            .take()
            .into_iter()
            .filter_map(|write| match write.added {
                Added::Failures(_, failures) => Some(failures),
                Added::Counts(_, _, counts) => {
                    assert_eq!(counts.of(Counted::AttemptFailed), 200 * 201 / 2);
                    assert_eq!(counts.of(Counted::Failed), 4);
                    None
                }
            })
            .collect();
        assert_eq!(failures.len(), ENDPOINTS_WRITTEN_MAX);
        // Of those that came while there was room.
        assert_eq!(failures[0].endpoint, endpoint(99));
        assert_eq!(failures[0].attempts, 100);
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let activity = Activity::default();
        for n in 0..PROJECTS_MAX as u64 + 5 {
            activity.count(&project(n), Counted::Accepted, now());
        }
        activity.count(&project(0), Counted::Accepted, now());
        let taken = activity.take();
        assert_eq!(taken.len(), 2 * PROJECTS_MAX);
        for _ in 0..REFUSED_MAX + 5 {
            activity.put_back(taken[0].clone());
        }
        assert_eq!(activity.take().len(), REFUSED_MAX);
    }
}
