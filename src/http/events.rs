//! Events: published, listed, looked at and replayed.

mod document;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use document::CloudEvent;

use super::auth::{Allowed, EventsRead, EventsWrite};
use super::deliveries::Delivery;
use super::extract::{self, Json, Path, Query};
use super::lookup;
use super::page::{self, Page};
use super::problem::{Problem, Problems};
use super::rate_limit;
use crate::accept;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::event::{self, Event, Mode, PlainDefaults};
use crate::model::id::{EndpointId, EventId, ProjectId, base32};
use crate::model::job::Job;
use crate::model::time::Time;
use crate::publish::Acceptance;
use crate::store::events::{EventFilter, EventRow, PendingFanOut};
use crate::store::{deliveries, events};

/// Events of a batch accepted at a time.
const BATCH_CONCURRENCY: usize = 16;
/// Deliveries shown with their event; the rest are in the list of deliveries.
const EMBEDDED_DELIVERIES_MAX: usize = 100;
/// The `source` of an event in the plain form that names none.
const PLAIN_SOURCE: &str = "/";

/// One event, accepted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AcceptedEvent {
    /// The event's id, the same however often it is published; also the
    /// `webhook-id` of its deliveries.
    pub id: EventId,
    /// It was published before, with the same content; nothing was changed.
    pub duplicate: bool,
}

impl From<Acceptance> for AcceptedEvent {
    fn from(acceptance: Acceptance) -> Self {
        Self {
            id: acceptance.id,
            duplicate: acceptance.is_duplicate,
        }
    }
}

/// What became of each event of a batch, in the batch's order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EventBatchResult)]
pub struct BatchResult {
    /// One for each event.
    pub data: Vec<BatchItem>,
}

/// What became of one event of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EventBatchItem)]
#[serde(untagged)]
pub enum BatchItem {
    /// It was accepted.
    Accepted(AcceptedEvent),
    /// It was not; the others are not affected.
    #[schema(title = "RefusedEvent")]
    Refused {
        /// Why.
        error: Problem,
    },
}

/// One event or a batch.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum PublishResponse {
    /// To one event.
    One(AcceptedEvent),
    /// To a batch.
    Batch(BatchResult),
}

/// An event in JSON: a CloudEvent, or the plain form, which needs a `type` only.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = EventPublish)]
#[schema(examples(json!({ "type": "invoice.paid", "data": { "invoice": "in_42", "amount": 1200 } })))]
#[expect(
    dead_code,
    reason = "describes the body for the OpenAPI document; model::event reads it"
)]
pub struct EventBody {
    /// `1.0`; makes it a CloudEvent, which needs `id` and `source` too.
    #[schema(nullable = false)]
    specversion: Option<String>,
    /// What kind of thing happened: `invoice.paid`.
    #[serde(rename = "type")]
    event_type: String,
    /// With `source`, the event's identity: publish with the same to retry safely.
    id: Option<String>,
    /// Where it happened, a URI reference.
    #[schema(format = "uri-reference")]
    source: Option<String>,
    /// What it happened to.
    subject: Option<String>,
    /// The customer it is for.
    tenant: Option<String>,
    /// When it happened.
    #[schema(value_type = Option<String>, format = DateTime)]
    time: Option<String>,
    /// The media type of `data`.
    datacontenttype: Option<String>,
    /// The schema of `data`, an absolute URI.
    #[schema(format = "uri")]
    dataschema: Option<String>,
    /// The payload: any JSON.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64, in place of `data`; needs `specversion`.
    #[schema(nullable = false, format = Byte)]
    data_base64: Option<String>,
    /// Extension attributes; they need `specversion`.
    #[serde(flatten)]
    extensions: BTreeMap<String, serde_json::Value>,
}

/// Publish an event.
///
/// As `application/json` in the plain form `{"type", "data", …}`, or as a whole
/// CloudEvent. Also CloudEvents 1.0 over HTTP in every mode: structured
/// (`application/cloudevents+json`), binary (`ce-…` headers) and batch
/// (`application/cloudevents-batch+json`, answered as `POST /v1/events/batch` is).
/// Up to 256 KiB. 202 means it is durable. The same `source` and `id` again with
/// the same content answer the same with `duplicate: true`; with other content,
/// 409. `data` that the event type's schema does not allow is refused with the
/// path in it that is wrong (`data/items/0/price`).
///
/// A key with a rate limit is told where it stands in `RateLimit-Policy` and
/// `RateLimit`; a batch counts as its events and is refused whole, with 429, before
/// anything of it is kept. Each instance of Millrace counts for itself.
#[utoipa::path(post, path = "/v1/events", tag = "events",
    operation_id = "publishEvent",
    request_body = EventBody,
    responses((status = 202, body = AcceptedEvent), Problems,
        (status = 409, description = "Another event was published with the same `source` and `id`"),
        (status = 429, description = "The key has used up its rate; `Retry-After` says when to come back")),
    security(("api_key" = ["events:write"])))]
