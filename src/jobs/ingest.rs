//! Taking in what AWS sends: each becomes a CloudEvent and goes the way of any
//! publisher's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::worker::report;
use crate::accept;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::id::ProjectId;
use crate::model::ingest::{self, Mapped, Notification};
use crate::model::job::Park;
use crate::queue::Queue;
use crate::queue::sqs::{Name, Sqs};

/// Between polls of a queue that does not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Accepts the events of `notification` for `ingest.project`. Again it changes
/// nothing: what is there already counts as accepted. What cannot be an event is
/// parked with the reason and holds up nothing.
///
/// # Errors
/// When a store is out of reach or no project is configured: all of it comes
/// again.
pub async fn ingest(app: &App, notification: &Notification<'_>, now: Timestamp) -> Result<()> {
    let project = project(app)?;
    let events = match ingest::events(notification) {
        Ok(events) => events,
        Err(error) => return park(app, notification, error).await,
    };
    for mapped in events {
        let accepted = match mapped {
            Ok(mapped) => accept(app, &project, &mapped, now).await,
            Err(error) => Err(error),
        };
        match accepted {
            Ok(()) => {}
            Err(error) if is_final(&error) => park(app, notification, error).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn project(app: &App) -> Result<ProjectId> {
    let project = &app.config.ingest.project;
    project.parse().map_err(|_| {
        Error::internal(anyhow::anyhow!(
            "ingest.project is {project:?}, and no project's id: whose events are these?"
        ))
    })
}

/// Takes what the queue of AWS sources holds, until `stop` is cancelled. What
/// failed comes again when its time of being hidden is over.
pub(super) async fn poll_often(app: Arc<App>, stop: CancellationToken) {
    let Queue::Sqs(sqs) = &app.queue else {
        tracing::warn!("sqs.ingest_url is of no use without sqs.deliver_url");
        return;
    };
    let arn = queue_arn(&app.config.sqs.ingest_url, app.config.region());
    while let Some(polled) = stop.run_until_cancelled(poll(&app, sqs, &arn)).await {
        if let Err(error) = polled {
            report("ingest", "poll", &error);
            stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

async fn poll(app: &App, sqs: &Sqs, queue_arn: &str) -> Result<()> {
    let received = sqs.receive(Name::Ingest, sqs.options().wait).await?;
    let ingested = received.iter().map(async |message| {
        let notification = Notification::Message {
            id: &message.id,
            queue_arn,
            sent: message.sent,
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
    let ingested: Vec<&str> = future::join_all(ingested)
        .await
        .into_iter()
        .flatten()
        .collect();
    match ingested.is_empty() {
        true => Ok(()),
        false => sqs.delete(Name::Ingest, &ingested).await,
    }
}

/// The ARN of the queue at `url`: what Lambda calls it, so that a message makes
/// the same event whoever takes it.
fn queue_arn(url: &str, region: &str) -> String {
    let partition = match url.contains(".amazonaws.com.cn/") {
        true => "aws-cn",
        false if region.starts_with("us-gov-") => "aws-us-gov",
        false => "aws",
    };
    let mut path = url.rsplit('/');
    let (name, account) = (
        path.next().unwrap_or_default(),
        path.next().unwrap_or_default(),
    );
    format!("arn:{partition}:sqs:{region}:{account}:{name}")
}

async fn accept(app: &App, project: &ProjectId, mapped: &Mapped<'_>, now: Timestamp) -> Result<()> {
    let accept = async |event: &Event| {
        let receipt = accept::accept(app, project, event, now).await?;
        tracing::debug!(event.id = %receipt.id, duplicate = receipt.duplicate, "ingested");
        Ok(())
    };
    match (accept(&mapped.event).await, mapped.with_distinct_id()) {
        (Err(Error::Conflict(_)), Some(distinct)) => accept(&distinct?).await,
        (accepted, _) => accepted,
    }
}

/// Puts aside what no event can be made of. Where there is no queue for that it
/// fails instead: its own queue's dead-letter queue is then what keeps it.
async fn park(app: &App, notification: &Notification<'_>, error: Error) -> Result<()> {
    if !matches!(app.queue, Queue::Sqs(_)) || app.config.sqs.parked_url.is_empty() {
        return Err(error);
    }
    let (from, body) = match *notification {
        Notification::Invocation { json } => ("invocation", json),
        Notification::Message {
            queue_arn, body, ..
        } => (queue_arn, body),
    };
    let why = Park {
        reason: error.to_string().into(),
        job: None,
    };
    match app.queue.park(from, body, &why).await {
        true => Ok(()),
        false => Err(error),
    }
}

/// Whether trying again can only end the same.
fn is_final(error: &Error) -> bool {
    matches!(
        error,
        Error::Invalid(_) | Error::Conflict(_) | Error::TooLarge(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_arn_is_of_its_url() {
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/millrace-ingest";
        let arn = "arn:aws:sqs:eu-west-1:123456789012:millrace-ingest";
        assert_eq!(queue_arn(url, "eu-west-1"), arn);
    }
}
