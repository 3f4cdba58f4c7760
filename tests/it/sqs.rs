//! Jobs through SQS: at the endpoint `MILLRACE_TEST_SQS_URL` names, such as that
//! of `tests/ministack start`. Without it these tests are skipped.
//!
//! Queues are made for each test. Where SQS itself has to let time pass, so do
//! the tests, by seconds.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use aws_sdk_sqs::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_sqs::operation::send_message::builders::SendMessageFluentBuilder;
use aws_sdk_sqs::types::{
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
};
use http::StatusCode;
use millrace::app;
use millrace::aws::clients;
use millrace::config::{Config, Handler};
use millrace::jobs::{sweep, worker};
use millrace::model::id::EndpointId;
use millrace::model::job::{Envelope, Job};
use millrace::queue::sqs::QueueName;
use millrace::queue::{Queue, SqsOptions, SqsQueue};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, run};
use crate::receiver::{Receiver, Reply};
use crate::telemetry::{spans, trace_to};

const SOON: Duration = Duration::from_secs(1);

/// Two queues and one for parked messages.
pub struct Queues {
    pub client: aws_sdk_sqs::Client,
    builder: Builder,
    pub options: SqsOptions,
}

fn builder(url: &str) -> Builder {
    aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("test", "test", None))
        .endpoint_url(url)
        .http_client(clients::http_client(Path::new("")).unwrap())
}

impl Queues {
    /// None, said once, when there is no SQS to test with.
    async fn new() -> Option<Self> {
        static SKIPPED: Once = Once::new();
        let Ok(url) = std::env::var("MILLRACE_TEST_SQS_URL") else {
            SKIPPED.call_once(|| {
                let why = "skipped: tests of SQS, as MILLRACE_TEST_SQS_URL is not set";
                let _ = writeln!(std::io::stderr(), "{why}");
            });
            return None;
        };
        let builder = builder(&url);
        let client = aws_sdk_sqs::Client::from_conf(builder.clone().build());
        let make = async |kind: &str| made(&client, kind).await;
        let options = SqsOptions {
            fan_out_url: make("fan-out").await,
            deliver_url: make("deliver").await,
            ingest_url: String::new(),
            parked_url: Some(make("parked").await),
            lease: Duration::from_secs(30),
            visibility: Duration::from_secs(2),
            wait: 2 * SOON,
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
        queues.options.ingest_url = made(&queues.client, "ingest").await;
        Some(queues)
    }

    pub fn sqs(&self) -> SqsQueue {
        SqsQueue::new(self.builder.clone(), self.options.clone())
    }

    pub fn queue(&self) -> Queue {
        Queue::Sqs(self.sqs())
    }

    fn url(&self, name: QueueName) -> &str {
        match name {
            QueueName::FanOut => &self.options.fan_out_url,
            QueueName::Deliver => &self.options.deliver_url,
            QueueName::Ingest => &self.options.ingest_url,
        }
    }

    /// Messages there are, hidden and delayed ones too.
    pub async fn messages(&self, url: &str) -> usize {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        self.count(url, counts.into()).await
    }

    /// Messages in somebody's hand.
    pub async fn hidden(&self, url: &str) -> usize {
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

    async fn is_empty(&self) -> bool {
        self.messages(self.url(QueueName::FanOut)).await == 0
            && self.messages(self.url(QueueName::Deliver)).await == 0
    }

    pub async fn send_raw(&self, name: QueueName, body: &str) {
        self.raw(name, body).send().await.unwrap();
    }

    /// The same, by a sender that X-Ray traces.
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

    async fn purge(&self) {
        for name in QueueName::ALL {
            let purge = self.client.purge_queue().queue_url(self.url(name));
            purge.send().await.unwrap();
        }
    }
}

async fn made(client: &aws_sdk_sqs::Client, kind: &str) -> String {
    let name = format!("test-{kind}-{:032x}", rand());
    let made = client.create_queue().queue_name(name).send().await;
    made.unwrap().queue_url.unwrap()
}

fn rand() -> u128 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    now.as_nanos() << 24 | u128::from(next)
}

/// Workers and no sweeper, patient with slow receivers.
fn config() -> Config {
    let mut config = crate::harness::config();
    config.handlers = vec![Handler::Http, Handler::FanOut, Handler::Deliver];
    config.delivery.endpoint_concurrency = 1;
    config.delivery.timeout = 30 * SOON;
    config
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

fn disable(endpoint: u8) -> Job {
    Job::Disable {
        endpoint: EndpointId::new(0, [endpoint; 10]),
    }
}

#[test]
fn an_event_goes_through_the_queue_once() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let id = harness.publish("a").await;

        let sqs = queues.sqs();
        let received = sqs.receive(QueueName::Deliver, SOON).await.unwrap();
        let [message] = received.as_slice() else {
            panic!("{received:?}")
        };
        let envelope = Envelope::parse(&message.body).unwrap();
        assert!(
            matches!(&envelope.job, Job::Deliver { delivery, attempts_made: 0, .. }
            if delivery.event().as_str() == id)
        );
        assert_eq!(message.receipt.receive_count, 1);
        let age = app::now().duration_since(message.sent.unwrap()).as_secs();
        assert!(age.abs() < 60, "{age}");

        let hidden = sqs
            .receive(QueueName::Deliver, Duration::ZERO)
            .await
            .unwrap();
        assert!(hidden.is_empty(), "{hidden:?}");
        let handle = message.receipt.handle.as_str();
        sqs.change_visibility(QueueName::Deliver, &[(handle, Duration::ZERO)])
            .await
            .unwrap();

        harness.drain().await;
        assert_eq!(receiver.only().header("webhook-id"), id);
        assert!(queues.is_empty().await);
    });
}

