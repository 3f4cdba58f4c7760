//! The rate limit: the generic cell rate algorithm.
//!
//! One time is all the state there is: the *theoretical arrival time*, by which
//! everything let through so far is paid for. It is kept by the caller, for each
//! thing that is limited, and nothing need be kept once it has passed.

use std::num::NonZeroU32;

use jiff::Timestamp;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many a second, in the long run.
    pub per_second: NonZeroU32,
    /// How many at once after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_second`, and a burst of as many whole seconds' worth as `at_once` needs,
    /// one at least.
    pub fn with_burst_for(per_second: NonZeroU32, at_once: u32) -> Self {
        let seconds = at_once.div_ceil(per_second.get()).max(1);
        Self {
            per_second,
            burst: per_second.saturating_mul(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN)),
        }
    }

    /// Lets `cost` through at `now`, if that keeps the rate, where `paid_until` is
    /// what was returned the last time (none, or any time that has passed, if
    /// nothing is owed). A `cost` above [`Self::burst`] gets through when nothing is
    /// owed, and is owed in full afterwards.
    ///
    /// Between any two moments no more is let through than the time between them is
    /// worth, and a burst (or the largest single cost, if that is more).
    ///
    /// # Errors
    /// With the time from which the same `cost` would get through.
    pub fn admit(
        &self,
        theoretical_arrival: Option<Timestamp>,
        now: Timestamp,
        cost: u32,
    ) -> Result<Timestamp, Timestamp> {
        let now_ns = now.as_nanosecond();
        let paid = self
            .owed_ns(theoretical_arrival, now)
            .saturating_add(now_ns);
        let after = paid + self.cost_ns(cost);
        let bound = now_ns + self.cost_ns(cost.max(self.burst.get()));
        if after <= bound {
            Ok(at(after))
        } else {
            Err(at(now_ns + (after - bound)))
        }
    }

    /// How many would get through at `now`: 0 to [`Self::burst`].
    pub fn remaining(&self, paid_until: Option<Timestamp>, now: Timestamp) -> u32 {
        let free_ns = self.cost_ns(self.burst.get()) - self.owed_ns(paid_until, now);
        let whole = free_ns.max(0) * i128::from(self.per_second.get()) / NANOS_PER_SECOND;
        u32::try_from(whole)
            .unwrap_or(u32::MAX)
            .min(self.burst.get())
    }

    /// What is not paid for yet at `now`, in nanoseconds.
    fn owed_ns(&self, paid_until: Option<Timestamp>, now: Timestamp) -> i128 {
        paid_until.map_or(0, |paid| {
            (paid.as_nanosecond() - now.as_nanosecond()).max(0)
        })
    }

    /// How long `cost` takes at this rate, in nanoseconds, rounded up: the rate is
    /// kept rather than reached.
    fn cost_ns(&self, cost: u32) -> i128 {
        let per_second = i128::from(self.per_second.get());
        (i128::from(cost) * NANOS_PER_SECOND + per_second - 1) / per_second
    }
}

