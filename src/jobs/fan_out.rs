//! The fan-out of an event that matches many endpoints, or that is replayed: its
//! deliveries are written, and what meters read of it, where that was not known
//! at accept.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::delivery::Progress;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::model::job::{InlinePayload, Job};
use crate::publish;
use crate::store::deliveries::{self, NewDelivery, ReplayFrom, ReplayOutcome};
use crate::store::events::{self, PendingFanOut, StoredEvent};
use crate::store::readings::{self, NewReadings};

/// Deliveries written at a time.
const WRITES_MAX: usize = 32;
/// Jobs sent at a time.
const SENDS_MAX: usize = 100;

/// Writes and enqueues what the event still lacks, then clears its due time.
/// Running it again writes nothing twice.
///
/// # Errors
/// When a store is out of reach; the event stays due.
pub async fn fan_out(app: &App, id: &EventId, now: Timestamp) -> Result<()> {
    let Some(event) = events::get_with_expired(&app.dynamo, id).await? else {
        return Ok(());
    };
    let Some(pending_fan_out) = event.pending_fan_out.clone() else {
        return Ok(());
    };
    if event.expires <= now {
        // Else it would be due until DynamoDB deletes it, days later.
        tracing::warn!(event.id = %id, "fan-out ended: event expired");
        events::clear_fan_out(&app.dynamo, id, &pending_fan_out).await?;
        return Ok(());
    }
    let project_config = match &pending_fan_out {
        PendingFanOut::New => app.projection.project_config(&event.project).await?,
        // A person asked for it, who may have changed an endpoint a moment ago, elsewhere.
        PendingFanOut::Replay { .. } | PendingFanOut::ReplayToTenant { .. } => {
            let project = &event.project;
            Box::pin(app.projection.current_project_config(project)).await?
        }
    };
    // Before the due time is cleared, and before an unreadable endpoint ends this.
    if pending_fan_out == PendingFanOut::New && !event.is_metered {
        let (published, received) = (event.event()?, event.received);
        let metered = publish::metered(app, &project_config, &published, received).await?;
        readings::put(&app.dynamo, &NewReadings::of_stored(&event, &metered)).await?;
    }
    let targets = &project_config.targets;
    let matching = targets.matching(&event.event_type, event.tenant.as_deref());
    let endpoints: Vec<EndpointId> = match &pending_fan_out {
        // Asked for by name, whatever its filter says.
        PendingFanOut::Replay {
            only: Some(endpoint),
            ..
        } => vec![endpoint.clone()],
        PendingFanOut::ReplayToTenant { .. } => matching
            .filter(|target| target.filter.tenant().is_some())
            .map(|target| target.id.clone())
            .collect(),
        PendingFanOut::New | PendingFanOut::Replay { only: None, .. } => {
            matching.map(|target| target.id.clone()).collect()
        }
    };
    let delay = match pending_fan_out.replayed_at() {
        None => app.schedule.first_delay(),
        // A person asked for it.
        Some(_) => Duration::ZERO,
    };
    let due = app.queue.due(now, delay);
    let plan = WritePlan {
        event: &event,
        pending_fan_out: &pending_fan_out,
        payload: payload(app, &event, &pending_fan_out, due),
        created: now,
        due,
    };
    let writes: Vec<_> = endpoints
        .iter()
        .map(|endpoint| write(app, &plan, endpoint))
        .collect();
    let mut written = stream::iter(writes)
        .buffer_unordered(WRITES_MAX)
        .ready_chunks(SENDS_MAX);
    let mut failed = None;
    while let Some(chunk) = written.next().await {
        let mut jobs = Vec::with_capacity(chunk.len());
        for outcome in chunk {
            match outcome {
                Ok(job) => jobs.extend(job),
                Err(error) => failed = Some(error),
            }
        }
        // What is written is sent, even if not all is, and the others are written too.
        app.queue.send(jobs, delay).await;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    if !targets.unreadable().is_empty() {
        let unreadable = targets.unreadable();
        return Err(Error::internal(anyhow::anyhow!(
            "{unreadable:?} cannot be read"
        )));
    }
    if !events::clear_fan_out(&app.dynamo, id, &pending_fan_out).await? {
        take_back_if_erased(app, id, &endpoints).await?;
    }
    Ok(())
}

/// Deletes what was written for an event that was erased meanwhile.
async fn take_back_if_erased(app: &App, id: &EventId, endpoints: &[EndpointId]) -> Result<()> {
    if events::get(&app.dynamo, id).await?.is_some() {
        return Ok(());
    }
    let written = endpoints.iter();
    let written: Vec<_> = written
        .map(|endpoint| DeliveryId::new(id, endpoint))
        .collect();
    deliveries::delete(&app.dynamo, &written).await?;
    readings::delete(&app.dynamo, &[id]).await
}

/// What all deliveries of one fan-out have in common.
struct WritePlan<'a> {
    event: &'a StoredEvent,
    pending_fan_out: &'a PendingFanOut,
    /// What the queue carries along with a new delivery, if it carries anything.
    payload: Option<InlinePayload>,
    created: Timestamp,
    due: Timestamp,
}

