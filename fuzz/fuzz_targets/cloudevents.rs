//! CloudEvents in every mode of the HTTP binding, from headers and body to the
//! canonical form and out again as data alone.
#![no_main]

use http::HeaderMap;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use millrace::error::{Error, Result};
use millrace::model::event::{self, Event, Mode, PlainDefaults};
use millrace_fuzz::{canonical, message, refused, text};
use serde_json::{Map, Value};

fuzz_target!(|input: &[u8]| {
    let (headers, body) = message(input);
    match event::mode(&headers) {
        Ok(Mode::Batch) => batch(&body),
        Ok(mode) => one(mode, &headers, &body),
        Err(error) => assert!(matches!(error, Error::UnsupportedMediaType(_))),
    }
});

fn one(mode: Mode, headers: &HeaderMap, body: &[u8]) {
    match parse(mode, headers, body, "first") {
        Ok(event) => {
            canonical(&event);
            let again = parse(mode, headers, body, "second").expect("it was accepted before");
            assert_eq!(again.fingerprint(), event.fingerprint());
            data_alone(&event);
        }
        Err(error) => {
            let field = refused(&error);
            let names_it = field.is_some() || !matches!(error, Error::Invalid(_));
            assert!(names_it || !is_object(body), "{error} names no field");
        }
    }
}

fn batch(body: &[u8]) {
    let cut = match event::split_batch(body) {
        Ok(cut) => cut,
        Err(error) => return drop(refused(&error).map(str::to_owned)),
    };
    let elements: Vec<_> = cut.iter().map(|element| element.get()).collect();
    let joined = format!("[{}]", elements.join(","));
    let again = event::split_batch(joined.as_bytes()).expect("it was a batch before");
    assert!(
        again
            .iter()
            .map(|element| element.get())
            .eq(elements.iter().copied())
    );
    for element in elements {
        one(Mode::Structured, &HeaderMap::new(), element.as_bytes());
    }
}

fn parse(mode: Mode, headers: &HeaderMap, body: &[u8], id: &str) -> Result<Event> {
    let defaults = PlainDefaults {
        id,
        source: "/",
        time: Timestamp::UNIX_EPOCH,
    };
    match mode {
        Mode::Binary => event::parse_binary(headers, body),
        Mode::Plain => event::parse_plain(body, defaults),
        Mode::Structured | Mode::Batch => event::parse_structured(body),
    }
}

/// An endpoint may ask for the data alone: that is the same event in binary mode.
fn data_alone(event: &Event) {
    let (headers, body) = event::to_binary(event.body()).expect("an event can be sent");
    let whole = event::parse_structured(event.body());
    let Ok(whole) = whole else { return };
    let is_base64 = text(event).contains(r#","data_base64":""#);
    let media = headers.get("content-type").map(|value| value.as_bytes());
    let is_json = media.is_some_and(|media| {
        let essence = media.split(|byte| *byte == b';').next().unwrap_or(media);
        let essence = essence.trim_ascii_end().to_ascii_lowercase();
        essence.ends_with(b"json")
    });
    // Bytes that only say they are JSON, and data of no bytes, which is no data.
    if body.is_empty() || is_base64 && is_json {
        return;
    }
    let again = event::parse_binary(&headers, &body).expect("what is sent is a CloudEvent");
    let mut differences = event::differences(&whole, &again).expect("both are events");
    // Text is relabelled as the UTF-8 that it is sent in.
    let relabelled = media.is_some_and(|media| media.ends_with(b"; charset=utf-8"));
    differences.retain(|name| !(relabelled && name == "datacontenttype"));
    assert!(differences.is_empty(), "{differences:?} {}", text(&again));
}

/// Whether it is a JSON object with nothing in it twice that must be there once.
fn is_object(body: &[u8]) -> bool {
    let has_data_twice = body
        .windows(6)
        .filter(|window| window == b"\"data\"")
        .count()
        > 1;
    !has_data_twice && serde_json::from_slice::<Map<String, Value>>(body).is_ok()
}
