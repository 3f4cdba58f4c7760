//! Lanes, by order and counts.

mod hung;

use super::*;
use crate::model::id::{DeliveryId, EventId, ProjectId, RecoveryId};

const QUICK_MAX: usize = 16;
const IN_FLIGHT_MAX: usize = 10_000;

fn lanes(endpoint_concurrency: usize, jobs_max: usize) -> Arc<Lanes<()>> {
    Lanes::new(LaneOptions {
        jobs_max,
        bytes_max: 1000,
        endpoint_concurrency,
        quick_max: QUICK_MAX,
        in_flight_max: IN_FLIGHT_MAX,
    })
}

fn job(event: u32, endpoint: u32) -> Job {
    let event = EventId::derive(&ProjectId::new(0, [0; 10]), "", &event.to_string());
    let mut random = [0; 10];
    random[..4].copy_from_slice(&endpoint.to_be_bytes());
    let delivery = DeliveryId::new(&event, &EndpointId::new(0, random));
    Job::Deliver {
        delivery,
        attempts_made: 0,
        payload: None,
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn names(lanes: &Arc<Lanes<()>>) -> Vec<String> {
    std::iter::from_fn(|| Some(lanes.try_next(now())?.subject().to_owned())).collect()
}

#[test]
fn endpoints_take_turns() {
    let lanes = lanes(1, 100);
    with_quick(&lanes, 1..3);
    push(&lanes, 1, 0..3);
    push(&lanes, 2, 0..1);
    let expected = [job(0, 1), job(0, 2), job(1, 1), job(2, 1)];
    assert_eq!(names(&lanes), expected.map(|job| job.subject().to_owned()));
    assert!(lanes.lock().lanes.is_empty(), "an empty lane is forgotten");
}

#[test]
fn an_endpoint_runs_no_more_than_its_share() {
    let lanes = lanes(2, 100);
    with_quick(&lanes, 1..2);
    push(&lanes, 1, 0..3);
    let (first, second) = (lanes.try_next(now()), lanes.try_next(now()));
    assert!(first.is_some() && second.is_some() && lanes.try_next(now()).is_none());
    drop(first);
    assert!(lanes.try_next(now()).is_some());
}

#[test]
fn a_job_is_in_it_once_until_it_is_done() {
    let lanes = lanes(1, 100);
    assert!(lanes.push(job(0, 1), ()).is_ok());
    assert!(lanes.push(job(0, 1), ()).is_err());
    let taken = lanes.try_next(now());
    assert!(lanes.push(job(0, 1), ()).is_err(), "it is running");
    drop(taken);
    assert!(lanes.push(job(0, 1), ()).is_ok());
}

#[test]
fn the_next_attempt_may_wait_while_one_runs() {
    let lanes = lanes(1, 100);
    assert!(lanes.push(job(0, 1), ()).is_ok());
    let taken = lanes.try_next(now());
    let mut next = job(0, 1);
    if let Job::Deliver { attempts_made, .. } = &mut next {
        *attempts_made += 1;
    }
    assert!(lanes.push(next.clone(), ()).is_ok());
    assert!(lanes.push(next, ()).is_err(), "it waits");
    drop(taken);
    assert!(lanes.try_next(now()).is_some());
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
    let taken: Vec<_> = std::iter::from_fn(|| lanes.try_next(now())).collect();
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
    assert_eq!(taken.subject(), job(0, 1).subject());
}

#[test]
fn what_has_not_begun_can_be_taken_out() {
    let lanes = lanes(1, 100);
    for event in 0..3 {
        let _ = lanes.push(job(event, 1), ());
    }
    let taken = lanes.try_next(now());
    assert_eq!(lanes.clear().len(), 2);
    assert!(lanes.is_empty() && lanes.try_next(now()).is_none());
    assert!(lanes.push(job(1, 1), ()).is_ok(), "its name is free");
    drop(taken);
    assert!(lanes.try_next(now()).is_some());
}

#[tokio::test]
async fn room_is_waited_for() {
    let lanes = lanes(8, 8);
    for endpoint in 0..8 {
        assert!(lanes.push(job(0, endpoint), ()).is_ok());
    }
    let (room, _) = tokio::join!(lanes.room(2), async {
        drop(lanes.try_next(now()));
        tokio::task::yield_now().await;
        drop(lanes.try_next(now()));
    });
    assert_eq!(room, 2);
}

/// Has everything that runs have run for that much longer.
fn pass(lanes: &Arc<Lanes<()>>, time: Duration) {
    lanes.lock().age(time);
}

/// Ends a job as if it had taken so long.
fn end_after(lanes: &Arc<Lanes<()>>, taken: RunningJob<()>, took: Duration) {
    pass(lanes, took);
    drop(taken);
}

fn take_all(lanes: &Arc<Lanes<()>>) -> Vec<RunningJob<()>> {
    std::iter::from_fn(|| lanes.try_next(now())).collect()
}

/// Lanes of so many endpoints that are known to be quick.
fn with_quick(lanes: &Arc<Lanes<()>>, endpoints: std::ops::Range<u32>) {
    for endpoint in endpoints {
        push(lanes, endpoint, 1_000_000..1_000_001);
        drop(lanes.try_next(now()).unwrap());
    }
}

const SLOW: Duration = Duration::from_secs(5);

fn push(lanes: &Arc<Lanes<()>>, endpoint: u32, jobs: std::ops::Range<u32>) {
    for event in jobs {
        assert!(lanes.push(job(event, endpoint), ()).is_ok());
    }
}

/// Lanes of so many endpoints that are known to be slow.
fn with_slow(lanes: &Arc<Lanes<()>>, endpoints: std::ops::Range<u32>) {
    for endpoint in endpoints {
        push(lanes, endpoint, 0..1);
        end_after(lanes, lanes.try_next(now()).unwrap(), SLOW);
    }
}

#[test]
fn a_slow_endpoint_alone_has_its_whole_share() {
    let lanes = lanes(8, 10_000);
    with_slow(&lanes, 1..2);
    push(&lanes, 1, 0..20);
    let running: Vec<_> = std::iter::from_fn(|| lanes.try_next(now())).collect();
    assert_eq!(running.len(), 8);
}

#[test]
fn slow_ones_have_their_turn_while_quick_ones_keep_coming() {
    let lanes = lanes(1, 10_000);
    with_slow(&lanes, 1..2);
    push(&lanes, 2, 0..1);
    drop(lanes.try_next(now()));
    push(&lanes, 1, 0..1);
    push(&lanes, 2, 0..10);
    let first: Vec<_> = (0..2).map(|_| lanes.try_next(now()).unwrap()).collect();
    assert!(
        first
            .iter()
            .any(|taken| taken.subject() == job(0, 1).subject())
    );
}

#[test]
fn an_unknown_endpoint_starts_with_one_and_a_quick_one_has_all() {
    let lanes = lanes(8, 10_000);
    push(&lanes, 1, 0..20);
    let running = take_all(&lanes);
    assert_eq!(running.len(), 1);
    drop(running);
    assert_eq!(take_all(&lanes).len(), 8);
}

#[test]
fn one_that_proves_quick_leaves_the_line_of_the_slow_ones() {
    let lanes = lanes(1, 10_000);
    with_slow(&lanes, 1..2);
    push(&lanes, 1, 0..2);
    // In line with the slow ones, until what ran before it ends.
    let slow = lanes.try_next(now()).unwrap();
    drop(slow);
    assert!(lanes.lock().has_turn());
    with_quick(&lanes, 2..3);
    push(&lanes, 2, 0..1);
    assert_eq!(take_all(&lanes).len(), 2, "both among the quick ones");
    assert!(lanes.try_next(now()).is_none());
}

#[test]
fn full_lanes_leave_room_for_another_ones_first() {
    let lanes = lanes(1, 8000);
    let full = (1..60).map(|endpoint| {
        let mut jobs = 0..8000;
        jobs.find(|event| lanes.push(job(*event, endpoint), ()).is_err())
    });
    let full: Vec<_> = full.flatten().collect();
    assert_eq!(full[0], 1000, "no more than its part: {full:?}");
    assert!(full.iter().all(|jobs| *jobs > 0), "{full:?}");
    assert!(lanes.push(job(0, 200), ()).is_ok());
}

#[test]
fn the_bytes_of_one_lane_leave_room_for_another() {
    let lanes = lanes(1, 1000);
    let carrying = |event: u32, endpoint: u32| {
        let mut job = job(event, endpoint);
        if let Job::Deliver { payload, .. } = &mut job {
            *payload = Some(crate::model::job::InlinePayload {
                project: ProjectId::new(0, [0; 10]),
                event_type: "order.paid".into(),
                tenant: None,
                body: vec![0; 100].into(),
                received: now(),
                progress: Default::default(),
                due: now(),
                is_untimed: false,
            });
        }
        job
    };
    let taken = (0..10).filter(|event| lanes.push(carrying(*event, 1), ()).is_ok());
    assert!((1..5).contains(&taken.count()), "of 1000 bytes");
    assert!(lanes.push(carrying(0, 2), ()).is_ok());
    assert!(
        lanes.push(job(99, 1), ()).is_ok(),
        "what carries nothing fits"
    );
}

#[test]
fn what_is_put_back_comes_first_when_its_wait_is_over() {
    let lanes = lanes(2, 100);
    push(&lanes, 1, 0..3);
    let start = now();
    let later = start + Duration::from_secs(60);
    let mut taken = lanes.try_next(start).unwrap();
    let (back, ()) = taken.take();
    taken.requeue(back, (), WaitReason::Until(later));
    assert_eq!(lanes.len(), 3);
    assert!(lanes.try_next(start).is_none(), "the lane pauses");
    assert!(lanes.push(job(0, 1), ()).is_err(), "it is there still");
    assert!(lanes.push(job(0, 2), ()).is_ok());
    assert!(lanes.try_next(start).is_some(), "others do not");
    let next = lanes.try_next(later).unwrap();
    assert_eq!(next.subject(), job(0, 1).subject());
    assert!(lanes.lock().paused.is_empty());
}

#[test]
fn an_endpoints_own_limit_holds_for_its_lane() {
    let lanes = lanes(8, 100);
    with_quick(&lanes, 1..2);
    push(&lanes, 1, 0..4);
    let (first, mut second) = (
        lanes.try_next(now()).unwrap(),
        lanes.try_next(now()).unwrap(),
    );
    let (back, ()) = second.take();
    second.requeue(back, (), WaitReason::Limit(1));
    assert!(lanes.try_next(now()).is_none());
    drop(first);
    let next = lanes.try_next(now()).unwrap();
    assert_eq!(next.subject(), job(1, 1).subject());
    assert!(lanes.try_next(now()).is_none());
}

#[test]
fn clearing_ends_pauses_too() {
    let lanes = lanes(2, 100);
    push(&lanes, 1, 0..2);
    let mut taken = lanes.try_next(now()).unwrap();
    let (back, ()) = taken.take();
    taken.requeue(back, (), WaitReason::Until(now() + Duration::from_secs(60)));
    assert_eq!(lanes.clear().len(), 2);
    push(&lanes, 1, 0..1);
    assert!(lanes.try_next(now()).is_some());
}

#[tokio::test]
async fn a_worker_wakes_when_a_pause_ends() {
    let lanes = lanes(2, 100);
    push(&lanes, 1, 0..1);
    let pause = |lanes: &Arc<Lanes<()>>, ms| {
        let mut taken = lanes.try_next(now() + Duration::from_secs(3600)).unwrap();
        let (back, ()) = taken.take();
        taken.requeue(
            back,
            (),
            WaitReason::Until(now() + Duration::from_millis(ms)),
        );
    };
    pause(&lanes, 20);
    assert_eq!(lanes.next().await.subject(), job(0, 1).subject());

    // A sooner end of a pause is noticed by whoever waits for a later one.
    push(&lanes, 1, 0..1);
    pause(&lanes, 3_600_000);
    push(&lanes, 2, 0..1);
    let mut other = lanes.try_next(now()).unwrap();
    let (back, ()) = other.take();
    let (woken, _) = tokio::join!(lanes.next(), async {
        tokio::task::yield_now().await;
        other.requeue(
            back,
            (),
            WaitReason::Until(now() + Duration::from_millis(20)),
        );
    });
    assert_eq!(woken.subject(), job(0, 2).subject());
}
