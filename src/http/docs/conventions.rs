//! What every operation and schema of the OpenAPI document must be, so that generators
//! of clients make something good of it. Each test says what to write instead.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::describe::described as document;
use super::operations_mut;
use super::webhooks::SCHEMAS;
use crate::error::ErrorCode;

/// Components of one word: what people call by it. All others say what they are of.
const ONE_WORD: [&str; 16] = [
    "Aggregation",
    "Attempt",
    "Backfill",
    "Delivery",
    "Endpoint",
    "Erasure",
    "Liveness",
    "Meter",
    "Problem",
    "Project",
    "Readiness",
    "Recovery",
    "Scheme",
    "Scope",
    "Time",
    "Usage",
];

struct Operation {
    /// `GET /v1/events`.
    name: String,
    is_webhook: bool,
    value: Value,
}

fn all_operations() -> Vec<Operation> {
    let mut document = document();
    let mut operations = vec![];
    for part in ["paths", "webhooks"] {
        for (path, method, value) in operations_mut(&mut document[part]) {
            operations.push(Operation {
                name: format!("{} {path}", method.to_uppercase()),
                is_webhook: part == "webhooks",
                value: value.take(),
            });
        }
    }
    operations
}

fn operations() -> impl Iterator<Item = Operation> {
    let operations = all_operations().into_iter();
    operations.filter(|operation| !operation.is_webhook)
}

fn components() -> Vec<(String, Value)> {
    let schemas = document()["components"]["schemas"].take();
    let Value::Object(schemas) = schemas else {
        panic!("there are components")
    };
    schemas.into_iter().collect()
}

fn words(name: &str) -> usize {
    name.chars().filter(char::is_ascii_uppercase).count()
}

fn component_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix(SCHEMAS)
}

/// The only media type of `content`, and its schema.
fn only_content<'a>(name: &str, content: &'a Value) -> (&'a str, &'a Value) {
    let content = content.as_object().expect("content");
    assert_eq!(content.len(), 1, "{name}: expected one media type");
    let (media, content) = content.iter().next().expect("one");
    (media, &content["schema"])
}

/// Calls `see` with every schema within `value` and where it is.
fn for_each_schema(at: &str, value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            see(at, value);
            for (name, member) in members {
                if name != "example" && name != "examples" {
                    for_each_schema(&format!("{at}.{name}"), member, see);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| for_each_schema(at, item, see)),
        _ => {}
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(types) => types.contains(&json!(name)),
        one => one == name,
    }
}

/// The names of the components that `value` refers to, by any number of steps.
fn referred(value: &Value) -> BTreeSet<String> {
    let document = document();
    let mut names = BTreeSet::new();
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        let mut found = vec![];
        for_each_schema("", value, &mut |_, schema| {
            found.extend(component_name(schema).map(str::to_owned));
        });
        for name in found {
            if names.insert(name.clone()) {
                left.push(&document["components"]["schemas"][name]);
            }
        }
    }
    names
}

fn referred_by(part: impl Fn(&Operation) -> Value) -> BTreeSet<String> {
    let parts = operations().map(|operation| part(&operation));
    parts.flat_map(|part| referred(&part)).collect()
}

#[test]
fn operation_ids_are_names_of_methods() {
    let mut ids = HashSet::new();
    for Operation { name, value, .. } in all_operations() {
        let id = value["operationId"].as_str().unwrap();
        let is_name = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.bytes().all(|b| b.is_ascii_alphanumeric())
            && words(id) > 0;
        assert!(
            is_name,
            "{name}: expected operation_id = \"…\" with a verb and a noun, as in createEndpoint, got {id}"
        );
        assert!(ids.insert(id.to_owned()), "{name}: {id} is taken");
    }
}

#[test]
fn every_operation_has_one_of_the_documents_tags() {
    let document = document();
    let tags = document["tags"].as_array().unwrap();
    for Operation { name, value, .. } in all_operations() {
        let own = value["tags"].as_array().unwrap();
        assert_eq!(own.len(), 1, "{name}");
        let is_there = tags.iter().any(|tag| tag["name"] == own[0]);
        assert!(is_there, "{name}: {} is not described", own[0]);
    }
}

