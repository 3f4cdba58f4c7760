//! What has expired and is still there, as DynamoDB deletes it within days: it is as if
//! it were not there.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Body;
use http::{Request, StatusCode};
use millrace::app;
use millrace::store::dynamo::Dynamo;
use serde_json::{Value, json};

use crate::support::fixtures::{only_delivery, project_endpoints, sum_meter};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

/// Lets the time of all items in a partition be over.
async fn expire(dynamo: &Dynamo, pk: &str) {
    let items = dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
        .send()
        .await
        .unwrap();
    let now = AttributeValue::N(app::now().as_second().to_string());
    for item in items.items() {
        let key = ["pk", "sk"].map(|name| (name.to_owned(), item[name].clone()));
        dynamo
            .client
            .update_item()
            .table_name(&dynamo.table)
            .set_key(Some(HashMap::from(key)))
            .update_expression("set #ttl = :now")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", now.clone())
            .send()
            .await
            .unwrap();
    }
}

/// Publishes an event of a fixed id with `n` in its data.
async fn publish(harness: &Harness, n: u32) -> Value {
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/", "type": "order.paid", "data": { "n": n },
    });
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {}", harness.key))
        .header("content-type", "application/cloudevents+json")
        .body(Body::from(event.to_string()));
    let answer = harness.send(request.unwrap()).await;
    answer.expect(StatusCode::ACCEPTED)
}

#[test]
fn an_event_beyond_its_retention_is_not_there() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let published = publish(&harness, 1).await;
        let event = published["id"].as_str().unwrap();
        harness.drain().await;
        let delivery = only_delivery(&harness, event).await["id"].clone();
        let delivery = delivery.as_str().unwrap();
        let lists = [
            "/v1/events".to_owned(),
            "/v1/events?type=order.paid".to_owned(),
            format!("/v1/deliveries?endpoint_id={endpoint}"),
            format!("/v1/deliveries?endpoint_id={endpoint}&state=delivered"),
        ];
        for list in &lists {
            let page = harness.get(list).await.expect(StatusCode::OK);
            assert_eq!(page["data"].as_array().unwrap().len(), 1, "{list}");
        }
        expire(&harness.app.dynamo, event).await;
        for list in &lists {
            let page = harness.get(list).await.expect(StatusCode::OK);
            assert_eq!(page["data"], json!([]), "{list}");
        }
        for path in [
            format!("/v1/events/{event}"),
            format!("/v1/deliveries/{delivery}"),
        ] {
            harness.get(&path).await.problem(404);
        }
        let retry = format!("/v1/deliveries/{delivery}/retry");
        harness.post(&retry, Value::Null).await.problem(404);
        let replay = format!("/v1/events/{event}/replay");
        harness.post(&replay, json!({})).await.problem(404);
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn an_event_beyond_its_retention_is_no_duplicate() {
    run(async {
        let harness = Harness::new().await;
        // What is read of it is replaced too.
        sum_meter(&harness).await;
        // Alone, and with a delivery.
        let first = publish(&harness, 1).await;
        let event = first["id"].as_str().unwrap();
        expire(&harness.app.dynamo, event).await;
        assert_eq!(publish(&harness, 2).await["duplicate"], false);
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        expire(&harness.app.dynamo, event).await;
        assert_eq!(publish(&harness, 3).await["duplicate"], false);
        assert_eq!(publish(&harness, 3).await["duplicate"], true);
        harness.drain().await;
        harness.meter().await;
        assert_eq!(receiver.only().json()["data"]["n"], 3);
        let path = format!("/v1/events/{event}");
        let kept = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(kept["event"]["data"]["n"], 3);
    });
}

#[test]
fn a_fan_out_writes_deliveries_in_place_of_expired_ones() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        project_endpoints(&harness, &receiver.url, 12).await;
        let first = publish(&harness, 1).await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 12);
        expire(&harness.app.dynamo, first["id"].as_str().unwrap()).await;
        assert_eq!(publish(&harness, 2).await["duplicate"], false);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 24);
    });
}
