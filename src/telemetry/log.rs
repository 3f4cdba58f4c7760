//! Logs: one line an event, JSON for machines or plain for eyes.
//!
//! Called once by `main`, before anything logs. A server's log goes to stdout,
//! where ECS and Lambda pick it up, and after what it greets a person with; that of
//! a command that ends by itself to stderr, so that stdout stays its output alone.
//! A JSON line has the ids of the current work, which [`scope`] knows: no span of
//! `tracing`'s, which would cost every request what only those that log are in need
//! of.

use std::fmt;
use std::io::{self, IsTerminal, LineWriter, Write};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use super::escape::EscapingJson;
use super::output::Output;
use super::scope;
use super::terminal::{ATTEMPTS, Destination, Style, TerminalFormat};
use crate::config::{LogConfig, LogFormat, log_directives};

/// Libraries that log what is of no use to who runs this, or is logged by us with
/// more to it, unless `log.level` names them itself.
const QUIET: &str = "aws_=warn,cranelift=error,deadpool=warn,dynoxide=error,hyper=error,\
    hyper_util=warn,lambda_runtime::layers::panic=off,pglite_oxide=warn,refinery_core=warn,rustls=warn,tokio_postgres=warn,\
    virtual_fs=error,virtual_mio=error,virtual_net=error,wasmer=error";
/// How long the end of a process waits for its last lines to be read.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The log of this process, once it is installed.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    output: Output,
    format: LogFormat,
}

/// What kind of process logs, which decides where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// One that serves: to stdout, by a thread, so that no reader holds it up.
    Server,
    /// One that may be frozen between two answers: to stdout, at once.
    Function,
    /// One that ends by itself: to stderr, at once.
    Command,
}

/// The installed log; what waits to be written is written when this is dropped.
#[derive(Debug)]
#[must_use = "the last lines are lost without it"]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        flush_log(FLUSH_MAX);
    }
}

/// Installs the process's log.
///
/// # Errors
/// `log.level` is no list of directives, there can be no thread, or a log is
/// installed already.
pub fn init(log: &LogConfig, stream: LogStream) -> anyhow::Result<LogGuard> {
    let (to, is_terminal) = match stream {
        LogStream::Server | LogStream::Function => {
            let stdout = io::stdout();
            let is_terminal = stdout.is_terminal();
            (unbuffered(stdout).context("stdout")?, is_terminal)
        }
        LogStream::Command => {
            let stderr = io::stderr();
            let is_terminal = stderr.is_terminal();
            (unbuffered(stderr).context("stderr")?, is_terminal)
        }
    };
    let format = resolved(log.format, is_terminal);
    let output = match stream {
        LogStream::Server => Output::queued(to, tell_dropped).context("the log's thread")?,
        LogStream::Function | LogStream::Command => Output::direct(to),
    };
    let filter = filter(&log.level, format)?;
    let installed = LOG.set(Log { output, format }).ok();
    installed.context("a log is installed already")?;
    let installed = match format {
        LogFormat::Human => {
            let to = if is_terminal {
                Destination::Terminal
            } else {
                Destination::Other
            };
            let style = Style::detect(to, |name| std::env::var(name).ok());
            tracing::subscriber::set_global_default(human(style, filter, || LogWriter))
        }
        _ => tracing::subscriber::set_global_default(json(filter, || LogWriter)),
    };
    installed.context("a log is installed already")?;
    Ok(LogGuard(()))
}

/// Waits for the lines logged so far to be written, for at most `longest`.
pub fn flush_log(longest: Duration) {
    if let Some(log) = LOG.get() {
        log.output.flush(longest);
    }
}

/// Writes to where the log goes, in order with it, so that no reader of a server's
/// holds it up or ends it. Never fails. A line goes out when it is whole.
pub fn log_writer() -> LineWriter<impl Write> {
    LineWriter::new(LogWriter)
}

/// Prints whole lines to where the log goes, in order with it. True if they were
/// written within `longest`; those that were not may be later, as the log's own are.
pub fn print(lines: &str, longest: Duration) -> bool {
    let bytes = lines.as_bytes();
    match LOG.get() {
        Some(log) => log.output.write_within(bytes, longest),
        // Not in a process of its own.
        None => io::stdout().lock().write_all(bytes).is_ok(),
    }
}

