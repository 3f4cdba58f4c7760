//! The circuit breaker of an endpoint: no attempts for a while at one that keeps
//! failing.
//!
//! ```text
//!   ┌────────┐ so many failures in a row ┌──────┐ its wait is over ┌───────────┐
//!   │ closed │──────────────────────────▶│ open │─────────────────▶│ half open │
//!   └────────┘                           └──────┘ one probe goes   └───────────┘
//!        ▲                                   ▲ the probe fails: twice the wait │
//!        └───────────────────────────────────┴─────────────────────────────────┘
//!          the probe succeeds
//! ```
//!
//! Kept per endpoint and process by whoever makes attempts. It must not read the
//! clock: times are parameters. What was begun before the breaker last changed
//! has no say when it ends.

use std::time::Duration;

use jiff::Timestamp;

/// Failures further apart than this are not in a row: what a single delivery's
/// retries meet over hours says nothing about the next minute.
const GAP_MAX: Duration = Duration::from_mins(1);
/// Doublings of the wait, at most: beyond that it is the longest anyway.
const DOUBLINGS_MAX: u32 = 16;

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; 0 never does.
    pub failure_threshold: u32,
    /// How long it stays open at first.
    pub open: Duration,
    /// How long it stays open at most; each failed probe doubles the wait.
    pub open_max: Duration,
    /// How long a probe may take before it counts as lost and another one goes.
    pub probe_timeout: Duration,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Attempts are made.
    Closed,
    /// No attempt is made until `retry_at`.
    Open,
    /// One attempt, the probe, is under way or the next to be made.
    HalfOpen,
}

/// The breaker of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    phase: Phase,
    /// Failures in a row while closed.
    consecutive_failures: u32,
    failed_at: Option<Timestamp>,
    /// Probes that failed in a row.
    doublings: u32,
    /// Counts changes, so that what began before one is known by it.
    generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Closed,
    Open {
        until: Timestamp,
    },
    /// A probe is under way.
    Probing {
        since: Timestamp,
    },
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// It may; its outcome is recorded with this ticket.
    Allow(Ticket),
    /// It may not.
    Defer {
        /// The time to ask again.
        until: Timestamp,
    },
}

/// Whether an attempt heeds the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptMode {
    /// It waits while the breaker is open.
    Guarded,
    /// It goes whatever the state: a person asked for this very attempt, or it is
    /// older than its schedule. Its success counts whenever it began.
    Forced,
}

/// What an attempt showed of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// It answered, and not with a status that says it is overwhelmed.
    Healthy,
    /// It gave no answer, or one that says it is overwhelmed.
    Failing,
}

/// An attempt that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u32,
    mode: AttemptMode,
}

/// What an outcome did to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerTransition {
    /// Nothing to speak of.
    None,
    /// It is open now.
    Opened,
    /// It is closed again.
    Closed,
}

impl Breaker {
    /// Whether an attempt may begin at `now`. The first to ask after the wait is
    /// the probe.
    pub fn admit(&mut self, policy: &Policy, now: Timestamp) -> BreakerDecision {
        match self.phase {
            Phase::Closed => BreakerDecision::Allow(self.issue_ticket(AttemptMode::Guarded)),
            Phase::Open { until } if now < until => BreakerDecision::Defer { until },
            Phase::Probing { since } if now < since + policy.probe_timeout => {
                BreakerDecision::Defer {
                    // It is known soon, as a rule.
                    until: now + (policy.open / 8).min(policy.probe_timeout),
                }
            }
            Phase::Open { .. } | Phase::Probing { .. } => {
                self.phase = Phase::Probing { since: now };
                self.generation = self.generation.wrapping_add(1);
                BreakerDecision::Allow(self.issue_ticket(AttemptMode::Guarded))
            }
        }
    }

    /// Lets an attempt through whatever the state.
    pub fn issue_ticket(&self, mode: AttemptMode) -> Ticket {
        Ticket {
            generation: self.generation,
            mode,
        }
    }

    /// Closes it, and gives what is under way no say.
    pub fn reset(&mut self) {
        *self = Self {
            generation: self.generation.wrapping_add(1),
            ..Self::default()
        };
    }

    /// Takes note that an attempt ended well at its endpoint's side: it answered,
    /// and not with a status that says it is overwhelmed.
    pub fn record_success(&mut self, ticket: Ticket) -> BreakerTransition {
        if ticket.generation != self.generation && ticket.mode == AttemptMode::Guarded {
            return BreakerTransition::None;
        }
        (self.consecutive_failures, self.failed_at, self.doublings) = (0, None, 0);
        match self.phase {
            Phase::Closed => BreakerTransition::None,
            Phase::Open { .. } | Phase::Probing { .. } => {
                self.phase = Phase::Closed;
                self.generation = self.generation.wrapping_add(1);
                BreakerTransition::Closed
            }
        }
    }

