//! The SQS consumer: one loop for each queue that receives, a buffer in fair lanes,
//! workers, and the loops that settle messages.
//!
//! A message is settled by what became of its job: deleted when it is done,
//! invisible for a while when it failed, given back when nobody has begun it and
//! the process ends. One that nobody settles comes again by itself, and its work
//! is due in the store all along, so nothing here is needed for nothing to be
//! lost.

mod settlement;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future;
use jiff::Timestamp;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::settlement::{
    InvisibleMessages, SettleSender, Settlement, extend_visibility_loop, settle_loop,
};
use super::dispatch::dispatch;
use super::outcome::{Done, report};
use super::reschedule::run_without_lanes;
use super::run;
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::{Error, Result};
use crate::model::job::{Envelope, Job};
use crate::queue::Queue;
use crate::queue::lanes::{LaneOptions, Lanes, RunningJob, WaitReason};
use crate::queue::sqs::{BATCH_MAX, MessageReceipt, QueueName, ReceivedMessage, SqsQueue};

/// Jobs that wait in lanes for each that may run.
const WAITING_PER_WORKER: usize = 4;
/// Jobs that may wait in lanes, at least: room for every poll.
const WAITING_MIN: usize = BATCH_MAX * POLLS_MAX;
/// Polls of one queue at a time, while it is full.
const POLLS_MAX: usize = 8;
/// How long a poll waits while jobs wait here.
const BUSY_POLL_WAIT: Duration = Duration::from_secs(1);
/// Between polls of an SQS that refuses.
const POLL_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};
/// Times a message for which there is no room is given back, before it is deleted.
const RETURNS_MAX: u32 = 2;
/// How long a message is given back for, at most; at least half as long.
const RETURN_DELAY_MAX: Duration = Duration::from_secs(15);
/// How long a message whose job failed is invisible.
const RETRY_BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(5),
    longest: Duration::from_mins(5),
};

/// The trace that a message continues, a W3C `traceparent`.
type Trace = Option<String>;

/// What a job carries along until it is done.
#[derive(Debug)]
struct JobMessage {
    receipt: MessageReceipt,
    trace: Trace,
}

/// What the loops share.
#[derive(Debug)]
struct Consumer {
    app: Arc<App>,
    lanes: Arc<Lanes<JobMessage>>,
    messages: InvisibleMessages,
}

impl Consumer {
    fn sqs(&self) -> &SqsQueue {
        let Queue::Sqs(sqs) = &self.app.queue else {
            unreachable!("these loops are started for SQS only");
        };
        sqs
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
            quick_max: delivery.concurrency,
            in_flight_max: delivery.in_flight_max,
        }),
        messages: InvisibleMessages::default(),
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
    tasks.spawn(poll_all(polls, consumer.clone(), settle.clone()));
    tasks.spawn(dispatch_loop(consumer.clone(), settle, stop.clone()));
    tasks.spawn(async move {
        tokio::select! {
            () = settle_loop(consumer.sqs(), settled) => {}
            () = extend_visibility_loop(consumer.sqs(), &consumer.messages) => {}
        }
    });
}

/// Polls until the process ends, and gives back what has not begun by then.
async fn poll_all(
    polls: Vec<impl Future<Output = ()>>,
    consumer: Arc<Consumer>,
    settle: SettleSender,
) {
    future::join_all(polls).await;
    give_back_waiting(&consumer, &settle);
}

/// Gives back what has not begun.
fn give_back_waiting(consumer: &Consumer, settle: &SettleSender) {
    let give_back = Settlement::ReturnAfter(Duration::ZERO);
    for JobMessage { receipt, .. } in consumer.lanes.clear() {
        consumer.messages.settle(settle, receipt, give_back);
    }
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
            if app.queue.park(from, &message.body, &why).await {
                OpenedMessage::Parked
            } else {
                OpenedMessage::Left
            }
        }
    }
}

