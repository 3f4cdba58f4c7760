//! The queue in this process: lost with it, and empty at every start.

use std::time::Duration;

use jiff::Timestamp;

use super::lanes::{LaneOptions, Lanes, Taken};
use crate::config::Config;
use crate::model::job::Job;
use crate::telemetry::scope;

/// Bounds of the in-process queue.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Jobs waiting, at most.
    pub jobs_max: usize,
    /// Bytes of event bodies waiting, at most.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
    /// How many take jobs from it.
    pub workers: usize,
    /// How long a job is left to its worker before the sweeper takes it up.
    pub lease: Duration,
}

impl From<&Config> for LocalOptions {
    fn from(config: &Config) -> Self {
        Self {
            jobs_max: config.queue.local_jobs_max,
            bytes_max: config.queue.local_bytes_max,
            endpoint_concurrency: config.delivery.endpoint_concurrency,
            workers: config.delivery.concurrency,
            lease: config.sweep.lease,
        }
    }
}

/// The trace that a job continues, a W3C `traceparent`.
type Trace = Option<Box<str>>;

/// Fair lanes that jobs are pushed into and taken from.
#[derive(Debug)]
pub struct Local {
    lanes: Box<Lanes<Trace>>,
    jobs_max: usize,
    pub(super) lease: Duration,
}

impl Local {
    /// An empty queue.
    pub fn new(options: LocalOptions) -> Self {
        Self {
            lanes: Box::new(Lanes::new(LaneOptions {
                jobs_max: options.jobs_max,
                bytes_max: options.bytes_max,
                endpoint_concurrency: options.endpoint_concurrency,
                workers: options.workers,
            })),
            jobs_max: options.jobs_max,
            lease: options.lease,
        }
    }

    /// Takes a job in, as part of the trace in hand; false if it is there already
    /// or there is no room.
    pub fn push(&self, job: Job) -> bool {
        self.lanes.push(job, scope::traceparent()).is_ok()
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(&self) -> Taken<'_, Trace> {
        self.lanes.next().await
    }

    /// The next job whose lane may run one at `now`, if there is one.
    pub fn try_next(&self, now: Timestamp) -> Option<Taken<'_, Trace>> {
        self.lanes.try_next(now)
    }

    /// How many more jobs it takes.
    pub fn room(&self) -> usize {
        self.jobs_max.saturating_sub(self.len())
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}
