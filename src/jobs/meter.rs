//! The metering: what meters read of events is added up in PostgreSQL, in batches.
//!
//! Nothing is enqueued for it. The readings lie beside their event, due from the
//! moment both are durable, and are looked for here every second; they are
//! deleted once they are counted. Whatever happens in between, they are counted
//! again, to no effect. Any number of instances may do this.

use futures_util::future;
use jiff::{SignedDuration, Timestamp};

use super::backfill;
use super::outcome::report;
use crate::app::App;
use crate::error::{Error, Result};
use crate::store::keys;
use crate::store::readings::{self, DueItem, StoredReadings};
use crate::store::usage::prune;
use crate::store::usage::{self, CountSummary, GroupTotals};
use crate::telemetry::metrics::{Series, StatisticSet};

/// Readings counted by one statement, unless a single event has more: up to
/// 100 meters read it.
const READINGS_MAX: usize = 1_000;
/// How long readings that cannot be counted are postponed.
const POSTPONED: SignedDuration = SignedDuration::from_mins(5);
/// Times one pruning goes on while there is more.
const PRUNE_ROUNDS_MAX: u32 = 100;

/// What a look at what is to be counted did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MeterRun {
    /// Readings newly counted.
    pub counted: u64,
    /// Things found due.
    pub found: usize,
    /// More is due than one look takes.
    pub has_more: bool,
}

/// Counts what is due at `now`: up to `meters.batch` events of each partition, and
/// a part of each back-fill.
///
/// # Errors
/// When a store is out of reach for some of it, which stays due; the rest is counted.
pub async fn meter(app: &App, now: Timestamp) -> Result<MeterRun> {
    let batch = app.config.meters.batch;
    let shards =
        (0..keys::METER_SHARDS).map(|shard| readings::query(&app.dynamo, shard, now, batch));
    let mut run = MeterRun::default();
    let (mut due, mut backfills, mut failed) = (Vec::new(), Vec::new(), None);
    for shard in future::join_all(shards).await {
        // One that cannot be looked at must not keep the others waiting.
        let shard = match shard {
            Ok(shard) => shard,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        let found = shard.readings.len() + shard.backfills.len();
        run.found += found;
        run.has_more |= found >= batch;
        due.extend(shard.readings);
        backfills.extend(shard.backfills);
    }
    for chunk in due.chunks(batch) {
        run.counted += count_due(app, chunk, now, &mut failed).await;
    }
    for due in &backfills {
        // One that fails must not keep the others waiting.
        match backfill::run(app, due, now).await {
            Ok(is_left) => run.has_more |= is_left,
            Err(error) => report("backfill", due.subject(), &error),
        }
    }
    failed.map_or(Ok(run), Err)
}

/// Counts the readings of `due` and deletes them; how many were new. What fails is put
/// into `failed`, and keeps no other from being counted.
async fn count_due(app: &App, due: &[DueItem], now: Timestamp, failed: &mut Option<Error>) -> u64 {
    let mut check = |outcome: Result<()>| {
        if let Err(error) = outcome {
            *failed = Some(error);
        }
    };
    let loaded = match readings::get(&app.dynamo, due).await {
        Ok(loaded) => loaded,
        Err(error) => {
            check(Err(error));
            return 0;
        }
    };
    for due in loaded.unreadable {
        // Another version may know what they are.
        app.telemetry.metrics.unreadable.add_one();
        check(readings::postpone(&app.dynamo, due.subject(), now + POSTPONED).await);
    }
    let mut fresh = 0;
    let mut left = parts(&loaded.readable);
    while let Some(part) = left.pop() {
        match count(app, part).await {
            Ok(counted) => {
                if counted.forgotten > 0 {
                    tracing::error!(
                        readings = counted.forgotten,
                        "meter readings dropped: older than the deduplication window"
                    );
                }
                add_to_metrics(app, &counted);
                fresh += counted.newly_counted;
                // What is left is counted again, to no effect.
                check(delete(app, part).await);
            }
            Err(error) if error.is_outage() => {
                check(Err(error));
                break;
            }
            // The one that cannot be counted must not keep the others from it.
            Err(error) => match part {
                [one] => {
                    let event = one.event.as_str();
                    report("meter", event, &error);
                    check(readings::postpone(&app.dynamo, event, now + POSTPONED).await);
                }
                _ => left.extend(<[_; 2]>::from(part.split_at(part.len() / 2))),
            },
        }
    }
    fresh
}

/// `stored` in parts of up to [`READINGS_MAX`] readings.
fn parts(stored: &[StoredReadings]) -> Vec<&[StoredReadings]> {
    let (mut parts, mut begun, mut readings) = (Vec::new(), 0, 0);
    for (at, one) in stored.iter().enumerate() {
        let more = one.metered.readings.len();
        if at > begun && readings + more > READINGS_MAX {
            parts.push(&stored[begun..at]);
            (begun, readings) = (at, 0);
        }
        readings += more;
    }
    parts.extend((begun < stored.len()).then(|| &stored[begun..]));
    parts
}

async fn count(app: &App, stored: &[StoredReadings]) -> Result<CountSummary> {
    let entries = usage::entries(stored);
    usage::count(&app.postgres, &entries, app.config.meters.groups_max).await
}

async fn delete(app: &App, stored: &[StoredReadings]) -> Result<()> {
    let events: Vec<_> = stored.iter().map(|stored| &stored.event).collect();
    readings::delete(&app.dynamo, &events).await
}

/// Adds what was newly counted to the metrics.
fn add_to_metrics(app: &App, counted: &CountSummary) {
    let metrics = &app.telemetry.metrics;
    metrics.metered.add(counted.newly_counted - counted.skipped);
    metrics.meter_skipped.add(counted.skipped);
    for sums in &counted.sums {
        if let Some((series, sum)) = metric_sum(sums) {
            metrics.kpis.add(series, sum);
        }
    }
}

/// What is published of `sums`, if its meter is.
fn metric_sum(sums: &GroupTotals) -> Option<(Series, StatisticSet)> {
    let metric = sums.metric.as_ref()?;
    let values = serde_json::from_str::<Vec<serde_json::Value>>(&sums.group).unwrap_or_default();
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let series = Series {
        name: metric.name.clone(),
        project: metric.project.clone(),
        group: metric
            .group_by
            .iter()
            .cloned()
            .zip(values.into_iter().map(text))
            .collect(),
    };
    let count = sums.count;
    let [sum, min, max] = match &sums.values {
        // CloudWatch has floats only.
        Some(values) => {
            let all = [&values.sum, &values.min, &values.max];
            let [sum, min, max] = all.map(|text| text.parse::<f64>());
            [sum.ok()?, min.ok()?, max.ok()?]
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "2^53 events are never counted at once"
        )]
        None => [count as f64, 1.0, 1.0],
    };
    Some((
        series,
        StatisticSet {
            count,
            sum,
            min,
            max,
        },
    ))
}

/// Deletes usage, and the marks of events that were counted, once no longer needed.
///
/// # Errors
/// When PostgreSQL is out of reach; the next time does it.
pub async fn prune(app: &App, now: Timestamp) -> Result<()> {
    for _ in 0..PRUNE_ROUNDS_MAX {
        if !prune::prune(
            &app.postgres.in_background(),
            now,
            app.config.retention_days,
        )
        .await?
        {
            break;
        }
    }
    Ok(())
}
