//! The delivery of one event to one endpoint: whether it may be attempted now, and
//! the attempt.

mod attempt;
mod exhausted;
mod health;
mod loaded;
mod missing;
mod record;
mod request;

use jiff::Timestamp;

use self::attempt::attempt;
use self::loaded::LoadedDelivery;
use self::missing::Lacking;
use super::outcome::{Done, Later};
use crate::admission::{GatePass, SlotClaim};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::breaker::{AttemptMode, BreakerDecision};
use crate::model::delivery::DISABLED_RECHECK_DELAY;
use crate::model::endpoint::{EndpointState, Target};
use crate::model::id::DeliveryId;
use crate::model::job::InlinePayload;
use crate::queue::lanes::WaitReason;
use crate::store::deliveries;

/// Makes attempt number `attempts_made + 1` and records it; does nothing if that
/// attempt is not the next one any more.
///
/// Sends a Standard Webhooks 1.0 request whose `webhook-id` is the event's id.
/// A crash between the request and its record makes the attempt again: delivery
/// is at least once. Where the endpoint's own limits leave no place now, the job is
/// given back.
///
/// # Errors
/// When a store is out of reach; the delivery stays due.
pub async fn deliver(
    app: &App,
    id: &DeliveryId,
    attempts_made: u32,
    inline: Option<InlinePayload>,
    now: Timestamp,
) -> Result<Done> {
    let loaded = match inline {
        Some(inline) => LoadedDelivery::from_inline(inline),
        None => match LoadedDelivery::load(app, id, attempts_made, now).await? {
            Some(loaded) => loaded,
            None => return Ok(Done::Finished),
        },
    };
    let endpoint = id.endpoint();
    let project_config = app
        .projection
        .project_config_with(&loaded.project, &endpoint)
        .await?;
    let targets = &project_config.targets;
    if targets.unreadable().contains(&endpoint) {
        return Err(Error::internal(anyhow::anyhow!(
            "{endpoint} cannot be read"
        )));
    }
    let target = targets.get(&endpoint);
    match target.map(|target| (target, target.state)) {
        Some((_, EndpointState::Deleted)) | None => {
            let lacking = Lacking {
                held: loaded.lease(id),
                since: loaded.missing_since,
            };
            missing::without_endpoint(app, &loaded.project, lacking, now).await?;
        }
        Some((target, EndpointState::Enabled)) => {
            return pass_gate_and_attempt(app, id, loaded, target, now).await;
        }
        Some((_, EndpointState::Disabled | EndpointState::Gone | EndpointState::Failed)) => {
            let until = now + DISABLED_RECHECK_DELAY;
            deliveries::defer(&app.dynamo, loaded.lease(id), until).await?;
        }
    }
    Ok(Done::Finished)
}

/// Makes the attempt if it can be recorded and the endpoint takes one now.
async fn pass_gate_and_attempt(
    app: &App,
    id: &DeliveryId,
    loaded: LoadedDelivery,
    target: &Target,
    now: Timestamp,
) -> Result<Done> {
    // A record that the store refuses is kept in its place; no more are made of them.
    let gate = &app.admission.records;
    let mut pass = match gate.pass(&target.id, now, app.queue.lease()) {
        Ok(pass) => pass,
        Err(at) => {
            let slot = loaded.slot;
            return Ok(later(id, loaded, WaitReason::Records(at), slot));
        }
    };
    let done = admit_and_attempt(app, id, loaded, target, &mut pass, now).await;
    if done.is_err() {
        // The next would fare no better.
        pass.use_up();
    }
    done
}

/// What is to be run later, as it was loaded.
fn later(
    id: &DeliveryId,
    loaded: LoadedDelivery,
    wait: WaitReason,
    slot: Option<Timestamp>,
) -> Done {
    let due = loaded.due;
    let job = loaded.into_job(id, wait);
    Done::Later(Box::new(Later {
        job,
        wait,
        due,
        slot,
    }))
}

/// Makes the attempt if the endpoint takes one now, which then uses up `pass`.
async fn admit_and_attempt(
    app: &App,
    id: &DeliveryId,
    loaded: LoadedDelivery,
    target: &Target,
    pass: &mut GatePass<'_>,
    now: Timestamp,
) -> Result<Done> {
    let _permit = match app.admission.acquire_permit(target, now) {
        Ok(permit) => permit,
        Err(limit) => {
            let slot = loaded.slot;
            return Ok(later(id, loaded, WaitReason::Limit(limit), slot));
        }
    };
    let open_until = app.admission.deferred_until(target, now);
    let is_manual = open_until.is_some() && loaded.is_manual();
    let may_defer = !is_manual && loaded.is_within_schedule(app, now);
    // Looked at before a slot is taken, which it would take for nothing.
    if let Some(until) = open_until.filter(|_| may_defer) {
        return defer_for_breaker(app, id, &loaded, until, now).await;
    }
    if !loaded.has_slot(now) {
        match app.admission.acquire_slot(&app.dynamo, target, now).await? {
            SlotClaim::Now => {}
            SlotClaim::At(at) => return Ok(later(id, loaded, WaitReason::Until(at), Some(at))),
            SlotClaim::AskAt(at) => return Ok(later(id, loaded, WaitReason::Until(at), None)),
        }
    }
    let mode = if may_defer {
        AttemptMode::Guarded
    } else {
        AttemptMode::Forced
    };
    let ticket = match app.admission.admit(target, mode, now) {
        BreakerDecision::Allow(ticket) => ticket,
        BreakerDecision::Defer { until } => {
            return defer_for_breaker(app, id, &loaded, until, now).await;
        }
    };
    pass.use_up();
    attempt(app, id, &loaded, target, ticket, now).await?;
    Ok(Done::Finished)
}

/// Makes the delivery due when the open breaker lets one through, at `until` or a
/// little later. One write; none for a retry that is due about then anyway.
async fn defer_for_breaker(
    app: &App,
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    until: Timestamp,
    now: Timestamp,
) -> Result<Done> {
    app.telemetry.metrics.breaker_deferred.add_one();
    if until > now + app.queue.lease() {
        // By chance, so that not all deliveries come at once.
        let spread = app.config.delivery.breaker_open.mul_f64(app.jitter());
        deliveries::defer(&app.dynamo, loaded.lease(id), until + spread).await?;
    } else if loaded.is_first_held_back() {
        deliveries::hold_back(&app.dynamo, id, loaded.progress.attempts_made).await?;
    }
    Ok(Done::Finished)
}
