//! Parts of pages: times, ids, names, states, fields, notes, pages of a list.
//!
//! Whatever is shown is escaped; what people named stands in `<bdi>`, so that no letter
//! of it turns the words around it.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::pairs::{Pairs, href};

/// A sign of `layout`'s icons.
pub fn icon(name: &str) -> Markup {
    html! { svg.i aria-hidden="true" { use href={ "#i-" (name) } {} } }
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// `10:58:04`.
    Time,
    /// `10:58:04.208`.
    Millis,
    /// `10:58`.
    Minute,
    /// `30 Nov`.
    Day,
    /// `30 Nov 2026`.
    Date,
    /// `30 Nov, 10:58`.
    Full,
    /// `30 Nov, 10:58:04`.
    FullSeconds,
}

impl TimeFormat {
    /// Its name for the script, and its pattern.
    fn of(self) -> (&'static str, &'static str) {
        match self {
            Self::Time => ("time", "%H:%M:%S"),
            Self::Millis => ("ms", "%H:%M:%S%.3f"),
            Self::Minute => ("min", "%H:%M"),
            Self::Day => ("day", "%-d %b"),
            Self::Date => ("date", "%-d %b %Y"),
            Self::Full => ("full", "%-d %b, %H:%M"),
            Self::FullSeconds => ("fulls", "%-d %b, %H:%M:%S"),
        }
    }
}

/// A time: in UTC, which the script makes that of the reader.
pub fn time(at: Timestamp, format: TimeFormat) -> Markup {
    let (name, pattern) = format.of();
    let utc = at.to_zoned(TimeZone::UTC);
    html! {
        time datetime=(utc.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")) data-f=(name)
            title=(utc.strftime("%Y-%m-%d %H:%M:%S%.3f UTC")) { (utc.strftime(pattern)) }
    }
}

/// Characters of an id's end, which tell ids apart.
const END_LEN: usize = 5;
/// Characters of its beginning: the prefix and a few more.
const BEGIN_LEN: usize = 8;

/// An id, short, with the button that copies it whole.
pub fn id(text: &str) -> Markup {
    html! {
        span.id.over {
            code title=(text) { (short(text)) }
            (copy(text, "Copy the id"))
        }
    }
}

/// A button that copies `text`; shown where the script runs.
pub fn copy(text: &str, label: &str) -> Markup {
    html! {
        button.copy type="button" data-copy=(text) aria-label=(label) { (icon("copy")) }
    }
}

/// `evt_bxy4…9gp88`.
pub fn short(text: &str) -> String {
    let chars: Vec<_> = text.chars().collect();
    if chars.len() <= BEGIN_LEN + END_LEN + 1 {
        return text.to_owned();
    }
    let begin: String = chars[..BEGIN_LEN].iter().collect();
    let end: String = chars[chars.len() - END_LEN..].iter().collect();
    format!("{begin}…{end}")
}

/// Something that a machine reads, cut in its middle: a URL.
pub fn mid(text: &str) -> Markup {
    const TAIL: usize = 12;
    let chars = text.chars().count();
    let at = text.char_indices().nth(chars.saturating_sub(TAIL));
    let (begin, end) = text.split_at(at.map_or(0, |(at, _)| at));
    html! { bdi.mid title=(text) { span { (begin) } span { (end) } } }
}

/// What people named, cut at its end.
pub fn cut(name: &str) -> Markup {
    html! { bdi.cut title=(name) { (name) } }
}

/// `21,192,840`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `340 ms`, `1.21 s`, `2 min`, `1 h 16 min`, `3 d 4 h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, sub: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {sub}"),
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:02} s", seconds, ms % 1_000 / 10),
        60_000..3_600_000 => two(minutes, "min", seconds % 60, "s"),
        3_600_000..86_400_000 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// How loud something is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Ok,
    /// Somebody may want to look.
    Warn,
    /// Somebody should look.
    Bad,
    /// Worth knowing.
    Info,
    /// Off, and meant to be.
    Off,
    /// Nothing is meant by it.
    Plain,
}

impl Tone {
    /// Its class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Ok => "is-ok",
            Self::Warn => "is-warn",
            Self::Bad => "is-bad",
            Self::Info => "is-info",
            Self::Off => "is-off",
            Self::Plain => "",
        }
    }

    /// Its sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Ok => "check",
            Self::Warn => "clock",
            Self::Bad => "x",
            Self::Info | Self::Plain => "info",
            Self::Off => "minus",
        }
    }
}

/// A state: sign, word and colour.
pub fn state(tone: Tone, sign: &str, word: &str) -> Markup {
    html! { span.state.(tone.class()) { (icon(sign)) (word) } }
}

/// What something is not well with, or worth knowing of it; `acts` are buttons.
pub fn note(tone: Tone, title: &str, text: Markup, acts: Markup) -> Markup {
    let sign = match tone {
        Tone::Ok => "check",
        Tone::Warn | Tone::Bad => "alert",
        Tone::Info | Tone::Off | Tone::Plain => "info",
    };
    html! {
        section.note.(tone.class()) {
            (icon(sign))
            div { h2 { (title) } p { (text) } }
            div.acts { (acts) }
        }
    }
}

