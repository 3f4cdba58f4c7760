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
/// Over how long jobs are spread that wait for the store to take their records.
const RECORDS_SPREAD: Duration = Duration::from_secs(10);

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
    let delay = delay(later.wait, now, app.jitter());
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

/// In how many seconds a job is run again that waits for `wait`.
fn delay(wait: WaitReason, now: Timestamp, jitter: f64) -> Duration {
    match wait {
        // Rather early than late: the rest is waited for.
        WaitReason::Until(at) => whole_seconds(at, now),
        // Rather late: each that comes early costs the table a write that it may refuse.
        WaitReason::Records(at) => {
            let spread = RECORDS_SPREAD.mul_f64(jitter).as_secs();
            whole_seconds(at, now) + Duration::from_secs(1 + spread)
        }
        WaitReason::Limit(_) => LIMIT_WAIT,
    }
}

fn whole_seconds(at: Timestamp, now: Timestamp) -> Duration {
    let delay: Duration = at.duration_since(now).try_into().unwrap_or_default();
    Duration::from_secs(delay.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_its_record_comes_once_that_may_be_taken() {
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let delay = |wait, jitter| delay(wait, at(500), jitter).as_secs();
        let records = WaitReason::Records(at(30_000));
        assert_eq!(delay(records, 0.0), 30);
        assert_eq!(delay(records, 0.99), 39);
        assert_eq!(delay(WaitReason::Records(at(0)), 0.0), 1);
        assert_eq!(delay(WaitReason::Until(at(30_000)), 0.99), 29);
        assert_eq!(delay(WaitReason::Limit(2), 0.99), 2);
    }
}
