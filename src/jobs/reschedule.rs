//! Jobs without lanes to wait in, on Lambda and in a drain: each waits here for a
//! moment, or is rescheduled.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outcome::{Done, Later};
use super::run;
use crate::app::App;
use crate::error::Result;
use crate::model::job::Job;
use crate::queue::lanes::WaitReason;
use crate::store::deliveries::{self, HeldLease};

/// How long a job waits here at a time, at most; what takes longer is sent again.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Waits here, at most.
const WAITS_MAX: u32 = 3;
/// The delay of a job whose endpoint has all its attempts under way.
const LIMIT_WAIT: Duration = Duration::from_secs(2);

/// Runs a job. If its endpoint has no place for it, waits for up to `WAIT_MAX` and
/// tries again, or sends it to be run when there is one.
///
/// # Errors
/// When a store is out of reach; the job's work stays due.
pub async fn run_without_lanes(
    app: &App,
    job: Job,
    trace: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    let (begun, started) = (now, Instant::now());
    let (mut job, mut now) = (job, now);
    for _ in 0..WAITS_MAX {
        let later = match run(app, job, trace, now).await? {
            Done::Finished => return Ok(()),
            Done::Later(later) => *later,
        };
        match until(later.wait, now) {
            Some(wait) if wait <= WAIT_MAX => {
                tokio::time::sleep(wait).await;
                (job, now) = (later.job, begun + started.elapsed());
            }
            _ => return reschedule(app, later, now).await,
        }
    }
    match run(app, job, trace, now).await? {
        Done::Finished => Ok(()),
        Done::Later(later) => reschedule(app, *later, now).await,
    }
}

fn until(wait: WaitReason, now: Timestamp) -> Option<Duration> {
    match wait {
        WaitReason::Until(at) | WaitReason::Records(at) => {
            Some(at.duration_since(now).try_into().unwrap_or_default())
        }
        WaitReason::Limit(_) => None,
    }
}

/// Makes the job's delivery due when its endpoint may have a place for it, and sends it
/// to be run then. A slot that it waits for is its own; where there is none to be had, it
/// asks again.
///
/// # Errors
/// When DynamoDB is out of reach; the delivery stays due as it was.
pub async fn reschedule(app: &App, later: Later, now: Timestamp) -> Result<()> {
    let Job::Deliver {
        delivery,
        attempts_made,
        ..
    } = &later.job
    else {
        return Ok(());
    };
    let delay = match later.wait {
        // Rather early than late: the rest is waited for.
        WaitReason::Until(at) => whole_seconds(at, now),
        WaitReason::Records(_) | WaitReason::Limit(_) => LIMIT_WAIT,
    };
    if matches!(later.wait, WaitReason::Until(_)) && later.slot.is_some() {
        app.admission.spend_slot(&delivery.endpoint());
    }
    let held = HeldLease {
        id: delivery,
        attempts_made: *attempts_made,
        due: later.due,
    };
    let due = app.queue.due(now, delay);
    let is_deferred = match (later.slot, later.wait) {
        (Some(slot), _) => deliveries::defer_for_slot(&app.dynamo, held, due, slot).await?,
        (None, WaitReason::Records(_)) => deliveries::defer_timed(&app.dynamo, held, due).await?,
        (None, _) => deliveries::defer(&app.dynamo, held, due).await?,
    };
    if is_deferred {
        app.queue.send(vec![later.job], delay).await;
    }
    Ok(())
}

fn whole_seconds(at: Timestamp, now: Timestamp) -> Duration {
    let delay: Duration = at.duration_since(now).try_into().unwrap_or_default();
    Duration::from_secs(delay.as_secs())
}
