//! The meters API: what is counted for billing and metrics.

pub mod backfill;
mod selection;
pub mod usage;
mod usage_csv;
mod usage_row;
pub mod values;

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::auth::{Allowed, MetersRead, MetersWrite, WholeProject};
use super::extract::{Json, Path, Query};
use super::idempotency::Occasion;
use super::page::{self, List, Page};
use super::patch;
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::id::MeterId;
use crate::model::metadata::{self, Metadata, MetadataPatch};
use crate::model::meter::{Aggregation, Definition, MeterFilter, MeterSpec};
use crate::model::time::Time;
use crate::store::meters::{self, StoredMeter as Row};
use crate::store::projector;

/// Characters of a name.
const NAME_LEN_MAX: usize = 100;
/// Characters of a description.
const DESCRIPTION_LEN_MAX: usize = 500;
/// Members of a metric's log line that a meter's name must not replace.
const RESERVED_METRIC_NAMES: [&str; 3] = ["_aws", "service", "project"];

/// A meter.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Meter {
    /// Its id.
    pub id: MeterId,
    /// What it is called.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The event types it counts: exact, `prefix.*`, or `*` for all.
    pub event_type: String,
    /// What it makes of the values.
    pub aggregation: Aggregation,
    /// Where in `data` the value is; null for a count.
    #[schema(required)]
    pub value: Option<String>,
    /// Where in `data` that is by which usage is told apart.
    pub group_by: Vec<String>,
    /// What must hold of `data`.
    pub filters: Vec<MeterFilter>,
    /// Whether it is published as a CloudWatch metric.
    pub metric: bool,
    /// What you noted on it; nothing to a key that is for one tenant.
    #[schema(value_type = BTreeMap<String, String>)]
    pub metadata: Metadata,
    /// Events it matched and could not read a value of: there was none, or no
    /// number of up to 38 digits. They are not counted. Null to a key that is for one
    /// tenant.
    #[schema(required, minimum = 0)]
    pub skipped: Option<i64>,
    /// When it was created.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

impl From<Row> for Meter {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            event_type: row.spec.event_type,
            aggregation: row.spec.aggregation,
            value: row.spec.value,
            group_by: row.spec.group_by,
            filters: row.spec.filters,
            metric: row.is_published,
            metadata: row.metadata,
            skipped: Some(row.skipped),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

impl Meter {
    /// As whoever has `access` sees it: what is noted on it, and what it skipped of all
    /// events, are for the whole project's keys.
    fn within(self, access: &Access) -> Self {
        match access.tenant() {
            None => self,
            Some(_) => Self {
                metadata: Metadata::default(),
                skipped: None,
                ..self
            },
        }
    }
}

/// A meter to create. What it counts (`event_type`, `aggregation`, `value`,
/// `group_by`, `filters`) is fixed from then on.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = MeterCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "name": "revenue", "event_type": "invoice.paid", "aggregation": "sum",
    "value": "/total", "group_by": ["/currency"],
    "filters": [{ "pointer": "/test", "exists": false }]
})))]
pub struct NewMeter {
    /// What it is called: 1 to 100 characters, unique in the project.
    name: String,
    /// A note for people.
    description: Option<String>,
    /// The event types it counts: exact, `prefix.*`, or `*` for all.
    event_type: String,
    /// What it makes of the values.
    aggregation: Aggregation,
    /// Where in `data` the value is: a JSON pointer (RFC 6901), such as `/total`.
    /// There must be one but for a count. A number, or a string that holds one, of
    /// up to 38 digits; with `unique_count` any string, number or Boolean.
    value: Option<String>,
    /// Where in `data` that is by which usage is told apart: up to 5 JSON
    /// pointers. A value that is no string, number or Boolean, is longer than 128
    /// characters, or has a NUL, counts as null. A meter has a bounded number of groups
    /// (`meters.groups_max`, 1,000 by default); what comes after is counted in the
    /// group `{"…": "other"}`.
    group_by: Option<Vec<String>>,
    /// What must hold of `data`: up to 10 filters, all of them.
    filters: Option<Vec<MeterFilter>>,
    /// Whether what it newly counts is published as a CloudWatch metric of its
    /// name, in the namespace `Millrace/Meters`. Not with `unique_count`, which
    /// does not add up.
    metric: Option<bool>,
    /// Notes for programs of your own: up to 50 keys of 1 to 40 characters, each with a
    /// string of up to 500.
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
}

