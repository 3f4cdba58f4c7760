//! Lanes with a backlog: swept ever more rarely, deferred while there is no room.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use millrace::app;
use millrace::jobs;
use serde_json::json;

use crate::support::fixtures::{create_endpoint, only_delivery, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

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

/// A full lane with deferred jobs.
struct FullLane {
    harness: Harness,
    receiver: Receiver,
    /// When two hundred deliveries were swept and those made that had room.
    now: Timestamp,
}

impl FullLane {
    async fn new() -> Self {
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
        Self {
            harness,
            receiver,
            now,
        }
    }
}

#[test]
fn what_its_lane_had_no_room_for_comes_in_once_there_is_some() {
    run(async {
        let FullLane {
            harness,
            receiver,
            now,
        } = FullLane::new().await;

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
        let FullLane {
            harness,
            receiver,
            now,
        } = FullLane::new().await;
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
