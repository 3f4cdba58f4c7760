//! Webhook signatures, as Standard Webhooks 1.0 has them.
//!
//! Owns the text form of signing secrets and the `webhook-signature` header.
//! Called by the API when a secret is made or shown and by the deliver job for
//! every attempt, so whatever signing needs is computed when a secret is parsed.
//! It must not draw randomness (the seed is a parameter) nor keep secrets: they
//! are stored sealed, see [`crate::model::seal`].

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Invalid;

const SYMMETRIC_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
/// How secrets are read: padded or not, as people paste them, and whatever the last
/// bits that are no byte are, which receivers' libraries leave out too.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const PUBLIC_PREFIX: &str = "whpk_";
/// What the specification allows a symmetric secret to be, in bytes.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// An Ed25519 seed, and so a private key without its public half.
const SEED_BYTES: usize = 32;

/// How a webhook is signed.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `v1`: HMAC-SHA256 with a secret that sender and receiver share.
    #[default]
    V1,
    /// `v1a`: Ed25519; the receiver holds only the public key. The usual Standard
    /// Webhooks libraries do not verify it.
    V1a,
}

impl Scheme {
    /// The signature identifier: `v1` or `v1a`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }
}

/// A signing secret, ready to sign.
///
/// Its bytes are wiped when it is dropped, and `Debug` shows only the scheme.
pub struct Secret {
    bytes: SecretSlice<u8>,
    key: SigningKey,
}

enum SigningKey {
    V1(hmac::Key),
    V1a(Box<Ed25519KeyPair>),
}

impl Secret {
    /// The secret of `scheme` that `seed` gives: 32 bytes, which must be random.
    pub fn generate(scheme: Scheme, seed: [u8; SEED_BYTES]) -> Self {
        let bytes = SecretSlice::from(seed.to_vec());
        let key = match scheme {
            Scheme::V1 => SigningKey::V1(hmac::Key::new(hmac::HMAC_SHA256, &seed)),
            Scheme::V1a => SigningKey::V1a(Box::new(
                Ed25519KeyPair::from_seed_unchecked(&seed)
                    .expect("any 32 bytes are an Ed25519 seed"),
            )),
        };
        Self { bytes, key }
    }

    /// Reads `whsec_` and the base64 of 24 to 64 bytes, or `whsk_` and the base64
    /// of an Ed25519 private key: the 32-byte seed, or the 64 bytes of seed and
    /// public key. The base64 is of the standard alphabet, which receivers' libraries
    /// take alone, and padded or not; [`Secret::to_text`] has the canonical form.
    ///
    /// # Errors
    /// [`Invalid`], which names `secret` and never shows it: another prefix,
    /// anything but standard base64, a wrong length, or a public key that
    /// is not the seed's.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(encoded) = text.strip_prefix(SYMMETRIC_PREFIX) {
            Self::parse_v1(encoded)
        } else if let Some(encoded) = text.strip_prefix(PRIVATE_PREFIX) {
            Self::parse_v1a(encoded)
        } else {
            Err(invalid(
                "expected a text that begins with \"whsec_\" or \"whsk_\"",
            ))
        }
    }

    fn parse_v1(encoded: &str) -> Result<Self, Invalid> {
        let bytes = decode(encoded)?;
        if !SYMMETRIC_BYTES.contains(&bytes.len()) {
            return Err(invalid(
                "expected \"whsec_\" and the base64 of 24 to 64 bytes",
            ));
        }
        Ok(Self {
            key: SigningKey::V1(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
            bytes: SecretSlice::from(bytes.to_vec()),
        })
    }

    fn parse_v1a(encoded: &str) -> Result<Self, Invalid> {
        let bytes = decode(encoded)?;
        let (seed, public) = match bytes.len() {
            32 | 64 => bytes.split_at(SEED_BYTES),
            _ => {
                return Err(invalid(
                    "expected \"whsk_\" and the base64 of a 32-byte seed, alone or with its public key",
                ));
            }
        };
        let pair = if public.is_empty() {
            Ed25519KeyPair::from_seed_unchecked(seed)
        } else {
            Ed25519KeyPair::from_seed_and_public_key(seed, public)
        }
        .map_err(|_| invalid("expected the public key in \"whsk_\" to be the seed's"))?;
        Ok(Self {
            key: SigningKey::V1a(Box::new(pair)),
            bytes: SecretSlice::from(seed.to_vec()),
        })
    }

    /// Whether it is the same secret. Not in constant time: both are known here.
    pub fn is_same(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && self.bytes.expose_secret() == other.bytes.expose_secret()
    }

    /// How it signs.
    pub fn scheme(&self) -> Scheme {
        match self.key {
            SigningKey::V1(_) => Scheme::V1,
            SigningKey::V1a(_) => Scheme::V1a,
        }
    }

    /// The private text, which [`Secret::parse`] reads: `whsec_…` or `whsk_…`.
    ///
    /// A `whsk_` holds the seed alone, the form the reference libraries sign with.
    pub fn to_text(&self) -> SecretString {
        let prefix = match self.key {
            SigningKey::V1(_) => SYMMETRIC_PREFIX,
            SigningKey::V1a(_) => PRIVATE_PREFIX,
        };
        encode(prefix, self.bytes.expose_secret())
    }

    /// What the receiver needs to verify: the shared `whsec_…` (as private as
    /// [`Secret::to_text`]) or the public key, `whpk_…`.
    pub fn verifier_text(&self) -> SecretString {
        match &self.key {
            SigningKey::V1(_) => self.to_text(),
            SigningKey::V1a(pair) => encode(PUBLIC_PREFIX, pair.public_key().as_ref()),
        }
    }

    /// The signature of `prefix` and `body`, as one message.
    pub(super) fn sign(&self, prefix: &str, body: &[u8]) -> Signature {
        match &self.key {
            SigningKey::V1(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(prefix.as_bytes());
                context.update(body);
                Signature::V1(context.sign())
            }
            // Ed25519 hashes the message twice, so it must be in one piece.
            SigningKey::V1a(pair) => Signature::V1a(pair.sign(&[prefix.as_bytes(), body].concat())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, [REDACTED])", self.scheme().as_str())
    }
}

/// A signature by a [`Secret`]: its bytes.
pub(super) enum Signature {
    V1(hmac::Tag),
    V1a(ring::signature::Signature),
}

impl AsRef<[u8]> for Signature {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::V1(tag) => tag.as_ref(),
            Self::V1a(signature) => signature.as_ref(),
        }
    }
}

