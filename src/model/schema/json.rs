//! JSON as schemas look at it: numbers as they are written, members by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::model::number::{Number, NumberTexts};

/// A JSON value. Of members of one name the last one counts.
#[derive(Debug, Clone)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    /// As it is written; [`Number`] can read it.
    Number(Box<str>),
    String(Box<str>),
    Array(Vec<Json>),
    Object(BTreeMap<Box<str>, Json>),
}

impl Json {
    /// Reads a JSON text.
    ///
    /// # Errors
    /// When it is none, is nested more than 128 deep, or has a number that is larger
    /// than a float can be or has an exponent of more than 18 digits.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut numbers = NumberTexts::new(text);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = JsonSeed(&mut numbers).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// What a pointer (RFC 6901) leads to.
    pub(super) fn pointer(&self, pointer: &str) -> Option<&Self> {
        let mut steps = pointer.split('/').skip(1);
        steps.try_fold(self, |value, step| {
            let name = step.replace("~1", "/").replace("~0", "~");
            match value {
                Self::Object(members) => members.get(&*name),
                Self::Array(items) => items.get(name.parse::<usize>().ok()?),
                _ => None,
            }
        })
    }

    /// With its numbers as floats, where they are no integers of 64 bits.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(truth) => Value::Bool(*truth),
            Self::Number(text) => text.parse().map_or(Value::Null, Value::Number),
            Self::String(text) => Value::String(text.to_string()),
            Self::Array(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(members) => {
                let members = members.iter();
                Value::Object(
                    members
                        .map(|(name, value)| (name.to_string(), value.to_value()))
                        .collect(),
                )
            }
        }
    }

    /// Writes what equal values, and no others, have in common.
    pub(super) fn write_key(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, tag: u8, text: &str| {
            out.push(tag);
            out.extend_from_slice(&(text.len() as u64).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        match self {
            Self::Null => out.push(b'n'),
            Self::Boolean(true) => out.push(b't'),
            Self::Boolean(false) => out.push(b'f'),
            Self::Number(number) => text(out, b'd', &self::number(number).to_string()),
            Self::String(string) => text(out, b's', string),
            Self::Array(items) => {
                out.push(b'[');
                items.iter().for_each(|item| item.write_key(out));
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (name, value) in members {
                    text(out, b's', name);
                    value.write_key(out);
                }
                out.push(b'}');
            }
        }
    }

    /// Values within it, itself included, and what its texts add to the steps of
    /// looking at them all.
    pub(super) fn steps(&self) -> u64 {
        let of_text = |text: &str| 1 + text.len() as u64 / 16;
        match self {
            Self::Null | Self::Boolean(_) => 1,
            Self::Number(text) | Self::String(text) => of_text(text),
            Self::Array(items) => 1 + items.iter().map(Self::steps).sum::<u64>(),
            Self::Object(members) => {
                let members = members.iter();
                1 + members
                    .map(|(name, value)| of_text(name) + value.steps())
                    .sum::<u64>()
            }
        }
    }
}

/// By value: `1.0` is `1`.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(one), Self::Boolean(other)) => one == other,
            (Self::Number(one), Self::Number(other)) => {
                one == other || number(one) == number(other)
            }
            (Self::String(one), Self::String(other)) => one == other,
            (Self::Array(one), Self::Array(other)) => one == other,
            (Self::Object(one), Self::Object(other)) => one == other,
            _ => false,
        }
    }
}

/// As it was given, but for whitespace and escapes.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let string = |text: &str| Value::from(text).to_string();
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(truth) => truth.fmt(f),
            Self::Number(text) => f.write_str(text),
            Self::String(text) => f.write_str(&string(text)),
            Self::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "[" } else { "," })?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Self::Object(members) => {
                for (n, (name, value)) in members.iter().enumerate() {
                    let begin = if n == 0 { "{" } else { "," };
                    write!(f, "{begin}{}:{value}", string(name))?;
                }
                f.write_str(if members.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

/// The number in `text`, which was read before.
pub(super) fn number(text: &str) -> Number {
    Number::parse(text).expect("a number is kept only if it can be read")
}

/// Reads a value whose numbers come from their texts.
struct JsonSeed<'s, 'j>(&'s mut NumberTexts<'j>);

impl JsonSeed<'_, '_> {
    fn number<E: Error>(self) -> Result<Json, E> {
        let text = self.0.next().unwrap_or_default();
        if Number::is_readable(text) {
            Ok(Json::Number(text.into()))
        } else {
            Err(E::custom("number out of range"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for JsonSeed<'_, '_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonSeed<'_, '_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json::Boolean(truth))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        self.number()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Json, E> {
        self.number()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        self.number()
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(JsonSeed(self.0))? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = from.next_key::<Box<str>>()? {
            members.insert(name, from.next_value_seed(JsonSeed(self.0))?);
        }
        Ok(Json::Object(members))
    }
}
