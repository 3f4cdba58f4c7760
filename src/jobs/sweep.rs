//! The sweeper: finds what is due and has no worker, and enqueues it.
//!
//! It is what makes a queue message a hint: whatever was lost on the way, a
//! crashed worker, a full or purged queue, a projection that failed, is due and
//! found here. Any number of sweepers may run.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::store::due::{self, Due};
use crate::store::{keys, outbox};

/// Conditional writes at a time.
const WINS_MAX: usize = 16;
/// How old an outbox row is before its writer is presumed dead.
pub const REPAIR_AGE: Duration = Duration::from_secs(2);

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Jobs enqueued.
    pub enqueued: usize,
    /// More is due than one sweep takes.
    pub more: bool,
    /// Things found due, whether or not this sweeper was the one to take them.
    pub found: usize,
}

impl Swept {
    fn of(shards: &[Self]) -> Self {
        Self {
            enqueued: shards.iter().map(|swept| swept.enqueued).sum(),
            more: shards.iter().any(|swept| swept.more),
            found: shards.iter().map(|swept| swept.found).sum(),
        }
    }
}

/// Enqueues what is due at `now`: up to `sweep.batch` of each due partition, and
/// no more than the queue has room for.
///
/// # Errors
/// When DynamoDB is out of reach; what is due stays due.
pub async fn sweep(app: &App, now: Timestamp) -> Result<Swept> {
    let room = app.queue.room() / usize::from(keys::DUE_SHARDS);
    let batch = app.config.sweep.batch.min(room);
    let waiting = app.queue.waiting();
    let swept = match batch {
        0 => Swept::default(),
        _ => all_shards(app, now, now, batch, |_, _| true).await?,
    };
    // The larger, not both: what is due may wait in the queue already.
    app.telemetry.metrics.backlog.see(swept.found.max(waiting));
    let breakers_open = app.care.open(now);
    if breakers_open > 0 {
        app.telemetry.metrics.breakers_open.see(breakers_open);
    }
    Ok(swept)
}

/// Enqueues what the in-process queue held when its process ended: it is due
/// only when its lease is over, and the lease's holder is gone.
///
/// # Errors
/// When DynamoDB is out of reach; the leases then run out by themselves.
pub async fn recover(app: &App, now: Timestamp) -> Result<Swept> {
    let horizon = now + due::lease_max(app.queue.lease());
    let batch = app.queue.room() / usize::from(keys::DUE_SHARDS);
    all_shards(app, horizon, now, batch, held_or_due).await
}

/// Whether a queue held it, or it is due anyway.
fn held_or_due(due: &Due, now: Timestamp) -> bool {
    due.swept() > 0 || due.at().is_some_and(|at| at <= now)
}

/// Enqueues what `take` takes of what is due at `until`, all shards side by side.
async fn all_shards(
    app: &App,
    until: Timestamp,
    now: Timestamp,
    batch: usize,
    take: fn(&Due, Timestamp) -> bool,
) -> Result<Swept> {
    let shards = (0..keys::DUE_SHARDS).map(async |shard| {
        let due = due::query(&app.dynamo, shard, until, batch).await?;
        let more = due.len() == batch;
        let taken = due.iter().filter(|due| take(due, now)).collect();
        Ok::<_, Error>(Swept {
            enqueued: enqueue(app, taken, now).await?,
            more,
            found: due.len(),
        })
    });
    Ok(Swept::of(&future::try_join_all(shards).await?))
}

/// Wins each of `due` and enqueues what was won.
async fn enqueue(app: &App, due: Vec<&Due>, now: Timestamp) -> Result<usize> {
    let lease = app.queue.lease();
    let wins: Vec<_> = due
        .into_iter()
        .map(|due| due::win(&app.dynamo, due, now, lease))
        .collect();
    let jobs: Vec<_> = stream::iter(wins)
        .buffer_unordered(WINS_MAX)
        .try_filter_map(future::ok)
        .try_collect()
        .await?;
    let enqueued = jobs.len();
    app.queue.send(jobs, Duration::ZERO).await;
    Ok(enqueued)
}

/// Projects the control-plane changes of `age` or older, whose writers did not
/// live to do it; how many those were.
///
/// # Errors
/// As [`outbox::project_all`].
pub async fn repair(app: &App, age: Duration) -> Result<usize> {
    outbox::project_all(&app.postgres, &app.plane, age).await
}
