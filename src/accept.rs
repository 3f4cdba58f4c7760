//! Accepting an event: the one way in, whoever brings it.
//!
//! Called by the HTTP API and by whatever else turns things into CloudEvents.
//! Touches DynamoDB and the queue only. When it returns, the event and all that
//! is left to do for it are durable.

mod schema;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::delivery::Progress;
use crate::model::event::Event;
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::model::job::{InlinePayload, Job};
use crate::model::meter::{self, EventReadings};
use crate::model::project_config::ProjectConfig;
use crate::store;
use crate::store::accept::{AcceptOutcome, INLINE_DELIVERIES_MAX, Plan};
use crate::store::events::{self, NewEvent};

/// What the publisher is told.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The event's id: the same for the same project, source and CloudEvent id.
    pub id: EventId,
    /// It was here before.
    pub is_duplicate: bool,
}

/// Keeps a publisher's event and enqueues its deliveries, if its data satisfies the
/// schema of its type.
///
/// Again with the same content it changes nothing and says so, whatever the schema
/// says by now. Cost: one write, or one transaction with what meters read of it and
/// the deliveries of up to 10 matching endpoints.
///
/// # Errors
/// [`Error::Invalid`] for a reserved type, and for data that the schema does not
/// allow, naming where in it; [`Error::Conflict`] when the event is
/// there with other content; [`Error::Unavailable`] when DynamoDB does not
/// answer, in which case it may be kept all the same and publishing it again
/// tells.
pub async fn accept(
    app: &App,
    project: &ProjectId,
    event: &Event,
    now: Timestamp,
) -> Result<Acceptance> {
    if event.event_type().starts_with(RESERVED_PREFIX) {
        return Err(Error::invalid(
            "type",
            "the prefix \"millrace.\" is reserved",
        ));
    }
    let project_config = project_config(app, project).await;
    if let Some(mismatch) = project_config
        .as_ref()
        .and_then(|project_config| schema::find_violation(project_config, event))
    {
        schema::record_violation(app, project, event, &mismatch, now).await;
        if mismatch.is_rejected {
            return schema::refuse(app, project, event, mismatch).await;
        }
    }
    let found = EventMatches::by(app, project_config.as_deref(), event, now);
    persist_and_enqueue(app, project, event, found, now).await
}

/// Keeps an event that Millrace itself publishes, for every endpoint whose filter
/// names its type: `*` alone does not.
///
/// # Errors
/// As [`accept`], but for the reserved type.
pub async fn accept_operational(
    app: &App,
    project: &ProjectId,
    event: &Event,
    now: Timestamp,
) -> Result<Acceptance> {
    let project_config = project_config(app, project).await;
    let found = EventMatches::by(app, project_config.as_deref(), event, now);
    persist_and_enqueue(app, project, event, found, now).await
}

/// The project's configuration, unless it is not to be had now: the event can be
/// kept without.
async fn project_config(app: &App, project: &ProjectId) -> Option<Arc<ProjectConfig>> {
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
    fn by(
        app: &App,
        project_config: Option<&ProjectConfig>,
        event: &Event,
        now: Timestamp,
    ) -> Self {
        Self {
            endpoints: project_config.and_then(|project_config| matching(project_config, event)),
            metered: project_config.map(|project_config| metered(app, project_config, event, now)),
        }
    }
}

/// What the meters of `project_config` read of an event that arrived at `received`.
pub fn metered(
    app: &App,
    project_config: &ProjectConfig,
    event: &Event,
    received: Timestamp,
) -> EventReadings {
    let late_max = app.config.meters.late_max();
    EventReadings {
        at: meter::counted_at(event.time(), received, late_max),
        readings: project_config.readings(event),
    }
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

/// Keeps an event of Millrace's own that is for one endpoint, whatever its
/// filter says. No meter counts it.
///
/// # Errors
/// As [`accept`].
pub async fn accept_for_endpoint(
    app: &App,
    project: &ProjectId,
    event: &Event,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Acceptance> {
    let found = EventMatches {
        endpoints: Some(vec![endpoint.clone()]),
        metered: Some(EventReadings {
            at: now,
            readings: vec![],
        }),
    };
    persist_and_enqueue(app, project, event, found, now).await
}

async fn persist_and_enqueue(
    app: &App,
    project: &ProjectId,
    event: &Event,
    found: EventMatches,
    now: Timestamp,
) -> Result<Acceptance> {
    let id = EventId::derive(project, event.source(), event.id());
    let expires = events::expiry(now, app.config.retention_days);
    let new = NewEvent {
        id: &id,
        project,
        event,
        received: now,
        expires,
        metered: found.metered,
    };
    // A fan-out is not an attempt, and goes ahead.
    let (plan, delay) = match found.endpoints.as_deref() {
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
            app.queue.send(jobs(app, &new, &plan), delay).await;
            false
        }
        AcceptOutcome::Duplicate => {
            app.telemetry.metrics.duplicates.add_one();
            true
        }
        AcceptOutcome::Conflict => {
            return Err(Error::Conflict(
                "id: an event with this source and id was published before with other content"
                    .into(),
            ));
        }
    };
    tracing::debug!(event.id = %id, project.id = %project, duplicate, "event accepted");
    Ok(Acceptance {
        id,
        is_duplicate: duplicate,
    })
}

fn jobs(app: &App, new: &NewEvent<'_>, plan: &Plan<'_>) -> Vec<Job> {
    let Plan::Inline(endpoints, _) = plan else {
        return vec![Job::FanOut {
            event: new.id.clone(),
        }];
    };
    let body: &Bytes = new.event.body();
    let deliver = |endpoint: &EndpointId| Job::Deliver {
        delivery: DeliveryId::new(new.id, endpoint),
        attempts_made: 0,
        payload: app.queue.inlines_payload().then(|| InlinePayload {
            project: new.project.clone(),
            body: body.clone(),
            received: new.received,
            progress: Progress::default(),
        }),
    };
    endpoints.iter().map(deliver).collect()
}
