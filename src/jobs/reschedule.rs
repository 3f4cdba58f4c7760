//! Jobs without lanes to wait in, on Lambda and in a drain: each waits here for a
//! moment, or is rescheduled.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::{Done, Later};
use super::run;
use crate::app::{self, App};
use crate::error::Result;
use crate::model::job::Job;
use crate::queue::lanes::WaitReason;
use crate::store::deliveries;

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
    let (mut job, mut now) = (job, now);
    for _ in 0..WAITS_MAX {
        let later = match run(app, job, trace, now).await? {
            Done::Finished => return Ok(()),
            Done::Later(later) => *later,
        };
        match until(later.wait, now) {
            Some(wait) if wait <= WAIT_MAX => {
                tokio::time::sleep(wait).await;
                (job, now) = (later.job, app::now());
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

/// Makes the job's delivery due when its endpoint has a place for it, and sends it
/// to be run then. A slot that it waits for is its own.
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
    let (is_deferred, delay) = match later.wait {
        WaitReason::Until(at) => {
            app.admission.spend_slot(&delivery.endpoint());
            let delay: Duration = at.duration_since(now).try_into().unwrap_or_default();
            // Rather early than late: the rest is waited for.
            let delay = Duration::from_secs(delay.as_secs());
            let due = app.queue.due(now, delay);
            let is_deferred =
                deliveries::defer_for_slot(&app.dynamo, delivery, *attempts_made, due, at).await?;
            (is_deferred, delay)
        }
        // Its endpoint has no slot for it.
        WaitReason::Records(_) | WaitReason::Limit(_) => {
            let due = app.queue.due(now, LIMIT_WAIT);
            let is_deferred = deliveries::defer(&app.dynamo, delivery, *attempts_made, due).await?;
            (is_deferred, LIMIT_WAIT)
        }
    };
    if is_deferred {
        app.queue.send(vec![later.job], delay).await;
    }
    Ok(())
}
