//! Recoveries: sending again, in bulk, what failed or never went.

pub mod preview;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::auth::{Allowed, EventsRead, EventsWrite};
use super::extract::{Json, Path, Query};
use super::idempotency::Occasion;
use super::lookup;
use super::page::{self, List, Page};
use super::problem::Problems;
use super::record::record_best_effort;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::audit::AuditContext;
use crate::model::delivery::DeliveryState;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::{EndpointId, RecoveryId};
use crate::model::job::Job;
use crate::model::recovery::{self as model, RecoveryKind, RecoveryPass, RecoveryState};
use crate::model::recovery_progress;
use crate::model::time::Time;
use crate::store::config_projection::current::view_age_max;
use crate::store::timeline::{INDEX_LAG, TimelineRange};
use crate::store::{events, keys, recoveries};

/// Recoveries that may run at once of those narrowed to a tenant, of each, and of a
/// project's that are narrowed to none.
const RUNNING_MAX: usize = 10;

/// A job that goes through what is kept, page by page, and sends it again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Recovery {
    /// Its id.
    pub id: RecoveryId,
    /// What it does. An `archive` is begun by Millrace itself.
    #[schema(value_type = RecoveryKind)]
    pub kind: RecoveryKind,
    /// Where it stands.
    #[schema(value_type = RecoveryState)]
    pub state: RecoveryState,
    /// Where it sends to; null for an archive.
    #[schema(required)]
    pub endpoint_id: Option<EndpointId>,
    /// The state of the deliveries it resends, if it resends any.
    #[schema(required, value_type = Option<DeliveryState>)]
    pub delivery_state: Option<DeliveryState>,
    /// Whether pending deliveries are attempted now, too.
    pub include_pending: bool,
    /// Only events of this type.
    #[serde(rename = "type")]
    #[schema(required)]
    pub event_type: Option<String>,
    /// Only events of this tenant.
    #[schema(required)]
    pub tenant: Option<String>,
    /// It goes through what was created at or after this time,
    pub since: Time,
    /// and before this, the newest first.
    pub until: Time,
    /// How much of that time it has gone through, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub progress: f64,
    /// Rows gone through so far.
    pub examined: u64,
    /// Deliveries begun so far, those included that were pending, or events archived.
    pub resent: u64,
    /// Events or deliveries that could not be read and were passed over. The log says
    /// which.
    pub skipped: u64,
    /// Why it failed, if it did.
    #[schema(required)]
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it last went on.
    pub updated_at: Time,
}

impl Recovery {
    fn of(app: &App, row: model::Recovery) -> Self {
        Self {
            progress: recovery_progress::progress(&row, app.config.retention_days),
            id: row.id,
            kind: row.kind,
            state: row.state,
            endpoint_id: row.endpoint,
            delivery_state: row.deliveries,
            include_pending: row.includes_pending,
            event_type: row.event_type,
            tenant: row.tenant,
            since: row.since.into(),
            until: row.until.into(),
            examined: row.examined,
            resent: row.resent,
            skipped: row.skipped,
            error: row.error,
            created_at: row.created.into(),
            updated_at: row.updated.into(),
        }
    }
}

/// A part of the past.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = RecoveryCreate)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// From this time on.
    #[schema(value_type = String, format = DateTime)]
    since: Time,
    /// Before this time; absent, until every instance knows the endpoint as it is, some
    /// seconds from now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
}

/// What to resend at an endpoint.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EndpointRecover)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "since": "2026-01-31T12:00:00Z", "include_pending": true })))]
pub struct Recover {
    /// What was created from this time on.
    #[schema(value_type = String, format = DateTime)]
    since: Time,
    /// What was created before this time; absent, up to now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Pending deliveries too, which wait for their next attempt: it comes now. One
    /// whose attempt is under way, or about to be made, is left alone.
    include_pending: Option<bool>,
}

