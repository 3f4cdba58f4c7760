//! Jobs: what queue messages and the sweeper set off.
//!
//! Every job may run twice, at once or in turn, and its effect happens once; an
//! attempt at delivery alone may reach its endpoint twice. Each takes `now` as a
//! parameter. An error means that the work stays due and is taken up again.

pub mod archive;
pub mod backfill;
pub mod deliver;
pub mod disable;
pub mod fan_out;
pub mod ingest;
pub mod meter;
pub mod recover;
pub mod reschedule;
mod sqs_consumer;
pub mod sweep;
pub mod worker;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::job::Job;
use crate::queue::lanes::WaitReason;
use crate::telemetry::scope::WorkContext;

/// Longest that all calls of a job or a sweep to the stores may take.
const STORE_CALLS_TIMEOUT: Duration = Duration::from_mins(5);

/// What became of a job.
#[derive(Debug)]
#[must_use = "what is to be done later is lost otherwise"]
pub enum Done {
    /// There is nothing more to do for it now.
    Finished,
    /// It is to be run later.
    Later(Box<Later>),
}

/// A job whose endpoint has no place for it now.
#[derive(Debug)]
pub struct Later {
    /// The job.
    pub job: Job,
    /// What it waits for.
    pub wait: WaitReason,
}

/// Runs one job as part of the trace its message carried, a W3C `traceparent`.
///
/// # Errors
/// When a store is out of reach; the job's work stays due. It has been logged.
pub async fn run(app: &App, job: Job, trace: Option<&str>, now: Timestamp) -> Result<Done> {
    let mut span = app.telemetry.traces.job(&job, trace);
    let scope = WorkContext::job(&job, span.context());
    let name = job.subject().to_owned();
    let logged = async {
        // Its attempt has a bound of its own, of which this is none.
        let longest = app.config.delivery.timeout + STORE_CALLS_TIMEOUT;
        let done = catch_panic_and_timeout(longest, dispatch(app, job, now)).await;
        done.inspect_err(|error| worker::report("job", &name, error))
    };
    let done = scope.run(logged).await;
    if let Err(error) = &done {
        span.set_error(|| error.to_string());
    }
    done
}

/// Waits for `work`: one that panics has failed, and so has one that takes longer
/// than `longest`, as on a connection whose other end is gone. Neither takes the
/// worker along.
async fn catch_panic_and_timeout<T>(
    longest: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // A job's future is large: it is moved once.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    let done = tokio::time::timeout(longest, work);
    match done.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(panicked(panic)),
        Err(_) => Err(Error::Unavailable {
            what: "an answer in time",
            source: anyhow::anyhow!("given up after {} s", longest.as_secs_f64()),
        }),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let panic = panic.downcast::<&str>().map(|text| text.to_string());
    let panic = panic.or_else(|other| other.downcast::<String>().map(|text| *text));
    Error::internal(anyhow::anyhow!("panicked: {}", panic.unwrap_or_default()))
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
