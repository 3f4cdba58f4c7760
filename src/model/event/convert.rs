//! The conversion of a stored event to binary mode of the HTTP protocol binding
//! (CloudEvents 1.0.2, HTTP §3.1): its data alone as the body, its attributes as headers.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::canonical::corrupt_stored_event;
use super::charset::content_type_in_utf8;
use super::draft::{Attribute, AttributeScalar};
use super::media::MediaType;
use super::members;
use super::rules::NAME_BYTES_MAX;
use crate::error::Result;

/// The headers (`ce-…` and `content-type`) and the body that say what the
/// canonical body `event` says. Without data there is no body, and no content type,
/// which would be one of nothing. What is text, or JSON, is sent in UTF-8 and labelled
/// so, whatever charset its `datacontenttype` names.
///
/// # Errors
/// [`Error::Internal`](crate::error::Error::Internal) when `event` is not a
/// canonical body.
pub fn to_binary(event: &Bytes) -> Result<(HeaderMap, Bytes)> {
    let parts = members::parse_trusted(event).map_err(corrupt_stored_event)?;
    let mut headers = HeaderMap::with_capacity(parts.attributes.len());
    let (mut media, mut binary) = (None, None);
    for Attribute { name, value } in &parts.attributes {
        let text = match value {
            AttributeScalar::String(text) => Cow::Borrowed(&**text),
            AttributeScalar::Integer(number) => number.to_string().into(),
            AttributeScalar::Boolean(truth) => truth.to_string().into(),
        };
        match &**name {
            "datacontenttype" => media = Some(text),
            "data_base64" => binary = Some(text),
            // Kept by an earlier version: better without it than never.
            name if name.len() > NAME_BYTES_MAX => {}
            name => {
                let name =
                    HeaderName::try_from(format!("ce-{name}")).map_err(corrupt_stored_event)?;
                let value = HeaderValue::try_from(encode(&text)).map_err(corrupt_stored_event)?;
                headers.insert(name, value);
            }
        }
    }
    let json = parts.data.map(|range| event.slice(range));
    let (media, body) = match (json, binary) {
        (Some(json), _) => {
            // What its absence means (JSON format §3.1).
            let media = media.unwrap_or("application/json".into());
            let body = unquote(&media, json);
            let text = std::str::from_utf8(&body).map_err(corrupt_stored_event)?;
            (Some(content_type_in_utf8(&media, text).into_owned()), body)
        }
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64.as_bytes());
            let bytes = bytes.map_err(corrupt_stored_event)?;
            (media.map(Cow::into_owned), bytes.into())
        }
        (None, None) => (None, Bytes::new()),
    };
    if let Some(media) = media {
        let value = HeaderValue::try_from(media).map_err(corrupt_stored_event)?;
        headers.insert(CONTENT_TYPE, value);
    }
    Ok((headers, body))
}

/// Data that is not JSON but text stands in JSON as a string: the text itself.
fn unquote(media: &str, json: Bytes) -> Bytes {
    match serde_json::from_slice::<String>(&json) {
        Ok(text) if !MediaType::text_is_json(media) => text.into(),
        _ => json,
    }
}

