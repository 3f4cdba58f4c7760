//! The sources of the configuration: the layers, and what is wrong with them as
//! written.

use std::path::Path;
use std::sync::LazyLock;

use figment::error::{Actual, Kind};
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Num, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::check::range;
use super::keys::{self, default_of, documented, known_keys, leaves};
use super::problem::{ENV_PREFIX, InvalidConfig, env_name, is_secret, kind_of_text, problem};
use super::suggest;

/// What the reader of TOML adds to the path of a date or a time: it is a table to it.
const DATE: &str = ".$__toml_private_datetime";
/// What the layer of variables is called.
const ENVIRONMENT: &str = "the environment";
/// The file that is read, if there, when none is named.
pub const DEFAULT_FILE: &str = "millrace.toml";

/// Variables that clients of the API, its examples and its tests read: never
/// configuration, so that whoever sets them can go on to start a server.
const CLIENT_VARIABLES: [&str; 3] = ["MILLRACE_URL", "MILLRACE_KEY", "MILLRACE_BIN"];

/// One layer of configuration and what to call it in a message.
#[derive(Debug, Clone)]
pub struct Layer {
    name: String,
    values: Dict,
    /// Of what it holds besides, as whoever wrote it wrote it.
    unknown: Vec<String>,
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
        Ok(Self {
            name: name.to_owned(),
            values,
            unknown: vec![],
        })
    }

    /// A layer from those of `vars` that begin with `MILLRACE_`, in whatever case:
    /// a key in another case than its own would be passed over in silence.
    pub fn env(vars: &[(String, String)]) -> Self {
        let mut values = Dict::new();
        let mut unknown = Vec::new();
        for (name, text) in vars.iter().filter(|(name, _)| is_ours(name)) {
            let path = name[ENV_PREFIX.len()..].to_lowercase().replace("__", ".");
            if default_of(&path).is_some() && *name == env_name(&path) {
                insert(&mut values, &path, typed(&path, text));
            } else {
                unknown.push(unknown_key(name, &path, ENVIRONMENT));
            }
        }
        unknown.sort();
        Self {
            name: ENVIRONMENT.to_owned(),
            values,
            unknown,
        }
    }
}

/// Whether a variable of that name is meant as configuration.
pub fn is_ours(variable: &str) -> bool {
    let prefix = variable.get(..ENV_PREFIX.len());
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(ENV_PREFIX))
        && !CLIENT_VARIABLES
            .iter()
            .any(|name| variable.eq_ignore_ascii_case(name))
}

/// One line about a key, `written` so, that there is not.
fn unknown_key(written: &str, path: &str, origin: &str) -> String {
    let hint = suggest::hint(path);
    format!("{written}: unknown key in {origin}; {hint}")
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
        problems.append(&mut source.unknown);
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

/// The layer of what `config.toml` says.
static DEFAULTS: LazyLock<Layer> = LazyLock::new(|| Layer {
    name: "config.toml".to_owned(),
    values: keys::defaults().clone(),
    unknown: vec![],
});

/// Takes out every unknown key, and says so of each.
fn remove_unknown(source: &mut Layer) -> Vec<String> {
    let mut kept = Dict::new();
    let mut problems = Vec::new();
    for (path, value) in leaves(&source.values) {
        let is_empty = value.as_dict().is_some();
        if let (Some(path), Some(date)) = (path.strip_suffix(DATE), value.as_str()) {
            problems.push(date_given(path, date, &source.name));
            continue;
        }
        match documented(&path) {
            Some(found) if found.as_dict().is_none() => insert(&mut kept, &path, value.clone()),
            // A section with nothing in it.
            Some(_) if is_empty => {}
            _ => problems.push(unknown_key(&path, &path, &source.name)),
        }
    }
    source.values = kept;
    problems
}

/// One line about a key that was given a date or a time: no key takes one.
fn date_given(path: &str, date: &str, origin: &str) -> String {
    if documented(path).is_none_or(|found| found.as_dict().is_some()) {
        return unknown_key(path, path, origin);
    }
    let given = (!is_secret(path)).then(|| format!("{date} given in {origin}"));
    let expected = match default_of(path) {
        Some(Value::Bool(..)) => "true or false".to_owned(),
        _ => expected(path, &Kind::Unsupported(Actual::Map)),
    };
    problem(path, given.as_deref(), &expected)
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
        Kind::UnknownVariant(actual, _) => Some(kind_of_text(actual)),
        _ => None,
    };
    let given = given.map(|given| format!("{given} given in {}", origin.unwrap_or("a source")));
    problem(&key, given.as_deref(), &expected(&key, &error.kind))
}

fn display_given(actual: &Actual) -> String {
    match actual {
        // It may be a secret that is meant for another key.
        Actual::Str(text) => kind_of_text(text),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a whole number was given, and one too large for what it is read into.
fn is_too_large(kind: &Kind) -> bool {
    match kind {
        Kind::InvalidValue(actual, _) | Kind::InvalidType(actual, _) => match actual {
            Actual::Unsigned(_) => true,
            Actual::Signed(given) => *given >= 0,
            _ => false,
        },
        _ => false,
    }
}

fn expected(key: &str, kind: &Kind) -> String {
    if let Kind::UnknownVariant(given, variants) = kind {
        let one_of = format!("one of {}", variants.join(", "));
        let is_address = given.contains(['.', ':']) || given == "localhost";
        if key == "host" && is_address {
            let listen = env_name("http.listen");
            return format!("{one_of}; the address to listen on is http.listen ({listen})");
        }
        return one_of;
    }
    match (default_of(key), kind) {
        (_, Kind::InvalidValue(_, expected)) if expected.starts_with('"') => expected.clone(),
        (_, Kind::Message(message)) => message.clone(),
        (Some(Value::Num(_, Num::F64(_))), _) => "a number".to_owned(),
        (Some(Value::Num(..)), kind) if is_too_large(kind) => {
            range(key).unwrap_or_else(|| kind.to_string())
        }
        (Some(Value::Num(..)), _) => "a whole number, not negative".to_owned(),
        (Some(Value::String(..)), _) => "text in quotes".to_owned(),
        (Some(Value::Array(_, items)), _) => match items.first() {
            Some(Value::Num(..)) => "a list of whole numbers, not negative".to_owned(),
            _ => "a list of names in quotes".to_owned(),
        },
        _ => kind.to_string(),
    }
}
