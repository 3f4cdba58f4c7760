//! A recovery, a page at a time: deliveries that failed or never were are begun, no
//! faster than configured, and how far it came is recorded.
//!
//! ```text
//! read a page → begin each delivery, once per recovery → enqueue their attempts
//!   → record cursor, counts and next due time, once per page → enqueue the next
//! ```
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
use crate::error::{Error, Result};
use crate::model::endpoint::{EndpointState, Target};
use crate::model::id::{EndpointId, RecoveryId};
use crate::model::job::Job;
use crate::model::project_config::ProjectConfig;
use crate::model::recovery::{self, Recovery, RecoveryKind, RecoveryState};
use crate::store::recoveries::{self, PageResult};

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
        PageOutcome::Failed(why) => {
            tracing::warn!(recovery.id = %id, why, "recovery failed");
            recoveries::fail(&app.dynamo, id, &why, now).await?;
            Ok(())
        }
    }
}

/// Begins the deliveries of the next page, or archives it, and records nothing of
/// it in the recovery.
///
/// # Errors
/// When a store is out of reach; what it has begun so far stays.
pub async fn run_page(app: &App, recovery: &Recovery, now: Timestamp) -> Result<PageOutcome> {
    let Some(endpoint) = &recovery.endpoint else {
        return archive::run_page(app, recovery).await;
    };
    let project_config = app.projection.project_config(&recovery.project).await?;
    if project_config.targets.unreadable().contains(endpoint) {
        return Err(Error::internal(anyhow::anyhow!(
            "{endpoint} cannot be read"
        )));
    }
    let Some(target) = target(&project_config, endpoint) else {
        return Ok(PageOutcome::Failed(format!(
            "endpoint {endpoint} was deleted"
        )));
    };
    let step = match recovery.kind {
        RecoveryKind::ReplayMissing => {
            deliveries::replay_missing(app, recovery, target, now).await?
        }
        _ => deliveries::resend(app, recovery, endpoint, now).await?,
    };
    Ok(PageOutcome::Stepped(step))
}

fn target<'a>(project_config: &'a ProjectConfig, endpoint: &EndpointId) -> Option<&'a Target> {
    let target = project_config.targets.get(endpoint)?;
    (target.state != EndpointState::Deleted).then_some(target)
}

/// Records a page and enqueues the next, after a pause that keeps the rate.
async fn record(app: &App, recovery: &Recovery, step: &PageResult, now: Timestamp) -> Result<()> {
    let pause = recovery::pause(step.written, app.config.recovery.per_second_max);
    let due = app.queue.due(now, pause);
    if !recoveries::advance(&app.dynamo, recovery, step, now, due).await? {
        return Ok(());
    }
    let page = recovery.page + 1;
    match step.next {
        Some(_) => {
            let recovery = recovery.id.clone();
            app.queue
                .send(vec![Job::Recover { recovery, page }], pause)
                .await;
        }
        None => tracing::info!(recovery.id = %recovery.id, pages = page, "recovery finished"),
    }
    Ok(())
}
