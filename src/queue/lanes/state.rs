//! The state of fair lanes: which have a turn, pause or are full. No locks and no
//! waiting.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::budget::Owner;
use super::known::KnownEndpoints;
use super::lane::{JobKey, Lane, LaneClass, LaneOptions};
use super::ready::{ReadyLanes, Ticket};
use super::running::{RunId, RunningJobs};
use super::waiting::WaitingJobs;
use crate::model::job::Job;

/// One endpoint may fill this part of the lanes (an eighth), however empty they are;
/// as much is kept for lanes of few jobs.
const LANE_SHARE: usize = 8;
/// Jobs of a lane that counts as one of few.
const SMALL_LANE_JOBS: usize = 8;
/// What a project may have waiting is this many times what would be left free.
const OWNER_SHARE: usize = 15;
#[derive(Debug)]
pub(super) struct LanesState<T> {
    pub(super) lanes: HashMap<Lane, LaneState<T>>,
    ready: ReadyLanes,
    /// Paused lanes, by when their pause ends.
    pub(super) paused: BTreeSet<(Timestamp, Lane)>,
    /// What is remembered of endpoints without a lane.
    known: KnownEndpoints,
    running: RunningJobs,
    /// The jobs that wait or run.
    pub(super) job_keys: HashSet<JobKey>,
    pub(super) waiting: WaitingJobs,
}

#[derive(Debug)]
pub(super) struct LaneState<T> {
    pub(super) jobs: VecDeque<(Job, T)>,
    pub(super) bytes: usize,
    pub(super) running: usize,
    /// Its place among those that may run a job.
    ready: Option<Ticket>,
    class: LaneClass,
    owner: Owner,
    paused_until: Option<Timestamp>,
    /// Its own bound on what runs.
    limit: Option<LaneLimit>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimit {
    pub(super) running_max: usize,
    pub(super) ends: Timestamp,
}

impl<T> LaneState<T> {
    fn may_run(&self, lane: &Lane, options: &LaneOptions, now: Timestamp) -> bool {
        let mut most = lane.running_max(options);
        if self.class == LaneClass::Unknown {
            // It shows what the others would meet.
            most = 1;
        }
        if let Some(limit) = self.limit
            && now < limit.ends
        {
            most = most.min(limit.running_max);
        }
        self.running < most && !self.jobs.is_empty() && self.paused_until.is_none()
    }
}

impl<T> LanesState<T> {
    pub(super) fn new(options: &LaneOptions) -> Self {
        Self {
            lanes: HashMap::new(),
            ready: ReadyLanes::default(),
            paused: BTreeSet::new(),
            known: KnownEndpoints::default(),
            running: RunningJobs::new(options.quick_max, options.in_flight_max),
            job_keys: HashSet::new(),
            waiting: WaitingJobs::default(),
        }
    }

    /// Takes out all that waits.
    pub(super) fn clear(&mut self) -> Vec<T> {
        let mut out = Vec::new();
        for lane in self.lanes.values_mut() {
            (lane.ready, lane.paused_until, lane.bytes) = (None, None, 0);
            for (job, along) in lane.jobs.drain(..) {
                self.job_keys.remove(&JobKey::of(&job));
                out.push(along);
            }
        }
        self.lanes.retain(|_, lane| lane.running > 0);
        self.ready = ReadyLanes::default();
        self.paused.clear();
        self.waiting = WaitingJobs::default();
        out
    }

    /// Whether `job` may wait, as one more of `lane`.
    pub(super) fn has_room(&self, lane: &Lane, job: &Job, options: &LaneOptions) -> bool {
        let (waiting, bytes) = (&self.waiting, job.payload_bytes());
        let free = options.jobs_max.saturating_sub(waiting.jobs);
        let bytes_free = options.bytes_max.saturating_sub(waiting.bytes);
        if free == 0 || bytes > bytes_free || !self.leaves_room(lane, job, free, options) {
            return false;
        }
        let Some(own) = self.lanes.get(lane).filter(|lane| !lane.jobs.is_empty()) else {
            return true;
        };
        // Half of what is free, and nothing of what is kept for lanes of few jobs, unless
        // it is one: however many are full, another's first jobs find room.
        let share = options.jobs_max.div_ceil(LANE_SHARE);
        let lane_max = (free.saturating_sub(share) / 2)
            .max(SMALL_LANE_JOBS)
            .min(share);
        let fits = bytes == 0 || own.bytes + bytes <= bytes_free / 2;
        own.jobs.len() < lane_max && fits
    }

