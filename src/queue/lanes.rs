//! Fair lanes: jobs in memory, a lane for each endpoint, taken in turns.
//!
//! The in-process queue is made of them, and a worker of SQS keeps in them what
//! it has received and not begun. Each lane has a bound on how many of its jobs
//! run and wait, so that a slow endpoint holds up only itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::id::EndpointId;
use crate::model::job::Job;

/// Fan-outs at a time: each is wide by itself.
const FAN_OUTS_MAX: usize = 4;
/// Recoveries at a time: each goes on for long, and none may hold up fan-outs.
const RECOVERIES_MAX: usize = 2;
/// The largest part of the lanes one endpoint may fill, so that a slow one
/// leaves room for the others.
const LANE_SHARE: usize = 8;

/// Bounds of a set of lanes.
#[derive(Debug, Clone)]
pub struct LaneOptions {
    /// Jobs waiting, at most.
    pub jobs_max: usize,
    /// Bytes of event bodies waiting, at most.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
}

/// Jobs in fair lanes, each with a `T` that came along. A job is in them once,
/// by name and attempt.
#[derive(Debug)]
pub struct Lanes<T> {
    options: LaneOptions,
    state: Mutex<State<T>>,
    pushed: Notify,
    taken: Notify,
}

#[derive(Debug)]
struct State<T> {
    lanes: HashMap<Lane, Waiting<T>>,
    /// Lanes with a job that may run, in turn.
    ready: VecDeque<Lane>,
    /// What waits or runs.
    names: HashSet<Name>,
    waiting: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    jobs: VecDeque<(Job, T)>,
    running: usize,
    is_ready: bool,
}

/// A job's name and which attempt or page it is about: the next one may be pushed while
/// this one ends.
type Name = (Box<str>, u32);

