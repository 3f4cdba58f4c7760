use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TraceId;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as Pair};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message;
use ring::{digest, hmac};
use tokio::net::TcpListener;

use super::super::scope::WorkContext;
use super::*;
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A collector on loopback that keeps what it is sent.
#[derive(Clone)]
struct Collector {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    connections: usize,
    answer: StatusCode,
    taken: Vec<(http::request::Parts, Bytes)>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = Self {
            url,
            state: Arc::default(),
        };
        tokio::spawn(collector.clone().serve(listener));
        collector
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.state.lock().unwrap().connections += 1;
            let this = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| this.answer(request));
                let http1 = hyper::server::conn::http1::Builder::new();
                http1.serve_connection(TokioIo::new(stream), service).await
            });
        }
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut state = self.state.lock().unwrap();
        let mut response = Response::new(Full::default());
        *response.status_mut() = state.answer;
        state.taken.push((parts, body));
        Ok(response)
    }

    fn answer_with(&self, status: u16) {
        self.state.lock().unwrap().answer = StatusCode::from_u16(status).unwrap();
    }

    fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    fn requests(&self) -> Vec<(http::request::Parts, Bytes)> {
        std::mem::take(&mut self.state.lock().unwrap().taken)
    }

    /// What was sent since the last time: each span with its resource.
    fn spans(&self) -> Vec<(HashMap<String, String>, Sent)> {
        let mut spans = vec![];
        for (_, body) in self.requests() {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for resource in request.resource_spans {
                let from = texts(&resource.resource.unwrap().attributes);
                for span in resource.scope_spans.into_iter().flat_map(|s| s.spans) {
                    spans.push((from.clone(), span));
                }
            }
        }
        spans
    }
}

