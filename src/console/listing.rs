//! Lists of events and deliveries: pages of the API, the time they are narrowed to, and
//! names of any length in their rows.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use serde::Deserialize;

use super::pairs::Pairs;
use crate::model::rfc3339;
use crate::model::time::Time;

/// Characters of a name in a row: with rows full of the longest names a page stays small.
const NAME_CHARS_MAX: usize = 80;

/// A page of a list, as the API answers it.
#[derive(Debug, Deserialize)]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// The periods that end now: values and words.
const PERIODS: [(&str, &str, i64); 3] = [
    ("1h", "Last hour", 1),
    ("24h", "Last 24 hours", 24),
    ("7d", "Last 7 days", 7 * 24),
];

/// The time that a list is narrowed to, as the API takes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// At or after this.
    pub since: Option<String>,
    /// Before this.
    pub until: Option<String>,
}

impl Span {
    /// What `query` asks for: `since` and `until`, or a `period` that ends at `now`.
    pub fn of(query: &Pairs, now: Timestamp) -> Self {
        let period = query.get("period");
        let period = period.and_then(|word| PERIODS.iter().find(|(known, ..)| *known == word));
        let begun =
            period.and_then(|(.., hours)| now.checked_sub(SignedDuration::from_hours(*hours)).ok());
        Self {
            since: query
                .get("since")
                .map(in_utc)
                .or_else(|| begun.map(written)),
            until: query.get("until").map(in_utc),
        }
    }
}

/// `at` as the API writes it.
pub fn written(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// What a browser's field for a time gives has no zone: it is asked for in UTC. Anything
/// else stays as it is, for the API to judge.
fn in_utc(text: &str) -> String {
    let completed = [format!("{text}Z"), format!("{text}:00Z")];
    let mut completed = completed.into_iter();
    let found = completed.find(|text| text.contains('T') && rfc3339::parse(text).is_some());
    found.unwrap_or_else(|| text.to_owned())
}

/// The fields of a filter bar for the time.
pub fn span_fields(query: &Pairs) -> Markup {
    let chosen = query.get("period").unwrap_or_default();
    let periods = PERIODS.map(|(value, word, _)| (value, word));
    let options = [("", "Any time")].into_iter().chain(periods);
    let given = |name| query.get(name).map(for_field);
    html! {
        (super::inputs::filter_choice("period", "Time", options, chosen))
        details open[query.get("since").is_some() || query.get("until").is_some()] {
            summary.small.soft { "From … to …" }
            div.filters {
                @for (name, label) in [("since", "From, in UTC"), ("until", "To, in UTC")] {
                    div.field {
                        label for={ "f-" (name) } { (label) }
                        input id={ "f-" (name) } name=(name) type="datetime-local" step="1" value=[given(name)];
                    }
                }
            }
        }
    }
}

/// A time as a browser's field takes it.
fn for_field(text: &str) -> String {
    let text = in_utc(text);
    rfc3339::parse(&text).map_or(text, |at| {
        format!("{at:.0}").trim_end_matches('Z').to_owned()
    })
}

/// A name in a row, cut where it is very long; "none" if there is none.
pub fn name(text: Option<&str>) -> Markup {
    match text {
        None => html! { span.faint { "none" } },
        Some(text) => super::parts::cut(&shortened(text)),
    }
}

/// `text`, if it is no longer than names are in rows; else its beginning.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(NAME_CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// What stands where the last column says when something came: a time with its day.
pub fn came(at: Time) -> Markup {
    super::parts::time(at.0, super::parts::TimeFormat::FullSeconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_was_chosen_or_written() {
        let now: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let of = |query: &str| Span::of(&Pairs::parse(query.as_bytes()), now);
        let since = |query| of(query).since;
        assert_eq!(
            since("period=24h").as_deref(),
            Some("2026-11-29T12:00:00.000Z")
        );
        assert_eq!(
            since("period=7d&since=2026-11-01T10:00").as_deref(),
            Some("2026-11-01T10:00:00Z")
        );
        assert_eq!(
            since("since=2026-11-01T10:00:05").as_deref(),
            Some("2026-11-01T10:00:05Z")
        );
        assert_eq!(
            since("since=2026-11-01T10:00:00%2B02:00").as_deref(),
            Some("2026-11-01T10:00:00+02:00")
        );
        assert_eq!(since("since=yesterday").as_deref(), Some("yesterday"));
        assert_eq!(of("period=forever"), Span::default());
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let long = "é".repeat(10_000);
        assert_eq!(shortened(&long).chars().count(), NAME_CHARS_MAX + 1);
        assert_eq!(shortened("short"), "short");
    }
}
