//! The sweeper: what is due and has no worker is found and enqueued.
//!
//! It is what makes a queue message a hint: whatever was lost on the way, a
//! crashed worker, a full or purged queue, a projection that failed, is due and
//! found here. Any number of sweepers may run.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, future, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::backlog::{self, SeenWork};
use super::idle_watch::IdleWatch;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::job::Job;
use crate::store::due::{self, DueItem};
use crate::store::{keys, projector, retry_quota};

/// How what is due is claimed.
#[derive(Clone, Copy)]
struct ClaimPolicy {
    /// Doublings of the lease, on top of those for earlier sweeps.
    lease_doublings: u32,
    /// Conditional writes at a time, of each due partition.
    concurrency: usize,
    lane: ClaimLane,
}

#[derive(Clone, Copy)]
enum ClaimLane {
    Prompt,
    Backlogged,
}

impl ClaimPolicy {
    /// Enqueues what was claimed, each with the end of its lease.
    async fn send(self, app: &App, won: Vec<(Job, Timestamp)>) {
        match self.lane {
            ClaimLane::Prompt => {
                let jobs = won.into_iter().map(|(job, _)| job).collect();
                app.queue.send(jobs, Duration::ZERO).await;
            }
            ClaimLane::Backlogged => app.queue.send_backlogged(won).await,
        }
    }
}

const PROMPT: ClaimPolicy = ClaimPolicy {
    lease_doublings: 0,
    concurrency: 16,
    lane: ClaimLane::Prompt,
};
/// For what waits behind a backlog of its own endpoint's.
const BACKLOGGED: ClaimPolicy = ClaimPolicy {
    // Taking it up again and again would cost the others.
    lease_doublings: 3,
    // Nobody waits for it, and what is being accepted and delivered must not wait
    // behind it.
    concurrency: 1,
    lane: ClaimLane::Backlogged,
};
/// How old an outbox row is before its writer is presumed dead.
pub const REPAIR_AGE: Duration = Duration::from_secs(2);

/// Pages of a partition that a sweep looks at, as long as there are things in each
/// that it cannot claim: they are in the way of no others.
const PAGES_MAX: usize = 8;
/// Claims for one payer that the store may refuse in a sweep of a partition, before the
/// others of that payer are left for the next sweep: its index is what is hot.
const REFUSED_OF_PAYER_MAX: usize = 4;
/// As many of all payers, before the sweep of the partition ends: the store itself is
/// what refuses.
const REFUSED_MAX: usize = 64;
/// Jobs sent at a time, at most.
const SENDS_MAX: usize = 100;

/// What a sweep did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SweepSummary {
    /// Jobs enqueued.
    pub enqueued: usize,
    /// More may be due than this sweep took.
    pub has_more: bool,
    /// Things found due, whether or not this sweeper was the one to take them.
    pub found: usize,
    /// Claims and looks that the store refused: what they were of stays due.
    pub refused: usize,
    /// Things that this version cannot read. Their leases double as if they had been
    /// enqueued.
    pub unreadable: usize,
}

/// Enqueues what is due at `now`: up to `sweep.batch` of each due partition, and
/// no more than the queue has room for. What was claimed is enqueued whatever becomes
/// of the other claims.
///
/// # Errors
/// When DynamoDB is out of reach and nothing was enqueued; what is due stays due.
pub async fn sweep(app: &App, now: Timestamp) -> Result<SweepSummary> {
    sweep_until(app, now, &CancellationToken::new()).await
}

/// As [`sweep`], but once `stop` is cancelled nothing more is claimed: what was is
/// enqueued, and this ends.
///
/// # Errors
/// As [`sweep`].
pub async fn sweep_until(
    app: &App,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<SweepSummary> {
    app.queue.readmit_deferred(now);
    let room = app.queue.room() / usize::from(keys::DUE_SHARDS);
    let look = Look {
        until: now,
        now,
        batch: app.config.sweep.batch.min(room),
        take: |_, _| true,
        stop,
    };
    let waiting = app.queue.depth();
    let swept = all_shards(app, &look).await;
    backlog::record(app, seen(&swept, &look, waiting), now).await;
    let breakers_open = app.admission.open_breakers(now);
    if breakers_open > 0 {
        app.telemetry.metrics.breakers_open.record(breakers_open);
    }
    swept
}

/// What a sweep saw, beside the jobs that were `waiting` in the in-process queue.
fn seen(swept: &Result<SweepSummary>, look: &Look<'_>, waiting: usize) -> SeenWork {
    let (found, claimed, is_all) = match swept {
        Ok(summary) => (summary.found, summary.enqueued, !summary.has_more),
        Err(_) => (0, 0, false),
    };
    SeenWork {
        // The larger, not both: what is due may wait in the queue already.
        waiting: found.max(waiting),
        claimed,
        may_be_more: !is_all || look.batch == 0,
    }
}

/// Enqueues at once what the in-process queue had when its process ended, though
/// its lease is not over: the lease's holder is gone.
///
/// # Errors
/// When DynamoDB is out of reach; the leases then run out by themselves.
pub async fn reclaim_leases(app: &App, now: Timestamp) -> Result<SweepSummary> {
    let look = Look {
        until: now + due::lease_max(app.queue.lease()),
        now,
        batch: app.queue.room() / usize::from(keys::DUE_SHARDS),
        take: is_leased_or_due,
        stop: &CancellationToken::new(),
    };
    all_shards(app, &look).await
}

/// Whether a queue has it, or it is due anyway.
fn is_leased_or_due(due: &DueItem, now: Timestamp) -> bool {
    due.swept() > 0 || due.at().is_some_and(|at| at <= now)
}

/// What a sweep takes.
struct Look<'a> {
    /// What is due at this time,
    until: Timestamp,
    /// by the time that it is now,
    now: Timestamp,
    /// so many of each partition,
    batch: usize,
    /// of those that this says yes to,
    take: fn(&DueItem, Timestamp) -> bool,
    /// until it is to end.
    stop: &'a CancellationToken,
}

