//! Making the AWS clients. Nothing here talks to AWS, reads a certificate store
//! or asks for the region: a client connects when it is first used.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::config::Region;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

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

/// The HTTP client of AWS calls: rustls on ring, the only TLS in the process.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// What all AWS clients share.
pub async fn aws(config: &Config, http: SharedHttpClient) -> aws_config::SdkConfig {
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
pub fn dynamo(config: &Config, aws: &aws_config::SdkConfig) -> Dynamo {
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
