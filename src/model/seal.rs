//! Sealing what Postgres and DynamoDB hold of endpoint secrets: AES-256-GCM.
//!
//! Owns the key ring's JSON and the layout of a sealed value. Called by the
//! store's callers before a secret is written and after it is read. It must not
//! draw nonces (they are parameters) nor know where the ring comes from.
//!
//! A sealed value is, byte for byte:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | layout version: 1 |
//! | 1 | length of the key id |
//! | n | key id, ASCII |
//! | 12 | nonce |
//! | rest | ciphertext, then the 16-byte tag |

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::Value;

use crate::error::Invalid;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// Shorter than the base64 of a key, so that a key put in an id's place is
/// refused before an error could quote it.
const KID_LEN_MAX: usize = 32;

/// The keys that seal and open: one primary, and those it replaced.
///
/// To rotate, add a key, make it `primary`, and keep the old one until everything
/// has been sealed again. `Debug` shows only key ids.
pub struct KeyRing {
    primary: Box<str>,
    keys: BTreeMap<Box<str>, SealingKey>,
}

struct SealingKey {
    bytes: SecretSlice<u8>,
    aead: LessSafeKey,
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not a sealed value: truncated, or of another layout version.
    #[error("sealed value is malformed")]
    Malformed,
    /// The key that sealed it is no longer in the ring.
    #[error("sealed with key \"{0}\", which is not in the key ring")]
    UnknownKey(String),
    /// It was changed, or sealed for something else.
    #[error("sealed value does not authenticate")]
    Unauthentic,
}

impl KeyRing {
    /// Reads `{"primary": "<key id>", "keys": {"<key id>": "<base64 of 32 bytes>"}}`.
    ///
    /// A key id is 1 to 32 characters of `A-Z a-z 0-9 . _ -`.
    ///
    /// # Errors
    /// [`Invalid`], which names the field and never shows a key.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        let ring: Value = serde_json::from_str(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Invalid::body(format!(
                "expected JSON, found a syntax error at line {line}, column {column}"
            ))
        })?;
        let fields = ring
            .as_object()
            .ok_or_else(|| Invalid::body("expected a JSON object with \"primary\" and \"keys\""))?;
        if fields
            .keys()
            .any(|name| name != "primary" && name != "keys")
        {
            return Err(Invalid::body(
                "expected no fields but \"primary\" and \"keys\"",
            ));
        }
        let keys = ring["keys"]
            .as_object()
            .ok_or_else(|| Invalid::new("keys", "expected an object of key ids and keys"))?
            .iter()
            .map(|(kid, key)| Ok((parse_kid("keys", kid)?, parse_key(kid, key)?)))
            .collect::<Result<BTreeMap<_, _>, Invalid>>()?;
        let primary = ring["primary"]
            .as_str()
            .ok_or_else(|| Invalid::new("primary", "expected the id of the key that seals"))?;
        let primary = parse_kid("primary", primary)?;
        if !keys.contains_key(&primary) {
            return Err(Invalid::new(
                "primary",
                format!("expected the id of one of keys, which has no \"{primary}\""),
            ));
        }
        Ok(Self { primary, keys })
    }

    /// A ring of one key: `key` must be random.
    ///
    /// # Errors
    /// [`Invalid`] when `kid` is not a key id, see [`KeyRing::parse`].
    pub fn generate(kid: &str, key: [u8; KEY_BYTES]) -> Result<Self, Invalid> {
        let primary = parse_kid("primary", kid)?;
        let keys = BTreeMap::from([(primary.clone(), SealingKey::new(&key))]);
        Ok(Self { primary, keys })
    }

    /// The JSON that [`KeyRing::parse`] reads.
    pub fn to_json(&self) -> SecretString {
        let keys: BTreeMap<&str, String> = self
            .keys
            .iter()
            .map(|(kid, key)| (&**kid, BASE64.encode(key.bytes.expose_secret())))
            .collect();
        let json = serde_json::json!({"primary": self.primary, "keys": keys});
        SecretString::from(json.to_string())
    }

    /// Seals `plaintext` with the primary key.
    ///
    /// `nonce` must be random and never used twice. `aad` says what the value
    /// belongs to (an endpoint's id); only the same `aad` opens it.
    pub fn seal(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let key = &self.keys[&self.primary];
        let mut body = plaintext.to_vec();
        key.aead
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut body,
            )
            .expect("a plaintext in memory is shorter than GCM's limit of 64 GiB");
        let kid = self.primary.as_bytes();
        let kid_len = u8::try_from(kid.len()).expect("key ids are at most 32 bytes");
        [&[VERSION, kid_len], kid, &nonce, &body].concat()
    }

    /// Opens what [`KeyRing::seal`] sealed for the same `aad`, with any key.
    ///
    /// # Errors
    /// Every [`OpenError`].
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<SecretSlice<u8>, OpenError> {
        let SealedParts { kid, nonce, body } = split(sealed).ok_or(OpenError::Malformed)?;
        let key = self
            .keys
            .get(kid)
            .ok_or_else(|| OpenError::UnknownKey(kid.to_owned()))?;
        let mut buffer = Zeroizing::new(body.to_vec());
        let plaintext = key
            .aead
            .open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad),
                &mut buffer,
            )
            .map_err(|_| OpenError::Unauthentic)?;
        Ok(SecretSlice::from(plaintext.to_vec()))
    }

    /// Whether `sealed` is no longer sealed with the primary key, and should be
    /// sealed again.
    pub fn is_stale(&self, sealed: &[u8]) -> bool {
        split(sealed).is_none_or(|parts| *parts.kid != *self.primary)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("primary", &self.primary)
            .field("keys", &self.keys.keys())
            .finish()
    }
}