fn texts(pairs: &[Pair]) -> HashMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().unwrap().value.as_ref().unwrap() {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

fn config(traces: &str, url: &str, ratio: f64) -> Config {
    let toml = format!(
        "[database]\nurl = \"postgresql://u@db/m\"\n[aws]\nregion = \"eu-west-1\"\n\
         [telemetry]\nservice = \"shop\"\ntraces = {traces:?}\notlp_url = {url:?}\n\
         sample_ratio = {ratio:?}"
    );
    Config::from_toml(&toml).unwrap()
}

fn traces(collector: &Collector, ratio: f64) -> Traces {
    Traces::new(&config("otlp", &collector.url, ratio))
}

fn request(traces: &Traces, headers: &[(&'static str, &str)]) -> Span {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    traces.request(&Method::POST, Some("/v1/events"), &headers)
}

fn job() -> (Job, DeliveryId) {
    let event = EventId::derive(&ProjectId::new(0, [0; 10]), "", "1");
    let delivery = DeliveryId::new(&event, &EndpointId::new(0, [1; 10]));
    let job = Job::Deliver {
        delivery: delivery.clone(),
        attempts_made: 2,
        payload: None,
    };
    (job, delivery)
}

#[tokio::test]
async fn one_event_is_one_trace_across_the_queue() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 1.0);
    let (job, delivery) = job();
    let request = request(&traces, &[]);
    let message = WorkContext::request("r1", request.context())
        .run(async { scope::traceparent() })
        .await;
    let running = traces.job(&job, message.as_deref());
    let url = "https://user:hunter2@hooks.test/in/hunter3?key=hunter4".parse();
    let attempt = WorkContext::job(&job, running.context())
        .run(async { traces.attempt(&url.unwrap()) })
        .await;
    let to_endpoint = attempt.context().unwrap().traceparent().unwrap();
    drop((attempt, running, request));
    traces.flush().await;

    let sent = collector.spans();
    let [(_, attempt), (_, running), (from, request)] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(request.parent_span_id, b"");
    assert_eq!(running.parent_span_id, request.span_id);
    assert_eq!(attempt.parent_span_id, running.span_id);
    assert!(
        sent.iter()
            .all(|(_, span)| span.trace_id == request.trace_id)
    );
    let id = TraceId::from_bytes(request.trace_id.as_slice().try_into().unwrap());
    assert!(to_endpoint.starts_with(&format!("00-{id}-")) && to_endpoint.ends_with("-01"));
    // As X-Ray wants it: the first 32 bits are the time.
    let seconds = u32::from_be_bytes(request.trace_id[..4].try_into().unwrap());
    let now = jiff::Timestamp::now().as_second();
    assert!((now - i64::from(seconds)).abs() < 60);

    assert_eq!(from["service.name"], "shop");
    assert_eq!((&*request.name, request.kind), ("POST /v1/events", 2));
    assert_eq!((&*running.name, running.kind), ("deliver", 5));
    assert_eq!((&*attempt.name, attempt.kind), ("POST", 3));
    let attributes = texts(&running.attributes);
    assert_eq!(attributes["delivery.id"], delivery.to_string());
    assert_eq!(attributes["event.id"], delivery.event().to_string());
    assert_eq!(attributes["delivery.attempt"], "3");
    let attributes = texts(&attempt.attributes);
    assert_eq!(attributes["server.address"], "hooks.test");
    assert_eq!(attributes["server.port"], "443");
    assert!(!format!("{sent:?}").contains("hunter"));
}

#[tokio::test]
async fn a_header_decides_for_the_sampler() {
    let collector = Collector::start().await;
    let (never, always) = (traces(&collector, 0.0), traces(&collector, 1.0));
    let trace = "58406520a006649127e371903a2de979";
    let root = "1-58406520-a006649127e371903a2de979";
    let parent = "4c721bf33e3caf8f";

    let w3c = |flags: &str| format!("00-{trace}-{parent}-{flags}");
    let xray = |sampled: &str| format!("Root={root};Parent={parent}{sampled}");
    let cases = [
        (&never, "traceparent", w3c("01"), true),
        (&always, "traceparent", w3c("00"), false),
        (&never, "x-amzn-trace-id", xray(";Sampled=1"), true),
        (&always, "x-amzn-trace-id", xray(";Sampled=0"), false),
        (&always, "x-amzn-trace-id", xray(""), true),
        (&never, "x-amzn-trace-id", xray(";Sampled=?"), false),
    ];
    for (traces, name, value, kept) in cases {
        let span = request(traces, &[(name, &value)]);
        let context = span.context().unwrap();
        assert_eq!(context.trace_id().to_string(), trace, "{value}");
        assert_eq!(context.sampled(), Some(kept), "{value}");
        // What is not kept is still passed on as such.
        let flags = if kept { "-01" } else { "-00" };
        assert!(context.traceparent().unwrap().ends_with(flags));
        drop(span);
        traces.flush().await;
        let sent = collector.spans();
        assert_eq!(sent.len(), usize::from(kept), "{name}: {value}");
        if let Some((_, span)) = sent.first() {
            assert_eq!(hex(&span.parent_span_id), parent);
        }
    }
    drop(request(&never, &[]));
    never.flush().await;
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn a_load_balancers_trace_begins_here() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 1.0);
    let root = "Root=1-58406520-a006649127e371903a2de979";
    drop(request(&traces, &[("x-amzn-trace-id", root)]));
    traces.flush().await;
    let (_, span) = collector.spans().remove(0);
    assert_eq!(hex(&span.trace_id), "58406520a006649127e371903a2de979");
    assert_eq!(span.parent_span_id, b"");
}

#[tokio::test]
async fn inside_an_invocation_its_trace_goes_on() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 0.0);
    let lambda = "Root=1-58406520-a006649127e371903a2de979;Parent=4c721bf33e3caf8f;Sampled=1";
    let other = "Root=1-00000001-000000000000000000000001;Parent=0000000000000001;Sampled=0";
    let message = "00-58406520000000000000000000000001-4c721bf33e3caf90-01";
    let (job, _) = job();
    WorkContext::invocation("8476a536", Some(lambda))
        .run(async {
            drop(request(&traces, &[("x-amzn-trace-id", other)]));
            drop(traces.job(&job, None));
            drop(traces.job(&job, Some(message)));
        })
        .await;
    traces.flush().await;
    let sent = collector.spans();
    let parents: Vec<String> = sent.iter().map(|(_, s)| hex(&s.parent_span_id)).collect();
    assert_eq!(
        parents,
        ["4c721bf33e3caf8f", "4c721bf33e3caf8f", "4c721bf33e3caf90"]
    );
}

