//! Deliveries: listed, retried, replayed, and found again when the queue forgot
//! them.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::jobs::sweep;
use millrace::model::delivery::DeliveryState;
use millrace::model::id::DeliveryId;
use millrace::store::deliveries;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, finish_recovery, forget_queue, project_endpoints, seconds_ago,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

#[test]
fn what_the_queue_forgot_is_delivered_late_not_lost() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..20 {
            harness.publish("a").await;
        }
        forget_queue(&harness);
        harness.sweep_after(Duration::ZERO).await;
        assert_eq!(
            receiver.received().len(),
            0,
            "a worker has it, for all we know"
        );
        harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(receiver.received().len(), 20);
        let left = sweep::sweep(&harness.app, app::now() + Duration::from_secs(3600)).await;
        assert_eq!(left.unwrap().enqueued, 0, "no work is left");
    });
}

#[test]
fn a_lost_fan_out_is_found_too() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        project_endpoints(&harness, &receiver.url, 30).await;
        harness.publish("a").await;
        forget_queue(&harness);
        harness.sweep_after(Duration::from_secs(6)).await;
        harness.sweep_after(Duration::from_secs(600)).await;
        assert_eq!(receiver.received().len(), 30);
    });
}

#[test]
fn a_new_process_takes_up_what_the_old_one_held() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        forget_queue(&harness);
        // Swept again and again behind a backlog, its lease has grown.
        for minute in 1..=6 {
            let now = app::now() + Duration::from_secs(600 * minute);
            assert_eq!(sweep::sweep(&harness.app, now).await.unwrap().enqueued, 1);
            forget_queue(&harness);
        }
        let now = app::now() + Duration::from_secs(3601);
        assert_eq!(
            sweep::sweep(&harness.app, now).await.unwrap().enqueued,
            0,
            "leased"
        );

        let successor = harness.beside().build().await;
        assert_eq!(
            sweep::reclaim_leases(&successor.app, now)
                .await
                .unwrap()
                .enqueued,
            1
        );
        successor.drain().await;
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn two_sweepers_enqueue_a_thing_once() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.beside().build().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..10 {
            harness.publish("a").await;
        }
        forget_queue(&harness);
        let now = app::now() + Duration::from_secs(6);
        let (one, two) = tokio::join!(
            sweep::sweep(&harness.app, now),
            sweep::sweep(&other.app, now)
        );
        assert_eq!(one.unwrap().enqueued + two.unwrap().enqueued, 10);
        harness.drain_at(now).await;
        other.drain_at(now).await;
        assert_eq!(receiver.received().len(), 10);
    });
}

#[test]
fn a_person_retries_a_failed_delivery() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        harness.publish("a").await;
        harness.drain().await;

        let list = format!("/v1/deliveries?endpoint_id={endpoint}&state=pending");
        let pending = harness.get(&list).await.expect(StatusCode::OK);
        let id = pending["data"][0]["id"].as_str().unwrap();
        let path = format!("/v1/deliveries/{id}");
        harness
            .post(&format!("{path}/retry"), Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "delivered");
        assert_eq!(fetched["attempts_made"], 2);
        assert_eq!(
            harness.get(&list).await.expect(StatusCode::OK)["data"],
            json!([])
        );
    });
}