fn at(nanosecond: i128) -> Timestamp {
    Timestamp::from_nanosecond(nanosecond).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn ms(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let rate = rate(10, 3);
        let mut paid = None;
        for _ in 0..3 {
            paid = Some(rate.admit(paid, ms(0), 1).unwrap());
        }
        assert_eq!(rate.remaining(paid, ms(0)), 0);
        assert_eq!(rate.admit(paid, ms(0), 1), Err(ms(100)));
        assert_eq!(rate.admit(paid, ms(99), 1), Err(ms(100)));
        assert!(rate.admit(paid, ms(100), 1).is_ok());
        assert_eq!(rate.remaining(paid, ms(299)), 2);
        assert_eq!(rate.remaining(paid, ms(300)), 3);
    }

    #[test]
    fn all_of_a_cost_or_none_of_it() {
        let rate = rate(10, 10);
        let paid = Some(rate.admit(None, ms(0), 6).unwrap());
        assert_eq!(rate.admit(paid, ms(0), 5), Err(ms(100)));
        assert!(rate.admit(paid, ms(0), 4).is_ok(), "refusing costs nothing");
    }

    #[test]
    fn more_than_a_burst_waits_for_a_clean_slate_and_is_owed_in_full() {
        let rate = rate(10, 10);
        let paid = Some(rate.admit(None, ms(0), 30).unwrap());
        assert_eq!(rate.remaining(paid, ms(2000)), 0);
        assert_eq!(rate.admit(paid, ms(0), 1), Err(ms(2100)));
        assert_eq!(rate.admit(paid, ms(1), 30), Err(ms(3000)));
        assert!(rate.admit(paid, ms(3000), 30).is_ok());
    }

    #[test]
    fn room_is_made_in_whole_seconds() {
        let room = |per_second, at_once| {
            Rate::with_burst_for(NonZeroU32::new(per_second).unwrap(), at_once)
                .burst
                .get()
        };
        assert_eq!(room(500, 100), 500);
        assert_eq!(room(7, 100), 105);
        assert_eq!(room(1, 0), 1);
        assert_eq!(room(u32::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn a_clock_that_steps_back_owes_no_more_than_was_let_through() {
        let rate = rate(10, 10);
        let paid = Some(rate.admit(None, ms(1000), 10).unwrap());
        let retry = rate.admit(paid, ms(0), 1).unwrap_err();
        assert!(rate.admit(paid, retry, 1).is_ok());
    }

    proptest! {
        /// Against the plainest model there is: everything that was let through,
        /// counted over every window that begins and ends with one.
        #[test]
        fn no_window_sees_more_than_its_time_is_worth_and_a_burst(
            per_second in 1..200u32,
            burst in 1..50u32,
            asks in proptest::collection::vec((0..400i64, 1..60u32), 1..60),
        ) {
            let rate = rate(per_second, burst);
            let (mut now, mut paid, mut admitted) = (0, None, Vec::new());
            for (pause, cost) in asks {
                now += pause;
                if let Ok(next) = rate.admit(paid, ms(now), cost) {
                    paid = Some(next);
                    admitted.push((now, cost));
                }
            }
            for from in 0..admitted.len() {
                for to in from..admitted.len() {
                    let window = &admitted[from..=to];
                    let let_through: u32 = window.iter().map(|(_, cost)| cost).sum();
                    let largest = window.iter().map(|(_, cost)| *cost).max().unwrap();
                    let elapsed_ms = window[window.len() - 1].0 - window[0].0;
                    let worth = i64::from(per_second) * elapsed_ms / 1000;
                    let bound = worth + i64::from(burst.max(largest));
                    prop_assert!(i64::from(let_through) <= bound, "{window:?}");
                }
            }
        }

        /// Who is refused and comes back when told is let through, and not sooner.
        #[test]
        fn the_time_to_come_back_is_the_first_that_works(
            per_second in 1..2000u32,
            burst in 1..100u32,
            costs in proptest::collection::vec(1..150u32, 2..20),
        ) {
            let rate = rate(per_second, burst);
            let (now, mut paid) = (ms(0), None);
            for cost in costs {
                match rate.admit(paid, now, cost) {
                    Ok(next) => paid = Some(next),
                    Err(retry) => {
                        prop_assert!(rate.admit(paid, retry, cost).is_ok());
                        let sooner = retry - SignedDuration::from_nanos(1);
                        prop_assert!(rate.admit(paid, sooner, cost).is_err());
                    }
                }
            }
        }

        /// What remains gets through, and one more does not.
        #[test]
        fn what_remains_is_what_gets_through(
            per_second in 1..2000u32,
            burst in 1..100u32,
            spent in 1..100u32,
            later_ms in 0..3000i64,
        ) {
            let rate = rate(per_second, burst);
            let paid = Some(rate.admit(None, ms(0), spent).unwrap());
            let now = ms(later_ms);
            let remaining = rate.remaining(paid, now);
            if remaining > 0 {
                prop_assert!(rate.admit(paid, now, remaining).is_ok());
            }
            if remaining < burst {
                prop_assert!(rate.admit(paid, now, remaining + 1).is_err());
            }
        }
    }
}
