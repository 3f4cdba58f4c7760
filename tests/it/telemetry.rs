//! Telemetry as its readers see it: one trace for one event, and the metrics.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use http::{Request, StatusCode};
use jiff::Timestamp;
use millrace::config::Config;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};
use crate::support::traces::{hex, spans};

fn traced(collector: &Receiver) -> Config {
    let toml = format!(
        "[delivery]\ntimeout_s = 2\nconnect_timeout_s = 1\n\
         [telemetry]\ntraces = \"otlp\"\notlp_url = {:?}\nsample_ratio = 1.0",
        collector.url
    );
    Config::from_toml(&toml).unwrap()
}

/// A trace for eyes: ids as small numbers, attributes as they are.
fn describe(spans: &[Span]) -> String {
    let numbers: HashMap<&[u8], usize> = spans
        .iter()
        .enumerate()
        .map(|(number, span)| (&*span.span_id, number + 1))
        .collect();
    let mut text = String::new();
    for span in spans {
        let (id, parent) = (numbers[&*span.span_id], numbers.get(&*span.parent_span_id));
        let parent = parent.map_or("-".into(), ToString::to_string);
        let kind = span.kind().as_str_name();
        writeln!(text, "{id} in {parent}: {} {kind}", span.name).unwrap();
        for attribute in &span.attributes {
            let value = match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
                Any::StringValue(value) => value.clone(),
                Any::IntValue(value) => value.to_string(),
                other => format!("{other:?}"),
            };
            writeln!(text, "    {} = {value}", attribute.key).unwrap();
        }
    }
    text
}

#[test]
fn an_event_is_one_trace_from_its_request_to_its_endpoint() {
    run(async {
        let (collector, receiver) = (Receiver::start([]).await, Receiver::start([]).await);
        let harness = Harness::builder().config(traced(&collector)).build().await;
        let url = format!("{}?token=hunter2", receiver.url);
        let endpoint = harness.endpoint(&url, &["*"]).await;
        let (trace, parent) = ("6553f100a006649127e371903a2de979", "4c721bf33e3caf8f");
        let request = Request::post("/v1/events?key=hunter2")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/json")
            .header("x-request-id", "request-1")
            .header("traceparent", format!("00-{trace}-{parent}-01"))
            .body(json!({ "type": "invoice.paid", "data": { "secret": "hunter2" } }).to_string())
            .unwrap();
        let answer = harness.send(request.map(Into::into)).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        harness.app.telemetry.flush().await;

        let spans = spans(&collector, trace);
        assert_eq!(hex(&spans[0].parent_span_id), parent);
        let (event, endpoint) = (
            answer["id"].as_str().unwrap(),
            endpoint["id"].as_str().unwrap(),
        );
        let trace_text = describe(&spans)
            .replace(&event[4..], "EVENT")
            .replace(&endpoint[3..], "ENDPOINT")
            .replace(receiver.url.split(['/', ':']).nth(4).unwrap(), "PORT");
        insta::assert_snapshot!(trace_text, @"
        1 in -: POST /v1/events SPAN_KIND_SERVER
            http.request.method = POST
            http.route = /v1/events
            request.id = request-1
            http.response.status_code = 202
        2 in 1: deliver SPAN_KIND_CONSUMER
            messaging.system = in_process
            messaging.operation.type = process
            event.id = evt_EVENT
            delivery.id = dlv_EVENTENDPOINT
            endpoint.id = ep_ENDPOINT
            delivery.attempt = 1
        3 in 2: POST SPAN_KIND_CLIENT
            http.request.method = POST
            url.scheme = http
            server.address = 127.0.0.1
            server.port = PORT
            http.response.status_code = 200
        ");
        // The endpoint goes on with the attempt's span.
        let attempt = hex(&spans[2].span_id);
        let sent = receiver.only();
        assert_eq!(
            sent.header("traceparent"),
            format!("00-{trace}-{attempt}-01")
        );
        for body in collector.received() {
            let text = String::from_utf8_lossy(&body.body).into_owned();
            assert!(!text.contains("hunter2") && !text.contains(&harness.key));
        }
    });
}

#[test]
fn a_failed_attempt_shows_and_a_swept_retry_is_a_trace_of_its_own() {
    run(async {
        let collector = Receiver::start([]).await;
        let receiver = Receiver::start([Reply::Close]).await;
        let harness = Harness::builder().config(traced(&collector)).build().await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("invoice.paid").await;
        harness.drain().await;
        let first = receiver.only().header("traceparent").to_owned();
        harness.app.telemetry.flush().await;
        let spans = spans(&collector, &first[3..35]);
        let status = spans[2].status.as_ref().unwrap();
        assert_eq!((spans.len(), status.code), (3, 2), "{}", describe(&spans));
        assert_eq!(
            status.message,
            "connection closed before the response was complete"
        );
        // Brought by the sweeper, which has no message to go on with, a retry is a
        // trace of its own; the event's id joins them.
        harness.sweep_after(Duration::from_mins(1)).await;
        harness.app.telemetry.flush().await;
        let second = receiver.received()[1].header("traceparent").to_owned();
        assert_ne!(first[3..35], second[3..35]);
        let spans = self::spans(&collector, &second[3..35]);
        assert!(describe(&spans).contains(&format!("event.id = {event}")));
        assert!(describe(&spans).contains("delivery.attempt = 2"));
    });
}

#[test]
fn what_happens_is_counted() {
    run(async {
        let receiver = Receiver::start([Reply::Status(500), Reply::Status(410)]).await;
        let harness = Harness::new().await;
        let (metrics, now) = (&harness.app.telemetry.metrics, Timestamp::now());
        let counted = || -> Value { serde_json::from_str(&metrics.take(now).unwrap()).unwrap() };
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = json!({ "type": "a", "id": "1", "data": 1 });
        for _ in 0..3 {
            let answer = harness.post("/v1/events", event.clone()).await;
            answer.expect(StatusCode::ACCEPTED);
        }
        harness.publish("b").await;
        harness.drain().await;
        let first = counted();
        // Two of them say that the endpoint is gone, and the delivery with it.
        assert_eq!(
            (&first["accepted"], &first["duplicates"]),
            (&json!(4), &json!(2))
        );
        assert_eq!(first["attempt_latency_ms"]["Count"], 2);
        // 500 is tried again, 410 is not.
        assert_eq!(
            (&first["delivered"], &first["failed"]),
            (&Value::Null, &json!(1))
        );
        harness.sweep_after(Duration::from_mins(1)).await;
        let then = counted();
        assert_eq!(then["backlog"], 1, "the retry");
        assert_eq!(metrics.take(now), None);
    });
}

#[test]
fn a_delivery_is_counted_with_its_lag() {
    run(async {
        let receiver = Receiver::start([]).await;
        let harness = Harness::new().await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        let metrics = &harness.app.telemetry.metrics;
        let line = metrics.take(Timestamp::now()).unwrap();
        let counted: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&counted["delivered"], &counted["delivery_lag_ms"]["Count"]),
            (&json!(1), &json!(1))
        );
        // Asked for again, it is delivered again, but nobody waited for it.
        harness
            .post(&format!("/v1/events/{event}/replay"), json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let line = metrics.take(Timestamp::now()).unwrap();
        let counted: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&counted["delivered"], &counted["delivery_lag_ms"]),
            (&json!(1), &Value::Null)
        );
    });
}
