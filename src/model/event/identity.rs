//! The identity of an event: whether what is published under the same source and id
//! is the same event again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::canonical::{Event, corrupt_stored_event};
use super::draft::{AttributeScalar, Draft};
use super::{fingerprint, members};
use crate::error::Result;

/// What may be another each time a publisher sends an event: SDKs stamp the time of
/// every run, and a trace is that of the request. What came first stays.
const OF_THE_SENDING: [&str; 3] = ["time", "traceparent", "tracestate"];
/// Told apart with the data, or the same in every event.
const APART: [&str; 2] = ["datacontenttype", "specversion"];

/// The names of what differs between two events of one source and id: attributes, in
/// the order of their names, then `data`. None if `again` is `kept` once more, in
/// whatever mode, order, spelling and Base64 it came, and whatever it says of its
/// `time`, `traceparent` and `tracestate`.
///
/// # Errors
/// [`Error::Internal`](crate::error::Error::Internal) when either has a body that
/// [`Event::body`] never gave.
pub fn differences(kept: &Event, again: &Event) -> Result<Vec<String>> {
    if kept.fingerprint() == again.fingerprint() {
        return Ok(vec![]);
    }
    let (kept, again) = (draft(kept)?, draft(again)?);
    let (old, new) = (attributes(&kept), attributes(&again));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let differ = names
        .into_iter()
        .filter(|name| old.get(name) != new.get(name));
    let mut differ: Vec<_> = differ.map(str::to_owned).collect();
    let old = fingerprint::data_of(&kept).map_err(corrupt_stored_event)?;
    let new = fingerprint::data_of(&again).map_err(corrupt_stored_event)?;
    if old.content != new.content {
        differ.push("data".to_owned());
    } else if old.media_type != new.media_type {
        differ.push("datacontenttype".to_owned());
    }
    Ok(differ)
}

fn draft(event: &Event) -> Result<Draft<'_>> {
    members::members(event.body())
        .and_then(members::draft)
        .map_err(corrupt_stored_event)
}