/// The `webhook-signature` header of one attempt.
///
/// One signature for each of `secrets`, in their order, separated by spaces:
/// several while a secret is being rotated. What is signed is
/// `{webhook_id}.{timestamp_s}.{body}`, where `timestamp_s` is the attempt's Unix
/// time and `webhook_id` must not contain a full stop.
pub fn signature_header<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    webhook_id: &str,
    timestamp_s: i64,
    body: &[u8],
) -> String {
    let prefix = format!("{webhook_id}.{timestamp_s}.");
    let mut header = String::with_capacity(96);
    for secret in secrets {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str(secret.scheme().as_str());
        header.push(',');
        BASE64.encode_string(secret.sign(&prefix, body), &mut header);
    }
    header
}

/// The schemes of the signatures in a `webhook-signature` header, in their order.
pub fn schemes_of_header(header: &str) -> impl Iterator<Item = Scheme> {
    header
        .split(' ')
        .filter_map(|one| match one.split_once(',')? {
            ("v1", _) => Some(Scheme::V1),
            ("v1a", _) => Some(Scheme::V1a),
            _ => None,
        })
}

fn decode(encoded: &str) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    // The decoder's own error would quote a byte of the secret.
    LENIENT
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| invalid("expected standard base64 after the prefix"))
}

fn encode(prefix: &str, bytes: &[u8]) -> SecretString {
    // Room for all of it at once: a String that grew would leave copies behind.
    let mut text = String::with_capacity(prefix.len() + bytes.len().div_ceil(3) * 4);
    text.push_str(prefix);
    BASE64.encode_string(bytes, &mut text);
    SecretString::from(text)
}

