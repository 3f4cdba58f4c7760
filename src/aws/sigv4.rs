//! Signature Version 4 for plain requests to AWS: those few that would cost a
//! whole SDK crate otherwise.
//!
//! Owns the credentials, which come into being with the first request and are
//! asked for anew before they expire.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::Request;

use super::clients;
use crate::config::Config;

/// How long before they expire credentials are asked for anew.
const CREDENTIALS_MARGIN: Duration = Duration::from_mins(5);

/// The service a request is signed for.
#[derive(Debug, Clone, Copy)]
pub enum Service {
    /// X-Ray, of which the OTLP endpoint is called.
    Xray,
    /// S3, of which objects are put.
    S3,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Xray => "xray",
            Self::S3 => "s3",
        }
    }

    fn settings(self) -> SigningSettings {
        let mut settings = SigningSettings::default();
        // S3 takes paths as they are, and wants the body's hash in a header.
        if matches!(self, Self::S3) {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        settings
    }
}

/// Signs requests with the process's credentials.
pub struct SigV4Signer {
    config: Box<Config>,
    provider: OnceLock<SharedCredentialsProvider>,
    credentials: Mutex<Option<Credentials>>,
}

impl SigV4Signer {
    /// One that finds the role's credentials when it first signs.
    pub fn new(config: &Config) -> Self {
        Self {
            config: Box::new(config.clone()),
            provider: OnceLock::new(),
            credentials: Mutex::default(),
        }
    }

    /// One that signs with what `provider` gives.
    pub fn with_credentials(config: &Config, provider: SharedCredentialsProvider) -> Self {
        Self {
            provider: OnceLock::from(provider),
            ..Self::new(config)
        }
    }

    /// Adds what proves that `request`, which has `body`, is ours.
    ///
    /// # Errors
    /// When there are no credentials, or a header is not text.
    pub async fn sign(
        &self,
        service: Service,
        request: &mut Request<()>,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let identity = self.credentials().await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.config.region())
            .name(service.name())
            .time(SystemTime::now())
            .settings(service.settings())
            .build()?
            .into();
        let method = request.method().as_str().to_owned();
        let uri = request.uri().to_string();
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let body = SignableBody::Bytes(body);
        let signable = SignableRequest::new(&method, uri, headers, body)?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }

    /// The role's credentials, kept until shortly before they expire.
    async fn credentials(&self) -> anyhow::Result<Credentials> {
        let kept = || {
            self.credentials
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let soon = SystemTime::now() + CREDENTIALS_MARGIN;
        if let Some(credentials) = &*kept()
            && credentials.expiry().is_none_or(|expiry| soon < expiry)
        {
            return Ok(credentials.clone());
        }
        let provider = match self.provider.get() {
            Some(provider) => provider,
            None => {
                let http = clients::http_client(&self.config.aws.ca_file)?;
                self.provider.get_or_init(|| clients::credentials(http))
            }
        };
        let found = provider.provide_credentials().await;
        let credentials = found.context("AWS credentials")?;
        *kept() = Some(credentials.clone());
        Ok(credentials)
    }
}

impl std::fmt::Debug for SigV4Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigV4Signer").finish_non_exhaustive()
    }
}
