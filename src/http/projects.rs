//! The API of projects and their API keys, for whoever has the admin key.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::auth::Admin;
use super::extract::{Json, Path, Query};
use super::idempotency::Occasion;
use super::page::{self, List, Page};
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::api_key::{self, Scope};
use crate::model::audit::{Actor, AuditContext};
use crate::model::id::{KeyId, ProjectId};
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::api_keys::{self, ApiKey as KeyRow};
use crate::store::config_projection::ConfigProjection;
use crate::store::postgres::Postgres;
use crate::store::projector;
use crate::store::projects::{self, Project as Row};

/// Characters of a name.
const NAME_LEN_MAX: usize = 100;
/// Events a second a key may be limited to at most: a higher limit limits nothing.
const RATE_LIMIT_MAX: u32 = 1_000_000;

/// A project.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: Time,
}

impl From<Row> for Project {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            created_at: row.created_at.into(),
        }
    }
}

/// A project to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = ProjectCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "name": "staging" })))]
pub struct NewProject {
    /// Unique, 1 to 100 characters: `prod`, `staging`.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
}

/// Create a project.
#[utoipa::path(post, path = "/v1/projects", tag = "projects",
    operation_id = "createProject",
    request_body = NewProject,
    responses((status = 201, body = Project), Problems,
        (status = 409, description = "The name is taken")),
    security(("admin_key" = [])))]
pub async fn create(
    State(app): State<Arc<App>>,
    _: Admin,
    occasion: Occasion,
    Json(new): Json<NewProject>,
) -> Result<(StatusCode, Json<Project>)> {
    let id = ProjectId::new(occasion.at.as_millisecond(), occasion.derive("project"));
    if occasion.is_repeated() {
        match projects::get(&app.postgres, &id).await {
            Err(Error::NotFound(_)) => {}
            created => return Ok((StatusCode::CREATED, Json(created?.into()))),
        }
    }
    let row = Row {
        id,
        name: check_name(new.name)?,
        created_at: app::now(),
    };
    projects::create(&app.postgres, Actor::Admin, &row).await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// `name`, if a project or a key may be called so.
///
/// # Errors
/// [`Error::Invalid`] of `name`.
pub fn check_name(name: String) -> Result<String> {
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_LEN_MAX || name.chars().any(char::is_control) {
        let detail = format!("expected 1 to {NAME_LEN_MAX} characters, none of them a control");
        return Err(Error::invalid("name", detail));
    }
    Ok(name)
}

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListPage {
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List projects, the oldest first.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(ListPage),
    operation_id = "listProjects",
    responses((status = 200, body = Page<Project>), Problems),
    security(("admin_key" = [])))]
pub async fn list(
    State(app): State<Arc<App>>,
    _: Admin,
    Query(query): Query<ListPage>,
) -> Result<Json<Page<Project>>> {
    let limit = page::limit(query.limit)?;
    let list = List::of_all("listProjects");
    let after = page::id_position::<ProjectId>(list, query.cursor.as_deref())?;
    let rows = projects::list(&app.postgres, &after, limit as i64 + 1).await?;
    Ok(Json(Page::from_lookahead(
        list,
        rows,
        limit,
        |row| row.id.to_string(),
        Project::from,
    )))
}

/// Look at one project.
#[utoipa::path(get, path = "/v1/projects/{id}", tag = "projects",
    operation_id = "getProject",
    params(("id" = String, Path, description = "prj_…")),
    responses((status = 200, body = Project), Problems),
    security(("admin_key" = [])))]
pub async fn get(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(id): Path<ProjectId>,
) -> Result<Json<Project>> {
    Ok(Json(projects::get(&app.postgres, &id).await?.into()))
}

/// An API key, without its text.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// What people call it.
    pub name: String,
    /// How its text begins.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Events a second it may publish; null for the default of the deployment.
    #[schema(required, value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub rate_limit: Option<NonZeroU32>,
    /// When it was created.
    pub created_at: Time,
    /// When it was revoked.
    #[schema(required)]
    pub revoked_at: Option<Time>,
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            hint: row.hint,
            scopes: row.scopes,
            rate_limit: row.rate_limit,
            created_at: row.created_at.into(),
            revoked_at: row.revoked_at.map(Time),
        }
    }
}

/// A new API key with its text, which is shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ApiKeyCreated)]
pub struct CreatedKey {
    #[serde(flatten)]
    row: ApiKey,
    /// The key: `Authorization: Bearer mr_…`. It cannot be shown again.
    key: String,
}

/// An API key to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = ApiKeyCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "name": "backend", "scopes": ["events:write"], "rate_limit": 500 })))]
pub struct NewKey {
    /// What people call it, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do, one scope at least.
    #[schema(min_items = 1)]
    scopes: Vec<Scope>,
    /// Events a second it may publish, 1 to 1,000,000; each instance of Millrace
    /// counts for itself. Null or absent: `http.events_per_second_max`.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate_limit: Option<u32>,
}

/// Create an API key.
///
/// Endpoints that ask for `millrace.key.created` by name are told of it.
#[utoipa::path(post, path = "/v1/projects/{id}/keys", tag = "projects",
    operation_id = "createApiKey",
    params(("id" = String, Path, description = "prj_…")),
    request_body = NewKey,
    responses((status = 201, body = CreatedKey), Problems),
    security(("admin_key" = [])))]