#[test]
fn a_trace_goes_on_through_both_queues() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let collector = Receiver::start([]).await;
        let mut config = config();
        trace_to(&mut config, &collector);
        let harness = Harness::with_queue(config, queues.queue()).await;
        let receiver = Receiver::start([]).await;
        // More than one write takes, so that a fan-out comes between.
        for _ in 0..26 {
            harness.endpoint(&receiver.url, &["*"]).await;
        }
        let (trace, parent) = ("6553f100a006649127e371903a2de979", "4c721bf33e3caf8f");
        let request = http::Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/json")
            .header("traceparent", format!("00-{trace}-{parent}-01"))
            .body(json!({ "type": "a" }).to_string().into());
        let answer = harness.send(request.unwrap()).await;
        answer.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        harness.app.telemetry.flush().await;

        let spans = spans(&collector, trace);
        let named = |name: &str| spans.iter().filter(|span| span.name == name).count();
        assert_eq!((named("POST /v1/events"), named("fan_out")), (1, 1));
        assert_eq!((named("deliver"), named("POST"), spans.len()), (26, 26, 54));
        for span in &spans {
            let above = match span.name.as_str() {
                "POST /v1/events" => continue,
                "fan_out" => "POST /v1/events",
                "deliver" => "fan_out",
                _ => "deliver",
            };
            let up = spans.iter().find(|up| up.span_id == span.parent_span_id);
            assert_eq!(up.map(|up| up.name.as_str()), Some(above));
        }
    });
}

#[test]
fn a_recovery_goes_through_the_queue_page_by_page() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let mut config = config();
        config.delivery.retry_schedule = vec![Duration::ZERO];
        config.recovery.per_second_max = 2;
        let harness = Harness::with_queue(config, queues.queue()).await;
        let receiver = Receiver::start(vec![Reply::Status(500); 5]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..5 {
            harness.publish("a").await;
        }
        harness.drain().await;
        let path = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
        let body = json!({ "since": "2020-01-01T00:00:00Z" });
        let recovery = harness.post(&path, body).await.expect(StatusCode::ACCEPTED);
        let path = format!("/v1/recoveries/{}", recovery["id"].as_str().unwrap());
        let begun = Instant::now();
        work(&harness, "the recovery is done", async || {
            let shown = harness.get(&path).await.expect(StatusCode::OK);
            shown["state"] == "done" && receiver.received().len() == 10
        })
        .await;
        assert!(begun.elapsed() > 2 * SOON, "no faster than two a second");
        assert_eq!(harness.get(&path).await.json["resent"], 5);
        until("the queues are empty", async || queues.is_empty().await).await;
    });
}

#[test]
fn a_wide_event_fans_out_in_batches() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let receiver = Receiver::start([]).await;
        for _ in 0..26 {
            harness.endpoint(&receiver.url, &["*"]).await;
        }
        harness.publish("a").await;
        assert_eq!(queues.messages(queues.url(QueueName::FanOut)).await, 1);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 26);
        assert!(queues.is_empty().await);
    });
}

#[test]
fn a_job_is_kept_back_by_the_queue_or_by_the_sweeper() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let queue = queues.queue();
        let now = app::now();
        let (lease, week) = (queues.options.lease, Duration::from_hours(168));
        assert_eq!(queue.due(now, SOON), now + SOON + lease);
        assert_eq!(queue.due(now, week), now + week);

        queue.send(vec![disable(1)], week).await;
        assert!(queues.is_empty().await, "the sweeper brings it");

        let begun = Instant::now();
        queue.send(vec![disable(1)], 2 * SOON).await;
        let sqs = queues.sqs();
        assert!(
            sqs.receive(QueueName::Deliver, Duration::ZERO)
                .await
                .unwrap()
                .is_empty()
        );
        let received = sqs.receive(QueueName::Deliver, 5 * SOON).await.unwrap();
        assert_eq!(received.len(), 1);
        assert!(
            begun.elapsed() > Duration::from_millis(1500),
            "{:?}",
            begun.elapsed()
        );
        let handle = received[0].receipt.handle.as_str();
        sqs.delete(QueueName::Deliver, &[handle]).await.unwrap();
        assert!(queues.is_empty().await);
    });
}

