//! Meters: how an event turns into something counted.
//!
//! Owns what a meter may be and what it reads of an event. Called by the API when
//! a meter is written and, through `meter_set`, by the accept path for each event; what
//! the readings add up to is `store::usage`'s.

mod condition;
mod tenant;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::filter::TypePattern;
use super::id::MeterId;
use super::pointer::Pointer;
use super::scalar::Scalar;
use crate::error::Invalid;

pub use condition::MeterFilter;
pub(super) use condition::{Condition, Predicate};
pub use tenant::usage_tenant;

/// Pointers in `group_by`.
const GROUP_BY_MAX: usize = 5;
/// Filters of a meter.
const FILTERS_MAX: usize = 10;
/// Characters of a value that usage is grouped by; a longer one counts as null.
const GROUP_CHARS_MAX: usize = 128;
/// How far an event's `time` may lie ahead of its receipt.
const FUTURE_SKEW_MAX: SignedDuration = SignedDuration::from_hours(1);
/// Bytes of SHA-256 that stand for a value in a unique count.
pub const UNIQUE_BYTES: usize = 16;

/// The group of what came after a meter had as many groups as it may. No JSON
/// array, so no group of values is called this.
pub const OVERFLOW_GROUP: &str = "other";
/// The name that a group of that kind has where those of others have a pointer. It is no
/// JSON pointer, so no other group has it.
pub const OVERFLOW_NAME: &str = "…";

/// What a meter makes of the values it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// How many events there were.
    Count,
    /// The values added up.
    Sum,
    /// The sum divided by the count, rounded to 12 decimal places.
    Average,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// How many different values there were.
    UniqueCount,
    /// The value of the event with the latest time.
    Latest,
}

impl Aggregation {
    /// Every one, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Count,
        Self::Sum,
        Self::Average,
        Self::Min,
        Self::Max,
        Self::UniqueCount,
        Self::Latest,
    ];

    /// The name in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Average => "average",
            Self::Min => "min",
            Self::Max => "max",
            Self::UniqueCount => "unique_count",
            Self::Latest => "latest",
        }
    }
}

impl FromStr for Aggregation {
    type Err = UnknownAggregation;

    fn from_str(text: &str) -> Result<Self, UnknownAggregation> {
        let all = Self::ALL.into_iter();
        let mut named = all.filter(|aggregation| aggregation.as_str() == text);
        named.next().ok_or(UnknownAggregation)
    }
}

/// Not the name of an [`Aggregation`].
#[derive(Debug, thiserror::Error)]
#[error("expected count, sum, average, min, max, unique_count or latest")]
pub struct UnknownAggregation;

/// What a meter counts, as it is written: in the API and in the stores.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MeterSpec {
    /// Exact, `prefix.*` or `*`.
    pub event_type: String,
    /// What to make of the values.
    pub aggregation: Aggregation,
    /// Where in `data` the value is.
    pub value: Option<String>,
    /// Where in `data` the values are that usage is grouped by.
    #[serde(default)]
    pub group_by: Vec<String>,
    /// What must hold of `data`.
    #[serde(default)]
    pub filters: Vec<MeterFilter>,
}

/// What a meter counts, checked. It never changes.
#[derive(Debug)]
pub struct Definition {
    event_type: TypePattern,
    pub(super) aggregation: Aggregation,
    pub(super) value: Option<Pointer>,
    pub(super) group_by: Box<[Pointer]>,
    pub(super) conditions: Box<[Condition]>,
}

impl Definition {
    /// Checks a meter as it is written.
    ///
    /// # Errors
    /// [`Invalid`], which names the field: a malformed pattern, pointer or filter,
    /// a value where nothing but events is counted or none where it is needed,
    /// more than 5 groups or 10 filters, the same group twice.
    pub fn new(written: &MeterSpec) -> Result<Self, Invalid> {
        let event_type = TypePattern::parse(&written.event_type)
            .map_err(|invalid| Invalid::new("event_type", invalid.detail))?;
        let (group_by, filters) = (&written.group_by, &written.filters);
        if group_by.len() > GROUP_BY_MAX {
            let detail = format!("expected up to {GROUP_BY_MAX} JSON pointers");
            return Err(Invalid::new("group_by", detail));
        }
        if filters.len() > FILTERS_MAX {
            let detail = format!("expected up to {FILTERS_MAX} filters");
            return Err(Invalid::new("filters", detail));
        }
        let groups = group_by.iter().enumerate();
        let groups = groups.map(|(at, text)| group(text, &group_by[..at], at));
        let conditions = filters.iter().enumerate();
        let conditions = conditions.map(|(at, filter)| Condition::new(filter, at));
        Ok(Self {
            event_type,
            aggregation: written.aggregation,
            value: value(written)?,
            group_by: groups.collect::<Result<_, _>>()?,
            conditions: conditions.collect::<Result<_, _>>()?,
        })
    }

