//! Amazon SQS: sending, receiving and parking, in batches.
//!
//! Sending is part of accepting an event, so it waits little for an SQS that
//! does not answer, and not at all for one that has just refused: the sweeper
//! sends again. Nothing here runs a job.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use crate::aws;
use crate::aws::clients::Lazy;
use crate::config::Config;
use crate::error::{Error, Result, causes};
use crate::model::job::{Envelope, Job, Park};
use crate::store::keys;
use crate::telemetry::scope;

/// The longest SQS keeps a message back; what waits longer is not sent.
pub const DELAY_MAX: Duration = Duration::from_mins(15);
/// Messages of one request. Ours are some hundred bytes each, so that a request
/// is far below the 1 MiB (once 256 KiB) that it may have.
pub const BATCH_MAX: usize = 10;
/// Batches sent at a time.
const SENDS_MAX: usize = 16;
/// For one attempt of any call but the long poll.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// For a call with its retries: a publisher waits for it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// Attempts of a call that fails.
const ATTEMPTS_MAX: u32 = 3;
/// How long a received message is invisible to other workers; renewed while its job
/// waits or runs, so it bounds how late the message of a crashed worker comes again,
/// and how long a worker may stand still before its messages go to others as well.
const VISIBILITY: Duration = Duration::from_secs(6);
/// The longest that SQS lets a poll wait.
const POLL_WAIT: Duration = Duration::from_secs(20);
/// What a long poll may take beyond its wait.
const POLL_SLACK: Duration = Duration::from_secs(5);
/// Jobs worth sending to an SQS that refuses: one of each due partition.
const TRIAL_JOBS: usize = keys::DUE_SHARDS as usize;
/// How long nothing is sent to an SQS that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// The queues that Millrace uses, by what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueName {
    /// Jobs that find an event's endpoints, and recoveries.
    FanOut,
    /// Jobs about one endpoint.
    Deliver,
    /// What AWS sources send: received, and never sent to.
    Ingest,
}

impl QueueName {
    /// The queues of jobs.
    pub const ALL: [Self; 2] = [Self::FanOut, Self::Deliver];

    /// The queue that `job` is sent to.
    pub fn of(job: &Job) -> Self {
        match job {
            Job::FanOut { .. } | Job::Recover { .. } => Self::FanOut,
            Job::Deliver { .. } | Job::Disable { .. } => Self::Deliver,
        }
    }

    /// The field `queue` of logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FanOut => "fan_out",
            Self::Deliver => "deliver",
            Self::Ingest => "ingest",
        }
    }
}

/// Where the queues are and how they are used.
#[derive(Debug, Clone)]
pub struct SqsOptions {
    /// The URL of [`QueueName::FanOut`].
    pub fan_out_url: String,
    /// The URL of [`QueueName::Deliver`].
    pub deliver_url: String,
    /// The URL of [`QueueName::Ingest`]; empty without.
    pub ingest_url: String,
    /// The URL of the queue for messages that no worker can use.
    pub parked_url: Option<String>,
    /// How long a job is left to its worker before the sweeper enqueues it again.
    pub lease: Duration,
    /// How long a received message is invisible to others, unless that is renewed.
    pub visibility: Duration,
    /// How long a poll waits for a first message.
    pub wait: Duration,
}

/// The queues and their client.
#[derive(Debug)]
pub struct SqsQueue {
    client: Lazy<Client>,
    options: SqsOptions,
    fan_outs: SendBreaker,
    deliveries: SendBreaker,
}

/// A message that was received and is invisible to others for a while.
#[derive(Debug)]
pub struct ReceivedMessage {
    /// Its `MessageId`.
    pub id: String,
    /// Its text, JSON unless a stranger sent it.
    pub body: String,
    /// When it was first sent.
    pub sent: Option<Timestamp>,
    /// Its `AWSTraceHeader`, which its sender was given by X-Ray.
    pub trace: Option<String>,
    /// By what it is deleted, or made visible again.
    pub receipt: MessageReceipt,
}

/// By what a received message is deleted, or made visible again.
#[derive(Debug, Clone)]
pub struct MessageReceipt {
    /// The queue it was received from.
    pub from: QueueName,
    /// Its `ReceiptHandle`, which the next receipt replaces.
    pub handle: String,
    /// Times it was received, this one included.
    pub receive_count: u32,
}

