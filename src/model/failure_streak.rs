//! The run of failures of an endpoint, and the rule by which it ends in the endpoint
//! being disabled.
//!
//! A run begins with the first attempt that fails and ends with the first that
//! succeeds. It is as long as attempts went on failing: where nothing was tried for
//! longer than [`FailurePolicy::silence_max`] it begins anew, since nothing is known
//! of the time between. It must not read the clock: times are parameters.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

use super::retry::Schedule;

/// Of the time after which an endpoint is disabled, the part after which its owner
/// is warned, and also the longest silence in a run: three days of five, so that a
/// weekend without events is no end.
const FRACTION: f64 = 0.6;
/// The longest silence where nothing is ever disabled.
const SILENCE_MAX_DEFAULT: Duration = Duration::from_hours(72);
/// What a retry may be late by: a breaker that is open, a sweep, and what is noted
/// of a run only so often.
const RETRY_LATE_MAX: Duration = Duration::from_hours(2);
/// Between two notes that a run goes on.
pub const NOTE_INTERVAL: Duration = Duration::from_hours(1);

/// A run of failures, as all processes know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureStreak {
    /// The time of the first of them.
    pub since: Timestamp,
    /// The time of the last that was noted, at most [`NOTE_INTERVAL`] before the last.
    pub noted: Timestamp,
    /// Whether its owner was warned.
    pub warned: bool,
}

/// The run of failures of an endpoint as it was last read, if it has one. It is read
/// more often than what else is known of the endpoint.
#[derive(Debug, Default)]
pub struct LatestStreak(Mutex<Option<FailureStreak>>);

impl LatestStreak {
    /// What was read last.
    pub fn get(&self) -> Option<FailureStreak> {
        *self.0.lock().expect("nothing panics with it")
    }

    /// Takes note of what was read.
    pub fn set(&self, streak: Option<FailureStreak>) {
        *self.0.lock().expect("nothing panics with it") = streak;
    }
}

/// When a run of failures disables an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailurePolicy {
    /// How long a run has to be; none disables if absent.
    pub disable_after: Option<Duration>,
    /// The longest time in a run without an attempt.
    pub silence_max: Duration,
}

/// What follows from one more failure of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreakStep {
    /// Nothing, for now.
    Nothing,
    /// It is noted that it goes on.
    Note,
    /// The silence before was too long: this failure is the first of another run.
    BeginAnew,
    /// The owner is warned that the endpoint is disabled then.
    Warn {
        /// When, if it goes on: no sooner than the next failure.
        disabled_at: Timestamp,
    },
    /// It is disabled. Its owner was warned at a failure before.
    Disable,
}

impl FailurePolicy {
    /// The policy that disables after `disable_after`, where deliveries are retried
    /// by `schedule`: between two attempts of one delivery there is no silence.
    pub fn new(disable_after: Option<Duration>, schedule: &Schedule) -> Self {
        let share = disable_after.map_or(SILENCE_MAX_DEFAULT, |after| after.mul_f64(FRACTION));
        Self {
            disable_after,
            silence_max: share.max(schedule.wait_max() + RETRY_LATE_MAX),
        }
    }

