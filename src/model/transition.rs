//! The delivery state machine: what each conditional write of
//! `store::deliveries` and `store::due` does to a delivery, and under which guard.
//!
//! The store says the same in DynamoDB's expressions; a test runs both side by
//! side on random sequences. The tests here explore every interleaving of a small
//! model: two workers, sweeps, lost and doubled messages, crashes, and an endpoint
//! that changes meanwhile. A notice is the operational event which says that a
//! delivery failed for good.

use super::delivery::{DeliveryState, Progress};

/// All of a delivery that decides what may become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliverySnapshot {
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made, and where its round began.
    pub progress: Progress,
    /// When a sweeper claims it, in milliseconds since 1970: while pending, and
    /// while failed until its notice is published, if one is to be.
    pub due: Option<i64>,
    /// The latest replay that began a round, by its time.
    pub replayed: Option<i64>,
}

/// A conditional write. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`due` is the new due time, `at` the replay's")]
pub enum DeliveryTransition {
    /// A worker records attempt number `before.made + 1`, after which the delivery
    /// is in `state`, and due at `due` if something is left to do.
    Record {
        /// The progress that the worker saw.
        before: Progress,
        /// The state that the attempt leads to.
        state: DeliveryState,
        /// Given if `state` is pending, or failed and its notice is to be published;
        /// else none.
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
    /// A worker has published the notice: nothing is left to do.
    ClearNotice {
        /// Attempts made, as its worker saw them: which round failed.
        attempts_made: u32,
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

    /// Whether it failed for good, and its notice is yet to be published.
    pub fn owes_notice(self) -> bool {
        self.state == DeliveryState::Failed && self.due.is_some()
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
            DeliveryTransition::ClearNotice { attempts_made } => (self.owes_notice()
                && self.progress.attempts_made == attempts_made)
                .then_some(Self { due: None, ..self }),
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
mod tests;
