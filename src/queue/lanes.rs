//! Fair lanes: jobs in memory, a lane for each endpoint, taken in turns.
//!
//! The in-process queue is made of them, and a worker of SQS keeps in them what
//! it has received and not begun. Nothing an endpoint does may hold up another:
//!
//! - a lane has a bound on how many of its jobs run and wait, and when room gets
//!   scarce what is left is for lanes of few jobs;
//! - lanes whose jobs take long, or are not known yet, share half of the workers
//!   among them, so that the others always find one;
//! - a lane whose endpoint is to be called later pauses, and occupies no worker.

mod state;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

pub use self::state::LaneOptions;
use self::state::{JobKey, Lane, LaneLimit, LanesState};
use crate::model::id::EndpointId;
use crate::model::job::Job;

/// How long a job may take for its lane to count as quick.
const QUICK: Duration = Duration::from_secs(1);
/// How long a lane's own limit counts before it is asked for again.
const LIMIT_KEPT: Duration = Duration::from_secs(10);

/// Why a job cannot run now, though it was its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Nothing of its lane may run before this.
    Until(Timestamp),
    /// As many of its lane run as may.
    Limit(usize),
}

/// Jobs in fair lanes, each with a `T` that came along. A job is in them once, by
/// what it is about and which attempt.
#[derive(Debug)]
pub struct Lanes<T> {
    options: LaneOptions,
    state: Mutex<LanesState<T>>,
    pushed: Notify,
    taken: Notify,
    /// A pause ends sooner than the one that is watched.
    earlier_pause: Notify,
}

impl<T> Lanes<T> {
    /// Lanes without a job, bounded by `options`.
    pub fn new(options: LaneOptions) -> Self {
        Self {
            options,
            state: Mutex::new(LanesState::new()),
            pushed: Notify::new(),
            taken: Notify::new(),
            earlier_pause: Notify::new(),
        }
    }

    /// Takes a job in, the last of its lane.
    ///
    /// # Errors
    /// Gives `along` back if the job is there already or there is no room for one
    /// more of its lane.
    pub fn push(&self, job: Job, along: T) -> Result<(), T> {
        let lane = Lane::of(&job);
        let bytes = job.payload_bytes();
        let mut state = self.lock();
        if !state.has_room(&lane, bytes, &self.options) || !state.job_keys.insert(JobKey::of(&job))
        {
            return Err(along);
        }
        state.lane_mut(&lane).jobs.push_back((job, along));
        state.count_in(&lane, bytes);
        state.make_ready(lane, &self.options, Timestamp::now());
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(&self) -> RunningJob<'_, T> {
        loop {
            if let Some(taken) = self.try_next(Timestamp::now()) {
                return taken;
            }
            let Some(watch) = self.watch() else {
                self.pushed.notified().await;
                continue;
            };
            let pause = watch.until.duration_since(Timestamp::now());
            tokio::select! {
                () = self.pushed.notified() => {}
                () = self.earlier_pause.notified() => {}
                () = tokio::time::sleep(pause.try_into().unwrap_or_default()) => {}
            }
        }
    }

    /// The next job whose lane may run one at `now`, if there is one.
    pub fn try_next(&self, now: Timestamp) -> Option<RunningJob<'_, T>> {
        let mut state = self.lock();
        state.end_pauses(now, &self.options);
        let lane = state.turn(&self.options, now)?;
        let waiting = state.lanes.get_mut(&lane).expect("a ready lane is there");
        waiting.running += 1;
        let is_slow = waiting.is_slow();
        let (job, along) = waiting.jobs.pop_front().expect("a ready lane has a job");
        let bytes = job.payload_bytes();
        waiting.bytes -= bytes;
        state.running_slow += usize::from(is_slow);
        state.waiting -= 1;
        state.bytes -= bytes;
        state.make_ready(lane.clone(), &self.options, now);
        let others =
            state.has_turn(self.options.workers) || (!state.paused.is_empty() && !state.is_watched);
        drop(state);
        if others {
            self.pushed.notify_one();
        }
        self.taken.notify_waiters();
        Some(RunningJob {
            key: JobKey::of(&job),
            job: Some((job, along)),
            requeued: None,
            lane,
            is_slow,
            began: Instant::now(),
            lanes: self,
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
        self.lock().waiting
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

    /// The watch over the first pause, unless somebody has it or nothing pauses.
    fn watch(&self) -> Option<Watch<'_, T>> {
        let mut state = self.lock();
        let until = state.paused.first()?.0;
        if std::mem::replace(&mut state.is_watched, true) {
            return None;
        }
        Some(Watch { until, lanes: self })
    }

    /// A job of `lane` ended after `took`.
    fn done(&self, lane: &Lane, key: &JobKey, is_slow: bool, took: Duration) {
        let mut state = self.lock();
        state.job_keys.remove(key);
        state.record_speed(lane, took < QUICK);
        self.release(state, lane, is_slow);
    }

    /// A job of `lane` did not run after all and waits again, before the others.
    fn requeue(&self, lane: &Lane, is_slow: bool, requeued: RequeuedJob<T>) {
        let RequeuedJob { job, along, wait } = requeued;
        let bytes = job.payload_bytes();
        let mut state = self.lock();
        state.lane_mut(lane).jobs.push_front((job, along));
        state.count_in(lane, bytes);
        let is_sooner = match wait {
            WaitReason::Until(until) => state.pause(lane, until),
            WaitReason::Limit(limit) => {
                state.lane_mut(lane).limit = Some(LaneLimit {
                    running_max: limit.max(1),
                    ends: Timestamp::now() + LIMIT_KEPT,
                });
                false
            }
        };
        self.release(state, lane, is_slow);
        if is_sooner {
            self.earlier_pause.notify_one();
        }
    }

    /// A place in `lane` is free again.
    fn release(&self, mut state: MutexGuard<'_, LanesState<T>>, lane: &Lane, is_slow: bool) {
        state.running_slow -= usize::from(is_slow);
        let waiting = state
            .lanes
            .get_mut(lane)
            .expect("a lane that runs is there");
        waiting.running -= 1;
        if waiting.running == 0 && waiting.jobs.is_empty() {
            state.forget(lane);
        } else {
            state.make_ready(lane.clone(), &self.options, Timestamp::now());
        }
        let ready = state.has_turn(self.options.workers);
        drop(state);
        if ready {
            self.pushed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, LanesState<T>> {
        // No code that can panic leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to wake up when the first pause ends.
struct Watch<'a, T> {
    until: Timestamp,
    lanes: &'a Lanes<T>,
}

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        self.lanes.lock().is_watched = false;
    }
}

/// A job being run: its place in its lane is free again and its like may be pushed
/// when this is dropped, unless it is requeued.
#[derive(Debug)]
pub struct RunningJob<'a, T> {
    job: Option<(Job, T)>,
    requeued: Option<RequeuedJob<T>>,
    key: JobKey,
    lane: Lane,
    is_slow: bool,
    began: Instant,
    lanes: &'a Lanes<T>,
}

#[derive(Debug)]
struct RequeuedJob<T> {
    job: Job,
    along: T,
    wait: WaitReason,
}

impl<T> RunningJob<'_, T> {
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

impl<T> Drop for RunningJob<'_, T> {
    fn drop(&mut self) {
        match self.requeued.take() {
            Some(requeued) => self.lanes.requeue(&self.lane, self.is_slow, requeued),
            None => {
                let took = self.began.elapsed();
                self.lanes.done(&self.lane, &self.key, self.is_slow, took);
            }
        }
    }
}
