//! Binary mode of the HTTP protocol binding: attributes in `ce-` headers, data
//! in the body.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::canonical::Event;
use super::draft::{Attribute, Data, Draft, EVENT_BYTES_MAX, limit};
use super::media::MediaType;
use super::{fingerprint, rules};
use crate::error::{Invalid, Result};
use crate::model::parse_error;

/// Reads one event in binary mode.
///
/// JSON content types become JSON `data`, UTF-8 text and XML become a string,
/// anything else `data_base64`; an empty body is no data. Without a content type a
/// body that is JSON becomes JSON `data`, which is what the absence of
/// `datacontenttype` means (JSON event format §3.1); CloudEvents SDKs send it so.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) for a header that does not
/// decode, a broken rule of CloudEvents 1.0, or malformed JSON in the body;
/// [`Error::TooLarge`](crate::error::Error::TooLarge) as for structured mode.
pub fn parse_binary(headers: &HeaderMap, body: &[u8]) -> Result<Event> {
    limit("the event", body.len(), EVENT_BYTES_MAX)?;
    let mut attributes = Vec::with_capacity(12);
    for (header, value) in headers {
        let name = header.as_str();
        if let Some(name) = name.strip_prefix("ce-") {
            attributes.push(attribute(name, value.as_bytes())?);
        } else if header == CONTENT_TYPE {
            attributes.push(Attribute::string("datacontenttype", ascii(value)?));
        }
    }
    let mut draft = Draft {
        attributes,
        data: Data::None,
    };
    draft.data = data(draft.text("datacontenttype"), body)?;
    draft.finish(None)
}

fn attribute<'a>(name: &'a str, value: &'a [u8]) -> Result<Attribute<'a>, Invalid> {
    if name == "datacontenttype" {
        return Err(Invalid::new(
            "ce-datacontenttype",
            "expected the Content-Type header instead (HTTP binding §3.1.1)",
        ));
    }
    match decode(value) {
        Some(text) => Ok(Attribute::string(name, text)),
        None => Err(rules::invalid(
            name,
            format!(
                "expected UTF-8, percent-encoded (HTTP binding §3.1.3.2), got {} bytes that are none",
                value.len()
            ),
        )),
    }
}

fn ascii(value: &http::HeaderValue) -> Result<&str, Invalid> {
    value
        .to_str()
        .map_err(|_| Invalid::new("datacontenttype", "expected visible ASCII"))
}

fn data<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<Data<'a>, Invalid> {
    if body.is_empty() {
        return Ok(Data::None);
    }
    let Some(content_type) = content_type else {
        return Ok(fingerprint::json_in(body).map_or(Data::Binary(body.into()), Data::Json));
    };
    let media_type = MediaType::parse(content_type);
    if media_type.as_ref().is_some_and(MediaType::is_json) {
        return json(body);
    }
    if media_type.is_some_and(|media_type| media_type.is_text() && media_type.is_utf8())
        && let Ok(text) = std::str::from_utf8(body)
    {
        return Ok(Data::Text(text));
    }
    Ok(Data::Binary(body.into()))
}

fn json(body: &[u8]) -> Result<Data<'_>, Invalid> {
    serde_json::from_slice(body)
        .map(Data::Json)
        .map_err(|error| {
            let error = parse_error::syntax(&error);
            Invalid::new(
                "data",
                format!("expected JSON, as Content-Type says: {error}"),
            )
        })
}

/// A header's value as the attribute's text: quotes undone, then one round of
/// percent-decoding. `None` when either is malformed or the result is not UTF-8.
fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    if !value.contains(&b'%') && value.first() != Some(&b'"') {
        return std::str::from_utf8(value).ok().map(Cow::Borrowed);
    }
    let text = percent_decode(&unquote(value)?)?;
    String::from_utf8(text).ok().map(Cow::Owned)
}

/// Undoes an RFC 7230 §3.2.6 quoted-string; what begins without a quote stays.
fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Some(value.into());
    };
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
    bytes.as_slice().is_empty().then_some(text.into())
}

fn percent_decode(value: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'%' => hex(*bytes.next()?)? << 4 | hex(*bytes.next()?)?,
            byte => *byte,
        });
    }
    Some(text)
}

