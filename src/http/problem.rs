//! Errors as problem+json (RFC 9457).
//!
//! A handler's [`Error`] becomes a response that carries it; the frame around all
//! routes writes the body, with the request's id, and the log line. What an
//! `Unavailable` or `Internal` holds goes to the log alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::response::{Response as ApiResponse, ResponseBuilder};

use crate::error::{Error, ErrorCode};

/// When to come back after 503, in seconds.
const UNAVAILABLE_RETRY_S: u64 = 5;

/// When to come back for the answer to a request that is under way, in seconds.
const IN_USE_RETRY_S: u64 = 1;

/// An error, as RFC 9457 has it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:millrace:problem:<code>`.
    #[schema(format = "uri")]
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong with this request, and what was expected.
    pub detail: String,
    /// Stable and machine-readable: `invalid`, `not_found`, ….
    pub code: ErrorCode,
    /// The attribute, JSON field, header or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// Of a batch of which nothing was accepted: why, of each of its events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<EventProblem>>, nullable = false)]
    pub errors: Vec<EventProblem>,
    /// The id to quote when asking about it; also in `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
}

/// What is wrong with one event of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventProblem {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// As the `code` of a problem.
    pub code: ErrorCode,
    /// The attribute that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<String>,
    /// What is wrong, and what was expected.
    pub detail: String,
}

impl EventProblem {
    fn of(index: usize, error: &Error) -> Self {
        Self {
            index,
            code: error.code(),
            field: field(error),
            detail: error.to_string(),
        }
    }
}

fn field(error: &Error) -> Option<String> {
    match error {
        Error::Invalid(invalid) => invalid.field.as_deref().map(str::to_owned),
        Error::UnsupportedContentEncoding(_) => Some("Content-Encoding".to_owned()),
        _ => None,
    }
}

impl Problem {
    /// What an answer says of `error`: never its source.
    pub fn of(error: &Error) -> Self {
        let errors = match error {
            Error::InvalidBatch(errors) => errors.as_slice(),
            _ => &[],
        };
        let errors = errors.iter().enumerate();
        Self {
            kind: format!("urn:millrace:problem:{}", error.code()),
            title: title(error),
            status: error.status(),
            detail: error.to_string(),
            code: error.code(),
            field: field(error),
            errors: errors
                .map(|(index, error)| EventProblem::of(index, error))
                .collect(),
            request_id: None,
        }
    }

    /// The answer, in `application/problem+json`.
    pub fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("errors have HTTP's statuses");
        let body = serde_json::to_vec(&self).expect("a problem is plain JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}

fn title(error: &Error) -> &'static str {
    match error {
        Error::Invalid(_) | Error::InvalidBatch(_) => "Invalid request",
        Error::Unauthenticated(_) => "Unauthenticated",
        Error::Forbidden(_) => "Not allowed with this key",
        Error::NotFound(_) => "Not found",
        Error::Conflict(_) => "Conflict",
        Error::IdempotencyKeyInUse => "Request under way",
        Error::IdempotencyKeyReused => "Idempotency key reused",
        Error::TooLarge(_) => "Content too large",
        Error::UnsupportedMediaType(_) => "Unsupported media type",
        Error::UnsupportedContentEncoding(_) => "Unsupported content encoding",
        Error::TooManyUnauthenticated { .. } | Error::RateLimited { .. } => "Too many requests",
        Error::Unavailable { .. } => "Service unavailable",
        Error::Internal(_) => "Internal server error",
    }
}

/// The error a response stands for, on its way to the frame.
#[derive(Clone)]
pub(super) struct Failure(pub Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        add_headers(&self, response.headers_mut());
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

pub(super) fn add_headers(error: &Error, headers: &mut HeaderMap) {
    match error {
        Error::Unavailable { .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(UNAVAILABLE_RETRY_S));
        }
        Error::IdempotencyKeyInUse => {
            headers.insert(RETRY_AFTER, HeaderValue::from(IN_USE_RETRY_S));
        }
        Error::UnsupportedContentEncoding(_) => {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Error::RateLimited { retry_after } | Error::TooManyUnauthenticated { retry_after } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_s(*retry_after)));
        }
        Error::Unauthenticated(_) => {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(http::header::WWW_AUTHENTICATE, scheme);
        }
        _ => {}
    }
}

/// Whole seconds that are not too few.
fn retry_s(retry_after: Duration) -> u64 {
    let begun = u64::from(retry_after.subsec_nanos() > 0);
    (retry_after.as_secs() + begun).max(1)
}

/// The problems that follow from an operation's shape, for the OpenAPI document, which
/// leaves out of each operation those that cannot be its. What only some operations
/// answer with, 409 and 429, they name themselves.
pub struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<ApiResponse>> {
        let problem =
            |description: &str| RefOr::T(ResponseBuilder::new().description(description).build());
        [
            (
                "400",
                "A field, header or parameter is missing, malformed or repeated; `field` \
                 names it",
            ),
            ("401", "No key, or one that is not known"),
            (
                "403",
                "The key is of another kind, lacks the scope, or is for one tenant alone",
            ),
            ("404", "Not there, or another project's or tenant's"),
            ("413", "Over a size limit"),
            (
                "415",
                "A content type or coding that is not supported; if it is the coding, \
                 `Accept-Encoding` says what is",
            ),
            ("500", "A defect of the server's"),
            (
                "503",
                "A store is out of reach; `Retry-After` says when to come back",
            ),
        ]
        .into_iter()
        .map(|(status, description)| (status.to_owned(), problem(description)))
        .collect()
    }
}
