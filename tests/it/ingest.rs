//! The ingest consumer: a queue that AWS sources send to, outside Lambda; skipped
//! without an SQS, as those of [`sqs`](crate::sqs).

use std::time::Duration;

use aws_sdk_dynamodb::config::{HttpClient, SharedHttpClient};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use http::StatusCode;
use millrace::config::{Config, Handler};
use millrace::jobs::worker;
use millrace::queue::sqs::QueueName;
use millrace::store::dynamo::Dynamo;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::harness::{self, Harness, run};
use crate::support::queues::{Queues, until, work};
use crate::support::receiver::Receiver;
use crate::support::traces::{spans, trace_to};

/// A poller and nothing else, for the project of `harness`.
fn config(harness: &Harness, queues: &Queues) -> Config {
    let mut config = harness::config();
    config.handlers = vec![Handler::Ingest];
    config.ingest.project = harness.project.clone();
    config.sqs.ingest_url.clone_from(&queues.options.ingest_url);
    config.sqs.parked_url = queues.options.parked_url.clone().unwrap();
    config
}

async fn events(harness: &Harness) -> Vec<Value> {
    let page = harness.get("/v1/events").await.expect(StatusCode::OK);
    page["data"].as_array().unwrap().clone()
}

#[test]
fn what_a_queue_holds_becomes_events_and_the_rest_is_parked_with_the_reason() {
    run(async {
        let Some(queues) = Queues::with_ingest().await else {
            return;
        };
        let base = Harness::new().await;
        let config = config(&base, &queues);
        let poller = base
            .beside()
            .config(config)
            .queue(queues.queue())
            .build()
            .await;
        let cloud_event = json!({
            "specversion": "1.0", "id": "1", "source": "/orders", "type": "order.paid",
        });
        queues.send_raw(QueueName::Ingest, "any text").await;
        queues
            .send_raw(QueueName::Ingest, &cloud_event.to_string())
            .await;
        let no_event = r#"{"specversion":"1.0","id":"2"}"#;
        queues.send_raw(QueueName::Ingest, no_event).await;

        let url = queues.options.ingest_url.clone();
        let all = async || queues.messages(&url).await == 0;
        work(&poller, "all are taken and deleted", all).await;

        let events = events(&base).await;
        let mut types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        types.sort_unstable();
        assert_eq!(types, ["com.amazonaws.sqs.message", "order.paid"]);
        let arn = millrace::queue::sqs::arn(&url, "us-east-1");
        let message = events.iter().find(|e| e["type"] == types[0]).unwrap();
        assert_eq!(message["source"], arn);

        let parked = queues.options.parked_url.as_deref().unwrap();
        let read = queues.client.receive_message().queue_url(parked);
        let read = read.message_attribute_names("All").send().await.unwrap();
        let [message] = read.messages() else {
            panic!("{read:?}")
        };
        assert_eq!(message.body(), Some(no_event));
        let attributes = message.message_attributes().unwrap();
        let text = |name: &str| attributes[name].string_value().unwrap();
        assert!(text("reason").starts_with("source: "), "{}", text("reason"));
        assert_eq!(text("queue"), arn);
    });
}

#[test]
fn a_message_belongs_to_the_trace_of_its_sender() {
    run(async {
        let Some(queues) = Queues::with_ingest().await else {
            return;
        };
        let collector = Receiver::start([]).await;
        let base = Harness::new().await;
        let mut config = config(&base, &queues);
        trace_to(&mut config, &collector);
        let poller = base
            .beside()
            .config(config)
            .queue(queues.queue())
            .build()
            .await;
        let header = "Root=1-58406520-a006649127e371903a2de979;Parent=4c721bf33e3caf8f;Sampled=1";
        queues
            .send_traced(QueueName::Ingest, "traced", header)
            .await;

        let url = queues.options.ingest_url.clone();
        let all = async || queues.messages(&url).await == 0;
        work(&poller, "it is taken and deleted", all).await;
        poller.app.telemetry.flush().await;

        let spans = spans(&collector, "58406520a006649127e371903a2de979");
        let [span] = &spans[..] else {
            panic!("{spans:?}")
        };
        let parent = [0x4c, 0x72, 0x1b, 0xf3, 0x3e, 0x3c, 0xaf, 0x8f];
        assert_eq!(
            (span.name.as_str(), &span.parent_span_id[..]),
            ("ingest", &parent[..])
        );
    });
}

/// An SDK HTTP client that passes each request on late.
#[derive(Debug)]
struct Late(SharedHttpClient, Duration);

#[derive(Debug)]
struct LateConnector(SharedHttpConnector, Duration);

impl HttpClient for Late {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.0.http_connector(settings, components);
        SharedHttpConnector::new(LateConnector(inner, self.1))
    }
}

impl HttpConnector for LateConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (inner, late) = (self.0.clone(), self.1);
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(late).await;
            inner.call(request).await
        })
    }
}

#[test]
fn a_message_stays_hidden_while_it_is_taken_in_and_a_stop_waits_for_it() {
    run(async {
        let Some(mut queues) = Queues::with_ingest().await else {
            return;
        };
        // Invisible for less than it takes: twice this late, at least.
        queues.options.visibility = Duration::from_secs(1);
        let late = Duration::from_millis(900);
        let base = Harness::new().await;
        let config = config(&base, &queues);
        let client = base.app.dynamo.client.config();
        let slow = Late(client.http_client().unwrap(), late);
        let slow = client.to_builder().http_client(slow).build();
        let poller = base
            .beside()
            .dynamo(Dynamo::new(slow, &base.app.dynamo.table))
            .config(config)
            .queue(queues.queue())
            .build()
            .await;
        queues.send_raw(QueueName::Ingest, "slow").await;

        let stop = CancellationToken::new();
        let mut tasks = worker::start(&poller.app, &stop);
        let url = queues.options.ingest_url.clone();
        let invisible = async || queues.invisible(&url).await == 1;
        until("it is received", invisible).await;
        stop.cancel();
        let sqs = queues.sqs();
        let watch = async {
            loop {
                let seen = sqs
                    .receive(QueueName::Ingest, Duration::ZERO)
                    .await
                    .unwrap();
                assert!(seen.is_empty(), "somebody else has it: {seen:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = watch => unreachable!("it watches for ever"),
            () = async { while tasks.join_next().await.is_some() {} } => {}
        }
        assert_eq!(events(&base).await.len(), 1);
        assert_eq!(queues.messages(&url).await, 0, "it is done with");
    });
}
