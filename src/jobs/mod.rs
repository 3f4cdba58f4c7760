//! Jobs: what queue messages and the sweeper set off.
//!
//! Every job may run twice, at once or in turn, and its effect happens once; an
//! attempt at delivery alone may reach its endpoint twice. Each takes `now` as a
//! parameter. An error means that the work stays due and is done again.
//!
//! [`run`] is the one match on jobs. Above it are the loops that call it
//! ([`worker`], `sqs_consumer`, [`reschedule`]), below it what each job does.

pub mod activity;
pub mod backfill;
pub mod backlog;
pub mod deliver;
pub mod disable;
mod dispatch;
pub mod erase;
pub mod fan_out;
pub mod idle_watch;
pub mod ingest;
mod isolation;
pub mod meter;
mod outcome;
mod periodic;
pub mod recover;
pub mod reschedule;
mod sqs_consumer;
pub mod sweep;
pub mod worker;

use jiff::Timestamp;

use self::isolation::{STORE_CALLS_TIMEOUT, catch_panic_and_timeout};
pub use self::outcome::{Done, Later};
use crate::app::App;
use crate::error::Result;
use crate::model::job::Job;
use crate::store::retry_quota;
use crate::telemetry::scope::WorkContext;

/// Runs one job as part of the trace its message carried, a W3C `traceparent`.
///
/// # Errors
/// When a store is out of reach; the job's work stays due. It has been logged.
pub async fn run(app: &App, job: Job, trace: Option<&str>, now: Timestamp) -> Result<Done> {
    let mut span = app.telemetry.traces.job(&job, trace);
    let scope = WorkContext::job(&job, span.context());
    let name = job.subject().to_owned();
    let payer = payer(&job);
    let logged = async {
        // An attempt has a timeout of its own, and this one is longer.
        let timeout = app.config.delivery.timeout + STORE_CALLS_TIMEOUT;
        let work = retry_quota::with_payer(Box::pin(async {
            retry_quota::charge_to(&payer);
            dispatch(app, job, now).await
        }));
        let done = catch_panic_and_timeout(timeout, work).await;
        done.inspect_err(|error| outcome::report("job", &name, error))
    };
    let done = scope.run(logged).await;
    if let Err(error) = &done {
        span.set_error(|| error.to_string());
    }
    done
}

/// What the store's retries are charged to: of a delivery its endpoint, whose index is
/// what may be hot.
fn payer(job: &Job) -> String {
    match job {
        Job::Deliver { delivery, .. } => delivery.endpoint().to_string(),
        other => other.subject().to_owned(),
    }
}

async fn dispatch(app: &App, job: Job, now: Timestamp) -> Result<Done> {
    match job {
        Job::FanOut { event } => fan_out::fan_out(app, &event, now).await?,
        Job::Deliver {
            delivery,
            attempts_made,
            payload,
        } => return deliver::deliver(app, &delivery, attempts_made, payload, now).await,
        Job::Disable { endpoint } => Box::pin(disable::disable(app, &endpoint, now)).await?,
        Job::Recover { recovery, page } => {
            Box::pin(recover::recover(app, &recovery, page, now)).await?;
        }
    }
    Ok(Done::Finished)
}
