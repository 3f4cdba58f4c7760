//! The body of a request on a connection, and what is done with the part of it that
//! nobody asked for: the next request begins behind it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

/// A rest that is read for the sake of the next request, and how long is waited for it:
/// more costs both sides more than another connection.
const REST_BYTES_MAX: usize = 64 * 1024;
const REST_TIME_MAX: Duration = Duration::from_millis(100);

/// A body that leaves what is not read of it behind when it is dropped.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Option<Incoming>,
    rest: Rest,
}

/// What is left of a body.
#[derive(Debug, Clone, Default)]
pub struct Rest(Arc<Mutex<Option<Incoming>>>);

impl RequestBody {
    /// `incoming`, and what will be left of it.
    pub fn new(incoming: Incoming) -> (Self, Rest) {
        let rest = Rest::default();
        let body = Self {
            incoming: Some(incoming),
            rest: rest.clone(),
        };
        (body, rest)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|body| !body.is_end_stream());
        *self.rest.lock() = unread;
    }
}

impl Rest {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads it too, if it is short and comes soon: whether all of the body is read
    /// then. If not, what follows on the connection is no request.
    pub async fn read_on(self, promised: Promised) -> bool {
        let Some(body) = self.lock().take() else {
            return true;
        };
        let bytes = body.size_hint().upper();
        let is_short = bytes.is_some_and(|bytes| bytes <= REST_BYTES_MAX as u64);
        if !is_short || promised == Promised::OnRequest {
            return false;
        }
        let rest = Limited::new(body, REST_BYTES_MAX).collect();
        matches!(timeout(REST_TIME_MAX, rest).await, Ok(Ok(_)))
    }
}

/// When a client sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promised {
    /// Right away.
    AtOnce,
    /// Once it is asked for, by `100 Continue`; to read is to ask.
    OnRequest,
}

impl Promised {
    /// What a request's head says of it.
    pub fn by(parts: &Parts) -> Self {
        if parts.headers.contains_key(EXPECT) {
            Self::OnRequest
        } else {
            Self::AtOnce
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let incoming = self.incoming.as_ref();
        incoming.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
