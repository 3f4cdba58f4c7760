//! Erasures: what is kept of a project, a tenant or an event is deleted for good.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::auth::{Admin, EndpointsWrite, EventsRead, EventsWrite, WholeProject};
use super::extract::{Json, Path, Query};
use super::page::{self, List, Page};
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::erasure::{self as model, ErasureKind, ErasureState};
use crate::model::event::check_event_tenant;
use crate::model::id::{ErasureId, EventId, ProjectId};
use crate::model::time::Time;
use crate::store::{erasures, events, projector};

/// A job that deletes for good what is kept of a project, a tenant or an event.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Erasure {
    /// Its id.
    pub id: ErasureId,
    /// What it is of.
    #[schema(value_type = ErasureKind)]
    pub kind: ErasureKind,
    /// The project, which may be gone.
    pub project_id: ProjectId,
    /// The event, if it is of one.
    #[schema(required)]
    pub event_id: Option<String>,
    /// The tenant, if it is of one and not done: its name is forgotten with its data.
    #[schema(required)]
    pub tenant: Option<String>,
    /// Where it stands.
    #[schema(value_type = ErasureState)]
    pub state: ErasureState,
    /// What it has deleted so far.
    pub progress: ErasureProgress,
    /// When it was asked for; the last time, if again before it was done.
    pub created_at: Time,
    /// When it last went on.
    pub updated_at: Time,
    /// When it was done.
    #[schema(required)]
    pub finished_at: Option<Time>,
}

/// How much an erasure has deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErasureProgress {
    /// Events.
    pub events: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Events' readings that were not counted yet.
    pub readings: u64,
    /// Endpoints that were not deleted before.
    pub endpoints: u64,
    /// Recoveries.
    pub recoveries: u64,
    /// Objects of the archive that were deleted, or written again without what is
    /// erased.
    pub archived_objects: u64,
    /// Rows of usage.
    pub usage_rows: u64,
}

impl From<model::Erasure> for Erasure {
    fn from(row: model::Erasure) -> Self {
        let event_id = row.event().map(|id| id.to_string());
        let tenant = row.tenant().map(str::to_owned);
        let progress = row.progress;
        Self {
            id: row.id,
            kind: row.kind,
            project_id: row.project,
            event_id,
            tenant,
            state: row.state,
            progress: ErasureProgress {
                events: progress.events,
                deliveries: progress.deliveries,
                readings: progress.readings,
                endpoints: progress.endpoints,
                recoveries: progress.recoveries,
                archived_objects: progress.archived_objects,
                usage_rows: progress.usage_rows,
            },
            created_at: row.created.into(),
            updated_at: row.updated.into(),
            finished_at: row.finished.map(Time),
        }
    }
}

/// Erase an event with its deliveries.
///
/// They are gone within seconds, from the archive too; follow it with
/// `GET /v1/erasures/{id}`. An attempt that is under way is finished. Published again,
/// the event is a new one, and stays unless this is asked for again: while the erasure goes
/// on, that is the same one, begun again for the new event.
#[utoipa::path(delete, path = "/v1/events/{id}", tag = "erasures",
    operation_id = "eraseEvent",
    params(("id" = String, Path, description = "evt_…")),
    responses((status = 202, body = Erasure), Problems,
        (status = 409, description = "A hundred erasures of the project are under way")),
    security(("api_key" = ["events:write"])))]
pub async fn erase_event(
    State(app): State<Arc<App>>,
    caller: WholeProject<EventsWrite>,
    Path(id): Path<EventId>,
) -> Result<(StatusCode, Json<Erasure>)> {
    let by = caller.by(app::now());
    let mut new = new(&app, &by, ErasureKind::Event, Some(id.to_string()));
    let event = match events::place_of(&app.dynamo, caller.access(), &id).await {
        Ok(event) => event,
        Err(gone @ Error::NotFound { .. }) => {
            let running = running(&app, &new).await?;
            return running.map(accepted).ok_or(gone);
        }
        Err(error) => return Err(error),
    };
    new.received = Some(event.received);
    let started = erasures::start(&app.postgres, &by, &new).await?;
    Ok(accepted(started))
}

/// Erase a tenant: its events, endpoints, keys and usage.
///
/// What came before this request goes: events with their deliveries, also out of the
/// archive, endpoints of that tenant with their secrets, keys for that tenant alone,
/// recoveries narrowed to it, and usage. What comes later stays, but for usage counted
/// while this goes on; asked for again before it is done, it begins again and what came
/// before that request goes too. The project's other tenants are untouched. The key needs
/// both scopes.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", tag = "erasures",
    operation_id = "eraseTenant",
    params(("tenant" = String, Path, example = "acme",
        description = "The extension attribute `tenant`")),
    responses((status = 202, body = Erasure), Problems,
        (status = 400, description = "No event can be of such a tenant"),
        (status = 409, description = "A hundred erasures of the project are under way")),
    security(("api_key" = ["events:write", "endpoints:write"])))]
