//! The disabling of an endpoint beyond the data plane: its operational event, and its
//! row in PostgreSQL.

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::model::endpoint::{EndpointState, PendingDisable};
use crate::model::id::{EndpointId, ProjectId};
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent};
use crate::store::{endpoints, projector};

/// Publishes that the endpoint was disabled and marks it so in PostgreSQL, as the
/// delivery has done in the data plane already, and clears the pending disable.
///
/// # Errors
/// When a store is out of reach; the pending disable stays and is due again.
pub async fn disable(app: &App, id: &EndpointId, now: Timestamp) -> Result<()> {
    let Some(pending) = app.projection.pending_disable(id).await? else {
        return Ok(());
    };
    if let Some(project) = &pending.project {
        // Before PostgreSQL, which the operational event need not wait for.
        publish(app, project, id, &pending, now).await?;
    }
    let marked = endpoints::mark_disabled(&app.postgres, id, &pending).await?;
    if let Some(committed) = marked {
        projector::try_apply(&app.postgres, &app.projection, committed).await?;
        let state = pending.state.as_str();
        tracing::warn!(endpoint.id = %id, state, "endpoint disabled");
    }
    app.projection.clear_pending_disable(id, &pending).await
}

async fn publish(
    app: &App,
    project: &ProjectId,
    id: &EndpointId,
    pending: &PendingDisable,
    now: Timestamp,
) -> Result<()> {
    let project_config = app.projection.project_config(project).await?;
    let target = project_config.targets.get(id);
    let reason = match pending.state {
        EndpointState::Failed => "failing",
        _ => "gone",
    };
    let operational_event = OperationalEvent {
        kind: operational_events::OperationalEventKind::EndpointDisabled,
        source: &format!("/v1/endpoints/{id}"),
        occurrence_key: &format!("{id}/{}", pending.at.as_millisecond()),
        tenant: target.and_then(|target| target.filter.tenant()),
        data: json!({
            "endpoint_id": id,
            "reason": reason,
            "disabled_at": Time(pending.at),
            "failing_since": pending.failing_since.map(Time),
        }),
    };
    operational_events::publish(app, project, &operational_event, now).await
}