/// The attributes that count, as text: binary mode has no other way to carry them.
fn attributes<'d>(draft: &'d Draft<'_>) -> BTreeMap<&'d str, Cow<'d, str>> {
    let counts = |name: &str| !OF_THE_SENDING.contains(&name) && !APART.contains(&name);
    let counting = draft.attributes.iter().filter(|a| counts(&a.name));
    counting
        .map(|attribute| {
            let text = match &attribute.value {
                AttributeScalar::String(text) => Cow::Borrowed(&**text),
                AttributeScalar::Integer(number) => number.to_string().into(),
                AttributeScalar::Boolean(truth) => truth.to_string().into(),
            };
            (&*attribute.name, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::event::tests::{REQUIRED, binary, minimal, plain, structured, with};

    fn event(extra: Value) -> Event {
        let mut event = minimal();
        let extra = extra.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(extra);
        structured(&event).unwrap()
    }

    fn differ(kept: Value, again: Value) -> Vec<String> {
        let (kept, again) = (event(kept), event(again));
        let forth = differences(&kept, &again).unwrap();
        assert_eq!(forth, differences(&again, &kept).unwrap());
        forth
    }

    #[test]
    fn what_is_of_the_sending_does_not_count() {
        let first = json!({
            "time": "2026-01-31T12:00:00Z", "traceparent": "00-1", "data": {"a": 1}, "n": 5,
        });
        for again in [
            json!({ "time": "2026-01-31T12:00:01Z", "data": {"a": 1}, "n": 5 }),
            json!({ "traceparent": "00-2", "tracestate": "a=b", "data": {"a": 1}, "n": "5" }),
            json!({ "data_base64": "eyJhIjogMX0=", "n": 5 }),
            json!({ "data": {"a": 1}, "datacontenttype": "application/json", "n": 5 }),
        ] {
            assert_eq!(differ(first.clone(), again.clone()), [""; 0], "{again}");
        }
    }

    #[test]
    fn what_else_differs_is_named() {
        let first = json!({ "subject": "a", "ext": "a", "data": {"a": 1} });
        for (again, names) in [
            (
                json!({ "subject": "b", "ext": "a", "data": {"a": 1} }),
                vec!["subject"],
            ),
            (json!({ "data": {"a": 2} }), vec!["ext", "subject", "data"]),
            (json!({ "subject": "a", "ext": "a" }), vec!["data"]),
            (
                json!({ "subject": "a", "ext": "a", "data": null }),
                vec!["data"],
            ),
            (
                json!({ "subject": "a", "ext": "a", "data_base64": "AA==" }),
                vec!["data"],
            ),
            (
                json!({ "subject": "a", "ext": "a", "data": {"a": 1}, "datacontenttype": "text/json" }),
                vec!["datacontenttype"],
            ),
            (
                json!({ "subject": "a", "ext": "a", "data": {"a": 1}, "timezone": "UTC" }),
                vec!["timezone"],
            ),
        ] {
            assert_eq!(differ(first.clone(), again.clone()), names, "{again}");
        }
        assert_eq!(differ(json!({}), json!({ "data": null })), ["data"]);
        assert_eq!(differ(json!({}), json!({ "data_base64": "" })), ["data"]);
        assert_eq!(
            differ(json!({}), json!({ "datacontenttype": "application/json" })),
            ["datacontenttype"]
        );
    }

    #[test]
    fn bytes_kept_without_a_content_type_are_the_json_that_comes_again() {
        let before = structured(&with("data_base64", json!("eyJhIjoxfQ=="))).unwrap();
        let again = binary(&REQUIRED, br#"{"a": 1}"#).unwrap();
        assert_ne!(before.body(), again.body());
        assert_eq!(differences(&before, &again).unwrap(), [""; 0]);
        let plain = plain(r#"{"id":"1","source":"/s","type":"t","data":{"a":1}}"#).unwrap();
        assert_eq!(differences(&before, &plain).unwrap(), [""; 0]);
        let text = json!({ "datacontenttype": "text/plain", "data": "{}" });
        let bytes = json!({ "datacontenttype": "text/plain", "data_base64": "e30=" });
        assert_eq!(differ(text, bytes), [""; 0]);
    }

    fn with_data(data: &str) -> Event {
        let event = format!(r#"{{"id":"1","source":"/s","type":"t","data":{data}}}"#);
        plain(&event).unwrap()
    }

    #[test]
    fn numbers_are_the_same_by_value_alone() {
        for (number, same, other) in [
            (
                "12345678901234567.89",
                "1234567890123456789e-2",
                "12345678901234567.90",
            ),
            ("1", "1.00", "1.0000000000000000000001"),
            ("-0", "0e7", "1e-400"),
            ("9007199254740993", "9007199254740993.0", "9007199254740992"),
            (
                "18446744073709551616",
                "18446744073709551616e0",
                "18446744073709551617",
            ),
            (
                "-9223372036854775809",
                "-9223372036854775809.0",
                "-9223372036854775808",
            ),
            ("1E300", "10e299", "1E301"),
            (
                "1e-99999999999999999999",
                "1e-99999999999999999999",
                "1e-99999999999999999998",
            ),
        ] {
            let event = |number: &str| with_data(&format!(r#"{{"a":"1","n":[{number},2]}}"#));
            let first = event(number);
            assert_eq!(first.fingerprint(), event(same).fingerprint(), "{number}");
            assert_ne!(first.fingerprint(), event(other).fingerprint(), "{number}");
            // One of an earlier version, which says nothing.
            let kept = Event::from_stored(first.body().clone(), [7; 32]).unwrap();
            assert_eq!(
                differences(&kept, &event(same)).unwrap(),
                [""; 0],
                "{number}"
            );
            assert_eq!(
                differences(&kept, &event(other)).unwrap(),
                ["data"],
                "{number}"
            );
        }
    }

    #[test]
    fn names_that_parsers_have_for_themselves_are_names() {
        let number = with_data(r#"{"$serde_json::private::Number":"1"}"#);
        let raw = with_data(r#"{"$serde_json::private::RawValue":"1"}"#);
        let none = with_data(r#"{"$serde_json::private::RawValue":"no json"}"#);
        let one = with_data("1");
        let events = [&number, &raw, &none, &one];
        for (n, kept) in events.iter().enumerate() {
            for (m, again) in events.iter().enumerate() {
                assert_eq!(differences(kept, again).unwrap().is_empty(), n == m);
            }
        }
    }

    /// The fingerprints of integers are what they were, so that a fleet of two
    /// versions compares contents for fractions alone.
    #[test]
    fn a_fingerprint_of_integers_stays() {
        let event = with_data(r#"{"a":[1,-1,18446744073709551615],"b":"x"}"#);
        let hex: String = event
            .fingerprint()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ef68e66a8557f149e641a0f3e41e4d269317525a5ee56bf9f6d1fb2723258fb8"
        );
    }
}
