//! Endpoints that never answer, and what they leave to the others.

use proptest::prelude::*;

use super::*;
use crate::model::job::InlinePayload;

/// Longer than a quick one takes, and shorter than an attempt may.
const A_WHILE: Duration = Duration::from_secs(5);

fn project(number: u8) -> ProjectId {
    ProjectId::new(0, [number; 10])
}

/// A job that carries whose it is.
fn job_of(owner: u8, event: u32, endpoint: u32) -> Job {
    let mut job = job(event, endpoint);
    if let Job::Deliver { payload, .. } = &mut job {
        *payload = Some(InlinePayload {
            project: project(owner),
            event_type: "order.paid".into(),
            tenant: None,
            body: Default::default(),
            received: now(),
            progress: Default::default(),
            due: now(),
            is_untimed: false,
        });
    }
    job
}

/// So many endpoints of a project, each with jobs that never end, that have been tried
/// for a while.
fn hang(lanes: &Arc<Lanes<()>>, owner: u8, endpoints: std::ops::Range<u32>) -> Vec<RunningJob<()>> {
    let mut hung = Vec::new();
    for event in 0..4 {
        for endpoint in endpoints.clone() {
            let _ = lanes.push(job_of(owner, event, endpoint), ());
        }
        hung.extend(take_all(lanes));
        pass(lanes, A_WHILE);
    }
    hung
}

fn assert_taken_at_once(lanes: &Arc<Lanes<()>>, job: Job) {
    let subject = job.subject().to_owned();
    assert!(lanes.push(job, ()).is_ok(), "it finds room");
    let waiting = lanes.len();
    let taken = lanes.try_next(now()).expect("it has a place");
    assert_eq!(taken.subject(), subject, "before {waiting} others");
}

#[test]
fn the_first_job_of_a_new_lane_waits_for_no_hung_one() {
    for hung in [33, 500, 5_000] {
        let lanes = lanes(32, 10_000);
        let running = hang(&lanes, 1, 0..hung);
        assert!(running.len() >= hung as usize, "each was tried");
        assert_taken_at_once(&lanes, job_of(1, 0, 1_000_000));
    }
}

#[test]
fn nor_where_nobody_says_whose_they_are() {
    for hung in [33, 500, 5_000] {
        let lanes = lanes(32, 10_000);
        push_each(&lanes, 0..hung);
        let running = take_all(&lanes);
        assert_eq!(running.len(), hung as usize);
        assert_taken_at_once(&lanes, job(0, 1_000_000));
    }
}

fn push_each(lanes: &Arc<Lanes<()>>, endpoints: std::ops::Range<u32>) {
    for endpoint in endpoints {
        push(lanes, endpoint, 0..1);
    }
}

#[test]
fn nor_for_lanes_that_are_known_to_be_slow() {
    let lanes = lanes(32, 10_000);
    with_slow(&lanes, 0..500);
    let running = hang(&lanes, 1, 0..500);
    assert!(running.len() < IN_FLIGHT_MAX / 8);
    assert_taken_at_once(&lanes, job_of(1, 0, 1_000_000));
    with_quick(&lanes, 2_000_000..2_000_001);
    assert_taken_at_once(&lanes, job_of(1, 0, 2_000_000));
}

#[test]
fn quick_ones_that_hang_leave_their_places_while_they_do() {
    let lanes = lanes(8, 10_000);
    with_quick(&lanes, 0..3);
    for endpoint in 0..2 {
        push(&lanes, endpoint, 0..20);
    }
    let hung = take_all(&lanes);
    assert_eq!(hung.len(), QUICK_MAX, "all places of the quick ones");
    push(&lanes, 2, 0..1);
    assert!(lanes.try_next(now()).is_none(), "they may be quick yet");
    assert_eq!(
        lanes
            .lock()
            .next_change(now(), Instant::now())
            .map(|d| d <= QUICK),
        Some(true)
    );
    pass(&lanes, QUICK);
    let next = lanes.try_next(now()).unwrap();
    assert_eq!(next.subject(), job(0, 2).subject());
    // Their lanes count as slow from now on.
    assert!(lanes.try_next(now()).is_none(), "eight of each run");
}

