//! A store that throttles: the outcome of an attempt is kept until it is recorded, no
//! other is made for it, and nobody else pays for it.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::config::{Config, MetricsChoice};
use millrace::jobs::{sweep, worker};
use serde_json::{Value, json};

use crate::support::faults::{Fault, FaultyStore};
use crate::support::fixtures::only_delivery;
use crate::support::harness::{self, ALL_SCOPES, Harness, run};
use crate::support::receiver::{Receiver, Reply};

fn config() -> Config {
    let mut config = harness::config();
    config.delivery.retry_schedule = vec![Duration::ZERO, Duration::ZERO];
    config.sweep.lease = Duration::from_secs(2);
    config.telemetry.metrics = MetricsChoice::Emf;
    config
}

async fn harness(store: &FaultyStore) -> Harness {
    let builder = Harness::builder().config(config());
    builder.dynamo(store.dynamo()).build().await
}

/// Whether a call records an attempt.
fn is_record(operation: &str, body: &str) -> bool {
    operation == "UpdateItem" && body.contains(":attempts")
}

/// The first `times` calls that `is_meant` says yes to meet `fault`.
fn first(
    times: usize,
    fault: Fault,
    is_meant: impl Fn(&str, &str) -> bool + Send + 'static,
) -> impl FnMut(&str, &str) -> Option<Fault> + Send + 'static {
    let mut left = times;
    move |operation, body| {
        if left == 0 || !is_meant(operation, body) {
            return None;
        }
        left -= 1;
        Some(fault)
    }
}

#[test]
fn a_record_that_is_refused_is_written_again_and_the_attempt_is_not() {
    run(async {
        let store = FaultyStore::new();
        let harness = harness(&store).await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for (fault, times) in [(Fault::Throttle, 4), (Fault::LostAnswer, 1)] {
            let before = receiver.received().len();
            receiver.script([Reply::Status(500)]);
            let event = harness.publish("a").await;
            let faults = store.faults();
            store.fail(first(times, fault, is_record));
            harness.drain().await;
            assert_eq!(store.faults() - faults, times, "{fault:?}");
            // The first that failed, and the one that follows it at once: what is
            // recorded sets off the next, though its answer was lost.
            assert_eq!(receiver.received().len() - before, 2, "{fault:?}");
            let delivery = only_delivery(&harness, &event).await;
            assert_eq!(delivery["state"], "delivered", "{fault:?}");
            assert_eq!(delivery["attempts_made"], 2, "{fault:?}");
        }
    });
}

#[test]
fn refused_for_its_whole_lease_an_attempt_is_made_once_more() {
    run(async {
        let store = FaultyStore::new();
        let mut harness = harness(&store).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        let victim = event.clone();
        store.fail(move |operation, body| {
            (operation == "UpdateItem" && body.contains(&victim)).then_some(Fault::Throttle)
        });
        let failed = worker::drain(&harness.app, app::now()).await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(store.faults() > 3, "its record was tried again");
        assert_eq!(receiver.received().len(), 1);

        // While records are refused the project's other attempts wait, and no one else's.
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        let own = (harness.project.clone(), harness.key.clone());
        let other = harness.new_project(&ALL_SCOPES).await;
        (harness.project, harness.key) = (other.id, other.key);
        let receiver_of_other = Receiver::start([]).await;
        harness.endpoint(&receiver_of_other.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver_of_other.received().len(), 1);
        (harness.project, harness.key) = own;

        // It is swept, and attempted once more when its lease is over.
        store.heal();
        harness.sweep_after(Duration::from_secs(6)).await;
        harness.drain_at(app::now() + Duration::from_secs(6)).await;
        let sent = receiver.received();
        let of_event = sent.iter().filter(|one| one.header("webhook-id") == event);
        assert_eq!(of_event.count(), 2);
        assert_eq!(sent.len(), 3);
        let delivery = only_delivery(&harness, &event).await;
        assert_eq!(delivery["attempts_made"], 1);
        let left = sweep::sweep(&harness.app, app::now() + Duration::from_secs(600)).await;
        assert_eq!(left.unwrap().found, 0);
        // One that waited for the store was late by Millrace's own doing.
        let line = harness.app.telemetry.metrics.take(app::now()).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["delivery_lag_ms"]["Count"], 3, "{line}");
    });
}

#[test]
fn a_lease_that_can_be_renewed_keeps_the_record_and_one_request() {
    run(async {
        let store = FaultyStore::new();
        let harness = harness(&store).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        // Longer than the lease of two seconds: waits grow to between a quarter and half
        // a second.
        store.fail(first(14, Fault::Throttle, is_record));
        harness.drain().await;
        assert_eq!(receiver.only().header("webhook-id"), event);
        let delivery = only_delivery(&harness, &event).await;
        assert_eq!(delivery["state"], "delivered");
    });
}

#[test]
fn a_transaction_that_is_throttled_is_tried_again() {
    run(async {
        let store = FaultyStore::new();
        let harness = harness(&store).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let is_transaction = |operation: &str, _: &str| operation == "TransactWriteItems";
        store.fail(first(3, Fault::ThrottledTransaction, is_transaction));
        harness.publish("a").await;
        assert_eq!(store.faults(), 3);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        // For ever is too long.
        store.fail(first(99, Fault::ThrottledTransaction, is_transaction));
        let refused = harness.post("/v1/events", json!({ "type": "a" })).await;
        refused.problem(503);
    });
}

#[test]
fn the_throttles_of_one_project_use_up_nobody_elses_retries() {
    run(async {
        let store = FaultyStore::new();
        let harness = Harness::builder().config(config());
        let harness = harness.dynamo(store.retrying_dynamo()).build().await;
        let other = harness.new_project(&ALL_SCOPES).await;
        let publish = async |key: &str| {
            let body = json!({ "type": "a" });
            let path = "/v1/events";
            harness.request(http::Method::POST, path, key, body).await
        };
        // Known to both before the store throttles.
        publish(&other.key).await.expect(StatusCode::ACCEPTED);
        let hot = harness.project.clone();
        store.fail(move |operation, body| {
            (operation == "PutItem" && body.contains(&hot)).then_some(Fault::Throttle)
        });
        for _ in 0..60 {
            publish(&harness.key).await.problem(503);
        }
        let faults = store.faults();
        assert!(faults < 60 * 4, "its own are used up: {faults}");
        let cold = other.id.clone();
        let is_cold =
            move |operation: &str, body: &str| operation == "PutItem" && body.contains(&cold);
        store.fail(first(3, Fault::Throttle, is_cold));
        let accepted = publish(&other.key).await.expect(StatusCode::ACCEPTED);
        assert_ne!(accepted["id"], Value::Null);
        assert_eq!(store.faults() - faults, 3);
    });
}