impl SealingKey {
    fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 keys are 32 bytes");
        Self {
            bytes: SecretSlice::from(bytes.to_vec()),
            aead: LessSafeKey::new(key),
        }
    }
}

fn parse_kid(field: &'static str, kid: &str) -> Result<Box<str>, Invalid> {
    let is_kid = (1..=KID_LEN_MAX).contains(&kid.len())
        && kid
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    if is_kid {
        Ok(kid.into())
    } else {
        Err(Invalid::new(
            field,
            "expected key ids of 1 to 32 characters of A-Z a-z 0-9 . _ -",
        ))
    }
}

/// Called once `kid` is known to be an id, so that an error may quote it.
fn parse_key(kid: &str, key: &Value) -> Result<SealingKey, Invalid> {
    let bytes = key
        .as_str()
        .and_then(|text| BASE64.decode(text).ok())
        .map(Zeroizing::new);
    match bytes
        .as_deref()
        .map(|bytes| <&[u8; KEY_BYTES]>::try_from(&**bytes))
    {
        Some(Ok(bytes)) => Ok(SealingKey::new(bytes)),
        _ => Err(Invalid::new(
            format!("keys.{kid}"),
            "expected the padded standard base64 of 32 bytes",
        )),
    }
}

/// What is sealed, taken apart.
struct SealedParts<'a> {
    kid: &'a str,
    nonce: [u8; NONCE_LEN],
    /// The ciphertext with its tag.
    body: &'a [u8],
}

