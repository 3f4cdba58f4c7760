//! The partitions of `usage_seen`: one for each day on which events were received,
//! by its name, which the functions of the schema give them that make and drop them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Days that what is seen is remembered beyond the retention: DynamoDB may be late
/// in deleting an event.
const SEEN_EXTRA_DAYS: i64 = 2;
/// What each partition's name begins with.
const PREFIX: &str = "usage_seen_";

/// The day by which what is seen of an event is remembered.
pub(super) fn day(received: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(received).date()
}

/// The first day of which what was seen is still remembered at `now`.
pub(super) fn first_day(now: Timestamp, retention_days: u32) -> Date {
    let hours = 24 * (i64::from(retention_days) + SEEN_EXTRA_DAYS);
    let first = now.saturating_sub(SignedDuration::from_hours(hours));
    day(first.unwrap_or(Timestamp::MIN))
}

/// The day of the partition called `name`.
pub(super) fn day_of_name(name: &str) -> Option<Date> {
    let digits = name.strip_prefix(PREFIX)?;
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i16>().ok();
    let (month, day) = (part(4..6)?, part(6..8)?);
    Date::new(part(0..4)?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partitions_name_says_its_day() {
        let day = jiff::civil::date(2026, 3, 1);
        assert_eq!(day_of_name("usage_seen_20260301"), Some(day));
        for other in ["usage_seen", "usage_seen_2026", "usage_seen_20261301", "x"] {
            assert_eq!(day_of_name(other), None, "{other}");
        }
    }
}
