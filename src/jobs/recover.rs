//! One page of a recovery: deliveries that failed or never were are begun, no
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

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::archive;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::delivery;
use crate::model::endpoint::{EndpointState, Target};
use crate::model::id::{DeliveryId, EndpointId, RecoveryId};
use crate::model::job::Job;
use crate::model::project_config::ProjectConfig;
use crate::model::recovery::{self, Recovery, RecoveryKind, RecoveryState};
use crate::store::deliveries::{self, NewDelivery, ReplayOutcome};
use crate::store::events::{self, EventRow};
use crate::store::recoveries::{self, PageResult};
use crate::store::timeline::TimelineRange;

/// Deliveries begun at a time.
const WRITES_MAX: usize = 16;

/// What a page came to.
#[derive(Debug)]
pub enum PageOutcome {
    /// It is done, and another may follow.
    Stepped(PageResult),
    /// There is no use in another.
    Failed(String),
}

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
        RecoveryKind::ReplayMissing => replay_missing(app, recovery, target, now).await?,
        _ => resend(app, recovery, endpoint, now).await?,
    };
    Ok(PageOutcome::Stepped(step))
}

fn target<'a>(project_config: &'a ProjectConfig, endpoint: &EndpointId) -> Option<&'a Target> {
    let target = project_config.targets.get(endpoint)?;
    (target.state != EndpointState::Deleted).then_some(target)
}

/// The part of the timeline that the next page is taken from.
pub(super) fn range(recovery: &Recovery, limit: usize) -> TimelineRange {
    TimelineRange {
        since: Some(recovery.since),
        until: Some(recovery.until),
        after: recovery.cursor.clone(),
        limit,
    }
}

fn page_range(app: &App, recovery: &Recovery) -> TimelineRange {
    let per_second_max = app.config.recovery.per_second_max;
    range(recovery, recovery::page_size(per_second_max))
}

/// Begins a new round for deliveries in one state.
async fn resend(
    app: &App,
    recovery: &Recovery,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<PageResult> {
    let state = recovery
        .deliveries
        .unwrap_or(delivery::DeliveryState::Failed);
    let wanted = |event_type: &str, tenant: Option<&str>| {
        let is = |wanted: &Option<String>, value| wanted.is_none() || wanted.as_deref() == value;
        is(&recovery.event_type, Some(event_type)) && is(&recovery.tenant, tenant)
    };
    let range = page_range(app, recovery);
    let page = deliveries::scan_ids(&app.dynamo, endpoint, state, &range, wanted).await?;
    let due = app.queue.due(now, Duration::ZERO);
    let begin = async |id: DeliveryId| {
        let at = recovery.created;
        match deliveries::replay(&app.dynamo, &id, Some(state), at, due).await? {
            ReplayOutcome::NewRound(progress) => {
                Ok::<_, Error>(BeginOutcome::Begun(deliver(id, progress.attempts_made)))
            }
            ReplayOutcome::AlreadyReplayed => Ok(BeginOutcome::AlreadyBegun),
            ReplayOutcome::NotEligible | ReplayOutcome::Missing => Ok(BeginOutcome::Skipped),
        }
    };
    let begun = begin_all(app, page.ids.into_iter().map(begin)).await?;
    Ok(PageResult {
        examined: page.examined,
        next: page.next,
        ..begun
    })
}

/// Writes deliveries of the events that match the endpoint's filter now and have
/// none to it.
async fn replay_missing(
    app: &App,
    recovery: &Recovery,
    target: &Target,
    now: Timestamp,
) -> Result<PageResult> {
    let (project, endpoint) = (&recovery.project, &target.id);
    let matches =
        |event_type: &str, tenant: Option<&str>| target.filter.matches(event_type, tenant);
    let range = page_range(app, recovery);
    let page = events::scan(&app.dynamo, project, &range, matches).await?;
    let ids = page.rows.iter().map(|row| &row.id);
    let missing = deliveries::missing(&app.dynamo, ids, endpoint).await?;
    let due = app.queue.due(now, Duration::ZERO);
    let begin = async |event: &EventRow| {
        let new = NewDelivery::of_listed(project, event, endpoint, now, due);
        let is_new = deliveries::put_new(&app.dynamo, &new).await?;
        let id = DeliveryId::new(&event.id, endpoint);
        Ok::<_, Error>(match is_new {
            true => BeginOutcome::Begun(deliver(id, 0)),
            false => BeginOutcome::Skipped,
        })
    };
    let wanted = |row: &&EventRow| missing.contains(&row.id) && row.expires > now;
    let begun = begin_all(app, page.rows.iter().filter(wanted).map(begin)).await?;
    Ok(PageResult {
        examined: page.examined,
        next: page.next,
        ..begun
    })
}

fn deliver(delivery: DeliveryId, attempts_made: u32) -> Job {
    Job::Deliver {
        delivery,
        attempts_made,
        payload: None,
    }
}

/// Whether a recovery has begun a delivery.
enum BeginOutcome {
    /// Just now: this is to be enqueued.
    Begun(Job),
    /// In an earlier run of the same page.
    AlreadyBegun,
    Skipped,
}

/// Begins a page's deliveries and enqueues their attempts. What is begun when one
/// of them fails stays due, and the sweeper brings it.
async fn begin_all(
    app: &App,
    begins: impl Iterator<Item = impl Future<Output = Result<BeginOutcome>>>,
) -> Result<PageResult> {
    let begins: Vec<_> = begins.collect();
    let mut step = PageResult {
        written: begins.len(),
        ..PageResult::default()
    };
    let begun = stream::iter(begins).buffer_unordered(WRITES_MAX);
    let begun: Vec<BeginOutcome> = begun.try_collect().await?;
    let mut jobs = Vec::with_capacity(begun.len());
    for one in begun {
        step.resent += usize::from(!matches!(one, BeginOutcome::Skipped));
        if let BeginOutcome::Begun(job) = one {
            jobs.push(job);
        }
    }
    app.queue.send(jobs, Duration::ZERO).await;
    Ok(step)
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
