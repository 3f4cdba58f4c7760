//! The API as pages use it: requests in this process, in the name of a session.
//!
//! They go through all that a request from outside goes through but for the key: the
//! session stands for that, in an extension that nobody can send. What comes back is
//! the API's JSON, which each page reads into what it shows.

use axum::body::{Body, Bytes};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use super::form::Once;
use super::refusal::Refusal;
use super::state::Console;
use super::visit::{View, Visitor};
use crate::model::session::SessionCaller;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the API answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body, if it is an answer and no refusal.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn succeeded(self) -> Result<Bytes, Refusal> {
        if self.status.is_success() {
            Ok(self.body)
        } else {
            Err(Refusal::read(self.status, &self.body))
        }
    }
}

impl Visitor {
    /// As [`View::get`], of what is in no project.
    ///
    /// # Errors
    /// As that.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let caller = self.session.caller_of_no_project();
        let answer = ask(&self.console, caller, JSON, Method::GET, path, None, None).await;
        read(&answer.succeeded()?)
    }

    /// As [`View::send`], of what is in no project.
    ///
    /// # Errors
    /// As that.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        once: Option<&Once>,
    ) -> Result<Value, Refusal> {
        let caller = self.session.caller_of_no_project();
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = ask(&self.console, caller, JSON, method, path, body, once).await;
        value_of(answer)
    }
}

impl View {
    /// What the API answers to a GET of `path`, with its query.
    ///
    /// # Errors
    /// The API's [`Refusal`], or one of an answer that is not a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let answer = self.ask(Method::GET, path, None, None).await.succeeded()?;
        read(&answer)
    }

    /// What the API answers to a change, with `body` as JSON if there is one; null if it
    /// says nothing. With `once`, one that was done before is not done again.
    ///
    /// # Errors
    /// The API's [`Refusal`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        once: Option<&Once>,
    ) -> Result<Value, Refusal> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        value_of(self.ask(method, path, body, once).await)
    }

    /// The API's answer, whatever it is. A body is JSON.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        once: Option<&Once>,
    ) -> Answer {
        ask(&self.console, self.caller(), JSON, method, path, body, once).await
    }

    /// The API's answer to a GET of `path` as CSV, where it has one; a refusal as ever.
    pub async fn csv(&self, path: &str) -> Answer {
        let (caller, csv) = (self.caller(), HeaderValue::from_static("text/csv"));
        ask(&self.console, caller, csv, Method::GET, path, None, None).await
    }
}

async fn ask(
    console: &Console,
    caller: SessionCaller,
    media: HeaderValue,
    method: Method,
    path: &str,
    body: Option<Bytes>,
    once: Option<&Once>,
) -> Answer {
    let mut request = Request::new(body.clone().map_or_else(Body::empty, Body::from));
    *request.method_mut() = method;
    *request.uri_mut() = match path.parse() {
        Ok(uri) => uri,
        Err(_) => return unanswered(StatusCode::NOT_FOUND),
    };
    request.extensions_mut().insert(caller);
    let headers = request.headers_mut();
    headers.insert(ACCEPT, media);
    if body.is_some() {
        headers.insert(CONTENT_TYPE, JSON);
    }
    if let Some(once) = once {
        headers.insert(IDEMPOTENCY_KEY, once.key());
    }
    let answered = Box::pin(console.api.clone().oneshot(request)).await;
    let (parts, body) = match answered {
        Ok(response) => response.into_parts(),
        Err(never) => match never {},
    };
    match body.collect().await {
        Ok(body) => Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        },
        Err(_) => unanswered(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn value_of(answer: Answer) -> Result<Value, Refusal> {
    let body = answer.succeeded()?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    read(&body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let cause = error.to_string();
        tracing::error!(cause, "answer of the API not as a page expects it");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the page could not be made of what the API answered",
        )
    })
}

fn unanswered(status: StatusCode) -> Answer {
    Answer {
        status,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}
