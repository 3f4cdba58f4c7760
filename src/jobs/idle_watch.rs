//! The watch of a periodic task that asks PostgreSQL: it lets the task look while there
//! may be something to do, and hardly ever otherwise, so that a database that nobody
//! uses may pause.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::app::App;
use crate::error::Result;
use crate::store::change_marker;

/// How long it looks after a change was announced, or its process began: a change is
/// committed long before, and while a fleet is replaced, processes may be at work that
/// announce none.
const ACTIVE: Duration = Duration::from_mins(15);
/// Between two looks while nothing says that there is anything to do.
const IDLE_INTERVAL: Duration = Duration::from_hours(6);
/// Between two prunings of a database that is not used.
const PRUNE_IDLE_INTERVAL: Duration = Duration::from_hours(24);

/// When a task last looked, and what it knew then.
#[derive(Debug)]
pub struct IdleWatch {
    /// How long it looks after a change was announced.
    active: Duration,
    at_start: AtStart,
    state: Mutex<State>,
}

/// What it does when its process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtStart {
    /// It looks as after a change.
    LooksOn,
    /// It looks once, unless a change was announced a short while before.
    LooksOnce,
}

impl Default for IdleWatch {
    fn default() -> Self {
        Self::new(ACTIVE)
    }
}

#[derive(Debug, Default)]
struct State {
    has_begun: bool,
    marker: Option<i64>,
    active_since: Option<Instant>,
    looked: Option<Instant>,
    uses: u64,
    has_more: bool,
}

impl IdleWatch {
    /// One that looks for `active` after a change was announced.
    pub fn new(active: Duration) -> Self {
        Self {
            active,
            at_start: AtStart::LooksOn,
            state: Mutex::default(),
        }
    }

    /// One of a process of which another takes the place every few hours, so that each
    /// must not wake the database for long.
    pub fn of_short_lived() -> Self {
        Self {
            at_start: AtStart::LooksOnce,
            ..Self::default()
        }
    }

    /// Whether it is time to look. One read of the event store.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
    /// answer.
    pub async fn is_look_due(&self, app: &App) -> Result<bool> {
        let marker = change_marker::last(&app.dynamo).await;
        let marker = marker.inspect_err(|_| self.missed(Instant::now()))?;
        let clock = Timestamp::now().as_millisecond();
        Ok(self.is_due(marker, clock, app.postgres.uses(), Instant::now()))
    }

    /// Looks as after a change, once it can: one may be made that cannot be announced.
    fn missed(&self, now: Instant) {
        let mut state = self.state.lock().expect("nothing panics with it");
        state.active_since = Some(now);
    }

    /// Records a look, and whether it has left something.
    pub fn looked(&self, has_more: bool) {
        self.looked_at(has_more, Instant::now());
    }

    fn is_due(&self, marker: Option<i64>, clock: i64, uses: u64, now: Instant) -> bool {
        let mut state = self.state.lock().expect("nothing panics with it");
        let is_first = !std::mem::replace(&mut state.has_begun, true);
        let is_changed = std::mem::replace(&mut state.marker, marker) != marker;
        let is_active = if is_first && self.at_start == AtStart::LooksOnce {
            let active = i64::try_from(self.active.as_millis()).unwrap_or(i64::MAX);
            marker.is_some_and(|at| clock.saturating_sub(at) < active)
        } else {
            is_first || is_changed
        };
        if is_active {
            state.active_since = Some(now);
        }
        // Then it is awake, and a look costs nothing.
        let is_in_use = std::mem::replace(&mut state.uses, uses) != uses;
        let within = |since: Option<Instant>, time| {
            since.is_some_and(|since| now.duration_since(since) < time)
        };
        is_first
            || is_changed
            || state.has_more
            || is_in_use
            || within(state.active_since, self.active)
            || !within(state.looked, IDLE_INTERVAL)
    }

    fn looked_at(&self, has_more: bool, now: Instant) {
        let mut state = self.state.lock().expect("nothing panics with it");
        state.has_more = has_more;
        state.looked = Some(now);
    }
}

/// When a process last pruned, and what it had used of the database then.
#[derive(Debug, Default)]
pub struct PruneWatch(Mutex<Option<(Instant, u64)>>);

