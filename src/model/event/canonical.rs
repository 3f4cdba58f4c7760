//! The canonical form of an event: rules applied, defaults filled in, the body
//! written. This is the one place that makes an [`Event`].

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;

use super::draft::{
    ATTRIBUTE_BYTES_MAX, Attribute, AttributeScalar, BODY_BYTES_MAX, Data, Draft, KEPT_BYTES_MAX,
    limit,
};
use super::{fingerprint, members, rules};
use crate::error::{Error, Invalid, Result};

/// What the plain form may leave out.
#[derive(Debug, Clone, Copy)]
pub struct PlainDefaults<'a> {
    /// A fresh random id.
    pub id: &'a str,
    /// A URI reference for where events without a source come from.
    pub source: &'a str,
    /// The time of receipt.
    pub time: Timestamp,
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
    time: Option<EventTime>,
    body: Bytes,
    data: Option<Range<usize>>,
    fingerprint: [u8; 32],
}

/// The `time` of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EventTime {
    /// As its publisher wrote it.
    text: Box<str>,
    /// The moment it names; none where an earlier version kept what names none.
    at: Option<Timestamp>,
}

impl Event {
    /// Reads back an event from its canonical body and the fingerprint stored with it.
    ///
    /// Trusts both: no rule is checked again and nothing is hashed.
    ///
    /// # Errors
    /// [`Error::Internal`] when `body` is not one that [`Event::body`] gave.
    pub fn from_stored(body: Bytes, fingerprint: [u8; 32]) -> Result<Self> {
        let parts = members::parse_trusted(&body).map_err(corrupt_stored_event)?;
        let data = parts.data;
        let event = Self::assemble(&parts.attributes, fingerprint).map_err(corrupt_stored_event)?;
        Ok(event.with_body(CanonicalBody { bytes: body, data }))
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
        self.time.as_ref()?.at
    }

    /// The `time`, if any, as its publisher wrote it.
    pub fn time_text(&self) -> Option<&str> {
        self.time.as_ref().map(|time| &*time.text)
    }

    /// What lists show and are narrowed by, and so is kept beside the body too: each
    /// attribute that the event has, under the name it is kept by.
    pub fn listed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let listed = [
            ("ce_id", Some(self.id())),
            ("type", Some(self.event_type())),
            ("source", Some(self.source())),
            ("subject", self.subject()),
            ("tenant", self.tenant()),
            ("time", self.time_text()),
        ];
        let present = |(name, value): (_, Option<_>)| value.map(|value| (name, value));
        listed.into_iter().filter_map(present)
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
                "time" => time = Some(text),
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
            time: time.map(|text| EventTime {
                at: rules::kept_time(text),
                text: Box::from(&**text),
            }),
            body: Bytes::new(),
            data: None,
            fingerprint,
        })
    }

    fn with_body(self, body: CanonicalBody) -> Self {
        Self {
            body: body.bytes,
            data: body.data,
            ..self
        }
    }
}

/// A canonical body, written.
pub(super) struct CanonicalBody {
    pub(super) bytes: Bytes,
    /// Where `data` is, if there is any.
    data: Option<Range<usize>>,
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

pub(super) fn corrupt_stored_event(error: impl fmt::Display) -> Error {
    Error::internal(anyhow::anyhow!("a stored event does not parse: {error}"))
}

impl<'a> Draft<'a> {
    /// Applies the rules and writes the canonical form.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first rule broken; [`Error::TooLarge`] when the
    /// attributes exceed [`ATTRIBUTE_BYTES_MAX`], or the canonical form what is kept.
    pub fn finish(mut self, defaults: Option<PlainDefaults<'a>>) -> Result<Event> {
        self.attributes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rules::check_once(self.attributes.iter().map(|attribute| &*attribute.name))?;
        for attribute in &self.attributes {
            rules::check(&attribute.name, &attribute.value)?;
        }
        let bytes = self.attributes.iter().map(Attribute::bytes).sum();
        limit("the event's attributes", bytes, ATTRIBUTE_BYTES_MAX)?;
        let fingerprint = fingerprint::of(&self)?;
        if let Some(defaults) = defaults {
            self.fill(defaults)?;
        }
        if self.text("specversion").is_none() {
            return Err(rules::missing("specversion").into());
        }
        let event = Event::assemble(&self.attributes, fingerprint)?;
        let event = event.with_body(self.write()?);
        let listed: usize = event.listed().map(|(_, value)| value.len()).sum();
        let kept = event.body.len() + listed;
        limit("the event as it is kept", kept, KEPT_BYTES_MAX)?;
        Ok(event)
    }

