//! Taking jobs from SQS: one loop for each queue that receives, a buffer in fair
//! lanes, workers, and one loop that keeps messages hidden and settles them.
//!
//! A message is settled by what became of its job: deleted when it is done,
//! hidden for a while when it failed, given back when nobody has begun it and
//! the process ends. One that nobody settles comes again by itself, and its work
//! is due in the store all along, so nothing here is needed for nothing to be
//! lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future, stream};
use jiff::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::outcome::{Done, report};
use super::reschedule::run_without_lanes;
use super::run;
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::{Error, Result};
use crate::model::job::{Envelope, Job};
use crate::queue::Queue;
use crate::queue::lanes::{LaneOptions, Lanes, WaitReason};
use crate::queue::sqs::{BATCH_MAX, MessageReceipt, QueueName, ReceivedMessage, SqsQueue};

/// Jobs that wait in lanes for each that may run.
const WAITING_PER_WORKER: usize = 4;
/// Jobs that may wait in lanes, at least: room for every poll.
const WAITING_MIN: usize = BATCH_MAX * POLLS_MAX;
/// Polls of one queue at a time, while it is full.
const POLLS_MAX: usize = 8;
/// How long a poll waits while jobs wait here.
const BUSY_POLL_WAIT: Duration = Duration::from_secs(1);
/// Between polls of an SQS that refuses: the first pause and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How long a settled message waits for others to share its request.
const LINGER: Duration = Duration::from_millis(50);
/// Requests that settle or hide messages at a time.
const SETTLES_MAX: usize = 8;
/// Times a message for which there is no room is given back. After that it is
/// let go: the sweeper brings its work, ever more rarely.
const RETURNS_MAX: u32 = 2;
/// How long a message is given back for, at most; at least half as long.
const RETURN_DELAY_MAX: Duration = Duration::from_secs(15);
/// How long a message whose job failed is hidden: at first, and at most.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settlement {
    /// It is of no more use.
    Delete,
    /// It is to come again after a while.
    ReturnAfter(Duration),
}

/// The trace that a message continues, a W3C `traceparent`.
type Trace = Option<String>;

type SettleSender = UnboundedSender<(MessageReceipt, Settlement)>;

/// What the loops share.
#[derive(Debug)]
struct Consumer {
    app: Arc<App>,
    lanes: Lanes<(MessageReceipt, Trace)>,
    /// Until when each message in hand is hidden, by its handle.
    invisible_until: Mutex<HashMap<String, (QueueName, Instant)>>,
}

impl Consumer {
    fn sqs(&self) -> &SqsQueue {
        let Queue::Sqs(sqs) = &self.app.queue else {
            unreachable!("these loops are started for SQS only");
        };
        sqs
    }

    /// Says what becomes of a message, which is not hidden again from now on.
    fn settle(&self, settle: &SettleSender, receipt: MessageReceipt, settled: Settlement) {
        self.invisible_until().remove(&receipt.handle);
        // The settling loop outlives every sender.
        let _ = settle.send((receipt, settled));
    }

