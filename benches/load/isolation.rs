//! What a slow endpoint costs the others: their end-to-end time without it and
//! beside it, in one run.
//!
//! Other tenants' events come evenly spaced, not as fast as they can: what is
//! measured is how long one waits behind somebody else's, not what saturates.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::publish::{self, Client};
use super::sink::Sink;
use super::{micros_now, say, text};

/// How long the other tenants' deliveries may lag behind the last answer.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Publishers of the other tenants' events.
const PUBLISHERS: u32 = 4;

/// What is slow, and for how long it is watched.
pub struct Case {
    /// Slow endpoints.
    pub endpoints: usize,
    /// Events for them, all in all.
    pub events: usize,
    /// How long each takes to answer.
    pub answers_after: Duration,
    /// Events a second for everybody else.
    pub per_second: u32,
    /// How long each measurement takes.
    pub measured: Duration,
}

/// Measures a baseline, then the same beside slow endpoints; prints both.
pub async fn run(case: &Case, url: &str, key: &str, sink: &Sink) -> anyhow::Result<()> {
    let slow = Slow::listen(case.answers_after).await?;
    let mut client = Client::connect(url, key).await?;
    for n in 0..case.endpoints {
        let endpoint =
            json!({ "url": slow.url, "event_types": [format!("slow.{n}")], "tenant": "slow" });
        client.post("/v1/endpoints", &endpoint).await?;
    }
    let fast = json!({ "url": format!("{}/fast", sink.url()), "tenant": "fast" });
    client.post("/v1/endpoints", &fast).await?;

    // Connections, caches and the lane's speed are not what is compared.
    measure(case, Duration::from_secs(3), url, key, sink).await?;
    let baseline = measure(case, case.measured, url, key, sink).await?;
    say(&row("fast endpoints only", &baseline))?;

    let begun = Instant::now();
    flood(case, &mut client).await?;
    let events = case.events;
    let took = begun.elapsed().as_secs_f64();
    say(&format!(
        "{events} events for slow endpoints accepted in {took:.1} s"
    ))?;
    let beside = measure(case, case.measured, url, key, sink).await?;
    say(&row("beside slow endpoints", &beside))?;
    let (under_way, most) = slow.under_way();
    say(&format!(
        "slow attempts under way: {under_way} now, {most} at most"
    ))?;
    let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64;
    say(&format!("p99 ratio: {:.2}", p99(&beside) / p99(&baseline)))
}

fn row(what: &str, times: &Histogram<u64>) -> String {
    let ms = |q| times.value_at_quantile(q) as f64 / 1e3;
    format!(
        "{what:>24}: end to end p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms, {} events",
        ms(0.5),
        ms(0.99),
        times.max() as f64 / 1e3,
        times.len()
    )
}

/// Publishes all slow events, in batches.
async fn flood(case: &Case, client: &mut Client) -> anyhow::Result<()> {
    for first in (0..case.events).step_by(100) {
        let events: Vec<_> = (first..case.events.min(first + 100))
            .map(|n| {
                json!({
                    "specversion": "1.0",
                    "id": n.to_string(),
                    "source": "/slow",
                    "type": format!("slow.{}", n % case.endpoints),
                    "tenant": "slow",
                    "data": { "sent_us": micros_now() },
                })
            })
            .collect();
        client.post_batch("/v1/events", &events.into()).await?;
    }
    Ok(())
}

/// The end-to-end times of evenly spaced events over `time`.
async fn measure(
    case: &Case,
    time: Duration,
    url: &str,
    key: &str,
    sink: &Sink,
) -> anyhow::Result<Histogram<u64>> {
    sink.begin_measuring();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (url, key) = (url.to_owned(), key.to_owned());
            let interval = Duration::from_secs(1) * PUBLISHERS / case.per_second;
            tokio::spawn(async move { paced(&url, &key, interval, time).await })
        })
        .collect();
    let mut ids = Vec::new();
    for publisher in publishers {
        ids.extend(publisher.await??);
    }
    sink.wait_for(&ids, 1, WAIT_MAX).await?;
    Ok(sink.end_measuring().0)
}

async fn paced(
    url: &str,
    key: &str,
    interval: Duration,
    time: Duration,
) -> anyhow::Result<Vec<String>> {
    let mut client = Client::connect(url, key).await?;
    let mut ids = Vec::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let ends = Instant::now() + time;
    while Instant::now() < ends {
        ticks.tick().await;
        let event = json!({
            "type": "load.event",
            "tenant": "fast",
            "data": { "sent_us": micros_now(), "padding": publish::padding() },
        });
        let answer = client.post("/v1/events", &event).await?;
        ids.push(text(&answer, "id")?);
    }
    Ok(ids)
}

/// A receiver that takes its time.
struct Slow {
    url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Slow {
    async fn listen(answers_after: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/slow", listener.local_addr()?);
        let seen = Arc::<Seen>::default();
        tokio::spawn(serve(listener, answers_after, seen.clone()));
        Ok(Self { url, seen })
    }

    fn under_way(&self) -> (usize, usize) {
        let load = |number: &AtomicUsize| number.load(Ordering::Relaxed);
        (load(&self.seen.under_way), load(&self.seen.most))
    }
}

async fn serve(listener: TcpListener, answers_after: Duration, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        let service = service_fn(move |request| answer(request, answers_after, seen.clone()));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    after: Duration,
    seen: Arc<Seen>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let under_way = seen.under_way.fetch_add(1, Ordering::Relaxed) + 1;
    seen.most.fetch_max(under_way, Ordering::Relaxed);
    let _ = request.into_body().collect().await;
    tokio::time::sleep(after).await;
    seen.under_way.fetch_sub(1, Ordering::Relaxed);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
