//! What is not here, and may not be here yet: where a table is replicated, items come
//! in no order. Nothing is given up for one that is only late.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use http::StatusCode;
use millrace::app;
use millrace::config::MetricsChoice;
use millrace::jobs::erase;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, endpoint_path, forget_queue, only_delivery, seconds_ago, show_recovery,
    uncached_config,
};
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::Receiver;

const HOUR: Duration = Duration::from_hours(1);

fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// An item that is on its way.
struct Late {
    item: HashMap<String, AttributeValue>,
}

impl Late {
    /// Takes an item out of the table.
    async fn take(harness: &Harness, pk: &str, sk: &str) -> Self {
        let dynamo = &harness.app.dynamo;
        let delete = dynamo.client.delete_item().table_name(&dynamo.table);
        let delete = delete
            .key("pk", s(pk))
            .key("sk", s(sk))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllOld);
        let item = delete.send().await.unwrap().attributes;
        Self {
            item: item.expect("an item"),
        }
    }

    /// It arrives.
    async fn arrive(self, harness: &Harness) {
        let dynamo = &harness.app.dynamo;
        let put = dynamo.client.put_item().table_name(&dynamo.table);
        put.set_item(Some(self.item)).send().await.unwrap();
    }
}

/// Sweeps and drains at times from now on, as instances do all the time.
async fn until(harness: &Harness, last: Duration) {
    let mut at = Duration::from_secs(10);
    while at < last {
        harness.sweep_after(at).await;
        at += at.min(HOUR);
    }
    harness.sweep_after(last).await;
}

/// The state of the one delivery to the endpoint, whose event may not be there.
async fn state(harness: &Harness, endpoint: &Value) -> Value {
    let id = endpoint["id"].as_str().unwrap();
    let path = format!("/v1/deliveries?endpoint_id={id}");
    let page = harness.get(&path).await.expect(StatusCode::OK);
    let rows = page["data"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{page}");
    rows[0]["state"].clone()
}

#[test]
fn a_delivery_waits_for_its_event() {
    run(async {
        let mut config = harness::config();
        config.telemetry.metrics = MetricsChoice::Emf;
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let late = Late::take(&harness, &event, "event").await;
        harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(state(&harness, &endpoint).await, "pending");
        until(&harness, 5 * HOUR).await;
        assert_eq!(state(&harness, &endpoint).await, "pending");
        assert!(receiver.received().is_empty());
        late.arrive(&harness).await;
        harness.sweep_after(6 * HOUR).await;
        assert_eq!(receiver.received().len(), 1);
        assert_eq!(only_delivery(&harness, &event).await["state"], "delivered");
        // Nobody but Millrace made it wait.
        let line = harness.app.telemetry.metrics.take(app::now()).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["delivery_lag_ms"]["Count"], 1, "{line}");
    });
}

#[test]
fn a_delivery_waits_anew_for_what_has_been_here_since() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let late = Late::take(&harness, &event, "event").await;
        harness.sweep_after(Duration::from_secs(6)).await;
        // It comes, and waits for its endpoint for longer than anything is missed.
        late.arrive(&harness).await;
        let disable = json!({ "state": "disabled" });
        let path = endpoint_path(&endpoint);
        let patched = harness.patch(&path, disable).await;
        patched.expect(StatusCode::OK);
        until(&harness, 30 * HOUR).await;
        let late = Late::take(&harness, &event, "event").await;
        harness.sweep_after(31 * HOUR).await;
        assert_eq!(state(&harness, &endpoint).await, "pending");
        late.arrive(&harness).await;
        let patched = harness.patch(&path, json!({ "state": "enabled" })).await;
        patched.expect(StatusCode::OK);
        until(&harness, 33 * HOUR).await;
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn a_delivery_is_canceled_whose_event_never_comes_or_has_expired() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let late = Late::take(&harness, &event, "event").await;
        until(&harness, 23 * HOUR).await;
        assert_eq!(state(&harness, &endpoint).await, "pending");
        until(&harness, 27 * HOUR).await;
        assert_eq!(state(&harness, &endpoint).await, "canceled");
        assert!(receiver.received().is_empty());
        // A person may ask for it all the same, once it is there.
        late.arrive(&harness).await;
        let id = only_delivery(&harness, &event).await["id"].clone();
        let path = format!("/v1/deliveries/{}/retry", id.as_str().unwrap());
        let retried = harness.post(&path, Value::Null).await;
        retried.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);

        // With its retention over, the event is gone for good.
        let harness = Harness::new().await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        Late::take(&harness, &event, "event").await;
        harness.sweep_after(24 * 31 * HOUR).await;
        assert_eq!(state(&harness, &endpoint).await, "canceled");
    });
}

