//! Deliveries: what became of each event at each endpoint.

mod attempts;
mod of_project;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::auth::{Allowed, EventsRead, EventsWrite};
use super::extract::{Json, Path, Query};
use super::lookup;
use super::page::{self, List, Page};
use super::record::record_best_effort;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::problem::Problems;
use crate::model::access::Access;
use crate::model::delivery::DeliveryState;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::model::job::Job;
use crate::model::time::Time;
use crate::store;
use crate::store::deliveries::{self, DeliveryFilter, Receivers, StoredDelivery};
use crate::store::events::StoredEvent;
use crate::store::timeline::READ_MAX;

use attempts::{Attempt, EventHeaders};

/// How late a sweep may claim what is due: on Lambda it runs once a minute. What
/// waits for longer is in the index of pending deliveries.
const SWEEP_LATE_MAX: Duration = Duration::from_mins(2);

/// One event to one endpoint.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event_id: EventId,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The event's type.
    pub event_type: String,
    /// The event's tenant.
    #[schema(required)]
    pub tenant: Option<String>,
    /// Where it stands.
    #[schema(value_type = DeliveryState)]
    pub state: DeliveryState,
    /// Attempts made in all.
    pub attempts_made: u32,
    /// The latest attempts, up to 12, the oldest first.
    pub attempts: Vec<Attempt>,
    /// When it was first planned.
    pub created_at: Time,
    /// When the next attempt is made at the latest; null unless pending.
    #[schema(required)]
    pub next_attempt_at: Option<Time>,
}

impl From<StoredDelivery> for Delivery {
    fn from(row: StoredDelivery) -> Self {
        Self::with(row, &EventHeaders::default())
    }
}

impl Delivery {
    /// The deliveries `rows` of `event`: of their requests, the headers that hold the event
    /// too.
    pub(super) fn all_of(rows: Vec<StoredDelivery>, event: &StoredEvent) -> Vec<Self> {
        let is_needed = rows.iter().any(attempts::hold_event);
        let event = is_needed.then_some(event);
        let headers = event.map(EventHeaders::of).unwrap_or_default();
        let rows = rows.into_iter();
        rows.map(|row| Self::with(row, &headers)).collect()
    }

    fn with(row: StoredDelivery, headers: &EventHeaders) -> Self {
        let event = row.id.event();
        let attempts = row.attempts.into_iter();
        let attempts = attempts.map(|attempt| Attempt::of(attempt, &event, headers));
        Self {
            event_id: event.clone(),
            endpoint_id: row.id.endpoint(),
            id: row.id,
            event_type: row.event_type,
            tenant: row.tenant,
            state: row.state,
            attempts_made: row.progress.attempts_made,
            attempts: attempts.collect(),
            created_at: row.created.into(),
            next_attempt_at: row.due.map(Time),
        }
    }
}

/// What a list of deliveries is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// Only those to this endpoint, by its id or its uid.
    #[param(value_type = Option<String>, example = "ep_…")]
    endpoint_id: Option<EndpointRef>,
    /// Those of this event, which takes no other condition but `state`.
    #[param(value_type = Option<String>)]
    event_id: Option<EventId>,
    /// Only those in this state.
    #[param(value_type = Option<DeliveryState>)]
    state: Option<DeliveryState>,
    /// Only those of events of this type: exact, `prefix.*`, or `*` for all that
    /// publishers send.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only those of this tenant's events.
    tenant: Option<String>,
    /// Only what was created at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// Only what was created before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List deliveries: the project's or an endpoint's, the newest first, or an event's.
///
/// What is failed, canceled or pending has an index; among what is delivered, of one
/// tenant or of some types, up to 2,000 rows are looked at for a page, which may be
/// short, even empty, and not the last. Of a project with more than 16 endpoints those
/// to the oldest 16 are listed first, the newest of them first, then those to the next
/// 16. Deliveries to an endpoint that was deleted more than a day ago are listed with
/// their event only.
#[utoipa::path(get, path = "/v1/deliveries", tag = "deliveries", params(ListDeliveries),
    operation_id = "listDeliveries",
    responses((status = 200, body = Page<Delivery>), Problems,
        (status = 404, description = "The endpoint or the event is not there, or another project's")),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<ListDeliveries>,
) -> Result<Json<Page<Delivery>>> {
    let page = match (&query.endpoint_id, &query.event_id) {
        (Some(named), None) => of_endpoint(&app, &caller.access, named, &query).await,
        (None, Some(event)) => list_of_event(&app, &caller.access, event, &query).await,
        (None, None) => of_project(&app, &caller.access, &query).await,
        (Some(_), Some(_)) => Err(Error::invalid(
            "endpoint_id",
            "expected either this or event_id, got both",
        )),
    };
    page.map(Json)
}

async fn of_project(app: &App, access: &Access, query: &ListDeliveries) -> Result<Page<Delivery>> {
    let (since, until) = (query.since.map(|at| at.0), query.until.map(|at| at.0));
    let list = list_of(access, "the project", None, query);
    let range = page::range(list, since, until, query.limit, None)?;
    let filter = filter(app, access, Receivers::AnyOf(&[]), query)?;
    let cursor = page::position_by(list, query.cursor.as_deref(), of_project::Position::read)?;
    let (rows, next) = of_project::list(app, access, filter, range, cursor).await?;
    let rows = rows.into_iter().map(Delivery::from);
    Ok(Page::new(list, rows.collect(), next))
}

