//! Events whose data does not satisfy the schema of their type: refused or not,
//! counted, and told of once an hour.

use jiff::Timestamp;
use serde_json::json;

use super::{Acceptance, accept_operational};
use crate::app::App;
use crate::error::{Error, Result, causes};
use crate::model::event::Event;
use crate::model::event_type::{EventTypeSchema, ValidationMode};
use crate::model::id::{EventId, ProjectId};
use crate::model::operational_event::{OperationalEvent, OperationalEventKind};
use crate::model::project_config::ProjectConfig;
use crate::model::schema;
use crate::store::events;

/// How an event does not satisfy the schema of its type.
pub(super) struct ValidationFailure {
    /// Whether that is a reason to refuse it.
    pub(super) is_rejected: bool,
    validate: ValidationMode,
    schema_version: i64,
    detail: schema::SchemaViolation,
}

/// How `event` does not satisfy the schema of its type, if it has one that is in
/// force.
pub(super) fn find_violation(
    project_config: &ProjectConfig,
    event: &Event,
) -> Option<ValidationFailure> {
    let EventTypeSchema {
        validate,
        schema,
        schema_version,
    } = project_config.event_types.get(event.event_type())?;
    let refused = match validate {
        ValidationMode::Reject => true,
        ValidationMode::Warn => false,
        ValidationMode::Off => return None,
    };
    match schema.violation(event.data()) {
        Ok(what) => what.map(|what| ValidationFailure {
            is_rejected: refused,
            validate: *validate,
            schema_version: *schema_version,
            detail: what,
        }),
        // What this version cannot read must not silence the project.
        Err(error) => {
            let event_type = event.event_type();
            let cause = causes(&error);
            tracing::warn!(event.r#type = event_type, %error, cause, "schema not usable: event accepted without validation");
            None
        }
    }
}

/// Counts it, and publishes `millrace.schema.rejected` if this hour has not seen it
/// of this type.
pub(super) async fn record_violation(
    app: &App,
    project: &ProjectId,
    event: &Event,
    mismatch: &ValidationFailure,
    now: Timestamp,
) {
    app.telemetry.metrics.schema_rejected.add_one();
    let event_type = event.event_type();
    let hour = now.as_second() / 3600;
    let occasion_key = format!("{project}/{event_type}/{hour}");
    if !app
        .recently_published
        .entry_by_ref(&occasion_key)
        .or_insert(())
        .await
        .is_fresh()
    {
        return;
    }
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::SchemaRejected,
        source: &format!("/v1/event-types/{event_type}"),
        occurrence_key: &format!("{event_type}/{hour}"),
        tenant: None,
        data: json!({
            "type": event_type,
            "validate": mismatch.validate,
            "schema_version": mismatch.schema_version,
            "path": mismatch.detail.path,
        }),
    };
    let published = match operational_event.to_event() {
        Ok(operational_event) => accept_operational(app, project, &operational_event, now)
            .await
            .map(drop),
        Err(error) => Err(error),
    };
    match published {
        // Another instance was first.
        Ok(()) | Err(Error::Conflict(_)) => {}
        Err(error) => {
            let kind = operational_event.kind.event_type();
            let cause = error.causes();
            tracing::warn!(%error, cause, kind, "operational event not published");
            app.recently_published.invalidate(&occasion_key).await;
        }
    }
}

/// Refuses an event for its data, unless it was accepted before, when the schema
/// was another: whoever did not hear of that asks again. Cost: one read.
pub(super) async fn refuse(
    app: &App,
    project: &ProjectId,
    event: &Event,
    mismatch: ValidationFailure,
) -> Result<Acceptance> {
    let id = EventId::derive(project, event.source(), event.id());
    if events::is_kept(&app.dynamo, &id, event.fingerprint()).await? {
        app.telemetry.metrics.duplicates.add_one();
        return Ok(Acceptance {
            id,
            is_duplicate: true,
        });
    }
    Err(Error::invalid(
        mismatch.detail.path,
        mismatch.detail.expected,
    ))
}
