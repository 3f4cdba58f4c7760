//! The clients of AWS: their HTTP, credentials, timeouts and retries.
//!
//! Each store and the queue make their own client of what is here. Nothing here
//! talks to AWS, reads a certificate store or asks for the region: a client
//! connects when it is first used.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::identity::IdentityCache;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::shared::IntoShared;

use super::http::{AwsHttp, authorities};
use crate::config::Config;

/// For one attempt of a call; retries come on top.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a call with its retries.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(12);
/// Attempts of a call that is throttled or meets a transient error.
const ATTEMPTS_MAX: u32 = 4;

/// The HTTP client of AWS calls: rustls on ring, the only TLS in the process.
/// Makes its TLS ready when it first connects. `ca_file` is `aws.ca_file`.
///
/// # Errors
/// `ca_file` is configured and holds no certificates.
pub fn http_client(ca_file: &Path) -> anyhow::Result<SharedHttpClient> {
    let roots = match file(ca_file) {
        None => None,
        Some(path) => {
            let what = || format!("aws.ca_file: {}", path.display());
            let pem = std::fs::read(path).with_context(what)?;
            Some(authorities(&pem).with_context(what)?)
        }
    };
    Ok(AwsHttp::new(roots).into_shared())
}

/// A path that is configured; none for an empty one.
pub fn file(path: &Path) -> Option<&Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

/// A client of AWS that is made when it is first used. Clones share it.
pub struct Lazy<C>(Arc<LazyLock<C, Box<dyn FnOnce() -> C + Send>>>);

impl<C> Lazy<C> {
    /// A client that `make` makes when it is first used.
    pub fn new(make: impl FnOnce() -> C + Send + 'static) -> Self {
        // Making one reads what there is of regions, which takes as long as the rest of
        // a start.
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl<C> Deref for Lazy<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C> Clone for Lazy<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> std::fmt::Debug for Lazy<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lazy")
    }
}

/// What all AWS clients share: region, HTTP, credentials, timeouts and retries.
pub fn sdk_config(config: &Config, http: SharedHttpClient) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let credentials = credentials(http.clone());
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(config.region().to_owned()))
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts)
        .credentials_provider(credentials)
        // One for all: each would ask for the same ones by itself.
        .identity_cache(IdentityCache::lazy().build())
        .build()
}

/// Credentials from the environment, where Lambda puts its role's, or from where
/// ECS keeps a task's. No profile, no file and no other service is looked at.
pub fn credentials(http: SharedHttpClient) -> SharedCredentialsProvider {
    let provider = ProviderConfig::without_region().with_http_client(http);
    let task = EcsCredentialsProvider::builder().configure(&provider);
    SharedCredentialsProvider::new(
        CredentialsProviderChain::first_try(
            "Environment",
            EnvironmentVariableCredentialsProvider::new(),
        )
        .or_else("EcsContainer", task.build()),
    )
}
