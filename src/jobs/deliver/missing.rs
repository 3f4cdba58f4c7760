//! A delivery without its event or its endpoint: what is not here yet may still come,
//! as where a table is replicated or an endpoint projected, and only what is known to be
//! gone, or does not come for long, ends it.

use std::time::Duration;

use jiff::Timestamp;

use crate::app::App;
use crate::error::Result;
use crate::model::absence::recheck_delay;
use crate::model::delivery::DeliveryState;
use crate::model::endpoint::EndpointState;
use crate::model::id::ProjectId;
use crate::store::deliveries::{self, HeldLease, StoredDelivery};

/// Before a delivery is tried again whose endpoint was only unknown to the cache.
const CACHE_RECHECK_DELAY: Duration = Duration::from_secs(1);

/// A pending delivery that lacks something.
pub(super) struct Lacking<'a> {
    pub held: HeldLease<'a>,
    /// Since when, if it was seen before.
    pub since: Option<Timestamp>,
}

/// Ends a delivery whose event has expired; one whose event is not here waits for it.
///
/// # Errors
/// When the store is out of reach; the delivery stays due.
pub(super) async fn without_event(
    app: &App,
    delivery: &StoredDelivery,
    now: Timestamp,
) -> Result<()> {
    let lacking = Lacking {
        held: delivery.lease(),
        since: delivery.missing_since,
    };
    if has_expired(delivery, now) {
        tracing::warn!(delivery.id = %delivery.id, "delivery canceled: event expired");
        return cancel(app, &lacking).await;
    }
    wait(app, &lacking, "event", now).await
}

/// Whether the delivery's time is over, and with it that of its event.
pub(super) fn has_expired(delivery: &StoredDelivery, now: Timestamp) -> bool {
    delivery.expires.is_some_and(|expires| expires <= now)
}

/// Ends a delivery whose endpoint is deleted, as the event store has it now; one whose
/// endpoint is not there waits for it.
///
/// # Errors
/// When the store is out of reach; the delivery stays due.
pub(super) async fn without_endpoint(
    app: &App,
    project: &ProjectId,
    lacking: Lacking<'_>,
    now: Timestamp,
) -> Result<()> {
    let endpoint = lacking.held.id.endpoint();
    match app.projection.current_endpoint(project, &endpoint).await? {
        Some(current) if current.state == EndpointState::Deleted => cancel(app, &lacking).await,
        Some(_) => {
            app.projection.forget(project);
            let until = now + CACHE_RECHECK_DELAY;
            deliveries::defer_timed(&app.dynamo, lacking.held, until).await?;
            Ok(())
        }
        None => wait(app, &lacking, "endpoint", now).await,
    }
}

/// Lets the delivery look again later for what it lacks, unless it has done so for too
/// long.
async fn wait(app: &App, lacking: &Lacking<'_>, missing: &str, now: Timestamp) -> Result<()> {
    let id = lacking.held.id;
    let waited = lacking.since.map(|since| now.duration_since(since));
    let waited = waited.unwrap_or_default();
    let Some(delay) = recheck_delay(waited) else {
        tracing::warn!(delivery.id = %id, missing, "delivery canceled: what it needs never came");
        return cancel(app, lacking).await;
    };
    tracing::warn!(delivery.id = %id, missing, "delivery deferred: what it needs is not here yet");
    deliveries::defer_missing(&app.dynamo, lacking.held, now + delay, now).await?;
    Ok(())
}

async fn cancel(app: &App, lacking: &Lacking<'_>) -> Result<()> {
    let HeldLease {
        id, attempts_made, ..
    } = lacking.held;
    deliveries::end(&app.dynamo, id, attempts_made, DeliveryState::Canceled).await?;
    Ok(())
}
