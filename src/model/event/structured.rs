//! Structured mode, the JSON event format: one event (`application/cloudevents+json`)
//! or a batch of them (`application/cloudevents-batch+json`).

use serde_json::value::RawValue;

use super::canonical::Event;
use super::draft::{BATCH_EVENTS_MAX, EVENT_BYTES_MAX, limit};
use super::members::{draft, members};
use crate::error::{Error, Result};
use crate::model::parse_error::{of_document, utf8};

/// Reads one event in structured mode.
///
/// # Errors
/// [`Error::Invalid`] when it is not one UTF-8 JSON object or breaks a rule of
/// CloudEvents 1.0, the detail naming the attribute; [`Error::TooLarge`] over
/// [`EVENT_BYTES_MAX`] or a limit on the canonical form.
pub fn parse_structured(json: &[u8]) -> Result<Event> {
    limit("the event", json.len(), EVENT_BYTES_MAX)?;
    draft(members(json)?)?.finish(None)
}

/// Whether `json` is an array, if it is JSON.
pub fn is_array(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"[")
}

/// Cuts a batch into its elements, each to be read by [`parse_structured`].
///
/// The elements are not looked into, so that one bad event does not spoil the
/// rest. An empty batch is valid and gives an empty list.
///
/// # Errors
/// [`Error::Invalid`] when it is not one UTF-8 JSON array; [`Error::TooLarge`]
/// with more than [`BATCH_EVENTS_MAX`] elements.
pub fn split_batch(json: &[u8]) -> Result<Vec<&RawValue>> {
    let events: Vec<&RawValue> = serde_json::from_str(utf8(json)?)
        .map_err(|error| of_document("a JSON array of CloudEvents", &error))?;
    match events.len() {
        ..=BATCH_EVENTS_MAX => Ok(events),
        len => Err(Error::TooLarge(
            format!("the batch: expected at most {BATCH_EVENTS_MAX} events, got {len}").into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::tests::{invalid, text};

    #[test]
    fn the_canonical_body_has_one_order_and_keeps_data_as_written() {
        let event = parse_structured(
            br#" {"data" : {"b":1.50, "a":[ 1e2 ]}, "time":"2026-01-31T13:00:00+01:00", "tenant":"acme",
            "type":"order.paid","subject":null,"source":"/shop","id":"\u0041-1","specversion":"1.0",
            "datacontenttype":"application/json","retry":true,"attempt":-3} "#,
        )
        .unwrap();
        insta::assert_snapshot!(
            text(&event),
            @r#"{"specversion":"1.0","id":"A-1","source":"/shop","type":"order.paid","attempt":-3,"datacontenttype":"application/json","retry":true,"tenant":"acme","time":"2026-01-31T13:00:00+01:00","data":{"b":1.50, "a":[ 1e2 ]}}"#
        );
        assert_eq!(event.id(), "A-1");
        assert_eq!(event.source(), "/shop");
        assert_eq!(event.event_type(), "order.paid");
        assert_eq!(event.subject(), None);
        assert_eq!(event.tenant(), Some("acme"));
        assert_eq!(event.time(), "2026-01-31T12:00:00Z".parse().ok());
        assert_eq!(event.data(), Some(&br#"{"b":1.50, "a":[ 1e2 ]}"#[..]));
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        for json in [
            &b""[..],
            b"[]",
            b"null",
            b"{",
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"} x"#,
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":}"#,
            br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1,"data":1}"#,
            b"{\"specversion\":\"1.0\",\"id\":\"\xff\",\"source\":\"/s\",\"type\":\"t\"}",
            br#"{"specversion":"1.0","id":"\ud800","source":"/s","type":"t"}"#,
        ] {
            let (_, message) = invalid(parse_structured(json));
            assert!(message.contains("expected"), "{message}");
        }
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        for twice in [
            r#""id":"1","id":"1""#,
            r#""id":null,"id":"1""#,
            r#""id":"1","\u0069d":"2""#,
            r#""id":"1","data_base64":"","data_base64":"""#,
        ] {
            let json = format!(r#"{{"specversion":"1.0","source":"/s","type":"t",{twice}}}"#);
            let (_, message) = invalid(parse_structured(json.as_bytes()));
            assert!(message.contains("expected once"), "{message}");
        }
    }

    #[test]
    fn a_batch_is_cut_without_looking_into_its_events() {
        let cut = split_batch(br#" [ {"a": 1}, 5, {"a" :2} ] "#).unwrap();
        let texts: Vec<_> = cut.iter().map(|event| event.get()).collect();
        assert_eq!(texts, [r#"{"a": 1}"#, "5", r#"{"a" :2}"#]);
        assert!(split_batch(b"[]").unwrap().is_empty());
        for bad in [&b"{}"[..], b"[1", b"[1,]", b"[] []", b"[\"\xff\"]"] {
            assert!(matches!(split_batch(bad), Err(Error::Invalid(_))));
        }
        let batch = |len: usize| format!("[{}]", vec!["1"; len].join(","));
        assert_eq!(split_batch(batch(100).as_bytes()).unwrap().len(), 100);
        let error = split_batch(batch(101).as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the batch: expected at most 100 events, got 101"
        );
    }
}
