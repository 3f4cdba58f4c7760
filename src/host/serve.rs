//! The long-lived process: its listener, workers and sweeper, and the drain that ends
//! them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::data_dir::DataDirLost;
use super::first_key;
use super::greeting::greet;
use super::open_files;
use super::running;
use super::shutdown::{self, Signals, StopSignal};
use super::start::{self, RunningApp};
use super::tcp::{self, DrainReport, ServeOptions};
use crate::app::App;
use crate::config::{Config, Handler};
use crate::console::link;
use crate::error::causes;
use crate::http;
use crate::jobs::{activity, worker};
use crate::telemetry;

/// Between two looks for what has expired in the embedded store.
const EXPIRE_INTERVAL: Duration = Duration::from_hours(1);
/// Before the first of them: a laptop may never run for an hour.
const FIRST_EXPIRE_DELAY: Duration = Duration::from_secs(5);

/// Between two looks whether the files of the data directory are still there.
const LOST_INTERVAL: Duration = Duration::from_millis(500);
/// How long whoever asks is told so once they are not, and longest that requests under
/// way are waited for after that.
const LOST_GRACE: Duration = Duration::from_secs(1);
const LOST_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs Millrace on a TCP listener until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// The port is taken, or a store does not start; the message says what to do. Or the
/// data directory is lost while it runs.
pub async fn serve(mut config: Config) -> anyhow::Result<()> {
    let begun = Instant::now();
    let connections_max = &mut config.http.connections_max;
    *connections_max = open_files::connections_max(*connections_max);
    // First, so that a second process fails here and not half-way.
    let listener = tcp::bind(&config.http.listen).await?;
    let address = listener.local_addr()?;
    let managed = config.runtime_env.is_aws();
    let started = start::assemble(config).await?;
    let mut signals = match prepare(&started, address, managed).await {
        Ok(signals) => signals,
        Err(error) => {
            started.stop().await?;
            return Err(error);
        }
    };
    let app = started.app.clone();
    tracing::info!(%address, took_ms = begun.elapsed().as_millis(), "listening");

    let stop = CancellationToken::new();
    let workers = worker::start(&app, &stop);
    let measured = CancellationToken::new();
    let measuring = tokio::spawn(telemetry::run(app.telemetry.clone(), measured.clone()));
    let counting = tokio::spawn(activity::run(app.clone(), measured.clone()));
    let expiring = tokio::spawn(expire_loop(started, stop.clone()));
    let (http_stop, requests) = (CancellationToken::new(), TaskTracker::new());
    let served = tokio::spawn(tcp::serve(
        listener,
        if app.config.handles(Handler::Http) {
            super::router(app.clone())
        } else {
            http::health_router(app.clone())
        },
        serve_options(&app.config),
        http_stop.clone(),
        requests.clone(),
    ));

    let ending = end(&app, &mut signals).await?;
    tokio::spawn(shutdown::exit_at_next(signals));
    let signal = match ending {
        Ending::Asked(signal) => signal,
        Ending::Lost(lost) => {
            let error = leave(app, expiring, lost);
            stop.cancel();
            tokio::time::sleep(LOST_GRACE).await;
            http_stop.cancel();
            let _ = tokio::time::timeout(LOST_TIMEOUT, served).await;
            return Err(error);
        }
    };
    let draining = Instant::now();
    tell_of_stop(signal, requests.len(), app.sender.in_flight());
    app.start_draining();
    http_stop.cancel();
    let timeout = app.config.http.drain_timeout;
    let drained = async {
        let report = drain(served, workers, &stop, timeout).await?;
        // Last, so that what was drained is measured too.
        measured.cancel();
        measuring.await?;
        counting.await?;
        anyhow::Ok(report)
    };
    let report = tokio::select! {
        report = drained => report?,
        lost = lost_file(&app) => return Err(leave(app, expiring, lost)),
    };
    let started = expiring.await?;
    drop(app);
    started.stop().await?;
    tracing::info!(
        connections_cut = report.aborted,
        took_ms = draining.elapsed().as_millis(),
        "stopped"
    );
    Ok(())
}

fn serve_options(config: &Config) -> ServeOptions {
    let http = &config.http;
    ServeOptions {
        header_timeout: http.header_timeout,
        idle_timeout: http.idle_timeout,
        write_timeout: http.write_timeout,
        connections_max: http.connections_max,
        drain_timeout: http.drain_timeout,
        drain_grace: http.drain_grace,
    }
}