#[test]
fn a_replay_sends_again_what_has_ended_and_reaches_new_endpoints() {
    run(async {
        let harness = Harness::new().await;
        let old = Receiver::start([]).await;
        harness.endpoint(&old.url, &["a"]).await;
        let id = harness.publish("a").await;
        harness.drain().await;

        let new = Receiver::start([]).await;
        let endpoint = harness.endpoint(&new.url, &["b"]).await;
        let path = format!("/v1/events/{id}/replay");
        harness
            .post(&path, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.post(&path, json!({})).await.problem(409);
        harness.drain().await;
        assert_eq!((old.received().len(), new.received().len()), (2, 0));
        assert_eq!(
            old.received()[0].header("webhook-id"),
            old.received()[1].header("webhook-id")
        );

        // By name, whatever its filter.
        let only = json!({ "endpoint_id": endpoint["id"] });
        harness.post(&path, only).await.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!((old.received().len(), new.received().len()), (2, 1));
        harness.sweep_after(Duration::from_secs(3600)).await;
        assert_eq!((old.received().len(), new.received().len()), (2, 1));

        let nobody = json!({ "endpoint_id": "ep_00000000000000000000000000" });
        harness.post(&path, nobody).await.problem(404);
    });
}

#[test]
fn pending_deliveries_wait_while_disabled_and_end_with_deletion() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let first = harness.publish("a").await;
        harness
            .patch(&path, json!({ "state": "disabled" }))
            .await
            .expect(StatusCode::OK);
        harness.drain().await;
        assert!(receiver.received().is_empty());

        harness
            .patch(&path, json!({ "state": "enabled" }))
            .await
            .expect(StatusCode::OK);
        harness.sweep_after(Duration::from_secs(16 * 60)).await;
        assert_eq!(receiver.only().header("webhook-id"), first);

        let second = harness.publish("b").await;
        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        let fetched = harness
            .get(&format!("/v1/events/{second}"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(fetched["deliveries"][0]["state"], "canceled");
    });
}

#[test]
fn an_endpoints_deliveries_are_listed_the_newest_first() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(500), Reply::Status(500)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        for _ in 0..12 {
            harness.publish("a").await;
        }
        harness.drain().await;
        let count = async |query: &str| {
            let mut count = 0;
            let mut cursor = String::new();
            loop {
                let path = format!("/v1/deliveries?endpoint_id={endpoint}&limit=5{query}{cursor}");
                let page = harness.get(&path).await.expect(StatusCode::OK);
                let rows = page["data"].as_array().unwrap();
                assert!(rows.is_sorted_by(|a, b| {
                    a["created_at"].as_str().unwrap() >= b["created_at"].as_str().unwrap()
                }));
                count += rows.len();
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => return count,
                }
            }
        };
        assert_eq!(count("").await, 12);
        assert_eq!(count("&state=delivered").await, 10);
        assert_eq!(count("&state=pending").await, 2);
        assert_eq!(count("&state=failed").await, 0);
        let of_project = harness.get("/v1/deliveries").await;
        let rows = of_project.expect(StatusCode::OK)["data"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 12);
    });
}

#[test]
fn nothing_is_decided_for_an_endpoint_that_cannot_be_read() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let stranger = harness.beside().key_ring([9; 32]).build().await;
        let id = stranger.publish("a").await;
        let failed = millrace::jobs::worker::drain(&stranger.app, app::now()).await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(receiver.received().is_empty());

        // Whoever has the key delivers it.
        harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(receiver.only().header("webhook-id"), id);
    });
}

