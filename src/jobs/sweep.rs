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
use crate::model::job::Job;
use crate::store::due::{self, Due};
use crate::store::{keys, outbox};

/// Conditional writes at a time, of each due partition.
const WINS_MAX: usize = 16;
/// The same for what waits behind a backlog of its own endpoint's: nobody waits for
/// it, and what is being accepted and delivered must not wait behind it.
const BEHIND_WINS_MAX: usize = 1;
/// Doublings of the lease that it starts with: taking it up again and again would
/// cost the others.
const AHEAD: u32 = 3;
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
    app.queue.take_up(now);
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

/// Wins each of `due` and enqueues what was won; last, and without haste, what waits
/// behind a backlog of its own endpoint's.
async fn enqueue(app: &App, due: Vec<&Due>, now: Timestamp) -> Result<usize> {
    let is_behind = |due: &&Due| due.endpoint().is_some_and(|id| app.queue.is_behind(&id));
    let (behind, others): (Vec<_>, Vec<_>) = due.into_iter().partition(is_behind);
    let others = win_all(app, others, now, (0, WINS_MAX)).await?;
    let mut enqueued = others.len();
    let others = others.into_iter().map(|(job, _)| job).collect();
    app.queue.send(others, Duration::ZERO).await;
    let behind = win_all(app, behind, now, (AHEAD, BEHIND_WINS_MAX)).await?;
    enqueued += behind.len();
    app.queue.send_behind(behind).await;
    Ok(enqueued)
}

/// What was won of `due`, each with the end of its lease.
async fn win_all(
    app: &App,
    due: Vec<&Due>,
    now: Timestamp,
    (ahead, wins_max): (u32, usize),
) -> Result<Vec<(Job, Timestamp)>> {
    let lease = app.queue.lease();
    let wins: Vec<_> = due
        .into_iter()
        .map(async |due| {
            let until = now + due.lease(lease, ahead);
            let job = due::win(&app.dynamo, due, until).await?;
            Ok::<_, Error>(job.map(|job| (job, until)))
        })
        .collect();
    stream::iter(wins)
        .buffer_unordered(wins_max)
        .try_filter_map(future::ok)
        .try_collect()
        .await
}

/// Projects the control-plane changes of `age` or older, whose writers did not
/// live to do it; how many those were.
///
/// # Errors
/// As [`outbox::project_all`].
pub async fn repair(app: &App, age: Duration) -> Result<usize> {
    outbox::project_all(&app.postgres, &app.plane, age).await
}
