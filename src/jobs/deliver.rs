//! One attempt to deliver one event to one endpoint.

mod exhausted;
mod health;
mod request;

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderValue;
use jiff::Timestamp;

use super::outcome::{Done, Later};
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::breaker::{BreakerDecision, Ticket};
use crate::model::delivery::{
    self, Attempt, AttemptOutcome, DISABLED_RECHECK_DELAY, DeliveryState, Progress, Verdict,
};
use crate::model::endpoint::{self, Target};
use crate::model::filter::TEST_TYPE;
use crate::model::id::{DeliveryId, ProjectId};
use crate::model::job::{InlinePayload, Job};
use crate::model::retry::parse_retry_after;
use crate::queue::lanes::WaitReason;
use crate::sender::AttemptResult;
use crate::store::config_projection::TOMBSTONE_KEPT;
use crate::store::deliveries::{self, AttemptRecord};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::millis;
use crate::telemetry::trace::{Span, TRACEPARENT};

/// How early or late a slot that was given before may be used.
const SLOT_EARLY: Duration = Duration::from_secs(1);
const SLOT_LATE: Duration = Duration::from_mins(15);

/// How long a delivery waits for its endpoint's projection.
const UNPROJECTED_HOLD: Duration = Duration::from_secs(30);

/// A delivery and all that an attempt needs to know of it.
struct LoadedDelivery {
    project: ProjectId,
    body: Bytes,
    received: Timestamp,
    created: Timestamp,
    progress: Progress,
    kept_attempts: Vec<Attempt>,
    /// When its endpoint's rate limit has a place for it, if it has one already.
    slot: Option<Timestamp>,
    /// It was carried along, and is again if it has to wait.
    is_inline: bool,
}

/// Makes attempt number `made + 1` and records it; does nothing if that attempt
/// is not the next one any more.
///
/// Sends a Standard Webhooks 1.0 request whose `webhook-id` is the event's id.
/// A crash between the request and its record makes the attempt again: delivery
/// is at least once. An endpoint whose circuit breaker is open gets no attempt:
/// the delivery is due later. Where the endpoint's own limits leave no place now,
/// the job is given back.
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
    let ready = match inline {
        Some(inline) => LoadedDelivery::from_inline(inline),
        None => match load(app, id, attempts_made).await? {
            Some(ready) => ready,
            None => return Ok(Done::Finished),
        },
    };
    let endpoint = id.endpoint();
    let project_config = app
        .projection
        .project_config_with(&ready.project, &endpoint)
        .await?;
    let targets = &project_config.targets;
    if targets.unreadable().contains(&endpoint) {
        return Err(Error::internal(anyhow::anyhow!(
            "{endpoint} cannot be read"
        )));
    }
    let target = targets.get(&endpoint);
    match target.map(|target| (target, target.state)) {
        Some((_, endpoint::EndpointState::Deleted)) => {
            deliveries::end(&app.dynamo, id, attempts_made, DeliveryState::Canceled).await?;
        }
        // Not even a tombstone is left: it was deleted long ago.
        None if now.duration_since(ready.created) > TOMBSTONE_KEPT => {
            deliveries::end(&app.dynamo, id, attempts_made, DeliveryState::Canceled).await?;
        }
        None => {
            tracing::warn!(delivery.id = %id, "delivery deferred: endpoint not projected yet");
            deliveries::defer(&app.dynamo, id, attempts_made, now + UNPROJECTED_HOLD).await?;
        }
        Some((target, endpoint::EndpointState::Enabled)) => {
            return admit_and_attempt(app, id, ready, target, now).await;
        }
        Some((_, _)) => {
            deliveries::defer(&app.dynamo, id, attempts_made, now + DISABLED_RECHECK_DELAY).await?;
        }
    }
    Ok(Done::Finished)
}

impl LoadedDelivery {
    fn from_inline(inline: InlinePayload) -> Self {
        Self {
            project: inline.project,
            body: inline.body,
            received: inline.received,
            // It is carried by what made it.
            created: inline.received,
            progress: inline.progress,
            kept_attempts: vec![],
            slot: None,
            is_inline: true,
        }
    }

    /// The job again, to be run later.
    fn job(self, id: &DeliveryId) -> Job {
        Job::Deliver {
            delivery: id.clone(),
            attempts_made: self.progress.attempts_made,
            payload: self.is_inline.then_some(InlinePayload {
                project: self.project,
                body: self.body,
                received: self.received,
                progress: self.progress,
            }),
        }
    }

    /// Whether a person asked for this very attempt: a retry, or a test.
    fn is_manual(&self) -> bool {
        let is_retry = self.progress.attempts_made > 0
            && self.progress.attempts_made == self.progress.round_start;
        is_retry
            || exhausted::EventHead::of(&self.body)
                .is_some_and(|event| event.event_type == TEST_TYPE)
    }

    fn has_slot(&self, now: Timestamp) -> bool {
        self.slot
            .is_some_and(|slot| slot <= now + SLOT_EARLY && now <= slot + SLOT_LATE)
    }
}

