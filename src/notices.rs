//! What Millrace itself has to say: operational events, which go the way of any
//! publisher's and reach the endpoints that ask for their type by name.
//!
//! Called by the API and by jobs. Touches DynamoDB and the queue only.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::accept;
use crate::app::App;
use crate::error::Result;
use crate::model::event;
use crate::model::id::ProjectId;

/// An operational event.
#[derive(Debug)]
pub struct Notice<'a> {
    /// What happened.
    pub kind: Kind,
    /// The path of what it happened to, `/v1/endpoints/ep_…`.
    pub source: &'a str,
    /// What makes it this occurrence and no other: told twice, it is one event.
    pub occasion: &'a str,
    /// The tenant it concerns, if it concerns one.
    pub tenant: Option<&'a str>,
    /// The particulars. No secret, no payload.
    pub data: Value,
}

/// The types of operational events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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

impl Kind {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::EndpointFailing,
        Self::EndpointDisabled,
        Self::DeliveryExhausted,
        Self::KeyCreated,
        Self::SchemaRejected,
    ];

    /// The CloudEvents `type`.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::EndpointFailing => "millrace.endpoint.failing",
            Self::EndpointDisabled => "millrace.endpoint.disabled",
            Self::DeliveryExhausted => "millrace.delivery.exhausted",
            Self::KeyCreated => "millrace.key.created",
            Self::SchemaRejected => "millrace.schema.rejected",
        }
    }
}

/// Publishes a notice once, however often it is called for the same occasion.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer; calling again is safe.
pub async fn publish(
    app: &App,
    project: &ProjectId,
    notice: &Notice<'_>,
    now: Timestamp,
) -> Result<()> {
    let mut text = json!({
        "specversion": "1.0",
        "id": format!("{}/{}", notice.kind.event_type(), notice.occasion),
        "source": notice.source,
        "type": notice.kind.event_type(),
        "datacontenttype": "application/json",
        "data": notice.data,
    });
    if let Some(tenant) = notice.tenant {
        text["tenant"] = tenant.into();
    }
    let event = event::parse_structured(text.to_string().as_bytes())?;
    match accept::accept_own(app, project, &event, now).await {
        // Told before in other words: once is enough.
        Err(crate::error::Error::Conflict(_)) => Ok(()),
        told => told.map(|_| ()),
    }
}

/// As [`publish`], for whoever goes on all the same: a failure is logged.
pub async fn tell(app: &App, project: &ProjectId, notice: &Notice<'_>, now: Timestamp) {
    if let Err(error) = publish(app, project, notice, now).await {
        let kind = notice.kind.event_type();
        tracing::warn!(%error, kind, "operational event not published");
    }
}
