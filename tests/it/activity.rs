//! What happened in a project over time: counted in memory, written down now and then,
//! and asked for.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use millrace::app;
use millrace::jobs::activity;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "embedded")]
use crate::support::faults::{Fault, FaultyStore};
use crate::support::fixtures::{create_endpoint, endpoint_path, failures, uncached_config};
use crate::support::harness::{ALL_SCOPES, Harness, run};
use crate::support::receiver::{Receiver, Reply};

const ACTIVITY: &str = "/v1/activity";

/// The sum of all windows, in which the test lies wherever the clock stands.
async fn total(harness: &Harness, query: &str) -> Value {
    let answer = harness.get(&format!("{ACTIVITY}{query}")).await;
    answer.expect(StatusCode::OK)["total"].clone()
}

async fn failing(harness: &Harness, query: &str) -> Value {
    let path = format!("{ACTIVITY}/endpoints{query}");
    harness.get(&path).await.expect(StatusCode::OK)
}

/// Two events, of which one is published twice; three endpoints: one takes all at once,
/// one at its second attempt, and one is gone.
async fn busy(harness: &Harness) -> [Value; 3] {
    let good = Receiver::start([]).await;
    let late = Receiver::start([Reply::Status(500)]).await;
    let gone = Receiver::start([Reply::Status(410)]).await;
    let mut endpoints = vec![];
    for receiver in [&good, &late, &gone] {
        endpoints.push(harness.endpoint(&receiver.url, &["a"]).await);
    }
    for _ in 0..2 {
        let event = json!({ "specversion": "1.0", "id": "1", "source": "/t", "type": "a" });
        let sent = harness.post("/v1/events", event).await;
        sent.expect(StatusCode::ACCEPTED);
    }
    harness.publish("none").await;
    harness.drain().await;
    harness.sweep_after(Duration::from_mins(2)).await;
    assert_eq!(late.received().len(), 2);
    endpoints.try_into().unwrap()
}

#[test]
fn what_happened_is_counted_once_it_is_written_down() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let none = total(&harness, "?window=5m").await;
        assert_eq!(none["accepted"], 0);
        assert_eq!(none["attempt_ms"], Value::Null);
        busy(&harness).await;
        assert_eq!(total(&harness, "").await["accepted"], 0);
        activity::flush(&harness.app).await;

        // Those that Millrace published itself are among them.
        let own = harness.get("/v1/events?type=millrace.*").await;
        let own = own.expect(StatusCode::OK)["data"].as_array().unwrap().len();
        let later = (app::now() + Duration::from_mins(10)).to_string();
        for window in ["5m", "hour", "6h", "day"] {
            let query = format!("?window={window}&until={later}");
            let counted = total(&harness, &query).await;
            assert_eq!(counted["accepted"], 2 + own, "{counted}");
            assert_eq!(counted["duplicates"], 1, "{counted}");
            assert_eq!(
                counted["attempts"],
                json!({ "succeeded": 2, "failed": 2 }),
                "{counted}"
            );
            assert_eq!(
                counted["deliveries"],
                json!({ "delivered_at_once": 1, "delivered_later": 1, "failed": 1 }),
                "{counted}"
            );
            let ms = |of: &str, name: &str| counted[of][name].as_u64().unwrap();
            for of in ["attempt_ms", "lag_ms"] {
                assert!(ms(of, "p50") <= ms(of, "p95") && ms(of, "p95") <= ms(of, "p99"));
                assert!(ms(of, "p99") < 60_000, "{counted}");
            }
        }
        // It is added to, not replaced; and nothing is written where nothing happened.
        harness.publish("none").await;
        assert_eq!(activity::flush(&harness.app).await, 2, "a slot and an hour");
        assert_eq!(activity::flush(&harness.app).await, 0);
        let query = format!("?until={later}");
        assert_eq!(total(&harness, &query).await["accepted"], 3 + own);
    });
}

