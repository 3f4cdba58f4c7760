//! Windows of usage: a span of time cut into minutes, hours, days or months of a
//! time zone, or left whole.
//!
//! Days and months are what the calendar there says: a day may have 23 or 25
//! hours. Zones come from the IANA database that is compiled in.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Invalid;

/// Windows in one answer: a day of minutes, two months of hours, four years of
/// days.
pub const WINDOWS_MAX: usize = 1_500;

const QUARTER: SignedDuration = SignedDuration::from_mins(15);

/// How wide a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = UsageWindow)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// Kept for 35 days only.
    Minute,
    /// An hour of the zone's clocks: in India it begins at half past UTC's.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
    /// All that was asked for as one window, in whole quarters of an hour of UTC.
    Total,
}

impl Width {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

/// A span of time: its start belongs to it, its end does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub start: Timestamp,
    /// When the next one begins.
    pub end: Timestamp,
}

/// The zone of that IANA name.
///
/// # Errors
/// [`Invalid`] naming `time_zone` when there is none.
pub fn zone(name: &str) -> Result<TimeZone, Invalid> {
    // An abbreviation or a POSIX rule is not looked up.
    let zone = TimeZone::get(name).ok();
    zone.ok_or_else(|| {
        Invalid::new(
            "time_zone",
            "expected the name of an IANA time zone, such as \"Europe/Berlin\" or \"UTC\"",
        )
    })
}

