//! A queue's batch: each message by itself, and only those that failed come
//! again.

use std::time::Duration;

use futures_util::future;
use serde::Serialize;

use super::payload::Message;
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::{Error, Result};
use crate::jobs::{ingest, worker};
use crate::model::ingest::Notification;
use crate::model::job::{Envelope, Job};

/// Lambda's partial batch response: SQS keeps what it names and deletes the rest.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// The messages to send again.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// A message that failed.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its `messageId`.
    pub item_identifier: String,
}

/// Does what `messages` ask for, all at a time; what takes longer than
/// `patience` has failed.
pub async fn run(app: &App, messages: &[Message<'_>], patience: Duration) -> BatchResponse {
    let done = future::join_all(messages.iter().map(|message| async move {
        match tokio::time::timeout(patience, one(app, message)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(failed(message, &error)),
            Err(_) => Some(failed(message, &out_of_time())),
        }
    }))
    .await;
    BatchResponse {
        batch_item_failures: done.into_iter().flatten().collect(),
    }
}

fn failed(message: &Message<'_>, error: &Error) -> ItemFailure {
    let cause = std::error::Error::source(error).map(|source| format!("{source:#}"));
    let queue = message.queue();
    tracing::warn!(message.id = %message.message_id, queue, %error, cause, "message failed: it comes again");
    ItemFailure {
        item_identifier: message.message_id.clone().into_owned(),
    }
}

fn out_of_time() -> Error {
    Error::Unavailable {
        what: "enough time",
        source: anyhow::anyhow!("the function's timeout is near"),
    }
}

/// Does what one message asks for. Only a queue of ours carries jobs: whatever
/// comes from another is a message of somebody's, whatever it looks like.
async fn one(app: &App, message: &Message<'_>) -> Result<()> {
    let sqs = &app.config.sqs;
    let is = |url: &str| !url.is_empty() && url.rsplit('/').next() == Some(message.queue());
    if is(&sqs.fan_out_url) || is(&sqs.deliver_url) {
        return job(app, message).await;
    }
    need(app, Handler::Ingest)?;
    let notification = Notification::Message {
        id: &message.message_id,
        queue_arn: &message.queue_arn,
        sent: message.sent(),
        body: &message.body,
    };
    ingest::ingest(app, &notification, app::now()).await
}

async fn job(app: &App, message: &Message<'_>) -> Result<()> {
    let now = app::now();
    let job = match Envelope::open(&message.body, message.sent(), now) {
        Ok(envelope) => envelope.job,
        Err(why) => {
            return match app.queue.park(message.queue(), &message.body, &why).await {
                true => Ok(()),
                false => Err(Error::internal(anyhow::anyhow!("not parked: {why}"))),
            };
        }
    };
    need(
        app,
        match job {
            Job::FanOut { .. } => Handler::FanOut,
            Job::Deliver { .. } | Job::Disable { .. } => Handler::Deliver,
        },
    )?;
    worker::attempt(app, job, now).await
}

fn need(app: &App, handler: Handler) -> Result<()> {
    match app.config.handles(handler) {
        true => Ok(()),
        false => Err(Error::internal(anyhow::anyhow!(
            "handlers: {handler:?} is not among them, and this queue needs it"
        ))),
    }
}
