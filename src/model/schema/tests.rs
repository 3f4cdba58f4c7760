//! What schemas are taken, and what is said of data that does not satisfy them.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refusal(schema: &Value) -> String {
    match check(&schema.to_string()) {
        Ok(()) => format!("taken: {schema}"),
        Err(invalid) => invalid.to_string(),
    }
}

fn mismatch(schema: &Value, data: &Value) -> String {
    check(&schema.to_string()).unwrap();
    let schema = Schema::new(&schema.to_string());
    let data = data.to_string();
    match schema.violation(Some(data.as_bytes())).unwrap() {
        None => "fits".to_owned(),
        Some(SchemaViolation { path, expected }) => format!("{path}: {expected}"),
    }
}

#[test]
fn both_drafts_are_spoken_each_in_its_own_way() {
    // `$defs` beside `$ref`, and what stands beside a `$ref` at all, differ.
    let new = json!({ "prefixItems": [{ "type": "string" }] });
    let old = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "items": [{ "type": "string" }],
    });
    assert_eq!(mismatch(&new, &json!([1])), "data/0: expected string");
    assert_eq!(mismatch(&old, &json!([1])), "data/0: expected string");
    let named = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "items": { "type": "string" },
    });
    assert_eq!(mismatch(&named, &json!(["a"])), "fits");
}

