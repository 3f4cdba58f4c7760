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

use super::{Done, Later};
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::breaker::{Admission, Ticket};
use crate::model::delivery::{self, Attempt, DISABLED_HOLD, Outcome, Progress, State, Verdict};
use crate::model::endpoint::{self, Target};
use crate::model::filter::TEST_TYPE;
use crate::model::id::{DeliveryId, ProjectId};
use crate::model::job::{Carried, Job};
use crate::model::retry::parse_retry_after;
use crate::queue::lanes::Wait;
use crate::sender::Attempted;
use crate::store::data_plane::TOMBSTONE_KEPT;
use crate::store::deliveries::{self, Recorded};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::millis;
use crate::telemetry::trace::{Span, TRACEPARENT};

/// How early or late a slot that was given before may be used.
const SLOT_EARLY: Duration = Duration::from_secs(1);
const SLOT_LATE: Duration = Duration::from_mins(15);

/// How long a delivery waits for its endpoint's projection.
const UNPROJECTED_HOLD: Duration = Duration::from_secs(30);

/// A delivery and all that an attempt needs to know of it.
struct Ready {
    project: ProjectId,
    body: Bytes,
    received: Timestamp,
    created: Timestamp,
    progress: Progress,
    kept: Vec<Attempt>,
    /// When its endpoint's rate limit has a place for it, if it has one already.
    slot: Option<Timestamp>,
    /// It was carried along, and is again if it has to wait.
    carried: bool,
}

/// Makes attempt number `made + 1` and records it; does nothing if that attempt
/// is not the next one any more.
///
/// Sends a Standard Webhooks 1.0 request whose `webhook-id` is the event's id.
/// A crash between the request and its record makes the attempt again: delivery
/// is at least once. An endpoint that is left alone for a while gets no attempt:
/// the delivery is due later. Where the endpoint's own limits leave no place now,
/// the job is given back.
///
/// # Errors
/// When a store is out of reach; the delivery stays due.
pub async fn deliver(
    app: &App,
    id: &DeliveryId,
    made: u32,
    carried: Option<Carried>,
    now: Timestamp,
) -> Result<Done> {
    let ready = match carried {
        Some(carried) => Ready::of(carried),
        None => match load(app, id, made).await? {
            Some(ready) => ready,
            None => return Ok(Done::Finished),
        },
    };
    let endpoint = id.endpoint();
    let view = app.plane.view_with(&ready.project, &endpoint).await?;
    let targets = &view.targets;
    if targets.unreadable().contains(&endpoint) {
        return Err(Error::internal(anyhow::anyhow!(
            "{endpoint} cannot be read"
        )));
    }
    let target = targets.get(&endpoint);
    match target.map(|target| (target, target.state)) {
        Some((_, endpoint::State::Deleted)) => {
            deliveries::end(&app.dynamo, id, made, State::Canceled).await?;
        }
        // Not even a tombstone is left: it was deleted long ago.
        None if now.duration_since(ready.created) > TOMBSTONE_KEPT => {
            deliveries::end(&app.dynamo, id, made, State::Canceled).await?;
        }
        None => {
            tracing::warn!(delivery.id = %id, "delivery waits: its endpoint is not projected yet");
            deliveries::hold(&app.dynamo, id, made, now + UNPROJECTED_HOLD).await?;
        }
        Some((target, endpoint::State::Enabled)) => {
            return in_turn(app, id, ready, target, now).await;
        }
        Some((_, _)) => {
            deliveries::hold(&app.dynamo, id, made, now + DISABLED_HOLD).await?;
        }
    }
    Ok(Done::Finished)
}

impl Ready {
    fn of(carried: Carried) -> Self {
        Self {
            project: carried.project,
            body: carried.body,
            received: carried.received,
            // It is carried by what made it.
            created: carried.received,
            progress: carried.progress,
            kept: vec![],
            slot: None,
            carried: true,
        }
    }

    /// The job again, to be run later.
    fn job(self, id: &DeliveryId) -> Job {
        Job::Deliver {
            delivery: id.clone(),
            made: self.progress.made,
            carried: self.carried.then_some(Carried {
                project: self.project,
                body: self.body,
                received: self.received,
                progress: self.progress,
            }),
        }
    }