/// Every state a delivery goes through is found by its list, before and after its
/// queue, its worker or the sweeper took it.
#[test]
fn each_state_has_its_list_at_every_moment() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(50))
            .build()
            .await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let publish = async |tenant: &str| {
            let body = json!({ "type": "a", "tenant": tenant });
            let answer = harness.post("/v1/events", body).await;
            answer.expect(StatusCode::ACCEPTED)["id"].clone()
        };
        let listed = async |query: &str| {
            let path = format!("/v1/deliveries?endpoint_id={endpoint}&{query}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            let rows = page["data"].as_array().unwrap().clone();
            rows.iter()
                .map(|row| row["event_id"].clone())
                .collect::<Vec<_>>()
        };
        let states = async || {
            let mut counts = vec![];
            for state in ["pending", "delivered", "failed", "canceled"] {
                counts.push(listed(&format!("state={state}")).await.len());
            }
            counts
        };
        let first = publish("x").await;
        assert_eq!(states().await, [1, 0, 0, 0], "fresh");
        forget_queue(&harness);
        let now = app::now() + Duration::from_secs(6);
        assert_eq!(sweep::sweep(&harness.app, now).await.unwrap().enqueued, 1);
        assert_eq!(states().await, [1, 0, 0, 0], "swept, and there once");
        receiver.script([Reply::Status(500)]);
        harness.drain_at(now).await;
        assert_eq!(states().await, [0, 0, 1, 0], "failed");
        let second = publish("y").await;
        harness.drain().await;
        assert_eq!(states().await, [0, 1, 1, 0], "delivered at once");
        assert_eq!(listed("tenant=y").await, std::slice::from_ref(&second));
        let failed = listed("tenant=x&state=failed").await;
        assert_eq!(failed, std::slice::from_ref(&first));
        assert!(listed("tenant=y&state=failed").await.is_empty());

        let fetched = harness
            .get(&format!("/v1/events/{}", first.as_str().unwrap()))
            .await;
        let id = fetched.expect(StatusCode::OK)["deliveries"][0]["id"].clone();
        let id = id.as_str().unwrap();
        let retry = format!("/v1/deliveries/{id}/retry");
        harness
            .post(&retry, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(states().await, [1, 1, 0, 0], "asked for again");
        harness.drain().await;
        assert_eq!(states().await, [0, 2, 0, 0], "delivered at last");

        harness
            .post(&retry, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        let path = format!("/v1/endpoints/{endpoint}");
        harness
            .patch(&path, json!({ "state": "disabled" }))
            .await
            .expect(StatusCode::OK);
        harness.drain().await;
        assert_eq!(states().await, [1, 1, 0, 0], "deferred");
        let (dynamo, id) = (&harness.app.dynamo, id.parse().unwrap());
        let kept = deliveries::get(dynamo, &id).await.unwrap();
        let attempts = kept.unwrap().progress.attempts_made;
        let canceled = DeliveryState::Canceled;
        let ended = deliveries::end(dynamo, &id, attempts, canceled).await;
        assert!(ended.unwrap());
        assert_eq!(states().await, [0, 1, 0, 1], "canceled");

        let path = format!(
            "/v1/deliveries?event_id={}&tenant=x",
            first.as_str().unwrap()
        );
        let refused = harness.get(&path).await.problem(400);
        assert_eq!(
            refused,
            "invalid: tenant: expected nothing beside event_id but state"
        );
    });
}

/// What nobody has touched for long is found by its lateness, not by going through
/// all that came after it.
#[test]
fn what_is_late_is_listed_however_long_ago_it_came() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let project = harness.project.parse().unwrap();
        let endpoint = endpoint["id"].as_str().unwrap();
        let event = millrace::model::id::EventId::derive(&project, "/", "old");
        let long_ago = app::now() - Duration::from_secs(86_400);
        let new = deliveries::NewDelivery {
            event: &event,
            endpoint: &endpoint.parse().unwrap(),
            project: &project,
            event_type: "a",
            tenant: None,
            created: long_ago,
            expires: app::now() + Duration::from_secs(86_400),
            due: long_ago,
        };
        let dynamo = &harness.app.dynamo;
        assert!(deliveries::put_new(dynamo, &new).await.unwrap());
        sweep::sweep(&harness.app, app::now()).await.unwrap();
        forget_queue(&harness);
        let path = format!("/v1/deliveries?endpoint_id={endpoint}&state=pending");
        let page = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(page["data"][0]["event_id"], event.as_str());
        assert_eq!(page["next_cursor"], Value::Null);
    });
}

