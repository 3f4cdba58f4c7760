//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a request that is
//! sent again is answered as before instead of being done again.
//!
//! Costs nothing without the header: with it one write before the request is handled and
//! one after. What was made is answered again for a day, whatever became of it since; a
//! refusal made nothing, is not kept and frees the key. Where an answer got lost on the
//! way, the same request finds what it made: everything random about it, ids and
//! secrets, comes from its [`Occasion`], which is kept with the key.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use ring::digest::{Context, SHA256};
use ring::hmac;

use super::auth::{Admin, Allowed, EndpointsWrite, EventsWrite, MetersWrite};
use super::body;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::event;
use crate::model::id::base32;
use crate::store::idempotency::{Fresh, KeptAnswer, KeyedRequest, Reservation, Reserved, reserve};
use crate::store::retry_quota;
use crate::telemetry::scope::WorkContext;

/// The header of a request.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Characters of a key.
const KEY_LEN_MAX: usize = 255;
/// Who has a key in common that is used with the admin key.
const ADMIN_SCOPE: &str = "admin";
/// How long after the longest time that a request may take its key is free.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// Whose request a route takes, and so among whose keys its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The admin's.
    Admin,
    /// Of a project's key with `events:write`.
    Events,
    /// Of a project's key with `endpoints:write`.
    Endpoints,
    /// Of a project's key with `meters:write`.
    Meters,
}

/// Every POST, by its path: each makes, begins or ends something.
pub const ROUTES: [(&str, Caller); 16] = [
    ("/v1/events", Caller::Events),
    ("/v1/events/batch", Caller::Events),
    ("/v1/events/{id}/replay", Caller::Events),
    ("/v1/deliveries/retry", Caller::Events),
    ("/v1/deliveries/{id}/retry", Caller::Events),
    ("/v1/endpoints/{id}/recover", Caller::Events),
    ("/v1/endpoints/{id}/replay-missing", Caller::Events),
    ("/v1/recoveries/{id}/cancel", Caller::Events),
    ("/v1/endpoints", Caller::Endpoints),
    ("/v1/endpoints/{id}/rotate-secret", Caller::Endpoints),
    ("/v1/endpoints/{id}/test", Caller::Endpoints),
    ("/v1/event-types", Caller::Endpoints),
    ("/v1/meters", Caller::Meters),
    ("/v1/meters/{id}/backfill", Caller::Meters),
    ("/v1/projects", Caller::Admin),
    ("/v1/projects/{id}/keys", Caller::Admin),
];

/// Those of them that take no body, and whatever comes for one.
const BODILESS: [&str; 3] = [
    "/v1/deliveries/{id}/retry",
    "/v1/endpoints/{id}/test",
    "/v1/recoveries/{id}/cancel",
];

/// What everything about a request comes from that is made up for it: the same each
/// time it is sent with the same idempotency key, and never the same otherwise.
#[derive(Clone)]
pub struct Occasion {
    /// The time of the request, or of the first with its key.
    pub at: Timestamp,
    seed: [u8; 32],
    is_repeated: bool,
}

impl std::fmt::Debug for Occasion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Occasion")
            .field("at", &self.at)
            .field("is_repeated", &self.is_repeated)
            .finish_non_exhaustive()
    }
}

impl Occasion {
    /// One like no other.
    pub fn new(app: &App) -> Self {
        Self {
            at: app::now(),
            seed: app.random(),
            is_repeated: false,
        }
    }

    /// Whether the same request was begun before and nobody knows how far it came: what
    /// it makes may be there.
    pub fn is_repeated(&self) -> bool {
        self.is_repeated
    }

    /// Up to 32 bytes for `what`, as good as random.
    pub fn derive<const N: usize>(&self, what: &str) -> [u8; N] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        let tag = hmac::sign(&key, what.as_bytes());
        let bytes = tag.as_ref().get(..N).expect("no more than 32 bytes");
        bytes.try_into().expect("so many were taken")
    }
}

impl FromRequestParts<Arc<App>> for Occasion {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let given = parts.extensions.remove::<Self>();
        Ok(given.unwrap_or_else(|| Self::new(app)))
    }
}

