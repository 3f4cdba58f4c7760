//! Where jobs wait: in this process.
//!
//! A queued job is a hint. Whatever it stands for has a due time in the store,
//! so the queue may refuse or lose any of them and only delays work. That is
//! why it is bounded, and why sending never fails.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::model::id::EndpointId;
use crate::model::job::Job;

/// Fan-outs at a time: each is wide by itself.
const FAN_OUTS_MAX: usize = 4;
/// The largest part of the queue one endpoint may fill, so that a slow one
/// leaves room for the others.
const LANE_SHARE: usize = 8;

/// The queue.
#[derive(Debug)]
pub enum Queue {
    /// In this process; lost with it.
    Local(Local),
}

impl Queue {
    /// When the sweeper is to take up what is sent now with `delay`: not before
    /// a worker had its chance.
    pub fn due(&self, now: Timestamp, delay: Duration) -> Timestamp {
        match self {
            // Nothing waits in memory for its time to come: the sweeper, which
            // runs every second, brings it.
            Self::Local(local) if delay.is_zero() => now + local.options.lease,
            Self::Local(_) => now + delay,
        }
    }

    /// How long something sent is left to its worker.
    pub fn lease(&self) -> Duration {
        match self {
            Self::Local(local) => local.options.lease,
        }
    }

    /// How many more jobs it takes, so that the sweeper brings no more.
    pub fn room(&self) -> usize {
        match self {
            Self::Local(local) => local.options.jobs_max.saturating_sub(local.len()),
        }
    }

    /// Whether a job sent along with an event should carry it.
    pub fn carries(&self) -> bool {
        match self {
            Self::Local(_) => true,
        }
    }

    /// Sends jobs to be run after `delay`. Their due times are in the store
    /// already, so a refused one is only late.
    pub async fn send(&self, jobs: Vec<Job>, delay: Duration) {
        match self {
            Self::Local(local) if delay.is_zero() => {
                for job in jobs {
                    local.push(job);
                }
            }
            Self::Local(_) => {}
        }
    }
}

/// Bounds of the in-process queue.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Jobs waiting, at most.
    pub jobs_max: usize,
    /// Bytes of event bodies waiting, at most.
    pub bytes_max: usize,
    /// Jobs of one endpoint running at a time.
    pub endpoint_concurrency: usize,
    /// How long a job is left to its worker before the sweeper takes it up.
    pub lease: Duration,
}

/// A fair queue in memory: a lane for each endpoint, taken in turns, each with a
/// bound on how many of its jobs run and wait. A job is in it once, by name.
#[derive(Debug)]
pub struct Local {
    options: LocalOptions,
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<Lane, Waiting>,
    /// Lanes with a job that may run, in turn.
    ready: VecDeque<Lane>,
    /// What waits or runs.
    names: HashSet<Box<str>>,
    waiting: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    running: usize,
    is_ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Lane {
    FanOut,
    Endpoint(EndpointId),
    Control,
}

impl Lane {
    fn of(job: &Job) -> Self {
        match job {
            Job::FanOut { .. } => Self::FanOut,
            Job::Deliver { delivery, .. } => Self::Endpoint(delivery.endpoint()),
            Job::Disable { .. } => Self::Control,
        }
    }

    fn running_max(&self, options: &LocalOptions) -> usize {
        match self {
            Self::FanOut => FAN_OUTS_MAX,
            Self::Endpoint(_) => options.endpoint_concurrency,
            Self::Control => 1,
        }
    }
}

impl Local {
    /// An empty queue.
    pub fn new(options: LocalOptions) -> Self {
        Self {
            options,
            state: Mutex::default(),
            pushed: Notify::new(),
        }
    }

    /// Takes a job in; false if it is there already or there is no room.
    pub fn push(&self, job: Job) -> bool {
        let lane = Lane::of(&job);
        let mut state = self.lock();
        let lane_max = self.options.jobs_max.div_ceil(LANE_SHARE);
        let in_lane = state.lanes.get(&lane).map_or(0, |lane| lane.jobs.len());
        if state.waiting >= self.options.jobs_max
            || state.bytes + job.carried_bytes() > self.options.bytes_max
            || in_lane >= lane_max
            || !state.names.insert(job.name().into())
        {
            return false;
        }
        state.waiting += 1;
        state.bytes += job.carried_bytes();
        state
            .lanes
            .entry(lane.clone())
            .or_default()
            .jobs
            .push_back(job);
        state.make_ready(lane, &self.options);
        drop(state);
        self.pushed.notify_one();
        true
    }

