//! Telling the control plane, and whoever listens, that an endpoint was disabled.

use jiff::Timestamp;
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::model::endpoint::State;
use crate::model::id::{EndpointId, ProjectId};
use crate::model::time::Time;
use crate::notices::{self, Notice};
use crate::store::data_plane::care::Word;
use crate::store::{endpoints, outbox};

/// Publishes that the endpoint was disabled and marks it so in PostgreSQL, where
/// the delivery has done so in the data plane already, and takes back the word
/// once it is heard.
///
/// # Errors
/// When a store is out of reach; the word stays and is due again.
pub async fn disable(app: &App, id: &EndpointId, now: Timestamp) -> Result<()> {
    let Some(word) = app.plane.word(id).await? else {
        return Ok(());
    };
    if let Some(project) = &word.project {
        // Before PostgreSQL, which this need not wait for.
        publish(app, project, id, &word, now).await?;
    }
    let marked = endpoints::mark_disabled(&app.postgres, id, &word).await?;
    if let Some(change) = marked {
        outbox::project(&app.postgres, &app.plane, &change).await?;
        let state = word.state.as_str();
        tracing::warn!(endpoint.id = %id, state, "endpoint disabled");
    }
    app.plane.forget_word(id, &word).await
}

async fn publish(
    app: &App,
    project: &ProjectId,
    id: &EndpointId,
    word: &Word,
    now: Timestamp,
) -> Result<()> {
    let view = app.plane.view(project).await?;
    let target = view.targets.get(id);
    let reason = match word.state {
        State::Failed => "failing",
        _ => "gone",
    };
    let notice = Notice {
        kind: notices::Kind::EndpointDisabled,
        source: &format!("/v1/endpoints/{id}"),
        occasion: &format!("{id}/{}", word.at.as_millisecond()),
        tenant: target.and_then(|target| target.filter.tenant()),
        data: json!({
            "endpoint_id": id,
            "reason": reason,
            "disabled_at": Time(word.at),
            "failing_since": word.failing_since.map(Time),
        }),
    };
    notices::publish(app, project, &notice, now).await
}