/// Takes whole lines.
#[derive(Clone, Copy)]
struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match LOG.get() {
            Some(log) => log.output.write(lines),
            // Not in a process of its own.
            None => drop(io::stdout().lock().write_all(lines)),
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells `text` to a person who watches the log, whatever its level; false if it
/// is not for people.
pub fn tell(text: &str) -> bool {
    let is_watched = LOG.get().is_some_and(|log| log.format == LogFormat::Human);
    if is_watched {
        // It never fails.
        let _ = log_writer().write_all(format!("{text}\n").as_bytes());
    }
    is_watched
}

fn tell_dropped(lines: u64) {
    tracing::warn!(lines, "log lines dropped: their reader did not take them");
}

/// `stream` itself: std would hold lines back, and its lock would hold up others.
#[cfg(unix)]
fn unbuffered(stream: impl std::os::fd::AsFd) -> io::Result<Box<dyn Write + Send>> {
    let stream = stream.as_fd().try_clone_to_owned()?;
    Ok(Box::new(std::fs::File::from(stream)))
}

#[cfg(not(unix))]
fn unbuffered(stream: impl Write + Send + 'static) -> io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(stream))
}

fn resolved(format: LogFormat, terminal: bool) -> LogFormat {
    match (format, terminal) {
        (LogFormat::Auto, true) => LogFormat::Human,
        (LogFormat::Auto, false) => LogFormat::Json,
        (chosen, _) => chosen,
    }
}

fn filter(level: &str, format: LogFormat) -> anyhow::Result<Targets> {
    let directives = log_directives(level)
        .with_context(|| format!("log.level: {level:?} is no level and no list of them"))?;
    // As loud as the narrowest directive over it, or all others, are to be.
    let configured = |quiet: &str| {
        let over = |target: &Option<&str>| target.is_none_or(|target| quiet.starts_with(target));
        let over = directives.iter().filter(|(target, _)| over(target));
        let narrowest = over.max_by_key(|(target, _)| target.map_or(0, str::len));
        narrowest.map_or(LevelFilter::OFF, |(_, level)| *level)
    };
    let quiet: Targets = QUIET.parse().expect("it is a list of directives");
    let mut targets: Targets = quiet
        .iter()
        .map(|(target, level)| (target, level.min(configured(target))))
        .collect();
    // The last directive for a target wins, so the configured ones come last.
    for (target, level) in directives {
        targets = match target {
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    if format == LogFormat::Human && targets.would_enable(ATTEMPTS, &Level::INFO) {
        targets = targets.with_target(ATTEMPTS, LevelFilter::DEBUG);
    }
    Ok(targets)
}

fn human<W>(style: Style, filter: Targets, writer: W) -> impl Subscriber
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(writer)
        // It would tell stderr, and panic if that is gone.
        .log_internal_errors(false)
        .event_format(TerminalFormat(style))
        .finish()
        .with(filter)
}

fn json<W>(filter: Targets, writer: W) -> impl Subscriber
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(writer)
        .log_internal_errors(false)
        .event_format(JsonLine)
        .finish()
        .with(filter)
}

/// A line of JSON: time, level, the event's fields, the ids of the current work
/// and where in the code it was logged, all side by side.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
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
        let mut line = Vec::with_capacity(512);
        write_json(&mut line, event).map_err(|_| fmt::Error)?;
        let line = std::str::from_utf8(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

fn write_json(line: &mut Vec<u8>, event: &Event<'_>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(line, EscapingJson);
    let mut fields = Fields {
        map: serializer.serialize_map(None)?,
        ids: vec![],
        result: Ok(()),
    };
    let now = jiff::Timestamp::now();
    fields.add("timestamp", &format_args!("{now:.6}"));
    fields.add("level", event.metadata().level().as_str());
    scope::fields(|name, id| {
        fields.add(name, &format_args!("{id}"));
        fields.ids.push(name);
    });
    event.record(&mut fields);
    fields.add("target", event.metadata().target());
    fields.result?;
    SerializeMap::end(fields.map)
}

/// Writes fields as members of an object.
struct Fields<M: SerializeMap> {
    map: M,
    /// The names of the ids that are written already: once is enough.
    ids: Vec<&'static str>,
    result: Result<(), M::Error>,
}

impl<M: SerializeMap> Fields<M> {
    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        if self.result.is_ok() && !self.ids.contains(&name) {
            self.result = self.map.serialize_entry(name, value);
        }
    }
}

impl<M: SerializeMap> Visit for Fields<M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field.name(), &value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), &format_args!("{value:?}"));
    }
}

