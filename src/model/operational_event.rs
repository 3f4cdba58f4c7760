//! Operational events: what Millrace publishes about itself.
//!
//! Published by `operational_events`; the particulars are up to the caller.

pub mod catalog;

use serde_json::{Value, json};

use super::event::{self, Event};
use crate::error::Result;

/// An operational event, before it is a CloudEvent.
#[derive(Debug)]
pub struct OperationalEvent<'a> {
    /// What happened.
    pub kind: OperationalEventKind,
    /// The path of what it happened to, `/v1/endpoints/ep_…`.
    pub source: &'a str,
    /// What makes it this occurrence and no other: published twice, it is one event.
    pub occurrence_key: &'a str,
    /// The tenant it concerns, if it concerns one.
    pub tenant: Option<&'a str>,
    /// The particulars. No secret, no payload.
    pub data: Value,
}

/// The types of operational events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationalEventKind {
    /// An endpoint has failed for so long that it is about to be disabled.
    EndpointFailing,
    /// An endpoint was disabled: it failed for days, or answered 410.
    EndpointDisabled,
    /// A delivery failed for good.
    DeliveryExhausted,
    /// An API key was created.
    KeyCreated,
    /// An event's data did not satisfy the schema of its type.
    SchemaRejected,
}

impl OperationalEventKind {
    /// Every one: [`CATALOG`](catalog::CATALOG) says of each what it holds.
    pub const ALL: [Self; 5] = [
        Self::EndpointFailing,
        Self::EndpointDisabled,
        Self::DeliveryExhausted,
        Self::KeyCreated,
        Self::SchemaRejected,
    ];

    /// The CloudEvents `type`.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::EndpointFailing => "millrace.endpoint.failing",
            Self::EndpointDisabled => "millrace.endpoint.disabled",
            Self::DeliveryExhausted => "millrace.delivery.exhausted",
            Self::KeyCreated => "millrace.key.created",
            Self::SchemaRejected => "millrace.schema.rejected",
        }
    }
}

impl OperationalEvent<'_> {
    /// The same as a CloudEvent. Its id is derived from its kind and `occurrence_key`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::error::Error::Invalid) when it makes no CloudEvent:
    /// a source that is no URI reference, an `occurrence_key` that is too long.
    pub fn to_event(&self) -> Result<Event> {
        let mut text = json!({
            "specversion": "1.0",
            "id": format!("{}/{}", self.kind.event_type(), self.occurrence_key),
            "source": self.source,
            "type": self.kind.event_type(),
            "datacontenttype": "application/json",
            "data": self.data,
        });
        if let Some(tenant) = self.tenant {
            text["tenant"] = tenant.into();
        }
        event::parse_structured(text.to_string().as_bytes())
    }
}
