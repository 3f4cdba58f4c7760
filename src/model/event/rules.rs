//! The rules for attributes: what CloudEvents 1.0 §3 asks of each, and the words in
//! which a broken rule is reported.
//!
//! No value has a length of its own: whoever passes events on has to take any of 64 KiB
//! (CloudEvents 1.0 §5), however its attributes share them. All of them together are
//! bounded, by [`ATTRIBUTE_BYTES_MAX`](super::draft::ATTRIBUTE_BYTES_MAX).

use fluent_uri::{Uri, UriRef};
use jiff::Timestamp;

use super::draft::AttributeScalar;
use super::media::MediaType;
use crate::error::Invalid;
use crate::model::parse_error::TIME;
use crate::model::refusal::{kind_of_text, shown_name};
use crate::model::rfc3339;

/// The longest tenant that an endpoint may belong to, in characters.
const ENDPOINT_TENANT_CHARS_MAX: usize = 128;

/// The longest name: with `ce-` before it a header has it, and none is longer.
pub(super) const NAME_BYTES_MAX: usize = 65_535 - "ce-".len();

const SPECVERSION: &str = "\"1.0\" (CloudEvents 1.0 §3.1)";
const ID: &str = "a non-empty string (CloudEvents 1.0 §3.1)";
const SOURCE: &str = "a non-empty URI reference (CloudEvents 1.0 §3.1, RFC 3986)";
const TYPE: &str = "a non-empty string (CloudEvents 1.0 §3.1)";
const SUBJECT: &str = "a non-empty string (CloudEvents 1.0 §3.2)";
const DATACONTENTTYPE: &str = "a media type (RFC 2046)";
const DATASCHEMA: &str = "an absolute URI (CloudEvents 1.0 §3.2, RFC 3986)";
const TENANT: &str = "a non-empty string";
const CHARACTERS: &str =
    "no control characters and no Unicode noncharacters (CloudEvents 1.0 §2, String)";

/// Checks the tenant that an endpoint is to belong to. Events may have longer ones,
/// which are no endpoint's: a project's configuration is held in memory, whole.
///
/// # Errors
/// [`Invalid`], which names `tenant`: empty, longer than 128 characters, or with
/// characters that no attribute may have.
pub fn check_tenant(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.chars().count() > ENDPOINT_TENANT_CHARS_MAX {
        let got = kind_of_text(text);
        let detail =
            format!("expected a string of 1 to {ENDPOINT_TENANT_CHARS_MAX} characters, got {got}");
        return Err(invalid("tenant", detail));
    }
    check_characters("tenant", text)
}

/// Checks a tenant that events may have.
///
/// # Errors
/// [`Invalid`], which names `tenant`: empty, or with characters that no attribute may
/// have.
pub fn check_event_tenant(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(invalid("tenant", format!("expected {TENANT}")));
    }
    check_characters("tenant", text)
}

/// Checks one attribute.
pub(super) fn check(name: &str, value: &AttributeScalar<'_>) -> Result<(), Invalid> {
    check_name(name)?;
    if let AttributeScalar::String(text) = value {
        check_characters(name, text)?;
    }
    let (fits, expected) = match name {
        "specversion" => (is_string(value, |text| text == "1.0"), SPECVERSION),
        "id" => (is_string(value, is_not_empty), ID),
        "source" => (is_string(value, is_source), SOURCE),
        "type" => (is_string(value, is_not_empty), TYPE),
        "subject" => (is_string(value, is_not_empty), SUBJECT),
        "time" => return check_time(value),
        "datacontenttype" => (is_string(value, is_media_type), DATACONTENTTYPE),
        "dataschema" => (is_string(value, is_absolute_uri), DATASCHEMA),
        "tenant" => (is_string(value, is_not_empty), TENANT),
        _ => return Ok(()),
    };
    if fits {
        return Ok(());
    }
    Err(unexpected(name, expected, value))
}

/// The moment that the `time` of an event names which is kept. Earlier versions took
/// some that are no RFC 3339, as an offset of a day, and those stay readable.
pub(super) fn kept_time(text: &str) -> Option<Timestamp> {
    rfc3339::parse(text).or_else(|| text.parse().ok())
}

/// A required attribute that is not there.
pub(super) fn missing(name: &'static str) -> Invalid {
    let expected = match name {
        "id" => ID,
        "source" => SOURCE,
        "type" => TYPE,
        _ => SPECVERSION,
    };
    Invalid::new(name, format!("expected {expected}, got nothing"))
}

