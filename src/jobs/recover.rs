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
use crate::model::endpoint::{State as EndpointState, Target};
use crate::model::id::{DeliveryId, EndpointId, RecoveryId};
use crate::model::job::Job;
use crate::model::recovery::{self, Kind, Recovery, State};
use crate::model::view::View;
use crate::store::deliveries::{self, NewDelivery, Replayed};
use crate::store::events::{self, EventRow};
use crate::store::recoveries::{self, Step};
use crate::store::timeline::Range;

/// Deliveries begun at a time.
const WRITES_MAX: usize = 16;

/// What a page came to.
#[derive(Debug)]
pub enum Outcome {
    /// It is done, and another may follow.
    Stepped(Step),
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
    let next = recovery.filter(|r| r.state == State::Running && r.page == page);
    let Some(recovery) = next else {
        return Ok(());
    };
    match run_page(app, &recovery, now).await? {
        Outcome::Stepped(step) => record(app, &recovery, &step, now).await,
        Outcome::Failed(why) => {
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
pub async fn run_page(app: &App, recovery: &Recovery, now: Timestamp) -> Result<Outcome> {
    let Some(endpoint) = &recovery.endpoint else {
        return archive::run_page(app, recovery).await;
    };
    let view = app.plane.view(&recovery.project).await?;
    if view.targets.unreadable().contains(endpoint) {
        return Err(Error::internal(anyhow::anyhow!(
            "{endpoint} cannot be read"
        )));
    }
    let Some(target) = target(&view, endpoint) else {
        return Ok(Outcome::Failed(format!("endpoint {endpoint} was deleted")));
    };
    let step = match recovery.kind {
        Kind::ReplayMissing => replay_missing(app, recovery, target, now).await?,
        _ => resend(app, recovery, endpoint, now).await?,
    };
    Ok(Outcome::Stepped(step))
}

fn target<'a>(view: &'a View, endpoint: &EndpointId) -> Option<&'a Target> {
    let target = view.targets.get(endpoint)?;
    (target.state != EndpointState::Deleted).then_some(target)
}

/// The part of the timeline that the next page is taken from.
pub(super) fn range(recovery: &Recovery, limit: usize) -> Range {
    Range {
        since: Some(recovery.since),
        until: Some(recovery.until),
        after: recovery.cursor.clone(),
        limit,
    }
}

fn page_range(app: &App, recovery: &Recovery) -> Range {
    let per_second_max = app.config.recovery.per_second_max;
    range(recovery, recovery::page_size(per_second_max))
}

/// Begins a new round for deliveries in one state.
async fn resend(
    app: &App,
    recovery: &Recovery,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Step> {
    let state = recovery.deliveries.unwrap_or(delivery::State::Failed);
    let wanted = |event_type: &str, tenant: Option<&str>| {
        let is = |wanted: &Option<String>, value| wanted.is_none() || wanted.as_deref() == value;
        is(&recovery.event_type, Some(event_type)) && is(&recovery.tenant, tenant)
    };
    let range = page_range(app, recovery);
    let page = deliveries::positions(&app.dynamo, endpoint, state, &range, wanted).await?;
    let due = app.queue.due(now, Duration::ZERO);
    let begin = async |id: DeliveryId| {
        let at = recovery.created;
        match deliveries::replay(&app.dynamo, &id, Some(state), at, due).await? {
            Replayed::Again(progress) => Ok::<_, Error>(Begun::Now(deliver(id, progress.made))),
            Replayed::Before => Ok(Begun::Before),
            Replayed::Already | Replayed::Missing => Ok(Begun::Not),
        }
    };
    let begun = begin_all(app, page.ids.into_iter().map(begin)).await?;
    Ok(Step {
        examined: page.looked_at,
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
) -> Result<Step> {
    let (project, endpoint) = (&recovery.project, &target.id);
    let matches =
        |event_type: &str, tenant: Option<&str>| target.filter.matches(event_type, tenant);
    let range = page_range(app, recovery);
    let page = events::go_through(&app.dynamo, project, &range, matches).await?;
    let ids = page.rows.iter().map(|row| &row.id);
    let missing = deliveries::missing(&app.dynamo, ids, endpoint).await?;
    let due = app.queue.due(now, Duration::ZERO);
    let begin = async |event: &EventRow| {
        let new = NewDelivery::of_listed(project, event, endpoint, now, due);
        let is_new = deliveries::put_new(&app.dynamo, &new).await?;
        let id = DeliveryId::new(&event.id, endpoint);
        Ok::<_, Error>(match is_new {
            true => Begun::Now(deliver(id, 0)),
            false => Begun::Not,
        })
    };
    let wanted = |row: &&EventRow| missing.contains(&row.id) && row.expires > now;
    let begun = begin_all(app, page.rows.iter().filter(wanted).map(begin)).await?;
    Ok(Step {
        examined: page.looked_at,
        next: page.next,
        ..begun
    })
}

fn deliver(delivery: DeliveryId, made: u32) -> Job {
    Job::Deliver {
        delivery,
        made,
        carried: None,
    }
}

/// Whether a recovery has begun a delivery.
enum Begun {
    /// Just now: this is to be enqueued.
    Now(Job),
    /// In an earlier run of the same page.
    Before,
    Not,
}

/// Begins a page's deliveries and enqueues their attempts. What is begun when one
/// of them fails stays due, and the sweeper brings it.
async fn begin_all(
    app: &App,
    begins: impl Iterator<Item = impl Future<Output = Result<Begun>>>,
) -> Result<Step> {
    let begins: Vec<_> = begins.collect();
    let mut step = Step {
        written: begins.len(),
        ..Step::default()
    };
    let begun = stream::iter(begins).buffer_unordered(WRITES_MAX);
    let begun: Vec<Begun> = begun.try_collect().await?;
    let mut jobs = Vec::with_capacity(begun.len());
    for one in begun {
        step.resent += usize::from(!matches!(one, Begun::Not));
        if let Begun::Now(job) = one {
            jobs.push(job);
        }
    }
    app.queue.send(jobs, Duration::ZERO).await;
    Ok(step)
}

/// Records a page and enqueues the next, after a pause that keeps the rate.
async fn record(app: &App, recovery: &Recovery, step: &Step, now: Timestamp) -> Result<()> {
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
        None => tracing::info!(recovery.id = %recovery.id, pages = page, "recovery done"),
    }
    Ok(())
}
