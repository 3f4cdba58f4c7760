//! How a terminal is written to: its colours, its characters and its time.

use std::borrow::Cow;

use jiff::tz::TimeZone;

use crate::telemetry::escape::{AsciiLine, OneLine};

/// A colour, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    None,
    Dim,
    Red,
    Green,
    Yellow,
}

/// What is written to is a terminal, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// A terminal.
    Terminal,
    /// A file, a pipe.
    Other,
}

/// What a terminal shows.
#[derive(Debug, Clone)]
pub struct Style {
    has_colour: bool,
    is_ascii: bool,
    zone: TimeZone,
}

impl Style {
    /// As the environment says: `NO_COLOR` (any value) and `TERM` that is `dumb`
    /// or not there take the colours away, and `CLICOLOR_FORCE` (not `0`) gives
    /// them to what is no terminal; a locale that is not in UTF-8 takes every
    /// character that is not ASCII. Without any locale, as in a container,
    /// UTF-8 is what terminals have today. Times are local ones, by `TZ` or the
    /// system's zone.
    pub fn detect(to: Destination, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let is_forced = set("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let is_able = to == Destination::Terminal
            && set("TERM").is_some_and(|term| term != "dumb")
            && variable("CLICOLOR").is_none_or(|value| value != "0");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        Self {
            has_colour: set("NO_COLOR").is_none() && (is_forced || is_able),
            is_ascii: locale.is_some_and(|locale| !is_utf_8(&locale)),
            zone: TimeZone::system(),
        }
    }

    /// The zone of its times.
    pub fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    /// What stands before a success.
    pub fn success(&self) -> &'static str {
        if self.is_ascii { "ok" } else { "✓" }
    }

    /// What stands before a failure.
    pub fn failure(&self) -> &'static str {
        if self.is_ascii { "FAILED" } else { "✗" }
    }

    /// From an event to its endpoint.
    pub fn arrow(&self) -> &'static str {
        if self.is_ascii { "->" } else { "→" }
    }

    /// Others' text, made harmless.
    pub fn text(&self, text: &str) -> String {
        if self.is_ascii {
            AsciiLine(text).to_string()
        } else {
            OneLine(text).to_string()
        }
    }

    /// `text` in a colour, if there are any.
    pub fn paint<'a>(&self, colour: Colour, text: &'a str) -> Cow<'a, str> {
        let code = match colour {
            Colour::None => return text.into(),
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        if self.has_colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m").into()
        } else {
            text.into()
        }
    }

    /// Without colours, in UTC.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self {
            has_colour: false,
            is_ascii: false,
            zone: TimeZone::UTC,
        }
    }

    /// With [`plain`](Self::plain)'s time, and what `variables` say otherwise.
    #[cfg(test)]
    pub fn of(to: Destination, variables: &[(&str, &str)]) -> Self {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Self {
            zone: TimeZone::UTC,
            ..Self::detect(to, variable)
        }
    }
}

/// Whether a locale's character set is UTF-8: `de_DE.UTF-8`, `C.utf8`.
fn is_utf_8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}
