//! The back-fill of a meter: counting the events that are stored already.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::auth::{MetersRead, MetersWrite, WholeProject};
use crate::http::extract::{Json, Path};
use crate::http::idempotency::Occasion;
use crate::http::problem::Problems;
use crate::model::id::MeterId;
use crate::model::time::Time;
use crate::store::backfills::{self, Backfill as Row};
use crate::store::config_projection::current::view_age_max;
use crate::store::meters;
use crate::store::timeline::INDEX_LAG;

/// Which events to count.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = BackfillCreate)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "since": "2026-01-01T00:00:00Z" })))]
pub struct NewBackfill {
    /// Those received at or after this time; all that are kept, if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// Those received before this time, which may not lie in the future; all until
    /// every instance knows of the meter, some seconds from now, if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
}

/// Whether a back-fill goes on.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackfillState {
    /// There are events left to read.
    Running,
    /// All events are counted.
    Done,
}

/// How far a back-fill has come.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Backfill {
    /// Whether it goes on.
    pub state: BackfillState,
    /// Events received at or after this time are counted.
    pub since: Time,
    /// Events received before this time are counted.
    pub until: Time,
    /// Counted so far: events received from this time on, for the newest come
    /// first.
    pub reached: Time,
    /// Events looked at, of whatever type.
    #[schema(minimum = 0)]
    pub events_read: i64,
    /// Events counted that were not before.
    #[schema(minimum = 0)]
    pub events_counted: i64,
    /// Events that could not be read or counted and were passed over. The log says which.
    #[schema(minimum = 0)]
    pub events_skipped: i64,
    /// When it was asked for.
    pub started_at: Time,
    /// When it was done.
    #[schema(required)]
    pub finished_at: Option<Time>,
}

impl From<Row> for Backfill {
    fn from(row: Row) -> Self {
        Self {
            state: match row.finished {
                Some(_) => BackfillState::Done,
                None => BackfillState::Running,
            },
            reached: row.reached().into(),
            since: row.since.into(),
            until: row.until.into(),
            events_read: row.read,
            events_counted: row.counted,
            events_skipped: row.skipped,
            started_at: row.started.into(),
            finished_at: row.finished.map(Time::from),
        }
    }
}

/// Count the events that are kept already.
///
/// An event that was counted before does not count again, so that asking twice, or
/// for more than is missing, does no harm. One back-fill of a meter runs at a time.
/// What it counts is not published as a metric.
#[utoipa::path(post, path = "/v1/meters/{id}/backfill", tag = "meters",
    operation_id = "startMeterBackfill",
    params(("id" = String, Path, description = "mtr_…")),
    request_body = NewBackfill,
    responses((status = 202, body = Backfill), Problems,
        (status = 409, description = "A back-fill of this meter is running")),
    security(("api_key" = ["meters:write"])))]
pub async fn start(
    State(app): State<Arc<App>>,
    caller: WholeProject<MetersWrite>,
    occasion: Occasion,
    Path(id): Path<MeterId>,
    Json(new): Json<NewBackfill>,
) -> Result<(StatusCode, Json<Backfill>)> {
    let now = app::now();
    let kept = SignedDuration::from_hours(24 * i64::from(app.config.retention_days));
    let since = match new.since {
        Some(since) => since.0,
        None => now.saturating_sub(kept).map_err(Error::internal)?,
    };
    // Until `known_at` another instance may accept events without knowing the meter.
    let known_at = now + view_age_max(&app.config) + INDEX_LAG;
    let (until, due) = match new.until.map(|until| until.0) {
        Some(until) if until > now => {
            let detail = "expected a time that is not in the future; leave it out for now";
            return Err(Error::invalid("until", detail));
        }
        Some(until) => (until, now),
        None => (known_at, known_at + INDEX_LAG),
    };
    if since >= until {
        return Err(Error::invalid("since", "expected a time before until"));
    }
    meters::get(&app.postgres, &caller.project, &id).await?;
    if occasion.is_repeated()
        && let Some(begun) = backfills::get(&app.dynamo, &id).await?
        && begun.started == occasion.at
    {
        return Ok((StatusCode::ACCEPTED, Json(begun.into())));
    }
    let row = Row::new(&id, &caller.project, since..until, occasion.at);
    if !backfills::start(&app.dynamo, &row, due).await? {
        return Err(Error::Conflict(
            "a back-fill of this meter is running".into(),
        ));
    }
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}

/// Look at the last back-fill of a meter.
#[utoipa::path(get, path = "/v1/meters/{id}/backfill", tag = "meters",
    operation_id = "getMeterBackfill",
    params(("id" = String, Path, description = "mtr_…")),
    responses((status = 200, body = Backfill), Problems),
    security(("api_key" = ["meters:read"])))]
pub async fn progress(
    State(app): State<Arc<App>>,
    caller: WholeProject<MetersRead>,
    Path(id): Path<MeterId>,
) -> Result<Json<Backfill>> {
    meters::get(&app.postgres, &caller.project, &id).await?;
    let row = backfills::get(&app.dynamo, &id).await?;
    let row = row.ok_or_else(|| Error::not_found("back-fill of meter", &id))?;
    Ok(Json(row.into()))
}