#[test]
fn a_project_of_hung_endpoints_leaves_places_and_room_to_another() {
    let lanes = lanes(32, 10_000);
    let running = hang(&lanes, 1, 0..20_000);
    assert!(running.len() < IN_FLIGHT_MAX * 3 / 4);
    assert_taken_at_once(&lanes, job_of(2, 0, 1_000_000));
    // And that one's hung ones to a third.
    let more = hang(&lanes, 2, 1_000_000..1_020_000);
    assert!(!more.is_empty());
    assert_taken_at_once(&lanes, job_of(3, 0, 3_000_000));
}

#[test]
fn projects_take_turns_however_many_lanes_each_has() {
    let lanes = lanes(1, 10_000);
    for endpoint in 0..100 {
        assert!(lanes.push(job_of(1, 0, endpoint), ()).is_ok());
    }
    assert!(lanes.push(job_of(2, 0, 1_000), ()).is_ok());
    let first: Vec<_> = (0..2).filter_map(|_| lanes.try_next(now())).collect();
    let of_second = first
        .iter()
        .filter(|taken| taken.subject() == job(0, 1_000).subject());
    assert_eq!(of_second.count(), 1);
}

#[test]
fn slow_ones_wait_in_half_of_the_room() {
    let lanes = lanes(1, 100);
    with_slow(&lanes, 0..100);
    let slow = (0..100).filter(|endpoint| lanes.push(job(0, *endpoint), ()).is_ok());
    assert_eq!(slow.count(), 50);
    assert!(lanes.push(job(0, 1_000), ()).is_ok());
}

#[derive(Debug, Clone)]
enum Step {
    Push {
        owner: u8,
        event: u32,
        endpoint: u32,
    },
    Take,
    End(usize),
    PutBack(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..4u32, 0..12u32).prop_map(|(owner, event, endpoint)| Step::Push {
            owner,
            event,
            endpoint: endpoint + 100 * u32::from(owner),
        }),
        4 => Just(Step::Take),
        2 => any::<usize>().prop_map(Step::End),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, limit)| Step::PutBack(n, limit)),
        1 => (1..1_500u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever runs, hangs, ends or is put back: a new project's first job is taken at
    /// once, and all that was pushed is taken when the others end.
    #[test]
    fn nothing_holds_up_a_new_one_and_nothing_is_lost(steps in prop::collection::vec(step(), 0..200)) {
        let lanes = Lanes::new(LaneOptions {
            jobs_max: 400,
            bytes_max: 1000,
            endpoint_concurrency: 2,
            quick_max: 3,
            in_flight_max: 40,
        });
        let (mut pushed, mut ended) = (0, 0);
        let mut running = Vec::new();
        let mut at = now();
        for step in steps {
            match step {
                Step::Push { owner, event, endpoint } => {
                    pushed += usize::from(lanes.push(job_of(owner, event, endpoint), ()).is_ok());
                }
                Step::Take => running.extend(lanes.try_next(at)),
                Step::End(n) if !running.is_empty() => {
                    drop(running.swap_remove(n % running.len()));
                    ended += 1;
                }
                Step::PutBack(n, limit) if !running.is_empty() => {
                    let mut taken = running.swap_remove(n % running.len());
                    let (job, ()) = taken.take();
                    let wait = if limit {
                        WaitReason::Limit(1)
                    } else {
                        WaitReason::Until(at + Duration::from_secs(5))
                    };
                    taken.requeue(job, (), wait);
                }
                Step::End(_) | Step::PutBack(..) => {}
                Step::Pass(ms) => {
                    pass(&lanes, Duration::from_millis(ms));
                    at += Duration::from_millis(ms);
                }
            }
        }
        let new = job_of(9, 0, 9_999);
        let subject = new.subject().to_owned();
        prop_assert!(lanes.push(new, ()).is_ok());
        pushed += 1;
        let before = running.len();
        running.extend(std::iter::from_fn(|| lanes.try_next(at)));
        prop_assert!(running[before..].iter().any(|taken| taken.subject() == subject));

        at += Duration::from_secs(60);
        loop {
            ended += running.len();
            running.clear();
            running.extend(std::iter::from_fn(|| lanes.try_next(at)));
            if running.is_empty() {
                break;
            }
        }
        prop_assert_eq!((lanes.len(), ended), (0, pushed));
        prop_assert!(lanes.lock().lanes.is_empty());
    }
}
