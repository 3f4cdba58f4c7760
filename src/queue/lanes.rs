//! Fair lanes: jobs in memory, a lane for each endpoint, taken in turns.
//!
//! The in-process queue is made of them, and a worker of SQS keeps in them what
//! it has received and not begun. Nothing an endpoint does may hold up another:
//!
//! - a lane has a bound on how many of its jobs run and wait, and when room gets
//!   scarce what is left is for lanes of few jobs;
//! - a job that waits for an endpoint costs memory, not a worker: what runs is bounded
//!   by class. Lanes known to be quick have places of their own, and a job of theirs
//!   that takes long leaves its place while it runs; the first job of a lane that
//!   nothing is known of has its place among the like of it, not among slow ones;
//! - of the places that jobs may hold for long, and of the last ones to wait in, no
//!   project has so many that none are left for the others;
//! - a lane whose endpoint is to be called later pauses, and occupies no place.

mod budget;
mod known;
mod lane;
mod ready;
mod running;
mod state;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

pub use self::lane::LaneOptions;
use self::lane::{JobKey, Lane, LaneClass};
use self::running::{QUICK, RunId};
use self::state::{LaneLimit, LanesState, StartedJob};
use crate::model::id::EndpointId;
use crate::model::job::Job;

/// How long a lane's own limit counts before it is asked for again.
const LIMIT_KEPT: Duration = Duration::from_secs(10);

/// Why a job cannot run now, though it was its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Nothing of its lane may run before this.
    Until(Timestamp),
    /// The store refuses records of its endpoint's attempts; look again at this time.
    Records(Timestamp),
    /// As many of its lane run as may.
    Limit(usize),
}

/// Jobs in fair lanes, each with a `T` that came along. A job is in them once, by
/// what it is about and which attempt.
#[derive(Debug)]
pub struct Lanes<T> {
    options: LaneOptions,
    state: Mutex<LanesState<T>>,
    /// Something may have its turn, or have it sooner than was to be expected.
    pushed: Notify,
    taken: Notify,
}

