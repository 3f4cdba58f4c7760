//! The usage of a meter: what it has counted, by window, tenant and group.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, VARY};
use http::request::Parts;
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::selection::{self, Selection};
use super::usage_csv;
use super::usage_row::Usage;
use crate::app::{self, App};
use crate::error::{Error, Invalid, Result};
use crate::http::accept;
use crate::http::auth::{Allowed, MetersRead};
use crate::http::extract::{Json, Path};
use crate::http::page::{self, List, Page};
use crate::http::problem::Problems;
use crate::model::access::Access;
use crate::model::id::{MeterId, ProjectId};
use crate::model::meter::{OVERFLOW_GROUP, OVERFLOW_NAME};
use crate::model::time::Time;
use crate::model::window::{self, Width, Window};
use crate::store::meters::{self, StoredMeter};
use crate::store::usage::report::{self, GroupFilter, UsageCursor, UsageQuery, UsageRow};

/// Rows in a page, unless fewer are asked for.
const ROWS_MAX: usize = 1_000;
/// Bytes of a position, which holds a tenant and five values.
const POSITION_LEN_MAX: usize = 8_192;

/// What to ask of a meter.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AskUsage {
    /// The first window is the one that holds this time.
    #[param(value_type = String, format = DateTime)]
    from: Time,
    /// The last window is the one that ends at this time, or holds it; now, if
    /// absent.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Time>,
    /// How wide windows are: a day, if absent. At most 1,500 of them. `total` is one
    /// window from `from` to `to`, in whole quarters of an hour.
    #[param(value_type = Option<Width>)]
    window: Option<Width>,
    /// Only usage of these tenants, added up unless `group_by` tells them apart: up to
    /// 100, each a parameter of its own; empty for that of no tenant.
    #[serde(default)]
    #[expect(dead_code, reason = "a selection takes it out of the query")]
    tenant: Vec<String>,
    /// Only usage of groups that have these values, `group[/plan]=pro`: by pointers of
    /// the meter's `group_by`. A value is a JSON number, Boolean, null or string in
    /// quotes, or else a string as it is. `group[…]=other` is what came after the meter
    /// had as many groups as it may.
    #[serde(default)]
    #[param(style = DeepObject, explode)]
    #[expect(dead_code, reason = "a selection takes it out of the query")]
    group: BTreeMap<String, String>,
    /// What to tell apart: `tenant` and pointers of the meter's `group_by`, with
    /// commas between. Nothing, if absent: each row is a total.
    group_by: Option<String>,
    /// The IANA time zone whose hours, days and months these are; UTC, if absent.
    time_zone: Option<String>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before, with all else the same.
    cursor: Option<String>,
}

/// What is asked of a meter, and which usage of it.
#[derive(Debug)]
pub struct Asked {
    query: AskUsage,
    selection: Selection,
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let (query, selection) = selection::read(parts.uri.query().unwrap_or_default())?;
        Ok(Self { query, selection })
    }
}

impl Asked {
    /// The rows that it asks for, whatever the times between which they lie.
    fn list(&self, project: &ProjectId, meter: &MeterId) -> List {
        let query = &self.query;
        let width = query.window.unwrap_or(Width::Day);
        let list = List::of("getMeterUsage", project)
            .with("meter", Some(meter.as_str()))
            .with("window", Some(width.as_str()))
            .with(
                "time_zone",
                Some(query.time_zone.as_deref().unwrap_or("UTC")),
            );
        let list = self.selection.of(list);
        list.with("group_by", query.group_by.as_deref())
    }

    fn frame<'a>(&'a self, access: &'a Access, meter: &MeterId) -> Result<Frame<'a>> {
        let query = &self.query;
        let limit = limit(query.limit)?;
        let list = self.list(access.project(), meter);
        let after = page::position_by(list, query.cursor.as_deref(), read_position)?;
        let zone = match &query.time_zone {
            Some(name) => window::zone(name)?,
            None => TimeZone::UTC,
        };
        let width = query.window.unwrap_or(Width::Day);
        let to = query.to.map_or_else(app::now, |to| to.0);
        Ok(Frame {
            list,
            limit,
            after,
            width,
            windows: window::split_into_windows(width, &zone, query.from.0, to)?,
            tenants: access.narrow_all(&self.selection.tenants)?,
        })
    }
}

/// What is asked, as far as it is known without the meter.
struct Frame<'a> {
    list: List,
    limit: usize,
    after: Option<UsageCursor>,
    width: Width,
    windows: Vec<Window>,
    /// Those asked for, or the caller's own; none for all.
    tenants: Option<Vec<&'a str>>,
}

/// Ask for what a meter has counted.
///
/// Rows are whole windows, the earliest first; a window in which nothing was
/// counted has none. Events are counted within seconds of their receipt, or when
/// the database is back. Usage by the minute is kept for 35 days, by wider windows
/// for as long as the meter. A unique count is exact but for collisions of half a
/// SHA-256: with n different values one is missed with a probability of about
/// n²/2¹²⁹.
///
/// As CSV (RFC 4180) where `Accept` likes `text/csv` better: a header line, then `start`,
/// `end`, `tenant`, a column for each pointer in `group_by`, and `value`. Nothing is an
/// empty cell, an empty string `""`. Tenants and strings that begin with `=`, `+`, `-`,
/// `@`, a tab or a line break are written behind an apostrophe, for a spreadsheet would
/// compute them. The next page is in the header `Link`.
#[utoipa::path(get, path = "/v1/meters/{id}/usage", tag = "meters",
    operation_id = "getMeterUsage",
    params(("id" = String, Path, description = "mtr_…"), AskUsage),
    responses((status = 200, body = Page<Usage>), Problems),
    security(("api_key" = ["meters:read"])))]
