//! Telling that a delivery failed for good.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::app::App;
use crate::model::delivery::{Attempt, Progress, Verdict};
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::{DeliveryId, ProjectId};
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};

/// What of an event is needed to tell of it.
#[derive(Debug, Deserialize)]
pub struct EventHead {
    /// The CloudEvents `type`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The extension attribute `tenant`.
    pub tenant: Option<String>,
}

impl EventHead {
    /// Of an event's canonical body.
    pub fn of(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether Millrace published it itself.
    pub fn is_own(&self) -> bool {
        self.event_type.starts_with(RESERVED_PREFIX)
    }
}

/// Publishes `millrace.delivery.exhausted`, once for each round of the schedule,
/// but not for Millrace's own events: that would go on for ever.
pub async fn publish_exhausted(
    app: &App,
    (project, id, body): (&ProjectId, &DeliveryId, &[u8]),
    progress: Progress,
    last: &Attempt,
    verdict: Verdict,
    now: Timestamp,
) {
    let Some(event) = EventHead::of(body).filter(|event| !event.is_own()) else {
        return;
    };
    let reason = match verdict {
        Verdict::Gone => "gone",
        _ => "schedule_exhausted",
    };
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::DeliveryExhausted,
        source: &format!("/v1/deliveries/{id}"),
        occurrence_key: &format!("{id}/{}", progress.round_start),
        tenant: event.tenant.as_deref(),
        data: json!({
            "delivery_id": id,
            "event_id": id.event(),
            "event_type": event.event_type,
            "endpoint_id": id.endpoint(),
            "reason": reason,
            "attempts_made": progress.attempts_made + 1,
            "last_attempt": {
                "at": last.at,
                "status": last.status,
                "error": last.error,
            },
        }),
    };
    operational_events::publish_best_effort(app, project, &operational_event, now).await;
}
