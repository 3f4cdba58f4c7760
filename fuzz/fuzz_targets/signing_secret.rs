//! Signing secrets and the signatures of Standard Webhooks made with them. An
//! input is a secret on a line, then a body.
#![no_main]

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use millrace::model::signature::{Secret, signature_header};
use millrace_fuzz::line_and_rest;
use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey};
use secrecy::ExposeSecret;

const ID: &str = "msg_1";
const TIMESTAMP_S: i64 = 1_700_000_000;

/// A text for each way to be no secret. What is said of any other is said of one
/// of these, and so tells nothing of it.
static REFUSALS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let not_its_key = format!("whsk_{}", STANDARD.encode([0; 64]));
    let texts = ["", "whsec_-", "whsec_", "whsk_-", "whsk_", &not_its_key];
    let refused = texts.map(|text| Secret::parse(text).expect_err(text).detail);
    refused.map(|detail| detail.into_owned()).into()
});

fuzz_target!(|input: &[u8]| {
    let Some((text, body)) = line_and_rest(input) else {
        return;
    };
    let secret = match Secret::parse(text) {
        Ok(secret) => secret,
        Err(invalid) => {
            assert_eq!(invalid.field.as_deref(), Some("secret"));
            assert!(REFUSALS.iter().any(|detail| *detail == invalid.detail));
            return;
        }
    };
    let written = secret.to_text();
    let again = Secret::parse(written.expose_secret()).expect("what is written is read");
    assert_eq!(again.to_text().expose_secret(), written.expose_secret());
    assert!(!format!("{secret:?}").contains(text));

    let one = signature_header([&secret], ID, TIMESTAMP_S, body.as_bytes());
    let two = signature_header([&again, &secret], ID, TIMESTAMP_S, body.as_bytes());
    assert_eq!(two, format!("{one} {one}"));
    let verifier = secret.verifier_text();
    let message = format!("{ID}.{TIMESTAMP_S}.{body}");
    assert!(verifies(verifier.expose_secret(), &one, &message));
    assert!(!verifies(
        verifier.expose_secret(),
        &one,
        &format!("{message}.")
    ));
});

/// Whether a receiver that holds `verifier` takes `signature` for the message's.
fn verifies(verifier: &str, signature: &str, message: &str) -> bool {
    let decoded = |text: &str| STANDARD.decode(text).expect("it is Base64");
    let (scheme, signature) = signature.split_once(',').expect("a scheme stands before");
    let (kind, key) = verifier.split_once('_').expect("a kind stands before");
    let (signature, key) = (decoded(signature), decoded(key));
    match (kind, scheme) {
        ("whsec", "v1") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            hmac::verify(&key, message.as_bytes(), &signature).is_ok()
        }
        ("whpk", "v1a") => UnparsedPublicKey::new(&ED25519, key)
            .verify(message.as_bytes(), &signature)
            .is_ok(),
        other => panic!("{other:?}"),
    }
}
