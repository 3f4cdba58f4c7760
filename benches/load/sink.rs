//! Where webhooks go: an HTTP server that answers 204 and counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::{Shared, micros_now, publish, wait_until};

/// The sink; it serves until the process ends.
pub struct Sink {
    url: String,
    seen: Shared<Seen>,
}

struct Seen {
    /// How many endpoints have had each event, by `webhook-id`.
    endpoints: HashMap<String, Vec<String>>,
    /// Deliveries, each counted once.
    unique: u64,
    measuring: bool,
    end_to_end: Histogram<u64>,
}

#[derive(Deserialize)]
struct Webhook {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    sent_us: u64,
}

impl Sink {
    pub async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::new(Mutex::new(Seen {
            endpoints: HashMap::new(),
            unique: 0,
            measuring: false,
            end_to_end: publish::histogram(),
        }));
        tokio::spawn(serve(listener, seen.clone()));
        Ok(Self { url, seen })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Deliveries so far, each counted once.
    pub fn delivered(&self) -> u64 {
        lock(&self.seen).unique
    }

    /// Starts to record times; how many deliveries there were before.
    pub fn begin_measuring(&self) -> u64 {
        let mut seen = lock(&self.seen);
        seen.end_to_end.reset();
        seen.measuring = true;
        seen.unique
    }

    /// The times recorded, in microseconds, and how many deliveries there are.
    pub fn end_measuring(&self) -> (Histogram<u64>, u64) {
        let mut seen = lock(&self.seen);
        seen.measuring = false;
        (seen.end_to_end.clone(), seen.unique)
    }

    /// Waits until each of `ids` has come by way of `endpoints`, and forgets them.
    pub async fn wait_for(
        &self,
        ids: &[String],
        endpoints: usize,
        wait_max: Duration,
    ) -> anyhow::Result<()> {
        let missing = || {
            let seen = lock(&self.seen);
            let came = |id: &&String| seen.endpoints.get(*id).map_or(0, Vec::len) == endpoints;
            ids.iter().filter(|id| !came(id)).count()
        };
        wait_until("delivery", wait_max, async || missing() == 0)
            .await
            .with_context(|| {
                format!(
                    "{} of {} accepted events not delivered",
                    missing(),
                    ids.len()
                )
            })?;
        lock(&self.seen).endpoints.clear();
        Ok(())
    }
}

fn lock(seen: &Shared<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, seen: Shared<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let seen = seen.clone();
        let service = service_fn(move |request| take(request, seen.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn take(
    request: Request<Incoming>,
    seen: Shared<Seen>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let id = parts
        .headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok());
    let mut response = Response::new(Empty::new());
    let Ok(body) = body.collect().await else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    match (id, serde_json::from_slice::<Webhook>(&body.to_bytes())) {
        (Some(id), Ok(webhook)) => {
            count(&seen, id, parts.uri.path(), webhook.data.sent_us);
            *response.status_mut() = StatusCode::NO_CONTENT;
        }
        _ => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

fn count(seen: &Shared<Seen>, id: &str, endpoint: &str, sent_us: u64) {
    let took = micros_now().saturating_sub(sent_us);
    let mut seen = lock(seen);
    let endpoints = seen.endpoints.entry(id.to_owned()).or_default();
    // At least once: the same again is not a second event.
    if endpoints.iter().any(|seen| seen == endpoint) {
        return;
    }
    endpoints.push(endpoint.to_owned());
    seen.unique += 1;
    if seen.measuring {
        seen.end_to_end.saturating_record(took);
    }
}
