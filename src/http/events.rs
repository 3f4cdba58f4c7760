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
use super::body;
use super::deliveries::{Delivery, of_event};
use super::extract::{Json, Path, Query};
use super::idempotency::{Occasion, Unfinished};
use super::lookup;
use super::page::{self, List, Page};
use super::problem::{Problem, Problems};
use super::rate_limit;
use super::record::record_best_effort;
use crate::accept;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::event::{self, Event, Mode, PlainDefaults};
use crate::model::id::{EventId, base32};
use crate::model::job::Job;
use crate::model::time::Time;
use crate::publish::Acceptance;
use crate::store::events;
use crate::store::events::{EventFilter, EventRow, PendingFanOut};

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
    /// How many endpoints it is for, of those the key reaches and by the filters in
    /// force; 0 if none of them receives it. Absent of a duplicate, and when it is not
    /// known yet: while the project's configuration cannot be read, endpoints are found
    /// later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub matched: Option<usize>,
}

impl From<Acceptance> for AcceptedEvent {
    fn from(acceptance: Acceptance) -> Self {
        Self {
            id: acceptance.id,
            duplicate: acceptance.is_duplicate,
            matched: acceptance.matched,
        }
    }
}

/// What became of each event of a batch, in the batch's order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EventBatchResult)]
pub struct BatchResult {
    /// One for each event.
    pub data: Vec<BatchItem>,
    /// How many of them were refused; 0 if all were accepted.
    pub rejected: usize,
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

impl PublishResponse {
    /// Whether an event was not accepted for a reason that may pass.
    fn is_unfinished(&self) -> bool {
        let passes =
            |item: &BatchItem| matches!(item, BatchItem::Refused { error } if error.status >= 500);
        matches!(self, Self::Batch(batch) if batch.data.iter().any(passes))
    }
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
    /// When it happened, in RFC 3339. Kept and sent as it is written.
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
    /// The payload in base64, in place of `data`; needs `specversion`. JSON under a JSON
    /// `datacontenttype`, or without one, is the same as in `data`.
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
/// (`application/cloudevents-batch+json`), which like a JSON array is answered as
/// `POST /v1/events/batch` is. Up to 256 KiB, 64 KiB of them in attributes, none of which
/// has a length of its own. 202 means it is durable. `matched` is how
/// many endpoints it is for, where that is known.
///
/// `source` and `id` are the event's identity: with the same two again the answer is
/// the same with `duplicate: true`, in whatever mode it comes, and what was kept first
/// stays. Its `time`, `traceparent` and `tracestate` may be others then, as SDKs make
/// them anew each time; with anything else that differs it is refused with 409, which
/// names it. Numbers count by their exact value, however they are written. In binary
/// mode without a `Content-Type` a body that is JSON is JSON. `data` that the event
/// type's schema does not allow is refused with the path in it that is wrong
/// (`data/items/0/price`).
///
/// A key that is for one tenant publishes events with that `tenant` alone, and `source`
/// and `id` identify them among those of that tenant's keys.
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
    occasion: Occasion,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let mode = event::mode(&parts.headers)?;
    let body = body::read(&parts.headers, body, app.config.http.body_bytes_max).await?;
    let published = match mode {
        Mode::Batch => Published::Batch(Mode::Structured, event::split_batch(&body)?),
        Mode::Plain if event::is_array(&body) => {
            Published::Batch(Mode::Plain, event::split_batch(&body)?)
        }
        mode => Published::One(mode),
    };
    publish_within_rate(&app, &caller, &occasion, published, &parts.headers, &body).await
}

/// Publish a batch of up to 100 events.
///
/// Each as `POST /v1/events` takes it, or, as `application/cloudevents-batch+json`,
/// each a whole CloudEvent. Up to 1 MiB. Each event is accepted or refused by itself,
/// and the answer says of each what became of it: `rejected` counts those refused. If
/// all are, the answer is 400, with `errors` by `index`; an empty batch is accepted and
/// does nothing. To send the batch again is safe where its events have an `id`.
#[utoipa::path(post, path = "/v1/events/batch", tag = "events",
    operation_id = "publishEventBatch",
    request_body = Vec<EventBody>,
    responses((status = 202, body = BatchResult), Problems,
        (status = 429, description = "The key has used up its rate; `Retry-After` says when to come back")),
    security(("api_key" = ["events:write"])))]
