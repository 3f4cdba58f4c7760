//! Outbound HTTP: one POST to a customer's URL.
//!
//! Owns the connection pool, the time and size limits of an attempt and the guard
//! against private addresses. Called by the deliver job, and [`check_url`] by the API
//! when an endpoint is written. It must not follow redirects, decompress, retry
//! what may have been received, or know of deliveries.

mod address;
mod client;
mod client_certificate;
mod connect;
mod error;
mod header_case;
#[cfg(test)]
mod tests;
mod url_policy;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio_util::task::TaskTracker;
use url::Url;

pub use address::is_public;
pub use client_certificate::check_certificate;
pub use connect::Resolve;
pub use error::SendError;
pub use header_case::RequestHeaders;
use header_case::Spellings;
pub use url_policy::{PrivateTargets, check_url, parse_url};

pub(crate) use client::{HttpClient, client, tls_config};
use client_certificate::CertificateClients;
pub(crate) use connect::Connector;
use connect::Resolver;

use crate::model::credentials::ClientCertificate;

/// The limits of an attempt.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Whether addresses that are not public may be dialled: on a laptop only.
    pub allow_private_targets: bool,
    /// For looking the host up and connecting.
    pub connect_timeout: Duration,
    /// For the whole attempt, connecting and the response's body included.
    pub timeout: Duration,
    /// How much of a response's body is read. Of a longer one the rest is dropped,
    /// and the connection with it.
    pub response_bytes_max: usize,
    /// How much of a response's body is handed back.
    pub response_kept_bytes: usize,
    /// The `user-agent` header.
    pub user_agent: HeaderValue,
    /// How many unused connections are kept for one host.
    pub idle_per_host_max: usize,
    /// Certificate authorities that endpoints' certificates may be of, beside the
    /// public ones.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

impl SenderConfig {
    /// For a service of Millrace's own, such as S3 or a collector: whoever runs this
    /// configured it, and mostly it is inside a VPC. `timeout` is for a request as a
    /// whole.
    pub fn of_service(connect_timeout: Duration, timeout: Duration) -> Self {
        Self {
            allow_private_targets: true,
            connect_timeout,
            timeout,
            response_bytes_max: 4096,
            // Of a refusal, to be logged.
            response_kept_bytes: 300,
            user_agent: HeaderValue::from_static("millrace"),
            idle_per_host_max: 1,
            extra_roots: vec![],
        }
    }
}

/// Sends webhooks. Cheap to clone; clones share one connection pool.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

struct Inner {
    config: SenderConfig,
    connector: Connector,
    /// Built by the first attempt: a process that sends nothing sets up no TLS.
    client: OnceLock<HttpClient>,
    /// As many more as there are client certificates.
    certificate_clients: CertificateClients,
    spellings: Spellings,
    in_flight: TaskTracker,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct AttemptResult {
    /// A response of whatever status, or why there is none.
    pub outcome: Result<Response, SendError>,
    /// From the call to the end of the response's body.
    pub latency: Duration,
}

/// What the receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `retry-after` header, as sent.
    pub retry_after: Option<String>,
    /// The first bytes of the body as text, at most
    /// [`SenderConfig::response_kept_bytes`] of them. What is not UTF-8, and
    /// control characters but line feed and tab, are U+FFFD.
    pub body_head: String,
}

impl Sender {
    /// A sender that looks names up as the system does.
    pub fn new(config: SenderConfig) -> Self {
        Self::build(config, Resolver::System)
    }

    /// A sender that looks names up with `resolve`, which must not block. The
    /// addresses it gives are checked like any others.
    pub fn with_resolver(config: SenderConfig, resolve: Arc<Resolve>) -> Self {
        Self::build(config, Resolver::Custom(resolve))
    }

    fn build(config: SenderConfig, resolver: Resolver) -> Self {
        let is_allowed = if config.allow_private_targets {
            |_| true
        } else {
            is_public
        };
        Self::guarded(config, resolver, is_allowed)
    }

