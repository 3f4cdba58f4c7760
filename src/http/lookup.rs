//! The lookup of an endpoint that a request names, by its id or its uid, and of a
//! delivery to one: what is another project's or tenant's is not found.

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::endpoint::{EndpointState, Target};
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::{DeliveryId, EndpointId};
use crate::store::deliveries::{self, StoredDelivery};
use crate::store::endpoints::named;

/// Refuses an endpoint that `access` does not reach.
pub(super) async fn ensure_endpoint(app: &App, access: &Access, id: &EndpointId) -> Result<()> {
    endpoint_state(app, access, id).await.map(drop)
}

/// Refuses an endpoint that `access` does not reach, and one to which nothing is sent
/// now: whoever asks for an attempt would wait for it in vain. It goes by the endpoint
/// as it is, which another instance may have enabled a moment ago: one consistent read.
pub(super) async fn ensure_enabled(app: &App, access: &Access, id: &EndpointId) -> Result<()> {
    let current = app.projection.current_endpoint(access.project(), id);
    refuse_disabled(state_of(access, id, current.await?.as_ref())?)
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

/// The delivery `id`, if `access` reaches its event and its endpoint.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when a store does not answer.
pub(super) async fn delivery(
    app: &App,
    access: &Access,
    id: &DeliveryId,
) -> Result<StoredDelivery> {
    let delivery = deliveries::get_of(&app.dynamo, access, id).await?;
    if reaches_endpoint(app, access, &id.endpoint()).await? {
        Ok(delivery)
    } else {
        Err(Error::not_found("delivery", id))
    }
}

/// Whether `access` reaches the endpoint `id`, which may be deleted. Nothing is read for
/// access to the whole project.
///
/// # Errors
/// [`Error::Unavailable`] when a store does not answer.
pub(super) async fn reaches_endpoint(app: &App, access: &Access, id: &EndpointId) -> Result<bool> {
    if access.tenant().is_none() {
        return Ok(true);
    }
    let project = access.project();
    let project_config = app.projection.project_config_with(project, id).await?;
    let target = project_config.targets.get(id);
    Ok(target.is_some_and(|target| access.covers(target.filter.tenant())))
}

async fn endpoint_state(app: &App, access: &Access, id: &EndpointId) -> Result<EndpointState> {
    // From the projection: looking at deliveries works without PostgreSQL.
    let project = access.project();
    let project_config = app.projection.project_config_with(project, id).await?;
    state_of(access, id, project_config.targets.get(id))
}

/// The state of `target`, the endpoint `id`, if `access` reaches it.
fn state_of(access: &Access, id: &EndpointId, target: Option<&Target>) -> Result<EndpointState> {
    match target {
        Some(target)
            if target.state != EndpointState::Deleted && access.covers(target.filter.tenant()) =>
        {
            Ok(target.state)
        }
        _ => Err(Error::not_found("endpoint", id)),
    }
}

/// The id of the endpoint within `access` that is named so, for what the data plane
/// does.
///
/// Nothing is read of PostgreSQL but for a uid that is not known here yet: another
/// instance may have given it a moment ago.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Unavailable`] when a store does not answer.
pub(super) async fn endpoint(
    app: &App,
    access: &Access,
    named: &EndpointRef,
) -> Result<EndpointId> {
    let known = app.projection.project_config(access.project()).await?;
    let found = known.targets.find(named);
    if let Some(target) = found.filter(|target| access.covers(target.filter.tenant())) {
        return Ok(target.id.clone());
    }
    let id = named::find(&app.postgres, access, named).await?;
    ensure_endpoint(app, access, &id).await?;
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
    access: &Access,
    named: &EndpointRef,
) -> Result<EndpointId> {
    let id = match stored_endpoint(app, access, named).await {
        Err(Error::Unavailable { .. }) => endpoint(app, access, named).await?,
        found => found?,
    };
    ensure_enabled(app, access, &id).await?;
    Ok(id)
}

/// The id of the endpoint within `access` that is named so, for what PostgreSQL decides.
/// One query for a uid; of an id nothing is looked up.
///
/// # Errors
/// As [`endpoint`].
pub(super) async fn stored_endpoint(
    app: &App,
    access: &Access,
    named: &EndpointRef,
) -> Result<EndpointId> {
    named::find(&app.postgres, access, named).await
}
