//! The export of spans: OTLP over HTTP, as protobuf, signed for X-Ray.
//!
//! Owns the connection to the collector, which comes into being with the first
//! batch. It must not be waited for by anything but a flush.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[cfg(test)]
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request};
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use tokio::time::Instant;
use url::Url;

use crate::aws;
use crate::aws::sigv4::{Service, SigV4Signer};
use crate::config::{Config, TracesChoice};
use crate::error::causes;
use crate::sender::{Sender, SenderConfig};

/// For an export, all in all: on Lambda an invocation waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is sent to a collector that failed.
const BACKOFF: Duration = Duration::from_secs(10);
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// Sends batches of spans to one place.
pub struct Exporter {
    config: Box<Config>,
    sender: Sender,
    signer: SigV4Signer,
    /// Set after a failure: until when nothing is sent.
    backoff_until: Mutex<Option<Instant>>,
}

/// Why a batch was not taken.
enum ExportError {
    /// It may be taken later.
    Retryable(anyhow::Error),
    /// It never will be taken.
    Permanent(anyhow::Error),
}

impl Exporter {
    /// To where `config` says. Connects to nothing.
    pub fn new(config: &Config) -> Self {
        Self {
            config: Box::new(config.clone()),
            sender: Sender::new(SenderConfig::of_service(TIMEOUT, TIMEOUT)),
            signer: SigV4Signer::new(config),
            backoff_until: Mutex::default(),
        }
    }

    /// One that signs with what `provider` gives.
    #[cfg(test)]
    pub fn with_credentials(config: &Config, provider: SharedCredentialsProvider) -> Self {
        Self {
            signer: SigV4Signer::with_credentials(config, provider),
            ..Self::new(config)
        }
    }

    /// As if the pause after a failure were over.
    #[cfg(test)]
    pub fn end_backoff(&self) {
        let mut backoff = self.backoff_until.lock().unwrap();
        *backoff = backoff.and(Some(Instant::now()));
    }

    /// Sends `spans`; gives them back if another time may do. The first failure
    /// is logged, and the first success after it.
    pub async fn export(&self, spans: Vec<SpanData>) -> Result<(), Vec<SpanData>> {
        let backoff_until = *self
            .backoff_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if backoff_until.is_some_and(|until| Instant::now() < until) {
            return Err(spans);
        }
        let failed = self.send(&spans).await.err();
        let pause = failed.as_ref().map(|_| Instant::now() + BACKOFF);
        *self
            .backoff_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = pause;
        let (error, result) = match failed {
            None => (None, Ok(())),
            Some(ExportError::Permanent(error)) => (Some(error), Ok(())),
            Some(ExportError::Retryable(error)) => (Some(error), Err(spans)),
        };
        match error {
            Some(error) if backoff_until.is_none() => {
                let cause = causes(error.as_ref());
                tracing::warn!(%error, cause, "trace export failed");
            }
            None if backoff_until.is_some() => tracing::info!("trace export recovered"),
            _ => {}
        }
        result
    }

    async fn send(&self, spans: &[SpanData]) -> Result<(), ExportError> {
        let body = self.encoded(spans.to_vec());
        let url = self.config.traces_url();
        let url: Url = url
            .parse()
            .map_err(|e| ExportError::Retryable(anyhow::Error::from(e)))?;
        let headers = self
            .headers(&url, &body)
            .await
            .map_err(ExportError::Retryable)?;
        let attempted = self.sender.post(&url, headers, body, None).await;
        let response = attempted
            .outcome
            .map_err(|error| ExportError::Retryable(error.into()))?;
        let error = || aws::error::refusal(response.status, &response.body_head);
        match response.status {
            200..=299 => Ok(()),
            // A role may yet be given the right, a limit may yet be raised.
            401 | 403 | 404 | 408 | 429 | 500.. => Err(ExportError::Retryable(error())),
            _ => Err(ExportError::Permanent(error())),
        }
    }

    fn encoded(&self, spans: Vec<SpanData>) -> Bytes {
        let resource = (&resource(&self.config)).into();
        let resource_spans = group_spans_by_resource_and_scope(spans, &resource);
        let request = ExportTraceServiceRequest { resource_spans };
        request.encode_to_vec().into()
    }

    async fn headers(&self, url: &Url, body: &[u8]) -> anyhow::Result<HeaderMap> {
        let mut request = Request::post(url.as_str())
            .header(CONTENT_TYPE, PROTOBUF)
            .body(())?;
        if self.config.telemetry.traces == TracesChoice::Xray {
            self.signer.sign(Service::Xray, &mut request, body).await?;
        }
        Ok(request.into_parts().0.headers)
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

/// What every span comes from.
fn resource(config: &Config) -> Resource {
    let mut attributes = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
    let platform = match (config.runtime_env.is_lambda, config.runtime_env.is_ecs) {
        (true, _) => Some("aws_lambda"),
        (false, true) => Some("aws_ecs"),
        (false, false) => None,
    };
    if let Some(platform) = platform {
        attributes.push(KeyValue::new("cloud.provider", "aws"));
        attributes.push(KeyValue::new("cloud.platform", platform));
        attributes.push(KeyValue::new("cloud.region", config.region().to_owned()));
    }
    Resource::builder_empty()
        .with_service_name(config.telemetry.service.clone())
        .with_attributes(attributes)
        .build()
}
