//! Telemetry: logs, metrics and traces.
//!
//! Logs are installed by `main`; metrics and traces belong to the
//! [`App`](crate::app::App) and are counted and begun where things happen: at
//! accept, in jobs, around requests. Nothing here is in the way of a request:
//! what is measured is kept in memory, and [`Telemetry::flush`] or [`run`] takes
//! it out. None of it holds bodies, keys, secrets or the query of a URL.

pub mod activity;
mod escape;
mod log;
pub mod metrics;
mod output;
pub mod scope;
mod terminal;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use activity::Activity;
use metrics::Metrics;
use trace::Traces;

pub use escape::OneLine;
pub use log::{LogGuard, LogStream, flush_log, init, log_writer, millis, print, tell};
pub use trace::method_name;

/// How long a finished span waits for others, in a process that lives long.
const TRACES_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics and traces of this process.
#[derive(Debug)]
pub struct Telemetry {
    /// Written to stdout as EMF.
    pub metrics: Metrics,
    /// Exported over OTLP.
    pub traces: Traces,
    /// Written to the event store, for the projects to see.
    pub activity: Activity,
    metrics_interval: Duration,
}

impl Telemetry {
    /// As `config` says. Connects to nothing and starts nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            metrics: Metrics::new(config),
            traces: Traces::new(config),
            activity: Activity::default(),
            metrics_interval: config.telemetry.metrics_interval,
        }
    }

    /// Writes the metrics line and exports finished spans, if there are any. For
    /// the end of a Lambda invocation; at once when there is nothing to do, at
    /// most as long as one export takes otherwise. Never fails: what goes wrong
    /// is logged.
    pub async fn flush(&self) {
        self.metrics.flush();
        self.traces.flush().await;
    }
}

/// Flushes now and then until `stop` is cancelled, and then for the last time.
/// For a process that lives long.
pub async fn run(telemetry: Arc<Telemetry>, stop: CancellationToken) {
    let mut metrics_at = Instant::now() + telemetry.metrics_interval;
    let mut traces_at = Instant::now() + TRACES_INTERVAL;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep_until(metrics_at) => {
                metrics_at = Instant::now() + telemetry.metrics_interval;
                telemetry.metrics.flush();
            }
            () = telemetry.traces.due(traces_at) => {
                telemetry.traces.flush().await;
                traces_at = Instant::now() + TRACES_INTERVAL;
            }
        }
    }
    telemetry.flush().await;
}
