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

/// How long what is counted has to be remembered. Nothing is locked where that is known
/// already: all who count would wait for each other at the day's row.
pub(super) const KEEP_DAYS: &str = "\
    insert into usage_seen_days (day, kept_until) \
    select k.day, k.kept_until from unnest($1::date[], $2::date[]) as k (day, kept_until) \
    where not exists ( \
        select from usage_seen_days d where d.day = k.day and d.kept_until >= k.kept_until) \
    order by k.day \
    on conflict (day) do update \
        set kept_until = greatest(usage_seen_days.kept_until, excluded.kept_until)";

/// The day by which what is seen of an event is remembered.
pub(super) fn day(received: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(received).date()
}

/// The first day whose events may live at `now` if they live for `retention_days`.
pub(super) fn first_day(now: Timestamp, retention_days: u32) -> Date {
    days_before(now, i64::from(retention_days) + SEEN_EXTRA_DAYS)
}

/// The day before which an event must have expired for DynamoDB to have deleted it by
/// `now`.
pub(super) fn expired_before(now: Timestamp) -> Date {
    days_before(now, SEEN_EXTRA_DAYS)
}

fn days_before(now: Timestamp, days: i64) -> Date {
    let then = now.saturating_sub(SignedDuration::from_hours(24 * days));
    day(then.unwrap_or(Timestamp::MIN))
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
    fn a_day_outlives_the_last_event_of_it() {
        let now: Timestamp = "2026-03-10T12:00:00Z".parse().unwrap();
        let ago = |hours| day(now - SignedDuration::from_hours(hours));
        for hours in [0, 24 * 30, 24 * 32] {
            assert!(ago(hours) >= first_day(now, 30), "{hours} hours");
        }
        assert!(ago(24 * 33) < first_day(now, 30));
        assert_eq!(expired_before(now), ago(24 * 2));
    }

    #[test]
    fn a_partitions_name_says_its_day() {
        let day = jiff::civil::date(2026, 3, 1);
        assert_eq!(day_of_name("usage_seen_20260301"), Some(day));
        for other in ["usage_seen", "usage_seen_2026", "usage_seen_20261301", "x"] {
            assert_eq!(day_of_name(other), None, "{other}");
        }
    }
}
