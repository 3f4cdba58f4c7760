//! JSON Schemas of the OpenAPI document, as lists of fields and as examples.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::html::{Prose, Text};

/// Objects inside objects are shown so deep.
const DEPTH_MAX: usize = 4;

/// The schema behind `schema`, and its name if it has one.
pub(super) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> (&'a Value, Option<&'a str>) {
    let name = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    match name {
        Some(name) => (&document["components"]["schemas"][name], Some(name)),
        None => (schema, None),
    }
}

/// The type of its values: `string (date-time)`, `list of Scope`.
pub(super) fn kind(document: &Value, schema: &Value) -> String {
    let (schema, name) = resolve(document, schema);
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(Value::to_string).collect();
        return values.join(" | ");
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(list) = schema[alternatives].as_array() {
            let kinds: Vec<_> = list.iter().map(|one| kind(document, one)).collect();
            return kinds.join(" or ");
        }
    }
    let types: Vec<_> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one.as_str()],
        _ if schema["properties"].is_null() && schema["allOf"].is_null() => vec!["any JSON"],
        _ => vec!["object"],
    };
    let words = types.iter().map(|word| match *word {
        "array" => format!("list of {}", kind(document, &schema["items"])),
        "object" => name.unwrap_or("object").to_owned(),
        word => with_format(word, schema),
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn with_format(word: &str, schema: &Value) -> String {
    let mut word = word.to_owned();
    match schema["format"].as_str() {
        // How wide the server's integers are is no concern of the reader's.
        None | Some("int32" | "int64") => {}
        Some(_) if word == "null" => {}
        Some(format) => {
            let _ = write!(word, " ({format})");
        }
    }
    if let (Some(min), Some(max)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        let _ = write!(word, ", {min} to {max}");
    }
    word
}

/// An object with fields, made of one schema or of several together.
struct ObjectSchema<'a> {
    description: &'a str,
    parts: Vec<&'a Value>,
}

/// The objects with fields that a value of `schema` is or holds.
fn object_schemas<'a>(document: &'a Value, schema: &'a Value) -> Vec<ObjectSchema<'a>> {
    let own = schema["description"].as_str();
    let (schema, _) = resolve(document, schema);
    let described = own
        .or_else(|| schema["description"].as_str())
        .unwrap_or_default();
    if schema["items"].is_object() {
        return object_schemas(document, &schema["items"]);
    }
    for alternatives in ["oneOf", "anyOf"] {
        if let Some(list) = schema[alternatives].as_array() {
            return list
                .iter()
                .flat_map(|one| object_schemas(document, one))
                .collect();
        }
    }
    let parts: Vec<_> = match schema["allOf"].as_array() {
        Some(list) => list.iter().map(|part| resolve(document, part).0).collect(),
        None => vec![schema],
    };
    let has_fields = |part: &&Value| part["properties"].is_object();
    if !parts.iter().any(has_fields) {
        return vec![];
    }
    vec![ObjectSchema {
        description: described,
        parts,
    }]
}

/// A field of an object schema.
pub(super) struct Field<'a> {
    pub name: &'a str,
    pub schema: &'a Value,
    is_required: bool,
}

/// The fields that a value of `schema` always has, if it is an object; of several
/// kinds of objects, those of the first.
pub(super) fn fields<'a>(document: &'a Value, schema: &'a Value) -> Vec<Field<'a>> {
    if resolve(document, schema).0["items"].is_object() {
        return vec![];
    }
    let objects = object_schemas(document, schema);
    let parts = objects.into_iter().take(1).flat_map(|object| object.parts);
    let fields = parts.flat_map(ordered);
    fields.filter(|field| field.is_required).collect()
}

/// The fields of an object schema: the required ones first, as they are declared.
fn ordered(part: &Value) -> impl Iterator<Item = Field<'_>> {
    let fields = part["properties"].as_object();
    let required: Vec<_> = part["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let optional: Vec<_> = fields
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .filter(|name| !required.contains(name))
        .collect();
    let required = required.into_iter().map(|name| (name, true));
    let names = required.chain(optional.into_iter().map(|name| (name, false)));
    names.filter_map(move |(name, is_required)| {
        Some(Field {
            name,
            schema: fields?.get(name)?,
            is_required,
        })
    })
}

/// Whether there are fields to show.
pub(super) fn has_fields(document: &Value, schema: &Value) -> bool {
    !object_schemas(document, schema).is_empty()
}

/// Writes the fields of `schema`, those of inner objects folded away.
pub(super) fn write_fields(out: &mut String, document: &Value, schema: &Value) {
    write_object_schemas(out, document, schema, 1);
}

fn write_object_schemas(out: &mut String, document: &Value, schema: &Value, depth: usize) {
    let objects = object_schemas(document, schema);
    let several = objects.len() > 1;
    for (n, object) in objects.iter().enumerate() {
        if several {
            let word = if n == 0 { "Either" } else { "Or" };
            let _ = write!(
                out,
                "<p class=\"or\">{word}: {}</p>",
                Prose(object.description)
            );
        }
        out.push_str("<ul class=\"fields\">");
        for part in &object.parts {
            for field in ordered(part) {
                write_field(out, document, &field, depth);
            }
        }
        out.push_str("</ul>");
    }
}

fn write_field(out: &mut String, document: &Value, field: &Field<'_>, depth: usize) {
    let mut kind = kind(document, field.schema);
    let mut note = "";
    if !field.is_required {
        // What may be left out may be null too; saying so each time is noise.
        kind = kind.replace(" or null", "");
        note = "<i>optional</i>";
    }
    let description = field.schema["description"]
        .as_str()
        .or_else(|| resolve(document, field.schema).0["description"].as_str());
    let _ = write!(
        out,
        "<li><div><b>{}</b> <span>{}</span>{note}</div><div>{}",
        Text(field.name),
        Text(kind),
        Prose(description.unwrap_or_default())
    );
    if depth < DEPTH_MAX && has_fields(document, field.schema) {
        out.push_str("<details><summary>its fields</summary>");
        write_object_schemas(out, document, field.schema, depth + 1);
        out.push_str("</details>");
    }
    out.push_str("</div></li>");
}

/// An example of a value of `schema` in JSON, what is required first.
pub(super) fn example_text(document: &Value, schema: &Value) -> String {
    let value = example(document, schema);
    let Value::Object(fields) = &value else {
        return value.to_string();
    };
    let names = ordered(resolve(document, schema).0).map(|field| field.name);
    let fields = names.filter_map(|name| Some(format!("\"{name}\": {}", fields.get(name)?)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

/// An example of a value of `schema`: the one it gives, else one made of its
/// required fields.
fn example(document: &Value, schema: &Value) -> Value {
    let (target, _) = resolve(document, schema);
    for schema in [schema, target] {
        if !schema["example"].is_null() {
            return schema["example"].clone();
        }
        if !schema["examples"][0].is_null() {
            return schema["examples"][0].clone();
        }
    }
    if let Some(value) = target["enum"].get(0) {
        return value.clone();
    }
    if let Some(one) = target["oneOf"].get(0) {
        return example(document, one);
    }
    if target["items"].is_object() {
        return json!([example(document, &target["items"])]);
    }
    match target["type"].as_str() {
        Some("string") => json!("…"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        _ => {
            let fields = ordered(target).filter(|field| field.is_required);
            let fields =
                fields.map(|field| (field.name.to_owned(), example(document, field.schema)));
            Value::Object(fields.collect())
        }
    }
}
