//! The jobs that run: since when, whose, and in which budget.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::budget::{Budget, Owner};
use super::lane::{Lane, LaneClass};

/// How long a job may take for its lane to count as quick.
pub(super) const QUICK: Duration = Duration::from_secs(1);

/// The parts of what may be in flight that are for lanes known to be slow, and for
/// jobs of quick ones that take long: an eighth each. The rest is for first jobs of
/// lanes that nothing is known of.
const SLOW_SHARE: usize = 8;

/// Which of the jobs that were started: later ones have higher numbers.
pub(super) type RunId = u64;

/// The running jobs of all lanes.
#[derive(Debug)]
pub(super) struct RunningJobs {
    jobs: HashMap<RunId, TrackedJob>,
    /// Those that have not run for long, the first that was started first.
    fresh: BTreeSet<RunId>,
    started: RunId,
    quick: Budget,
    unknown: Budget,
    slow: Budget,
    /// Of quick lanes, what has run for longer than `QUICK`.
    overdue: Budget,
}

#[derive(Debug)]
struct TrackedJob {
    lane: Lane,
    owner: Owner,
    counted: Counted,
    began: Instant,
}

/// The budget in which a job counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    As(LaneClass),
    Overdue,
}

impl RunningJobs {
    pub fn new(quick_max: usize, in_flight_max: usize) -> Self {
        let part = in_flight_max.div_ceil(SLOW_SHARE);
        let unknown = in_flight_max.saturating_sub(2 * part).max(1);
        Self {
            jobs: HashMap::new(),
            fresh: BTreeSet::new(),
            started: 0,
            quick: Budget::first_come(quick_max),
            unknown: Budget::shared(unknown),
            slow: Budget::shared(part),
            overdue: Budget::first_come(part),
        }
    }

    /// Whether one more job of a lane of `class` may run.
    pub fn admits(&self, class: LaneClass, owner: &Owner) -> bool {
        match class {
            LaneClass::Quick => self.quick.admits(owner),
            LaneClass::Unknown => self.unknown.admits(owner),
            LaneClass::Slow => self.slow.admits(owner),
        }
    }

    pub fn start(&mut self, lane: Lane, owner: Owner, class: LaneClass, began: Instant) -> RunId {
        self.started += 1;
        let counted = Counted::As(class);
        self.budget(counted).add(&owner);
        self.fresh.insert(self.started);
        let job = TrackedJob {
            lane,
            owner,
            counted,
            began,
        };
        self.jobs.insert(self.started, job);
        self.started
    }

    /// Ends a job; its lane, and how long it ran.
    pub fn end(&mut self, run: RunId, now: Instant) -> Option<(Lane, Duration)> {
        let job = self.jobs.remove(&run)?;
        self.fresh.remove(&run);
        self.budget(job.counted).remove(&job.owner);
        Some((job.lane, now.saturating_duration_since(job.began)))
    }

    /// Takes the next job that has run for `QUICK` at `now` out of the budget of the
    /// quick ones, if it is in that; its lane.
    pub fn next_overdue(&mut self, now: Instant) -> Option<Lane> {
        if self.overdue_at()? > now {
            return None;
        }
        let run = self.fresh.pop_first()?;
        let job = self.jobs.get_mut(&run)?;
        if job.counted == Counted::As(LaneClass::Quick) {
            job.counted = Counted::Overdue;
            self.quick.remove(&job.owner);
            self.overdue.add(&job.owner);
        }
        Some(job.lane.clone())
    }

    /// When the next job has run for `QUICK`; none where it could not leave its place.
    pub fn overdue_at(&self) -> Option<Instant> {
        let job = self.jobs.get(self.fresh.first()?)?;
        let is_stuck = job.counted == Counted::As(LaneClass::Quick) && !self.overdue.has_room();
        (!is_stuck).then_some(job.began + QUICK)
    }

    /// Has every job have run for that much longer.
    #[cfg(test)]
    pub fn age(&mut self, by: Duration) {
        for job in self.jobs.values_mut() {
            job.began = job.began.checked_sub(by).expect("long after the epoch");
        }
    }

    fn budget(&mut self, counted: Counted) -> &mut Budget {
        match counted {
            Counted::As(LaneClass::Quick) => &mut self.quick,
            Counted::As(LaneClass::Unknown) => &mut self.unknown,
            Counted::As(LaneClass::Slow) => &mut self.slow,
            Counted::Overdue => &mut self.overdue,
        }
    }
}
