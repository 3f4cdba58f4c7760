//! The alarms on Millrace's own metrics: each reads a metric that is written, and the
//! code that writes it can take it past the alarm's number.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::config::{Config, MetricsChoice};
use millrace::jobs::recover::archive;
use millrace::jobs::{self, backlog, sweep};
use millrace::model::job::Job;
use millrace::store::{due, keys};
use serde_json::{Value, json};

use crate::archive::{archiving, base, objects};
use crate::support::fixtures::{failures, forget_queue, uncached_config};
use crate::support::harness::{Harness, config, run};
use crate::support::receiver::{Receiver, Reply};
use crate::support::stores::counting;

const ALARMS: &str = include_str!("../../deploy/alarms.tf");
const VARIABLES: &str = include_str!("../../deploy/variables.tf");
const SHARDS: usize = keys::DUE_SHARDS as usize;

/// Of the metric's alarm: what it reads, from the namespace, by the dimension.
fn queries() -> BTreeMap<&'static str, [&'static str; 3]> {
    let query = |line: &'static str| {
        let (statistic, rest) = line.split_once("SELECT ")?.1.split_once('(')?;
        let (metric, rest) = rest.split_once(") FROM SCHEMA(\\\"")?;
        let (namespace, rest) = rest.split_once("\\\", ")?;
        Some((metric, [statistic, namespace, rest.split_once(')')?.0]))
    };
    ALARMS.lines().filter_map(query).collect()
}

/// The number that a variable of the deployment has unless it is set.
fn default_of(variable: &str) -> u64 {
    let of_variable = VARIABLES.split_once(&format!("variable \"{variable}\" {{"));
    let (_, default) = of_variable.unwrap().1.split_once("default     = ").unwrap();
    default.lines().next().unwrap().parse().unwrap()
}

fn emitting(mut config: Config) -> Config {
    config.telemetry.metrics = MetricsChoice::Emf;
    config
}

/// What was counted since the last time.
fn line(harness: &Harness) -> Value {
    let line = harness.app.telemetry.metrics.take(app::now());
    line.map_or(Value::Null, |line| serde_json::from_str(&line).unwrap())
}

#[test]
fn every_alarm_reads_a_metric_that_is_written() {
    run(async {
        let receiver = Receiver::start([]).await;
        let config = emitting(archiving(&base(&receiver), "bucket"));
        let archive = objects(&config);
        let harness = Harness::builder().config(config).archive(archive);
        let harness = harness.build().await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        // Of days before there was an archive: none of them is late.
        let long_ago = app::now() - Duration::from_hours(24 * 400);
        archive::watch(&harness.app, long_ago).await.unwrap();
        sweep::sweep(&harness.app, app::now()).await.unwrap();
        let line = line(&harness);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        let queries = queries();
        let read: Vec<_> = queries.iter().collect();
        assert_eq!(
            read,
            [
                (&"archive_late", &["MAX", "Millrace", "service"]),
                (&"backlog", &["MAX", "Millrace", "service"]),
                (&"delivery_lag_ms", &["AVG", "Millrace", "service"]),
            ]
        );
        for (metric, [_, namespace, dimension]) in queries {
            assert!(!line[metric].is_null(), "{metric} is not written: {line}");
            assert_eq!(directive["Namespace"], namespace);
            assert_eq!(directive["Dimensions"], json!([[dimension]]));
        }
    });
}

