//! An HTTP client: a pool of connections and the TLS that they are made with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::connect::Connector;
use super::connection::{HEAD_BYTES_MAX, WatchedConnector};

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most headers that fit in it.
const HEADERS_MAX: usize = HEAD_BYTES_MAX / 4;

/// A request's body: one in memory, or one that whoever made it watches being read.
/// One type for all, for each brings an instance of the client of its own.
pub(crate) type RequestBody = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BoxError>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A pool of connections.
pub(crate) type HttpClient = Client<WatchedConnector, RequestBody>;

/// A body in memory.
pub(crate) fn in_memory(bytes: Bytes) -> RequestBody {
    Either::Left(Full::new(bytes))
}

/// The two ways to send a request.
#[derive(Clone)]
pub(super) struct Clients {
    /// On a connection that was kept, if there is one.
    pub pooled: HttpClient,
    /// On a connection of its own.
    pub unpooled: HttpClient,
}

/// A pool of at most `idle_per_host_max` unused connections to a host, over
/// HTTP/1.1 alone. Of an answer's headers, those that are not valid are passed over:
/// its status counts.
pub(crate) fn client(
    connector: Connector,
    tls: rustls::ClientConfig,
    idle_per_host_max: usize,
) -> HttpClient {
    pool(watched(connector, tls), idle_per_host_max)
}

/// As [`client`], and one beside it that keeps no connection.
pub(super) fn clients(
    connector: Connector,
    tls: rustls::ClientConfig,
    idle_per_host_max: usize,
) -> Clients {
    let connector = watched(connector, tls);
    Clients {
        pooled: pool(connector.clone(), idle_per_host_max),
        unpooled: pool(connector, 0),
    }
}

fn watched(connector: Connector, tls: rustls::ClientConfig) -> WatchedConnector {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    WatchedConnector::new(connector)
}

fn pool(connector: WatchedConnector, idle_per_host_max: usize) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_per_host_max)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .http1_max_headers(HEADERS_MAX)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .build(connector)
}

/// TLS on ring, that trusts `roots`.
pub(crate) fn tls_config(
    roots: rustls::RootCertStore,
    certified: Option<CertifiedKey>,
) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("ring has a cipher suite for each default version")
    .with_root_certificates(roots);
    match certified {
        None => builder.with_no_client_auth(),
        Some(certified) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    }
}