fn hex(digit: u8) -> Option<u8> {
    let digit = char::from(digit).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::tests::{REQUIRED, binary, invalid, text};

    #[test]
    fn a_header_is_unquoted_then_percent_decoded_once() {
        for (header, text) in [
            ("plain", Some("plain")),
            ("Euro%20%E2%82%AC%20%f0%9f%98%80", Some("Euro € 😀")),
            ("%41%2520", Some("A%20")),
            (r#""a \"b\" \\c""#, Some(r#"a "b" \c"#)),
            (r#""a%20b""#, Some("a b")),
            ("\"\"", Some("")),
            ("raw €", Some("raw €")),
            ("a\"b", Some("a\"b")),
            ("\"open", None),
            ("\"open\\\"", None),
            ("\"a\"b", None),
            ("100%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%C0%A0", None),
        ] {
            assert_eq!(decode(header.as_bytes()).as_deref(), text, "{header}");
        }
    }

    #[test]
    fn binary_bodies_become_data_by_their_content_type() {
        for (content_type, body, member) in [
            (
                Some("application/json"),
                &b" {\"a\": 1} "[..],
                r#","data":{"a": 1}}"#,
            ),
            (
                Some("application/problem+json; charset=utf-8"),
                b"1",
                r#","data":1}"#,
            ),
            (Some("text/plain"), b"a\"b", r#","data":"a\"b"}"#),
            (Some("application/atom+xml"), b"<a/>", r#","data":"<a/>"}"#),
            (
                Some("text/plain; charset=iso-8859-1"),
                b"a",
                r#","data_base64":"YQ=="}"#,
            ),
            (Some("text/plain"), b"\xff", r#","data_base64":"/w=="}"#),
            (Some("image/png"), b"a", r#","data_base64":"YQ=="}"#),
            (
                Some("application/json"),
                b"",
                r#","datacontenttype":"application/json"}"#,
            ),
            (None, b"{}", r#","data":{}}"#),
            (None, b" {\"a\": 1} ", r#","data":{"a": 1}}"#),
            (None, b"[1, 2]", r#","data":[1, 2]}"#),
            (None, b"null", r#","data":null}"#),
            (None, b"\"a\"", r#","data":"a"}"#),
            (None, b"12.50", r#","data":12.50}"#),
            (None, b"{", r#","data_base64":"ew=="}"#),
            (None, b"hi", r#","data_base64":"aGk="}"#),
            (None, b" ", r#","data_base64":"IA=="}"#),
            (None, b"{} {}", r#","data_base64":"e30ge30="}"#),
            (None, b"\"\xff\"", r#","data_base64":"Iv8i"}"#),
            // What is JSON by its grammar and no parser holds stays as it came.
            (None, b"1e999", r#","data_base64":"MWU5OTk="}"#),
            (None, br#""\ud800""#, r#","data_base64":"Ilx1ZDgwMCI="}"#),
        ] {
            let content_type = content_type.map(|value| ("content-type", value));
            let headers: Vec<_> = REQUIRED.into_iter().chain(content_type).collect();
            let event = binary(&headers, body).unwrap();
            assert!(text(&event).ends_with(member), "{}", text(&event));
        }
    }

    #[test]
    fn a_binary_event_that_breaks_a_rule_names_it() {
        for (header, value, field) in [
            ("ce-id", "2", "id"),
            ("ce-datacontenttype", "text/plain", "ce-datacontenttype"),
            ("content-type", "nonsense", "datacontenttype"),
            ("content-type", "application/json", "data"),
            ("ce-data", "x", "data"),
            ("ce-my_ext", "x", "my_ext"),
            ("ce-", "x", "…"),
            ("ce-ext", "%C0%A0", "ext"),
            ("ce-ext", "%00", "ext"),
            ("ce-subject", "\"\"", "subject"),
        ] {
            let headers = [&REQUIRED[..], &[(header, value)]].concat();
            assert_eq!(invalid(binary(&headers, b"{")).0, field, "{header}");
        }
        let twice = [
            &REQUIRED[..],
            &[
                ("content-type", "text/plain"),
                ("content-type", "text/html"),
            ],
        ]
        .concat();
        assert_eq!(invalid(binary(&twice, b"x")).0, "datacontenttype");
        assert_eq!(invalid(binary(&REQUIRED[1..], b"")).0, "specversion");
    }
}
