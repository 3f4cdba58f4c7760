//! Numbers count as they are written, in the schema and in the data.

use super::{check, told};

/// Schemas, each with data that satisfies it and data that does not.
const CASES: [(&str, &[&str], &[&str]); 24] = [
    (
        r#"{"maximum":12345678901234567.89}"#,
        &["12345678901234567.89", "1234567890123456789e-2", "-1e300"],
        &["12345678901234567.90", "12345678901234567.891", "1e300"],
    ),
    (
        r#"{"minimum":18446744073709551617}"#,
        &["18446744073709551617", "18446744073709551617.0"],
        &["18446744073709551616", "18446744073709551616.9"],
    ),
    (
        r#"{"exclusiveMinimum":0}"#,
        &["1e-400", "0.1"],
        &["0", "-0", "0e5", "-1e-400"],
    ),
    (
        r#"{"exclusiveMaximum":9007199254740993}"#,
        &["9007199254740992.9", "9007199254740992"],
        &["9007199254740993", "9007199254740993.0"],
    ),
    (r#"{"minimum":0}"#, &["-0", "-0.0"], &["-1e-400"]),
    (
        r#"{"multipleOf":0.1}"#,
        &["0.3", "3e-1", "1e300", "0", "-0.7", "12345678901234567.8"],
        &[
            "0.30000000000000004",
            "0.35",
            "1e-2",
            "12345678901234567.85",
        ],
    ),
    (
        r#"{"multipleOf":0.01}"#,
        &["12345678901234567.89", "19.99", "4.35", "1070468.14"],
        &["12345678901234567.891"],
    ),
    (
        r#"{"multipleOf":3}"#,
        &["9007199254740993", "30e0", "3e200"],
        &["9007199254740992", "1e200", "9007199254740994"],
    ),
    (
        r#"{"multipleOf":12345678901234567890}"#,
        &["24691357802469135780"],
        &["24691357802469135781"],
    ),
    (
        r#"{"const":1}"#,
        &["1", "1.0", "1e0", "10e-1"],
        &["1.0000000000000000001", "true", "\"1\"", "-1"],
    ),
    (
        r#"{"const":12345678901234567890123}"#,
        &["12345678901234567890123", "12345678901234567890123.0"],
        &["12345678901234567890124", "12345678901234567890000"],
    ),
    (
        r#"{"const":[1,{"a":2.50}]}"#,
        &[r#"[1.0,{"a":25e-1}]"#],
        &[r#"[1,{"a":2.5,"b":1}]"#, "[1]", r#"[1,{"a":2.51}]"#],
    ),
    (
        r#"{"enum":[9007199254740993,"a",{"n":0.1}]}"#,
        &["9007199254740993.0", "\"a\"", r#"{"n":1e-1}"#],
        &["9007199254740992", "\"b\"", r#"{"n":0.10000000000000001}"#],
    ),
    (
        r#"{"anyOf":[{"const":12345678901234567.1},{"const":12345678901234567.3}]}"#,
        &["12345678901234567.1", "12345678901234567.30"],
        &["12345678901234567.2"],
    ),
    (
        r#"{"type":"integer"}"#,
        &["1.0", "1e300", "-0", "12345678901234567890123", "10e-1"],
        &["12345678901234567.5", "9007199254740993.5", "1e-400", "0.1"],
    ),
    (
        r#"{"uniqueItems":true}"#,
        &[
            "[12345678901234567.89,12345678901234567.90]",
            "[1,\"1\",true]",
        ],
        &[
            "[1,2,1.0]",
            r#"[{"a":1},{"a":1e0}]"#,
            "[0,-0]",
            "[[1],[1.0]]",
        ],
    ),
    (
        r#"{"minLength":2.0,"maxLength":18446744073709551616}"#,
        &["\"ab\""],
        &["\"a\""],
    ),
    (
        r#"{"maxItems":1e300,"minItems":1e0,"maxProperties":1e1}"#,
        &["[1]", "{}"],
        &["[]"],
    ),
    (
        r##"{"$ref":"#/$defs/a~1b%25","$defs":{"a/b%":{"maximum":0.1}}}"##,
        &["0.1"],
        &["0.10000000000000001"],
    ),
    (
        r##"{"items":{"$ref":"#price"},"$defs":{"minimum":{"$anchor":"price","minimum":12345678901234567.89}}}"##,
        &["[12345678901234567.89]"],
        &["[12345678901234567.88]"],
    ),
    (
        r##"{"properties":{"const":{"$dynamicRef":"#n"},"enum":{"maximum":1}},"$defs":{"n":{"$dynamicAnchor":"n","const":0.30000000000000001}}}"##,
        &[r#"{"const":0.30000000000000001}"#, r#"{"enum":1.0}"#],
        &[r#"{"const":0.3}"#, r#"{"enum":1.00000000000000000001}"#],
    ),
    (
        r##"{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","maximum":0,"definitions":{"a":{"enum":[12345678901234567.89]}}}"##,
        &["12345678901234567.89"],
        &["12345678901234567.88"],
    ),
    (
        r#"{"$id":"https://example.com/n","contains":{"maximum":9007199254740992},"minContains":2.0}"#,
        &["[9007199254740992,1]"],
        &["[9007199254740993,1]"],
    ),
    (
        r#"{"properties":{"$serde_json::private::Number":{"const":"1"},"$serde_json::private::RawValue":{"type":"string"}},"minProperties":1,"type":"object"}"#,
        &[
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"$serde_json::private::RawValue":"no json"}"#,
        ],
        &[
            r#"{"$serde_json::private::Number":"2"}"#,
            r#"{"$serde_json::private::RawValue":1}"#,
        ],
    ),
];

#[test]
fn numbers_are_compared_as_they_are_written() {
    for (schema, fitting, unfitting) in CASES {
        check(schema).unwrap_or_else(|invalid| panic!("{schema}: {invalid}"));
        for data in fitting {
            assert_eq!(told(schema, data), "fits", "{data} {schema}");
        }
        for data in unfitting {
            assert_ne!(told(schema, data), "fits", "{data} {schema}");
        }
    }
}

#[test]
fn limits_are_told_as_they_are_written() {
    for (schema, data, words) in [
        (
            r#"{"maximum":12345678901234567.890}"#,
            "1e99",
            "expected 12345678901234567.890 or less",
        ),
        (r#"{"exclusiveMinimum":1e2}"#, "1", "expected more than 1e2"),
        (
            r#"{"const":{"a":[1.0,"é\"",null]}}"#,
            "1",
            r#"expected {"a":[1.0,"é\"",null]}"#,
        ),
        (
            r#"{"enum":[ 1.50, true, {} ]}"#,
            "1",
            "expected one of [1.50,true,{}]",
        ),
        (
            r#"{"multipleOf":0.10}"#,
            "0.01",
            "expected a multiple of 0.10",
        ),
    ] {
        assert_eq!(told(schema, data), format!("data: {words}"), "{schema}");
    }
}

#[test]
fn numbers_beyond_reason_are_refused_at_little_cost() {
    let long = format!("1.{}", "3".repeat(100_000));
    for (data, told_) in [
        (long.as_str(), "fits"),
        ("1e300", "data: expected 1e299 or less"),
        ("1e-999999999999999999", "fits"),
        (
            "1e-9999999999999999999",
            "data: expected numbers whose exponents have up to 18 digits",
        ),
        (
            "1e999999999",
            "data: expected JSON, as the event's type has a schema",
        ),
    ] {
        assert_eq!(told(r#"{"maximum":1e299}"#, data), told_);
    }
    let refused = |schema: &str| check(schema).unwrap_err().to_string();
    assert!(refused(r#"{"maximum":1e999999999}"#).starts_with("schema: expected a JSON Schema"));
    let divisor = format!(r#"{{"items":{{"multipleOf":{}}}}}"#, "7".repeat(38));
    assert_eq!(
        refused(&divisor),
        "schema/items/multipleOf: expected a number of up to 37 digits"
    );
}