/// Resend what failed at an endpoint since a time.
///
/// Its failed deliveries that were created in that time begin a new round of
/// attempts with the same `webhook-id`, the newest first and no more than
/// `recovery.per_second_max` of them a second. With `include_pending` those that wait
/// for a retry, or for the endpoint, do so too instead of waiting; `resent` counts
/// both. Follow it with `GET /v1/recoveries/{id}`.
#[utoipa::path(post, path = "/v1/endpoints/{id}/recover", tag = "recoveries",
    operation_id = "recoverEndpoint",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    request_body = Recover,
    responses((status = 202, body = Recovery), Problems,
        (status = 409, description = "Ten recoveries narrowed to the same tenant, or to none, are running, or the endpoint is not enabled")),
    security(("api_key" = ["events:write"])))]
pub async fn recover(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    Path(named): Path<EndpointRef>,
    Json(recover): Json<Recover>,
) -> Result<(StatusCode, Json<Recovery>)> {
    let period = Period {
        since: recover.since,
        until: recover.until,
    };
    let by = caller.by(app::now());
    let mut new = new(
        &app,
        &occasion,
        &caller.access,
        RecoveryKind::Recover,
        &period,
    )?;
    new.deliveries = Some(DeliveryState::Failed);
    new.includes_pending = recover.include_pending.unwrap_or_default();
    start(&app, &by, &occasion, &named, new).await
}

/// Send an endpoint the events that match its filter now and never went to it.
///
/// For an endpoint that is new, or whose filter was too narrow. Events received
/// in that time get a delivery, the newest first and no more than
/// `recovery.per_second_max` of them a second; those that have one, whatever
/// became of it, are left alone. It goes by the endpoint as it is, whichever instance
/// changed it, and is done after a second look, some seconds later: then no instance
/// accepts events any more without knowing the endpoint as it was when this was asked.
#[utoipa::path(post, path = "/v1/endpoints/{id}/replay-missing", tag = "recoveries",
    operation_id = "replayMissingEvents",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    request_body = Period,
    responses((status = 202, body = Recovery), Problems,
        (status = 409, description = "Ten recoveries narrowed to the same tenant, or to none, are running, or the endpoint is not enabled")),
    security(("api_key" = ["events:write"])))]
pub async fn replay_missing(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    Path(named): Path<EndpointRef>,
    Json(period): Json<Period>,
) -> Result<(StatusCode, Json<Recovery>)> {
    let by = caller.by(app::now());
    let new = new(
        &app,
        &occasion,
        &caller.access,
        RecoveryKind::ReplayMissing,
        &period,
    )?;
    start(&app, &by, &occasion, &named, new).await
}

/// A final state that a person may lead out of.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryableState {
    /// The schedule was exhausted, or the endpoint gone.
    Failed,
    /// It was ended before.
    Canceled,
}

impl From<RetryableState> for DeliveryState {
    fn from(state: RetryableState) -> Self {
        match state {
            RetryableState::Failed => Self::Failed,
            RetryableState::Canceled => Self::Canceled,
        }
    }
}

/// Which deliveries are attempted again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = DeliveriesRetry)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Those to this endpoint, by its id or its uid,
    #[schema(value_type = String)]
    endpoint_id: EndpointRef,
    /// in this state,
    state: RetryableState,
    /// created at or after this time
    #[schema(value_type = String, format = DateTime)]
    since: Time,
    /// and before this; absent, up to now.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Only of events of this type: exact, `prefix.*`, or `*` for all that publishers
    /// send.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only of events of exactly this tenant.
    tenant: Option<String>,
}

/// Attempt many deliveries again.
///
/// As retrying each of them, no more than `recovery.per_second_max` a second.
#[utoipa::path(post, path = "/v1/deliveries/retry", tag = "recoveries",
    operation_id = "retryDeliveries",
    request_body = Retry,
    responses((status = 202, body = Recovery), Problems,
        (status = 404, description = "The endpoint is not there, or another project's"),
        (status = 409, description = "Ten recoveries narrowed to the same tenant, or to none, are running, or the endpoint is not enabled")),
    security(("api_key" = ["events:write"])))]
