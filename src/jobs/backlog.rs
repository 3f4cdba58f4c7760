//! The backlog: how much work is due and not done, for the metric of that name.
//!
//! Recorded by the sweeper. A sweep finds no more than it takes, so where more may be
//! due, all of it is counted: up to [`COUNT_MAX`], once in [`COUNT_INTERVAL`] by a
//! process, and only where the metric is written. It must not read otherwise: without
//! a backlog it costs nothing.

use std::time::Duration;

use futures_util::future;
use jiff::Timestamp;

use super::outcome::report;
use crate::app::App;
use crate::error::Result;
use crate::store::{due, keys};

/// Things counted at most, over all due partitions: twice what the alarm's default is.
/// An item of the index has about 250 bytes, so this reads 25 MB: 3,100 read units.
pub const COUNT_MAX: usize = 100_000;
/// From one count of a process to its next.
pub const COUNT_INTERVAL: Duration = Duration::from_mins(1);

/// What a sweep saw of the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenWork {
    /// Things that were due, or jobs in the in-process queue, whichever was more.
    pub waiting: usize,
    /// Those of them that it claimed: they are not due any more.
    pub claimed: usize,
    /// Whether more may be due.
    pub may_be_more: bool,
}

/// Records what waits at `now`: what was `seen`, or what is counted if that is more.
pub(super) async fn record(app: &App, seen: SeenWork, now: Timestamp) {
    let metrics = &app.telemetry.metrics;
    let mut waiting = seen.waiting;
    if seen.may_be_more && metrics.is_on() && metrics.backlog_counts.begin(now, COUNT_INTERVAL) {
        match count(app, now).await {
            Ok(left) => waiting = waiting.max(seen.claimed + left),
            Err(error) => report("sweep", "backlog", &error),
        }
    }
    metrics.backlog.record(waiting);
}

/// What is due in all partitions, side by side.
async fn count(app: &App, now: Timestamp) -> Result<usize> {
    let most = COUNT_MAX / usize::from(keys::DUE_SHARDS);
    let shards = (0..keys::DUE_SHARDS).map(|shard| due::count_due(&app.dynamo, shard, now, most));
    Ok(future::try_join_all(shards).await?.iter().sum())
}
