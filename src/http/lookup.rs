//! The lookup of an endpoint that a request names, without PostgreSQL: what is
//! another project's is not found.

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::endpoint::EndpointState;
use crate::model::id::{EndpointId, ProjectId};

/// Refuses an endpoint that is not the project's.
pub(super) async fn ensure_endpoint(app: &App, project: &ProjectId, id: &EndpointId) -> Result<()> {
    // From the projection: looking at deliveries works without PostgreSQL.
    let project_config = app.projection.project_config_with(project, id).await?;
    match project_config.targets.get(id) {
        Some(target) if target.state != EndpointState::Deleted => Ok(()),
        _ => Err(Error::not_found("endpoint", id)),
    }
}
