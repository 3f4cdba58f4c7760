//! The attempts of a delivery: what was sent and what came back.

use std::collections::BTreeMap;

use http::HeaderMap;
use serde::Serialize;

use crate::model::delivery;
use crate::model::event;
use crate::model::id::EventId;
use crate::model::time::Time;
use crate::store::deliveries::StoredDelivery;
use crate::store::events::StoredEvent;

/// One HTTP try.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Attempt {
    /// When the request was sent.
    at: Time,
    /// From the first byte sent, connecting included, to the last byte read.
    duration_ms: u64,
    /// The answer's status; absent when none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 100, maximum = 999)]
    status: Option<u16>,
    /// Why none came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// The first bytes of the answer's body, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    response: Option<String>,
    /// The headers of the request by name, but for `host` and `content-length`. Values
    /// of the endpoint's own headers and of its authentication are `***`. With
    /// `body_format` `data`, the headers that hold the event are only in the deliveries of
    /// one event and in one delivery, long ones cut. Absent where an earlier version made
    /// the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request_headers: Option<BTreeMap<String, String>>,
}

impl Attempt {
    pub(super) fn of(attempt: delivery::Attempt, event: &EventId, headers: &EventHeaders) -> Self {
        let at = attempt.at.0.as_second();
        let sent = attempt.sent.as_ref();
        Self {
            request_headers: sent.map(|sent| sent.shown(event, at, headers.0.as_ref())),
            at: attempt.at,
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            error: attempt.error,
            response: attempt.response,
        }
    }
}

/// The headers that hold an event where its body is its data alone, if they are known.
#[derive(Debug, Default)]
pub(super) struct EventHeaders(Option<HeaderMap>);

impl EventHeaders {
    /// Those of `event`; none of one that cannot be read.
    pub(super) fn of(event: &StoredEvent) -> Self {
        Self(
            event::to_binary(&event.body)
                .ok()
                .map(|(headers, _)| headers),
        )
    }
}

/// Whether a request of `delivery` held the event in its headers.
pub(super) fn hold_event(delivery: &StoredDelivery) -> bool {
    let mut sent = delivery
        .attempts
        .iter()
        .filter_map(|attempt| attempt.sent.as_ref());
    sent.any(|sent| sent.event_signature.is_some())
}