/// Marks an answer that is not the last word: a part of what was asked for failed for
/// reasons that may pass, so the same request is to be tried, not answered again.
#[derive(Debug, Clone, Copy)]
pub struct Unfinished;

/// Handles a request, once for its idempotency key if it has one.
pub(super) async fn handle(app: &Arc<App>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(IDEMPOTENCY_KEY) {
        return next.run(request).await;
    }
    let Some(caller) = caller_of(&request) else {
        return next.run(request).await;
    };
    // On the heap: requests without a key do not carry it along.
    let handled = Box::pin(handle_keyed(app, caller, request, next)).await;
    handled.unwrap_or_else(IntoResponse::into_response)
}

fn caller_of(request: &Request) -> Option<Caller> {
    let path = without_slash(request.extensions().get::<MatchedPath>()?.as_str());
    let route = ROUTES.iter().find(|(route, _)| *route == path);
    route
        .filter(|_| request.method() == Method::POST)
        .map(|(_, caller)| *caller)
}

/// A path as the API documents it: a slash at its end changes nothing.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

async fn handle_keyed(
    app: &Arc<App>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    // First, so that nobody is given an answer who may not ask.
    let scope = scope(app, caller, &mut parts).await?;
    let key = key(&parts.headers)?.to_owned();
    check_media_type(&parts, &body)?;
    let body = body::read(&parts.headers, body, app.config.http.body_bytes_max).await?;
    body::describe_decoded(&mut parts.headers);
    let request = KeyedRequest {
        scope: &scope,
        key: &key,
        fingerprint: fingerprint(&parts, &body),
    };
    let fresh = Fresh {
        owner: base32(&app.random::<16>()),
        seed: app.random(),
        nonce: app.random(),
    };
    let key_ring = app.key_ring.get().await?;
    let now = app::now();
    let lease = SignedDuration::try_from(app.config.http.request_timeout + LEASE_MARGIN);
    let lease_ends = now + lease.map_err(Error::internal)?;
    match reserve(&app.dynamo, &key_ring, &request, &fresh, now, lease_ends).await? {
        Reserved::Before(answer) => Ok(again(answer)),
        Reserved::UnderWay => Err(Error::IdempotencyKeyInUse),
        Reserved::ForAnother => Err(Error::IdempotencyKeyReused),
        Reserved::Now(reservation) => {
            parts.extensions.insert(Occasion {
                at: reservation.at,
                seed: reservation.seed,
                is_repeated: reservation.is_repeated,
            });
            let request = Request::from_parts(parts, Body::from(body));
            let work = answer_once(app.clone(), reservation, request, next);
            to_the_end(app, work).await
        }
    }
}

/// Runs `work` even if whoever asked for it hangs up meanwhile: who sends the request
/// again is answered then, and needs not wait until its key is free.
async fn to_the_end(
    app: &App,
    work: impl Future<Output = Response> + Send + 'static,
) -> Result<Response> {
    let work = WorkContext::current().run(retry_quota::with_payer(Box::pin(work)));
    let bounded = tokio::time::timeout(app.config.http.request_timeout, work);
    match tokio::spawn(bounded).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(Error::Unavailable {
            what: "an answer in time",
            source: anyhow::anyhow!("http.request_timeout_s ran out"),
        }),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(ended) => Err(Error::internal(ended)),
        },
    }
}

/// Among whose keys the key of a request is, once it is known to be allowed.
async fn scope(app: &Arc<App>, caller: Caller, parts: &mut Parts) -> Result<String> {
    let access = match caller {
        Caller::Admin => {
            Admin::from_request_parts(parts, app).await?;
            return Ok(ADMIN_SCOPE.to_owned());
        }
        Caller::Events => {
            let allowed = Allowed::<EventsWrite>::from_request_parts(parts, app).await?;
            allowed.access
        }
        Caller::Endpoints => {
            let allowed = Allowed::<EndpointsWrite>::from_request_parts(parts, app).await?;
            allowed.access
        }
        Caller::Meters => {
            let allowed = Allowed::<MetersWrite>::from_request_parts(parts, app).await?;
            allowed.access
        }
    };
    Ok(scope_of(&access))
}

