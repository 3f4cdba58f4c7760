//! A stream that gives up on a client which is slow to send a request's head, or takes
//! none of its answers.
//!
//! hyper has one timer for waiting between requests and for reading a head. The
//! first must outlast a load balancer's idle timeout and the second must be
//! short, so the second is kept here. For writing it has none: what the system does not
//! take, because the client takes nothing, would wait for ever, and with it the
//! connection's place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::framing::Framing;
use super::unreadable;

/// What the service tells the stream below it of the requests between them.
#[derive(Debug, Clone, Default)]
pub struct RequestCounter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    ended: AtomicU64,
    /// The first head that gives two lengths, from 1; 0 if none does.
    ambiguous: AtomicU64,
}

/// One request whose answer is not made yet.
#[derive(Debug)]
pub struct InFlightRequest(RequestCounter);

impl RequestCounter {
    /// A head has arrived; the request ends when the value is dropped.
    pub fn begin(&self) -> InFlightRequest {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        InFlightRequest(self.clone())
    }

    /// Whether the head that has just begun gives its body two lengths. It is the last
    /// of its connection then.
    pub fn is_ambiguous(&self) -> bool {
        let ambiguous = self.0.ambiguous.load(Ordering::Relaxed);
        ambiguous != 0 && ambiguous <= self.begun()
    }

    fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    fn is_in_flight(&self) -> bool {
        self.begun() > self.0.ended.load(Ordering::Relaxed)
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.0.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a head to arrive, from its first byte.
    pub header: Duration,
    /// For any part of an answer to be taken.
    pub write: Duration,
}

/// `stream`, whose reads fail once a head has taken too long, and whose writes fail once
/// nothing was taken for too long.
#[derive(Debug)]
pub struct Deadlines<S> {
    stream: S,
    requests: RequestCounter,
    /// How many heads had arrived when `deadline` was last looked at.
    seen: u64,
    timeouts: Timeouts,
    deadline: Option<Pin<Box<Sleep>>>,
    framing: Framing,
    /// What is written in place of what hyper writes, and how much of it is.
    replacement: Option<(Vec<u8>, usize)>,
    /// Runs while a write waits.
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Deadlines<S> {
    /// Begins with the deadline of the first head running.
    pub fn new(stream: S, requests: RequestCounter, timeouts: Timeouts) -> Self {
        Self {
            stream,
            requests,
            seen: 0,
            timeouts,
            deadline: Some(Box::pin(sleep(timeouts.header))),
            framing: Framing::default(),
            replacement: None,
            write_deadline: None,
        }
    }

    /// The stream without deadlines.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// What a write came to, which fails if it has waited for too long. Any progress
    /// begins the time anew.
    fn within_write_deadline<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline = None;
            return written;
        }
        let timeout = self.timeouts.write;
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.clear_if_met();
        match &mut self.deadline {
            Some(deadline) => {
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(io::ErrorKind::TimedOut.into())
            }
            None => Poll::Pending,
        }
    }

    /// Drops the deadline of a head that has arrived since.
    fn clear_if_met(&mut self) {
        let begun = self.requests.begun();
        if begun != self.seen {
            self.seen = begun;
            self.deadline = None;
        }
    }

    /// The first bytes after an answer are the next head's; during a request
    /// they are its body's, which is the request timeout's concern.
    fn received(&mut self, bytes: &[u8]) {
        self.clear_if_met();
        self.framing.read(bytes);
        if let Some(head) = self.framing.ambiguous() {
            self.requests.0.ambiguous.store(head + 1, Ordering::Relaxed);
        }
        if self.deadline.is_none() && !self.requests.is_in_flight() {
            self.deadline = Some(Box::pin(sleep(self.timeouts.header)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    self.received(&buf.filled()[before..]);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> Deadlines<S> {
    /// Writes what says more than `bytes`, if they are what hyper says by itself; all of
    /// them are written once all of that is.
    fn poll_replacement(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.replacement.is_none() {
            self.replacement = unreadable::replaced(bytes).map(|answer| (answer, 0));
        }
        while let Some((answer, written)) = &mut self.replacement {
            let Some(rest) = answer.get(*written..).filter(|rest| !rest.is_empty()) else {
                self.replacement = None;
                return Some(Poll::Ready(Ok(bytes.len())));
            };
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(more @ 1..)) => {
                    *written += more;
                    self.write_deadline = None;
                }
                other => return Some(self.within_write_deadline(cx, other)),
            }
        }
        None
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(written) = self.poll_replacement(cx, bytes) {
            return written;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_write_deadline(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.first().map_or(&[] as &[u8], |slice| slice);
        if let Some(written) = self.poll_replacement(cx, first) {
            return written;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.within_write_deadline(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What the stream itself holds back does not end the wait of a write.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            return flushed;
        }
        self.within_write_deadline(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