/// The ARN of the queue at `url`: what Lambda calls it. The region is in the URL
/// of AWS's own queues; of others it is `region`.
pub fn arn(url: &str, region: &str) -> String {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let region = match after_scheme.strip_prefix("sqs.") {
        Some(host) if host.contains(".amazonaws.") => host.split('.').next().unwrap_or(region),
        _ => region,
    };
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let mut path = url.rsplit('/');
    let (name, account) = (
        path.next().unwrap_or_default(),
        path.next().unwrap_or_default(),
    );
    format!("arn:{partition}:sqs:{region}:{account}:{name}")
}

/// The queues of `config`, at its endpoint or AWS's own. Connects to nothing.
pub fn connect(config: &Config, aws: &SdkConfig) -> SqsQueue {
    let mut builder = Builder::from(aws);
    if let Some(endpoint) = config.sqs_endpoint() {
        builder = builder.endpoint_url(endpoint);
    }
    let parked_url = &config.sqs.parked_url;
    let options = SqsOptions {
        fan_out_url: config.sqs.fan_out_url.clone(),
        deliver_url: config.sqs.deliver_url.clone(),
        ingest_url: config.sqs.ingest_url.clone(),
        parked_url: (!parked_url.is_empty()).then(|| parked_url.clone()),
        lease: config.sweep.sqs_lease,
        visibility: VISIBILITY,
        wait: POLL_WAIT,
    };
    SqsQueue::new(builder, options)
}

