//! What Millrace itself has to say: operational events, which go the way of any
//! publisher's and reach the endpoints that ask for their type by name.
//!
//! Called by the API and by jobs. Touches DynamoDB and the queue only.

use jiff::Timestamp;

use crate::accept;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::id::ProjectId;
pub use crate::model::operational_event::{OperationalEvent, OperationalEventKind};

/// Publishes an operational event once, however often it is called for the same occasion.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not
/// answer; calling again is safe.
pub async fn publish(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) -> Result<()> {
    let event = operational_event.to_event()?;
    match accept::accept_operational(app, project, &event, now).await {
        // Told before in other words: once is enough.
        Err(Error::Conflict(_)) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// As [`publish`], for whoever goes on all the same: a failure is logged.
pub async fn publish_best_effort(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) {
    if let Err(error) = publish(app, project, operational_event, now).await {
        let kind = operational_event.kind.event_type();
        let cause = error.causes();
        tracing::warn!(%error, cause, kind, "operational event not published");
    }
}

/// As [`publish_best_effort`], but only if an endpoint asks for it: of what happens before there
/// can be one, nothing is kept.
pub async fn publish_if_subscribed(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) {
    let event_type = operational_event.kind.event_type();
    let is_subscribed = match app.projection.project_config(project).await {
        Ok(view) => {
            let mut asking = view.targets.matching(event_type, operational_event.tenant);
            asking.next().is_some() || !view.targets.unreadable().is_empty()
        }
        // Rather one too many than one that is missed.
        Err(_) => true,
    };
    if is_subscribed {
        publish_best_effort(app, project, operational_event, now).await;
    }
}