fn invalid(detail: &'static str) -> Invalid {
    Invalid::new("secret", detail)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP_S: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const V1: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const V1_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const V1A: &str = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=";
    const V1A_SIGNATURE: &str = "v1a,tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==";

    fn parse(text: &str) -> Secret {
        Secret::parse(text).unwrap()
    }

    fn refusal(text: &str) -> String {
        Secret::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_published_vectors_come_out() {
        let (v1, v1a) = (parse(V1), parse(V1A));
        let sign = |secret| signature_header([secret], ID, TIMESTAMP_S, BODY);
        assert_eq!(sign(&v1), V1_SIGNATURE);
        assert_eq!(sign(&v1a), V1A_SIGNATURE);
    }

    #[test]
    fn rotation_sends_every_signature_in_order() {
        let header = signature_header([&parse(V1A), &parse(V1)], ID, TIMESTAMP_S, BODY);
        assert_eq!(header, format!("{V1A_SIGNATURE} {V1_SIGNATURE}"));
        assert_eq!(signature_header([], ID, TIMESTAMP_S, BODY), "");
    }

    #[test]
    fn the_reference_library_accepts_a_generated_secret() {
        let old = Secret::generate(Scheme::V1, [1; 32]);
        let new = Secret::generate(Scheme::V1, [2; 32]);
        let now_s = jiff::Timestamp::now().as_second();
        let header = signature_header([&new, &old], ID, now_s, BODY);

        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", ID.parse().unwrap());
        headers.insert("webhook-timestamp", now_s.into());
        headers.insert("webhook-signature", header.parse().unwrap());
        for secret in [old, new] {
            let text = secret.verifier_text();
            let verifier = standardwebhooks::Webhook::new(text.expose_secret()).unwrap();
            verifier.verify(BODY, &headers).unwrap();
            assert!(verifier.verify(b"{}", &headers).is_err());
        }
    }

    #[test]
    fn the_public_key_verifies_v1a() {
        let secret = Secret::generate(Scheme::V1a, [3; 32]);
        let header = signature_header([&secret], ID, TIMESTAMP_S, BODY);
        let verifier = secret.verifier_text();
        let public = verifier.expose_secret().strip_prefix("whpk_").unwrap();
        let message = [format!("{ID}.{TIMESTAMP_S}.").as_bytes(), BODY].concat();
        UnparsedPublicKey::new(&ED25519, BASE64.decode(public).unwrap())
            .verify(
                &message,
                &BASE64.decode(header.strip_prefix("v1a,").unwrap()).unwrap(),
            )
            .unwrap();
    }

    #[test]
    fn text_reads_back() {
        for scheme in [Scheme::V1, Scheme::V1a] {
            let secret = Secret::generate(scheme, [4; 32]);
            let text = secret.to_text();
            let again = parse(text.expose_secret());
            assert_eq!(again.scheme(), scheme);
            assert_eq!(again.to_text().expose_secret(), text.expose_secret());
        }
        assert_eq!(parse(V1).to_text().expose_secret(), V1);
    }

    #[test]
    fn a_private_key_may_carry_its_public_key() {
        let seed = [5; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let long = |public: &[u8]| format!("whsk_{}", BASE64.encode([&seed, public].concat()));
        let secret = parse(&long(pair.public_key().as_ref()));
        let short = secret.to_text();
        assert_eq!(
            short.expose_secret(),
            format!("whsk_{}", BASE64.encode(seed))
        );
        assert_eq!(
            refusal(&long(&[6; 32])),
            "secret: expected the public key in \"whsk_\" to be the seed's"
        );
    }

    #[test]
    fn what_is_not_a_secret_is_refused_without_showing_it() {
        let of = |prefix, len| format!("{prefix}{}", BASE64.encode(vec![0; len]));
        for len in [0, 23, 65] {
            assert!(refusal(&of("whsec_", len)).contains("24 to 64 bytes"));
        }
        for len in [0, 31, 33, 63, 65] {
            assert!(refusal(&of("whsk_", len)).contains("32-byte seed"));
        }
        assert!(Secret::parse(&of("whsec_", 24)).is_ok());
        assert!(Secret::parse(&of("whsec_", 64)).is_ok());
        assert!(refusal(&of("", 32)).contains("begins with"));
        assert!(refusal(&of("whpk_", 32)).contains("begins with"));
        for no_base64 in [
            "whsec_a",
            "whsec_ä",
            "whsec_MfKQ 9r8",
            "whsk_=",
            "whsk_a=b",
            "whsec_-_-_",
        ] {
            let refused = refusal(no_base64);
            assert_eq!(refused, "secret: expected standard base64 after the prefix");
        }
    }

    #[test]
    fn a_secret_is_read_padded_or_not() {
        for (prefix, bytes) in [("whsec_", vec![0xfb; 32]), ("whsk_", vec![0xff; 32])] {
            let canonical = format!("{prefix}{}", BASE64.encode(&bytes));
            let unpadded = canonical.trim_end_matches('=');
            assert_ne!(canonical, unpadded);
            for given in [&*canonical, unpadded] {
                assert_eq!(parse(given).to_text().expose_secret(), canonical);
            }
        }
        // The last four bits are no byte: receivers' libraries leave them out.
        let random = format!("whsec_{}Z", "Zz9".repeat(11));
        let text = parse(&random).to_text();
        assert_eq!(
            parse(text.expose_secret()).to_text().expose_secret(),
            text.expose_secret()
        );
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", parse(V1)), "Secret(v1, [REDACTED])");
        assert_eq!(format!("{:?}", parse(V1A)), "Secret(v1a, [REDACTED])");
    }

    #[test]
    fn schemes_are_spelled_as_in_the_header() {
        for scheme in [Scheme::V1, Scheme::V1a] {
            let json = serde_json::to_value(scheme).unwrap();
            assert_eq!(json, scheme.as_str());
        }
    }
}
