//! The outcome of a job: done, or to be run later; and the one place that logs
//! a failure.

use jiff::Timestamp;

use crate::error::Error;
use crate::model::job::Job;
use crate::queue::lanes::WaitReason;

/// What became of a job.
#[derive(Debug)]
#[must_use = "what is to be done later is lost otherwise"]
pub enum Done {
    /// There is nothing more to do for it now.
    Finished,
    /// It is to be run later.
    Later(Box<Later>),
}

/// A job whose endpoint has no place for it now.
#[derive(Debug)]
pub struct Later {
    /// What is to be run again, with the payload it had.
    pub job: Job,
    /// What it waits for.
    pub wait: WaitReason,
    /// Its delivery's due time as it was read: whoever moves that must have seen it.
    pub due: Timestamp,
    /// The slot that is its own, or will be where it waits.
    pub slot: Option<Timestamp>,
}

/// Logs a failure once, where it is handled: the work stays due. `what` is the
/// kind of work, `name` which of it.
pub(super) fn report(what: &str, name: &str, error: &Error) {
    let cause = error.causes();
    if error.is_outage() {
        tracing::warn!(what, name, %error, cause, "deferred: dependency unavailable");
    } else {
        tracing::error!(what, name, %error, cause, "job failed");
    }
}
