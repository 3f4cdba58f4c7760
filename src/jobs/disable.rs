//! Telling the control plane that an endpoint answered 410.

use crate::app::App;
use crate::error::Result;
use crate::model::id::EndpointId;
use crate::store::{endpoints, outbox};

/// Marks the endpoint as gone in PostgreSQL, where the delivery has done so in
/// the data plane already, and takes back the word once it is heard.
///
/// # Errors
/// When a store is out of reach; the word stays and is due again.
pub async fn disable(app: &App, id: &EndpointId) -> Result<()> {
    let Some(gone) = app.plane.gone(id).await? else {
        return Ok(());
    };
    if let Some(change) = endpoints::mark_gone(&app.postgres, id, gone).await? {
        outbox::project(&app.postgres, &app.plane, &change).await?;
        tracing::warn!(endpoint.id = %id, "endpoint disabled: it answered 410");
    }
    app.plane.forget_gone(id, gone).await
}
