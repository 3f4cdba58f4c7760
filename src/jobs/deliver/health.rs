//! Endpoint health, as an attempt tells it: the circuit breaker, the run of failures
//! that is persisted, and disabling in the end.
//!
//! None of it may fail the attempt, which is recorded already: what could not be
//! written is logged, and the next attempt says it again.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::loaded::AttemptKind;
use crate::admission::RecordedOutcome;
use crate::app::App;
use crate::error::Result;
use crate::model::breaker::{BreakerTransition, Observation, Ticket};
use crate::model::delivery::{Attempt, AttemptOutcome, DeliveryState, Progress, Verdict};
use crate::model::endpoint::Target;
use crate::model::failure_streak::{FailurePolicy, FailureStreak, StreakStep};
use crate::model::id::{EndpointId, ProjectId};
use crate::model::job::Job;
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::config_projection::health::{Disabling, Reason};
use crate::store::deliveries::{self, DeliveryFilter, Receivers, StoredDelivery};
use crate::store::timeline::{READ_MAX, TimelineRange};

/// A wait for the next attempt that is no quick retry any more is longer.
const QUICK_RETRY_MAX: Duration = Duration::from_mins(10);
/// Deliveries that succeeded lately that are looked at before an endpoint is disabled.
const LOOKED_AT_MAX: usize = 100;

/// Records in the breaker how an attempt ended at `now`; what that did to it, and showed.
pub fn record_in_breaker(
    app: &App,
    target: &Target,
    ticket: Ticket,
    outcome: AttemptOutcome,
    now: Timestamp,
) -> RecordedOutcome {
    let recorded = app
        .admission
        .record_outcome(target, ticket, observation(outcome), now);
    if recorded.transition == BreakerTransition::None {
        return recorded;
    }
    let metrics = &app.telemetry.metrics;
    metrics
        .breakers_open
        .record(app.admission.open_breakers(now));
    match recorded.transition {
        BreakerTransition::Opened => {
            metrics.breakers_opened.add_one();
            tracing::warn!(endpoint.id = %target.id, "circuit breaker opened");
        }
        _ => tracing::info!(endpoint.id = %target.id, "circuit breaker closed"),
    }
    recorded
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

/// An attempt that has ended, as its endpoint's health sees it.
pub(super) struct EndedAttempt<'a> {
    pub project: &'a ProjectId,
    pub target: &'a Target,
    pub kind: AttemptKind,
    /// The delivery before it.
    pub progress: Progress,
    pub attempt: &'a Attempt,
    pub verdict: Verdict,
    /// What it showed of the endpoint.
    pub recorded: RecordedOutcome,
    pub at: Timestamp,
}

/// Persists what an attempt says, if that is news: the usual success costs nothing,
/// and neither does one more failure. Any success ends a run of failures, with one
/// write; a failure begins or continues one unless it is that of a test.
pub(super) async fn persist_health(app: &App, ended: &EndedAttempt<'_>) {
    // What is rare is boxed, so that every attempt's future need not have room for it.
    let persisted = match ended.verdict {
        Verdict::Gone => Box::pin(disable(app, ended, Reason::Gone)).await,
        Verdict::Delivered
            if ended.recorded.may_have_streak
                && app.admission.end_streak(ended.target, ended.at) =>
        {
            Box::pin(clear_failing(app, ended)).await
        }
        Verdict::Delivered => return,
        Verdict::Retry(_) | Verdict::Exhausted if ended.kind == AttemptKind::Test => return,
        Verdict::Retry(_) | Verdict::Exhausted => Box::pin(persist_failure(app, ended)).await,
    };
    if let Err(error) = persisted {
        let endpoint = &ended.target.id;
        let cause = error.causes();
        tracing::warn!(endpoint.id = %endpoint, %error, cause, "failed to persist endpoint health");
    }
}

async fn clear_failing(app: &App, ended: &EndedAttempt<'_>) -> Result<()> {
    let (target, at) = (ended.target, ended.at);
    let cleared = app
        .projection
        .clear_failing(ended.project, &target.id, at)
        .await;
    if cleared.is_err() {
        app.admission.resume_streak(target, at);
    }
    cleared
}

async fn persist_failure(app: &App, ended: &EndedAttempt<'_>) -> Result<()> {
    let persisted = match app.admission.failure_streak(ended.target) {
        None => start_failing(app, ended).await,
        Some(streak) => go_on_failing(app, ended, streak).await,
    };
    publish_unhealthy(app, ended).await;
    persisted
}

async fn start_failing(app: &App, ended: &EndedAttempt<'_>) -> Result<()> {
    let (project, target, at) = (ended.project, ended.target, ended.at);
    if !app.admission.should_persist_failure(target, at) {
        return Ok(());
    }
    // Before it is written: a success meanwhile must know that there is what to end.
    if app.admission.begin_streak(target, at, at).is_some() {
        return Ok(());
    }
    let since = app
        .projection
        .record_failing(project, &target.id, at, target.enabled_at)
        .await?;
    if let Some(over) = app.admission.begin_streak(target, since, at) {
        // The success may have been written first.
        app.projection
            .clear_failing(project, &target.id, over)
            .await?;
    }
    Ok(())
}

