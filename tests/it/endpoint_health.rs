//! Health of endpoints: days of nothing but failures, what ends them, and the
//! statistics that show it.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use millrace::app;
use serde_json::{Value, json};

use crate::support::fixtures::{
    assert_as_documented, endpoint_path, endpoint_stats, failures, received_types, uncached_config,
};
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::{Receiver, Reply};

const DAY: Duration = Duration::from_hours(24);

#[test]
fn days_of_nothing_but_failures_disable_an_endpoint_and_its_owner_is_told() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (bad, listener) = (
            Receiver::start(failures(6)).await,
            Receiver::start([]).await,
        );
        let endpoint = harness.endpoint(&bad.url, &["a"]).await;
        harness
            .endpoint(&listener.url, &["millrace.endpoint.*"])
            .await;
        let begin = app::now();
        let fail_at = async |later: Duration| {
            harness.publish("a").await;
            harness.drain_at(begin + later).await;
        };
        fail_at(Duration::ZERO).await;
        let fetched = endpoint_stats(&harness, &endpoint).await;
        let since: Timestamp = fetched["failing_since"].as_str().unwrap().parse().unwrap();
        assert!(since >= begin && since < begin + Duration::from_secs(10));
        let disabled_at: Timestamp = fetched["disabled_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(disabled_at, since + 5 * DAY);
        fail_at(2 * DAY).await;
        assert_eq!(received_types(&listener), Vec::<String>::new());

        fail_at(3 * DAY + Duration::from_mins(1)).await;
        fail_at(4 * DAY).await;
        assert_eq!(
            received_types(&listener),
            ["millrace.endpoint.failing"],
            "once"
        );
        assert_eq!(
            listener.received()[0].json()["data"]["endpoint_id"],
            endpoint["id"]
        );

        fail_at(5 * DAY + Duration::from_mins(1)).await;
        assert_eq!(
            received_types(&listener)[1..],
            ["millrace.endpoint.disabled"]
        );
        let published = listener.received()[1].json();
        assert_eq!(published["data"]["reason"], "failing");
        assert_eq!(published["data"]["failing_since"], fetched["failing_since"]);
        assert_eq!(published["source"], endpoint_path(&endpoint));
        for received in listener.received() {
            assert_as_documented(&received.json());
        }
        let disabled = harness
            .get(&endpoint_path(&endpoint))
            .await
            .expect(StatusCode::OK);
        assert_eq!(disabled["state"], "failed");
        fail_at(6 * DAY).await;
        assert_eq!(bad.received().len(), 5, "it is passed by");

        // A person turns it on: its failures so far are forgotten.
        let on = json!({ "state": "enabled" });
        let on = harness.patch(&endpoint_path(&endpoint), on).await;
        assert_eq!(on.expect(StatusCode::OK)["state"], "enabled");
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["failing_since"],
            Value::Null
        );
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(bad.received().len(), 6);
        let again = endpoint_stats(&harness, &endpoint).await;
        assert_ne!(again["failing_since"], fetched["failing_since"]);
        assert_eq!(again["state"], "enabled");
    });
}

#[test]
fn one_success_ends_the_run_of_failures() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let script = [Reply::Status(500), Reply::Status(200), Reply::Status(500)];
        let receiver = Receiver::start(script).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let begin = app::now();
        harness.publish("a").await;
        harness.drain_at(begin).await;
        assert_ne!(
            endpoint_stats(&harness, &endpoint).await["failing_since"],
            Value::Null
        );
        harness.publish("a").await;
        harness.drain_at(begin + Duration::from_mins(2)).await;
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["failing_since"],
            Value::Null
        );
        harness.publish("a").await;
        harness.drain_at(begin + 6 * DAY).await;
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["state"],
            "enabled"
        );
    });
}