#[test]
fn windows_follow_each_other_and_add_up_to_the_total() {
    run(async {
        let harness = Harness::new().await;
        for _ in 0..3 {
            harness.publish("a").await;
        }
        activity::flush(&harness.app).await;
        let until = app::now() + Duration::from_mins(10);
        for (window, seconds, hours) in [
            ("5m", 300, 3),
            ("hour", 3_600, 30),
            ("6h", 21_600, 100),
            ("day", 86_400, 1_000),
        ] {
            let since = until - Duration::from_hours(hours);
            let path = format!("{ACTIVITY}?window={window}&since={since}&until={until}");
            let answer = harness.get(&path).await.expect(StatusCode::OK);
            let windows = answer["windows"].as_array().unwrap();
            let at = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
            assert!(at(&windows[0]["start"]) <= since);
            assert!(at(&windows[windows.len() - 1]["end"]) >= until);
            for pair in windows.windows(2) {
                assert_eq!(pair[0]["end"], pair[1]["start"]);
            }
            for one in windows {
                let wide = at(&one["end"]).duration_since(at(&one["start"]));
                assert_eq!(wide.as_secs(), seconds, "{window}");
            }
            let accepted = windows.iter().map(|one| one["accepted"].as_u64().unwrap());
            assert_eq!(accepted.sum::<u64>(), 3, "{window}");
            assert_eq!(answer["total"]["accepted"], 3);
            assert_eq!(answer["total"]["start"], windows[0]["start"]);
        }
    });
}

#[test]
fn endpoints_that_fail_now_come_first_and_then_those_that_failed_most() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let [good, late, gone] = busy(&harness).await;
        let dead = Receiver::start(failures(9)).await;
        let body = json!({ "url": dead.url, "event_types": ["a"], "tenant": "acme" });
        let dead = create_endpoint(&harness, body).await;
        for _ in 0..3 {
            let event = json!({ "type": "a", "tenant": "acme" });
            harness.publish_body(event).await;
            harness.drain().await;
        }
        activity::flush(&harness.app).await;
        let until = app::now() + Duration::from_mins(10);
        let shown = failing(&harness, &format!("?until={until}")).await;
        assert_eq!(shown["has_more"], false);
        let rows = shown["endpoints"].as_array().unwrap();
        let ids: Vec<_> = rows.iter().map(|row| &row["endpoint_id"]).collect();
        assert_eq!(ids, [&gone["id"], &dead["id"], &late["id"]], "{shown}");
        assert!(!ids.contains(&&good["id"]));
        assert_eq!(rows[0]["state"], "gone");
        assert_eq!(rows[0]["failed_deliveries"], 1);
        assert_eq!(rows[1]["failed_attempts"], 3);
        assert_eq!(rows[1]["waiting"], 3);
        assert_eq!(rows[1]["tenant"], "acme");
        assert_eq!(rows[1]["url"], dead["url"]);
        assert!(rows[1]["failing_since"].is_string() && rows[1]["disabled_at"].is_string());
        assert_eq!(rows[2]["failing_since"], Value::Null);
        assert_eq!(rows[2]["waiting"], 0);

        let one = failing(&harness, &format!("?until={until}&limit=1")).await;
        assert_eq!(one["endpoints"].as_array().unwrap().len(), 1);
        assert_eq!(one["has_more"], true);
        // Of another time, or deleted: only what fails now, and nothing.
        let before = failing(
            &harness,
            "?since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z",
        );
        let before = before.await;
        assert_eq!(before["endpoints"].as_array().unwrap().len(), 2, "{before}");
        assert_eq!(before["endpoints"][1]["failed_attempts"], 0);
        for endpoint in [&dead, &gone, &late] {
            harness.delete(&endpoint_path(endpoint)).await;
        }
        let none = failing(&harness, &format!("?until={until}")).await;
        assert_eq!(none["endpoints"], json!([]));
    });
}

#[test]
fn a_project_sees_its_own_alone_and_a_key_what_it_may() {
    run(async {
        let harness = Harness::new().await;
        harness.publish("a").await;
        activity::flush(&harness.app).await;
        let other = harness.new_project(&ALL_SCOPES).await;
        let until = app::now() + Duration::from_mins(10);
        let path = format!("{ACTIVITY}?until={until}");
        let seen = harness.request(Method::GET, &path, &other.key, Value::Null);
        let seen = seen.await.expect(StatusCode::OK);
        assert_eq!(seen["total"]["accepted"], 0);
        for (path, scope) in [
            (ACTIVITY, "events:read"),
            ("/v1/activity/endpoints", "endpoints:read"),
        ] {
            let others = ALL_SCOPES.into_iter().filter(|one| *one != scope);
            let others: Vec<_> = others.collect();
            let lacking = harness.new_key(&harness.project, &others).await;
            let refused = harness.request(Method::GET, path, &lacking, Value::Null);
            let detail = refused.await.problem(403);
            assert!(detail.contains(scope), "{detail}");
        }
    });
}

