//! What holds whatever the form, and the helpers that the tests of each share.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::*;

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
    let message = too_large(structured(&with("big", json!("x".repeat(16_384)))));
    assert!(
        message.contains("attributes: expected at most 16384 bytes"),
        "{message}"
    );

    let whole = [0; EVENT_BYTES_MAX];
    assert!(binary(&REQUIRED, &whole).unwrap().body().len() <= BODY_BYTES_MAX);
    assert!(too_large(binary(&REQUIRED, &[0; EVENT_BYTES_MAX + 1])).contains("262145"));
    let escaped = [&REQUIRED[..], &[("content-type", "text/plain")]].concat();
    assert!(too_large(binary(&escaped, &whole)).contains("393216"));
}
