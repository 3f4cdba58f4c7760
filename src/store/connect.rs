//! Making the AWS clients. Nothing here talks to AWS, reads a certificate store
//! or asks for the region: a client connects when it is first used.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::Region;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::dynamo::Dynamo;
use crate::config::Config;

/// For a connection to AWS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For one try of a call; retries come on top.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a call with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(12);
/// Tries of a call that was throttled or met a transient error.
const ATTEMPTS_MAX: u32 = 4;

/// The authorities of AWS's own endpoints: Amazon Trust Services 1 to 4 and the
/// Starfield root that vouched for them before. The system's store has 140 more
/// and takes milliseconds to parse.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// The HTTP client of AWS calls: rustls on ring, the only TLS in the process.
/// Makes its TLS ready when it first connects.
///
/// # Errors
/// `ca_file` (`aws.ca_file`) holds no certificates.
pub fn http_client(ca_file: Option<&Path>) -> anyhow::Result<SharedHttpClient> {
    let roots = match ca_file {
        Some(path) => authorities(path)?,
        None => AMAZON_ROOTS.to_vec(),
    };
    let tls = TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(roots))
        .build()?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https())
}

/// A path that is configured; none for an empty one.
pub fn file(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// The PEM of `path`, checked: the client would panic on it later.
fn authorities(path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = || format!("aws.ca_file: {}", path.display());
    let pem = std::fs::read(path).with_context(what)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let mut roots = rustls::RootCertStore::empty();
    let certificates = parsed.with_context(what)?;
    anyhow::ensure!(
        !certificates.is_empty(),
        "{}: expected certificates in PEM",
        what()
    );
    for certificate in certificates {
        roots.add(certificate).with_context(what)?;
    }
    Ok(pem)
}

/// The client of Secrets Manager at `config`'s endpoint, or AWS's own.
pub fn secrets_manager(config: &Config, aws: &SdkConfig) -> aws_sdk_secretsmanager::Client {
    let mut builder = aws_sdk_secretsmanager::config::Builder::from(aws);
    if let Some(endpoint) = config.secrets_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    aws_sdk_secretsmanager::Client::from_conf(builder.build())
}

/// What all AWS clients share.
pub async fn aws(config: &Config, http: SharedHttpClient) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region().to_owned()))
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts)
        .load()
        .await
}

/// The client of a DynamoDB at `config`'s endpoint, or AWS's own.
pub fn dynamo(config: &Config, aws: &SdkConfig) -> Dynamo {
    let mut builder = aws_sdk_dynamodb::config::Builder::from(aws);
    if let Some(endpoint) = config.dynamodb_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    client(builder, config)
}

/// The client of a DynamoDB that `http` reaches by itself: the embedded one. It
/// takes any credentials and no network.
pub fn embedded_dynamo(config: &Config, http: SharedHttpClient) -> Dynamo {
    let credentials = Credentials::from_keys("embedded", "embedded", None);
    let builder = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region().to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url("http://embedded.invalid")
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .http_client(http);
    client(builder, config)
}

fn client(builder: aws_sdk_dynamodb::config::Builder, config: &Config) -> Dynamo {
    let client = aws_sdk_dynamodb::Client::from_conf(builder.build());
    Dynamo {
        client,
        table: config.dynamodb.table.clone(),
    }
}
