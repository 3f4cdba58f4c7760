//! The lookup of what a request names in the event store: what is another project's
//! is not found.

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::endpoint::EndpointState;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::store::deliveries::{self, StoredDelivery};
use crate::store::events::{self, StoredEvent};

/// The event, if it is the project's.
pub(super) async fn event(app: &App, project: &ProjectId, id: &EventId) -> Result<StoredEvent> {
    let event = events::get(&app.dynamo, id).await?;
    let own = event.filter(|event| event.project == *project);
    own.ok_or_else(|| Error::not_found("event", id))
}

/// The delivery, if it is the project's.
pub(super) async fn delivery(
    app: &App,
    project: &ProjectId,
    id: &DeliveryId,
) -> Result<StoredDelivery> {
    let delivery = deliveries::get(&app.dynamo, id).await?;
    let own = delivery.filter(|delivery| delivery.project == *project);
    own.ok_or_else(|| Error::not_found("delivery", id))
}

/// Refuses an endpoint that is not the project's.
pub(super) async fn ensure_endpoint(app: &App, project: &ProjectId, id: &EndpointId) -> Result<()> {
    // From the projection: looking at deliveries works without PostgreSQL.
    let project_config = app.projection.project_config_with(project, id).await?;
    match project_config.targets.get(id) {
        Some(target) if target.state != EndpointState::Deleted => Ok(()),
        _ => Err(Error::not_found("endpoint", id)),
    }
}
