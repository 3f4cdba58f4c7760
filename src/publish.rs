//! The publication of an event: what it is for is looked up, the event is written
//! with its deliveries, and their jobs are sent.
//!
//! Called by `accept` for what publishers send, by `operational_events` and by the
//! test of an endpoint for Millrace's own. Touches DynamoDB and the queue only. When
//! it returns, the event and all that is left to do for it are durable.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::activity::Counted;
use crate::model::delivery::Progress;
use crate::model::event::Event;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::model::job::{InlinePayload, Job};
use crate::model::meter::{self, EventReadings};
use crate::model::project_config::ProjectConfig;
use crate::model::refusal::shown_name;
use crate::store;
use crate::store::accept::{AcceptOutcome, INLINE_DELIVERIES_MAX, Plan};
use crate::store::events::{self, NewEvent};

/// The largest event whose readings are taken where it is accepted: a larger one would
/// hold up what else the thread has to do.
const METERED_INLINE_BYTES_MAX: usize = 32_768;
/// Names of what differs that a refusal repeats.
const DIFFERENCES_NAMED_MAX: usize = 10;

/// What publishing an event came to.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The event's id: the same for the same access, source and CloudEvent id.
    pub id: EventId,
    /// It was published before, with the same content; nothing was written.
    pub is_duplicate: bool,
    /// How many endpoints it is for, unless it is a duplicate, or the fan-out is to
    /// find them.
    pub matched: Option<usize>,
}

/// Writes an event for every endpoint whose filter takes it, and enqueues its
/// deliveries. An operational event goes only to those whose filter names its type:
/// `*` alone does not. Without a `project_config` the fan-out finds the endpoints.
///
/// Cost: one write, or one transaction with what meters read of it and the deliveries
/// of up to 10 matching endpoints.
///
/// # Errors
/// [`Error::Conflict`] when the event is there with other content;
/// [`Error::Unavailable`] when DynamoDB does not answer, in which case it may be
/// written all the same; publishing it again is safe.
pub async fn publish(
    app: &App,
    access: &Access,
    project_config: Option<&ProjectConfig>,
    event: &Event,
    now: Timestamp,
) -> Result<Acceptance> {
    let matches = EventMatches::find(app, project_config, event, now).await?;
    persist_and_enqueue(app, access, event, matches, now).await
}

/// The id of an event that is published with `access`: what identifies it does so within
/// that.
pub fn event_id(access: &Access, event: &Event) -> EventId {
    let (project, source, id) = (access.project(), event.source(), event.id());
    match access.tenant() {
        Some(tenant) => EventId::derive_of_tenant(project, tenant, source, id),
        None => EventId::derive(project, source, id),
    }
}

