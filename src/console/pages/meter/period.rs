//! The time that a report of usage is of: a month, the last days, or two dates, by the
//! calendar of a time zone; and the one before, to compare it with.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, SignedDuration, Timestamp, ToSpan, Unit, Zoned, ZonedRound};

use crate::console::pairs::Pairs;
use crate::model::window::{self, Width, Window};

/// Columns of a chart and its table: more are not to be told apart, and make a page long.
const COLUMNS_MAX: i64 = 100;

/// The periods that can be chosen, by their name in the address.
pub const CHOICES: [(&str, &str); 7] = [
    ("month", "This month"),
    ("last-month", "Last month"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
    ("year", "This year"),
    ("custom", "From … to …"),
];

/// A span of time, as it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// Its name in the address, one of [`CHOICES`].
    pub name: &'static str,
    /// What it is called: `December 2026 so far`.
    pub title: String,
    /// What of usage belongs to it.
    pub span: Window,
    /// The span of that kind before it, as far as this one has come.
    pub before: Window,
    /// The first and the last day, if those were given.
    pub days: Option<(Date, Date)>,
    /// How wide its columns are.
    pub width: Width,
}

impl Period {
    /// The one that `query` asks for, at `now` in `zone`; the month if it makes none.
    pub fn read(query: &Pairs, zone: &TimeZone, now: Timestamp) -> Self {
        let asked = query.get("period").unwrap_or("month");
        let name = CHOICES.iter().find(|(name, _)| *name == asked);
        let name = name.map_or("month", |(name, _)| *name);
        let made = Self::of(name, query, &now.to_zoned(zone.clone()));
        let mut made =
            made.unwrap_or_else(|| Self::new("month", "", now, now, SignedDuration::ZERO));
        made.width = width(query.get("window"), made.span);
        made
    }

    fn of(name: &'static str, query: &Pairs, now: &Zoned) -> Option<Self> {
        let zone = now.time_zone();
        let today = now.date();
        let midnight = |date: Date| Some(date.to_zoned(zone.clone()).ok()?.timestamp());
        let since = |from: Timestamp, title: &str| {
            let length = now.timestamp().duration_since(from);
            Some(Self::new(name, title, from, now.timestamp(), length))
        };
        match name {
            "last-month" => {
                let this = today.first_of_month();
                let last = this.checked_sub(1.month()).ok()?;
                let before = midnight(last.checked_sub(1.month()).ok()?)?;
                let (from, to) = (midnight(last)?, midnight(this)?);
                let title = last.strftime("%B %Y").to_string();
                Some(Self::between(name, title, from, to, (before, from)))
            }
            "24h" => {
                let hours = ZonedRound::new()
                    .smallest(Unit::Hour)
                    .mode(RoundMode::Trunc);
                let from = now.round(hours).ok()?.checked_sub(23.hours()).ok()?;
                since(from.timestamp(), "Last 24 hours")
            }
            "7d" => since(midnight(today.checked_sub(6.days()).ok()?)?, "Last 7 days"),
            "30d" => since(
                midnight(today.checked_sub(29.days()).ok()?)?,
                "Last 30 days",
            ),
            "year" => {
                let (first, last) = (today.first_of_year(), today.checked_sub(1.year()).ok()?);
                let title = first.strftime("%Y so far").to_string();
                Self::so_far(
                    name,
                    title,
                    now,
                    midnight(first)?,
                    midnight(last.first_of_year())?,
                )
            }
            "custom" => {
                let date = |name: &str| query.get(name)?.parse::<Date>().ok();
                let (first, last) = (date("from")?, date("to").unwrap_or(today));
                let from = midnight(first)?;
                let to = midnight(last.tomorrow().ok()?)?;
                let title = format!(
                    "{} to {}",
                    first.strftime("%-d %b %Y"),
                    last.strftime("%-d %b %Y")
                );
                let length = to.duration_since(from);
                let made = Self::new(name, &title, from, to, length);
                let made = Self {
                    days: Some((first, last)),
                    ..made
                };
                Some(made).filter(|made| made.span.start < made.span.end)
            }
            _ => {
                let first = today.first_of_month();
                let last = first.checked_sub(1.month()).ok()?;
                let title = first.strftime("%B %Y so far").to_string();
                Self::so_far(name, title, now, midnight(first)?, midnight(last)?)
            }
        }
    }

    /// From `from` until now, compared with as much since `before`.
    fn so_far(
        name: &'static str,
        title: String,
        now: &Zoned,
        from: Timestamp,
        before: Timestamp,
    ) -> Option<Self> {
        let now = now.timestamp();
        let until = before.checked_add(now.duration_since(from)).ok()?.min(from);
        Some(Self::between(name, title, from, now, (before, until)))
    }

