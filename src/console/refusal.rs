//! What was refused, as the API says it, and the page that shows it.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderValue, REFRESH};
use maud::html;
use serde::Deserialize;

use super::document;

/// What the API refused, or could not do: its problem document (RFC 9457).
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What the code means.
    pub title: Box<str>,
    /// What is wrong, and what was expected.
    pub detail: String,
    /// Stable and machine-readable: `invalid`, `not_found`, ….
    pub code: Box<str>,
    /// The attribute, JSON field, header or parameter that is wrong.
    #[serde(default)]
    pub field: Option<String>,
    /// The id to quote when asking about it.
    #[serde(default)]
    pub request_id: Option<Box<str>>,
}

impl Refusal {
    /// One that the console finds itself.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: title.into(),
            detail: detail.into(),
            code: code.into(),
            field: None,
            request_id: None,
        }
    }

    /// That there is no such page.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// Its status.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether it is about what was asked, so that the form is shown again: nothing that
    /// passes by itself or that another form would do.
    pub fn is_about_input(&self) -> bool {
        matches!(self.status, 400 | 409 | 413 | 422 | 429)
    }

    pub(super) fn read(status: StatusCode, body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            Self::new(
                status,
                "internal",
                "Internal error",
                "the answer cannot be read",
            )
        })
    }
}

impl IntoResponse for Refusal {
    /// The page of a problem.
    fn into_response(self) -> Response {
        page(&self)
    }
}

fn page(refusal: &Refusal) -> Response {
    let main = html! {
        div {
            h1 { (refusal.title) }
            p.small.soft role="alert" {
                @if let Some(field) = &refusal.field { bdi { (field) } ": " }
                (refusal.detail) "."
            }
        }
        a.btn href="/console" { "To the console" }
    };
    let foot = html! {
        @if let Some(id) = &refusal.request_id { "Request " code { (id) } }
    };
    let mut response = document::door(&refusal.title, None, main, foot);
    *response.status_mut() = refusal.status_code();
    if refusal.status == 503 {
        let again = HeaderValue::from_static("10");
        response.headers_mut().insert(REFRESH, again);
    }
    response
}
