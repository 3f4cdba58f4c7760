//! The delivery state machine: what each conditional write of
//! `store::deliveries` and `store::due` does to a delivery, and under which guard.
//!
//! The store says the same in DynamoDB's expressions; a test runs both side by
//! side on random sequences. The tests here explore every interleaving of a small
//! model: two workers, sweeps, lost and doubled messages, crashes, and an endpoint
//! that changes meanwhile.

use super::delivery::{DeliveryState, Progress};

/// All of a delivery that decides what may become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliverySnapshot {
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made, and where its round began.
    pub progress: Progress,
    /// When a sweeper claims it, in milliseconds since 1970; only while
    /// pending.
    pub due: Option<i64>,
    /// The latest replay that began a round, by its time.
    pub replayed: Option<i64>,
}

/// A conditional write. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`due` is the new due time, `at` the replay's")]
pub enum DeliveryTransition {
    /// A worker records attempt number `before.made + 1`, after which the delivery
    /// is in `state`, due again at `due` if that is pending.
    Record {
        /// The progress that the worker saw.
        before: Progress,
        /// The state that the attempt leads to.
        state: DeliveryState,
        /// Given if and only if `state` is pending.
        due: Option<i64>,
    },
    /// The due time moves without an attempt: the endpoint is disabled or takes none now,
    /// or a slow attempt is under way.
    Postpone {
        /// Attempts made, as its worker saw them.
        attempts_made: u32,
        /// The due time that its worker saw: later it is not the worker's any more.
        held: i64,
        due: i64,
    },
    /// It ends without an attempt.
    End {
        /// Attempts made, as its worker saw them.
        attempts_made: u32,
        /// Final.
        state: DeliveryState,
    },
    /// A sweeper claims it, and leaves it to a worker until `due`.
    Claim {
        /// The due time that the sweeper saw.
        seen: i64,
        due: i64,
    },
    /// A person asks for a new round.
    Retry { due: i64 },
    /// A replay asks for a new round, once for each time `at`.
    Replay { at: i64, due: i64 },
}

impl DeliverySnapshot {
    /// A delivery as it is first written, due at `due`.
    pub fn new(due: i64) -> Self {
        Self {
            state: DeliveryState::Pending,
            progress: Progress::default(),
            due: Some(due),
            replayed: None,
        }
    }

    /// The delivery after `change`; none if its guard refuses it, and nothing
    /// changes.
    pub fn apply(self, change: DeliveryTransition) -> Option<Self> {
        let pending_at =
            |made| self.state == DeliveryState::Pending && self.progress.attempts_made == made;
        match change {
            DeliveryTransition::Record { before, state, due } => {
                let guard = pending_at(before.attempts_made)
                    && self.progress.round_start == before.round_start;
                let progress = Progress {
                    attempts_made: before.attempts_made + 1,
                    ..self.progress
                };
                guard.then_some(Self {
                    state,
                    progress,
                    due,
                    ..self
                })
            }
            DeliveryTransition::Postpone {
                attempts_made,
                held,
                due,
            } => (pending_at(attempts_made) && self.due == Some(held)).then_some(Self {
                due: Some(due),
                ..self
            }),
            DeliveryTransition::End {
                attempts_made,
                state,
            } => pending_at(attempts_made).then_some(Self {
                state,
                due: None,
                ..self
            }),
            DeliveryTransition::Claim { seen, due } => (self.due == Some(seen)).then_some(Self {
                due: Some(due),
                ..self
            }),
            DeliveryTransition::Retry { due } => Some(self.new_round(due)),
            DeliveryTransition::Replay { at, due } => {
                let guard = self.state != DeliveryState::Pending
                    && self.replayed.is_none_or(|replayed| replayed < at);
                guard.then_some(Self {
                    replayed: Some(at),
                    ..self.new_round(due)
                })
            }
        }
    }

    fn new_round(self, due: i64) -> Self {
        Self {
            state: DeliveryState::Pending,
            progress: Progress {
                round_start: self.progress.attempts_made,
                ..self.progress
            },
            due: Some(due),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
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

    /// Everything that moves. Times are all 0: a sweep may come at any moment,
    /// which allows more than can happen.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct World {
        delivery: DeliverySnapshot,
        /// The attempt each worker is making, once it has loaded the delivery.
        workers: [Option<Progress>; WORKERS],
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
            delivery: DeliverySnapshot::new(0),
            workers: [None; WORKERS],
            messages: vec![0],
            endpoint: Endpoint::Enabled,
            crashes: 1,
            retries: 1,
            replays: 1,
            switches: 2,
            recorded: 0,
        }
    }

