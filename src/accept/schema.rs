//! Events whose data does not satisfy the schema of their type: refused or not,
//! counted, and told of once an hour.

use jiff::Timestamp;
use serde_json::json;

use super::{Receipt, accept_own};
use crate::app::App;
use crate::error::{Error, Result, causes};
use crate::model::event::Event;
use crate::model::event_type::{Checked, Validate};
use crate::model::id::{EventId, ProjectId};
use crate::model::notice::{Kind, Notice};
use crate::model::schema;
use crate::model::view::View;
use crate::store::events;

/// How an event does not satisfy the schema of its type.
pub(super) struct Mismatch {
    /// Whether that is a reason to refuse it.
    pub(super) refused: bool,
    validate: Validate,
    schema_version: i64,
    what: schema::Mismatch,
}

/// How `event` does not satisfy the schema of its type, if it has one that is in
/// force.
pub(super) fn mismatch(view: &View, event: &Event) -> Option<Mismatch> {
    let Checked {
        validate,
        schema,
        schema_version,
    } = view.types.get(event.event_type())?;
    let refused = match validate {
        Validate::Reject => true,
        Validate::Warn => false,
        Validate::Off => return None,
    };
    match schema.mismatch(event.data()) {
        Ok(what) => what.map(|what| Mismatch {
            refused,
            validate: *validate,
            schema_version: *schema_version,
            what,
        }),
        // What this version cannot read must not silence the project.
        Err(error) => {
            let event_type = event.event_type();
            let cause = causes(&error);
            tracing::warn!(event.r#type = event_type, %error, cause, "schema unusable: event accepted");
            None
        }
    }
}

/// Counts it, and publishes `millrace.schema.rejected` if this hour has not seen it
/// of this type.
pub(super) async fn count(
    app: &App,
    project: &ProjectId,
    event: &Event,
    mismatch: &Mismatch,
    now: Timestamp,
) {
    app.telemetry.metrics.schema_rejected.add_one();
    let event_type = event.event_type();
    let hour = now.as_second() / 3600;
    let told = format!("{project}/{event_type}/{hour}");
    if !app.told.entry_by_ref(&told).or_insert(()).await.is_fresh() {
        return;
    }
    let notice = Notice {
        kind: Kind::SchemaRejected,
        source: &format!("/v1/event-types/{event_type}"),
        occasion: &format!("{event_type}/{hour}"),
        tenant: None,
        data: json!({
            "type": event_type,
            "validate": mismatch.validate,
            "schema_version": mismatch.schema_version,
            "path": mismatch.what.path,
        }),
    };
    let published = match notice.event() {
        Ok(notice) => accept_own(app, project, &notice, now).await.map(drop),
        Err(error) => Err(error),
    };
    match published {
        // Another instance was first.
        Ok(()) | Err(Error::Conflict(_)) => {}
        Err(error) => {
            let kind = notice.kind.event_type();
            let cause = error.causes();
            tracing::warn!(%error, cause, kind, "operational event not published");
            app.told.invalidate(&told).await;
        }
    }
}

/// Refuses an event for its data, unless it was accepted before, when the schema
/// was another: whoever did not hear of that asks again. Cost: one read.
pub(super) async fn refuse(
    app: &App,
    project: &ProjectId,
    event: &Event,
    mismatch: Mismatch,
) -> Result<Receipt> {
    let id = EventId::derive(project, event.source(), event.id());
    if events::is_kept(&app.dynamo, &id, event.fingerprint()).await? {
        app.telemetry.metrics.duplicates.add_one();
        return Ok(Receipt {
            id,
            duplicate: true,
        });
    }
    Err(Error::invalid(mismatch.what.path, mismatch.what.expected))
}