    /// Takes note that an attempt failed at `now`.
    pub fn record_failure(
        &mut self,
        policy: &Policy,
        ticket: Ticket,
        now: Timestamp,
    ) -> BreakerTransition {
        if ticket.generation != self.generation {
            return BreakerTransition::None;
        }
        match self.phase {
            Phase::Closed => {
                let in_a_row = self.failed_at.is_some_and(|at| now <= at + GAP_MAX);
                self.consecutive_failures = if in_a_row {
                    self.consecutive_failures + 1
                } else {
                    1
                };
                self.failed_at = Some(now);
                match policy.failure_threshold {
                    0 => BreakerTransition::None,
                    most if self.consecutive_failures >= most => self.open(policy, now),
                    _ => BreakerTransition::None,
                }
            }
            // A manual attempt does not delay the probe.
            Phase::Open { .. } => BreakerTransition::None,
            Phase::Probing { .. } if ticket.mode == AttemptMode::Forced => BreakerTransition::None,
            Phase::Probing { .. } => {
                self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
                self.open(policy, now)
            }
        }
    }

    fn open(&mut self, policy: &Policy, now: Timestamp) -> BreakerTransition {
        let wait = policy.open.saturating_mul(1 << self.doublings);
        self.phase = Phase::Open {
            until: now + wait.min(policy.open_max),
        };
        self.generation = self.generation.wrapping_add(1);
        BreakerTransition::Opened
    }

