//! A store that throttles: the outcome of an attempt is kept until it is recorded, no
//! other is made for it, and nobody else pays for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::config::{Config, MetricsChoice};
use millrace::jobs::{self, Done, sweep, worker};
use millrace::model::id::{DeliveryId, EndpointId, ProjectId};
use millrace::model::job::Job;
use millrace::queue::lanes::WaitReason;
use serde_json::{Value, json};

use crate::support::faults::{Fault, FaultyStore};
use crate::support::fixtures::{create_endpoint, only_delivery};
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
fn an_endpoint_whose_records_are_refused_holds_up_no_other_of_its_project() {
    run(async {
        let store = FaultyStore::new();
        let mut harness = harness(&store).await;
        harness.leaves_jobs = true;
        let (hot, cold) = (Receiver::start([]).await, Receiver::start([]).await);
        let endpoint = harness.endpoint(&hot.url, &["hot"]).await;
        harness.endpoint(&cold.url, &["cold"]).await;
        let id = endpoint["id"].as_str().unwrap().to_owned();
        let victim = id.clone();
        store.fail(move |operation, body| {
            (operation == "UpdateItem" && body.contains(&victim)).then_some(Fault::Throttle)
        });
        harness.publish("hot").await;
        // All at one time: what is paused stays so.
        let now = app::now();
        assert_eq!(worker::drain(&harness.app, now).await.len(), 1);
        for n in 1..=3 {
            harness.publish("hot").await;
            harness.publish("cold").await;
            harness.drain_at(now).await;
            assert_eq!(cold.received().len(), n);
            assert_eq!(
                hot.received().len(),
                1,
                "what the other records says nothing"
            );
        }
    });
}

#[test]
fn who_makes_no_attempt_leaves_the_one_there_may_be_to_the_next() {
    run(async {
        let store = FaultyStore::new();
        let mut harness = harness(&store).await;
        harness.leaves_jobs = true;
        let receiver = Receiver::start([]).await;
        let limited = json!({ "url": receiver.url, "max_concurrency": 1 });
        let endpoint = create_endpoint(&harness, limited).await;
        let endpoint: EndpointId = endpoint["id"].as_str().unwrap().parse().unwrap();
        let job = |event: String| Job::Deliver {
            delivery: DeliveryId::new(&event.parse().unwrap(), &endpoint),
            attempts_made: 0,
            payload: None,
        };
        let now = app::now();
        let admission = &harness.app.admission;
        let project: ProjectId = harness.project.parse().unwrap();
        let config = harness
            .app
            .projection
            .project_config_with(&project, &endpoint);
        let config = config.await.unwrap();
        let target = config.targets.get(&endpoint).unwrap();
        let under_way = admission.acquire_permit(target, now).unwrap();
        admission.records.refused(&endpoint, now);
        let job = job(harness.publish("a").await);
        let done = jobs::run(&harness.app, job, None, now).await.unwrap();
        let Done::Later(later) = done else {
            panic!("{done:?}");
        };
        assert_eq!(later.wait, WaitReason::Limit(1));
        drop(under_way);
        let done = jobs::run(&harness.app, later.job, None, now).await.unwrap();
        assert!(matches!(done, Done::Finished), "{done:?}");
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn a_lease_that_has_begun_long_before_the_attempt_is_renewed_in_time() {
    run(async {
        let store = FaultyStore::new();
        let harness = harness(&store).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        let renewals = Arc::new(AtomicUsize::new(0));
        let (seen, mut records) = (renewals.clone(), 0);
        store.fail(move |operation, body| {
            let is_renewal = operation == "UpdateItem" && body.contains(":held");
            seen.fetch_add(usize::from(is_renewal), Ordering::SeqCst);
            records += usize::from(is_record(operation, body));
            (is_record(operation, body) && records <= 2).then_some(Fault::Throttle)
        });
        // Of two seconds it has waited most.
        harness
            .drain_at(app::now() + Duration::from_millis(1_900))
            .await;
        assert_eq!(renewals.load(Ordering::SeqCst), 1);
        assert_eq!(receiver.received().len(), 1);
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
