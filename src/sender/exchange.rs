//! An exchange: one request, and the head of what was answered.
//!
//! A status that came decides. So what a client's library refuses because it would
//! not know where the body ends is an answer here, and what a connection that was
//! kept lost on the way is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::ext::on_informational;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};

use super::client::{Clients, HttpClient};
use super::connection::WatchedConnection;
use super::error::SendError;

/// Interim answers (1xx) to one request, at most.
pub(super) const INTERIM_MAX: usize = 32;
/// Headers that are parsed of an answer whose body cannot be.
const FALLBACK_HEADERS_MAX: usize = 1024;

/// The head of an answer, and the body that is still to be read.
pub(super) struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    /// None where it cannot be told where the body begins or ends.
    pub body: Option<Incoming>,
}

/// Sends `request` and waits for the head of the answer; once more, on a connection of
/// its own, if it was sent on one that the receiver was closing: it did not get it, or
/// did not begin to answer. A connection is kept while at most `open_max` are open.
pub(super) async fn exchange(
    clients: &Clients,
    request: Request<Full<Bytes>>,
    open_max: usize,
) -> Result<Answer, SendError> {
    match send(&clients.pooled, request.clone(), open_max).await {
        Err(Failure::Stale) => {}
        Err(Failure::Final(error)) => return Err(error),
        Ok(answer) => return Ok(answer),
    }
    let again = send(&clients.unpooled, request, open_max).await;
    again.map_err(|failure| match failure {
        Failure::Final(error) => error,
        Failure::Stale => SendError::Closed,
    })
}

enum Failure {
    /// The connection was one that was kept, and nothing came back on it.
    Stale,
    Final(SendError),
}

async fn send(
    client: &HttpClient,
    mut request: Request<Full<Bytes>>,
    open_max: usize,
) -> Result<Answer, Failure> {
    let captured = capture_connection(&mut request);
    let interim = count_interim(&mut request, captured.clone());
    let answered = client.request(request.map(Either::Left)).await;
    let connection = WatchedConnection::of(&captured);
    if interim.load(Ordering::Relaxed) > INTERIM_MAX {
        return Err(Failure::Final(SendError::TooManyInterim));
    }
    match answered {
        Ok(response) => {
            if connection.is_some_and(|connection| connection.open() > open_max)
                && let Some(connected) = &*captured.connection_metadata()
            {
                // It is closed after this.
                connected.poison();
            }
            Ok(Answer::from(response))
        }
        Err(error) => {
            let is_stale = connection.as_ref().is_some_and(WatchedConnection::is_stale);
            if is_stale && !error.is_connect() {
                return Err(Failure::Stale);
            }
            let error = SendError::request(&error);
            let answer = connection
                .filter(|_| error == SendError::InvalidResponse)
                .and_then(|connection| head_alone(&connection.head()));
            answer.ok_or(Failure::Final(error))
        }
    }
}

/// Counts the interim answers to `request`, and has its connection read no more when
/// they are too many.
fn count_interim(
    request: &mut Request<Full<Bytes>>,
    captured: CaptureConnection,
) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    on_informational(request, move |_| {
        if counted.fetch_add(1, Ordering::Relaxed) == INTERIM_MAX
            && let Some(connection) = WatchedConnection::of(&captured)
        {
            connection.refuse(SendError::TooManyInterim);
        }
    });
    count
}

impl From<Response<Incoming>> for Answer {
    fn from(response: Response<Incoming>) -> Self {
        let retry_after = response.headers().get(RETRY_AFTER);
        Self {
            status: response.status().as_u16(),
            retry_after: retry_after
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            body: Some(response.into_body()),
        }
    }
}

/// The answer that `bytes` begin with, if its head is there: hyper refuses one whose
/// headers contradict each other about the body's length.
fn head_alone(mut bytes: &[u8]) -> Option<Answer> {
    loop {
        let mut headers = vec![httparse::EMPTY_HEADER; FALLBACK_HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes).ok()? else {
            return None;
        };
        let status = response
            .code
            .filter(|status| (100..1000).contains(status))?;
        if status >= 200 {
            let mut headers = response.headers.iter();
            let retry_after =
                headers.find(|header| header.name.eq_ignore_ascii_case("retry-after"));
            return Some(Answer {
                status,
                retry_after: retry_after
                    .and_then(|header| std::str::from_utf8(header.value).ok())
                    .map(str::to_owned),
                body: None,
            });
        }
        bytes = &bytes[length..];
    }
}
