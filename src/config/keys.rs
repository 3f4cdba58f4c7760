//! The keys that there are, with their defaults, as `config.toml` documents them.

use std::sync::LazyLock;

use figment::value::{Dict, Value};

/// What `config.toml` says, from JSON: reading its TOML was much of what a start
/// computes. A test holds the one to the other, and writes it.
static DEFAULTS: LazyLock<Dict> = LazyLock::new(|| {
    serde_json::from_str(include_str!("defaults.json")).expect("defaults.json is a JSON object")
});
static KNOWN: LazyLock<Vec<(String, &Value)>> = LazyLock::new(|| leaves(&DEFAULTS));

/// All of it, by section.
pub fn defaults() -> &'static Dict {
    &DEFAULTS
}

/// Every key `config.toml` documents with its default, dotted.
pub fn known_keys() -> &'static [(String, &'static Value)] {
    &KNOWN
}

/// The default of a dotted key, if there is such a key.
pub fn default_of(path: &str) -> Option<&'static Value> {
    documented(path).filter(|found| found.as_dict().is_none())
}

/// What `config.toml` has at that path: the default of a key, or a section.
pub fn documented(path: &str) -> Option<&'static Value> {
    let mut names = path.split('.');
    let first = DEFAULTS.get(names.next()?)?;
    names.try_fold(first, |value, name| value.as_dict()?.get(name))
}

/// Every value that holds no others, by its path.
pub fn leaves(dict: &Dict) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (name, value) in dict {
        match value.as_dict() {
            Some(inner) if !inner.is_empty() => found.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(path, value)| (format!("{name}.{path}"), value)),
            ),
            _ => found.push((name.clone(), value)),
        }
    }
    found
}
