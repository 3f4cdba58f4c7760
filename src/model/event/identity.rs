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
}
