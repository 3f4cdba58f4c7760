//! What holds whatever the form, the CloudEvents SDK as a second opinion, and
//! the helpers that the tests of each form share.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::error::{Error, Result};

/// The headers of a minimal event in binary mode.
pub(super) const REQUIRED: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "1"),
    ("ce-source", "/s"),
    ("ce-type", "t"),
];

pub(super) fn structured(event: &Value) -> Result<Event> {
    parse_structured(event.to_string().as_bytes())
}

pub(super) fn binary(pairs: &[(&str, &str)], body: &[u8]) -> Result<Event> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    parse_binary(&headers, body)
}

pub(super) fn plain(json: &str) -> Result<Event> {
    parse_plain(
        json.as_bytes(),
        PlainDefaults {
            id: "generated",
            source: "/prj",
            time: "2026-01-31T12:00:00Z".parse().unwrap(),
        },
    )
}

pub(super) fn text(event: &Event) -> &str {
    std::str::from_utf8(event.body()).unwrap()
}

pub(super) fn minimal() -> Value {
    json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})
}

/// [`minimal`] with `name` set to `value`.
pub(super) fn with(name: &str, value: Value) -> Value {
    let mut event = minimal();
    event[name] = value;
    event
}

/// The field and the whole message of an [`Error::Invalid`].
pub(super) fn invalid(result: Result<Event>) -> (String, String) {
    match result {
        Err(Error::Invalid(invalid)) => {
            let field = invalid.field.clone().unwrap_or_default().into_owned();
            (field, invalid.to_string())
        }
        other => panic!("expected Invalid, got {other:?}"),
    }
}

#[test]
fn data_of_any_kind_survives() {
    for (data, shown) in [
        (json!({"data": null}), Some("null")),
        (json!({"data": "text"}), Some("\"text\"")),
        (
            json!({"data": "<a/>", "datacontenttype": "application/xml"}),
            Some("\"<a/>\""),
        ),
        (json!({"data_base64": "AAE="}), None),
        (json!({"data_base64": null}), None),
        (json!({}), None),
    ] {
        let mut event = minimal();
        let members = data.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(members);
        let event = structured(&event).unwrap();
        assert_eq!(event.data(), shown.map(str::as_bytes), "{data}");
        let again = Event::from_stored(event.body().clone(), *event.fingerprint()).unwrap();
        assert_eq!(again, event);
    }
}

#[test]
fn a_stored_body_that_is_not_ours_is_a_defect() {
    for body in ["", "{}", "[]", r#"{"id":"1","source":"/s"}"#] {
        let result = Event::from_stored(body.into(), [0; 32]);
        assert!(matches!(result, Err(Error::Internal(_))), "{body}");
    }
}

#[test]
fn over_a_limit_names_the_limit_and_the_size() {
    let too_large = |result: Result<Event>| match result {
        Err(Error::TooLarge(detail)) => detail.into_owned(),
        other => panic!("expected TooLarge, got {other:?}"),
    };
    let spaces = " ".repeat(EVENT_BYTES_MAX);
    let message = too_large(parse_structured(format!("{spaces}{{}}").as_bytes()));
    assert_eq!(
        message,
        "the event: expected at most 262144 bytes, got 262146"
    );
    assert!(too_large(plain(&format!("{spaces}{{}}"))).contains("262146"));
    let message = too_large(structured(&with("big", json!("x".repeat(66_560)))));
    assert!(
        message.contains("attributes: expected at most 66560 bytes"),
        "{message}"
    );

    let whole = [0; EVENT_BYTES_MAX];
    assert!(binary(&REQUIRED, &whole).unwrap().body().len() <= BODY_BYTES_MAX);
    assert!(too_large(binary(&REQUIRED, &[0; EVENT_BYTES_MAX + 1])).contains("262145"));
    let escaped = [&REQUIRED[..], &[("content-type", "text/plain")]].concat();
    assert!(too_large(binary(&escaped, &whole)).contains("393216"));
}

