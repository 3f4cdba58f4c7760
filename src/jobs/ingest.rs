//! The ingestion of what AWS sends: each notification becomes a CloudEvent and goes
//! the way of any publisher's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::outcome::report;
use crate::accept;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::event::Event;
use crate::model::id::ProjectId;
use crate::model::ingest::{self, MappedEvent, Notification};
use crate::model::job::Park;
use crate::queue::Queue;
use crate::queue::sqs::{BATCH_MAX, QueueName, ReceivedMessage, SqsQueue, arn};
use crate::telemetry::scope::WorkContext;

/// Between polls of a queue that does not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Accepts the events of `notification` for `ingest.project`. Doing it again changes
/// nothing: what is there already counts as accepted. What cannot be an event
/// holds up no other: once the others are accepted the notification is parked with
/// the first reason, or fails where nothing is there to keep it.
///
/// # Errors
/// When a store is out of reach or no project is configured: all of it comes
/// again.
pub async fn ingest(app: &App, notification: &Notification<'_>, now: Timestamp) -> Result<()> {
    let carried = match *notification {
        Notification::Invocation { .. } => None,
        Notification::Message { trace, .. } => trace,
    };
    let mut span = app.telemetry.traces.ingest(source(notification), carried);
    // Boxed, for a batch holds ten of these, and each is large.
    let accepting = Box::pin(accept_all(app, notification, now));
    let ingested = WorkContext::ingest(span.context()).run(accepting).await;
    if let Err(error) = &ingested {
        span.set_error(|| error.to_string());
    }
    ingested
}

async fn accept_all(app: &App, notification: &Notification<'_>, now: Timestamp) -> Result<()> {
    let project = project(app)?;
    let events = match ingest::events(notification) {
        Ok(events) => events,
        Err(error) => return park(app, notification, error).await,
    };
    let (mut unusable, mut failed) = (None, None);
    for mapped in events {
        let accepted = match mapped {
            Ok(mapped) => accept(app, &project, &mapped, now).await,
            Err(error) => Err(error),
        };
        match accepted {
            Ok(()) => {}
            Err(error) if is_permanent(&error) => drop(unusable.get_or_insert(error)),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    match (failed, unusable) {
        // It comes again as a whole, and is parked when nothing else is wrong.
        (Some(error), _) => Err(error),
        (None, Some(error)) => park(app, notification, error).await,
        (None, None) => Ok(()),
    }
}

/// What sent it, as far as its envelope says.
fn source<'a>(notification: &Notification<'a>) -> &'a str {
    match *notification {
        Notification::Invocation { .. } => "invocation",
        Notification::Message { queue_arn, .. } => queue_arn,
    }
}

fn project(app: &App) -> Result<ProjectId> {
    let project = &app.config.ingest.project;
    project.parse().map_err(|_| {
        Error::internal(anyhow::anyhow!(
            "ingest.project is {project:?}, and no project's id: whose events are these?"
        ))
    })
}

/// Consumes the queue of AWS sources until `stop` is cancelled: then the batch under
/// way is finished. What failed comes again when its visibility timeout is over.
pub(super) async fn consume_loop(app: Arc<App>, stop: CancellationToken) {
    let Queue::Sqs(sqs) = &app.queue else {
        tracing::warn!("sqs.ingest_url ignored: sqs.deliver_url is not set");
        return;
    };
    let arn = arn(&app.config.sqs.ingest_url, app.config.region());
    loop {
        let polling = sqs.receive(QueueName::Ingest, sqs.options().wait);
        let Some(received) = stop.run_until_cancelled(polling).await else {
            return;
        };
        let polled = match received {
            Ok(received) => ingest_batch(&app, sqs, &arn, &received).await,
            Err(error) => Err(error),
        };
        if let Err(error) = polled {
            report("ingest", "poll", &error);
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Ingests messages, invisible to others for as long as that takes, and deletes
/// those that are done.
async fn ingest_batch(
    app: &App,
    sqs: &SqsQueue,
    queue_arn: &str,
    received: &[ReceivedMessage],
) -> Result<()> {
    let ingested = tokio::select! {
        ingested = ingest_all(app, queue_arn, received) => ingested,
        () = extend_visibility(sqs, received) => unreachable!("it goes on until the others are done"),
    };
    if ingested.is_empty() {
        return Ok(());
    }
    sqs.delete(QueueName::Ingest, &ingested).await
}

async fn extend_visibility(sqs: &SqsQueue, received: &[ReceivedMessage]) {
    let visibility = sqs.options().visibility;
    let handles: Vec<_> = received
        .iter()
        .map(|message| (message.receipt.handle.as_str(), visibility))
        .collect();
    loop {
        tokio::time::sleep(visibility / 2).await;
        for handles in handles.chunks(BATCH_MAX) {
            if let Err(error) = sqs.change_visibility(QueueName::Ingest, handles).await {
                report("ingest", "change_visibility", &error);
            }
        }
    }
}

/// The handles of those that are done.
async fn ingest_all<'a>(
    app: &App,
    queue_arn: &str,
    received: &'a [ReceivedMessage],
) -> Vec<&'a str> {
    let ingested = received.iter().map(async |message| {
        let notification = Notification::Message {
            id: &message.id,
            queue_arn,
            sent: message.sent,
            trace: message.trace.as_deref(),
            body: &message.body,
        };
        match ingest(app, &notification, app::now()).await {
            Ok(()) => Some(message.receipt.handle.as_str()),
            Err(error) => {
                report("ingest", &message.id, &error);
                None
            }
        }
    });
    let ingested = future::join_all(ingested).await;
    ingested.into_iter().flatten().collect()
}

async fn accept(
    app: &App,
    project: &ProjectId,
    mapped: &MappedEvent<'_>,
    now: Timestamp,
) -> Result<()> {
    let access = Access::to_project(project);
    let accept = async |event: &Event| accept::accept(app, &access, event, now).await.map(drop);
    match (accept(&mapped.event).await, mapped.with_distinct_id()) {
        (Err(Error::Conflict(_)), Some(distinct)) => accept(&distinct?).await,
        (accepted, _) => accepted,
    }
}

/// Parks what no event can be made of.
///
/// # Errors
/// `error` itself, where it cannot be parked.
async fn park(app: &App, notification: &Notification<'_>, error: Error) -> Result<()> {
    // Its own queue's dead-letter queue is then what keeps it.
    if !matches!(app.queue, Queue::Sqs(_)) || app.config.sqs.parked_url.is_empty() {
        return Err(error);
    }
    let body = match *notification {
        Notification::Invocation { json } => json,
        Notification::Message { body, .. } => body,
    };
    let why = Park {
        reason: error.to_string().into(),
        job: None,
    };
    if app.queue.park(source(notification), body, &why).await {
        Ok(())
    } else {
        Err(error)
    }
}

/// Whether trying again can only end the same.
fn is_permanent(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid(_) | Error::Conflict(_) | Error::TooLarge(_)
    )
}
