//! The attribute `sent` of a delivery: what is kept of the headers of its attempts.
//!
//! It is a map by the attempts' numbers, beside the list of the attempts and not in it:
//! a version that knows nothing of headers writes that list anew, and leaves this as it
//! is. Names are of one letter, and what is nearly always the same is left out: an
//! attempt takes about 80 bytes, so that a delivery that succeeds at once stays within
//! one write unit.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::model::delivery::Attempt;
use crate::model::endpoint::ContentType;
use crate::model::sent_headers::SentHeaders;
use crate::store::dynamo::{Item, ItemExt, s};

const NAME: &str = "sent";
/// The content type of most; it is left out.
const USUAL: ContentType = ContentType::CloudeventsJson;

/// The attribute's value for `attempts`, the last of which is number `made`; none if no
/// headers are known.
pub(super) fn write(attempts: &[&Attempt], made: u32) -> Option<AttributeValue> {
    let numbered = numbers(attempts.len(), made).zip(attempts);
    let kept = numbered.filter_map(|(number, attempt)| {
        let sent = attempt.sent.as_ref()?;
        Some((number.to_string(), AttributeValue::M(write_one(sent))))
    });
    let kept: HashMap<_, _> = kept.collect();
    (!kept.is_empty()).then_some(AttributeValue::M(kept))
}

/// Reads what is kept of the headers of `attempts`, the last of which is number `made`.
pub(super) fn read(item: &Item, made: u32, attempts: &mut [Attempt]) {
    let Some(AttributeValue::M(kept)) = item.get(NAME) else {
        return;
    };
    for (number, attempt) in numbers(attempts.len(), made).zip(attempts) {
        let one = kept.get(&number.to_string());
        let one = one.and_then(|value| value.as_m().ok());
        attempt.sent = one.and_then(read_one);
    }
}

/// The numbers of the last `count` attempts of `made`.
fn numbers(count: usize, made: u32) -> impl Iterator<Item = u32> {
    let first = made.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    first.saturating_add(1)..=made
}

fn write_one(sent: &SentHeaders) -> Item {
    let mut map = Item::with_capacity(6);
    map.insert("s".into(), s(&sent.signature));
    map.insert("u".into(), s(&sent.user_agent));
    let content_type = sent.content_type.as_deref().unwrap_or_default();
    if content_type != USUAL.as_str() {
        map.insert("c".into(), s(content_type));
    }
    let optional = [("t", &sent.traceparent), ("e", &sent.event_signature)];
    for (name, value) in optional {
        if let Some(value) = value {
            map.insert(name.into(), s(value));
        }
    }
    if !sent.own.is_empty() {
        // No header's name has a space.
        map.insert("o".into(), s(sent.own.join(" ")));
    }
    map
}

/// None of what another version may have written otherwise.
fn read_one(map: &Item) -> Option<SentHeaders> {
    let opt = |name: &str| map.str_opt(name).map(str::to_owned);
    let content_type = match map.str_opt("c") {
        None => Some(USUAL.as_str().to_owned()),
        Some("") => None,
        Some(other) => Some(other.to_owned()),
    };
    let own = map.str_opt("o").unwrap_or_default();
    Some(SentHeaders {
        signature: opt("s")?,
        user_agent: opt("u")?,
        content_type,
        traceparent: opt("t"),
        event_signature: opt("e"),
        own: own.split_whitespace().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn attempt(sent: Option<SentHeaders>) -> Attempt {
        Attempt {
            at: Timestamp::UNIX_EPOCH.into(),
            duration_ms: 1,
            status: Some(200),
            error: None,
            response: None,
            sent,
        }
    }

    fn usual() -> SentHeaders {
        SentHeaders {
            signature: format!("v1,{}", "s".repeat(44)),
            user_agent: "Millrace/10.11.12".into(),
            content_type: Some(USUAL.as_str().into()),
            ..SentHeaders::default()
        }
    }

    /// As DynamoDB counts them: names, texts, three for a map and one for each member.
    fn bytes(value: &AttributeValue) -> usize {
        match value {
            AttributeValue::S(text) => text.len(),
            AttributeValue::M(map) => {
                let members = map.iter();
                3 + members
                    .map(|(name, value)| 1 + name.len() + bytes(value))
                    .sum::<usize>()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn headers_are_read_back_by_the_number_of_their_attempt() {
        let whole = SentHeaders {
            content_type: None,
            traceparent: Some("00-1-2-01".into()),
            event_signature: Some("sig1=:x:".into()),
            own: vec!["X-Key".into(), "authorization".into()],
            ..usual()
        };
        let json = SentHeaders {
            content_type: Some("application/json".into()),
            ..usual()
        };
        let made = [Some(whole), None, Some(usual()), Some(json)].map(attempt);
        let written = write(&made.each_ref(), 14).unwrap();
        let item = Item::from([(NAME.into(), written.clone())]);
        let mut read_back = made.clone().map(|attempt| Attempt {
            sent: None,
            ..attempt
        });
        read(&item, 14, &mut read_back);
        assert_eq!(read_back, made);

        // A version that keeps none recorded one more, and dropped the oldest.
        let mut later = [attempt(None), attempt(None)];
        read(&item, 15, &mut later);
        assert_eq!([&later[0].sent, &later[1].sent], [&made[3].sent, &None]);
    }

    #[test]
    fn an_attempt_takes_eighty_bytes() {
        let one = attempt(Some(usual()));
        let written = write(&[&one], 1).unwrap();
        assert!(NAME.len() + bytes(&written) <= 85, "{}", bytes(&written));
        assert!(write(&[&attempt(None)], 1).is_none());
    }
}
