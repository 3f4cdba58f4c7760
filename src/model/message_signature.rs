//! The signature of an event's headers, for webhooks whose event is in them: HTTP
//! Message Signatures (RFC 9421).
//!
//! Standard Webhooks signs an id, a time and the body, and no other header. So this
//! signs that id and that time again, which ties the two signatures together, with every
//! header that says something of the event. Neither can be passed off as the other: what
//! is signed here has a line end before its first full stop, and no header that Standard
//! Webhooks signs can hold one.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;

use super::signature::{Scheme, Secret};

/// What ties it to the webhook's own signature.
const OF_THE_WEBHOOK: [&str; 2] = ["webhook-id", "webhook-timestamp"];

/// The fields `Signature-Input` and `Signature` (RFC 9421 §4).
#[derive(Debug, PartialEq, Eq)]
pub struct SignatureFields {
    /// What each signature covers, and how it was made.
    pub input: String,
    /// The signatures.
    pub signature: String,
}

/// Signs `webhook-id`, `webhook-timestamp`, `content-type` and every `ce-` header of
/// `headers`, those that are there, once by each of `secrets`: `sig1`, `sig2` and so on.
///
/// `created_s` is the time of `webhook-timestamp`. Values must be ASCII.
pub fn sign_headers<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    headers: &HeaderMap,
    created_s: i64,
) -> SignatureFields {
    let covered = covered(headers);
    let names = quoted(&covered);
    let lines = lines(headers, &covered);
    let (mut input, mut signature) = (String::new(), String::new());
    for (at, secret) in secrets.into_iter().enumerate() {
        if at > 0 {
            input.push_str(", ");
            signature.push_str(", ");
        }
        let parameters = parameters(&names, created_s, secret.scheme());
        // The signature base (§2.5).
        let base = format!("{lines}\"@signature-params\": {parameters}");
        let signed = BASE64.encode(secret.sign("", base.as_bytes()));
        let label = at + 1;
        // Writing to a string does not fail.
        let _ = write!(input, "sig{label}={parameters}");
        let _ = write!(signature, "sig{label}=:{signed}:");
    }
    SignatureFields { input, signature }
}

/// The field `Signature-Input` that [`sign_headers`] gives for secrets of `schemes`: what
/// was signed can be told again without them.
pub fn signature_input(
    schemes: impl IntoIterator<Item = Scheme>,
    headers: &HeaderMap,
    created_s: i64,
) -> String {
    let names = quoted(&covered(headers));
    let schemes = schemes.into_iter().enumerate();
    let inputs = schemes.map(|(at, scheme)| {
        let parameters = parameters(&names, created_s, scheme);
        format!("sig{}={parameters}", at + 1)
    });
    inputs.collect::<Vec<_>>().join(", ")
}

/// The parameters of a signature (§2.3).
fn parameters(names: &str, created_s: i64, scheme: Scheme) -> String {
    let algorithm = algorithm(scheme);
    format!("({names});created={created_s};alg=\"{algorithm}\"")
}

fn quoted(names: &[&str]) -> String {
    let names = names.iter().map(|name| format!("\"{name}\""));
    names.collect::<Vec<_>>().join(" ")
}

/// The names in the registry of HTTP signature algorithms (§6.2).
fn algorithm(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::V1 => "hmac-sha256",
        Scheme::V1a => "ed25519",
    }
}

/// The names of the headers to be signed, those of the event sorted.
fn covered(headers: &HeaderMap) -> Vec<&str> {
    let names = headers.keys().map(http::HeaderName::as_str);
    let mut of_event: Vec<_> = names
        .filter(|name| *name == "content-type" || name.starts_with("ce-"))
        .collect();
    of_event.sort_unstable();
    let of_webhook = OF_THE_WEBHOOK.into_iter();
    let mut covered: Vec<_> = of_webhook
        .filter(|name| headers.contains_key(*name))
        .collect();
    covered.append(&mut of_event);
    covered
}

/// A line for each header (§2.1).
fn lines(headers: &HeaderMap, covered: &[&str]) -> String {
    let mut lines = String::new();
    for name in covered {
        let values = headers.get_all(*name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let values: Vec<_> = values.map(|value| value.trim().to_owned()).collect();
        let _ = writeln!(lines, "\"{name}\": {}", values.join(", "));
    }
    lines
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ring::hmac;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use secrecy::ExposeSecret;

    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-type", "order.paid"),
            ("x-own", "not signed"),
            ("webhook-timestamp", "1700000000"),
            ("content-type", "application/json"),
            ("ce-id", "1"),
            ("webhook-id", "evt_1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_is_signed_is_the_signature_base_of_the_rfc() {
        let secret = Secret::generate(Scheme::V1, [7; 32]);
        let fields = sign_headers([&secret], &headers(), 1_700_000_000);
        let parameters = r#"("webhook-id" "webhook-timestamp" "ce-id" "ce-type" "content-type");created=1700000000;alg="hmac-sha256""#;
        assert_eq!(fields.input, format!("sig1={parameters}"));
        let base = [
            r#""webhook-id": evt_1"#,
            r#""webhook-timestamp": 1700000000"#,
            r#""ce-id": 1"#,
            r#""ce-type": order.paid"#,
            r#""content-type": application/json"#,
            &format!(r#""@signature-params": {parameters}"#),
        ]
        .join("\n");
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]),
            base.as_bytes(),
        );
        assert_eq!(fields.signature, format!("sig1=:{}:", BASE64.encode(tag)));
    }

    #[test]
    fn each_secret_signs_by_its_own_algorithm() {
        let secrets = [
            Secret::generate(Scheme::V1a, [1; 32]),
            Secret::generate(Scheme::V1, [2; 32]),
        ];
        let fields = sign_headers(&secrets, &headers(), 5);
        let inputs: Vec<_> = fields.input.split(", ").collect();
        assert!(inputs[0].starts_with("sig1=(") && inputs[0].ends_with(r#";alg="ed25519""#));
        assert!(inputs[1].starts_with("sig2=(") && inputs[1].ends_with(r#";alg="hmac-sha256""#));

        let verifier = secrets[0].verifier_text();
        let public = verifier.expose_secret().strip_prefix("whpk_").unwrap();
        let base = format!(
            "{}\"@signature-params\": {}",
            lines(&headers(), &covered(&headers())),
            inputs[0].strip_prefix("sig1=").unwrap()
        );
        let signature = fields.signature.split(", ").next().unwrap();
        let signature = signature.strip_prefix("sig1=:").unwrap();
        UnparsedPublicKey::new(&ED25519, BASE64.decode(public).unwrap())
            .verify(
                base.as_bytes(),
                &BASE64.decode(signature.trim_end_matches(':')).unwrap(),
            )
            .unwrap();
    }

    #[test]
    fn whatever_of_the_event_changes_is_another_signature() {
        let secret = Secret::generate(Scheme::V1, [7; 32]);
        let sign = |headers: &HeaderMap| sign_headers([&secret], headers, 5).signature;
        let whole = sign(&headers());
        for name in ["ce-id", "ce-type", "content-type", "webhook-id"] {
            let mut changed = headers();
            changed.insert(name, HeaderValue::from_static("x"));
            assert_ne!(sign(&changed), whole, "{name}");
            changed.remove(name);
            assert_ne!(sign(&changed), whole, "{name}");
        }
        let mut more = headers();
        more.append("ce-id", HeaderValue::from_static("2"));
        assert_ne!(sign(&more), whole);
        let mut own = headers();
        own.remove("x-own");
        assert_eq!(sign(&own), whole);
    }
}
