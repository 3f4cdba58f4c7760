//! Logs: one line an event, JSON for machines or plain for eyes.
//!
//! Called once by `main`, before anything logs. JSON goes to stdout, where ECS
//! and Lambda pick it up; human lines go to stderr, so that stdout stays the
//! interface of the command. A JSON line has the ids of the current work, which
//! [`scope`] knows: no span of `tracing`'s, which would cost every request what
//! only those that log are in need of.

use std::fmt;
use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use super::scope;
use crate::config::{LogConfig, LogFormat};

/// Libraries that log what is of no use to who runs this, or is logged by us with
/// more to it, unless `log.level` names them itself.
const QUIET: &str = "aws_=warn,cranelift=error,deadpool=warn,dynoxide=error,hyper=error,\
    hyper_util=warn,lambda_runtime::layers::panic=off,pglite_oxide=warn,refinery_core=warn,rustls=warn,tokio_postgres=warn,\
    virtual_fs=error,virtual_mio=error,virtual_net=error,wasmer=error";

/// Installs the process's log.
///
/// # Errors
/// `log.level` is no list of directives, or a log is installed already.
pub fn init(log: &LogConfig) -> anyhow::Result<()> {
    let filter = filter(&log.level)?;
    let installed = match resolved(log.format, stdout().is_terminal()) {
        LogFormat::Human => tracing::subscriber::set_global_default(human(filter)),
        _ => tracing::subscriber::set_global_default(json(filter, stdout)),
    };
    installed.context("a log is installed already")
}

fn resolved(format: LogFormat, terminal: bool) -> LogFormat {
    match (format, terminal) {
        (LogFormat::Auto, true) => LogFormat::Human,
        (LogFormat::Auto, false) => LogFormat::Json,
        (chosen, _) => chosen,
    }
}

fn filter(level: &str) -> anyhow::Result<Targets> {
    // The last directive for a target wins, so the configured ones come last.
    format!("{QUIET},{level}")
        .parse()
        .with_context(|| format!("log.level: {level:?} is neither a level nor directives"))
}

fn human(filter: Targets) -> impl Subscriber {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
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
    let mut serializer = serde_json::Serializer::new(line);
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
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = json(filter(level).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap();
        serde_json::Deserializer::from_slice(&bytes)
            .into_iter()
            .map(Result::unwrap)
            .collect()
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
