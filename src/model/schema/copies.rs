//! The copies that the library's errors have of a schema, one by one or by the thousand:
//! each branch of an `anyOf` has all of its errors.

use serde_json::{Map, Value};

/// Keywords whose own text an error has.
const TEXTS: [&str; 3] = ["format", "contentEncoding", "contentMediaType"];
/// Keywords with names for each property, of which an error has one.
const NAMES: [&str; 2] = ["dependentRequired", "dependencies"];
/// Bytes of a value in memory, and of an object's node beside its members.
const VALUE_BYTES: usize = 32;
const OBJECT_BYTES: usize = 640;

/// The most bytes that one error of the keywords in `schema` copies of it.
pub(super) fn of_error(schema: &Map<String, Value>) -> usize {
    let text = |name: &&str| schema.get(*name)?.as_str().map(str::len);
    let longest = |names: &Value| {
        let names = names.as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::len)).max()
    };
    let texts = TEXTS.iter().filter_map(text);
    let required = schema.get("required").and_then(longest);
    let by_name = NAMES
        .iter()
        .filter_map(|name| schema.get(*name)?.as_object());
    let dependent = by_name.flat_map(Map::values).filter_map(longest);
    let negated = schema.get("not").map(bytes);
    let all = texts.chain(required).chain(dependent).chain(negated);
    all.max().unwrap_or_default()
}

/// Bytes of `value` in memory, about.
fn bytes(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(bytes).sum(),
            Value::Object(members) => {
                let members = members.iter();
                let of_members = members.map(|(name, value)| name.len() + bytes(value));
                OBJECT_BYTES + of_members.sum::<usize>()
            }
            _ => 0,
        }
}