/// A duration as logs have it: milliseconds, to the microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;

    use super::*;
    use crate::config::Config;
    use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
    use crate::model::job::Job;
    use crate::telemetry::escape::is_active;
    use crate::telemetry::scope::WorkContext;
    use crate::telemetry::trace::Traces;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, act: impl FnOnce()) -> Vec<serde_json::Value> {
        serde_json::Deserializer::from_str(&logged_text(level, act))
            .into_iter()
            .map(Result::unwrap)
            .collect()
    }

    fn logged_text(level: &str, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = json(filter(level, LogFormat::Json).unwrap(), move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_flat_fields_and_an_rfc_3339_time() {
        let lines = logged("info", || {
            tracing::info!(
                event.id = "evt_1",
                duration_ms = 3,
                none = None::<u8>,
                "accepted"
            );
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(line["event.id"], "evt_1");
        assert_eq!(line["duration_ms"], 3);
        assert_eq!(line["message"], "accepted");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "millrace::telemetry::log::tests");
        assert_eq!(line.get("none"), None);
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 0);
    }

    #[test]
    fn a_json_line_has_the_ids_of_the_work_in_hand_once() {
        let event = EventId::derive(&ProjectId::new(0, [0; 10]), "", "1");
        let delivery = DeliveryId::new(&event, &EndpointId::new(0, [1; 10]));
        let job = Job::Deliver {
            delivery: delivery.clone(),
            attempts_made: 0,
            payload: None,
        };
        let header = "00-58406520a006649127e371903a2de979-4c721bf33e3caf8f-01";
        let toml = "[database]\nurl = \"postgresql://u@db/m\"\n[telemetry]\n\
            traces = \"otlp\"\notlp_url = \"http://127.0.0.1:1\"";
        let traces = Traces::new(&Config::from_toml(toml).unwrap());
        let span = traces.job(&job, Some(header));
        let work = async { tracing::info!(delivery.id = "another", "delivered") };
        let in_job = async { WorkContext::job(&job, span.context()).run(work).await };
        let lines = logged("info", || {
            let invocation = WorkContext::invocation("8476a536", None).run(in_job);
            assert_eq!(invocation.now_or_never(), Some(()));
        });
        let line = &lines[0];
        assert_eq!(line["trace.id"], "58406520a006649127e371903a2de979");
        assert_eq!(line["delivery.id"], delivery.as_str());
        assert_eq!(line["event.id"], event.as_str());
        assert_eq!(line["endpoint.id"], delivery.endpoint().as_str());
        assert_eq!(line["lambda.request_id"], "8476a536");
    }

    #[test]
    fn noisy_libraries_are_quiet_until_they_are_asked() {
        let act = || {
            tracing::info!(target: "wasmer_wasix::runtime", "noise");
            tracing::info!(target: "aws_smithy_runtime::client", "noise");
            tracing::info!("ours");
        };
        assert_eq!(logged("info", act).len(), 1);
        assert_eq!(logged("info,wasmer_wasix=info", act).len(), 2);
    }

    #[test]
    fn no_library_is_louder_than_asked_for() {
        let act = || {
            tracing::error!(target: "wasmer_wasix::runtime", "noise");
            tracing::warn!(target: "aws_smithy_runtime::client", "noise");
            tracing::error!(target: "hyper_util::client", "noise");
        };
        for (level, lines) in [
            ("off", 0),
            ("error", 2),
            ("warn", 3),
            ("off,millrace=info", 0),
            ("millrace=info", 0),
            ("info,hyper=off,aws=error", 1),
            ("off,aws_smithy_runtime=warn", 1),
        ] {
            assert_eq!(logged(level, act).len(), lines, "{level}");
        }
    }

    #[test]
    fn a_json_line_shows_others_text_and_does_nothing_it_says() {
        let evil = "a\u{1b}[2J\n\u{9b}31m\u{7f}\u{202e}b";
        let text = logged_text("info", || {
            tracing::info!(event.type = evil, error = %evil, cause = ?evil, "{evil}");
        });
        assert!(!text.trim_end().contains(is_active), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event.type"], evil);
        assert_eq!(
            (&line["error"], &line["message"]),
            (&evil.into(), &evil.into())
        );
    }

    #[test]
    fn people_see_each_attempt_unless_they_asked_for_less() {
        let shows_success = |level, format| {
            let filter = filter(level, format).unwrap();
            filter.would_enable(ATTEMPTS, &Level::DEBUG)
        };
        for level in ["info", "debug", "warn,millrace=info", "millrace::jobs=info"] {
            assert!(shows_success(level, LogFormat::Human), "{level}");
        }
        for level in ["off", "warn", "info,millrace::jobs=warn", "hyper=trace"] {
            assert!(!shows_success(level, LogFormat::Human), "{level}");
        }
        assert!(!shows_success("info", LogFormat::Json));
        assert!(shows_success("debug", LogFormat::Json));
    }

    #[test]
    fn a_duration_is_told_to_the_microsecond() {
        let told = |nanos| millis(Duration::from_nanos(nanos)).to_string();
        assert_eq!(told(1_234_567_891), "1234.568");
        assert_eq!(told(300_000), "0.3");
        assert_eq!(told(1_100_100), "1.1");
        assert_eq!(told(499), "0");
    }

    #[test]
    fn auto_is_human_only_on_a_terminal() {
        assert_eq!(resolved(LogFormat::Auto, true), LogFormat::Human);
        assert_eq!(resolved(LogFormat::Auto, false), LogFormat::Json);
        assert_eq!(resolved(LogFormat::Json, true), LogFormat::Json);
    }
}
