//! Outbound HTTP: one POST to a customer's URL.
//!
//! Owns the connection pool, the time and size limits of an attempt and the guard
//! against private addresses. Called by the deliver job, and [`check_url`] by the API
//! when an endpoint is written. It must not follow redirects, decompress, send
//! again what was answered or went on a connection of its own, or know of deliveries.

mod address;
mod body;
mod client;
mod client_certificate;
mod connect;
mod connection;
mod dns;
mod error;
mod exchange;
mod header_case;
#[cfg(test)]
mod tests;
mod url_policy;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body::Body;
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use url::Url;

pub use address::is_public;
pub use client_certificate::check_certificate;
pub use connect::Resolve;
pub use error::SendError;
pub use header_case::RequestHeaders;
use header_case::Spellings;
pub use url_policy::{PrivateTargets, check_url, parse_url};

use client::{Clients, clients};
pub(crate) use client::{HttpClient, RequestBody, client, in_memory, tls_config};
use client_certificate::CertificateClients;
pub(crate) use connect::Connector;
use connect::{LOOK_UP_OWNER, Resolver};
use dns::Dns;
use exchange::Answer;

use crate::model::credentials::ClientCertificate;
use crate::model::id::ProjectId;

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
    /// and the connection with it; what it is does not change what the status says.
    pub response_bytes_max: usize,
    /// How much of a response's body is handed back.
    pub response_kept_bytes: usize,
    /// The `user-agent` header.
    pub user_agent: HeaderValue,
    /// How many unused connections are kept for one host.
    pub idle_per_host_max: usize,
    /// About how many are kept for all hosts together.
    pub idle_max: usize,
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
            idle_max: 1,
            extra_roots: vec![],
        }
    }
}

/// Sends webhooks. Cheap to clone; clones share one connection pool.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
    /// In whose share names are looked up.
    owner: Option<ProjectId>,
}

struct Inner {
    config: SenderConfig,
    connector: Connector,
    /// Built by the first attempt: a process that sends nothing sets up no TLS.
    clients: OnceLock<Clients>,
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
    /// A sender that looks names up by the system's configuration of DNS, without a
    /// thread for each that takes long.
    pub fn new(config: SenderConfig) -> Self {
        let dns = Dns::of_system(config.connect_timeout);
        Self::build(config, Resolver::Dns(Arc::new(dns)))
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
                clients: OnceLock::new(),
                certificate_clients: CertificateClients::default(),
                spellings: Spellings::default(),
                in_flight: TaskTracker::new(),
            }),
            owner: None,
        }
    }

    /// The same sender, for what `owner` sends: names are looked up in its share.
    pub fn on_behalf_of(&self, owner: &ProjectId) -> Self {
        Self {
            inner: self.inner.clone(),
            owner: Some(owner.clone()),
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
    /// A status that came in time is a response, whatever becomes of the body; a
    /// redirect is one. The request is sent again only when it was lost on a pooled
    /// connection that the receiver was closing: once, at once, within the same time.
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
        let until = started + after;
        let answer = self.answer(method, url, headers, body, certificate);
        let answer = LOOK_UP_OWNER.scope(self.owner.clone(), answer);
        let outcome = match timeout_at(until, answer).await {
            Ok(Ok(answer)) => Ok(self.read(answer, until).await),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SendError::Timeout { after }),
        };
        AttemptResult {
            outcome,
            latency: started.elapsed(),
        }
    }

    async fn answer(
        &self,
        method: Method,
        url: &Url,
        headers: RequestHeaders,
        body: Bytes,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Answer, SendError> {
        let inner = &*self.inner;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|_| SendError::InvalidUrl)?;
        *request.headers_mut() = headers.map;
        if !headers.spelled.is_empty() {
            *request.extensions_mut() = inner.spellings.get(&headers.spelled).await;
        }
        request
            .headers_mut()
            .insert(USER_AGENT, inner.config.user_agent.clone());
        if request.body().size_hint().exact() == Some(0) && has_content(request.method()) {
            // hyper leaves it out; RFC 9110 §8.6 wants it where content is expected.
            let none = HeaderValue::from_static("0");
            request.headers_mut().insert(CONTENT_LENGTH, none);
        }
        let clients = match certificate {
            None => inner.clients.get_or_init(|| inner.clients(None)).clone(),
            Some(certificate) => inner
                .certificate_clients
                .get(certificate, |certified| inner.clients(Some(certified)))?,
        };
        // Those that are in use count for themselves.
        let open_max = self.in_flight() + inner.config.idle_max;
        exchange::exchange(&clients, request, open_max).await
    }

    async fn read(&self, answer: Answer, until: Instant) -> Response {
        let Answer {
            status,
            retry_after,
            body,
        } = answer;
        let body_head = match body {
            Some(body) => {
                let config = &self.inner.config;
                let limits = body::Limits {
                    read_bytes: config.response_bytes_max,
                    kept_bytes: config.response_kept_bytes,
                };
                body::read_text(body, limits, until).await
            }
            None => String::new(),
        };
        Response {
            status,
            retry_after,
            body_head,
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Inner {
    fn clients(&self, certified: Option<CertifiedKey>) -> Clients {
        let mut roots = rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        roots.add_parsable_certificates(self.config.extra_roots.iter().cloned());
        clients(
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
