//! What an attempt says of its endpoint: the breaker, the run of failures that is
//! written down, and disabling in the end.
//!
//! None of it may fail the attempt, which is recorded already: what could not be
//! written is logged, and the next attempt says it again.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::model::breaker::{Change, Ticket};
use crate::model::delivery::{Outcome, Verdict};
use crate::model::endpoint::{Failing, Target};
use crate::model::id::ProjectId;
use crate::model::job::Job;
use crate::model::time::Time;
use crate::notices::{self, Kind, Notice};
use crate::store::data_plane::care::Reason;

/// Of the time after which an endpoint is disabled, the part after which its owner
/// is told.
const TOLD_AFTER: f64 = 0.6;

/// Tells the breaker how an attempt ended at `now`.
pub fn tell_breaker(app: &App, target: &Target, ticket: Ticket, outcome: Outcome, now: Timestamp) {
    let change = app.care.ended(target, ticket, is_well(outcome), now);
    if change == Change::None {
        return;
    }
    let metrics = &app.telemetry.metrics;
    metrics.breakers_open.see(app.care.open(now));
    match change {
        Change::Opened => {
            metrics.breakers_opened.add_one();
            tracing::warn!(endpoint.id = %target.id, "endpoint left alone for a while: it keeps failing");
        }
        _ => tracing::info!(endpoint.id = %target.id, "endpoint answers again"),
    }
}

/// Whether the endpoint can cope: an answer that refuses one event is no reason to
/// keep the others from it.
fn is_well(outcome: Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Unanswered
            | Outcome::Answered {
                status: 429 | 500..,
                ..
            }
    )
}

/// Writes down what an attempt that ended at `now` says, if that is news: the
/// usual success costs nothing, and neither does one more failure.
pub async fn note(
    app: &App,
    project: &ProjectId,
    target: &Target,
    verdict: Verdict,
    now: Timestamp,
) {
    // What is rare is boxed, so that every attempt's future need not have room for it.
    let noted = match (verdict, target.failing()) {
        (Verdict::Gone, _) => Box::pin(disable(app, project, target, Reason::Gone, now)).await,
        (Verdict::Delivered, None) => return,
        (Verdict::Delivered, Some(_)) => Box::pin(works_again(app, project, target, now)).await,
        (Verdict::Retry(_) | Verdict::Exhausted, None) => {
            Box::pin(begins_to_fail(app, project, target, now)).await
        }
        (Verdict::Retry(_) | Verdict::Exhausted, Some(failing)) => {
            Box::pin(goes_on_failing(app, project, target, failing, now)).await
        }
    };
    if let Err(error) = noted {
        let cause = error.causes();
        tracing::warn!(endpoint.id = %target.id, %error, cause, "how the endpoint does is not written down");
    }
}

async fn works_again(
    app: &App,
    project: &ProjectId,
    target: &Target,
    now: Timestamp,
) -> Result<()> {
    match app.care.may_note(target, now) {
        true => app.plane.forget_failing(project, &target.id).await,
        false => Ok(()),
    }
}

async fn begins_to_fail(
    app: &App,
    project: &ProjectId,
    target: &Target,
    now: Timestamp,
) -> Result<()> {
    if !app.care.may_note(target, now) {
        return Ok(());
    }
    let noted = app
        .plane
        .note_failing(project, &target.id, now, target.enabled_at);
    noted.await.map(|_| ())
}

async fn goes_on_failing(
    app: &App,
    project: &ProjectId,
    target: &Target,
    failing: Failing,
    now: Timestamp,
) -> Result<()> {
    let Some(patience) = app.config.disable_after() else {
        return Ok(());
    };
    let failed_for = now.duration_since(failing.since);
    let failed_for = Duration::try_from(failed_for).unwrap_or_default();
    if failed_for >= patience {
        return disable(app, project, target, Reason::Failing(failing.since), now).await;
    }
    if !failing.told && failed_for >= patience.mul_f64(TOLD_AFTER) && app.care.may_note(target, now)
    {
        warn(app, project, target, failing.since + patience, failing, now).await?;
    }
    Ok(())
}

async fn warn(
    app: &App,
    project: &ProjectId,
    target: &Target,
    disabled_at: Timestamp,
    failing: Failing,
    now: Timestamp,
) -> Result<()> {
    let id = &target.id;
    let notice = Notice {
        kind: Kind::EndpointFailing,
        source: &format!("/v1/endpoints/{id}"),
        occasion: &format!("{id}/{}", failing.since.as_millisecond()),
        tenant: target.filter.tenant(),
        data: json!({
            "endpoint_id": id,
            "failing_since": Time(failing.since),
            "disabled_at": Time(disabled_at),
        }),
    };
    // First, so that it is not lost; told twice it is one event.
    notices::publish(app, project, &notice, now).await?;
    let noted = app.plane.note_warned(project, id, failing.since).await?;
    if noted {
        tracing::warn!(endpoint.id = %id, failing_since = %failing.since, "endpoint fails and will be disabled");
    }
    Ok(())
}

/// Disables the endpoint in the data plane, and has the rest told.
async fn disable(
    app: &App,
    project: &ProjectId,
    target: &Target,
    reason: Reason,
    now: Timestamp,
) -> Result<()> {
    let due = app.queue.due(now, Duration::ZERO);
    let called = (&target.id, target.version);
    if app.plane.disable(project, called, reason, now, due).await? {
        let job = Job::Disable {
            endpoint: target.id.clone(),
        };
        app.queue.send(vec![job], Duration::ZERO).await;
    }
    Ok(())
}
