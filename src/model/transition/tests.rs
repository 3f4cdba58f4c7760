//! The exploration of everything that can happen to one delivery.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::*;
use crate::model::delivery::{AttemptOutcome, Verdict, judge};
use crate::model::endpoint::EndpointState as Endpoint;
use crate::model::retry::Schedule;

/// Attempts of a round in the model.
const ATTEMPTS: u32 = 3;
const WORKERS: usize = 2;
/// Messages in flight at a time; a further one is lost, as any may be.
const MESSAGES_MAX: usize = 2;

// Of a due time it matters only whether it is still the one that was seen: a sweep
// may come at any moment, which allows more than can happen.
/// A due time that somebody saw, and that was moved since.
const MOVED: i64 = 0;
/// The due time as it is.
const CURRENT: i64 = 1;
/// What it is moved to; as soon as it is, that is the current one.
const NEXT: i64 = 2;

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// The attempt after `before`, of a delivery that it saw due at `held`.
    Attempt { before: Progress, held: i64 },
    /// Publishing that the round failed which came to this.
    Notice(Progress),
}

impl Work {
    /// By which workers are sorted: they are alike.
    fn rank(self) -> (u32, u32, i64) {
        let (progress, held) = match self {
            Self::Attempt { before, held } => (before, held),
            Self::Notice(failed) => (failed, NEXT),
        };
        (progress.attempts_made, progress.round_start, held)
    }
}

/// Everything that moves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    delivery: DeliverySnapshot,
    /// What each worker does, once it has loaded the delivery; sorted.
    workers: [Option<Work>; WORKERS],
    /// Messages by the attempt they are about, sorted.
    messages: Vec<u32>,
    endpoint: Endpoint,
    /// What may still go wrong or be asked for.
    crashes: u8,
    retries: u8,
    replays: u8,
    switches: u8,
    /// Successful records since the round began: attempts are counted once.
    recorded: u32,
    /// Whether the notice of this round is published.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    System,
    /// An answer of the endpoint that is not a failure.
    GoodAnswer,
    Person,
    Fault,
}

fn start() -> World {
    World {
        delivery: DeliverySnapshot::new(CURRENT),
        workers: [None; WORKERS],
        messages: vec![0],
        endpoint: Endpoint::Enabled,
        crashes: 1,
        retries: 1,
        replays: 1,
        switches: 2,
        recorded: 0,
        told: false,
    }
}

impl World {
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        change(&mut next);
        next.messages.sort_unstable();
        next.workers
            .sort_unstable_by_key(|work| work.map(Work::rank));
        next
    }

    fn send(&mut self, made: u32) {
        if self.messages.len() < MESSAGES_MAX {
            self.messages.push(made);
        }
    }

    /// Applies `change` if its guard holds; whether it did.
    fn apply(&mut self, change: DeliveryTransition) -> bool {
        let before = self.delivery;
        let Some(after) = before.apply(change) else {
            return false;
        };
        assert_ne!(after, before, "a write for nothing: {change:?}");
        if after.due != before.due {
            for work in self.workers.iter_mut().flatten() {
                if let Work::Attempt { held, .. } = work {
                    *held = MOVED;
                }
            }
        }
        self.delivery = DeliverySnapshot {
            due: after.due.map(|_| CURRENT),
            ..after
        };
        true
    }

    /// Moves the due time, as whoever saw it at `held`; whether it did.
    fn postpone(&mut self, attempts_made: u32, held: i64) -> bool {
        let is_moved = self.apply(DeliveryTransition::Postpone {
            attempts_made,
            held,
            due: NEXT,
        });
        assert!(
            !is_moved || held == CURRENT,
            "a late worker moved what others have taken up: {self:?}"
        );
        is_moved
    }

    /// As a person asks for it.
    fn begin_round(&mut self, change: DeliveryTransition) {
        self.recorded = 0;
        self.told = false;
        assert!(self.apply(change));
        self.send(self.delivery.progress.attempts_made);
    }
}

