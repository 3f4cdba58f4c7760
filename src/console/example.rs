//! An example of what a JSON Schema describes, for who has to write one: the schema's
//! own if it has one, else made of its parts. It shows the shape; what patterns and
//! bounds ask for beside that, it may not satisfy.

use serde_json::{Map, Value, json};

/// Levels that are looked into.
const DEPTH_MAX: u8 = 8;
/// Members of an object, and values in all.
const MEMBERS_MAX: usize = 30;
const VALUES_MAX: usize = 200;

/// An example of `schema`.
pub fn of(schema: &Value) -> Value {
    let mut left = VALUES_MAX;
    Maker {
        root: schema,
        left: &mut left,
    }
    .value(schema, DEPTH_MAX)
}

struct Maker<'a> {
    root: &'a Value,
    left: &'a mut usize,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: u8) -> Value {
        if depth == 0 || *self.left == 0 {
            return Value::Null;
        }
        *self.left -= 1;
        if let Some(given) = given(schema) {
            return given.clone();
        }
        let referred = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
        if let Some(referred) = referred.and_then(|pointer| self.root.pointer(pointer)) {
            let referred = referred.clone();
            return self.value(&referred, depth - 1);
        }
        for choice in ["oneOf", "anyOf"] {
            if let Some(first) = schema[choice].get(0) {
                return self.value(first, depth - 1);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => {
                let items = schema["prefixItems"].as_array();
                let items = items
                    .cloned()
                    .unwrap_or_else(|| vec![schema["items"].clone()]);
                let items = items.iter().filter(|items| items.is_object());
                items.map(|items| self.value(items, depth - 1)).collect()
            }
            "string" => text(schema),
            "integer" => number(schema, &json!(1)),
            "number" => number(schema, &json!(1.5)),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }

    /// With the members of all that must hold of it.
    fn object(&mut self, schema: &Value, depth: u8) -> Value {
        let mut members = Map::new();
        for (name, of) in schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .take(MEMBERS_MAX)
        {
            members.insert(name.clone(), self.value(of, depth - 1));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            if let Value::Object(more) = self.value(part, depth - 1) {
                members.extend(more);
            }
        }
        members.into()
    }
}

/// What the schema itself says is one.
fn given(schema: &Value) -> Option<&Value> {
    let first = schema["examples"].get(0).or_else(|| schema["enum"].get(0));
    let names = ["example", "const", "default"];
    first.or_else(|| names.iter().find_map(|name| schema.get(name)))
}

/// The type, or the one that the keywords are of.
fn kind(schema: &Value) -> &str {
    let types = &schema["type"];
    let of_many = types.as_array().into_iter().flatten();
    let mut of_many = of_many
        .filter_map(Value::as_str)
        .filter(|name| *name != "null");
    match types.as_str().or_else(|| of_many.next()) {
        Some(name) => name,
        None if !schema["properties"].is_null() || !schema["allOf"].is_null() => "object",
        None if !schema["items"].is_null() || !schema["prefixItems"].is_null() => "array",
        None => "",
    }
}

fn text(schema: &Value) -> Value {
    json!(match schema["format"].as_str() {
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("date") => "2026-01-31",
        Some("time") => "12:00:00Z",
        Some("email") => "someone@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        _ => "text",
    })
}

fn number(schema: &Value, usual: &Value) -> Value {
    let mut bounds = ["minimum", "maximum"]
        .iter()
        .filter_map(|bound| schema.get(bound));
    let bound = bounds.find(|bound| bound.is_number());
    bound.unwrap_or(usual).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_has_the_shape_of_its_schema() {
        for (schema, example) in [
            (json!({}), Value::Null),
            (json!(true), Value::Null),
            (
                json!({ "examples": [{ "a": 1 }], "type": "object" }),
                json!({ "a": 1 }),
            ),
            (json!({ "enum": ["x", "y"] }), json!("x")),
            (json!({ "const": false }), json!(false)),
            (
                json!({
                    "$defs": { "money": { "type": "string", "example": "12.50" } },
                    "required": ["total"],
                    "properties": {
                        "total": { "$ref": "#/$defs/money" },
                        "paid": { "type": ["null", "string"], "format": "date-time" },
                        "items": { "items": { "type": "object", "properties": { "n": { "type": "integer", "minimum": 3 } } } },
                        "ok": { "type": "boolean" },
                        "share": { "type": "number" },
                        "pair": { "prefixItems": [{ "type": "integer" }, { "type": "string" }] }
                    }
                }),
                json!({
                    "total": "12.50", "paid": "2026-01-31T12:00:00Z", "items": [{ "n": 3 }], "ok": true, "share": 1.5,
                    "pair": [1, "text"]
                }),
            ),
            (
                json!({ "allOf": [{ "properties": { "a": { "const": 1 } } }, { "oneOf": [{ "properties": { "b": { "const": 2 } } }] }] }),
                json!({ "a": 1, "b": 2 }),
            ),
        ] {
            assert_eq!(of(&schema), example, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_or_is_wide_ends() {
        let endless = json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" } } });
        assert!(of(&endless).to_string().len() < 10_000);
        let many: Map<String, Value> = (0..5_000)
            .map(|n| (n.to_string(), json!({ "type": "string" })))
            .collect();
        let wide = json!({ "properties": many });
        assert_eq!(of(&wide).as_object().unwrap().len(), MEMBERS_MAX);
    }
}
