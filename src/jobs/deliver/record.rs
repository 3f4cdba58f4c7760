//! The record of an attempt, kept until it is written.
//!
//! An attempt that is not recorded is made again. So where the store refuses a record,
//! as a table does that throttles, the outcome is kept here and written again, as long as
//! nobody else may take the delivery up, and the job keeps its place meanwhile: what is
//! kept is bounded by what may be in flight.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::app::{self, App};
use crate::error::Result;
use crate::model::id::ProjectId;
use crate::store::deliveries::{self, AttemptRecord, HeldLease, RecordOutcome};

/// The wait before the second try, which doubles up to `WAIT_MAX` and a quarter of the
/// lease, half of it by chance.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How long a record is tried again, however often its lease is renewed. A drain ends
/// sooner, and so does an invocation.
const KEPT_MAX: Duration = Duration::from_secs(30);

/// An attempt that was made, as far as its record needs to know.
pub(super) struct MadeAttempt<'a> {
    pub project: &'a ProjectId,
    pub record: &'a AttemptRecord<'a>,
    /// When it ended, in the job's time.
    pub ended: Timestamp,
    /// When the delivery is due again unless this is recorded, as its item says.
    pub due: Timestamp,
    /// What is left of its delivery's lease, at least.
    pub lease_left: Duration,
}

/// Records the attempt, again and again until the store says that it is or is not
/// recorded, or until the delivery's lease is over, which is renewed if the store takes
/// that. False if another worker's record stands in its place.
///
/// While it is refused, no other attempt at the endpoint is begun here: it could not be
/// recorded either, and would be made again.
///
/// # Errors
/// When the store refused the record to the last; the delivery stays due.
pub(super) async fn record(app: &App, made: &MadeAttempt<'_>) -> Result<bool> {
    let (begun, lease) = (Instant::now(), app.queue.lease());
    let mut lease_ends = begun + made.lease_left;
    let mut held = HeldLease {
        id: made.record.id,
        attempts_made: made.record.before.attempts_made,
        due: made.due,
    };
    let endpoint = made.record.id.endpoint();
    let mut record = *made.record;
    for tries in 1.. {
        let error = match deliveries::record(&app.dynamo, &record).await {
            Ok(outcome) => {
                app.admission.records.accepted(&endpoint);
                return Ok(outcome != RecordOutcome::Superseded);
            }
            Err(error) if error.is_outage() => error,
            Err(error) => return Err(error),
        };
        app.telemetry.metrics.records_refused.add_one();
        let now = made.ended + begun.elapsed();
        if app.admission.records.refused(&endpoint, now + lease / 2) {
            let cause = error.causes();
            tracing::warn!(project.id = %made.project, endpoint.id = %endpoint, %error, cause, "attempt record refused: attempts paused");
        }
        if tries > 1 && lease_ends < Instant::now() + lease / 2 {
            lease_ends = renew(app, &mut held).await.unwrap_or(lease_ends);
        }
        let next = Instant::now() + wait(app, tries);
        if next >= lease_ends || next >= begun + KEPT_MAX {
            return Err(error);
        }
        tokio::time::sleep_until(next).await;
        // What follows is sent when this is recorded, and not before.
        record.due = made.record.due.map(|due| due + begun.elapsed());
    }
    unreachable!("it is tried until it is answered or given up")
}

/// The wait after try number `tries`.
fn wait(app: &App, tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    // There is time to renew the lease before it is over.
    let longest = WAIT_MAX.min(app.queue.lease() / 4);
    let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(0.5 + 0.5 * app.jitter())
}

/// Renews the lease; when it ends, if it could be renewed. What the delivery's next
/// attempt is may have changed, which the next try of the record shows.
async fn renew(app: &App, held: &mut HeldLease<'_>) -> Option<Instant> {
    let (from, lease) = (Instant::now(), app.queue.lease());
    let until = app::now() + lease;
    let is_renewed = deliveries::renew_lease(&app.dynamo, *held, until).await;
    if !is_renewed.is_ok_and(|is_renewed| is_renewed) {
        return None;
    }
    held.due = until;
    Some(from + lease)
}