    fn invisible_until(&self) -> MutexGuard<'_, HashMap<String, (QueueName, Instant)>> {
        self.invisible_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the loops into `tasks`: polls for the queues that `handlers` names,
/// and their workers. They end when `stop` is cancelled: what runs is finished,
/// and what has not begun is given back.
pub(super) fn start(app: &Arc<App>, stop: &CancellationToken, tasks: &mut JoinSet<()>) {
    let delivery = &app.config.delivery;
    let consumer = Arc::new(Consumer {
        app: app.clone(),
        lanes: Lanes::new(LaneOptions {
            jobs_max: WAITING_MIN.max(delivery.concurrency * WAITING_PER_WORKER),
            // Nothing from SQS carries a body.
            bytes_max: usize::MAX,
            endpoint_concurrency: delivery.endpoint_concurrency,
            workers: delivery.concurrency,
        }),
        invisible_until: Mutex::default(),
    });
    let (settle, settled) = unbounded_channel();
    let mut polls = Vec::new();
    for (name, handler) in [
        (QueueName::FanOut, Handler::FanOut),
        (QueueName::Deliver, Handler::Deliver),
    ] {
        if app.config.handles(handler) {
            polls.push(poll(consumer.clone(), name, settle.clone(), stop.clone()));
        }
    }
    let last = (consumer.clone(), settle.clone());
    tasks.spawn(async move {
        future::join_all(polls).await;
        let (consumer, settle) = last;
        for (receipt, _) in consumer.lanes.clear() {
            consumer.settle(&settle, receipt, Settlement::ReturnAfter(Duration::ZERO));
        }
    });
    for _ in 0..delivery.concurrency {
        tasks.spawn(work(consumer.clone(), settle.clone(), stop.clone()));
    }
    tasks.spawn(async move {
        tokio::select! {
            () = settle_loop(&consumer, settled) => {}
            () = extend_visibility_loop(&consumer) => {}
        }
    });
}

/// Runs what both queues hold now, one job after the other, until they are
/// empty; the jobs that failed.
pub(super) async fn drain(app: &App, sqs: &SqsQueue, now: Timestamp) -> Vec<Error> {
    let mut failed = Vec::new();
    loop {
        let mut received = Vec::new();
        for name in QueueName::ALL {
            match sqs.receive(name, Duration::ZERO).await {
                Ok(messages) => received.extend(messages),
                Err(error) => failed.push(error),
            }
        }
        if received.is_empty() {
            return failed;
        }
        for message in received {
            failed.extend(drain_one(app, sqs, message, now).await.err());
        }
    }
}

async fn drain_one(
    app: &App,
    sqs: &SqsQueue,
    message: ReceivedMessage,
    now: Timestamp,
) -> Result<()> {
    let receipt = &message.receipt;
    // A message's age is by the clock that its sender had, whatever `now` is.
    let done = match open(app, &message, app::now()).await {
        OpenedMessage::Job(job, trace) => run_without_lanes(app, job, trace.as_deref(), now).await,
        OpenedMessage::Parked => Ok(()),
        OpenedMessage::Left => return Ok(()),
    };
    match done {
        Ok(()) => sqs.delete(receipt.from, &[&receipt.handle]).await,
        Err(error) => {
            let delay = retry_delay(app, receipt.receive_count);
            sqs.change_visibility(receipt.from, &[(&receipt.handle, delay)])
                .await?;
            Err(error)
        }
    }
}

/// What a message turned out to be.
enum OpenedMessage {
    Job(Job, Trace),
    /// Put aside: of no more use here.
    Parked,
    /// It could not be put aside and comes again.
    Left,
}

async fn open(app: &App, message: &ReceivedMessage, now: Timestamp) -> OpenedMessage {
    match Envelope::open(&message.body, message.sent, now) {
        Ok(envelope) => OpenedMessage::Job(envelope.job, envelope.trace),
        Err(why) => {
            let from = message.receipt.from.as_str();
            match app.queue.park(from, &message.body, &why).await {
                true => OpenedMessage::Parked,
                false => OpenedMessage::Left,
            }
        }
    }
}

/// Receives from one queue while there is room: one long poll while it is quiet,
/// several short ones at a time while it is full.
///
/// SQS may still hand messages to a poll that was cut off, which then stay
/// hidden for a while. So a poll is long, and cut off when the process ends, only
/// while nothing waits here that would be given back and could go that way.
async fn poll(
    consumer: Arc<Consumer>,
    name: QueueName,
    settle: SettleSender,
    stop: CancellationToken,
) {
    let mut polls = 1;
    let mut refusals = 0;
    while let Some(room) = stop
        .run_until_cancelled(consumer.lanes.room(BATCH_MAX))
        .await
    {
        polls = (room / BATCH_MAX).clamp(1, polls);
        let wait = match polls {
            1 if consumer.lanes.is_empty() => consumer.sqs().options().wait,
            1 => BUSY_POLL_WAIT,
            _ => Duration::ZERO,
        };
        let received = (0..polls).map(|_| receive(&consumer, name, wait, &settle));
        let received = future::join_all(received);
        let received = match wait > BUSY_POLL_WAIT {
            true => stop.run_until_cancelled(received).await,
            false => Some(received.await),
        };
        let Some(received) = received else {
            return;
        };
        match received.into_iter().sum::<Result<usize>>() {
            Ok(messages) => {
                if refusals > 0 {
                    tracing::info!(queue = name.as_str(), "sqs receive recovered");
                }
                refusals = 0;
                polls = match messages == polls * BATCH_MAX {
                    true => (polls * 2).min(POLLS_MAX),
                    false => (polls / 2).max(1),
                };
            }
            Err(error) => {
                if refusals == 0 {
                    report("poll", name.as_str(), &error);
                }
                (polls, refusals) = (1, refusals + 1);
                let pause = backoff(&consumer.app, PAUSES, refusals);
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }
}

/// Receives once into the lanes; how many messages there were.
async fn receive(
    consumer: &Consumer,
    name: QueueName,
    wait: Duration,
    settle: &SettleSender,
) -> Result<usize> {
    let sqs = consumer.sqs();
    let received = sqs.receive(name, wait).await?;
    let messages = received.len();
    let until = Instant::now() + sqs.options().visibility;
    for message in received {
        let opened = open(&consumer.app, &message, app::now()).await;
        let receipt = message.receipt;
        match opened {
            OpenedMessage::Job(job, trace) => {
                consumer
                    .invisible_until()
                    .insert(receipt.handle.clone(), (name, until));
                if let Err((receipt, _)) = consumer.lanes.push(job, (receipt, trace)) {
                    let settled = settle_rejected(&consumer.app, receipt.receive_count);
                    consumer.settle(settle, receipt, settled);
                }
            }
            OpenedMessage::Parked => consumer.settle(settle, receipt, Settlement::Delete),
            OpenedMessage::Left => {}
        }
    }
    Ok(messages)
}

/// A message whose lane is full or whose job is in hand already.
fn settle_rejected(app: &App, count: u32) -> Settlement {
    match count > RETURNS_MAX {
        true => Settlement::Delete,
        false => Settlement::ReturnAfter(RETURN_DELAY_MAX.mul_f64(0.5 + 0.5 * app.jitter())),
    }
}

fn retry_delay(app: &App, count: u32) -> Duration {
    backoff(app, RETRY_DELAYS, count)
}

/// The wait after failure number `count`: doubled each time, up to the longest
/// one, half of it left to chance.
fn backoff(app: &App, (first, longest): (Duration, Duration), count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(16);
    let wait = first.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(0.5 + 0.5 * app.jitter())
}

/// Runs one job after the other.
async fn work(consumer: Arc<Consumer>, settle: SettleSender, stop: CancellationToken) {
    while let Some(mut taken) = stop.run_until_cancelled(consumer.lanes.next()).await {
        let (job, (receipt, trace)) = taken.take();
        let now = app::now();
        if let Some(at) = not_before(&consumer.app, &job, now) {
            taken.requeue(job, (receipt, trace), WaitReason::Until(at));
            continue;
        }
        let settled = match run(&consumer.app, job, trace.as_deref(), now).await {
            Ok(Done::Finished) => Settlement::Delete,
            // Its message stays hidden for as long as it waits here.
            Ok(Done::Later(later)) => {
                taken.requeue(later.job, (receipt, trace), later.wait);
                continue;
            }
            Err(_) => Settlement::ReturnAfter(retry_delay(&consumer.app, receipt.receive_count)),
        };
        consumer.settle(&settle, receipt, settled);
    }
}

/// When the job's endpoint may be called next, if that is known to be later: to be
/// seen before the delivery is read.
fn not_before(app: &App, job: &Job, now: Timestamp) -> Option<Timestamp> {
    match job {
        Job::Deliver { delivery, .. } => app.admission.not_before(&delivery.endpoint(), now),
        Job::FanOut { .. } | Job::Disable { .. } | Job::Recover { .. } => None,
    }
}

/// Settles messages in batches until nobody is left to send any.
async fn settle_loop(
    consumer: &Consumer,
    mut settled: UnboundedReceiver<(MessageReceipt, Settlement)>,
) {
    let mut failing = false;
    let mut batch = Vec::new();
    while settled.recv_many(&mut batch, BATCH_MAX * SETTLES_MAX).await > 0 {
        let _ = tokio::time::timeout(LINGER, async {
            while batch.len() < BATCH_MAX {
                if settled.recv_many(&mut batch, BATCH_MAX).await == 0 {
                    return;
                }
            }
        })
        .await;
        let outcomes = settle_batch(consumer, batch.drain(..)).await;
        log_transition("settle", &mut failing, outcomes);
    }
}

async fn settle_batch(
    consumer: &Consumer,
    batch: impl Iterator<Item = (MessageReceipt, Settlement)>,
) -> Vec<Result<()>> {
    let mut deletes: [Vec<String>; 2] = Default::default();
    let mut visibility_changes: [Vec<(String, Duration)>; 2] = Default::default();
    for (receipt, settled) in batch {
        let queue = receipt.from as usize;
        match settled {
            Settlement::Delete => deletes[queue].push(receipt.handle),
            Settlement::ReturnAfter(after) => {
                visibility_changes[queue].push((receipt.handle, after))
            }
        }
    }
    let sqs = consumer.sqs();
    let mut calls = Vec::new();
    for name in QueueName::ALL {
        for handles in deletes[name as usize].chunks(BATCH_MAX) {
            calls.push(future::Either::Left(async move {
                let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
                sqs.delete(name, &handles).await
            }));
        }
        for handles in visibility_changes[name as usize].chunks(BATCH_MAX) {
            calls.push(future::Either::Right(async move {
                let handles: Vec<_> = handles.iter().map(|(h, s)| (h.as_str(), *s)).collect();
                sqs.change_visibility(name, &handles).await
            }));
        }
    }
    stream::iter(calls)
        .buffer_unordered(SETTLES_MAX)
        .collect()
        .await
}

/// Hides again, well before its time is over, each message in hand.
async fn extend_visibility_loop(consumer: &Consumer) {
    let visibility = consumer.sqs().options().visibility;
    let mut ticks = tokio::time::interval(visibility / 4);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let soon = Instant::now() + visibility / 2;
        let mut expiring: [Vec<String>; 2] = Default::default();
        for (handle, (name, until)) in consumer.invisible_until().iter() {
            if *until < soon {
                expiring[*name as usize].push(handle.clone());
            }
        }
        let calls: Vec<_> = QueueName::ALL
            .iter()
            .flat_map(|name| {
                let handles = expiring[*name as usize].chunks(BATCH_MAX);
                handles.map(|handles| extend_visibility(consumer, *name, handles, visibility))
            })
            .collect();
        let calls = stream::iter(calls).buffer_unordered(SETTLES_MAX);
        log_transition("change_visibility", &mut failing, calls.collect().await);
    }
}

async fn extend_visibility(
    consumer: &Consumer,
    name: QueueName,
    handles: &[String],
    visibility: Duration,
) -> Result<()> {
    let until = Instant::now() + visibility;
    let visibility_changes: Vec<_> = handles.iter().map(|h| (h.as_str(), visibility)).collect();
    let extended = consumer
        .sqs()
        .change_visibility(name, &visibility_changes)
        .await;
    let mut known = consumer.invisible_until();
    for handle in handles {
        match (known.get_mut(handle), &extended) {
            (Some(entry), Ok(())) => entry.1 = until,
            // Others may have it by now: its job still runs, as it may twice.
            (Some(entry), Err(_)) if entry.1 < Instant::now() => {
                known.remove(handle);
            }
            _ => {}
        }
    }
    extended
}

/// Logs that calls of a kind began to fail, or work again.
fn log_transition(what: &'static str, failing: &mut bool, outcomes: Vec<Result<()>>) {
    if outcomes.is_empty() {
        return;
    }
    match outcomes.into_iter().find_map(Result::err) {
        Some(error) if !*failing => {
            report(what, "messages", &error);
            *failing = true;
        }
        None if *failing => {
            tracing::info!(what, "sqs call recovered");
            *failing = false;
        }
        _ => {}
    }
}
