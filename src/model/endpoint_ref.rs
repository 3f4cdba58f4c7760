//! What a request names an endpoint by: the id it was given here, or the one its
//! owner gave it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::EndpointId;

/// Characters of a uid.
const UID_LEN_MAX: usize = 256;

/// The id that an endpoint has from its owner: unique among the endpoints of its
/// project that are not deleted. Never the text of an [`EndpointId`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = "^[A-Za-z0-9._-]+$")]
pub struct EndpointUid(Box<str>);

/// Not an [`EndpointUid`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "expected 1 to 256 characters of A-Z a-z 0-9 . _ -, which do not begin with \"ep_\" \
     and are more than dots"
)]
pub struct InvalidUid;

impl EndpointUid {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointUid {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let is_uid = (1..=UID_LEN_MAX).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with(EndpointId::PREFIX)
            // Clients take these out of a path (RFC 3986 §5.2.4).
            && !matches!(text, "." | "..");
        is_uid.then(|| Self(text.into())).ok_or(InvalidUid)
    }
}

impl TryFrom<String> for EndpointUid {
    type Error = InvalidUid;

    fn try_from(text: String) -> Result<Self, InvalidUid> {
        text.parse()
    }
}

impl From<EndpointUid> for String {
    fn from(uid: EndpointUid) -> Self {
        uid.0.into()
    }
}

impl fmt::Display for EndpointUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An endpoint, by its id or its uid.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum EndpointRef {
    /// `ep_…`.
    Id(EndpointId),
    /// As its owner named it.
    Uid(EndpointUid),
}

/// Not an [`EndpointRef`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected the id of an endpoint, \"ep_…\", or its uid")]
pub struct InvalidRef;

impl FromStr for EndpointRef {
    type Err = InvalidRef;

    fn from_str(text: &str) -> Result<Self, InvalidRef> {
        let id = text.parse().map(Self::Id);
        id.or_else(|_| text.parse().map(Self::Uid).map_err(|_| InvalidRef))
    }
}

impl TryFrom<String> for EndpointRef {
    type Error = InvalidRef;

    fn try_from(text: String) -> Result<Self, InvalidRef> {
        text.parse()
    }
}

impl fmt::Display for EndpointRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Uid(uid) => uid.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_never_taken_for_an_id() {
        let id = EndpointId::new(1, [1; 10]);
        assert_eq!(id.as_str().parse(), Ok(EndpointRef::Id(id)));
        for uid in [
            "a",
            "customer-42",
            "A.b_c-1",
            "...",
            "EP_1",
            "a..",
            &"u".repeat(256),
        ] {
            let named: EndpointRef = uid.parse().unwrap();
            assert!(matches!(&named, EndpointRef::Uid(_)), "{uid}");
            assert_eq!(named.to_string(), uid);
        }
        for neither in [
            "",
            ".",
            "..",
            "ep_",
            "ep_1",
            "a b",
            "a/b",
            "é",
            "a\n",
            &"u".repeat(257),
        ] {
            assert_eq!(neither.parse::<EndpointRef>(), Err(InvalidRef), "{neither}");
        }
    }
}