/// The size of an event that whoever passes events on has to take (CloudEvents 1.0 §5).
const PORTABLE_BYTES: usize = 65_536;

/// `before`, `middle` and what follows, filled up to [`PORTABLE_BYTES`] by `filling`.
fn filled(before: &str, filling: &str, after: &str) -> String {
    let room = PORTABLE_BYTES - before.len() - after.len();
    let mut middle = filling.repeat(room / filling.len());
    middle.push_str(&"x".repeat(room - middle.len()));
    format!("{before}{middle}{after}")
}

#[test]
fn an_event_of_64_kib_is_taken_however_its_attributes_share_it() {
    let rest = r#""specversion":"1.0""#;
    for (name, start, others) in [
        ("id", "", r#""source":"/s","type":"t""#),
        ("source", "/", r#""id":"1","type":"t""#),
        ("type", "", r#""id":"1","source":"/s""#),
        ("subject", "", r#""id":"1","source":"/s","type":"t""#),
        ("tenant", "", r#""id":"1","source":"/s","type":"t""#),
        ("dataschema", "urn:", r#""id":"1","source":"/s","type":"t""#),
        (
            "datacontenttype",
            "a/",
            r#""id":"1","source":"/s","type":"t""#,
        ),
        ("ext", "", r#""id":"1","source":"/s","type":"t""#),
        ("traceparent", "", r#""id":"1","source":"/s","type":"t""#),
    ] {
        let is_text = !matches!(name, "source" | "dataschema" | "datacontenttype");
        for filling in [
            Some("y"),
            Some("é").filter(|_| is_text),
            Some("\\\"").filter(|_| is_text),
        ] {
            let Some(filling) = filling else { continue };
            let json = filled(
                &format!(r#"{{{rest},{others},"{name}":"{start}"#),
                filling,
                "\"}",
            );
            let whole = parse_structured(json.as_bytes()).unwrap();
            let (headers, body) = to_binary(whole.body()).unwrap();
            if name != "datacontenttype" {
                let again = parse_binary(&headers, &body).unwrap();
                assert_eq!(again.fingerprint(), whole.fingerprint(), "{name}");
            }
        }
    }
    let plain_form = filled(r#"{"type":""#, "y", "\"}");
    assert!(plain(&plain_form).is_ok());
    let named = filled(
        &format!(r#"{{{rest},"id":"1","source":"/s","type":"t",""#),
        "y",
        r#"":"1"}"#,
    );
    assert!(parse_structured(named.as_bytes()).is_ok());
}

#[test]
fn an_event_of_64_kib_in_headers_is_taken() {
    // Quotes are escaped in the canonical form, and take twice as much.
    let value = format!("x{}", "\"".repeat(65_000));
    let headers = [&REQUIRED[..], &[("ce-ext", &*value)]].concat();
    assert!(binary(&headers, b"").is_ok());
    let names: Vec<_> = (0..5_000).map(|n| format!("ce-x{n}")).collect();
    let many = names.iter().map(|name| (&**name, "y"));
    let headers: Vec<_> = REQUIRED.into_iter().chain(many).collect();
    let event = binary(&headers, b"").unwrap();
    assert_eq!(to_binary(event.body()).unwrap().0.len(), 5_004);
}

#[test]
fn what_would_not_fit_into_an_item_is_refused() {
    // The tenant is kept twice: in the body, and for lists.
    let headers = |tenant: usize| {
        let tenant = "t".repeat(tenant);
        let headers = [&REQUIRED[..], &[("ce-tenant", &*tenant)]].concat();
        binary(&headers, &[0; EVENT_BYTES_MAX])
    };
    assert!(headers(20_000).is_ok());
    match headers(40_000) {
        Err(Error::TooLarge(detail)) => assert!(detail.contains("as it is kept"), "{detail}"),
        other => panic!("expected TooLarge, got {other:?}"),
    }
}

#[test]
fn json_in_base64_is_json() {
    let of = |content_type: Option<&str>, base64: &str| {
        let mut event = with("data_base64", json!(base64));
        if let Some(content_type) = content_type {
            event["datacontenttype"] = content_type.into();
        }
        let event = structured(&event).unwrap();
        let data = event
            .data()
            .map(|data| std::str::from_utf8(data).unwrap().to_owned());
        data.ok_or_else(|| text(&event).to_owned())
    };
    for content_type in [
        None,
        Some("application/json"),
        Some("APPLICATION/JSON"),
        Some("application/vnd.shop+json"),
        Some("text/json; charset=utf-8"),
        Some("application/json; charset=\"utf-8\"; v=1"),
    ] {
        // {"n": 1.50}, with spaces around it.
        assert_eq!(
            of(content_type, "IHsibiI6IDEuNTB9IA==").unwrap(),
            r#"{"n": 1.50}"#
        );
        assert_eq!(of(content_type, "bnVsbA==").unwrap(), "null");
        // Not JSON, or nothing at all.
        for bytes in ["ew==", "AAE=", "", "e30ge30="] {
            let kept = of(content_type, bytes).unwrap_err();
            assert!(
                kept.ends_with(&format!(r#""data_base64":"{bytes}"}}"#)),
                "{kept}"
            );
        }
    }
    for content_type in [
        "text/plain",
        "image/png",
        "application/jsonlines",
        "application/xml",
    ] {
        assert!(of(Some(content_type), "e30=").is_err(), "{content_type}");
    }
}

#[test]
fn json_and_the_same_in_base64_are_one_event() {
    for content_type in [None, Some("application/a+json")] {
        let mut json = with("data", json!({"n": 1}));
        let mut bytes = with("data_base64", json!("eyJuIjogMX0="));
        if let Some(content_type) = content_type {
            json["datacontenttype"] = content_type.into();
            bytes["datacontenttype"] = content_type.into();
        }
        let (json, bytes) = (structured(&json).unwrap(), structured(&bytes).unwrap());
        assert_eq!(json.fingerprint(), bytes.fingerprint());
        assert_eq!(differences(&json, &bytes).unwrap(), [""; 0]);
    }
    let batch =
        br#"[{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"e30="}]"#;
    let events = split_batch(batch).unwrap();
    let event = parse_structured(events[0].get().as_bytes()).unwrap();
    assert_eq!(event.data(), Some(&b"{}"[..]));
}

#[test]
fn a_time_that_was_kept_stays_readable() {
    // Taken once: an offset of a day, a leap second at noon.
    for time in [
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00Z",
    ] {
        let body = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"{time}","data":1}}"#
        );
        let event = Event::from_stored(body.into(), [0; 32]).unwrap();
        assert_eq!(event.time_text(), Some(time));
    }
}

#[test]
fn a_time_is_listed_as_it_was_written() {
    for time in [
        "2026-01-31T13:00:00.10+01:00",
        "9999-12-31T23:59:59Z",
        "2016-12-31t23:59:60z",
    ] {
        let event = structured(&with("time", json!(time))).unwrap();
        assert_eq!(event.time_text(), Some(time));
        assert!(event.time().is_some());
        assert!(text(&event).contains(time));
    }
}

#[test]
fn what_the_sdk_serializes_we_read_and_the_other_way_round() {
    use cloudevents::{EventBuilder, EventBuilderV10};
    let builder = || {
        EventBuilderV10::new()
            .id("1")
            .ty("order.paid")
            .source("https://example.com/shop")
            .subject("order 1")
            .time("2026-01-31T12:00:00.5+00:00")
            .extension("tenant", "acme")
            .extension("attempt", 3)
            .extension("retry", true)
    };
    for event in [
        builder().build(),
        builder()
            .data("application/json", json!({"b": [1.5, null], "a": "é"}))
            .build(),
        builder().data("application/json", json!("text")).build(),
        builder().data("text/plain", "a \"b\"\n").build(),
        builder().data("image/png", vec![0, 1, 255]).build(),
        builder()
            .data_with_schema("application/xml", "https://example.com/s", "<a/>")
            .build(),
    ] {
        let theirs = event.unwrap();
        let ours = parse_structured(&serde_json::to_vec(&theirs).unwrap()).unwrap();
        let back: cloudevents::Event = serde_json::from_slice(ours.body()).unwrap();
        assert_eq!(back, theirs);
        assert_eq!(ours.tenant(), Some("acme"));
    }
}

fn attribute_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 1..20).prop_map(|chars| {
        let allowed = |c: &char| {
            !c.is_control()
                && !('\u{fdd0}'..='\u{fdef}').contains(c)
                && u32::from(*c) & 0xfffe != 0xfffe
        };
        let text: String = chars.into_iter().filter(allowed).collect();
        if text.is_empty() { "x".into() } else { text }
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_event() -> impl Strategy<Value = Map<String, Value>> {
    let extension = prop_oneof![
        attribute_text().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    let data = prop_oneof![
        Just(None),
        any_json().prop_map(|json| Some(("data", json))),
        any::<Vec<u8>>().prop_map(|bytes| {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            Some(("data_base64", text.into()))
        }),
    ];
    let extensions = proptest::collection::btree_map("x[a-z0-9]{1,20}", extension, 0..5);
    let subject = proptest::option::of(attribute_text());
    (
        attribute_text(),
        "/[a-z%20]{0,5}|urn:[a-z]+",
        attribute_text(),
        subject,
        extensions,
        data,
    )
        .prop_filter_map(
            "a URI reference",
            |(id, source, kind, subject, extensions, data)| {
                fluent_uri::UriRef::parse(&*source).ok()?;
                let mut event: Map<_, _> = extensions.into_iter().collect();
                event.insert("specversion".into(), "1.0".into());
                event.insert("id".into(), id.into());
                event.insert("source".into(), source.into());
                event.insert("type".into(), kind.into());
                event.insert("subject".into(), subject.into());
                event.extend(data.map(|(name, value)| (name.to_owned(), value)));
                Some(event)
            },
        )
}

/// `value` as JSON with whitespace wherever it may stand and members back to front.
fn spread(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<_> = members
                .iter()
                .rev()
                .map(|(key, value)| {
                    format!("\n {} :\t{}", Value::from(key.as_str()), spread(value))
                })
                .collect();
            format!("{{{} }}", members.join(" ,"))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(spread).collect();
            format!("[ {} ]", items.join(" , "))
        }
        scalar => scalar.to_string(),
    }
}

proptest! {
    #[test]
    fn the_canonical_body_parses_to_itself(event in any_event()) {
        let event = structured(&Value::Object(event)).unwrap();
        let again = parse_structured(event.body()).unwrap();
        prop_assert_eq!(again.body(), event.body());
        prop_assert_eq!(again.fingerprint(), event.fingerprint());
        prop_assert_eq!(&again, &event);
        let stored = Event::from_stored(event.body().clone(), *event.fingerprint()).unwrap();
        prop_assert_eq!(&stored, &event);
    }

    #[test]
    fn order_and_whitespace_do_not_count(event in any_event()) {
        let event = Value::Object(event);
        let spread = parse_structured(spread(&event).as_bytes()).unwrap();
        let compact = structured(&event).unwrap();
        prop_assert_eq!(spread.fingerprint(), compact.fingerprint());
    }

    #[test]
    fn nothing_panics(bytes in any::<Vec<u8>>(), content_type in ".{0,20}", value in any::<Vec<u8>>()) {
        let _ = parse_structured(&bytes);
        let _ = split_batch(&bytes);
        let mut headers = HeaderMap::new();
        for (name, value) in [("content-type", content_type.as_bytes()), ("ce-id", &*value), ("ce-time", &*value)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                headers.insert(name, value);
            }
        }
        let _ = mode(&headers);
        let _ = parse_binary(&headers, &bytes);
        let _ = media::MediaType::parse(&content_type);
        let _ = rules::kept_time(&content_type);
    }
}
