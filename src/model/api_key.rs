//! API keys: what they may do, and how one is made and recognised.

use ring::digest;
use serde::{Deserialize, Serialize};

use super::id::{base32, is_base32};

/// What a key may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
pub enum Scope {
    /// Publish events, replay them and retry deliveries.
    #[serde(rename = "events:write")]
    EventsWrite,
    /// Read events and deliveries.
    #[serde(rename = "events:read")]
    EventsRead,
    /// Create, change, test and delete endpoints; read and rotate signing secrets.
    #[serde(rename = "endpoints:write")]
    EndpointsWrite,
    /// Read endpoints.
    #[serde(rename = "endpoints:read")]
    EndpointsRead,
    /// Create, change and delete meters.
    #[serde(rename = "meters:write")]
    MetersWrite,
    /// Read meters and usage.
    #[serde(rename = "meters:read")]
    MetersRead,
}

impl Scope {
    /// Every scope, in the order they are shown.
    pub const ALL: [Self; 6] = [
        Self::EventsWrite,
        Self::EventsRead,
        Self::EndpointsWrite,
        Self::EndpointsRead,
        Self::MetersWrite,
        Self::MetersRead,
    ];

    /// `events:write` and so on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventsWrite => "events:write",
            Self::EventsRead => "events:read",
            Self::EndpointsWrite => "endpoints:write",
            Self::EndpointsRead => "endpoints:read",
            Self::MetersWrite => "meters:write",
            Self::MetersRead => "meters:read",
        }
    }

    /// The scope of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What every API key begins with.
pub const PREFIX: &str = "mr_";
/// Characters after the prefix: 256 bits, five each.
const DIGITS: usize = 52;
/// Characters of a key that are shown to tell keys apart: the prefix and 8 more.
const HINT_LEN: usize = PREFIX.len() + 8;

/// A new key's text from 32 random bytes.
pub fn format_key(random: [u8; 32]) -> String {
    format!("{PREFIX}{}", base32(&random))
}

/// Whether `text` has the form of a key: no other is worth a look whether there is one.
pub fn is_key(text: &str) -> bool {
    let digits = text.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == DIGITS && is_base32(digits))
}

/// The beginning of a key, to tell keys apart in lists and logs: 40 of its 256
/// random bits.
pub fn hint(text: &str) -> &str {
    text.get(..HINT_LEN).unwrap_or(text)
}

/// What is stored and looked up in the key's stead. A fast hash is enough: the
/// key has 256 random bits, so there is nothing to guess.
pub fn hash(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_made_has_the_form_of_one_and_nothing_else_has() {
        for random in [
            [0; 32],
            [255; 32],
            [7; 32],
            *b"0123456789abcdefghijklmnopqrstuv",
        ] {
            assert!(is_key(&format_key(random)));
        }
        let key = format_key([7; 32]);
        let digits = &key[PREFIX.len()..];
        for text in [
            "".to_owned(),
            PREFIX.to_owned(),
            digits.to_owned(),
            key.to_uppercase(),
            format!("{key}0"),
            format!("{key} "),
            key[..key.len() - 1].to_owned(),
            format!("mr-{digits}"),
            format!("{PREFIX}{}i", &digits[1..]),
            format!("{PREFIX}{}\u{e9}", &digits[2..]),
            format!("{PREFIX}{}-", &digits[1..]),
        ] {
            assert!(!is_key(&text), "{text}");
        }
    }
}
