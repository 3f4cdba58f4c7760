//! The audit log API: who changed what of the configuration.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::{Admin, Allowed, EndpointsRead};
use super::extract::{Json, Path, Query};
use super::page::{self, List, Page};
use super::problem::Problems;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::id::ProjectId;
use crate::model::time::Time;
use crate::store::audit_log::{self, AuditEntry};
use crate::store::projects;

/// A change of the configuration.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AuditLogEntry {
    /// Its number: the newest has the highest.
    #[schema(minimum = 1)]
    pub id: i64,
    /// When it was made.
    pub at: Time,
    /// Who made it: `admin`, an API key's id (`key_…`), or `millrace` for what it
    /// did by itself.
    pub actor: String,
    /// What was done to what: `endpoint.update`, `key.revoke`.
    pub action: String,
    /// What it was done to: an id, or an event type's name.
    pub subject: String,
    /// What differed before, with secrets masked; null of what is new.
    #[schema(required, value_type = Option<BTreeMap<String, serde_json::Value>>)]
    pub before: Option<Value>,
    /// What differs since, with secrets masked; null of what is gone.
    #[schema(required, value_type = Option<BTreeMap<String, serde_json::Value>>)]
    pub after: Option<Value>,
}

impl From<AuditEntry> for AuditLogEntry {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at.into(),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            before: entry.before,
            after: entry.after,
        }
    }
}

/// What the audit log is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAuditLog {
    /// Only what was done to this: an id, or an event type's name.
    subject: Option<String>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List changes of your project's configuration, the newest first.
#[utoipa::path(get, path = "/v1/audit-log", tag = "audit", params(ListAuditLog),
    operation_id = "listAuditLog",
    responses((status = 200, body = Page<AuditLogEntry>), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditLogEntry>>> {
    let list = List::of("listAuditLog", &caller.project);
    read(&app, list, &caller.project, query).await
}

/// List changes of a project's configuration, the newest first.
#[utoipa::path(get, path = "/v1/projects/{id}/audit-log", tag = "audit",
    operation_id = "listProjectAuditLog",
    params(("id" = String, Path, description = "prj_…"), ListAuditLog),
    responses((status = 200, body = Page<AuditLogEntry>), Problems),
    security(("admin_key" = [])))]
pub async fn list_of_project(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditLogEntry>>> {
    projects::get(&app.postgres, &project).await?;
    let list = List::of("listProjectAuditLog", &project);
    read(&app, list, &project, query).await
}

async fn read(
    app: &App,
    list: List,
    project: &ProjectId,
    query: ListAuditLog,
) -> Result<Json<Page<AuditLogEntry>>> {
    let limit = page::limit(query.limit)?;
    let list = list.with("subject", query.subject.as_deref());
    let before = page::numeric_position(list, query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let subject = query.subject.as_deref().filter(|text| !text.contains('\0'));
    if query.subject.is_some() && subject.is_none() {
        return Err(Error::invalid(
            "subject",
            "expected an id or a name, without NUL",
        ));
    }
    let rows = audit_log::list(&app.postgres, project, subject, before, limit as i64 + 1).await?;
    let page = Page::from_lookahead(
        list,
        rows,
        limit,
        |entry| entry.id.to_string(),
        AuditLogEntry::from,
    );
    Ok(Json(page))
}
