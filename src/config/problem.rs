//! The words in which a mistake in the configuration is reported, a line for each.

use std::fmt::{self, Display};

/// What the environment variables of keys begin with.
pub const ENV_PREFIX: &str = "MILLRACE_";

/// Everything that is wrong with a configuration, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InvalidConfig {
    /// Each names the key, what kind of thing it was given and what was expected.
    pub problems: Vec<String>,
}

impl InvalidConfig {
    pub(super) fn one(problem: String) -> Self {
        Self {
            problems: vec![problem],
        }
    }

    pub(super) fn unless_empty(problems: Vec<String>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        Err(Self { problems })
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("configuration:")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// The environment variable of a dotted key.
pub fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Whether a key's value must never be shown.
pub fn is_secret(key: &str) -> bool {
    matches!(key, "admin_key" | "database.url")
}

/// One line about one key: what kind of thing was "given", and what was expected.
pub fn problem(key: &str, given: Option<&str>, expected: &str) -> String {
    let name = env_name(key);
    match given {
        Some(given) => format!("{key} ({name}): {given}, expected {expected}"),
        None => format!("{key} ({name}): expected {expected}"),
    }
}

/// What is said of a text that was given.
pub fn kind_of_text(text: &str) -> String {
    match text.chars().count() {
        0 => "an empty string".to_owned(),
        1 => "a string of 1 character".to_owned(),
        chars => format!("a string of {chars} characters"),
    }
}

/// [`problem`] with a text, of which only the length is said: it may be a secret that is
/// meant for another key.
pub fn text(key: &str, given: &str, expected: &str) -> String {
    problem(
        key,
        Some(&format!("{} given", kind_of_text(given))),
        expected,
    )
}

/// [`problem`] with a number, or what was made of a value already.
pub fn given(key: &str, given: impl Display, expected: &str) -> String {
    problem(key, Some(&format!("{given} given")), expected)
}
