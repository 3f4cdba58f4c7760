//! A scripted webhook receiver on loopback: it answers by its script, and keeps
//! what it was sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// Longest that a request may be waited for.
const REACHED_MAX: Duration = Duration::from_secs(10);

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answer with a status.
    Status(u16),
    /// Answer with a status, a header and a body.
    With {
        status: u16,
        /// Its name and its value.
        header: (&'static str, &'static str),
        body: String,
    },
    /// Answer 302 with this location.
    Redirect(String),
    /// Answer 200 after this long.
    Slow(Duration),
    /// Answer with a status once released.
    When(Arc<Notify>, u16),
    /// Close the connection without an answer.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: http::Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The receiver; it ends with the test's process.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    received: Vec<Received>,
    acknowledged: Vec<Received>,
}

impl Receiver {
    /// Answers the first requests by `script` and all others with 200.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let state = State {
            script: script.into_iter().collect(),
            ..State::default()
        };
        let receiver = Self {
            url,
            state: Arc::new(Mutex::new(state)),
        };
        tokio::spawn(receiver.clone().serve(listener, None));
        receiver
    }

    /// As [`Receiver::start`], behind TLS, at `localhost`.
    pub async fn start_tls(acceptor: TlsAcceptor, script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            script: script.into_iter().collect(),
            ..State::default()
        };
        let receiver = Self {
            url: format!("https://localhost:{port}/hook"),
            state: Arc::new(Mutex::new(state)),
        };
        tokio::spawn(receiver.clone().serve(listener, Some(acceptor)));
        receiver
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    /// Answers what comes next by `script`, and then all with 200 again.
    pub fn script(&self, script: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script = script.into_iter().collect();
    }

    /// The requests that were answered with 200, unless their sender was gone.
    #[cfg_attr(not(feature = "embedded"), expect(dead_code, reason = "of process.rs"))]
    pub fn acknowledged(&self) -> Vec<Received> {
        self.state.lock().unwrap().acknowledged.clone()
    }

    /// Waits until `requests` have come.
    pub async fn reached(&self, requests: usize) {
        let begun = std::time::Instant::now();
        while self.received().len() < requests {
            assert!(begun.elapsed() < REACHED_MAX, "{:?}", self.received());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The only request so far.
    pub fn only(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }

    async fn serve(self, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (receiver, tls) = (self.clone(), tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => receiver.serve_one(stream).await,
                    Some(tls) => {
                        // Whoever is refused is not served.
                        if let Ok(stream) = tls.accept(stream).await {
                            receiver.serve_one(stream).await;
                        }
                    }
                }
            });
        }
    }

    async fn serve_one(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(|request| self.answer(request));
        // A scripted close ends the connection with an error.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, &'static str> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| "the request broke off")?
            .to_bytes();
        let received = Received {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body,
        };
        let reply = {
            let mut state = self.state.lock().unwrap();
            state.received.push(received.clone());
            state.script.pop_front().unwrap_or(Reply::Status(200))
        };
        let mut response = http::Response::new(Full::new(Bytes::new()));
        match reply {
            Reply::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
            Reply::With {
                status,
                header: (name, value),
                body,
            } => {
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response.headers_mut().insert(name, value.parse().unwrap());
                *response.body_mut() = Full::new(body.into());
            }
            Reply::Redirect(location) => {
                *response.status_mut() = StatusCode::FOUND;
                response
                    .headers_mut()
                    .insert("location", location.parse().unwrap());
            }
            Reply::Slow(time) => tokio::time::sleep(time).await,
            Reply::When(release, status) => {
                release.notified().await;
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
            }
            Reply::Close => return Err("closed by the script"),
        }
        if response.status() == StatusCode::OK {
            self.state.lock().unwrap().acknowledged.push(received);
        }
        Ok(response)
    }
}
