//! The store's conditional writes against the state machine they stand for:
//! random sequences, run side by side.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use millrace::model::delivery::{Attempt, DeliveryState, Progress};
use millrace::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use millrace::model::transition::{DeliverySnapshot, DeliveryTransition};
use millrace::store::deliveries::{
    self, AttemptRecord, HeldLease, NewDelivery, RecordOutcome, ReplayFrom, ReplayOutcome,
    StoredDelivery,
};
use millrace::store::due;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::harness::Harness;

const SEQUENCES: u32 = 60;
/// Kinds of changes.
const KINDS: u8 = 7;

static NEXT_ATTEMPT: AtomicI64 = AtomicI64::new(1);

/// A change whose guard holds about as often as not: what it saw is the truth or
/// a little off it.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    off: i8,
    final_state: DeliveryState,
    due: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = prop_oneof![
        1 => Just(DeliveryState::Pending),
        1 => Just(DeliveryState::Delivered),
        2 => Just(DeliveryState::Failed),
        1 => Just(DeliveryState::Canceled)
    ];
    let step = (0..KINDS + 2, -1..2_i8, state, 1_000_000..2_000_000_i64);
    let step = step.prop_map(|(kind, off, final_state, due)| Step {
        // The last is refused most of the time.
        kind: kind.min(KINDS - 1),
        off,
        final_state,
        due,
    });
    prop::collection::vec(step, 1..20)
}

