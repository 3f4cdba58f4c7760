//! DynamoDB's double and the receiver of webhooks, as a process of their own.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The process; it ends when this is dropped.
pub struct Double {
    child: Child,
    /// Where DynamoDB is.
    pub dynamodb: String,
    /// Where webhooks go: `/taken…`, or `/failing-once…`.
    pub receiver: String,
}

impl Double {
    pub fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--double")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = BufReader::new(child.stdout.take().context("its stdout")?).lines();
        let mut next = || anyhow::Ok(said.next().context("the double says nothing")??);
        let (dynamodb, receiver) = (next()?, next()?);
        Ok(Self {
            child,
            dynamodb,
            receiver,
        })
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until whoever started it has ended.
pub async fn serve() -> anyhow::Result<()> {
    let (dynamodb, receiver) = (bound().await?, bound().await?);
    let mut out = std::io::stdout();
    for listener in [&dynamodb, &receiver] {
        writeln!(out, "http://{}", listener.local_addr()?)?;
    }
    out.flush()?;
    tokio::spawn(receive(receiver));
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    tokio::select! {
        () = dynoxide::server::serve_on(dynamodb, dynoxide::Database::memory()?) => {}
        _ = ended => {}
    }
    Ok(())
}

async fn bound() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

type Seen = Arc<Mutex<HashSet<String>>>;

async fn receive(listener: TcpListener) {
    let seen = Seen::default();
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        let answer = service_fn(move |request| answer(seen.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(
    seen: Seen,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let _ = body.collect().await;
    let id = parts
        .headers
        .get("webhook-id")
        .and_then(|id| id.to_str().ok());
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let fails = parts.uri.path().starts_with("/failing-once")
        && seen.insert(format!("{} {}", parts.uri.path(), id.unwrap_or_default()));
    let mut response = Response::new(Empty::new());
    *response.status_mut() = match fails {
        true => StatusCode::INTERNAL_SERVER_ERROR,
        false => StatusCode::NO_CONTENT,
    };
    Ok(response)
}
