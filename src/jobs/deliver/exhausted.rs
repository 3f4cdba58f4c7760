//! The operational event `millrace.delivery.exhausted`: a delivery failed for good.
//!
//! Published once for each round of the schedule, whatever crashes: the record of the
//! last attempt leaves the delivery due, and it is until the event is published.

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::model::delivery::Attempt;
use crate::model::endpoint::Target;
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::{DeliveryId, ProjectId};
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::deliveries::{self, StoredDelivery};

/// What an endpoint answers that is gone.
const GONE: u16 = 410;

/// A delivery whose last attempt of a round failed.
#[derive(Debug)]
pub struct ExhaustedDelivery<'a> {
    pub project: &'a ProjectId,
    pub id: &'a DeliveryId,
    /// The CloudEvents `type` of its event.
    pub event_type: &'a str,
    /// The tenant of both its event and its endpoint.
    pub tenant: Option<&'a str>,
    /// That attempt included.
    pub attempts_made: u32,
    /// Attempts made when the round began.
    pub round_start: u32,
    pub last_attempt: &'a Attempt,
}

/// Whether it is told that a delivery of an event of this type failed for good: not of
/// Millrace's own events, for that would go on for ever.
pub(super) fn is_told(event_type: &str) -> bool {
    !event_type.starts_with(RESERVED_PREFIX)
}

/// The tenant that is told of a delivery to `target` of an event of tenant `of`: it
/// names both, so it is for whoever may see both.
pub(super) fn tenant<'a>(target: Option<&'a Target>, of: Option<&str>) -> Option<&'a str> {
    target?.filter.tenant().filter(|own| of == Some(own))
}

/// Publishes that `delivery` failed for good. A failure is logged, and made up for by
/// [`publish_late`].
pub(super) async fn publish_best_effort(
    app: &App,
    delivery: &ExhaustedDelivery<'_>,
    now: Timestamp,
) {
    if !is_told(delivery.event_type) {
        return;
    }
    if let Err(error) = publish(app, delivery, now).await {
        let cause = error.causes();
        tracing::warn!(delivery.id = %delivery.id, %error, cause, "delivery failure not published yet");
    }
}

/// Publishes that a delivery failed for good whose worker did not live to do so.
///
/// # Errors
/// When a store is out of reach; the delivery stays due.
pub(super) async fn publish_late(app: &App, failed: &StoredDelivery, now: Timestamp) -> Result<()> {
    let Some(last_attempt) = failed.attempts.last() else {
        return Ok(());
    };
    let (project, endpoint) = (&failed.project, failed.id.endpoint());
    let config = app
        .projection
        .project_config_with(project, &endpoint)
        .await?;
    let delivery = ExhaustedDelivery {
        project,
        id: &failed.id,
        event_type: &failed.event_type,
        tenant: tenant(config.targets.get(&endpoint), failed.tenant.as_deref()),
        attempts_made: failed.progress.attempts_made,
        round_start: failed.progress.round_start,
        last_attempt,
    };
    publish(app, &delivery, now).await
}

/// Publishes the event, and notes that nothing is left to do for the delivery.
async fn publish(app: &App, delivery: &ExhaustedDelivery<'_>, now: Timestamp) -> Result<()> {
    let (id, last) = (delivery.id, delivery.last_attempt);
    let reason = match last.status {
        Some(GONE) => "gone",
        _ => "schedule_exhausted",
    };
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::DeliveryExhausted,
        source: &format!("/v1/deliveries/{id}"),
        occurrence_key: &format!("{id}/{}", delivery.round_start),
        tenant: delivery.tenant,
        data: json!({
            "delivery_id": id,
            "event_id": id.event(),
            "event_type": delivery.event_type,
            "endpoint_id": id.endpoint(),
            "reason": reason,
            "attempts_made": delivery.attempts_made,
            "last_attempt": {
                "at": last.at,
                "status": last.status,
                "error": last.error,
            },
        }),
    };
    operational_events::publish(app, delivery.project, &operational_event, now).await?;
    deliveries::clear_notice(&app.dynamo, id, delivery.attempts_made).await?;
    Ok(())
}
