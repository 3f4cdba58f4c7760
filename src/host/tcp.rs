//! HTTP/1.1 over TCP: accept, serve, drain.
//!
//! Its own accept loop, because a drain has a deadline, slow clients have one
//! too, and connections are counted. Knows nothing of what the router does.

mod deadline;
mod framing;
mod linger;
mod request_body;
#[cfg(test)]
mod tests;
mod unreadable;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use deadline::{Deadlines, RequestCounter, Timeouts};
use request_body::{Promised, RequestBody};

use crate::error::causes;
use crate::http::client_address::Peer;
use crate::http::header_rules::AmbiguousLength;

/// How long accepting rests after an error that the next try would meet again,
/// such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How long a client that is still sending is read from once the process is to end.
const DRAIN_LINGER: Duration = Duration::from_secs(1);
/// The most headers of a request: an event of 64 KiB in binary mode may have that many
/// attributes, and each is a header.
const HEADERS_MAX: usize = 8_192;

/// The limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// For a request's headers to arrive, from its first byte; and for the first
    /// byte of a new connection.
    pub header_timeout: Duration,
    /// For the next request of a connection to begin.
    pub idle_timeout: Duration,
    /// For a part of an answer to be taken.
    pub write_timeout: Duration,
    /// Connections served at once; further ones wait in the listen queue.
    pub connections_max: usize,
    /// For what is under way to finish once shutdown has begun.
    pub drain_timeout: Duration,
    /// Of that, for new requests still to be taken, if a connection is open when
    /// shutdown begins.
    pub drain_grace: Duration,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections cut off at the deadline, with a request under way or half sent.
    pub aborted: usize,
    /// From the shutdown to the last connection's end.
    pub took: Duration,
}

/// Binds `listen`, an IP address and port.
///
/// # Errors
/// The address cannot be had; the message says why and what to do.
pub async fn bind(listen: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "is in use by another program; stop it or",
            ErrorKind::PermissionDenied => {
                "needs privileges this user lacks; use a port above 1023:"
            }
            ErrorKind::AddrNotAvailable => "is no address of this machine;",
            _ => return anyhow!("http.listen: {listen}: {error}"),
        };
        anyhow!("http.listen: {listen} {why} set MILLRACE_HTTP__LISTEN")
    })
}

/// Serves `router` until `shutdown`, then drains.
///
/// From then on every answer says `connection: close`. A load balancer goes on
/// sending requests until it has noticed, so for `drain_grace` they are taken
/// still. Then the listener closes, idle connections close, and requests under way
/// finish, unless `drain_timeout` passes first: what is left is dropped, handlers
/// included. Requests whose answer is not made yet are in `requests`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
    requests: TaskTracker,
) -> DrainReport {
    let connections = TaskTracker::new();
    let abort = CancellationToken::new();
    let tokens = ShutdownTokens {
        draining: shutdown,
        close: CancellationToken::new(),
    };
    let permits = Arc::new(Semaphore::new(options.connections_max));
    let take_all = async || {
        while let Some((accepted, permit)) = next(&listener, &permits).await {
            let (router, requests) = (router.clone(), requests.clone());
            let connection = connection(accepted, router, options, tokens.clone(), requests);
            let abort = abort.clone();
            connections.spawn(async move {
                let _permit = permit;
                abort.run_until_cancelled(connection).await
            });
        }
    };
    tokens.draining.run_until_cancelled(take_all()).await;
    let began = Instant::now();
    if !connections.is_empty() {
        let _ = tokio::time::timeout(options.drain_grace, take_all()).await;
    }
    drop(listener);
    tokens.close.cancel();
    drain(&connections, &abort, options.drain_timeout, began).await
}

/// How a connection learns of the end.
#[derive(Debug, Clone)]
struct ShutdownTokens {
    /// Answers close the connection.
    draining: CancellationToken,
    /// It closes when it is idle, and at once if it is.
    close: CancellationToken,
}

