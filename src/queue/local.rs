//! The queue in this process: lost with it, and empty at every start.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Jobs that may wait.
    pub jobs_max: usize,
    /// Bytes of event bodies that may wait.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
    /// Jobs of endpoints known to be quick running at a time.
    pub quick_max: usize,
    /// Jobs running at a time that wait for their endpoints, or may.
    pub in_flight_max: usize,
    /// How long a job is left to its worker before the sweeper enqueues it again.
    pub lease: Duration,
}

impl From<&Config> for LocalOptions {
    fn from(config: &Config) -> Self {
        Self {
            jobs_max: config.queue.local_jobs_max,
            bytes_max: config.queue.local_bytes_max,
            endpoint_concurrency: config.delivery.endpoint_concurrency,
            quick_max: config.delivery.concurrency,
            in_flight_max: config.delivery.in_flight_max,
            lease: config.sweep.lease,
        }
    }
}

/// Jobs of one endpoint that wait when it is behind.
const BACKLOG_MIN: usize = 100;
/// Jobs that may be deferred: a few megabytes. What is beyond waits for its lease.
const DEFERRED_MAX: usize = 10_000;

/// The trace that a job continues, a W3C `traceparent`.
pub type TraceParent = Option<Box<str>>;

/// Fair lanes that jobs are pushed into and taken from.
#[derive(Debug)]
pub struct LocalQueue {
    lanes: Arc<Lanes<TraceParent>>,
    deferred: Mutex<DeferredJobs>,
    jobs_max: usize,
    pub(super) lease: Duration,
}

/// What waits behind a backlog of its own endpoint's and has no room in its lane yet.
#[derive(Debug, Default)]
struct DeferredJobs {
    endpoints: HashMap<EndpointId, VecDeque<DeferredJob>>,
    len: usize,
}

#[derive(Debug)]
struct DeferredJob {
    job: Job,
    /// Until then nobody else enqueues it.
    lease_ends: Timestamp,
}

impl LocalQueue {
    /// A queue without a job, bounded by `options`.
    pub fn new(options: LocalOptions) -> Self {
        Self {
            lanes: Lanes::new(LaneOptions {
                jobs_max: options.jobs_max,
                bytes_max: options.bytes_max,
                endpoint_concurrency: options.endpoint_concurrency,
                quick_max: options.quick_max,
                in_flight_max: options.in_flight_max,
            }),
            deferred: Mutex::default(),
            jobs_max: options.jobs_max,
            lease: options.lease,
        }
    }

    /// Takes a job in, as part of the current trace; false if it is there already or
    /// there is no room.
    pub fn push(&self, job: Job) -> bool {
        self.lanes.push(job, scope::traceparent()).is_ok()
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(&self) -> RunningJob<TraceParent> {
        self.lanes.next().await
    }

    /// The next job whose lane may run one at `now`, if there is one.
    pub fn try_next(&self, now: Timestamp) -> Option<RunningJob<TraceParent>> {
        self.lanes.try_next(now)
    }

    /// Whether more jobs of `endpoint` wait than can have their turn soon.
    pub fn has_backlog(&self, endpoint: &EndpointId) -> bool {
        self.lanes.waiting_for(endpoint) >= BACKLOG_MIN
    }

    /// Takes a job in, or defers a delivery while its lane has no room: nobody else
    /// enqueues it before `lease_ends`.
    pub fn push_or_defer(&self, job: Job, lease_ends: Timestamp) {
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
            jobs.push_back(DeferredJob { job, lease_ends });
            deferred.len += 1;
        }
    }

    /// Takes in deferred jobs, as far as there is room by now. What has no more than a
    /// lease left at `now` is left to the sweeper.
    pub fn readmit_deferred(&self, now: Timestamp) {
        let mut deferred = self.lock();
        let horizon = now + self.lease;
        deferred.endpoints.retain(|_, jobs| {
            jobs.retain(|deferred| deferred.lease_ends > horizon);
            let fits = |deferred: &DeferredJob| self.push(deferred.job.clone());
            while jobs.front().is_some_and(fits) {
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

    /// Jobs that are deferred.
    pub fn deferred_len(&self) -> usize {
        self.lock().len
    }

    /// Jobs that wait in lanes; deferred ones are not among them.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}
