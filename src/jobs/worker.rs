//! The loops that drive jobs inside a long-lived process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ingest, meter, poll, run, sweep};
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::Error;
use crate::queue::Queue;

/// Between two looks for usage that is no longer needed.
const TIDY_INTERVAL: Duration = Duration::from_hours(1);
/// Between two repairs of the outbox.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);

/// Starts the workers and the sweeper that `handlers` names. They end when
/// `stop` is cancelled, each when its job in hand is done.
pub fn start(app: &Arc<App>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let config = &app.config;
    if config.handles(Handler::Deliver) || config.handles(Handler::FanOut) {
        match &app.queue {
            Queue::Local(_) => {
                for _ in 0..config.delivery.concurrency {
                    tasks.spawn(work(app.clone(), stop.clone()));
                }
            }
            Queue::Sqs(_) => poll::start(app, stop, &mut tasks),
        }
    }
    if config.handles(Handler::Ingest) && !config.sqs.ingest_url.is_empty() {
        tasks.spawn(ingest::poll_often(app.clone(), stop.clone()));
    }
    if config.handles(Handler::Sweep) {
        tasks.spawn(sweep_often(app.clone(), stop.clone()));
        tasks.spawn(repair_often(app.clone(), stop.clone()));
    }
    if config.handles(Handler::Meter) {
        tasks.spawn(meter_often(app.clone(), stop.clone()));
        tasks.spawn(tidy_often(app.clone(), stop.clone()));
    }
    tasks
}

/// Runs what the queue holds, and what that enqueues, until it is empty; the
/// jobs that failed. For tests and for a process about to end.
pub async fn drain(app: &App, now: Timestamp) -> Vec<Error> {
    let queue = match &app.queue {
        Queue::Local(queue) => queue,
        Queue::Sqs(sqs) => return poll::drain(app, sqs, now).await,
    };
    let mut failed = Vec::new();
    while let Some(mut taken) = queue.try_next() {
        let (job, trace) = taken.take();
        failed.extend(run(app, job, trace.as_deref(), now).await.err());
    }
    failed
}

async fn work(app: Arc<App>, stop: CancellationToken) {
    let Queue::Local(queue) = &app.queue else {
        return;
    };
    while let Some(mut taken) = stop.run_until_cancelled(queue.next()).await {
        let (job, trace) = taken.take();
        // A failure has been logged, and its work stays due.
        let _ = run(&app, job, trace.as_deref(), app::now()).await;
    }
}

async fn sweep_often(app: Arc<App>, stop: CancellationToken) {
    if app.queue.ends_with_process()
        && let Err(error) = sweep::recover(&app, app::now()).await
    {
        report("sweep", "recover", &error);
    }
    loop {
        let more = match sweep::sweep(&app, app::now()).await {
            Ok(swept) => swept.more && swept.enqueued > 0,
            Err(error) => {
                report("sweep", "due", &error);
                false
            }
        };
        // A full batch means that more is due already.
        let pause = if more {
            Duration::from_millis(10)
        } else {
            app.config.sweep.interval
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn repair_often(app: Arc<App>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(REPAIR_INTERVAL))
        .await
        .is_some()
    {
        match sweep::repair(&app, sweep::REPAIR_AGE).await {
            Ok(0) => {}
            Ok(changes) => tracing::info!(changes, "control-plane changes projected late"),
            Err(error) => report("sweep", "outbox", &error),
        }
    }
}

async fn meter_often(app: Arc<App>, stop: CancellationToken) {
    loop {
        let more = match meter::meter(&app, app::now()).await {
            Ok(looked) => looked.more && looked.found > 0,
            Err(error) => {
                report("meter", "due", &error);
                false
            }
        };
        let pause = if more {
            Duration::from_millis(10)
        } else {
            app.config.meters.interval
        };
        let paused = stop.run_until_cancelled(tokio::time::sleep(pause));
        if paused.await.is_none() {
            return;
        }
    }
}

async fn tidy_often(app: Arc<App>, stop: CancellationToken) {
    let pause = || stop.run_until_cancelled(tokio::time::sleep(TIDY_INTERVAL));
    while pause().await.is_some() {
        if let Err(error) = meter::tidy(&app, app::now()).await {
            report("meter", "tidy", &error);
        }
    }
}

/// Logs a failure once, here where it is handled: the work stays due.
pub(super) fn report(what: &str, name: &str, error: &Error) {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let cause = causes.map(ToString::to_string).collect::<Vec<_>>();
    let cause = (!cause.is_empty()).then(|| cause.join(": "));
    if sweep::is_outage(error) {
        tracing::warn!(what, name, %error, cause, "left for later");
    } else {
        tracing::error!(what, name, %error, cause, "job failed");
    }
}