    impl World {
        fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
            let mut next = self.clone();
            change(&mut next);
            next.messages.sort_unstable();
            next
        }

        fn send(&mut self, made: u32) {
            if self.messages.len() < MESSAGES_MAX {
                self.messages.push(made);
            }
        }

        /// Applies `change` if its guard holds; whether it did.
        fn apply(&mut self, change: DeliveryTransition) -> bool {
            let after = self.delivery.apply(change);
            self.delivery = after.unwrap_or(self.delivery);
            after.is_some()
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
            for worker in 0..WORKERS {
                // Taken for good, or still to come again.
                for again in [false, true] {
                    let taken = world.with(|w| {
                        if !again {
                            w.messages.remove(at);
                        }
                        load(w, worker, *made);
                    });
                    if world.workers[worker].is_none() {
                        next.push((By::System, taken));
                    }
                }
            }
        }
        for worker in 0..WORKERS {
            let Some(before) = world.workers[worker] else {
                continue;
            };
            for (by, outcome) in [
                (By::GoodAnswer, answered(200)),
                (By::System, answered(500)),
                (By::System, AttemptOutcome::NoResponse),
                (By::GoodAnswer, answered(410)),
            ] {
                let done = world.with(|w| attempt(w, worker, before, outcome));
                next.push((by, done));
            }
            if world.crashes > 0 {
                next.push((
                    By::Fault,
                    world.with(|w| {
                        w.crashes -= 1;
                        w.workers[worker] = None;
                    }),
                ));
            }
        }
        if world.delivery.due.is_some() {
            next.push((
                By::System,
                world.with(|w| {
                    assert!(w.apply(DeliveryTransition::Claim { seen: 0, due: 0 }));
                    w.send(w.delivery.progress.attempts_made);
                }),
            ));
        }
        next.extend(people(world));
        next
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
        if state != DeliveryState::Pending || progress.attempts_made != made {
            return;
        }
        match w.endpoint {
            Endpoint::Enabled => w.workers[worker] = Some(progress),
            Endpoint::Deleted => {
                let state = DeliveryState::Canceled;
                w.apply(DeliveryTransition::End {
                    attempts_made: made,
                    state,
                });
            }
            _ => {
                w.apply(DeliveryTransition::Postpone {
                    attempts_made: made,
                    held: 0,
                    due: 0,
                });
            }
        }
    }

    /// As `jobs::deliver` ends.
    fn attempt(w: &mut World, worker: usize, before: Progress, outcome: AttemptOutcome) {
        w.workers[worker] = None;
        let schedule = Schedule::new(vec![Duration::ZERO; ATTEMPTS as usize], 0.0).unwrap();
        let verdict = judge(before, outcome, &schedule, 0.5);
        let state = verdict.state();
        let due = (state == DeliveryState::Pending).then_some(0);
        if w.apply(DeliveryTransition::Record { before, state, due }) {
            w.recorded += 1;
            if state == DeliveryState::Pending {
                w.send(before.attempts_made + 1);
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
                    w.recorded = 0;
                    assert!(w.apply(DeliveryTransition::Retry { due: 0 }));
                    w.send(w.delivery.progress.attempts_made);
                }),
            ));
        }
        if world.replays > 0 && world.delivery.state != DeliveryState::Pending {
            next.push((
                By::Person,
                world.with(|w| {
                    w.replays -= 1;
                    w.recorded = 0;
                    assert!(w.apply(DeliveryTransition::Replay { at: 1, due: 0 }));
                    assert!(
                        !w.apply(DeliveryTransition::Replay { at: 1, due: 0 }),
                        "once"
                    );
                    w.send(w.delivery.progress.attempts_made);
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
        assert_eq!(
            due.is_some(),
            state == DeliveryState::Pending,
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
            assert!(
                new == old || (begins_again && by == By::Person),
                "only a person begins it again: {from:?} -> {to:?}"
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
        // by failing, if the endpoint never answers well.
        let ended = |w: &World| is_final(w.delivery.state);
        let by_itself = reaching(&explored, ended, |by| by == By::System);
        for (at, world) in explored.worlds.iter().enumerate() {
            let waits = matches!(world.endpoint, Endpoint::Disabled | Endpoint::Gone);
            assert!(
                waits || by_itself.contains(&at),
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
}
