//! Operational events: what Millrace publishes about itself.
//!
//! Published by `operational_events`; the particulars are up to the caller.

mod catalog;
mod kind;

use serde_json::{Value, json};

pub use catalog::{CATALOG, CatalogEntry};
pub use kind::OperationalEventKind;

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
