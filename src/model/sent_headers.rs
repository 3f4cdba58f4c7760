//! The headers of a webhook as it was sent: what is kept of them with its attempt, and
//! what a person is shown.
//!
//! What follows from the delivery and its event is not kept but made again: the id, the
//! time, the headers that hold the event, and what the signature of those covers. Values
//! of the endpoint's own headers and of its authentication are secret: their names are
//! kept alone.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::id::EventId;
use super::message_signature::signature_input;
use super::signature::schemes_of_header;

/// What stands for a value that is secret.
pub const MASKED: &str = "***";
/// Bytes of the names of an endpoint's own headers that are kept of an attempt.
const OWN_NAMES_BYTES_MAX: usize = 512;
/// Bytes of any value that is kept or shown: the event has its attributes in full.
const VALUE_BYTES_MAX: usize = 256;
/// Bytes of the event's headers that are shown of an attempt.
const EVENT_HEADERS_BYTES_MAX: usize = 2048;

/// What is kept of the headers of one attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentHeaders {
    /// `webhook-signature`.
    pub signature: String,
    /// `user-agent`.
    pub user_agent: String,
    /// `content-type`, if there was one.
    pub content_type: Option<String>,
    /// `traceparent`, if a trace goes on.
    pub traceparent: Option<String>,
    /// Millrace's `signature` of the headers that held the event, if they did.
    pub event_signature: Option<String>,
    /// The names of the headers with secret values, as they were spelled.
    pub own: Vec<String>,
}

impl SentHeaders {
    /// What is to be kept of `headers`, of which `spelled` are written in another case,
    /// and of the `user_agent` that goes with them. Whatever is marked sensitive is
    /// secret.
    pub fn of(headers: &HeaderMap, spelled: &[String], user_agent: &HeaderValue) -> Self {
        let kept = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.find(|value| !value.is_sensitive());
            value.map(|value| cut(&text(value)))
        };
        Self {
            // Five secrets sign at most, so it is bounded, and of no use in part.
            signature: headers
                .get("webhook-signature")
                .map(text)
                .unwrap_or_default(),
            user_agent: cut(&text(user_agent)),
            content_type: kept(CONTENT_TYPE.as_str()),
            traceparent: kept("traceparent"),
            event_signature: {
                let mut values = headers.get_all("signature").iter();
                values.find(|value| !value.is_sensitive()).map(text)
            },
            own: own_names(headers, spelled),
        }
    }

    /// The headers of an attempt at `event` that was sent at `sent_s` in Unix seconds, by
    /// their names, fields of the same name as one. Of those that hold the event, which
    /// `of_event` gives, only the first bytes; without it none of them.
    pub fn shown(
        &self,
        event: &EventId,
        sent_s: i64,
        of_event: Option<&HeaderMap>,
    ) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        let own = self.own.iter();
        shown.extend(own.map(|name| (name.clone(), MASKED.to_owned())));
        let mut add = |name: &str, value: String| {
            shown
                .entry(name.to_owned())
                .and_modify(|values: &mut String| {
                    values.push_str(", ");
                    values.push_str(&value);
                })
                .or_insert(value);
        };
        add("webhook-id", event.to_string());
        add("webhook-timestamp", sent_s.to_string());
        add("webhook-signature", self.signature.clone());
        add("user-agent", self.user_agent.clone());
        let optional = [
            ("content-type", &self.content_type),
            ("traceparent", &self.traceparent),
            ("signature", &self.event_signature),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                add(name, value.clone());
            }
        }
        if let Some(of_event) = of_event.filter(|_| self.event_signature.is_some()) {
            add(
                "signature-input",
                self.signature_input(event, sent_s, of_event),
            );
            for (name, value) in event_headers(of_event) {
                add(&name, value);
            }
        }
        shown
    }

    /// What [`sign_headers`](super::message_signature::sign_headers) said it had signed.
    fn signature_input(&self, event: &EventId, sent_s: i64, of_event: &HeaderMap) -> String {
        let mut headers = of_event.clone();
        if let Ok(id) = HeaderValue::from_str(event.as_str()) {
            headers.insert("webhook-id", id);
        }
        headers.insert("webhook-timestamp", HeaderValue::from(sent_s));
        signature_input(schemes_of_header(&self.signature), &headers, sent_s)
    }
}

/// The names of the headers whose values are secret, as far as there is room.
fn own_names(headers: &HeaderMap, spelled: &[String]) -> Vec<String> {
    let secret = headers.iter().filter(|(_, value)| value.is_sensitive());
    let as_sent = secret.map(|(name, _)| {
        let spelled = spelled
            .iter()
            .find(|spelled| spelled.eq_ignore_ascii_case(name.as_str()));
        spelled.map_or(name.as_str(), String::as_str)
    });
    let mut names: Vec<_> = as_sent.map(str::to_owned).collect();
    names.sort_unstable();
    let mut bytes = 0;
    names.retain(|name| {
        bytes += name.len();
        bytes <= OWN_NAMES_BYTES_MAX
    });
    names
}

