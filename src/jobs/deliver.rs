//! One attempt to deliver one event to one endpoint.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;

use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::delivery::{self, Attempt, Outcome, Progress, State, Verdict};
use crate::model::endpoint::{self, Target};
use crate::model::id::{DeliveryId, ProjectId};
use crate::model::job::{Carried, Job};
use crate::model::retry::parse_retry_after;
use crate::model::signature::signature_header;
use crate::sender::Attempted;
use crate::store::data_plane::{Gone, TOMBSTONE_KEPT};
use crate::store::deliveries::{self, Recorded};
use crate::store::events;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::{Span, TRACEPARENT};

/// How long a delivery to a disabled endpoint waits before it looks again.
const HOLD: Duration = Duration::from_mins(15);

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
}

/// Makes attempt number `made + 1` and records it; does nothing if that attempt
/// is not the next one any more.
///
/// Sends a Standard Webhooks 1.0 request whose `webhook-id` is the event's id.
/// A crash between the request and its record makes the attempt again: delivery
/// is at least once.
///
/// # Errors
/// When a store is out of reach; the delivery stays due.
pub async fn deliver(
    app: &App,
    id: &DeliveryId,
    made: u32,
    carried: Option<Carried>,
    now: Timestamp,
) -> Result<()> {
    let ready = match carried {
        Some(carried) => Ready {
            project: carried.project,
            body: carried.body,
            received: carried.received,
            // It is carried by what made it.
            created: carried.received,
            progress: carried.progress,
            kept: vec![],
        },
        None => match load(app, id, made).await? {
            Some(ready) => ready,
            None => return Ok(()),
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
        Some((_, endpoint::State::Disabled | endpoint::State::Gone)) => {
            deliveries::hold(&app.dynamo, id, made, now + HOLD).await?;
        }
        Some((target, endpoint::State::Enabled)) => {
            attempt(app, id, &ready, target, now).await?;
        }
    }
    Ok(())
}

/// The delivery and its event, if the attempt after `made` is still to be made.
async fn load(app: &App, id: &DeliveryId, made: u32) -> Result<Option<Ready>> {
    let event_id = id.event();
    let (delivery, event) = tokio::try_join!(
        deliveries::get(&app.dynamo, id),
        events::get(&app.dynamo, &event_id)
    )?;
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
    }))
}

async fn attempt(
    app: &App,
    id: &DeliveryId,
    ready: &Ready,
    target: &Target,
    now: Timestamp,
) -> Result<()> {
    // The signature's time is the clock's: customers compare it with theirs.
    let sent = app::now();
    if target.signing(sent).next().is_none() {
        let endpoint = &target.id;
        return Err(Error::internal(anyhow::anyhow!(
            "no secret of {endpoint} can be opened"
        )));
    }
    let mut headers = headers(id, target, &ready.body, sent);
    let span = app.telemetry.traces.attempt(&target.url);
    continue_trace(&span, &mut headers);
    let post = app.sender.post(&target.url, headers, ready.body.clone());
    let attempted = in_hand(app, id, ready.progress.made, post).await;
    end(span, &attempted);
    let outcome = outcome(&attempted, sent);
    let verdict = delivery::judge(ready.progress, outcome, &app.schedule, app.jitter());
    let delay = match verdict {
        Verdict::Retry(delay) => Some(delay),
        _ => None,
    };
    let recorded = deliveries::record(
        &app.dynamo,
        &Recorded {
            id,
            before: ready.progress,
            kept: &ready.kept,
            attempt: &entry(&attempted, sent),
            state: verdict.state(),
            // From its end: a slow attempt must not use up the wait after it.
            due: delay.map(|delay| app.queue.due(now + attempted.latency, delay)),
        },
    )
    .await?;
    log(id, &attempted, verdict, recorded);
    count(&app.telemetry.metrics, ready, &attempted, verdict, recorded);
    if verdict == Verdict::Gone {
        let due = app.queue.due(now, Duration::ZERO);
        let gone = Gone {
            version: target.version,
            at: sent,
        };
        let disabled = app
            .plane
            .disable_gone(&ready.project, &target.id, gone, due);
        if disabled.await? {
            let endpoint = target.id.clone();
            app.queue
                .send(vec![Job::Disable { endpoint }], Duration::ZERO)
                .await;
        }
    }
    if let (true, Some(delay)) = (recorded, delay) {
        let made = ready.progress.made + 1;
        let job = Job::Deliver {
            delivery: id.clone(),
            made,
            carried: None,
        };
        app.queue.send(vec![job], delay).await;
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
        tracing::warn!(delivery.id = %id, %error, "slow attempt's lease not renewed");
    }
    attempted
}

fn headers(id: &DeliveryId, target: &Target, body: &[u8], sent: Timestamp) -> HeaderMap {
    let event = id.event();
    let signature = signature_header(target.signing(sent), event.as_str(), sent.as_second(), body);
    let value = |text: &str| HeaderValue::from_str(text).expect("ids and signatures are ASCII");
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/cloudevents+json"),
    );
    headers.insert("webhook-id", value(event.as_str()));
    headers.insert("webhook-timestamp", HeaderValue::from(sent.as_second()));
    headers.insert("webhook-signature", value(&signature));
    headers
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
    let duration_ms = attempted.latency.as_secs_f64() * 1e3;
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