/// Create a meter.
///
/// It counts events from here on; other instances know it within seconds. Ask for
/// a back-fill to count those that are kept already. Each event counts once,
/// however often it is published: at its `time` if that is at most 35 days
/// (`meters.late_days_max`) before its receipt and an hour after, or else when it
/// was received.
#[utoipa::path(post, path = "/v1/meters", tag = "meters",
    operation_id = "createMeter",
    request_body = NewMeter,
    responses((status = 201, body = Meter), Problems,
        (status = 409, description = "The name is taken, or the project has as many meters as it may")),
    security(("api_key" = ["meters:write"])))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: WholeProject<MetersWrite>,
    occasion: Occasion,
    Json(new): Json<NewMeter>,
) -> Result<(StatusCode, Json<Meter>)> {
    let by = caller.by(app::now());
    let id = MeterId::new(occasion.at.as_millisecond(), occasion.derive("meter"));
    if occasion.is_repeated() {
        match meters::get(&app.postgres, &by.project, &id).await {
            Err(Error::NotFound(_)) => {}
            created => return Ok((StatusCode::CREATED, Json(created?.into()))),
        }
    }
    let mut metadata = Metadata::default();
    metadata.merge_given(new.metadata)?;
    let row = Row {
        id,
        project: caller.project,
        name: new.name,
        description: new.description.unwrap_or_default(),
        metadata,
        spec: MeterSpec {
            event_type: new.event_type,
            aggregation: new.aggregation,
            value: new.value,
            group_by: new.group_by.unwrap_or_default(),
            filters: new.filters.unwrap_or_default(),
        },
        is_published: new.metric.unwrap_or_default(),
        skipped: 0,
        created_at: by.at,
        updated_at: by.at,
        deleted_at: None,
        version: 1,
    };
    check(&row)?;
    Definition::new(&row.spec)?;
    for (at, filter) in row.spec.filters.iter().enumerate() {
        filter.check_numbers(at)?;
    }
    let created = meters::create(&app.postgres, &by, row).await?;
    let row = projector::apply(&app.postgres, &app.projection, created).await;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Checks the fields that people may change.
fn check(row: &Row) -> Result<()> {
    let (name, description) = (&row.name, &row.description);
    let is_sized = (1..=NAME_LEN_MAX).contains(&name.chars().count());
    if !is_sized || name.trim() != name || name.contains(char::is_control) {
        let detail = format!(
            "expected 1 to {NAME_LEN_MAX} characters, no control characters and no space at either end"
        );
        return Err(Error::invalid("name", detail));
    }
    if description.chars().count() > DESCRIPTION_LEN_MAX || description.contains('\0') {
        let detail = format!("expected up to {DESCRIPTION_LEN_MAX} characters, none of them NUL");
        return Err(Error::invalid("description", detail));
    }
    if !row.is_published {
        return Ok(());
    }
    if row.spec.aggregation == Aggregation::UniqueCount {
        let detail = "expected false: unique counts of several minutes do not add up";
        return Err(Error::invalid("metric", detail));
    }
    // The dimensions of a metric are its groups' pointers, which begin with a slash.
    let is_taken = RESERVED_METRIC_NAMES.contains(&name.as_str()) || name.starts_with('/');
    if is_taken || !name.is_ascii() {
        let detail = "expected the name of a metric: ASCII, not beginning with a slash, \
            and not \"_aws\", \"project\" or \"service\"";
        return Err(Error::invalid("name", detail));
    }
    Ok(())
}

/// Which meters to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListMeters {
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List meters, the oldest first.
#[utoipa::path(get, path = "/v1/meters", tag = "meters", params(ListMeters),
    operation_id = "listMeters",
    responses((status = 200, body = Page<Meter>), Problems),
    security(("api_key" = ["meters:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<MetersRead>,
    Query(query): Query<ListMeters>,
) -> Result<Json<Page<Meter>>> {
    let limit = page::limit(query.limit)?;
    let project = caller.access.project();
    let list = List::of("listMeters", project);
    let after = page::id_position::<MeterId>(list, query.cursor.as_deref())?;
    let rows = meters::list(&app.postgres, project, &after, limit as i64 + 1).await?;
    let shown = |row: Row| Meter::from(row).within(&caller.access);
    let page = Page::from_lookahead(list, rows, limit, |row| row.id.to_string(), shown);
    Ok(Json(page))
}

/// Look at one meter.
#[utoipa::path(get, path = "/v1/meters/{id}", tag = "meters",
    operation_id = "getMeter",
    params(("id" = String, Path, description = "mtr_…")),
    responses((status = 200, body = Meter), Problems),
    security(("api_key" = ["meters:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<MetersRead>,
    Path(id): Path<MeterId>,
) -> Result<Json<Meter>> {
    let row = meters::get(&app.postgres, caller.access.project(), &id).await?;
    Ok(Json(Meter::from(row).within(&caller.access)))
}

/// What to change of a meter; what is absent stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = MeterUpdate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "name": "revenue in euros", "metric": true })))]
pub struct MeterChanges {
    /// What it is called.
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(nullable = false)]
    name: Option<String>,
    /// A note for people; null for none.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<String>)]
    description: Option<Option<String>>,
    /// Whether it is published as a CloudWatch metric; null for not.
    #[serde(default, deserialize_with = "patch::clearable")]
    #[schema(value_type = Option<bool>)]
    metric: Option<Option<bool>>,
    /// Merged with what is there (RFC 7396): a string replaces, null removes its key;
    /// null in place of the whole removes them all.
    #[serde(default, deserialize_with = "metadata::given")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    metadata: Option<MetadataPatch>,
    // Known, so that the error says more than that they are unknown, of null too.
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(ignore)]
    event_type: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(ignore)]
    aggregation: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(ignore)]
    value: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(ignore)]
    group_by: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "patch::lasting")]
    #[schema(ignore)]
    filters: Option<IgnoredAny>,
}

