use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::event::{self, Event};
use crate::model::meter_set::MeterSet;

fn written(json: Value) -> MeterSpec {
    serde_json::from_value(json).unwrap()
}

/// A set of one meter.
struct OneMeter(MeterSet);

impl OneMeter {
    fn read(&self, event: &Event) -> Option<Reading> {
        self.0.readings(event).pop()
    }
}

/// A meter of `aggregation` with the other members of `json`.
fn meter(aggregation: &str, mut json: Value) -> OneMeter {
    json["aggregation"] = aggregation.into();
    if json.get("event_type").is_none() {
        json["event_type"] = "*".into();
    }
    OneMeter(MeterSet::new(vec![Meter {
        id: MeterId::new(1, [7; 10]),
        definition: Definition::new(&written(json)).unwrap(),
    }]))
}

/// An event of type `a` with the JSON text `data`.
fn event_with(data: &str) -> Event {
    let text =
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{data}}}"#);
    event::parse_structured(text.as_bytes()).unwrap()
}

fn number(meter: &OneMeter, data: &str) -> Option<String> {
    match meter.read(&event_with(data))?.measure {
        Measure::Number(decimal) => Some(decimal.as_str().to_owned()),
        Measure::Skipped => Some("skipped".into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_malformed_meter_is_refused_by_name() {
    let many: Vec<String> = (0..11).map(|n| format!("/{n}")).collect();
    let filters: Vec<Value> = many
        .iter()
        .map(|pointer| json!({ "pointer": pointer, "exists": true }))
        .collect();
    let mut refusals = String::new();
    for change in [
        json!({ "event_type": "a.*.b" }),
        json!({ "aggregation": "count", "value": "/a" }),
        json!({ "value": null }),
        json!({ "value": "total" }),
        json!({ "group_by": many }),
        json!({ "group_by": ["/a", "b"] }),
        json!({ "group_by": ["/a", "/b", "/a"] }),
        json!({ "group_by": [""] }),
        json!({ "group_by": ["/a,b"] }),
        json!({ "filters": filters }),
        json!({ "filters": [{ "pointer": "/a" }] }),
        json!({ "filters": [{ "pointer": "/a", "exists": true, "equals": null }] }),
        json!({ "filters": [{ "pointer": "a", "exists": true }] }),
        json!({ "filters": [{ "pointer": "/a", "equals": [1] }] }),
        json!({ "filters": [{ "pointer": "/a", "in": [] }] }),
        json!({ "filters": [{ "pointer": "/a", "in": vec![1; 51] }] }),
        json!({ "filters": [{ "pointer": "/a", "in": [1, {}] }] }),
        json!({ "filters": [{ "pointer": "/a", "equals": "x".repeat(1_023) }] }),
    ] {
        let mut json = json!({ "event_type": "a", "aggregation": "sum", "value": "/total" });
        for (name, value) in change.as_object().unwrap() {
            json[name] = value.clone();
        }
        let invalid = Definition::new(&written(json)).unwrap_err();
        assert!(invalid.field.is_some());
        refusals.push_str(&format!("{invalid}\n"));
    }
    assert_snapshot!(refusals, @r#"
    event_type: expected an event type, a prefix that ends in ".*", or "*"
    value: expected none: a count is of events; a filter with exists asks for a value
    value: expected a JSON pointer (RFC 6901) into data, such as "/total"
    value: expected a JSON pointer (RFC 6901) into data, such as "/total"
    group_by: expected up to 5 JSON pointers
    group_by[1]: expected a JSON pointer (RFC 6901) into data, such as "/total"
    group_by[2]: expected each pointer once
    group_by[0]: expected a JSON pointer that is not empty and has no comma
    group_by[0]: expected a JSON pointer that is not empty and has no comma
    filters: expected up to 10 filters
    filters[0]: expected exactly one of equals, in and exists
    filters[0]: expected exactly one of equals, in and exists
    filters[0].pointer: expected a JSON pointer (RFC 6901) into data, such as "/total"
    filters[0].equals: expected a string, number, Boolean or null of up to 1024 bytes
    filters[0].in: expected 1 to 50 values
    filters[0].in: expected 1 to 50 values
    filters[0].in[1]: expected a string, number, Boolean or null of up to 1024 bytes
    filters[0].equals: expected a string, number, Boolean or null of up to 1024 bytes
    "#);
}

/// Earlier versions took numbers that no parser holds, and such meters count on.
#[test]
fn a_number_beyond_parsers_is_read_but_not_written() {
    for (filter, field) in [
        (r#"{"pointer":"/a","in":[1,1e999]}"#, "filters[2].in[1]"),
        (r#"{"pointer":"/a","equals":-1e999}"#, "filters[2].equals"),
    ] {
        let spec = format!(
            r#"{{"event_type":"a","aggregation":"count","group_by":[],"filters":[{filter}]}}"#
        );
        let spec: MeterSpec = serde_json::from_str(&spec).unwrap();
        assert!(Definition::new(&spec).is_ok(), "{filter}");
        let refused = spec.filters[0].check_numbers(2).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some(field));
    }
    let filter: MeterFilter =
        serde_json::from_str(r#"{"pointer":"/a","in":[1,1e300,null,"1e999"]}"#).unwrap();
    assert_eq!(filter.check_numbers(0), Ok(()));
}

#[test]
fn a_value_keeps_its_digits() {
    let sum = meter("sum", json!({ "value": "/n" }));
    for (data, read) in [
        (r#"{"n": 0.1}"#, "0.1"),
        (
            r#"{"n": 12345678901234567890.0123456789}"#,
            "12345678901234567890.0123456789",
        ),
        (r#"{"n": "19.90"}"#, "19.9"),
        (r#"{"n": -1e3}"#, "-1000"),
        (r#"{"n": "1,5"}"#, "skipped"),
        (r#"{"n": " 1"}"#, "skipped"),
        (r#"{"n": 1e300}"#, "skipped"),
        (r#"{"n": null}"#, "skipped"),
        (r#"{"n": true}"#, "skipped"),
        (r#"{"n": [1]}"#, "skipped"),
        ("{}", "skipped"),
        ("7", "skipped"),
    ] {
        assert_eq!(number(&sum, data).as_deref(), Some(read), "{data}");
    }
    let whole = meter("max", json!({ "value": "" }));
    assert_eq!(number(&whole, "7").as_deref(), Some("7"));
}

#[test]
fn unique_values_are_told_apart_by_what_they_are() {
    let unique = meter("unique_count", json!({ "value": "/u" }));
    let hash = |data: &str| match unique.read(&event_with(data)).unwrap().measure {
        Measure::Unique(hash) => Some(hash),
        Measure::Skipped => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(hash(r#"{"u":"A"}"#), hash(r#"{"u":"\u0041"}"#));
    assert_eq!(hash(r#"{"u":1.0}"#), hash(r#"{"u":1}"#));
    assert_ne!(hash(r#"{"u":"1"}"#), hash(r#"{"u":1}"#));
    assert_ne!(hash(r#"{"u":"true"}"#), hash(r#"{"u":true}"#));
    for none in [r#"{"u":null}"#, r#"{"u":{}}"#, "{}"] {
        assert_eq!(hash(none), None, "{none}");
    }
}

#[test]
fn a_group_has_one_form() {
    let count = meter("count", json!({ "group_by": ["/plan", "/seats", "/x"] }));
    let group = |data: &str| count.read(&event_with(data)).unwrap().group;
    assert_eq!(
        group(r#"{"seats": 1.0, "plan": "p\u0072o"}"#),
        r#"["pro",1,null]"#
    );
    assert_eq!(
        group(r#"{"seats": 1, "plan": "pro", "x": null}"#),
        r#"["pro",1,null]"#
    );
    assert_eq!(
        group(r#"{"seats": [1], "plan": {}, "x": false}"#),
        "[null,null,false]"
    );
    assert_eq!(
        group(&format!(r#"{{"plan": "{}"}}"#, "x".repeat(129))),
        "[null,null,null]"
    );
    assert_eq!(
        group(r#"{"plan": "a\u0000", "x": "\u0001\"b"}"#),
        r#"[null,null,"\u0001\"b"]"#
    );
    let all = meter("count", json!({}));
    assert_eq!(all.read(&event_with("1")).unwrap().group, "[]");
}

#[test]
fn an_event_without_json_counts_and_has_no_values() {
    let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a","data_base64":"AAE="}"#;
    let event = event::parse_structured(text.as_bytes()).unwrap();
    let reading = |meter: OneMeter| meter.read(&event).map(|reading| reading.measure);
    assert_eq!(reading(meter("count", json!({}))), Some(Measure::One));
    assert_eq!(
        reading(meter("sum", json!({ "value": "" }))),
        Some(Measure::Skipped)
    );
    let filters = json!({ "filters": [{ "pointer": "/a", "exists": true }] });
    assert_eq!(reading(meter("count", filters)), None);
}

#[test]
fn json_in_base64_is_read_as_json() {
    let sum = meter("sum", json!({ "value": "/n" }));
    // {"n": 1.50}
    for content_type in ["", r#""datacontenttype":"application/vnd.a+json; v=1","#] {
        let text = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a",{content_type}"data_base64":"eyJuIjogMS41MH0="}}"#
        );
        let event = event::parse_structured(text.as_bytes()).unwrap();
        match sum.read(&event).unwrap().measure {
            Measure::Number(decimal) => assert_eq!(decimal.as_str(), "1.5"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_events_of_its_type() {
    let of = |event_type: &str| meter("count", json!({ "event_type": event_type }));
    let event = event_with("1");
    assert!(of("a").read(&event).is_some() && of("*").read(&event).is_some());
    assert!(of("a.*").read(&event).is_none() && of("b").read(&event).is_none());
}

#[test]
fn an_event_counts_at_its_own_time_within_bounds() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let received = at("2026-03-10T12:00:00Z");
    let counted = |time: Option<&str>| {
        let late_max = SignedDuration::from_hours(24 * 35);
        counted_at(time.map(at), received, late_max)
    };
    assert_eq!(counted(None), received);
    for within in [
        "2026-02-03T12:00:00Z",
        "2026-03-10T11:59:59Z",
        "2026-03-10T13:00:00Z",
    ] {
        assert_eq!(counted(Some(within)), at(within));
    }
    for beyond in [
        "2026-02-03T11:59:59Z",
        "2026-03-10T13:00:01Z",
        "1970-01-01T00:00:00Z",
    ] {
        assert_eq!(counted(Some(beyond)), received);
    }
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i32..3).prop_map(Value::from),
        prop::sample::select(vec![0.5, 1.0, -1.0, 2.25]).prop_map(Value::from),
        "[ab1]{0,2}".prop_map(Value::from),
    ]
}

/// JSON's own equality, but that numbers are compared by value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

proptest! {
    /// The model looks at a tree of values.
    #[test]
    fn filters_agree_with_the_model(
        data in prop::collection::btree_map("[abc]", scalars(), 0..3),
        tests in prop::collection::vec(
            ("[abc]", prop_oneof![
                scalars().prop_map(|value| json!({ "equals": value })),
                prop::collection::vec(scalars(), 1..3).prop_map(|values| json!({ "in": values })),
                any::<bool>().prop_map(|exists| json!({ "exists": exists })),
            ]),
            0..3,
        ),
    ) {
        let mut filters = Vec::new();
        let mut expected = true;
        for (name, test) in tests {
            let found = data.get(&name);
            expected &= match (&test["in"], test.get("equals"), &test["exists"]) {
                (_, Some(value), _) => found.is_some_and(|found| equal(found, value)),
                (Value::Array(values), ..) =>
                    found.is_some_and(|found| values.iter().any(|value| equal(found, value))),
                (.., exists) => found.is_some() == exists.as_bool().unwrap(),
            };
            let mut filter = test;
            filter["pointer"] = format!("/{name}").into();
            filters.push(filter);
        }
        let meter = meter("count", json!({ "filters": filters }));
        let data = serde_json::to_string(&data).unwrap();
        prop_assert_eq!(meter.read(&event_with(&data)).is_some(), expected, "{}", data);
    }
}