    /// Whether it counts events of this type, if their `data` is right.
    pub fn is_for(&self, event_type: &str) -> bool {
        self.event_type.matches(event_type)
    }
}

/// Whether usage may be grouped by a value.
pub(super) fn is_groupable(value: &Scalar) -> bool {
    match value {
        Scalar::Null | Scalar::Bool(_) => true,
        Scalar::Number(text) | Scalar::String(text) => {
            // PostgreSQL's JSON knows no NUL.
            text.chars().count() <= GROUP_CHARS_MAX && !text.contains('\0')
        }
    }
}

fn value(written: &MeterSpec) -> Result<Option<Pointer>, Invalid> {
    match (&written.value, written.aggregation) {
        (None, Aggregation::Count) => Ok(None),
        (Some(_), Aggregation::Count) => {
            let detail =
                "expected none: a count is of events; a filter with exists asks for a value";
            Err(Invalid::new("value", detail))
        }
        (None, _) => {
            let detail = "expected a JSON pointer (RFC 6901) into data, such as \"/total\"";
            Err(Invalid::new("value", detail))
        }
        (Some(text), _) => Pointer::parse_field("value", text).map(Some),
    }
}

fn group(text: &str, before: &[String], at: usize) -> Result<Pointer, Invalid> {
    let field = format!("group_by[{at}]");
    if before.iter().any(|other| other == text) {
        return Err(Invalid::new(field, "expected each pointer once"));
    }
    // The query's `group_by` lists them with commas between.
    if text.is_empty() || text.contains(',') {
        let detail = "expected a JSON pointer that is not empty and has no comma";
        return Err(Invalid::new(field, detail));
    }
    Pointer::parse_field(field, text)
}

/// A JSON number, or a string that holds one: money is often written so.
pub(super) fn number(scalar: &Scalar) -> Option<Decimal> {
    match scalar {
        Scalar::Number(text) | Scalar::String(text) => Decimal::parse(text),
        Scalar::Null | Scalar::Bool(_) => None,
    }
}

/// What stands for a value in a unique count: its one form, hashed.
pub(super) fn unique(scalar: &Scalar) -> Option<[u8; UNIQUE_BYTES]> {
    if *scalar == Scalar::Null {
        return None;
    }
    let hash = digest::digest(&digest::SHA256, scalar.to_json().as_bytes());
    let mut out = [0; UNIQUE_BYTES];
    out.copy_from_slice(&hash.as_ref()[..UNIQUE_BYTES]);
    Some(out)
}

/// A meter as the data plane knows it.
#[derive(Debug)]
pub struct Meter {
    /// Its id, under which usage is counted.
    pub id: MeterId,
    /// What it counts.
    pub definition: Definition,
}

/// What one meter read of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The meter that read it.
    pub meter: MeterId,
    /// What it read, or that it could not.
    pub measure: Measure,
    /// The group, as a JSON array of the values of `group_by`.
    pub group: String,
}

/// A value, as a meter reads it.
#[derive(Clone, PartialEq, Eq)]
pub enum Measure {
    /// The event itself is counted.
    One,
    /// A number.
    Number(Decimal),
    /// What stands for a value in a unique count.
    Unique([u8; UNIQUE_BYTES]),
    /// There was no value, or none that can be counted.
    Skipped,
}

/// Leaves the value out: it is a customer's.
impl fmt::Debug for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "One",
            Self::Number(_) => "Number(…)",
            Self::Unique(_) => "Unique(…)",
            Self::Skipped => "Skipped",
        })
    }
}

/// What all meters of a project read of an event, and when that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReadings {
    /// The time the readings count at.
    pub at: Timestamp,
    /// One for each meter that counts the event.
    pub readings: Vec<Reading>,
}

/// The time an event counts at: its own, if that is at most `late_max` before its
/// receipt and an hour after, or else that of its receipt.
pub fn counted_at(
    time: Option<Timestamp>,
    received: Timestamp,
    late_max: SignedDuration,
) -> Timestamp {
    let plausible = |time: &Timestamp| {
        let late = received.duration_since(*time);
        late <= late_max && late >= -FUTURE_SKEW_MAX
    };
    time.filter(plausible).unwrap_or(received)
}
