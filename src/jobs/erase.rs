//! Erasures, a page at a time: what is kept of a project, a tenant or an event is
//! deleted, no faster than configured, and how far it came is recorded.
//!
//! ```text
//! claim what is due → delete a page → record counts, position and next due time
//! ```
//!
//! Nothing is enqueued for it: whoever sweeps looks for erasures that are due. A crash
//! between any two of these does the page again, which finds less to delete; the counts
//! then miss what the first run deleted.

mod archive;
mod config;
mod data;
mod page;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use self::page::StepPage;

use self::page::AGAIN;
use super::idle_watch::IdleWatch;
use super::isolation::STORE_CALLS_TIMEOUT;
use super::outcome::report;
use crate::app::App;
use crate::config::Config;
use crate::error::Result;
use crate::model::erasure::{self, Erasure, ErasureProgress, ErasureState, ErasureStep, NextStep};
use crate::model::id::ErasureId;
use crate::store::config_projection::current::view_age_max;
use crate::store::erasures::{self, counted};

/// Erasures that one look takes up.
const DUE_MAX: i64 = 20;
/// How long an erasure is left to whoever claimed it: several times what a page takes.
const LEASE: SignedDuration = SignedDuration::from_mins(3);
/// How long one waits whose page failed.
const RETRY_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// Does a page of each erasure that is due at `now`; how many those were. One that
/// fails is logged, stays due and holds up no other.
///
/// # Errors
/// When PostgreSQL is out of reach.
pub async fn run_due(app: &App, now: Timestamp) -> Result<usize> {
    let mut taken = 0;
    let background = app.postgres.in_background();
    for id in erasures::due(&background, now, DUE_MAX).await? {
        match run(app, &id, now).await {
            Ok(has_run) => taken += usize::from(has_run),
            Err(error) => report("erase", id.as_str(), &error),
        }
    }
    Ok(taken)
}

/// [`run_due`] while there may be an erasure, by `watch`: then alone is PostgreSQL
/// asked. None if it was not.
///
/// # Errors
/// As [`run_due`], and when DynamoDB is out of reach.
pub async fn run_due_if_any(app: &App, watch: &IdleWatch, now: Timestamp) -> Result<Option<usize>> {
    if !watch.is_look_due(app).await? {
        return Ok(None);
    }
    // Cut off, it is not done.
    watch.looked(true);
    let taken = run_due(app, now).await;
    let is_any_left = match &taken {
        Ok(0) => erasures::is_any_unfinished(&app.postgres.in_background()).await,
        // More pages, or to be tried again.
        _ => Ok(true),
    };
    watch.looked(is_any_left.unwrap_or(true));
    taken.map(Some)
}

/// Does the next page of an erasure, if it is due at `now` and nobody else is at it.
///
/// # Errors
/// When a store is out of reach; it is due again in half a minute, or when its lease is
/// over.
pub async fn run(app: &App, id: &ErasureId, now: Timestamp) -> Result<bool> {
    let Some(claimed) = erasures::claim(&app.postgres, id, now, now + LEASE).await? else {
        return Ok(false);
    };
    let page = match run_page(app, &claimed, now).await {
        Ok(page) => page,
        Err(error) => {
            erasures::release(&app.postgres, &claimed, now + RETRY_DELAY).await?;
            return Err(error);
        }
    };
    let next = claimed.after(page.next);
    let due = due(&app.config, &claimed, &next, page.items, now);
    let is_ours =
        erasures::advance(&app.postgres, &claimed, &page.progress, &next, now, due).await?;
    if is_ours && next.state == ErasureState::Done {
        tracing::info!(erasure.id = %id, project.id = %claimed.project, "erasure finished");
    }
    Ok(is_ours)
}

/// Deletes the next page, and records nothing of it in the erasure.
///
/// # Errors
/// When a store is out of reach; what it has deleted so far is gone.
pub async fn run_page(app: &App, claimed: &Erasure, now: Timestamp) -> Result<StepPage> {
    match claimed.step {
        ErasureStep::Keys => config::revoke_keys(app, claimed, now).await,
        ErasureStep::Endpoints => config::stop_endpoints(app, claimed, now).await,
        ErasureStep::EventTypes => config::stop_event_types(app, claimed, now).await,
        ErasureStep::Backfills => config::delete_backfills(app, claimed).await,
        ErasureStep::Recoveries => data::delete_recoveries(app, claimed).await,
        ErasureStep::Events => data::delete_events(app, claimed).await,
        ErasureStep::StrayDeliveries => data::delete_strays(app, claimed).await,
        ErasureStep::Archive => archive::delete_archived(app, claimed).await,
        ErasureStep::Usage => delete_usage(app, claimed).await,
        ErasureStep::Projection => config::delete_projection(app, claimed).await,
        ErasureStep::Rows => config::delete_rows(app, claimed).await,
    }
}

async fn delete_usage(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let deleted = counted::delete_usage(&app.postgres, claimed).await?;
    Ok(StepPage {
        progress: ErasureProgress {
            usage_rows: deleted.rows,
            ..ErasureProgress::default()
        },
        next: deleted.has_more.then(|| AGAIN.to_owned()),
        ..StepPage::default()
    })
}

/// When it goes on: after a pause that keeps the rate; for its last round, when nothing
/// is under way any more that was when it began.
fn due(
    config: &Config,
    claimed: &Erasure,
    next: &NextStep,
    items: usize,
    now: Timestamp,
) -> Timestamp {
    let paced = now + erasure::pause(items, config.erasure.per_second_max);
    if claimed.state == ErasureState::Running && next.state == ErasureState::Settling {
        return paced.max(claimed.created + settle_time(config));
    }
    paced
}

/// How long after an erasure has begun something may be under way that did not see
/// that: another instance's cached key, then a request or a job at its longest.
pub fn settle_time(config: &Config) -> Duration {
    let request = config.http.request_timeout;
    let job = config.delivery.timeout + STORE_CALLS_TIMEOUT;
    view_age_max(config) + request.max(job)
}
