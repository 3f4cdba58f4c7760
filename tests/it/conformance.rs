//! Conformance with other people's libraries: events published by the CloudEvents
//! SDK, and signatures verified by what did not make them.

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloudevents::binding::http::{Builder, Serializer};
use cloudevents::message::{BinaryDeserializer, StructuredDeserializer};
use cloudevents::{Data, Event, EventBuilder, EventBuilderV10};
use http::{HeaderValue, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

/// A request as the SDK's HTTP binding makes it.
struct Publishing(Option<http::request::Builder>);

impl Builder<Request<Body>> for Publishing {
    fn header(&mut self, name: &str, value: HeaderValue) {
        self.0 = self.0.take().map(|builder| builder.header(name, value));
    }

    fn body(&mut self, bytes: Vec<u8>) -> cloudevents::message::Result<Request<Body>> {
        Ok(self.0.take().unwrap().body(bytes.into()).unwrap())
    }

    fn finish(&mut self) -> cloudevents::message::Result<Request<Body>> {
        self.body(vec![])
    }
}

fn publishing(harness: &Harness) -> Serializer<Request<Body>> {
    let builder = Request::post("/v1/events");
    let builder = builder.header("authorization", format!("Bearer {}", harness.key));
    Serializer::new(Publishing(Some(builder)))
}

/// An event with every attribute and `data` of that media type.
fn event(id: &str, media_type: &str, data: impl Into<Data>) -> Event {
    EventBuilderV10::new()
        .id(id)
        .source("https://example.com/billing?a=b")
        .ty("invoice.paid")
        .subject("inv/1042 €")
        .time("2026-01-31T12:00:00.25Z")
        .extension("tenant", "acme")
        .extension("region", "eu")
        .data(media_type, data)
        .build()
        .unwrap()
}

#[test]
fn what_the_sdk_publishes_in_any_mode_arrives_as_it_was() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let events = |mode: &str| {
            [
                event(
                    &format!("{mode}-json"),
                    "application/json",
                    json!({ "total": 12.5 }),
                ),
                event(&format!("{mode}-text"), "text/plain", "paid".to_owned()),
                event(
                    &format!("{mode}-bytes"),
                    "application/octet-stream",
                    vec![0, 255],
                ),
            ]
        };
        let (binary, structured, batch) = (events("binary"), events("structured"), events("batch"));
        for event in binary.clone() {
            let request = BinaryDeserializer::deserialize_binary(event, publishing(&harness));
            let answer = harness.send(request.unwrap()).await;
            answer.expect(StatusCode::ACCEPTED);
        }
        for event in structured.clone() {
            let request =
                StructuredDeserializer::deserialize_structured(event, publishing(&harness));
            let answer = harness.send(request.unwrap()).await;
            answer.expect(StatusCode::ACCEPTED);
        }
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/cloudevents-batch+json")
            .body(serde_json::to_vec(&batch).unwrap().into());
        let answer = harness.send(request.unwrap()).await;
        answer.expect(StatusCode::ACCEPTED);
        harness.drain().await;

        let read = |received: &crate::support::receiver::Received| {
            let event: Event = serde_json::from_slice(&received.body).unwrap();
            event
        };
        let received: Vec<_> = receiver.received().iter().map(read).collect();
        let published = [binary, structured, batch].concat();
        assert_eq!(received.len(), published.len());
        for event in published {
            assert!(
                received.contains(&event),
                "{event:?} is not among {received:?}"
            );
        }
    });
}

#[test]
fn an_ed25519_endpoint_is_verified_with_its_public_key() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let body = json!({ "url": receiver.url, "scheme": "v1a" });
        let endpoint = harness.post("/v1/endpoints", body).await;
        let endpoint = endpoint.expect(StatusCode::CREATED);
        harness.publish("a").await;
        harness.drain().await;

        let received = receiver.only();
        let header = |name| received.header(name);
        let mut signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
        signed.push_str(std::str::from_utf8(&received.body).unwrap());
        let after = |text: &str, prefix: &str| {
            let encoded = text.strip_prefix(prefix).unwrap();
            STANDARD.decode(encoded).unwrap()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let public = after(&text(&endpoint["secret"]), "whpk_");
        let public = ed25519_dalek::VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
        let signature = after(header("webhook-signature"), "v1a,");
        let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
        public.verify_strict(signed.as_bytes(), &signature).unwrap();
        signed.push(' ');
        assert!(public.verify_strict(signed.as_bytes(), &signature).is_err());
    });
}
