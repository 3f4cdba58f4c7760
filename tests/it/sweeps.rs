//! Sweeps of which a part fails: what was claimed is enqueued whatever becomes of the
//! rest.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use millrace::app;
use millrace::jobs::sweep::{self, SweepSummary};
use millrace::queue::Queue;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::faults::{Fault, FaultyStore};
use crate::support::fixtures::forget_queue;
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::Receiver;

type Item = HashMap<String, AttributeValue>;

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// When all that was just published is due, its lease over.
fn later() -> jiff::Timestamp {
    app::now() + Duration::from_secs(6)
}

async fn endpoint(harness: &Harness, receiver: &Receiver, event_type: &str) -> String {
    let endpoint = harness.endpoint(&receiver.url, &[event_type]).await;
    endpoint["id"].as_str().unwrap().to_owned()
}

async fn delivery_item(harness: &Harness, event: &str, endpoint: &str) -> Item {
    let dynamo = &harness.app.dynamo;
    let get = dynamo.client.get_item().table_name(&dynamo.table);
    let sk = format!("delivery#{endpoint}");
    let get = get.key("pk", s(event)).key("sk", s(&sk));
    get.send().await.unwrap().item.unwrap()
}

async fn put(harness: &Harness, item: Item) {
    let dynamo = &harness.app.dynamo;
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    put.set_item(Some(item)).send().await.unwrap();
}

/// Items that are due and that no version of today can have written.
fn unreadable(whole: &Item) -> Vec<Item> {
    let with = |name: &str, value: Option<AttributeValue>| {
        let mut item = whole.clone();
        item.remove(name);
        item.extend(value.map(|value| (name.to_owned(), value)));
        item
    };
    let keyed = |pk: &str, sk: &str| {
        let mut item = whole.clone();
        item.insert("pk".into(), s(pk));
        item.insert("sk".into(), s(sk));
        item
    };
    let (pk, sk) = ("evt_of_no_kind", "delivery#ep_of_no_kind");
    vec![
        with("made", None),
        with("made", Some(s("three"))),
        with("made", Some(AttributeValue::N("-1".into()))),
        with("made", Some(AttributeValue::N("4294967296".into()))),
        with("made", Some(AttributeValue::N("1.5".into()))),
        keyed(pk, sk),
        keyed(pk, "event"),
        keyed("ep_of_no_kind", "disable"),
        keyed("rec_of_no_kind", "recovery"),
    ]
}

#[test]
fn a_hundred_are_sent_beside_one_that_cannot_be_read() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = endpoint(&harness, &receiver, "a").await;
        for _ in 0..100 {
            harness.publish("a").await;
        }
        let victim = harness.publish("a").await;
        let whole = delivery_item(&harness, &victim, &endpoint).await;
        forget_queue(&harness);
        let kinds = unreadable(&whole);
        for (kind, item) in kinds.iter().enumerate() {
            put(&harness, item.clone()).await;
            if kind > 0 {
                // Whatever was sent is under lease by now: one is enough for the rest.
                continue;
            }
            let swept = sweep::sweep(&harness.app, later()).await.unwrap();
            assert_eq!((swept.enqueued, swept.unreadable), (100, 1));
            harness.drain_at(later()).await;
            assert_eq!(receiver.received().len(), 100);
        }
        // Those that share the victim's key have replaced one another.
        let distinct = 1 + kinds.iter().filter(|item| item["pk"] != s(&victim)).count();
        let swept = sweep::sweep(&harness.app, later()).await.unwrap();
        assert_eq!((swept.enqueued, swept.unreadable), (0, distinct));
        let swept = sweep::sweep(&harness.app, later()).await.unwrap();
        assert_eq!(swept.found, 0, "their leases are not over: {swept:?}");
    });
}

#[test]
fn no_kind_of_unreadable_item_ends_a_sweep() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = endpoint(&harness, &receiver, "a").await;
        let victim = harness.publish("a").await;
        let whole = delivery_item(&harness, &victim, &endpoint).await;
        for item in unreadable(&whole) {
            put(&harness, item.clone()).await;
            let other = harness.publish("a").await;
            forget_queue(&harness);
            let swept = sweep::sweep(&harness.app, later()).await.unwrap();
            let is_victim = item["pk"] == s(&victim);
            assert_eq!(swept.unreadable, 1, "{item:?}");
            assert_eq!(swept.enqueued, if is_victim { 1 } else { 2 }, "{item:?}");
            harness.drain_at(later()).await;
            let ids = receiver.received();
            let is_other = |id: &str| id == other;
            assert!(ids.iter().any(|sent| is_other(sent.header("webhook-id"))));
            // Whole again, for the next.
            put(&harness, whole.clone()).await;
        }
    });
}

#[test]
fn a_count_of_claims_that_is_no_number_begins_anew() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = endpoint(&harness, &receiver, "a").await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let mut item = delivery_item(&harness, &event, &endpoint).await;
        item.insert("swept".into(), s("often"));
        put(&harness, item).await;
        let swept = sweep::sweep(&harness.app, later()).await.unwrap();
        assert_eq!((swept.enqueued, swept.unreadable), (1, 0));
        harness.drain_at(later()).await;
        assert_eq!(receiver.only().header("webhook-id"), event);
    });
}

/// A harness on a store with faults, whose endpoint `bad` cannot be claimed for.
struct Scene {
    store: FaultyStore,
    harness: Harness,
    receiver: Receiver,
    bad: String,
}

