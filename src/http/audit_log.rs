//! The audit log API: who changed what of the configuration, read a secret, had
//! something sent again, signed in, or was refused as the admin.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::auth::{Admin, EndpointsRead, WholeProject};
use super::extract::{Json, Path, Query};
use super::page::{self, List, Page};
use super::problem::Problems;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::id::ProjectId;
use crate::model::time::Time;
use crate::store::audit_log::{self, AuditEntry};
use crate::store::projects;

/// A change of the configuration, or something else that somebody may have to answer
/// for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AuditLogEntry {
    /// Its number: the newest has the highest.
    #[schema(minimum = 1)]
    pub id: i64,
    /// When it was made.
    pub at: Time,
    /// Who made it: `admin`, an API key's id (`key_…`), `user:<name>` for who is signed in
    /// by name, `customer:<tenant>`, `millrace` for what it did by itself, or `unknown` for
    /// who was refused.
    pub actor: String,
    /// What was done to what: `endpoint.update`, `key.revoke`. Beside changes:
    /// `endpoint.read_secret`, `endpoint.test`, `endpoint.recover`,
    /// `endpoint.replay_missing`, `endpoint.retry_deliveries`, `delivery.retry`,
    /// `event.replay`, `recovery.cancel`, `session.create` and `session.end` of the
    /// console, `admin.refuse`.
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
    caller: WholeProject<EndpointsRead>,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditLogEntry>>> {
    let list = List::of("listAuditLog", &caller.project);
    read(&app, list, &caller.project, query).await
}

/// List changes of a project's configuration, the newest first; also of a project that is
/// gone.
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
    let list = List::of("listProjectAuditLog", &project);
    let page = read(&app, list, &project, query).await?;
    if page.0.data.is_empty() {
        find_project(&app, &project).await?;
    }
    Ok(page)
}

/// Sees that there is, or was, such a project: the log of one that is erased can be read.
async fn find_project(app: &App, project: &ProjectId) -> Result<()> {
    let newest = audit_log::list(&app.postgres, project, None, i64::MAX, 1).await?;
    if newest.is_empty() {
        projects::get(&app.postgres, project).await?;
    }
    Ok(())
}

/// List what is of no project, the newest first: logins as the admin that were refused.
///
/// Each instance writes one entry a minute at most, with how many there were since.
#[utoipa::path(get, path = "/v1/admin/audit-log", tag = "audit", params(ListAuditLog),
    operation_id = "listAdminAuditLog",
    responses((status = 200, body = Page<AuditLogEntry>), Problems),
    security(("admin_key" = [])))]
pub async fn list_of_no_project(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(query): Query<ListAuditLog>,
) -> Result<Json<Page<AuditLogEntry>>> {
    let list = List::of_all("listAdminAuditLog");
    let asked = asked(list, &query)?;
    let (subject, lookahead) = (asked.subject, asked.limit as i64 + 1);
    let rows = audit_log::list_of_no_project(&app.postgres, subject, asked.before, lookahead);
    Ok(page(asked.list, rows.await?, asked.limit))
}

async fn read(
    app: &App,
    list: List,
    project: &ProjectId,
    query: ListAuditLog,
) -> Result<Json<Page<AuditLogEntry>>> {
    let asked = asked(list, &query)?;
    let (subject, lookahead) = (asked.subject, asked.limit as i64 + 1);
    let rows = audit_log::list(&app.postgres, project, subject, asked.before, lookahead);
    Ok(page(asked.list, rows.await?, asked.limit))
}

/// What is asked for, checked.
struct Asked<'a> {
    list: List,
    subject: Option<&'a str>,
    /// The entries below this number.
    before: i64,
    limit: usize,
}

fn asked(list: List, query: &ListAuditLog) -> Result<Asked<'_>> {
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
    Ok(Asked {
        list,
        subject,
        before,
        limit,
    })
}

fn page(list: List, rows: Vec<AuditEntry>, limit: usize) -> Json<Page<AuditLogEntry>> {
    let position = |entry: &AuditEntry| entry.id.to_string();
    Json(Page::from_lookahead(
        list,
        rows,
        limit,
        position,
        AuditLogEntry::from,
    ))
}