    fn new(
        name: &'static str,
        title: &str,
        from: Timestamp,
        to: Timestamp,
        length: SignedDuration,
    ) -> Self {
        let before = from.checked_sub(length).unwrap_or(Timestamp::MIN);
        Self::between(name, title.to_owned(), from, to, (before, from))
    }

    fn between(
        name: &'static str,
        title: String,
        start: Timestamp,
        end: Timestamp,
        before: (Timestamp, Timestamp),
    ) -> Self {
        // A span that has just begun is its first moment.
        let least = |start: Timestamp, end: Timestamp| Window {
            start,
            end: end.max(start + SignedDuration::from_secs(1)),
        };
        Self {
            name,
            title,
            span: least(start, end),
            before: least(before.0, before.1),
            days: None,
            width: Width::Day,
        }
    }

    /// Its columns.
    pub fn columns(&self, zone: &TimeZone) -> Vec<Window> {
        let Window { start, end } = self.span;
        window::split_into_windows(self.width, zone, start, end).unwrap_or_default()
    }
}

/// How wide the columns of `span` are: as `asked`, or as wide as they must be.
fn width(asked: Option<&str>, span: Window) -> Width {
    let hours = span.end.duration_since(span.start).as_hours();
    let (is_short, is_few_days) = (hours <= COLUMNS_MAX, hours / 24 <= COLUMNS_MAX);
    match asked {
        Some("hour") if is_short => Width::Hour,
        None if hours <= 48 => Width::Hour,
        Some("month") => Width::Month,
        _ if is_few_days => Width::Day,
        _ => Width::Month,
    }
}

/// What a column that begins at `start` is called.
pub fn column_name(width: Width, zone: &TimeZone, start: Timestamp) -> String {
    let start = start.to_zoned(zone.clone());
    match width {
        Width::Minute | Width::Hour => start.strftime("%-d %b, %H:%M").to_string(),
        Width::Day | Width::Total => start.strftime("%-d %b").to_string(),
        Width::Month => start.strftime("%b %Y").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, zone: &str) -> Period {
        let now = "2026-12-15T10:20:30Z".parse().unwrap();
        let zone = window::zone(zone).unwrap();
        Period::read(&Pairs::parse(query.as_bytes()), &zone, now)
    }

    fn span_of(start: &str, end: &str) -> Window {
        Window {
            start: start.parse().unwrap(),
            end: end.parse().unwrap(),
        }
    }

    #[test]
    fn a_period_is_that_of_the_calendar() {
        let zone = window::zone("Europe/Berlin").unwrap();
        for (query, title, span, before, columns) in [
            (
                "",
                "December 2026 so far",
                ("2026-11-30T23:00:00Z", "2026-12-15T10:20:30Z"),
                ("2026-10-31T23:00:00Z", "2026-11-15T10:20:30Z"),
                15,
            ),
            (
                "period=last-month",
                "November 2026",
                ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
                ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
                30,
            ),
            // A day of 23 hours, by the hour.
            (
                "period=custom&from=2026-03-29&to=2026-03-29",
                "29 Mar 2026 to 29 Mar 2026",
                ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
                ("2026-03-28T00:00:00Z", "2026-03-28T23:00:00Z"),
                23,
            ),
        ] {
            let period = read(query, "Europe/Berlin");
            assert_eq!(period.title, title, "{query}");
            assert_eq!(period.span, span_of(span.0, span.1), "{query}");
            assert_eq!(period.before, span_of(before.0, before.1), "{query}");
            assert_eq!(period.columns(&zone).len(), columns, "{query}");
        }
    }

    #[test]
    fn no_period_has_more_columns_than_can_be_drawn() {
        for (name, _) in CHOICES {
            for window in ["", "&window=hour", "&window=day", "&window=month"] {
                let dates = "from=2026-01-01&to=2026-12-31";
                for zone in ["UTC", "Asia/Kathmandu"] {
                    let period = read(&format!("period={name}{window}&{dates}"), zone);
                    let columns = period.columns(&window::zone(zone).unwrap()).len();
                    assert!((1..=102).contains(&columns), "{name} {window}: {columns}");
                }
            }
        }
    }

    #[test]
    fn the_first_moment_of_a_month_is_a_period() {
        let now = "2026-12-01T00:00:00Z".parse().unwrap();
        let period = Period::read(&Pairs::default(), &TimeZone::UTC, now);
        assert!(period.span.start < period.span.end && period.before.start < period.before.end);
    }
}
