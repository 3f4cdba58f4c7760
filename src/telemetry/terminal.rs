//! Log lines for people: one short line an event, an attempt as a sentence of its
//! own kind.
//!
//! `10:31:02 ✓ user.created → 127.0.0.1:9000 200 3 ms`. Of an endpoint it has host
//! and port alone, as the fields of the event do: paths hold secrets.

mod style;

use std::fmt::{self, Debug, Write};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use style::Colour;
pub use style::{Destination, Style};

/// The target of what is logged of each attempt: that it succeeded is logged at
/// debug, and shown to people at info.
pub const ATTEMPTS: &str = "millrace::jobs::deliver::attempt";
/// The message of an attempt that succeeded.
const DELIVERED: &str = "delivered";

/// Formats events for people.
pub struct TerminalFormat(pub Style);

impl<S, N> FormatEvent<S, N> for TerminalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = line(&self.0, Timestamp::now(), event.metadata(), fields)?;
        writeln!(writer, "{line}")
    }
}

/// An event's fields in their order, as text.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.remove(at).1)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _)| *found == name)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

fn line(
    style: &Style,
    at: Timestamp,
    metadata: &tracing::Metadata<'_>,
    mut fields: Fields,
) -> Result<String, fmt::Error> {
    let mut line = String::with_capacity(128);
    let time = at.to_zoned(style.zone()).strftime("%H:%M:%S");
    write!(line, "{} ", style.paint(Colour::Dim, &time.to_string()))?;
    if metadata.target() == ATTEMPTS && fields.has("endpoint.host") {
        attempt(style, &mut line, &mut fields)?;
    } else {
        message(style, &mut line, metadata, &mut fields)?;
    }
    Ok(line)
}

/// What an attempt came to, as
/// `✗ user.created → 127.0.0.1:9000 500, again in 5 s`.
fn attempt(style: &Style, line: &mut String, fields: &mut Fields) -> fmt::Result {
    let is_delivered = fields.take("message").as_deref() == Some(DELIVERED);
    let mark = if is_delivered {
        style.paint(Colour::Green, style.success())
    } else {
        style.paint(Colour::Red, style.failure())
    };
    let event = fields.take("event.type").unwrap_or_default();
    let host = fields.take("endpoint.host").unwrap_or_default();
    let (event, host) = (style.text(&event), style.text(&host));
    write!(line, "{mark} {event} {} {host} ", style.arrow())?;
    let answer = fields.take("status").or_else(|| fields.take("error"));
    write!(line, "{}", style.text(&answer.unwrap_or_default()))?;
    if is_delivered {
        let took = fields.take("duration_ms").and_then(|ms| ms.parse().ok());
        return write!(line, " {}", took.map(duration_ms).unwrap_or_default());
    }
    match fields.take("retry_in_s").map(|text| text.parse()) {
        Some(Ok(0)) => write!(line, ", again at once"),
        Some(Ok(wait_s)) => write!(line, ", again in {}", wait(wait_s)),
        Some(Err(_)) | None => write!(line, ", given up"),
    }
}

/// Any other event: its message, for failures with the error and its cause, and
/// the other fields.
fn message(
    style: &Style,
    line: &mut String,
    metadata: &tracing::Metadata<'_>,
    fields: &mut Fields,
) -> fmt::Result {
    let (colour, word) = match *metadata.level() {
        Level::ERROR => (Colour::Red, "error: "),
        Level::WARN => (Colour::Yellow, "warning: "),
        Level::INFO => (Colour::None, ""),
        Level::DEBUG => (Colour::Dim, "debug: "),
        Level::TRACE => (Colour::Dim, "trace: "),
    };
    let message = fields.take("message").unwrap_or_default();
    let (error, cause) = (fields.take("error"), fields.take("cause"));
    // What lies behind an error may begin with its text.
    let repeats = |error: &String| !cause.as_ref().is_some_and(|cause| cause.starts_with(error));
    let error = error.filter(repeats);
    write!(line, "{}", style.paint(colour, word))?;
    let parts = [Some(message), error, cause];
    let parts: Vec<_> = parts
        .into_iter()
        .flatten()
        .filter(|p| !p.is_empty())
        .collect();
    write!(line, "{}", style.text(&parts.join(": ")))?;
    let target = metadata.target();
    if !target.starts_with("millrace") || *metadata.level() > Level::INFO {
        fields.0.push(("target", target.to_owned()));
    }
    let mut rest = String::new();
    for (name, value) in &fields.0 {
        let value = style.text(value);
        if value.is_empty() || value.contains(char::is_whitespace) {
            write!(rest, " {name}=\"{value}\"")?;
        } else {
            write!(rest, " {name}={value}")?;
        }
    }
    if !rest.is_empty() {
        write!(line, " {}", style.paint(Colour::Dim, &rest))?;
    }
    Ok(())
}

/// Milliseconds, as people read how long something took.
fn duration_ms(ms: f64) -> String {
    match ms {
        ..0.5 => "<1 ms".to_owned(),
        ..9_999.5 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// Seconds, as people read how long something will take.
fn wait(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_170 => format!("{} min", rounded(MINUTE)),
        _ => format!("{} h", rounded(HOUR)),
    }
}

#[cfg(test)]
mod tests;
