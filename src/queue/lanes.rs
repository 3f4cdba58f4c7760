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

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::model::id::EndpointId;
use crate::model::job::Job;

/// Fan-outs at a time: each is wide by itself.
const FAN_OUTS_MAX: usize = 4;
/// Recoveries at a time: each goes on for long, and none may hold up fan-outs.
const RECOVERIES_MAX: usize = 2;
/// One endpoint may fill this part of the lanes (an eighth), however empty they are;
/// as much is kept for lanes of few jobs.
const LANE_SHARE: usize = 8;
/// Jobs of a lane that counts as one of few.
const SMALL_LANE_JOBS: usize = 8;
/// How long a job may take for its lane to count as quick.
const QUICK: Duration = Duration::from_secs(1);
/// Jobs of a lane that run at a time while nothing is known of it.
const UNKNOWN_RUNNING_MAX: usize = 4;
/// Endpoints whose speed is remembered; at more, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;
/// How long a lane's own limit counts before it is asked for again.
const LIMIT_KEPT: Duration = Duration::from_secs(10);

/// Bounds of a set of lanes.
#[derive(Debug, Clone)]
pub struct LaneOptions {
    /// Jobs that may wait, of all lanes together.
    pub jobs_max: usize,
    /// Bytes of event bodies that may wait, of all lanes together.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
    /// Workers that take jobs from here.
    pub workers: usize,
}

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

#[derive(Debug)]
struct LanesState<T> {
    lanes: HashMap<Lane, LaneState<T>>,
    /// Lanes with a job that may run, in turn: quick ones and the others.
    ready: ReadyLanes,
    /// Paused lanes, by when their pause ends.
    paused: BTreeSet<(Timestamp, Lane)>,
    /// Somebody waits for the first pause to end.
    is_watched: bool,
    /// Whether an endpoint's last job was quick.
    quick: HashMap<EndpointId, bool>,
    /// Jobs running of lanes that were not known to be quick.
    running_slow: usize,
    /// The jobs that wait or run.
    job_keys: HashSet<JobKey>,
    waiting: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ReadyLanes {
    quick: VecDeque<Lane>,
    /// Before the slow ones: each may be a quick one, which is soon found out.
    unknown: VecDeque<Lane>,
    slow: VecDeque<Lane>,
    /// The others had a turn that the quick ones waited for.
    quick_are_next: bool,
}

#[derive(Debug)]
struct LaneState<T> {
    jobs: VecDeque<(Job, T)>,
    bytes: usize,
    running: usize,
    is_ready: bool,
    /// None while nothing is known.
    is_quick: Option<bool>,
    paused_until: Option<Timestamp>,
    /// Its own bound on what runs.
    limit: Option<LaneLimit>,
}

#[derive(Debug, Clone, Copy)]
struct LaneLimit {
    running_max: usize,
    ends: Timestamp,
}

/// By what a job is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct JobKey {
    subject: Box<str>,
    /// Its attempt or page: the next one may be pushed while this one ends.
    step: u32,
}