pub async fn create_key(
    State(app): State<Arc<App>>,
    admin: Admin,
    occasion: Occasion,
    Path(project): Path<ProjectId>,
    Json(new): Json<NewKey>,
) -> Result<(StatusCode, Json<CreatedKey>)> {
    let new = KeySpec {
        name: check_name(new.name)?,
        scopes: new.scopes,
        rate_limit: new.rate_limit.map(check_rate_limit).transpose()?,
    };
    let by = admin.by(project, app::now());
    let IssuedKey { row, text } = make_key(&app, &occasion, &by, new).await?;
    publish_key_created(&app, &row).await;
    Ok((
        StatusCode::CREATED,
        Json(CreatedKey {
            row: row.into(),
            key: text,
        }),
    ))
}

fn check_rate_limit(per_second: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(per_second)
        .filter(|limit| limit.get() <= RATE_LIMIT_MAX)
        .ok_or_else(|| {
            let detail = format!("expected null or 1 to {RATE_LIMIT_MAX} events a second");
            Error::invalid("rate_limit", detail)
        })
}

/// Publishes `millrace.key.created`: a new key is a new way in.
pub async fn publish_key_created(app: &App, row: &KeyRow) {
    let operational_event = OperationalEvent {
        kind: OperationalEventKind::KeyCreated,
        source: &format!("/v1/projects/{}/keys/{}", row.project, row.id),
        occurrence_key: row.id.as_str(),
        tenant: None,
        data: serde_json::json!({
            "id": row.id,
            "name": row.name,
            "scopes": row.scopes,
            "hint": row.hint,
        }),
    };
    operational_events::publish_if_subscribed(
        app,
        &row.project,
        &operational_event,
        row.created_at,
    )
    .await;
}

/// What a new key is to be.
#[derive(Debug)]
pub struct KeySpec {
    /// What people call it; 1 to 100 characters.
    pub name: String,
    /// What it may do; one scope at least.
    pub scopes: Vec<Scope>,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
}

/// A new key.
pub struct IssuedKey {
    /// As it is stored, with its hash.
    pub row: KeyRow,
    /// Its text, which is stored nowhere.
    pub text: String,
}

/// Makes the key of that occasion, or gives it again.
async fn make_key(
    app: &App,
    occasion: &Occasion,
    by: &AuditContext,
    spec: KeySpec,
) -> Result<IssuedKey> {
    let secret = KeySecret {
        id: KeyId::new(
            occasion.at.as_millisecond(),
            occasion.derive("API key's id"),
        ),
        text: api_key::format_key(occasion.derive("API key")),
    };
    if occasion.is_repeated()
        && let Some(row) = api_keys::get(&app.postgres, secret.id.as_str()).await?
    {
        let text = secret.text;
        return Ok(IssuedKey { row, text });
    }
    issue_key(&app.postgres, &app.projection, by, spec, secret).await
}

/// What chance makes of a key.
pub struct KeySecret {
    /// Its id.
    pub id: KeyId,
    /// Its text.
    pub text: String,
}

/// Makes a key of `by`'s project.
///
/// # Errors
/// [`Error::Invalid`] without scopes; [`Error::NotFound`] without a project;
/// [`Error::Unavailable`] when the database does not answer.
pub async fn issue_key(
    postgres: &Postgres,
    projection: &ConfigProjection,
    by: &AuditContext,
    mut spec: KeySpec,
    secret: KeySecret,
) -> Result<IssuedKey> {
    spec.scopes.sort_unstable();
    spec.scopes.dedup();
    if spec.scopes.is_empty() {
        return Err(Error::invalid("scopes", "expected at least one scope"));
    }
    let KeySecret { id, text } = secret;
    let row = KeyRow {
        id,
        project: by.project.clone(),
        name: spec.name,
        hash: api_key::hash(&text),
        hint: api_key::hint(&text).to_owned(),
        scopes: spec.scopes,
        rate_limit: spec.rate_limit,
        created_at: by.at,
        revoked_at: None,
        version: 1,
    };
    let created = api_keys::create(postgres, by, row).await?;
    let row = projector::apply(postgres, projection, created).await;
    Ok(IssuedKey { row, text })
}

/// List a project's API keys, the oldest first, revoked ones too.
#[utoipa::path(get, path = "/v1/projects/{id}/keys", tag = "projects",
    operation_id = "listApiKeys",
    params(("id" = String, Path, description = "prj_…"), ListPage),
    responses((status = 200, body = Page<ApiKey>), Problems),
    security(("admin_key" = [])))]
pub async fn list_keys(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(project): Path<ProjectId>,
    Query(query): Query<ListPage>,
) -> Result<Json<Page<ApiKey>>> {
    projects::get(&app.postgres, &project).await?;
    let limit = page::limit(query.limit)?;
    let list = List::of("listApiKeys", &project);
    let after = page::id_position::<KeyId>(list, query.cursor.as_deref())?;
    let rows = api_keys::list(&app.postgres, &project, &after, limit as i64 + 1).await?;
    Ok(Json(Page::from_lookahead(
        list,
        rows,
        limit,
        |row| row.id.to_string(),
        ApiKey::from,
    )))
}

/// Revoke an API key. Other instances may honour it for `cache.ttl_s` more.
#[utoipa::path(delete, path = "/v1/projects/{id}/keys/{key_id}", tag = "projects",
    operation_id = "revokeApiKey",
    params(
        ("id" = String, Path, description = "prj_…"),
        ("key_id" = String, Path, description = "key_…"),
    ),
    responses((status = 204), Problems),
    security(("admin_key" = [])))]
pub async fn revoke_key(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path((project, id)): Path<(ProjectId, KeyId)>,
) -> Result<StatusCode> {
    let by = admin.by(project, app::now());
    let revoked = api_keys::revoke(&app.postgres, &by, &id).await?;
    projector::apply(&app.postgres, &app.projection, revoked).await;
    Ok(StatusCode::NO_CONTENT)
}