/// Brings the stores up to date, says where everything is, and listens for signals.
async fn prepare(
    started: &RunningApp,
    address: SocketAddr,
    managed: bool,
) -> anyhow::Result<Signals> {
    let app = &started.app;
    if !managed {
        start::migrate(&app.postgres, &app.dynamo).await?;
    }
    started.publish(address)?;
    if !managed {
        let first = match start::first_project(app).await? {
            None => first_key::untold(app).await?,
            made => made,
        };
        let console = console_link(app, address).await;
        let url = format!("http://{address}");
        greet(&app.config, &url, console.as_deref(), first.as_ref())?;
    }
    Ok(Signals::listen()?)
}

/// A link into the console of a laptop, where whoever sees the start is its admin.
async fn console_link(app: &App, address: SocketAddr) -> Option<String> {
    let config = &app.config;
    if !config.uses_embedded_dynamodb() || !config.handles(Handler::Http) {
        return None;
    }
    let made = link::make(&app.dynamo, app.random()).await;
    let made = made.inspect_err(|error| {
        let cause = error.causes();
        tracing::warn!(%error, cause, "no link into the console made");
    });
    Some(running::url(address, &made.ok()?.path))
}

/// Leaves the stores as they are, open until the process ends: what is in their place
/// by now may be another's, and they would write the last of theirs into it.
fn leave(app: Arc<App>, expiring: JoinHandle<RunningApp>, lost: PathBuf) -> anyhow::Error {
    tracing::error!(path = %lost.display(), "data directory lost: stopping");
    let dir = app.config.data_dir.clone();
    std::mem::forget((app, expiring));
    DataDirLost { dir, file: lost }.into()
}

/// Says what the end waits for, if for anything.
fn tell_of_stop(signal: StopSignal, requests: usize, deliveries: usize) {
    if signal == StopSignal::Interrupt {
        // A terminal has shown `^C` and stands behind it.
        telemetry::tell("");
    }
    let is_told =
        shutdown::waits_for(requests, deliveries).is_none_or(|said| telemetry::tell(&said));
    if !is_told {
        tracing::info!(requests, deliveries, "stopping");
    }
}

/// Waits for the requests and jobs under way, for at most `longest`: workers begin to
/// end when all requests are answered, and at half of it even if some are not, so that
/// one client that takes its time cuts no job off.
async fn drain(
    mut served: JoinHandle<DrainReport>,
    workers: JoinSet<()>,
    stop: &CancellationToken,
    longest: Duration,
) -> Result<DrainReport, JoinError> {
    let begun = Instant::now();
    let early = tokio::time::timeout(longest / 2, &mut served).await;
    stop.cancel();
    let ended = end_workers(workers, longest.saturating_sub(begun.elapsed()));
    if let Ok(report) = early {
        ended.await;
        return report;
    }
    let (report, ()) = tokio::join!(served, ended);
    report
}

/// Waits for the workers' jobs to be done, for at most `longest`.
async fn end_workers(mut workers: JoinSet<()>, longest: Duration) {
    let all_ended = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(longest, all_ended).await.is_err() {
        tracing::warn!(
            jobs = workers.len(),
            "drain timed out: jobs aborted, still due"
        );
        workers.shutdown().await;
    }
}

/// Why the process ends.
enum Ending {
    Asked(StopSignal),
    /// A file of the data directory is lost that is needed.
    Lost(PathBuf),
}

async fn end(app: &App, signals: &mut Signals) -> std::io::Result<Ending> {
    tokio::select! {
        signal = signals.next() => signal.map(Ending::Asked),
        lost = lost_file(app) => Ok(Ending::Lost(lost)),
    }
}

async fn lost_file(app: &App) -> PathBuf {
    loop {
        if let Some(lost) = app.lost_file() {
            return lost.to_owned();
        }
        tokio::time::sleep(LOST_INTERVAL).await;
    }
}

/// Removes what has expired from the embedded store now and then, until `stop` is
/// cancelled; then gives `started` back.
async fn expire_loop(started: RunningApp, stop: CancellationToken) -> RunningApp {
    let mut pause = FIRST_EXPIRE_DELAY;
    while stop
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        pause = EXPIRE_INTERVAL;
        if let Err(error) = started.expire().await {
            let cause = causes(error.as_ref());
            tracing::error!(%error, cause, "failed to remove expired items");
        }
    }
    started
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn workers_end_though_a_request_does_not() {
        let stop = CancellationToken::new();
        let (ended, worker_ended) = oneshot::channel();
        let mut workers = JoinSet::new();
        let stopped = stop.clone();
        workers.spawn(async move {
            stopped.cancelled().await;
            ended.send(()).unwrap();
        });
        let served = tokio::spawn(async move {
            worker_ended.await.unwrap();
            DrainReport {
                aborted: 1,
                took: Duration::ZERO,
            }
        });
        let report = drain(served, workers, &stop, Duration::from_secs(4)).await;
        assert_eq!(report.unwrap().aborted, 1);
    }
}