/// The scope of whoever has `access`: answers are given again within it alone.
fn scope_of(access: &Access) -> String {
    match access.tenant() {
        None => access.project().to_string(),
        // Its hash, for a tenant may be written with anything.
        Some(tenant) => {
            let hash = ring::digest::digest(&SHA256, tenant.as_bytes());
            format!("{}/{}", access.project(), base32(hash.as_ref()))
        }
    }
}

/// That the body is in a form that is spoken here: known before it is read, so that who
/// asked first need not send it.
fn check_media_type(parts: &Parts, body: &Body) -> Result<()> {
    let path = parts.extensions.get::<MatchedPath>();
    match without_slash(path.map_or(parts.uri.path(), MatchedPath::as_str)) {
        "/v1/events" => event::mode(&parts.headers).map(drop),
        "/v1/events/batch" => event::batch_item_mode(&parts.headers).map(drop),
        path if BODILESS.contains(&path) => Ok(()),
        _ if body::is_announced(body) && parts.headers.contains_key(CONTENT_TYPE) => {
            event::check_json(&parts.headers)
        }
        _ => Ok(()),
    }
}

fn key(headers: &HeaderMap) -> Result<&str> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = given.next().and_then(|value| value.to_str().ok());
    let is_key = |key: &&str| {
        let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        printable && (1..=KEY_LEN_MAX).contains(&key.len())
    };
    key.filter(is_key)
        .filter(|_| given.next().is_none())
        .ok_or_else(|| {
            let detail =
                format!("expected once, with 1 to {KEY_LEN_MAX} printable ASCII characters");
            Error::invalid("Idempotency-Key", detail)
        })
}

/// SHA-256 of what decides the effect of a request: its route, its body, as what that
/// is read, and the attributes of an event in binary mode.
fn fingerprint(parts: &Parts, body: &Bytes) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(without_slash(parts.uri.path()).as_bytes());
    add(parts.uri.query().unwrap_or_default().as_bytes());
    let mut described: Vec<_> = parts
        .headers
        .iter()
        .filter(|(name, _)| **name == CONTENT_TYPE || name.as_str().starts_with("ce-"))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    described.sort_unstable();
    for (name, value) in described {
        add(name.as_bytes());
        add(value);
    }
    add(b"");
    add(body);
    let digest = hash.finish();
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Handles the request and keeps what it was answered, if it was done.
async fn answer_once(
    app: Arc<App>,
    reservation: Reservation,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_unfinished = response.extensions().get::<Unfinished>().is_some();
    if status.is_success() && !is_unfinished {
        return keep(&app, &reservation, response).await;
    }
    // What an earlier try made may come to light later, so its key stays with it.
    let may_be_done = is_unfinished || status.is_server_error() || reservation.is_repeated;
    let settled = if may_be_done {
        reservation.suspend(&app.dynamo).await
    } else {
        reservation.release(&app.dynamo).await
    };
    if let Err(error) = settled {
        log_unsettled(&error);
    }
    response
}

async fn keep(app: &App, reservation: &Reservation, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return Error::internal(error).into_response(),
    };
    let media_type = parts.headers.get(CONTENT_TYPE);
    let answer = KeptAnswer {
        status: parts.status.as_u16(),
        media_type: media_type.and_then(|value| Some(value.to_str().ok()?.to_owned())),
        body: body.to_vec(),
    };
    let kept = async {
        let key_ring = app.key_ring.get().await?;
        let nonce = app.random();
        reservation
            .keep(&app.dynamo, &key_ring, nonce, &answer)
            .await
    };
    // It is done and answered all the same: sent again, it finds what it made.
    if let Err(error) = kept.await {
        log_unsettled(&error);
    }
    Response::from_parts(parts, Body::from(body))
}

fn log_unsettled(error: &Error) {
    let cause = error.causes();
    tracing::warn!(%error, cause, "answer not kept under its idempotency key");
}

/// The answer that was given before.
fn again(answer: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    let media_type = answer.media_type.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(media_type)) = media_type {
        headers.insert(CONTENT_TYPE, media_type);
    }
    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}