impl JobKey {
    fn of(job: &Job) -> Self {
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
enum Lane {
    FanOut,
    Endpoint(EndpointId),
    Control,
    Recovery,
}

impl Lane {
    fn of(job: &Job) -> Self {
        match job {
            Job::FanOut { .. } => Self::FanOut,
            Job::Deliver { delivery, .. } => Self::Endpoint(delivery.endpoint()),
            Job::Disable { .. } => Self::Control,
            Job::Recover { .. } => Self::Recovery,
        }
    }

    fn running_max(&self, options: &LaneOptions) -> usize {
        match self {
            Self::FanOut => FAN_OUTS_MAX,
            Self::Endpoint(_) => options.endpoint_concurrency,
            Self::Control => 1,
            Self::Recovery => RECOVERIES_MAX,
        }
    }
}

impl ReadyLanes {
    /// The next in line: quick ones and others in turn, if others may.
    fn next(&mut self, others_may: bool) -> Option<Lane> {
        let others = others_may && self.has_others();
        let quick = !self.quick.is_empty();
        if others && !(quick && self.quick_are_next) {
            self.quick_are_next = quick;
            return self.unknown.pop_front().or_else(|| self.slow.pop_front());
        }
        self.quick_are_next = false;
        self.quick.pop_front()
    }

    fn has_others(&self) -> bool {
        !self.unknown.is_empty() || !self.slow.is_empty()
    }
}

impl<T> LaneState<T> {
    fn may_run(&self, lane: &Lane, options: &LaneOptions, now: Timestamp) -> bool {
        let mut most = lane.running_max(options);
        if self.is_quick.is_none() {
            most = most.min(UNKNOWN_RUNNING_MAX);
        }
        if let Some(limit) = self.limit
            && now < limit.ends
        {
            most = most.min(limit.running_max);
        }
        self.running < most && !self.jobs.is_empty() && self.paused_until.is_none()
    }

    fn is_slow(&self) -> bool {
        self.is_quick != Some(true)
    }
}

impl<T> Lanes<T> {
    /// Lanes without a job, bounded by `options`.
    pub fn new(options: LaneOptions) -> Self {
        let state = LanesState {
            lanes: HashMap::new(),
            ready: ReadyLanes::default(),
            paused: BTreeSet::new(),
            is_watched: false,
            quick: HashMap::new(),
            running_slow: 0,
            job_keys: HashSet::new(),
            waiting: 0,
            bytes: 0,
        };
        Self {
            options,
            state: Mutex::new(state),
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
        let mut state = self.lock();
        let LanesState {
            lanes, job_keys, ..
        } = &mut *state;
        let mut out = Vec::new();
        for waiting in lanes.values_mut() {
            (waiting.is_ready, waiting.paused_until, waiting.bytes) = (false, None, 0);
            for (job, along) in waiting.jobs.drain(..) {
                job_keys.remove(&JobKey::of(&job));
                out.push(along);
            }
        }
        lanes.retain(|_, waiting| waiting.running > 0);
        state.ready = ReadyLanes::default();
        state.paused.clear();
        (state.waiting, state.bytes) = (0, 0);
        out
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
        let was_watched = std::mem::replace(&mut state.is_watched, true);
        (!was_watched).then_some(Watch { until, lanes: self })
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

impl<T> LanesState<T> {
    /// Whether one more job of `lane` may wait.
    fn has_room(&self, lane: &Lane, bytes: usize, options: &LaneOptions) -> bool {
        let free = options.jobs_max.saturating_sub(self.waiting);
        let bytes_free = options.bytes_max.saturating_sub(self.bytes);
        let Some(waiting) = self.lanes.get(lane).filter(|lane| !lane.jobs.is_empty()) else {
            return free > 0 && bytes <= bytes_free;
        };
        // Half of what is free, and nothing of what is kept for lanes of few jobs, unless
        // it is one: however many are full, another's first jobs find room.
        let share = options.jobs_max.div_ceil(LANE_SHARE);
        let lane_max = (free.saturating_sub(share) / 2)
            .max(SMALL_LANE_JOBS)
            .min(share);
        let fits = bytes == 0 || waiting.bytes + bytes <= bytes_free / 2;
        free > 0 && waiting.jobs.len() < lane_max && fits
    }

    /// The lane, made if it is not there.
    fn lane_mut(&mut self, lane: &Lane) -> &mut LaneState<T> {
        let quick = &self.quick;
        self.lanes.entry(lane.clone()).or_insert_with(|| LaneState {
            jobs: VecDeque::new(),
            bytes: 0,
            running: 0,
            is_ready: false,
            is_quick: match lane {
                Lane::Endpoint(endpoint) => quick.get(endpoint).copied(),
                Lane::FanOut | Lane::Control => Some(true),
                // A page takes its time.
                Lane::Recovery => Some(false),
            },
            paused_until: None,
            limit: None,
        })
    }

    fn count_in(&mut self, lane: &Lane, bytes: usize) {
        self.lane_mut(lane).bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
    }

    /// Gives `lane` a turn if it has a job that may run and no turn yet.
    fn make_ready(&mut self, lane: Lane, options: &LaneOptions, now: Timestamp) {
        let Some(waiting) = self.lanes.get_mut(&lane) else {
            return;
        };
        if waiting.is_ready || !waiting.may_run(&lane, options, now) {
            return;
        }
        waiting.is_ready = true;
        match waiting.is_quick {
            Some(true) => self.ready.quick.push_back(lane),
            Some(false) => self.ready.slow.push_back(lane),
            None => self.ready.unknown.push_back(lane),
        }
    }

    /// The lane whose turn it is.
    fn turn(&mut self, options: &LaneOptions, now: Timestamp) -> Option<Lane> {
        loop {
            let others_may = self.running_slow < slow_max(options.workers);
            let lane = self.ready.next(others_may)?;
            let waiting = self.lanes.get_mut(&lane).expect("a ready lane is there");
            waiting.is_ready = false;
            if waiting.is_slow() && !others_may {
                // It was quick when it got in line.
                self.make_ready(lane, options, now);
            } else if waiting.may_run(&lane, options, now) {
                return Some(lane);
            }
        }
    }

    fn has_turn(&self, workers: usize) -> bool {
        let others_may = self.running_slow < slow_max(workers);
        !self.ready.quick.is_empty() || (others_may && self.ready.has_others())
    }

    /// Lets nothing of `lane` run before `until`; whether that is the first pause
    /// to end.
    fn pause(&mut self, lane: &Lane, until: Timestamp) -> bool {
        let waiting = self.lane_mut(lane);
        let later = waiting.paused_until.replace(until);
        if let Some(before) = later {
            self.paused.remove(&(before, lane.clone()));
        }
        let first = self.paused.first().is_none_or(|(first, _)| until < *first);
        self.paused.insert((until, lane.clone()));
        first
    }

    fn end_pauses(&mut self, now: Timestamp, options: &LaneOptions) {
        while self.paused.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, lane)) = self.paused.pop_first() else {
                return;
            };
            if let Some(waiting) = self.lanes.get_mut(&lane) {
                waiting.paused_until = None;
            }
            self.make_ready(lane, options, now);
        }
    }

    /// Records how quick a job of `lane` was.
    fn record_speed(&mut self, lane: &Lane, is_quick: bool) {
        let Lane::Endpoint(endpoint) = lane else {
            return;
        };
        if let Some(waiting) = self.lanes.get_mut(lane) {
            let before = waiting.is_quick.replace(is_quick);
            if is_quick && waiting.is_ready && before != Some(true) {
                // It must not wait in line with the slow ones.
                self.ready.unknown.retain(|other| other != lane);
                self.ready.slow.retain(|other| other != lane);
                self.ready.quick.push_back(lane.clone());
            }
        }
        match self.quick.get_mut(endpoint) {
            Some(known) => *known = is_quick,
            None => {
                if self.quick.len() >= REMEMBERED_MAX {
                    self.quick.clear();
                }
                self.quick.insert(endpoint.clone(), is_quick);
            }
        }
    }

    /// Drops an empty lane.
    fn forget(&mut self, lane: &Lane) {
        if let Some(LaneState {
            paused_until: Some(until),
            ..
        }) = self.lanes.remove(lane)
        {
            self.paused.remove(&(until, lane.clone()));
        }
    }
}

/// Workers that lanes may occupy which are not known to be quick.
fn slow_max(workers: usize) -> usize {
    workers.div_ceil(2)
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
