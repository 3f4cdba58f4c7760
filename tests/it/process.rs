//! The program as a process: killed, stopped, and started for some of its work.

mod console;
mod data_dir;
mod environment;
mod first_key;
mod keys;
mod output;
mod start;
mod terminal;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::{Served, create_endpoint, first_key};
use crate::support::harness::run;
use crate::support::receiver::{Receiver, Reply};

/// Failures are retried soon, so that a test sees the end of them.
const SHORT_INTERVALS: &[(&str, &str)] = &[
    ("MILLRACE_DELIVERY__RETRY_SCHEDULE_S", "0,1,1,1,1,1,1,1,1,1"),
    ("MILLRACE_SWEEP__INTERVAL_MS", "200"),
    ("MILLRACE_METERS__INTERVAL_MS", "20"),
    ("MILLRACE_SWEEP__LEASE_S", "2"),
    ("MILLRACE_HTTP__DRAIN_TIMEOUT_S", "10"),
];

const PUBLISHERS: usize = 16;
/// Longest that what is accepted may be under way in a test.
const DELIVERED_MAX: Duration = Duration::from_secs(60);

/// Numbers to vary a test by; its seed is printed, and set by `TEST_SEED`.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::env::var("TEST_SEED").ok();
        let seed = seed.map_or_else(
            || millrace::app::now().as_millisecond().unsigned_abs(),
            |seed| seed.parse().expect("TEST_SEED is a number"),
        );
        Self(seed)
    }

    /// The next number below `bound` (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// What the publishers know: the id each event was accepted under, by the name
/// it was published with, and the names that were never answered.
#[derive(Default)]
struct Published {
    accepted: BTreeMap<String, String>,
    in_doubt: Vec<String>,
}

fn event(name: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": name,
        "source": "/process",
        "type": "process.test",
        "data": { "name": name },
    })
}

async fn publish(served: &Served, key: &str, name: &str) -> Option<Value> {
    let answered = served.request(Method::POST, "/v1/events", key, event(name));
    let (status, answer) = answered.await?;
    assert_eq!(status, StatusCode::ACCEPTED, "{name}: {answer}");
    Some(answer)
}

/// Publishes `names` from several connections; `accepted` counts along. Whoever
/// is not answered stops.
async fn publish_all(
    served: &Served,
    key: &str,
    names: &[String],
    accepted: &AtomicUsize,
) -> Published {
    let next = AtomicUsize::new(0);
    let publisher = async || {
        let mut published = Published::default();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(answer) = publish(served, key, name).await else {
                published.in_doubt.push(name.clone());
                break;
            };
            let id = answer["id"].as_str().unwrap().to_owned();
            published.accepted.insert(name.clone(), id);
            accepted.fetch_add(1, Ordering::Relaxed);
        }
        published
    };
    let publishers = (0..PUBLISHERS).map(|_| publisher());
    let mut all = Published::default();
    for one in futures_util::future::join_all(publishers).await {
        all.accepted.extend(one.accepted);
        all.in_doubt.extend(one.in_doubt);
    }
    all
}

/// The names of the events that arrived, each with the `webhook-id`s it came
/// under.
fn delivered(receiver: &Receiver) -> HashMap<String, HashSet<String>> {
    let mut found: HashMap<String, HashSet<String>> = HashMap::new();
    for received in receiver.acknowledged() {
        let name = received.json()["id"].as_str().unwrap().to_owned();
        let id = received.header("webhook-id").to_owned();
        found.entry(name).or_default().insert(id);
    }
    found
}

