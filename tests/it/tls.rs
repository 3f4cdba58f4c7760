//! Mutual TLS: endpoints that let in only who shows a certificate of theirs.

use http::StatusCode;
use millrace::config::Config;
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::Receiver;

/// Trusts `authority` as well; the file is there as long as the directory.
fn trusting(authority: &Authority) -> (Config, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = harness::config();
    config.delivery.ca_file = directory.path().join("ca.pem");
    std::fs::write(&config.delivery.ca_file, &authority.pem).unwrap();
    (config, directory)
}

async fn attempt(harness: &Harness, event: &str, endpoint: &Value) -> Value {
    let fetched = harness.get(&format!("/v1/events/{event}")).await;
    let fetched = fetched.expect(StatusCode::OK);
    let deliveries = fetched["deliveries"].as_array().unwrap();
    let of = |delivery: &&Value| delivery["endpoint_id"] == endpoint["id"];
    deliveries.iter().find(of).unwrap()["attempts"][0].clone()
}

#[test]
fn an_endpoint_is_called_with_its_own_certificate_and_no_other() {
    run(async {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let (config, _directory) = trusting(&authority);
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start_tls(authority.acceptor(), []).await;
        let create = async |certificate: Value| {
            let body = json!({ "url": receiver.url, "client_certificate": certificate });
            let answer = harness.post("/v1/endpoints", body).await;
            answer.expect(StatusCode::CREATED)
        };
        let ours = authority.certify("millrace.example");
        let with = create(ours.json()).await;
        let without = create(Value::Null).await;
        let other = create(stranger.certify("millrace.example").json()).await;
        for _ in 0..2 {
            harness.publish("a").await;
        }
        let event = harness.publish("a").await;
        harness.drain().await;

        assert_eq!(receiver.received().len(), 3, "of the one that is let in");
        assert_eq!(attempt(&harness, &event, &with).await["status"], 200);
        for refused in [&without, &other] {
            let attempt = attempt(&harness, &event, refused).await;
            assert_eq!(attempt["status"], Value::Null);
            let error = attempt["error"].as_str().unwrap();
            // In TLS 1.3 the receiver refuses when the handshake is over on this side;
            // its reason may be lost with the connection.
            let expected = error.starts_with("TLS failed: ") || error.contains("closed");
            assert!(expected, "{error}");
        }

        // What is shown is no secret, and taking the certificate away is enough.
        let sha256 = with["client_certificate"]["sha256"].as_str().unwrap();
        assert_eq!(sha256.len(), 64);
        assert!(!with.to_string().contains("BEGIN"));
        let path = format!("/v1/endpoints/{}", with["id"].as_str().unwrap());
        let changed = harness
            .patch(&path, json!({ "client_certificate": null }))
            .await;
        assert_eq!(
            changed.expect(StatusCode::OK)["client_certificate"],
            Value::Null
        );
        harness.publish("b").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 3);
    });
}

#[test]
fn a_certificate_of_no_use_is_refused_by_its_part() {
    run(async {
        let harness = Harness::new().await;
        let authority = Authority::new();
        let (one, two) = (authority.certify("a"), authority.certify("b"));
        let refusal = async |certificate: &str, key: &str| {
            let body = json!({
                "url": "https://example.com",
                "client_certificate": { "certificate": certificate, "private_key": key },
            });
            harness.post("/v1/endpoints", body).await.problem(400)
        };
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let long = "a".repeat(20_000);
        let mut refusals = String::new();
        for (certificate, key) in [
            ("", one.private_key.as_str()),
            ("no PEM", &one.private_key),
            (garbage, &one.private_key),
            (&one.certificate, "no PEM"),
            (&one.certificate, &one.certificate),
            (&one.certificate, &two.private_key),
            (&long, &one.private_key),
            (&one.certificate, &long),
        ] {
            refusals.push_str(&format!("{}\n", refusal(certificate, key).await));
        }
        insta::assert_snapshot!(refusals, @r"
        invalid: client_certificate.certificate: expected 1 to 10 certificates in PEM
        invalid: client_certificate.certificate: expected 1 to 10 certificates in PEM
        invalid: client_certificate.certificate: expected X.509 certificates
        invalid: client_certificate.private_key: expected an unencrypted private key in PEM
        invalid: client_certificate.private_key: expected an unencrypted private key in PEM
        invalid: client_certificate.private_key: expected the key of the first certificate
        invalid: client_certificate.certificate: expected at most 16384 bytes
        invalid: client_certificate.private_key: expected at most 16384 bytes
        ");
    });
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA"] {
        std::fs::write(&file, text).unwrap();
        let mut config = harness::config();
        config.delivery.ca_file = file.clone();
        let unstarted = Harness::builder().config(config).without_postgres().app();
        let error = unstarted.unwrap_err().to_string();
        assert!(error.starts_with("delivery.ca_file: "), "{error}");
    }
}
