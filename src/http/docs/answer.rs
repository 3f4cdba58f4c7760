//! Examples of answers, as text: the fields in the order in which they are described,
//! each with the value that its schema gives, else with a likely one.

use std::fmt::Write;

use serde_json::{Value, json};

use super::schema;

/// Objects in objects that are looked into.
const DEPTH_MAX: usize = 8;
/// What stands after the prefix of an id.
const ID: &str = "bxy4een4gkjbbyac8qvcdx7hxse9gp88";
/// The prefix of `id`, by how the name of its object's schema begins.
const PREFIXES: [(&str, &str); 11] = [
    ("AcceptedEvent", "evt_"),
    ("ApiKeyEndpoint", "ep_"),
    ("ApiKey", "key_"),
    ("CloudEvent", "evt_"),
    ("Delivery", "dlv_"),
    ("Endpoint", "ep_"),
    ("Erasure", "ers_"),
    ("Event", "evt_"),
    ("Meter", "mtr_"),
    ("Project", "prj_"),
    ("Recovery", "rec_"),
];
/// Texts of fields, whatever they are of.
const TEXTS: [(&str, &str); 24] = [
    ("action", "endpoint.create"),
    ("actor", "key_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
    ("console", "/console"),
    ("control_plane", "ok"),
    ("delivery_id", "dlv_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
    ("description", "Invoices, for accounting"),
    ("docs", "/docs"),
    ("endpoint_id", "ep_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
    ("event_id", "evt_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
    ("event_store", "ok"),
    ("event_type", "invoice.paid"),
    ("event_types", "invoice.*"),
    ("health", "/health"),
    ("hint", "mr_…x7hx"),
    ("key", "mr_…"),
    ("name", "Invoices"),
    ("openapi", "/openapi.json"),
    ("project_id", "prj_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
    ("secret", "whsec_…"),
    ("source", "/billing"),
    ("specversion", "1.0"),
    ("status", "ok"),
    ("type", "invoice.paid"),
    ("url", "https://example.com/webhooks"),
];

/// An answer of `schema`, laid out.
pub(super) fn text(document: &Value, schema: &Value) -> String {
    let mut out = String::new();
    let place = Place { name: "", of: "" };
    write_any(&mut out, document, schema, place, 0);
    out
}

/// Where a value stands: the name of its field, and of the schema the field is of.
#[derive(Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    of: &'a str,
}

fn write_any(out: &mut String, document: &Value, schema: &Value, place: Place<'_>, depth: usize) {
    let (target, name) = schema::resolve(document, schema);
    let of = name.unwrap_or(place.of);
    if let Some(given) = given(schema).or_else(|| given(target)) {
        return write_value(out, given, depth);
    }
    let fields = schema::fields(document, schema);
    if !fields.is_empty() && depth < DEPTH_MAX {
        return write_fields(out, document, &fields, of, depth);
    }
    let alternatives = ["oneOf", "anyOf"]
        .iter()
        .filter_map(|word| target[*word].as_array());
    let one = alternatives.flatten().find(|one| one["type"] != "null");
    if let Some(one) = one.filter(|_| depth < DEPTH_MAX) {
        return write_any(out, document, one, place, depth);
    }
    if target["items"].is_object() && depth < DEPTH_MAX {
        let indent = "  ".repeat(depth);
        let _ = write!(out, "[\n{indent}  ");
        write_any(out, document, &target["items"], place, depth + 1);
        let _ = write!(out, "\n{indent}]");
        return;
    }
    write_value(out, &likely(target, place), depth);
}

fn write_fields(
    out: &mut String,
    document: &Value,
    fields: &[schema::Field<'_>],
    of: &str,
    depth: usize,
) {
    let indent = "  ".repeat(depth);
    out.push('{');
    for (n, field) in fields.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(out, "{comma}\n{indent}  {}: ", json!(field.name));
        let place = Place {
            name: field.name,
            of,
        };
        write_any(out, document, field.schema, place, depth + 1);
    }
    let _ = write!(out, "\n{indent}}}");
}

/// The example of the schema itself, or the first of its values.
fn given(schema: &Value) -> Option<&Value> {
    let first = schema["examples"].get(0).or_else(|| schema["enum"].get(0));
    let own = ["example", "const"]
        .iter()
        .find_map(|name| schema.get(*name));
    own.or(first)
}

/// A value of the schema's type: null where nothing better is known of what may be null.
fn likely(schema: &Value, place: Place<'_>) -> Value {
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ => vec![],
    };
    let text = words(schema, place);
    match types.first().copied() {
        Some("string") if text.is_some() => json!(text),
        Some(_) if types.contains(&"null") => Value::Null,
        Some("string") => json!("text"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(false),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => Value::Null,
    }
}

fn words(schema: &Value, place: Place<'_>) -> Option<String> {
    if place.name == "id" {
        let mut prefixes = PREFIXES.iter();
        let prefix = prefixes.find(|(of, _)| place.of.starts_with(of));
        return prefix.map(|(_, prefix)| format!("{prefix}{ID}"));
    }
    // Event types are known by their names alone.
    let name = match (place.of, place.name) {
        ("EventType", "name") => "type",
        (_, name) => name,
    };
    let text = TEXTS.iter().find(|(of, _)| *of == name);
    let format = match schema["format"].as_str() {
        Some("date-time") => Some("2026-01-31T12:00:00.000Z"),
        Some("uri") => Some("https://example.com/webhooks"),
        _ => None,
    };
    text.map(|(_, text)| *text).or(format).map(str::to_owned)
}

/// A value inside of `depth` others.
fn write_value(out: &mut String, value: &Value, depth: usize) {
    let text = format!("{value:#}");
    out.push_str(&text.replace('\n', &format!("\n{}", "  ".repeat(depth))));
}

#[cfg(test)]
mod tests {
    use super::super::{document, html, page};
    use super::*;

    #[test]
    fn every_answer_in_json_has_an_example_with_all_that_is_always_there() {
        let document = document();
        let shown = page::render(&document);
        let mut seen = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let content = &response["content"]["application/json"];
                    if !content.is_object() {
                        continue;
                    }
                    let place = format!("{method} {path} {status}");
                    let example = text(&document, &content["schema"]);
                    let value: Value = serde_json::from_str(&example).expect(&place);
                    for field in schema::fields(&document, &content["schema"]) {
                        assert!(value.get(field.name).is_some(), "{place}: {}", field.name);
                    }
                    let block = format!("<pre class=\"json\">{}</pre>", html::Text(&example));
                    assert!(shown.contains(&block), "{place}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn an_example_is_likely_and_in_the_order_of_the_fields() {
        let delivery = json!({
            "type": "object", "required": ["id", "state", "tenant"],
            "properties": {
                "tenant": { "type": ["string", "null"] },
                "state": { "type": "string", "enum": ["pending"] },
                "id": { "type": "string" },
                "left_out": { "type": "string" }
            }
        });
        let document = json!({ "components": { "schemas": { "Delivery": delivery } } });
        let list = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Delivery" } });
        assert_eq!(
            text(&document, &list),
            format!(
                "[\n  {{\n    \"id\": \"dlv_{ID}\",\n    \"state\": \"pending\",\n    \"tenant\": null\n  }}\n]"
            )
        );
        let endless = json!({ "components": { "schemas": { "A": {
            "required": ["a"], "properties": { "a": { "$ref": "#/components/schemas/A" } }
        } } } });
        let endless = text(&endless, &json!({ "$ref": "#/components/schemas/A" }));
        assert!(serde_json::from_str::<Value>(&endless).is_ok());
    }
}
