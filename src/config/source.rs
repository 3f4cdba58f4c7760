//! The sources of the configuration: the layers, and what is wrong with them as
//! written.

use std::path::Path;
use std::sync::LazyLock;

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Num, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::problem::{ENV_PREFIX, InvalidConfig, env_name, is_secret, problem};

/// The file that is read, if there, when none is named.
pub const DEFAULT_FILE: &str = "millrace.toml";

/// One layer of configuration and what to call it in a message.
#[derive(Debug, Clone)]
pub struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    pub fn toml(name: &str, text: &str) -> Result<Self, InvalidConfig> {
        let values = Toml::from_str(text).map_err(|error| {
            // Its own text quotes the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.split('\n').count());
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            InvalidConfig::one(format!("{name}, line {line}: {message}"))
        })?;
        let name = name.to_owned();
        Ok(Self { name, values })
    }

    /// A layer from those of `vars` that begin with `MILLRACE_`.
    pub fn env(vars: &[(String, String)]) -> Self {
        let mut values = Dict::new();
        for (name, text) in vars {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                let path = key.to_lowercase().replace("__", ".");
                insert(&mut values, &path, typed(&path, text));
            }
        }
        let name = "the environment".to_owned();
        Self { name, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// The file named, which must be there, or else the default one if it is.
pub fn file(named: Option<&Path>) -> Result<Option<Layer>, InvalidConfig> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Layer::toml(&name, &text).map(Some),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(InvalidConfig::one(format!("cannot read {name}: {error}"))),
    }
}

/// Lays `sources` over the defaults, the last on top of all, as a `T`.
///
/// # Errors
/// Every unknown key and every value of the wrong type.
pub fn extract<T: DeserializeOwned>(mut sources: Vec<Layer>) -> Result<T, InvalidConfig> {
    let mut problems = Vec::new();
    for source in &mut sources {
        problems.extend(remove_unknown(source));
    }
    loop {
        let merged = sources
            .iter()
            .fold(Figment::from(&*DEFAULTS), |all, source| all.merge(source));
        match merged.extract() {
            Ok(value) if problems.is_empty() => return Ok(value),
            Ok(_) => return Err(InvalidConfig { problems }),
            Err(error) => {
                problems.push(describe(&error));
                // Only the first is reported: without it the next one is.
                if !remove_invalid(&mut sources, &error) {
                    return Err(InvalidConfig { problems });
                }
            }
        }
    }
}

/// The layer of what `config.toml` says, from JSON: reading its TOML was much of
/// what a start computes. A test holds the one to the other, and writes it.
static DEFAULTS: LazyLock<Layer> = LazyLock::new(|| Layer {
    name: "config.toml".to_owned(),
    values: serde_json::from_str(include_str!("defaults.json"))
        .expect("defaults.json is a JSON object"),
});
static KNOWN: LazyLock<Vec<(String, &Value)>> = LazyLock::new(|| leaves(&DEFAULTS.values));

/// Every key `config.toml` documents with its default, dotted.
pub fn known_keys() -> &'static [(String, &'static Value)] {
    &KNOWN
}

/// The default of a dotted key, if there is such a key.
fn default_of(path: &str) -> Option<&'static Value> {
    let mut names = path.split('.');
    let first = DEFAULTS.values.get(names.next()?)?;
    let found = names.try_fold(first, |value, name| value.as_dict()?.get(name))?;
    found.as_dict().is_none().then_some(found)
}

fn leaves(dict: &Dict) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (name, value) in dict {
        match value.as_dict() {
            Some(inner) => found.extend(
                leaves(inner)
                    .into_iter()
                    .map(|(path, value)| (format!("{name}.{path}"), value)),
            ),
            None => found.push((name.clone(), value)),
        }
    }
    found
}

/// Takes out every unknown key, and says so of each.
fn remove_unknown(source: &mut Layer) -> Vec<String> {
    let mut kept = Dict::new();
    let mut problems = Vec::new();
    for (path, value) in leaves(&source.values) {
        if default_of(&path).is_some() {
            insert(&mut kept, &path, value.clone());
            continue;
        }
        let hint = match nearest(&path, known_keys()) {
            Some(key) => format!("did you mean {key} ({})?", env_name(key)),
            None => "config.toml lists them all".to_owned(),
        };
        problems.push(format!("{path}: unknown key in {}; {hint}", source.name));
    }
    source.values = kept;
    problems
}

