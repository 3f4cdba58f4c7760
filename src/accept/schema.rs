//! Schema violations: events whose data does not satisfy the schema of their type.
//! They are counted, refused if the type's mode says so, and make an operational
//! event once an hour.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::{self, App};
use crate::error::{Error, Result, causes};
use crate::model::access::Access;
use crate::model::activity::Counted;
use crate::model::event::Event;
use crate::model::event_type::{EventTypeSchema, ValidationMode};
use crate::model::id::ProjectId;
use crate::model::project_config::ProjectConfig;
use crate::model::schema::SchemaViolation;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::publish::{self, Acceptance};
use crate::store::events;

/// How an event does not satisfy the schema of its type.
pub(super) struct ValidationFailure {
    validate: ValidationMode,
    schema_version: i64,
    violation: SchemaViolation,
}

impl ValidationFailure {
    /// Whether the event is to be refused for it.
    pub(super) fn is_rejected(&self) -> bool {
        self.validate == ValidationMode::Reject
    }
}

/// How `event` does not satisfy the schema of its type, if it has one that is in
/// force.
pub(super) async fn find_violation(
    app: &App,
    project_config: &ProjectConfig,
    event: &Event,
) -> Option<ValidationFailure> {
    let EventTypeSchema {
        validate,
        schema,
        schema_version,
    } = project_config.event_types.get(event.event_type())?;
    if *validate == ValidationMode::Off {
        return None;
    }
    match app.validation.violation(schema, event).await {
        Ok(violation) => violation.map(|violation| ValidationFailure {
            validate: *validate,
            schema_version: *schema_version,
            violation,
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

/// Counts it, and publishes `millrace.schema.rejected` unless that was published this
/// hour for this type.
pub(super) async fn record_violation(
    app: &App,
    project: &ProjectId,
    event: &Event,
    failure: &ValidationFailure,
    now: Timestamp,
) {
    app.telemetry.metrics.schema_rejected.add_one();
    let event_type = event.event_type();
    let hour = now.as_second() / 3600;
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::SchemaRejected,
        source: &format!("/v1/event-types/{event_type}"),
        occurrence_key: &format!("{event_type}/{hour}"),
        tenant: None,
        data: Value::Null,
    };
    let data = || {
        json!({
            "type": event_type,
            "validate": failure.validate,
            "schema_version": failure.schema_version,
            "path": failure.violation.path,
        })
    };
    operational_events::publish_unless_recent(app, project, operational_event, data, now).await;
}

/// Refuses an event for its data, unless it was accepted before. Cost: one read.
pub(super) async fn refuse(
    app: &App,
    access: &Access,
    event: &Event,
    failure: ValidationFailure,
) -> Result<Acceptance> {
    let id = publish::event_id(access, event);
    // It may have been accepted under another schema by a publisher that did not get
    // the answer and asks again.
    if events::is_kept(&app.dynamo, &id, event).await? {
        app.telemetry.metrics.duplicates.add_one();
        let (activity, now) = (&app.telemetry.activity, app::now());
        activity.count(access.project(), Counted::Duplicate, now);
        return Ok(Acceptance {
            id,
            is_duplicate: true,
            matched: None,
        });
    }
    Err(Error::invalid(
        failure.violation.path,
        failure.violation.expected,
    ))
}