impl PruneWatch {
    /// Whether it is time to prune, which is then done: when the database has been used
    /// since the last time, or a day after it.
    pub fn take_due(&self, uses: u64) -> bool {
        self.take_due_at(uses, Instant::now())
    }

    fn take_due_at(&self, uses: u64, now: Instant) -> bool {
        let mut last = self.0.lock().expect("nothing panics with it");
        let is_due = last.is_none_or(|(at, before)| {
            before != uses || now.duration_since(at) >= PRUNE_IDLE_INTERVAL
        });
        if is_due {
            *last = Some((now, uses));
        }
        is_due
    }
}

/// The watches of a function's instance.
#[derive(Debug)]
pub struct IdleWatches {
    /// Of the outbox.
    pub outbox: IdleWatch,
    /// Of erasures.
    pub erasures: IdleWatch,
    /// Of usage that is no longer needed.
    pub prune: PruneWatch,
}

impl Default for IdleWatches {
    fn default() -> Self {
        Self {
            outbox: IdleWatch::of_short_lived(),
            erasures: IdleWatch::of_short_lived(),
            prune: PruneWatch::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_while_something_says_so_and_hardly_ever_otherwise() {
        let (watch, begun) = (IdleWatch::default(), Instant::now());
        let after = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        let looks = |marker, uses, now| {
            let is_due = watch.is_due(marker, 0, uses, now);
            if is_due {
                watch.looked_at(false, now);
            }
            is_due
        };
        assert!(looks(None, 0, begun) && looks(None, 0, after(14)), "begun");
        assert!(!looks(None, 0, after(15)));
        assert!(looks(Some(1), 0, after(20)), "a change");
        assert!(looks(Some(1), 0, after(34)) && !looks(Some(1), 0, after(35)));
        assert!(looks(Some(1), 7, after(40)), "it is in use");
        assert!(!looks(Some(1), 7, after(41)));
        watch.looked_at(true, after(42));
        assert!(looks(Some(1), 7, after(43)), "there is more");
        let idle = (44..24 * 60).filter(|minute| looks(Some(1), 7, after(*minute)));
        assert_eq!(idle.count(), 3, "looks in a day of no use");
    }

    #[test]
    fn one_that_is_replaced_often_looks_once_unless_something_has_changed() {
        const MINUTE_MS: i64 = 60_000;
        let begun = Instant::now();
        let minute = begun + Duration::from_secs(60);
        let looks = |marker, clock| {
            let watch = IdleWatch::of_short_lived();
            [begun, minute].map(|now| {
                let is_due = watch.is_due(marker, clock, 0, now);
                watch.looked_at(false, now);
                is_due
            })
        };
        assert_eq!(looks(None, 0), [true, false]);
        assert_eq!(looks(Some(0), 15 * MINUTE_MS), [true, false]);
        assert_eq!(looks(Some(0), 14 * MINUTE_MS), [true, true], "a change");
        let watch = IdleWatch::of_short_lived();
        assert!(watch.is_due(None, 0, 0, begun));
        watch.looked_at(false, begun);
        assert!(watch.is_due(Some(1), 0, 0, minute), "a change");
    }

    #[test]
    fn it_looks_after_an_outage_of_what_changes_are_announced_in() {
        let (watch, begun) = (IdleWatch::default(), Instant::now());
        let after = |minutes: u64| begun + Duration::from_secs(60 * minutes);
        assert!(watch.is_due(None, 0, 0, begun));
        watch.looked_at(false, begun);
        assert!(!watch.is_due(None, 0, 0, after(20)));
        watch.missed(after(21));
        assert!(watch.is_due(None, 0, 0, after(22)));
        assert!(!watch.is_due(None, 0, 0, after(36)));
    }

    #[test]
    fn it_prunes_once_a_day_what_nobody_uses() {
        let (watch, begun) = (PruneWatch::default(), Instant::now());
        let after = |hours: u64| begun + Duration::from_secs(3600 * hours);
        assert!(watch.take_due_at(0, begun));
        assert!(!watch.take_due_at(0, after(23)));
        assert!(watch.take_due_at(0, after(24)));
        assert!(watch.take_due_at(1, after(25)), "it was used");
        assert!(!watch.take_due_at(1, after(26)));
    }
}