/// The delivery and its event, if the attempt after `attempts_made` is still to be made.
async fn load(app: &App, id: &DeliveryId, attempts_made: u32) -> Result<Option<LoadedDelivery>> {
    let (delivery, event) = deliveries::get_with_event(&app.dynamo, id).await?;
    let Some(delivery) = delivery else {
        return Ok(None);
    };
    if delivery.state != DeliveryState::Pending || delivery.progress.attempts_made != attempts_made
    {
        return Ok(None);
    }
    let Some(event) = event else {
        tracing::warn!(delivery.id = %id, "delivery canceled: event expired");
        deliveries::end(&app.dynamo, id, attempts_made, DeliveryState::Canceled).await?;
        return Ok(None);
    };
    Ok(Some(LoadedDelivery {
        project: delivery.project,
        body: event.body,
        received: event.received,
        created: delivery.created,
        progress: delivery.progress,
        kept_attempts: delivery.attempts,
        slot: delivery.slot,
        is_inline: false,
    }))
}

/// Makes the attempt if the endpoint takes one now.
async fn admit_and_attempt(
    app: &App,
    id: &DeliveryId,
    ready: LoadedDelivery,
    target: &Target,
    now: Timestamp,
) -> Result<Done> {
    let later = |ready: LoadedDelivery, wait| {
        let job = ready.job(id);
        Ok(Done::Later(Box::new(Later { job, wait })))
    };
    let _permit = match app.admission.acquire_permit(target, now) {
        Ok(place) => place,
        Err(limit) => return later(ready, WaitReason::Limit(limit)),
    };
    let open_until = app.admission.deferred_until(target, now);
    let is_manual = open_until.is_some() && ready.is_manual();
    let may_defer = !is_manual && is_within_schedule(app, &ready, now);
    // Looked at before a slot is taken, which it would take for nothing.
    if let Some(until) = open_until.filter(|_| may_defer) {
        return defer_for_breaker(app, id, &ready, until, now).await;
    }
    if !ready.has_slot(now)
        && let Some(at) = app.admission.acquire_slot(&app.dynamo, target, now).await?
    {
        return later(ready, WaitReason::Until(at));
    }
    let ticket = match app.admission.admit(target, is_manual || !may_defer, now) {
        BreakerDecision::Allow(ticket) => ticket,
        BreakerDecision::Defer { until } => {
            return defer_for_breaker(app, id, &ready, until, now).await;
        }
    };
    attempt(app, id, &ready, target, ticket, now).await?;
    Ok(Done::Finished)
}

/// Whether it may still be held back. What is older than the schedule takes is
/// attempted whatever the endpoint does, so that it comes to an end.
fn is_within_schedule(app: &App, ready: &LoadedDelivery, now: Timestamp) -> bool {
    let age = now.duration_since(ready.received);
    let least = app.config.delivery.breaker_open_max;
    age.as_secs_f64() < app.schedule.total().max(least).as_secs_f64()
}

/// Leaves the endpoint alone until `until` and a little longer, each delivery by
/// chance, so that not all come at once. One write, or none if it is due about
/// then anyway.
async fn defer_for_breaker(
    app: &App,
    id: &DeliveryId,
    ready: &LoadedDelivery,
    until: Timestamp,
    now: Timestamp,
) -> Result<Done> {
    app.telemetry.metrics.breaker_deferred.add_one();
    if until > now + app.queue.lease() {
        let spread = app.config.delivery.breaker_open.mul_f64(app.jitter());
        deliveries::defer(
            &app.dynamo,
            id,
            ready.progress.attempts_made,
            until + spread,
        )
        .await?;
    }
    Ok(Done::Finished)
}

async fn attempt(
    app: &App,
    id: &DeliveryId,
    ready: &LoadedDelivery,
    target: &Target,
    ticket: Ticket,
    now: Timestamp,
) -> Result<()> {
    // The signature's time is the clock's: customers compare it with theirs.
    let sent = app::now();
    let (mut headers, body) = request::request(id, target, &ready.body, sent)?;
    let span = app.telemetry.traces.attempt(&target.url);
    continue_trace(&span, &mut headers);
    let credentials = target.credentials.as_ref();
    let certificate = credentials.and_then(|credentials| credentials.client_certificate());
    let post = app.sender.post(&target.url, headers, body, certificate);
    let attempted = with_lease_renewal(app, id, ready.progress.attempts_made, post).await;
    end(span, &attempted);
    let ended = now + attempted.latency;
    let outcome = outcome(&attempted, sent);
    health::record_in_breaker(app, target, ticket, outcome, ended);
    let verdict = delivery::judge(ready.progress, outcome, &app.schedule, app.jitter());
    let delay = match verdict {
        Verdict::Retry(delay) => Some(delay),
        _ => None,
    };
    let entry = entry(&attempted, sent);
    let recorded = deliveries::record(
        &app.dynamo,
        &AttemptRecord {
            id,
            before: ready.progress,
            kept: &ready.kept_attempts,
            attempt: &entry,
            state: verdict.state(),
            // From its end: a slow attempt must not use up the wait after it.
            due: delay.map(|delay| app.queue.due(ended, delay)),
        },
    )
    .await?;
    log(id, &attempted, verdict, recorded);
    count(&app.telemetry.metrics, ready, &attempted, verdict, recorded);
    health::persist_health(app, &ready.project, target, verdict, ended).await;
    match (recorded, delay) {
        (true, Some(delay)) => {
            let job = Job::Deliver {
                delivery: id.clone(),
                attempts_made: ready.progress.attempts_made + 1,
                payload: None,
            };
            app.queue.send(vec![job], delay).await;
        }
        (true, None) if verdict != Verdict::Delivered => {
            let what = (&ready.project, id, &*ready.body);
            Box::pin(exhausted::publish_exhausted(
                app,
                what,
                ready.progress,
                &entry,
                verdict,
                now,
            ))
            .await;
        }
        _ => {}
    }
    Ok(())
}