fn split(sealed: &[u8]) -> Option<SealedParts<'_>> {
    let ([VERSION, kid_len], rest) = sealed.split_first_chunk()? else {
        return None;
    };
    let (kid, rest) = rest.split_at_checked(usize::from(*kid_len))?;
    let (nonce, body) = rest.split_first_chunk()?;
    if body.len() < AES_256_GCM.tag_len() {
        return None;
    }
    Some(SealedParts {
        kid: std::str::from_utf8(kid).ok()?,
        nonce: *nonce,
        body,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AAD: &[u8] = b"ep_1";

    fn ring(kid: &str, byte: u8) -> KeyRing {
        KeyRing::generate(kid, [byte; 32]).unwrap()
    }

    fn json(primary: &str, keys: &[(&str, u8)]) -> String {
        let keys: BTreeMap<_, _> = keys
            .iter()
            .map(|(kid, byte)| (*kid, BASE64.encode([*byte; 32])))
            .collect();
        serde_json::json!({"primary": primary, "keys": keys}).to_string()
    }

    fn refusal(json: &str) -> String {
        KeyRing::parse(json).unwrap_err().to_string()
    }

    #[test]
    fn what_is_sealed_opens() {
        let sealed = ring("k1", 1).seal([9; 12], AAD, b"whsec_x");
        assert_eq!(sealed[..4], [1, 2, b'k', b'1']);
        assert_eq!(sealed[4..16], [9; 12]);
        assert_eq!(sealed.len(), 16 + 7 + 16);
        let opened = ring("k1", 1).open(AAD, &sealed).unwrap();
        assert_eq!(opened.expose_secret(), b"whsec_x");
    }

    #[test]
    fn after_rotation_the_old_key_opens_and_the_new_one_seals() {
        let old = ring("k1", 1).seal([9; 12], AAD, b"secret");
        let both = KeyRing::parse(&json("k2", &[("k1", 1), ("k2", 2)])).unwrap();
        assert_eq!(both.open(AAD, &old).unwrap().expose_secret(), b"secret");
        assert!(both.is_stale(&old));
        let new = both.seal([8; 12], AAD, b"secret");
        assert!(!both.is_stale(&new));
        assert!(ring("k2", 2).open(AAD, &new).is_ok());
    }

    #[test]
    fn another_aad_or_key_does_not_open() {
        let sealed = ring("k1", 1).seal([9; 12], AAD, b"secret");
        let open = |ring: KeyRing, aad: &[u8]| ring.open(aad, &sealed).unwrap_err();
        assert_eq!(open(ring("k1", 1), b"ep_2"), OpenError::Unauthentic);
        assert_eq!(open(ring("k1", 2), AAD), OpenError::Unauthentic);
        assert_eq!(
            open(ring("k2", 1), AAD).to_string(),
            "sealed with key \"k1\", which is not in the key ring"
        );
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_is_noticed() {
        let ring = ring("k1", 1);
        let sealed = ring.seal([9; 12], AAD, b"secret");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(ring.open(AAD, &changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(ring.open(AAD, &sealed[..at]).is_err(), "cut at {at}");
        }
        assert_eq!(
            ring.open(AAD, &sealed[..31]).unwrap_err(),
            OpenError::Malformed
        );
    }

    #[test]
    fn json_reads_back() {
        let both = KeyRing::parse(&json("k2", &[("k1", 1), ("k2", 2)])).unwrap();
        let text = both.to_json();
        assert_eq!(text.expose_secret(), json("k2", &[("k1", 1), ("k2", 2)]));
    }

    #[test]
    fn errors_name_the_field() {
        assert_eq!(
            refusal("{"),
            "expected JSON, found a syntax error at line 1, column 1"
        );
        assert_eq!(
            refusal("[]"),
            "expected a JSON object with \"primary\" and \"keys\""
        );
        assert_eq!(
            refusal(r#"{"primary":"a"}"#),
            "keys: expected an object of key ids and keys"
        );
        assert_eq!(
            refusal(r#"{"keys":{}}"#),
            "primary: expected the id of the key that seals"
        );
        assert_eq!(
            refusal(&json("b", &[("a", 1)])),
            "primary: expected the id of one of keys, which has no \"b\""
        );
        assert_eq!(
            refusal(r#"{"primary":"a","keys":{"a":"AAAA"}}"#),
            "keys.a: expected the padded standard base64 of 32 bytes"
        );
        assert!(
            refusal(r#"{"primary":"a","keys":{},"x":1}"#).starts_with("expected no fields but")
        );
        assert!(KeyRing::generate("a b", [0; 32]).is_err());
    }

    #[test]
    fn no_error_or_debug_shows_a_key() {
        let key = BASE64.encode([7; 32]);
        for json in [
            format!("\"{key}\""),
            format!(r#"{{"primary":"{key}","keys":{{}}}}"#),
            format!(r#"{{"primary":"a","keys":"{key}"}}"#),
            format!(r#"{{"primary":"a","keys":{{"{key}":"a"}}}}"#),
            format!(r#"{{"primary":"a","keys":{{"a":"{key}{key}"}}}}"#),
            format!(r#"{{"primary":"a","keys":{{"a":"{key}"}},"{key}":0}}"#),
            format!(r#"{{"primary":"a","keys":{{"a":{key}}}}}"#),
        ] {
            assert!(!refusal(&json).contains(&key[..8]), "{json}");
        }
        assert_eq!(
            format!("{:?}", ring("k1", 7)),
            r#"KeyRing { primary: "k1", keys: ["k1"] }"#
        );
    }

    proptest! {
        #[test]
        fn opening_anything_does_not_panic(sealed in any::<Vec<u8>>()) {
            prop_assert!(ring("k1", 1).open(AAD, &sealed).is_err());
        }

        #[test]
        fn any_plaintext_comes_back(plaintext: Vec<u8>, aad: Vec<u8>, nonce: [u8; 12]) {
            let ring = ring("k1", 1);
            let opened = ring.open(&aad, &ring.seal(nonce, &aad, &plaintext)).unwrap();
            prop_assert_eq!(opened.expose_secret(), &plaintext[..]);
        }
    }
}