    fn guarded(config: SenderConfig, resolver: Resolver, is_allowed: fn(IpAddr) -> bool) -> Self {
        let connector = Connector {
            resolver,
            is_allowed,
            timeout: config.connect_timeout,
        };
        Self {
            inner: Arc::new(Inner {
                config,
                connector,
                client: OnceLock::new(),
                certificate_clients: CertificateClients::default(),
                spellings: Spellings::default(),
                in_flight: TaskTracker::new(),
            }),
        }
    }

    /// How many attempts are under way.
    pub fn in_flight(&self) -> usize {
        self.inner.in_flight.len()
    }

    /// Posts `body` to `url` with `headers`, to which it adds `user-agent`, `host`
    /// and `content-length`; with a client certificate where the receiver asks for
    /// one and there is one.
    ///
    /// A response is one that came whole, or up to
    /// [`SenderConfig::response_bytes_max`]; a redirect is a response. The request
    /// is sent again only when it was lost before it left, on a pooled connection
    /// that the receiver had closed.
    pub async fn post(
        &self,
        url: &Url,
        headers: impl Into<RequestHeaders>,
        body: Bytes,
        certificate: Option<&ClientCertificate>,
    ) -> AttemptResult {
        self.send(Method::POST, url, headers, body, certificate)
            .await
    }

    /// As [`Sender::post`], with another method.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: impl Into<RequestHeaders>,
        body: Bytes,
        certificate: Option<&ClientCertificate>,
    ) -> AttemptResult {
        let headers = headers.into();
        let _in_flight = self.inner.in_flight.token();
        let started = Instant::now();
        let after = self.inner.config.timeout;
        let exchange = self.exchange(method, url, headers, body, certificate);
        let outcome = tokio::time::timeout(after, exchange)
            .await
            .unwrap_or(Err(SendError::Timeout { after }));
        AttemptResult {
            outcome,
            latency: started.elapsed(),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        headers: RequestHeaders,
        body: Bytes,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Response, SendError> {
        let inner = &*self.inner;
        let config = &inner.config;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|_| SendError::InvalidUrl)?;
        *request.headers_mut() = headers.map;
        if !headers.spelled.is_empty() {
            *request.extensions_mut() = inner.spellings.get(&headers.spelled).await;
        }
        request
            .headers_mut()
            .insert(USER_AGENT, config.user_agent.clone());
        if request.body().size_hint().exact() == Some(0) && has_content(request.method()) {
            // hyper leaves it out; RFC 9110 §8.6 wants it where content is expected.
            let none = HeaderValue::from_static("0");
            request.headers_mut().insert(CONTENT_LENGTH, none);
        }

        let client = match certificate {
            None => inner.client.get_or_init(|| inner.client(None)).clone(),
            Some(certificate) => inner
                .certificate_clients
                .get(certificate, |certified| inner.client(Some(certified)))?,
        };
        let response = client
            .request(request)
            .await
            .map_err(|error| SendError::request(&error))?;
        Ok(Response {
            status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            body_head: read_head(response.into_body(), config).await?,
        })
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Inner {
    fn client(&self, certified: Option<CertifiedKey>) -> HttpClient {
        let mut roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        roots.add_parsable_certificates(self.config.extra_roots.iter().cloned());
        client(
            self.connector.clone(),
            tls_config(roots, certified),
            self.config.idle_per_host_max,
        )
    }
}

/// Whether a request of this method is expected to have content.
fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

async fn read_head(mut body: Incoming, config: &SenderConfig) -> Result<String, SendError> {
    // A body that announces more than is read costs its connection in any case.
    let read_max = if body.size_hint().lower() > config.response_bytes_max as u64 {
        config.response_kept_bytes
    } else {
        config.response_bytes_max
    };
    let (mut head, mut read) = (Vec::new(), 0);
    while read < read_max
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| SendError::body(&error))?;
        if let Some(data) = frame.data_ref() {
            read += data.len();
            let room = config.response_kept_bytes - head.len();
            head.extend_from_slice(&data[..room.min(data.len())]);
        }
    }
    Ok(to_text(&head))
}

fn to_text(head: &[u8]) -> String {
    let whole = match std::str::from_utf8(head) {
        // A character that the limit cut in two.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        _ => head,
    };
    String::from_utf8_lossy(whole)
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}