#[test]
fn many_jobs_are_sent_in_tens() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let jobs = (0..45).map(disable).collect();
        queues.queue().send(jobs, Duration::ZERO).await;
        assert_eq!(queues.messages(queues.url(QueueName::Deliver)).await, 45);
    });
}

#[test]
fn what_no_worker_can_use_is_parked_with_the_reason() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let body = "{\"v\":7,\"job\":\"deliver\",\"a\":1}";
        queues.send_raw(QueueName::Deliver, body).await;
        harness.drain().await;
        assert!(queues.is_empty().await);

        let parked = queues.options.parked_url.as_deref().unwrap();
        let read = queues.client.receive_message().queue_url(parked);
        let read = read.message_attribute_names("All").send().await.unwrap();
        let [message] = read.messages() else {
            panic!("{read:?}")
        };
        assert_eq!(message.body(), Some(body));
        let attributes = message.message_attributes().unwrap();
        let text = |name: &str| attributes[name].string_value().unwrap();
        assert_eq!(
            (text("reason"), text("queue")),
            ("unknown version 7", "deliver")
        );
    });
}

#[test]
fn what_cannot_be_parked_is_dropped_without_a_queue_and_kept_with_one() {
    run(async {
        let Some(mut queues) = Queues::new().await else {
            return;
        };
        queues.options.parked_url = None;
        let harness = Harness::with_queue(config(), queues.queue()).await;
        queues.send_raw(QueueName::FanOut, "nothing we know").await;
        harness.drain().await;
        assert!(queues.is_empty().await);

        let nowhere = format!("{}-missing", queues.options.deliver_url);
        queues.options.parked_url = Some(nowhere);
        let harness = Harness::with_queue(config(), queues.queue()).await;
        queues.send_raw(QueueName::FanOut, "nothing we know").await;
        harness.drain().await;
        assert!(!queues.is_empty().await, "it comes again");
    });
}

#[test]
fn workers_deliver_each_event_once_under_load() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let mut config = config();
        config.delivery.endpoint_concurrency = 32;
        let harness = Harness::with_queue(config, queues.queue()).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let mut ids = Vec::new();
        for _ in 0..150 {
            ids.push(harness.publish("a").await);
        }
        let all = async || receiver.received().len() >= ids.len() && queues.is_empty().await;
        work(&harness, "all delivered and deleted", all).await;
        let mut seen: Vec<String> = receiver
            .received()
            .iter()
            .map(|request| request.header("webhook-id").to_owned())
            .collect();
        seen.sort();
        ids.sort();
        assert_eq!(seen, ids);
    });
}

#[test]
fn a_purge_under_load_only_delays() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let stop = CancellationToken::new();
        let mut workers = worker::start(&harness.app, &stop);
        for event in 0..60 {
            harness.publish("a").await;
            if event % 20 == 19 {
                queues.purge().await;
            }
        }
        stop.cancel();
        while workers.join_next().await.is_some() {}
        queues.purge().await;
        assert!(receiver.received().len() < 60, "the purge took something");

        // The workers' last poll, cut off, may swallow what is sent first.
        for rounds in 1..=2 {
            let later = 10 * rounds * queues.options.lease;
            harness.sweep_after(later).await;
        }
        let mut seen: Vec<String> = receiver
            .received()
            .iter()
            .map(|request| request.header("webhook-id").to_owned())
            .collect();
        seen.sort();
        let received = seen.len();
        seen.dedup();
        assert_eq!((seen.len(), received), (60, 60));
    });
}

#[test]
fn only_the_job_that_failed_comes_again() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let receiver = Receiver::start([]).await;
        let gone = Receiver::start([Reply::Status(410)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = harness.endpoint(&gone.url, &["*"]).await;
        harness.publish("a").await;

        // The word that the endpoint is gone cannot reach the control plane.
        let cut_off = harness.without_postgres_on(queues.queue());
        let failed = worker::drain(&cut_off.app, app::now()).await;
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(receiver.received().len(), 1);
        assert_eq!(queues.messages(queues.url(QueueName::Deliver)).await, 1);

        let empty = async || queues.is_empty().await;
        work(&harness, "the failed job has come again", empty).await;
        assert_eq!((receiver.received().len(), gone.received().len()), (1, 1));
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let shown = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(shown["state"], "gone");
    });
}