    /// Whether a person asked for this very attempt: a retry, or a test.
    fn is_asked(&self) -> bool {
        let is_retry = self.progress.made > 0 && self.progress.made == self.progress.round_start;
        is_retry
            || exhausted::Named::of(&self.body).is_some_and(|event| event.event_type == TEST_TYPE)
    }

    fn has_slot(&self, now: Timestamp) -> bool {
        self.slot
            .is_some_and(|slot| slot <= now + SLOT_EARLY && now <= slot + SLOT_LATE)
    }
}

/// The delivery and its event, if the attempt after `made` is still to be made.
async fn load(app: &App, id: &DeliveryId, made: u32) -> Result<Option<Ready>> {
    let (delivery, event) = deliveries::get_with_event(&app.dynamo, id).await?;
    let Some(delivery) = delivery else {
        return Ok(None);
    };
    if delivery.state != State::Pending || delivery.progress.made != made {
        return Ok(None);
    }
    let Some(event) = event else {
        tracing::warn!(delivery.id = %id, "delivery canceled: its event has expired");
        deliveries::end(&app.dynamo, id, made, State::Canceled).await?;
        return Ok(None);
    };
    Ok(Some(Ready {
        project: delivery.project,
        body: event.body,
        received: event.received,
        created: delivery.created,
        progress: delivery.progress,
        kept: delivery.attempts,
        slot: delivery.slot,
        carried: false,
    }))
}

/// Makes the attempt if the endpoint takes one now.
async fn in_turn(
    app: &App,
    id: &DeliveryId,
    ready: Ready,
    target: &Target,
    now: Timestamp,
) -> Result<Done> {
    let later = |ready: Ready, wait| {
        let job = ready.job(id);
        Ok(Done::Later(Box::new(Later { job, wait })))
    };
    let _place = match app.care.place(target, now) {
        Ok(place) => place,
        Err(limit) => return later(ready, Wait::Limit(limit)),
    };
    let held = app.care.held_until(target, now);
    let asked = held.is_some() && ready.is_asked();
    let may_hold = !asked && is_young(app, &ready, now);
    // Looked at before a slot is taken, which it would take for nothing.
    if let Some(until) = held.filter(|_| may_hold) {
        return hold(app, id, &ready, until, now).await;
    }
    if !ready.has_slot(now)
        && let Some(at) = app.care.slot(&app.dynamo, target, now).await?
    {
        return later(ready, Wait::Until(at));
    }
    let ticket = match app.care.admit(target, asked || !may_hold, now) {
        Admission::Go(ticket) => ticket,
        Admission::Hold { until } => return hold(app, id, &ready, until, now).await,
    };
    attempt(app, id, &ready, target, ticket, now).await?;
    Ok(Done::Finished)
}

/// Whether it may still be held back. What is older than the schedule takes is
/// attempted whatever the endpoint does, so that it comes to an end.
fn is_young(app: &App, ready: &Ready, now: Timestamp) -> bool {
    let age = now.duration_since(ready.received);
    let least = app.config.delivery.breaker_open_max;
    age.as_secs_f64() < app.schedule.total().max(least).as_secs_f64()
}

/// Leaves the endpoint alone until `until` and a little longer, each delivery by
/// chance, so that not all come at once. One write, or none if it is due about
/// then anyway.
async fn hold(
    app: &App,
    id: &DeliveryId,
    ready: &Ready,
    until: Timestamp,
    now: Timestamp,
) -> Result<Done> {
    app.telemetry.metrics.held.add_one();
    if until > now + app.queue.lease() {
        let spread = app.config.delivery.breaker_open.mul_f64(app.jitter());
        deliveries::hold(&app.dynamo, id, ready.progress.made, until + spread).await?;
    }
    Ok(Done::Finished)
}

