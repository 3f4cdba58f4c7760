//! The event types API: what kinds of events there are, and the schemas of their
//! data.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::auth::{Allowed, EndpointsWrite, EventsRead};
use super::extract::{Json, Path, Query};
use super::idempotency::Occasion;
use super::page::{self, List, Page};
use super::patch;
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::event_type::{ValidationMode, check_name};
use crate::model::metadata::{self, Metadata, MetadataPatch};
use crate::model::schema;
use crate::model::time::Time;
use crate::store::event_types::{self, EventType as Row, Quota, SchemaVersion as VersionRow, Spec};
use crate::store::projector;

/// Characters of a description.
const DESCRIPTION_LEN_MAX: usize = 500;

/// An event type.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventType {
    /// Its name: the `type` of its events.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The JSON Schema in force; null without one.
    #[schema(required, value_type = Option<BTreeMap<String, serde_json::Value>>)]
    pub schema: Option<Box<RawValue>>,
    /// Its number, as in the list of versions.
    #[schema(required, minimum = 1)]
    pub schema_version: Option<i64>,
    /// What becomes of events whose data does not satisfy it.
    pub validate: ValidationMode,
    /// What you noted on it.
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: Metadata,
    /// When it was registered.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl TryFrom<Row> for EventType {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: row.name,
            description: row.spec.description,
            schema: row.spec.schema.map(raw_json).transpose()?,
            schema_version: row.schema_version,
            validate: row.spec.validate,
            metadata: row.spec.metadata,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

fn raw_json(schema: String) -> Result<Box<RawValue>> {
    RawValue::from_string(schema).map_err(Error::internal)
}

/// An event type to register.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EventTypeCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "invoice.paid",
    "schema": {
        "type": "object",
        "required": ["amount"],
        "properties": { "amount": { "type": "number", "minimum": 0 } }
    }
})))]
pub struct NewEventType {
    /// The `type` of its events: 1 to 255 letters, digits, `.`, `_`, `-` or `:`.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// A note for people, up to 500 characters.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// What `data` must satisfy: a JSON Schema of draft 2020-12, or of draft 7 if
    /// its `$schema` says so. Up to 64 KiB and 32 levels; references lead within
    /// it; patterns are without look-around and back-references. Known formats are
    /// asserted.
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    schema: Option<Box<RawValue>>,
    /// `reject` (the default with a schema), `warn` or `off` (the default without).
    validate: Option<ValidationMode>,
    /// Notes for programs of your own: up to 50 keys of 1 to 40 characters, each with a
    /// string of up to 500.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
}

/// Register an event type.
///
/// It is configuration, as endpoints are, and needs the same scope. Events of
/// types that are not registered are accepted as they come. Other instances may go
/// on with what was before for `cache.ttl_s`.
#[utoipa::path(post, path = "/v1/event-types", tag = "event types",
    operation_id = "createEventType",
    request_body = NewEventType,
    responses((status = 201, body = EventType), Problems,
        (status = 409, description = "The name is taken, or the project has as many event types or schemas as it may")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    occasion: Occasion,
    Json(new): Json<NewEventType>,
) -> Result<(StatusCode, Json<EventType>)> {
    check_name(&new.name)?;
    let mut spec = Spec {
        description: String::new(),
        schema: None,
        validate: ValidationMode::Off,
        metadata: Metadata::default(),
    };
    let changes = EventTypeChanges {
        description: Some(new.description),
        schema: new.schema.map(Some),
        validate: Some(new.validate),
        metadata: new.metadata,
    };
    changes.apply(&mut spec)?;
    let by = caller.by(occasion.at);
    if occasion.is_repeated()
        && let Some(row) = created_before(&app, &by, &new.name).await?
    {
        return Ok((StatusCode::CREATED, Json(row.try_into()?)));
    }
    let created_at = occasion.at;
    let by = if occasion.is_repeated() {
        // What was there of that name meanwhile was not changed after it.
        caller.by(app::now())
    } else {
        by
    };
    let quota = quota(&app);
    let created =
        event_types::create(&app.postgres, &by, new.name, spec, created_at, quota).await?;
    let row = projector::apply(&app.postgres, &app.projection, created).await;
    Ok((StatusCode::CREATED, Json(row.try_into()?)))
}

