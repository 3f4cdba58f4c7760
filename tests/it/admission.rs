//! Admission: the rate limit of an endpoint, kept by all instances together, and
//! its bound on attempts under way.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace::app;
use millrace::jobs::{self, Done};
use millrace::model::id::{DeliveryId, EndpointId};
use millrace::model::job::Job;
use millrace::model::pacing::Pace;
use millrace::queue::lanes::WaitReason;
use millrace::store::{deliveries, pacing};
use serde_json::json;

use crate::support::fixtures::{create_endpoint, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

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
        let mut counts = vec![];
        for step in 0..300 {
            let now = begin + Duration::from_millis(step * 10);
            one.drain_at(now).await;
            two.drain_at(now).await;
            counts.push(receiver.received().len());
            let of_last_100_ms =
                counts[counts.len() - 1] - counts.get(counts.len().wrapping_sub(11)).unwrap_or(&0);
            assert!(
                of_last_100_ms <= 11,
                "{of_last_100_ms} within 100 ms: {counts:?}"
            );
        }
        assert!(
            (45..=60).contains(&counts[99]),
            "after a second: {}",
            counts[99]
        );
        assert!(
            (95..=110).contains(&counts[199]),
            "after two: {}",
            counts[199]
        );
        assert_eq!(counts[299], 120, "none is left");
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

/// Attempts that the test below makes, more than there are slots left for.
const WAITING: usize = 90;

#[test]
fn where_no_slot_is_left_each_asks_again_and_none_goes_without() {
    run(async {
        let mut harness = Harness::builder().config(uncached_config()).build().await;
        harness.leaves_jobs = true;
        let receiver = Receiver::start([]).await;
        let endpoint =
            create_endpoint(&harness, json!({ "url": receiver.url, "rate_limit": 1 })).await;
        let endpoint: EndpointId = endpoint["id"].as_str().unwrap().parse().unwrap();
        let dynamo = &harness.app.dynamo;
        let mut due = BTreeSet::new();
        for _ in 0..WAITING {
            let event = harness.publish("a").await.parse().unwrap();
            due.insert((app::now(), DeliveryId::new(&event, &endpoint)));
        }
        // All but a few of the slots that are ever given ahead belong to others.
        let begin = app::now() + Duration::from_secs(60);
        let others = SLOTS_AHEAD - WAITING / 3;
        for _ in 0..others {
            let claimed = pacing::claim(dynamo, &endpoint, Pace::new(1), begin).await;
            assert!(claimed.unwrap().is_some());
        }
        // By a clock that jumps from one due time to the next.
        let (mut attempts, mut asked) = (vec![], 0);
        while let Some((at, id)) = due.pop_first() {
            let now = at.max(begin);
            let job = Job::Deliver {
                delivery: id.clone(),
                attempts_made: 0,
                payload: None,
            };
            asked += 1;
            match jobs::run(&harness.app, job, None, now).await.unwrap() {
                Done::Finished => attempts.push(now),
                Done::Later(later) => {
                    let postponed = jobs::reschedule::reschedule(&harness.app, *later, now);
                    postponed.await.unwrap();
                    let stored = deliveries::get(dynamo, &id).await.unwrap().unwrap();
                    due.insert((stored.due.unwrap(), id));
                }
            }
        }
        assert_eq!(receiver.received().len(), WAITING);
        // One a second, and a slot may be used a second early.
        for (first, later) in attempts.iter().zip(&attempts[10..]) {
            let took = later.duration_since(*first).as_secs();
            assert!(took >= 8, "eleven in {took} s");
        }
        assert!(asked <= 4 * WAITING, "asked {asked} times");
    });
}

/// Slots of one a second that are given ahead.
const SLOTS_AHEAD: usize = 900;