#[test]
fn an_instance_that_missed_the_success_disables_nothing() {
    run(async {
        let one = Harness::builder().config(uncached_config()).build().await;
        let mut stale = uncached_config();
        stale.cache.ttl = DAY;
        let two = one.beside().config(stale).build().await;
        let script = [Reply::Status(500), Reply::Status(200), Reply::Status(500)];
        let receiver = Receiver::start(script).await;
        let endpoint = one.endpoint(&receiver.url, &["*"]).await;
        let begin = app::now();
        one.publish("a").await;
        one.drain_at(begin).await;
        assert_ne!(
            endpoint_stats(&two, &endpoint).await["failing_since"],
            Value::Null
        );
        one.publish("a").await;
        one.drain_at(begin + Duration::from_mins(2)).await;
        assert_ne!(
            endpoint_stats(&two, &endpoint).await["failing_since"],
            Value::Null
        );
        two.publish("a").await;
        two.drain_at(begin + 6 * DAY).await;
        assert_eq!(receiver.received().len(), 3);
        for instance in [&one, &two] {
            assert_eq!(
                endpoint_stats(instance, &endpoint).await["state"],
                "enabled"
            );
        }
    });
}

#[test]
fn what_was_held_goes_on_at_once_when_an_endpoint_is_turned_on() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let mut events = vec![];
        for _ in 0..3 {
            events.push(harness.publish("a").await);
        }
        let switch = async |state: &str| {
            let changed = harness
                .patch(&endpoint_path(&endpoint), json!({ "state": state }))
                .await;
            changed.expect(StatusCode::OK)
        };
        switch("disabled").await;
        harness.drain().await;
        harness.sweep_after(Duration::from_secs(60)).await;
        assert!(receiver.received().is_empty());
        switch("enabled").await;
        harness.sweep_after(Duration::from_secs(10)).await;
        assert_eq!(receiver.received().len(), 3);
    });
}

#[test]
fn stats_count_the_latest_deliveries() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start(failures(1)).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let none = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(
            none["latest"],
            json!({
                "since": null, "deliveries": 0, "pending": 0, "delivered": 0, "failed": 0, "canceled": 0,
            })
        );
        for _ in 0..3 {
            harness.publish("a").await;
        }
        harness.drain().await;
        let fetched = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(fetched["latest"]["deliveries"], 3);
        assert_eq!(fetched["latest"]["pending"], 1);
        assert_eq!(fetched["latest"]["delivered"], 2);
        assert_eq!(fetched["breaker"]["state"], "closed");
        let stranger = harness.new_project(&harness::ALL_SCOPES).await.key;
        let path = format!("{}/stats", endpoint_path(&endpoint));
        let theirs = harness
            .request(http::Method::GET, &path, &stranger, Value::Null)
            .await;
        theirs.problem(404);
    });
}

/// Has one more event delivered as if so much time had passed.
async fn deliver_at(harness: &Harness, at: Timestamp) {
    harness.publish("a").await;
    harness.drain_at(at).await;
}

#[test]
fn a_success_soon_after_a_failure_ends_the_run_of_failures() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let script = [500, 200, 500, 500, 200, 500].map(Reply::Status);
        let receiver = Receiver::start(script).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let begin = app::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        deliver_at(&harness, begin).await;
        deliver_at(&harness, after(6)).await;
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["failing_since"], Value::Null);
        // Every day there is a failure, and one success among them.
        deliver_at(&harness, begin + DAY).await;
        deliver_at(&harness, begin + 3 * DAY).await;
        deliver_at(&harness, begin + 3 * DAY + Duration::from_secs(1)).await;
        deliver_at(&harness, begin + 6 * DAY).await;
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["state"], "enabled");
        let since: Timestamp = shown["failing_since"].as_str().unwrap().parse().unwrap();
        assert!(since >= begin + 6 * DAY);
    });
}