#[test]
fn the_backlog_is_what_is_due_and_not_what_a_sweep_takes() {
    run(async {
        let publishing = Harness::new().await;
        let receiver = Receiver::start([]).await;
        publishing.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..40 {
            publishing.publish("a").await;
        }
        let (dynamo, requests) = counting(&publishing.app.dynamo);
        let mut config = emitting(config());
        config.sweep.batch = 1;
        let sweeping = publishing.beside().config(config.clone()).dynamo(dynamo);
        let sweeping = sweeping.build().await;
        let sweep_at = async |now| {
            let before = requests.load(Ordering::Relaxed);
            let summary = sweep::sweep(&sweeping.app, now).await.unwrap();
            let read = requests.load(Ordering::Relaxed) - before;
            // A query for each partition, and a claim for each thing found.
            let counted = read - SHARDS - summary.found;
            (summary, counted)
        };

        let now = app::now() + Duration::from_secs(30);
        let (first, counted) = sweep_at(now).await;
        assert!(first.found <= SHARDS && first.has_more, "{first:?}");
        assert_eq!(line(&sweeping)["backlog"], 40);
        assert_eq!(counted, SHARDS, "a query more for each partition");

        // For a minute it is known well enough.
        let (second, counted) = sweep_at(now + Duration::from_secs(59)).await;
        assert_eq!(counted, 0);
        let seen = second
            .found
            .max(sweeping.app.queue.depth() - second.enqueued);
        assert_eq!(line(&sweeping)["backlog"], seen);
        let (third, counted) = sweep_at(now + backlog::COUNT_INTERVAL).await;
        assert_eq!(counted, SHARDS);
        assert!(line(&sweeping)["backlog"].as_u64().unwrap() > third.found as u64);

        // Nobody is told, so nothing is read for it.
        config.telemetry.metrics = MetricsChoice::Off;
        let (dynamo, requests) = counting(&publishing.app.dynamo);
        let silent = publishing.beside().config(config).dynamo(dynamo);
        let silent = silent.build().await;
        let before = requests.load(Ordering::Relaxed);
        let later = app::now() + Duration::from_hours(24);
        let found = sweep::sweep(&silent.app, later).await.unwrap().found;
        let read = requests.load(Ordering::Relaxed) - before;
        assert_eq!(read, SHARDS + found);
        for harness in [&publishing, &sweeping, &silent] {
            forget_queue(harness);
        }
    });
}

#[test]
fn the_backlog_is_counted_while_the_queue_has_no_room() {
    run(async {
        let publishing = Harness::new().await;
        let receiver = Receiver::start([]).await;
        publishing.endpoint(&receiver.url, &["*"]).await;
        let (dynamo, requests) = counting(&publishing.app.dynamo);
        let mut config = emitting(config());
        // Less than one for each partition.
        config.queue.local_jobs_max = SHARDS - 1;
        let full = publishing.beside().config(config).dynamo(dynamo);
        let full = full.build().await;
        let now = app::now() + Duration::from_secs(30);
        for _ in 0..12 {
            publishing.publish("a").await;
        }
        let summary = sweep::sweep(&full.app, now).await.unwrap();
        assert_eq!((summary.found, summary.enqueued), (0, 0));
        assert_eq!(line(&full)["backlog"], 12);
        assert_eq!(requests.load(Ordering::Relaxed), SHARDS);
        forget_queue(&publishing);
    });
}

#[test]
fn a_count_ends_at_its_limit_and_beyond_the_alarms_number() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..20 {
            harness.publish("a").await;
        }
        let until = app::now() + Duration::from_secs(30);
        let mut total = 0;
        for shard in 0..keys::DUE_SHARDS {
            let count = async |limit| {
                let counted = due::count_due(&harness.app.dynamo, shard, until, limit);
                counted.await.unwrap()
            };
            let all = count(100).await;
            assert_eq!(count(1).await, all.min(1));
            assert_eq!(count(2).await, all.min(2));
            total += all;
        }
        assert_eq!(total, 20);
        forget_queue(&harness);
        // And the largest that the variable may be set to.
        let (_, validated) = VARIABLES.split_once("var.backlog_alarm <= ").unwrap();
        let most: usize = validated.lines().next().unwrap().parse().unwrap();
        assert!(default_of("backlog_alarm") as usize <= most);
        // Things are spread by a hash: the partitions are not all equally full.
        assert!(most * 10 <= backlog::COUNT_MAX * 9, "{most}");
    });
}

