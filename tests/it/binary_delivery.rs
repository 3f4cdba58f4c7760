//! Webhooks in binary mode (`body_format` `data`): their body and its label, and the
//! signature of the headers that hold the event.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::fixtures::{create_endpoint, endpoint_path, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Received, Receiver};

/// An endpoint that gets data alone, and its receiver.
async fn data_endpoint(harness: &Harness) -> (Value, Receiver) {
    let receiver = Receiver::start([]).await;
    let body = json!({ "url": receiver.url, "body_format": "data" });
    (create_endpoint(harness, body).await, receiver)
}

/// Publishes a CloudEvent of these attributes and data, and what was sent of it.
async fn deliver(harness: &Harness, receiver: &Receiver, attributes: Value) -> Received {
    let before = receiver.received().len();
    let mut event = json!({
        "specversion": "1.0", "id": before.to_string(), "source": "/shop", "type": "order.paid",
    });
    let attributes = attributes.as_object().unwrap().clone();
    event.as_object_mut().unwrap().extend(attributes);
    harness.publish_body(event).await;
    harness.drain().await;
    receiver.received()[before].clone()
}

/// Whether `secret` signed the headers, as a receiver finds out.
fn is_genuine(secret: &str, headers: &HeaderMap) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap());
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap());
    let text = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        let values = values.iter().map(|value| value.to_str().unwrap());
        values.collect::<Vec<_>>().join(", ")
    };
    let signatures = text("signature");
    text("signature-input").split(", ").any(|input| {
        let (label, parameters) = input.split_once('=').unwrap();
        let (names, _) = parameters[1..].split_once(')').unwrap();
        let covered: Vec<_> = names
            .split(' ')
            .map(|name| name.trim_matches('"'))
            .collect();
        let mut base: String = covered
            .iter()
            .map(|name| format!("\"{name}\": {}\n", text(name)))
            .collect();
        base.push_str(&format!("\"@signature-params\": {parameters}"));
        let signature = signatures
            .split(", ")
            .find_map(|one| one.strip_prefix(&format!("{label}=:"))?.strip_suffix(':'))
            .unwrap();
        let is_all = headers.keys().map(http::HeaderName::as_str).all(|name| {
            let is_of_event = name.starts_with("ce-") || name == "content-type";
            !is_of_event || covered.contains(&name)
        });
        let is_of_webhook = ["webhook-id", "webhook-timestamp"]
            .iter()
            .all(|name| covered.contains(name));
        let signature = STANDARD.decode(signature).unwrap();
        let is_signed = hmac::verify(&key, base.as_bytes(), &signature).is_ok();
        is_all && is_of_webhook && is_signed
    })
}

#[test]
fn no_header_of_an_event_can_be_forged() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (endpoint, receiver) = data_endpoint(&harness).await;
        let secret = endpoint["secret"].as_str().unwrap();
        let attributes = json!({ "subject": "Zürich 7", "tenant": "acme", "data": { "n": 1 } });
        let received = deliver(&harness, &receiver, attributes).await;
        let headers = &received.headers;
        assert!(is_genuine(secret, headers));
        let webhook = standardwebhooks::Webhook::new(secret).unwrap();
        webhook.verify(&received.body, headers).unwrap();

        for name in [
            "ce-type",
            "ce-id",
            "ce-source",
            "ce-specversion",
            "ce-subject",
            "ce-tenant",
            "content-type",
            "webhook-id",
            "webhook-timestamp",
        ] {
            let mut forged = headers.clone();
            forged.insert(name, HeaderValue::from_static("forged"));
            assert!(!is_genuine(secret, &forged), "{name} changed");
            let mut forged = headers.clone();
            forged.append(name, HeaderValue::from_static("forged"));
            assert!(!is_genuine(secret, &forged), "{name} twice");
            forged.remove(name);
            assert!(!is_genuine(secret, &forged), "{name} left out");
        }
        let mut forged = headers.clone();
        forged.insert("ce-admin", HeaderValue::from_static("true"));
        assert!(!is_genuine(secret, &forged), "one more");

        // All that Millrace adds for itself may come and go.
        let mut other = headers.clone();
        other.remove("user-agent");
        assert!(is_genuine(secret, &other));
    });
}

#[test]
fn each_secret_in_force_signs_the_headers() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (endpoint, receiver) = data_endpoint(&harness).await;
        let path = format!("{}/rotate-secret", endpoint_path(&endpoint));
        let rotated = harness.post(&path, json!({})).await.expect(StatusCode::OK);
        let received = deliver(&harness, &receiver, json!({ "data": 1 })).await;
        for secret in [&endpoint["secret"], &rotated["secret"]] {
            assert!(is_genuine(secret.as_str().unwrap(), &received.headers));
        }
        assert!(!is_genuine(
            &format!("whsec_{}", STANDARD.encode([9; 32])),
            &received.headers
        ));
    });
}

