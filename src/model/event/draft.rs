//! The draft of an event: what a publisher sent, in whatever mode, before any rule.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// The largest single event, in bytes as received (a binary-mode event: its body).
pub const EVENT_BYTES_MAX: usize = 262_144;
/// The largest canonical body, in bytes: room for [`EVENT_BYTES_MAX`] in Base64.
pub const BODY_BYTES_MAX: usize = 393_216;
/// The most that the names and values of the attributes may take, in bytes: all of an
/// event of 64 KiB, which the specification has everyone pass on, and some more for what
/// an event of Millrace's own says about one.
pub const ATTRIBUTE_BYTES_MAX: usize = 66_560;
/// The most that the canonical body may take with the attributes that are kept beside
/// it, for lists, in bytes: an item of the event store has 4 KiB more.
pub(super) const KEPT_BYTES_MAX: usize = 405_504;
/// The most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 100;

/// What a publisher sent, borrowed from the request.
pub(super) struct Draft<'a> {
    /// Every attribute, `specversion` and `datacontenttype` included.
    pub attributes: Vec<Attribute<'a>>,
    pub data: Data<'a>,
}

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
    Json(Cow<'a, RawValue>),
    /// Text that is not JSON; `data` becomes a string.
    Text(&'a str),
    /// Anything else; becomes `data_base64`.
    Binary(Cow<'a, [u8]>),
}

impl<'a> Attribute<'a> {
    pub fn string(name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        Self {
            name: name.into(),
            value: AttributeScalar::String(value.into()),
        }
    }
}

impl Attribute<'_> {
    /// What the name and the value take, as text.
    pub fn bytes(&self) -> usize {
        let value = match &self.value {
            AttributeScalar::String(text) => text.len(),
            AttributeScalar::Integer(number) => number.to_string().len(),
            AttributeScalar::Boolean(truth) => truth.to_string().len(),
        };
        self.name.len() + value
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
