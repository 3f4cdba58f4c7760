//! The operational event `millrace.delivery.exhausted`: a delivery failed for good.

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::model::delivery::{Attempt, Progress, Verdict};
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::{DeliveryId, ProjectId};
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};

/// A delivery whose last attempt of a round failed.
#[derive(Debug)]
pub struct ExhaustedDelivery<'a> {
    pub project: &'a ProjectId,
    pub id: &'a DeliveryId,
    /// The CloudEvents `type` of its event.
    pub event_type: &'a str,
    /// The tenant of both its event and its endpoint.
    pub tenant: Option<&'a str>,
    /// As it was before that attempt.
    pub progress: Progress,
    pub last_attempt: &'a Attempt,
    pub verdict: Verdict,
}

/// Publishes that `delivery` failed for good, once for each round of the schedule.
pub async fn publish_exhausted(app: &App, delivery: &ExhaustedDelivery<'_>, now: Timestamp) {
    // Not for Millrace's own events: that would go on for ever.
    if delivery.event_type.starts_with(RESERVED_PREFIX) {
        return;
    }
    let (id, last) = (delivery.id, delivery.last_attempt);
    let reason = match delivery.verdict {
        Verdict::Gone => "gone",
        _ => "schedule_exhausted",
    };
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::DeliveryExhausted,
        source: &format!("/v1/deliveries/{id}"),
        occurrence_key: &format!("{id}/{}", delivery.progress.round_start),
        tenant: delivery.tenant,
        data: json!({
            "delivery_id": id,
            "event_id": id.event(),
            "event_type": delivery.event_type,
            "endpoint_id": id.endpoint(),
            "reason": reason,
            "attempts_made": delivery.progress.attempts_made + 1,
            "last_attempt": {
                "at": last.at,
                "status": last.status,
                "error": last.error,
            },
        }),
    };
    operational_events::publish_best_effort(app, delivery.project, &operational_event, now).await;
}
