//! What is decided for good while an instance has an older view of the configuration:
//! by the endpoint as it is, whichever instance changed it.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::config::Config;
use millrace::jobs::sweep;
use millrace::store::config_projection::current::view_age_max;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, endpoint_path, finish_recovery, forget_queue, only_delivery,
    seconds_ago, show_recovery,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// Views last as long as a test.
fn stale() -> Config {
    let mut config = config_without_retries(1000);
    config.cache.ttl = Duration::from_mins(10);
    config
}

/// Another instance beside `harness`, which has a view of the configuration by now.
async fn beside_with_view(harness: &Harness) -> Harness {
    let other = harness.beside().config(stale()).build().await;
    other.publish("unheard").await;
    other
}

async fn replay_missing(harness: &Harness, endpoint: &Value) -> Value {
    let path = format!("{}/replay-missing", endpoint_path(endpoint));
    let body = json!({ "since": seconds_ago(3600) });
    let recovery = harness.post(&path, body).await.expect(StatusCode::ACCEPTED);
    forget_queue(harness);
    recovery
}

fn types(receiver: &Receiver) -> Vec<Value> {
    let received = receiver.received().into_iter();
    let mut types: Vec<_> = received.map(|one| one.json()["type"].clone()).collect();
    types.sort_by_key(Value::to_string);
    types
}

/// As if the lease of the first page were over, by an instance with an older view.
async fn first_pass(harness: &Harness) {
    let now = app::now() + Duration::from_secs(6);
    sweep::sweep(&harness.app, now).await.unwrap();
    harness.drain_at(now).await;
}

#[test]
fn a_recovery_elsewhere_knows_a_new_endpoint_and_misses_nothing_accepted_meanwhile() {
    run(async {
        let one = Harness::builder().config(stale()).build().await;
        let two = beside_with_view(&one).await;
        let accepts = beside_with_view(&one).await;
        accepts.publish("before").await;
        let receiver = Receiver::start([]).await;
        let endpoint = one
            .endpoint(&receiver.url, &["before", "after", "late"])
            .await;
        let recovery = replay_missing(&one, &endpoint).await;
        first_pass(&two).await;
        assert_eq!(types(&receiver), ["before"]);
        let shown = show_recovery(&two, &recovery).await;
        assert_eq!(
            (&shown["state"], &shown["resent"]),
            (&json!("running"), &json!(1))
        );
        assert_eq!(shown["error"], Value::Null);

        // It does not know of the endpoint, and will not for a while.
        accepts.publish("after").await;
        two.sweep_after(view_age_max(&two.app.config) / 2).await;
        assert_eq!(types(&receiver), ["before"], "not before all can know");
        let done = finish_recovery(&two, &recovery).await;
        assert_eq!(
            (&done["state"], &done["resent"]),
            (&json!("done"), &json!(2))
        );
        assert_eq!(types(&receiver), ["after", "before"]);
    });
}

#[test]
fn a_recovery_elsewhere_goes_by_the_filter_as_it_is() {
    run(async {
        let one = Harness::builder().config(stale()).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = one.endpoint(&receiver.url, &["a"]).await;
        let two = beside_with_view(&one).await;
        two.publish("b").await;
        let body = json!({ "event_types": ["a", "b"] });
        let path = endpoint_path(&endpoint);
        one.patch(&path, body).await.expect(StatusCode::OK);
        let recovery = replay_missing(&one, &endpoint).await;
        first_pass(&two).await;
        two.publish("b").await;
        assert_eq!(types(&receiver), ["b"]);

        // A change while it runs makes the second look one at everything.
        two.publish("c").await;
        let body = json!({ "event_types": ["b", "c"] });
        one.patch(&path, body).await.expect(StatusCode::OK);
        let done = finish_recovery(&two, &recovery).await;
        assert_eq!(
            (&done["state"], &done["resent"]),
            (&json!("done"), &json!(3))
        );
        assert_eq!(types(&receiver), ["b", "b", "c"]);
    });
}

