//! Operational events: `millrace.*`, published of deliveries that failed for good
//! and of endpoints that are gone.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use serde_json::{Value, json};

use crate::support::fixtures::{
    assert_as_documented, create_endpoint, endpoint_path, endpoint_stats, failures, only_delivery,
    received_types, uncached_config,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Received, Receiver, Reply};
#[cfg(feature = "embedded")]
use crate::support::relay::{Fate, Relay};
#[cfg(feature = "embedded")]
use crate::support::stores;

#[test]
fn a_delivery_that_fails_for_good_is_told_once_a_round() {
    run(async {
        let mut config = uncached_config();
        config.delivery.retry_schedule = vec![Duration::ZERO];
        let harness = Harness::builder().config(config).build().await;
        // The listener fails too, of which no operational event is published.
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
        let published = listener.received()[0].json();
        assert_as_documented(&published);
        insta::assert_json_snapshot!(published["data"], {
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
        assert_eq!(published["data"]["delivery_id"], failed["id"]);
        assert_eq!(
            published["source"],
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

/// The process ends between the record of the last attempt and the event about it.
#[cfg(feature = "embedded")]
#[test]
fn a_delivery_that_failed_for_good_is_told_after_a_crash() {
    run(async {
        let mut config = uncached_config();
        config.delivery.retry_schedule = vec![Duration::ZERO];
        let store = stores::embedded_readable_dynamo();
        let harness = Harness::builder().config(config.clone());
        let harness = harness.dynamo(store.dynamo.clone()).build().await;
        let (bad, listener) = (
            Receiver::start(failures(1)).await,
            Receiver::start([]).await,
        );
        let endpoint = harness.endpoint(&bad.url, &["a"]).await;
        let told = "millrace.delivery.exhausted";
        harness.endpoint(&listener.url, &[told]).await;
        let relay = Relay::new(move |operation, body| match operation {
            "PutItem" | "TransactWriteItems" if body.contains(told) => Fate::Lost,
            _ => Fate::Passed,
        });
        let crashed = harness.beside().config(config);
        let crashed = crashed.dynamo(store.relayed(&relay)).build().await;
        let event = crashed.publish("a").await;
        crashed.drain().await;
        let failed = only_delivery(&harness, &event).await;
        assert_eq!(
            (&failed["state"], &failed["next_attempt_at"]),
            (&json!("failed"), &Value::Null)
        );
        assert_eq!(received_types(&listener), [""; 0]);

        let list = format!(
            "/v1/deliveries?endpoint_id={}&state=failed",
            endpoint["id"].as_str().unwrap()
        );
        for later_s in [6, 600] {
            harness.sweep_after(Duration::from_secs(later_s)).await;
            assert_eq!(received_types(&listener), [told]);
            let page = harness.get(&list).await.expect(StatusCode::OK);
            assert_eq!(page["data"][0]["id"], failed["id"]);
        }
        assert_as_documented(&listener.received()[0].json());
        assert_eq!(bad.received().len(), 1);
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
        let mut published: Vec<_> = listener.received().iter().map(Received::json).collect();
        published.sort_by_key(|event| event["type"].to_string());
        assert_eq!(published.len(), 2, "{published:?}");
        assert_eq!(published[0]["type"], "millrace.delivery.exhausted");
        assert_eq!(published[0]["data"]["reason"], "gone");
        assert_eq!(published[1]["type"], "millrace.endpoint.disabled");
        assert_eq!(published[1]["data"]["reason"], "gone");
        published.iter().for_each(assert_as_documented);
    });
}

#[test]
fn what_becomes_of_an_endpoint_is_told_to_who_asks_and_shows_no_secret() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let listener = Receiver::start([]).await;
        let receiver = Receiver::start([]).await;
        let listening = harness.endpoint(&listener.url, &["millrace.*"]).await;
        let url = format!("{}?token=s3cret", receiver.url);
        let body = json!({
            "url": url,
            "event_types": ["a"],
            "tenant": "acme",
            "headers": { "X-Api-Key": "s3cret" },
            "auth": { "type": "bearer", "token": "s3cret" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        let secret = endpoint["secret"].as_str().unwrap().to_owned();
        let path = endpoint_path(&endpoint);
        let change = async |changes: Value| {
            let changed = harness.patch(&path, changes).await;
            changed.expect(StatusCode::OK);
        };
        change(json!({ "description": "ours", "headers": { "X-Other": "s3cret" } })).await;
        change(json!({ "description": "ours" })).await;
        change(json!({ "state": "disabled" })).await;
        change(json!({ "state": "enabled" })).await;
        let rotated = harness
            .post(&format!("{path}/rotate-secret"), json!({}))
            .await;
        rotated.expect(StatusCode::OK);
        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.drain().await;

        let published: Vec<_> = listener.received().iter().map(Received::json).collect();
        let mut told = vec![];
        for event in &published {
            assert_as_documented(event);
            assert_eq!(event["source"], path);
            assert_eq!(event["tenant"], "acme");
            assert_eq!(event["data"]["endpoint_id"], endpoint["id"]);
            let text = event.to_string();
            assert!(
                !text.contains("s3cret") && !text.contains(&secret),
                "{text}"
            );
            let kind = event["type"]
                .as_str()
                .unwrap()
                .strip_prefix("millrace.endpoint.");
            told.push(format!("{} {}", kind.unwrap(), event["data"]["changed"]));
        }
        told.sort_unstable();
        assert_eq!(
            told,
            [
                "created null",
                "deleted null",
                "disabled null",
                "enabled null",
                r#"updated ["description","headers"]"#,
                r#"updated ["secret"]"#,
                r#"updated ["state"]"#,
                r#"updated ["state"]"#,
            ]
        );
        // Of itself an endpoint is told all but that it was created.
        let path = endpoint_path(&listening);
        let changed = harness.patch(&path, json!({ "description": "a" })).await;
        changed.expect(StatusCode::OK);
        harness.drain().await;
        assert_eq!(
            received_types(&listener)[8..],
            ["millrace.endpoint.updated"]
        );
    });
}

#[test]
fn an_endpoint_that_begins_to_fail_is_told_once_a_run() {
    run(async {
        let mut config = uncached_config();
        config.delivery.breaker_failures = 3;
        let harness = Harness::builder().config(config).build().await;
        let listener = Receiver::start([]).await;
        let bad = Receiver::start(failures(3)).await;
        let endpoint = harness.endpoint(&bad.url, &["a"]).await;
        harness
            .endpoint(&listener.url, &["millrace.endpoint.*"])
            .await;
        harness.publish("a").await;
        let begin = app::now();
        harness.drain_at(begin).await;
        harness.sweep_after(Duration::from_secs(11)).await;
        assert_eq!(
            received_types(&listener),
            [""; 0],
            "quick retries may mend it"
        );
        harness.publish("a").await;
        harness.drain_at(begin + Duration::from_secs(12)).await;
        assert_eq!(received_types(&listener), ["millrace.endpoint.unhealthy"]);
        let event = listener.only().json();
        assert_as_documented(&event);
        assert_eq!(event["data"]["reason"], "circuit_breaker_opened");
        assert_eq!(event["data"]["endpoint_id"], endpoint["id"]);
        assert_eq!(event["data"]["last_attempt"]["status"], 500);
        assert_eq!(
            event["data"]["failing_since"],
            endpoint_stats(&harness, &endpoint).await["failing_since"]
        );

        // It recovers; what it fails at later is another run.
        harness.sweep_after(Duration::from_mins(10)).await;
        assert_eq!(received_types(&listener).len(), 1);
        bad.script(failures(3));
        for _ in 0..3 {
            harness.publish("a").await;
            harness.drain_at(begin + Duration::from_mins(20)).await;
        }
        assert_eq!(
            received_types(&listener),
            ["millrace.endpoint.unhealthy"; 2]
        );
    });
}

#[test]
fn an_endpoint_whose_quick_retries_are_used_up_is_unhealthy() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let later = Reply::With {
            status: 503,
            header: ("retry-after", "11"),
            body: String::new(),
        };
        let script = [vec![later], failures(9)].concat();
        let (listener, bad) = (Receiver::start([]).await, Receiver::start(script).await);
        harness.endpoint(&bad.url, &["a"]).await;
        harness
            .endpoint(&listener.url, &["millrace.endpoint.unhealthy"])
            .await;
        harness.publish("a").await;
        harness.drain().await;
        harness.sweep_after(Duration::from_secs(20)).await;
        assert_eq!((bad.received().len(), listener.received().len()), (2, 0));
        harness.sweep_after(Duration::from_mins(7)).await;
        assert_eq!((bad.received().len(), listener.received().len()), (3, 1));
        let event = listener.only().json();
        assert_as_documented(&event);
        assert_eq!(event["data"]["reason"], "retries_failed");
        harness.sweep_after(Duration::from_mins(50)).await;
        assert_eq!((bad.received().len(), listener.received().len()), (4, 1));
    });
}
