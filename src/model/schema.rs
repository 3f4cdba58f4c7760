//! JSON Schemas that the data of events must satisfy: 2020-12 and draft 7.
//!
//! A schema comes from outside, and every event of its type is validated by it, so
//! everything about it is bounded: when it is registered its size, depth and patterns,
//! and that nothing in it is fetched from elsewhere; when it is used the steps that a
//! validation takes. Patterns are matched in linear time. Numbers are compared as they
//! are written. Known formats are asserted, which the specification leaves open.

mod copies;
mod expansion;
mod expected;
mod json;
mod keywords;
mod limits;
mod meter;
mod node;
mod patterns;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use self::json::Json;
use self::meter::{Meter, Spent, Weights};
use self::node::{Metered, Node};
use crate::error::Invalid;
use crate::model::parse_error;

/// The largest schema, in bytes as it is given.
pub const SCHEMA_BYTES_MAX: usize = 65_536;
/// Steps that a validation may take: looks at values of the data, one for each 16 bytes
/// of text looked at, and more for each byte that a large pattern is held against.
pub const STEPS_MAX: u64 = 2_000_000;
/// The longest string that is looked at for being a regular expression itself.
const REGEX_BYTES_MAX: usize = 4096;

/// A schema as it was given.
#[derive(Clone)]
pub struct Schema {
    text: Box<str>,
    sha256: [u8; 32],
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema")
            .field("text", &self.text)
            .finish_non_exhaustive()
    }
}

impl Schema {
    /// The schema in `text`, which was checked when it was registered.
    pub fn new(text: &str) -> Self {
        let sha256 = digest(&SHA256, text.as_bytes());
        Self {
            text: text.into(),
            sha256: sha256.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
    }

    /// The schema as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// By which it is known: schemas of one text are one.
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Makes it ready to validate. Costs milliseconds, and memory of
    /// [`CompiledSchema::bytes`].
    ///
    /// # Errors
    /// When this version cannot do anything with it.
    pub fn compile(&self) -> Result<CompiledSchema, UnusableSchema> {
        compile(&self.text).map_err(|invalid| UnusableSchema(invalid.to_string()))
    }
}

/// A schema that is ready to validate.
pub struct CompiledSchema {
    validator: Validator<Metered>,
    weights: Weights,
    bytes: usize,
}

impl std::fmt::Debug for CompiledSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledSchema")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// How the data of an event fails to satisfy a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaViolation {
    /// Where in the event the first thing is wrong: `data/items/0/price`.
    pub path: String,
    /// What was expected there; no value of the data but names of its properties.
    pub expected: String,
}

/// What became of a validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The data satisfies the schema.
    Satisfied,
    /// It does not.
    Violated(SchemaViolation),
    /// The steps were too few: what is to be said if there are to be no more.
    OutOfSteps(SchemaViolation),
}

/// This version cannot do anything with a schema that was registered.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct UnusableSchema(String);

impl CompiledSchema {
    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether `data`, the JSON text of an event's data, satisfies the schema, as far
    /// as `steps` go.
    pub fn validate(&self, data: Option<&[u8]>, steps: u64) -> Verdict {
        let text = data.and_then(|data| std::str::from_utf8(data).ok());
        let Some(text) = text else {
            return violated("expected JSON, as the event's type has a schema");
        };
        let data = match Json::parse(text) {
            Ok(data) => data,
            Err(error) if error.is_data() => {
                return violated("expected numbers whose exponents have up to 18 digits");
            }
            Err(_) => return violated("expected JSON, as the event's type has a schema"),
        };
        let run = |meter: &Meter| self.validator.is_valid(Node::new(&data, meter));
        match Meter::run(steps, self.weights, run) {
            Ok(true) => Verdict::Satisfied,
            // With steps of its own, or the worse the data the less would be said.
            Ok(false) => match Meter::run(steps, self.weights, |meter| self.first(&data, meter)) {
                Ok(first) => Verdict::Violated(first),
                Err(Spent) => Verdict::OutOfSteps(SchemaViolation {
                    path: "data".into(),
                    expected: "expected what the schema describes; it takes too many steps to \
                               say where this does not"
                        .into(),
                }),
            },
            Err(Spent) => Verdict::OutOfSteps(SchemaViolation {
                path: "data".into(),
                expected: format!(
                    "expected data that the schema takes up to {STEPS_MAX} steps to validate"
                ),
            }),
        }
    }