    /// The next job whose lane may run one; waits for it.
    pub async fn next(&self) -> Taken<'_> {
        loop {
            if let Some(taken) = self.try_next() {
                return taken;
            }
            self.pushed.notified().await;
        }
    }

    /// The next job whose lane may run one, if there is one now.
    pub fn try_next(&self) -> Option<Taken<'_>> {
        let mut state = self.lock();
        let lane = state.ready.pop_front()?;
        let waiting = state.lanes.get_mut(&lane).expect("a ready lane is there");
        waiting.is_ready = false;
        waiting.running += 1;
        let job = waiting.jobs.pop_front().expect("a ready lane has a job");
        state.waiting -= 1;
        state.bytes -= job.carried_bytes();
        state.make_ready(lane.clone(), &self.options);
        if !state.ready.is_empty() {
            self.pushed.notify_one();
        }
        drop(state);
        Some(Taken {
            name: job.name().into(),
            job: Some(job),
            lane,
            queue: self,
        })
    }

    /// Jobs waiting.
    pub fn len(&self) -> usize {
        self.lock().waiting
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn done(&self, lane: &Lane, name: &str) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives `lane` a turn if it has a job that may run and no turn yet.
    fn make_ready(&mut self, lane: Lane, options: &LocalOptions) {
        let waiting = self.lanes.get_mut(&lane).expect("the lane is there");
        let may_run = waiting.running < lane.running_max(options) && !waiting.jobs.is_empty();
        if may_run && !waiting.is_ready {
            waiting.is_ready = true;
            self.ready.push_back(lane);
        }
    }
}

/// A job being run: its lane's place and its name are free again when this is
/// dropped.
#[derive(Debug)]
pub struct Taken<'a> {
    job: Option<Job>,
    name: Box<str>,
    lane: Lane,
    queue: &'a Local,
}

impl Taken<'_> {
    /// The job, once.
    ///
    /// # Panics
    /// When called again.
    pub fn job(&mut self) -> Job {
        self.job.take().expect("a job is taken once")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.queue.done(&self.lane, &self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{DeliveryId, EventId, ProjectId};

    fn queue(endpoint_concurrency: usize, jobs_max: usize) -> Local {
        let lease = Duration::from_secs(5);
        Local::new(LocalOptions {
            jobs_max,
            bytes_max: 1000,
            endpoint_concurrency,
            lease,
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

    fn names(queue: &Local) -> Vec<String> {
        std::iter::from_fn(|| Some(queue.try_next()?.job().name().to_owned())).collect()
    }

    #[test]
    fn endpoints_take_turns() {
        let queue = queue(1, 100);
        for event in 0..3 {
            assert!(queue.push(job(event, 1)));
        }
        assert!(queue.push(job(0, 2)));
        let expected = [job(0, 1), job(0, 2), job(1, 1), job(2, 1)];
        assert_eq!(names(&queue), expected.map(|job| job.name().to_owned()));
        assert!(queue.lock().lanes.is_empty(), "an empty lane is forgotten");
    }

    #[test]
    fn an_endpoint_runs_no_more_than_its_share() {
        let queue = queue(2, 100);
        for event in 0..3 {
            queue.push(job(event, 1));
        }
        let (first, second) = (queue.try_next(), queue.try_next());
        assert!(first.is_some() && second.is_some() && queue.try_next().is_none());
        drop(first);
        assert!(queue.try_next().is_some());
    }

    #[test]
    fn a_job_is_in_it_once_until_it_is_done() {
        let queue = queue(1, 100);
        assert!(queue.push(job(0, 1)));
        assert!(!queue.push(job(0, 1)));
        let taken = queue.try_next();
        assert!(!queue.push(job(0, 1)), "it is running");
        drop(taken);
        assert!(queue.push(job(0, 1)));
    }

    #[test]
    fn one_endpoint_cannot_fill_it() {
        let queue = queue(1, 80);
        let taken = (0..80).filter(|event| queue.push(job(*event, 1))).count();
        assert_eq!(taken, 10);
        assert!(queue.push(job(0, 2)));
    }

    #[tokio::test]
    async fn a_waiting_worker_is_woken() {
        let queue = queue(1, 100);
        let (mut taken, pushed) = tokio::join!(queue.next(), async { queue.push(job(0, 1)) });
        assert!(pushed);
        assert_eq!(taken.job().name(), job(0, 1).name());
    }
}