#[test]
fn what_is_no_schema_is_refused_by_place() {
    let mut refusals = String::new();
    for schema in [
        json!(true),
        json!({ "type": "strin" }),
        json!({ "properties": { "a/b": { "minimum": "1" } } }),
        json!({ "$schema": "http://json-schema.org/draft-04/schema#" }),
        json!({ "$schema": "https://json-schema.org/draft/2019-09/schema" }),
        json!({ "$schema": 7 }),
        json!({ "$defs": { "a": { "$id": "a", "$schema": "http://json-schema.org/draft-04/schema#" } } }),
        json!({ "$ref": "https://example.com/schema.json" }),
        json!({ "properties": { "a": { "$ref": "file:///etc/passwd" } } }),
        json!({ "$ref": "#/$defs/nothing" }),
        json!({ "pattern": "(?=a)b" }),
        json!({ "pattern": "(a)\\1" }),
        json!({ "pattern": "(" }),
        json!({ "pattern": "\\p{L}{1000}" }),
        json!({ "patternProperties": { "(?!x)": {} } }),
    ] {
        writeln!(refusals, "{}", refusal(&schema)).unwrap();
    }
    insta::assert_snapshot!(refusals, @r#"
    schema: expected a JSON object
    schema/type: expected one of ["array","boolean","integer","null","number","object","string"] or array
    schema/properties/…/minimum: expected number
    schema/$schema: expected https://json-schema.org/draft/2020-12/schema (or nothing, which means it) or http://json-schema.org/draft-07/schema#
    schema/$schema: expected https://json-schema.org/draft/2020-12/schema (or nothing, which means it) or http://json-schema.org/draft-07/schema#
    schema/$schema: expected https://json-schema.org/draft/2020-12/schema (or nothing, which means it) or http://json-schema.org/draft-07/schema#
    schema/$defs/a/$id: expected $id in the root of the schema only
    schema/$ref: expected a reference to a place in this schema, beginning with #; nothing is fetched from elsewhere
    schema/properties/a/$ref: expected a reference to a place in this schema, beginning with #; nothing is fetched from elsewhere
    schema: expected every $ref to lead to a place in this schema
    schema/pattern: expected a regular expression without look-around and back-references, which are not matched in linear time, and of bounded size
    schema/pattern: expected a regular expression without look-around and back-references, which are not matched in linear time, and of bounded size
    schema/pattern: expected a regular expression without look-around and back-references, which are not matched in linear time, and of bounded size
    schema/pattern: expected a regular expression without look-around and back-references, which are not matched in linear time, and of bounded size
    schema/patternProperties/…: expected a regular expression without look-around and back-references, which are not matched in linear time, and of bounded size
    "#);
}

#[test]
fn a_schema_is_bounded() {
    let nested =
        |levels: usize| format!("{}{{}}{}", r#"{"not":"#.repeat(levels), "}".repeat(levels));
    assert_eq!(check(&nested(31)), Ok(()));
    let deep = check(&nested(32)).unwrap_err().to_string();
    assert!(
        deep.ends_with("expected up to 32 levels of nesting"),
        "{deep}"
    );
    // Deeper than the parser goes, let alone the walk.
    assert!(check(&nested(10_000)).is_err());

    let large = json!({ "title": "x".repeat(SCHEMA_BYTES_MAX) });
    assert_eq!(
        refusal(&large),
        "schema: expected up to 65536 bytes, got 65548"
    );
    let patterns: Vec<_> = (0..101)
        .map(|n| json!({ "pattern": n.to_string() }))
        .collect();
    assert_eq!(
        refusal(&json!({ "anyOf": patterns })),
        "schema: expected up to 100 patterns, got 101"
    );
    let references = vec![json!({ "$ref": "#/$defs/a" }); 501];
    assert_eq!(
        refusal(&json!({ "$defs": { "a": {} }, "anyOf": references })),
        "schema: expected up to 500 references, got 501"
    );
}

#[test]
fn references_within_the_schema_are_followed() {
    let tree = json!({
        "$id": "https://example.com/tree",
        "type": "object",
        "properties": { "children": { "type": "array", "items": { "$ref": "#" } } },
        "required": ["name"],
    });
    let data = json!({ "name": "a", "children": [{ "name": "b" }, { "children": [] }] });
    assert_eq!(
        mismatch(&tree, &data),
        "data/children/1: expected the property \"name\""
    );
}

#[test]
fn a_mismatch_says_what_was_expected_and_repeats_no_value() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "additionalProperties": false,
        "properties": {
            "id": { "type": ["string", "integer"] },
            "amount": { "type": "number", "exclusiveMinimum": 0, "multipleOf": 5 },
            "currency": { "enum": ["eur", "usd"] },
            "email": { "format": "email" },
            "code": { "pattern": "^[A-Z]{3}$", "maxLength": 3 },
            "items": { "type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": true },
            "either": { "anyOf": [{ "type": "null" }, { "type": "boolean" }] },
            "never": false,
            "empty": { "additionalProperties": false },
        },
    });
    let mut told = String::new();
    for data in [
        json!("secret"),
        json!({ "id": null }),
        json!({ "amount": 5 }),
        json!({ "id": 1, "amount": "secret" }),
        json!({ "id": 1, "amount": -4 }),
        json!({ "id": 1, "currency": "secret" }),
        json!({ "id": 1, "email": "secret" }),
        json!({ "id": 1, "code": "secret" }),
        json!({ "id": 1, "items": [] }),
        json!({ "id": 1, "items": ["secret", "secret", "secret"] }),
        json!({ "id": 1, "either": "secret" }),
        json!({ "id": 1, "never": "secret" }),
        json!({ "id": 1, "unknown": "secret" }),
        json!({ "id": 1, "empty": { "secret": 1 } }),
        json!({ "id": 1, "amount": 5, "code": "ABC", "items": [1, 2] }),
    ] {
        writeln!(told, "{}", mismatch(&schema, &data)).unwrap();
    }
    assert!(!told.contains("secret"), "{told}");
    insta::assert_snapshot!(told, @r#"
    data: expected object
    data/id: expected integer or string
    data: expected the property "id"
    data/amount: expected number
    data/amount: expected more than 0; data/amount: expected a multiple of 5
    data/currency: expected one of ["eur","usd"]
    data/email: expected the format email
    data/code: expected up to 3 characters; data/code: expected a match of ^[A-Z]{3}$
    data/items: expected at least 1 items
    data/items: expected up to 2 items; data/items: expected no item twice
    data/either: expected null or boolean
    data/never: expected nothing here
    data: expected no property "unknown"
    data/empty: expected no properties
    fits
    "#);
}