/// Checks that no name comes twice in `names`, which must be sorted.
pub(super) fn check_once<'n>(names: impl Iterator<Item = &'n str>) -> Result<(), Invalid> {
    let mut last = None;
    for name in names {
        if last.replace(name) == Some(name) {
            return Err(invalid(name, "expected once, got it twice"));
        }
    }
    Ok(())
}

/// An attribute whose value is none of the types attributes have.
pub(super) fn not_a_scalar(name: &str, got: &str) -> Invalid {
    let detail = format!(
        "expected a string, a Boolean or an integer of 32 bits (JSON event format §2.2), got {got}"
    );
    invalid(name, detail)
}

/// [`Invalid`] for an attribute as the publisher spelled it, if that looks like a name.
pub(super) fn invalid(name: &str, detail: impl Into<std::borrow::Cow<'static, str>>) -> Invalid {
    Invalid::new(shown_name(name).to_owned(), detail)
}

fn check_name(name: &str) -> Result<(), Invalid> {
    if name.len() > NAME_BYTES_MAX {
        let expected = format!("expected attribute names of up to {NAME_BYTES_MAX} bytes");
        return Err(invalid(name, expected));
    }
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name == "data" || name.is_empty() || !name.bytes().all(is_plain) {
        return Err(invalid(
            name,
            "expected an attribute name of a-z and 0-9, other than data (CloudEvents 1.0 §3)",
        ));
    }
    Ok(())
}

fn check_time(value: &AttributeScalar<'_>) -> Result<(), Invalid> {
    if is_string(value, |text| rfc3339::parse(text).is_some()) {
        return Ok(());
    }
    Err(unexpected("time", TIME, value))
}

fn check_characters(name: &str, text: &str) -> Result<(), Invalid> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || !text.contains(is_forbidden) {
        return Ok(());
    }
    Err(invalid(
        name,
        format!("expected {CHARACTERS}, got {}", kind_of_text(text)),
    ))
}

fn is_forbidden(c: char) -> bool {
    // The last two code points of every plane are noncharacters, as are U+FDD0–U+FDEF.
    c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe
}

fn unexpected(name: &str, expected: &str, value: &AttributeScalar<'_>) -> Invalid {
    let got = match value {
        AttributeScalar::String(text) => kind_of_text(text),
        AttributeScalar::Integer(_) => "a number".to_owned(),
        AttributeScalar::Boolean(_) => "a Boolean".to_owned(),
    };
    invalid(name, format!("expected {expected}, got {got}"))
}

fn is_string(value: &AttributeScalar<'_>, rule: impl Fn(&str) -> bool) -> bool {
    matches!(value, AttributeScalar::String(text) if rule(text))
}

fn is_not_empty(text: &str) -> bool {
    !text.is_empty()
}

fn is_source(text: &str) -> bool {
    !text.is_empty() && UriRef::parse(text).is_ok()
}

fn is_absolute_uri(text: &str) -> bool {
    Uri::parse(text).is_ok()
}

