//! The root of the service: what this is and where to go on, for programs; people are
//! sent to the console.

use axum::response::{IntoResponse, Redirect, Response};
use http::header::{CACHE_CONTROL, HeaderMap, HeaderValue, VARY};
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
    /// The path of the console, for people.
    console: &'static str,
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
    console: "/console",
    docs: "/docs",
    openapi: "/openapi.json",
    health: "/health/ready",
};

/// What this is and where to go on.
///
/// People are sent to the console, where `Accept` asks for HTML.
#[utoipa::path(get, path = "/", tag = "docs", security(()),
    operation_id = "getService",
    responses((status = 200, description = "Without HTML in `Accept`", body = Service),
        (status = 303, description = "To the console, with it")))]
pub async fn root(headers: HeaderMap) -> Response {
    let vary: [(HeaderName, HeaderValue); 1] = [(VARY, HeaderValue::from_static("accept"))];
    if asks_for_html(&headers) {
        (vary, Redirect::to("/console")).into_response()
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