#[test]
fn the_whole_event_needs_no_signature_of_its_headers() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        create_endpoint(&harness, json!({ "url": receiver.url })).await;
        let received = deliver(&harness, &receiver, json!({ "data": 1 })).await;
        assert!(!received.headers.contains_key("signature-input"));
        assert!(!received.headers.contains_key("signature"));
    });
}

#[test]
fn an_event_without_data_is_sent_without_content() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (endpoint, receiver) = data_endpoint(&harness).await;
        for attributes in [json!({}), json!({ "datacontenttype": "application/json" })] {
            let received = deliver(&harness, &receiver, attributes).await;
            assert_eq!(received.header("content-length"), "0");
            assert!(!received.headers.contains_key("content-type"));
            assert!(!received.headers.contains_key("transfer-encoding"));
            let secret = endpoint["secret"].as_str().unwrap();
            assert!(is_genuine(secret, &received.headers));
            let webhook = standardwebhooks::Webhook::new(secret).unwrap();
            webhook.verify(b"", &received.headers).unwrap();
        }
    });
}

#[test]
fn text_is_sent_in_the_charset_its_label_names() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (_, receiver) = data_endpoint(&harness).await;
        for (written, data, sent) in [
            (
                "text/plain; charset=iso-8859-1",
                "Zürich",
                "text/plain; charset=utf-8",
            ),
            (
                "text/plain; charset=\"UTF-16\"; a=b",
                "a",
                "text/plain; a=b; charset=utf-8",
            ),
            (
                "text/plain; charset=utf-8",
                "Zürich",
                "text/plain; charset=utf-8",
            ),
            ("text/plain", "Zürich", "text/plain"),
            (
                "application/xml",
                "<?xml version='1.0' encoding='ISO-8859-1'?><a>ü</a>",
                "application/xml; charset=utf-8",
            ),
        ] {
            let attributes = json!({ "datacontenttype": written, "data": data });
            let received = deliver(&harness, &receiver, attributes).await;
            assert_eq!(received.header("content-type"), sent);
            assert_eq!(received.body, data.as_bytes());
        }
        // What came as bytes goes as those bytes.
        let latin1 = STANDARD.encode(b"Z\xfcrich");
        let attributes = json!({
            "datacontenttype": "text/plain; charset=iso-8859-1", "data_base64": latin1,
        });
        let received = deliver(&harness, &receiver, attributes).await;
        assert_eq!(
            received.header("content-type"),
            "text/plain; charset=iso-8859-1"
        );
        assert_eq!(&*received.body, b"Z\xfcrich");
    });
}

#[test]
fn json_in_base64_is_delivered_as_json() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (_, receiver) = data_endpoint(&harness).await;
        let whole = Receiver::start([]).await;
        create_endpoint(&harness, json!({ "url": whole.url })).await;
        for content_type in [Value::Null, "application/vnd.shop+json; v=1".into()] {
            let attributes = json!({
                "datacontenttype": content_type, "data_base64": STANDARD.encode("{\"n\": 1.50}"),
            });
            let received = deliver(&harness, &receiver, attributes).await;
            let sent_as = content_type.as_str().unwrap_or("application/json");
            assert_eq!(received.header("content-type"), sent_as);
            assert_eq!(&*received.body, b"{\"n\": 1.50}");
            let event = whole.received().pop().unwrap();
            assert!(
                event.body.ends_with(b",\"data\":{\"n\": 1.50}}"),
                "{event:?}"
            );
        }
    });
}

#[test]
fn json_that_was_kept_in_base64_is_sent_again_as_json() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        create_endpoint(&harness, json!({ "url": receiver.url })).await;
        let attributes = json!({ "subject": "7", "data": { "n": 1 } });
        let first = deliver(&harness, &receiver, attributes).await;
        // As an earlier version kept it.
        let body = std::str::from_utf8(&first.body).unwrap();
        let kept = body.replace("\"data\":{\"n\":1}", "\"data_base64\":\"eyJuIjoxfQ==\"");
        assert_ne!(kept, body);
        let id = first.header("webhook-id");
        let dynamo = &harness.app.dynamo;
        let update = dynamo.client.update_item().table_name(&dynamo.table);
        update
            .key("pk", AttributeValue::S(id.to_owned()))
            .key("sk", AttributeValue::S("event".into()))
            .update_expression("set body = :body")
            .expression_attribute_values(":body", AttributeValue::S(kept))
            .send()
            .await
            .unwrap();

        let shown = harness.get(&format!("/v1/events/{id}")).await;
        let shown = shown.expect(StatusCode::OK);
        assert_eq!(shown["event"]["data"], json!({ "n": 1 }));
        let replay = format!("/v1/events/{id}/replay");
        let replayed = harness.post(&replay, json!({})).await;
        replayed.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let again = receiver.received().pop().unwrap();
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("webhook-id"), id);
    });
}
