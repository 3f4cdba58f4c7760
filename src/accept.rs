//! The acceptance of a publisher's event: reserved types are refused, and another
//! tenant's events, and data that the schema of its type does not allow; the rest is
//! published.
//!
//! Called by the HTTP API and by whatever else turns things into CloudEvents.

mod schema;

use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::event::Event;
use crate::model::filter::RESERVED_PREFIX;
use crate::model::project_config::ProjectConfig;
use crate::publish::{self, Acceptance};

/// Publishes a publisher's event, if it is of a tenant that `access` reaches and its data
/// satisfies the schema of its type.
///
/// Again with the same content it changes nothing and says so, whatever the schema
/// says by now. Of the endpoints it is for, those are counted that `access` reaches.
/// Cost: that of [`publish::publish`].
///
/// # Errors
/// [`Error::Conflict`] when the project is erased; [`Error::Invalid`] for a reserved type,
/// and for data that the schema does not allow, naming where in it; [`Error::Invalid`]
/// without a tenant and [`Error::Forbidden`] with another than the one that `access`
/// reaches; otherwise as [`publish::publish`].
pub async fn accept(
    app: &App,
    access: &Access,
    event: &Event,
    now: Timestamp,
) -> Result<Acceptance> {
    if event.event_type().starts_with(RESERVED_PREFIX) {
        return Err(Error::invalid(
            "type",
            "the prefix \"millrace.\" is reserved",
        ));
    }
    access.check(event.tenant())?;
    let project = access.project();
    let project_config = publish::project_config(app, project).await;
    let project_config = project_config.as_deref();
    // Its keys are known for a moment yet, and configuration may name it for good.
    if project_config.is_some_and(|config| config.is_erased) {
        return Err(Error::Conflict("the project is erased".into()));
    }
    let violation = match project_config {
        Some(config) => schema::find_violation(app, config, event).await,
        None => None,
    };
    if let Some(violation) = violation {
        schema::record_violation(app, project, event, &violation, now).await;
        if violation.is_rejected() {
            return schema::refuse(app, access, event, violation).await;
        }
    }
    let mut acceptance = publish::publish(app, access, project_config, event, now).await?;
    if access.tenant().is_some() && acceptance.matched.is_some() {
        acceptance.matched = project_config.map(|config| own_matches(config, access, event));
    }
    Ok(acceptance)
}

/// How many of the endpoints that an event is for `access` reaches.
fn own_matches(project_config: &ProjectConfig, access: &Access, event: &Event) -> usize {
    let targets = &project_config.targets;
    let matching = targets.matching(event.event_type(), event.tenant());
    let own = matching.filter(|target| access.covers(target.filter.tenant()));
    own.count()
}