    fn fill(&mut self, defaults: PlainDefaults<'a>) -> Result<()> {
        let PlainDefaults { id, source, time } = defaults;
        for (name, value) in [
            ("specversion", Cow::Borrowed("1.0")),
            ("id", Cow::Borrowed(id)),
            ("source", Cow::Borrowed(source)),
            ("time", Cow::Owned(time.to_string())),
        ] {
            let place = self.attributes.binary_search_by(|a| (*a.name).cmp(name));
            if let Err(place) = place {
                let attribute = Attribute::string(name, value);
                rules::check(name, &attribute.value)?;
                self.attributes.insert(place, attribute);
            }
        }
        Ok(())
    }

    /// The canonical form.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it exceeds [`BODY_BYTES_MAX`].
    pub(super) fn write(&self) -> Result<CanonicalBody> {
        let mut body = Vec::with_capacity(self.bytes_estimate());
        body.extend_from_slice(br#"{"specversion":"1.0""#);
        for name in ["id", "source", "type"] {
            self.attributes
                .iter()
                .filter(|attribute| attribute.name == name)
                .for_each(|attribute| write_attribute(&mut body, attribute));
        }
        for attribute in &self.attributes {
            if !matches!(&*attribute.name, "specversion" | "id" | "source" | "type") {
                write_attribute(&mut body, attribute);
            }
        }
        let data = write_data(&mut body, &self.data);
        body.push(b'}');
        limit("the event in JSON", body.len(), BODY_BYTES_MAX)?;
        Ok(CanonicalBody {
            bytes: body.into(),
            data,
        })
    }

    /// Close to what the body takes, so that one allocation usually does.
    fn bytes_estimate(&self) -> usize {
        let attributes = self
            .attributes
            .iter()
            .map(|attribute| attribute.bytes() + 6);
        let attributes: usize = attributes.sum();
        let data = match &self.data {
            Data::None => 0,
            Data::Json(json) => json.get().len(),
            Data::Text(text) => text.len() + text.len() / 8,
            Data::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        };
        attributes + data + 40
    }
}

fn write_attribute(body: &mut Vec<u8>, Attribute { name, value }: &Attribute<'_>) {
    body.extend_from_slice(b",\"");
    // A name is [a-z0-9]+, checked before: nothing to escape.
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":");
    match value {
        AttributeScalar::String(text) => write_string(body, text),
        AttributeScalar::Integer(number) => body.extend_from_slice(number.to_string().as_bytes()),
        AttributeScalar::Boolean(true) => body.extend_from_slice(b"true"),
        AttributeScalar::Boolean(false) => body.extend_from_slice(b"false"),
    }
}

fn write_data(body: &mut Vec<u8>, data: &Data<'_>) -> Option<Range<usize>> {
    if let Data::Binary(bytes) = data {
        body.extend_from_slice(br#","data_base64":""#);
        body.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        body.push(b'"');
    }
    if !matches!(data, Data::Json(_) | Data::Text(_)) {
        return None;
    }
    body.extend_from_slice(br#","data":"#);
    let start = body.len();
    match data {
        Data::Json(json) => body.extend_from_slice(json.get().as_bytes()),
        Data::Text(text) => write_string(body, text),
        Data::None | Data::Binary(_) => {}
    }
    Some(start..body.len())
}

fn write_string(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a string always serializes into memory");
}