#[test]
fn the_lag_is_that_of_first_attempts_and_can_set_the_alarm_off() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        let late = app::now() + Duration::from_secs(default_of("delivery_lag_alarm_s") + 60);
        harness.drain_at(late).await;
        let first = line(&harness);
        let lag = &first["delivery_lag_ms"];
        let number = (default_of("delivery_lag_alarm_s") * 1000) as f64;
        assert_eq!(lag["Count"], 1, "though it failed: {first}");
        let average = lag["Sum"].as_f64().unwrap() / lag["Count"].as_f64().unwrap();
        assert!(average > number, "{first}");
        assert!(first["delivery_time_ms"].is_null(), "{first}");

        // The retry is not what the alarm is about.
        harness.sweep_after(Duration::from_hours(1)).await;
        let second = line(&harness);
        assert_eq!(second["delivered"], 1, "{second}");
        assert!(second["delivery_lag_ms"].is_null(), "{second}");
        let time = second["delivery_time_ms"]["Min"].as_f64().unwrap();
        assert!(time > 3_590_000.0, "{second}");
    });
}

#[test]
fn the_lag_is_not_of_what_waits_for_its_endpoint() {
    run(async {
        let mut config = uncached_config();
        config.delivery.breaker_failures = 3;
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start(failures(3)).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..6 {
            harness.publish("a").await;
        }
        harness.drain().await;
        let first = line(&harness);
        assert_eq!(first["delivery_lag_ms"]["Count"], 3, "{first}");
        assert_eq!(first["breaker_deferred"], 3, "{first}");
        // Its breaker lets all of them go at last, the first attempts of three among them.
        for minutes in [2, 10, 30] {
            harness.sweep_after(Duration::from_mins(minutes)).await;
        }
        let then = line(&harness);
        assert_eq!(then["delivered"], 6, "{then}");
        assert!(then["delivery_lag_ms"].is_null(), "{then}");
    });
}

#[test]
fn the_lag_is_not_of_what_a_rate_limit_spreads() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let body = json!({ "url": receiver.url, "event_types": ["*"], "rate_limit": 1 });
        let endpoint = harness.post("/v1/endpoints", body).await;
        endpoint.expect(StatusCode::CREATED);
        for _ in 0..3 {
            harness.publish("a").await;
        }
        let now = app::now();
        harness.drain_at(now).await;
        for minutes in [5, 10, 15] {
            harness.drain_at(now + Duration::from_mins(minutes)).await;
        }
        let line = line(&harness);
        assert_eq!(line["delivered"], 3, "{line}");
        let slowest = line["delivery_lag_ms"]["Max"].as_f64().unwrap();
        assert!(slowest < 60_000.0, "{line}");
    });
}

#[test]
fn the_lag_is_not_of_deliveries_made_long_after_their_events() {
    run(async {
        let harness = Harness::new().await;
        let event = harness.publish("a").await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        line(&harness);
        // A replay that a worker takes up from the store.
        let path = format!("/v1/events/{event}/replay");
        harness
            .post(&path, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        forget_queue(&harness);
        let fan_out = Job::FanOut {
            event: event.parse().unwrap(),
        };
        let done = jobs::run(&harness.app, fan_out, None, app::now()).await;
        assert!(matches!(done.unwrap(), jobs::Done::Finished));
        forget_queue(&harness);
        harness.sweep_after(Duration::from_hours(1)).await;
        let replayed = line(&harness);
        assert_eq!(replayed["delivered"], 1, "{replayed}");
        let lag = &replayed["delivery_lag_ms"];
        assert!(lag.is_null(), "{replayed}");

        // And a recovery of what an endpoint never had.
        let second = Receiver::start([]).await;
        let late = harness.endpoint(&second.url, &["*"]).await;
        let path = format!(
            "/v1/endpoints/{}/replay-missing",
            late["id"].as_str().unwrap()
        );
        let since = app::now() - Duration::from_hours(1);
        let answer = harness
            .post(&path, json!({ "since": since.to_string() }))
            .await;
        answer.expect(StatusCode::ACCEPTED);
        harness.sweep_after(Duration::from_hours(1)).await;
        let recovered = line(&harness);
        assert_eq!(recovered["delivered"], 1, "{recovered} {endpoint}");
        assert!(recovered["delivery_lag_ms"].is_null(), "{recovered}");
    });
}
