//! The retry schedule: when a failed delivery is attempted again.
//!
//! Owns the schedule, its validation and `Retry-After`. Called by the
//! configuration when it is read and by the deliver job after a failed attempt.
//! It must not read the clock nor draw the jitter: both are parameters.

use std::time::{Duration, SystemTime};

use crate::error::Invalid;

/// The longest entry of a schedule, and the longest `Retry-After` honoured.
pub const DELAY_MAX: Duration = Duration::from_hours(24);
/// How many attempts a schedule may have.
const ATTEMPTS_MAX: usize = 20;
/// The default part of a delay by which jitter moves it, either way.
const DEFAULT_JITTER: f64 = 0.1;
/// The default: at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
const DEFAULT_S: [u64; 10] = [
    0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
];

/// The delays before each attempt of a round.
///
/// A round is the attempts that follow the event, or a manual retry.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    delays: Vec<Duration>,
    jitter: f64,
}

impl Schedule {
    /// The schedule whose `n`th attempt is made `delays[n - 1]` after the one before,
    /// or as much earlier or later as `jitter` is of that, from 0 to 1.
    ///
    /// # Errors
    /// [`Invalid`] unless there are 1 to 20 delays, each of at most 24 h.
    pub fn new(delays: Vec<Duration>, jitter: f64) -> Result<Self, Invalid> {
        if !(1..=ATTEMPTS_MAX).contains(&delays.len()) {
            return Err(Invalid::new(
                "delivery.retry_schedule_s",
                format!("expected 1 to {ATTEMPTS_MAX} delays, got {}", delays.len()),
            ));
        }
        match delays.iter().position(|delay| *delay > DELAY_MAX) {
            None => Ok(Self {
                delays,
                jitter: jitter.clamp(0.0, 1.0),
            }),
            Some(at) => Err(Invalid::new(
                format!("delivery.retry_schedule_s[{at}]"),
                format!("expected at most {} seconds", DELAY_MAX.as_secs()),
            )),
        }
    }

    /// How many attempts a round has at most.
    pub fn attempts_max(&self) -> usize {
        self.delays.len()
    }

    /// How long a round takes, if every attempt fails at once.
    pub fn total(&self) -> Duration {
        self.delays.iter().sum()
    }

    /// The longest wait between two attempts of a round, be it one that a receiver
    /// asked for.
    pub fn wait_max(&self) -> Duration {
        let scheduled = self.delays.iter().max().copied().unwrap_or_default();
        scheduled.mul_f64(1.0 + self.jitter).max(DELAY_MAX)
    }

    /// How long to wait before the first attempt at a new event.
    pub fn first_delay(&self) -> Duration {
        self.delays[0]
    }

    /// How long to wait after `attempts_in_round` attempts, all failed; `None` when
    /// that was the last.
    ///
    /// `random`, from 0 to 1, says where in the span that jitter leaves it the delay
    /// lies, so that what failed together does not come back together. A
    /// `retry_after` that is longer wins, up to [`DELAY_MAX`]; a shorter one
    /// changes nothing.
    pub fn delay_after(
        &self,
        attempts_in_round: u32,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        let scheduled = self.delays.get(usize::try_from(attempts_in_round).ok()?)?;
        let spread = scheduled.mul_f64(1.0 + self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0));
        let asked = retry_after.unwrap_or_default().min(DELAY_MAX);
        Some(spread.max(asked))
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            delays: DEFAULT_S.map(Duration::from_secs).into(),
            jitter: DEFAULT_JITTER,
        }
    }
}