#[test]
fn a_question_that_is_none_is_refused_by_its_name() {
    run(async {
        let harness = Harness::new().await;
        for (path, field) in [
            ("?window=minute", "window"),
            ("?since=yesterday", "since"),
            ("?until=2026-13-01T00:00:00Z", "until"),
            (
                "?since=2026-01-02T00:00:00Z&until=2026-01-02T00:00:00Z",
                "since",
            ),
            (
                "?since=2026-01-01T00:00:00Z&until=2026-06-01T00:00:00Z",
                "since",
            ),
            (
                "?window=5m&since=2026-01-01T00:00:00Z&until=2026-01-04T00:00:00Z",
                "since",
            ),
            ("?tenant=a", "tenant"),
            ("/endpoints?limit=0", "limit"),
            ("/endpoints?limit=51", "limit"),
            ("/endpoints?window=day", "window"),
            (
                "/endpoints?since=2026-01-01T00:00:00Z&until=2026-06-01T00:00:00Z",
                "since",
            ),
        ] {
            let refused = harness.get(&format!("{ACTIVITY}{path}")).await;
            assert_eq!(refused.json["field"], field, "{path}: {:?}", refused.json);
            refused.problem(400);
        }
    });
}

/// Refuses what is added to activity.
#[cfg(feature = "embedded")]
fn of_activity(fault: Fault) -> impl FnMut(&str, &str) -> Option<Fault> + Send {
    move |operation, body| {
        (operation == "UpdateItem" && body.contains("activity#")).then_some(fault)
    }
}

#[cfg(feature = "embedded")]
#[test]
fn what_the_store_refuses_is_kept_for_the_next_time_and_holds_up_nothing() {
    run(async {
        let store = FaultyStore::new();
        let harness = Harness::builder().dynamo(store.dynamo()).build().await;
        let receiver = Receiver::start(failures(1)).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        store.fail(of_activity(Fault::Throttle));
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        for _ in 0..2 {
            assert_eq!(activity::flush(&harness.app).await, 3, "and the endpoint");
        }
        assert_eq!(store.faults(), 6);
        store.heal();
        assert_eq!(activity::flush(&harness.app).await, 3);
        assert_eq!(activity::flush(&harness.app).await, 0);
        let query = format!("?until={}", app::now() + Duration::from_mins(10));
        let counted = total(&harness, &query).await;
        assert_eq!(counted["accepted"], 1, "{counted}");
        assert_eq!(counted["attempts"]["failed"], 1, "{counted}");
        let failing = failing(&harness, &query).await;
        assert_eq!(failing["endpoints"][0]["failed_attempts"], 1, "{failing}");
    });
}

#[cfg(feature = "embedded")]
#[test]
fn an_answer_that_is_lost_may_count_twice_and_never_less() {
    run(async {
        let store = FaultyStore::new();
        let harness = Harness::builder().dynamo(store.dynamo()).build().await;
        harness.publish("a").await;
        store.fail(of_activity(Fault::LostAnswer));
        activity::flush(&harness.app).await;
        store.heal();
        activity::flush(&harness.app).await;
        let query = format!("?until={}", app::now() + Duration::from_mins(10));
        assert_eq!(total(&harness, &query).await["accepted"], 2);
    });
}

#[test]
fn an_invocation_writes_down_what_happened_at_most_twice_a_minute() {
    run(async {
        let harness = Harness::new().await;
        let query = format!("?until={}", app::now() + Duration::from_mins(10));
        let begin = app::now();
        for (seconds, expected) in [(0, 1), (29, 1), (30, 3)] {
            harness.publish("a").await;
            let now = begin + Duration::from_secs(seconds);
            activity::flush_if_due(&harness.app, now).await;
            assert_eq!(total(&harness, &query).await["accepted"], expected);
        }
        // Where nothing happened there is nothing to wait for.
        let later = begin + Duration::from_secs(60);
        activity::flush_if_due(&harness.app, later).await;
        harness.publish("a").await;
        activity::flush_if_due(&harness.app, later).await;
        assert_eq!(total(&harness, &query).await["accepted"], 4);
    });
}

#[test]
fn what_was_counted_is_written_down_as_the_process_ends() {
    run(async {
        let harness = Harness::new().await;
        harness.publish("a").await;
        let stop = CancellationToken::new();
        stop.cancel();
        activity::run(harness.app.clone(), stop).await;
        let query = format!("?until={}", app::now() + Duration::from_mins(10));
        assert_eq!(total(&harness, &query).await["accepted"], 1);
    });
}