fn moves(world: &World) -> Vec<(By, World)> {
    let mut next = Vec::new();
    for (at, made) in world.messages.iter().enumerate() {
        next.push((
            By::Fault,
            world.with(|w| {
                let _ = w.messages.remove(at);
            }),
        ));
        let Some(idle) = world.workers.iter().position(Option::is_none) else {
            continue;
        };
        // Taken for good, or still to come again.
        for again in [false, true] {
            let taken = world.with(|w| {
                if !again {
                    w.messages.remove(at);
                }
                load(w, idle, *made);
            });
            next.push((By::System, taken));
        }
    }
    for worker in 0..WORKERS {
        if let Some(work) = world.workers[worker] {
            next.extend(work_on(world, worker, work));
        }
    }
    // What a sweep saw may have been moved since, or be done.
    for seen in [CURRENT, MOVED] {
        let swept = world.with(|w| {
            if w.apply(DeliveryTransition::Claim { seen, due: NEXT }) {
                w.send(w.delivery.progress.attempts_made);
            }
        });
        next.push((By::System, swept));
    }
    next.extend(people(world));
    next
}

fn work_on(world: &World, worker: usize, work: Work) -> Vec<(By, World)> {
    let mut next = Vec::new();
    match work {
        Work::Attempt { before, held } => {
            for (by, outcome) in [
                (By::GoodAnswer, answered(200)),
                (By::System, answered(500)),
                (By::System, AttemptOutcome::NoResponse),
                (By::GoodAnswer, answered(410)),
            ] {
                let done = world.with(|w| attempt(w, worker, before, outcome));
                next.push((by, done));
            }
            // It is slow, or the endpoint takes none now.
            for goes_on in [true, false] {
                let postponed = world.with(|w| {
                    let is_moved = w.postpone(before.attempts_made, held);
                    let held = if is_moved { CURRENT } else { held };
                    w.workers[worker] = goes_on.then_some(Work::Attempt { before, held });
                });
                next.push((By::System, postponed));
            }
        }
        Work::Notice(failed) => next.push((
            By::System,
            world.with(|w| {
                publish_notice(w, worker, failed);
                w.apply(DeliveryTransition::ClearNotice {
                    attempts_made: failed.attempts_made,
                });
            }),
        )),
    }
    if world.crashes > 0 {
        let crashed = world.with(|w| {
            w.crashes -= 1;
            w.workers[worker] = None;
        });
        next.push((By::Fault, crashed));
        if let Work::Notice(failed) = work {
            let crashed_late = world.with(|w| {
                w.crashes -= 1;
                publish_notice(w, worker, failed);
            });
            next.push((By::Fault, crashed_late));
        }
    }
    next
}

/// Publishes that the round failed which came to `failed`: be it that another has
/// begun since.
fn publish_notice(w: &mut World, worker: usize, failed: Progress) {
    w.workers[worker] = None;
    w.told |= w.delivery.progress == failed;
}

fn answered(status: u16) -> AttemptOutcome {
    AttemptOutcome::Response {
        status,
        retry_after: None,
    }
}

/// As `jobs::deliver` begins.
fn load(w: &mut World, worker: usize, made: u32) {
    let DeliverySnapshot {
        state, progress, ..
    } = w.delivery;
    if w.delivery.owes_notice() {
        w.workers[worker] = Some(Work::Notice(progress));
        return;
    }
    if state != DeliveryState::Pending || progress.attempts_made != made {
        return;
    }
    match w.endpoint {
        Endpoint::Enabled => {
            w.workers[worker] = Some(Work::Attempt {
                before: progress,
                held: CURRENT,
            });
        }
        Endpoint::Deleted => {
            let state = DeliveryState::Canceled;
            w.apply(DeliveryTransition::End {
                attempts_made: made,
                state,
            });
        }
        _ => {
            assert!(w.postpone(made, CURRENT));
        }
    }
}

