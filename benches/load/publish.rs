//! Publishers: each a kept-alive connection and one event at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Builder;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::micros_now;

/// What pads an event to about 400 bytes.
const PADDING_LEN: usize = 170;

/// What makes an event about 400 bytes.
pub fn padding() -> String {
    "x".repeat(PADDING_LEN)
}

/// An empty histogram of microseconds, up to a minute, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that are in order")
}

/// What one publisher did.
pub struct Published {
    /// Events accepted, the warm-up's included.
    pub ids: Vec<String>,
    /// Of those, the ones answered while it was measured.
    pub measured: u64,
    /// From before the request to the end of its answer, in microseconds.
    pub times: Histogram<u64>,
}

/// Publishes events one after the other until `ends`; measures from `begins`.
pub async fn publish_until(
    url: String,
    key: String,
    begins: Instant,
    ends: Instant,
) -> anyhow::Result<Published> {
    let mut client = Client::connect(&url, &key).await?;
    let mut published = Published {
        ids: Vec::new(),
        measured: 0,
        times: histogram(),
    };
    let padding = padding();
    let me = format!(
        "{:x}",
        std::ptr::from_ref(&published) as usize ^ micros_now() as usize
    );
    for n in 0_u64.. {
        let started = Instant::now();
        if started >= ends {
            break;
        }
        let event = json!({
            "specversion": "1.0",
            "id": format!("{me}-{n}"),
            "source": "/load",
            "type": "load.event",
            "subject": "invoice/in_1234567890",
            "datacontenttype": "application/json",
            "data": { "sent_us": micros_now(), "padding": padding },
        });
        let answer = client
            .send("/v1/events", "application/cloudevents+json", &event)
            .await?;
        let id = answer["id"]
            .as_str()
            .with_context(|| format!("no id in {answer}"))?;
        ensure!(
            answer["duplicate"] == false,
            "a new event was taken for a repeat: {answer}"
        );
        published.ids.push(id.to_owned());
        let now = Instant::now();
        if started >= begins && now <= ends {
            published.measured += 1;
            published.times.saturating_record(micros(now - started));
        }
    }
    Ok(published)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One connection to the server.
pub struct Client {
    connection: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Client {
    pub async fn connect(url: &str, key: &str) -> anyhow::Result<Self> {
        let host = url
            .strip_prefix("http://")
            .context("--url begins with http://")?;
        let host = host.trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host)
            .await
            .with_context(|| host.clone())?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self {
            connection,
            host,
            authorization: format!("Bearer {key}"),
        })
    }

    /// Posts JSON and reads the JSON that answers it.
    pub async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(path, "application/json", body).await
    }

    /// Gets JSON.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(Request::get(path), Bytes::new()).await
    }

    /// Posts a batch of CloudEvents.
    pub async fn post_batch(&mut self, path: &str, events: &Value) -> anyhow::Result<Value> {
        self.send(path, "application/cloudevents-batch+json", events)
            .await
    }

    async fn send(&mut self, path: &str, media: &str, body: &Value) -> anyhow::Result<Value> {
        let request = Request::post(path).header(CONTENT_TYPE, media);
        self.ask(request, body.to_string().into()).await
    }

    async fn ask(&mut self, request: Builder, body: Bytes) -> anyhow::Result<Value> {
        let request = request
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(body))?;
        let path = request.uri().path().to_owned();
        self.connection.ready().await?;
        let response = self.connection.send_request(request).await?;
        let status: StatusCode = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{path}: {status} {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(serde_json::from_slice(&answer)?)
    }
}