/// What stands where nothing is: why, and what to do.
pub fn empty(title: &str, text: Markup, acts: Markup) -> Markup {
    html! {
        div.empty {
            h2 { (title) }
            p { (text) }
            div.acts { (acts) }
        }
    }
}

/// The links to the pages of a list: back to the newest where this is another than the
/// first, and on to `next`, the API's cursor. `path` is the list's, `query` what it is
/// asked with.
pub fn pager(path: &str, query: &Pairs, next: Option<&str>) -> Markup {
    let kept: Vec<_> = query
        .iter()
        .filter(|(name, _)| !matches!(*name, "cursor" | "part" | "done"))
        .map(|(name, value)| (name, Some(value)))
        .collect();
    let is_first = query.get("cursor").is_none();
    let older = next.map(|cursor| {
        let mut pairs = kept.clone();
        pairs.push(("cursor", Some(cursor)));
        href(path, &pairs)
    });
    html! {
        @if !is_first || older.is_some() {
            footer {
                @if is_first { span {} } @else { a.btn.slim rel="prev" href=(href(path, &kept)) { "Newest" } }
                @if let Some(older) = older { a.btn.slim rel="next" href=(older) { "Older" } }
            }
        }
    }
}

/// A field of a form, with its label, and its error or hint.
#[derive(Debug, Default)]
pub struct Field<'a> {
    /// The name it is sent by, and its id.
    pub name: &'a str,
    /// What it is called.
    pub label: &'a str,
    /// What is in it.
    pub value: &'a str,
    /// Where it helps: what is expected.
    pub hint: &'a str,
    /// What is wrong with it, if the API said so.
    pub error: Option<&'a str>,
    /// What it may look like.
    pub placeholder: &'a str,
    /// Of what a machine reads.
    pub is_mono: bool,
    /// It cannot be left empty.
    pub is_required: bool,
    /// Lines, of one that has more than one.
    pub rows: Option<u8>,
}

/// The field, with what it is described by.
pub fn field(field: &Field<'_>) -> Markup {
    let Field {
        name,
        label,
        value,
        hint,
        error,
        placeholder,
        is_mono,
        is_required,
        rows,
    } = field;
    let described = match (error, hint.is_empty()) {
        (Some(_), _) => Some(format!("{name}-e")),
        (None, false) => Some(format!("{name}-h")),
        (None, true) => None,
    };
    let invalid = error.map(|_| "true");
    let mono = is_mono.then_some("mono");
    html! {
        div.field {
            label for=(name) { (label) }
            @match rows {
                Some(rows) => textarea id=(name) name=(name) class=[mono] rows=(rows) placeholder=(placeholder)
                    required[*is_required] aria-invalid=[invalid] aria-describedby=[described] spellcheck="false" {
                    // A parser drops the first line break.
                    "\n" (value)
                },
                None => input id=(name) name=(name) class=[mono] value=(value) placeholder=(placeholder)
                    required[*is_required] aria-invalid=[invalid] aria-describedby=[described] autocomplete="off" spellcheck="false";
            }
            @match error {
                Some(error) => span.error id={ (name) "-e" } { (icon("alert")) span { (error) } },
                None => @if !hint.is_empty() { span.hint id={ (name) "-h" } { (hint) } },
            }
        }
    }
}

/// JSON, laid out, with its kinds told apart; every number and text as it is in `text`.
/// Of what is longer than `chars_max` the beginning, and that there is more.
pub fn json(text: &str, chars_max: usize) -> Markup {
    let (tokens, is_whole) = super::json::lay_out(text, chars_max);
    html! {
        @for token in &tokens {
            @match token.kind {
                super::json::Kind::Key => b { (token.text) },
                super::json::Kind::Text => i { (token.text) },
                super::json::Kind::Number => var { (token.text) },
                super::json::Kind::Literal => em { (token.text) },
                super::json::Kind::Other => (token.text),
            }
        }
        @if !is_whole { cite { "\n… the rest is not shown here" } }
    }
}

/// A block of code with a title and a button that copies `copied`.
pub fn code(title: &str, copied: &str, content: Markup) -> Markup {
    html! {
        div.code {
            header { span { (title) } (copy(copied, "Copy")) }
            pre tabindex="0" aria-label=(title) { (content) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_written_as_people_read_them() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(21_192_840), "21,192,840");
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_210, "1.21 s"),
            (60_000, "1 min"),
            (125_000, "2 min 5 s"),
            (4_560_000, "1 h 16 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn an_id_is_cut_in_its_middle_and_a_short_one_not_at_all() {
        assert_eq!(
            short("evt_bxy4een4gkjbbyac8qvcdx7hxse9gp88"),
            "evt_bxy4…9gp88"
        );
        assert_eq!(short("evt_123456"), "evt_123456");
        assert_eq!(short("é".repeat(40).as_str()).chars().count(), 14);
    }

    #[test]
    fn what_is_shown_is_escaped() {
        let hostile = "\"><script>alert(1)</script>'&\u{202e}";
        let shown = [
            cut(hostile),
            mid(hostile),
            id(hostile),
            field(&Field {
                value: hostile,
                error: Some(hostile),
                rows: Some(3),
                ..Field::default()
            }),
            json(hostile, 1_000),
            code(hostile, hostile, html! { (hostile) }),
        ];
        for markup in shown {
            assert!(!markup.0.contains("<script"), "{}", markup.0);
        }
    }
}
