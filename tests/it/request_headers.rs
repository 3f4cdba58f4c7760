//! The headers of each attempt's request, kept as they were sent: what a person is shown
//! is held against what the receiver got.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use http::StatusCode;
use millrace::store::keys;
use serde_json::{Value, json};

use crate::support::fixtures::{create_endpoint, endpoint_path, items_of, only_delivery};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Received, Receiver, Reply};

/// Headers of the endpoint's own, whose values nobody is shown.
const OWN: [&str; 3] = ["X-Api-Key", "x-env", "authorization"];

async fn endpoint(harness: &Harness, receiver: &Receiver, body_format: &str) -> Value {
    let body = json!({
        "url": receiver.url,
        "body_format": body_format,
        "headers": { "X-Api-Key": "s3cret-key", "x-env": "s3cret-env" },
        "auth": { "type": "bearer", "token": "s3cret-token" },
    });
    create_endpoint(harness, body).await
}

/// That `shown` is what was received, but for secrets and what is of the connection.
fn assert_as_received(shown: &Value, received: &Received) {
    let shown = shown.as_object().expect("headers are kept");
    let of = |name: &str| {
        let mut shown = shown.iter();
        let found = shown.find(|(shown, _)| shown.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str().unwrap())
    };
    for name in received.headers.keys() {
        let name = name.as_str();
        if ["host", "content-length"].contains(&name) {
            assert_eq!(of(name), None);
        } else if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            assert_eq!(of(name), Some("***"), "{name}");
        } else {
            assert_eq!(of(name), Some(received.header(name)), "{name}");
        }
    }
    assert_eq!(shown.len(), received.headers.len() - 2);
    for own in OWN {
        assert!(shown.contains_key(own), "as it is spelled: {own}");
    }
}

/// What each attempt of the event's only delivery is shown to have sent: alike wherever
/// the delivery is one of its event's.
async fn shown(harness: &Harness, event: &str) -> Vec<Value> {
    let delivery = only_delivery(harness, event).await;
    let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
    let alone = harness.get(&path).await.expect(StatusCode::OK);
    assert_eq!(alone, delivery);
    let path = format!("/v1/deliveries?event_id={event}");
    let listed = harness.get(&path).await.expect(StatusCode::OK);
    assert_eq!(listed["data"][0], delivery);
    assert!(!delivery.to_string().contains("s3cret"));
    let attempts = delivery["attempts"].as_array().unwrap().iter();
    attempts.map(|one| one["request_headers"].clone()).collect()
}

#[test]
fn what_each_attempt_sent_is_shown_in_both_formats_and_no_secret() {
    run(async {
        for body_format in ["cloudevents", "data"] {
            let harness = Harness::new().await;
            let receiver = Receiver::start([Reply::Status(500)]).await;
            let made = endpoint(&harness, &receiver, body_format).await;
            let event = json!({
                "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid",
                "subject": "Zürich 7", "tenant": "acme", "data": { "n": 1 },
            });
            let event = harness.publish_body(event).await;
            harness.drain().await;
            // Two secrets sign the second.
            let rotate = format!("{}/rotate-secret", endpoint_path(&made));
            let rotated = harness.post(&rotate, json!({ "scheme": "v1a" })).await;
            rotated.expect(StatusCode::OK);
            let delivery = only_delivery(&harness, &event).await;
            let path = format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap());
            let retried = harness.post(&path, Value::Null).await;
            retried.expect(StatusCode::ACCEPTED);
            harness.drain().await;

            let (received, shown) = (receiver.received(), shown(&harness, &event).await);
            assert_eq!((received.len(), shown.len()), (2, 2));
            for (shown, received) in shown.iter().zip(&received) {
                assert_as_received(shown, received);
            }
            let signed = |at: usize| shown[at]["webhook-signature"].as_str().unwrap();
            assert!(!signed(0).contains("v1a,") && signed(1).contains("v1a,"));

            // A list that is of no event has no headers of one, and the others all the same.
            let path = format!(
                "/v1/deliveries?endpoint_id={}",
                made["id"].as_str().unwrap()
            );
            let listed = harness.get(&path).await.expect(StatusCode::OK);
            let headers = &listed["data"][0]["attempts"][1]["request_headers"];
            assert_eq!(headers["webhook-signature"], shown[1]["webhook-signature"]);
            assert_eq!(headers["ce-type"], Value::Null);
        }
    });
}

#[test]
fn an_attempt_of_an_earlier_version_has_none_and_the_others_keep_theirs() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        endpoint(&harness, &receiver, "cloudevents").await;
        let event = harness.publish("a").await;
        harness.drain().await;
        forget_headers(&harness, &event).await;
        assert_eq!(shown(&harness, &event).await, [Value::Null]);
        let delivery = only_delivery(&harness, &event).await;
        let path = format!("/v1/deliveries/{}/retry", delivery["id"].as_str().unwrap());
        harness
            .post(&path, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let shown = shown(&harness, &event).await;
        assert_eq!(shown[0], Value::Null);
        assert_as_received(&shown[1], &receiver.received()[1]);
    });
}

/// Makes the event's only delivery one that an earlier version attempted.
async fn forget_headers(harness: &Harness, event: &str) {
    let dynamo = &harness.app.dynamo;
    let item = delivery_item(harness, event).await;
    let key = ["pk", "sk"].map(|name| (name.to_owned(), item[name].clone()));
    let update = dynamo.client.update_item().table_name(&dynamo.table);
    let update = update.set_key(Some(HashMap::from(key)));
    update
        .update_expression("remove sent")
        .send()
        .await
        .unwrap();
}

/// The item of the event's only delivery.
async fn delivery_item(harness: &Harness, event: &str) -> HashMap<String, AttributeValue> {
    let items = items_of(&harness.app.dynamo, event).await.into_iter();
    let mut deliveries = items.filter(|item| {
        let sort = item["sk"].as_s().unwrap();
        keys::endpoint_of_delivery(sort).is_some()
    });
    deliveries.next().unwrap()
}

/// What DynamoDB counts of an item: names and values.
fn bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
        AttributeValue::L(values) => 3 + values.iter().map(|one| 1 + bytes(one)).sum::<usize>(),
        AttributeValue::M(map) => {
            let members = map.iter();
            3 + members
                .map(|(name, one)| 1 + name.len() + bytes(one))
                .sum::<usize>()
        }
        _ => 1,
    }
}

#[test]
fn a_first_success_takes_one_write_unit_as_before() {
    run(async {
        let harness = Harness::new().await;
        let answer = Reply::With {
            status: 200,
            header: ("x-any", "1"),
            body: "a".repeat(1000),
        };
        let receiver = Receiver::start([answer]).await;
        endpoint(&harness, &receiver, "cloudevents").await;
        let body = json!({ "type": "order.paid", "tenant": "a-customer-of-ours", "data": {} });
        let event = harness.publish_body(body).await;
        harness.drain().await;
        let delivery = delivery_item(&harness, &event).await;
        let size: usize = delivery
            .iter()
            .map(|(name, value)| name.len() + bytes(value))
            .sum();
        assert!(delivery.contains_key("sent") && size < 1024, "{size} bytes");
    });
}
