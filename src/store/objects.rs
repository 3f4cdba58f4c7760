//! Objects in S3: the archive of events, written and never read.
//!
//! One signed PUT over the HTTP stack that webhooks use: the S3 crate would be
//! many times the rest of this for the same request. A PUT of the same key again
//! replaces the object.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request};
use url::Url;

use crate::aws;
use crate::aws::sigv4::{Service, SigV4Signer};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::sender::{Sender, SenderConfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a PUT, all in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of a PUT that S3 did not take for a reason that passes.
const TRIES_MAX: u32 = 3;
const GZIP: HeaderValue = HeaderValue::from_static("application/gzip");

/// The bucket that archives are written to.
#[derive(Debug)]
pub struct Objects {
    /// Where it is, with a slash at the end.
    base: Url,
    sender: Sender,
    signer: SigV4Signer,
}

/// Why one PUT failed.
struct PutFailure {
    /// Another one may do at once.
    is_transient: bool,
    source: anyhow::Error,
}

impl Objects {
    /// The bucket `archive.bucket`; none without. Connects to nothing.
    ///
    /// # Errors
    /// When `archive.endpoint_url` is not a URL.
    pub fn connect(config: &Config) -> anyhow::Result<Option<Self>> {
        Self::signed(config, SigV4Signer::new(config))
    }

    /// The same, with credentials of one's own.
    ///
    /// # Errors
    /// As [`Objects::connect`].
    pub fn with_credentials(
        config: &Config,
        provider: SharedCredentialsProvider,
    ) -> anyhow::Result<Option<Self>> {
        Self::signed(config, SigV4Signer::with_credentials(config, provider))
    }

    fn signed(config: &Config, signer: SigV4Signer) -> anyhow::Result<Option<Self>> {
        if config.archive.bucket.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            base: config.archive_url().parse()?,
            sender: Sender::new(SenderConfig::of_service(CONNECT_TIMEOUT, TIMEOUT)),
            signer,
        }))
    }

    /// Writes `gzip` as the object `key`, whose characters need no escapes. Needs
    /// `s3:PutObject`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when S3 does not take it, which a later call may see
    /// mended; [`Error::Internal`] for a key that is no path.
    pub async fn put(&self, key: &str, gzip: Bytes) -> Result<()> {
        let url = self.base.join(key).map_err(Error::internal)?;
        let mut tries = 1;
        loop {
            match self.try_put(&url, gzip.clone()).await {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_transient && tries < TRIES_MAX => {
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                }
                Err(failure) => {
                    return Err(Error::Unavailable {
                        what: "the archive",
                        source: failure.source,
                    });
                }
            }
        }
    }

    async fn try_put(&self, url: &Url, body: Bytes) -> Result<(), PutFailure> {
        let headers = self.headers(url, &body).await;
        let headers = headers.map_err(|source| PutFailure {
            is_transient: false,
            source,
        })?;
        let attempted = self
            .sender
            .send(Method::PUT, url, headers, body, None)
            .await;
        let response = attempted.outcome.map_err(|error| PutFailure {
            is_transient: true,
            source: error.into(),
        })?;
        match response.status {
            200..=299 => Ok(()),
            status => Err(PutFailure {
                is_transient: status == 429 || status >= 500,
                source: aws::error::refusal(status, &response.body_head),
            }),
        }
    }

    async fn headers(&self, url: &Url, body: &[u8]) -> anyhow::Result<HeaderMap> {
        let mut request = Request::put(url.as_str())
            .header(CONTENT_TYPE, GZIP)
            .body(())?;
        self.signer.sign(Service::S3, &mut request, body).await?;
        Ok(request.into_parts().0.headers)
    }
}
