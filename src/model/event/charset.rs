//! The charset of an event's text: what it says it is written in, held against what it
//! is kept and sent in, which is UTF-8.

use std::borrow::Cow;

use super::media::{MediaType, is_covered_by_utf8};

/// The `Content-Type` under which `text`, whose media type is `written`, is sent in
/// UTF-8: the same, unless it, or the XML, names another charset. What a header says
/// goes before what a document says of itself (RFC 7303 §3).
pub(super) fn content_type_in_utf8<'a>(written: &'a str, text: &str) -> Cow<'a, str> {
    let Some(media_type) = MediaType::parse(written) else {
        return written.into();
    };
    let named = match media_type.charset() {
        Some(charset) => Some(charset),
        None if media_type.is_xml() => declared_encoding(text),
        None => None,
    };
    match named {
        Some(charset) if !is_right(charset, text) => media_type.in_utf8().into(),
        _ => written.into(),
    }
}

/// Whether `text`, bytes of this media type read as UTF-8, is what its publisher meant:
/// XML may say otherwise of itself.
pub(super) fn is_meant_as_utf8(media_type: &MediaType<'_>, text: &str) -> bool {
    if media_type.charset().is_some() || !media_type.is_xml() {
        return media_type.is_utf8();
    }
    // All that publishers can mean by ASCII is the same in UTF-8.
    text.is_ascii() || declared_encoding(text).is_none_or(is_covered_by_utf8)
}

/// Whether whoever reads the UTF-8 of `text` in `charset` reads `text`.
fn is_right(charset: &str, text: &str) -> bool {
    let is_ascii = charset.eq_ignore_ascii_case("us-ascii");
    is_covered_by_utf8(charset) && (!is_ascii || text.is_ascii())
}

/// The encoding in an XML declaration (XML 1.0 §4.3.3), which begins the document.
fn declared_encoding(xml: &str) -> Option<&str> {
    let xml = xml.strip_prefix('\u{feff}').unwrap_or(xml);
    let declaration = xml.strip_prefix("<?xml")?;
    let (declaration, _) = declaration.split_once("?>")?;
    let (before, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (encoding, _) = value[1..].split_once(quote)?;
    before
        .ends_with([' ', '\t', '\r', '\n'])
        .then_some(encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_utf8_is_labelled_so() {
        for (written, text, sent) in [
            ("text/plain", "é", "text/plain"),
            (
                "text/plain; charset=utf-8",
                "é",
                "text/plain; charset=utf-8",
            ),
            (
                "Text/Plain;charset=\"UTF-8\"",
                "é",
                "Text/Plain;charset=\"UTF-8\"",
            ),
            (
                "text/plain; charset=iso-8859-1",
                "é",
                "text/plain; charset=utf-8",
            ),
            (
                "text/csv; CHARSET = \"Shift_JIS\" ;header=present",
                "日",
                "text/csv; header=present; charset=utf-8",
            ),
            (
                "text/plain; charset=utf-16",
                "a",
                "text/plain; charset=utf-8",
            ),
            (
                "text/plain; charset=x-own; charset=utf-16",
                "a",
                "text/plain; charset=utf-8",
            ),
            (
                "text/plain; charset=us-ascii",
                "a",
                "text/plain; charset=us-ascii",
            ),
            (
                "text/plain; charset=US-ASCII",
                "é",
                "text/plain; charset=utf-8",
            ),
            (
                "application/vnd.a+json;charset=latin1",
                "\"é\"",
                "application/vnd.a+json; charset=utf-8",
            ),
            ("application/xml", "<a>é</a>", "application/xml"),
            (
                "application/xml",
                "<?xml version='1.0' encoding=\"UTF-8\"?><a>é</a>",
                "application/xml",
            ),
            (
                "application/atom+xml",
                "<?xml version='1.0' encoding = 'ISO-8859-1' ?><a>é</a>",
                "application/atom+xml; charset=utf-8",
            ),
            (
                "text/xml; charset=utf-8",
                "<?xml version='1.0' encoding='UTF-16'?><a/>",
                "text/xml; charset=utf-8",
            ),
            (
                "text/plain",
                "<?xml version='1.0' encoding='UTF-16'?><a/>",
                "text/plain",
            ),
        ] {
            assert_eq!(
                content_type_in_utf8(written, text),
                sent,
                "{written} {text}"
            );
        }
    }

    #[test]
    fn a_declaration_is_what_begins_the_document() {
        for (xml, encoding) in [
            ("<?xml version=\"1.0\" encoding=\"a\"?>", Some("a")),
            (
                "\u{feff}<?xml version='1.0'\n\tencoding='b' standalone='yes'?>",
                Some("b"),
            ),
            ("<?xml version='1.0'?><a encoding='c'/>", None),
            (" <?xml version='1.0' encoding='d'?>", None),
            ("<?xml version='1.0' encoding=e?>", None),
            ("<?xml version='1.0' encoding='f", None),
            ("<?xml notencoding='g'?>", None),
            ("", None),
        ] {
            assert_eq!(declared_encoding(xml), encoding, "{xml}");
        }
    }
}