fn name_of(job: &Job) -> Name {
    let attempt = match job {
        Job::Deliver { made, .. } => *made,
        // A page enqueues the next one while it still runs.
        Job::Recover { page, .. } => *page,
        Job::FanOut { .. } | Job::Disable { .. } => 0,
    };
    (job.name().into(), attempt)
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

impl<T> Lanes<T> {
    /// Empty lanes.
    pub fn new(options: LaneOptions) -> Self {
        let state = State {
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            names: HashSet::new(),
            waiting: 0,
            bytes: 0,
        };
        Self {
            options,
            state: Mutex::new(state),
            pushed: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// Gives `along` back if the job is there already or there is no room.
    pub fn push(&self, job: Job, along: T) -> Result<(), T> {
        let lane = Lane::of(&job);
        let mut state = self.lock();
        let lane_max = self.options.jobs_max.div_ceil(LANE_SHARE);
        let in_lane = state.lanes.get(&lane).map_or(0, |lane| lane.jobs.len());
        if state.waiting >= self.options.jobs_max
            || state.bytes + job.carried_bytes() > self.options.bytes_max
            || in_lane >= lane_max
            || !state.names.insert(name_of(&job))
        {
            return Err(along);
        }
        state.waiting += 1;
        state.bytes += job.carried_bytes();
        state
            .lanes
            .entry(lane.clone())
            .or_default()
            .jobs
            .push_back((job, along));
        state.make_ready(lane, &self.options);
        drop(state);
        self.pushed.notify_one();
        Ok(())
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(&self) -> Taken<'_, T> {
        loop {
            if let Some(taken) = self.try_next() {
                return taken;
            }
            self.pushed.notified().await;
        }
    }

    /// The next job whose lane may run one, if there is one now.
    pub fn try_next(&self) -> Option<Taken<'_, T>> {
        let mut state = self.lock();
        let lane = state.ready.pop_front()?;
        let waiting = state.lanes.get_mut(&lane).expect("a ready lane is there");
        waiting.is_ready = false;
        waiting.running += 1;
        let (job, along) = waiting.jobs.pop_front().expect("a ready lane has a job");
        state.waiting -= 1;
        state.bytes -= job.carried_bytes();
        state.make_ready(lane.clone(), &self.options);
        if !state.ready.is_empty() {
            self.pushed.notify_one();
        }
        drop(state);
        self.taken.notify_waiters();
        Some(Taken {
            name: name_of(&job),
            job: Some((job, along)),
            lane,
            lanes: self,
        })
    }

    /// Takes out all that waits and has not begun.
    pub fn clear(&self) -> Vec<T> {
        let mut state = self.lock();
        let State { lanes, names, .. } = &mut *state;
        let mut out = Vec::new();
        for waiting in lanes.values_mut() {
            waiting.is_ready = false;
            for (job, along) in waiting.jobs.drain(..) {
                names.remove(&name_of(&job));
                out.push(along);
            }
        }
        lanes.retain(|_, waiting| waiting.running > 0);
        state.ready.clear();
        (state.waiting, state.bytes) = (0, 0);
        out
    }

    /// Waits until there is room for at least `jobs`; for how many there is.
    pub async fn room(&self, jobs: usize) -> usize {
        loop {
            let taken = self.taken.notified();
            let room = self.options.jobs_max - self.len();
            if room >= jobs.min(self.options.jobs_max) {
                return room;
            }
            taken.await;
        }
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.lock().waiting
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn done(&self, lane: &Lane, name: &Name) {
        let mut state = self.lock();
        state.names.remove(name);
        let waiting = state
            .lanes
            .get_mut(lane)
            .expect("a lane that runs is there");
        waiting.running -= 1;
        if waiting.running == 0 && waiting.jobs.is_empty() {
            state.lanes.remove(lane);
            return;
        }
        state.make_ready(lane.clone(), &self.options);
        let ready = !state.ready.is_empty();
        drop(state);
        if ready {
            self.pushed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Gives `lane` a turn if it has a job that may run and no turn yet.
    fn make_ready(&mut self, lane: Lane, options: &LaneOptions) {
        let waiting = self.lanes.get_mut(&lane).expect("the lane is there");
        let may_run = waiting.running < lane.running_max(options) && !waiting.jobs.is_empty();
        if may_run && !waiting.is_ready {
            waiting.is_ready = true;
            self.ready.push_back(lane);
        }
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            running: 0,
            is_ready: false,
        }
    }
}

/// A job being run: its lane's place and its name are free again when this is
/// dropped.
#[derive(Debug)]
pub struct Taken<'a, T> {
    job: Option<(Job, T)>,
    name: Name,
    lane: Lane,
    lanes: &'a Lanes<T>,
}

impl<T> Taken<'_, T> {
    /// The job and what came along, once.
    ///
    /// # Panics
    /// When called again.
    pub fn take(&mut self) -> (Job, T) {
        self.job.take().expect("a job is taken once")
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.name.0
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.lanes.done(&self.lane, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{DeliveryId, EventId, ProjectId, RecoveryId};

    fn lanes(endpoint_concurrency: usize, jobs_max: usize) -> Lanes<()> {
        Lanes::new(LaneOptions {
            jobs_max,
            bytes_max: 1000,
            endpoint_concurrency,
        })
    }

    fn job(event: u32, endpoint: u8) -> Job {
        let event = EventId::derive(&ProjectId::new(0, [0; 10]), "", &event.to_string());
        let delivery = DeliveryId::new(&event, &EndpointId::new(0, [endpoint; 10]));
        Job::Deliver {
            delivery,
            made: 0,
            carried: None,
        }
    }

    fn names(lanes: &Lanes<()>) -> Vec<String> {
        std::iter::from_fn(|| Some(lanes.try_next()?.name().to_owned())).collect()
    }

    #[test]
    fn endpoints_take_turns() {
        let lanes = lanes(1, 100);
        for event in 0..3 {
            assert!(lanes.push(job(event, 1), ()).is_ok());
        }
        assert!(lanes.push(job(0, 2), ()).is_ok());
        let expected = [job(0, 1), job(0, 2), job(1, 1), job(2, 1)];
        assert_eq!(names(&lanes), expected.map(|job| job.name().to_owned()));
        assert!(lanes.lock().lanes.is_empty(), "an empty lane is forgotten");
    }

    #[test]
    fn an_endpoint_runs_no_more_than_its_share() {
        let lanes = lanes(2, 100);
        for event in 0..3 {
            let _ = lanes.push(job(event, 1), ());
        }
        let (first, second) = (lanes.try_next(), lanes.try_next());
        assert!(first.is_some() && second.is_some() && lanes.try_next().is_none());
        drop(first);
        assert!(lanes.try_next().is_some());
    }

    #[test]
    fn a_job_is_in_it_once_until_it_is_done() {
        let lanes = lanes(1, 100);
        assert!(lanes.push(job(0, 1), ()).is_ok());
        assert!(lanes.push(job(0, 1), ()).is_err());
        let taken = lanes.try_next();
        assert!(lanes.push(job(0, 1), ()).is_err(), "it is running");
        drop(taken);
        assert!(lanes.push(job(0, 1), ()).is_ok());
    }

    #[test]
    fn the_next_attempt_may_wait_while_one_runs() {
        let lanes = lanes(1, 100);
        assert!(lanes.push(job(0, 1), ()).is_ok());
        let taken = lanes.try_next();
        let mut next = job(0, 1);
        if let Job::Deliver { made, .. } = &mut next {
            *made += 1;
        }
        assert!(lanes.push(next.clone(), ()).is_ok());
        assert!(lanes.push(next, ()).is_err(), "it waits");
        drop(taken);
        assert!(lanes.try_next().is_some());
    }

    #[test]
    fn recoveries_run_two_at_a_time_and_hold_up_nobody() {
        let lanes = lanes(1, 100);
        let page = |recovery: u8, page| Job::Recover {
            recovery: RecoveryId::new(0, [recovery; 10]),
            page,
        };
        for recovery in 0..3 {
            assert!(lanes.push(page(recovery, 0), ()).is_ok());
        }
        assert!(lanes.push(job(0, 1), ()).is_ok());
        let taken: Vec<_> = std::iter::from_fn(|| lanes.try_next()).collect();
        assert_eq!(taken.len(), 3, "two recoveries and the delivery");
        assert!(lanes.push(page(0, 0), ()).is_err(), "it is running");
        assert!(lanes.push(page(0, 1), ()).is_ok(), "the next page may wait");
    }

    #[test]
    fn one_endpoint_cannot_fill_it() {
        let lanes = lanes(1, 80);
        let taken = (0..80)
            .filter(|event| lanes.push(job(*event, 1), ()).is_ok())
            .count();
        assert_eq!(taken, 10);
        assert!(lanes.push(job(0, 2), ()).is_ok());
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken() {
        let lanes = lanes(1, 100);
        let (taken, pushed) = tokio::join!(lanes.next(), async { lanes.push(job(0, 1), ()) });
        assert!(pushed.is_ok());
        assert_eq!(taken.name(), job(0, 1).name());
    }

    #[test]
    fn what_has_not_begun_can_be_taken_out() {
        let lanes = lanes(1, 100);
        for event in 0..3 {
            let _ = lanes.push(job(event, 1), ());
        }
        let taken = lanes.try_next();
        assert_eq!(lanes.clear().len(), 2);
        assert!(lanes.is_empty() && lanes.try_next().is_none());
        assert!(lanes.push(job(1, 1), ()).is_ok(), "its name is free");
        drop(taken);
        assert!(lanes.try_next().is_some());
    }

    #[tokio::test]
    async fn room_is_waited_for() {
        let lanes = lanes(8, 8);
        for endpoint in 0..8 {
            assert!(lanes.push(job(0, endpoint), ()).is_ok());
        }
        let (room, _) = tokio::join!(lanes.room(2), async {
            drop(lanes.try_next());
            tokio::task::yield_now().await;
            drop(lanes.try_next());
        });
        assert_eq!(room, 2);
    }
}
