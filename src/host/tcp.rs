//! HTTP/1.1 over TCP: accept, serve, drain.
//!
//! Its own accept loop, because a drain has a deadline, slow clients have one
//! too, and connections are counted. Knows nothing of what the router does.

mod deadline;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use axum::Router;
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

use deadline::{HeaderDeadline, RequestCounter};

use crate::error::causes;

/// How long accepting rests after an error that the next try would meet again,
/// such as too many open files.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

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
        while let Some((stream, permit)) = next(&listener, &permits).await {
            let (router, requests) = (router.clone(), requests.clone());
            let connection = connection(stream, router, options, tokens.clone(), requests);
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

/// The next connection, with its permit of `connections_max`.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    Some((accept(listener).await, permit))
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
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
    stream: TcpStream,
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
    let io = HeaderDeadline::new(stream, requests.clone(), options.header_timeout);
    let draining = tokens.draining;
    let service = service_fn(move |request| {
        let under_way = all_requests.token();
        let answered = answer(router.clone(), request, requests.clone());
        let draining = draining.clone();
        async move {
            let mut response = answered.await?;
            drop(under_way);
            if draining.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(options.idle_timeout)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(io), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokens.close.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        let cause = causes(&error);
        tracing::debug!(%error, cause, "connection ended");
    }
}

async fn answer(
    router: Router,
    request: hyper::Request<Incoming>,
    requests: RequestCounter,
) -> Result<Response, Infallible> {
    let _under_way = requests.begin();
    router.oneshot(request).await
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
