//! A connection as its requests see it: how many it has had, and what came back for
//! the one under way.
//!
//! The pool does not say whether a connection was used before, nor the client what
//! had come when it gave up. Both are seen where the bytes pass, above TLS.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::connect::Connector;
use super::error::SendError;

/// The largest response head, give or take what one read brings.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are read at a time.
const READ_BYTES: usize = 8 * 1024;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connector whose connections are watched.
#[derive(Clone)]
pub(crate) struct WatchedConnector {
    connector: HttpsConnector<Connector>,
    open: Arc<AtomicUsize>,
}

impl WatchedConnector {
    pub fn new(connector: HttpsConnector<Connector>) -> Self {
        Self {
            connector,
            open: Arc::default(),
        }
    }
}

impl tower::Service<Uri> for WatchedConnector {
    type Response = WatchedStream;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<WatchedStream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.connector.call(uri);
        let open = self.open.clone();
        Box::pin(async move {
            let stream = connecting.await?;
            open.fetch_add(1, Ordering::Relaxed);
            Ok(WatchedStream {
                stream,
                is_write_failed: false,
                watched: WatchedConnection(Arc::new(Shared {
                    seen: Mutex::default(),
                    open,
                })),
            })
        })
    }
}

/// What is seen of a connection.
#[derive(Clone)]
pub(super) struct WatchedConnection(Arc<Shared>);

struct Shared {
    seen: Mutex<Seen>,
    /// How many connections of the connector's are open.
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Seen {
    /// Requests that began to be written.
    requests: usize,
    /// Whether anything came since the last of them began.
    is_answered: bool,
    /// The first of what came since.
    head: Vec<u8>,
    /// Why nothing more is to be read.
    refused: Option<SendError>,
}

impl WatchedConnection {
    /// The connection that a request was given, if it was given any.
    pub fn of(captured: &CaptureConnection) -> Option<Self> {
        let mut extras = Extensions::new();
        captured
            .connection_metadata()
            .as_ref()?
            .get_extras(&mut extras);
        extras.remove::<Self>()
    }

    /// Whether the connection had carried a request before, and nothing came back for
    /// the last one: the receiver closed it as that left.
    pub fn is_stale(&self) -> bool {
        let seen = self.lock();
        seen.requests > 1 && !seen.is_answered
    }

    /// What came since the request began, at most `HEAD_BYTES_MAX` of it.
    pub fn head(&self) -> Vec<u8> {
        self.lock().head.clone()
    }

    /// Has whoever reads fail with `why` from now on.
    pub fn refuse(&self, why: SendError) {
        self.lock().refused = Some(why);
    }

    /// How many connections of the same connector's are open, this one included.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Some of `bytes` was written. A request follows the answer to the one before:
    /// until that comes, what looks like one is a part of a body.
    fn note_write(&self, bytes: &[u8]) {
        let mut seen = self.lock();
        if (seen.requests == 0 || seen.is_answered) && begins_request(bytes) {
            seen.requests += 1;
            seen.is_answered = false;
            seen.head.clear();
        }
    }

    fn note_read(&self, bytes: &[u8]) {
        let mut seen = self.lock();
        seen.is_answered |= !bytes.is_empty();
        let room = HEAD_BYTES_MAX.saturating_sub(seen.head.len());
        seen.head.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing in between can panic.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a write begins with a request line: one a request does.
fn begins_request(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| line.ends_with(b" HTTP/1.1\r"))
}

/// A connection, watched.
pub(crate) struct WatchedStream {
    stream: Stream,
    is_write_failed: bool,
    watched: WatchedConnection,
}

impl Connection for WatchedStream {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.watched.clone())
    }
}

impl Read for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(why) = this.watched.lock().refused.clone() {
            return Poll::Ready(Err(io::Error::other(why)));
        }
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let room = into.remaining().min(READ_BYTES);
        let mut read = ReadBuf::uninit(&mut bytes[..room]);
        std::task::ready!(Pin::new(&mut this.stream).poll_read(cx, read.unfilled()))?;
        this.watched.note_read(read.filled());
        into.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl WatchedStream {
    /// Notes what was written, unless it is to be written again.
    fn noted(&self, written: Poll<io::Result<usize>>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.watched.note_write(bytes);
        }
        written
    }

    /// Says of a write that failed that it did not: a receiver may answer, and close,
    /// before it has read everything. What it answered, or that it did not, is then
    /// to be read.
    fn or_read(
        &mut self,
        written: Poll<io::Result<usize>>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.is_write_failed = true;
                Poll::Ready(Ok(bytes))
            }
            other => other,
        }
    }
}

impl Write for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = if this.is_write_failed {
            Poll::Ready(Ok(bytes.len()))
        } else {
            let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
            this.or_read(written, bytes.len())
        };
        this.noted(written, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let bytes = parts.iter().map(|part| part.len()).sum();
        let written = if this.is_write_failed {
            Poll::Ready(Ok(bytes))
        } else {
            let written = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
            this.or_read(written, bytes)
        };
        this.noted(written, parts.first().map_or(&[], |first| first))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_write_failed {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.or_read(flushed.map_ok(|()| 0), 0).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"POST /hooks HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn a_body_that_looks_like_a_request_is_none() {
        let connection = WatchedConnection(Arc::new(Shared {
            seen: Mutex::default(),
            open: Arc::new(AtomicUsize::new(1)),
        }));
        connection.note_write(HEAD);
        connection.note_write(b"GET /a HTTP/1.1\r\n");
        assert!(!connection.is_stale(), "its first request");
        connection.note_read(b"HTTP/1.1 200 OK\r\n\r\n");
        connection.note_write(HEAD);
        assert!(connection.is_stale(), "its second, with no answer");
        assert!(connection.head().is_empty());
        connection.note_read(b"HTTP");
        assert!(!connection.is_stale());
        assert_eq!(connection.head(), b"HTTP");
    }
}
