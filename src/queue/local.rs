//! The queue in this process: lost with it, and empty at every start.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::lanes::{LaneOptions, Lanes, RunningJob};
use crate::config::Config;
use crate::model::id::EndpointId;
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

/// Jobs of one endpoint that wait when it is behind.
const BACKLOG_MIN: usize = 100;
/// Jobs put off, at most: a few megabytes. What is beyond waits for its lease.
const DEFERRED_MAX: usize = 10_000;

/// The trace that a job continues, a W3C `traceparent`.
type TraceParent = Option<Box<str>>;

/// Fair lanes that jobs are pushed into and taken from.
#[derive(Debug)]
pub struct LocalQueue {
    lanes: Box<Lanes<TraceParent>>,
    deferred: Mutex<DeferredJobs>,
    jobs_max: usize,
    pub(super) lease: Duration,
}

/// What waits behind a backlog of its own endpoint's and has no room in its lane
/// yet, with when its lease ends: until then nobody else takes it up.
#[derive(Debug, Default)]
struct DeferredJobs {
    endpoints: HashMap<EndpointId, VecDeque<(Job, Timestamp)>>,
    len: usize,
}

impl LocalQueue {
    /// An empty queue.
    pub fn new(options: LocalOptions) -> Self {
        Self {
            lanes: Box::new(Lanes::new(LaneOptions {
                jobs_max: options.jobs_max,
                bytes_max: options.bytes_max,
                endpoint_concurrency: options.endpoint_concurrency,
                workers: options.workers,
            })),
            deferred: Mutex::default(),
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
    pub async fn next(&self) -> RunningJob<'_, TraceParent> {
        self.lanes.next().await
    }

    /// The next job whose lane may run one at `now`, if there is one.
    pub fn try_next(&self, now: Timestamp) -> Option<RunningJob<'_, TraceParent>> {
        self.lanes.try_next(now)
    }

    /// Whether more jobs of `endpoint` wait than soon come to their turn.
    pub fn has_backlog(&self, endpoint: &EndpointId) -> bool {
        self.lanes.waiting_for(endpoint) >= BACKLOG_MIN
    }

    /// Takes a job in, or puts a delivery off while its lane has no room: nobody else
    /// takes it up before `until`.
    pub fn push_or_defer(&self, job: Job, until: Timestamp) {
        if self.push(job.clone()) || self.lanes.has(&job) {
            return;
        }
        let Job::Deliver { delivery, .. } = &job else {
            return;
        };
        let endpoint = delivery.endpoint();
        let mut deferred = self.lock();
        if deferred.len < DEFERRED_MAX {
            let jobs = deferred.endpoints.entry(endpoint).or_default();
            jobs.push_back((job, until));
            deferred.len += 1;
        }
    }

    /// Takes in what was put off, as far as there is room by now. What has no more
    /// than a lease left at `now` is left to the sweeper.
    pub fn readmit_deferred(&self, now: Timestamp) {
        let mut deferred = self.lock();
        let horizon = now + self.lease;
        deferred.endpoints.retain(|_, jobs| {
            jobs.retain(|(_, until)| *until > horizon);
            while jobs.front().is_some_and(|(job, _)| self.push(job.clone())) {
                jobs.pop_front();
            }
            !jobs.is_empty()
        });
        deferred.len = deferred.endpoints.values().map(VecDeque::len).sum();
    }

    fn lock(&self) -> MutexGuard<'_, DeferredJobs> {
        // Nothing in between can panic.
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more jobs it takes.
    pub fn room(&self) -> usize {
        self.jobs_max.saturating_sub(self.len())
    }

    /// Jobs put off.
    pub fn deferred_len(&self) -> usize {
        self.lock().len
    }

    /// Jobs waiting, without what was put off.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}