/// Waits for an attempt. A slow one has its delivery's lease renewed, once and for
/// as long as it can take, so that no other process takes it for lost.
async fn with_lease_renewal(
    app: &App,
    id: &DeliveryId,
    attempts_made: u32,
    post: impl Future<Output = AttemptResult>,
) -> AttemptResult {
    let mut post = pin!(post);
    let lease = app.queue.lease();
    if let Ok(attempted) = tokio::time::timeout(lease / 2, &mut post).await {
        return attempted;
    }
    let until = app::now() + app.config.delivery.timeout + lease;
    let renewed = deliveries::renew_lease(&app.dynamo, id, attempts_made, until);
    let (attempted, renewed) = tokio::join!(post, renewed);
    if let Err(error) = renewed {
        let cause = error.causes();
        tracing::warn!(delivery.id = %id, %error, cause, "delivery lease not renewed");
    }
    attempted
}

/// Lets the endpoint go on with the trace.
fn continue_trace(span: &Span, headers: &mut HeaderMap) {
    let traceparent = span.context().and_then(|context| context.traceparent());
    if let Some(value) = traceparent.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

fn end(mut span: Span, attempted: &AttemptResult) {
    match &attempted.outcome {
        Ok(response) => {
            let status = response.status;
            span.set_attribute("http.response.status_code", || i64::from(status));
            if !(200..300).contains(&status) {
                span.set_attribute("error.type", || status.to_string());
                span.set_error(String::new);
            }
        }
        Err(error) => {
            span.set_attribute("error.type", || "no_response");
            span.set_error(|| error.to_string());
        }
    }
}

/// Counts an attempt, and what became of its delivery if this is what decided it.
fn count(
    metrics: &Metrics,
    ready: &LoadedDelivery,
    attempted: &AttemptResult,
    verdict: Verdict,
    recorded: bool,
) {
    metrics.attempt_latency.record(attempted.latency);
    match verdict {
        Verdict::Delivered if recorded => {
            metrics.delivered.add_one();
            // A person's retry or replay is not what the event waited for.
            if ready.progress.round_start == 0 {
                let lag = app::now().duration_since(ready.received);
                metrics
                    .delivery_lag
                    .record(lag.try_into().unwrap_or(Duration::ZERO));
            }
        }
        Verdict::Exhausted | Verdict::Gone if recorded => metrics.failed.add_one(),
        _ => {}
    }
}

fn outcome(attempted: &AttemptResult, sent: Timestamp) -> AttemptOutcome {
    match &attempted.outcome {
        Ok(response) => AttemptOutcome::Response {
            status: response.status,
            retry_after: response
                .retry_after
                .as_deref()
                .and_then(|v| parse_retry_after(v, sent)),
        },
        Err(_) => AttemptOutcome::NoResponse,
    }
}

fn entry(attempted: &AttemptResult, sent: Timestamp) -> Attempt {
    let response = attempted.outcome.as_ref().ok();
    Attempt {
        at: sent.into(),
        duration_ms: u64::try_from(attempted.latency.as_millis()).unwrap_or(u64::MAX),
        status: response.map(|response| response.status),
        error: attempted.outcome.as_ref().err().map(ToString::to_string),
        response: response
            .map(|r| r.body_head.clone())
            .filter(|head| !head.is_empty()),
    }
}

fn log(id: &DeliveryId, attempted: &AttemptResult, verdict: Verdict, recorded: bool) {
    let status = attempted
        .outcome
        .as_ref()
        .ok()
        .map(|response| response.status);
    let error = attempted
        .outcome
        .as_ref()
        .err()
        .map(tracing::field::display);
    let duration_ms = millis(attempted.latency);
    match verdict {
        Verdict::Delivered => {
            tracing::debug!(delivery.id = %id, status, duration_ms, recorded, "delivered");
        }
        Verdict::Retry(delay) => {
            let retry_in_s = delay.as_secs();
            tracing::info!(delivery.id = %id, status, error, duration_ms, retry_in_s, "attempt failed");
        }
        Verdict::Exhausted | Verdict::Gone => {
            tracing::warn!(delivery.id = %id, status, error, duration_ms, "delivery failed permanently");
        }
    }
}
