//! Typed identifiers, with the prefix users see.
//!
//! Every id is `<prefix>_` and lower-case Crockford base32. Random ids begin
//! with the creation time in milliseconds, so they sort by age; an event's id is
//! derived from what the publisher calls it, and a delivery's id spells out its
//! event and endpoint, so that neither needs a look-up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters after the prefix of a random id: 128 bits.
const RANDOM_LEN: usize = 26;
/// Characters after `evt_`: 160 bits of SHA-256.
const EVENT_LEN: usize = 32;

/// A string that is not an id of the kind asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an id that begins with \"{prefix}\" and has {len} more characters of 0-9 a-z")]
pub struct InvalidId {
    prefix: &'static str,
    len: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(Box<str>);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The id as users see it, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The part after the prefix.
            pub fn suffix(&self) -> &str {
                &self.0[$prefix.len()..]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match text.strip_prefix($prefix) {
                    Some(rest) if rest.len() == $len && is_base32(rest) => Ok(Self(text.into())),
                    _ => Err(InvalidId { prefix: $prefix, len: $len }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An event: `evt_` and 160 bits derived from project, source and CloudEvent id.
    EventId, "evt_", EVENT_LEN
);
id!(
    /// A project: one environment of the startup.
    ProjectId, "prj_", RANDOM_LEN
);
id!(
    /// An endpoint: one URL of a customer.
    EndpointId, "ep_", RANDOM_LEN
);
id!(
    /// An API key's public name; the key itself is never an id.
    KeyId, "key_", RANDOM_LEN
);
id!(
    /// A meter: one way to count events.
    MeterId, "mtr_", RANDOM_LEN
);
id!(
    /// A recovery: a job that resends, or archives, page by page.
    RecoveryId, "rec_", RANDOM_LEN
);
id!(
    /// An erasure: a job that deletes what is kept of a project, a tenant or an event.
    ErasureId, "ers_", RANDOM_LEN
);
id!(
    /// One event to one endpoint: `dlv_`, the event's suffix, the endpoint's suffix.
    DeliveryId, "dlv_", EVENT_LEN + RANDOM_LEN
);

macro_rules! random {
    ($($name:ident),*) => {$(
        impl $name {
            /// A new id: 48 bits of `now_ms`, then 80 bits of `random`.
            pub fn new(now_ms: i64, random: [u8; 10]) -> Self {
                Self(format!("{}{}", Self::PREFIX, timed(now_ms, random)).into())
            }
        }
    )*};
}
random!(ProjectId, EndpointId, KeyId, MeterId, RecoveryId, ErasureId);

impl EventId {
    /// The id of the event that `project` publishes as `id` from `source`.
    ///
    /// The same three always give the same id (CloudEvents 1.0 §3.1: source and
    /// id together identify an event), and no other three give it, short of a
    /// SHA-256 collision in 160 bits.
    pub fn derive(project: &ProjectId, source: &str, id: &str) -> Self {
        let digest = digest(&[project.as_str(), source, id]);
        Self(format!("{}{}", Self::PREFIX, base32(&digest.as_ref()[..20])).into())
    }

    /// The id of the event that a key for `tenant` alone publishes: another than what
    /// anybody else gets for the same `source` and `id`, so that no tenant takes one
    /// away from others, or learns that it is taken.
    pub fn derive_of_tenant(project: &ProjectId, tenant: &str, source: &str, id: &str) -> Self {
        let digest = digest(&[project.as_str(), source, id, tenant]);
        Self(format!("{}{}", Self::PREFIX, base32(&digest.as_ref()[..20])).into())
    }
}

impl RecoveryId {
    /// The id of what is done once for `occasion` in `project`: the same two
    /// always give the same id.
    pub fn derive(project: &ProjectId, occasion: &str) -> Self {
        let digest = digest(&[project.as_str(), occasion]);
        Self(format!("{}{}", Self::PREFIX, base32(&digest.as_ref()[..16])).into())
    }
}

fn digest(parts: &[&str]) -> ring::digest::Digest {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        // The length first, or ("a", "bc") and ("ab", "c") would be one event.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish()
}

impl DeliveryId {
    /// The delivery of `event` to `endpoint`.
    pub fn new(event: &EventId, endpoint: &EndpointId) -> Self {
        Self(format!("{}{}{}", Self::PREFIX, event.suffix(), endpoint.suffix()).into())
    }

    /// The event delivered.
    pub fn event(&self) -> EventId {
        EventId(format!("{}{}", EventId::PREFIX, &self.suffix()[..EVENT_LEN]).into())
    }

    /// The endpoint delivered to.
    pub fn endpoint(&self) -> EndpointId {
        EndpointId(format!("{}{}", EndpointId::PREFIX, &self.suffix()[EVENT_LEN..]).into())
    }
}

/// Whether `text` is made of the digits of [`base32`] alone.
pub fn is_base32(text: &str) -> bool {
    text.bytes().all(|b| ALPHABET.contains(&b))
}

fn timed(now_ms: i64, random: [u8; 10]) -> String {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&now_ms.max(0).to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random);
    base32(&bytes)
}

/// `bytes` in Crockford base32, big-endian, so that text sorts as the bytes do.
pub fn base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0u16, 0u8);
    for byte in bytes {
        buffer = (buffer << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[usize::from((buffer >> bits) & 31)]));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(char::from(
            ALPHABET[usize::from((buffer << (5 - bits)) & 31)],
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> ProjectId {
        ProjectId::new(1, [7; 10])
    }

    #[test]
    fn an_event_id_depends_on_where_source_ends() {
        let a = EventId::derive(&project(), "a", "bc");
        assert_eq!(a, EventId::derive(&project(), "a", "bc"));
        assert_ne!(a, EventId::derive(&project(), "ab", "c"));
        assert_eq!(a.as_str().parse(), Ok(a));
    }

    #[test]
    fn a_delivery_id_spells_its_event_and_endpoint() {
        let event = EventId::derive(&project(), "s", "1");
        let endpoint = EndpointId::new(2, [9; 10]);
        let delivery = DeliveryId::new(&event, &endpoint);
        assert_eq!(delivery.event(), event);
        assert_eq!(delivery.endpoint(), endpoint);
        assert_eq!(delivery.as_str().parse(), Ok(delivery));
    }

    #[test]
    fn random_ids_sort_by_time() {
        assert!(ProjectId::new(1, [255; 10]) < ProjectId::new(2, [0; 10]));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        assert!("ep_".parse::<EndpointId>().is_err());
        assert!(project().as_str().parse::<EndpointId>().is_err());
        assert!(
            "prj_0000000000000000000000000U"
                .parse::<ProjectId>()
                .is_err()
        );
    }
}