#[test]
fn a_request_body_is_one_named_json_type() {
    for Operation { name, value, .. } in operations() {
        let body = &value["requestBody"];
        if body.is_null() {
            continue;
        }
        let (media, schema) = only_content(&name, &body["content"]);
        assert_eq!(media, "application/json", "{name}");
        let schema = if has_type(schema, "array") {
            &schema["items"]
        } else {
            schema
        };
        let component = component_name(schema);
        let component = component.unwrap_or_else(|| panic!("{name}: expected a named body"));
        assert!(
            words(component) > 1 && !component.starts_with("New"),
            "{name}: expected #[schema(as = …)] with the noun and what is done, as in \
             EndpointCreate or EndpointUpdate, got {component}"
        );
    }
}

#[test]
fn an_answer_is_one_named_type() {
    for Operation { name, value, .. } in operations() {
        for (status, response) in value["responses"].as_object().unwrap() {
            let name = format!("{name} {status}");
            if response["content"].is_null() {
                assert!(
                    ["204", "303"].contains(&status.as_str()),
                    "{name}: expected a body"
                );
                continue;
            }
            let (media, schema) = only_content(&name, &response["content"]);
            if media.ends_with("json") && !name.contains("/openapi.json") {
                assert!(
                    component_name(schema).is_some(),
                    "{name}: expected a named body"
                );
            }
            if status.starts_with('4') {
                assert_eq!(component_name(schema), Some("Problem"), "{name}");
            }
        }
    }
}

#[test]
fn the_items_of_a_page_are_a_named_type() {
    for (name, schema) in components() {
        if !schema["properties"]["next_cursor"].is_null() {
            let items = &schema["properties"]["data"]["items"];
            let row = component_name(items).unwrap_or_else(|| panic!("{name}: no $ref"));
            assert_eq!(name, format!("{row}Page"));
        }
    }
}

#[test]
fn components_are_named_after_what_they_are() {
    for (name, _) in components() {
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(
            is_name && (words(&name) > 1 || ONE_WORD.contains(&&*name)),
            "expected two words at least, or one that is a noun of the API's, got {name}: \
             #[schema(as = …)] gives another"
        );
    }
}

#[test]
fn nothing_in_it_is_null() {
    for_each_schema("", &document(), &mut |at, value| {
        for (name, member) in value.as_object().into_iter().flatten() {
            assert!(!member.is_null(), "{at}.{name}");
        }
    });
}

#[test]
fn an_object_says_what_is_in_it() {
    for (name, schema) in components() {
        for_each_schema(&name, &schema, &mut |at, schema| {
            let has_members =
                schema["properties"].is_object() || !schema["additionalProperties"].is_null();
            assert!(
                !has_type(schema, "object") || has_members,
                "{at}: no members, so that generators make it an empty one. Any JSON is \
                 value_type = serde_json::Value, any object BTreeMap<String, serde_json::Value>"
            );
        });
    }
}

/// Absent and null are two ways to say one thing: an answer has one of them.
#[test]
fn a_field_of_an_answer_may_be_absent_or_null_but_not_both() {
    let both_ways = referred_by(|operation| operation.value["requestBody"].clone());
    for name in referred_by(|operation| operation.value["responses"].clone()) {
        let schema = &document()["components"]["schemas"][&name];
        if both_ways.contains(&name) {
            continue;
        }
        for_each_schema(&name, schema, &mut |at, schema| {
            let fields = schema["properties"].as_object();
            for (field, of) in fields.into_iter().flatten() {
                let required = schema["required"].as_array();
                let is_required = required.is_some_and(|names| names.contains(&json!(field)));
                let alternatives = of["oneOf"].as_array().into_iter().flatten();
                let mut alternatives = alternatives.chain([of]);
                let is_nullable = alternatives.any(|of| has_type(of, "null"));
                assert!(
                    is_required || !is_nullable,
                    "{at}.{field}: expected #[schema(required)] if it is always there, or \
                     #[schema(nullable = false)] if it is left out"
                );
            }
        });
    }
}

