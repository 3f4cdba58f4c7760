//! JSON Schemas that the data of events must satisfy: 2020-12 and draft 7.
//!
//! A schema comes from outside, and every event of its type is validated by it, so
//! everything about it is bounded when it is registered: size, depth, patterns, and
//! that nothing in it is fetched from elsewhere. Patterns are matched in linear
//! time. Known formats are asserted, which the specification leaves open.

mod expected;
mod limits;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::error::Invalid;
use crate::model::parse_error;

/// The largest schema, in bytes as it is given.
pub const SCHEMA_BYTES_MAX: usize = 65_536;
/// What one pattern may take when compiled, in bytes.
const PATTERN_BYTES_MAX: usize = 262_144;
/// Mismatches that are described; of the others only the number is said.
const DESCRIBED_MAX: usize = 5;

/// A schema, compiled when it is first used.
pub struct Schema {
    text: Box<str>,
    compiled: OnceLock<Result<Compiled, String>>,
}

struct Compiled {
    validator: Validator,
    cost: limits::Cost,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema")
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}

/// How the data of an event fails to satisfy a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaViolation {
    /// Where in the event the first thing is wrong: `data/items/0/price`.
    pub path: String,
    /// What was expected there, and what is wrong elsewhere; up to five things, and
    /// no value of the data but names of its properties.
    pub expected: String,
}

/// This version cannot do anything with a schema that was registered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableSchema<'a>(&'a str);

impl Schema {
    /// The schema in `text`, which was checked when it was registered.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    /// The schema as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How `data`, the JSON text of an event's data, fails to satisfy the schema.
    /// None if it does satisfy it.
    ///
    /// # Errors
    /// When the schema cannot be compiled, each time.
    pub fn violation(
        &self,
        data: Option<&[u8]>,
    ) -> Result<Option<SchemaViolation>, UnusableSchema<'_>> {
        let compiled = self
            .compiled
            .get_or_init(|| compile(&self.text).map_err(|invalid| invalid.to_string()));
        let Compiled { validator, cost } = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Err(UnusableSchema(error)),
        };
        let data = data.and_then(|data| serde_json::from_slice::<Value>(data).ok());
        let Some(data) = data else {
            return Ok(Some(SchemaViolation {
                path: "data".into(),
                expected: "expected JSON, as the event's type has a schema".into(),
            }));
        };
        // Cheaper than the errors, and what nearly every event needs.
        if validator.is_valid(&data) {
            return Ok(None);
        }
        if !cost.is_affordable_for(&data) {
            return Ok(Some(SchemaViolation {
                path: "data".into(),
                expected: "expected what the schema describes; it recurs too often to say where \
                           this does not"
                    .into(),
            }));
        }
        Ok(Some(describe(validator.iter_errors(&data))))
    }
}

fn describe<'a>(mut errors: impl Iterator<Item = ValidationError<'a>>) -> SchemaViolation {
    let path = |error: &ValidationError<'_>| {
        let pointer = error.instance_path().as_str();
        format!("data{}", expected::shown(pointer))
    };
    let Some(first) = errors.next() else {
        return SchemaViolation {
            path: "data".into(),
            expected: "expected what the schema describes".into(),
        };
    };
    let mut mismatch = SchemaViolation {
        path: path(&first),
        expected: expected::of(&first),
    };
    for error in errors.by_ref().take(DESCRIBED_MAX - 1) {
        let more = format!("; {}: {}", path(&error), expected::of(&error));
        mismatch.expected.push_str(&more);
    }
    match errors.count() {
        0 => {}
        more => mismatch.expected.push_str(&format!("; and {more} more")),
    }
    mismatch
}

/// Checks a schema that is to be registered.
///
/// # Errors
/// Naming the place in it, `schema/properties/price/type`: when it is too large or
/// too deep or costs too much, is of a draft that is not spoken here, does not satisfy its
/// meta-schema, refers to something outside itself, or has a pattern that cannot be
/// matched in linear time.
pub fn check(text: &str) -> Result<(), Invalid> {
    if text.len() > SCHEMA_BYTES_MAX {
        let expected = format!(
            "expected up to {SCHEMA_BYTES_MAX} bytes, got {}",
            text.len()
        );
        return Err(Invalid::new("schema", expected));
    }
    compile(text).map(|_| ())
}

fn compile(text: &str) -> Result<Compiled, Invalid> {
    let schema: Value = serde_json::from_str(text).map_err(|error| {
        let error = parse_error::syntax(&error);
        Invalid::new("schema", format!("expected a JSON Schema: {error}"))
    })?;
    let Value::Object(members) = &schema else {
        return Err(Invalid::new("schema", "expected a JSON object"));
    };
    let draft = match members.get("$schema") {
        None => Draft::Draft202012,
        Some(given) => named_draft(given)?,
    };
    let cost = limits::check(&schema)?;
    let validator = jsonschema::options()
        .with_draft(draft)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .build(&schema)
        .map_err(|error| unfit(&error))?;
    Ok(Compiled { validator, cost })
}

fn named_draft(given: &Value) -> Result<Draft, Invalid> {
    match given.as_str().map(|uri| uri.trim_end_matches('#')) {
        Some("https://json-schema.org/draft/2020-12/schema") => Ok(Draft::Draft202012),
        Some("http://json-schema.org/draft-07/schema") => Ok(Draft::Draft7),
        _ => Err(Invalid::new(
            "schema/$schema",
            "expected https://json-schema.org/draft/2020-12/schema (or nothing, which means \
             it) or http://json-schema.org/draft-07/schema#",
        )),
    }
}

/// What is wrong with a schema that does not compile.
fn unfit(error: &ValidationError<'_>) -> Invalid {
    let pointer = error.instance_path().as_str();
    let field = format!("schema{}", expected::shown(pointer));
    let expected = match error.kind() {
        ValidationErrorKind::Referencing(_) => {
            "expected every $ref to lead to a place in this schema".to_owned()
        }
        ValidationErrorKind::Format { format } if format == "regex" => {
            "expected a regular expression without look-around and back-references, \
             which are not matched in linear time, and of bounded size"
                .to_owned()
        }
        _ => expected::of(error),
    };
    Invalid::new(field, expected)
}