#[tokio::test]
async fn off_nothing_is_made_and_nobody_is_called() {
    let collector = Collector::start().await;
    let traces = Traces::new(&config("off", &collector.url, 1.0));
    let (job, _) = job();
    let kept = format!("00-{}-{}-01", "5".repeat(32), "4".repeat(16));
    assert_eq!(request(&traces, &[("traceparent", &kept)]).context(), None);
    assert_eq!(traces.job(&job, Some(&kept)).context(), None);
    traces.flush().await;
    // On, but with nothing to send.
    let on = super::tests::traces(&collector, 0.0);
    drop(request(&on, &[]));
    on.flush().await;
    assert_eq!(collector.connections(), 0);
}

#[tokio::test]
async fn health_checks_are_not_traced() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 1.0);
    let health = Some("/health/ready");
    let span = traces.request(&Method::GET, health, &HeaderMap::new());
    assert_eq!(span.context(), None);
}

#[tokio::test]
async fn x_ray_gets_a_signature_that_can_be_recomputed() {
    let collector = Collector::start().await;
    let config = config("xray", &collector.url, 1.0);
    let token = Some("session".to_owned());
    let credentials = Credentials::new("AKIDEXAMPLE", SECRET, token, None, "test");
    let provider = SharedCredentialsProvider::new(credentials);
    let traces = Traces::to(&config, Exporter::with_credentials(&config, provider));
    drop(request(&traces, &[]));
    traces.flush().await;
    let (parts, body) = collector.requests().remove(0);
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    assert_eq!(parts.headers["x-amz-security-token"], "session");
    let given = parts.headers["authorization"].to_str().unwrap();
    assert_eq!(given, authorization(&parts, &body));
}

/// Signature Version 4 as AWS describes it, from the request as it came.
fn authorization(parts: &http::request::Parts, body: &[u8]) -> String {
    let sha256 = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let hmac = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let header = |name: &str| parts.headers[name].to_str().unwrap();
    let given = header("authorization");
    let signed = given.split("SignedHeaders=").nth(1).unwrap();
    let signed = signed.split(',').next().unwrap();
    for needed in ["host", "content-type", "x-amz-date", "x-amz-security-token"] {
        assert!(signed.split(';').any(|name| name == needed), "{signed}");
    }
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    let path = parts.uri.path();
    let canonical = format!("POST\n{path}\n\n{headers}\n{signed}\n{}", sha256(body));
    let time = header("x-amz-date");
    let scope = format!("{}/eu-west-1/xray/aws4_request", &time[..8]);
    let canonical = sha256(canonical.as_bytes());
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}");
    let key = scope
        .split('/')
        .fold(format!("AWS4{SECRET}").into_bytes(), |key, part| {
            hmac(&key, part)
        });
    let signature = hex(&hmac(&key, &to_sign));
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
}

#[tokio::test]
async fn what_a_collector_cannot_take_now_waits() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 1.0);
    let on = traces.0.as_ref().unwrap();
    collector.answer_with(503);
    drop(request(&traces, &[]));
    traces.flush().await;
    assert_eq!(collector.spans().len(), 1);
    // It rests, then brings both.
    collector.answer_with(200);
    drop(request(&traces, &[]));
    traces.flush().await;
    assert_eq!(collector.spans().len(), 0);
    on.exporter.end_backoff();
    traces.flush().await;
    assert_eq!(collector.spans().len(), 2);
    // What is refused is not brought again.
    collector.answer_with(400);
    drop(request(&traces, &[]));
    traces.flush().await;
    assert_eq!(collector.spans().len(), 1);
    on.exporter.end_backoff();
    traces.flush().await;
    assert_eq!(collector.spans().len(), 0);
}

#[tokio::test]
async fn no_more_wait_than_there_is_room_for() {
    let collector = Collector::start().await;
    let traces = traces(&collector, 1.0);
    for _ in 0..QUEUED_SPANS_MAX + 10 {
        drop(request(&traces, &[]));
    }
    traces.flush().await;
    assert_eq!(
        collector.requests().len(),
        QUEUED_SPANS_MAX / BATCH_SPANS_MAX
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
