//! The activity of a project: how many events came, what became of their deliveries, and
//! how long that took, counted over spans of time.
//!
//! Counts can be added up; so can distributions, which is why they are kept and not
//! percentiles. It must not read the clock.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::id::EndpointId;
use crate::error::Invalid;

/// How long the shortest span is kept: two days and what a question may be late by.
pub const SLOT_KEPT: SignedDuration = SignedDuration::from_hours(50);
/// How long before its end a question about the shortest spans may begin.
const SLOT_SPAN_MAX: SignedDuration = SignedDuration::from_hours(48);
/// The same of all others.
const HOUR_SPAN_MAX: SignedDuration = SignedDuration::from_hours(92 * 24);
/// Windows in one answer.
pub const WINDOWS_MAX: i64 = 750;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// An event was kept.
    Accepted,
    /// An event was there already.
    Duplicate,
    /// An attempt was answered 2xx.
    AttemptSucceeded,
    /// An attempt was not.
    AttemptFailed,
    /// A delivery succeeded at its first attempt.
    DeliveredAtOnce,
    /// A delivery succeeded at a later one.
    DeliveredLater,
    /// A delivery was given up.
    Failed,
}

impl Counted {
    /// All of it.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Duplicate,
        Self::AttemptSucceeded,
        Self::AttemptFailed,
        Self::DeliveredAtOnce,
        Self::DeliveredLater,
        Self::Failed,
    ];
}

/// What was counted in a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActivityCounts {
    counts: [u64; Counted::ALL.len()],
    /// How long attempts took, from connecting to the end of the answer or the timeout.
    pub attempt: Distribution,
    /// How late first attempts were, since their event came.
    pub lag: Distribution,
}

impl ActivityCounts {
    /// How many `what` there were.
    pub fn of(&self, what: Counted) -> u64 {
        self.counts[what as usize]
    }

    /// Counts `more` of `what`.
    pub fn add(&mut self, what: Counted, more: u64) {
        let count = &mut self.counts[what as usize];
        *count = count.saturating_add(more);
    }

    /// Adds what was counted elsewhere, or at another time.
    pub fn merge(&mut self, other: &Self) {
        for what in Counted::ALL {
            self.add(what, other.of(what));
        }
        self.attempt.merge(&other.attempt);
        self.lag.merge(&other.lag);
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Durations, in buckets that widen with them: each reaches to 2^¼ times where it
/// begins, so that a percentile is off by a tenth at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution(BTreeMap<u8, u64>);

/// The last bucket, which begins at 8 hours.
pub const BUCKET_MAX: u8 = 100;
/// Buckets in which a duration doubles.
const BUCKETS_A_DOUBLING: f64 = 4.0;

impl Distribution {
    /// Counts a duration of so many milliseconds.
    pub fn record(&mut self, ms: u64) {
        self.add(bucket_of(ms), 1);
    }

    /// Counts `more` durations in `bucket`; those beyond the last are in that.
    pub fn add(&mut self, bucket: u8, more: u64) {
        let count = self.0.entry(bucket.min(BUCKET_MAX)).or_default();
        *count = count.saturating_add(more);
    }

    /// The buckets that hold something, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u8, u64)> {
        self.0.iter().map(|(bucket, count)| (*bucket, *count))
    }

    fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(bucket, count);
        }
    }

    /// The duration in milliseconds that `percent` of all are not above, about; none of
    /// none.
    pub fn percentile(&self, percent: u8) -> Option<u64> {
        let all: u128 = self.0.values().map(|count| u128::from(*count)).sum();
        let rank = (all * u128::from(percent)).div_ceil(100).max(1);
        let mut below = 0;
        let holds = self.0.iter().find(|(_, count)| {
            below += u128::from(**count);
            below >= rank
        });
        holds.map(|(bucket, _)| middle_of(*bucket))
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number, not negative"
)]
fn bucket_of(ms: u64) -> u8 {
    match ms {
        0 => 0,
        ms => (1.0 + (ms as f64).log2() * BUCKETS_A_DOUBLING) as u8,
    }
    .min(BUCKET_MAX)
}

