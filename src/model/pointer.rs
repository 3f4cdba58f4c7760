//! JSON pointers (RFC 6901) into an event's `data`.
//!
//! Called at accept for every event that a meter counts, so the text is walked
//! as it stands: nothing is built of what lies beside the way, and what is found
//! is given as the publisher wrote it, numbers with all their digits.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::Invalid;

/// How long a pointer may be, in bytes.
const LEN_MAX: usize = 255;
/// How deep a pointer may lead: each step reads the value it starts from once.
const STEPS_MAX: usize = 16;

/// A place in a JSON document: `/items/0/price`, or the empty text for the whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    /// Unescaped.
    steps: Box<[Box<str>]>,
}

impl Pointer {
    /// Reads a pointer in its string form (RFC 6901 §3).
    ///
    /// # Errors
    /// [`Invalid`] without a field: longer than 255 bytes, deeper than 16, not
    /// beginning with `/`, a `~` that is neither `~0` nor `~1`, or a NUL.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > LEN_MAX || text.contains('\0') {
            let detail = format!("expected up to {LEN_MAX} bytes, none of them NUL");
            return Err(Invalid::body(detail));
        }
        let steps = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').map(unescaped).collect::<Result<_, _>>()?,
            None if text.is_empty() => Vec::new(),
            None => return Err(not_one()),
        };
        if steps.len() > STEPS_MAX {
            let detail = format!("expected a JSON pointer of up to {STEPS_MAX} steps");
            return Err(Invalid::body(detail));
        }
        Ok(Self {
            text: text.into(),
            steps: steps.into(),
        })
    }

    /// As [`Pointer::parse`], for the text of `field`, which the error then names.
    ///
    /// # Errors
    /// As [`Pointer::parse`].
    pub fn parse_field(field: impl Into<String>, text: &str) -> Result<Self, Invalid> {
        Self::parse(text).map_err(|invalid| Invalid::new(field.into(), invalid.detail))
    }

    /// The pointer as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The JSON text it leads to in the document `json`; `None` where it leads
    /// nowhere, or `json` is not one. Of members of the same name the last one is
    /// meant. Allocates nothing but for names with escapes.
    pub fn resolve<'a>(&self, json: &'a str) -> Option<&'a str> {
        let whole: &RawValue = serde_json::from_str(json).ok()?;
        let mut found = whole.get();
        for step in &self.steps {
            let mut reader = serde_json::Deserializer::from_str(found);
            found = TokenSeed(step).deserialize(&mut reader).ok()??.get();
        }
        Some(found)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

fn not_one() -> Invalid {
    Invalid::body("expected a JSON pointer (RFC 6901) into data, such as \"/total\"")
}

fn unescaped(step: &str) -> Result<Box<str>, Invalid> {
    let mut out = String::with_capacity(step.len());
    let mut parts = step.split('~');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(not_one()),
        };
        out.push(escaped);
        out.push_str(rest);
    }
    Ok(out.into())
}

/// One step down: the member or element it names, in what is deserialized.
#[derive(Clone, Copy)]
struct TokenSeed<'t>(&'t str);

impl TokenSeed<'_> {
    /// The element it names (RFC 6901 §4): digits without a leading zero.
    fn index(self) -> Option<usize> {
        let is_plain = self.0 == "0" || !self.0.starts_with(['0', '+']);
        self.0.parse().ok().filter(|_| is_plain)
    }
}

impl<'de> DeserializeSeed<'de> for TokenSeed<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

/// What is no object and no array has nothing below: an error, which is no answer
/// either.
impl<'de> Visitor<'de> for TokenSeed<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(MemberNameSeed(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut at) = (None, 0);
        let wanted = self.index();
        loop {
            if wanted == Some(at) {
                found = seq.next_element()?;
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            if wanted == Some(at) && found.is_none() {
                return Ok(None);
            }
            at += 1;
        }
    }
}

/// Whether a member has this name.
struct MemberNameSeed<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for MemberNameSeed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberNameSeed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).unwrap()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6901 §5.
        let document = r#"{ "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3,
            "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8 }"#;
        for (text, expected) in [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(pointer(text).resolve(document), Some(expected), "{text}");
        }
        assert_eq!(pointer("").resolve(document), Some(document));
    }

    #[test]
    fn numbers_keep_their_digits() {
        let document = r#"{"a": [0.10000000000000000000001, 1.50E+2]}"#;
        let at = |text| pointer(text).resolve(document);
        assert_eq!(at("/a/0"), Some("0.10000000000000000000001"));
        assert_eq!(at("/a/1"), Some("1.50E+2"));
    }

    #[test]
    fn a_place_that_is_not_there() {
        let document = r#"{"a": [1, {"b": null}], "c": "text"}"#;
        for text in [
            "/x", "/a/2", "/a/-", "/a/01", "/a/+1", "/a/b", "/c/0", "/a/1/b/c",
        ] {
            assert_eq!(pointer(text).resolve(document), None, "{text}");
        }
        assert_eq!(pointer("/a/1/b").resolve(document), Some("null"));
        assert_eq!(pointer("/a").resolve(""), None);
        assert_eq!(pointer("").resolve("{"), None);
    }

    #[test]
    fn of_members_of_one_name_the_last_is_meant() {
        assert_eq!(
            pointer("/a").resolve(r#"{"a":1,"\u0061":2,"b":3}"#),
            Some("2")
        );
    }

    #[test]
    fn what_is_no_pointer() {
        for text in ["a", "a/b", "/~", "/a~2", "/~/0", "#/a", " /a"] {
            let refused = Pointer::parse(text).unwrap_err().to_string();
            assert!(refused.starts_with("expected a JSON pointer"), "{text}");
        }
        assert!(Pointer::parse(&format!("/{}", "a".repeat(255))).is_err());
        assert!(Pointer::parse("/a\0").is_err());
        assert!(Pointer::parse(&"/a".repeat(16)).is_ok());
        assert!(Pointer::parse(&"/a".repeat(17)).is_err());
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a~/\"\\\\é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a~/\"é01]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// serde_json's own resolver is the model.
        #[test]
        fn it_finds_what_a_tree_would(
            document in documents(),
            text in "(/(a|~0|~1|\"|é|0|1|2|01){0,2}){0,4}",
            is_pretty in any::<bool>(),
        ) {
            let json = if is_pretty {
                serde_json::to_string_pretty(&document).unwrap()
            } else {
                document.to_string()
            };
            let found = pointer(&text).resolve(&json);
            let found = found.map(|text| serde_json::from_str::<Value>(text).unwrap());
            prop_assert_eq!(found.as_ref(), document.pointer(&text));
        }

        #[test]
        fn anything_is_read_or_refused(text in any::<String>(), json in any::<String>()) {
            if let Ok(pointer) = Pointer::parse(&text) {
                prop_assert_eq!(pointer.as_str(), text);
                pointer.resolve(&json);
            }
        }
    }
}
