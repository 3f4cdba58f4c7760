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
) -> Result<Receipt> {
    if event.event_type().starts_with(RESERVED_PREFIX) {
        return Err(Error::invalid(
            "type",
            "the prefix \"millrace.\" is reserved",
        ));
    }
    let view = view(app, project).await;
    if let Some(mismatch) = view.as_ref().and_then(|view| schema::mismatch(view, event)) {
        schema::count(app, project, event, &mismatch, now).await;
        if mismatch.refused {
            return schema::refuse(app, project, event, mismatch).await;
        }
    }
    let found = Found::by(app, view.as_deref(), event, now);
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
    let view = view(app, project).await;
    let found = Found::by(app, view.as_deref(), event, now);
    keep(app, project, event, found, now).await
}

/// The project's configuration, unless it is not to be had now: the event can be
/// kept without.
async fn view(app: &App, project: &ProjectId) -> Option<Arc<View>> {
    let view = app.plane.view(project).await;
    view.inspect_err(|error| {
        let cause = error.causes();
        tracing::warn!(%error, cause, "configuration unknown at accept: left to the fan-out");
    })
    .ok()
}

/// What a project's configuration makes of an event.
struct Found {
    /// The endpoints it is for, unless that cannot be known now.
    endpoints: Option<Vec<EndpointId>>,
    /// What meters read of it, unless that cannot be known now.
    metered: Option<Metered>,
}

impl Found {
    fn by(app: &App, view: Option<&View>, event: &Event, now: Timestamp) -> Self {
        Self {
            endpoints: view.and_then(|view| matching(view, event)),
            metered: view.map(|view| metered(app, view, event, now)),
        }
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

/// The endpoints the event is for, unless that cannot be known now.
fn matching(view: &View, event: &Event) -> Option<Vec<EndpointId>> {
    // What cannot be read may match: the fan-out waits until it can be.
    if !view.targets.unreadable().is_empty() {
        return None;
    }
    let matching = view.targets.matching(event.event_type(), event.tenant());
    Some(matching.map(|target| target.id.clone()).collect())
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
