//! The texts of an event, as they are read from JSON and as errors repeat them.

use std::borrow::Cow;

use serde::Deserialize;

pub(super) use crate::model::parse_error::{capped, echo};

/// A string borrowed from the JSON text where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);