async fn attempt(
    app: &App,
    id: &DeliveryId,
    ready: &Ready,
    target: &Target,
    ticket: Ticket,
    now: Timestamp,
) -> Result<()> {
    // The signature's time is the clock's: customers compare it with theirs.
    let sent = app::now();
    let (mut headers, body) = request::request(id, target, &ready.body, sent)?;
    let span = app.telemetry.traces.attempt(&target.url);
    continue_trace(&span, &mut headers);
    let extras = target.extras.as_ref();
    let certificate = extras.and_then(|extras| extras.client_certificate());
    let post = app.sender.post(&target.url, headers, body, certificate);
    let attempted = in_hand(app, id, ready.progress.made, post).await;
    end(span, &attempted);
    let ended = now + attempted.latency;
    let outcome = outcome(&attempted, sent);
    health::tell_breaker(app, target, ticket, outcome, ended);
    let verdict = delivery::judge(ready.progress, outcome, &app.schedule, app.jitter());
    let delay = match verdict {
        Verdict::Retry(delay) => Some(delay),
        _ => None,
    };
    let entry = entry(&attempted, sent);
    let recorded = deliveries::record(
        &app.dynamo,
        &Recorded {
            id,
            before: ready.progress,
            kept: &ready.kept,
            attempt: &entry,
            state: verdict.state(),
            // From its end: a slow attempt must not use up the wait after it.
            due: delay.map(|delay| app.queue.due(ended, delay)),
        },
    )
    .await?;
    log(id, &attempted, verdict, recorded);
    count(&app.telemetry.metrics, ready, &attempted, verdict, recorded);
    health::note(app, &ready.project, target, verdict, ended).await;
    match (recorded, delay) {
        (true, Some(delay)) => {
            let job = Job::Deliver {
                delivery: id.clone(),
                made: ready.progress.made + 1,
                carried: None,
            };
            app.queue.send(vec![job], delay).await;
        }
        (true, None) if verdict != Verdict::Delivered => {
            let what = (&ready.project, id, &*ready.body);
            Box::pin(exhausted::tell(
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
async fn in_hand(
    app: &App,
    id: &DeliveryId,
    made: u32,
    post: impl Future<Output = Attempted>,
) -> Attempted {
    let mut post = pin!(post);
    let lease = app.queue.lease();
    if let Ok(attempted) = tokio::time::timeout(lease / 2, &mut post).await {
        return attempted;
    }
    let until = app::now() + app.config.delivery.timeout + lease;
    let renewed = deliveries::renew(&app.dynamo, id, made, until);
    let (attempted, renewed) = tokio::join!(post, renewed);
    if let Err(error) = renewed {
        let cause = error.causes();
        tracing::warn!(delivery.id = %id, %error, cause, "slow attempt's lease not renewed");
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

fn end(mut span: Span, attempted: &Attempted) {
    match &attempted.outcome {
        Ok(response) => {
            let status = response.status;
            span.set("http.response.status_code", || i64::from(status));
            if !(200..300).contains(&status) {
                span.set("error.type", || status.to_string());
                span.fail(String::new);
            }
        }
        Err(error) => {
            span.set("error.type", || "no_response");
            span.fail(|| error.to_string());
        }
    }
}

/// Counts an attempt, and what became of its delivery if this is what decided it.
fn count(
    metrics: &Metrics,
    ready: &Ready,
    attempted: &Attempted,
    verdict: Verdict,
    recorded: bool,
) {
    metrics.attempt_latency.see(attempted.latency);
    match verdict {
        Verdict::Delivered if recorded => {
            metrics.delivered.add_one();
            // A person's retry or replay is not what the event waited for.
            if ready.progress.round_start == 0 {
                let lag = app::now().duration_since(ready.received);
                metrics
                    .delivery_lag
                    .see(lag.try_into().unwrap_or(Duration::ZERO));
            }
        }
        Verdict::Exhausted | Verdict::Gone if recorded => metrics.failed.add_one(),
        _ => {}
    }
}

fn outcome(attempted: &Attempted, sent: Timestamp) -> Outcome {
    match &attempted.outcome {
        Ok(response) => Outcome::Answered {
            status: response.status,
            retry_after: response
                .retry_after
                .as_deref()
                .and_then(|v| parse_retry_after(v, sent)),
        },
        Err(_) => Outcome::Unanswered,
    }
}

fn entry(attempted: &Attempted, sent: Timestamp) -> Attempt {
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

fn log(id: &DeliveryId, attempted: &Attempted, verdict: Verdict, recorded: bool) {
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
            tracing::warn!(delivery.id = %id, status, error, duration_ms, "delivery failed for good");
        }
    }
}
