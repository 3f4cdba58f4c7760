//! The lookup of an endpoint that a request names, without PostgreSQL: what is
//! another project's is not found.

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::endpoint::EndpointState;
use crate::model::id::{EndpointId, ProjectId};

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
