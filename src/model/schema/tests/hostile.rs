//! Schemas and data that are made to cost much: what they may cost is counted.

use serde_json::json;

use super::*;

fn is_out_of_steps(schema: &Value, data: &str) -> bool {
    check(&schema.to_string()).unwrap_or_else(|invalid| panic!("{invalid}"));
    let verdict = compiled(&schema.to_string()).validate(Some(data.as_bytes()), STEPS_MAX);
    matches!(verdict, Verdict::OutOfSteps(_))
}

fn nested(levels: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
}

#[test]
fn unevaluated_keywords_inside_each_other_are_refused() {
    for (open, close) in [
        (r#"{"unevaluatedProperties":false,"allOf":["#, "]}"),
        (r#"{"unevaluatedItems":false,"anyOf":["#, "]}"),
        (r#"{"unevaluatedProperties":false,"if":"#, "}"),
        (
            r#"{"unevaluatedProperties":{},"dependentSchemas":{"a":"#,
            "}}",
        ),
        (
            r#"{"unevaluatedProperties":{"type":"object"},"additionalProperties":"#,
            "}",
        ),
    ] {
        let few = nested(3, open, "{}", close);
        assert_eq!(check(&few), Ok(()), "{few}");
        let many = nested(14, open, "{}", close);
        let refused = check(&many).unwrap_err().to_string();
        assert!(
            refused.starts_with("schema: expected up to 10000 objects"),
            "{refused}"
        );
    }
    // Each in an object of its own looks at no more than that.
    let plain = nested(
        15,
        r#"{"unevaluatedProperties":false,"properties":{"a":"#,
        "{}",
        "}}",
    );
    assert_eq!(check(&plain), Ok(()));
}

#[test]
fn what_is_within_the_bounds_of_a_schema_is_ended_by_its_data() {
    let open = r#"{"unevaluatedProperties":{"type":"null"},"allOf":["#;
    let element = nested(8, open, "{}", "]}");
    let schema = serde_json::from_str(&format!(r#"{{"items":{element}}}"#)).unwrap();
    let items = |count: usize| format!("[{}]", vec![r#"{"a":null}"#; count].join(","));
    assert!(!is_out_of_steps(&schema, &items(10)));
    assert!(is_out_of_steps(&schema, &items(1000)));
}

#[test]
fn what_goes_deep_is_ended_before_the_stack_is() {
    // A hundred schemas for each of a hundred levels.
    let mut defs: serde_json::Map<_, _> = (0..80)
        .map(|n| {
            (
                n.to_string(),
                json!({ "allOf": [{ "$ref": format!("#/$defs/{}", n + 1) }] }),
            )
        })
        .collect();
    defs.insert("80".into(), json!({ "items": { "$ref": "#/$defs/0" } }));
    let schema = json!({ "$defs": defs, "$ref": "#/$defs/0" });
    // Ended or done, by how large the compiler makes the frames; a stack that overflows
    // would end the process.
    is_out_of_steps(&schema, &nested(120, "[", "", "]"));
    assert!(!is_out_of_steps(&schema, "[[]]"));
}

#[test]
fn what_looks_at_nothing_counts_too() {
    let items = format!("[{}]", vec!["0"; 20_000].join(","));
    for idle in [json!(true), json!({}), json!({ "format": "unknown" })] {
        let schema = json!({ "items": { "allOf": vec![idle; 3000] } });
        assert!(is_out_of_steps(&schema, &items), "{schema}");
    }
    let impossible = json!({ "items": { "not": { "anyOf": vec![false; 9000] } } });
    assert!(is_out_of_steps(&impossible, &items));
    let few = json!({ "items": { "allOf": vec![json!({}); 10] } });
    assert!(!is_out_of_steps(&few, &items));
}

#[test]
fn large_patterns_on_long_texts_are_ended() {
    let pattern = r"^(\p{L}|\p{N}|[ab]{20}){2}x$";
    let text = json!("a".repeat(200_000)).to_string();
    assert!(is_out_of_steps(&json!({ "pattern": pattern }), &text));
    let names = json!({ "a".repeat(200_000): 1 }).to_string();
    assert!(is_out_of_steps(
        &json!({ "patternProperties": { pattern: {} } }),
        &names
    ));
    assert!(is_out_of_steps(
        &json!({ "propertyNames": { "pattern": pattern } }),
        &names
    ));
    let small = json!({ "pattern": "^[A-Za-z0-9+/]*=*$" });
    assert!(!is_out_of_steps(&small, &text));
}

#[test]
fn looking_for_what_is_there_takes_steps_for_each_look() {
    let many: Vec<_> = (0..6000).map(|n| n.to_string()).collect();
    let items = format!("[{}]", many.join(","));
    let options = json!({ "items": { "enum": (10_000..16_000).collect::<Vec<_>>() } });
    assert!(
        !is_out_of_steps(&options, &items),
        "the first is none of them"
    );
    let options = json!({ "contains": { "enum": (10_000..16_000).collect::<Vec<_>>() } });
    assert!(is_out_of_steps(&options, &items));
    let large = json!({ "items": { "const": vec![json!({ "a": 1 }); 2000] } });
    let equal = vec![format!("[{}]", vec![r#"{"a":1}"#; 2000].join(",")); 20].join(",");
    let steps = compiled(&large.to_string()).steps(&format!("[{equal}]"));
    assert!(
        steps.is_some_and(|steps| steps > 2 * 2000 * 20),
        "{steps:?}"
    );
    // Text is known by its hash.
    let names: Vec<_> = (0..5000).map(|n| format!("n{n}")).collect();
    let options = json!({ "items": { "enum": names } });
    assert!(!is_out_of_steps(&options, &json!(names).to_string()));
}

#[test]
fn unique_items_take_no_more_steps_than_items() {
    let unique = compiled(r#"{"uniqueItems":true}"#);
    let of = |count: usize| {
        let items: Vec<_> = (0..count).map(|n| format!(r#"{{"a":[{n}]}}"#)).collect();
        unique.steps(&format!("[{}]", items.join(","))).unwrap()
    };
    assert!(of(20_000) < 11 * of(2_000));
}

#[test]
fn no_error_is_made_but_the_first() {
    let items = format!("[{}]", vec!["[1,2,3]"; 50_000].join(","));
    let schema = compiled(r#"{"items":{"type":"object"}}"#);
    let verdict = schema.validate(Some(items.as_bytes()), 200);
    let Verdict::Violated(violation) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(violation.path, "data/0");
    assert_eq!(violation.expected, "expected object");
}

/// Errors have copies of their paths and of what the schema says; each is counted, for a
/// branch of `anyOf` has as many as there are items.
#[test]
fn errors_with_long_copies_end_a_validation() {
    type Make = fn(&str) -> Value;
    let long = "k".repeat(60_000);
    let items = |item: &str| format!("[{}]", vec![item; 4_000].join(","));
    let either = |schema: Value| json!({ "anyOf": [schema, { "type": "null" }] });
    let under_a_name = |name: &str| format!(r#"{{"{name}":{}}}"#, items("0"));
    let by_name = either(json!({ "additionalProperties": { "items": { "minimum": 1 } } }));
    assert!(!is_out_of_steps(&by_name, &under_a_name("k")));
    assert!(is_out_of_steps(&by_name, &under_a_name(&long)));

    let behind = |name: &str| {
        let mut schema =
            either(json!({ "properties": { name: { "items": { "$ref": "#/$defs/a" } } } }));
        schema["$defs"] = json!({ "a": { "minimum": 1 } });
        schema
    };
    assert!(!is_out_of_steps(&behind("k"), &under_a_name("k")));
    assert!(is_out_of_steps(&behind(&long), &under_a_name(&long)));

    let named = r#"{"a":1}"#;
    let of_items: [(Make, &str); 4] = [
        (|text| json!({ "required": [text] }), "{}"),
        (
            |text| json!({ "dependentRequired": { "a": [text] } }),
            named,
        ),
        (|text| json!({ "dependencies": { "a": [text] } }), named),
        (|text| json!({ "not": { "not": { "const": text } } }), "1"),
    ];
    for (schema, item) in of_items {
        let of = |text: &str| {
            let mut schema = either(json!({ "items": schema(text) }));
            if schema.to_string().contains("dependencies") {
                schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
            }
            schema
        };
        let violated = told(&of("k").to_string(), &items(item));
        assert!(
            violated.starts_with("data: expected what one schema"),
            "{violated}"
        );
        assert!(is_out_of_steps(&of(&long), &items(item)), "{}", of("k"));
    }
}

/// The words of keywords of ours are short before any error copies them.
#[test]
fn errors_of_long_options_are_short() {
    let long = "x".repeat(60_000);
    for schema in [
        json!({ "enum": [long] }),
        json!({ "const": long }),
        json!({ "pattern": "x".repeat(5_000) }),
    ] {
        let schema = compiled(&schema.to_string());
        let data = Json::parse(r#""y""#).unwrap();
        let bytes = |meter: &Meter| match schema.validator.validate(Node::new(&data, meter)) {
            Err(error) => match error.kind() {
                ValidationErrorKind::Custom { message, .. } => message.len(),
                other => panic!("{other:?}"),
            },
            Ok(()) => panic!("satisfied"),
        };
        let bytes = Meter::run(STEPS_MAX, schema.weights, bytes).unwrap();
        assert!(bytes < 200, "{bytes}");
    }
}

/// The library's guard against following a reference for ever goes by identity.
#[test]
fn an_empty_name_is_told_apart_as_any() {
    let schema = json!({
        "propertyNames": { "$ref": "#/$defs/a" },
        "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }, { "maxLength": 5 }] } },
    });
    assert_eq!(mismatch(&schema, &json!({ "b": 1 })), "fits");
    assert_eq!(mismatch(&schema, &json!({ "": 1 })), "fits");
}

#[test]
fn what_people_write_takes_few_steps() {
    let schema = json!({
        "type": "object",
        "required": ["id", "lines", "customer"],
        "additionalProperties": false,
        "properties": {
            "id": { "type": "string", "pattern": "^inv_[a-z0-9]{8,32}$" },
            "customer": { "$ref": "#/$defs/customer" },
            "lines": { "type": "array", "items": { "$ref": "#/$defs/line" }, "uniqueItems": true },
        },
        "$defs": {
            "customer": {
                "type": "object",
                "properties": { "email": { "format": "email" }, "country": { "enum": ["de", "fr"] } },
                "unevaluatedProperties": false,
            },
            "line": {
                "oneOf": [
                    { "properties": { "kind": { "const": "item" }, "price": { "multipleOf": 0.01 } }, "required": ["kind", "price"] },
                    { "properties": { "kind": { "const": "discount" } }, "required": ["kind"] },
                ],
            },
        },
    });
    let lines: Vec<_> = (0..1000)
        .map(|n| json!({ "kind": "item", "price": f64::from(n) / 100.0, "text": "a thing" }))
        .collect();
    let data = json!({
        "id": "inv_0123456789",
        "customer": { "email": "ada@example.com", "country": "de" },
        "lines": lines,
    });
    assert_eq!(mismatch(&schema, &data), "fits");
    let steps = compiled(&schema.to_string())
        .steps(&data.to_string())
        .unwrap();
    assert!(steps < 60 * 1000, "{steps} for a thousand lines");
}

#[test]
fn patterns_are_bounded_each_and_together() {
    for (schema, place) in [
        (
            json!({ "items": { "pattern": "(a{1,1000}){1,1000}" } }),
            "schema/items/pattern",
        ),
        (
            json!({ "propertyNames": { "pattern": "\\p{L}{100}" } }),
            "schema/propertyNames/pattern",
        ),
        (
            json!({ "patternProperties": { "[^x]{5000}": {} } }),
            "schema/patternProperties/…",
        ),
    ] {
        let refused = refusal(&schema);
        let expected = format!("{place}: expected a regular expression");
        assert!(refused.starts_with(&expected), "{refused}");
    }
    let letters = |count: usize| (0..count).map(|n| format!("{n}\\p{{L}}{{3}}"));
    let by_text: Vec<_> = letters(90)
        .map(|pattern| json!({ "pattern": pattern }))
        .collect();
    let by_name: serde_json::Map<_, _> = letters(90).map(|pattern| (pattern, json!({}))).collect();
    for (schema, place) in [
        (json!({ "anyOf": by_text }), "schema/anyOf/"),
        (
            json!({ "patternProperties": by_name }),
            "schema/patternProperties",
        ),
    ] {
        let refused = refusal(&schema);
        let together = "expected patterns that together take up to 1048576 bytes when compiled";
        assert!(
            refused.starts_with(place) && refused.ends_with(together),
            "{refused}"
        );
    }
    let few: Vec<_> = letters(2)
        .map(|pattern| json!({ "pattern": pattern }))
        .collect();
    assert_eq!(
        refusal(&json!({ "anyOf": few })),
        "taken: {\"anyOf\":[{\"pattern\":\"0\\\\p{L}{3}\"},{\"pattern\":\"1\\\\p{L}{3}\"}]}"
    );
}

/// Names in groups are what reading a regular expression is slow for.
#[test]
fn a_regular_expression_in_the_data_is_short() {
    let schema = json!({ "format": "regex" });
    assert_eq!(mismatch(&schema, &json!("^(?<a>b)+$")), "fits");
    let words = "data: expected the format regex";
    assert_eq!(mismatch(&schema, &json!("(")), words);
    assert_eq!(mismatch(&schema, &json!("a".repeat(5000))), words);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(2.0), Just(-1.5)].prop_map(Value::from),
        "[abé1]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]|x[0-9]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn schemas() -> Vec<Value> {
    vec![
        json!({ "type": ["integer", "object"], "minProperties": 1, "maxProperties": 2 }),
        json!({ "properties": { "a": { "minimum": 1 }, "b": { "type": "string" } }, "required": ["a"], "additionalProperties": false }),
        json!({ "patternProperties": { "^x": { "type": "integer" } }, "additionalProperties": { "type": "array" } }),
        json!({ "propertyNames": { "pattern": "^[ab]$", "maxLength": 1 } }),
        json!({ "items": { "enum": [1, "a", null, { "a": 2 }, [0.5]] }, "uniqueItems": true }),
        json!({ "prefixItems": [{ "type": "number" }], "items": { "const": 2 }, "minItems": 1 }),
        json!({ "contains": { "multipleOf": 0.5 }, "minContains": 1, "maxContains": 2 }),
        json!({ "allOf": [{ "properties": { "a": {} } }], "unevaluatedProperties": { "type": "null" } }),
        json!({ "anyOf": [{ "prefixItems": [{ "type": "integer" }] }, { "contains": { "type": "string" } }], "unevaluatedItems": false }),
        json!({ "if": { "type": "string" }, "then": { "minLength": 2, "pattern": "é" }, "else": { "not": { "type": "null" } } }),
        json!({ "oneOf": [{ "type": "integer" }, { "minimum": 2 }, { "type": "array", "maxItems": 1 }] }),
        json!({ "dependentSchemas": { "a": { "required": ["b"] } }, "dependentRequired": { "c": ["a"] } }),
        json!({ "$defs": { "n": { "anyOf": [{ "type": "array", "items": { "$ref": "#/$defs/n" } }, { "exclusiveMaximum": 2 }] } }, "$ref": "#/$defs/n" }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "dependencies": { "a": ["b"], "b": { "maxProperties": 2 } }, "items": [{ "type": "string" }], "additionalItems": { "type": "integer" } }),
        json!({ "$dynamicAnchor": "t", "properties": { "a": { "$dynamicRef": "#t" } }, "unevaluatedProperties": false }),
        json!({ "format": "email", "exclusiveMinimum": -1, "maximum": 2 }),
    ]
}

proptest! {
    /// Small numbers are what the library has them for, so that it is the model.
    #[test]
    fn the_data_is_seen_as_the_library_sees_it(data in any_json(), at in 0_usize..16) {
        let schema = &schemas()[at];
        let model = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        let verdict = compiled(&schema.to_string()).validate(Some(data.to_string().as_bytes()), STEPS_MAX);
        prop_assert_eq!(model.is_valid(&data), verdict == Verdict::Satisfied, "{} {}", schema, data);
        if let (Err(error), Verdict::Violated(violation)) = (model.validate(&data), verdict) {
            prop_assert_eq!(format!("data{}", error.instance_path()), violation.path, "{}", schema);
        }
    }
}