/// The duration that stands for a bucket.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most some hours of milliseconds, not negative"
)]
fn middle_of(bucket: u8) -> u64 {
    match bucket {
        0 => 0,
        bucket => {
            let doublings = (f64::from(bucket) - 0.5) / BUCKETS_A_DOUBLING;
            doublings.exp2().round() as u64
        }
    }
}

/// A span of time that is counted in an item of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// Five minutes; kept for [`SLOT_KEPT`].
    Slot,
    /// An hour.
    Hour,
}

impl Span {
    /// The start of the span that holds `at`.
    pub fn start(self, at: Timestamp) -> Timestamp {
        let seconds = match self {
            Self::Slot => 300,
            Self::Hour => 3_600,
        };
        floor(at, seconds)
    }
}

fn floor(at: Timestamp, seconds: i64) -> Timestamp {
    let start = at.as_second().div_euclid(seconds) * seconds;
    Timestamp::from_second(start).unwrap_or(Timestamp::MIN)
}

/// `seconds` later, or the end of time.
fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// How wide the windows of an answer are. All of them are of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ActivityWindow)]
pub enum Width {
    /// Five minutes, of the last two days only.
    #[serde(rename = "5m")]
    FiveMinutes,
    /// An hour.
    #[serde(rename = "hour")]
    Hour,
    /// From midnight, 6:00, 12:00 or 18:00 on.
    #[serde(rename = "6h")]
    SixHours,
    /// From midnight to midnight.
    #[serde(rename = "day")]
    Day,
}

impl Width {
    /// The spans that windows are made of.
    pub fn span(self) -> Span {
        match self {
            Self::FiveMinutes => Span::Slot,
            Self::Hour | Self::SixHours | Self::Day => Span::Hour,
        }
    }

    /// How long before its end a question begins that does not say.
    pub fn default_span(self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::FiveMinutes => 1,
            Self::Hour => 24,
            Self::SixHours => 7 * 24,
            Self::Day => 30 * 24,
        })
    }

    fn seconds(self) -> i64 {
        match self {
            Self::FiveMinutes => 300,
            Self::Hour => 3_600,
            Self::SixHours => 6 * 3_600,
            Self::Day => 86_400,
        }
    }

    /// The start of the window that holds `at`.
    pub fn start(self, at: Timestamp) -> Timestamp {
        floor(at, self.seconds())
    }

    /// The whole windows that `since` to `until` lies in, by their starts and ends, the
    /// earliest first.
    ///
    /// # Errors
    /// [`Invalid`] naming `since` when it is not before `until`, or too long before it.
    pub fn windows(
        self,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<(Timestamp, Timestamp)>, Invalid> {
        if since >= until {
            return Err(Invalid::new("since", "expected a time before until"));
        }
        let (longest, days) = match self.span() {
            Span::Slot => (SLOT_SPAN_MAX, 2),
            Span::Hour => (HOUR_SPAN_MAX, 92),
        };
        let starts = || {
            let first = self.start(since);
            (0..=WINDOWS_MAX).map(move |n| after(first, n * self.seconds()))
        };
        let is_long = until.duration_since(since) > longest;
        if is_long || starts().last().is_some_and(|last| last < until) {
            let detail = format!(
                "expected a time at most {days} days and {WINDOWS_MAX} windows before until"
            );
            return Err(Invalid::new("since", detail));
        }
        let starts = starts().take_while(|start| *start < until);
        Ok(starts
            .map(|start| (start, after(start, self.seconds())))
            .collect())
    }
}