/// A connection, and who is at its other end.
type Accepted = (TcpStream, IpAddr);

/// The next connection, with its permit of `connections_max`.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(Accepted, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    Some((accept(listener).await, permit))
}

async fn accept(listener: &TcpListener) -> Accepted {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer.ip()),
            // That one client's affair: the next may be well.
            Err(error) if is_of_the_client(error.kind()) => {}
            Err(error) => {
                let cause = causes(&error);
                tracing::error!(%error, cause, "failed to accept connection");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

fn is_of_the_client(kind: ErrorKind) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        kind,
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connection(
    (stream, peer): Accepted,
    router: Router,
    options: ServeOptions,
    tokens: ShutdownTokens,
    all_requests: TaskTracker,
) {
    // Without it the last packet of an answer may wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        let cause = causes(&error);
        tracing::debug!(%error, cause, "cannot set TCP_NODELAY");
    }
    let requests = RequestCounter::default();
    let timeouts = Timeouts {
        header: options.header_timeout,
        write: options.write_timeout,
    };
    let io = Deadlines::new(stream, requests.clone(), timeouts);
    let draining = tokens.draining.clone();
    let is_half_read = Arc::new(AtomicBool::new(false));
    let left_half_read = is_half_read.clone();
    let service = service_fn(move |request| {
        let under_way = all_requests.token();
        let answered = answer(router.clone(), peer, request, requests.clone());
        let (draining, is_half_read) = (draining.clone(), left_half_read.clone());
        Box::pin(async move {
            let answered = answered.await;
            drop(under_way);
            is_half_read.fetch_or(!answered.is_body_read, Ordering::Relaxed);
            let mut response = answered.response;
            if draining.is_cancelled() || !answered.is_body_read {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.idle_timeout)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        () = tokens.close.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let is_unreadable = ended.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = &ended {
        let cause = causes(error);
        tracing::debug!(%error, cause, "connection ended");
    }
    let parts = connection.into_parts();
    let is_half_read = is_half_read.load(Ordering::Relaxed) || !parts.read_buf.is_empty();
    let stream = parts.io.into_inner().into_inner();
    match ended {
        _ if is_unreadable => end(stream, &tokens.close).await,
        Ok(()) if is_half_read => end(stream, &tokens.close).await,
        // Nothing can be on its way but what nobody was asked for.
        _ => drop(stream),
    }
}

/// Ends a connection whose client may still be sending; soon, if the process is to end.
async fn end(stream: TcpStream, closing: &CancellationToken) {
    let hurry = async {
        closing.cancelled().await;
        tokio::time::sleep(DRAIN_LINGER).await;
    };
    tokio::select! {
        _ = linger::close(stream, linger::BYTES_MAX) => {}
        () = hurry => {}
    }
}

/// An answer, and whether its request is read to the end.
struct Answered {
    response: Response,
    is_body_read: bool,
}

async fn answer(
    router: Router,
    peer: IpAddr,
    request: hyper::Request<Incoming>,
    requests: RequestCounter,
) -> Answered {
    let _under_way = requests.begin();
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.insert(Peer::Connection(peer));
    if requests.is_ambiguous() {
        parts.extensions.insert(AmbiguousLength);
    }
    let promised = Promised::by(&parts);
    let (body, rest) = RequestBody::new(incoming);
    let request = hyper::Request::from_parts(parts, Body::new(body));
    let response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let is_body_read = rest.read_on(promised).await;
    Answered {
        response,
        is_body_read,
    }
}

async fn drain(
    connections: &TaskTracker,
    abort: &CancellationToken,
    timeout: Duration,
    began: Instant,
) -> DrainReport {
    connections.close();
    let left = timeout.saturating_sub(began.elapsed());
    let in_time = tokio::time::timeout(left, connections.wait()).await;
    let aborted = match in_time {
        Ok(()) => 0,
        Err(_) => connections.len(),
    };
    abort.cancel();
    connections.wait().await;
    let took = began.elapsed();
    DrainReport { aborted, took }
}
