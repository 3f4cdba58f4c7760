//! Media types (RFC 9110 §8.3), and the content mode a request's headers announce.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::error::{Error, Result};

/// How a request carries its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One CloudEvent in JSON: [`parse_structured`](super::parse_structured).
    Structured,
    /// An array of CloudEvents in JSON: [`split_batch`](super::split_batch).
    Batch,
    /// Attributes in headers: [`parse_binary`](super::parse_binary).
    Binary,
    /// `{type, data, …}`: [`parse_plain`](super::parse_plain).
    Plain,
}

/// What a refusal says where any mode is taken.
const SUPPORTED_TYPES: &str = "application/cloudevents+json, \
    application/cloudevents-batch+json, application/json, \
    or any with the event's attributes in ce- headers; JSON in UTF-8";

/// What a refusal says where a batch alone is taken.
const BATCH_TYPES: &str = "application/json or application/cloudevents-batch+json, \
    in UTF-8 and without ce- headers";

/// The mode that `headers` announce.
///
/// A CloudEvents content type decides over `ce-` headers, which may repeat the
/// attributes (HTTP binding §3.2.3).
///
/// # Errors
/// [`Error::UnsupportedMediaType`], listing what is spoken: another event format
/// or charset, or neither a known content type nor `ce-` headers.
pub fn mode(headers: &HeaderMap) -> Result<Mode> {
    let media_type = content_type(headers);
    let mode = match media_type {
        Some(media_type) if media_type.is_cloudevents() => media_type.json_mode(),
        _ if has_attributes(headers) => Some(Mode::Binary),
        media_type => media_type.and_then(|media_type| media_type.json_mode()),
    };
    mode.ok_or_else(|| unsupported(SUPPORTED_TYPES, headers))
}

/// The mode of each event of the batch that `headers` announce.
///
/// # Errors
/// [`Error::UnsupportedMediaType`], which says what it is: anything else than a batch of
/// CloudEvents or JSON, or with the attributes of one event in `ce-` headers.
pub fn batch_item_mode(headers: &HeaderMap) -> Result<Mode> {
    match mode(headers) {
        Ok(Mode::Batch) => Ok(Mode::Structured),
        Ok(Mode::Plain) => Ok(Mode::Plain),
        Ok(Mode::Structured | Mode::Binary) | Err(_) => Err(unsupported(BATCH_TYPES, headers)),
    }
}

/// Checks that the body is of `application/json`, in UTF-8.
///
/// # Errors
/// [`Error::UnsupportedMediaType`], which says what it is.
pub fn check_json(headers: &HeaderMap) -> Result<()> {
    let media_type = content_type(headers);
    match media_type.and_then(|media_type| media_type.json_mode()) {
        Some(Mode::Plain) => Ok(()),
        _ => Err(unsupported("application/json, in UTF-8", headers)),
    }
}

/// Whether there are attributes of an event among the headers.
fn has_attributes(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("ce-"))
}

fn content_type(headers: &HeaderMap) -> Option<MediaType<'_>> {
    let value = headers.get(CONTENT_TYPE)?;
    MediaType::parse(value.to_str().ok()?)
}

fn unsupported(expected: &str, headers: &HeaderMap) -> Error {
    let got = match (headers.get(CONTENT_TYPE), has_attributes(headers)) {
        (Some(_), true) => "one with ce- headers",
        (Some(_), false) => "another",
        (None, true) => "none, with ce- headers",
        (None, false) => "none",
    };
    let detail = format!("Content-Type: expected {expected}; got {got}");
    Error::UnsupportedMediaType(detail.into())
}

/// A media type, borrowed from its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    charset: Option<Cow<'a, str>>,
}