/// As `jobs::deliver` ends.
fn attempt(w: &mut World, worker: usize, before: Progress, outcome: AttemptOutcome) {
    w.workers[worker] = None;
    let schedule = Schedule::new(vec![Duration::ZERO; ATTEMPTS as usize], 0.0).unwrap();
    let verdict = judge(before, outcome, &schedule, 0.5);
    let state = verdict.state();
    let is_open = matches!(state, DeliveryState::Pending | DeliveryState::Failed);
    let due = is_open.then_some(NEXT);
    if w.apply(DeliveryTransition::Record { before, state, due }) {
        w.recorded += 1;
        match state {
            DeliveryState::Pending => w.send(before.attempts_made + 1),
            DeliveryState::Failed => {
                w.workers[worker] = Some(Work::Notice(w.delivery.progress));
            }
            _ => {}
        }
    }
    if verdict == Verdict::Gone && w.endpoint == Endpoint::Enabled {
        w.endpoint = Endpoint::Gone;
    }
}

fn people(world: &World) -> Vec<(By, World)> {
    let mut next = Vec::new();
    if world.retries > 0 {
        next.push((
            By::Person,
            world.with(|w| {
                w.retries -= 1;
                w.begin_round(DeliveryTransition::Retry { due: NEXT });
            }),
        ));
    }
    if world.replays > 0 && world.delivery.state != DeliveryState::Pending {
        next.push((
            By::Person,
            world.with(|w| {
                w.replays -= 1;
                let replay = DeliveryTransition::Replay { at: 1, due: NEXT };
                w.begin_round(replay);
                assert!(!w.apply(replay), "once");
            }),
        ));
    }
    if world.switches > 0 && world.endpoint != Endpoint::Deleted {
        for endpoint in [Endpoint::Enabled, Endpoint::Disabled, Endpoint::Deleted] {
            let switched = world.with(|w| {
                w.switches -= 1;
                w.endpoint = endpoint;
            });
            if world.endpoint != endpoint {
                next.push((By::Person, switched));
            }
        }
    }
    next
}

fn is_final(state: DeliveryState) -> bool {
    state != DeliveryState::Pending
}

fn check(world: &World) {
    let DeliverySnapshot {
        state,
        progress,
        due,
        ..
    } = world.delivery;
    let is_left = match state {
        DeliveryState::Pending => true,
        // Published, but not yet noted to be.
        DeliveryState::Failed => !world.told || due.is_some(),
        DeliveryState::Delivered | DeliveryState::Canceled => false,
    };
    assert_eq!(
        due.is_some(),
        is_left,
        "work is left if and only if it is due: {world:?}"
    );
    let in_round = progress.attempts_made - progress.round_start;
    assert!(in_round <= ATTEMPTS, "attempts are bounded: {world:?}");
    assert_eq!(
        in_round, world.recorded,
        "an attempt is counted once: {world:?}"
    );
    if state == DeliveryState::Pending {
        assert!(in_round < ATTEMPTS, "an attempt is left: {world:?}");
    }
}

fn check_move(by: By, from: &World, to: &World) {
    let (old, new) = (from.delivery, to.delivery);
    if is_final(old.state) {
        let begins_again = new.state == DeliveryState::Pending;
        let is_same = DeliverySnapshot {
            due: old.due,
            ..new
        } == old;
        assert!(
            is_same || (begins_again && by == By::Person),
            "only a person begins it again: {from:?} -> {to:?}"
        );
        assert!(
            begins_again || old.due.is_some() || new.due.is_none(),
            "what is done is not due again: {from:?} -> {to:?}"
        );
    }
    assert!(new.progress.attempts_made >= old.progress.attempts_made);
    assert!(new.progress.attempts_made <= old.progress.attempts_made + 1);
}

struct Explored {
    worlds: Vec<World>,
    /// Who moves to which world.
    edges: Vec<Vec<(By, usize)>>,
}