/// Does what follows from one more failure of a run.
async fn go_on_failing(app: &App, ended: &EndedAttempt<'_>, streak: FailureStreak) -> Result<()> {
    let policy = FailurePolicy::new(app.config.disable_after(), &app.schedule);
    let step = policy.after_failure(streak, ended.at);
    if step == StreakStep::Nothing || !app.admission.should_persist_failure(ended.target, ended.at)
    {
        return Ok(());
    }
    let (project, id, at) = (ended.project, &ended.target.id, ended.at);
    match step {
        StreakStep::Nothing => Ok(()),
        StreakStep::Note => {
            let noted = app
                .projection
                .record_still_failing(project, id, streak.since, at);
            noted.await.map(drop)
        }
        StreakStep::BeginAnew => begin_anew(app, ended, streak).await,
        StreakStep::Warn { .. } | StreakStep::Disable
            if has_succeeded_since(app, id, streak.since).await? =>
        {
            begin_anew(app, ended, streak).await
        }
        StreakStep::Warn { disabled_at } => warn(app, ended, streak, disabled_at).await,
        StreakStep::Disable => disable(app, ended, Reason::Failing(streak.since)).await,
    }
}

async fn begin_anew(app: &App, ended: &EndedAttempt<'_>, before: FailureStreak) -> Result<()> {
    let (project, id, at) = (ended.project, &ended.target.id, ended.at);
    let begun = app
        .projection
        .record_failing_anew(project, id, at, before)
        .await?;
    if begun {
        app.admission.begin_streak(ended.target, at, at);
    }
    Ok(())
}

/// Whether a delivery to the endpoint has succeeded after `since`, of the latest
/// [`LOOKED_AT_MAX`] that did and the latest 2,000 in all: what ends a run is not
/// written where a process dies in between, or one that did not know of the run yet
/// saw the success. Asked before anything is done about a run, which is rare.
async fn has_succeeded_since(app: &App, id: &EndpointId, since: Timestamp) -> Result<bool> {
    let filter = DeliveryFilter {
        to: Receivers::One(id),
        state: Some(DeliveryState::Delivered),
        event_type: None,
        tenant: None,
        fresh: since,
    };
    let range = TimelineRange {
        // A delivery may be older than the attempt that succeeds.
        since: Some(since - app.schedule.total()),
        until: None,
        after: None,
        limit: LOOKED_AT_MAX,
    };
    let page = deliveries::list(&app.dynamo, &filter, &range, READ_MAX).await?;
    let succeeded =
        |row: &StoredDelivery| row.attempts.last().is_some_and(|last| last.at.0 > since);
    Ok(page.rows.iter().any(succeeded))
}

/// Publishes `millrace.endpoint.unhealthy`, once for each run of failures: not at the
/// first failure, which the quick retries often make good, but when those are used up
/// or the circuit breaker opens.
async fn publish_unhealthy(app: &App, ended: &EndedAttempt<'_>) {
    let reason = match ended.recorded.transition {
        BreakerTransition::Opened => "circuit_breaker_opened",
        _ if is_retried_soon(app, ended.progress) => return,
        _ => "retries_failed",
    };
    let Some(since) = app.admission.failing_since(ended.target) else {
        return;
    };
    let (id, last) = (&ended.target.id, ended.attempt);
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::EndpointUnhealthy,
        source: &format!("/v1/endpoints/{id}"),
        occurrence_key: &format!("{id}/{}", since.as_millisecond()),
        tenant: ended.target.filter.tenant(),
        data: Value::Null,
    };
    let data = || {
        json!({
            "endpoint_id": id,
            "failing_since": Time(since),
            "reason": reason,
            "last_attempt": { "at": last.at, "status": last.status, "error": last.error },
        })
    };
    operational_events::publish_unless_recent_if_subscribed(
        app,
        ended.project,
        operational_event,
        data,
        ended.at,
    )
    .await;
}

/// Whether the schedule has a quick retry after the attempt that follows `progress`,
/// be it later as the answer asked for that.
fn is_retried_soon(app: &App, progress: Progress) -> bool {
    let made_in_round = progress.attempts_made.saturating_sub(progress.round_start) + 1;
    let next = app.schedule.delay_after(made_in_round, None, 0.5);
    next.is_some_and(|delay| delay <= QUICK_RETRY_MAX)
}

async fn warn(
    app: &App,
    ended: &EndedAttempt<'_>,
    streak: FailureStreak,
    disabled_at: Timestamp,
) -> Result<()> {
    let (project, id) = (ended.project, &ended.target.id);
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::EndpointFailing,
        source: &format!("/v1/endpoints/{id}"),
        occurrence_key: &format!("{id}/{}", streak.since.as_millisecond()),
        tenant: ended.target.filter.tenant(),
        data: json!({
            "endpoint_id": id,
            "failing_since": Time(streak.since),
            "disabled_at": Time(disabled_at),
        }),
    };
    // First, so that it is not lost; published twice it is one event.
    operational_events::publish(app, project, &operational_event, ended.at).await?;
    let is_first = app
        .projection
        .record_warned(project, id, streak.since, ended.at)
        .await?;
    if is_first {
        let failing_since = streak.since;
        tracing::warn!(endpoint.id = %id, %failing_since, "endpoint failing: will be disabled");
    }
    Ok(())
}

/// Disables the endpoint in the data plane, and enqueues the job for the rest.
async fn disable(app: &App, ended: &EndedAttempt<'_>, reason: Reason) -> Result<()> {
    let (project, target, now) = (ended.project, ended.target, ended.at);
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
