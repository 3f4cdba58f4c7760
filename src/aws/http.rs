//! The HTTP client of AWS's SDK, by the connections and the TLS of webhooks.
//!
//! Owns the classification of failures, from which the SDK knows whether a call may
//! be tried again.
//! The SDK's own client brings HTTP/2, which nothing that is called here speaks,
//! and one more instance of all of hyper.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use http::Request;
use http_body_util::{BodyExt, Either, Limited};
use hyper_util::client::legacy::connect::capture_connection;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::sender::{self, Connector, RequestBody, SendError};

/// The authorities of AWS's own endpoints: Amazon Trust Services 1 to 4 and the
/// Starfield root that vouched for them before. The system's store has 140 more
/// and takes milliseconds to parse.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");
/// For opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Unused connections that are kept for one host.
const IDLE_PER_HOST_MAX: usize = 128;
/// Twice what DynamoDB may answer.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A pool of connections; clones share it.
#[derive(Clone)]
pub struct AwsHttp {
    pool: Arc<Pool>,
    /// From sending a request to the end of its answer.
    timeout: Option<Duration>,
}

struct Pool {
    /// Those of `aws.ca_file`; Amazon's, if none.
    roots: Option<RootCertStore>,
    /// Made by the first call.
    client: OnceLock<sender::HttpClient>,
}

impl AwsHttp {
    /// A client that trusts `roots`, or else those of AWS's own endpoints. Makes its
    /// TLS ready when it first connects.
    pub fn new(roots: Option<RootCertStore>) -> Self {
        let client = OnceLock::new();
        Self {
            pool: Arc::new(Pool { roots, client }),
            timeout: None,
        }
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let client = self.pool.client.get_or_init(|| self.pool.client());
        let mut request = watched(request)?;
        let connection = capture_connection(&mut request);
        if let Some(asked) = request.extensions().get::<CaptureSmithyConnection>() {
            // After an answer that speaks of a sick server the SDK gives its
            // connection up.
            asked.set_connection_retriever(move || {
                let connection = connection.clone();
                let give_up = move || {
                    if let Some(connected) = &*connection.connection_metadata() {
                        connected.poison();
                    }
                };
                let metadata = ConnectionMetadata::builder().proxied(false);
                Some(metadata.poison_fn(give_up).build())
            });
        }
        let response = client.request(request).await;
        let (parts, body) = response.map_err(refused)?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(ConnectorError::io)?.to_bytes();
        HttpResponse::try_from(http::Response::from_parts(parts, SdkBody::from(body)))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

impl Pool {
    fn client(&self) -> sender::HttpClient {
        let roots = self.roots.clone().unwrap_or_else(amazon_roots);
        sender::client(
            Connector::unguarded(CONNECT_TIMEOUT),
            sender::tls_config(roots, None),
            IDLE_PER_HOST_MAX,
        )
    }
}

fn amazon_roots() -> RootCertStore {
    authorities(AMAZON_ROOTS).expect("a test parses them")
}

/// The certificates of `pem`, as authorities to trust.
///
/// # Errors
/// When there are none, or one that cannot be read.
pub fn authorities(pem: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "expected certificates in PEM");
    Ok(roots)
}

impl HttpClient for AwsHttp {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let pool = self.pool.clone();
        let timeout = settings.read_timeout();
        Self { pool, timeout }.into_shared()
    }
}

impl HttpConnector for AwsHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.clone();
        HttpConnectorFuture::new(async move {
            let exchange = http.exchange(request);
            match http.timeout {
                None => exchange.await,
                Some(after) => tokio::time::timeout(after, exchange)
                    .await
                    .unwrap_or_else(|late| Err(ConnectorError::timeout(late.into()))),
            }
        })
    }
}

impl std::fmt::Debug for AwsHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsHttp").finish_non_exhaustive()
    }
}

/// The request with the body as the SDK wrapped it. The SDK ends a call whose body is
/// not read on, so it must see it read, and read to its end: a call whose answer takes
/// its time would else pass for one whose upload stalls.
fn watched(request: HttpRequest) -> Result<Request<RequestBody>, ConnectorError> {
    let request = request.try_into_http1x();
    let request = request.map_err(|error| ConnectorError::user(error.into()))?;
    Ok(request.map(|body| Either::Right(body.boxed_unsync())))
}

/// The SDK's error for a call without an answer: most of them it tries again.
fn refused(error: hyper_util::client::legacy::Error) -> ConnectorError {
    match SendError::request(&error) {
        SendError::ConnectTimeout { .. } | SendError::Timeout { .. } => {
            ConnectorError::timeout(error.into())
        }
        SendError::InvalidUrl | SendError::Blocked { .. } => ConnectorError::user(error.into()),
        SendError::InvalidResponse | SendError::HeadTooLarge | SendError::TooManyInterim => {
            ConnectorError::other(error.into(), None)
        }
        SendError::Dns | SendError::Connect { .. } | SendError::Tls { .. } | SendError::Closed => {
            ConnectorError::io(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::config::retry::RetryConfig;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_dynamodb::{Client, Config};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const TABLE: &str = "{\"Table\":{}}";

    /// Answers a connection with each of `answers` in turn, closing it after the
    /// last; then takes the next connection.
    async fn serve(listener: TcpListener, connections: Vec<Vec<&'static str>>) {
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let mut asked = Vec::new();
                while !asked.ends_with(b"}") {
                    let mut some = [0; 1024];
                    let read = stream.read(&mut some).await.unwrap();
                    assert_ne!(read, 0, "closed instead of asking");
                    asked.extend_from_slice(&some[..read]);
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    async fn client(attempts: u32, connections: Vec<Vec<&'static str>>) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener, connections));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::from_keys("test", "test", None))
            .endpoint_url(url)
            .retry_config(RetryConfig::standard().with_max_attempts(attempts))
            .http_client(AwsHttp::new(None));
        Client::from_conf(config.build())
    }

    async fn call(client: &Client) {
        let call = client.describe_table().table_name("millrace");
        call.send().await.unwrap();
    }

    fn answer(status: &str, body: &str) -> &'static str {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").leak()
    }

    #[test]
    fn the_roots_are_amazons() {
        assert_eq!(amazon_roots().len(), 5);
        let refused = authorities(b"").unwrap_err().to_string();
        assert_eq!(refused, "expected certificates in PEM");
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_one_that_was_closed_is_not() {
        let ok = answer("200 OK", TABLE);
        let client = client(1, vec![vec![ok, ok], vec![ok]]).await;
        for _ in 0..3 {
            call(&client).await;
            // For the end of the connection to be seen.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_on_another_connection() {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"Table";
        let sick = answer("500 Internal Server Error", "{}");
        let ok = answer("200 OK", TABLE);
        // The second of the last connection would wait for ever.
        let client = client(4, vec![vec![""], vec![cut], vec![sick], vec![ok, ok]]).await;
        call(&client).await;
        call(&client).await;
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_nobody_answering() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut request = HttpRequest::empty();
        let url = format!("http://{}", listener.local_addr().unwrap());
        request.set_uri(url).unwrap();
        let http = AwsHttp {
            timeout: Some(Duration::from_millis(50)),
            ..AwsHttp::new(None)
        };
        let again = request.try_clone().unwrap();
        let error = http.call(again).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        drop(listener);
        let error = http.call(request).await.unwrap_err();
        assert!(error.is_io(), "{error:?}");
    }
}
