//! One attempt: sent, recorded, and followed up.

use std::fmt::{self, Display};
use std::pin::pin;
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;
use jiff::Timestamp;
use url::Url;

use super::exhausted::{self, ExhaustedDelivery};
use super::health::{self, EndedAttempt};
use super::loaded::LoadedDelivery;
use super::record::{self, MadeAttempt};
use super::request::{WebhookRequest, request};
use crate::app::{self, App};
use crate::error::Result;
use crate::model::activity::Counted;
use crate::model::breaker::Ticket;
use crate::model::delivery::{self, Attempt, AttemptOutcome, Verdict};
use crate::model::endpoint::{EndpointState, Target};
use crate::model::id::DeliveryId;
use crate::model::job::Job;
use crate::model::retry::parse_retry_after;
use crate::model::sent_headers::SentHeaders;
use crate::sender::{AttemptResult, RequestHeaders};
use crate::store::deliveries::{self, AttemptRecord, HeldLease};
use crate::telemetry::activity::{Activity, CountedAttempt};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::millis;
use crate::telemetry::trace::{Span, TRACEPARENT};

/// What rounds when it is cut off.
const HALF_SECOND: Duration = Duration::from_millis(500);

/// An attempt that was sent.
struct SentAttempt {
    result: AttemptResult,
    /// What is kept of the request's headers.
    headers: SentHeaders,
    outcome: AttemptOutcome,
    /// By the clock.
    sent: Timestamp,
    /// How late it was, if it is the first and lateness says anything.
    lag: Option<Duration>,
    /// In the job's time: its `now` and what the attempt took.
    ended: Timestamp,
    /// When the delivery is due again, unless it is recorded.
    due: Timestamp,
}

/// What an attempt decided of its delivery.
struct Decision {
    /// The attempt, as the delivery keeps it.
    attempt: Attempt,
    verdict: Verdict,
    /// False if another worker has recorded the same attempt, or a person has asked
    /// for a new round meanwhile.
    is_recorded: bool,
}

/// Sends the event to `target`, records what came of it, and sets off what follows.
///
/// # Errors
/// When the request cannot be made or the attempt cannot be recorded; the delivery
/// stays due.
pub(super) async fn attempt(
    app: &App,
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    target: &Target,
    ticket: Ticket,
    now: Timestamp,
) -> Result<()> {
    let sent = send(app, id, loaded, target, now).await?;
    let recorded = health::record_in_breaker(app, target, ticket, sent.outcome, sent.ended);
    let decided = record(app, id, loaded, target, &sent).await?;
    let ended = EndedAttempt {
        project: &loaded.project,
        target,
        kind: loaded.attempt_kind(),
        progress: loaded.progress,
        attempt: &decided.attempt,
        verdict: decided.verdict,
        recorded,
        at: sent.ended,
    };
    health::persist_health(app, &ended).await;
    follow_up(app, id, loaded, target, &decided, now).await;
    Ok(())
}

/// Makes the request.
async fn send(
    app: &App,
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    target: &Target,
    now: Timestamp,
) -> Result<SentAttempt> {
    // The signature's time is the clock's: customers compare it with theirs.
    let sent = app::now();
    let WebhookRequest {
        headers: mut map,
        spelled,
        body,
    } = request(id, target, &loaded.body, sent)?;
    let span = app.telemetry.traces.attempt(&target.url);
    continue_trace(&span, &mut map);
    let sent_headers = SentHeaders::of(&map, &spelled, &app::USER_AGENT);
    let headers = RequestHeaders { map, spelled };
    let credentials = target.credentials.as_ref();
    let certificate = credentials.and_then(|credentials| credentials.client_certificate());
    let sender = app.sender.on_behalf_of(&loaded.project);
    let post = sender.post(&target.url, headers, body, certificate);
    let (result, due) = with_lease_renewal(app, loaded.lease(id), post).await;
    end_span(span, &result);
    Ok(SentAttempt {
        due,
        outcome: outcome(&result, sent),
        sent,
        lag: loaded.first_attempt_lag(app, now),
        ended: now + result.latency,
        headers: sent_headers,
        result,
    })
}

