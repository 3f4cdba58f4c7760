//! What a lane is: whose jobs are in it, how many of them run at a time, and what is
//! known of how long they take.

use crate::model::id::EndpointId;
use crate::model::job::Job;

/// Fan-outs at a time: each is wide by itself.
const FAN_OUTS_MAX: usize = 4;
/// Recoveries at a time: each goes on for long, and none may hold up fan-outs.
const RECOVERIES_MAX: usize = 2;

/// Bounds of a set of lanes.
#[derive(Debug, Clone)]
pub struct LaneOptions {
    /// Jobs that may wait, of all lanes together.
    pub jobs_max: usize,
    /// Bytes of event bodies that may wait, of all lanes together.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
    /// Jobs of lanes known to be quick running at a time, but for those that run for
    /// longer than a second.
    pub quick_max: usize,
    /// Jobs running at a time that run for longer, or may.
    pub in_flight_max: usize,
}

/// What is known of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneClass {
    Unknown,
    Quick,
    Slow,
}

impl LaneClass {
    pub const ALL: [Self; 3] = [Self::Unknown, Self::Quick, Self::Slow];
}

/// By what a job is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct JobKey {
    pub(super) subject: Box<str>,
    /// Its attempt or page: the next one may be pushed while this one ends.
    step: u32,
}

impl JobKey {
    pub(super) fn of(job: &Job) -> Self {
        let step = match job {
            Job::Deliver { attempts_made, .. } => *attempts_made,
            // A page enqueues the next one while it still runs.
            Job::Recover { page, .. } => *page,
            Job::FanOut { .. } | Job::Disable { .. } => 0,
        };
        Self {
            subject: job.subject().into(),
            step,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lane {
    FanOut,
    Endpoint(EndpointId),
    Control,
    Recovery,
}

impl Lane {
    pub(super) fn of(job: &Job) -> Self {
        match job {
            Job::FanOut { .. } => Self::FanOut,
            Job::Deliver { delivery, .. } => Self::Endpoint(delivery.endpoint()),
            Job::Disable { .. } => Self::Control,
            Job::Recover { .. } => Self::Recovery,
        }
    }

    pub(super) fn running_max(&self, options: &LaneOptions) -> usize {
        match self {
            Self::FanOut => FAN_OUTS_MAX,
            Self::Endpoint(_) => options.endpoint_concurrency,
            Self::Control => 1,
            Self::Recovery => RECOVERIES_MAX,
        }
    }
}
