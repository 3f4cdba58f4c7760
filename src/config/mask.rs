//! The configuration as it may be shown: in order, and without its secrets.

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use serde_json::Value;

const MASK: &str = "***";

/// Serializes a secret as `***`, or as nothing where nothing is set.
pub fn secret<S: Serializer>(value: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    match value.expose_secret() {
        "" => to.serialize_str(""),
        _ => to.serialize_str(MASK),
    }
}

/// Serializes a connection string with its password as `***`.
pub fn url<S: Serializer>(value: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&masked_url(value.expose_secret()))
}

/// Anything but a URL is masked whole: where its password begins is a guess.
fn masked_url(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let Ok(mut url) = url::Url::parse(text) else {
        return MASK.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if url.query_pairs().any(|(name, _)| name == "password") {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let masked = pairs.iter().map(|(name, value)| match name.as_str() {
            "password" => (name.as_str(), MASK),
            _ => (name.as_str(), value.as_str()),
        });
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.into()
}

/// `config` as TOML, its keys in the order that `documented` has them in.
pub fn toml(config: &impl Serialize, documented: &str) -> String {
    let values = serde_json::to_value(config).unwrap_or_default();
    let mut section = None;
    let mut out = String::new();
    for line in documented.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            out.push_str(&format!("\n{line}\n"));
            section = Some(name);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let level = section.map_or(&values, |name| &values[name]);
            out.push_str(&format!("{key} = {}\n", inline(&level[key])));
        }
    }
    out
}

/// Strings, numbers, booleans and lists of them are written alike in JSON and
/// TOML, but for the one control character that JSON lets stand.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        value => value.to_string().replace('\u{7f}', "\\u007f"),
    }
}
