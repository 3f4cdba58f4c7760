//! The acceptance of a publisher's event: reserved types are refused, and data that
//! the schema of its type does not allow; the rest is published.
//!
//! Called by the HTTP API and by whatever else turns things into CloudEvents.

mod schema;

use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::ProjectId;
use crate::publish::{self, Acceptance};

/// Publishes a publisher's event, if its data satisfies the schema of its type.
///
/// Again with the same content it changes nothing and says so, whatever the schema
/// says by now. Cost: that of [`publish::publish`].
///
/// # Errors
/// [`Error::Invalid`] for a reserved type, and for data that the schema does not
/// allow, naming where in it; otherwise as [`publish::publish`].
pub async fn accept(
    app: &App,
    project: &ProjectId,
    event: &Event,
    now: Timestamp,
) -> Result<Acceptance> {
    if event.event_type().starts_with(RESERVED_PREFIX) {
        return Err(Error::invalid(
            "type",
            "the prefix \"millrace.\" is reserved",
        ));
    }
    let project_config = publish::project_config(app, project).await;
    let project_config = project_config.as_deref();
    let violation = match project_config {
        Some(config) => schema::find_violation(app, config, event).await,
        None => None,
    };
    if let Some(violation) = violation {
        schema::record_violation(app, project, event, &violation, now).await;
        if violation.is_rejected() {
            return schema::refuse(app, project, event, violation).await;
        }
    }
    publish::publish(app, project, project_config, event, now).await
}