pub async fn publish(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let mode = event::mode(&parts.headers)?;
    let body = extract::read_body(body, app.config.http.body_bytes_max).await?;
    let published = match mode {
        Mode::Batch => Published::Batch(Mode::Structured, event::split_batch(&body)?),
        mode => Published::One(mode),
    };
    publish_within_rate(&app, &caller, published, &parts.headers, &body).await
}

/// Publish a batch of up to 100 events.
///
/// Each as `POST /v1/events` takes it, or, as `application/cloudevents-batch+json`,
/// each a whole CloudEvent. Up to 1 MiB. The answer says of each event what became
/// of it: one that is refused does not affect the others. To send the batch again is
/// safe where its events have an `id`.
#[utoipa::path(post, path = "/v1/events/batch", tag = "events",
    operation_id = "publishEventBatch",
    request_body = Vec<EventBody>,
    responses((status = 202, body = BatchResult), Problems,
        (status = 429, description = "The key has used up its rate; `Retry-After` says when to come back")),
    security(("api_key" = ["events:write"])))]
pub async fn publish_batch(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let mode = match event::mode(&parts.headers)? {
        Mode::Batch => Mode::Structured,
        Mode::Plain => Mode::Plain,
        Mode::Structured | Mode::Binary => {
            let detail = "expected Content-Type application/json or \
                application/cloudevents-batch+json";
            return Err(Error::UnsupportedMediaType(detail.into()));
        }
    };
    let body = extract::read_body(body, app.config.http.body_bytes_max).await?;
    let published = Published::Batch(mode, event::split_batch(&body)?);
    publish_within_rate(&app, &caller, published, &parts.headers, &body).await
}

async fn publish_within_rate(
    app: &App,
    caller: &Allowed<EventsWrite>,
    published: Published<'_>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response> {
    let now = app::now();
    let status = rate_limit::admit(app, caller, now, published.len()).await;
    let answer = match rate_limit::check(status.as_ref()) {
        Ok(()) => answer(app, &caller.project, published, headers, body, now).await,
        Err(refused) => Err(refused),
    };
    Ok(rate_limit::with_headers(status.as_ref(), answer))
}

/// What a request holds, not yet looked into.
enum Published<'a> {
    One(Mode),
    /// Events that are in that mode, each.
    Batch(Mode, Vec<&'a RawValue>),
}

impl Published<'_> {
    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Batch(_, events) => events.len(),
        }
    }
}