/// Null clears a field of a PATCH, so the document says of each whether it can be.
#[test]
fn a_field_of_a_change_says_that_null_clears_it_or_is_not_nullable() {
    let document = document();
    for Operation { name, value, .. } in operations() {
        if !name.starts_with("PATCH ") {
            continue;
        }
        let (_, schema) = only_content(&name, &value["requestBody"]["content"]);
        let component = component_name(schema).expect("a named body");
        let schema = &document["components"]["schemas"][component];
        let fields = schema["properties"].as_object().expect("fields");
        for (field, of) in fields {
            let alternatives = of["oneOf"].as_array().into_iter().flatten();
            let mut alternatives = alternatives.chain([of]);
            let is_nullable = alternatives.any(|of| has_type(of, "null"));
            let description = of["description"].as_str().unwrap_or_default();
            assert_eq!(
                is_nullable,
                description.contains("null"),
                "{component}.{field}: expected patch::clearable and what null comes to in its \
                 description, or patch::lasting and #[schema(nullable = false)]"
            );
        }
    }
}

#[test]
fn integers_are_bounded() {
    let check = |at: &str, schema: &Value, needed: &[&str]| {
        for bound in needed {
            assert!(
                !has_type(schema, "integer") || schema[*bound].is_i64(),
                "{at}: expected #[schema({bound} = …)]"
            );
        }
    };
    for Operation { name, value, .. } in operations() {
        for_each_schema(&name, &value["parameters"], &mut |at, schema| {
            check(at, schema, &["minimum", "maximum"]);
        });
    }
    for name in referred_by(|operation| operation.value["requestBody"].clone()) {
        for_each_schema(
            &name,
            &document()["components"]["schemas"][&name],
            &mut |at, schema| check(at, schema, &["minimum", "maximum"]),
        );
    }
    for (name, schema) in components() {
        for_each_schema(&name, &schema, &mut |at, schema| {
            check(at, schema, &["minimum"]);
        });
    }
}

#[test]
fn times_and_urls_say_so() {
    let times = ["_at", "_until", "_since", "since", "until"];
    for (name, schema) in components() {
        for_each_schema(&name, &schema, &mut |at, schema| {
            for (field, of) in schema["properties"].as_object().into_iter().flatten() {
                let text = of.to_string();
                let expected = match &**field {
                    "url" => ["\"uri\"", "\"uri\""],
                    name if times.iter().any(|end| name.ends_with(end)) => {
                        ["\"date-time\"", "/Time\""]
                    }
                    _ => continue,
                };
                assert!(
                    expected.iter().any(|format| text.contains(format)),
                    "{at}.{field}: expected #[schema(format = …)]"
                );
            }
        });
    }
}

#[test]
fn every_operation_says_which_key_it_needs() {
    let document = document();
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    for Operation { name, value, .. } in operations() {
        let security = value["security"].as_array();
        let security = security.unwrap_or_else(|| panic!("{name}: expected security(…)"));
        assert_eq!(security.is_empty(), !name.contains(" /v1/"), "{name}");
        for needed in security {
            let needed: Vec<_> = needed.as_object().unwrap().keys().collect();
            assert!(
                needed.iter().all(|one| schemes.contains_key(*one)),
                "{name}"
            );
        }
    }
}

#[test]
fn the_codes_of_problems_are_all_that_there_are() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let code = component_name(&schemas["Problem"]["properties"]["code"]);
    let listed = schemas[code.unwrap()]["enum"].as_array().unwrap();
    assert!(listed.contains(&json!(ErrorCode::Conflict)));
    let of_problems = listed.iter().map(|code| code.as_str().unwrap());
    assert_eq!(of_problems.collect::<HashSet<_>>().len(), listed.len());
}

#[test]
fn examples_satisfy_their_schemas() {
    let document = document();
    let check = |name: &str, schema: &Value, example: &Value| {
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap();
        let wrong: Vec<_> = validator
            .iter_errors(example)
            .map(|e| e.to_string())
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    };
    for (name, schema) in components() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            check(&name, &schema, example);
        }
    }
    let webhooks = all_operations().into_iter();
    for Operation { name, value, .. } in webhooks.filter(|operation| operation.is_webhook) {
        let content = &value["requestBody"]["content"]["application/cloudevents+json"];
        check(&name, &content["schema"], &content["example"]);
    }
}