/// How often an endpoint failed in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFailures {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Attempts that were not answered 2xx.
    pub attempts: u64,
    /// Deliveries that were given up.
    pub deliveries: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_percentile_is_off_by_a_tenth_at_most() {
        for ms in [
            1_u64, 2, 3, 7, 86, 468, 1_990, 30_000, 3_600_000, 20_000_000,
        ] {
            let mut one = Distribution::default();
            one.record(ms);
            let found = one.percentile(95).unwrap();
            assert!(found.abs_diff(ms) * 10 <= ms, "{ms}: {found}");
        }
        let mut all = Distribution::default();
        assert_eq!(all.percentile(50), None);
        for ms in 1..=1_000 {
            all.record(ms);
        }
        for (percent, exact) in [(50, 500_u64), (95, 950), (99, 990), (100, 1_000)] {
            let found = all.percentile(percent).unwrap();
            assert!(found.abs_diff(exact) * 10 <= exact, "{percent}: {found}");
        }
    }

    #[test]
    fn percentiles_of_a_sum_are_those_of_all() {
        let (mut fast, mut slow) = (ActivityCounts::default(), ActivityCounts::default());
        (0..90).for_each(|_| fast.attempt.record(10));
        (0..10).for_each(|_| slow.attempt.record(1_000));
        slow.add(Counted::Failed, 3);
        fast.merge(&slow);
        assert_eq!(fast.of(Counted::Failed), 3);
        let ms = |percent| fast.attempt.percentile(percent).unwrap();
        assert!(ms(90) < 12 && ms(91) > 900, "{} {}", ms(90), ms(91));
        assert!(!fast.is_empty() && ActivityCounts::default().is_empty());
    }

    #[test]
    fn extremes_have_a_bucket() {
        let mut extremes = Distribution::default();
        for ms in [0, u64::MAX] {
            extremes.record(ms);
        }
        extremes.add(u8::MAX, u64::MAX);
        let buckets: Vec<_> = extremes.buckets().collect();
        assert_eq!(buckets, [(0, 1), (BUCKET_MAX, u64::MAX)]);
        assert_eq!(extremes.percentile(1), Some(middle_of(BUCKET_MAX)));
    }

    #[test]
    fn windows_are_whole_and_hold_both_ends() {
        let (since, until) = (at("2026-11-30T10:58:04Z"), at("2026-11-30T12:00:00Z"));
        let windows = Width::Hour.windows(since, until).unwrap();
        let expected = [
            (at("2026-11-30T10:00:00Z"), at("2026-11-30T11:00:00Z")),
            (at("2026-11-30T11:00:00Z"), at("2026-11-30T12:00:00Z")),
        ];
        assert_eq!(windows, expected);
        let later = until + SignedDuration::from_millis(1);
        assert_eq!(Width::Hour.windows(since, later).unwrap().len(), 3);
        assert_eq!(Width::SixHours.windows(since, later).unwrap().len(), 2);
        assert_eq!(Width::Day.windows(since, later).unwrap().len(), 1);
        assert_eq!(Width::FiveMinutes.windows(since, until).unwrap().len(), 13);
    }

    #[test]
    fn time_has_ends() {
        let before = Timestamp::MAX - SignedDuration::from_hours(1);
        let windows = Width::Day.windows(before, Timestamp::MAX).unwrap();
        assert_eq!(windows.last().unwrap().1, Timestamp::MAX);
        let later = Timestamp::MIN + SignedDuration::from_hours(1);
        assert!(Width::Day.windows(Timestamp::MIN, later).is_ok());
    }

    #[test]
    fn what_would_be_too_much_is_refused_and_what_is_just_enough_is_not() {
        let until = at("2026-11-30T00:00:00Z");
        let ago = |hours| until - SignedDuration::from_hours(hours);
        for (width, hours, is_taken) in [
            (Width::FiveMinutes, 48, true),
            (Width::FiveMinutes, 49, false),
            (Width::Hour, 750, true),
            (Width::Hour, 751, false),
            (Width::SixHours, 92 * 24, true),
            (Width::Day, 92 * 24, true),
            (Width::Day, 92 * 24 + 1, false),
            (Width::Day, 0, false),
            (Width::Day, -1, false),
        ] {
            let windows = width.windows(ago(hours), until);
            assert_eq!(windows.is_ok(), is_taken, "{width:?} {hours}");
            let field = windows.err().and_then(|invalid| invalid.field);
            assert_eq!(field.as_deref(), (!is_taken).then_some("since"));
        }
    }
}
