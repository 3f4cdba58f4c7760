//! Liveness and readiness of the process.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::extract::Json;
use crate::app::App;

/// The process is alive.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Liveness {
    /// `ok`.
    status: &'static str,
}

/// Liveness: the process answers. Touches no store.
#[utoipa::path(get, path = "/health", tag = "health", security(()),
    operation_id = "getLiveness",
    responses((status = 200, body = Liveness)))]
pub async fn live() -> Json<Liveness> {
    Json(Liveness { status: "ok" })
}

/// What works.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// `ready`; `degraded` when the control plane alone is out of reach, since
    /// events are accepted and delivered without it; `unavailable` when the event
    /// store is; `draining` when the process is about to end.
    status: &'static str,
    /// DynamoDB: `up` or `down`, by a read at most a second ago.
    event_store: &'static str,
    /// PostgreSQL: `up` or `down`, by what became of its last use. It is hardly ever
    /// looked at for this alone, so that one that may pause does.
    control_plane: &'static str,
}

/// Readiness: 200 while events can be accepted, which takes the event store
/// alone; 503 when they cannot, or the process drains.
#[utoipa::path(get, path = "/health/ready", tag = "health", security(()),
    operation_id = "getReadiness",
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let event_store = app.readiness.is_event_store_up(&app.dynamo);
    let control_plane = app.readiness.is_control_plane_up(&app.postgres);
    let (event_store, control_plane) = tokio::join!(event_store, control_plane);
    // Stores in this process answer for a while after their files are gone.
    let is_kept = app.lost_file().is_none();
    let (event_store, control_plane) = (is_kept && event_store, is_kept && control_plane);
    let status = match (app.is_draining(), event_store, control_plane) {
        (true, _, _) => "draining",
        (false, false, _) => "unavailable",
        (false, true, false) => "degraded",
        (false, true, true) => "ready",
    };
    let part = |up| if up { "up" } else { "down" };
    let code = match status {
        "ready" | "degraded" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = Readiness {
        status,
        event_store: part(event_store),
        control_plane: part(control_plane),
    };
    (code, Json(ready)).into_response()
}