impl SqsQueue {
    /// The queues of `options`, reached by what `builder` says. Connects to
    /// nothing.
    pub fn new(builder: Builder, options: SqsOptions) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let config = builder
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
            .build();
        Self {
            client: Lazy::new(|| Client::from_conf(config)),
            options,
            fan_outs: SendBreaker::default(),
            deliveries: SendBreaker::default(),
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &SqsOptions {
        &self.options
    }

    fn url(&self, name: QueueName) -> &str {
        match name {
            QueueName::FanOut => &self.options.fan_out_url,
            QueueName::Deliver => &self.options.deliver_url,
            QueueName::Ingest => &self.options.ingest_url,
        }
    }

    fn send_breaker(&self, name: QueueName) -> &SendBreaker {
        match name {
            QueueName::FanOut => &self.fan_outs,
            QueueName::Deliver | QueueName::Ingest => &self.deliveries,
        }
    }

    /// How many jobs are worth sending: while a queue refuses, enough to see
    /// whether it takes them again. Each that was claimed and refused is late by its
    /// lease.
    pub fn room(&self) -> usize {
        let refuses = |name: &QueueName| self.send_breaker(*name).is_refusing();
        if QueueName::ALL.iter().any(refuses) {
            TRIAL_JOBS
        } else {
            usize::MAX
        }
    }

    /// Sends jobs to be received after `delay`, which is at most [`DELAY_MAX`].
    /// What is refused is logged once, until something is taken again.
    pub async fn send(&self, jobs: &[Job], delay: Duration) {
        let delay_s = seconds(delay);
        for name in QueueName::ALL {
            let jobs: Vec<&Job> = jobs
                .iter()
                .filter(|job| QueueName::of(job) == name)
                .collect();
            let batches: Vec<_> = jobs
                .chunks(BATCH_MAX)
                .map(|jobs| self.send_batch(name, jobs, delay_s))
                .collect();
            stream::iter(batches)
                .buffer_unordered(SENDS_MAX)
                .collect::<()>()
                .await;
        }
    }

    async fn send_batch(&self, name: QueueName, jobs: &[&Job], delay_s: i32) {
        let sending = self.send_breaker(name);
        if !sending.may_try() {
            return;
        }
        let trace = scope::traceparent().map(String::from);
        let entry = |(id, job): (usize, &&Job)| {
            let envelope = Envelope {
                job: (*job).clone(),
                trace: trace.clone(),
            };
            SendMessageBatchRequestEntry::builder()
                .id(id.to_string())
                .message_body(envelope.to_json())
                .delay_seconds(delay_s)
                .build()
                .expect("an entry with an id and a body")
        };
        let entries = jobs.iter().enumerate().map(entry).collect();
        let request = self.client.send_message_batch().queue_url(self.url(name));
        match request.set_entries(Some(entries)).send().await {
            Ok(output) => match failure(&output.failed) {
                None => sending.record_success(name),
                Some(cause) => {
                    sending.record_refusal(name, &anyhow::anyhow!(cause), Instant::now())
                }
            },
            Err(error) => {
                sending.record_refusal(name, &aws::error::cause(error), Instant::now() + PAUSE);
            }
        }
    }

    /// Up to [`BATCH_MAX`] messages, now invisible to others; waits up to `wait`, in
    /// whole seconds, for the first one. One request, not tried again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when SQS does not answer.
    pub async fn receive(&self, from: QueueName, wait: Duration) -> Result<Vec<ReceivedMessage>> {
        let timeout = wait + POLL_SLACK;
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(timeout)
            .operation_timeout(timeout);
        let long_poll_config = Builder::new()
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::disabled());
        let output = self
            .client
            .receive_message()
            .queue_url(self.url(from))
            .max_number_of_messages(BATCH_MAX as i32)
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(self.options.visibility))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::AwsTraceHeader)
            .customize()
            .config_override(long_poll_config)
            .send()
            .await
            .map_err(unavailable)?;
        let messages = output.messages.unwrap_or_default().into_iter();
        Ok(messages
            .filter_map(|message| read_message(from, message))
            .collect())
    }

    /// Deletes messages, at most [`BATCH_MAX`]. What is not deleted comes again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when SQS does not answer or keeps any of them.
    pub async fn delete(&self, from: QueueName, handles: &[&str]) -> Result<()> {
        let entry = |(id, handle): (usize, &&str)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(*handle)
                .build()
                .expect("an entry with an id and a handle")
        };
        let request = self.client.delete_message_batch().queue_url(self.url(from));
        let entries = handles.iter().enumerate().map(entry).collect();
        let output = request.set_entries(Some(entries)).send().await;
        ensure_all_succeeded(&output.map_err(unavailable)?.failed)
    }

    /// Makes messages, at most [`BATCH_MAX`] by their handles, invisible for whole
    /// seconds from now; for none, others may receive them at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when SQS does not answer or refuses any of them.
    pub async fn change_visibility(
        &self,
        from: QueueName,
        handles: &[(&str, Duration)],
    ) -> Result<()> {
        let entry = |(id, (handle, visibility_timeout)): (usize, &(&str, Duration))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(id.to_string())
                .receipt_handle(*handle)
                .visibility_timeout(seconds(*visibility_timeout))
                .build()
                .expect("an entry with an id and a handle")
        };
        let request = self.client.change_message_visibility_batch();
        let request = request.queue_url(self.url(from));
        let entries = handles.iter().enumerate().map(entry).collect();
        let output = request.set_entries(Some(entries)).send().await;
        ensure_all_succeeded(&output.map_err(unavailable)?.failed)
    }

    /// Sends a message's body to the queue for parked ones, with the reason and
    /// where it was as message attributes; false if that failed. Without such a
    /// queue the log is all that is left of it: its work is due anyway.
    pub async fn park(&self, from: &str, body: &str, why: &Park) -> bool {
        let Some(url) = &self.options.parked_url else {
            log_parked(from, why, ParkedBody::Dropped);
            return true;
        };
        let text = |text: &str| {
            MessageAttributeValue::builder()
                .data_type("String")
                .string_value(text)
                .build()
                .expect("an attribute with a type")
        };
        let request = self.client.send_message().queue_url(url).message_body(body);
        let request = request
            .message_attributes("reason", text(&why.reason))
            .message_attributes("queue", text(from));
        match request.send().await {
            Ok(_) => {
                log_parked(from, why, ParkedBody::Sent);
                true
            }
            Err(error) => {
                let error = unavailable(error);
                let cause = error.causes();
                tracing::error!(queue = from, %why, %error, cause, "failed to park message: it will be redelivered");
                false
            }
        }
    }
}

/// What became of a parked message's body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ParkedBody {
    /// It is in the queue for parked messages.
    Sent,
    /// There is no such queue.
    Dropped,
}

/// Logs that a message was parked, by what it is about and not what it says.
pub(super) fn log_parked(from: &str, why: &Park, body: ParkedBody) {
    let kept = body == ParkedBody::Sent;
    tracing::error!(queue = from, job = why.job, reason = %why, kept, "message parked");
}