pub async fn retry(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    Json(retry): Json<Retry>,
) -> Result<(StatusCode, Json<Recovery>)> {
    let period = Period {
        since: retry.since,
        until: retry.until,
    };
    page::type_pattern(retry.event_type.as_deref())?;
    let by = caller.by(app::now());
    let mut new = new(
        &app,
        &occasion,
        &caller.access,
        RecoveryKind::Retry,
        &period,
    )?;
    new.deliveries = Some(retry.state.into());
    let tenant = caller.access.narrow(retry.tenant.as_deref())?;
    (new.event_type, new.tenant) = (retry.event_type, tenant.map(str::to_owned));
    start(&app, &by, &occasion, &retry.endpoint_id, new).await
}

fn new(
    app: &App,
    occasion: &Occasion,
    access: &Access,
    kind: RecoveryKind,
    period: &Period,
) -> Result<model::Recovery> {
    let id = RecoveryId::new(occasion.at.as_millisecond(), occasion.derive("recovery"));
    planned(app, id, access, kind, period)
}

/// The recovery `id` of what `access` reaches in `period`, which has done nothing yet.
fn planned(
    app: &App,
    id: RecoveryId,
    access: &Access,
    kind: RecoveryKind,
    period: &Period,
) -> Result<model::Recovery> {
    let now = app::now();
    let since = period.since.0;
    let asked_until = period.until.map_or(now, |until| until.0);
    if since >= asked_until {
        let expected = match period.until {
            Some(_) => "expected a time before until",
            None => "expected a time in the past",
        };
        return Err(Error::invalid("since", expected));
    }
    let until = match kind {
        // Until then another process may accept events without knowing the endpoint as
        // it is now.
        RecoveryKind::ReplayMissing if period.until.is_none() => {
            now + view_age_max(&app.config) + INDEX_LAG
        }
        _ => asked_until,
    };
    let project = access.project().clone();
    Ok(model::Recovery {
        tenant: access.tenant().map(str::to_owned),
        ..model::Recovery::new(id, project, kind, since..until, now)
    })
}

/// Keeps a new recovery, which is durable then, and enqueues its first page.
async fn start(
    app: &App,
    by: &AuditContext,
    occasion: &Occasion,
    endpoint: &EndpointRef,
    mut new: model::Recovery,
) -> Result<(StatusCode, Json<Recovery>)> {
    if occasion.is_repeated()
        && let Some(begun) = recoveries::get(&app.dynamo, &new.id).await?
    {
        return Ok((StatusCode::ACCEPTED, Json(Recovery::of(app, begun))));
    }
    let access = by.access();
    let endpoint = lookup::enabled_endpoint(app, &access, endpoint).await?;
    new.endpoint = Some(endpoint.clone());
    refuse_too_many(app, &new).await?;
    let now = app::now();
    let due = app.queue.due(now, Duration::ZERO);
    let expires = events::expiry(now, app.config.retention_days);
    recoveries::put_new(&app.dynamo, &new, due, expires).await?;
    let job = Job::Recover {
        recovery: new.id.clone(),
        page: 0,
    };
    app.queue.send(vec![job], Duration::ZERO).await;
    let after = json!({
        "recovery_id": new.id,
        "since": Time(new.since),
        "until": Time(new.until),
        "delivery_state": new.deliveries,
        "include_pending": new.includes_pending,
    });
    record_best_effort(app, by, action(new.kind), endpoint.as_str(), Some(after)).await;
    Ok((StatusCode::ACCEPTED, Json(Recovery::of(app, new))))
}

/// What the audit log calls the beginning of a recovery.
fn action(kind: RecoveryKind) -> &'static str {
    match kind {
        RecoveryKind::Recover => "endpoint.recover",
        RecoveryKind::ReplayMissing => "endpoint.replay_missing",
        RecoveryKind::Retry => "endpoint.retry_deliveries",
        RecoveryKind::Archive => "project.archive",
    }
}

/// Refuses one more while many run, of those last asked for that are narrowed to the same
/// tenant, or none too: a tenant's do not keep its project from what it recovers.
async fn refuse_too_many(app: &App, new: &model::Recovery) -> Result<()> {
    let latest = TimelineRange {
        since: None,
        until: None,
        after: None,
        limit: page::LIMIT_MAX,
    };
    let access = Access::new(new.project.clone(), new.tenant.as_deref().map(Into::into));
    let (rows, _) = recoveries::list(&app.dynamo, &access, &latest).await?;
    let asked_for = |row: &&model::Recovery| {
        row.state == RecoveryState::Running
            // One that only waits for its second look costs nothing.
            && row.pass == RecoveryPass::First
            && row.kind != RecoveryKind::Archive
            && row.tenant == new.tenant
    };
    match rows.iter().filter(asked_for).count() {
        RUNNING_MAX.. => Err(Error::Conflict(
            format!("{RUNNING_MAX} recoveries are running: cancel one or wait for it").into(),
        )),
        _ => Ok(()),
    }
}

