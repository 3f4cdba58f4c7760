//! A recovery, a page at a time: deliveries that failed or never were are begun, no
//! faster than configured, and how far it came is recorded.
//!
//! ```text
//! read a page → begin each delivery, once per recovery → enqueue their attempts
//!   → record cursor, counts and next due time, once per page → enqueue the next
//! ```
//!
//! Events that never went are looked for twice: at once, and when no process may act any
//! more on a view of the configuration that is older than the recovery.
//!
//! A crash between any two of these does the page again, which begins nothing
//! twice; the counts may then miss some that the first run began. Canceled, a recovery
//! ends before its next page.

pub mod archive;
mod deliveries;
mod page;

use jiff::Timestamp;

pub use self::page::PageOutcome;
use crate::app::App;
use crate::error::Result;
use crate::model::absence::recheck_delay;
use crate::model::endpoint::EndpointState;
use crate::model::id::{EndpointId, RecoveryId};
use crate::model::job::Job;
use crate::model::recovery::{self, Recovery, RecoveryKind, RecoveryPass, RecoveryState};
use crate::store::config_projection::current::view_age_max;
use crate::store::recoveries::{self, PageResult};
use crate::store::timeline::INDEX_LAG;

/// Does the page after the `page`th, unless that is done or the recovery ended;
/// enqueues the next.
///
/// # Errors
/// When a store is out of reach; the recovery stays due.
pub async fn recover(app: &App, id: &RecoveryId, page: u32, now: Timestamp) -> Result<()> {
    let recovery = recoveries::get(&app.dynamo, id).await?;
    let next = recovery.filter(|r| r.state == RecoveryState::Running && r.page == page);
    let Some(recovery) = next else {
        return Ok(());
    };
    match run_page(app, &recovery, now).await? {
        PageOutcome::Stepped(step) => record(app, &recovery, &step, now).await,
        PageOutcome::NotYet(delay) => {
            tracing::warn!(recovery.id = %id, "recovery deferred: its endpoint is not here yet");
            recoveries::defer(&app.dynamo, &recovery, now + delay).await?;
            Ok(())
        }
        PageOutcome::Failed(why) => {
            tracing::warn!(recovery.id = %id, why, "recovery failed");
            recoveries::fail(&app.dynamo, id, &why, now).await?;
            Ok(())
        }
    }
}

/// Begins the deliveries of the next page, or archives it, and records nothing of
/// it in the recovery. What it goes by is the endpoint as it is now: the cache may have
/// another, or none.
///
/// # Errors
/// When a store is out of reach; what it has begun so far stays.
pub async fn run_page(app: &App, recovery: &Recovery, now: Timestamp) -> Result<PageOutcome> {
    let Some(endpoint) = &recovery.endpoint else {
        return archive::run_page(app, recovery).await;
    };
    let current = app.projection.current_endpoint(&recovery.project, endpoint);
    let target = match current.await? {
        Some(target) if target.state == EndpointState::Deleted => {
            let why = format!("endpoint {endpoint} was deleted");
            return Ok(PageOutcome::Failed(why));
        }
        Some(target) => target,
        None => return Ok(without_endpoint(recovery, endpoint, now)),
    };
    let mut step = match recovery.kind {
        RecoveryKind::ReplayMissing => {
            deliveries::replay_missing(app, recovery, &target, now).await?
        }
        _ => deliveries::resend(app, recovery, endpoint, now).await?,
    };
    step.endpoint_version = Some(target.version);
    if step.next.is_none() {
        step.second_pass = second_pass_due(app, recovery, now);
    }
    Ok(PageOutcome::Stepped(step))
}

/// A page of a recovery whose endpoint is not there: it may be on its way.
fn without_endpoint(recovery: &Recovery, endpoint: &EndpointId, now: Timestamp) -> PageOutcome {
    match recheck_delay(now.duration_since(recovery.updated)) {
        Some(delay) => PageOutcome::NotYet(delay),
        None => PageOutcome::Failed(format!("endpoint {endpoint} is not known")),
    }
}

/// When a recovery goes through what it may have missed, if that may be any: once every
/// process knows the endpoint as it was when this was asked for, and the index has what
/// they accepted until then.
fn second_pass_due(app: &App, recovery: &Recovery, now: Timestamp) -> Option<Timestamp> {
    let misses = recovery.kind == RecoveryKind::ReplayMissing
        && recovery.pass == RecoveryPass::First
        && recovery.until > recovery.created - recovery::LATE_MAX;
    let known_at = recovery.created + view_age_max(&app.config) + INDEX_LAG * 2;
    misses.then(|| known_at.max(now))
}

/// Records a page and enqueues the next, after a pause that keeps the rate.
async fn record(app: &App, recovery: &Recovery, step: &PageResult, now: Timestamp) -> Result<()> {
    let mut pause = recovery::pause(step.written, app.config.recovery.per_second_max);
    if let Some(at) = step.second_pass {
        pause = pause.max(at.duration_since(now).try_into().unwrap_or_default());
    }
    let due = app.queue.due(now, pause);
    if !recoveries::advance(&app.dynamo, recovery, step, now, due).await? {
        return Ok(());
    }
    let page = recovery.page + 1;
    if step.next.is_some() || step.second_pass.is_some() {
        let recovery = recovery.id.clone();
        let job = Job::Recover { recovery, page };
        app.queue.send(vec![job], pause).await;
    } else {
        tracing::info!(recovery.id = %recovery.id, pages = page, "recovery finished");
    }
    Ok(())
}
