//! The deliveries that a page of a recovery begins: those that failed, or those
//! that never were.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::endpoint::Target;
use crate::model::id::{DeliveryId, EndpointId};
use crate::model::job::Job;
use crate::model::recovery::{self, Recovery, RecoveryPass};
use crate::store::deliveries::{self, InHandUntil, NewDelivery, ReplayFrom, ReplayOutcome};
use crate::store::events::{self, EventRow};
use crate::store::recoveries::PageResult;
use crate::store::recovery_selection as selection;

/// Deliveries begun at a time.
const WRITES_MAX: usize = 16;

/// Begins a new round for deliveries in the states asked for.
pub(super) async fn resend(
    app: &App,
    recovery: &Recovery,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<PageResult> {
    let states = recovery.resent_states();
    let limit = page_limit(app);
    let page = selection::deliveries(&app.dynamo, recovery, endpoint, limit).await?;
    let due = app.queue.due(now, Duration::ZERO);
    let from = ReplayFrom::States {
        states: &states,
        in_hand: InHandUntil {
            first: due,
            retry: app.queue.delayed_due(now),
        },
    };
    let begin = async |id: DeliveryId| {
        let at = recovery.created;
        let mut replayed = deliveries::replay(&app.dynamo, &id, from, at, due).await?;
        if let ReplayOutcome::BegunByLater(later) = replayed {
            // Whether that came later or a clock was ahead: it has failed again since.
            let after = deliveries::replay_after(&app.dynamo, &id, from, at, due, later);
            replayed = after.await?;
        }
        match replayed {
            ReplayOutcome::NewRound(progress) => {
                Ok::<_, Error>(BeginOutcome::Begun(deliver(id, progress.attempts_made)))
            }
            ReplayOutcome::AlreadyReplayed => Ok(BeginOutcome::AlreadyBegun),
            ReplayOutcome::NotEligible
            | ReplayOutcome::BegunByLater(_)
            | ReplayOutcome::Missing => Ok(BeginOutcome::Skipped),
        }
    };
    let begun = begin_all(app, page.ids.into_iter().map(begin)).await?;
    Ok(PageResult {
        skipped: begun.skipped + page.unreadable,
        examined: page.examined,
        next: page.next,
        ..begun
    })
}

/// Writes deliveries of the events that match the endpoint's filter now and have
/// none to it.
pub(super) async fn replay_missing(
    app: &App,
    recovery: &Recovery,
    target: &Target,
    now: Timestamp,
) -> Result<PageResult> {
    let (project, endpoint) = (&recovery.project, &target.id);
    let (limit, retention_days) = (page_limit(app), app.config.retention_days);
    let page = selection::missing_events(&app.dynamo, recovery, target, retention_days, limit, now);
    let page = page.await?;
    let due = app.queue.due(now, Duration::ZERO);
    let begin = async |event: &EventRow| {
        let new = NewDelivery::of_listed(project, event, endpoint, now, due);
        let is_new = deliveries::put_late(&app.dynamo, &new).await?;
        let id = DeliveryId::new(&event.id, endpoint);
        Ok::<_, Error>(if is_new {
            BeginOutcome::Begun(deliver(id, 0))
        } else {
            BeginOutcome::Skipped
        })
    };
    let begun = begin_all(app, page.rows.iter().map(begin)).await?;
    take_back_erased(app, &page.rows, endpoint).await?;
    let skipped = begun.skipped + page.unreadable;
    // The first pass has counted the others.
    let (examined, skipped) = match recovery.pass {
        RecoveryPass::First => (page.examined, skipped),
        RecoveryPass::Second => (begun.resent, 0),
    };
    Ok(PageResult {
        examined,
        skipped,
        next: page.next,
        ..begun
    })
}

/// Deletes the deliveries of events that were erased since they were listed: the list
/// is a little late in any case.
async fn take_back_erased(app: &App, events: &[EventRow], endpoint: &EndpointId) -> Result<()> {
    let ids: Vec<_> = events.iter().map(|event| event.id.clone()).collect();
    let gone = events::missing(&app.dynamo, &ids).await?.into_iter();
    let gone: Vec<_> = gone.map(|id| DeliveryId::new(&id, endpoint)).collect();
    deliveries::delete(&app.dynamo, &gone).await
}

fn deliver(delivery: DeliveryId, attempts_made: u32) -> Job {
    Job::Deliver {
        delivery,
        attempts_made,
        payload: None,
    }
}

/// Whether a recovery has begun a delivery.
enum BeginOutcome {
    /// Just now: this is to be enqueued.
    Begun(Job),
    /// In an earlier run of the same page.
    AlreadyBegun,
    Skipped,
    /// It cannot be read: the page goes on without it.
    Unreadable,
}

/// Begins a page's deliveries and enqueues their attempts. What is begun when one
/// of them fails stays due, and the sweeper brings it.
async fn begin_all(
    app: &App,
    begins: impl Iterator<Item = impl Future<Output = Result<BeginOutcome>>>,
) -> Result<PageResult> {
    let begins: Vec<_> = begins.collect();
    let mut step = PageResult {
        written: begins.len(),
        ..PageResult::default()
    };
    let begun = stream::iter(begins)
        .buffer_unordered(WRITES_MAX)
        .map(|outcome| match outcome {
            Err(error) if !error.is_outage() => {
                let cause = error.causes();
                tracing::error!(%error, cause, "delivery unreadable: skipped");
                Ok(BeginOutcome::Unreadable)
            }
            outcome => outcome,
        });
    let begun: Vec<BeginOutcome> = begun.try_collect().await?;
    let mut jobs = Vec::with_capacity(begun.len());
    for one in begun {
        match one {
            BeginOutcome::Begun(job) => {
                step.resent += 1;
                jobs.push(job);
            }
            BeginOutcome::AlreadyBegun => step.resent += 1,
            BeginOutcome::Skipped => {}
            BeginOutcome::Unreadable => step.skipped += 1,
        }
    }
    app.queue.send(jobs, Duration::ZERO).await;
    Ok(step)
}

fn page_limit(app: &App) -> usize {
    recovery::page_size(app.config.recovery.per_second_max)
}