#[test]
fn an_instance_whose_cache_is_behind_ends_the_run_it_wrote_and_once() {
    run(async {
        let mut config = uncached_config();
        config.cache.ttl = DAY;
        let harness = Harness::builder().config(config).build().await;
        let script = [Reply::Status(500)];
        let receiver = Receiver::start(script).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let fresh = harness.beside().config(uncached_config()).build().await;
        let begin = app::now();
        deliver_at(&harness, begin).await;
        let shown = endpoint_stats(&fresh, &endpoint).await;
        assert_ne!(shown["failing_since"], Value::Null);
        deliver_at(&harness, begin + Duration::from_secs(1)).await;
        let shown = endpoint_stats(&fresh, &endpoint).await;
        assert_eq!(shown["failing_since"], Value::Null);
        // To write for the next successes there is nothing, whatever the cache says.
        let project = harness.project.parse().unwrap();
        let (admission, projection) = (&harness.app.admission, &fresh.app.projection);
        let known = projection.project_config(&project).await.unwrap();
        let target = known
            .targets
            .get(&endpoint["id"].as_str().unwrap().parse().unwrap());
        for later in 2..5 {
            let now = begin + Duration::from_secs(later);
            assert!(!admission.end_streak(target.unwrap(), now));
        }

        // Another run, of another instance: this one's successes have no more to write.
        receiver.script([Reply::Status(500)]);
        deliver_at(&fresh, begin + Duration::from_mins(2)).await;
        for _ in 0..3 {
            deliver_at(&harness, begin + Duration::from_mins(3)).await;
        }
        let shown = endpoint_stats(&fresh, &endpoint).await;
        assert_ne!(shown["failing_since"], Value::Null);
    });
}

#[test]
fn a_run_is_the_latest_that_is_known() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let project = harness.project.parse().unwrap();
        let id = endpoint["id"].as_str().unwrap().parse().unwrap();
        let (admission, projection) = (&harness.app.admission, &harness.app.projection);
        let known = async || projection.project_config(&project).await.unwrap();
        let old = app::now();
        let begun = projection.record_failing(&project, &id, old, old).await;
        assert_eq!(begun.unwrap(), old);
        let config = known().await;
        let target = config.targets.get(&id).unwrap();
        assert_eq!(admission.failing_since(target), Some(old));
        // Begun anew here, which the cache does not show yet; and by another instance.
        let new = old + 14 * DAY;
        assert_eq!(admission.begin_streak(target, new, new), None);
        assert_eq!(admission.failing_since(target), Some(new));
        let newer = new + 14 * DAY;
        let before = target.failure_streak.get().unwrap();
        let begun = projection.record_failing_anew(&project, &id, newer, before);
        assert!(begun.await.unwrap());
        let config = known().await;
        let target = config.targets.get(&id).unwrap();
        assert_eq!(admission.failing_since(target), Some(newer));
        // A success that could not be written: the run is the one it was.
        assert!(admission.end_streak(target, newer + DAY));
        admission.resume_streak(target, newer + DAY);
        assert_eq!(admission.failing_since(target), Some(newer));
    });
}

#[test]
fn two_failures_far_apart_disable_nothing() {
    run(async {
        let mut config = uncached_config();
        config.delivery.disable_after_days = 1;
        let harness = Harness::builder().config(config).build().await;
        let (bad, listener) = (
            Receiver::start(failures(3)).await,
            Receiver::start([]).await,
        );
        let endpoint = harness.endpoint(&bad.url, &["a"]).await;
        let told = ["millrace.endpoint.failing", "millrace.endpoint.disabled"];
        harness.endpoint(&listener.url, &told).await;
        let begin = app::now();
        deliver_at(&harness, begin).await;
        deliver_at(&harness, begin + Duration::from_hours(25)).await;
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["state"], "enabled");
        assert_eq!(received_types(&listener), told[..1]);
        assert_as_documented(&listener.only().json());
        deliver_at(&harness, begin + Duration::from_hours(26)).await;
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["state"], "failed");
        assert_eq!(received_types(&listener), told);
    });
}

#[test]
fn silence_is_not_failing() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start(failures(20)).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let begin = app::now();
        for day in [0, 14, 28, 35] {
            deliver_at(&harness, begin + day * DAY).await;
            let shown = endpoint_stats(&harness, &endpoint).await;
            assert_eq!(shown["state"], "enabled", "day {day}");
            let since: Timestamp = shown["failing_since"].as_str().unwrap().parse().unwrap();
            assert!(since >= begin + day * DAY, "day {day}");
        }
        // From then on it fails every day.
        for day in [36, 37, 38, 39] {
            deliver_at(&harness, begin + day * DAY).await;
        }
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["state"], "enabled");
        deliver_at(&harness, begin + 40 * DAY + Duration::from_mins(1)).await;
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["state"], "failed");
    });
}

