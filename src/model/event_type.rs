//! Event types as registered: what becomes of an event whose data does not satisfy
//! the schema of its type.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::filter::RESERVED_PREFIX;
use super::schema::Schema;
use crate::error::Invalid;

/// Characters of a name: as many as an event's `type` may have.
const NAME_LEN_MAX: usize = 255;

/// What becomes of an event whose data does not satisfy its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidationMode {
    /// It is refused.
    Reject,
    /// It is accepted, and `millrace.schema.rejected` says so.
    Warn,
    /// Nothing: its data is not looked at.
    Off,
}

impl ValidationMode {
    /// The name in JSON and in the stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Warn => "warn",
            Self::Off => "off",
        }
    }
}

impl std::str::FromStr for ValidationMode {
    type Err = UnknownValidationMode;

    fn from_str(text: &str) -> Result<Self, UnknownValidationMode> {
        match text {
            "reject" => Ok(Self::Reject),
            "warn" => Ok(Self::Warn),
            "off" => Ok(Self::Off),
            _ => Err(UnknownValidationMode),
        }
    }
}

/// Not the name of a [`ValidationMode`].
#[derive(Debug, thiserror::Error)]
#[error("expected reject, warn or off")]
pub struct UnknownValidationMode;

/// What accepting an event needs of a type whose events are validated.
#[derive(Debug, Clone)]
pub struct EventTypeSchema {
    /// What becomes of those that do not satisfy it.
    pub validate: ValidationMode,
    /// What their data must satisfy.
    pub schema: Arc<Schema>,
    /// Its number among the schemas of the type.
    pub schema_version: i64,
}

/// The types of a project whose events are validated, by name.
#[derive(Debug, Default)]
pub struct EventTypeSchemas(HashMap<Box<str>, EventTypeSchema>);

impl EventTypeSchemas {
    /// What events of `event_type` must satisfy, if anything.
    pub fn get(&self, event_type: &str) -> Option<&EventTypeSchema> {
        self.0.get(event_type)
    }
}

impl FromIterator<(Box<str>, EventTypeSchema)> for EventTypeSchemas {
    fn from_iter<T: IntoIterator<Item = (Box<str>, EventTypeSchema)>>(types: T) -> Self {
        Self(types.into_iter().collect())
    }
}

/// Checks the name of a type to be registered: it is part of a URL.
///
/// # Errors
/// When it is none, or Millrace's own.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(fits) {
        let expected =
            format!("expected 1 to {NAME_LEN_MAX} letters, digits, '.', '_', '-' or ':'");
        return Err(Invalid::new("name", expected));
    }
    if name == "." || name == ".." {
        return Err(Invalid::new(
            "name",
            "expected a name, not a step in a path",
        ));
    }
    if name.starts_with(RESERVED_PREFIX) {
        let expected = format!("the prefix {RESERVED_PREFIX:?} is reserved");
        return Err(Invalid::new("name", expected));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_a_url_and_are_nobody_elses() {
        for good in [
            "a",
            "invoice.paid",
            "com.amazonaws.s3.ObjectCreated:Put",
            "x_y-z",
        ] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(256);
        for bad in ["", "a b", "a/b", "é", "a*", ".", "..", "millrace.x", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
