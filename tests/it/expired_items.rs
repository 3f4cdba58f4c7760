//! What has expired and is still there, as DynamoDB deletes it within days: it is as if
//! it were not there.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use millrace::app;
use millrace::jobs::sweep;
use serde_json::{Value, json};

use crate::support::faults::{Fault, FaultyStore};
use crate::support::fixtures::{
    config_without_retries, expire, forget_queue, items_of, only_delivery, project_endpoints,
    sum_meter,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

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

/// Sweeps, and then sees that nothing is due any more, however long one waits.
async fn sweep_until_nothing_is_due(harness: &Harness) {
    harness.sweep_after(Duration::from_secs(6)).await;
    let later = app::now() + Duration::from_hours(24);
    let summary = sweep::sweep(&harness.app, later).await.unwrap();
    assert_eq!(summary.found, 0);
}

#[test]
fn what_is_left_to_do_for_an_expired_event_ends() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["order.*"]).await;
        let delivered = publish(&harness, 1).await["id"].clone();
        forget_queue(&harness);
        let delivered = delivered.as_str().unwrap();
        expire(&harness.app.dynamo, delivered).await;
        sweep_until_nothing_is_due(&harness).await;
        let items = items_of(&harness.app.dynamo, delivered).await;
        let states = items.iter().filter_map(|item| item.get("state"));
        let states: Vec<_> = states.map(|state| state.as_s().unwrap()).collect();
        assert_eq!(states, ["canceled"]);

        // A fan-out that is left to a job.
        project_endpoints(&harness, &receiver.url, 12).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        expire(&harness.app.dynamo, &event).await;
        sweep_until_nothing_is_due(&harness).await;
        let items = items_of(&harness.app.dynamo, &event).await;
        assert_eq!(items.len(), 1, "no delivery is written");
        assert!(!items[0].contains_key("fan"));
        assert!(receiver.received().is_empty());
    });
}

#[test]
fn that_a_delivery_failed_is_told_though_it_has_expired_since() {
    run(async {
        let store = FaultyStore::new();
        let harness = Harness::builder().config(config_without_retries(1000));
        let harness = harness.dynamo(store.dynamo()).build().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["order.*"]).await;
        let event = publish(&harness, 1).await["id"].clone();
        store.fail(|_, body| {
            body.contains("millrace.delivery.exhausted")
                .then_some(Fault::Throttle)
        });
        harness.drain().await;
        assert!(store.faults() > 0);
        store.heal();
        let told = "/v1/events?type=millrace.delivery.exhausted";
        let before = harness.get(told).await.expect(StatusCode::OK);
        assert_eq!(before["data"], json!([]));
        expire(&harness.app.dynamo, event.as_str().unwrap()).await;
        sweep_until_nothing_is_due(&harness).await;
        let after = harness.get(told).await.expect(StatusCode::OK);
        assert_eq!(after["data"].as_array().unwrap().len(), 1, "{after}");
    });
}