#[test]
fn a_delivery_of_an_erased_event_ends_at_once() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let path = format!("/v1/events/{event}");
        let erased = harness.delete(&path).await.expect(StatusCode::ACCEPTED);
        let erasure = erased["id"].as_str().unwrap().parse().unwrap();
        while !harness.get(&path).await.status.is_client_error() {
            Box::pin(erase::run(&harness.app, &erasure, app::now() + HOUR))
                .await
                .unwrap();
        }
        until(&harness, 2 * HOUR).await;
        assert!(receiver.received().is_empty());
        harness.get(&path).await.problem(404);
    });
}

#[test]
fn a_delivery_of_any_age_waits_for_its_endpoint() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let (pk, sk) = (
            format!("project#{}", harness.project),
            format!("endpoint#{}", endpoint["id"].as_str().unwrap()),
        );
        let late = Late::take(&harness, &pk, &sk).await;
        // Days after it was made, by an instance that has read nothing before.
        let other = harness.beside().build().await;
        other.sweep_after(48 * HOUR).await;
        assert_eq!(only_delivery(&other, &event).await["state"], "pending");
        late.arrive(&harness).await;
        other.sweep_after(50 * HOUR).await;
        assert_eq!(receiver.received().len(), 1);

        // One that is deleted ends at once.
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let path = endpoint_path(&endpoint);
        let deleted = harness.delete(&path).await;
        deleted.expect(StatusCode::NO_CONTENT);
        let other = harness.beside().build().await;
        other.sweep_after(HOUR).await;
        assert_eq!(only_delivery(&other, &event).await["state"], "canceled");
    });
}

#[test]
fn a_recovery_waits_for_its_endpoint() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(1000))
            .build()
            .await;
        harness.publish("a").await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let sk = format!("endpoint#{}", endpoint["id"].as_str().unwrap());
        let pk = format!("project#{}", harness.project);
        for kind in ["replay-missing", "recover"] {
            let path = format!("{}/{kind}", endpoint_path(&endpoint));
            let body = json!({ "since": seconds_ago(3600) });
            let asked = harness.post(&path, body.clone()).await;
            let recovery = asked.expect(StatusCode::ACCEPTED);
            let late = Late::take(&harness, &pk, &sk).await;
            let other = harness.beside().build().await;
            forget_queue(&harness);
            until(&other, HOUR).await;
            let shown = show_recovery(&other, &recovery).await;
            assert_eq!(shown["state"], "running", "{shown}");
            late.arrive(&harness).await;
            until(&other, 3 * HOUR).await;
            assert_eq!(show_recovery(&other, &recovery).await["state"], "done");

            let asked = harness.post(&path, body).await;
            let recovery = asked.expect(StatusCode::ACCEPTED);
            let late = Late::take(&harness, &pk, &sk).await;
            forget_queue(&harness);
            until(&other, 27 * HOUR).await;
            let shown = show_recovery(&other, &recovery).await;
            assert_eq!(shown["state"], "failed", "{shown}");
            let error = shown["error"].as_str().unwrap();
            assert!(error.ends_with("is not known"), "{error}");
            late.arrive(&harness).await;
        }
        assert_eq!(receiver.received().len(), 1);
    });
}