pub async fn usage(
    State(app): State<Arc<App>>,
    caller: Allowed<MetersRead>,
    Path(id): Path<MeterId>,
    uri: Uri,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response> {
    let frame = asked.frame(&caller.access, &id)?;
    let meter = meters::get(&app.postgres, caller.access.project(), &id).await?;
    let by = GroupBy::parse(asked.query.group_by.as_deref(), &meter.spec.group_by)?;
    let groups = asked.selection.groups(&meter.spec.group_by)?;
    let page = report(&app, &meter, &frame, &groups, &by).await?;
    let answer = if accept::prefers_csv(&headers) {
        usage_csv::response(&uri, &by.pointers, &page)?
    } else {
        Json(page).into_response()
    };
    Ok(([(VARY, HeaderValue::from_static("accept"))], answer).into_response())
}

async fn report(
    app: &App,
    meter: &StoredMeter,
    frame: &Frame<'_>,
    groups: &GroupFilter,
    by: &GroupBy<'_>,
) -> Result<Page<Usage>> {
    let tenants = frame.tenants.as_deref().map(selection::counted_under);
    let usage_query = UsageQuery {
        meter: &meter.id,
        aggregation: meter.spec.aggregation,
        width: frame.width,
        windows: &frame.windows,
        tenants: tenants.as_deref(),
        groups,
        by_tenant: by.tenant,
        by_group: (!by.group_indexes.is_empty()).then_some(&*by.group_indexes),
        after: frame.after.as_ref(),
        limit: frame.limit + 1,
    };
    let mut rows = report::usage(&app.postgres, &usage_query).await?;
    let is_last = rows.len() <= frame.limit;
    rows.truncate(frame.limit);
    let next = rows
        .last()
        .filter(|_| !is_last)
        .map(|row| write_position(&row.position));
    let only = match frame.tenants.as_deref() {
        Some([one]) => Some(*one),
        _ => None,
    };
    let rows = rows.into_iter().map(|row| by.to_usage(row, only));
    Ok(Page::new(frame.list, rows.collect::<Result<_>>()?, next))
}

fn limit(limit: Option<usize>) -> Result<usize> {
    match limit.unwrap_or(ROWS_MAX) {
        limit @ 1..=ROWS_MAX => Ok(limit),
        _ => Err(Error::invalid("limit", format!("expected 1 to {ROWS_MAX}"))),
    }
}

/// The position a page ends at, as its `next_cursor` holds it.
pub fn write_position(position: &UsageCursor) -> String {
    let UsageCursor {
        start,
        tenant,
        group,
    } = position;
    serde_json::json!([start.as_millisecond(), tenant, group]).to_string()
}

/// Reads what [`write_position`] wrote; `None` for anything else.
pub fn read_position(text: String) -> Option<UsageCursor> {
    if text.len() > POSITION_LEN_MAX {
        return None;
    }
    let (start, tenant, group): (i64, String, String) = serde_json::from_str(&text).ok()?;
    let is_text = |text: &String| !text.contains('\0');
    Some(UsageCursor {
        start: Timestamp::from_millisecond(start).ok()?,
        tenant: Some(tenant).filter(is_text)?,
        group: Some(group).filter(is_text)?,
    })
}

/// What rows are grouped by.
struct GroupBy<'a> {
    tenant: bool,
    /// The positions of `pointers` in the meter's `group_by`.
    group_indexes: Vec<i32>,
    pointers: Vec<&'a str>,
}

impl<'a> GroupBy<'a> {
    fn parse(asked: Option<&str>, group_by: &'a [String]) -> Result<Self, Invalid> {
        let mut by = Self {
            tenant: false,
            group_indexes: vec![],
            pointers: vec![],
        };
        for name in asked.into_iter().flat_map(|asked| asked.split(',')) {
            if name == "tenant" {
                by.tenant = true;
                continue;
            }
            let index = group_by.iter().position(|pointer| pointer == name);
            let Some(index) = index else {
                let known: Vec<_> = std::iter::once("tenant")
                    .chain(group_by.iter().map(String::as_str))
                    .collect();
                let detail = format!("expected some of {} with commas between", known.join(", "));
                return Err(Invalid::new("group_by", detail));
            };
            if !by.pointers.contains(&name) {
                by.group_indexes
                    .push(i32::try_from(index).unwrap_or(i32::MAX));
                by.pointers.push(&group_by[index]);
            }
        }
        Ok(by)
    }

    fn to_usage(&self, row: UsageRow, asked: Option<&str>) -> Result<Usage> {
        let UsageCursor {
            start,
            tenant,
            group,
        } = row.position;
        let tenant = if self.tenant {
            tenant
        } else {
            asked.unwrap_or_default().to_owned()
        };
        Ok(Usage {
            start: start.into(),
            end: row.end.into(),
            tenant: Some(tenant).filter(|tenant| !tenant.is_empty()),
            group: self.group(&group)?,
            value: RawValue::from_string(row.value).map_err(Error::internal)?,
        })
    }

    fn group(&self, group: &str) -> Result<Option<BTreeMap<String, Box<RawValue>>>> {
        if self.pointers.is_empty() {
            return Ok(None);
        }
        if group == OVERFLOW_GROUP {
            let other = RawValue::from_string(format!("\"{OVERFLOW_GROUP}\""));
            let other = other.map_err(Error::internal)?;
            return Ok(Some(BTreeMap::from([(OVERFLOW_NAME.to_owned(), other)])));
        }
        let values: Vec<Box<RawValue>> = serde_json::from_str(group).map_err(Error::internal)?;
        let pointers = self.pointers.iter().map(|pointer| (*pointer).to_owned());
        Ok(Some(pointers.zip(values).collect()))
    }
}
