//! The API of projects and their API keys, for whoever has the admin key.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::auth::{Admin, SeesProjects};
use super::endpoints;
use super::extract::{Json, Path, Query};
use super::idempotency::Occasion;
use super::page::{self, List, Page};
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::api_key::{self, Scope};
use crate::model::audit::AuditContext;
use crate::model::endpoint::EndpointState;
use crate::model::event;
use crate::model::id::{EndpointId, KeyId, ProjectId};
use crate::model::time::Time;
use crate::operational_events::{self, OperationalEvent, OperationalEventKind};
use crate::store::api_keys::{self, ApiKey as KeyRow};
use crate::store::config_projection::ConfigProjection;
use crate::store::endpoints::left_behind::EndpointsChoice;
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
    admin: Admin,
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
    projects::create(&app.postgres, admin.actor, &row).await?;
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
    _: SeesProjects,
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
    _: SeesProjects,
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
    /// The one tenant whose endpoints, events and usage it reaches; null for the whole
    /// project.
    #[schema(required)]
    pub tenant: Option<String>,
    /// Whether it can be used.
    pub state: ApiKeyState,
    /// From when on it is refused; null if it does not expire.
    #[schema(required)]
    pub expires_at: Option<Time>,
    /// When it was created.
    pub created_at: Time,
    /// When it was revoked.
    #[schema(required)]
    pub revoked_at: Option<Time>,
}

/// Whether an API key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyState {
    /// It can.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl ApiKeyState {
    fn of(row: &KeyRow, now: Timestamp) -> Self {
        match (row.revoked_at, row.expires_at) {
            (Some(_), _) => Self::Revoked,
            (None, Some(at)) if at <= now => Self::Expired,
            _ => Self::Active,
        }
    }
}

impl From<KeyRow> for ApiKey {
    fn from(row: KeyRow) -> Self {
        Self {
            state: ApiKeyState::of(&row, app::now()),
            id: row.id,
            name: row.name,
            hint: row.hint,
            scopes: row.scopes,
            rate_limit: row.rate_limit,
            tenant: row.tenant,
            expires_at: row.expires_at.map(Time),
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
    /// The one tenant it is for: with it only that tenant's endpoints, events, deliveries
    /// and usage are seen and changed, and event types and meters are read. Null or
    /// absent: the whole project.
    tenant: Option<String>,
    /// From when on it is refused, in the future. Null or absent: it does not expire.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Time>,
}

/// Create an API key.
///
/// Endpoints that ask for `millrace.key.created` by name are told of it.
#[utoipa::path(post, path = "/v1/projects/{id}/keys", tag = "projects",
    operation_id = "createApiKey",
    params(("id" = String, Path, description = "prj_…")),
    request_body = NewKey,
    responses((status = 201, body = CreatedKey), Problems,
        (status = 409, description = "The project has 1,000 keys that are not revoked")),
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
        tenant: new.tenant,
        expires_at: new.expires_at.map(|at| at.0),
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
    /// The one tenant it is for; the whole project if none.
    pub tenant: Option<String>,
    /// From when on it is refused, in the future.
    pub expires_at: Option<Timestamp>,
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
/// [`Error::Invalid`] without scopes, for what is no tenant and for an end that is not in
/// the future; [`Error::NotFound`] without a project;
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
    spec.tenant.as_deref().map_or(Ok(()), event::check_tenant)?;
    if spec.expires_at.is_some_and(|at| at <= by.at) {
        return Err(Error::invalid(
            "expires_at",
            "expected a time in the future",
        ));
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
        tenant: spec.tenant,
        expires_at: spec.expires_at,
        created_at: by.at,
        revoked_at: None,
        version: 1,
    };
    let created = api_keys::create(postgres, by, row).await?;
    let row = projector::apply(postgres, projection, created).await;
    Ok(IssuedKey { row, text })
}

/// List a project's API keys, the oldest first, expired and revoked ones too.
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

/// What becomes of the endpoints of a key that is revoked.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevokeKey {
    /// What becomes of the endpoints that the key made, or whose URL it was the last to
    /// set: `keep` (the default) or `disable`.
    #[param(value_type = Option<EndpointsOfKey>)]
    endpoints: Option<EndpointsOfKey>,
}

/// What becomes of the endpoints of a key that is revoked.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointsOfKey {
    /// They go on as they are.
    Keep,
    /// Those that are enabled are disabled, up to 100 at a time.
    Disable,
}

/// An API key that was revoked, and what of it lives on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ApiKeyRevoked)]
pub struct RevokedKey {
    /// Its id.
    pub id: KeyId,
    /// The endpoints that it made, or whose URL it was the last to set, as they are now:
    /// up to 100, those first that were enabled.
    pub endpoints: Vec<EndpointOfKey>,
    /// There are more than those. Where they are to be disabled: more that are enabled;
    /// the same request again disables the next.
    pub has_more: bool,
}

/// An endpoint that a revoked key made, or whose URL it was the last to set.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ApiKeyEndpoint)]
pub struct EndpointOfKey {
    /// Its id.
    pub id: EndpointId,
    /// Whether it takes events.
    #[schema(value_type = EndpointState)]
    pub state: EndpointState,
}

/// Revoke an API key.
///
/// Other instances may honour it for `cache.ttl_s` more. What it made lives on: 204 says
/// that there are no endpoints of it, 200 names them. After a leak,
/// `endpoints=disable` disables them with the key, for they may be whoever's has it.
#[utoipa::path(delete, path = "/v1/projects/{id}/keys/{key_id}", tag = "projects",
    operation_id = "revokeApiKey",
    params(
        ("id" = String, Path, description = "prj_…"),
        ("key_id" = String, Path, description = "key_…"),
        RevokeKey,
    ),
    responses((status = 200, body = RevokedKey), (status = 204), Problems),
    security(("admin_key" = [])))]
pub async fn revoke_key(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path((project, id)): Path<(ProjectId, KeyId)>,
    Query(query): Query<RevokeKey>,
) -> Result<Response> {
    let by = admin.by(project, app::now());
    let choice = match query.endpoints {
        Some(EndpointsOfKey::Disable) => EndpointsChoice::Disable,
        Some(EndpointsOfKey::Keep) | None => EndpointsChoice::Keep,
    };
    let revoked = api_keys::revoke(&app.postgres, &by, &id, choice).await?;
    let left = projector::apply(&app.postgres, &app.projection, revoked).await;
    for (before, after) in left.before.iter().zip(&left.after) {
        if before.state != after.state {
            endpoints::publish_disabled(&app, before, after).await;
        }
    }
    if left.after.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let of_key = left.after.into_iter().map(|endpoint| EndpointOfKey {
        id: endpoint.id,
        state: endpoint.state,
    });
    let revoked = RevokedKey {
        id,
        endpoints: of_key.collect(),
        has_more: left.has_more,
    };
    Ok(Json(revoked).into_response())
}