#[test]
fn what_is_told_is_bounded() {
    let schema = json!({
        "items": { "type": "object" },
        "properties": { "a": {} },
        "additionalProperties": false,
    });
    let many = json!(vec![1; 1000]);
    assert_eq!(
        mismatch(&schema, &many),
        "data/0: expected object; data/1: expected object; data/2: expected object; \
         data/3: expected object; data/4: expected object; and 995 more"
    );
    let long = json!({ "é".repeat(5000): 1 });
    assert_eq!(mismatch(&schema, &long), "data: expected no property \"…\"");
    let path = json!({ "properties": { "x".repeat(5000): { "type": "null" } } });
    let told = mismatch(&path, &json!({ "x".repeat(5000): 1 }));
    assert!(told.chars().count() < 400, "{told}");
}

#[test]
fn an_event_without_json_does_not_satisfy_a_schema() {
    let schema = Schema::new("{}");
    for data in [None, Some(&b"<xml/>"[..])] {
        let mismatch = schema.violation(data).unwrap().unwrap();
        assert_eq!(mismatch.path, "data");
        assert_eq!(
            mismatch.expected,
            "expected JSON, as the event's type has a schema"
        );
    }
}

#[test]
fn a_schema_that_does_not_compile_is_said_to_be_unusable() {
    for text in ["{", r#"{ "type": 1 }"#, r#"{ "$schema": "x" }"#] {
        let schema = Schema::new(text);
        assert!(schema.violation(Some(b"1")).is_err());
        assert!(schema.violation(Some(b"1")).is_err(), "again");
    }
}

/// A chain of definitions, each of which refers to the next twice.
fn doubling(steps: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for step in 0..steps {
        let next = json!({ "$ref": format!("#/%24defs/{}", step + 1) });
        defs.insert(step.to_string(), json!({ "allOf": [next, next] }));
    }
    defs.insert(
        steps.to_string(),
        json!({ "$anchor": "end", "type": "string" }),
    );
    json!({ "$defs": defs, "$ref": "#/$defs/0", "contains": { "$ref": "#end" } })
}

#[test]
fn references_that_double_at_each_step_are_refused() {
    assert_eq!(check(&doubling(8).to_string()), Ok(()));
    let refused = refusal(&doubling(40));
    assert!(
        refused.starts_with("schema: expected up to 10000 objects"),
        "{refused}"
    );
    let long = doubling(200);
    let refused = refusal(&long);
    assert!(
        refused.starts_with("schema: expected up to 256 levels"),
        "{refused}"
    );
}

#[test]
fn a_recursive_schema_takes_no_longer_than_its_data_whatever_it_is() {
    let schema = json!({
        "properties": {
            "a": { "allOf": [{ "$ref": "#" }, { "$dynamicRef": "#" }] },
            "b": { "type": "string" },
        },
    });
    let nested = |levels: usize, b: &str| {
        let (open, close) = (r#"{"a":"#.repeat(levels), "}".repeat(levels));
        serde_json::from_str(&format!(r#"{open}{{"b":{b}}}{close}"#)).unwrap()
    };
    assert_eq!(mismatch(&schema, &nested(100, r#""x""#)), "fits");
    let told = mismatch(&schema, &nested(3, "1"));
    assert!(told.starts_with("data/a/a/a/b: expected string"), "{told}");
    assert_eq!(
        mismatch(&schema, &nested(100, "1")),
        "data: expected what the schema describes; it recurs too often to say where this does not"
    );
}

proptest! {
    /// Whatever the schema's author and the event's publisher make up, it is
    /// answered, and shortly.
    #[test]
    fn no_pattern_and_no_text_make_it_fail(pattern in "\\PC{0,20}", text in "\\PC{0,40}") {
        let schema = json!({ "pattern": pattern }).to_string();
        if check(&schema).is_ok() {
            let schema = Schema::new(&schema);
            let data = Value::from(text).to_string();
            let mismatch = schema.violation(Some(data.as_bytes())).unwrap();
            if let Some(mismatch) = mismatch {
                prop_assert!(mismatch.expected.chars().count() <= 161);
            }
        }
    }
}