#[test]
fn a_span_that_is_over_is_looked_at_once() {
    run(async {
        let harness = Harness::builder().config(stale()).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["a"]).await;
        let path = format!("{}/replay-missing", endpoint_path(&endpoint));
        let ask = async |body: Value| {
            let answer = harness.post(&path, body).await;
            let recovery = answer.expect(StatusCode::ACCEPTED);
            harness.drain().await;
            show_recovery(&harness, &recovery).await
        };
        let over = json!({ "since": seconds_ago(3600), "until": seconds_ago(1800) });
        assert_eq!(ask(over).await["state"], "done");
        let still = json!({ "since": seconds_ago(3600), "until": seconds_ago(1) });
        let asked = ask(still).await;
        assert_eq!(asked["state"], "running");
        assert_eq!(finish_recovery(&harness, &asked).await["state"], "done");

        // Those that wait for their second look keep nobody from asking.
        for _ in 0..12 {
            ask(json!({ "since": seconds_ago(60) })).await;
        }
        harness
            .sweep_after(view_age_max(&harness.app.config) * 2)
            .await;
    });
}

#[test]
fn what_was_enabled_elsewhere_is_sent_to() {
    run(async {
        let one = Harness::builder().config(stale()).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = one.endpoint(&receiver.url, &["a"]).await;
        let path = endpoint_path(&endpoint);
        let set = async |state: &str| {
            let answer = one.patch(&path, json!({ "state": state })).await;
            answer.expect(StatusCode::OK);
        };
        set("disabled").await;
        let two = beside_with_view(&one).await;
        let recover = format!("{path}/recover");
        let body = json!({ "since": seconds_ago(60) });
        two.post(&recover, body.clone()).await.problem(409);
        set("enabled").await;
        let asked = two.post(&recover, body.clone()).await;
        asked.expect(StatusCode::ACCEPTED);
        set("disabled").await;
        two.post(&recover, body).await.problem(409);
        two.drain().await;
    });
}

#[test]
fn a_replay_elsewhere_reaches_an_endpoint_made_a_moment_ago() {
    run(async {
        let one = Harness::builder().config(stale()).build().await;
        let two = beside_with_view(&one).await;
        let event = two.publish("a").await;
        let receiver = Receiver::start([]).await;
        one.endpoint(&receiver.url, &["a"]).await;
        let path = format!("/v1/events/{event}/replay");
        let asked = two.post(&path, json!({})).await;
        asked.expect(StatusCode::ACCEPTED);
        two.drain().await;
        assert_eq!(types(&receiver), ["a"]);
    });
}

#[test]
fn a_last_attempt_at_a_url_that_was_mended_elsewhere_is_not_the_last() {
    run(async {
        for refusal in [500, 410, 404] {
            let one = Harness::builder().config(stale()).build().await;
            let wrong = Receiver::start(vec![Reply::Status(refusal); 4]).await;
            let endpoint = one.endpoint(&wrong.url, &["a"]).await;
            let two = beside_with_view(&one).await;
            let right = Receiver::start([]).await;
            let body = json!({ "url": right.url });
            let path = endpoint_path(&endpoint);
            one.patch(&path, body).await.expect(StatusCode::OK);
            let event = two.publish("a").await;
            two.drain().await;
            assert_eq!(wrong.received().len(), 1);
            let delivery = only_delivery(&two, &event).await;
            assert_eq!(delivery["state"], "pending", "answered {refusal}");
            two.sweep_after(Duration::from_secs(10)).await;
            assert_eq!((wrong.received().len(), types(&right).len()), (1, 1));
            let delivery = only_delivery(&two, &event).await;
            assert_eq!(delivery["state"], "delivered");

            // An endpoint that is as this instance knows it has had its attempts.
            right.script([Reply::Status(500)]);
            let event = two.publish("a").await;
            two.drain().await;
            assert_eq!(only_delivery(&two, &event).await["state"], "failed");
        }
    });
}