    /// The first thing that is wrong with `data`, which does not satisfy the schema.
    fn first(&self, data: &Json, meter: &Meter) -> SchemaViolation {
        match self.validator.validate(Node::new(data, meter)) {
            Err(error) => {
                let pointer = error.instance_path().as_str();
                SchemaViolation {
                    path: format!("data{}", expected::shown(pointer)),
                    expected: expected::of(&error),
                }
            }
            Ok(()) => SchemaViolation {
                path: "data".into(),
                expected: "expected what the schema describes".into(),
            },
        }
    }

    /// Steps that validating `data` takes, if it may take so many.
    #[cfg(test)]
    fn steps(&self, data: &str) -> Option<u64> {
        let data = Json::parse(data).unwrap();
        let run = |meter: &Meter| {
            let _ = self.validator.is_valid(Node::new(&data, meter));
            STEPS_MAX - meter.left()
        };
        Meter::run(STEPS_MAX, self.weights, run).ok()
    }
}

fn violated(expected: &str) -> Verdict {
    Verdict::Violated(SchemaViolation {
        path: "data".into(),
        expected: expected.into(),
    })
}

/// Checks a schema that is to be registered. Costs what [`Schema::compile`] does.
///
/// # Errors
/// Naming the place in it, `schema/properties/price/type`: when it is too large or
/// too deep or costs too much, is of a draft that is not spoken here, does not satisfy its
/// meta-schema, refers to something outside itself, or has a pattern that cannot be
/// matched in linear time or takes too much memory.
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

fn compile(text: &str) -> Result<CompiledSchema, Invalid> {
    let exact = Json::parse(text).map_err(|error| {
        let error = parse_error::syntax(&error);
        Invalid::new("schema", format!("expected a JSON Schema: {error}"))
    })?;
    let schema = exact.to_value();
    let Value::Object(members) = &schema else {
        return Err(Invalid::new("schema", "expected a JSON object"));
    };
    let draft = match members.get("$schema") {
        None => Draft::Draft202012,
        Some(given) => named_draft(given)?,
    };
    let cost = limits::check(&schema, text.len())?;
    let sizes = Arc::new(Mutex::new(cost.patterns));
    let options = PatternOptions::regex()
        .size_limit(patterns::PATTERN_BYTES_MAX)
        .dfa_size_limit(patterns::MATCH_CACHE_BYTES_MAX);
    let builder = jsonschema::options_for::<Metered>()
        .with_draft(draft)
        .offline()
        .should_validate_formats(true)
        .with_format("regex", is_regex)
        .with_pattern_options(options);
    let builder = keywords::exact(builder, &Arc::new(exact));
    let builder = patterns::bounded(builder, &sizes);
    let validator = builder.build(&schema).map_err(|error| unfit(&error))?;
    let of_patterns = sizes.lock().expect("nothing panics with it").bytes();
    Ok(CompiledSchema {
        validator,
        weights: cost.weights,
        bytes: cost.bytes + of_patterns,
    })
}

/// Whether `text` is a regular expression, as ECMA-262 has them.
fn is_regex(text: &str) -> bool {
    // What reads them is slow where groups have many names.
    text.len() <= REGEX_BYTES_MAX && jsonschema_regex::is_valid_ecma_regex(text)
}

fn named_draft(given: &Value) -> Result<Draft, Invalid> {
    match given.as_str().map(|uri| uri.trim_end_matches('#')) {
        Some("https://json-schema.org/draft/2020-12/schema") => Ok(Draft::Draft202012),
        Some("http://json-schema.org/draft-07/schema") => Ok(Draft::Draft7),
        _ => {
            let expected = "expected https://json-schema.org/draft/2020-12/schema (or nothing, \
                            which means it) or http://json-schema.org/draft-07/schema#";
            Err(Invalid::new("schema/$schema", expected))
        }
    }
}

/// What is wrong with a schema that does not compile.
fn unfit(error: &ValidationError<'_>) -> Invalid {
    let pointer = match error.kind() {
        // A keyword of ours is wrong where it stands.
        ValidationErrorKind::Custom { .. } => error.schema_path().as_str(),
        _ => error.instance_path().as_str(),
    };
    let field = format!("schema{}", expected::shown(pointer));
    let expected = match error.kind() {
        ValidationErrorKind::Referencing(_) => {
            "expected every $ref to lead to a place in this schema".to_owned()
        }
        ValidationErrorKind::Format { format } if format == "regex" => patterns::UNFIT.to_owned(),
        _ => expected::of(error),
    };
    Invalid::new(field, expected)
}
