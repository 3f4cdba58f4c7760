//! The settlement of SQS messages: each stays invisible to other consumers while
//! its job waits or runs here, then is deleted or given back, in batches.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future, stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::error::Result;
use crate::jobs::outcome::report;
use crate::queue::sqs::{BATCH_MAX, MessageReceipt, QueueName, SqsQueue};

/// How long a settled message waits for others to share its request.
const LINGER: Duration = Duration::from_millis(50);
/// Requests that settle messages, or keep them invisible, at a time.
const SETTLES_MAX: usize = 8;

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is of no more use.
    Delete,
    /// It is to come again after a while.
    ReturnAfter(Duration),
}

/// A message that nothing here works on any more.
#[derive(Debug)]
pub struct SettledMessage {
    receipt: MessageReceipt,
    settlement: Settlement,
}

/// The way to [`settle_loop`], which ends with the last of them.
pub type SettleSender = UnboundedSender<SettledMessage>;

/// The messages whose jobs wait or run here, by their receipt handles.
#[derive(Debug, Default)]
pub struct InvisibleMessages(Mutex<HashMap<String, InvisibleMessage>>);

#[derive(Debug)]
struct InvisibleMessage {
    queue: QueueName,
    until: Instant,
}

impl InvisibleMessages {
    /// Has `receipt`'s message, which is invisible until `until`, kept so.
    pub fn keep(&self, receipt: &MessageReceipt, until: Instant) {
        let queue = receipt.from;
        let message = InvisibleMessage { queue, until };
        self.lock().insert(receipt.handle.clone(), message);
    }

    /// Says what becomes of a message, which is not kept invisible from now on.
    pub fn settle(&self, sender: &SettleSender, receipt: MessageReceipt, settlement: Settlement) {
        self.lock().remove(&receipt.handle);
        // The settling loop outlives every sender.
        let _ = sender.send(SettledMessage {
            receipt,
            settlement,
        });
    }

    /// The handles of those that are visible again before `soon`, by queue.
    fn expiring(&self, soon: Instant) -> [Vec<String>; 2] {
        let mut expiring: [Vec<String>; 2] = Default::default();
        for (handle, message) in self.lock().iter() {
            if message.until < soon {
                expiring[message.queue as usize].push(handle.clone());
            }
        }
        expiring
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, InvisibleMessage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Settles messages in batches until nobody is left to send any.
pub async fn settle_loop(sqs: &SqsQueue, mut settled: UnboundedReceiver<SettledMessage>) {
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
        let outcomes = settle_batch(sqs, batch.drain(..)).await;
        log_transition("settle", &mut failing, outcomes);
    }
}

async fn settle_batch(
    sqs: &SqsQueue,
    batch: impl Iterator<Item = SettledMessage>,
) -> Vec<Result<()>> {
    let mut deletes: [Vec<String>; 2] = Default::default();
    let mut visibility_changes: [Vec<(String, Duration)>; 2] = Default::default();
    for SettledMessage {
        receipt,
        settlement,
    } in batch
    {
        let queue = receipt.from as usize;
        match settlement {
            Settlement::Delete => deletes[queue].push(receipt.handle),
            Settlement::ReturnAfter(delay) => {
                visibility_changes[queue].push((receipt.handle, delay));
            }
        }
    }
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

/// Extends the visibility timeout of each of `messages`, well before it is over.
pub async fn extend_visibility_loop(sqs: &SqsQueue, messages: &InvisibleMessages) {
    let visibility = sqs.options().visibility;
    let mut ticks = tokio::time::interval(visibility / 4);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let expiring = messages.expiring(Instant::now() + visibility / 2);
        let calls: Vec<_> = QueueName::ALL
            .iter()
            .flat_map(|name| {
                let handles = expiring[*name as usize].chunks(BATCH_MAX);
                handles.map(|handles| extend_visibility(sqs, messages, *name, handles))
            })
            .collect();
        let calls = stream::iter(calls).buffer_unordered(SETTLES_MAX);
        log_transition("change_visibility", &mut failing, calls.collect().await);
    }
}

async fn extend_visibility(
    sqs: &SqsQueue,
    messages: &InvisibleMessages,
    name: QueueName,
    handles: &[String],
) -> Result<()> {
    let visibility = sqs.options().visibility;
    let until = Instant::now() + visibility;
    let visibility_changes: Vec<_> = handles.iter().map(|h| (h.as_str(), visibility)).collect();
    let extended = sqs.change_visibility(name, &visibility_changes).await;
    let mut known = messages.lock();
    for handle in handles {
        match (known.get_mut(handle), &extended) {
            (Some(message), Ok(())) => message.until = until,
            // Others may have it by now: its job still runs, as it may twice.
            (Some(message), Err(_)) if message.until < Instant::now() => {
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
