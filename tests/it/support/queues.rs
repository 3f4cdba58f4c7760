//! Queues of SQS for a test, and workers that take jobs from them.

use std::io::Write;
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

use aws_sdk_sqs::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};
use millrace::aws::clients;
use millrace::jobs::worker;
use millrace::queue::sqs::QueueName;
use millrace::queue::{Queue, SqsOptions, SqsQueue};
use tokio_util::sync::CancellationToken;

use super::harness::Harness;
use super::stores;

/// Two queues and one for parked messages.
pub struct Queues {
    pub client: aws_sdk_sqs::Client,
    builder: Builder,
    pub options: SqsOptions,
}

/// How SQS at `url` is reached.
pub fn client_config(url: &str) -> Builder {
    aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("test", "test", None))
        .endpoint_url(url)
        .http_client(clients::http_client(Path::new("")).unwrap())
}

impl Queues {
    /// None, said once, when there is no SQS to test with.
    pub async fn new() -> Option<Self> {
        static SKIPPED: Once = Once::new();
        let Some(url) = stores::aws_url() else {
            SKIPPED.call_once(|| {
                let why = "skipped: tests of SQS, as there is no Docker engine and MILLRACE_TEST_SQS_URL is not set";
                let _ = writeln!(std::io::stderr(), "{why}");
            });
            return None;
        };
        let builder = client_config(&url);
        let client = aws_sdk_sqs::Client::from_conf(builder.clone().build());
        let created = async |kind: &str| create(&client, kind).await;
        let options = SqsOptions {
            fan_out_url: created("fan-out").await,
            deliver_url: created("deliver").await,
            ingest_url: String::new(),
            parked_url: Some(created("parked").await),
            lease: Duration::from_secs(30),
            visibility: Duration::from_secs(2),
            wait: Duration::from_secs(2),
        };
        Some(Self {
            client,
            builder,
            options,
        })
    }

    /// And one that AWS sources send to.
    pub async fn with_ingest() -> Option<Self> {
        let mut queues = Self::new().await?;
        queues.options.ingest_url = create(&queues.client, "ingest").await;
        Some(queues)
    }

    pub fn sqs(&self) -> SqsQueue {
        SqsQueue::new(self.builder.clone(), self.options.clone())
    }

    pub fn queue(&self) -> Queue {
        Queue::Sqs(self.sqs())
    }

    pub fn url(&self, name: QueueName) -> &str {
        match name {
            QueueName::FanOut => &self.options.fan_out_url,
            QueueName::Deliver => &self.options.deliver_url,
            QueueName::Ingest => &self.options.ingest_url,
        }
    }

    /// Messages there are, invisible and delayed ones too.
    pub async fn messages(&self, url: &str) -> usize {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        self.count(url, counts.into()).await
    }

    /// Messages that are invisible: a consumer has them.
    pub async fn invisible(&self, url: &str) -> usize {
        let count = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        self.count(url, vec![count]).await
    }

    async fn count(&self, url: &str, counts: Vec<QueueAttributeName>) -> usize {
        let asked = self.client.get_queue_attributes().queue_url(url);
        let asked = asked.set_attribute_names(Some(counts));
        let found = asked.send().await.unwrap().attributes.unwrap();
        found
            .values()
            .map(|count| count.parse::<usize>().unwrap())
            .sum()
    }

    pub async fn is_empty(&self) -> bool {
        self.messages(self.url(QueueName::FanOut)).await == 0
            && self.messages(self.url(QueueName::Deliver)).await == 0
    }

    pub async fn send_raw(&self, name: QueueName, body: &str) {
        self.raw(name, body).send().await.unwrap();
    }

    /// As [`Queues::send_raw`], by a sender that X-Ray traces.
    pub async fn send_traced(&self, name: QueueName, body: &str, header: &str) {
        let header = MessageSystemAttributeValue::builder()
            .data_type("String")
            .string_value(header)
            .build()
            .unwrap();
        let name_of_header = MessageSystemAttributeNameForSends::AwsTraceHeader;
        let send = self.raw(name, body);
        let send = send.message_system_attributes(name_of_header, header);
        send.send().await.unwrap();
    }

    fn raw(&self, name: QueueName, body: &str) -> SendMessageFluentBuilder {
        let send = self.client.send_message().queue_url(self.url(name));
        send.message_body(body)
    }

    pub async fn purge(&self) {
        for name in QueueName::ALL {
            let purge = self.client.purge_queue().queue_url(self.url(name));
            purge.send().await.unwrap();
        }
    }
}

async fn create(client: &aws_sdk_sqs::Client, kind: &str) -> String {
    let name = format!("test-{kind}-{:032x}", rand());
    let created = client.create_queue().queue_name(name).send().await;
    created.unwrap().queue_url.unwrap()
}

fn rand() -> u128 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    now.as_nanos() << 24 | u128::from(next)
}

/// Waits for what the workers bring about.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs workers until `holds`, then drains them; how long the drain took.
pub async fn work(harness: &Harness, what: &str, holds: impl AsyncFnMut() -> bool) -> Duration {
    let stop = CancellationToken::new();
    let mut workers = worker::start(&harness.app, &stop);
    until(what, holds).await;
    let draining = Instant::now();
    stop.cancel();
    while workers.join_next().await.is_some() {}
    draining.elapsed()
}
