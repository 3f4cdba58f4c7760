//! CloudEvents 1.0.2: whatever form an event arrives in, checked and brought
//! into the one form that is stored and delivered.
//!
//! [`mode`] tells how a request carries its events; [`parse_structured`],
//! [`parse_binary`] and [`parse_plain`] read one event, [`split_batch`] cuts a
//! batch into elements for `parse_structured`; [`to_binary`] takes a stored event
//! apart again. Called by whatever accepts events and, through
//! [`Event::from_stored`], by whatever reads them back.
//! Nothing here knows about projects, HTTP answers or storage.

mod binary;
mod convert;
mod draft;
mod fingerprint;
mod media;
mod plain;
mod rules;
mod structured;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use crate::error::{Error, Invalid, Result};
use draft::{Attribute, AttributeScalar};

pub use binary::parse_binary;
pub use convert::to_binary;
pub use media::{Mode, mode};
pub use plain::{PlainDefaults, parse_plain};
pub use structured::{parse_structured, split_batch};

/// The largest single event, in bytes as received (a binary-mode event: its body).
pub const EVENT_BYTES_MAX: usize = 262_144;
/// The largest canonical body, in bytes: room for [`EVENT_BYTES_MAX`] in Base64.
pub const BODY_BYTES_MAX: usize = 393_216;
/// The most that attributes may take of the canonical body, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 16_384;
/// The most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 100;

/// Checks what an event's `tenant` may be, for whatever is to match one.
///
/// # Errors
/// [`Invalid`], which names `tenant`: empty, longer than 128 characters, or with
/// characters that no attribute may have.
pub fn check_tenant(text: &str) -> Result<(), Invalid> {
    rules::check("tenant", &AttributeScalar::String(text.into()))
}

/// A valid CloudEvent in canonical form.
///
/// Its body is compact structured-mode JSON: `specversion`, `id`, `source`,
/// `type`, the other attributes by name, then `data` as the publisher wrote it
/// or `data_base64`. Cloning copies a few short strings and shares the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    id: Box<str>,
    source: Box<str>,
    event_type: Box<str>,
    subject: Option<Box<str>>,
    tenant: Option<Box<str>>,
    time: Option<Timestamp>,
    body: Bytes,
    data: Option<Range<usize>>,
    fingerprint: [u8; 32],
}

impl Event {
    /// Reads back an event from its canonical body and the fingerprint stored with it.
    ///
    /// Trusts both: no rule is checked again and nothing is hashed.
    ///
    /// # Errors
    /// [`Error::Internal`] when `body` is not one that [`Event::body`] gave.
    pub fn from_stored(body: Bytes, fingerprint: [u8; 32]) -> Result<Self> {
        let (attributes, data) = structured::parse_trusted(&body).map_err(corrupt_stored_event)?;
        let event = Self::assemble(&attributes, fingerprint).map_err(corrupt_stored_event)?;
        Ok(event.with_body(body, data))
    }

    /// The publisher's `id`: unique within its `source`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The `source`: a URI reference naming where it happened.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The `type`: what kind of thing happened.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The `subject`, if any: what in the source it is about.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The `tenant` extension, if any: the customer it is addressed to.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The `time`, if any: when it happened.
    pub fn time(&self) -> Option<Timestamp> {
        self.time
    }

    /// The canonical body: UTF-8 JSON, sent as it is to endpoints.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The JSON text of `data`; `None` without data and for `data_base64`.
    ///
    /// It always parses as a `serde_json::Value`.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.clone().map(|range| &self.body[range])
    }

    /// SHA-256 of what the publisher sent, before defaults were filled in.
    ///
    /// The same content gives the same fingerprint in whatever mode, key order,
    /// escaping and whitespace it arrives. Numbers of `data` count by their value
    /// as a 64-bit integer or float. `data` in JSON without a `datacontenttype`
    /// counts as `application/json`, which is what its absence means.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// Picks out what has an accessor; the body is to follow.
    fn assemble(attributes: &[Attribute<'_>], fingerprint: [u8; 32]) -> Result<Self, Invalid> {
        let (mut id, mut source, mut event_type) = (None, None, None);
        let (mut subject, mut tenant, mut time) = (None, None, None);
        for Attribute { name, value } in attributes {
            let AttributeScalar::String(text) = value else {
                continue;
            };
            match &**name {
                "id" => id = Some(text),
                "source" => source = Some(text),
                "type" => event_type = Some(text),
                "subject" => subject = Some(text),
                "tenant" => tenant = Some(text),
                "time" => time = Some(rules::timestamp(text)?),
                _ => {}
            }
        }
        let required = |name, text: Option<&Cow<'_, str>>| {
            text.map(|text| Box::from(&**text))
                .ok_or_else(|| rules::missing(name))
        };
        Ok(Self {
            id: required("id", id)?,
            source: required("source", source)?,
            event_type: required("type", event_type)?,
            subject: subject.map(|text| Box::from(&**text)),
            tenant: tenant.map(|text| Box::from(&**text)),
            time,
            body: Bytes::new(),
            data: None,
            fingerprint,
        })
    }

    fn with_body(self, body: Bytes, data: Option<Range<usize>>) -> Self {
        Self { body, data, ..self }
    }
}

/// Leaves the body out: what is logged must not hold a customer's data.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("type", &self.event_type)
            .finish_non_exhaustive()
    }
}

fn corrupt_stored_event(error: impl fmt::Display) -> Error {
    Error::internal(anyhow::anyhow!("a stored event does not parse: {error}"))
}