fn explore() -> Explored {
    let mut numbers = HashMap::from([(start(), 0)]);
    let mut worlds = vec![start()];
    let mut edges: Vec<Vec<(By, usize)>> = Vec::new();
    let mut queue = VecDeque::from([0]);
    while let Some(at) = queue.pop_front() {
        let world = worlds[at].clone();
        check(&world);
        let mut out = Vec::new();
        for (by, next) in moves(&world) {
            check_move(by, &world, &next);
            let number = *numbers.entry(next.clone()).or_insert_with(|| {
                worlds.push(next);
                queue.push_back(worlds.len() - 1);
                worlds.len() - 1
            });
            out.push((by, number));
        }
        edges.push(out);
    }
    Explored { worlds, edges }
}

/// The worlds from which moves that `may` be made lead to one of `goals`.
fn reaching(
    explored: &Explored,
    goals: impl Fn(&World) -> bool,
    may: impl Fn(By) -> bool,
) -> HashSet<usize> {
    let mut back = vec![Vec::new(); explored.worlds.len()];
    for (from, edges) in explored.edges.iter().enumerate() {
        for (by, to) in edges {
            if may(*by) {
                back[*to].push(from);
            }
        }
    }
    let goals = (0..explored.worlds.len()).filter(|at| goals(&explored.worlds[*at]));
    let mut queue: VecDeque<_> = goals.collect();
    let mut reached: HashSet<_> = queue.iter().copied().collect();
    while let Some(at) = queue.pop_front() {
        for from in &back[at] {
            if reached.insert(*from) {
                queue.push_back(*from);
            }
        }
    }
    reached
}

#[test]
fn every_interleaving_keeps_the_promises() {
    let explored = explore();
    let count = explored.worlds.len();
    assert!(count > 10_000, "only {count} worlds");
    // cargo test -- --nocapture shows how much was looked at.
    std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("{count} worlds explored\n"),
    )
    .unwrap();

    // Whatever went wrong, the system by itself goes on to an end: and be it
    // by failing, if the endpoint never answers well, which is then told.
    let ended = |w: &World| is_final(w.delivery.state);
    let done = |w: &World| ended(w) && w.delivery.due.is_none();
    let by_itself = reaching(&explored, done, |by| by == By::System);
    for (at, world) in explored.worlds.iter().enumerate() {
        let waits = matches!(world.endpoint, Endpoint::Disabled | Endpoint::Gone);
        assert!(
            (waits && !ended(world)) || by_itself.contains(&at),
            "stuck without a good answer: {world:?}"
        );
    }
    // And to being delivered, if it is answered well and still enabled.
    let delivered = |w: &World| w.delivery.state == DeliveryState::Delivered;
    let answered = reaching(&explored, delivered, |by| {
        matches!(by, By::System | By::GoodAnswer)
    });
    for (at, world) in explored.worlds.iter().enumerate() {
        let open = world.endpoint == Endpoint::Enabled && !ended(world);
        assert!(!open || answered.contains(&at), "lost: {world:?}");
    }
}

#[test]
fn a_late_worker_moves_nothing_that_others_have_taken_up() {
    let hold = DeliveryTransition::Postpone {
        attempts_made: 0,
        held: 5,
        due: 900,
    };
    let seen = DeliverySnapshot::new(5);
    assert_eq!(seen.apply(hold).unwrap().due, Some(900));
    let claim = DeliveryTransition::Claim { seen: 5, due: 60 };
    for taken in [claim, DeliveryTransition::Retry { due: 7 }] {
        assert_eq!(seen.apply(taken).unwrap().apply(hold), None);
    }
}

#[test]
fn a_model_without_its_guard_is_caught() {
    // The same exploration with a write that ignores the attempt it is about.
    let unguarded = |delivery: DeliverySnapshot| DeliverySnapshot {
        progress: Progress {
            attempts_made: delivery.progress.attempts_made + 1,
            ..delivery.progress
        },
        ..delivery
    };
    let mut world = start();
    world.delivery = unguarded(world.delivery);
    let caught = std::panic::catch_unwind(|| check(&world));
    assert!(caught.is_err());
}