fn read_message(from: QueueName, message: Message) -> Option<ReceivedMessage> {
    let attribute = |name| message.attributes.as_ref()?.get(&name);
    let number = |name| attribute(name)?.parse::<i64>().ok();
    let count = number(MessageSystemAttributeName::ApproximateReceiveCount);
    let sent = number(MessageSystemAttributeName::SentTimestamp);
    let trace = attribute(MessageSystemAttributeName::AwsTraceHeader).cloned();
    Some(ReceivedMessage {
        id: message.message_id.unwrap_or_default(),
        sent: sent.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        trace,
        receipt: MessageReceipt {
            from,
            handle: message.receipt_handle?,
            receive_count: count.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
        },
        body: message.body.unwrap_or_default(),
    })
}

/// Whole seconds, up to the next one, as SQS counts.
fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// How many entries of a batch failed and why the first one did.
fn failure(failed: &[BatchResultErrorEntry]) -> Option<String> {
    let first = failed.first()?;
    let message = first.message().unwrap_or_default();
    Some(format!(
        "{} of a batch, the first: {} {message}",
        failed.len(),
        first.code()
    ))
}

fn ensure_all_succeeded(failed: &[BatchResultErrorEntry]) -> Result<()> {
    match failure(failed) {
        None => Ok(()),
        Some(cause) => Err(Error::Unavailable {
            what: "the queue",
            source: anyhow::anyhow!(cause),
        }),
    }
}

fn unavailable<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    Error::Unavailable {
        what: "the queue",
        source: aws::error::cause(error),
    }
}

/// A breaker of sending: a refusal is logged once, and nobody waits for an SQS that
/// is known to be out of reach.
#[derive(Debug, Default)]
struct SendBreaker {
    /// Set while the queue refuses: when the next send may try.
    retry_at: Mutex<Option<Instant>>,
}

impl SendBreaker {
    /// Whether to try: always, but after a refusal one at a time and not at once.
    fn may_try(&self) -> bool {
        let now = Instant::now();
        match &mut *self.lock() {
            None => true,
            Some(retry_at) if *retry_at > now => false,
            Some(retry_at) => {
                // Others wait for what becomes of this one.
                *retry_at = now + OPERATION_TIMEOUT;
                true
            }
        }
    }

    fn is_refusing(&self) -> bool {
        self.lock().is_some()
    }

    fn record_refusal(&self, name: QueueName, error: &anyhow::Error, retry_at: Instant) {
        if self.lock().replace(retry_at).is_none() {
            tracing::warn!(
                queue = name.as_str(),
                %error,
                cause = causes(error.as_ref()),
                "failed to send to SQS: jobs left to the sweeper"
            );
        }
    }

    fn record_success(&self, name: QueueName) {
        if self.lock().take().is_some() {
            tracing::info!(queue = name.as_str(), "sending to SQS recovered");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.retry_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusing_queue_is_left_alone_and_then_tried_by_one() {
        let sending = SendBreaker::default();
        assert!(sending.may_try() && sending.may_try() && !sending.is_refusing());
        sending.record_refusal(
            QueueName::Deliver,
            &anyhow::anyhow!("down"),
            Instant::now() + PAUSE,
        );
        assert!(!sending.may_try() && sending.is_refusing());
        sending.record_refusal(QueueName::Deliver, &anyhow::anyhow!("down"), Instant::now());
        assert!(sending.may_try() && !sending.may_try());
        sending.record_success(QueueName::Deliver);
        assert!(sending.may_try() && sending.may_try());
    }

    #[test]
    fn a_queues_arn_is_of_its_url() {
        let of = |url: &str| arn(url, "eu-north-1");
        assert_eq!(
            of("https://sqs.eu-west-1.amazonaws.com/123456789012/millrace-ingest"),
            "arn:aws:sqs:eu-west-1:123456789012:millrace-ingest"
        );
        assert_eq!(
            of("https://sqs.cn-north-1.amazonaws.com.cn/1/q"),
            "arn:aws-cn:sqs:cn-north-1:1:q"
        );
        assert_eq!(
            of("http://127.0.0.1:4566/000000000000/q"),
            "arn:aws:sqs:eu-north-1:000000000000:q"
        );
    }

    #[test]
    fn sqs_counts_in_whole_seconds_up() {
        assert_eq!(seconds(Duration::ZERO), 0);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(DELAY_MAX), 900);
    }
}