/// Waits until all that is `accepted` was delivered under its own id and no
/// delivery is pending.
async fn settle(
    served: &Served,
    key: &str,
    endpoint: &str,
    receiver: &Receiver,
    accepted: &BTreeMap<String, String>,
) {
    let begun = Instant::now();
    let pending = format!("/v1/deliveries?endpoint_id={endpoint}&state=pending");
    loop {
        let seen = delivered(receiver);
        let missing: Vec<_> = accepted.keys().filter(|n| !seen.contains_key(*n)).collect();
        let (_, left) = served
            .request(Method::GET, &pending, key, Value::Null)
            .await
            .unwrap();
        if missing.is_empty() && left["data"] == json!([]) {
            for (name, id) in accepted {
                assert_eq!(seen[name], HashSet::from([id.clone()]), "{name}");
            }
            return;
        }
        let late = begun.elapsed() > DELIVERED_MAX;
        assert!(!late, "not delivered: {missing:?}; pending: {left}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A meter that counts every event; its id.
async fn create_meter(served: &Served, key: &str) -> String {
    let meter = json!({ "name": "all", "event_type": "*", "aggregation": "count" });
    let created = served.request(Method::POST, "/v1/meters", key, meter);
    let (status, meter) = created.await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{meter}");
    meter["id"].as_str().unwrap().to_owned()
}

/// Waits until the meter has counted so many events, and never more.
async fn counted(served: &Served, key: &str, meter: &str, events: usize) {
    let begun = Instant::now();
    let path = format!("/v1/meters/{meter}/usage?from=2020-01-01T00:00:00Z&window=month");
    loop {
        let asked = served.request(Method::GET, &path, key, Value::Null);
        let (_, usage) = asked.await.unwrap();
        let rows = usage["data"].as_array().unwrap().iter();
        let sum: u64 = rows.map(|row| row["value"].as_u64().unwrap()).sum();
        if sum == events as u64 {
            return;
        }
        let late = begun.elapsed() > DELIVERED_MAX;
        assert!(!late && sum < events as u64, "{sum} counted of {events}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An installation whose receiver is slow and fails every other time.
struct Installation {
    served: Served,
    key: String,
    receiver: Receiver,
    endpoint: String,
}

async fn with_failing_receiver(data: &Path) -> Installation {
    let served = Served::start(data, SHORT_INTERVALS);
    let key = first_key(&served.greeting).unwrap();
    let receiver = Receiver::start([]).await;
    let endpoint = create_endpoint(&served, &key, &receiver.url).await;
    Installation {
        served,
        key,
        receiver,
        endpoint,
    }
}

fn slow_and_failing() -> impl Iterator<Item = Reply> {
    [Reply::Slow(Duration::from_millis(100)), Reply::Status(500)]
        .into_iter()
        .cycle()
        .take(150)
}

#[test]
fn killed_at_any_moment_it_delivers_and_counts_all_it_accepted() {
    const ROUNDS: usize = 3;
    const EVENTS: usize = 200;
    run(async {
        let mut random = Random::new();
        println!("TEST_SEED={}", random.0);
        let data = tempfile::tempdir().unwrap();
        let Installation {
            mut served,
            key,
            receiver,
            endpoint,
        } = with_failing_receiver(data.path()).await;
        let meter = create_meter(&served, &key).await;
        let (mut undelivered, mut events) = (0, 0);
        for round in 0..ROUNDS {
            receiver.script(slow_and_failing());
            let names: Vec<_> = (0..EVENTS).map(|n| format!("{round}-{n}")).collect();
            let kill_at = 10 + random.below(EVENTS - 60);
            let moments = Duration::from_micros(random.below(5000) as u64);
            let accepted = AtomicUsize::new(0);
            let killer = async {
                while accepted.load(Ordering::Relaxed) < kill_at {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(moments).await;
                served.signal("KILL");
            };
            let publishing = publish_all(&served, &key, &names, &accepted);
            let (mut published, ()) = tokio::join!(publishing, killer);
            served.wait(Duration::from_secs(10));
            let before = delivered(&receiver);
            let open = |name: &&String| !before.contains_key(*name);
            let lost = published.accepted.keys().filter(open).count();
            undelivered += lost;
            println!(
                "round {round}: killed after {} of {EVENTS} were accepted and {lost} of them \
                 were undelivered, {} in doubt",
                published.accepted.len(),
                published.in_doubt.len()
            );

            receiver.script([]);
            served = Served::start(data.path(), SHORT_INTERVALS);
            assert_eq!(first_key(&served.greeting), None, "a key is told of once");
            for name in &published.in_doubt {
                let first = publish(&served, &key, name).await.unwrap();
                let again = publish(&served, &key, name).await.unwrap();
                assert_eq!(again, json!({ "id": first["id"], "duplicate": true }));
                let id = first["id"].as_str().unwrap().to_owned();
                published.accepted.insert(name.clone(), id);
            }
            for (name, id) in &published.accepted {
                let again = publish(&served, &key, name).await.unwrap();
                assert_eq!(again, json!({ "id": id, "duplicate": true }), "{name}");
            }
            settle(&served, &key, &endpoint, &receiver, &published.accepted).await;
            events += published.accepted.len();
            counted(&served, &key, &meter, events).await;
        }
        assert!(undelivered > 0, "it was never killed with work to do");
    });
}

#[test]
fn stopped_under_load_it_drains_and_loses_nothing() {
    run(async {
        let data = tempfile::tempdir().unwrap();
        let Installation {
            mut served,
            key,
            receiver,
            endpoint,
        } = with_failing_receiver(data.path()).await;
        receiver.script(slow_and_failing());
        let names: Vec<_> = (0..5000).map(|n| n.to_string()).collect();
        let accepted = AtomicUsize::new(0);
        let stopper = async {
            while accepted.load(Ordering::Relaxed) < 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            served.signal("TERM");
        };
        let publishing = publish_all(&served, &key, &names, &accepted);
        let (published, ()) = tokio::join!(publishing, stopper);
        let begun = Instant::now();
        // The drain's ten seconds, and some to start and end.
        let code = served.wait(Duration::from_secs(20));
        println!(
            "stopped in {:?} with {} accepted, {} in doubt, {} delivered",
            begun.elapsed(),
            published.accepted.len(),
            published.in_doubt.len(),
            delivered(&receiver).len()
        );
        assert_eq!(code, Some(0));
        let before = times(&receiver);
        assert!(before.values().all(|times| *times == 1), "{before:?}");

        receiver.script([]);
        let served = Served::start(data.path(), SHORT_INTERVALS);
        settle(&served, &key, &endpoint, &receiver, &published.accepted).await;
        let after = times(&receiver);
        let again: Vec<_> = before.keys().filter(|name| after[*name] > 1).collect();
        assert!(again.is_empty(), "delivered once more: {again:?}");
    });
}

/// How often each event was delivered.
fn times(receiver: &Receiver) -> HashMap<String, usize> {
    let mut times = HashMap::new();
    for received in receiver.acknowledged() {
        let name = received.json()["id"].as_str().unwrap().to_owned();
        *times.entry(name).or_default() += 1;
    }
    times
}

#[test]
fn handlers_say_what_a_process_does_and_a_drain_says_that_it_ends() {
    run(async {
        let data = tempfile::tempdir().unwrap();
        let receiver = Receiver::start([]).await;
        // A process that only takes events in delivers none.
        let grace = ("MILLRACE_HTTP__DRAIN_GRACE_S", "8");
        let mut api = Served::start(data.path(), &[("MILLRACE_HANDLERS", "http"), grace]);
        let key = first_key(&api.greeting).unwrap();
        create_endpoint(&api, &key, &receiver.url).await;
        publish(&api, &key, "first").await.unwrap();
        let get = async |path: &str| api.request(Method::GET, path, &key, Value::Null).await;
        assert_eq!(get("/health/ready").await.unwrap().0, StatusCode::OK);
        api.signal("TERM");
        let begun = Instant::now();
        let draining = loop {
            let (status, ready) = get("/health/ready").await.unwrap();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                break ready;
            }
            assert!(begun.elapsed() < DELIVERED_MAX, "it goes on: {ready}");
        };
        assert_eq!(draining["status"], "draining", "{draining}");
        // Whoever has not heard of it is served.
        publish(&api, &key, "second").await.unwrap();
        assert_eq!(api.wait(Duration::from_secs(40)), Some(0));
        assert!(receiver.received().is_empty(), "nobody was to deliver");

        // And one that works serves its health alone.
        let jobs = ("MILLRACE_HANDLERS", "fan_out, deliver, sweep");
        let worker = Served::start(data.path(), &[jobs, SHORT_INTERVALS[1]]);
        let (status, _) = worker
            .request(Method::GET, "/health/ready", &key, Value::Null)
            .await
            .unwrap();
        assert_eq!(status, StatusCode::OK);
        let refused = worker.request(Method::POST, "/v1/events", &key, event("third"));
        assert_eq!(refused.await.unwrap().0, StatusCode::NOT_FOUND);
        let begun = Instant::now();
        while receiver.received().len() < 2 {
            assert!(begun.elapsed() < DELIVERED_MAX, "not delivered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = times(&receiver);
        assert_eq!(
            seen,
            HashMap::from([("first".into(), 1), ("second".into(), 1)])
        );
    });
}