/// Judges the attempt and records it with the delivery's state and next due time,
/// in one conditional write; logs and counts it.
async fn record(
    app: &App,
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    target: &Target,
    sent: &SentAttempt,
) -> Result<Decision> {
    let verdict = delivery::judge(loaded.progress, sent.outcome, &app.schedule, app.jitter());
    let verdict = reconsidered(app, loaded, target, verdict).await;
    let attempt = entry(sent);
    let record = AttemptRecord {
        id,
        before: loaded.progress,
        kept: &loaded.kept_attempts,
        attempt: &attempt,
        state: verdict.state(),
        due: match verdict {
            // From its end: a slow attempt must not use up the wait after it.
            Verdict::Retry(delay) => Some(app.queue.due(sent.ended, delay)),
            // Then the sweeper brings it, if this process does not live to tell.
            Verdict::Exhausted | Verdict::Gone => exhausted::is_told(&loaded.event_type)
                .then(|| app.queue.due(sent.ended, Duration::ZERO)),
            Verdict::Delivered => None,
        },
    };
    let made = MadeAttempt {
        project: &loaded.project,
        record: &record,
        ended: sent.ended,
        due: sent.due,
        lease_left: lease_left(app.queue.lease(), sent),
    };
    let is_recorded = Box::pin(record::record(app, &made)).await?;
    let decided = Decision {
        attempt,
        verdict,
        is_recorded,
    };
    log(id, loaded, target, &sent.result, &decided);
    count(&app.telemetry.metrics, loaded, sent, &decided);
    count_activity(&app.telemetry.activity, target, loaded, sent, &decided);
    Ok(decided)
}

/// How soon a delivery is attempted as its endpoint is now that failed for good as it was.
const RECONSIDERED_DELAY: Duration = Duration::from_secs(1);

/// The verdict, unless it ends the delivery for an endpoint that has been changed since
/// this process read it, as by whom its URL was mended: then it is attempted once more.
/// One consistent read where it would end.
async fn reconsidered(
    app: &App,
    loaded: &LoadedDelivery,
    target: &Target,
    verdict: Verdict,
) -> Verdict {
    if !matches!(verdict, Verdict::Exhausted | Verdict::Gone) {
        return verdict;
    }
    let current = app.projection.current_endpoint(&loaded.project, &target.id);
    let is_newer = |current: &Target| {
        current.state == EndpointState::Enabled && current.version > target.version
    };
    // If it cannot be read, the record fails as well, and the delivery stays due.
    match Box::pin(current).await {
        Ok(Some(current)) if is_newer(&current) => {
            app.projection.forget(&loaded.project);
            Verdict::Retry(RECONSIDERED_DELAY)
        }
        _ => verdict,
    }
}

/// Enqueues the next attempt, or publishes that there is none. Whoever has recorded
/// the attempt does so.
async fn follow_up(
    app: &App,
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    target: &Target,
    decided: &Decision,
    now: Timestamp,
) {
    if !decided.is_recorded {
        return;
    }
    match decided.verdict {
        Verdict::Delivered => {}
        Verdict::Retry(delay) => {
            let job = Job::Deliver {
                delivery: id.clone(),
                attempts_made: loaded.progress.attempts_made + 1,
                payload: None,
            };
            app.queue.send(vec![job], delay).await;
        }
        Verdict::Exhausted | Verdict::Gone => {
            let delivery = ExhaustedDelivery {
                project: &loaded.project,
                id,
                event_type: &loaded.event_type,
                tenant: exhausted::tenant(Some(target), loaded.tenant.as_deref()),
                attempts_made: loaded.progress.attempts_made + 1,
                round_start: loaded.progress.round_start,
                last_attempt: &decided.attempt,
            };
            // What is rare is boxed, so that every attempt's future need not have room
            // for it.
            Box::pin(exhausted::publish_best_effort(app, &delivery, now)).await;
        }
    }
}

/// Waits for `post`. Once half of the delivery's lease is over, the lease is renewed: the
/// answer's other half is when the delivery is due then.
async fn with_lease_renewal(
    app: &App,
    held: HeldLease<'_>,
    post: impl Future<Output = AttemptResult>,
) -> (AttemptResult, Timestamp) {
    let mut post = pin!(post);
    let lease = app.queue.lease();
    if let Ok(attempted) = tokio::time::timeout(lease / 2, &mut post).await {
        return (attempted, held.due);
    }
    // Once, for as long as it can take, so that no other process takes it for lost.
    let until = app::now() + app.config.delivery.timeout + lease;
    let renewed = deliveries::renew_lease(&app.dynamo, held, until);
    let (attempted, renewed) = tokio::join!(post, renewed);
    let due = match renewed {
        Ok(true) => until,
        Ok(false) => held.due,
        Err(error) => {
            let cause = error.causes();
            tracing::warn!(delivery.id = %held.id, %error, cause, "delivery lease not renewed");
            held.due
        }
    };
    (attempted, due)
}

/// What is left of a delivery's lease after an attempt: it began when the job was sent or
/// claimed, and the job may have waited. A quarter of it is there for a second and a third
/// try in any case, of which one renews it.
fn lease_left(lease: Duration, sent: &SentAttempt) -> Duration {
    let left = sent.due.duration_since(sent.ended);
    Duration::try_from(left).unwrap_or_default().max(lease / 4)
}

