//! The lookup of an endpoint that a request names, by its id or its uid: what is
//! another project's is not found.

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::endpoint::EndpointState;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::{EndpointId, ProjectId};
use crate::store::endpoints::named;

/// Refuses an endpoint that is not the project's.
pub(super) async fn ensure_endpoint(app: &App, project: &ProjectId, id: &EndpointId) -> Result<()> {
    // From the projection: looking at deliveries works without PostgreSQL.
    let project_config = app.projection.project_config_with(project, id).await?;
    match project_config.targets.get(id) {
        Some(target) if target.state != EndpointState::Deleted => Ok(()),
        _ => Err(Error::not_found("endpoint", id)),
    }
}

/// The id of the project's endpoint that is named so, for what the data plane does.
///
/// Nothing is read of PostgreSQL but for a uid that is not known here yet: another
/// instance may have given it a moment ago.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when a store does not answer.
pub(super) async fn endpoint(
    app: &App,
    project: &ProjectId,
    named: &EndpointRef,
) -> Result<EndpointId> {
    let known = app.projection.project_config(project).await?;
    if let Some(target) = known.targets.find(named) {
        return Ok(target.id.clone());
    }
    let id = named::find(&app.postgres, project, named).await?;
    ensure_endpoint(app, project, &id).await?;
    Ok(id)
}

/// The id of the project's endpoint that is named so, for what PostgreSQL decides. One
/// query for a uid; of an id nothing is looked up.
///
/// # Errors
/// As [`endpoint`].
pub(super) async fn stored_endpoint(
    app: &App,
    project: &ProjectId,
    named: &EndpointRef,
) -> Result<EndpointId> {
    named::find(&app.postgres, project, named).await
}
