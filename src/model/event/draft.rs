//! An event on its way from any mode to canonical form: the one place where
//! rules are applied, defaults filled in and the body written.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{ATTRIBUTE_BYTES_MAX, BODY_BYTES_MAX, Event, PlainDefaults, fingerprint, rules};
use crate::error::{Error, Result};

/// What a publisher sent, borrowed from the request.
pub(super) struct Draft<'a> {
    /// Every attribute, `specversion` and `datacontenttype` included.
    pub attributes: Vec<Attribute<'a>>,
    /// The payload.
    pub data: Data<'a>,
}

/// One context attribute.
pub(super) struct Attribute<'a> {
    pub name: Cow<'a, str>,
    pub value: AttributeScalar<'a>,
}

/// An attribute's value, as far as JSON tells the types apart.
pub(super) enum AttributeScalar<'a> {
    String(Cow<'a, str>),
    Integer(i32),
    Boolean(bool),
}

/// The payload, as it goes into the body.
pub(super) enum Data<'a> {
    None,
    /// `data` in JSON as written: any value, or a string if the content type is not JSON.
    Json(&'a RawValue),
    /// Text that is not JSON; `data` becomes a string.
    Text(&'a str),
    /// Anything else; becomes `data_base64`.
    Binary(Cow<'a, [u8]>),
}

impl<'a> Attribute<'a> {
    /// A string attribute.
    pub fn string(name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        Self {
            name: name.into(),
            value: AttributeScalar::String(value.into()),
        }
    }
}

impl<'a> Draft<'a> {
    /// The attribute's text, if it is there and a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find_map(|attribute| {
            match (attribute.name == name, &attribute.value) {
                (true, AttributeScalar::String(text)) => Some(&**text),
                _ => None,
            }
        })
    }

    /// Applies the rules and writes the canonical form.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the first rule broken; [`Error::TooLarge`] when the
    /// canonical form exceeds [`BODY_BYTES_MAX`] or [`ATTRIBUTE_BYTES_MAX`].
    pub fn finish(mut self, defaults: Option<PlainDefaults<'a>>) -> Result<Event> {
        self.attributes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        rules::check_once(self.attributes.iter().map(|attribute| &*attribute.name))?;
        for attribute in &self.attributes {
            rules::check(&attribute.name, &attribute.value)?;
        }
        let fingerprint = fingerprint::of(&self)?;
        if let Some(defaults) = defaults {
            self.fill(defaults)?;
        }
        if self.text("specversion").is_none() {
            return Err(rules::missing("specversion").into());
        }
        let event = Event::assemble(&self.attributes, fingerprint)?;
        let (body, data) = self.write()?;
        Ok(event.with_body(body, data))
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

    fn write(&self) -> Result<(Bytes, Option<Range<usize>>)> {
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
        limit("the event's attributes", body.len(), ATTRIBUTE_BYTES_MAX)?;
        let data = write_data(&mut body, &self.data);
        body.push(b'}');
        limit("the event in JSON", body.len(), BODY_BYTES_MAX)?;
        Ok((body.into(), data))
    }

    /// Close to what the body takes, so that one allocation usually does.
    fn bytes_estimate(&self) -> usize {
        let attributes: usize = self
            .attributes
            .iter()
            .map(|attribute| {
                let value = match &attribute.value {
                    AttributeScalar::String(text) => text.len(),
                    AttributeScalar::Integer(_) | AttributeScalar::Boolean(_) => 12,
                };
                attribute.name.len() + value + 6
            })
            .sum();
        let data = match &self.data {
            Data::None => 0,
            Data::Json(json) => json.get().len(),
            Data::Text(text) => text.len() + text.len() / 8,
            Data::Binary(bytes) => bytes.len().div_ceil(3) * 4,
        };
        attributes + data + 40
    }
}

/// Fails when `bytes` is over `bytes_max`, naming `what`, the limit and the size.
pub(super) fn limit(what: &str, bytes: usize, bytes_max: usize) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Error::TooLarge(
        format!("{what}: expected at most {bytes_max} bytes, got {bytes}").into(),
    ))
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
