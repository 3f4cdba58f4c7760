//! The loops that drive jobs inside a long-lived process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Done, STORE_CALLS_TIMEOUT, archive, catch_panic_and_timeout, ingest, meter, run, sqs_consumer,
    sweep,
};
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::{Error, Result};
use crate::queue::Queue;

/// Between two looks for usage that is no longer needed.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
/// Between two repairs of the outbox.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks whether there is a day to archive.
const ARCHIVE_INTERVAL: Duration = Duration::from_mins(10);

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
            Queue::Sqs(_) => sqs_consumer::start(app, stop, &mut tasks),
        }
    }
    if config.handles(Handler::Ingest) && !config.sqs.ingest_url.is_empty() {
        tasks.spawn(ingest::consume_loop(app.clone(), stop.clone()));
    }
    if config.handles(Handler::Sweep) {
        tasks.spawn(sweep_loop(app.clone(), stop.clone()));
        tasks.spawn(repair_loop(app.clone(), stop.clone()));
        if app.archive.is_some() {
            tasks.spawn(archive_loop(app.clone(), stop.clone()));
        }
    }
    if config.handles(Handler::Meter) {
        tasks.spawn(meter_loop(app.clone(), stop.clone()));
        tasks.spawn(prune_loop(app.clone(), stop.clone()));
    }
    tasks
}

/// Runs what the queue holds, and what that enqueues, until nothing of it may run
/// at `now`; the jobs that failed. For tests and for a process about to end.
pub async fn drain(app: &App, now: Timestamp) -> Vec<Error> {
    let queue = match &app.queue {
        Queue::Local(queue) => queue,
        Queue::Sqs(sqs) => return sqs_consumer::drain(app, sqs, now).await,
    };
    let mut failed = Vec::new();
    while let Some(mut taken) = queue.try_next(now) {
        let (job, trace) = taken.take();
        match run(app, job, trace.as_deref(), now).await {
            Ok(Done::Finished) => {}
            Ok(Done::Later(later)) => taken.requeue(later.job, trace, later.wait),
            Err(error) => failed.push(error),
        }
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
        if let Ok(Done::Later(later)) = run(&app, job, trace.as_deref(), app::now()).await {
            taken.requeue(later.job, trace, later.wait);
        }
    }
}

async fn sweep_loop(app: Arc<App>, stop: CancellationToken) {
    if app.queue.ends_with_process()
        && let Err(error) = sweep::reclaim_leases(&app, app::now()).await
    {
        report("sweep", "recover", &error);
    }
    let interval = app.config.sweep.interval;
    let step = || async {
        let summary = sweep::sweep(&app, app::now()).await?;
        // A full batch means that more is due already.
        Ok(match summary.has_more && summary.enqueued > 0 {
            true => Duration::from_millis(10),
            false => interval,
        })
    };
    repeat(
        &stop,
        ("sweep", "due"),
        (interval, STORE_CALLS_TIMEOUT),
        step,
    )
    .await;
}

async fn repair_loop(app: Arc<App>, stop: CancellationToken) {
    let step = || async {
        match sweep::repair_outbox(&app, sweep::REPAIR_AGE).await? {
            0 => {}
            changes => tracing::info!(changes, "outbox repaired: late changes projected"),
        }
        Ok(REPAIR_INTERVAL)
    };
    let times = (REPAIR_INTERVAL, STORE_CALLS_TIMEOUT);
    repeat(&stop, ("sweep", "outbox"), times, step).await;
}

async fn meter_loop(app: Arc<App>, stop: CancellationToken) {
    let interval = app.config.meters.interval;
    let step = || async {
        let meter_run = meter::meter(&app, app::now()).await?;
        Ok(match meter_run.has_more && meter_run.found > 0 {
            true => Duration::from_millis(10),
            false => interval,
        })
    };
    repeat(
        &stop,
        ("meter", "due"),
        (interval, STORE_CALLS_TIMEOUT),
        step,
    )
    .await;
}

async fn prune_loop(app: Arc<App>, stop: CancellationToken) {
    let step = || async {
        meter::prune(&app, app::now()).await?;
        Ok(PRUNE_INTERVAL)
    };
    let times = (PRUNE_INTERVAL, STORE_CALLS_TIMEOUT);
    repeat(&stop, ("meter", "prune"), times, step).await;
}

/// Takes one `step` after the other until `stop` is cancelled, each followed by
/// the pause it answers. One that fails is logged and followed by `interval`, and
/// so is one that panics or takes longer than `longest`: what the loop is there
/// for goes on.
async fn repeat<F: Future<Output = Result<Duration>>>(
    stop: &CancellationToken,
    (what, name): (&str, &str),
    (interval, longest): (Duration, Duration),
    step: impl Fn() -> F,
) {
    loop {
        let done = catch_panic_and_timeout(longest, step()).await;
        let pause = done.unwrap_or_else(|error| {
            report(what, name, &error);
            interval
        });
        let slept = stop.run_until_cancelled(tokio::time::sleep(pause));
        if slept.await.is_none() {
            return;
        }
    }
}

async fn archive_loop(app: Arc<App>, stop: CancellationToken) {
    let step = || async {
        match archive::plan(&app, app::now()).await? {
            0 => {}
            days => tracing::info!(days, "archive planned"),
        }
        Ok(ARCHIVE_INTERVAL)
    };
    let times = (ARCHIVE_INTERVAL, STORE_CALLS_TIMEOUT);
    repeat(&stop, ("sweep", "archive"), times, step).await;
}

/// Logs a failure once, here where it is handled: the work stays due.
pub(super) fn report(what: &str, name: &str, error: &Error) {
    let cause = error.causes();
    if error.is_outage() {
        tracing::warn!(what, name, %error, cause, "deferred: dependency unavailable");
    } else {
        tracing::error!(what, name, %error, cause, "job failed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_loop_outlives_a_step_that_fails_or_panics_or_hangs() {
        let (stop, steps) = (CancellationToken::new(), AtomicU32::new(0));
        let step = || async {
            match steps.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("as it may happen"),
                1 => Err(Error::NotFound("anything".into())),
                2 => std::future::pending().await,
                _ => {
                    stop.cancel();
                    Ok(Duration::ZERO)
                }
            }
        };
        let times = (Duration::ZERO, Duration::from_millis(20));
        repeat(&stop, ("test", "test"), times, step).await;
        assert_eq!(steps.load(Ordering::Relaxed), 4);
    }
}
