//! Endpoint health, as an attempt tells it: the circuit breaker, the run of failures
//! that is persisted, and disabling in the end.
//!
//! None of it may fail the attempt, which is recorded already: what could not be
//! written is logged, and the next attempt says it again.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::model::breaker::{BreakerTransition, Observation, Ticket};
use crate::model::delivery::{AttemptOutcome, Verdict};
use crate::model::endpoint::{FailureStreak, Target};
use crate::model::id::ProjectId;
use crate::model::job::Job;
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::config_projection::health::{Disabling, Reason};

/// Of the time after which an endpoint is disabled, the part after which its owner
/// is warned.
const WARN_AFTER_FRACTION: f64 = 0.6;

/// Records in the breaker how an attempt ended at `now`.
pub fn record_in_breaker(
    app: &App,
    target: &Target,
    ticket: Ticket,
    outcome: AttemptOutcome,
    now: Timestamp,
) {
    let change = app
        .admission
        .record_outcome(target, ticket, observation(outcome), now);
    if change == BreakerTransition::None {
        return;
    }
    let metrics = &app.telemetry.metrics;
    metrics
        .breakers_open
        .record(app.admission.open_breakers(now));
    match change {
        BreakerTransition::Opened => {
            metrics.breakers_opened.add_one();
            tracing::warn!(endpoint.id = %target.id, "circuit breaker opened");
        }
        _ => tracing::info!(endpoint.id = %target.id, "circuit breaker closed"),
    }
}

/// Whether the endpoint can cope with more.
fn observation(outcome: AttemptOutcome) -> Observation {
    match outcome {
        AttemptOutcome::NoResponse
        | AttemptOutcome::Response {
            status: 429 | 500..,
            ..
        } => Observation::Failing,
        // An answer that refuses one event is no reason to keep the others from it.
        AttemptOutcome::Response { .. } => Observation::Healthy,
    }
}

/// Persists what an attempt that ended at `now` says, if that is news: the usual
/// success costs nothing, and neither does one more failure.
pub async fn persist_health(
    app: &App,
    project: &ProjectId,
    target: &Target,
    verdict: Verdict,
    now: Timestamp,
) {
    // What is rare is boxed, so that every attempt's future need not have room for it.
    let persisted = match (verdict, target.failure_streak()) {
        (Verdict::Gone, _) => Box::pin(disable(app, project, target, Reason::Gone, now)).await,
        (Verdict::Delivered, None) => return,
        (Verdict::Delivered, Some(_)) => Box::pin(clear_failing(app, project, target, now)).await,
        (Verdict::Retry(_) | Verdict::Exhausted, None) => {
            Box::pin(start_failing(app, project, target, now)).await
        }
        (Verdict::Retry(_) | Verdict::Exhausted, Some(failing)) => {
            Box::pin(warn_or_disable(app, project, target, failing, now)).await
        }
    };
    if let Err(error) = persisted {
        let cause = error.causes();
        tracing::warn!(endpoint.id = %target.id, %error, cause, "failed to persist endpoint health");
    }
}

async fn clear_failing(
    app: &App,
    project: &ProjectId,
    target: &Target,
    now: Timestamp,
) -> Result<()> {
    if !app.admission.should_persist_health(target, now) {
        return Ok(());
    }
    app.projection.clear_failing(project, &target.id).await
}

async fn start_failing(
    app: &App,
    project: &ProjectId,
    target: &Target,
    now: Timestamp,
) -> Result<()> {
    if !app.admission.should_persist_health(target, now) {
        return Ok(());
    }
    let recorded = app
        .projection
        .record_failing(project, &target.id, now, target.enabled_at);
    recorded.await.map(|_| ())
}

async fn warn_or_disable(
    app: &App,
    project: &ProjectId,
    target: &Target,
    failing: FailureStreak,
    now: Timestamp,
) -> Result<()> {
    let Some(disable_after) = app.config.disable_after() else {
        return Ok(());
    };
    let failed_for = now.duration_since(failing.since);
    let failed_for = Duration::try_from(failed_for).unwrap_or_default();
    if failed_for >= disable_after {
        return disable(app, project, target, Reason::Failing(failing.since), now).await;
    }
    if !failing.warned
        && failed_for >= disable_after.mul_f64(WARN_AFTER_FRACTION)
        && app.admission.should_persist_health(target, now)
    {
        warn(
            app,
            project,
            target,
            failing.since + disable_after,
            failing,
            now,
        )
        .await?;
    }
    Ok(())
}

async fn warn(
    app: &App,
    project: &ProjectId,
    target: &Target,
    disabled_at: Timestamp,
    failing: FailureStreak,
    now: Timestamp,
) -> Result<()> {
    let id = &target.id;
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::EndpointFailing,
        source: &format!("/v1/endpoints/{id}"),
        occurrence_key: &format!("{id}/{}", failing.since.as_millisecond()),
        tenant: target.filter.tenant(),
        data: json!({
            "endpoint_id": id,
            "failing_since": Time(failing.since),
            "disabled_at": Time(disabled_at),
        }),
    };
    // First, so that it is not lost; published twice it is one event.
    operational_events::publish(app, project, &operational_event, now).await?;
    let is_first = app
        .projection
        .record_warned(project, id, failing.since)
        .await?;
    if is_first {
        tracing::warn!(endpoint.id = %id, failing_since = %failing.since, "endpoint failing: will be disabled");
    }
    Ok(())
}

/// Disables the endpoint in the data plane, and enqueues the job for the rest.
async fn disable(
    app: &App,
    project: &ProjectId,
    target: &Target,
    reason: Reason,
    now: Timestamp,
) -> Result<()> {
    let due = app.queue.due(now, Duration::ZERO);
    let disabling = Disabling {
        endpoint: &target.id,
        version: target.version,
        reason,
        at: now,
        due,
    };
    if app.projection.disable(project, disabling).await? {
        let job = Job::Disable {
            endpoint: target.id.clone(),
        };
        app.queue.send(vec![job], Duration::ZERO).await;
    }
    Ok(())
}