/// The whole windows that `from` to `to` lies in, the earliest first: the first
/// one holds `from`, the last one ends at `to` or after.
///
/// # Errors
/// [`Invalid`] naming `from` when it is not before `to`, or `window` when there
/// would be more than 1,500, or `to` at the end of time.
pub fn split_into_windows(
    width: Width,
    zone: &TimeZone,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Window>, Invalid> {
    if from >= to {
        return Err(Invalid::new("from", "expected a time before to"));
    }
    if width == Width::Total {
        return Ok(vec![whole(from, to).ok_or_else(out_of_range)?]);
    }
    let mut windows = Vec::new();
    let mut start = floor(width, zone, from).ok_or_else(out_of_range)?;
    while start < to {
        if windows.len() == WINDOWS_MAX {
            let detail = format!(
                "expected at most {WINDOWS_MAX} windows between from and to: \
                 ask for a shorter time or wider windows"
            );
            return Err(Invalid::new("window", detail));
        }
        let end = next(width, zone, start).ok_or_else(out_of_range)?;
        windows.push(Window { start, end });
        start = end;
    }
    Ok(windows)
}

/// The whole of `from` to `to` in quarters of an hour, by which usage is kept for good.
fn whole(from: Timestamp, to: Timestamp) -> Option<Window> {
    let floor = |at| floor_to_step(at, QUARTER.as_secs(), 0);
    let last = floor(to)?;
    let end = if last == to {
        last
    } else {
        last.checked_add(QUARTER).unwrap_or(Timestamp::MAX)
    };
    Some(Window {
        start: floor(from)?,
        end,
    })
}

fn out_of_range() -> Invalid {
    Invalid::new("to", "expected times within the years 1 to 9998")
}

/// The start of the window that holds `at`.
fn floor(width: Width, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let local = zone.to_datetime(at);
    match width {
        Width::Minute => floor_to_step(at, 60, 0),
        Width::Hour => floor_to_step(at, 3600, zone.to_offset(at).seconds()),
        Width::Day => midnight(zone, local.date()),
        Width::Month => midnight(zone, local.date().first_of_month()),
        Width::Total => None,
    }
}

/// The start of the window after the one that begins at `start`; of the last one, which
/// ends with time, its end.
fn next(width: Width, zone: &TimeZone, start: Timestamp) -> Option<Timestamp> {
    let end = next_by_clock(width, zone, start).unwrap_or(Timestamp::MAX);
    (end > start).then_some(end)
}

fn next_by_clock(width: Width, zone: &TimeZone, start: Timestamp) -> Option<Timestamp> {
    let date = zone.to_datetime(start).date();
    match width {
        Width::Minute => start.checked_add(SignedDuration::from_mins(1)).ok(),
        Width::Hour => {
            let hence = start.checked_add(SignedDuration::from_hours(1)).ok()?;
            // Where clocks are changed by half an hour, the hour is cut there.
            let clock = floor(width, zone, hence)?;
            Some(if clock > start { clock } else { hence })
        }
        Width::Day => midnight(zone, date.tomorrow().ok()?),
        Width::Month => midnight(zone, date.last_of_month().tomorrow().ok()?),
        Width::Total => None,
    }
}

/// The multiple of `step` seconds at or before `at`, on a clock that is `ahead`
/// seconds ahead of UTC.
fn floor_to_step(at: Timestamp, step: i64, ahead: i32) -> Option<Timestamp> {
    let clock = at.as_second() + i64::from(ahead);
    // Before 1970 the second is cut towards it; the remainder mends that.
    let clock = clock - i64::from(at.subsec_nanosecond() < 0);
    let floored = clock - clock.rem_euclid(step);
    Timestamp::from_second(floored - i64::from(ahead)).ok()
}

/// When `date` begins: where midnight is skipped, when clocks show the first time
/// after it; where it comes twice, the first time.
fn midnight(zone: &TimeZone, date: Date) -> Option<Timestamp> {
    date.to_zoned(zone.clone())
        .ok()
        .map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn cut_in(width: Width, name: &str, from: &str, to: &str) -> Vec<Window> {
        split_into_windows(width, &zone(name).unwrap(), at(from), at(to)).unwrap()
    }

    fn hours(window: &Window) -> f64 {
        window.end.duration_since(window.start).as_secs_f64() / 3600.0
    }

    #[test]
    fn a_day_may_have_23_or_25_hours() {
        let spring = cut_in(
            Width::Day,
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
        );
        assert_eq!(
            spring.iter().map(hours).collect::<Vec<_>>(),
            [24.0, 23.0, 24.0]
        );
        assert_eq!(spring[1].start, at("2026-03-28T23:00:00Z"));
        assert_eq!(spring[1].end, at("2026-03-29T22:00:00Z"));
        let autumn = cut_in(
            Width::Day,
            "America/New_York",
            "2026-11-01T04:00:00Z",
            "2026-11-01T05:00:00Z",
        );
        assert_eq!(autumn.iter().map(hours).collect::<Vec<_>>(), [25.0]);
        // Each of the two hours from one to two o'clock is a window.
        let hourly = cut_in(
            Width::Hour,
            "America/New_York",
            "2026-11-01T04:00:00Z",
            "2026-11-02T05:00:00Z",
        );
        assert_eq!(hourly.len(), 25);
        assert!(hourly.iter().all(|window| hours(window) == 1.0));
    }

    #[test]
    fn a_day_begins_where_midnight_is_skipped() {
        // In Beirut clocks went from 24:00 on the 28th to 01:00 on the 29th.
        let windows = cut_in(
            Width::Day,
            "Asia/Beirut",
            "2026-03-28T12:00:00Z",
            "2026-03-29T12:00:00Z",
        );
        assert_eq!(windows[1].start, at("2026-03-28T22:00:00Z"));
        assert_eq!(hours(&windows[1]), 23.0);
    }

    #[test]
    fn hours_and_days_of_a_zone_at_5_45() {
        let hour = cut_in(
            Width::Hour,
            "Asia/Kathmandu",
            "2026-06-01T00:00:00Z",
            "2026-06-01T01:00:00Z",
        );
        assert_eq!(hour[0].start, at("2026-05-31T23:15:00Z"));
        assert_eq!(hour.len(), 2);
        let day = cut_in(
            Width::Day,
            "Asia/Kathmandu",
            "2026-06-01T00:00:00Z",
            "2026-06-01T01:00:00Z",
        );
        assert_eq!(day[0].start, at("2026-05-31T18:15:00Z"));
        let month = cut_in(
            Width::Month,
            "Asia/Kathmandu",
            "2026-02-10T00:00:00Z",
            "2026-02-11T00:00:00Z",
        );
        assert_eq!(
            (month[0].start, month[0].end),
            (at("2026-01-31T18:15:00Z"), at("2026-02-28T18:15:00Z"))
        );
    }

    #[test]
    fn the_last_window_ends_with_time() {
        let end = "9999-12-30T22:00:00.999999999Z";
        for width in [
            Width::Total,
            Width::Month,
            Width::Day,
            Width::Hour,
            Width::Minute,
        ] {
            let windows = cut_in(width, "UTC", "9999-12-30T21:59:00Z", end);
            assert_eq!(windows.last().unwrap().end, Timestamp::MAX, "{width:?}");
        }
    }

    #[test]
    fn a_total_is_one_window_of_whole_quarters() {
        for (from, to, start, end) in [
            (
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
            ),
            (
                "2026-01-01T00:14:59.999Z",
                "2026-01-01T00:15:00.001Z",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:30:00Z",
            ),
            // Longer than 1,500 of any other width, and before 1970.
            (
                "1600-02-29T23:59:59.5Z",
                "2200-01-01T00:00:00Z",
                "1600-02-29T23:45:00Z",
                "2200-01-01T00:00:00Z",
            ),
        ] {
            let expected = Window {
                start: at(start),
                end: at(end),
            };
            for zone in ["UTC", "Asia/Kathmandu"] {
                assert_eq!(cut_in(Width::Total, zone, from, to), [expected]);
            }
        }
    }

    #[test]
    fn what_cannot_be_cut() {
        let refused = |width, from, to| {
            split_into_windows(width, &TimeZone::UTC, at(from), at(to))
                .unwrap_err()
                .to_string()
        };
        let (day, later) = ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z");
        assert_eq!(
            refused(Width::Day, day, day),
            "from: expected a time before to"
        );
        assert!(refused(Width::Minute, day, later).starts_with("window: expected at most 1500"));
        for name in [
            "",
            "CEST",
            "Nowhere/Else",
            "EST+5",
            "../etc/passwd",
            "UTC+1",
        ] {
            let error = zone(name).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("time_zone"), "{name}");
        }
        assert!(zone("UTC").is_ok() && zone("Etc/UTC").is_ok());
    }

    proptest! {
        /// The model: what the calendar shows at a window's start, and just before.
        #[test]
        fn windows_are_whole_and_leave_nothing_out(
            second in 946_684_800i64..2_500_000_000,
            length in 1i64..4_000_000,
            name in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "America/Havana",
                "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns", "Africa/Casablanca",
            ]),
            width in prop::sample::select(vec![Width::Hour, Width::Day, Width::Month]),
        ) {
            let zone = zone(name).unwrap();
            let from = Timestamp::from_second(second).unwrap();
            let to = Timestamp::from_second(second + length).unwrap();
            let windows = split_into_windows(width, &zone, from, to).unwrap();
            prop_assert!(windows[0].start <= from && from < windows[0].end);
            let last = windows.last().unwrap();
            prop_assert!(last.start < to && to <= last.end);
            for pair in windows.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
            }
            for Window { start, end } in &windows {
                prop_assert_eq!(start.as_second() % 900, 0, "quarters of an hour fit");
                let local = |at: Timestamp| zone.to_datetime(at);
                let before = |at: Timestamp| local(at - 1.nanosecond());
                let label = |datetime: jiff::civil::DateTime| match width {
                    Width::Month => datetime.date().first_of_month(),
                    _ => datetime.date(),
                };
                match width {
                    Width::Minute | Width::Total => {}
                    Width::Hour => prop_assert!(end.duration_since(*start).as_secs() <= 3600),
                    // One label all through, and another before.
                    Width::Day | Width::Month => {
                        prop_assert_eq!(label(local(*start)), label(before(*end)));
                        prop_assert!(label(before(*start)) < label(local(*start)));
                    }
                }
            }
        }
    }
}