impl MeterChanges {
    /// The first field given that never changes.
    fn fixed(&self) -> Option<&'static str> {
        let fixed = [
            ("event_type", &self.event_type),
            ("aggregation", &self.aggregation),
            ("value", &self.value),
            ("group_by", &self.group_by),
            ("filters", &self.filters),
        ];
        let given = fixed.into_iter().find(|(_, given)| given.is_some());
        given.map(|(name, _)| name)
    }
}

/// Change the name, the description, the metadata or the metric of a meter.
///
/// What it counts is fixed, or usage before and after would not add up: create
/// another meter and fill it back from the events that are kept.
#[utoipa::path(patch, path = "/v1/meters/{id}", tag = "meters",
    operation_id = "updateMeter",
    params(("id" = String, Path, description = "mtr_…")),
    request_body = MeterChanges,
    responses((status = 200, body = Meter), Problems,
        (status = 409, description = "The name is taken")),
    security(("api_key" = ["meters:write"])))]
pub async fn update(
    State(app): State<Arc<App>>,
    caller: WholeProject<MetersWrite>,
    Path(id): Path<MeterId>,
    Json(changes): Json<MeterChanges>,
) -> Result<Json<Meter>> {
    if let Some(field) = changes.fixed() {
        let detail = "it is fixed: create another meter and fill it back instead";
        return Err(Error::invalid(field, detail));
    }
    let apply = |row: &mut Row| {
        row.name = changes
            .name
            .unwrap_or_else(|| std::mem::take(&mut row.name));
        if let Some(description) = changes.description {
            row.description = description.unwrap_or_default();
        }
        if let Some(metric) = changes.metric {
            row.is_published = metric.unwrap_or_default();
        }
        row.metadata.merge_given(changes.metadata)?;
        check(row)
    };
    let by = caller.by(app::now());
    let updated = meters::update(&app.postgres, &by, &id, apply).await?;
    let row = projector::apply(&app.postgres, &app.projection, updated).await;
    Ok(Json(row.into()))
}

/// Delete a meter with its usage.
#[utoipa::path(delete, path = "/v1/meters/{id}", tag = "meters",
    operation_id = "deleteMeter",
    params(("id" = String, Path, description = "mtr_…")),
    responses((status = 204), Problems),
    security(("api_key" = ["meters:write"])))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: WholeProject<MetersWrite>,
    Path(id): Path<MeterId>,
) -> Result<StatusCode> {
    let by = caller.by(app::now());
    let deleted = meters::delete(&app.postgres, &by, &id).await?;
    projector::apply(&app.postgres, &app.projection, deleted).await;
    Ok(StatusCode::NO_CONTENT)
}
