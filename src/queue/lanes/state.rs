//! The state of fair lanes: which have a turn, pause or are full. No locks and no
//! waiting.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;

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
/// Jobs of a lane that run at a time while nothing is known of it.
pub(super) const UNKNOWN_RUNNING_MAX: usize = 4;
/// Endpoints whose speed is remembered; at more, all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

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

#[derive(Debug)]
pub(super) struct LanesState<T> {
    pub(super) lanes: HashMap<Lane, LaneState<T>>,
    /// Lanes with a job that may run, in turn: quick ones and the others.
    ready: ReadyLanes,
    /// Paused lanes, by when their pause ends.
    pub(super) paused: BTreeSet<(Timestamp, Lane)>,
    /// Somebody waits for the first pause to end.
    pub(super) is_watched: bool,
    /// Whether an endpoint's last job was quick.
    quick: HashMap<EndpointId, bool>,
    /// Jobs running of lanes that were not known to be quick.
    pub(super) running_slow: usize,
    /// The jobs that wait or run.
    pub(super) job_keys: HashSet<JobKey>,
    pub(super) waiting: usize,
    pub(super) bytes: usize,
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
pub(super) struct LaneState<T> {
    pub(super) jobs: VecDeque<(Job, T)>,
    pub(super) bytes: usize,
    pub(super) running: usize,
    is_ready: bool,
    /// None while nothing is known.
    is_quick: Option<bool>,
    paused_until: Option<Timestamp>,
    /// Its own bound on what runs.
    pub(super) limit: Option<LaneLimit>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimit {
    pub(super) running_max: usize,
    pub(super) ends: Timestamp,
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

    pub(super) fn is_slow(&self) -> bool {
        self.is_quick != Some(true)
    }
}

impl<T> LanesState<T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            ready: ReadyLanes::default(),
            paused: BTreeSet::new(),
            is_watched: false,
            quick: HashMap::new(),
            running_slow: 0,
            job_keys: HashSet::new(),
            waiting: 0,
            bytes: 0,
        }
    }

    /// Takes out all that waits.
    pub(super) fn clear(&mut self) -> Vec<T> {
        let mut out = Vec::new();
        for waiting in self.lanes.values_mut() {
            (waiting.is_ready, waiting.paused_until, waiting.bytes) = (false, None, 0);
            for (job, along) in waiting.jobs.drain(..) {
                self.job_keys.remove(&JobKey::of(&job));
                out.push(along);
            }
        }
        self.lanes.retain(|_, waiting| waiting.running > 0);
        self.ready = ReadyLanes::default();
        self.paused.clear();
        (self.waiting, self.bytes) = (0, 0);
        out
    }

    /// Whether one more job of `lane` may wait.
    pub(super) fn has_room(&self, lane: &Lane, bytes: usize, options: &LaneOptions) -> bool {
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
    pub(super) fn lane_mut(&mut self, lane: &Lane) -> &mut LaneState<T> {
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

    pub(super) fn count_in(&mut self, lane: &Lane, bytes: usize) {
        self.lane_mut(lane).bytes += bytes;
        self.waiting += 1;
        self.bytes += bytes;
    }

    /// Gives `lane` a turn if it has a job that may run and no turn yet.
    pub(super) fn make_ready(&mut self, lane: Lane, options: &LaneOptions, now: Timestamp) {
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
    pub(super) fn turn(&mut self, options: &LaneOptions, now: Timestamp) -> Option<Lane> {
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

    pub(super) fn has_turn(&self, workers: usize) -> bool {
        let others_may = self.running_slow < slow_max(workers);
        !self.ready.quick.is_empty() || (others_may && self.ready.has_others())
    }

    /// Lets nothing of `lane` run before `until`; whether that is the first pause
    /// to end.
    pub(super) fn pause(&mut self, lane: &Lane, until: Timestamp) -> bool {
        let waiting = self.lane_mut(lane);
        let later = waiting.paused_until.replace(until);
        if let Some(before) = later {
            self.paused.remove(&(before, lane.clone()));
        }
        let first = self.paused.first().is_none_or(|(first, _)| until < *first);
        self.paused.insert((until, lane.clone()));
        first
    }

    pub(super) fn end_pauses(&mut self, now: Timestamp, options: &LaneOptions) {
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
    pub(super) fn record_speed(&mut self, lane: &Lane, is_quick: bool) {
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
    pub(super) fn forget(&mut self, lane: &Lane) {
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