impl<'a> MediaType<'a> {
    /// `type/subtype` and parameters; `None` when `text` is nothing of the kind.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, rest) = token(text.trim_start_matches(BLANK))?;
        let (subtype, rest) = token(rest.strip_prefix('/')?)?;
        let charset = charset(rest)?;
        Some(Self {
            kind,
            subtype,
            charset,
        })
    }

    /// Whether `text` is a media type whose content is JSON.
    pub fn text_is_json(text: &str) -> bool {
        MediaType::parse(text).is_some_and(|media_type| media_type.is_json())
    }

    /// `*/json` or `*/*+json` (JSON event format §3.1.1).
    pub fn is_json(&self) -> bool {
        self.has_format("json")
    }

    /// `text/*`, `*/xml` or `*/*+xml`.
    pub fn is_text(&self) -> bool {
        self.kind.eq_ignore_ascii_case("text") || self.has_format("xml")
    }

    /// No charset, or one that UTF-8 covers.
    pub fn is_utf8(&self) -> bool {
        self.charset.as_deref().is_none_or(|charset| {
            ["utf-8", "utf8", "us-ascii"]
                .iter()
                .any(|utf8| charset.eq_ignore_ascii_case(utf8))
        })
    }

    fn is_cloudevents(&self) -> bool {
        const PREFIX: &str = "cloudevents";
        self.kind.eq_ignore_ascii_case("application")
            && self
                .subtype
                .get(..PREFIX.len())
                .is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX))
    }

    fn json_mode(&self) -> Option<Mode> {
        if !self.kind.eq_ignore_ascii_case("application") || !self.is_utf8() {
            return None;
        }
        [
            ("cloudevents+json", Mode::Structured),
            ("cloudevents-batch+json", Mode::Batch),
            ("json", Mode::Plain),
        ]
        .into_iter()
        .find_map(|(subtype, mode)| self.subtype.eq_ignore_ascii_case(subtype).then_some(mode))
    }

    fn has_format(&self, format: &str) -> bool {
        let last = self.subtype.rsplit('+').next();
        last.is_some_and(|last| last.eq_ignore_ascii_case(format))
    }
}

/// The charset among the parameters; the outer `None` when they are malformed.
/// Spaces around semicolons and equals signs are taken: some clients write them.
fn charset(mut rest: &str) -> Option<Option<Cow<'_, str>>> {
    let mut charset = None;
    loop {
        rest = rest.trim_start_matches(BLANK);
        if rest.is_empty() {
            return Some(charset);
        }
        rest = rest.strip_prefix(';')?.trim_start_matches(BLANK);
        if rest.is_empty() || rest.starts_with(';') {
            continue;
        }
        let (name, value) = token(rest)?;
        let value = value.trim_start_matches(BLANK).strip_prefix('=')?;
        let value = value.trim_start_matches(BLANK);
        let (value, after) = match quoted(value) {
            Some((inside, after)) => (unescaped(inside), after),
            None => token(value).map(|(value, after)| (value.into(), after))?,
        };
        if name.eq_ignore_ascii_case("charset") {
            charset = Some(value);
        }
        rest = after;
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// A token (RFC 2045 §5.1) and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?="#.contains(&byte);
    let end = text
        .bytes()
        .position(|byte| !is_token(byte))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The inside of a quoted string, escapes left in, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((&inside[..end], &inside[end + 1..]))
}

