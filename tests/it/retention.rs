//! Changes of `retention_days`: no event counts twice for them, and none that is still
//! kept is left out.

use jiff::{SignedDuration, Timestamp};
use millrace::app;
use millrace::model::id::EventId;
use millrace::model::meter::{Measure, Reading};
use millrace::store::postgres::Postgres;
use millrace::store::usage::{self, UsageEntry, prune};
use serde_json::{Value, json};

use crate::support::harness::{Harness, run};
use crate::support::stores;

/// An event as it was received some days ago and is kept for some.
struct Kept {
    id: EventId,
    received: Timestamp,
    expires: Timestamp,
}

impl Kept {
    fn new(harness: &Harness, days_ago: i64, retention_days: i64) -> Self {
        let days = |days| SignedDuration::from_hours(24 * days);
        let received = app::now() - days(days_ago);
        let project = harness.project.parse().unwrap();
        Self {
            id: EventId::derive(&project, "/kept", &format!("{days_ago}/{retention_days}")),
            received,
            expires: received + days(retention_days),
        }
    }
}

/// A database of its own: what it forgets, it forgets for all.
struct Fleet {
    harness: Harness,
    own: stores::Shared,
    meters: [String; 2],
}

impl Fleet {
    async fn new() -> Self {
        let own = stores::own_postgres().await;
        let harness = Harness::builder().postgres(own.owner.clone()).build().await;
        let mut meters = Vec::new();
        for name in ["first", "second"] {
            let body = json!({ "name": name, "event_type": "a", "aggregation": "count" });
            meters.push(harness.new_meter(body).await);
        }
        Self {
            harness,
            own,
            meters: meters.try_into().unwrap(),
        }
    }

    fn owner(&self) -> &Postgres {
        &self.own.owner
    }

    /// Counts the event for the meter of that place: newly counted, and forgotten.
    async fn count(&self, meter: usize, event: &Kept) -> (u64, u64) {
        let reading = Reading {
            meter: self.meters[meter].parse().unwrap(),
            measure: Measure::One,
            group: "[]".into(),
        };
        let entry = UsageEntry {
            event: &event.id,
            tenant: None,
            received: event.received,
            expires: event.expires,
            at: event.received,
            reading: &reading,
        };
        let counted = usage::count(self.owner(), &[entry], 1_000).await.unwrap();
        (counted.newly_counted, counted.forgotten)
    }

    /// Prunes in so many days, as a process of that `retention_days` does.
    async fn prune_in(&self, days: i64, retention_days: u32) {
        let now = app::now() + SignedDuration::from_hours(24 * days);
        prune::prune(self.owner(), now, retention_days)
            .await
            .unwrap();
    }
}

const NEW: (u64, u64) = (1, 0);
const KNOWN: (u64, u64) = (0, 0);
const FORGOTTEN: (u64, u64) = (0, 1);

#[test]
fn a_shorter_retention_counts_no_event_twice_and_leaves_none_out() {
    run(async {
        let fleet = Fleet::new().await;
        let long = Kept::new(&fleet.harness, 40, 90);
        let short = Kept::new(&fleet.harness, 10, 30);
        assert_eq!(fleet.count(0, &long).await, NEW);
        assert_eq!(fleet.count(0, &short).await, NEW);
        // 90 to 30, and a process that still has 90.
        for retention_days in [30, 90, 30, 1] {
            fleet.prune_in(0, retention_days).await;
            assert_eq!(fleet.count(0, &long).await, KNOWN, "{retention_days}");
        }
        assert_eq!(fleet.count(1, &long).await, NEW, "as a back-fill does");
        // The shorter-lived has expired, the one before it lives.
        fleet.prune_in(25, 30).await;
        assert_eq!(fleet.count(0, &long).await, KNOWN);
        assert_eq!(fleet.count(0, &short).await, KNOWN);
        fleet.prune_in(53, 30).await;
        for retention_days in [30, 90] {
            fleet.prune_in(53, retention_days).await;
            assert_eq!(fleet.count(0, &long).await, FORGOTTEN);
            assert_eq!(fleet.count(1, &short).await, FORGOTTEN);
        }
        let today = Kept::new(&fleet.harness, 0, 30);
        assert_eq!(fleet.count(0, &today).await, NEW);
    });
}

#[test]
fn a_longer_retention_counts_no_event_twice() {
    run(async {
        let fleet = Fleet::new().await;
        let expired = Kept::new(&fleet.harness, 40, 30);
        let kept = Kept::new(&fleet.harness, 20, 30);
        for event in [&expired, &kept] {
            assert_eq!(fleet.count(0, event).await, NEW);
        }
        fleet.prune_in(0, 30).await;
        fleet.prune_in(0, 90).await;
        // DynamoDB may be late in deleting it.
        assert_eq!(fleet.count(0, &expired).await, FORGOTTEN);
        assert_eq!(fleet.count(0, &kept).await, KNOWN);
        assert_eq!(fleet.count(1, &kept).await, NEW);
    });
}

#[test]
fn what_an_older_version_drops_and_makes_keeps_to_the_floor() {
    run(async {
        let fleet = Fleet::new().await;
        let (kept, gone) = (
            Kept::new(&fleet.harness, 40, 90),
            Kept::new(&fleet.harness, 50, 30),
        );
        assert_eq!(fleet.count(0, &gone).await, NEW);
        assert_eq!(fleet.count(0, &kept).await, NEW);
        let client = fleet.owner().get().await.unwrap();
        for call in ["drop", "make"] {
            for days in [50, 40] {
                let sql = format!("select usage_seen_{call}_day(current_date - {days})");
                client.batch_execute(&sql).await.unwrap();
            }
        }
        let fall = client.batch_execute("update usage_floor set first_day = '2020-01-01'");
        let fall = fall.await.unwrap_err();
        let fall = fall.as_db_error().unwrap().message();
        assert_eq!(fall, "usage_floor only rises");
        // The embedded pool has no other connection.
        drop(client);
        assert_eq!(fleet.count(0, &kept).await, KNOWN);
        assert_eq!(fleet.count(0, &gone).await, FORGOTTEN);
    });
}

#[test]
fn a_day_is_kept_for_as_long_as_events_that_nothing_has_counted() {
    run(async {
        let fleet = Fleet::new().await;
        // The day is that of today: a process with a retention of 90 prunes.
        fleet.prune_in(0, 90).await;
        let counted = Kept::new(&fleet.harness, 0, 30);
        assert_eq!(fleet.count(0, &counted).await, NEW);
        fleet.prune_in(40, 30).await;
        let later = Kept::new(&fleet.harness, 0, 90);
        assert_eq!(fleet.count(0, &later).await, NEW);
        let (now, hour) = (app::now(), SignedDuration::from_hours(1));
        let query = format!("from={}&to={}&window=hour", now - hour, now + hour);
        let listed: Value = fleet.harness.usage(&fleet.meters[0], &query).await;
        let value = |row: &Value| row["value"].as_u64().unwrap();
        assert_eq!(listed.as_array().unwrap().iter().map(value).sum::<u64>(), 2);
    });
}
