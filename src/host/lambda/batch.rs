//! A batch of a queue's messages: each is handled by itself, and only those that
//! failed come again.

use std::time::Duration;

use futures_util::future;
use serde::Serialize;

use super::payload::Message;
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::{Error, Result};
use crate::jobs::ingest;
use crate::jobs::reschedule::run_without_lanes;
use crate::model::ingest::Notification;
use crate::model::job::{Envelope, Job};
use crate::queue::sqs::arn;

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
    /// The message's `messageId`.
    pub item_identifier: String,
}

/// Does what `messages` ask for, all at a time; what takes longer than
/// `timeout` has failed.
pub async fn run(app: &App, messages: &[Message<'_>], timeout: Duration) -> BatchResponse {
    let done = future::join_all(messages.iter().map(|message| async move {
        let done = tokio::time::timeout(timeout, handle_message(app, message)).await;
        if done.is_err() {
            let queue = message.queue();
            tracing::warn!(message.id = %message.message_id, queue, "message timed out: will be redelivered");
        }
        (!matches!(done, Ok(Ok(())))).then(|| ItemFailure {
            item_identifier: message.message_id.clone().into_owned(),
        })
    }))
    .await;
    BatchResponse {
        batch_item_failures: done.into_iter().flatten().collect(),
    }
}

/// Logs the failure of a message; a job that fails has logged it itself.
fn log_failure(message: &Message<'_>, error: &Error) {
    let cause = error.causes();
    let queue = message.queue();
    tracing::warn!(message.id = %message.message_id, queue, %error, cause, "message failed: will be redelivered");
}

/// Does what one message asks for. Only a queue of ours carries jobs: whatever
/// comes from another is a message of somebody's, whatever it looks like.
async fn handle_message(app: &App, message: &Message<'_>) -> Result<()> {
    let sqs = &app.config.sqs;
    let is = |url: &str| !url.is_empty() && arn(url, app.config.region()) == message.queue_arn;
    if is(&sqs.fan_out_url) || is(&sqs.deliver_url) {
        return job(app, message).await;
    }
    let notification = Notification::Message {
        id: &message.message_id,
        queue_arn: &message.queue_arn,
        sent: message.sent(),
        trace: message.attributes.trace.as_deref(),
        body: &message.body,
    };
    let ingested = async {
        require_handler(app, Handler::Ingest)?;
        ingest::ingest(app, &notification, app::now()).await
    };
    ingested
        .await
        .inspect_err(|error| log_failure(message, error))
}

async fn job(app: &App, message: &Message<'_>) -> Result<()> {
    let now = app::now();
    let Envelope { job, trace } = match Envelope::open(&message.body, message.sent(), now) {
        Ok(envelope) => envelope,
        Err(why) => {
            if app.queue.park(message.queue(), &message.body, &why).await {
                return Ok(());
            }
            // Which has been logged.
            return Err(Error::internal(anyhow::anyhow!("not parked: {why}")));
        }
    };
    let handler = match job {
        Job::FanOut { .. } | Job::Recover { .. } => Handler::FanOut,
        Job::Deliver { .. } | Job::Disable { .. } => Handler::Deliver,
    };
    require_handler(app, handler).inspect_err(|error| log_failure(message, error))?;
    run_without_lanes(app, job, trace.as_deref(), now).await
}

fn require_handler(app: &App, handler: Handler) -> Result<()> {
    if app.config.handles(handler) {
        return Ok(());
    }
    Err(Error::internal(anyhow::anyhow!(
        "handlers: {handler:?} is not among them, and this queue needs it"
    )))
}