/// The text of a quoted string: a backslash stands for what follows it.
fn unescaped(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return inside.into();
    }
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        text.extend(match character {
            '\\' => characters.next(),
            other => Some(other),
        });
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_content_type_tells_the_mode() {
        for (content_type, expected) in [
            ("application/cloudevents+json", Some(Mode::Structured)),
            (
                "Application/CloudEvents+JSON; charset=UTF-8",
                Some(Mode::Structured),
            ),
            (
                "application/cloudevents-batch+json;charset=\"utf-8\"",
                Some(Mode::Batch),
            ),
            ("application/json", Some(Mode::Plain)),
            ("application/json;", Some(Mode::Plain)),
            (" application/json ; charset = utf-8 ", Some(Mode::Plain)),
            (
                "application/cloudevents+json\t;\tCharset =\"UTF\\-8\"; a= \"b;c\" ;",
                Some(Mode::Structured),
            ),
            ("APPLICATION/JSON;CHARSET=US-ASCII", Some(Mode::Plain)),
            ("application/json; charset = latin1", None),
            ("application/json charset=utf-8", None),
            ("application /json", None),
            ("application/json; charset=iso-8859-1", None),
            ("application/cloudevents+json; charset=utf-16", None),
            ("application/cloudevents+avro", None),
            ("application/cloudevents-batch+protobuf", None),
            ("application/cloudevents", None),
            ("application/x-www-form-urlencoded", None),
            ("text/json", None),
            ("json", None),
        ] {
            let found = mode(&headers(&[("content-type", content_type)]));
            match expected {
                Some(expected) => assert_eq!(found.unwrap(), expected, "{content_type}"),
                None => assert!(
                    matches!(found, Err(Error::UnsupportedMediaType(_))),
                    "{content_type}"
                ),
            }
        }
    }

    #[test]
    fn ce_headers_mean_binary_unless_the_content_type_is_cloudevents() {
        let version = ("ce-specversion", "1.0");
        let with = |content_type| mode(&headers(&[("content-type", content_type), version]));
        assert_eq!(with("application/json").unwrap(), Mode::Binary);
        assert_eq!(with("nonsense").unwrap(), Mode::Binary);
        assert_eq!(
            with("application/cloudevents+json").unwrap(),
            Mode::Structured
        );
        assert!(with("application/cloudevents+avro").is_err());
        assert_eq!(mode(&headers(&[version])).unwrap(), Mode::Binary);
        assert_eq!(mode(&headers(&[("ce-id", "1")])).unwrap(), Mode::Binary);
        assert!(mode(&headers(&[])).is_err());
    }

    #[test]
    fn a_refusal_says_what_is_taken() {
        let refused = |content_type| {
            let refused = mode(&headers(&[("content-type", content_type)]));
            refused.unwrap_err().to_string()
        };
        assert!(refused("application/xml").ends_with("; got another"));
        assert!(refused("application/xml").contains("application/cloudevents-batch+json"));
        let none = check_json(&headers(&[])).unwrap_err().to_string();
        assert_eq!(
            none,
            "Content-Type: expected application/json, in UTF-8; got none"
        );
        let fine = headers(&[("content-type", "application/json ; charset = \"utf-8\"")]);
        assert!(check_json(&fine).is_ok());
    }

    #[test]
    fn a_batch_is_refused_by_what_it_came_as() {
        let json = ("content-type", "application/json");
        assert_eq!(batch_item_mode(&headers(&[json])).unwrap(), Mode::Plain);
        let expected = "Content-Type: expected application/json or \
            application/cloudevents-batch+json, in UTF-8 and without ce- headers; got ";
        for (given, got) in [
            (&[json, ("ce-id", "1")][..], "one with ce- headers"),
            (&[("content-type", "text/plain")], "another"),
            (
                &[("content-type", "application/cloudevents+json")],
                "another",
            ),
            (&[], "none"),
        ] {
            let refused = batch_item_mode(&headers(given)).unwrap_err().to_string();
            assert_eq!(refused, format!("{expected}{got}"));
        }
    }

    #[test]
    fn parameters_may_be_quoted() {
        let parsed = MediaType::parse(r#"text/plain; a="x;\"y"; charset="latin1""#).unwrap();
        assert_eq!(parsed.charset.as_deref(), Some("latin1"));
        assert!(!parsed.is_utf8());
        for bad in [
            "",
            "text",
            "text/",
            "/plain",
            "a/b c",
            "a/b; c",
            "a/b;c=",
            "a/b;c=\"d",
        ] {
            assert_eq!(MediaType::parse(bad), None, "{bad}");
        }
    }
}