/// Lets the endpoint go on with the trace.
fn continue_trace(span: &Span, headers: &mut HeaderMap) {
    let traceparent = span.context().and_then(|context| context.traceparent());
    if let Some(value) = traceparent.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

fn end_span(mut span: Span, attempted: &AttemptResult) {
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
fn count(metrics: &Metrics, loaded: &LoadedDelivery, sent: &SentAttempt, decided: &Decision) {
    metrics.attempt_latency.record(sent.result.latency);
    if !decided.is_recorded {
        return;
    }
    if let Some(lag) = sent.lag {
        metrics.delivery_lag.record(lag);
    }
    match decided.verdict {
        Verdict::Delivered => {
            metrics.delivered.add_one();
            // A person's retry or replay is not what the event waited for.
            if loaded.progress.round_start == 0 {
                let time = sent.ended.duration_since(loaded.received);
                metrics
                    .delivery_time
                    .record(time.try_into().unwrap_or(Duration::ZERO));
            }
        }
        Verdict::Exhausted | Verdict::Gone => metrics.failed.add_one(),
        Verdict::Retry(_) => {}
    }
}

/// The same for the project to see.
fn count_activity(
    activity: &Activity,
    target: &Target,
    loaded: &LoadedDelivery,
    sent: &SentAttempt,
    decided: &Decision,
) {
    let delivery = match decided.verdict {
        Verdict::Delivered if loaded.progress.attempts_made == 0 => Some(Counted::DeliveredAtOnce),
        Verdict::Delivered => Some(Counted::DeliveredLater),
        Verdict::Exhausted | Verdict::Gone => Some(Counted::Failed),
        Verdict::Retry(_) => None,
    };
    let made = CountedAttempt {
        endpoint: &target.id,
        latency: sent.result.latency,
        lag: sent.lag.filter(|_| decided.is_recorded),
        attempt: match decided.verdict {
            Verdict::Delivered => Counted::AttemptSucceeded,
            Verdict::Exhausted | Verdict::Gone | Verdict::Retry(_) => Counted::AttemptFailed,
        },
        delivery: delivery.filter(|_| decided.is_recorded),
    };
    activity.count_attempt(&loaded.project, &made, sent.ended);
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

fn entry(sent: &SentAttempt) -> Attempt {
    let attempted = &sent.result;
    let response = attempted.outcome.as_ref().ok();
    Attempt {
        at: sent.sent.into(),
        duration_ms: u64::try_from(attempted.latency.as_millis()).unwrap_or(u64::MAX),
        status: response.map(|response| response.status),
        error: attempted.outcome.as_ref().err().map(ToString::to_string),
        response: response
            .map(|r| r.body_head.clone())
            .filter(|head| !head.is_empty()),
        sent: Some(sent.headers.clone()),
    }
}

/// Where an endpoint is, as logs may have it: its host, and its port unless that is
/// the scheme's own. Paths, queries and userinfo hold secrets.
struct Host<'a>(&'a Url);

impl Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// One line an attempt. People at a terminal read it in a form of its own, which
/// knows it by these fields.
fn log(
    id: &DeliveryId,
    loaded: &LoadedDelivery,
    target: &Target,
    attempted: &AttemptResult,
    decided: &Decision,
) {
    let outcome = attempted.outcome.as_ref();
    let status = outcome.ok().map(|response| response.status);
    let error = outcome.err().map(tracing::field::display);
    let duration_ms = millis(attempted.latency);
    let (event_type, host) = (&*loaded.event_type, Host(&target.url));
    match decided.verdict {
        Verdict::Delivered => {
            let recorded = decided.is_recorded;
            tracing::debug!(delivery.id = %id, event.type = event_type, endpoint.host = %host, status, duration_ms, recorded, "delivered");
        }
        Verdict::Retry(delay) => {
            let retry_in_s = delay.saturating_add(HALF_SECOND).as_secs();
            tracing::info!(delivery.id = %id, event.type = event_type, endpoint.host = %host, status, error, duration_ms, retry_in_s, "attempt failed");
        }
        Verdict::Exhausted | Verdict::Gone => {
            tracing::warn!(delivery.id = %id, event.type = event_type, endpoint.host = %host, status, error, duration_ms, "delivery failed permanently");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_endpoint_a_log_has_host_and_port_alone() {
        for (url, host) in [
            ("http://127.0.0.1:9000/", "127.0.0.1:9000"),
            (
                "https://hooks.example.com/T0/secret?key=1#x",
                "hooks.example.com",
            ),
            (
                "https://user:pass@hooks.example.com:8443/a",
                "hooks.example.com:8443",
            ),
            ("https://hooks.example.com:443/a", "hooks.example.com"),
            ("http://[::1]:9000/a", "[::1]:9000"),
            ("https://bücher.example/", "xn--bcher-kva.example"),
        ] {
            let url = url.parse().unwrap();
            assert_eq!(Host(&url).to_string(), host);
        }
    }
}
