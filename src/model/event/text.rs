//! The texts of an event, as they are read from JSON and as errors repeat them.

use std::borrow::Cow;

use serde::Deserialize;

/// The most characters of a publisher's text that an error repeats.
const ECHO_CHARS_MAX: usize = 64;

/// A string borrowed from the JSON text where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// `text` in quotes, escaped, and not much of it.
pub(super) fn echo(text: &str) -> String {
    format!("{:?}", capped(text))
}

/// `text`, and not much of it.
pub(super) fn capped(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
