//! Metadata: what people note on a resource for programs of their own. Millrace keeps
//! it and gives it back, and sends it to no receiver.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::refusal::{kind_of_text, shown_name};
use crate::error::Invalid;

/// Pairs that a resource may have.
const PAIRS_MAX: usize = 50;
/// Characters of a key.
const KEY_LEN_MAX: usize = 40;
/// Characters of a value.
const VALUE_LEN_MAX: usize = 500;

/// The field that all errors are about.
const FIELD: &str = "metadata";

/// The metadata of a resource, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// Metadata in a request: a JSON merge patch (RFC 7396) of what is there. Checked when
/// it is applied, so that every error names the key it is about.
#[derive(Debug)]
pub struct MetadataPatch(Value);

impl<'de> Deserialize<'de> for MetadataPatch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Value::deserialize(from).map(Self)
    }
}

/// Tells null, which removes everything, from absent.
///
/// # Errors
/// As the format that it is read from.
pub fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MetadataPatch>, D::Error> {
    MetadataPatch::deserialize(from).map(Some)
}

impl Metadata {
    /// Merges `patch` into it: a string replaces, null removes its key, and null in
    /// place of the whole removes every key.
    ///
    /// # Errors
    /// [`Invalid`], which names the key, when one of them, its value or their number is
    /// not allowed.
    pub fn merge(&mut self, patch: MetadataPatch) -> Result<(), Invalid> {
        let pairs = match patch.0 {
            Value::Object(pairs) => pairs,
            Value::Null => {
                self.0.clear();
                return Ok(());
            }
            _ => {
                let detail = format!("expected an object of up to {PAIRS_MAX} keys and strings");
                return Err(Invalid::new(FIELD, detail));
            }
        };
        for (key, value) in pairs {
            check_key(&key)?;
            match value {
                Value::Null => {
                    self.0.remove(&key);
                }
                Value::String(text) if is_value(&text) => {
                    self.0.insert(key, text);
                }
                _ => {
                    let detail = format!(
                        "expected a string of up to {VALUE_LEN_MAX} characters, none of them NUL, or null to remove it"
                    );
                    return Err(Invalid::new(
                        format!("{FIELD}.{}", shown_name(&key)),
                        detail,
                    ));
                }
            }
        }
        match self.0.len() {
            ..=PAIRS_MAX => Ok(()),
            pairs => Err(Invalid::new(
                FIELD,
                format!("expected up to {PAIRS_MAX} keys, got {pairs}"),
            )),
        }
    }

    /// Merges the patch, if one was given.
    ///
    /// # Errors
    /// As [`Metadata::merge`].
    pub fn merge_given(&mut self, patch: Option<MetadataPatch>) -> Result<(), Invalid> {
        patch.map_or(Ok(()), |patch| self.merge(patch))
    }
}

fn check_key(key: &str) -> Result<(), Invalid> {
    let is_sized = (1..=KEY_LEN_MAX).contains(&key.chars().count());
    if is_sized && !key.contains(char::is_control) {
        return Ok(());
    }
    let detail = format!(
        "expected keys of 1 to {KEY_LEN_MAX} characters, none of them a control, got {}",
        kind_of_text(key)
    );
    Err(Invalid::new(FIELD, detail))
}

fn is_value(text: &str) -> bool {
    // PostgreSQL's JSON has no NUL.
    text.chars().count() <= VALUE_LEN_MAX && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(before: Value, patch: Value) -> Result<Value, String> {
        let mut metadata: Metadata = serde_json::from_value(before).unwrap();
        let merged = metadata.merge(MetadataPatch(patch));
        merged.map_err(|invalid| invalid.to_string())?;
        Ok(serde_json::to_value(metadata).unwrap())
    }

    #[test]
    fn a_patch_merges_and_null_removes() {
        let before = json!({ "plan": "pro", "crm": "7" });
        for (patch, after) in [
            (json!({}), before.clone()),
            (json!({ "plan": "" }), json!({ "plan": "", "crm": "7" })),
            (json!({ "plan": null, "none": null }), json!({ "crm": "7" })),
            (Value::Null, json!({})),
        ] {
            assert_eq!(merged(before.clone(), patch), Ok(after));
        }
    }

    #[test]
    fn what_is_too_much_is_told_by_its_key() {
        let many =
            |pairs: usize| -> Value { (0..pairs).map(|n| (n.to_string(), json!("v"))).collect() };
        assert!(merged(json!({}), many(50)).is_ok());
        // Counted after the merge.
        assert!(merged(many(50), json!({ "0": null, "new": "v" })).is_ok());
        assert!(
            merged(many(50), json!({ "new": "v" }))
                .unwrap_err()
                .contains("got 51")
        );
        let edge = json!({ "k".repeat(40): "\u{e9}".repeat(500) });
        assert!(merged(json!({}), edge).is_ok());
        for (patch, field) in [
            (json!([]), "metadata: "),
            (json!("text"), "metadata: "),
            (json!({ "": "v" }), "metadata: "),
            (json!({ "k".repeat(41): "v" }), "metadata: "),
            (json!({ "a\nb": "v" }), "metadata: "),
            (json!({ "a": "v".repeat(501) }), "metadata.a: "),
            (json!({ "a": "\0" }), "metadata.a: "),
            (json!({ "a": 1 }), "metadata.a: "),
            (json!({ "a": { "b": "c" } }), "metadata.a: "),
        ] {
            let refused = merged(json!({}), patch).unwrap_err();
            assert!(refused.starts_with(field), "{refused}");
        }
    }
}
