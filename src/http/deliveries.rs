//! Deliveries: what became of each event at each endpoint.

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
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::problem::Problems;
use crate::model::delivery::{Attempt, DeliveryState};
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::model::job::Job;
use crate::model::time::Time;
use crate::store;
use crate::store::deliveries::{self, DeliveryFilter, Receivers, StoredDelivery};
use crate::store::timeline::READ_MAX;

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
        Self {
            event_id: row.id.event(),
            endpoint_id: row.id.endpoint(),
            id: row.id,
            event_type: row.event_type,
            tenant: row.tenant,
            state: row.state,
            attempts_made: row.progress.attempts_made,
            attempts: row.attempts,
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
        (Some(named), None) => of_endpoint(&app, &caller.project, named, &query).await,
        (None, Some(event)) => of_event(&app, &caller.project, event, &query).await,
        (None, None) => of_project(&app, &caller.project, &query).await,
        (Some(_), Some(_)) => Err(Error::invalid(
            "endpoint_id",
            "expected either this or event_id, got both",
        )),
    };
    page.map(Json)
}

async fn of_project(
    app: &App,
    project: &ProjectId,
    query: &ListDeliveries,
) -> Result<Page<Delivery>> {
    let (since, until) = (query.since.map(|at| at.0), query.until.map(|at| at.0));
    let list = list_of(project, "the project", None, query);
    let range = page::range(list, since, until, query.limit, None)?;
    let filter = filter(app, Receivers::AnyOf(&[]), query)?;
    let cursor = page::position_by(list, query.cursor.as_deref(), of_project::Position::read)?;
    let (rows, next) = of_project::list(app, project, filter, range, cursor).await?;
    let rows = rows.into_iter().map(Delivery::from);
    Ok(Page::new(list, rows.collect(), next))
}

async fn of_endpoint(
    app: &App,
    project: &ProjectId,
    named: &EndpointRef,
    query: &ListDeliveries,
) -> Result<Page<Delivery>> {
    let endpoint = &lookup::endpoint(app, project, named).await?;
    let (since, until) = (query.since.map(|at| at.0), query.until.map(|at| at.0));
    let list = list_of(project, "endpoint", Some(endpoint.as_str()), query);
    let range = page::range(list, since, until, query.limit, query.cursor.as_deref())?;
    let filter = filter(app, Receivers::One(endpoint), query)?;
    let page = deliveries::list(&app.dynamo, &filter, &range, READ_MAX).await?;
    let rows = page.rows.into_iter().map(Delivery::from);
    Ok(Page::new(list, rows.collect(), page.next))
}

/// The list of what `query` asks for of the deliveries of `of`.
fn list_of(project: &ProjectId, of: &str, id: Option<&str>, query: &ListDeliveries) -> List {
    List::of("listDeliveries", project)
        .with(of, id)
        .with("state", query.state.map(DeliveryState::as_str))
        .with("type", query.event_type.as_deref())
        .with("tenant", query.tenant.as_deref())
}

fn filter<'a>(
    app: &App,
    to: Receivers<'a>,
    query: &'a ListDeliveries,
) -> Result<DeliveryFilter<'a>> {
    Ok(DeliveryFilter {
        to,
        state: query.state,
        event_type: page::type_pattern(query.event_type.as_deref())?,
        tenant: query.tenant.as_deref(),
        fresh: app::now() - app.schedule.first_delay() - app.queue.lease() - SWEEP_LATE_MAX,
    })
}

async fn of_event(
    app: &App,
    project: &ProjectId,
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
    store::events::get_of(&app.dynamo, project, event).await?;
    let limit = page::limit(query.limit)?;
    let list = list_of(project, "event", Some(event.as_str()), query);
    let read = |text: String| text.parse::<EndpointId>().ok();
    let after = page::position_by(list, query.cursor.as_deref(), read)?;
    let (rows, next) =
        deliveries::of_event(&app.dynamo, event, query.state, after.as_ref(), limit).await?;
    let rows = rows.into_iter().map(Delivery::from);
    Ok(Page::new(list, rows.collect(), next.map(String::from)))
}

/// Look at one delivery and its attempts.
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
    Ok(Json(
        deliveries::get_of(&app.dynamo, &caller.project, &id)
            .await?
            .into(),
    ))
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
    deliveries::get_of(&app.dynamo, &caller.project, &id).await?;
    lookup::ensure_enabled(&app, &caller.project, &id.endpoint()).await?;
    let due = app.queue.due(app::now(), Duration::ZERO);
    let delivery = deliveries::retry(&app.dynamo, &id, due).await?;
    let delivery = delivery.ok_or_else(|| Error::not_found("delivery", &id))?;
    let job = Job::Deliver {
        delivery: id,
        attempts_made: delivery.progress.attempts_made,
        payload: None,
    };
    app.queue.send(vec![job], Duration::ZERO).await;
    Ok((StatusCode::ACCEPTED, Json(delivery.into())))
}