    /// Where it stands at `now`.
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until } if now < until => BreakerState::Open,
            Phase::Open { .. } | Phase::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// When the probe goes, while it is open.
    pub fn retry_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::Probing { .. } => None,
        }
    }

    /// Failures in a row while closed; the count that opened it, while open.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        failure_threshold: 3,
        open: Duration::from_secs(8),
        open_max: Duration::from_secs(20),
        probe_timeout: Duration::from_secs(5),
    };

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + s).unwrap()
    }

    fn go(breaker: &mut Breaker, s: i64) -> Ticket {
        match breaker.admit(&POLICY, at(s)) {
            BreakerDecision::Allow(ticket) => ticket,
            deferred => panic!("{deferred:?}"),
        }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for s in 0..3 {
            let ticket = go(&mut breaker, s);
            breaker.record_failure(&POLICY, ticket, at(s));
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row() {
        let breaker = opened();
        assert_eq!(breaker.state(at(2)), BreakerState::Open);
        assert_eq!(breaker.retry_at(), Some(at(10)));
        assert_eq!(breaker.consecutive_failures(), 3);

        let mut breaker = Breaker::default();
        for s in 0..30 {
            let ticket = go(&mut breaker, s);
            match s % 3 {
                2 => breaker.record_success(ticket),
                _ => breaker.record_failure(&POLICY, ticket, at(s)),
            };
        }
        assert_eq!(breaker.state(at(30)), BreakerState::Closed);
    }

    #[test]
    fn failures_far_apart_are_not_in_a_row() {
        let mut breaker = Breaker::default();
        for n in 0..30 {
            let ticket = go(&mut breaker, n * 61);
            assert_eq!(
                breaker.record_failure(&POLICY, ticket, at(n * 61)),
                BreakerTransition::None
            );
        }
        assert_eq!(breaker.state(at(2000)), BreakerState::Closed);
    }

    #[test]
    fn one_probe_goes_and_decides() {
        let mut breaker = opened();
        let hold = BreakerDecision::Defer { until: at(10) };
        assert_eq!(breaker.admit(&POLICY, at(9)), hold);
        let probe = go(&mut breaker, 10);
        let deferred = breaker.admit(&POLICY, at(10));
        assert!(matches!(deferred, BreakerDecision::Defer { until } if until > at(10)));
        assert_eq!(breaker.record_success(probe), BreakerTransition::Closed);
        assert_eq!(breaker.state(at(10)), BreakerState::Closed);
        go(&mut breaker, 10);
        go(&mut breaker, 10);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_the_longest() {
        let mut breaker = opened();
        let mut now = 10;
        for wait in [16, 20, 20] {
            let probe = go(&mut breaker, now);
            assert_eq!(
                breaker.record_failure(&POLICY, probe, at(now)),
                BreakerTransition::Opened
            );
            assert_eq!(breaker.retry_at(), Some(at(now + wait)));
            now += wait;
        }
        let probe = go(&mut breaker, now);
        breaker.record_success(probe);
        for _ in 0..3 {
            let ticket = go(&mut breaker, now);
            breaker.record_failure(&POLICY, ticket, at(now));
        }
        assert_eq!(breaker.retry_at(), Some(at(now + 8)), "it begins anew");
    }

    #[test]
    fn a_lost_probe_is_replaced() {
        let mut breaker = opened();
        let lost = go(&mut breaker, 10);
        assert!(matches!(
            breaker.admit(&POLICY, at(14)),
            BreakerDecision::Defer { .. }
        ));
        let probe = go(&mut breaker, 15);
        assert_eq!(
            breaker.record_failure(&POLICY, lost, at(15)),
            BreakerTransition::None
        );
        assert_eq!(breaker.record_success(probe), BreakerTransition::Closed);
    }

    #[test]
    fn what_began_before_it_opened_has_no_say() {
        let mut breaker = Breaker::default();
        let early = go(&mut breaker, 0);
        for s in 0..3 {
            let ticket = go(&mut breaker, s);
            breaker.record_failure(&POLICY, ticket, at(s));
        }
        assert_eq!(breaker.record_success(early), BreakerTransition::None);
        assert_eq!(
            breaker.record_failure(&POLICY, early, at(4)),
            BreakerTransition::None
        );
        assert_eq!(breaker.retry_at(), Some(at(10)));
    }

    #[test]
    fn an_attempt_a_person_asks_for_closes_it_and_never_opens_it() {
        let mut breaker = opened();
        let asked = breaker.issue_ticket(AttemptMode::Forced);
        assert_eq!(
            breaker.record_failure(&POLICY, asked, at(3)),
            BreakerTransition::None
        );
        assert_eq!(breaker.retry_at(), Some(at(10)));
        let asked = breaker.issue_ticket(AttemptMode::Forced);
        let probe = go(&mut breaker, 10);
        assert_eq!(breaker.record_success(asked), BreakerTransition::Closed);
        assert_eq!(
            breaker.record_failure(&POLICY, probe, at(11)),
            BreakerTransition::None
        );
        assert_eq!(breaker.state(at(11)), BreakerState::Closed);
    }

    #[test]
    fn it_can_be_turned_off() {
        let policy = Policy {
            failure_threshold: 0,
            ..POLICY
        };
        let mut breaker = Breaker::default();
        for s in 0..100 {
            let ticket = go(&mut breaker, s);
            assert_eq!(
                breaker.record_failure(&policy, ticket, at(s)),
                BreakerTransition::None
            );
        }
    }

    /// What can happen: an attempt asks to go, or the oldest under way ends.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        Succeed,
        Fail,
        Wait,
    }
    const STEPS: [Step; 4] = [Step::Ask, Step::Succeed, Step::Fail, Step::Wait];

    /// Whatever happens in whatever order, eight steps deep: at most one probe is
    /// under way, a hold always ends, and an open breaker had its reason.
    #[test]
    fn every_short_history_keeps_the_rules() {
        let mut seen = HashSet::new();
        for code in 0..4_usize.pow(8) {
            let steps = (0..8).map(|n| STEPS[code / 4_usize.pow(n) % 4]);
            let mut breaker = Breaker::default();
            let (mut now, mut fails) = (0, 0);
            let mut under_way: Vec<Ticket> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait => now += 4,
                    Step::Ask => match breaker.admit(&POLICY, at(now)) {
                        BreakerDecision::Allow(ticket) => under_way.push(ticket),
                        BreakerDecision::Defer { until } => {
                            assert!(until > at(now) && until <= at(now + 20));
                        }
                    },
                    Step::Succeed | Step::Fail if under_way.is_empty() => {}
                    Step::Succeed => {
                        let closed = breaker.state(at(now)) == BreakerState::Closed;
                        if breaker.record_success(under_way.remove(0)) == BreakerTransition::Closed
                        {
                            assert!(!closed);
                        }
                    }
                    Step::Fail => {
                        fails += 1;
                        let ticket = under_way.remove(0);
                        if breaker.record_failure(&POLICY, ticket, at(now))
                            == BreakerTransition::Opened
                        {
                            assert!(fails >= 3);
                            assert_eq!(breaker.state(at(now)), BreakerState::Open);
                        }
                    }
                }
                let current = |ticket: &&Ticket| ticket.generation == breaker.generation;
                if breaker.state(at(now)) != BreakerState::Closed {
                    assert!(under_way.iter().filter(current).count() <= 1);
                }
                seen.insert(format!("{:?}", breaker.state(at(now))));
            }
        }
        assert_eq!(seen.len(), 3, "every state was reached: {seen:?}");
    }

    proptest! {
        /// However long an endpoint fails, an attempt is made once the longest wait
        /// has passed; and its success lets all through.
        #[test]
        fn it_never_closes_for_good(outcomes in proptest::collection::vec(any::<bool>(), 0..60)) {
            let mut breaker = Breaker::default();
            let mut now = 0;
            for well in outcomes {
                now += 1;
                if let BreakerDecision::Allow(ticket) = breaker.admit(&POLICY, at(now)) {
                    if well {
                        breaker.record_success(ticket);
                    } else {
                        breaker.record_failure(&POLICY, ticket, at(now));
                    }
                }
            }
            let ticket = go(&mut breaker, now + 25);
            breaker.record_success(ticket);
            prop_assert_eq!(breaker.state(at(now + 25)), BreakerState::Closed);
        }
    }
}
