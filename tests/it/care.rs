//! Endpoint care: what one endpoint does or asks for never hurts another.

use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use millrace::app;
use millrace::config::Config;
use millrace::jobs::{self, Done};
use millrace::model::id::{DeliveryId, EndpointId};
use millrace::model::job::Job;
use millrace::queue::lanes::WaitReason;
use serde_json::{Value, json};

use crate::support::fixtures::{
    create_endpoint, endpoint_path, endpoint_stats, failures, only_delivery, received_types,
    uncached_config,
};
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::{Received, Receiver, Reply};

const DAY: Duration = Duration::from_hours(24);

// Rate limit and concurrency

#[test]
fn instances_keep_a_rate_limit_together_and_evenly() {
    run(async {
        let one = Harness::builder().config(uncached_config()).build().await;
        let two = one.beside().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        create_endpoint(&one, json!({ "url": receiver.url, "rate_limit": 50 })).await;
        for harness in [&one, &two] {
            for _ in 0..60 {
                harness.publish("a").await;
            }
        }
        let begin = app::now();
        let mut made = vec![];
        for step in 0..300 {
            let now = begin + Duration::from_millis(step * 10);
            one.drain_at(now).await;
            two.drain_at(now).await;
            made.push(receiver.received().len());
            let of_last_100_ms =
                made[made.len() - 1] - made.get(made.len().wrapping_sub(11)).unwrap_or(&0);
            assert!(
                of_last_100_ms <= 11,
                "{of_last_100_ms} within 100 ms: {made:?}"
            );
        }
        assert!(
            (45..=60).contains(&made[99]),
            "after a second: {}",
            made[99]
        );
        assert!((95..=110).contains(&made[199]), "after two: {}", made[199]);
        assert_eq!(made[299], 120, "none is left");
    });
}

#[test]
fn what_waits_for_its_turn_holds_up_nobody_else() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (paced, other) = (Receiver::start([]).await, Receiver::start([]).await);
        create_endpoint(&harness, json!({ "url": paced.url, "rate_limit": 1 })).await;
        harness.endpoint(&other.url, &["*"]).await;
        for _ in 0..5 {
            harness.publish("a").await;
        }
        let begin = app::now();
        harness.drain_at(begin).await;
        assert_eq!((paced.received().len(), other.received().len()), (1, 5));
        for second in 1..5 {
            harness.drain_at(begin + Duration::from_secs(second)).await;
            assert_eq!(paced.received().len() as u64, second + 1);
        }
    });
}

#[test]
fn what_waits_behind_its_own_backlog_is_swept_ever_more_rarely() {
    run(async {
        let mut harness = Harness::builder().config(uncached_config()).build().await;
        harness.leaves_jobs = true;
        create_endpoint(
            &harness,
            json!({ "url": "http://127.0.0.1:9/", "rate_limit": 1 }),
        )
        .await;
        let mut events = vec![];
        for _ in 0..110 {
            events.push(harness.publish("a").await);
        }
        let now = app::now() + Duration::from_secs(6);
        let swept = jobs::sweep::sweep(&harness.app, now).await.unwrap();
        assert_eq!((swept.found, swept.enqueued), (110, 110));
        let due = only_delivery(&harness, &events[100]).await["next_attempt_at"].clone();
        let due: Timestamp = due.as_str().unwrap().parse().unwrap();
        assert_eq!(due, now + Duration::from_secs(40), "eight leases");
    });
}

/// Two hundred deliveries swept and those made that had room, of a lane that is full;
/// and when that was.
async fn with_some_put_off() -> (Harness, Receiver, Timestamp) {
    let mut config = uncached_config();
    // A lane has an eighth of it.
    config.queue.local_jobs_max = 1_000;
    let harness = Harness::builder().config(config).build().await;
    let receiver = Receiver::start([]).await;
    create_endpoint(&harness, json!({ "url": receiver.url })).await;
    for _ in 0..200 {
        harness.publish("a").await;
    }
    let now = app::now() + Duration::from_secs(6);
    let swept = jobs::sweep::sweep(&harness.app, now).await.unwrap();
    assert_eq!((swept.found, swept.enqueued), (200, 200));
    harness.drain_at(now).await;
    let first = receiver.received().len();
    assert!((100..150).contains(&first), "{first} had room");
    (harness, receiver, now)
}

