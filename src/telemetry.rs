//! Logs: one line an event, JSON for machines or plain for eyes.
//!
//! Called once by `main`, before anything logs. JSON goes to stdout, where ECS
//! and Lambda pick it up; human lines go to stderr, so that stdout stays the
//! interface of the command.

use std::io::{IsTerminal, stderr, stdout};

use anyhow::Context;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Libraries that log what is of no use to who runs this, unless `log.level`
/// names them itself.
const QUIET: &str = "aws_=warn,cranelift=error,deadpool=warn,dynoxide=error,hyper=error,\
    hyper_util=warn,pglite_oxide=warn,refinery_core=warn,rustls=warn,tokio_postgres=warn,\
    virtual_fs=error,virtual_mio=error,virtual_net=error,wasmer=error";

/// Installs the process's log.
///
/// # Errors
/// `log.level` is no list of directives, or a log is installed already.
pub fn init(log: &Log) -> anyhow::Result<()> {
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

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    // The last directive for a target wins, so the configured ones come last.
    EnvFilter::try_new(format!("{QUIET},{level}"))
        .with_context(|| format!("log.level: {level:?} is neither a level nor directives"))
}

fn human(filter: EnvFilter) -> impl Subscriber {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .finish()
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

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
            let span = tracing::info_span!("request", request.id = "r1");
            span.in_scope(|| tracing::info!(event.id = "evt_1", duration_ms = 3, "accepted"));
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(line["event.id"], "evt_1");
        assert_eq!(line["duration_ms"], 3);
        assert_eq!(line["message"], "accepted");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["request.id"], "r1");
        let time: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(time.as_second() > 0);
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
    fn auto_is_human_only_on_a_terminal() {
        assert_eq!(resolved(LogFormat::Auto, true), LogFormat::Human);
        assert_eq!(resolved(LogFormat::Auto, false), LogFormat::Json);
        assert_eq!(resolved(LogFormat::Json, true), LogFormat::Json);
    }
}
