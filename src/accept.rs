//! Accepting an event: the one way in, whoever brings it.
//!
//! Called by the HTTP API and by whatever else turns things into CloudEvents.
//! Touches DynamoDB and the queue only. When it returns, the event and all that
//! is left to do for it are durable.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::delivery::Progress;
use crate::model::event::Event;
use crate::model::filter::RESERVED_PREFIX;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::model::job::{Carried, Job};
use crate::model::meter::{self, Metered};
use crate::model::view::View;
use crate::store::events::{self, Accepted, INLINE_DELIVERIES_MAX, NewEvent, Plan};

/// What the publisher is told.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The event's id: the same for the same project, source and CloudEvent id.
    pub id: EventId,
    /// It was here before.
    pub duplicate: bool,
}

/// Keeps a publisher's event and enqueues its deliveries.
///
/// Again with the same content it changes nothing and says so. Cost: one write,
/// or one transaction with what meters read of it and the deliveries of up to 25
/// matching endpoints.
///
/// # Errors
/// [`Error::Invalid`] for a reserved type; [`Error::Conflict`] when the event is
/// there with other content; [`Error::Unavailable`] when DynamoDB does not
/// answer, in which case it may be kept all the same and publishing it again
/// tells.
pub async fn accept(
    app: &App,
    project: &ProjectId,
    event: &Event,
    now: Timestamp,
) -> Result<Receipt> {
    if event.event_type().starts_with(RESERVED_PREFIX) {
        return Err(Error::invalid(
            "type",
            "the prefix \"millrace.\" is reserved",
        ));
    }
    let found = found(app, project, event, now).await;
    keep(app, project, event, found, now).await
}

/// Keeps an event that Millrace itself publishes, for every endpoint whose filter
/// names its type: `*` alone does not.
///
/// # Errors
/// As [`accept`], but for the reserved type.
pub async fn accept_own(
    app: &App,
    project: &ProjectId,
    event: &Event,
    now: Timestamp,
) -> Result<Receipt> {
    let found = found(app, project, event, now).await;
    keep(app, project, event, found, now).await
}

/// What a project's configuration makes of an event.
#[derive(Default)]
struct Found {
    /// The endpoints it is for, unless that cannot be known now.
    endpoints: Option<Vec<EndpointId>>,
    /// What meters read of it, unless that cannot be known now.
    metered: Option<Metered>,
}

async fn found(app: &App, project: &ProjectId, event: &Event, now: Timestamp) -> Found {
    let view = match app.plane.view(project).await {
        Ok(view) => view,
        // The event can be kept without knowing whom it is for.
        Err(error) => {
            tracing::warn!(%error, "endpoints unknown at accept: left to the fan-out");
            return Found::default();
        }
    };
    let targets = &view.targets;
    let matching = targets.matching(event.event_type(), event.tenant());
    Found {
        // What cannot be read may match: the fan-out waits until it can be.
        endpoints: targets
            .unreadable()
            .is_empty()
            .then(|| matching.map(|target| target.id.clone()).collect()),
        metered: Some(metered(app, &view, event, now)),
    }
}

/// What the meters of `view` read of an event that arrived at `received`.
pub fn metered(app: &App, view: &View, event: &Event, received: Timestamp) -> Metered {
    let late_max = app.config.meters.late_max();
    Metered {
        at: meter::counted_at(event.time(), received, late_max),
        readings: view.readings(event),
    }
}

/// Keeps an event of Millrace's own that is for one endpoint, whatever its
/// filter says. No meter counts it.
///
/// # Errors
/// As [`accept`].
pub async fn accept_for(
    app: &App,
    project: &ProjectId,
    event: &Event,
    endpoint: &EndpointId,
    now: Timestamp,
) -> Result<Receipt> {
    let found = Found {
        endpoints: Some(vec![endpoint.clone()]),
        metered: Some(Metered {
            at: now,
            readings: vec![],
        }),
    };
    keep(app, project, event, found, now).await
}

async fn keep(
    app: &App,
    project: &ProjectId,
    event: &Event,
    found: Found,
    now: Timestamp,
) -> Result<Receipt> {
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
    let duplicate = match events::accept(&app.dynamo, &new, &plan).await? {
        Accepted::New => {
            app.telemetry.metrics.accepted.add_one();
            app.queue.send(jobs(app, &new, &plan), delay).await;
            false
        }
        Accepted::Duplicate => {
            app.telemetry.metrics.duplicates.add_one();
            true
        }
        Accepted::Different => {
            return Err(Error::Conflict(
                "id: an event with this source and id was published before with other content"
                    .into(),
            ));
        }
    };
    tracing::debug!(event.id = %id, project.id = %project, duplicate, "event accepted");
    Ok(Receipt { id, duplicate })
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
        made: 0,
        carried: app.queue.carries().then(|| Carried {
            project: new.project.clone(),
            body: body.clone(),
            received: new.received,
            progress: Progress::default(),
        }),
    };
    endpoints.iter().map(deliver).collect()
}