#[test]
fn a_test_that_is_refused_is_no_failure_and_one_that_is_taken_ends_them() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let script = [400, 500, 200].map(Reply::Status);
        let receiver = Receiver::start(script).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let test = format!("{}/test", endpoint_path(&endpoint));
        let begin = app::now();
        let failing_since =
            async || endpoint_stats(&harness, &endpoint).await["failing_since"].clone();
        let tested = harness.post(&test, Value::Null).await;
        tested.expect(StatusCode::ACCEPTED);
        harness.drain_at(begin).await;
        assert_eq!(failing_since().await, Value::Null);
        deliver_at(&harness, begin + Duration::from_secs(1)).await;
        assert_ne!(failing_since().await, Value::Null);
        let tested = harness.post(&test, Value::Null).await;
        tested.expect(StatusCode::ACCEPTED);
        harness.drain_at(begin + Duration::from_secs(2)).await;
        assert_eq!(failing_since().await, Value::Null);
    });
}

#[test]
fn a_success_that_nobody_wrote_down_keeps_an_endpoint_from_being_disabled() {
    run(async {
        let one = Harness::builder().config(uncached_config()).build().await;
        let mut stale = uncached_config();
        stale.cache.ttl = DAY;
        let two = one.beside().config(stale).build().await;
        let script = [200, 500, 200, 500, 500, 500].map(Reply::Status);
        let receiver = Receiver::start(script).await;
        let endpoint = one.endpoint(&receiver.url, &["*"]).await;
        // It reads the endpoint before it fails, and sees the success after.
        two.publish("a").await;
        two.drain().await;
        let begin = app::now();
        deliver_at(&one, begin).await;
        two.publish("a").await;
        two.drain().await;
        let shown = endpoint_stats(&one, &endpoint).await;
        assert_ne!(shown["failing_since"], Value::Null, "it is not written");
        for later in [2 * DAY, 4 * DAY, 5 * DAY + Duration::from_mins(1)] {
            deliver_at(&one, begin + later).await;
            let shown = endpoint_stats(&one, &endpoint).await;
            assert_eq!(shown["state"], "enabled");
        }
    });
}

#[test]
fn endpoints_are_listed_by_their_state_and_by_whether_they_fail() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (bad, good) = (
            Receiver::start(failures(1)).await,
            Receiver::start([]).await,
        );
        let failing = harness.endpoint(&bad.url, &["a"]).await;
        let well = harness.endpoint(&good.url, &["a"]).await;
        let off = harness.endpoint(&good.url, &["b"]).await;
        let body = json!({ "state": "disabled" });
        let path = endpoint_path(&off);
        harness.patch(&path, body).await.expect(StatusCode::OK);
        harness.publish("a").await;
        harness.drain().await;
        let listed = async |query: &str| {
            let path = format!("/v1/endpoints?{query}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            let rows = page["data"].as_array().unwrap().iter();
            rows.map(|row| row["id"].clone()).collect::<Vec<_>>()
        };
        let (failing, well, off) = (&failing["id"], &well["id"], &off["id"]);
        let of = |ids: &[&Value]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
        assert_eq!(listed("").await, of(&[failing, well, off]));
        assert_eq!(listed("state=enabled").await, of(&[failing, well]));
        assert_eq!(listed("state=disabled").await, of(&[off]));
        assert_eq!(listed("state=gone").await, of(&[]));
        assert_eq!(listed("failing=true").await, of(&[failing]));
        assert_eq!(listed("failing=false").await, of(&[well, off]));
        assert_eq!(listed("failing=true&state=disabled").await, of(&[]));
        let refused = harness.get("/v1/endpoints?state=deleted").await;
        assert_eq!(refused.json["field"], "state");
        refused.problem(400);

        // A position is one of its own list alone.
        let page = harness.get("/v1/endpoints?failing=false&limit=1").await;
        let cursor = page.json["next_cursor"].as_str().unwrap().to_owned();
        let next = listed(&format!("failing=false&cursor={cursor}")).await;
        assert_eq!(next, of(&[off]));
        let elsewhere = format!("/v1/endpoints?state=enabled&cursor={cursor}");
        harness.get(&elsewhere).await.problem(400);
    });
}
