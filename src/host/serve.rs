//! The long-lived process: its listener, workers and sweeper, and the drain that ends
//! them.

use std::io::Write;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::start::{self, FirstKey, RunningApp};
use super::tcp::{self, ServeOptions};
use crate::config::{Config, Handler};
use crate::error::causes;
use crate::http;
use crate::jobs::worker;
use crate::telemetry;

/// Between two looks for what has expired in the embedded store.
const EXPIRE_INTERVAL: Duration = Duration::from_hours(1);
/// Before the first of them: a laptop may never run for an hour.
const FIRST_EXPIRE_DELAY: Duration = Duration::from_secs(5);

/// Runs Millrace on a TCP listener until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// The port is taken, or a store does not start; the message says what to do.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let begun = Instant::now();
    // First, so that a second process fails here and not half-way.
    let listener = tcp::bind(&config.http.listen).await?;
    let address = listener.local_addr()?;
    let managed = config.runtime_env.is_aws();
    let started = start::assemble(config).await?;
    let app = started.app.clone();
    if !managed {
        start::migrate(&app.postgres, &app.dynamo).await?;
        let first = start::first_project(&app).await?;
        announce(&app.config, &format!("http://{address}"), first.as_ref())?;
    }
    tracing::info!(%address, took_ms = begun.elapsed().as_millis(), "listening");

    let stop = CancellationToken::new();
    let mut workers = worker::start(&app, &stop);
    let measured = CancellationToken::new();
    let measuring = tokio::spawn(telemetry::run(app.telemetry.clone(), measured.clone()));
    let expiring = tokio::spawn(expire_loop(started, stop.clone()));
    let http_stop = CancellationToken::new();
    let served = tokio::spawn(tcp::serve(
        listener,
        if app.config.handles(Handler::Http) {
            http::router(app.clone())
        } else {
            http::health_router(app.clone())
        },
        ServeOptions {
            header_timeout: app.config.http.header_timeout,
            idle_timeout: app.config.http.idle_timeout,
            connections_max: app.config.http.connections_max,
            drain_timeout: app.config.http.drain_timeout,
            drain_grace: app.config.http.drain_grace,
        },
        http_stop.clone(),
    ));

    tcp::shutdown_signal().await?;
    let draining = Instant::now();
    app.start_draining();
    http_stop.cancel();
    let report = served.await?;
    stop.cancel();
    let left = app
        .config
        .http
        .drain_timeout
        .saturating_sub(draining.elapsed());
    let in_time =
        tokio::time::timeout(left, async { while workers.join_next().await.is_some() {} });
    if in_time.await.is_err() {
        tracing::warn!(
            jobs = workers.len(),
            "drain timed out: jobs aborted, still due"
        );
        workers.shutdown().await;
    }
    // Last, so that what was drained is measured too.
    measured.cancel();
    measuring.await?;
    let started = expiring.await?;
    drop(app);
    started.stop().await;
    tracing::info!(
        connections_cut = report.aborted,
        took_ms = draining.elapsed().as_millis(),
        "stopped"
    );
    Ok(())
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

/// Tells a person at a terminal where everything is, and the first key, once.
fn announce(config: &Config, url: &str, first: Option<&FirstKey>) -> std::io::Result<()> {
    let data_dir = std::path::absolute(&config.data_dir)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nMillrace is up at {url}  (API documentation: {url}/docs)"
    )?;
    if config.uses_embedded_postgres() || config.uses_embedded_dynamodb() {
        writeln!(out, "Data lies in {}", data_dir.display())?;
    } else if start::needs_dir(config) {
        writeln!(out, "Secrets lie in {}", data_dir.display())?;
    }
    if let Some(FirstKey { project, key }) = first {
        writeln!(
            out,
            "\nProject \"default\" ({project}) has this API key. It is shown this once:\n\n  \
             export MILLRACE_KEY={key}\n\n\
             Publish an event:\n\n  \
             curl {url}/v1/events -H \"Authorization: Bearer {key}\" \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"type\": \"hello.world\", \"data\": {{\"name\": \"Ada\"}}}}'"
        )?;
        if start::makes_admin_key(config) {
            let file = data_dir.join("admin_key");
            let what = "The admin key, which creates projects and keys, is in";
            writeln!(out, "\n{what} {}", file.display())?;
        }
    }
    writeln!(out)?;
    out.flush()
}
