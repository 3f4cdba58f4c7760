//! The workers and periodic tasks of a long-lived process.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dispatch::dispatch;
use super::idle_watch::{IdleWatch, PruneWatch};
use super::outcome::{Done, report};
use super::periodic::PeriodicTask;
use super::recover::archive::{self, LateArchives};
use super::{erase, ingest, meter, run, sqs_consumer, sweep};
use crate::app::{self, App};
use crate::config::Handler;
use crate::error::Error;
use crate::queue::Queue;
use crate::queue::lanes::RunningJob;
use crate::queue::local::TraceParent;

/// Between two looks when the last found more than it takes.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Between two looks for usage that is no longer needed, while the database is used.
const PRUNE_INTERVAL: Duration = Duration::from_hours(1);
/// Between two repairs of the outbox, or looks whether there may be one to do.
const REPAIR_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks for erasures, while there are none and while some go on.
/// [`REPAIR_INTERVAL`] while PostgreSQL is left alone.
const ERASE_INTERVAL: Duration = Duration::from_secs(2);
const ERASE_BUSY_INTERVAL: Duration = Duration::from_millis(200);
/// Between two looks whether there is a day to archive.
const ARCHIVE_INTERVAL: Duration = Duration::from_mins(10);
/// Between two looks at archives that are late: as often as metrics are evaluated.
const ARCHIVE_LATE_INTERVAL: Duration = Duration::from_mins(1);

/// How long a connection to the database is kept that nobody uses, and between two
/// looks for such.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(60);
const CONNECTION_INTERVAL: Duration = Duration::from_secs(30);

/// Starts the workers and the sweeper that `handlers` names. They end when
/// `stop` is cancelled, each when its job is done.
pub fn start(app: &Arc<App>, stop: &CancellationToken) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let config = &app.config;
    if !config.uses_embedded_postgres() {
        tasks.spawn(close_idle_loop(app.clone(), stop.clone()));
    }
    if config.handles(Handler::Deliver) || config.handles(Handler::FanOut) {
        match &app.queue {
            Queue::Local(_) => {
                tasks.spawn(dispatch_loop(app.clone(), stop.clone()));
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
        tasks.spawn(erase_loop(app.clone(), stop.clone()));
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

async fn dispatch_loop(app: Arc<App>, stop: CancellationToken) {
    let Queue::Local(queue) = &app.queue else {
        return;
    };
    let run = |taken| run_taken(app.clone(), taken);
    dispatch(&stop, || queue.next(), run).await;
}

async fn run_taken(app: Arc<App>, mut taken: RunningJob<TraceParent>) {
    let (job, trace) = taken.take();
    // A failure has been logged, and its work stays due.
    if let Ok(Done::Later(later)) = run(&app, job, trace.as_deref(), app::now()).await {
        taken.requeue(later.job, trace, later.wait);
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
        let summary = sweep::sweep_until(&app, app::now(), &stop).await?;
        // A full batch means that more is due already.
        Ok(if summary.has_more && summary.enqueued > 0 {
            BUSY_PAUSE
        } else {
            interval
        })
    };
    PeriodicTask::new("sweep", "due", interval)
        .repeat(&stop, step)
        .await;
}

async fn repair_loop(app: Arc<App>, stop: CancellationToken) {
    let watch = IdleWatch::default();
    let step = || async {
        match sweep::repair_outbox_if_due(&app, &watch).await? {
            0 => {}
            changes => tracing::info!(changes, "outbox repaired: late changes projected"),
        }
        Ok(REPAIR_INTERVAL)
    };
    PeriodicTask::new("sweep", "outbox", REPAIR_INTERVAL)
        .repeat(&stop, step)
        .await;
}

async fn erase_loop(app: Arc<App>, stop: CancellationToken) {
    let watch = IdleWatch::default();
    let step = || async {
        Ok(
            match erase::run_due_if_any(&app, &watch, app::now()).await? {
                None => REPAIR_INTERVAL,
                Some(0) => ERASE_INTERVAL,
                Some(_) => ERASE_BUSY_INTERVAL,
            },
        )
    };
    PeriodicTask::new("sweep", "erasures", REPAIR_INTERVAL)
        .repeat(&stop, step)
        .await;
}

async fn meter_loop(app: Arc<App>, stop: CancellationToken) {
    let interval = app.config.meters.interval;
    let step = || async {
        let meter_run = meter::meter(&app, app::now()).await?;
        Ok(if meter_run.has_more && meter_run.found > 0 {
            BUSY_PAUSE
        } else {
            interval
        })
    };
    PeriodicTask::new("meter", "due", interval)
        .repeat(&stop, step)
        .await;
}

async fn prune_loop(app: Arc<App>, stop: CancellationToken) {
    let watch = PruneWatch::default();
    let step = || async {
        if watch.take_due(app.postgres.uses()) {
            meter::prune(&app, app::now()).await?;
        }
        Ok(PRUNE_INTERVAL)
    };
    PeriodicTask::new("meter", "prune", PRUNE_INTERVAL)
        .repeat(&stop, step)
        .await;
}

/// A serverless database pauses only without connections.
async fn close_idle_loop(app: Arc<App>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(CONNECTION_INTERVAL))
        .await
        .is_some()
    {
        app.postgres.close_idle(CONNECTION_IDLE_MAX);
    }
}

async fn archive_loop(app: Arc<App>, stop: CancellationToken) {
    let step = || async {
        let planned = archive::plan(&app, app::now()).await;
        // What expires does not wait for the next look, nor for what cannot be planned.
        let late = archive::watch(&app, app::now()).await?;
        match planned? {
            0 => {}
            days => tracing::info!(days, "archive planned"),
        }
        Ok(match late {
            LateArchives { has_more: true, .. } => BUSY_PAUSE,
            LateArchives { late: 1.., .. } => ARCHIVE_LATE_INTERVAL,
            _ => ARCHIVE_INTERVAL,
        })
    };
    PeriodicTask::new("sweep", "archive", ARCHIVE_INTERVAL)
        .repeat(&stop, step)
        .await;
}