    /// Whether others find room beside `job`, however many lanes its like are in: slow
    /// ones leave half to those that are not, and a project leaves some to the others.
    fn leaves_room(&self, lane: &Lane, job: &Job, free: usize, options: &LaneOptions) -> bool {
        let Lane::Endpoint(endpoint) = lane else {
            return true;
        };
        let half = options.jobs_max.div_ceil(2);
        let (class, owner) = match self.lanes.get(lane) {
            Some(lane) => (lane.class, &lane.owner),
            None => self.known.get(endpoint),
        };
        if class == LaneClass::Slow && self.waiting.slow >= half {
            return false;
        }
        let owner = job.project().or(owner.as_ref());
        owner.is_none_or(|owner| {
            let own = self.waiting.of(&Some(owner.clone()));
            own < free.saturating_mul(OWNER_SHARE)
        })
    }

    /// The lane of `job`, made if it is not there.
    pub(super) fn lane_for(&mut self, lane: &Lane, job: &Job) -> &mut LaneState<T> {
        let known = &self.known;
        let state = self.lanes.entry(lane.clone()).or_insert_with(|| {
            let (class, owner) = match lane {
                Lane::Endpoint(endpoint) => {
                    let (class, owner) = known.get(endpoint);
                    (class, owner.clone())
                }
                Lane::FanOut | Lane::Control => (LaneClass::Quick, None),
                // A page takes its time.
                Lane::Recovery => (LaneClass::Slow, None),
            };
            LaneState::new(class, owner)
        });
        if let (Some(project), Lane::Endpoint(_)) = (job.project(), lane)
            && state.owner.as_ref() != Some(project)
        {
            let owner = Some(project.clone());
            self.waiting
                .move_owner(&state.owner, &owner, state.jobs.len());
            state.owner = owner;
        }
        state
    }

    /// Puts a job in `lane`, as its last.
    pub(super) fn push_back(&mut self, lane: &Lane, job: Job, along: T) {
        self.count_in(lane, &job);
        self.lane_for(lane, &job).jobs.push_back((job, along));
    }

    /// Puts a job in `lane`, before the others.
    pub(super) fn push_front(&mut self, lane: &Lane, job: Job, along: T) {
        self.count_in(lane, &job);
        self.lane_for(lane, &job).jobs.push_front((job, along));
    }

    fn count_in(&mut self, lane: &Lane, job: &Job) {
        let bytes = job.payload_bytes();
        let state = self.lane_for(lane, job);
        state.bytes += bytes;
        let (owner, is_slow) = (state.owner.clone(), state.is_slow_endpoint(lane));
        self.waiting.add(owner, bytes, is_slow);
    }

    /// Gives `lane` a turn if it has a job that may run and no turn yet.
    pub(super) fn make_ready(&mut self, lane: Lane, options: &LaneOptions, now: Timestamp) {
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        if state.ready.is_none() && state.may_run(&lane, options, now) {
            let (class, owner) = (state.class, state.owner.clone());
            state.ready = Some(self.ready.push(class, owner, lane));
        }
    }

    /// Takes out the job whose turn it is, to be run from `began` on.
    pub(super) fn start_next(
        &mut self,
        options: &LaneOptions,
        now: Timestamp,
        began: Instant,
    ) -> Option<StartedJob<T>> {
        self.note_overdue(options, now, began);
        let lane = self.turn(options, now)?;
        let state = self.lanes.get_mut(&lane).expect("a ready lane is there");
        let (job, along) = state.jobs.pop_front().expect("a ready lane has a job");
        let bytes = job.payload_bytes();
        state.bytes -= bytes;
        state.running += 1;
        let is_slow = state.is_slow_endpoint(&lane);
        self.waiting.remove(&state.owner, bytes, is_slow);
        let run = self
            .running
            .start(lane.clone(), state.owner.clone(), state.class, began);
        self.make_ready(lane, options, now);
        Some(StartedJob { job, along, run })
    }

    fn turn(&mut self, options: &LaneOptions, now: Timestamp) -> Option<Lane> {
        loop {
            let running = &self.running;
            let (lane, ticket) = self
                .ready
                .pop(|class, owner| running.admits(class, owner))?;
            let Some(state) = self.lanes.get_mut(&lane) else {
                continue;
            };
            if state.ready != Some(ticket) {
                continue;
            }
            state.ready = None;
            if !running.admits(state.class, &state.owner) {
                // It is known by now whose it is.
                self.make_ready(lane, options, now);
            } else if state.may_run(&lane, options, now) {
                return Some(lane);
            }
        }
    }