#[test]
fn a_message_stays_hidden_while_its_job_runs() {
    run(async {
        let Some(queues) = Queues::new().await else {
            return;
        };
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let slow = 2 * queues.options.visibility + SOON;
        let receiver = Receiver::start([Reply::Slow(slow)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.publish("a").await;
        let sqs = queues.sqs();
        // One runs, the other waits behind it: nobody else gets either.
        let watched = async || {
            let received = sqs
                .receive(QueueName::Deliver, Duration::ZERO)
                .await
                .unwrap();
            assert!(
                received.is_empty() || receiver.received().is_empty(),
                "{received:?}"
            );
            receiver.received().len() == 2 && queues.is_empty().await
        };
        let stop = CancellationToken::new();
        let mut workers = worker::start(&harness.app, &stop);
        until("the first is under way", async || {
            !receiver.received().is_empty()
        })
        .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        until("both are delivered", watched).await;
        stop.cancel();
        while workers.join_next().await.is_some() {}
        assert_eq!(receiver.received().len(), 2);
    });
}

#[test]
fn a_drain_finishes_what_runs_and_gives_back_the_rest() {
    run(async {
        let Some(mut queues) = Queues::new().await else {
            return;
        };
        queues.options.visibility = Duration::from_mins(5);
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let receiver = Receiver::start([Reply::Slow(2 * SOON)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for _ in 0..5 {
            harness.publish("a").await;
        }
        let begun = async || receiver.received().len() == 1;
        work(&harness, "the first is under way", begun).await;
        let first = receiver.only().header("webhook-id").to_owned();

        let sqs = queues.sqs();
        let mut left = Vec::new();
        for _ in 0..5 {
            left.extend(
                sqs.receive(QueueName::Deliver, Duration::ZERO)
                    .await
                    .unwrap(),
            );
        }
        assert_eq!(left.len(), 4, "all but the first, at once: {left:?}");
        assert!(
            left.iter()
                .all(|message| !message.body.contains(&first[4..]))
        );
        assert_eq!(
            queues.messages(queues.url(QueueName::Deliver)).await,
            4,
            "the first is deleted"
        );
    });
}

#[test]
fn an_idle_drain_is_quick() {
    run(async {
        let Some(mut queues) = Queues::new().await else {
            return;
        };
        queues.options.wait = Duration::from_secs(20);
        let harness = Harness::with_queue(config(), queues.queue()).await;
        let begun = Instant::now();
        let took = work(&harness, "it waits", async || begun.elapsed() > SOON).await;
        assert!(took < Duration::from_millis(500), "{took:?}");
    });
}

/// An SQS that nobody listens for.
fn out_of_reach() -> Queue {
    let builder = builder("http://127.0.0.1:1");
    let options = SqsOptions {
        fan_out_url: "http://127.0.0.1:1/0/fan-out".into(),
        deliver_url: "http://127.0.0.1:1/0/deliver".into(),
        ingest_url: String::new(),
        parked_url: None,
        lease: Duration::from_secs(30),
        visibility: Duration::from_mins(1),
        wait: Duration::from_secs(20),
    };
    Queue::Sqs(SqsQueue::new(builder, options))
}

#[test]
fn events_are_accepted_without_sqs_and_delivered_later() {
    run(async {
        let harness = Harness::with_queue(config(), out_of_reach()).await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        let begun = Instant::now();
        for _ in 0..20 {
            harness.publish("a").await;
        }
        assert!(
            begun.elapsed() < 5 * SOON,
            "publishers wait: {:?}",
            begun.elapsed()
        );

        // While it refuses, the sweeper does not push everything back.
        let later = app::now() + Duration::from_secs(31);
        let swept = sweep::sweep(&harness.app, later).await.unwrap();
        assert!(swept.enqueued <= 8, "{swept:?}");

        let other = harness.another().await;
        other.sweep_after(Duration::from_hours(2)).await;
        assert_eq!(receiver.received().len(), 21);
    });
}

#[test]
fn workers_outlast_an_sqs_out_of_reach() {
    run(async {
        let harness = Harness::with_queue(config(), out_of_reach()).await;
        let begun = Instant::now();
        let took = work(&harness, "it backs off", async || begun.elapsed() > SOON).await;
        assert!(took < Duration::from_millis(500), "{took:?}");
        let app: &Arc<app::App> = &harness.app;
        assert_eq!(app.queue.room(), usize::MAX, "nothing was sent");
        let body = json!({ "type": "a", "data": 1 });
        harness
            .post("/v1/events", body)
            .await
            .expect(StatusCode::ACCEPTED);
    });
}
