//! The conditions of a meter: what must hold of an event's `data` for it to count.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Invalid;
use crate::model::pointer::Pointer;
use crate::model::scalar::Scalar;

/// Values in `in`.
const VALUES_MAX: usize = 50;
/// Bytes of a value as it is written.
const VALUE_BYTES_MAX: usize = 1_024;

/// One filter of a meter: a place in `data`, and one of `equals`, `in` or
/// `exists`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "pointer": "/status", "in": ["paid", "settled"] })))]
pub struct MeterFilter {
    /// A JSON pointer (RFC 6901) into `data`.
    pub pointer: String,
    /// The value there: a string, number, Boolean or null. `1` and `1.0` are one.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<serde_json::Value>)]
    pub equals: Option<Box<RawValue>>,
    /// One of 1 to 50 such values is there.
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub one_of: Option<Vec<Box<RawValue>>>,
    /// Whether anything is there, null included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

impl MeterFilter {
    /// Checks the numbers of a filter that is newly written at place `at`: one beyond
    /// what parsers hold is in no event's data, and cannot be told. Those that are kept
    /// may have some.
    ///
    /// # Errors
    /// [`Invalid`], which names the value.
    pub fn check_numbers(&self, at: usize) -> Result<(), Invalid> {
        let is_held = |value: &RawValue| serde_json::from_str::<Value>(value.get()).is_ok();
        let mut equals = self.equals.iter();
        if equals.any(|value| !is_held(value)) {
            return Err(no_scalar(format!("filters[{at}].equals")));
        }
        let mut values = self.one_of.iter().flatten();
        match values.position(|value| !is_held(value)) {
            None => Ok(()),
            Some(n) => Err(no_scalar(format!("filters[{at}].in[{n}]"))),
        }
    }
}

/// Null is a value here, and not the same as absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// A filter, checked.
#[derive(Debug)]
pub struct Condition {
    pub pointer: Pointer,
    pub test: Predicate,
}

/// What is asked of the value.
#[derive(Debug)]
pub enum Predicate {
    /// One of these is there.
    OneOf(Box<[Scalar]>),
    /// Whether anything is.
    Exists(bool),
}

impl Condition {
    /// Checks the filter at place `at`.
    pub fn new(filter: &MeterFilter, at: usize) -> Result<Self, Invalid> {
        let field = |name: &str| format!("filters[{at}].{name}");
        let test = match (&filter.equals, &filter.one_of, filter.exists) {
            (Some(value), None, None) => Predicate::OneOf([scalar(field("equals"), value)?].into()),
            (None, Some(values), None) => Predicate::OneOf(scalars(&field("in"), values)?),
            (None, None, Some(exists)) => Predicate::Exists(exists),
            _ => {
                let detail = "expected exactly one of equals, in and exists";
                return Err(Invalid::new(format!("filters[{at}]"), detail));
            }
        };
        let pointer = Pointer::parse_field(field("pointer"), &filter.pointer)?;
        Ok(Self { pointer, test })
    }
}

fn scalars(field: &str, values: &[Box<RawValue>]) -> Result<Box<[Scalar]>, Invalid> {
    if !(1..=VALUES_MAX).contains(&values.len()) {
        let detail = format!("expected 1 to {VALUES_MAX} values");
        return Err(Invalid::new(field.to_owned(), detail));
    }
    let values = values.iter().enumerate();
    values
        .map(|(at, value)| scalar(format!("{field}[{at}]"), value))
        .collect()
}

fn scalar(field: String, value: &RawValue) -> Result<Scalar, Invalid> {
    let short = Some(value.get()).filter(|json| json.len() <= VALUE_BYTES_MAX);
    short.and_then(Scalar::read).ok_or_else(|| no_scalar(field))
}

fn no_scalar(field: String) -> Invalid {
    let detail =
        format!("expected a string, number, Boolean or null of up to {VALUE_BYTES_MAX} bytes");
    Invalid::new(field, detail)
}
