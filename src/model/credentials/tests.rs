use proptest::prelude::*;

use super::*;
use crate::model::id::EndpointId;
use crate::model::seal::KeyRing;

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect()
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    let mut credentials = EndpointCredentials::default();
    credentials
        .set_headers(headers(pairs))
        .unwrap_err()
        .to_string()
}

fn bearer(token: &str) -> Option<Auth> {
    Some(Auth::Bearer {
        token: token.into(),
    })
}

fn full() -> EndpointCredentials {
    let mut credentials = EndpointCredentials::default();
    credentials
        .set_headers(headers(&[("X-Api-Key", "s3cret-a"), ("x-b", "s3cret b")]))
        .unwrap();
    credentials
        .set_auth(Some(Auth::Basic {
            username: "s3cret-user".into(),
            password: "s3cret-pässword".into(),
        }))
        .unwrap();
    let certificate = ClientCertificate {
        certificate: "-----BEGIN CERTIFICATE-----".into(),
        private_key: "s3cret-key".into(),
    };
    credentials
        .set_client_certificate(Some(certificate))
        .unwrap();
    credentials
}

#[test]
fn headers_are_sent_as_given_and_shown_by_name() {
    let map = full().header_map();
    assert_eq!(map["x-api-key"], "s3cret-a");
    assert_eq!(map["x-b"], "s3cret b");
    let expected = BASE64.encode("s3cret-user:s3cret-pässword");
    assert_eq!(map["authorization"], format!("Basic {expected}"));
    assert!(map.values().all(HeaderValue::is_sensitive));
    assert!(!format!("{map:?}{:?}", full().redacted()).contains("s3cret"));
    assert_eq!(full().redacted().headers, ["X-Api-Key", "x-b"]);
    assert_eq!(full().spelled_names(), ["X-Api-Key"]);
    let mut credentials = EndpointCredentials::default();
    credentials.set_auth(bearer("abc.def==")).unwrap();
    assert_eq!(
        credentials.header_map()["authorization"],
        "Bearer abc.def=="
    );
}

#[test]
fn debug_shows_no_value() {
    let shown = format!("{:?}", full());
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn what_is_sealed_opens_for_the_same_endpoint_only() {
    let ring = KeyRing::generate("k", [1; 32]).unwrap();
    let (id, other) = (EndpointId::new(0, [1; 10]), EndpointId::new(0, [2; 10]));
    let sealed = full().seal(&ring, [3; 12], &id).unwrap();
    let opened = EndpointCredentials::open(&ring, &id, &sealed).unwrap();
    assert_eq!(opened.header_map(), full().header_map());
    assert_eq!(opened.redacted(), full().redacted());
    let pair = opened.client_certificate().unwrap();
    assert_eq!(pair.private_key.expose_secret(), "s3cret-key");
    assert!(EndpointCredentials::open(&ring, &other, &sealed).is_err());
    assert!(ring.open(id.as_str().as_bytes(), &sealed).is_err());
    assert_eq!(
        EndpointCredentials::default().seal(&ring, [3; 12], &id),
        None
    );
}

#[test]
fn names_that_are_not_the_endpoints_are_refused() {
    for name in RESERVED {
        assert!(refusal(&[(name, "a")]).starts_with(&format!("headers.{name}: expected a header")));
    }
    for name in [
        "Content-Type",
        "content-length",
        "WEBHOOK-signature",
        "webhook-id",
        "Ce-Id",
        "ce-anything",
        "Host",
        "X-Forwarded-For",
    ] {
        assert!(
            refusal(&[(name, "a")]).contains("expected a header"),
            "{name}"
        );
    }
    for name in ["", "a b", "a:", "a\r\nx: y", "ä", "(a)", &"a".repeat(101)] {
        let text = refusal(&[(name, "a")]);
        assert!(text.starts_with("headers.…: expected the name"), "{text}");
    }
    assert!(refusal(&[("x-a", "1"), ("X-A", "2")]).contains("once"));
}

#[test]
fn values_that_could_end_a_header_are_refused() {
    for value in [
        "",
        " a",
        "a ",
        "a\r\nx: y",
        "a\nb",
        "a\0",
        "\u{7f}",
        "ä",
        MASK,
    ] {
        let text = refusal(&[("x-a", value)]);
        assert!(text.starts_with("headers.x-a: expected"), "{text}");
        assert!(value.trim().len() < 2 || !text.contains(value), "{text}");
    }
}

#[test]
fn there_is_a_bound_on_all_of_them() {
    let many: Vec<(String, String)> = (0..21).map(|n| (format!("x-{n}"), "a".into())).collect();
    let many: Vec<_> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert!(
        EndpointCredentials::default()
            .set_headers(headers(&many[..20]))
            .is_ok()
    );
    assert_eq!(refusal(&many), "headers: expected at most 20 headers");
    let long = "a".repeat(8190);
    assert!(refusal(&[("x-a", &long)]).contains("8192 bytes"));
}

#[test]
fn credentials_are_checked_by_name() {
    let refusal = |auth| {
        EndpointCredentials::default()
            .set_auth(auth)
            .unwrap_err()
            .to_string()
    };
    for token in ["", "a b", "a\r\n", "ä", MASK] {
        assert!(refusal(bearer(token)).starts_with("auth.token: "));
    }
    let basic = |username: &str, password: &str| {
        Some(Auth::Basic {
            username: username.into(),
            password: password.into(),
        })
    };
    assert!(refusal(basic("a:b", "c")).starts_with("auth.username: "));
    assert!(refusal(basic("a", "")).starts_with("auth.password: "));
    assert!(refusal(basic("a", "b\n")).starts_with("auth.password: "));
}

#[test]
fn one_authorization_is_enough() {
    let mut credentials = EndpointCredentials::default();
    credentials
        .set_headers(headers(&[("authorization", "Custom x")]))
        .unwrap();
    assert!(credentials.check().is_ok());
    credentials.set_auth(bearer("abc")).unwrap();
    let refused_as_given = {
        let mut credentials = credentials.clone();
        let given = headers(&[("Authorization", "Custom x")]);
        credentials.set_headers(given).unwrap();
        credentials.check()
    };
    assert!(refused_as_given.is_err());
    let refused = credentials.check().unwrap_err().to_string();
    assert_eq!(
        refused,
        "headers.authorization: expected either this or auth, got both"
    );
}

proptest! {
    /// Whatever is accepted becomes exactly as many headers, each one line.
    #[test]
    fn nothing_accepted_is_more_than_its_header(name: String, value: String) {
        let mut credentials = EndpointCredentials::default();
        if credentials.set_headers(headers(&[(&name, &value)])).is_ok() {
            let map = credentials.header_map();
            prop_assert_eq!(map.len(), 1);
            let sent = map.values().next().map(HeaderValue::as_bytes);
            prop_assert_eq!(sent, Some(value.as_bytes()));
            prop_assert!(!value.contains(['\r', '\n', '\0']));
        }
    }
}
