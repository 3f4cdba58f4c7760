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
    endpoint_state(app, project, id).await.map(drop)
}

/// Refuses an endpoint that is not the project's, and one to which nothing is sent
/// now: whoever asks for an attempt would wait for it in vain.
pub(super) async fn ensure_enabled(app: &App, project: &ProjectId, id: &EndpointId) -> Result<()> {
    refuse_disabled(endpoint_state(app, project, id).await?)
}

/// Refuses any state but enabled.
pub(super) fn refuse_disabled(state: EndpointState) -> Result<()> {
    match state {
        EndpointState::Enabled => Ok(()),
        state => {
            let state = state.as_str();
            let detail = format!("the endpoint is not enabled but {state}: enable it first");
            Err(Error::Conflict(detail.into()))
        }
    }
}

async fn endpoint_state(app: &App, project: &ProjectId, id: &EndpointId) -> Result<EndpointState> {
    // From the projection: looking at deliveries works without PostgreSQL.
    let project_config = app.projection.project_config_with(project, id).await?;
    match project_config.targets.get(id) {
        Some(target) if target.state != EndpointState::Deleted => Ok(target.state),
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

/// The same of an endpoint to which something is sent now. PostgreSQL is asked for a
/// uid first: another instance may have given it to another endpoint a moment ago,
/// whose events are none of this one's. Where it does not answer, what is known here
/// counts.
///
/// # Errors
/// As [`endpoint`], and [`Error::Conflict`] when it is not enabled.
pub(super) async fn enabled_endpoint(
    app: &App,
    project: &ProjectId,
    named: &EndpointRef,
) -> Result<EndpointId> {
    let id = match stored_endpoint(app, project, named).await {
        Err(Error::Unavailable { .. }) => endpoint(app, project, named).await?,
        found => found?,
    };
    ensure_enabled(app, project, &id).await?;
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
