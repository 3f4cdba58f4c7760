//! Taking in what AWS sends: each becomes a CloudEvent and goes the way of any
//! publisher's.

use jiff::Timestamp;

use crate::accept;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::id::ProjectId;
use crate::model::ingest::{self, Mapped, Notification};
use crate::model::job::Park;
use crate::queue::Queue;

/// Accepts the events of `notification` for `ingest.project`. Again it changes
/// nothing: what is there already counts as accepted. What cannot be an event is
/// parked with the reason and holds up nothing.
///
/// # Errors
/// When a store is out of reach or no project is configured: all of it comes
/// again.
pub async fn ingest(app: &App, notification: &Notification<'_>, now: Timestamp) -> Result<()> {
    let Some(project) = &app.config.ingest_project() else {
        return Err(Error::internal(anyhow::anyhow!(
            "ingest.project is not set: whose events are these?"
        )));
    };
    let events = match ingest::events(notification) {
        Ok(events) => events,
        Err(error) => return park(app, notification, error).await,
    };
    for mapped in events {
        let accepted = match mapped {
            Ok(mapped) => accept(app, project, &mapped, now).await,
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