/// What became of the claims of a sweep.
#[derive(Default)]
struct Claims {
    enqueued: usize,
    /// Why the store refused claims or looks: the first time, and how often.
    refused: Option<(Error, usize)>,
    /// What could not be read: the first thing, why, and how many there were.
    unreadable: Option<(String, Error, usize)>,
    /// Claims not tried, since the store refused their like.
    left: usize,
}

impl Claims {
    fn fail(&mut self, subject: &str, error: Error) {
        if error.is_outage() {
            self.refused.get_or_insert((error, 0)).1 += 1;
        } else {
            let first = || (subject.to_owned(), error, 0);
            self.unreadable.get_or_insert_with(first).2 += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.enqueued += other.enqueued;
        self.left += other.left;
        if let Some((error, more)) = other.refused {
            self.refused.get_or_insert((error, 0)).1 += more;
        }
        if let Some((subject, error, more)) = other.unreadable {
            self.unreadable.get_or_insert((subject, error, 0)).2 += more;
        }
    }

    fn refused(&self) -> usize {
        self.refused.as_ref().map_or(0, |(_, count)| *count)
    }

    fn unreadable(&self) -> usize {
        self.unreadable.as_ref().map_or(0, |(_, _, count)| *count)
    }

    fn failed(&self) -> usize {
        self.refused() + self.unreadable() + self.left
    }

    /// Logs what failed, once for all of it; the error if nothing else came of the sweep.
    fn report(self) -> Result<()> {
        if let Some((subject, error, rows)) = self.unreadable {
            let cause = error.causes();
            tracing::error!(rows, subject, %error, cause, "due items unreadable: leased and left");
        }
        match self.refused {
            Some((error, _)) if self.enqueued == 0 => Err(error),
            Some((error, claims)) => {
                let cause = error.causes();
                tracing::warn!(claims, %error, cause, "claims refused: still due");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The claims that the store refused in a sweep of a partition, by payer: each is a write
/// to a table that throttles already.
#[derive(Default)]
struct Refusals(Mutex<HashMap<String, usize>>);

impl Refusals {
    fn add(&self, payer: String) {
        *self.lock().entry(payer).or_default() += 1;
    }

    /// Whether no more is to be claimed for `payer`.
    fn are_enough_of(&self, payer: &str) -> bool {
        let of_payer = self.lock().get(payer).copied();
        of_payer.is_some_and(|refused| refused >= REFUSED_OF_PAYER_MAX) || self.are_enough()
    }

    /// Whether no more is to be claimed for anybody.
    fn are_enough(&self) -> bool {
        self.lock().values().sum::<usize>() >= REFUSED_MAX
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Nothing in between can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Enqueues what `look` takes, all shards side by side: what fails in one is no
/// other's.
async fn all_shards(app: &App, look: &Look<'_>) -> Result<SweepSummary> {
    let mut summary = SweepSummary::default();
    if look.batch == 0 {
        return Ok(summary);
    }
    let shards = (0..keys::DUE_SHARDS).map(|shard| sweep_shard(app, shard, look));
    let mut all = Claims::default();
    for (of_shard, claims) in future::join_all(shards).await {
        summary.found += of_shard.found;
        summary.unreadable += of_shard.unreadable;
        summary.has_more |= of_shard.has_more;
        all.add(claims);
    }
    summary.enqueued = all.enqueued;
    summary.refused = all.refused();
    summary.unreadable += all.unreadable();
    let unreadable = u64::try_from(summary.unreadable).unwrap_or(u64::MAX);
    app.telemetry.metrics.unreadable.add(unreadable);
    all.report()?;
    Ok(summary)
}

/// Enqueues what `look` takes of one shard: up to a batch of what can be claimed, and
/// past what cannot.
async fn sweep_shard(app: &App, shard: u8, look: &Look<'_>) -> (SweepSummary, Claims) {
    let (mut summary, mut all) = (SweepSummary::default(), Claims::default());
    let (mut left, mut after) = (look.batch, None);
    let refusals = Refusals::default();
    for _ in 0..PAGES_MAX {
        let page = match due::page(&app.dynamo, shard, look.until, left, after).await {
            Ok(page) => page,
            Err(error) => {
                all.fail("", error);
                break;
            }
        };
        let looked_at = page.items.len() + page.unreadable;
        let taken = page.items.iter().filter(|due| (look.take)(due, look.now));
        let claims = enqueue(app, taken.collect(), look, &refusals).await;
        let stuck = page.unreadable + claims.failed();
        summary.found += looked_at;
        summary.unreadable += page.unreadable;
        summary.has_more = looked_at == left;
        all.add(claims);
        (left, after) = (stuck, page.next);
        let is_over = refusals.are_enough() || look.stop.is_cancelled();
        if stuck == 0 || after.is_none() || is_over {
            break;
        }
    }
    (summary, all)
}

/// Claims each of `due` and enqueues what was claimed; last what waits behind a
/// backlog of its own endpoint's.
async fn enqueue(app: &App, due: Vec<&DueItem>, look: &Look<'_>, refusals: &Refusals) -> Claims {
    let has_backlog = |due: &&DueItem| due.endpoint().is_some_and(|id| app.queue.has_backlog(&id));
    let (backlogged, others): (Vec<_>, Vec<_>) = due.into_iter().partition(has_backlog);
    let mut claims = claim_and_send(app, others, look, refusals, PROMPT).await;
    claims.add(claim_and_send(app, backlogged, look, refusals, BACKLOGGED).await);
    claims
}

/// Claims each of `due` and sends what this sweeper claimed, and no other did, while it
/// claims the rest: neither a claim that fails nor the end of the sweep costs those
/// that were won their lease.
async fn claim_and_send(
    app: &App,
    due: Vec<&DueItem>,
    look: &Look<'_>,
    refusals: &Refusals,
    policy: ClaimPolicy,
) -> Claims {
    let lease = app.queue.lease();
    let each: Vec<_> = due
        .into_iter()
        .map(async |due| {
            let payer = payer(due);
            if refusals.are_enough_of(&payer) {
                return None;
            }
            let leased_until = look.now + due.lease(lease, policy.lease_doublings);
            let claim = retry_quota::with_payer(Box::pin(async {
                retry_quota::charge_to(&payer);
                due::claim(&app.dynamo, due, leased_until).await
            }));
            let claimed = claim.await;
            if claimed.as_ref().is_err_and(Error::is_outage) {
                refusals.add(payer);
            }
            let claimed = claimed.map(|job| job.map(|job| (job, leased_until)));
            Some(claimed.map_err(|error| (due.subject(), error)))
        })
        .collect();
    let claimed = stream::iter(each)
        .take_until(look.stop.cancelled())
        .buffer_unordered(policy.concurrency)
        .ready_chunks(SENDS_MAX);
    let mut claimed = pin!(claimed);
    let mut claims = Claims::default();
    while let Some(chunk) = claimed.next().await {
        let mut won = Vec::with_capacity(chunk.len());
        for claim in chunk {
            match claim {
                Some(Ok(job)) => won.extend(job),
                Some(Err((subject, error))) => claims.fail(subject, error),
                None => claims.left += 1,
            }
        }
        claims.enqueued += won.len();
        policy.send(app, won).await;
    }
    claims
}

/// What the store's retries of a claim are charged to, as those of its job are.
fn payer(due: &DueItem) -> String {
    match due.endpoint() {
        Some(endpoint) => endpoint.to_string(),
        None => due.subject().to_owned(),
    }
}

/// Projects the control-plane changes of `age` or older, whose writers did not
/// live to do it; how many those were.
///
/// # Errors
/// As [`projector::project_pending`].
pub async fn repair_outbox(app: &App, age: Duration) -> Result<usize> {
    projector::project_pending(&app.postgres, &app.projection, age).await
}

/// [`repair_outbox`] while there may be something to repair, by `watch`: then alone is
/// PostgreSQL asked.
///
/// # Errors
/// As [`repair_outbox`], and when DynamoDB is out of reach.
pub async fn repair_outbox_if_due(app: &App, watch: &IdleWatch) -> Result<usize> {
    if !watch.is_look_due(app).await? {
        return Ok(0);
    }
    // Cut off, it is not done.
    watch.looked(true);
    let postgres = app.postgres.in_background();
    let pending = projector::drain_outbox(&postgres, &app.projection, REPAIR_AGE).await;
    let is_done = pending.as_ref().is_ok_and(|pending| pending.failed == 0);
    watch.looked(!is_done);
    Ok(pending?.projected)
}