/// Which recoveries are listed.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRecoveries {
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List recoveries, the newest first.
#[utoipa::path(get, path = "/v1/recoveries", tag = "recoveries", params(ListRecoveries),
    operation_id = "listRecoveries",
    responses((status = 200, body = Page<Recovery>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<ListRecoveries>,
) -> Result<Json<Page<Recovery>>> {
    let is_ours = |after: &str| keys::recovery_of_timeline_sort(after).is_some();
    let cursor = query.cursor.as_deref();
    let list = List::of("listRecoveries", caller.access.project());
    let range = page::range_of(list, None, None, query.limit, cursor, is_ours)?;
    let (rows, next) = recoveries::list(&app.dynamo, &caller.access, &range).await?;
    let mut own = Vec::with_capacity(rows.len());
    for row in rows {
        if is_own(&app, &caller.access, &row).await? {
            own.push(Recovery::of(&app, row));
        }
    }
    Ok(Json(Page::new(list, own, next)))
}

/// Look at one recovery and how far it is.
#[utoipa::path(get, path = "/v1/recoveries/{id}", tag = "recoveries",
    operation_id = "getRecovery",
    params(("id" = String, Path, description = "rec_…")),
    responses((status = 200, body = Recovery), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Path(id): Path<RecoveryId>,
) -> Result<Json<Recovery>> {
    let found = find(&app, &caller.access, &id).await?;
    Ok(Json(Recovery::of(&app, found)))
}

async fn find(app: &App, access: &Access, id: &RecoveryId) -> Result<model::Recovery> {
    match recoveries::get(&app.dynamo, id).await? {
        Some(recovery) if is_own(app, access, &recovery).await? => Ok(recovery),
        _ => Err(Error::not_found("recovery", id)),
    }
}

/// Whether `access` reaches a recovery: its endpoint, and all that it sends. What it
/// counts may be others' else.
async fn is_own(app: &App, access: &Access, recovery: &model::Recovery) -> Result<bool> {
    if !access.covers_in(&recovery.project, recovery.tenant.as_deref()) {
        return Ok(false);
    }
    match &recovery.endpoint {
        Some(endpoint) => lookup::reaches_endpoint(app, access, endpoint).await,
        None => Ok(access.tenant().is_none()),
    }
}

/// Cancel a recovery before its next page.
///
/// What it has begun goes on; a page under way is finished, and begun deliveries
/// are attempted. An archive cannot be canceled: its events would be lost.
#[utoipa::path(post, path = "/v1/recoveries/{id}/cancel", tag = "recoveries",
    operation_id = "cancelRecovery",
    params(("id" = String, Path, description = "rec_…")),
    responses((status = 200, body = Recovery), Problems,
        (status = 409, description = "It does not run any more, or is an archive")),
    security(("api_key" = ["events:write"])))]
pub async fn cancel(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    Path(id): Path<RecoveryId>,
) -> Result<Json<Recovery>> {
    let found = find(&app, &caller.access, &id).await?;
    if found.kind == RecoveryKind::Archive {
        let detail = "an archive cannot be canceled: its events would be lost";
        return Err(Error::Conflict(detail.into()));
    }
    let by = caller.by(app::now());
    match recoveries::cancel(&app.dynamo, &id, by.at).await? {
        Some(recovery) => {
            record_best_effort(&app, &by, "recovery.cancel", id.as_str(), None).await;
            Ok(Json(Recovery::of(&app, recovery)))
        }
        None if occasion.is_repeated() && found.state == RecoveryState::Canceled => {
            Ok(Json(Recovery::of(&app, found)))
        }
        None => Err(Error::Conflict("the recovery does not run any more".into())),
    }
}
