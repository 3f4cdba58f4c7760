//! The members of an event's JSON object: read from a request or a stored body, and
//! sorted into attributes and data.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Attribute, AttributeScalar, Data, Draft};
use super::media::MediaType;
use super::text::Text;
use super::{fingerprint, rules};
use crate::error::{Invalid, Result};
use crate::model::parse_error::{of_document, utf8};

/// The members of an event's JSON object, before any rule.
pub(super) struct Members<'a> {
    pub attributes: Vec<(Cow<'a, str>, Member<'a>)>,
    pub data: Option<&'a RawValue>,
}

/// What stands where an attribute's value is expected.
pub(super) enum Member<'a> {
    Null,
    Scalar(AttributeScalar<'a>),
    /// The description of a value that no attribute can have.
    NotAScalar(&'static str),
}

/// The members of the object that `json` must be.
pub(super) fn members(json: &[u8]) -> Result<Members<'_>, Invalid> {
    serde_json::from_str(utf8(json)?).map_err(|error| of_document("a CloudEvent in JSON", &error))
}

/// Sorts members into attributes and data; a null attribute is an absent one, and JSON
/// in Base64 is the JSON that it is.
pub(super) fn draft(mut members: Members<'_>) -> Result<Draft<'_>, Invalid> {
    members
        .attributes
        .sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    rules::check_once(members.attributes.iter().map(|(name, _)| &**name))?;
    let mut data = members
        .data
        .map_or(Data::None, |json| Data::Json(Cow::Borrowed(json)));
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
    let mut draft = Draft { attributes, data };
    if let Data::Binary(bytes) = &draft.data
        && let Some(json) = json_in(draft.text("datacontenttype"), bytes)
    {
        draft.data = Data::Json(Cow::Owned(json.to_owned()));
    }
    Ok(draft)
}

/// The JSON that `bytes` of this content type are, which without one may be JSON (JSON
/// event format §3.1). What says so and is none stays what it is: bytes.
fn json_in<'b>(content_type: Option<&str>, bytes: &'b [u8]) -> Option<&'b RawValue> {
    let may_be_json = content_type.is_none_or(MediaType::text_is_json);
    may_be_json.then(|| fingerprint::json_in(bytes)).flatten()
}

/// Attributes and place of `data` of a body we wrote: `data`, if any, ends it.
///
/// `data_base64` stays among the attributes, undecoded.
pub(super) fn parse_trusted(body: &[u8]) -> Result<CanonicalParts<'_>, Invalid> {
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
    Ok(CanonicalParts {
        attributes: attributes.collect(),
        data,
    })
}

/// A canonical body, taken apart.
pub(super) struct CanonicalParts<'a> {
    pub attributes: Vec<Attribute<'a>>,
    /// Where in the body `data` is.
    pub data: Option<Range<usize>>,
}

fn base64(data: &Data<'_>, value: &AttributeScalar<'_>) -> Result<Vec<u8>, Invalid> {
    match (data, value) {
        (Data::None, AttributeScalar::String(text)) => STANDARD.decode(&**text).map_err(|_| {
            let detail = "expected Base64 with padding (RFC 4648 §4)";
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