#[test]
fn what_its_lane_had_no_room_for_comes_in_once_there_is_some() {
    run(async {
        let (harness, receiver, now) = with_some_put_off().await;

        // Their leases are far from over.
        let now = now + Duration::from_secs(1);
        let swept = jobs::sweep::sweep(&harness.app, now).await.unwrap();
        assert_eq!(swept.found, 0);
        harness.drain_at(now).await;
        let ids = receiver.received().into_iter();
        let ids: HashSet<_> = ids
            .map(|received| received.header("webhook-id").to_owned())
            .collect();
        assert_eq!((ids.len(), receiver.received().len()), (200, 200));
    });
}

#[test]
fn what_was_put_off_for_too_long_is_left_to_the_sweeper() {
    run(async {
        let (harness, receiver, now) = with_some_put_off().await;
        let first = receiver.received().len();

        // Eight leases less one.
        harness
            .app
            .queue
            .readmit_deferred(now + Duration::from_secs(35));
        harness.drain_at(now).await;
        assert_eq!(receiver.received().len(), first);
        assert_eq!(harness.app.queue.depth(), 0);
        harness.sweep_after(Duration::from_secs(47)).await;
        assert_eq!(receiver.received().len(), 200);
    });
}

#[test]
fn where_no_lane_waits_a_delivery_takes_its_slot_along() {
    run(async {
        let mut harness = Harness::builder().config(uncached_config()).build().await;
        harness.leaves_jobs = true;
        let receiver = Receiver::start([]).await;
        let endpoint =
            create_endpoint(&harness, json!({ "url": receiver.url, "rate_limit": 1 })).await;
        let endpoint: EndpointId = endpoint["id"].as_str().unwrap().parse().unwrap();
        let mut ids = vec![];
        for _ in 0..4 {
            let event = harness.publish("a").await.parse().unwrap();
            ids.push(DeliveryId::new(&event, &endpoint));
        }
        let job = |id: &DeliveryId| Job::Deliver {
            delivery: id.clone(),
            attempts_made: 0,
            payload: None,
        };
        // Far enough from the clock that nothing is waited for.
        let begin = app::now() + Duration::from_secs(60);
        for id in &ids {
            match jobs::run(&harness.app, job(id), None, begin).await.unwrap() {
                Done::Finished => {}
                Done::Later(later) => {
                    let postponed = jobs::reschedule::reschedule(&harness.app, *later, begin);
                    postponed.await.unwrap();
                }
            }
        }
        assert_eq!(receiver.received().len(), 1);
        // Each goes at its own time, and asks for no other.
        for (n, id) in ids.iter().enumerate().skip(1) {
            let now = begin + Duration::from_secs(n as u64);
            let done = jobs::run(&harness.app, job(id), None, now).await.unwrap();
            assert!(matches!(done, Done::Finished), "{done:?}");
            assert_eq!(receiver.received().len(), n + 1);
        }
    });
}

