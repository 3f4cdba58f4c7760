//! An HTTP client: a pool of connections and the TLS that they are made with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::connect::Connector;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest response head, give or take what one read brings.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A pool of connections.
pub(crate) type HttpClient = Client<HttpsConnector<Connector>, Full<Bytes>>;

/// A pool of at most `idle_per_host_max` unused connections to a host, over
/// HTTP/1.1 alone.
pub(crate) fn client(
    connector: Connector,
    tls: rustls::ClientConfig,
    idle_per_host_max: usize,
) -> HttpClient {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_per_host_max)
        .http1_max_buf_size(HEAD_BYTES_MAX)
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
