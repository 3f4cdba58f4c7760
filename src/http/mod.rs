//! The HTTP API: every route, and the middleware around them all.
//!
//! The middleware gives each request an id, a time limit and one log line, turns
//! errors into problems and survives a panic. Handlers are per noun, hold no SQL
//! and no store calls of their own making, and end in one of
//! [`error::Error`](crate::error::Error)'s variants.

mod accept;
pub mod activity;
pub mod audit_log;
pub mod auth;
mod body;
pub mod client_address;
pub mod deliveries;
pub mod docs;
pub mod endpoints;
pub mod erasures;
pub mod event_types;
pub mod events;
pub mod extract;
pub mod header_rules;
pub mod health;
pub mod idempotency;
mod lookup;
pub mod meters;
pub mod page;
mod patch;
pub mod problem;
pub mod projects;
pub mod rate_limit;
mod record;
pub mod recoveries;
pub mod root;
mod routes;
mod source_addresses;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use self::client_address::Peer;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::id::base32;
use crate::store::retry_quota;
use crate::telemetry::scope::WorkContext;
use crate::telemetry::{method_name, millis};

/// All routes with the middleware around them.
pub fn router(app: Arc<App>) -> Router {
    with_middleware(routes::table(), app)
}

/// All routes, and `others` beside them, with the middleware around all.
pub fn router_with(others: Router<Arc<App>>, app: Arc<App>) -> Router {
    with_middleware(routes::table().merge(others), app)
}

/// `routes` with the middleware around them: ids, problems, a bound on the time, and
/// an answer to whatever else is asked.
pub fn with_middleware(routes: Router<Arc<App>>, app: Arc<App>) -> Router {
    routes
        // What was asked for may be anything, a secret in the wrong place too.
        .fallback(|| async { Error::NotFound("a route of that path".to_owned()) })
        // What is said of it is up to `refused_method`.
        .method_not_allowed_fallback(|| async { http::StatusCode::METHOD_NOT_ALLOWED })
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            request_middleware,
        ))
        .with_state(app)
}

/// Health alone, for a process that takes no requests but must be seen alive.
pub fn health_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/health", axum::routing::get(health::live))
        .route("/health/", axum::routing::get(health::live))
        .route("/health/ready", axum::routing::get(health::ready))
        .route("/health/ready/", axum::routing::get(health::ready))
        .with_state(app)
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

async fn request_middleware(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id(&app, &request);
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(MatchedPath::as_str);
    let traces = &app.telemetry.traces;
    let mut span = traces.request(request.method(), route, request.headers());
    span.set_attribute("request.id", || id.clone());
    let scope = WorkContext::request(&id, span.context());
    let handled = Box::pin(handle_request(&app, &id, request, next));
    let work = retry_quota::with_payer(handled);
    let response = scope.run(work).await;
    let status = response.status();
    span.set_attribute("http.response.status_code", || i64::from(status.as_u16()));
    if status.is_server_error() {
        span.set_error(String::new);
    }
    response
}

async fn handle_request(app: &Arc<App>, id: &str, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();

    let handled = async {
        match admitted(app, request) {
            Ok(request) => idempotency::handle(app, request, next).await,
            Err(error) => error.into_response(),
        }
    };
    let handled = AssertUnwindSafe(handled).catch_unwind();
    let mut response = match tokio::time::timeout(app.config.http.request_timeout, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Error::internal(anyhow::anyhow!(panic_text(&*panic))).into_response(),
        Err(_) => {
            let source = anyhow::anyhow!("http.request_timeout_s ran out");
            Error::Unavailable {
                what: "an answer in time",
                source,
            }
            .into_response()
        }
    };
    if !method.is_safe() && response.status().is_success() {
        // What was lost meanwhile was done, and nothing of it is kept.
        response = ensure_kept(app).map_or_else(Error::into_response, |()| response);
    }
    let failure = response.extensions_mut().remove::<problem::Failure>();
    let failure = failure.or_else(|| refused_method(route.as_ref(), &response));
    if let Some(problem::Failure(error)) = &failure {
        response = problem_response(error, &response, id);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    let route = route.as_ref().map_or("-", MatchedPath::as_str);
    let method = method_name(&method);
    log(id, method, route, &response, failure.as_ref(), started);
    response
}

/// A request that may be handled, with what is known of where it is from.
fn admitted(app: &App, request: Request) -> Result<Request> {
    let (mut parts, body) = request.into_parts();
    header_rules::check(&parts)?;
    if !parts.uri.path().starts_with("/health") {
        ensure_kept(app)?;
    }
    if let Some(peer) = parts.extensions.get::<Peer>() {
        let source = client_address::source(*peer, &parts.headers, &app.trusted_proxies);
        parts.extensions.insert(source);
    }
    Ok(Request::from_parts(parts, body))
}

/// The error of a method that the route does not have, by the router's answer.
fn refused_method(route: Option<&MatchedPath>, response: &Response) -> Option<problem::Failure> {
    if response.status() != http::StatusCode::METHOD_NOT_ALLOWED {
        return None;
    }
    let known = route.map_or_else(Vec::new, |route| routes::methods_of(route.as_str()));
    let expected = match known.as_slice() {
        [] => "another method".to_owned(),
        known => known.join(", "),
    };
    let detail = format!("expected {expected}, got another");
    Some(problem::Failure(Arc::new(Error::invalid("method", detail))))
}

/// That the stores in this process, if any are, have their files.
fn ensure_kept(app: &App) -> Result<()> {
    app.lost_file().map_or(Ok(()), |lost| {
        let source = anyhow::anyhow!("{} is gone", lost.display());
        let what = "the data directory";
        Err(Error::Unavailable { what, source })
    })
}

/// What a problem has of the response it takes the place of.
const KEPT_HEADERS: [HeaderName; 3] = [
    http::header::ALLOW,
    rate_limit::RATELIMIT_POLICY,
    rate_limit::RATELIMIT,
];

fn problem_response(error: &Error, bare: &Response, id: &str) -> Response {
    let mut problem = problem::Problem::of(error);
    problem.status = bare.status().as_u16();
    problem.request_id = Some(id.to_owned());
    let mut response = problem.into_response();
    problem::add_headers(error, response.headers_mut());
    for name in KEPT_HEADERS {
        if let Some(value) = bare.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The caller's `x-request-id` if it is a plain token, else a new one.
fn request_id(app: &App, request: &Request) -> String {
    let is_token = |text: &&str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=');
        (8..=64).contains(&text.len()) && text.bytes().all(plain)
    };
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    match given.filter(is_token) {
        Some(given) => given.to_owned(),
        None => base32(&app.random::<10>()),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of unknown kind"))
}

/// One line a request: quiet for what went well, louder for what did not.
fn log(
    id: &str,
    method: &str,
    route: &str,
    response: &Response,
    failure: Option<&problem::Failure>,
    started: Instant,
) {
    let status = response.status().as_u16();
    let duration_ms = millis(started.elapsed());
    let error = failure.map(|problem::Failure(error)| &**error);
    let cause = error.and_then(Error::causes);
    let error = error.map(tracing::field::display);
    match status {
        500.. => {
            tracing::error!(
                request.id = id,
                method,
                route,
                status,
                duration_ms,
                error,
                cause,
                "request failed"
            );
        }
        400.. => {
            tracing::info!(
                request.id = id,
                method,
                route,
                status,
                duration_ms,
                error,
                "request refused"
            );
        }
        _ => tracing::debug!(
            request.id = id,
            method,
            route,
            status,
            duration_ms,
            "request"
        ),
    }
}
