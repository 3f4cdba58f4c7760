//! The configuration in an erasure: keys, endpoints, event types and meters stop first;
//! their items and rows go last.

use jiff::Timestamp;

use super::page::StepPage;
use crate::app::App;
use crate::error::Result;
use crate::model::erasure::{Erasure, ErasureKind, ErasureProgress};
use crate::store::erasures::{self, by_millrace, config, items};
use crate::store::projector;

/// Revokes the keys; of a project it is noted in the event store that it is erased.
pub(super) async fn revoke_keys(app: &App, claimed: &Erasure, now: Timestamp) -> Result<StepPage> {
    if claimed.kind == ErasureKind::Project {
        app.projection.mark_erased(&claimed.project).await?;
    }
    let by = by_millrace(claimed, now);
    let revoked = erasures::revoke_keys(&app.postgres, &by, claimed).await?;
    let items = projector::apply(&app.postgres, &app.projection, revoked).await;
    Ok(StepPage {
        items,
        ..StepPage::default()
    })
}

/// Deletes a page of the endpoints, and what deliveries note beside them.
pub(super) async fn stop_endpoints(
    app: &App,
    claimed: &Erasure,
    now: Timestamp,
) -> Result<StepPage> {
    let after = claimed.position.as_deref().unwrap_or_default();
    let by = by_millrace(claimed, now);
    let stopped = config::stop_endpoints(&app.postgres, &by, claimed, after).await?;
    let stopped = projector::apply(&app.postgres, &app.projection, stopped).await;
    items::delete_health(&app.dynamo, &claimed.project, &stopped.ids).await?;
    let last = stopped.ids.last().filter(|_| stopped.has_more);
    Ok(StepPage {
        progress: ErasureProgress {
            endpoints: stopped.deleted as u64,
            ..ErasureProgress::default()
        },
        items: stopped.ids.len(),
        next: last.map(ToString::to_string),
    })
}

/// Deletes all event types and meters, of which a project has a bounded number.
pub(super) async fn stop_event_types(
    app: &App,
    claimed: &Erasure,
    now: Timestamp,
) -> Result<StepPage> {
    let by = by_millrace(claimed, now);
    let stopped = config::stop_event_types(&app.postgres, &by).await?;
    projector::apply(&app.postgres, &app.projection, stopped).await;
    let stopped = config::stop_meters(&app.postgres, &by).await?;
    projector::apply(&app.postgres, &app.projection, stopped).await;
    Ok(StepPage::default())
}

/// Deletes the back-fills of all meters.
pub(super) async fn delete_backfills(app: &App, claimed: &Erasure) -> Result<StepPage> {
    let meters = config::meters(&app.postgres, claimed).await?;
    items::delete_backfills(&app.dynamo, &meters).await?;
    Ok(StepPage {
        items: meters.len(),
        ..StepPage::default()
    })
}

/// Deletes the items of the configuration, once none can come back.
pub(super) async fn delete_projection(app: &App, claimed: &Erasure) -> Result<StepPage> {
    config::ensure_projected(&app.postgres, claimed).await?;
    let hashes = config::key_hashes(&app.postgres, claimed).await?;
    let items = items::delete_projection(&app.dynamo, &claimed.project, &hashes).await?;
    Ok(StepPage {
        items,
        ..StepPage::default()
    })
}

/// Deletes the rows of the configuration.
pub(super) async fn delete_rows(app: &App, claimed: &Erasure) -> Result<StepPage> {
    if claimed.kind == ErasureKind::Project {
        config::delete_project_rows(&app.postgres, claimed).await?;
    } else {
        config::delete_endpoint_rows(&app.postgres, claimed).await?;
        config::ensure_tenant_keys_projected(&app.postgres, claimed).await?;
        let hashes = config::key_hashes(&app.postgres, claimed).await?;
        items::delete_grants(&app.dynamo, &hashes).await?;
        config::delete_tenant_keys(&app.postgres, claimed).await?;
    }
    Ok(StepPage::default())
}