impl<T> Lanes<T> {
    /// Lanes without a job, bounded by `options`.
    pub fn new(options: LaneOptions) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(LanesState::new(&options)),
            options,
            pushed: Notify::new(),
            taken: Notify::new(),
        })
    }

    /// Takes a job in, the last of its lane.
    ///
    /// # Errors
    /// Gives `along` back if the job is there already or there is no room for one
    /// more of its lane.
    pub fn push(&self, job: Job, along: T) -> Result<(), T> {
        let lane = Lane::of(&job);
        let mut state = self.lock();
        if !state.has_room(&lane, &job, &self.options) || !state.job_keys.insert(JobKey::of(&job)) {
            return Err(along);
        }
        state.push_back(&lane, job, along);
        state.make_ready(lane, &self.options, Timestamp::now());
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(self: &Arc<Self>) -> RunningJob<T> {
        loop {
            if let Some(taken) = self.try_next(Timestamp::now()) {
                return taken;
            }
            let change = self.lock().next_change(Timestamp::now(), Instant::now());
            match change {
                None => self.pushed.notified().await,
                Some(wait) => tokio::select! {
                    () = self.pushed.notified() => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
    }

    /// The next job whose lane may run one at `now`, if there is one.
    pub fn try_next(self: &Arc<Self>, now: Timestamp) -> Option<RunningJob<T>> {
        let mut state = self.lock();
        state.end_pauses(now, &self.options);
        let StartedJob { job, along, run } =
            state.start_next(&self.options, now, Instant::now())?;
        let others = state.has_turn();
        drop(state);
        if others {
            self.pushed.notify_one();
        }
        self.taken.notify_waiters();
        Some(RunningJob {
            key: JobKey::of(&job),
            job: Some((job, along)),
            requeued: None,
            run,
            lanes: self.clone(),
        })
    }

    /// Takes out all that waits and has not begun.
    pub fn clear(&self) -> Vec<T> {
        self.lock().clear()
    }

    /// Waits until there is room for at least `jobs`; for how many there is.
    pub async fn room(&self, jobs: usize) -> usize {
        loop {
            let taken = self.taken.notified();
            let room = self.options.jobs_max.saturating_sub(self.len());
            if room >= jobs.min(self.options.jobs_max) {
                return room;
            }
            taken.await;
        }
    }

    /// Jobs that wait in all lanes; those that run are not among them.
    pub fn len(&self) -> usize {
        self.lock().waiting.jobs
    }

    /// Jobs that wait in the lane of `endpoint`.
    pub fn waiting_for(&self, endpoint: &EndpointId) -> usize {
        let lane = Lane::Endpoint(endpoint.clone());
        let state = self.lock();
        state.lanes.get(&lane).map_or(0, |lane| lane.jobs.len())
    }

    /// Whether `job` waits or runs.
    pub fn has(&self, job: &Job) -> bool {
        self.lock().job_keys.contains(&JobKey::of(job))
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A job ended.
    fn done(&self, run: RunId, key: &JobKey) {
        let mut state = self.lock();
        state.job_keys.remove(key);
        let Some((lane, took)) = state.end(run, Instant::now()) else {
            return;
        };
        let class = if took < QUICK {
            LaneClass::Quick
        } else {
            LaneClass::Slow
        };
        state.record_speed(&lane, class, &self.options, Timestamp::now());
        self.release(state, lane);
    }

    /// A job did not run after all and waits again, before the others of its lane.
    fn requeue(&self, run: RunId, requeued: RequeuedJob<T>) {
        let RequeuedJob { job, along, wait } = requeued;
        let mut state = self.lock();
        let Some((lane, _)) = state.end(run, Instant::now()) else {
            return;
        };
        state.push_front(&lane, job, along);
        match wait {
            WaitReason::Until(until) | WaitReason::Records(until) => {
                state.pause(&lane, until);
                // It may be the first pause to end.
                self.pushed.notify_one();
            }
            WaitReason::Limit(limit) => {
                let limit = LaneLimit {
                    running_max: limit.max(1),
                    ends: Timestamp::now() + LIMIT_KEPT,
                };
                state.limit(&lane, limit);
            }
        }
        self.release(state, lane);
    }

    /// A place of `lane`'s is free again.
    fn release(&self, mut state: MutexGuard<'_, LanesState<T>>, lane: Lane) {
        state.make_ready_or_forget(lane, &self.options, Timestamp::now());
        // What cannot have its turn yet may have it sooner.
        let is_waited_for = state.waiting.jobs > 0;
        drop(state);
        if is_waited_for {
            self.pushed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LanesState<T>> {
        // No code that can panic leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job being run: its place in its lane is free again and its like may be pushed
/// when this is dropped, unless it is requeued.
#[derive(Debug)]
pub struct RunningJob<T> {
    job: Option<(Job, T)>,
    requeued: Option<RequeuedJob<T>>,
    key: JobKey,
    run: RunId,
    lanes: Arc<Lanes<T>>,
}

#[derive(Debug)]
struct RequeuedJob<T> {
    job: Job,
    along: T,
    wait: WaitReason,
}

impl<T> RunningJob<T> {
    /// The job and what came along, once.
    ///
    /// # Panics
    /// When called again.
    pub fn take(&mut self) -> (Job, T) {
        self.job.take().expect("a job is taken once")
    }

    /// The id of what the job is about, as [`Job::subject`].
    pub fn subject(&self) -> &str {
        &self.key.subject
    }

    /// Puts what was taken back to where it was: its turn comes after `wait`.
    pub fn requeue(mut self, job: Job, along: T, wait: WaitReason) {
        self.requeued = Some(RequeuedJob { job, along, wait });
    }
}

impl<T> Drop for RunningJob<T> {
    fn drop(&mut self) {
        match self.requeued.take() {
            Some(requeued) => self.lanes.requeue(self.run, requeued),
            None => self.lanes.done(self.run, &self.key),
        }
    }
}
