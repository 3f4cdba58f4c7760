//! The JSON event format: one event (`application/cloudevents+json`) or a batch
//! of them (`application/cloudevents-batch+json`).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Attribute, AttributeScalar, Data, Draft, limit};
use super::rules::{self, capped};
use super::{BATCH_EVENTS_MAX, EVENT_BYTES_MAX, Event};
use crate::error::{Error, Invalid, Result};

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
        .map_err(|error| not_json("a JSON array of CloudEvents", &error))?;
    match events.len() {
        ..=BATCH_EVENTS_MAX => Ok(events),
        len => Err(Error::TooLarge(
            format!("the batch: expected at most {BATCH_EVENTS_MAX} events, got {len}").into(),
        )),
    }
}

/// The members of an event's JSON object, before any rule.
pub(super) struct Members<'a> {
    pub attributes: Vec<(Cow<'a, str>, Member<'a>)>,
    pub data: Option<&'a RawValue>,
}

/// What stands where an attribute's value is expected.
pub(super) enum Member<'a> {
    Null,
    Scalar(AttributeScalar<'a>),
    /// A value no attribute can have, in words.
    NotAScalar(&'static str),
}

/// The members of the object that `json` must be.
pub(super) fn members(json: &[u8]) -> Result<Members<'_>, Invalid> {
    serde_json::from_str(utf8(json)?).map_err(|error| not_json("a CloudEvent in JSON", &error))
}

/// Sorts members into attributes and data; a null attribute is an absent one.
pub(super) fn draft(mut members: Members<'_>) -> Result<Draft<'_>, Invalid> {
    members
        .attributes
        .sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    rules::check_once(members.attributes.iter().map(|(name, _)| &**name))?;
    let mut data = members.data.map_or(Data::None, Data::Json);
    let mut attributes = Vec::with_capacity(members.attributes.len());
    for (name, member) in members.attributes {
        match member {
            Member::Null => {}
            Member::NotAScalar(got) => return Err(rules::not_a_scalar(&name, got)),
            Member::Scalar(value) if name == "data_base64" => {
                data = Data::Binary(base64(&data, &value)?.into());
            }
            Member::Scalar(value) => attributes.push(Attribute { name, value }),
        }
    }
    Ok(Draft { attributes, data })
}

/// Attributes and place of `data` of a body we wrote: `data`, if any, ends it.
///
/// `data_base64` stays among the attributes, undecoded.
pub(super) fn parse_trusted(body: &[u8]) -> Result<TrustedParts<'_>, Invalid> {
    let members = members(body)?;
    let data = members.data.map(|json| {
        let end = body.len() - 1;
        end - json.get().len()..end
    });
    let attributes = members.attributes.into_iter().filter_map(|(name, member)| {
        let Member::Scalar(value) = member else {
            return None;
        };
        Some(Attribute { name, value })
    });
    Ok((attributes.collect(), data))
}

type TrustedParts<'a> = (Vec<Attribute<'a>>, Option<Range<usize>>);

fn base64(data: &Data<'_>, value: &AttributeScalar<'_>) -> Result<Vec<u8>, Invalid> {
    match (data, value) {
        (Data::None, AttributeScalar::String(text)) => STANDARD.decode(&**text).map_err(|error| {
            let detail = format!("expected Base64 with padding (RFC 4648 §4): {error}");
            Invalid::new("data_base64", detail)
        }),
        (Data::None, _) => Err(Invalid::new(
            "data_base64",
            "expected a string, got a number or Boolean",
        )),
        _ => Err(Invalid::new(
            "data_base64",
            "expected either this or data, got both (JSON event format §3.1.1)",
        )),
    }
}

fn utf8(json: &[u8]) -> Result<&str, Invalid> {
    std::str::from_utf8(json).map_err(|error| {
        Invalid::body(format!(
            "expected UTF-8, got another byte at offset {}",
            error.valid_up_to()
        ))
    })
}

fn not_json(expected: &str, error: &serde_json::Error) -> Invalid {
    Invalid::body(format!(
        "expected {expected}: {}",
        capped(&error.to_string())
    ))
}

/// A string borrowed from the JSON text where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members {
            attributes: Vec::with_capacity(12),
            data: None,
        };
        while let Some(Text(name)) = map.next_key()? {
            if name != "data" {
                members.attributes.push((name, map.next_value()?));
            } else if members.data.replace(map.next_value()?).is_some() {
                return Err(de::Error::duplicate_field("data"));
            }
        }
        Ok(members)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MemberVisitor)
    }
}

struct MemberVisitor;

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute's value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Member<'de>, E> {
        Ok(Member::Null)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Member<'de>, E> {
        Ok(Member::Scalar(AttributeScalar::Boolean(truth)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Member<'de>, E> {
        Ok(integer(number.try_into().ok()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Member<'de>, E> {
        Ok(integer(number.try_into().ok()))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Member<'de>, E> {
        Ok(Member::NotAScalar("a number with a fraction or exponent"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Member<'de>, E> {
        Ok(Member::Scalar(AttributeScalar::String(
            text.to_owned().into(),
        )))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Member<'de>, E> {
        Ok(Member::Scalar(AttributeScalar::String(text.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Member<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::NotAScalar("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Member<'de>, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::NotAScalar("an object"))
    }
}

fn integer<'a>(number: Option<i32>) -> Member<'a> {
    number.map_or(Member::NotAScalar("an integer beyond 32 bits"), |number| {
        Member::Scalar(AttributeScalar::Integer(number))
    })
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