fn payload(
    app: &App,
    event: &StoredEvent,
    pending_fan_out: &PendingFanOut,
    due: Timestamp,
) -> Option<InlinePayload> {
    app.queue.inlines_payload().then(|| InlinePayload {
        project: event.project.clone(),
        event_type: event.event_type.as_str().into(),
        tenant: event.tenant.as_deref().map(Into::into),
        body: event.body.clone(),
        received: pending_fan_out.replayed_at().unwrap_or(event.received),
        progress: Progress::default(),
        due,
        is_untimed: false,
    })
}

/// Writes one delivery, unless this fan-out has done so before; what to enqueue.
async fn write(app: &App, plan: &WritePlan<'_>, endpoint: &EndpointId) -> Result<Option<Job>> {
    let id = DeliveryId::new(&plan.event.id, endpoint);
    let replayed = match plan.pending_fan_out.replayed_at() {
        None => ReplayOutcome::Missing,
        Some(at) => replay(app, plan, &id, at).await?,
    };
    let job = match replayed {
        ReplayOutcome::AlreadyReplayed
        | ReplayOutcome::NotEligible
        | ReplayOutcome::BegunByLater(_) => return Ok(None),
        ReplayOutcome::NewRound(progress) => Job::Deliver {
            delivery: id,
            attempts_made: progress.attempts_made,
            // It has attempts to keep, which a payload does not carry.
            payload: None,
        },
        ReplayOutcome::Missing => {
            let new = NewDelivery::of_stored(plan.event, endpoint, plan.created, plan.due);
            let is_new = match plan.pending_fan_out.replayed_at() {
                None => deliveries::put_new(&app.dynamo, &new).await?,
                Some(_) => deliveries::put_late(&app.dynamo, &new).await?,
            };
            if !is_new {
                return Ok(None);
            }
            Job::Deliver {
                delivery: id,
                attempts_made: 0,
                payload: plan.payload.clone(),
            }
        }
    };
    Ok(Some(job))
}

/// Begins a delivery's round of the replay `at`, once. A replay of a later time comes
/// after it, unless this is the one the event still waits for: then a clock was ahead.
async fn replay(
    app: &App,
    plan: &WritePlan<'_>,
    id: &DeliveryId,
    at: Timestamp,
) -> Result<ReplayOutcome> {
    let (dynamo, from) = (&app.dynamo, ReplayFrom::Ended);
    let replayed = deliveries::replay(dynamo, id, from, at, plan.due).await?;
    let ReplayOutcome::BegunByLater(later) = replayed else {
        return Ok(replayed);
    };
    let event = events::get(dynamo, &plan.event.id).await?;
    let waits_for = event.and_then(|event| event.pending_fan_out);
    if waits_for.as_ref() != Some(plan.pending_fan_out) {
        return Ok(replayed);
    }
    deliveries::replay_after(dynamo, id, from, at, plan.due, later).await
}