pub async fn publish_batch(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let mode = event::batch_item_mode(&parts.headers)?;
    let body = body::read(&parts.headers, body, app.config.http.body_bytes_max).await?;
    let published = Published::Batch(mode, event::split_batch(&body)?);
    publish_within_rate(&app, &caller, &occasion, published, &parts.headers, &body).await
}

async fn publish_within_rate(
    app: &App,
    caller: &Allowed<EventsWrite>,
    occasion: &Occasion,
    published: Published<'_>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response> {
    let now = app::now();
    let status = rate_limit::admit(app, caller, now, published.len()).await;
    let answer = match rate_limit::check(status.as_ref()) {
        Ok(()) => answer(app, &caller.access, occasion, published, headers, body, now).await,
        Err(refused) => Err(refused),
    };
    let is_unfinished = matches!(&answer, Ok((_, Json(answer))) if answer.is_unfinished());
    let mut response = rate_limit::with_headers(status.as_ref(), answer);
    if is_unfinished {
        response.extensions_mut().insert(Unfinished);
    }
    Ok(response)
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
    access: &Access,
    occasion: &Occasion,
    published: Published<'_>,
    headers: &HeaderMap,
    body: &Bytes,
    now: Timestamp,
) -> Result<(StatusCode, Json<PublishResponse>)> {
    let answer = match published {
        Published::Batch(mode, events) => {
            PublishResponse::Batch(batch(app, access, occasion, mode, events, now).await?)
        }
        Published::One(mode) => {
            let event = parse_one(occasion, "event", mode, headers, body)?;
            PublishResponse::One(accept::accept(app, access, &event, now).await?.into())
        }
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Reads one event; `name` tells it from others of the request.
fn parse_one(
    occasion: &Occasion,
    name: &str,
    mode: Mode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Event> {
    match mode {
        Mode::Binary => event::parse_binary(headers, body),
        Mode::Plain => {
            let id = base32(&occasion.derive::<16>(name));
            event::parse_plain(
                body,
                PlainDefaults {
                    id: &id,
                    source: PLAIN_SOURCE,
                    time: occasion.at,
                },
            )
        }
        Mode::Structured | Mode::Batch => event::parse_structured(body),
    }
}

async fn batch(
    app: &App,
    access: &Access,
    occasion: &Occasion,
    mode: Mode,
    events: Vec<&RawValue>,
    now: Timestamp,
) -> Result<BatchResult> {
    let no_headers = HeaderMap::new();
    let accept_one = async |(index, json): (usize, &RawValue)| {
        let (name, json) = (format!("event {index}"), json.get().as_bytes());
        let event = parse_one(occasion, &name, mode, &no_headers, json)?;
        accept::accept(app, access, &event, now).await
    };
    let results: Vec<_> = stream::iter(events.into_iter().enumerate())
        .map(accept_one)
        .buffered(BATCH_CONCURRENCY)
        .collect()
        .await;
    let rejected = results.iter().filter(|result| result.is_err()).count();
    if rejected > 0 && rejected == results.len() {
        return Err(refuse_all(results));
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
        rejected,
    })
}

/// The refusal of a batch of which nothing was accepted.
fn refuse_all(results: Vec<Result<Acceptance>>) -> Error {
    let mut errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    // With nothing kept the whole batch can be sent again, as an outage says.
    match errors.iter().position(|error| error.status() >= 500) {
        Some(ours) => errors.swap_remove(ours),
        None => Error::InvalidBatch(errors),
    }
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
    /// The CloudEvents `time`, as it was written.
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
    /// Only events of this type: exact, `prefix.*`, or `*` for all that publishers send.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events of this tenant.
    tenant: Option<String>,
    /// Only events about exactly this subject.
    subject: Option<String>,
    /// Only what came at or after this time.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// Only what came before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List events, the newest first.
///
/// Each of `subject`, `tenant` and an exact `type` has an index. With several, the
/// first of them is read and the others are tried on its rows, and a prefix of types
/// on all rows, at most 2,000 a page: a page may be short, even empty, and not the
/// last.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(ListEvents),
    operation_id = "listEvents",
    responses((status = 200, body = Page<EventSummary>), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<ListEvents>,
) -> Result<Json<Page<EventSummary>>> {
    let list = List::of("listEvents", caller.access.project())
        .with("type", query.event_type.as_deref())
        .with("tenant", query.tenant.as_deref())
        .with("subject", query.subject.as_deref());
    let range = page::range(
        list,
        query.since.map(|since| since.0),
        query.until.map(|until| until.0),
        query.limit,
        query.cursor.as_deref(),
    )?;
    let filter = EventFilter {
        event_type: page::type_pattern(query.event_type.as_deref())?,
        tenant: query.tenant,
        subject: query.subject,
    };
    let (rows, next) = events::list(&app.dynamo, &caller.access, &filter, &range).await?;
    Ok(Json(Page::new(
        list,
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
    let (event, (rows, _)) = tokio::try_join!(
        events::get_of(&app.dynamo, &caller.access, &id),
        of_event(
            &app,
            &caller.access,
            &id,
            None,
            None,
            EMBEDDED_DELIVERIES_MAX
        ),
    )?;
    let deliveries = Delivery::all_of(rows, &event);
    let body = String::from_utf8(event.body.into()).map_err(Error::internal)?;
    Ok(Json(EventDetail {
        id: event.id,
        received_at: event.received.into(),
        expires_at: event.expires.into(),
        event: RawValue::from_string(body).map_err(Error::internal)?,
        deliveries,
    }))
}

/// Which endpoints an event is sent to again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EventReplay)]
pub struct ReplayRequest {
    /// This endpoint only, by its id or its uid, whatever its filter; absent, all that
    /// match now, of those the key reaches.
    #[schema(value_type = Option<String>)]
    endpoint_id: Option<EndpointRef>,
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
        (status = 409, description = "It is still being sent for the last time asked, or the endpoint is not enabled")),
    security(("api_key" = ["events:write"])))]
pub async fn replay(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsWrite>,
    occasion: Occasion,
    Path(id): Path<EventId>,
    Json(replay): Json<ReplayRequest>,
) -> Result<(StatusCode, Json<ReplayResponse>)> {
    events::get_of(&app.dynamo, &caller.access, &id).await?;
    let only = match &replay.endpoint_id {
        Some(named) => Some(lookup::enabled_endpoint(&app, &caller.access, named).await?),
        None => None,
    };
    let now = app::now();
    let replayed_to = only.clone();
    let pending_fan_out = match (&only, caller.access.tenant()) {
        (None, Some(_)) => PendingFanOut::ReplayToTenant { at: now },
        _ => PendingFanOut::Replay { at: now, only },
    };
    let due = app.queue.due(now, std::time::Duration::ZERO);
    let is_new = events::request_replay(&app.dynamo, &id, &pending_fan_out, now, due).await?;
    // One that is under way may be that of the same request, whose answer was lost.
    if !is_new && !occasion.is_repeated() {
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
    let by = caller.by(now);
    let after = serde_json::json!({ "endpoint_id": replayed_to });
    record_best_effort(&app, &by, "event.replay", id.as_str(), Some(after)).await;
    Ok((StatusCode::ACCEPTED, Json(ReplayResponse { id })))
}