/// A header's value for `text` (HTTP binding §3.1.3.2): what is not printable
/// ASCII, a space, a quote or a percent sign, by its UTF-8 bytes in hexadecimal.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'"' && byte != b'%' => encoded.push(byte.into()),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::event::{parse_binary, parse_structured};

    fn unwrapped(extra: &serde_json::Value) -> (HeaderMap, Bytes) {
        let mut event = json!({
            "specversion": "1.0", "id": "1", "source": "/s", "type": "a.b",
            "time": "2026-01-01T00:00:00Z",
        });
        for (name, value) in extra.as_object().unwrap() {
            event[name] = value.clone();
        }
        let event = parse_structured(event.to_string().as_bytes()).unwrap();
        let (headers, body) = to_binary(event.body()).unwrap();
        let again = parse_binary(&headers, &body).unwrap();
        assert_eq!(
            again.fingerprint(),
            event.fingerprint(),
            "it is the same event"
        );
        (headers, body)
    }

    #[test]
    fn an_attribute_with_a_name_that_no_header_has_holds_nothing_up() {
        let body = |name: &str| {
            let event = format!(
                r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a","{name}":"b"}}"#
            );
            to_binary(&event.into()).unwrap().0
        };
        let longest = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(body(&longest)[format!("ce-{longest}")], "b");
        let headers = body(&format!("{longest}x"));
        assert_eq!(headers["ce-id"], "1");
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn json_data_is_sent_as_it_was_written() {
        let event = br#"{"specversion":"1.0","id":"1","source":"/s","type":"a","data":{"n": 1.50, "a":[ ]}}"#;
        let event = parse_structured(event).unwrap();
        let (headers, body) = to_binary(event.body()).unwrap();
        assert_eq!(body, r#"{"n": 1.50, "a":[ ]}"#);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["ce-id"], "1");
        assert_eq!(headers["ce-specversion"], "1.0");
        assert!(!headers.contains_key("ce-datacontenttype"));
    }

    #[test]
    fn attributes_become_headers_percent_encoded() {
        let (headers, _) = unwrapped(&json!({
            "subject": "Zürich \"50%\"", "count": 3, "flag": true, "data": 1,
        }));
        assert_eq!(headers["ce-subject"], "Z%C3%BCrich%20%2250%25%22");
        assert_eq!(headers["ce-count"], "3");
        assert_eq!(headers["ce-flag"], "true");
    }

    #[test]
    fn text_and_bytes_are_themselves() {
        let (headers, body) =
            unwrapped(&json!({ "datacontenttype": "text/plain", "data": "a\n\"b\"" }));
        assert_eq!(
            (&headers["content-type"], &*body),
            (&"text/plain".parse().unwrap(), &b"a\n\"b\""[..])
        );
        let (headers, body) = unwrapped(
            &json!({ "datacontenttype": "image/png", "data_base64": STANDARD.encode([0, 255, 1]) }),
        );
        assert_eq!(headers["content-type"], "image/png");
        assert_eq!(&*body, [0, 255, 1]);
        let (_, body) = unwrapped(&json!({ "data": "a string in JSON" }));
        assert_eq!(&*body, b"\"a string in JSON\"");
    }

    #[test]
    fn without_data_there_is_no_body() {
        let (headers, body) = unwrapped(&json!({}));
        assert!(body.is_empty() && !headers.contains_key("content-type"));
        let event = br#"{"specversion":"1.0","id":"1","source":"/s","type":"a","datacontenttype":"application/json"}"#;
        let event = parse_structured(event).unwrap();
        let (headers, body) = to_binary(event.body()).unwrap();
        assert!(body.is_empty() && !headers.contains_key("content-type"));
    }

    #[test]
    fn text_is_sent_in_the_charset_that_its_label_names() {
        let sent = |content_type: &str, data: &str| {
            let event = json!({
                "specversion": "1.0", "id": "1", "source": "/s", "type": "a",
                "datacontenttype": content_type, "data": data,
            });
            let event = parse_structured(event.to_string().as_bytes()).unwrap();
            let (headers, body) = to_binary(event.body()).unwrap();
            (headers["content-type"].clone(), body)
        };
        let (label, body) = sent("text/plain; charset=iso-8859-1; a=b", "Zürich");
        assert_eq!(label, "text/plain; a=b; charset=utf-8");
        assert_eq!(&*body, "Zürich".as_bytes());
        let (label, _) = sent("text/plain; charset=utf-8", "Zürich");
        assert_eq!(label, "text/plain; charset=utf-8");
        let (label, _) = sent("application/json; charset=utf-16", "Zürich");
        assert_eq!(label, "application/json; charset=utf-8");
    }

    #[test]
    fn json_in_base64_is_sent_as_json() {
        let (headers, body) = unwrapped(&json!({ "data_base64": "eyJuIjogMS41MH0=" }));
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(&*body, br#"{"n": 1.50}"#);
    }

    #[test]
    fn an_attribute_of_any_length_becomes_a_header() {
        let (name, value) = ("x".repeat(30_000), "é".repeat(15_000));
        let (headers, _) = unwrapped(&json!({ name.clone(): value }));
        assert_eq!(headers[&format!("ce-{name}")].len(), 90_000);
    }

    #[test]
    fn what_is_not_a_canonical_body_is_refused() {
        assert!(to_binary(&Bytes::from_static(b"[]")).is_err());
    }
}