fn is_media_type(text: &str) -> bool {
    // Quoted parameters included: it becomes a header where data is sent alone.
    text.is_ascii() && MediaType::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::model::event::tests::{invalid, minimal, structured, with};
    use crate::model::event::{parse_structured, to_binary};

    #[test]
    fn every_broken_rule_names_its_attribute() {
        for (name, bad) in [
            ("specversion", json!("0.3")),
            ("specversion", json!("1.0.2")),
            ("specversion", json!(1)),
            ("id", json!("")),
            ("id", json!(7)),
            ("id", json!("a\nb")),
            ("id", json!("a\u{7f}b")),
            ("id", json!("a\u{9f}b")),
            ("id", json!("a\u{fdd0}b")),
            ("id", json!("a\u{ffff}b")),
            ("id", json!("a\u{1fffe}b")),
            ("source", json!("")),
            ("source", json!("a b")),
            ("source", json!("/müller")),
            ("source", json!("/100%")),
            ("source", json!("http://[::1")),
            ("source", json!("1:2")),
            ("type", json!("")),
            ("type", json!(true)),
            ("subject", json!("")),
            ("tenant", json!("")),
            ("tenant", json!(5)),
            ("time", json!("")),
            ("time", json!(1_769_860_800)),
            ("time", json!("2026-01-31")),
            ("time", json!("2026-01-31T12:00:00")),
            ("time", json!("2026-01-31T12:00Z")),
            ("time", json!("2026-01-31 12:00:00Z")),
            ("time", json!("20260131T120000Z")),
            ("time", json!("2026-02-30T12:00:00Z")),
            ("time", json!("2026-01-31T12:00:00.Z")),
            ("time", json!("2026-01-31T12:00:00+0100")),
            ("time", json!("2026-01-31T12:00:00Z[UTC]")),
            ("time", json!("2026-01-31T12:00:0é")),
            ("time", json!("2026-01-31T12:00:00+24:00")),
            ("time", json!("2026-01-31T12:00:60Z")),
            ("time", json!("2026-01-31T23:59:60Z")),
            ("time", json!("2026-01-31T24:00:00Z")),
            ("datacontenttype", json!("")),
            ("datacontenttype", json!("json")),
            ("datacontenttype", json!("application/json; charset")),
            ("datacontenttype", json!("text/plain; a=\"é\"")),
            ("dataschema", json!("")),
            ("dataschema", json!("/schemas/1")),
            ("dataschema", json!("not a uri")),
            ("float", json!(1.5)),
            ("float", json!(1.0)),
            ("long", json!(2_147_483_648_i64)),
            ("object", json!({"a": {"b": 1}})),
            ("array", json!([1, [2]])),
            ("control", json!("\u{1}")),
            ("traceParent", json!("1")),
            ("my-extension", json!("1")),
            ("my_extension", json!("1")),
            ("", json!("1")),
            ("data_base64", json!("AAE")),
            ("data_base64", json!("A-_=")),
            ("data_base64", json!(5)),
            (&"x".repeat(super::NAME_BYTES_MAX + 1), json!("")),
        ] {
            let (field, message) = invalid(structured(&with(name, bad.clone())));
            assert_eq!(field, super::shown_name(name), "{bad}");
            assert!(message.contains("expected"), "{message}");
            assert!(message.chars().count() < 330, "{message}");
        }
    }

    #[test]
    fn what_is_just_within_the_rules_is_accepted() {
        for (name, good) in [
            ("id", json!("é".repeat(30_000))),
            ("source", json!("//host")),
            (
                "source",
                json!("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"),
            ),
            ("source", json!("https://[::1]:8080/a%20b?c=d#e")),
            ("source", json!("#f")),
            ("source", json!(format!("/{}", "x".repeat(60_000)))),
            ("type", json!("x".repeat(60_000))),
            ("subject", json!("x".repeat(60_000))),
            ("dataschema", json!(format!("urn:{}", "x".repeat(60_000)))),
            (
                "datacontenttype",
                json!(format!("text/plain; a={}", "x".repeat(60_000))),
            ),
            ("extension", json!("x".repeat(60_000))),
            ("subject", json!("x y")),
            ("tenant", json!("é".repeat(30_000))),
            ("time", json!("2026-01-31t12:00:00.123456789123z")),
            ("time", json!("2026-12-31T23:59:60-00:00")),
            ("time", json!("9999-12-31T23:59:59-23:59")),
            ("time", json!("0000-01-01T00:00:00+23:59")),
            ("datacontenttype", json!("application/json")),
            ("dataschema", json!("https://example.com/s#/definitions/a")),
            ("small", json!(-2_147_483_648_i64)),
            ("empty", json!("")),
            (&"x".repeat(super::NAME_BYTES_MAX), json!(true)),
            ("absent", Value::Null),
        ] {
            let event = structured(&with(name, good.clone()));
            assert!(event.is_ok(), "{name}: {good}: {event:?}");
            assert!(to_binary(event.unwrap().body()).is_ok(), "{name}: {good}");
        }
    }

    #[test]
    fn a_bad_content_type_is_blamed_before_the_data() {
        let mut event = with("datacontenttype", json!("applicationjson"));
        event["data"] = json!({"a": 1});
        assert_eq!(invalid(structured(&event)).0, "datacontenttype");
    }

    #[test]
    fn the_required_attributes_are_required() {
        for name in ["specversion", "id", "source", "type"] {
            let mut event = minimal();
            event.as_object_mut().unwrap().remove(name);
            assert_eq!(invalid(structured(&event)).0, name);
            assert_eq!(invalid(structured(&with(name, Value::Null))).0, name);
        }
    }

    #[test]
    fn a_message_says_how_long_a_value_is() {
        let (_, message) = invalid(structured(&with("source", json!("a b".repeat(99)))));
        insta::assert_snapshot!(
            message,
            @r#"source: expected a non-empty URI reference (CloudEvents 1.0 §3.1, RFC 3986), got a string of 297 characters"#
        );
        let (_, message) = invalid(parse_structured(
            json!("x".repeat(9999)).to_string().as_bytes(),
        ));
        assert!(message.len() < 200, "{message}");
    }
}
