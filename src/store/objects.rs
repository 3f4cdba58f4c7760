//! Objects in S3: the archive of events. Written part by part, and read again only to
//! take out what is erased.
//!
//! A few signed requests over the HTTP stack that webhooks use: the S3 crate would be
//! many times the rest of this for the same requests. A PUT of the same key again
//! replaces the object.

mod listing;
mod uri;

use std::sync::OnceLock;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use self::uri::BucketUri;
use crate::aws;
use crate::aws::sigv4::{Service, SigV4Signer};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::sender::{Connector, HttpClient, RequestBody, SendError, client, in_memory, tls_config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a request, all in all.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of a request that S3 did not take for a reason that passes.
const TRIES_MAX: u32 = 3;
/// Bytes of an answer: many times the largest object that is written.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a refusal that are looked at, to be logged.
const REFUSAL_BYTES_MAX: usize = 300;
/// Names of a page.
const LIST_MAX: &str = "100";
const GZIP: HeaderValue = HeaderValue::from_static("application/gzip");

/// The bucket that archives are written to.
#[derive(Debug)]
pub struct Objects {
    bucket: BucketUri,
    /// Made by the first request.
    http: OnceLock<HttpClient>,
    signer: SigV4Signer,
}

/// An object as it was read.
#[derive(Debug)]
pub struct StoredObject {
    /// Its body.
    pub gzip: Bytes,
    /// What tells this version of it from others.
    etag: Option<HeaderValue>,
}

/// What S3 answered, of whatever status.
struct Answer {
    status: StatusCode,
    etag: Option<HeaderValue>,
    body: Bytes,
}

/// Why one request failed.
struct RequestFailure {
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
            bucket: BucketUri::parse(&config.archive_url())?,
            http: OnceLock::new(),
            signer,
        }))
    }

    /// Writes `gzip` as the object `key`. Needs `s3:PutObject`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when S3 does not take it, which a later call may see
    /// mended.
    pub async fn put(&self, key: &str, gzip: Bytes) -> Result<()> {
        let headers = [(CONTENT_TYPE, GZIP)];
        let uri = self.bucket.object(key);
        let answer = self.send(Method::PUT, &uri, &headers, gzip);
        done(answer.await?).map(drop)
    }

    /// Writes `gzip` in place of `former`; false if the object is another by now. Needs
    /// `s3:PutObject`.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn replace(&self, key: &str, former: &StoredObject, gzip: Bytes) -> Result<bool> {
        let mut headers = vec![(CONTENT_TYPE, GZIP)];
        headers.extend(former.etag.clone().map(|etag| (IF_MATCH, etag)));
        let uri = self.bucket.object(key);
        let answer = self.send(Method::PUT, &uri, &headers, gzip);
        let answer = answer.await?;
        match answer.status {
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                Ok(false)
            }
            _ => done(answer).map(|_| true),
        }
    }

    /// The object `key`; none if there is none. Needs `s3:GetObject`.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn get(&self, key: &str) -> Result<Option<StoredObject>> {
        let uri = self.bucket.object(key);
        let answer = self.send(Method::GET, &uri, &[], Bytes::new());
        let answer = answer.await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = done(answer)?;
        Ok(Some(StoredObject {
            gzip: answer.body,
            etag: answer.etag,
        }))
    }

    /// Deletes the object `key`, whether it is there or not. In a bucket that keeps
    /// versions, this one is kept as a former version. Needs `s3:DeleteObject`.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn delete(&self, key: &str) -> Result<()> {
        let uri = self.bucket.object(key);
        let answer = self.send(Method::DELETE, &uri, &[], Bytes::new());
        let answer = answer.await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        done(answer).map(drop)
    }

    /// The names that begin with `prefix` and follow `after`, in their order; a page of
    /// them, empty when there are no more. Needs `s3:ListBucket`.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<String>> {
        let mut query = vec![
            ("list-type", "2"),
            ("max-keys", LIST_MAX),
            ("prefix", prefix),
        ];
        query.extend(after.map(|after| ("start-after", after)));
        let uri = self.bucket.query(&query);
        let answer = self.send(Method::GET, &uri, &[], Bytes::new()).await?;
        let body = done(answer)?.body;
        let text = std::str::from_utf8(&body).map_err(Error::internal)?;
        listing::names(text)
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer> {
        let mut tries = 1;
        loop {
            match self.try_send(&method, uri, headers, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if failure.is_transient && tries < TRIES_MAX => {
                    tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                    tries += 1;
                }
                Err(failure) => return Err(unavailable(failure.source)),
            }
        }
    }

    /// Sends one request; an answer that says that another may do is a failure.
    async fn try_send(
        &self,
        method: &Method,
        uri: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, RequestFailure> {
        let request = self.request(method, uri, headers, body).await;
        let request = request.map_err(|source| RequestFailure {
            is_transient: false,
            source,
        })?;
        let timeout = tokio::time::timeout(TIMEOUT, self.exchange(request));
        let answered = timeout.await.unwrap_or_else(|_| {
            let after = TIMEOUT;
            Err(SendError::Timeout { after }.into())
        });
        let answer = answered.map_err(|source| RequestFailure {
            is_transient: true,
            source,
        })?;
        if answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(RequestFailure {
                is_transient: true,
                source: refusal(&answer),
            });
        }
        Ok(answer)
    }

    async fn request(
        &self,
        method: &Method,
        uri: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> anyhow::Result<Request<RequestBody>> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request.body(())?;
        self.signer.sign(Service::S3, &mut request, &body).await?;
        Ok(request.map(|()| in_memory(body)))
    }

    async fn exchange(&self, request: Request<RequestBody>) -> anyhow::Result<Answer> {
        let http = self.http.get_or_init(connect);
        let response = http.request(request).await;
        let response = response.map_err(|error| SendError::request(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok(Answer {
            status: parts.status,
            etag: parts.headers.get(ETAG).cloned(),
            body,
        })
    }
}

/// Whoever runs this configured the bucket, so no address is refused.
fn connect() -> HttpClient {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let connector = Connector::unguarded(CONNECT_TIMEOUT);
    client(connector, tls_config(roots, None), 1)
}

/// The answer, if the request was done.
fn done(answer: Answer) -> Result<Answer> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(unavailable(refusal(&answer)))
}

fn refusal(answer: &Answer) -> anyhow::Error {
    let head = &answer.body[..answer.body.len().min(REFUSAL_BYTES_MAX)];
    aws::error::refusal(answer.status.as_u16(), &String::from_utf8_lossy(head))
}

fn unavailable(source: anyhow::Error) -> Error {
    Error::Unavailable {
        what: "the archive",
        source,
    }
}