/// What the same request made before its answer was lost.
async fn created_before(app: &App, by: &AuditContext, name: &str) -> Result<Option<Row>> {
    match event_types::get(&app.postgres, &by.project, name).await {
        Ok(row) => Ok(Some(row).filter(|row| row.created_at == by.at)),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn quota(app: &App) -> Quota {
    Quota {
        types_max: app.config.event_types.per_project_max,
        schema_bytes_max: app.config.event_types.schema_bytes_per_project_max,
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEventTypes {
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List event types by name.
#[utoipa::path(get, path = "/v1/event-types", tag = "event types", params(ListEventTypes),
    operation_id = "listEventTypes",
    responses((status = 200, body = Page<EventType>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<ListEventTypes>,
) -> Result<Json<Page<EventType>>> {
    let limit = page::limit(query.limit)?;
    let list = List::of("listEventTypes", &caller.project);
    let read = |name: String| check_name(&name).is_ok().then_some(name);
    let after = page::position_by(list, query.cursor.as_deref(), read)?.unwrap_or_default();
    let project = &caller.project;
    let rows = event_types::list(&app.postgres, project, &after, limit as i64 + 1).await?;
    let page = Page::from_lookahead(
        list,
        rows,
        limit,
        |row| row.name.clone(),
        EventType::try_from,
    );
    Ok(Json(page.transpose()?))
}

/// Checks the name in the path: what cannot be one is not found.
fn check_path_name(name: &str) -> Result<()> {
    check_name(name).map_err(|_| Error::NotFound("event type".into()))
}

/// Look at one event type.
#[utoipa::path(get, path = "/v1/event-types/{name}", tag = "event types",
    operation_id = "getEventType",
    params(("name" = String, Path, description = "The `type` of its events")),
    responses((status = 200, body = EventType), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Path(name): Path<String>,
) -> Result<Json<EventType>> {
    check_path_name(&name)?;
    let row = event_types::get(&app.postgres, &caller.project, &name).await?;
    Ok(Json(row.try_into()?))
}

/// What to change of an event type; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EventTypeUpdate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "validate": "warn" })))]
pub struct EventTypeChanges {
    /// A note for people; null for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<String>, max_length = 500)]
    description: Option<Option<String>>,
    /// The schema from now on, which gets the next number; null for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<BTreeMap<String, serde_json::Value>>)]
    schema: Option<Option<Box<RawValue>>>,
    /// What becomes of events that do not satisfy it. Absent, a first schema
    /// rejects, and without one it is `off`; null for the default: `reject` with a schema.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<ValidationMode>)]
    validate: Option<Option<ValidationMode>>,
    /// Merged with what is there (RFC 7396): a string replaces, null removes its key;
    /// null in place of the whole removes them all.
    #[serde(default, deserialize_with = "metadata::given")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
}

/// Tells null from absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Box<RawValue>>>, D::Error> {
    // Null is a raw value, too.
    let raw = Box::<RawValue>::deserialize(from)?;
    Ok(Some(Some(raw).filter(|raw| raw.get() != "null")))
}

impl EventTypeChanges {
    fn apply(self, spec: &mut Spec) -> Result<()> {
        if let Some(description) = self.description {
            let description = description.unwrap_or_default();
            check_description(&description)?;
            spec.description = description;
        }
        if let Some(schema) = self.schema {
            let schema = schema.map(|raw| raw.get().to_owned());
            if let Some(text) = &schema {
                schema::check(text)?;
            }
            spec.validate = match (&spec.schema, &schema) {
                (None, Some(_)) => ValidationMode::Reject,
                (_, None) => ValidationMode::Off,
                (Some(_), Some(_)) => spec.validate,
            };
            spec.schema = schema;
        }
        spec.metadata.merge_given(self.metadata)?;
        let default = match spec.schema {
            Some(_) => ValidationMode::Reject,
            None => ValidationMode::Off,
        };
        if let Some(validate) = self.validate {
            spec.validate = validate.unwrap_or(default);
        }
        if spec.schema.is_none() && spec.validate != ValidationMode::Off {
            let detail = "expected off, as the event type has no schema";
            return Err(Error::invalid("validate", detail));
        }
        Ok(())
    }
}

fn check_description(description: &str) -> Result<()> {
    if description.chars().count() > DESCRIPTION_LEN_MAX || description.contains('\0') {
        let detail = format!("expected up to {DESCRIPTION_LEN_MAX} characters, none of them NUL");
        return Err(Error::invalid("description", detail));
    }
    Ok(())
}

/// Change an event type.
///
/// Another schema is the next version. What was published before is not looked at
/// again, and publishing the same again answers the same.
#[utoipa::path(patch, path = "/v1/event-types/{name}", tag = "event types",
    operation_id = "updateEventType",
    params(("name" = String, Path, description = "The `type` of its events")),
    request_body = EventTypeChanges,
    responses((status = 200, body = EventType), Problems,
        (status = 409, description = "The project has as many schemas as it may")),
    security(("api_key" = ["endpoints:write"])))]
pub async fn update(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(name): Path<String>,
    Json(changes): Json<EventTypeChanges>,
) -> Result<Json<EventType>> {
    check_path_name(&name)?;
    let by = caller.by(app::now());
    let apply = |spec: &mut Spec| changes.apply(spec);
    let updated = event_types::update(&app.postgres, &by, &name, quota(&app), apply).await?;
    let row = projector::apply(&app.postgres, &app.projection, updated).await;
    Ok(Json(row.try_into()?))
}

/// Delete an event type: its events are accepted as they come.
///
/// Its schemas are kept; if the name is registered again, their numbers go on.
#[utoipa::path(delete, path = "/v1/event-types/{name}", tag = "event types",
    operation_id = "deleteEventType",
    params(("name" = String, Path, description = "The `type` of its events")),
    responses((status = 204), Problems),
    security(("api_key" = ["endpoints:write"])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsWrite>,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    check_path_name(&name)?;
    let by = caller.by(app::now());
    let deleted = event_types::delete(&app.postgres, &by, &name).await?;
    projector::apply(&app.postgres, &app.projection, deleted).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A schema that an event type has or had.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SchemaVersion {
    /// Its number, counting up from 1.
    #[schema(minimum = 1)]
    pub version: i64,
    /// The schema.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub schema: Box<RawValue>,
    /// Since when it was in force.
    pub created_at: Time,
}

impl TryFrom<VersionRow> for SchemaVersion {
    type Error = Error;

    fn try_from(row: VersionRow) -> Result<Self> {
        Ok(Self {
            version: row.version,
            schema: raw_json(row.schema)?,
            created_at: row.created_at.into(),
        })
    }
}

/// List every schema an event type has had, the newest first.
#[utoipa::path(get, path = "/v1/event-types/{name}/versions", tag = "event types",
    operation_id = "listEventTypeVersions",
    params(("name" = String, Path, description = "The `type` of its events"), ListEventTypes),
    responses((status = 200, body = Page<SchemaVersion>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn versions(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Path(name): Path<String>,
    Query(query): Query<ListEventTypes>,
) -> Result<Json<Page<SchemaVersion>>> {
    check_path_name(&name)?;
    let limit = page::limit(query.limit)?;
    let list = List::of("listEventTypeVersions", &caller.project).with("name", Some(&name));
    let before = page::numeric_position(list, query.cursor.as_deref())?.unwrap_or(i64::MAX);
    let project = &caller.project;
    event_types::get(&app.postgres, project, &name).await?;
    let rows =
        event_types::versions(&app.postgres, project, &name, before, limit as i64 + 1).await?;
    let position = |row: &VersionRow| row.version.to_string();
    let page = Page::from_lookahead(list, rows, limit, position, SchemaVersion::try_from);
    Ok(Json(page.transpose()?))
}
