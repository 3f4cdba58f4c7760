//! Others' text made harmless: an event type, a host or an error's text must not
//! move a terminal's cursor, begin a line of its own or turn the direction of what
//! stands beside it, in whichever form the log is read.

use std::fmt::{self, Display, Write as _};
use std::io;

use serde_json::ser::Formatter;

/// Whether `c` does something to what is around it instead of being shown: a
/// control character (C0, DEL, C1), a line or paragraph separator, or one that
/// is invisible or changes the direction of text.
pub fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text on one line, with each active character as Rust writes it: `\n`,
/// `\u{1b}`.
#[derive(Debug, Clone, Copy)]
pub struct OneLine<'a>(pub &'a str);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default()),
            c if is_active(c) => write!(f, "{}", c.escape_unicode()),
            c => f.write_char(c),
        })
    }
}

/// [`OneLine`] in ASCII alone, for terminals that show nothing else.
#[derive(Debug, Clone, Copy)]
pub struct AsciiLine<'a>(pub &'a str);

impl Display for AsciiLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain = String::with_capacity(self.0.len());
        write!(plain, "{}", OneLine(self.0))?;
        plain.chars().try_for_each(|c| match c {
            c if c.is_ascii() => f.write_char(c),
            c => write!(f, "{}", c.escape_unicode()),
        })
    }
}

/// JSON in which every active character of a string is `\u…`, also those that
/// JSON itself would let stand.
#[derive(Debug, Clone, Copy)]
pub struct EscapingJson;

impl Formatter for EscapingJson {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        // Nearly all there is to log is plain ASCII, which needs no decoding.
        while rest.bytes().any(|b| b >= 0x7f) {
            let Some((at, c)) = rest.char_indices().find(|(_, c)| is_active(*c)) else {
                break;
            };
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    /// One of each kind that is escaped.
    const ACTIVE: [char; 16] = [
        '\0',
        '\n',
        '\r',
        '\t',
        '\u{7}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{200b}',
        '\u{2028}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{61c}',
        '\u{e0041}',
    ];

    fn json(text: &str) -> String {
        let mut line = vec![];
        let mut serializer = serde_json::Serializer::with_formatter(&mut line, EscapingJson);
        text.serialize(&mut serializer).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped_in_both_forms() {
        for c in ACTIVE {
            let text = format!("a{c}ü{c}");
            for shown in [OneLine(&text).to_string(), json(&text)] {
                assert!(!shown.contains(is_active), "{shown:?}");
                assert!(shown.contains('ü'), "{shown:?}");
            }
            assert!(AsciiLine(&text).to_string().is_ascii());
            assert_eq!(serde_json::from_str::<String>(&json(&text)).unwrap(), text);
        }
        assert_eq!(OneLine("a\u{1b}[31m\nb").to_string(), r"a\u{1b}[31m\nb");
        assert_eq!(AsciiLine("ü\u{9b}").to_string(), r"\u{fc}\u{9b}");
        assert_eq!(json("\u{9b}\u{e0041}\"\\"), r#""\u009b\udb40\udc41\"\\""#);
    }

    #[test]
    fn what_is_shown_as_it_is_stays() {
        for text in ["user.created", "Größe → 日本 👍🏽", "a \\ b \"c\""] {
            assert_eq!(OneLine(text).to_string(), text);
            assert_eq!(json(text), serde_json::to_string(text).unwrap());
        }
    }
}
