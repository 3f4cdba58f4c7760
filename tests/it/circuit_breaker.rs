//! The circuit breaker of an endpoint: open after failures in a row, closed by a
//! probe that succeeds.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use millrace::app;
use millrace::config::Config;
use serde_json::Value;

use crate::support::fixtures::{
    endpoint_path, endpoint_stats, failures, only_delivery, uncached_config,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

fn breaker_config() -> Config {
    let mut config = uncached_config();
    config.delivery.breaker_failures = 3;
    config
}

#[test]
fn an_endpoint_that_keeps_failing_is_left_alone_and_tried_by_one() {
    run(async {
        let harness = Harness::builder().config(breaker_config()).build().await;
        let receiver = Receiver::start(failures(4)).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let mut events = vec![];
        for _ in 0..6 {
            events.push(harness.publish("a").await);
        }
        let begin = app::now();
        harness.drain_at(begin).await;
        assert_eq!(receiver.received().len(), 3, "then it is open");
        let fetched = endpoint_stats(&harness, &endpoint).await;
        assert_eq!(fetched["breaker"]["state"], "open");
        assert_eq!(fetched["breaker"]["failures"], 3);
        let retry_at: Timestamp = fetched["breaker"]["retry_at"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(retry_at >= begin + Duration::from_secs(30));
        assert_eq!(fetched["latest"]["pending"], 6);

        // A deferred delivery makes no attempt before the breaker lets a probe through.
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
        let harness = Harness::builder().config(breaker_config()).build().await;
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
        let harness = Harness::builder().config(breaker_config()).build().await;
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
        let mut config = breaker_config();
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