#[test]
fn an_endpoint_has_no_more_attempts_under_way_than_it_says() {
    run(async {
        let mut harness = Harness::builder().config(uncached_config()).build().await;
        harness.leaves_jobs = true;
        let slow = Reply::Slow(Duration::from_millis(100));
        let receiver = Receiver::start([slow.clone(), slow]).await;
        let endpoint = create_endpoint(
            &harness,
            json!({ "url": receiver.url, "max_concurrency": 2 }),
        )
        .await;
        let endpoint: EndpointId = endpoint["id"].as_str().unwrap().parse().unwrap();
        let mut jobs = vec![];
        for _ in 0..3 {
            let event = harness.publish("a").await.parse().unwrap();
            jobs.push(Job::Deliver {
                delivery: DeliveryId::new(&event, &endpoint),
                attempts_made: 0,
                payload: None,
            });
        }
        let now = app::now();
        let under_way = jobs
            .into_iter()
            .map(|job| jobs::run(&harness.app, job, None, now));
        let done = futures_util::future::join_all(under_way).await;
        let mut back = done.into_iter().filter_map(|done| match done.unwrap() {
            Done::Later(later) => Some(later),
            Done::Finished => None,
        });
        let later = back.next().unwrap();
        assert_eq!(later.wait, WaitReason::Limit(2));
        assert!(back.next().is_none());
        assert_eq!(receiver.received().len(), 2);
        let done = jobs::run(&harness.app, later.job, None, now).await.unwrap();
        assert!(matches!(done, Done::Finished));
        assert_eq!(receiver.received().len(), 3);
    });
}

// Circuit breaker

fn with_breaker() -> Config {
    let mut config = uncached_config();
    config.delivery.breaker_failures = 3;
    config
}

#[test]
fn an_endpoint_that_keeps_failing_is_left_alone_and_tried_by_one() {
    run(async {
        let harness = Harness::builder().config(with_breaker()).build().await;
        let receiver = Receiver::start(failures(4)).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let mut events = vec![];
        for _ in 0..6 {
            events.push(harness.publish("a").await);
        }
        let begin = app::now();
        harness.drain_at(begin).await;
        assert_eq!(receiver.received().len(), 3, "then it is open");
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["breaker"]["state"], "open");
        assert_eq!(shown["breaker"]["failures"], 3);
        let retry_at: Timestamp = shown["breaker"]["retry_at"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(retry_at >= begin + Duration::from_secs(30));
        assert_eq!(shown["latest"]["pending"], 6);

        // What is held has made no attempt, and does not before the time is over.
        let mut attempts = vec![];
        for event in &events {
            let delivery = only_delivery(&harness, event).await;
            assert_eq!(delivery["state"], "pending");
            attempts.push(delivery["attempts_made"].as_u64().unwrap());
        }
        attempts.sort_unstable();
        assert_eq!(attempts, [0, 0, 0, 1, 1, 1]);
        harness.sweep_after(Duration::from_secs(20)).await;
        assert_eq!(receiver.received().len(), 3);

        // One goes, fails, and the wait doubles; the next succeeds and lets all go.
        harness.sweep_after(Duration::from_secs(65)).await;
        assert_eq!(receiver.received().len(), 4);
        harness.sweep_after(Duration::from_secs(100)).await;
        assert_eq!(receiver.received().len(), 4);
        harness.sweep_after(Duration::from_secs(65 + 61 + 30)).await;
        harness
            .sweep_after(Duration::from_secs(65 + 61 + 300))
            .await;
        for event in &events {
            assert_eq!(only_delivery(&harness, event).await["state"], "delivered");
        }
        assert_eq!(receiver.received().len(), 10);
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["breaker"]["state"],
            "closed"
        );
    });
}

#[test]
fn an_open_breaker_leaves_other_endpoints_alone() {
    run(async {
        let harness = Harness::builder().config(with_breaker()).build().await;
        let (bad, good) = (
            Receiver::start(failures(100)).await,
            Receiver::start([]).await,
        );
        harness.endpoint(&bad.url, &["*"]).await;
        harness.endpoint(&good.url, &["*"]).await;
        for _ in 0..10 {
            harness.publish("a").await;
        }
        harness.drain().await;
        assert_eq!((bad.received().len(), good.received().len()), (3, 10));
    });
}

