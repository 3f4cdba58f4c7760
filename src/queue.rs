//! The queue of jobs: SQS, or lanes in this process.
//!
//! A queued job is a hint. Whatever it stands for has a due time in the store,
//! so the queue may refuse or lose any of them and only delays work. That is
//! why sending never fails.

pub mod lanes;
pub mod local;
pub mod sqs;

use std::time::Duration;

use jiff::Timestamp;

pub use self::local::{LocalOptions, LocalQueue};
use self::sqs::ParkedBody;
pub use self::sqs::{SqsOptions, SqsQueue};
use crate::model::id::EndpointId;
use crate::model::job::{Job, Park};

/// Where jobs wait.
#[derive(Debug)]
pub enum Queue {
    /// In this process; lost with it.
    Local(LocalQueue),
    /// Amazon SQS, which outlives the process.
    Sqs(SqsQueue),
}

impl Queue {
    /// When the sweeper is to enqueue again what is sent now with `delay`: not before
    /// a worker had its chance.
    pub fn due(&self, now: Timestamp, delay: Duration) -> Timestamp {
        if self.accepts_delay(delay) {
            now + delay + self.lease()
        } else {
            // The sweeper itself brings it.
            now + delay
        }
    }

    /// When what was sent with a delay that is over now is due at the latest, unless a
    /// sweeper has claimed it: [`due`](Self::due) of what is sent now for that which was
    /// sent without a delay.
    pub fn delayed_due(&self, now: Timestamp) -> Timestamp {
        self.due(now, Duration::from_nanos(1))
    }

    /// How long something sent is left to its worker.
    pub fn lease(&self) -> Duration {
        match self {
            Self::Local(local) => local.lease,
            Self::Sqs(sqs) => sqs.options().lease,
        }
    }

    /// Whether it keeps a job for `delay`, or leaves it to the sweeper.
    fn accepts_delay(&self, delay: Duration) -> bool {
        match self {
            // Nothing waits in memory for its time to come: the sweeper, which
            // runs every second, brings it.
            Self::Local(_) => delay.is_zero(),
            Self::Sqs(_) => delay <= sqs::DELAY_MAX,
        }
    }

    /// Jobs waiting, as far as this process knows: none of SQS's.
    pub fn depth(&self) -> usize {
        match self {
            Self::Local(local) => local.len() + local.deferred_len(),
            Self::Sqs(_) => 0,
        }
    }

    /// Whether many jobs of `endpoint` wait here, as far as this process knows.
    pub fn has_backlog(&self, endpoint: &EndpointId) -> bool {
        match self {
            Self::Local(local) => local.has_backlog(endpoint),
            Self::Sqs(_) => false,
        }
    }

    /// Whether a job sent along with an event should carry it.
    pub fn inlines_payload(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Whether what waits in it is lost when this process ends.
    pub fn ends_with_process(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// How many more jobs it takes, so that the sweeper brings no more.
    pub fn room(&self) -> usize {
        match self {
            Self::Local(local) => local.room(),
            Self::Sqs(sqs) => sqs.room(),
        }
    }

    /// Sends jobs to be run after `delay`, as part of the current trace. Their due
    /// times are in the store already, so a refused one is only late.
    pub async fn send(&self, jobs: Vec<Job>, delay: Duration) {
        if !self.accepts_delay(delay) {
            return;
        }
        match self {
            Self::Local(local) => jobs.into_iter().for_each(|job| {
                local.push(job);
            }),
            Self::Sqs(sqs) => sqs.send(&jobs, delay).await,
        }
    }

    /// Sends deliveries that wait behind a backlog of their own endpoint's, each with
    /// the end of its lease, before which nobody else enqueues it. Where there is no
    /// room for one yet it is deferred, until [`Self::readmit_deferred`].
    pub async fn send_backlogged(&self, jobs: Vec<(Job, Timestamp)>) {
        match self {
            Self::Local(local) => jobs.into_iter().for_each(|(job, lease_ends)| {
                local.push_or_defer(job, lease_ends);
            }),
            Self::Sqs(sqs) => {
                let jobs: Vec<_> = jobs.into_iter().map(|(job, _)| job).collect();
                sqs.send(&jobs, Duration::ZERO).await;
            }
        }
    }

    /// Takes in deferred jobs, as far as there is room at `now`.
    pub fn readmit_deferred(&self, now: Timestamp) {
        match self {
            Self::Local(local) => local.readmit_deferred(now),
            Self::Sqs(_) => {}
        }
    }

    /// Parks the body of a message that no worker can use; false if that failed and
    /// it has to come again. `from` names the queue it came from.
    pub async fn park(&self, from: &str, body: &str, why: &Park) -> bool {
        match self {
            Self::Local(_) => {
                sqs::log_parked(from, why, ParkedBody::Dropped);
                true
            }
            Self::Sqs(sqs) => sqs.park(from, body, why).await,
        }
    }
}