/// As [`publish`], but not for `endpoint`, unless the event is for so many that a
/// fan-out finds them.
///
/// # Errors
/// As [`publish`].
pub async fn publish_except(
    app: &App,
    project: &ProjectId,
    project_config: Option<&ProjectConfig>,
    event: &Event,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Acceptance> {
    let mut matches = EventMatches::find(app, project_config, event, now).await?;
    if let Some(endpoints) = &mut matches.endpoints {
        endpoints.retain(|id| id != endpoint);
    }
    let access = Access::to_project(project);
    persist_and_enqueue(app, &access, event, matches, now).await
}

/// Writes an event of Millrace's own that is for one endpoint, whatever its
/// filter says. No meter counts it.
///
/// # Errors
/// As [`publish`].
pub async fn publish_to_endpoint(
    app: &App,
    project: &ProjectId,
    event: &Event,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Acceptance> {
    let matches = EventMatches {
        endpoints: Some(vec![endpoint.clone()]),
        metered: Some(EventReadings {
            at: now,
            readings: vec![],
        }),
    };
    let access = Access::to_project(project);
    persist_and_enqueue(app, &access, event, matches, now).await
}

/// The project's configuration; none if it cannot be read now, which is logged: an
/// event can be published without.
pub async fn project_config(app: &App, project: &ProjectId) -> Option<Arc<ProjectConfig>> {
    let project_config = app.projection.project_config(project).await;
    project_config
        .inspect_err(|error| {
            let cause = error.causes();
            tracing::warn!(%error, cause, "project configuration unavailable: deferred to fan-out");
        })
        .ok()
}

/// What a project's configuration makes of an event.
struct EventMatches {
    /// The endpoints it is for, unless that cannot be known now.
    endpoints: Option<Vec<EndpointId>>,
    /// What meters read of it, unless that cannot be known now.
    metered: Option<EventReadings>,
}

impl EventMatches {
    async fn find(
        app: &App,
        project_config: Option<&ProjectConfig>,
        event: &Event,
        now: Timestamp,
    ) -> Result<Self> {
        Ok(Self {
            endpoints: project_config.and_then(|project_config| matching(project_config, event)),
            metered: match project_config {
                Some(project_config) => Some(metered(app, project_config, event, now).await?),
                None => None,
            },
        })
    }
}

/// What the meters of `project_config` read of an event that arrived at `received`. A
/// large event is read on a thread for what takes long.
///
/// # Errors
/// [`Error::Internal`] when the process ends meanwhile.
pub async fn metered(
    app: &App,
    project_config: &ProjectConfig,
    event: &Event,
    received: Timestamp,
) -> Result<EventReadings> {
    let late_max = app.config.meters.late_max();
    let meters = &project_config.meters;
    let is_large = event.body().len() > METERED_INLINE_BYTES_MAX;
    let readings = if is_large && meters.counts(event.event_type()) {
        let (meters, event) = (Arc::clone(meters), event.clone());
        let read = tokio::task::spawn_blocking(move || meters.readings(&event));
        read.await.map_err(Error::internal)?
    } else {
        meters.readings(event)
    };
    Ok(EventReadings {
        at: meter::counted_at(event.time(), received, late_max),
        readings,
    })
}

/// The endpoints the event is for, unless that cannot be known now.
fn matching(project_config: &ProjectConfig, event: &Event) -> Option<Vec<EndpointId>> {
    // What cannot be read may match: the fan-out waits until it can be.
    if !project_config.targets.unreadable().is_empty() {
        return None;
    }
    let matching = project_config
        .targets
        .matching(event.event_type(), event.tenant());
    Some(matching.map(|target| target.id.clone()).collect())
}

async fn persist_and_enqueue(
    app: &App,
    access: &Access,
    event: &Event,
    matches: EventMatches,
    now: Timestamp,
) -> Result<Acceptance> {
    let (id, project) = (event_id(access, event), access.project());
    let expires = events::expiry(now, app.config.retention_days);
    let new = NewEvent {
        id: &id,
        project,
        event,
        received: now,
        expires,
        metered: matches.metered,
    };
    // A fan-out is not an attempt, and goes ahead.
    let (plan, delay) = match matches.endpoints.as_deref() {
        Some(endpoints) if endpoints.len() <= INLINE_DELIVERIES_MAX => {
            let delay = app.schedule.first_delay();
            (Plan::Inline(endpoints, app.queue.due(now, delay)), delay)
        }
        _ => {
            let due = app.queue.due(now, Duration::ZERO);
            (Plan::FanOut(due), Duration::ZERO)
        }
    };
    let duplicate = match store::accept::accept(&app.dynamo, &new, &plan).await? {
        AcceptOutcome::New => {
            app.telemetry.metrics.accepted.add_one();
            app.telemetry
                .activity
                .count(project, Counted::Accepted, now);
            app.queue.send(jobs(app, &new, &plan), delay).await;
            false
        }
        AcceptOutcome::Duplicate => {
            app.telemetry.metrics.duplicates.add_one();
            app.telemetry
                .activity
                .count(project, Counted::Duplicate, now);
            true
        }
        AcceptOutcome::Conflict(differences) => return Err(conflict(&differences)),
    };
    let matched = matches.endpoints.as_ref().map(Vec::len);
    let matched = matched.filter(|_| !duplicate);
    tracing::debug!(event.id = %id, project.id = %project, duplicate, matched, "event accepted");
    Ok(Acceptance {
        id,
        is_duplicate: duplicate,
        matched,
    })
}

/// That an event is there with other content, and what differs: names alone.
fn conflict(differences: &[String]) -> Error {
    let mut named = differences
        .iter()
        .take(DIFFERENCES_NAMED_MAX)
        .map(|name| shown_name(name))
        .collect::<Vec<_>>()
        .join(", ");
    match differences.len().saturating_sub(DIFFERENCES_NAMED_MAX) {
        0 => {}
        more => named += &format!(" and {more} more"),
    }
    let detail = format!(
        "id: an event with this source and id was published before with other content; it differs in {named}"
    );
    Error::Conflict(detail.into())
}

fn jobs(app: &App, new: &NewEvent<'_>, plan: &Plan<'_>) -> Vec<Job> {
    let Plan::Inline(endpoints, due) = plan else {
        return vec![Job::FanOut {
            event: new.id.clone(),
        }];
    };
    // An event that nobody takes has no use for one.
    let is_inline = !endpoints.is_empty() && app.queue.inlines_payload();
    let payload = is_inline.then(|| InlinePayload {
        project: new.project.clone(),
        event_type: new.event.event_type().into(),
        tenant: new.event.tenant().map(Into::into),
        body: new.event.body().clone(),
        received: new.received,
        progress: Progress::default(),
        due: *due,
        is_untimed: false,
    });
    let deliver = |endpoint: &EndpointId| Job::Deliver {
        delivery: DeliveryId::new(new.id, endpoint),
        attempts_made: 0,
        payload: payload.clone(),
    };
    endpoints.iter().map(deliver).collect()
}