#[test]
fn a_person_is_not_kept_waiting_by_it() {
    run(async {
        let harness = Harness::builder().config(with_breaker()).build().await;
        let receiver = Receiver::start(failures(3)).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..4 {
            harness.publish("a").await;
        }
        harness.drain().await;
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["breaker"]["state"],
            "open"
        );
        let test = format!("{}/test", endpoint_path(&endpoint));
        harness
            .post(&test, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 4);
        assert_eq!(
            endpoint_stats(&harness, &endpoint).await["breaker"]["state"],
            "closed"
        );
    });
}

#[test]
fn every_delivery_comes_to_an_end_whatever_the_breaker_does() {
    run(async {
        let mut config = with_breaker();
        config.delivery.retry_schedule = vec![Duration::ZERO, Duration::from_secs(60)];
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start(failures(1000)).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let mut events = vec![];
        for _ in 0..8 {
            events.push(harness.publish("a").await);
        }
        harness.drain().await;
        for minutes in (0..90).step_by(3) {
            harness.sweep_after(Duration::from_mins(minutes)).await;
        }
        for event in &events {
            let delivery = only_delivery(&harness, event).await;
            assert_eq!(delivery["state"], "failed");
            assert_eq!(delivery["attempts_made"], 2);
        }
        assert_eq!(receiver.received().len(), 16);
    });
}

// Days of failure

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
        let shown = endpoint_stats(&harness, &endpoint).await;
        let since: Timestamp = shown["failing_since"].as_str().unwrap().parse().unwrap();
        assert!(since >= begin && since < begin + Duration::from_secs(10));
        let disabled_at: Timestamp = shown["disabled_at"].as_str().unwrap().parse().unwrap();
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
        let told = listener.received()[1].json();
        assert_eq!(told["data"]["reason"], "failing");
        assert_eq!(told["data"]["failing_since"], shown["failing_since"]);
        assert_eq!(told["source"], endpoint_path(&endpoint));
        let disabled = harness
            .get(&endpoint_path(&endpoint))
            .await
            .expect(StatusCode::OK);
        assert_eq!(disabled["state"], "failed");
        fail_at(6 * DAY).await;
        assert_eq!(bad.received().len(), 5, "it is passed by");

        // A person turns it on: what was is forgotten.
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
        assert_ne!(again["failing_since"], shown["failing_since"]);
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

// Operational events

#[test]
fn a_delivery_that_fails_for_good_is_told_once_a_round() {
    run(async {
        let mut config = uncached_config();
        config.delivery.retry_schedule = vec![Duration::ZERO];
        let harness = Harness::builder().config(config).build().await;
        // The listener fails too: that is told to nobody.
        let (bad, listener) = (
            Receiver::start(failures(9)).await,
            Receiver::start(failures(9)).await,
        );
        harness.endpoint(&bad.url, &["a"]).await;
        harness
            .endpoint(&listener.url, &["millrace.delivery.*"])
            .await;
        let event = harness.publish("a").await;
        harness.drain().await;
        assert_eq!(received_types(&listener), ["millrace.delivery.exhausted"]);
        let told = listener.received()[0].json();
        insta::assert_json_snapshot!(told["data"], {
            ".delivery_id" => "[id]", ".event_id" => "[id]", ".endpoint_id" => "[id]",
            ".last_attempt.at" => "[time]",
        }, @r#"
        {
          "attempts_made": 1,
          "delivery_id": "[id]",
          "endpoint_id": "[id]",
          "event_id": "[id]",
          "event_type": "a",
          "last_attempt": {
            "at": "[time]",
            "error": null,
            "status": 500
          },
          "reason": "schedule_exhausted"
        }
        "#);
        let failed = only_delivery(&harness, &event).await;
        assert_eq!(told["data"]["delivery_id"], failed["id"]);
        assert_eq!(
            told["source"],
            format!("/v1/deliveries/{}", failed["id"].as_str().unwrap())
        );

        let retry = format!("/v1/deliveries/{}/retry", failed["id"].as_str().unwrap());
        harness
            .post(&retry, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(received_types(&listener).len(), 2, "another round");
    });
}

#[test]
fn gone_is_told_too() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let gone = Receiver::start([Reply::Status(410)]).await;
        let listener = Receiver::start([]).await;
        harness.endpoint(&gone.url, &["a"]).await;
        harness.endpoint(&listener.url, &["millrace.*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        let mut told: Vec<_> = listener.received().iter().map(Received::json).collect();
        told.sort_by_key(|event| event["type"].to_string());
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0]["type"], "millrace.delivery.exhausted");
        assert_eq!(told[0]["data"]["reason"], "gone");
        assert_eq!(told[1]["type"], "millrace.endpoint.disabled");
        assert_eq!(told[1]["data"]["reason"], "gone");
    });
}