pub async fn erase_tenant(
    State(app): State<Arc<App>>,
    caller: WholeProject<EventsWrite>,
    _: WholeProject<EndpointsWrite>,
    Path(tenant): Path<String>,
) -> Result<(StatusCode, Json<Erasure>)> {
    check_event_tenant(&tenant)?;
    let by = caller.by(app::now());
    let new = new(&app, &by, ErasureKind::Tenant, Some(tenant));
    let started = erasures::start(&app.postgres, &by, &new).await?;
    Ok(accepted(started))
}

/// Erase a project with everything in it.
///
/// Its keys stop working at once; other instances may honour them for `cache.ttl_s`
/// more. Its name is free again. Follow it with
/// `GET /v1/projects/{id}/erasures/{erasure_id}`, which answers after the project is gone,
/// too.
#[utoipa::path(delete, path = "/v1/projects/{id}", tag = "erasures",
    operation_id = "eraseProject",
    params(("id" = String, Path, description = "prj_…")),
    responses((status = 202, body = Erasure), Problems),
    security(("admin_key" = [])))]
pub async fn erase_project(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(project): Path<ProjectId>,
) -> Result<(StatusCode, Json<Erasure>)> {
    let by = admin.by(project, app::now());
    let new = new(&app, &by, ErasureKind::Project, None);
    if let Some(running) = running(&app, &new).await? {
        return Ok(accepted(running));
    }
    let started = erasures::start_project(&app.postgres, &by, &new).await?;
    let started = projector::apply(&app.postgres, &app.projection, started).await;
    if let Err(error) = app.projection.mark_erased(&by.project).await {
        // The erasure's first step does it again.
        let cause = error.causes();
        tracing::warn!(project.id = %by.project, %error, cause, "erased project not marked yet");
    }
    Ok(accepted(started))
}

fn new(app: &App, by: &AuditContext, kind: ErasureKind, subject: Option<String>) -> model::Erasure {
    let id = ErasureId::new(by.at.as_millisecond(), app.random());
    model::Erasure::new(id, by.project.clone(), kind, subject, by.at)
}

async fn running(app: &App, new: &model::Erasure) -> Result<Option<model::Erasure>> {
    erasures::running(
        &app.postgres,
        &new.project,
        new.kind,
        new.subject.as_deref(),
    )
    .await
}

fn accepted(erasure: model::Erasure) -> (StatusCode, Json<Erasure>) {
    (StatusCode::ACCEPTED, Json(erasure.into()))
}

/// Which erasures are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListErasures {
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List your project's erasures, the newest first.
#[utoipa::path(get, path = "/v1/erasures", tag = "erasures", params(ListErasures),
    operation_id = "listErasures",
    responses((status = 200, body = Page<Erasure>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: WholeProject<EventsRead>,
    Query(query): Query<ListErasures>,
) -> Result<Json<Page<Erasure>>> {
    let list = List::of("listErasures", &caller.project);
    read(&app, list, &caller.project, query).await
}

/// Look at one erasure and how far it is.
#[utoipa::path(get, path = "/v1/erasures/{id}", tag = "erasures",
    operation_id = "getErasure",
    params(("id" = String, Path, description = "ers_…")),
    responses((status = 200, body = Erasure), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: WholeProject<EventsRead>,
    Path(id): Path<ErasureId>,
) -> Result<Json<Erasure>> {
    let erasure = erasures::get(&app.postgres, &caller.project, &id).await?;
    Ok(Json(erasure.into()))
}

/// List a project's erasures, the newest first; also of a project that is gone.
#[utoipa::path(get, path = "/v1/projects/{id}/erasures", tag = "erasures",
    operation_id = "listProjectErasures",
    params(("id" = String, Path, description = "prj_…"), ListErasures),
    responses((status = 200, body = Page<Erasure>), Problems),
    security(("admin_key" = [])))]
pub async fn list_of_project(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListErasures>,
) -> Result<Json<Page<Erasure>>> {
    let list = List::of("listProjectErasures", &project);
    read(&app, list, &project, query).await
}

/// Look at one erasure of a project and how far it is; also of a project that is gone.
#[utoipa::path(get, path = "/v1/projects/{id}/erasures/{erasure_id}", tag = "erasures",
    operation_id = "getProjectErasure",
    params(
        ("id" = String, Path, description = "prj_…"),
        ("erasure_id" = String, Path, description = "ers_…"),
    ),
    responses((status = 200, body = Erasure), Problems),
    security(("admin_key" = [])))]
pub async fn get_of_project(
    State(app): State<Arc<App>>,
    _: Admin,
    Path((project, id)): Path<(ProjectId, ErasureId)>,
) -> Result<Json<Erasure>> {
    let erasure = erasures::get(&app.postgres, &project, &id).await?;
    Ok(Json(erasure.into()))
}

async fn read(
    app: &App,
    list: List,
    project: &ProjectId,
    query: ListErasures,
) -> Result<Json<Page<Erasure>>> {
    let limit = page::limit(query.limit)?;
    let read = |text: String| text.parse::<ErasureId>().ok();
    let before = page::position_by(list, query.cursor.as_deref(), read)?;
    let before = before.as_ref().map(ErasureId::as_str);
    let rows = erasures::list(&app.postgres, project, before, limit as i64 + 1).await?;
    let page = Page::from_lookahead(list, rows, limit, |row| row.id.to_string(), Erasure::from);
    Ok(Json(page))
}