async fn of_endpoint(
    app: &App,
    access: &Access,
    named: &EndpointRef,
    query: &ListDeliveries,
) -> Result<Page<Delivery>> {
    let endpoint = &lookup::endpoint(app, access, named).await?;
    let (since, until) = (query.since.map(|at| at.0), query.until.map(|at| at.0));
    let list = list_of(access, "endpoint", Some(endpoint.as_str()), query);
    let range = page::range(list, since, until, query.limit, query.cursor.as_deref())?;
    let filter = filter(app, access, Receivers::One(endpoint), query)?;
    let page = deliveries::list(&app.dynamo, &filter, &range, READ_MAX).await?;
    let rows = page.rows.into_iter().map(Delivery::from);
    Ok(Page::new(list, rows.collect(), page.next))
}

/// The list of what `query` asks for of the deliveries of `of`.
fn list_of(access: &Access, of: &str, id: Option<&str>, query: &ListDeliveries) -> List {
    List::of("listDeliveries", access.project())
        .with(of, id)
        .with("state", query.state.map(DeliveryState::as_str))
        .with("type", query.event_type.as_deref())
        .with("tenant", query.tenant.as_deref())
}

fn filter<'a>(
    app: &App,
    access: &'a Access,
    to: Receivers<'a>,
    query: &'a ListDeliveries,
) -> Result<DeliveryFilter<'a>> {
    Ok(DeliveryFilter {
        to,
        state: query.state,
        event_type: page::type_pattern(query.event_type.as_deref())?,
        tenant: access.narrow(query.tenant.as_deref())?,
        fresh: app::now() - app.schedule.first_delay() - app.queue.lease() - SWEEP_LATE_MAX,
    })
}

async fn list_of_event(
    app: &App,
    access: &Access,
    event: &EventId,
    query: &ListDeliveries,
) -> Result<Page<Delivery>> {
    let alone = [
        ("since", query.since.is_some()),
        ("until", query.until.is_some()),
        ("tenant", query.tenant.is_some()),
        ("type", query.event_type.is_some()),
    ];
    if let Some((field, _)) = alone.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::invalid(
            field,
            "expected nothing beside event_id but state",
        ));
    }
    let stored = store::events::get_of(&app.dynamo, access, event).await?;
    let limit = page::limit(query.limit)?;
    let list = list_of(access, "event", Some(event.as_str()), query);
    let read = |text: String| text.parse::<EndpointId>().ok();
    let after = page::position_by(list, query.cursor.as_deref(), read)?;
    let (rows, next) = of_event(app, access, event, query.state, after.as_ref(), limit).await?;
    let rows = Delivery::all_of(rows, &stored);
    Ok(Page::new(list, rows, next.map(String::from)))
}

/// Deliveries of an event that `access` reaches, to endpoints that it reaches: see
/// [`deliveries::of_event`].
pub(super) async fn of_event(
    app: &App,
    access: &Access,
    event: &EventId,
    state: Option<DeliveryState>,
    after: Option<&EndpointId>,
    limit: usize,
) -> Result<(Vec<StoredDelivery>, Option<EndpointId>)> {
    if access.tenant().is_none() {
        return deliveries::of_event(&app.dynamo, event, state, after, limit).await;
    }
    let project_config = app.projection.project_config(access.project()).await?;
    let own = project_config.targets.ids_within(access);
    deliveries::of_event_to(&app.dynamo, event, &own, state, after, limit).await
}

/// Look at one delivery and its attempts.
///
/// With the headers of each request as it was sent; with `body_format` `data`, those that
/// hold the event too.
#[utoipa::path(get, path = "/v1/deliveries/{id}", tag = "deliveries",
    operation_id = "getDelivery",
    params(("id" = String, Path, description = "dlv_…")),
    responses((status = 200, body = Delivery), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Path(id): Path<DeliveryId>,
) -> Result<Json<Delivery>> {
    let delivery = lookup::delivery(&app, &caller.access, &id).await?;
    let mut headers = EventHeaders::default();
    if attempts::hold_event(&delivery) {
        let event = store::events::get(&app.dynamo, &id.event()).await?;
        headers = event.as_ref().map(EventHeaders::of).unwrap_or_default();
    }
    Ok(Json(Delivery::with(delivery, &headers)))
}

/// Attempt a delivery now, whatever its state.
///
/// It begins a new round of the retry schedule. Its endpoint must be enabled.
#[utoipa::path(post, path = "/v1/deliveries/{id}/retry", tag = "deliveries",
    operation_id = "retryDelivery",
    params(("id" = String, Path, description = "dlv_…")),
    responses((status = 202, body = Delivery), Problems,
        (status = 409, description = "The endpoint is not enabled")),
    security(("api_key" = ["events:write"])))]
pub async fn retry(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    Path(id): Path<DeliveryId>,
) -> Result<(StatusCode, Json<Delivery>)> {
    lookup::delivery(&app, &caller.access, &id).await?;
    lookup::ensure_enabled(&app, &caller.access, &id.endpoint()).await?;
    let due = app.queue.due(app::now(), Duration::ZERO);
    let delivery = deliveries::retry(&app.dynamo, &id, due).await?;
    let delivery = delivery.ok_or_else(|| Error::not_found("delivery", &id))?;
    let job = Job::Deliver {
        delivery: id,
        attempts_made: delivery.progress.attempts_made,
        payload: None,
    };
    app.queue.send(vec![job], Duration::ZERO).await;
    let by = caller.by(app::now());
    record_best_effort(&app, &by, "delivery.retry", delivery.id.as_str(), None).await;
    Ok((StatusCode::ACCEPTED, Json(delivery.into())))
}
