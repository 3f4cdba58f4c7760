//! The kind of an invocation's payload, known by a few of its fields.
//!
//! The payload is scanned once and nothing of it is copied. The request context
//! is looked at first, so that nothing a client of the API can send is ever
//! taken for a queue message, a schedule or an event of AWS's.

use std::borrow::Cow;

use jiff::Timestamp;
use lambda_http::request::LambdaRequest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// An HTTP request, of a client.
    Request(HttpFormat),
    /// Messages of an SQS queue.
    Queue,
    /// The schedule's tick.
    Schedule,
    /// An event of S3, SNS or EventBridge.
    Notification,
}

/// How an HTTP request is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFormat {
    /// API Gateway REST API (payload format 1.0).
    Rest,
    /// API Gateway HTTP API or function URL (payload format 2.0).
    Http,
    /// Application Load Balancer.
    Alb,
}

/// A payload that this function does not take.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is none of those it takes.
    #[error(
        "expected an HTTP request of API Gateway, a function URL or a load balancer, \
         an SQS batch, a schedule, or an event of S3, SNS or EventBridge: {0}"
    )]
    Unknown(Cow<'static, str>),
    /// It is of a kind it takes, but not of its documented shape. The text says
    /// where, and nothing of what stands there.
    #[error("{what}: not of the documented shape, at line {line}, column {column}")]
    Malformed {
        /// The part of the payload, or all of it.
        what: &'static str,
        /// Counted from 1, within that part.
        line: usize,
        /// Counted from 1; 0 where a line ends before anything stands in it.
        column: usize,
    },
}

impl PayloadError {
    fn malformed(what: &'static str, error: &serde_json::Error) -> Self {
        Self::Malformed {
            what,
            line: error.line(),
            column: error.column(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peek<'a> {
    #[serde(borrow)]
    request_context: Option<&'a RawValue>,
    http_method: Option<IgnoredAny>,
    method_arn: Option<IgnoredAny>,
    route_arn: Option<IgnoredAny>,
    authorization_token: Option<IgnoredAny>,
    #[serde(borrow, rename = "Records")]
    records: Option<&'a RawValue>,
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    elb: Option<IgnoredAny>,
    http: Option<IgnoredAny>,
    connection_id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RecordSource<'a> {
    #[serde(borrow, rename = "eventSource", alias = "EventSource")]
    source: Option<Cow<'a, str>>,
}

/// The kind of `json`.
///
/// # Errors
/// [`PayloadError`] when it is none of the kinds this function takes.
pub fn kind(json: &str) -> Result<PayloadKind, PayloadError> {
    // An array would be read as the fields in their order.
    if !json.trim_ascii_start().starts_with('{') {
        return Err(PayloadError::Unknown("it is no object".into()));
    }
    let peek: Peek<'_> =
        serde_json::from_str(json).map_err(|error| PayloadError::malformed("payload", &error))?;
    if peek.method_arn.is_some() || peek.route_arn.is_some() || peek.authorization_token.is_some() {
        return Err(PayloadError::Unknown("it asks for an authorizer".into()));
    }
    if let Some(context) = peek.request_context {
        return http_format(context, peek.http_method.is_some()).map(PayloadKind::Request);
    }
    if let Some(records) = peek.records {
        return of_records(records);
    }
    match (peek.detail_type.as_deref(), peek.source.as_deref()) {
        (Some("Scheduled Event"), Some("aws.events" | "aws.scheduler")) => {
            Ok(PayloadKind::Schedule)
        }
        (Some(_), Some(_)) => Ok(PayloadKind::Notification),
        _ => Err(PayloadError::Unknown("it has the marks of none".into())),
    }
}

fn http_format(context: &RawValue, has_method: bool) -> Result<HttpFormat, PayloadError> {
    let context = serde_json::from_str(context.get())
        .map_err(|error| PayloadError::malformed("requestContext", &error))?;
    match context {
        RequestContext {
            connection_id: Some(_),
            ..
        } => Err(PayloadError::Unknown("it is of a WebSocket API".into())),
        RequestContext { elb: Some(_), .. } => Ok(HttpFormat::Alb),
        RequestContext { http: Some(_), .. } => Ok(HttpFormat::Http),
        _ if has_method => Ok(HttpFormat::Rest),
        _ => Err(PayloadError::Unknown(
            "requestContext names no HTTP method".into(),
        )),
    }
}

fn of_records(records: &RawValue) -> Result<PayloadKind, PayloadError> {
    let records: Vec<RecordSource<'_>> = serde_json::from_str(records.get())
        .map_err(|error| PayloadError::malformed("Records", &error))?;
    let mut sources = records.iter().map(|record| record.source.as_deref());
    let first = sources.next().flatten();
    if sources.any(|source| source != first) {
        return Err(PayloadError::Unknown(
            "its records are of several sources".into(),
        ));
    }
    match first {
        Some("aws:sqs") => Ok(PayloadKind::Queue),
        Some("aws:s3" | "aws:sns") => Ok(PayloadKind::Notification),
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Err(PayloadError::Unknown(
                format!("its records are of {other:?}").into(),
            ))
        }
        None => Err(PayloadError::Unknown("its records name no source".into())),
    }
}

/// Reads an HTTP request.
///
/// # Errors
/// [`PayloadError::Malformed`] when it is not of `format`.
pub fn request(format: HttpFormat, json: &str) -> Result<LambdaRequest, PayloadError> {
    match format {
        HttpFormat::Rest => serde_json::from_str(json).map(LambdaRequest::ApiGatewayV1),
        HttpFormat::Http => serde_json::from_str(json).map(LambdaRequest::ApiGatewayV2),
        HttpFormat::Alb => serde_json::from_str(json).map(LambdaRequest::Alb),
    }
    .map_err(|error| PayloadError::malformed("HTTP request", &error))
}

/// A message of an SQS queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message<'a> {
    /// Names the message in a partial batch response.
    #[serde(borrow)]
    pub message_id: Cow<'a, str>,
    /// As it was sent.
    #[serde(borrow)]
    pub body: Cow<'a, str>,
    /// The ARN of the queue it was received from.
    #[serde(borrow, rename = "eventSourceARN")]
    pub queue_arn: Cow<'a, str>,
    /// What SQS knows of it.
    #[serde(default)]
    pub attributes: Attributes<'a>,
}

/// What SQS knows of a message.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attributes<'a> {
    /// Milliseconds since 1970.
    #[serde(borrow)]
    pub sent_timestamp: Option<Cow<'a, str>>,
    /// The X-Ray header of its sender.
    #[serde(borrow, rename = "AWSTraceHeader")]
    pub trace: Option<Cow<'a, str>>,
}

impl Message<'_> {
    /// When it was first sent.
    pub fn sent(&self) -> Option<Timestamp> {
        let ms = self.attributes.sent_timestamp.as_deref()?.parse().ok()?;
        Timestamp::from_millisecond(ms).ok()
    }

    /// The queue's name, for logs.
    pub fn queue(&self) -> &str {
        self.queue_arn.rsplit(':').next().unwrap_or_default()
    }
}

/// Reads an SQS batch.
///
/// # Errors
/// [`PayloadError::Malformed`] when it is none; then the whole batch comes again.
pub fn messages(json: &str) -> Result<Vec<Message<'_>>, PayloadError> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow, rename = "Records")]
        records: Vec<Message<'a>>,
    }
    let batch: Batch<'_> =
        serde_json::from_str(json).map_err(|error| PayloadError::malformed("SQS batch", &error))?;
    Ok(batch.records)
}