    pub(super) fn has_turn(&self) -> bool {
        let running = &self.running;
        self.ready.has(|class, owner| running.admits(class, owner))
    }

    /// Ends a job that was started; its lane, and how long it ran.
    pub(super) fn end(&mut self, run: RunId, now: Instant) -> Option<(Lane, Duration)> {
        let (lane, took) = self.running.end(run, now)?;
        let state = self.lanes.get_mut(&lane)?;
        state.running -= 1;
        Some((lane, took))
    }

    /// Takes the lanes of jobs that have run for too long to be quick for slow ones,
    /// while these run: they leave their places to others.
    fn note_overdue(&mut self, options: &LaneOptions, now: Timestamp, at: Instant) {
        while let Some(lane) = self.running.next_overdue(at) {
            self.record_speed(&lane, LaneClass::Slow, options, now);
        }
    }

    /// When another lane may have its turn, though nothing ends or is pushed.
    pub(super) fn next_change(&self, now: Timestamp, at: Instant) -> Option<Duration> {
        if self.waiting.jobs == 0 {
            return None;
        }
        let pause = self.paused.first().map(|(until, _)| *until);
        let pause = pause.map(|until| until.duration_since(now).try_into().unwrap_or_default());
        let overdue = self.running.overdue_at();
        let overdue = overdue.map(|then| then.saturating_duration_since(at));
        pause.into_iter().chain(overdue).min()
    }

    /// Lets nothing of `lane` run before `until`.
    pub(super) fn pause(&mut self, lane: &Lane, until: Timestamp) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        if let Some(before) = state.paused_until.replace(until) {
            self.paused.remove(&(before, lane.clone()));
        }
        self.paused.insert((until, lane.clone()));
    }

    pub(super) fn end_pauses(&mut self, now: Timestamp, options: &LaneOptions) {
        while self.paused.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, lane)) = self.paused.pop_first() else {
                return;
            };
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.paused_until = None;
            }
            self.make_ready(lane, options, now);
        }
    }

    /// Records how quick a job of `lane` was, or turns out not to be.
    pub(super) fn record_speed(
        &mut self,
        lane: &Lane,
        class: LaneClass,
        options: &LaneOptions,
        now: Timestamp,
    ) {
        let Lane::Endpoint(endpoint) = lane else {
            return;
        };
        let mut owner = None;
        if let Some(state) = self.lanes.get_mut(lane) {
            owner = state.owner.clone();
            let before = std::mem::replace(&mut state.class, class);
            if before != class {
                let jobs = state.jobs.len();
                self.waiting.slow -= if before == LaneClass::Slow { jobs } else { 0 };
                self.waiting.slow += if class == LaneClass::Slow { jobs } else { 0 };
                // It must not wait in line with those of its former kind.
                state.ready = None;
                self.make_ready(lane.clone(), options, now);
            }
        }
        self.known.remember(endpoint, class, owner);
    }

    /// Bounds what runs of `lane`.
    pub(super) fn limit(&mut self, lane: &Lane, limit: LaneLimit) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.limit = Some(limit);
        }
    }

    /// Gives `lane` a turn, or drops it if it is empty.
    pub(super) fn make_ready_or_forget(
        &mut self,
        lane: Lane,
        options: &LaneOptions,
        now: Timestamp,
    ) {
        let is_empty = |state: &LaneState<T>| state.running == 0 && state.jobs.is_empty();
        if !self.lanes.get(&lane).is_some_and(is_empty) {
            return self.make_ready(lane, options, now);
        }
        let paused = self.lanes.remove(&lane).and_then(|lane| lane.paused_until);
        if let Some(until) = paused {
            self.paused.remove(&(until, lane));
        }
    }

    /// Has every running job have run for that much longer.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        self.running.age(by);
    }
}

/// A job that was taken out.
pub(super) struct StartedJob<T> {
    pub job: Job,
    pub along: T,
    pub run: RunId,
}

impl<T> LaneState<T> {
    fn new(class: LaneClass, owner: Owner) -> Self {
        Self {
            jobs: VecDeque::new(),
            bytes: 0,
            running: 0,
            ready: None,
            class,
            owner,
            paused_until: None,
            limit: None,
        }
    }

    fn is_slow_endpoint(&self, lane: &Lane) -> bool {
        self.class == LaneClass::Slow && matches!(lane, Lane::Endpoint(_))
    }
}
