//! What the targets share: how an input is cut into parts, and what holds of every
//! refusal and of every event.

use std::str;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use millrace::error::{Error, Invalid};
use millrace::model::event::{self, BODY_BYTES_MAX, EVENT_BYTES_MAX, Event};
use serde_json::Value;

/// A refusal is short.
const REFUSAL_BYTES_MAX: usize = 2_048;

/// An input as text: its first line, and the rest.
pub fn line_and_rest(input: &[u8]) -> Option<(&str, &str)> {
    str::from_utf8(input).ok()?.split_once('\n')
}

/// An input as a message of HTTP: lines of headers, an empty line, the body. A
/// line that is no header is left out, as a server would have refused it.
pub fn message(input: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = input;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = header(line) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(rest))
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((
        HeaderName::from_bytes(name).ok()?,
        HeaderValue::from_bytes(value).ok()?,
    ))
}

/// What a client sent is the client's fault, told in a few words; the field that
/// is wrong, if it is one.
pub fn refused(error: &Error) -> Option<&str> {
    let text = error.to_string();
    assert!(text.len() <= REFUSAL_BYTES_MAX, "a long refusal: {text}");
    match error {
        Error::Invalid(Invalid { field, .. }) => field.as_deref(),
        Error::TooLarge(_) => None,
        other => panic!("not the client's fault: {other:?}"),
    }
}

/// Holds an accepted event against its own canonical body.
pub fn canonical(event: &Event) {
    let body = event.body();
    assert!(body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
    let stored = Event::from_stored(body.clone(), *event.fingerprint());
    let stored = stored.expect("what was accepted can be read back");
    assert!(stored == *event, "read back it is {}", text(&stored));
    if let Some(data) = event.data() {
        serde_json::from_slice::<Value>(data).expect("data is JSON");
    }
    if body.len() <= EVENT_BYTES_MAX {
        let again = event::parse_structured(body).expect("what was accepted is a CloudEvent");
        assert_eq!(text(&again), text(event));
    }
}

/// An event's canonical body.
pub fn text(event: &Event) -> &str {
    str::from_utf8(event.body()).expect("a body is JSON")
}