fn change(step: &Step, snapshot: &DeliverySnapshot) -> DeliveryTransition {
    let off = |made: u32| made.saturating_add_signed(i32::from(step.off) % 2);
    let made = off(snapshot.progress.attempts_made);
    match step.kind {
        0 => DeliveryTransition::Record {
            before: Progress {
                attempts_made: made,
                round_start: match step.off {
                    0 => snapshot.progress.round_start,
                    _ => off(snapshot.progress.round_start),
                },
            },
            state: step.final_state,
            due: match step.final_state {
                DeliveryState::Pending => Some(step.due),
                // But for what no notice is published of.
                DeliveryState::Failed => Some(step.due).filter(|due| due % 4 != 0),
                _ => None,
            },
        },
        1 => DeliveryTransition::Postpone {
            attempts_made: made,
            // One that is off is what a late worker saw.
            held: snapshot.due.unwrap_or(step.due) + i64::from(step.due % 3 == 0),
            due: step.due,
        },
        2 => DeliveryTransition::End {
            attempts_made: made,
            state: match step.final_state {
                DeliveryState::Pending => DeliveryState::Canceled,
                state => state,
            },
        },
        3 => DeliveryTransition::Claim {
            seen: snapshot.due.unwrap_or(step.due) + i64::from(step.off),
            due: step.due,
        },
        4 => DeliveryTransition::Retry { due: step.due },
        5 => DeliveryTransition::Replay {
            at: snapshot.replayed.unwrap_or(5) + i64::from(step.off),
            due: step.due,
        },
        _ => DeliveryTransition::ClearNotice {
            attempts_made: made,
        },
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

/// The store's write for `change`; whether it took place.
async fn write(harness: &Harness, id: &DeliveryId, change: DeliveryTransition) -> bool {
    let dynamo = &harness.app.dynamo;
    match change {
        DeliveryTransition::Record { before, state, due } => {
            let attempt = Attempt {
                // No two attempts are the same.
                at: at(NEXT_ATTEMPT.fetch_add(1, Ordering::Relaxed)).into(),
                duration_ms: 1,
                status: Some(200),
                error: None,
                response: None,
                sent: None,
            };
            let recorded = AttemptRecord {
                id,
                before,
                kept: &[],
                attempt: &attempt,
                state,
                due: due.map(at),
            };
            let outcome = deliveries::record(dynamo, &recorded).await.unwrap();
            outcome == RecordOutcome::Recorded
        }
        DeliveryTransition::Postpone {
            attempts_made,
            held,
            due,
        } => {
            let held = HeldLease {
                id,
                attempts_made,
                due: at(held),
            };
            deliveries::defer(dynamo, held, at(due)).await.unwrap()
        }
        DeliveryTransition::End {
            attempts_made,
            state,
        } => deliveries::end(dynamo, id, attempts_made, state)
            .await
            .unwrap(),
        DeliveryTransition::ClearNotice { attempts_made } => {
            deliveries::clear_notice(dynamo, id, attempts_made)
                .await
                .unwrap()
        }
        DeliveryTransition::Claim { seen, due } => claim(harness, id, seen, due).await,
        DeliveryTransition::Retry { due } => deliveries::retry(dynamo, id, at(due))
            .await
            .unwrap()
            .is_some(),
        DeliveryTransition::Replay { at: when, due } => {
            let from = ReplayFrom::Ended;
            let replayed = deliveries::replay(dynamo, id, from, at(when), at(due)).await;
            matches!(replayed.unwrap(), ReplayOutcome::NewRound(_))
        }
    }
}

/// Claims what a sweep saw due at `seen`, if any sweep can have seen it.
async fn claim(harness: &Harness, id: &DeliveryId, seen: i64, until: i64) -> bool {
    let dynamo = &harness.app.dynamo;
    let shard = millrace::store::keys::due_of_delivery(id);
    let shard = shard.rsplit('#').next().unwrap().parse().unwrap();
    let found = due::query(dynamo, shard, at(3_000_000), 1000)
        .await
        .unwrap();
    let is_seen = |found: &&due::DueItem| {
        found.at() == Some(at(seen)) && found.subject() == id.event().as_str()
    };
    let Some(found) = found.iter().find(is_seen) else {
        return false;
    };
    let job = due::claim(dynamo, found, at(until)).await;
    job.unwrap().is_some()
}

type Seen = (DeliveryState, Progress, Option<Timestamp>, bool);

fn of_stored(stored: &StoredDelivery) -> Seen {
    let StoredDelivery {
        state,
        progress,
        due,
        owes_notice,
        ..
    } = *stored;
    (state, progress, due, owes_notice)
}

/// Of what is due when a notice is, a claim tells.
fn of_snapshot(snapshot: &DeliverySnapshot) -> Seen {
    let due = snapshot.due.map(at);
    let due = due.filter(|_| snapshot.state == DeliveryState::Pending);
    (
        snapshot.state,
        snapshot.progress,
        due,
        snapshot.owes_notice(),
    )
}

#[tokio::test]
async fn the_store_writes_what_the_state_machine_says() {
    let harness = Harness::new().await;
    let project: ProjectId = harness.project.parse().unwrap();
    let seed = std::env::var("TEST_SEED").map_or(7, |seed| seed.parse().unwrap());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut taken = std::collections::HashMap::<u8, [u32; 2]>::new();
    for sequence in 0..SEQUENCES {
        let event = EventId::derive(&project, "/transitions", &sequence.to_string());
        let endpoint = EndpointId::new(0, [u8::try_from(sequence).unwrap(); 10]);
        let new = NewDelivery {
            event: &event,
            endpoint: &endpoint,
            project: &project,
            event_type: "test",
            tenant: None,
            created: at(1),
            expires: at(9_000_000_000_000),
            due: at(1_500_000),
        };
        assert!(
            deliveries::put_new(&harness.app.dynamo, &new)
                .await
                .unwrap()
        );
        let id = DeliveryId::new(&event, &endpoint);
        let mut snapshot = DeliverySnapshot::new(1_500_000);
        for step in steps().new_tree(&mut runner).unwrap().current() {
            let change = change(&step, &snapshot);
            let after = snapshot.apply(change);
            let written = write(&harness, &id, change).await;
            assert_eq!(written, after.is_some(), "{change:?} on {snapshot:?}");
            taken.entry(step.kind).or_default()[usize::from(written)] += 1;
            snapshot = after.unwrap_or(snapshot);
            let stored = deliveries::get(&harness.app.dynamo, &id).await.unwrap();
            let stored = stored.unwrap();
            assert_eq!(
                of_stored(&stored),
                of_snapshot(&snapshot),
                "after {change:?}"
            );
        }
        // Nothing of it is left for the next sequence's sweeps.
        let (dynamo, made) = (&harness.app.dynamo, snapshot.progress.attempts_made);
        deliveries::end(dynamo, &id, made, DeliveryState::Canceled)
            .await
            .unwrap();
        deliveries::clear_notice(dynamo, &id, made).await.unwrap();
    }
    for (kind, [refused, written]) in taken {
        assert!(written > 0, "change {kind} never took place");
        assert!(refused > 0 || kind == 4, "change {kind} was never refused");
    }
}
