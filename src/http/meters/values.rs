//! The values of a meter's dimensions: which tenants and groups there is usage of, for
//! who looks for one.

use std::sync::Arc;

use axum::extract::State;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::selection::counted_under;
use crate::app::{self, App};
use crate::error::{Error, Invalid, Result};
use crate::http::auth::{Allowed, MetersRead};
use crate::http::extract::{Json, Path, Query};
use crate::http::page::{self, List, Page};
use crate::http::problem::Problems;
use crate::model::id::MeterId;
use crate::model::time::Time;
use crate::model::window::{self, Width};
use crate::store::meters;
use crate::store::usage::values::{self, ValuesQuery};

/// Bytes of a position: a tenant or a value of 128 characters, each escaped.
const POSITION_LEN_MAX: usize = 2_048;

/// Which values to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListValues {
    /// `tenant`, or a pointer of the meter's `group_by`.
    #[param(example = "tenant")]
    dimension: String,
    /// Those that were counted at this time or after it, in whole quarters of an hour.
    #[param(value_type = String, format = DateTime)]
    from: Time,
    /// And before this time; now, if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Time>,
    /// What they begin with, capitals told apart; a value that is no string, its JSON.
    prefix: Option<String>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before, with all else the same.
    cursor: Option<String>,
}

/// A value that there is usage of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = DimensionValue)]
pub struct DimensionValue {
    /// A string, a number or a Boolean; null for events that had none.
    #[schema(required, value_type = serde_json::Value)]
    value: Box<RawValue>,
}

/// List the values of a dimension.
///
/// Each that there is usage of in a time, once, in the order of their JSON: what
/// `tenant` and `group` of the usage may be asked for. What came after the meter had as
/// many groups as it may has none.
#[utoipa::path(get, path = "/v1/meters/{id}/values", tag = "meters",
    operation_id = "listMeterValues",
    params(("id" = String, Path, description = "mtr_…"), ListValues),
    responses((status = 200, body = Page<DimensionValue>), Problems),
    security(("api_key" = ["meters:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<MetersRead>,
    Path(id): Path<MeterId>,
    Query(query): Query<ListValues>,
) -> Result<Json<Page<DimensionValue>>> {
    let limit = page::limit(query.limit)?;
    let prefix = query.prefix.as_deref().unwrap_or_default();
    if prefix.contains('\0') {
        return Err(Error::invalid("prefix", "expected no NUL"));
    }
    let list = List::of("listMeterValues", caller.access.project())
        .with("meter", Some(id.as_str()))
        .with("dimension", Some(&query.dimension))
        .with("prefix", Some(prefix));
    let after = page::position_by(list, query.cursor.as_deref(), read_position)?;
    let to = query.to.map_or_else(app::now, |to| to.0);
    let windows = window::split_into_windows(Width::Total, &TimeZone::UTC, query.from.0, to)?;
    let meter = meters::get(&app.postgres, caller.access.project(), &id).await?;
    let place = place(&query.dimension, &meter.spec.group_by)?;
    let tenants = caller.access.narrow_all(&[])?;
    let tenants = tenants.map(|tenants| counted_under(&tenants));
    let values_query = ValuesQuery {
        meter: &id,
        window: windows[0],
        place,
        tenants: tenants.as_deref(),
        prefix,
        after: after.as_deref(),
        limit: limit + 1,
    };
    let found = values::values(&app.postgres, &values_query).await?;
    let shown = |value: String| {
        let value = match place {
            Some(_) => value,
            None if value.is_empty() => "null".to_owned(),
            None => serde_json::Value::from(value).to_string(),
        };
        let value = RawValue::from_string(value).map_err(Error::internal)?;
        Ok(DimensionValue { value })
    };
    let page = Page::from_lookahead(list, found, limit, Clone::clone, shown);
    page.transpose().map(Json)
}

/// Where `dimension` is in `group_by`; none for tenants.
fn place(dimension: &str, group_by: &[String]) -> Result<Option<i32>, Invalid> {
    if dimension == "tenant" {
        return Ok(None);
    }
    let place = group_by.iter().position(|pointer| pointer == dimension);
    let place = place.and_then(|place| i32::try_from(place).ok());
    place.map(Some).ok_or_else(|| {
        let mut known = vec!["tenant"];
        known.extend(group_by.iter().map(String::as_str));
        let detail = format!("expected one of {}", known.join(", "));
        Invalid::new("dimension", detail)
    })
}

fn read_position(text: String) -> Option<String> {
    let is_value = text.len() <= POSITION_LEN_MAX && !text.contains('\0');
    is_value.then_some(text)
}
