//! Requests that are sent again with their idempotency key long after, when more has
//! happened since.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Body;
use http::{Request, StatusCode};
use jiff::Timestamp;
use millrace::app;
use millrace::store::dynamo::Dynamo;
use millrace::store::keys;
use serde_json::{Value, json};

use crate::support::fixtures::{endpoint_path, received_types, uncached_config};
use crate::support::harness::{Answer, Harness, run};
use crate::support::receiver::Receiver;

const DAY: Duration = Duration::from_hours(24);

/// A POST of `body` with an idempotency key.
async fn post(harness: &Harness, path: &str, body: &Value) -> Answer {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {}", harness.key))
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(Body::from(body.to_string()));
    harness.send(request.unwrap()).await
}

/// As if the first request with the key had got no answer.
async fn lose_answer(harness: &Harness) {
    let lose = "set lease_ends = :at remove http_status, sealed_answer, media_type";
    change(harness, lose, 0).await;
}

/// As if that had been 23 hours ago.
async fn lose_answer_of_yesterday(harness: &Harness) {
    lose_answer(harness).await;
    let began = app::now() - Duration::from_hours(23);
    change(harness, "set created_ms = :at", began.as_millisecond()).await;
}

async fn change(harness: &Harness, expression: &str, at: i64) {
    let Dynamo { client, table } = &harness.app.dynamo;
    let pk = keys::idempotency(&harness.project, "k");
    let update = client.update_item().table_name(table);
    let update = update
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S(keys::IDEMPOTENCY.into()))
        .update_expression(expression)
        .expression_attribute_values(":at", AttributeValue::N(at.to_string()));
    update.send().await.unwrap();
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_rotation_lets_the_old_secret_sign_a_day_from_when_it_is_made() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let path = endpoint_path(&endpoint);
        let rotate = format!("{path}/rotate-secret");
        post(&harness, &rotate, &json!({}))
            .await
            .expect(StatusCode::OK);
        harness
            .post(&rotate, json!({}))
            .await
            .expect(StatusCode::OK);
        lose_answer_of_yesterday(&harness).await;
        let begin = app::now();
        post(&harness, &rotate, &json!({}))
            .await
            .expect(StatusCode::OK);
        let shown = harness.get(&path).await.expect(StatusCode::OK);
        assert!(time(&shown["updated_at"]) >= begin);
        let log = harness.get("/v1/audit-log?limit=1").await;
        let entry = &log.expect(StatusCode::OK)["data"][0];
        assert_eq!(entry["action"], "endpoint.rotate_secret");
        assert!(time(&entry["after"]["former_signs_until"]) >= begin + DAY);
    });
}

#[test]
fn what_is_made_at_last_is_newer_than_what_was_deleted_before() {
    run(async {
        for (path, name, body) in [
            ("/v1/event-types", "name", json!({ "name": "a" })),
            (
                "/v1/endpoints",
                "id",
                json!({ "url": "http://127.0.0.1:9/" }),
            ),
            (
                "/v1/meters",
                "id",
                json!({ "name": "a", "event_type": "*", "aggregation": "count" }),
            ),
        ] {
            let harness = Harness::new().await;
            let first = post(&harness, path, &body).await;
            let first = first.expect(StatusCode::CREATED);
            let first = format!("{path}/{}", first[name].as_str().unwrap());
            harness.delete(&first).await.expect(StatusCode::NO_CONTENT);
            lose_answer_of_yesterday(&harness).await;
            let begin = app::now();
            let made = post(&harness, path, &body)
                .await
                .expect(StatusCode::CREATED);
            assert!(time(&made["updated_at"]) >= begin, "{path}: {made}");
            let log = harness.get("/v1/audit-log?limit=1").await;
            let entry = &log.expect(StatusCode::OK)["data"][0];
            assert!(time(&entry["at"]) >= begin, "{path}: {entry}");
        }
    });
}

#[test]
fn an_endpoint_whose_maker_got_no_further_is_told_of_once() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let body = json!({ "url": "http://127.0.0.1:9/", "event_types": ["none"] });
        let made = post(&harness, "/v1/endpoints", &body).await;
        let made = made.expect(StatusCode::CREATED);
        // Nobody was there to be told, which is as if it had not been.
        let listener = Receiver::start([]).await;
        harness
            .endpoint(&listener.url, &["millrace.endpoint.created"])
            .await;
        for description in ["b", "c"] {
            lose_answer(&harness).await;
            let again = post(&harness, "/v1/endpoints", &body).await;
            assert_eq!(again.expect(StatusCode::CREATED)["id"], made["id"]);
            harness.drain().await;
            assert_eq!(received_types(&listener), ["millrace.endpoint.created"]);
            let change = json!({ "description": description });
            let changed = harness.patch(&endpoint_path(&made), change).await;
            changed.expect(StatusCode::OK);
        }
        let told = listener.only().json();
        assert_eq!(told["data"]["endpoint_id"], made["id"]);
        let id = made["id"].as_str().unwrap();
        assert_eq!(told["id"], format!("millrace.endpoint.created/{id}/1"));
    });
}