/// Reads a `Retry-After` header (RFC 9110 §10.2.3): seconds, or an HTTP date in
/// any of its three forms, of which one that has passed is zero.
///
/// `None` when it is neither. Seconds may be any number: the schedule caps them.
pub fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Only a number over u64::MAX fails here, and it is as good as that.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(
        date.duration_since(SystemTime::from(now))
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: f64 = 0.5;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn now() -> jiff::Timestamp {
        "1994-11-06T08:49:00Z".parse().unwrap()
    }

    fn schedule(seconds: Vec<u64>) -> Result<Schedule, Invalid> {
        let delays = seconds.into_iter().map(Duration::from_secs);
        Schedule::new(delays.collect(), DEFAULT_JITTER)
    }

    fn refusal(seconds: Vec<u64>) -> String {
        schedule(seconds).unwrap_err().to_string()
    }

    #[test]
    fn the_default_has_ten_attempts() {
        let schedule = Schedule::default();
        let delays: Vec<u64> = (0..)
            .map_while(|n| schedule.delay_after(n, None, MIDDLE))
            .map(|delay| delay.as_secs())
            .collect();
        assert_eq!(delays, DEFAULT_S);
        assert_eq!(schedule.attempts_max(), 10);
        assert_eq!(Schedule::new(schedule.delays.clone(), 0.1), Ok(schedule));
    }

    #[test]
    fn a_wait_follows_each_attempt_but_the_last() {
        let schedule = schedule(vec![7, 100]).unwrap();
        let after = |n| schedule.delay_after(n, None, MIDDLE);
        assert_eq!(schedule.first_delay(), secs(7));
        assert_eq!((after(1), after(2)), (Some(secs(100)), None));
    }

    #[test]
    fn a_longer_retry_after_wins_up_to_a_day() {
        let schedule = schedule(vec![0, 100]).unwrap();
        let after = |retry_after| schedule.delay_after(1, Some(retry_after), MIDDLE);
        assert_eq!(after(secs(101)), Some(secs(101)));
        assert_eq!(after(secs(99)), Some(secs(100)));
        assert_eq!(after(Duration::MAX), Some(DELAY_MAX));
        assert_eq!(schedule.delay_after(2, Some(secs(1)), MIDDLE), None);
    }

    #[test]
    fn a_schedule_out_of_bounds_is_refused() {
        assert_eq!(
            refusal(vec![]),
            "delivery.retry_schedule_s: expected 1 to 20 delays, got 0"
        );
        assert_eq!(
            refusal(vec![0; 21]),
            "delivery.retry_schedule_s: expected 1 to 20 delays, got 21"
        );
        assert_eq!(
            refusal(vec![0, 86_401]),
            "delivery.retry_schedule_s[1]: expected at most 86400 seconds"
        );
        assert!(schedule(vec![86_400; 20]).is_ok());
    }

    #[test]
    fn jitter_is_as_configured() {
        let spread = |jitter| {
            let schedule = Schedule::new(vec![Duration::ZERO, secs(100)], jitter).unwrap();
            [0.0, 1.0].map(|random| schedule.delay_after(1, None, random).unwrap().as_secs())
        };
        assert_eq!(spread(0.0), [100, 100]);
        assert_eq!(spread(0.1), [90, 110]);
        assert_eq!(spread(1.0), [0, 200]);
    }

    #[test]
    fn retry_after_is_seconds_or_any_http_date() {
        let parse = |value| parse_retry_after(value, now());
        assert_eq!(parse("0"), Some(Duration::ZERO));
        assert_eq!(parse(" 120 "), Some(secs(120)));
        assert_eq!(parse("99999999999999999999"), Some(secs(u64::MAX)));
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(date), Some(secs(37)), "{date}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:48:00 GMT"), Some(Duration::ZERO));
        for neither in ["", "-1", "+1", "1.5", "soon", "1 s", "٣"] {
            assert_eq!(parse(neither), None, "{neither}");
        }
    }

    prop_compose! {
        fn any_schedule()(seconds in prop::collection::vec(0..=86_400u64, 1..=20)) -> Schedule {
            schedule(seconds).unwrap()
        }
    }

    proptest! {
        #[test]
        fn a_round_ends_after_its_last_attempt(schedule in any_schedule(), n in 0..40u32) {
            let delay = schedule.delay_after(n, None, MIDDLE);
            prop_assert_eq!(delay.is_some(), (n as usize) < schedule.attempts_max());
        }

        #[test]
        fn a_delay_keeps_its_bounds(
            schedule in any_schedule(),
            jitter in 0.0..1.0,
            retry_after: Option<Duration>,
            pick: prop::sample::Index,
        ) {
            let at = pick.index(schedule.attempts_max());
            let scheduled = schedule.delays[at];
            let delay = schedule.delay_after(at as u32, retry_after, jitter).unwrap();
            let asked = retry_after.unwrap_or_default().min(DELAY_MAX);
            prop_assert!(delay >= scheduled.mul_f64(0.9).max(asked));
            prop_assert!(delay <= scheduled.mul_f64(1.1).max(asked));
        }

        #[test]
        fn more_jitter_never_waits_less(schedule in any_schedule(), a in 0.0..1.0, b in 0.0..1.0) {
            let after = |jitter| schedule.delay_after(0, None, jitter);
            prop_assert!(after(f64::min(a, b)) <= after(f64::max(a, b)));
        }

        #[test]
        fn parsing_any_retry_after_does_not_panic(value: String) {
            parse_retry_after(&value, now());
        }
    }
}