/// The `ce-` headers of an event by name, as far as they are shown.
fn event_headers(of_event: &HeaderMap) -> Vec<(String, String)> {
    let headers = of_event.iter();
    let headers = headers.filter(|(name, _)| name.as_str().starts_with("ce-"));
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), cut(&text(value))))
        .collect();
    headers.sort_unstable();
    let mut bytes = 0;
    headers.retain(|(name, value)| {
        bytes += name.len() + value.len();
        bytes <= EVENT_HEADERS_BYTES_MAX
    });
    headers
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// `text`, or its beginning and an ellipsis.
fn cut(text: &str) -> String {
    if text.len() <= VALUE_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(VALUE_BYTES_MAX);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::ProjectId;
    use crate::model::message_signature::sign_headers;
    use crate::model::signature::{Scheme, Secret, signature_header};

    const AGENT: HeaderValue = HeaderValue::from_static("Millrace/1.2.3");

    fn event() -> EventId {
        EventId::derive(&ProjectId::new(0, [0; 10]), "/s", "1")
    }

    fn secret(text: &'static str) -> HeaderValue {
        let mut value = HeaderValue::from_static(text);
        value.set_sensitive(true);
        value
    }

    fn plain(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        let fields =
            fields.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        fields.collect()
    }

    #[test]
    fn what_was_sent_is_shown_and_no_secret_is() {
        let mut headers = plain(&[
            ("content-type", "application/json"),
            ("webhook-id", "not kept: it is the event's id"),
            ("webhook-timestamp", "not kept: it is the attempt's time"),
            ("webhook-signature", "v1,c2lnbmVk"),
            ("traceparent", "00-1-2-01"),
        ]);
        headers.insert("x-api-key", secret("s3cret"));
        headers.insert("authorization", secret("Bearer s3cret"));
        let sent = SentHeaders::of(&headers, &["X-Api-Key".into()], &AGENT);
        assert!(!format!("{sent:?}").contains("s3cret"));
        let mut shown = sent.shown(&event(), 1_700_000_000, None);
        assert_eq!(shown.remove("webhook-id"), Some(event().to_string()));
        insta::assert_json_snapshot!(shown, @r#"
        {
          "X-Api-Key": "***",
          "authorization": "***",
          "content-type": "application/json",
          "traceparent": "00-1-2-01",
          "user-agent": "Millrace/1.2.3",
          "webhook-signature": "v1,c2lnbmVk",
          "webhook-timestamp": "1700000000"
        }
        "#);
    }

    #[test]
    fn headers_that_hold_the_event_are_made_again_with_their_signatures() {
        let secrets = [
            Secret::generate(Scheme::V1a, [1; 32]),
            Secret::generate(Scheme::V1, [2; 32]),
        ];
        let of_event = plain(&[
            ("ce-type", "order.paid"),
            ("content-type", "text/plain"),
            ("ce-id", "1"),
        ]);
        let mut headers = of_event.clone();
        let id = HeaderValue::from_str(event().as_str()).unwrap();
        headers.insert("webhook-id", id);
        headers.insert("webhook-timestamp", HeaderValue::from(5));
        let signature = signature_header(&secrets, event().as_str(), 5, b"");
        let signature = HeaderValue::from_str(&signature).unwrap();
        headers.insert("webhook-signature", signature);
        let fields = sign_headers(&secrets, &headers, 5);
        headers.insert("signature", secret("own"));
        let value = HeaderValue::from_str(&fields.signature).unwrap();
        headers.append("signature", value);

        let sent = SentHeaders::of(&headers, &[], &AGENT);
        let shown = sent.shown(&event(), 5, Some(&of_event));
        assert_eq!(shown["signature-input"], fields.input);
        assert_eq!(shown["signature"], format!("***, {}", fields.signature));
        assert_eq!(shown["ce-type"], "order.paid");
        assert_eq!(shown["content-type"], "text/plain");
        let without = sent.shown(&event(), 5, None);
        assert!(!without.contains_key("ce-type") && !without.contains_key("signature-input"));
    }

    #[test]
    fn what_is_kept_and_shown_is_bounded() {
        let long = HeaderValue::try_from("x".repeat(5000)).unwrap();
        let mut headers = plain(&[("webhook-signature", "v1,x"), ("signature", "sig1=:x:")]);
        headers.insert("content-type", long.clone());
        for n in 0..20 {
            let name = format!("x-{n:02}-{}", "n".repeat(94));
            let name = http::HeaderName::try_from(name).unwrap();
            headers.insert(name, secret("v"));
        }
        let sent = SentHeaders::of(&headers, &[], &AGENT);
        assert_eq!(sent.own.len(), OWN_NAMES_BYTES_MAX / 99);
        let kept = sent.content_type.clone().unwrap();
        assert!(kept.len() <= VALUE_BYTES_MAX + 3 && kept.ends_with('…'));

        let of_event = (0..100).map(|n| {
            let name = http::HeaderName::try_from(format!("ce-a{n}")).unwrap();
            (name, long.clone())
        });
        let shown = sent.shown(&event(), 5, Some(&of_event.collect()));
        let of_event = shown.iter().filter(|(name, _)| name.starts_with("ce-"));
        let bytes: usize = of_event.map(|(name, value)| name.len() + value.len()).sum();
        assert!((1024..=EVENT_HEADERS_BYTES_MAX).contains(&bytes), "{bytes}");
    }
}