// What a request carries

#[test]
fn headers_and_credentials_are_sent_and_never_shown() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let body = json!({
            "url": receiver.url,
            "headers": { "X-Api-Key": "s3cret-key", "x-env": "prod" },
            "auth": { "type": "basic", "username": "s3cret-user", "password": "s3cret-pass" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        insta::assert_json_snapshot!(
            json!({ "headers": endpoint["headers"], "auth": endpoint["auth"] }), @r#"
        {
          "auth": {
            "type": "basic"
          },
          "headers": {
            "x-api-key": "********",
            "x-env": "********"
          }
        }
        "#);
        let shown = harness.get(&endpoint_path(&endpoint)).await;
        assert!(!String::from_utf8_lossy(&shown.bytes).contains("s3cret"));
        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.only();
        assert_eq!(received.header("x-api-key"), "s3cret-key");
        assert_eq!(received.header("x-env"), "prod");
        // "s3cret-user:s3cret-pass"
        let basic = "Basic czNjcmV0LXVzZXI6czNjcmV0LXBhc3M=";
        assert_eq!(received.header("authorization"), basic);
        assert_eq!(
            received.header("content-type"),
            "application/cloudevents+json"
        );

        // What a change does not name stays; what it names is replaced as a whole.
        let changes = json!({ "auth": { "type": "bearer", "token": "t0ken" } });
        harness
            .patch(&endpoint_path(&endpoint), changes)
            .await
            .expect(StatusCode::OK);
        let changes = json!({ "headers": { "x-env": "test" } });
        let changed = harness
            .patch(&endpoint_path(&endpoint), changes)
            .await
            .expect(StatusCode::OK);
        assert_eq!(changed["auth"]["type"], "bearer");
        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.received().remove(1);
        assert_eq!(received.header("authorization"), "Bearer t0ken");
        assert_eq!(received.header("x-env"), "test");
        assert!(!received.headers.contains_key("x-api-key"));

        let none = json!({ "auth": null, "headers": {} });
        let changed = harness
            .patch(&endpoint_path(&endpoint), none)
            .await
            .expect(StatusCode::OK);
        assert_eq!(changed["headers"], json!({}));
        assert_eq!(changed["auth"], Value::Null);
    });
}

#[test]
fn secrets_are_sealed_in_both_stores() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let body = json!({
            "url": "http://127.0.0.1:9/", "headers": { "x-a": "s3cret-value" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        let id = endpoint["id"].as_str().unwrap();
        let client = harness.app.postgres.get().await.unwrap();
        let query = "select row_to_json(e)::text, e.extras_sealed from endpoints e where id = $1";
        let row = client.query_one(query, &[&id]).await.unwrap();
        let (text, sealed): (String, Vec<u8>) = (row.get(0), row.get(1));
        drop(client);
        assert!(!text.contains("s3cret") && text.contains("x-a"), "{text}");
        assert!(!sealed.windows(6).any(|window| window == b"s3cret"));
        let items = harness.app.dynamo.client.query();
        let items = items
            .table_name(&harness.app.dynamo.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(
                ":pk",
                aws_sdk_dynamodb::types::AttributeValue::S(format!("project#{}", harness.project)),
            );
        let items = format!("{:?}", items.send().await.unwrap().items());
        assert!(items.contains(id) && !items.contains("s3cret"), "{items}");

        // Without its key nothing is sent rather than something else.
        let other = harness.beside().key_ring([9; 32]).build().await;
        other.publish("a").await;
        let failed = jobs::worker::drain(&other.app, app::now()).await;
        assert_eq!(failed.len(), 1);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let mut refusals = String::new();
        for body in [
            json!({ "rate_limit": 0 }),
            json!({ "rate_limit": 1001 }),
            json!({ "max_concurrency": 0 }),
            json!({ "body_format": "xml" }),
            json!({ "headers": { "Content-Type": "a" } }),
            json!({ "headers": { "webhook-id": "a" } }),
            json!({ "headers": { "x-a": "s3cret\r\nx-b: c" } }),
            json!({ "headers": { "x-a\r\nx-b": "s3cret" } }),
            json!({ "headers": { "x-a": 5 } }),
            json!({ "auth": { "type": "digest" } }),
            json!({ "auth": { "type": "bearer", "token": "s3cret s3cret" } }),
            json!({ "auth": { "type": "bearer", "token": 5 } }),
            json!({ "headers": { "authorization": "a" }, "auth": { "type": "bearer", "token": "b" } }),
        ] {
            let mut body = body;
            body["url"] = "https://example.com".into();
            let problem = harness.post("/v1/endpoints", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        assert!(!refusals.contains("s3cret"));
        insta::assert_snapshot!(refusals, @r"
        invalid: rate_limit: expected null or 1 to 1000, got 0
        invalid: rate_limit: expected null or 1 to 1000, got 1001
        invalid: max_concurrency: expected null or 1 to 1000, got 0
        invalid: body_format: unknown variant `xml`, expected `cloudevents` or `data`
        invalid: headers.Content-Type: expected a header that says nothing of the connection or the body, nor is set by Millrace
        invalid: headers.webhook-id: expected a header that says nothing of the connection or the body, nor is set by Millrace
        invalid: headers.x-a: expected visible ASCII characters, and spaces only between them
        invalid: headers.?: expected the name of a header, up to 100 characters
        invalid: headers.x-a: expected a string
        invalid: auth.type: unknown variant `digest`, expected `basic` or `bearer`
        invalid: auth.token: expected 1 to 4096 visible ASCII characters without spaces
        invalid: auth: expected a string
        invalid: headers.authorization: expected either this or auth, got both
        ");
    });
}

#[test]
fn data_alone_is_sent_in_binary_mode_and_signed_as_sent() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let body = json!({
            "url": receiver.url, "body_format": "data", "headers": { "x-a": "b" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        assert_eq!(endpoint["body_format"], "data");
        let event = json!({
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid",
            "subject": "Nr. 7 ä", "data": { "n": 1 },
        });
        let request = http::Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string().into());
        harness
            .send(request.unwrap())
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;

        let received = receiver.only();
        assert_eq!(received.json(), json!({ "n": 1 }));
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("ce-type"), "order.paid");
        assert_eq!(received.header("ce-source"), "/shop");
        assert_eq!(received.header("ce-subject"), "Nr.%207%20%C3%A4");
        let webhook = standardwebhooks::Webhook::new(endpoint["secret"].as_str().unwrap()).unwrap();
        webhook.verify(&received.body, &received.headers).unwrap();
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
        let shown = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(shown["latest"]["deliveries"], 3);
        assert_eq!(shown["latest"]["pending"], 1);
        assert_eq!(shown["latest"]["delivered"], 2);
        assert_eq!(shown["breaker"]["state"], "closed");
        let (_, stranger) = harness.new_project(&harness::ALL_SCOPES).await;
        let path = format!("{}/stats", endpoint_path(&endpoint));
        let theirs = harness
            .request(http::Method::GET, &path, &stranger, Value::Null)
            .await;
        theirs.problem(404);
    });
}
