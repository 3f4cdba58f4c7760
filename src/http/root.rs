//! The root of the service: what this is and where to go on, for people and for
//! programs.

use axum::response::{Html, IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, VARY};
use http::{HeaderName, StatusCode};
use serde::Serialize;

use super::accept;
use super::extract::Json;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What this service is, and where its parts are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ServiceInfo)]
pub struct Service {
    /// `Millrace`.
    name: &'static str,
    /// The version that answers.
    version: &'static str,
    /// The path of the API documentation, for people.
    docs: &'static str,
    /// The path of the OpenAPI document.
    openapi: &'static str,
    /// The path that tells whether events are accepted.
    health: &'static str,
}

const SERVICE: Service = Service {
    name: "Millrace",
    version: VERSION,
    docs: "/docs",
    openapi: "/openapi.json",
    health: "/health/ready",
};

const PAGE: &str = concat!(
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
    "<meta name=\"color-scheme\" content=\"light dark\"><title>Millrace</title></head>",
    "<body><h1>Millrace ",
    env!("CARGO_PKG_VERSION"),
    "</h1><p>Events in, signed webhooks out.</p><ul>",
    "<li><a href=\"/docs\">API documentation</a></li>",
    "<li><a href=\"/openapi.json\">OpenAPI document</a></li>",
    "<li><a href=\"/health/ready\">Health</a></li></ul></body></html>",
);

/// What this is and where to go on.
///
/// A page for people where `Accept` asks for HTML.
#[utoipa::path(get, path = "/", tag = "docs", security(()),
    operation_id = "getService",
    responses((status = 200, description = "By `Accept`", content(
        (Service = "application/json"), (String = "text/html"),
    ))))]
pub async fn root(headers: HeaderMap) -> Response {
    let policy =
        HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'");
    let vary: [(HeaderName, HeaderValue); 1] = [(VARY, HeaderValue::from_static("accept"))];
    if asks_for_html(&headers) {
        (vary, [(CONTENT_SECURITY_POLICY, policy)], Html(PAGE)).into_response()
    } else {
        (vary, Json(SERVICE)).into_response()
    }
}

/// No icon, said in a way that browsers remember.
pub(super) async fn favicon() -> Response {
    let cache = HeaderValue::from_static("public, max-age=86400");
    (StatusCode::NO_CONTENT, [(CACHE_CONTROL, cache)]).into_response()
}

/// Whether `Accept` names HTML and likes it no less than JSON (RFC 9110 §12.5.1).
fn asks_for_html(headers: &HeaderMap) -> bool {
    let html = accept::weight(headers, &["text/html", "application/xhtml+xml"]);
    html > 0.0 && html >= accept::weight(headers, &["application/json"])
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn browsers_get_a_page_and_programs_json() {
        for (accept, html) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("TEXT/HTML; charset=utf-8 ;q=0.5", true),
            ("application/json;q=0.9, text/html", true),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0, */*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(asks_for_html(&headers), html, "{accept}");
        }
        assert!(!asks_for_html(&HeaderMap::new()));
    }
}
