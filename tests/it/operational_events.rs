//! Operational events: `millrace.*`, published of deliveries that failed for good
//! and of endpoints that are gone.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use crate::support::fixtures::{failures, only_delivery, received_types, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Received, Receiver, Reply};

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
    });
}
