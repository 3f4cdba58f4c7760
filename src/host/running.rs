//! The Millrace that has the data directory open: asked over HTTP, where it says that
//! it serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// What it answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// Null if it is no JSON.
    pub body: Value,
}

/// Asks the process that serves at `address`, with `key` if that takes one and with
/// `body` unless it is null.
///
/// # Errors
/// There is no whole answer within `timeout`.
pub(super) async fn ask(
    address: SocketAddr,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &Value,
    timeout: Duration,
) -> anyhow::Result<Answer> {
    let address = reachable(address);
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"));
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let body = match body {
        Value::Null => Bytes::new(),
        body => {
            request = request.header(CONTENT_TYPE, "application/json");
            body.to_string().into()
        }
    };
    let request = request.body(Full::new(body))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answered = async {
        let answer = client.request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        anyhow::Ok(Answer { status, body })
    };
    let answered = tokio::time::timeout(timeout, answered).await;
    answered.context("no answer in time")?
}

/// The address of `path` of what listens at `address`, for a browser of this machine.
pub(super) fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{}{path}", reachable(address))
}

/// Where this machine reaches what listens at `address`: every interface is its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
