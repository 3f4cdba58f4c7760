//! What Millrace itself has to say: operational events, which go the way of any
//! publisher's and reach the endpoints that ask for their type by name.
//!
//! Called by the API and by jobs. Touches DynamoDB and the queue only.

use jiff::Timestamp;

use crate::accept;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::id::ProjectId;
pub use crate::model::notice::{Kind, Notice};

/// Publishes a notice once, however often it is called for the same occasion.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not
/// answer; calling again is safe.
pub async fn publish(
    app: &App,
    project: &ProjectId,
    notice: &Notice<'_>,
    now: Timestamp,
) -> Result<()> {
    let event = notice.event()?;
    match accept::accept_own(app, project, &event, now).await {
        // Told before in other words: once is enough.
        Err(Error::Conflict(_)) => Ok(()),
        told => told.map(|_| ()),
    }
}

/// As [`publish`], for whoever goes on all the same: a failure is logged.
pub async fn tell(app: &App, project: &ProjectId, notice: &Notice<'_>, now: Timestamp) {
    if let Err(error) = publish(app, project, notice, now).await {
        let kind = notice.kind.event_type();
        let cause = error.causes();
        tracing::warn!(%error, cause, kind, "operational event not published");
    }
}

/// As [`tell`], but only if an endpoint asks for it: of what happens before there
/// can be one, nothing is kept.
pub async fn tell_if_asked(app: &App, project: &ProjectId, notice: &Notice<'_>, now: Timestamp) {
    let event_type = notice.kind.event_type();
    let asked = match app.plane.view(project).await {
        Ok(view) => {
            let mut asking = view.targets.matching(event_type, notice.tenant);
            asking.next().is_some() || !view.targets.unreadable().is_empty()
        }
        // Rather one too many than one that is missed.
        Err(_) => true,
    };
    if asked {
        tell(app, project, notice, now).await;
    }
}