impl Scene {
    async fn new(batch: usize) -> Self {
        let store = FaultyStore::new();
        let mut config = harness::config();
        config.sweep.batch = batch;
        let builder = Harness::builder().config(config).dynamo(store.dynamo());
        let harness = builder.build().await;
        let receiver = Receiver::start([]).await;
        let bad = endpoint(&harness, &receiver, "bad").await;
        endpoint(&harness, &receiver, "good").await;
        Self {
            store,
            harness,
            receiver,
            bad,
        }
    }

    async fn publish(&self, bad: usize, good: usize) {
        for _ in 0..bad {
            self.harness.publish("bad").await;
        }
        for _ in 0..good {
            self.harness.publish("good").await;
        }
        forget_queue(&self.harness);
    }

    fn fail_claims(&self, fault: Fault) {
        let bad = self.bad.clone();
        self.store.fail(move |operation, body| {
            (operation == "UpdateItem" && body.contains(&bad)).then_some(fault)
        });
    }

    async fn sweep(&self) -> SweepSummary {
        sweep::sweep(&self.harness.app, later()).await.unwrap()
    }
}

#[test]
fn what_cannot_be_claimed_is_in_the_way_of_nothing() {
    run(async {
        let scene = Scene::new(1).await;
        // A batch is one, and fewer cannot be claimed than a sweep has pages.
        scene.publish(7, 1).await;
        scene.fail_claims(Fault::Throttle);
        let swept = scene.sweep().await;
        assert_eq!(swept.enqueued, 1);
        assert!(swept.refused > 0);
        scene.harness.drain_at(later()).await;
        let only = scene.receiver.only().json();
        assert_eq!(only["type"], Value::from("good"));
        scene.store.heal();
        scene.harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(scene.receiver.received().len(), 8);
    });
}

#[test]
fn what_the_store_refuses_costs_a_few_writes_for_each_endpoint() {
    run(async {
        let mut scene = Scene::new(1_000).await;
        scene.harness.leaves_jobs = true;
        scene.publish(400, 40).await;
        scene.fail_claims(Fault::Throttle);
        let swept = scene.sweep().await;
        assert_eq!(swept.enqueued, 40);
        // In each of 8 partitions 4, and 16 that were under way: not all of 400.
        assert!(scene.store.faults() <= 8 * (4 + 16), "{swept:?}");
        scene.store.heal();
        assert_eq!(scene.sweep().await.enqueued, 400);
    });
}

#[test]
fn claims_spend_no_retries_but_their_own() {
    run(async {
        let store = FaultyStore::new();
        let builder = Harness::builder().dynamo(store.retrying_dynamo());
        let harness = builder.build().await;
        let receiver = Receiver::start([]).await;
        let bad = endpoint(&harness, &receiver, "bad").await;
        for _ in 0..100 {
            harness.publish("bad").await;
        }
        forget_queue(&harness);
        store.fail(move |operation, body| {
            (operation == "UpdateItem" && body.contains(&bad)).then_some(Fault::Throttle)
        });
        for _ in 0..3 {
            let swept = sweep::sweep(&harness.app, later()).await;
            assert!(swept.is_err_and(|error| error.is_outage()));
        }
        // What nobody is charged for still has its three retries.
        let mut left = 3;
        store.fail(move |operation, _| {
            let is_meant = operation == "GetItem" && left > 0;
            left -= i32::from(is_meant);
            is_meant.then_some(Fault::Throttle)
        });
        let dynamo = &harness.app.dynamo;
        let get = dynamo.client.get_item().table_name(&dynamo.table);
        let get = get.key("pk", s("a")).key("sk", s("b"));
        get.send().await.unwrap();
    });
}

#[test]
fn a_partition_that_cannot_be_looked_at_keeps_no_other_waiting() {
    run(async {
        let scene = Scene::new(100).await;
        scene.publish(0, 40).await;
        let fail = |operation: &str, body: &str| {
            let is_meant = operation == "Query" && body.contains("due#3");
            is_meant.then_some(Fault::Throttle)
        };
        scene.store.fail(fail);
        let swept = scene.sweep().await;
        assert_eq!(swept.refused, 1);
        assert!(swept.enqueued > 0 && swept.enqueued < 40, "{swept:?}");
        scene.store.heal();
        let rest = scene.sweep().await;
        assert_eq!(swept.enqueued + rest.enqueued, 40);
        scene.harness.drain_at(later()).await;
        // Where nothing at all can be done, that is an error.
        scene.store.fail(|_, _| Some(Fault::Throttle));
        let failed = sweep::sweep(&scene.harness.app, later()).await;
        assert!(failed.is_err_and(|error| error.is_outage()));
    });
}

#[test]
fn a_sweep_that_is_cut_off_has_sent_what_it_claimed() {
    run(async {
        let scene = Scene::new(100).await;
        scene.publish(1, 30).await;
        scene.fail_claims(Fault::Hang);
        let Queue::Local(queue) = &scene.harness.app.queue else {
            unreachable!("the default");
        };
        let all_others = async {
            while queue.len() < 30 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            swept = sweep::sweep(&scene.harness.app, later()) => panic!("{swept:?}"),
            () = all_others => {}
        }
        scene.store.heal();
        scene.harness.drain_at(later()).await;
        assert_eq!(scene.receiver.received().len(), 30);
    });
}

#[test]
fn a_sweep_that_is_to_end_claims_nothing_more() {
    run(async {
        let scene = Scene::new(100).await;
        scene.publish(0, 5).await;
        let stop = CancellationToken::new();
        stop.cancel();
        let swept = sweep::sweep_until(&scene.harness.app, later(), &stop).await;
        assert_eq!(swept.unwrap().enqueued, 0);
        assert_eq!(scene.sweep().await.enqueued, 5, "no lease was taken");
        scene.harness.drain_at(later()).await;
    });
}