/// Receives from one queue while there is room: one long poll while it is quiet,
/// several short ones at a time while it is full.
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
        // SQS may still hand messages to a poll that was cut off, which then stay
        // invisible for a while. So one is cut off only if it is long, and it is long
        // only while nothing waits here that would be given back and could go that way.
        let received = if wait > BUSY_POLL_WAIT {
            stop.run_until_cancelled(received).await
        } else {
            Some(received.await)
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
                polls = if messages == polls * BATCH_MAX {
                    (polls * 2).min(POLLS_MAX)
                } else {
                    (polls / 2).max(1)
                };
            }
            Err(error) => {
                if refusals == 0 {
                    report("poll", name.as_str(), &error);
                }
                (polls, refusals) = (1, refusals + 1);
                let pause = POLL_BACKOFF.delay(&consumer.app, refusals);
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
                consumer.messages.keep(&receipt, until);
                let message = JobMessage { receipt, trace };
                if let Err(JobMessage { receipt, .. }) = consumer.lanes.push(job, message) {
                    let settlement = settle_rejected(&consumer.app, receipt.receive_count);
                    consumer.messages.settle(settle, receipt, settlement);
                }
            }
            OpenedMessage::Parked => {
                let settlement = Settlement::Delete;
                consumer.messages.settle(settle, receipt, settlement);
            }
            OpenedMessage::Left => {}
        }
    }
    Ok(messages)
}

/// What becomes of a message whose lane is full or whose job waits or runs here
/// already.
fn settle_rejected(app: &App, receive_count: u32) -> Settlement {
    if receive_count > RETURNS_MAX {
        // The sweeper brings its work, ever more rarely.
        return Settlement::Delete;
    }
    Settlement::ReturnAfter(RETURN_DELAY_MAX.mul_f64(0.5 + 0.5 * app.jitter()))
}

fn retry_delay(app: &App, receive_count: u32) -> Duration {
    RETRY_BACKOFF.delay(app, receive_count)
}

/// Delays that double, half of each left to chance.
struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// The delay after failure number `count`.
    fn delay(&self, app: &App, count: u32) -> Duration {
        let doublings = count.saturating_sub(1).min(16);
        let delay = self.first.saturating_mul(1 << doublings).min(self.longest);
        delay.mul_f64(0.5 + 0.5 * app.jitter())
    }
}

async fn dispatch_loop(consumer: Arc<Consumer>, settle: SettleSender, stop: CancellationToken) {
    let run = |taken| run_until_settled(consumer.clone(), settle.clone(), stop.clone(), taken);
    dispatch(&stop, || consumer.lanes.next(), run).await;
}

async fn run_until_settled(
    consumer: Arc<Consumer>,
    settle: SettleSender,
    stop: CancellationToken,
    taken: RunningJob<JobMessage>,
) {
    run_taken(&consumer, &settle, taken).await;
    // It may wait again by now, for nobody.
    if stop.is_cancelled() {
        give_back_waiting(&consumer, &settle);
    }
}

async fn run_taken(consumer: &Consumer, settle: &SettleSender, mut taken: RunningJob<JobMessage>) {
    let (job, message) = taken.take();
    let now = app::now();
    if let Some(at) = not_before(&consumer.app, &job, now) {
        return taken.requeue(job, message, WaitReason::Until(at));
    }
    let receive_count = message.receipt.receive_count;
    let settlement = match run(&consumer.app, job, message.trace.as_deref(), now).await {
        Ok(Done::Finished) => Settlement::Delete,
        // Its message stays invisible for as long as it waits here.
        Ok(Done::Later(later)) => return taken.requeue(later.job, message, later.wait),
        Err(_) => Settlement::ReturnAfter(retry_delay(&consumer.app, receive_count)),
    };
    consumer
        .messages
        .settle(settle, message.receipt, settlement);
}

/// When the job's endpoint may be called next, if that is known to be later without
/// reading the delivery.
fn not_before(app: &App, job: &Job, now: Timestamp) -> Option<Timestamp> {
    match job {
        Job::Deliver { delivery, .. } => app.admission.not_before(&delivery.endpoint(), now),
        Job::FanOut { .. } | Job::Disable { .. } | Job::Recover { .. } => None,
    }
}