    /// What follows from an attempt of the run `streak` that failed at `now`.
    pub fn after_failure(&self, streak: FailureStreak, now: Timestamp) -> StreakStep {
        let since = |then: Timestamp| Duration::try_from(now.duration_since(then));
        let silent = since(streak.noted).unwrap_or_default();
        let failed_for = since(streak.since).unwrap_or_default();
        if silent > self.silence_max {
            return StreakStep::BeginAnew;
        }
        match self.disable_after {
            // Two failures may be further apart than that: alone they disable nothing.
            Some(after) if streak.warned && failed_for >= after => StreakStep::Disable,
            Some(after) if !streak.warned && failed_for >= after.mul_f64(FRACTION) => {
                StreakStep::Warn {
                    disabled_at: (streak.since + after).max(now),
                }
            }
            _ if silent >= NOTE_INTERVAL => StreakStep::Note,
            _ => StreakStep::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn at(later: Duration) -> Timestamp {
        "2026-01-31T12:00:00Z".parse::<Timestamp>().unwrap() + later
    }

    fn policy(days: u64) -> FailurePolicy {
        let after = (days > 0).then(|| Duration::from_hours(24 * days));
        FailurePolicy::new(after, &Schedule::default())
    }

    /// What becomes of an endpoint whose attempts all fail at these hours: the hour of
    /// each warning (negative) and at last that at which it is disabled.
    fn told(policy: FailurePolicy, hours: impl IntoIterator<Item = u64>) -> Vec<i64> {
        let mut streak = None::<FailureStreak>;
        let mut told = vec![];
        for hour in hours {
            let now = at(HOUR * u32::try_from(hour).unwrap());
            let hour = i64::try_from(hour).unwrap();
            let begun = FailureStreak {
                since: now,
                noted: now,
                warned: false,
            };
            let Some(run) = &mut streak else {
                streak = Some(begun);
                continue;
            };
            match policy.after_failure(*run, now) {
                StreakStep::Nothing => {}
                StreakStep::Note => run.noted = now,
                StreakStep::BeginAnew => *run = begun,
                StreakStep::Warn { .. } => {
                    (run.warned, run.noted) = (true, now);
                    told.push(-hour);
                }
                StreakStep::Disable => {
                    told.push(hour);
                    return told;
                }
            }
        }
        told
    }

    #[test]
    fn failing_for_days_on_end_disables() {
        assert_eq!(told(policy(5), 0..200), [-72, 120]);
        assert_eq!(told(policy(5), (0..200).step_by(24)), [-72, 120]);
        assert_eq!(told(policy(5), [0, 48, 73, 96, 121]), [-73, 121]);
        assert_eq!(told(policy(1), (0..200).step_by(8)), [-16, 24]);
        assert_eq!(told(policy(0), 0..2000), [0; 0]);
    }

    #[test]
    fn silence_is_not_failing() {
        assert_eq!(told(policy(5), [0, 144]), [0; 0]);
        assert_eq!(told(policy(5), [0, 336, 337, 338]), [0; 0]);
        assert_eq!(told(policy(5), (0..5000).step_by(168)), [0; 0]);
        let anew = [0, 240, 264, 288, 312, 336, 360];
        assert_eq!(told(policy(5), anew), [-312, 360]);
        assert_eq!(told(policy(1), [0, 48]), [0; 0]);
    }

    #[test]
    fn two_failures_alone_disable_nothing() {
        for days in 0..=365 {
            let policy = policy(days);
            for silence in (0..=24 * (days + 4)).step_by(1 + days as usize / 10) {
                let told = told(policy, [0, silence]);
                assert!(told.iter().all(|hour| *hour <= 0), "{days} d: {told:?}");
            }
        }
        assert_eq!(told(policy(1), [0, 25]), [-25]);
        assert_eq!(told(policy(1), [0, 25, 26]), [-25, 26]);
    }

    #[test]
    fn a_warning_names_no_time_that_is_over() {
        let since = at(Duration::ZERO);
        let streak = FailureStreak {
            since,
            noted: since,
            warned: false,
        };
        let now = at(25 * HOUR);
        let step = policy(1).after_failure(streak, now);
        assert_eq!(step, StreakStep::Warn { disabled_at: now });
    }

    #[test]
    fn the_retries_of_one_delivery_and_a_weekend_are_no_silence() {
        let retries = [0, 1, 3, 8, 18, 32, 52, 76];
        assert_eq!(told(policy(1), retries), [-18, 32]);
        let weekend = [0, 9, 24, 33, 96, 105, 120];
        assert_eq!(told(policy(5), weekend), [-96, 120]);
    }

    #[test]
    fn that_a_run_goes_on_is_noted_once_an_hour() {
        let streak = FailureStreak {
            since: at(Duration::ZERO),
            noted: at(Duration::ZERO),
            warned: false,
        };
        let step = |later| policy(5).after_failure(streak, at(later));
        assert_eq!(step(HOUR - Duration::from_secs(1)), StreakStep::Nothing);
        assert_eq!(step(HOUR), StreakStep::Note);
        assert_eq!(
            step(3 * DAY),
            StreakStep::Warn {
                disabled_at: at(5 * DAY)
            }
        );
        // A clock that runs behind.
        let early = policy(5).after_failure(streak, at(Duration::ZERO) - HOUR);
        assert_eq!(early, StreakStep::Nothing);
    }
}
