//! Writes whose answer is lost, and which the client then sends again: nobody is told
//! that another was quicker, and nothing waits for a lease to end.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use millrace::app;
use millrace::jobs::sweep;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, failures, finish_recovery, forget_queue, only_delivery,
    project_endpoints, received_types, seconds_ago, sum_meter,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;
use crate::support::relay::Relay;
use crate::support::stores;

/// One whose every write is answered only the second time.
async fn unheard() -> Harness {
    let store = stores::embedded_readable_dynamo();
    let dynamo = store.relayed(&Relay::of_lost_answers());
    let config = config_without_retries(100);
    Harness::builder()
        .config(config)
        .dynamo(dynamo)
        .build()
        .await
}

#[test]
fn an_event_is_new_whatever_becomes_of_the_answer() {
    run(async {
        let harness = unheard().await;
        let receiver = Receiver::start([]).await;
        let event = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/", "type": "a", "data": 1 });
        let publish = async |id: &str| {
            let request = Request::post("/v1/events")
                .header("authorization", format!("Bearer {}", harness.key))
                .header("content-type", "application/cloudevents+json")
                .body(Body::from(event(id).to_string()));
            let answer = harness.send(request.unwrap()).await;
            answer.expect(StatusCode::ACCEPTED)["duplicate"].clone()
        };
        // By itself, and in a transaction with what is delivered and counted of it.
        assert_eq!(publish("1").await, false);
        harness.endpoint(&receiver.url, &["*"]).await;
        sum_meter(&harness).await;
        assert_eq!(publish("2").await, false);
        assert_eq!(publish("1").await, true);
        assert_eq!(publish("2").await, true);
        let batch = Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/cloudevents-batch+json")
            .body(Body::from(json!([event("2"), event("3")]).to_string()));
        let batch = harness.send(batch.unwrap()).await;
        let batch = batch.expect(StatusCode::ACCEPTED);
        let duplicates = batch["data"].as_array().unwrap().iter();
        let duplicates: Vec<_> = duplicates.map(|one| one["duplicate"].clone()).collect();
        assert_eq!(duplicates, [json!(true), json!(false)]);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 2);
    });
}

#[test]
fn what_is_begun_is_sent_at_once() {
    run(async {
        let harness = unheard().await;
        let receiver = Receiver::start([]).await;
        project_endpoints(&harness, &receiver.url, 30).await;
        let id = harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 30);
        let replay = format!("/v1/events/{id}/replay");
        let asked = harness.post(&replay, json!({})).await;
        asked.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 60);
    });
}

#[test]
fn what_a_sweep_claims_is_its_own() {
    run(async {
        let harness = unheard().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        forget_queue(&harness);
        let later = app::now() + Duration::from_secs(6);
        assert_eq!(sweep::sweep(&harness.app, later).await.unwrap().enqueued, 1);
        harness.drain_at(later).await;
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn a_failure_is_recorded_and_told_by_whoever_made_the_attempt() {
    run(async {
        let harness = unheard().await;
        let (bad, listener) = (
            Receiver::start(failures(1)).await,
            Receiver::start([]).await,
        );
        let endpoint = harness.endpoint(&bad.url, &["a"]).await;
        let told = "millrace.delivery.exhausted";
        harness.endpoint(&listener.url, &[told]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        assert_eq!(received_types(&listener), [told]);
        // And resent.
        let path = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
        let recovery = harness
            .post(&path, json!({ "since": seconds_ago(60) }))
            .await;
        let recovery = recovery.expect(StatusCode::ACCEPTED);
        let done = finish_recovery(&harness, &recovery).await;
        assert_eq!(
            (&done["state"], &done["resent"]),
            (&json!("done"), &json!(1))
        );
        assert_eq!(only_delivery(&harness, &event).await["state"], "delivered");
    });
}

#[test]
fn a_key_is_the_requests_that_reserved_it() {
    run(async {
        let harness = unheard().await;
        let create = async |name: &str| {
            let request = Request::builder()
                .method(Method::POST)
                .uri("/v1/endpoints")
                .header("authorization", format!("Bearer {}", harness.key))
                .header("content-type", "application/json")
                .header("idempotency-key", name)
                .body(Body::from(
                    json!({ "url": "http://127.0.0.1:9/" }).to_string(),
                ));
            harness.send(request.unwrap()).await
        };
        let first = create("one").await.expect(StatusCode::CREATED);
        assert_eq!(create("one").await.expect(StatusCode::CREATED), first);
    });
}

#[test]
fn a_back_fill_runs_for_whoever_asked() {
    run(async {
        let harness = unheard().await;
        let event = json!({ "type": "order.paid", "data": { "n": 2 } });
        harness.publish_body(event).await;
        let meter = sum_meter(&harness).await;
        let path = format!("/v1/meters/{meter}/backfill");
        let asked = harness.post(&path, json!({})).await;
        asked.expect(StatusCode::ACCEPTED);
        harness.meter_after(Duration::from_secs(20)).await;
        let shown = harness.get(&path).await.expect(StatusCode::OK);
        assert_ne!(shown["finished_at"], Value::Null, "{shown}");
    });
}
