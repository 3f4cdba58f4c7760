//! The texts of an event, as they are read from JSON.

use std::borrow::Cow;

use serde::Deserialize;

/// A string borrowed from the JSON text where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);