async fn answer(
    app: &App,
    project: &ProjectId,
    published: Published<'_>,
    headers: &HeaderMap,
    body: &Bytes,
    now: Timestamp,
) -> Result<(StatusCode, Json<PublishResponse>)> {
    let answer = match published {
        Published::Batch(mode, events) => {
            PublishResponse::Batch(batch(app, project, mode, events, now).await?)
        }
        Published::One(mode) => {
            let event = parse_one(app, mode, headers, body, now)?;
            PublishResponse::One(accept::accept(app, project, &event, now).await?.into())
        }
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn parse_one(
    app: &App,
    mode: Mode,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Event> {
    match mode {
        Mode::Binary => event::parse_binary(headers, body),
        Mode::Plain => {
            let id = base32(&app.random::<16>());
            event::parse_plain(
                body,
                PlainDefaults {
                    id: &id,
                    source: PLAIN_SOURCE,
                    time: now,
                },
            )
        }
        Mode::Structured | Mode::Batch => event::parse_structured(body),
    }
}

async fn batch(
    app: &App,
    project: &ProjectId,
    mode: Mode,
    events: Vec<&RawValue>,
    now: Timestamp,
) -> Result<BatchResult> {
    let no_headers = HeaderMap::new();
    let accept_one = async |json: &RawValue| {
        let event = parse_one(app, mode, &no_headers, json.get().as_bytes(), now)?;
        accept::accept(app, project, &event, now).await
    };
    let mut results: Vec<_> = stream::iter(events)
        .map(accept_one)
        .buffered(BATCH_CONCURRENCY)
        .collect()
        .await;
    let outage = |result: &Result<Acceptance>| result.as_ref().is_err_and(Error::is_outage);
    // With nothing kept the whole batch can be sent again, as one refusal says.
    if !results.is_empty() && results.iter().all(outage) {
        return Err(results.swap_remove(0).expect_err("all are outages"));
    }
    let item = |result: Result<Acceptance>| match result {
        Ok(acceptance) => BatchItem::Accepted(acceptance.into()),
        Err(error) => {
            log_refused(&error);
            BatchItem::Refused {
                error: Problem::of(&error),
            }
        }
    };
    Ok(BatchResult {
        data: results.into_iter().map(item).collect(),
    })
}

fn log_refused(error: &Error) {
    // A batch answers 202, so the middleware does not see what failed on our side.
    if let Some(cause) = error.causes() {
        tracing::error!(%error, cause, "batch event not accepted");
    }
}

/// An event in a list: its attributes, without its data.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventSummary {
    /// Its id.
    pub id: EventId,
    /// The CloudEvents `id`.
    pub event_id: String,
    /// The CloudEvents `type`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The CloudEvents `source`.
    pub source: String,
    /// The CloudEvents `subject`.
    #[schema(required)]
    pub subject: Option<String>,
    /// The customer it is for.
    #[schema(required)]
    pub tenant: Option<String>,
    /// The CloudEvents `time`.
    #[schema(required, format = DateTime)]
    pub time: Option<String>,
    /// When it was accepted.
    pub received_at: Time,
}

impl From<EventRow> for EventSummary {
    fn from(row: EventRow) -> Self {
        Self {
            id: row.id,
            event_id: row.ce_id,
            event_type: row.event_type,
            source: row.source,
            subject: row.subject,
            tenant: row.tenant,
            time: row.time,
            received_at: row.received.into(),
        }
    }
}

/// What a list of events is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEvents {
    /// Only events of exactly this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events of this tenant.
    tenant: Option<String>,
    /// Only events about exactly this subject.
    subject: Option<String>,
    /// Only what came at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only what came before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List events, the newest first.
///
/// Each of `subject`, `tenant` and `type` has an index. With several, the first of
/// them is read and the others are tried on its rows, at most 2,000 a page: a page
/// may be short, even empty, and not the last.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(ListEvents),
    operation_id = "listEvents",
    responses((status = 200, body = Page<EventSummary>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<ListEvents>,
) -> Result<Json<Page<EventSummary>>> {
    let range = page::range(
        query.since,
        query.until,
        query.limit,
        query.cursor.as_deref(),
    )?;
    let filter = EventFilter {
        event_type: query.event_type,
        tenant: query.tenant,
        subject: query.subject,
    };
    let (rows, next) = events::list(&app.dynamo, &caller.project, &filter, &range).await?;
    Ok(Json(Page::new(
        rows.into_iter().map(EventSummary::from).collect(),
        next,
    )))
}

/// An event with its deliveries.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventDetail {
    /// Its id.
    pub id: EventId,
    /// When it was accepted.
    pub received_at: Time,
    /// When it may be forgotten.
    pub expires_at: Time,
    /// The CloudEvent, as it is sent to endpoints.
    #[schema(value_type = CloudEvent)]
    pub event: Box<RawValue>,
    /// Its deliveries, up to 100; `GET /v1/deliveries?event_id=` lists them all.
    pub deliveries: Vec<Delivery>,
}

/// Look at one event and its deliveries.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "events",
    operation_id = "getEvent",
    params(("id" = String, Path, description = "evt_…")),
    responses((status = 200, body = EventDetail), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Path(id): Path<EventId>,
) -> Result<Json<EventDetail>> {
    let (event, rows) = tokio::try_join!(
        events::get_of(&app.dynamo, &caller.project, &id),
        deliveries::of_event(&app.dynamo, &id, None, EMBEDDED_DELIVERIES_MAX),
    )?;
    let body = String::from_utf8(event.body.into()).map_err(Error::internal)?;
    Ok(Json(EventDetail {
        id: event.id,
        received_at: event.received.into(),
        expires_at: event.expires.into(),
        event: RawValue::from_string(body).map_err(Error::internal)?,
        deliveries: rows.into_iter().map(Delivery::from).collect(),
    }))
}

/// Which endpoints an event is sent to again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EventReplay)]
pub struct ReplayRequest {
    /// This endpoint only, whatever its filter; absent, all that match now.
    endpoint_id: Option<EndpointId>,
}

/// A replay, asked for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EventReplayed)]
pub struct ReplayResponse {
    /// The event.
    pub id: EventId,
}

/// Send an event again.
///
/// Deliveries that have ended begin a new round of attempts with the same
/// `webhook-id`; those still pending go on as they are.
#[utoipa::path(post, path = "/v1/events/{id}/replay", tag = "events",
    operation_id = "replayEvent",
    params(("id" = String, Path, description = "evt_…")),
    request_body = ReplayRequest,
    responses((status = 202, body = ReplayResponse), Problems,
        (status = 409, description = "It is still being sent for the last time asked")),
    security(("api_key" = ["events:write"])))]
pub async fn replay(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    Path(id): Path<EventId>,
    Json(replay): Json<ReplayRequest>,
) -> Result<(StatusCode, Json<ReplayResponse>)> {
    events::get_of(&app.dynamo, &caller.project, &id).await?;
    if let Some(endpoint) = &replay.endpoint_id {
        lookup::ensure_endpoint(&app, &caller.project, endpoint).await?;
    }
    let now = app::now();
    let pending_fan_out = PendingFanOut::Replay {
        at: now,
        only: replay.endpoint_id,
    };
    let due = app.queue.due(now, std::time::Duration::ZERO);
    if !events::request_replay(&app.dynamo, &id, &pending_fan_out, due).await? {
        return Err(Error::Conflict(
            "the event is still being sent for the last time asked".into(),
        ));
    }
    app.queue
        .send(
            vec![Job::FanOut { event: id.clone() }],
            std::time::Duration::ZERO,
        )
        .await;
    Ok((StatusCode::ACCEPTED, Json(ReplayResponse { id })))
}
