//! Operational events: what Millrace publishes about itself. They take the way of any
//! publisher's and reach the endpoints whose filter names their type.
//!
//! Called by the API and by jobs. Touches DynamoDB and the queue only.

use jiff::Timestamp;
use serde_json::Value;

use crate::app::App;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::id::{EndpointId, ProjectId};
pub use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::publish::{self, Acceptance};

/// Publishes an operational event once, however often it is called for the same
/// occurrence.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not
/// answer; calling again is safe.
pub async fn publish(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) -> Result<()> {
    let event = operational_event.to_event()?;
    let project_config = publish::project_config(app, project).await;
    let access = Access::to_project(project);
    once(publish::publish(app, &access, project_config.as_deref(), &event, now).await)
}

fn once(published: Result<Acceptance>) -> Result<()> {
    match published {
        // Published before with other particulars, maybe by another instance: once
        // is enough.
        Err(Error::Conflict(_)) => Ok(()),
        result => result.map(drop),
    }
}

/// As [`publish()`], for whoever goes on all the same: a failure is logged.
pub async fn publish_best_effort(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) {
    let published = publish(app, project, operational_event, now).await;
    log_failure(operational_event, &published);
}

/// As [`publish_best_effort`] with `data`, which is made and published only if this
/// process has not published the same occurrence within the last hour.
pub async fn publish_unless_recent(
    app: &App,
    project: &ProjectId,
    operational_event: OperationalEvent<'_>,
    data: impl FnOnce() -> Value,
    now: Timestamp,
) {
    let kind = operational_event.kind.event_type();
    let key = format!("{project}/{kind}/{}", operational_event.occurrence_key);
    let entry = app.recently_published.entry_by_ref(&key);
    if !entry.or_insert(()).await.is_fresh() {
        return;
    }
    let operational_event = OperationalEvent {
        data: data(),
        ..operational_event
    };
    let published = publish(app, project, &operational_event, now).await;
    log_failure(&operational_event, &published);
    if published.is_err() {
        app.recently_published.invalidate(&key).await;
    }
}

/// As [`publish_best_effort`], but only if an endpoint subscribes to its type: of
/// what happens before there can be one, nothing is kept.
pub async fn publish_if_subscribed(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) {
    if is_subscribed(app, project, operational_event, |_| true).await {
        publish_best_effort(app, project, operational_event, now).await;
    }
}

/// As [`publish_unless_recent`], but only if an endpoint subscribes to its type.
pub async fn publish_unless_recent_if_subscribed(
    app: &App,
    project: &ProjectId,
    operational_event: OperationalEvent<'_>,
    data: impl FnOnce() -> Value,
    now: Timestamp,
) {
    if is_subscribed(app, project, &operational_event, |_| true).await {
        publish_unless_recent(app, project, operational_event, data, now).await;
    }
}

/// As [`publish_if_subscribed`], but `endpoint` is not among those that are told: it
/// is what is told of. Where more endpoints are told than are written at once, it is.
pub async fn publish_to_others(
    app: &App,
    project: &ProjectId,
    endpoint: &EndpointId,
    operational_event: &OperationalEvent<'_>,
    now: Timestamp,
) {
    if !is_subscribed(app, project, operational_event, |id| id != endpoint).await {
        return;
    }
    let published = async {
        let event = operational_event.to_event()?;
        let config = publish::project_config(app, project).await;
        publish::publish_except(app, project, config.as_deref(), &event, endpoint, now).await
    };
    log_failure(operational_event, &once(published.await));
}

/// Whether an endpoint that `counts` subscribes to the type of `operational_event`.
async fn is_subscribed(
    app: &App,
    project: &ProjectId,
    operational_event: &OperationalEvent<'_>,
    counts: impl Fn(&EndpointId) -> bool,
) -> bool {
    let event_type = operational_event.kind.event_type();
    match app.projection.project_config(project).await {
        Ok(project_config) => {
            let targets = &project_config.targets;
            let mut subscribed = targets.matching(event_type, operational_event.tenant);
            subscribed.any(|target| counts(&target.id)) || !targets.unreadable().is_empty()
        }
        // Rather one too many than one that is missed.
        Err(_) => true,
    }
}

fn log_failure(operational_event: &OperationalEvent<'_>, published: &Result<()>) {
    if let Err(error) = published {
        let kind = operational_event.kind.event_type();
        let cause = error.causes();
        tracing::warn!(%error, cause, kind, "operational event not published");
    }
}