/// The known key that `path` is most likely meant to be, if any is likely.
fn nearest<'a>(path: &str, known: &'a [(String, &Value)]) -> Option<&'a str> {
    let last = |key: &'a str| key.rsplit('.').next().unwrap_or(key);
    known
        .iter()
        .map(|(key, _)| {
            let whole = distance(path, key);
            // A right name on the wrong level is nearly as near as a misspelt one.
            let name = distance(path, last(key)) + 1;
            (whole.min(name), key.as_str())
        })
        .min()
        .filter(|(distance, _)| *distance <= 2.max(path.len() * 2 / 5))
        .map(|(_, key)| key)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let swapped = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = swapped.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `text` as the type that `path` has by default: text stays text, however much
/// it looks like a number, and a list needs no brackets.
fn typed(path: &str, text: &str) -> Value {
    match default_of(path) {
        Some(Value::String(..)) => Value::from(text),
        Some(Value::Array(..)) if !text.trim_start().starts_with('[') => list(text),
        _ => literal(text).unwrap_or_else(|| Value::from(text)),
    }
}

/// A value as TOML writes it. What it writes as JSON does, and deployments do no
/// other, is read as that: a start computes less.
fn literal(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Num(..) | Value::Bool(..) | Value::Array(..))) => Some(value),
        _ => Toml::from_str::<Dict>(&format!("value = {text}"))
            .ok()?
            .remove("value"),
    }
}

fn list(text: &str) -> Value {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    let item = |item: &str| match (item.parse::<i64>(), item.parse::<f64>()) {
        (Ok(whole), _) => Value::from(whole),
        (_, Ok(number)) => Value::from(number),
        _ => Value::from(item),
    };
    Value::from(items.map(item).collect::<Vec<_>>())
}

fn insert(dict: &mut Dict, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(dict.insert(path.to_owned(), value)),
        Some((head, rest)) => {
            let inner = dict
                .entry(head.to_owned())
                .or_insert_with(|| Dict::new().into());
            match inner {
                Value::Dict(_, inner) => insert(inner, rest, value),
                // A section given as a plain value: that is reported, this is moot.
                _ => drop(dict.insert(path.to_owned(), value)),
            }
        }
    }
}

fn remove(dict: &mut Dict, path: &str) -> bool {
    match path.split_once('.') {
        None => dict.remove(path).is_some(),
        Some((head, rest)) => match dict.get_mut(head) {
            Some(Value::Dict(_, inner)) => remove(inner, rest),
            _ => false,
        },
    }
}

/// Removes the topmost value at fault, unless that is the default itself.
fn remove_invalid(sources: &mut [Layer], error: &Error) -> bool {
    let key = key_of(error);
    sources
        .iter_mut()
        .rev()
        .any(|source| remove(&mut source.values, &key))
}

/// The key an error is about: its path without the index into a list.
fn key_of(error: &Error) -> String {
    let path = error.path.join(".");
    let keys = known_keys().iter().map(|(key, _)| key);
    keys.filter(|key| path == **key || path.starts_with(&format!("{key}.")))
        .max_by_key(|key| key.len())
        .cloned()
        .unwrap_or(path)
}

fn describe(error: &Error) -> String {
    let key = key_of(error);
    let origin = error
        .metadata
        .as_ref()
        .map(|metadata| metadata.name.as_ref());
    let given = match &error.kind {
        _ if is_secret(&key) => None,
        Kind::InvalidType(actual, _) | Kind::InvalidValue(actual, _) => Some(display_given(actual)),
        Kind::UnknownVariant(actual, _) => Some(format!("{actual:?}")),
        _ => None,
    };
    let given = given.map(|given| format!("{given} given in {}", origin.unwrap_or("a source")));
    problem(&key, given.as_deref(), &expected(&key, &error.kind))
}

fn display_given(actual: &Actual) -> String {
    match actual {
        Actual::Str(text) => format!("{text:?}"),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

fn expected(key: &str, kind: &Kind) -> String {
    if let Kind::UnknownVariant(_, variants) = kind {
        return format!("one of {}", variants.join(", "));
    }
    match (default_of(key), kind) {
        (_, Kind::InvalidValue(_, expected)) if expected.starts_with('"') => expected.clone(),
        (_, Kind::Message(message)) => message.clone(),
        (Some(Value::Num(_, Num::F64(_))), _) => "a number".to_owned(),
        (Some(Value::Num(..)), _) => "a whole number, not negative".to_owned(),
        (Some(Value::String(..)), _) => "text in quotes".to_owned(),
        (Some(Value::Array(_, items)), _) => match items.first() {
            Some(Value::Num(..)) => "a list of whole numbers, not negative".to_owned(),
            _ => "a list of names in quotes".to_owned(),
        },
        _ => kind.to_string(),
    }
}