#[test]
fn many_deliveries_are_retried_by_filter() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(1000))
            .build()
            .await;
        let receiver = Receiver::start(vec![Reply::Status(500); 6]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let mut events = vec![];
        for n in 0..6 {
            let (event_type, tenant) = (["a", "b"][n % 2], ["x", "y", "z"][n % 3]);
            let body = json!({ "type": event_type, "tenant": tenant });
            let answer = harness.post("/v1/events", body).await;
            events.push(answer.expect(StatusCode::ACCEPTED)["id"].clone());
            harness.drain().await;
        }
        let retried = async |filter: Value| {
            let mut body = json!({
                "endpoint_id": endpoint["id"], "state": "failed", "since": seconds_ago(3600),
            });
            body.as_object_mut()
                .unwrap()
                .extend(filter.as_object().unwrap().clone());
            let answer = harness.post("/v1/deliveries/retry", body).await;
            let recovery = answer.expect(StatusCode::ACCEPTED);
            assert_eq!(recovery["kind"], "retry");
            finish_recovery(&harness, &recovery).await["resent"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(retried(json!({ "type": "a", "tenant": "y" })).await, 1);
        assert_eq!(receiver.received()[6].header("webhook-id"), events[4]);
        assert_eq!(retried(json!({ "tenant": "nobody" })).await, 0);
        assert_eq!(retried(json!({ "type": "b.*" })).await, 0);
        assert_eq!(retried(json!({ "type": "b" })).await, 3);
        assert_eq!(retried(json!({ "state": "canceled" })).await, 0);
        assert_eq!(retried(json!({ "type": "*" })).await, 2);
        let bad = json!({
            "endpoint_id": endpoint["id"], "state": "failed", "since": seconds_ago(60), "type": "",
        });
        let answer = harness.post("/v1/deliveries/retry", bad).await;
        assert_eq!(answer.json["field"], "type");
        answer.problem(400);

        // What was canceled can be begun again too.
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let endpoint_id = endpoint["id"].as_str().unwrap().parse().unwrap();
        let delivery = DeliveryId::new(&event.parse().unwrap(), &endpoint_id);
        let ended =
            deliveries::end(&harness.app.dynamo, &delivery, 0, DeliveryState::Canceled).await;
        assert!(ended.unwrap());
        assert_eq!(retried(json!({})).await, 0);
        assert_eq!(retried(json!({ "state": "canceled" })).await, 1);
        assert_eq!(
            receiver.received().last().unwrap().header("webhook-id"),
            event
        );
    });
}

#[test]
fn nothing_is_asked_for_by_hand_of_an_endpoint_that_is_not_enabled() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let path = format!("/v1/endpoints/{endpoint}");
        let switch = async |state: &str| {
            let changed = harness.patch(&path, json!({ "state": state })).await;
            changed.expect(StatusCode::OK);
        };
        let fetched = harness.get(&format!("/v1/events/{event}")).await;
        let fetched = fetched.expect(StatusCode::OK);
        let delivery = fetched["deliveries"][0]["id"].as_str().unwrap();
        let period = json!({ "since": "2020-01-01T00:00:00Z" });
        let of_state = json!({
            "endpoint_id": endpoint, "state": "failed", "since": "2020-01-01T00:00:00Z",
        });
        let asked = [
            (format!("{path}/test"), Value::Null),
            (format!("/v1/deliveries/{delivery}/retry"), Value::Null),
            (
                format!("/v1/events/{event}/replay"),
                json!({ "endpoint_id": endpoint }),
            ),
            (format!("{path}/recover"), period.clone()),
            (format!("{path}/replay-missing"), period),
            ("/v1/deliveries/retry".to_owned(), of_state),
        ];
        switch("disabled").await;
        for (path, body) in &asked {
            let refused = harness.post(path, body.clone()).await.problem(409);
            let expected = "conflict: the endpoint is not enabled but disabled: enable it first";
            assert_eq!(refused, expected, "{path}");
        }
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        switch("enabled").await;
        for (path, body) in &asked {
            let taken = harness.post(path, body.clone()).await;
            taken.expect(StatusCode::ACCEPTED);
            harness.drain().await;
        }
    });
}
