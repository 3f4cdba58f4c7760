//! Jobs: what queue messages and the sweeper set off.
//!
//! Every job may run twice, at once or in turn, and its effect happens once; an
//! attempt at delivery alone may reach its endpoint twice. Each takes `now` as a
//! parameter. An error means that the work stays due and is taken up again.

pub mod deliver;
pub mod disable;
pub mod fan_out;
pub mod ingest;
mod poll;
pub mod sweep;
pub mod worker;

use jiff::Timestamp;

use crate::app::App;
use crate::error::Result;
use crate::model::job::Job;

/// Runs one job.
///
/// # Errors
/// When a store is out of reach; the job's work stays due.
pub async fn run(app: &App, job: Job, now: Timestamp) -> Result<()> {
    match job {
        Job::FanOut { event } => fan_out::fan_out(app, &event, now).await,
        Job::Deliver {
            delivery,
            made,
            carried,
        } => deliver::deliver(app, &delivery, made, carried, now).await,
        Job::Disable { endpoint } => disable::disable(app, &endpoint).await,
    }
}
