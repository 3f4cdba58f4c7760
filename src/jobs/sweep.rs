//! The sweeper: what is due and has no worker is found and enqueued.
//!
//! It is what makes a queue message a hint: whatever was lost on the way, a
//! crashed worker, a full or purged queue, a projection that failed, is due and
//! found here. Any number of sweepers may run.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future, stream};
use jiff::Timestamp;

use super::backlog::{self, SeenWork};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::job::Job;
use crate::store::due::{self, DueItem};
use crate::store::{keys, projector};

/// How what is due is claimed.
#[derive(Clone, Copy)]
struct ClaimPolicy {
    /// Doublings of the lease, on top of those for earlier sweeps.
    lease_doublings: u32,
    /// Conditional writes at a time, of each due partition.
    concurrency: usize,
}

const PROMPT: ClaimPolicy = ClaimPolicy {
    lease_doublings: 0,
    concurrency: 16,
};
/// For what waits behind a backlog of its own endpoint's.
const BACKLOGGED: ClaimPolicy = ClaimPolicy {
    // Taking it up again and again would cost the others.
    lease_doublings: 3,
    // Nobody waits for it, and what is being accepted and delivered must not wait
    // behind it.
    concurrency: 1,
};
/// How old an outbox row is before its writer is presumed dead.
pub const REPAIR_AGE: Duration = Duration::from_secs(2);

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Jobs enqueued.
    pub enqueued: usize,
    /// More may be due than this sweep took.
    pub has_more: bool,
    /// Things found due, whether or not this sweeper was the one to take them.
    pub found: usize,
}

impl SweepSummary {
    /// Of a sweep that did not look, or did not come to its end.
    fn unknown() -> Self {
        Self {
            has_more: true,
            ..Self::default()
        }
    }

    fn of(shards: &[Self]) -> Self {
        Self {
            enqueued: shards.iter().map(|swept| swept.enqueued).sum(),
            has_more: shards.iter().any(|swept| swept.has_more),
            found: shards.iter().map(|swept| swept.found).sum(),
        }
    }
}

/// Enqueues what is due at `now`: up to `sweep.batch` of each due partition, and
/// no more than the queue has room for.
///
/// # Errors
/// When DynamoDB is out of reach; what is due stays due.
pub async fn sweep(app: &App, now: Timestamp) -> Result<SweepSummary> {
    app.queue.readmit_deferred(now);
    let room = app.queue.room() / usize::from(keys::DUE_SHARDS);
    let batch = app.config.sweep.batch.min(room);
    let waiting = app.queue.depth();
    let swept = if batch == 0 {
        Ok(SweepSummary::unknown())
    } else {
        all_shards(app, now, now, batch, |_, _| true).await
    };
    backlog::record(app, seen(&swept, waiting), now).await;
    let summary = swept?;
    let breakers_open = app.admission.open_breakers(now);
    if breakers_open > 0 {
        app.telemetry.metrics.breakers_open.record(breakers_open);
    }
    Ok(summary)
}

/// What a sweep saw, beside the jobs that were `waiting` in the in-process queue.
fn seen(swept: &Result<SweepSummary>, waiting: usize) -> SeenWork {
    let unknown = SweepSummary::unknown();
    let summary = swept.as_ref().unwrap_or(&unknown);
    SeenWork {
        // The larger, not both: what is due may wait in the queue already.
        waiting: summary.found.max(waiting),
        claimed: summary.enqueued,
        may_be_more: summary.has_more,
    }
}

/// Enqueues at once what the in-process queue had when its process ended, though
/// its lease is not over: the lease's holder is gone.
///
/// # Errors
/// When DynamoDB is out of reach; the leases then run out by themselves.
pub async fn reclaim_leases(app: &App, now: Timestamp) -> Result<SweepSummary> {
    let horizon = now + due::lease_max(app.queue.lease());
    let batch = app.queue.room() / usize::from(keys::DUE_SHARDS);
    all_shards(app, horizon, now, batch, is_leased_or_due).await
}

/// Whether a queue has it, or it is due anyway.
fn is_leased_or_due(due: &DueItem, now: Timestamp) -> bool {
    due.swept() > 0 || due.at().is_some_and(|at| at <= now)
}

/// Enqueues what `take` takes of what is due at `until`, all shards side by side.
async fn all_shards(
    app: &App,
    until: Timestamp,
    now: Timestamp,
    batch: usize,
    take: fn(&DueItem, Timestamp) -> bool,
) -> Result<SweepSummary> {
    let shards = (0..keys::DUE_SHARDS).map(async |shard| {
        let due = due::query(&app.dynamo, shard, until, batch).await?;
        let taken = due.iter().filter(|due| take(due, now)).collect();
        Ok::<_, Error>(SweepSummary {
            enqueued: enqueue(app, taken, now).await?,
            has_more: due.len() == batch,
            found: due.len(),
        })
    });
    Ok(SweepSummary::of(&future::try_join_all(shards).await?))
}

/// Claims each of `due` and enqueues what was claimed; last what waits behind a
/// backlog of its own endpoint's.
async fn enqueue(app: &App, due: Vec<&DueItem>, now: Timestamp) -> Result<usize> {
    let has_backlog = |due: &&DueItem| due.endpoint().is_some_and(|id| app.queue.has_backlog(&id));
    let (backlogged, others): (Vec<_>, Vec<_>) = due.into_iter().partition(has_backlog);
    let others = claim_all(app, others, now, PROMPT).await?;
    let mut enqueued = others.len();
    let others = others.into_iter().map(|claimed| claimed.job).collect();
    app.queue.send(others, Duration::ZERO).await;
    let backlogged = claim_all(app, backlogged, now, BACKLOGGED).await?;
    enqueued += backlogged.len();
    let backlogged = backlogged.into_iter();
    let backlogged = backlogged.map(|claimed| (claimed.job, claimed.leased_until));
    app.queue.send_backlogged(backlogged.collect()).await;
    Ok(enqueued)
}

/// What a sweep has claimed.
struct ClaimedJob {
    job: Job,
    leased_until: Timestamp,
}

/// What this sweeper claimed of `due`, and no other did.
async fn claim_all(
    app: &App,
    due: Vec<&DueItem>,
    now: Timestamp,
    policy: ClaimPolicy,
) -> Result<Vec<ClaimedJob>> {
    let lease = app.queue.lease();
    let claims: Vec<_> = due
        .into_iter()
        .map(async |due| {
            let leased_until = now + due.lease(lease, policy.lease_doublings);
            let job = due::claim(&app.dynamo, due, leased_until).await?;
            Ok::<_, Error>(job.map(|job| ClaimedJob { job, leased_until }))
        })
        .collect();
    stream::iter(claims)
        .buffer_unordered(policy.concurrency)
        .try_filter_map(future::ok)
        .try_collect()
        .await
}

/// Projects the control-plane changes of `age` or older, whose writers did not
/// live to do it; how many those were.
///
/// # Errors
/// As [`projector::project_pending`].
pub async fn repair_outbox(app: &App, age: Duration) -> Result<usize> {
    projector::project_pending(&app.postgres, &app.projection, age).await
}
