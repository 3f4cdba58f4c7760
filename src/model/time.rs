//! Times as the API writes them.

use jiff::Timestamp;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::parse_error::TIME;
use super::refusal::kind_of_text;

/// A time in JSON: RFC 3339 in UTC, always with three digits of milliseconds, so
/// that text sorts as time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2026-01-31T12:00:00.000Z"))]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:.3}", self.0))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(TimeVisitor)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a timestamp string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        if let Ok(at) = text.parse() {
            return Ok(Time(at));
        }
        // A plus sign that a query has not escaped arrives as a space.
        let hint = match text.replace(' ', "+").parse::<Timestamp>() {
            Ok(_) => "; a + in a query is written %2B",
            Err(_) => "",
        };
        let got = kind_of_text(text);
        Err(E::custom(format_args!("expected {TIME}, got {got}{hint}")))
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_always_written() {
        let time = Time(Timestamp::from_millisecond(1_700_000_000_120).unwrap());
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2023-11-14T22:13:20.120Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
    }
}
