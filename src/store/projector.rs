//! The projector: reads from PostgreSQL what is true now of what has changed, and
//! writes it to the configuration projection.
//!
//! Called after every commit, and by the sweeper for what was left in the outbox
//! then. It never writes what the outbox row says, since that may be old.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future;

use super::change::Committed;
use super::config_projection::ConfigProjection;
use super::outbox::{self, ChangeKind, ConfigChange, EventTypeSubject};
use super::postgres::Postgres;
use super::{api_keys, endpoints, event_types, meters};
use crate::error::{Error, Result};

/// Rows read at a time.
const PAGE: i64 = 100;
/// Changes projected at a time: those that take long since their part of the event store
/// throttles leave the others a way past.
const CONCURRENCY: usize = 8;
/// Changes in a row that a store did not take before it is asked whether it answers at
/// all: if not, it is no fault of theirs, and no more are tried.
const OUTAGES_MAX: u32 = 3;

/// Projects a change that has just been committed, and gives out what its writer
/// answers. A failure is logged, not returned: the change is made, and the sweeper
/// projects it.
pub async fn apply<T>(
    postgres: &Postgres,
    projection: &ConfigProjection,
    committed: Committed<T>,
) -> T {
    let (value, rows) = committed.into_parts();
    for row in &rows {
        if let Err(error) = project(postgres, projection, row).await {
            log_not_projected(row, &error);
        }
    }
    value
}

/// [`apply`] for a job, which is run again when it fails.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer; the change then
/// stays in the outbox.
pub async fn try_apply<T>(
    postgres: &Postgres,
    projection: &ConfigProjection,
    committed: Committed<T>,
) -> Result<T> {
    let (value, rows) = committed.into_parts();
    for row in &rows {
        project(postgres, projection, row).await?;
    }
    Ok(value)
}

/// Projects one change and takes it off the outbox. Doing it again changes nothing.
async fn project(
    postgres: &Postgres,
    projection: &ConfigProjection,
    change: &ConfigChange,
) -> Result<()> {
    let subject = change.subject.as_str();
    match change.kind {
        ChangeKind::Endpoint => {
            if let Some(endpoint) = endpoints::get_sealed(postgres, subject).await? {
                projection.put_endpoint(&endpoint).await?;
            }
        }
        ChangeKind::ApiKey => {
            if let Some(key) = api_keys::get(postgres, subject).await? {
                projection.put_key(&key).await?;
            }
        }
        ChangeKind::EventType => {
            let EventTypeSubject { project, name } = EventTypeSubject::parse(subject);
            if let Some(event_type) = event_types::get_any(postgres, project, name).await? {
                projection.put_event_type(&event_type).await?;
            }
        }
        ChangeKind::Meter => {
            if let Some(meter) = meters::get_any(postgres, subject).await? {
                projection.put_meter(&meter).await?;
            }
        }
    }
    outbox::delete(postgres, change).await
}

/// [`drain_outbox`], for whom it is enough how many were projected.
///
/// # Errors
/// As [`drain_outbox`].
pub async fn project_pending(
    postgres: &Postgres,
    projection: &ConfigProjection,
    age: Duration,
) -> Result<usize> {
    let drained = drain_outbox(postgres, projection, age).await;
    drained.map(|pending| pending.projected)
}

/// What became of the changes that were left in the outbox.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PendingSummary {
    /// Those that are projected now.
    pub projected: usize,
    /// Those that cannot be: they stay there.
    pub failed: usize,
}

/// Projects the changes that have waited for `age` or longer.
/// One that cannot be projected is logged, stays in the outbox and holds up no
/// other, whether it is itself at fault or its part of the event store throttles. Takes a
/// few calls for each.
///
/// # Errors
/// [`Error::Unavailable`] when either store does not answer; the changes then stay
/// in the outbox.
pub async fn drain_outbox(
    postgres: &Postgres,
    projection: &ConfigProjection,
    age: Duration,
) -> Result<PendingSummary> {
    let (mut summary, mut outages) = (PendingSummary::default(), 0);
    let mut failed = HashSet::new();
    let mut last = 0;
    loop {
        let page = outbox::pending(postgres, age, last, PAGE).await?;
        for chunk in page.chunks(CONCURRENCY) {
            // What is projected is what is true now: another change of the same thing
            // meets the same.
            let others = chunk
                .iter()
                .filter(|change| !failed.contains(&change.subject));
            let others: Vec<_> = others.collect();
            summary.failed += chunk.len() - others.len();
            let results = others
                .iter()
                .map(|change| project(postgres, projection, change));
            let results = future::join_all(results).await;
            for (change, result) in others.into_iter().zip(results) {
                match result {
                    Ok(()) => {
                        summary.projected += 1;
                        outages = 0;
                    }
                    Err(error) => {
                        outages += u32::from(error.is_outage());
                        summary.failed += 1;
                        log_not_projected(change, &error);
                        failed.insert(change.subject.clone());
                    }
                }
            }
            if outages >= OUTAGES_MAX {
                // With nothing else under way: there may be one connection alone.
                postgres.ping().await?;
                projection.ping().await?;
                outages = 0;
            }
        }
        let is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        last = page.last().map_or(last, |change| change.id);
        if is_last {
            return Ok(summary);
        }
    }
}

fn log_not_projected(change: &ConfigChange, error: &Error) {
    let cause = error.causes();
    let subject = &change.subject;
    tracing::warn!(subject, %error, cause, "failed to project configuration change: left to the sweeper");
}
