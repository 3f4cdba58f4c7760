//! Invocations as Lambda makes them: each payload of `payloads/` goes to the one
//! function, and what it must not do with any of them.

use std::io::Write;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use millrace::config::Config;
use millrace::host::lambda::{Function, InvocationError};
use millrace::model::api_key;
use millrace::model::event::EVENT_BYTES_MAX;
use millrace::model::id::{DeliveryId, EndpointId, EventId};
use millrace::model::job::{Envelope, Job};
use millrace::queue::Queue;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::support::harness::{self, Harness, run};
use crate::support::receiver::Receiver;
use crate::support::traces::{spans, trace_to};

const REST: &str = include_str!("payloads/api_gateway_v1.json");
const HTTP: &str = include_str!("payloads/api_gateway_v2.json");
const FUNCTION_URL: &str = include_str!("payloads/function_url.json");
const ALB: &str = include_str!("payloads/alb_multi_value.json");
const SQS: &str = include_str!("payloads/sqs.json");
const SCHEDULE: &str = include_str!("payloads/schedule.json");
const EVENT_BRIDGE: &str = include_str!("payloads/event_bridge.json");
const ALB_SINGLE: &str = include_str!("payloads/alb.json");
const S3: &str = include_str!("payloads/s3.json");
const SNS: &str = include_str!("payloads/sns.json");

/// The queue that the function is mapped to, as configured.
const DELIVER_URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/millrace-deliver";
const DELIVER_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:millrace-deliver";
const INGEST_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:millrace-ingest";

struct Lambda {
    harness: Harness,
    function: Function,
}

impl Lambda {
    /// A function whose ingested events belong to the harness's project.
    async fn new() -> Self {
        Self::configured(|config| config.sqs.deliver_url = DELIVER_URL.into()).await
    }

    /// One whose spans go to `collector`.
    async fn traced(collector: &Receiver) -> Self {
        Self::configured(|config| trace_to(config, collector)).await
    }

    async fn configured(configure: impl FnOnce(&mut Config)) -> Self {
        let base = Harness::new().await;
        let mut config = harness::config();
        config.ingest.project = base.project.clone();
        configure(&mut config);
        Self::on(base.beside().config(config).build().await)
    }

    fn on(harness: Harness) -> Self {
        let function = Function::new(harness.app.clone());
        Self { harness, function }
    }

    /// What the function answers to a payload, with the project's key in it.
    async fn invoke(&self, payload: &Value) -> Result<Value, InvocationError> {
        let trace = "Root=1-67891233-abcdef012345678912345600;Sampled=0";
        self.invoke_in(payload, trace).await
    }

    /// The same as part of an X-Ray trace.
    async fn invoke_in(&self, payload: &Value, trace: &str) -> Result<Value, InvocationError> {
        let payload = payload
            .to_string()
            .replace("Bearer KEY", &format!("Bearer {}", self.harness.key));
        let payload: Value = serde_json::from_str(&payload).unwrap();
        let mut context = Context::default();
        let deadline = SystemTime::now() + Duration::from_secs(20);
        let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        context.deadline = u64::try_from(deadline.as_millis()).unwrap();
        context.xray_trace_id = Some(trace.into());
        let event = LambdaEvent::new(to_raw_value(&payload).unwrap(), context);
        let answer = self.function.invoke(event).await?;
        Ok(serde_json::to_value(answer).unwrap())
    }

    async fn refused(&self, payload: &Value) -> Diagnostic {
        self.invoke(payload).await.unwrap_err().into()
    }

    /// Every event of the project, the newest first.
    async fn events(&self) -> Vec<Value> {
        let page = self.harness.get("/v1/events").await;
        page.expect(StatusCode::OK)["data"]
            .as_array()
            .unwrap()
            .clone()
    }
}

fn parse(payload: &str) -> Value {
    serde_json::from_str(payload).unwrap()
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

fn message(id: &str, arn: &str, body: &str) -> Value {
    json!({
        "messageId": id, "receiptHandle": "h", "body": body, "attributes": {},
        "eventSource": "aws:sqs", "eventSourceARN": arn, "awsRegion": "eu-west-1",
    })
}

#[test]
fn a_rest_api_publishes_whatever_its_stage() {
    run(async {
        let lambda = Lambda::new().await;
        let mut payload = parse(REST);
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}");
        assert_eq!(answer["isBase64Encoded"], false);
        assert_eq!(
            answer["multiValueHeaders"]["content-type"],
            json!(["application/json"])
        );
        payload["path"] = "/prod/v1/events".into();
        let again = lambda.invoke(&payload).await.unwrap();
        assert_eq!(body(&again)["duplicate"], true, "{again}");
    });
}

#[test]
fn an_http_api_publishes_and_its_stage_is_no_part_of_the_path() {
    run(async {
        let lambda = Lambda::new().await;
        let mut payload = parse(HTTP);
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}");
        for (stage, path) in [
            ("$default", "/v1/events"),
            ("v1", "/v1/v1/events"),
            // A domain of one's own leaves the stage out.
            ("v1", "/v1/events"),
            ("prod", "/v1/events"),
        ] {
            payload["requestContext"]["stage"] = stage.into();
            payload["rawPath"] = path.into();
            let answer = lambda.invoke(&payload).await.unwrap();
            assert_eq!(body(&answer)["duplicate"], true, "{stage} {path}: {answer}");
        }
    });
}

#[test]
fn a_function_url_and_a_load_balancer_list_what_was_published() {
    run(async {
        let lambda = Lambda::new().await;
        lambda.invoke(&parse(REST)).await.unwrap();
        let listed = lambda.invoke(&parse(FUNCTION_URL)).await.unwrap();
        assert_eq!(listed["statusCode"], 200, "{listed}");
        assert_eq!(body(&listed)["data"][0]["type"], "order.paid");
        let alb = lambda.invoke(&parse(ALB)).await.unwrap();
        assert_eq!(alb["statusCode"], 200, "{alb}");
        assert_eq!(alb["statusDescription"], "200 OK");
        assert_eq!(body(&alb)["data"][0]["type"], "order.paid");
        assert!(alb["multiValueHeaders"]["x-request-id"][0].is_string());
        let single = lambda.invoke(&parse(ALB_SINGLE)).await.unwrap();
        assert_eq!(single["statusCode"], 200, "{single}");
        assert!(single["headers"]["x-request-id"].is_string(), "{single}");
        assert_eq!(body(&single), body(&alb));
        let mut health = parse(ALB);
        health["path"] = "/health".into();
        assert_eq!(lambda.invoke(&health).await.unwrap()["statusCode"], 200);
    });
}

#[test]
fn a_path_without_its_slash_is_one_like_any_other() {
    run(async {
        let lambda = Lambda::new().await;
        let mut payload = parse(ALB);
        payload["path"] = "health".into();
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
    });
}

/// What gateways hand on is held to the same rules as what a connection brings.
#[test]
fn a_head_that_is_read_in_two_ways_is_refused() {
    run(async {
        let lambda = Lambda::new().await;
        let key = format!("Bearer {}", lambda.harness.key);
        let many = [
            ("host", json!(["a b:99999"]), "Host"),
            ("host", json!(["["]), "Host"),
            ("host", json!(["a", "a"]), "Host"),
            ("authorization", json!([key, key]), "Authorization"),
            ("content-type", json!(["a/b", "c/d"]), "Content-Type"),
            ("x_forwarded_for", json!(["192.0.2.1"]), "x_forwarded_for"),
        ];
        for (format, (name, values, field)) in [REST, ALB]
            .into_iter()
            .flat_map(|format| many.clone().map(|one| (format, one)))
        {
            let mut payload = parse(format);
            let headers = payload["multiValueHeaders"].as_object_mut().unwrap();
            headers.retain(|known, _| !known.eq_ignore_ascii_case(name));
            headers.insert(name.to_owned(), values);
            let answer = lambda.invoke(&payload).await.unwrap();
            assert_eq!(answer["statusCode"], 400, "{name}: {answer}");
            assert_eq!(body(&answer)["field"], field, "{answer}");
        }
        // Two values of one header are joined there.
        for (name, value, field) in [
            ("host", "a,b".to_owned(), "Host"),
            ("authorization", format!("{key},{key}"), "Authorization"),
        ] {
            let mut payload = parse(HTTP);
            payload["headers"][name] = value.into();
            let answer = lambda.invoke(&payload).await.unwrap();
            assert_eq!(answer["statusCode"], 400, "{name}: {answer}");
            assert_eq!(body(&answer)["field"], field, "{answer}");
        }
        // A gateway need not hand on what it was asked for.
        let mut payload = parse(FUNCTION_URL);
        payload["headers"].as_object_mut().unwrap().remove("host");
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
    });
}

#[test]
fn a_compressed_body_is_decoded() {
    run(async {
        let lambda = Lambda::new().await;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder
            .write_all(br#"{"type":"order.paid","data":{"n":7}}"#)
            .unwrap();
        let compressed = STANDARD.encode(encoder.finish().unwrap());
        let mut payload = parse(HTTP);
        payload["body"] = compressed.into();
        payload["isBase64Encoded"] = true.into();
        payload["headers"]["content-type"] = "application/json".into();
        payload["headers"]["content-encoding"] = "gzip".into();
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}");
        let id = body(&answer)["id"].as_str().unwrap().to_owned();
        let event = lambda.harness.get(&format!("/v1/events/{id}")).await;
        assert_eq!(event.json["event"]["data"], json!({ "n": 7 }));
        payload["headers"]["content-encoding"] = "br".into();
        let answer = lambda.invoke(&payload).await.unwrap();
        assert_eq!(answer["statusCode"], 415, "{answer}");
        assert_eq!(answer["headers"]["accept-encoding"], "gzip", "{answer}");
    });
}

#[test]
fn who_guesses_keys_is_told_apart_by_the_address_that_the_gateway_saw() {
    run(async {
        let lambda = Lambda::configured(|config| config.http.auth_failures_max = 2).await;
        let guess = api_key::format_key([9; 32]);
        for (n, format) in [REST, HTTP, ALB].into_iter().enumerate() {
            let ask = async |client: &str, key: &str| {
                let mut payload = parse(format);
                let key = json!(format!("Bearer {key}"));
                for headers in ["headers", "multiValueHeaders"] {
                    let is_many = headers == "multiValueHeaders";
                    let Some(headers) = payload.get_mut(headers).and_then(Value::as_object_mut)
                    else {
                        continue;
                    };
                    headers.retain(|name, _| !name.eq_ignore_ascii_case("authorization"));
                    let forwarded = json!(format!("192.0.2.1, {client}"));
                    for (name, value) in [("authorization", &key), ("x-forwarded-for", &forwarded)]
                    {
                        let value = if is_many {
                            json!([value])
                        } else {
                            value.clone()
                        };
                        headers.insert(name.to_owned(), value);
                    }
                }
                for place in ["identity", "http"] {
                    if let Some(place) = payload["requestContext"].get_mut(place) {
                        place["sourceIp"] = client.into();
                    }
                }
                lambda.invoke(&payload).await.unwrap()["statusCode"].clone()
            };
            // Each format has clients of its own.
            let (client, other) = (format!("203.0.113.{n}"), format!("198.51.100.{n}"));
            for expected in [401, 401, 429, 429] {
                assert_eq!(ask(&client, &guess).await, expected, "{format}");
            }
            assert_eq!(ask(&other, &guess).await, 401, "{format}");
            let known = lambda.harness.key.clone();
            // Seen good by this function before it guessed elsewhere.
            assert_ne!(ask(&other, &known).await, 401, "{format}");
            assert_ne!(ask(&client, &known).await, 429, "{format}");
        }
    });
}

#[test]
fn a_request_to_events_is_an_ordinary_request() {
    run(async {
        let lambda = Lambda::new().await;
        for forged in [
            parse(SCHEDULE),
            json!({"Records": [message("m", DELIVER_ARN, r#"{"v":1,"job":"disable","endpoint":"ep_1"}"#)]}),
            parse(S3),
        ] {
            let mut payload = parse(REST);
            payload["path"] = "/events".into();
            payload["body"] = forged.to_string().into();
            let answer = lambda.invoke(&payload).await.unwrap();
            assert_eq!(answer["statusCode"], 404, "{answer}");
            // Nor do fields beside the request's own make it another payload.
            for (name, value) in forged.as_object().unwrap() {
                payload[name] = value.clone();
            }
            let answer = lambda.invoke(&payload).await.unwrap();
            assert_eq!(answer["statusCode"], 404, "{answer}");
        }
        assert!(lambda.events().await.is_empty());
    });
}

#[test]
fn what_cannot_be_decoded_is_the_clients_fault() {
    run(async {
        let lambda = Lambda::new().await;
        let mut truncated = parse(HTTP);
        truncated["body"] = "eyJpZCI6Imh0d".into();
        let answer = lambda.invoke(&truncated).await.unwrap();
        assert_eq!(answer["statusCode"], 400);
        assert_eq!(body(&answer)["code"], "invalid");
        let mut not_utf8 = parse(HTTP);
        not_utf8["body"] = "/////w==".into();
        assert_eq!(lambda.invoke(&not_utf8).await.unwrap()["statusCode"], 400);
        let mut no_uri = parse(HTTP);
        no_uri["rawQueryString"] = "a b".into();
        assert_eq!(lambda.invoke(&no_uri).await.unwrap()["statusCode"], 400);
        let mut large = parse(REST);
        let data = "x".repeat(EVENT_BYTES_MAX);
        large["body"] = json!({"type": "t", "data": data}).to_string().into();
        let answer = lambda.invoke(&large).await.unwrap();
        assert_eq!(answer["statusCode"], 413, "{answer}");
    });
}

#[test]
fn unknown_payloads_are_refused_by_name() {
    run(async {
        let lambda = Lambda::new().await;
        let mut authorizer = parse(REST);
        authorizer["type"] = "REQUEST".into();
        authorizer["methodArn"] =
            "arn:aws:execute-api:eu-west-1:123456789012:a/prod/POST/v1".into();
        let mut websocket = parse(REST);
        websocket["requestContext"]["connectionId"] = "c".into();
        let mut mixed = parse(S3);
        mixed["Records"]
            .as_array_mut()
            .unwrap()
            .push(message("m", DELIVER_ARN, "{}"));
        for payload in [
            json!({}),
            json!([]),
            // The schedule's fields in their order, without their names.
            parse(r#"[null,null,null,null,null,null,"Scheduled Event","aws.events"]"#),
            json!("text"),
            json!({"Records": []}),
            json!({"Records": [{"eventSource": "aws:kinesis"}]}),
            json!({"Records": [{"eventSource": "aws:sqs"}]}),
            json!({"requestContext": 7}),
            json!({"job": "disable", "endpoint": "ep_1", "v": 1}),
            authorizer,
            websocket,
            mixed,
        ] {
            let refused = lambda.refused(&payload).await;
            assert_eq!(
                refused.error_type, "Millrace.UnreadablePayload",
                "{payload}"
            );
        }
        let refused = lambda
            .refused(&json!({"Records": [{"eventSource": "aws:kinesis"}]}))
            .await;
        insta::assert_snapshot!(refused.error_message, @r#"expected an HTTP request of API Gateway, a function URL or a load balancer, an SQS batch, a schedule, or an event of S3, SNS or EventBridge: its records are of "aws:kinesis""#);
    });
}

#[test]
fn a_batch_runs_jobs_and_names_only_what_failed() {
    run(async {
        let lambda = Lambda::new().await;
        let receiver = Receiver::start([]).await;
        lambda.harness.endpoint(&receiver.url, &["*"]).await;
        lambda.invoke(&parse(REST)).await.unwrap();
        // What SQS would have been sent.
        let Queue::Local(queue) = &lambda.harness.app.queue else {
            unreachable!()
        };
        let (job, _) = queue.try_next(millrace::app::now()).unwrap().take();
        let job = match job {
            Job::Deliver {
                delivery,
                attempts_made,
                ..
            } => Job::Deliver {
                delivery,
                attempts_made,
                payload: None,
            },
            other => panic!("{other:?}"),
        };
        let sent = Envelope { job, trace: None }.to_json();
        // A message about nothing there is any more is done with.
        let event = EventId::derive(&lambda.harness.project.parse().unwrap(), "/", "gone");
        let unknown = Job::Deliver {
            delivery: DeliveryId::new(&event, &EndpointId::new(0, [0; 10])),
            attempts_made: 0,
            payload: None,
        };
        let unknown = Envelope {
            job: unknown,
            trace: None,
        }
        .to_json();
        let mut records: Vec<Value> = (0..8)
            .map(|n| message(&n.to_string(), DELIVER_ARN, &unknown))
            .collect();
        records.push(message("deliver", DELIVER_ARN, &sent));
        // No parked queue is configured for what is ingested, so this one fails.
        records.push(message("failing", INGEST_ARN, r#"{"specversion":"1.0"}"#));
        let answer = lambda.invoke(&json!({ "Records": records })).await.unwrap();
        assert_eq!(
            answer,
            json!({"batchItemFailures": [{"itemIdentifier": "failing"}]})
        );
        assert_eq!(receiver.received().len(), 1);
        let again = lambda.invoke(&json!({ "Records": records })).await.unwrap();
        assert_eq!(again, answer);
        assert_eq!(
            receiver.received().len(),
            1,
            "a message that comes again does nothing"
        );
    });
}

#[test]
fn a_batch_runs_a_page_of_a_recovery() {
    run(async {
        let lambda = Lambda::new().await;
        let harness = &lambda.harness;
        let receiver = Receiver::start([]).await;
        harness.publish("a").await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let since = json!({ "since": "2020-01-01T00:00:00Z" });
        let answer = harness.post(&format!("{path}/replay-missing"), since).await;
        let recovery = answer.expect(StatusCode::ACCEPTED);
        let Queue::Local(queue) = &harness.app.queue else {
            unreachable!()
        };
        let (job, _) = queue.try_next(millrace::app::now()).unwrap().take();
        let sent = Envelope { job, trace: None }.to_json();
        let records = json!({"Records": [message("m", DELIVER_ARN, &sent)]});
        let answer = lambda.invoke(&records).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
        harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
        // Its second look comes once every instance knows the endpoint.
        harness.sweep_after(Duration::from_mins(1)).await;
        let path = format!("/v1/recoveries/{}", recovery["id"].as_str().unwrap());
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(
            (&fetched["state"], &fetched["resent"]),
            (&json!("done"), &json!(1))
        );
    });
}

#[test]
fn a_job_comes_only_from_a_queue_of_ours() {
    run(async {
        let lambda = Lambda::new().await;
        let job = r#"{"v":1,"job":"disable","endpoint":"ep_1"}"#;
        let foreign = json!({"Records": [message("m", INGEST_ARN, job)]});
        let answer = lambda.invoke(&foreign).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
        assert_eq!(
            lambda.events().await[0]["type"],
            "com.amazonaws.sqs.message"
        );
        // Nor is a queue ours that is only called like one.
        for arn in [
            "arn:aws:sqs:eu-west-1:999999999999:millrace-deliver",
            "arn:aws:sqs:eu-west-2:123456789012:millrace-deliver",
        ] {
            let foreign = json!({"Records": [message(arn, arn, job)]});
            lambda.invoke(&foreign).await.unwrap();
        }
        assert_eq!(lambda.events().await.len(), 3);
        // And what no worker can use is parked, not tried again.
        let unusable =
            json!({"Records": [message("m", DELIVER_ARN, r#"{"v":9,"job":"disable"}"#)]});
        let answer = lambda.invoke(&unusable).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}));
    });
}

#[test]
fn aws_sources_become_events_once() {
    run(async {
        let lambda = Lambda::new().await;
        for _ in 0..2 {
            for payload in [S3, SNS, EVENT_BRIDGE] {
                assert_eq!(lambda.invoke(&parse(payload)).await.unwrap(), Value::Null);
            }
            let answer = lambda.invoke(&parse(SQS)).await.unwrap();
            assert_eq!(answer, json!({"batchItemFailures": []}));
        }
        let mut types: Vec<_> = lambda
            .events()
            .await
            .iter()
            .map(|event| event["type"].to_string())
            .collect();
        types.sort();
        insta::assert_snapshot!(types.join("\n"), @r#"
        "EC2 Instance State-change Notification"
        "com.amazonaws.s3.ObjectCreated:Put"
        "com.amazonaws.sns.Notification"
        "com.amazonaws.sqs.message"
        "com.amazonaws.sqs.message"
        "#);
    });
}

#[test]
fn objects_deleted_by_one_request_are_events_each() {
    run(async {
        let lambda = Lambda::new().await;
        let mut payload = parse(S3);
        for key in ["b", "c"] {
            let mut record = payload["Records"][0].clone();
            record["s3"]["object"] = json!({"key": key, "sequencer": format!("00{key}")});
            payload["Records"].as_array_mut().unwrap().push(record);
        }
        for _ in 0..2 {
            lambda.invoke(&payload).await.unwrap();
            assert_eq!(lambda.events().await.len(), 3);
        }
    });
}

#[test]
fn a_record_that_is_no_event_holds_up_no_other() {
    run(async {
        let lambda = Lambda::new().await;
        let mut payload = parse(S3);
        let good = payload["Records"][0].clone();
        let mut bad = good.clone();
        bad["s3"]["bucket"] = json!({});
        let mut last = good.clone();
        last["s3"]["object"] = json!({"key": "last", "sequencer": "00"});
        payload["Records"] = json!([bad, good, last]);
        // Nothing is there to keep it, so that it fails: after the others.
        let refused = lambda.refused(&payload).await;
        assert_eq!(refused.error_type, "Millrace.Failed");
        assert_eq!(lambda.events().await.len(), 2);
    });
}

#[test]
fn an_invocation_sends_off_its_spans_as_part_of_lambdas_trace() {
    run(async {
        let collector = Receiver::start([]).await;
        let lambda = Lambda::traced(&collector).await;
        let receiver = Receiver::start([]).await;
        lambda.harness.endpoint(&receiver.url, &["*"]).await;
        let trace = "Root=1-67891233-abcdef012345678912345678;Parent=4c721bf33e3caf8f;Sampled=1";
        for payload in [REST, S3] {
            lambda.invoke_in(&parse(payload), trace).await.unwrap();
        }
        let spans = spans(&collector, "67891233abcdef012345678912345678");
        let named: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(named, ["POST /v1/events", "ingest"]);
        for span in &spans {
            let parent: String = span
                .parent_span_id
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            assert_eq!(parent, "4c721bf33e3caf8f", "{}", span.name);
        }
        // What it enqueued goes on with it.
        lambda.harness.drain().await;
        lambda.harness.app.telemetry.flush().await;
        let ingest = &spans[1].span_id;
        let all = self::spans(&collector, "67891233abcdef012345678912345678");
        let on = all.iter().filter(|span| span.parent_span_id == *ingest);
        assert_eq!(
            on.map(|span| span.name.as_str()).collect::<Vec<_>>(),
            ["deliver"]
        );
    });
}

#[test]
fn a_message_belongs_to_the_trace_of_its_sender_and_not_to_the_invocation() {
    run(async {
        let collector = Receiver::start([]).await;
        let lambda = Lambda::traced(&collector).await;
        let mut payload = parse(SQS);
        payload["Records"][0]["attributes"]["AWSTraceHeader"] =
            json!("Root=1-58406520-a006649127e371903a2de979;Parent=4c721bf33e3caf8f;Sampled=1");
        let invocation =
            "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1";
        lambda.invoke_in(&payload, invocation).await.unwrap();

        let parents = |trace: &str| -> Vec<Vec<u8>> {
            let spans = spans(&collector, trace).into_iter();
            spans.map(|span| span.parent_span_id).collect()
        };
        let sender = [0x4c, 0x72, 0x1b, 0xf3, 0x3e, 0x3c, 0xaf, 0x8f];
        assert_eq!(parents("58406520a006649127e371903a2de979"), [sender]);
        // The other says nothing of where it comes from.
        let around = [0x53, 0x99, 0x5c, 0x3f, 0x42, 0xcd, 0x8a, 0xd8];
        assert_eq!(parents("67891233abcdef012345678912345678"), [around]);
    });
}

#[test]
fn the_schedule_sweeps_what_is_due() {
    run(async {
        let lambda = Lambda::new().await;
        let receiver = Receiver::start([]).await;
        lambda.harness.endpoint(&receiver.url, &["*"]).await;
        lambda.invoke(&parse(REST)).await.unwrap();
        assert_eq!(lambda.invoke(&parse(SCHEDULE)).await.unwrap(), Value::Null);
        // Its job waits still, so it is not due yet; the test drains it.
        lambda.harness.drain().await;
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn the_schedule_counts_what_is_to_be_counted() {
    run(async {
        let lambda = Lambda::new().await;
        let meter = json!({ "name": "all", "event_type": "*", "aggregation": "count" });
        let meter = lambda.harness.new_meter(meter).await;
        lambda.invoke(&parse(REST)).await.unwrap();
        assert_eq!(lambda.invoke(&parse(SCHEDULE)).await.unwrap(), Value::Null);
        let from = "from=2020-01-01T00:00:00Z&window=month";
        let usage = lambda.harness.usage(&meter, from).await;
        assert_eq!(usage[0]["value"], 1);
    });
}

#[test]
fn a_handler_that_is_off_is_said_to_be() {
    run(async {
        let base = Harness::new().await;
        let mut config = harness::config();
        config.handlers = Config::from_toml("handlers = [\"http\"]").unwrap().handlers;
        let lambda = Lambda::on(base.beside().config(config).build().await);
        for payload in [SCHEDULE, S3] {
            let refused = lambda.refused(&parse(payload)).await;
            assert_eq!(refused.error_type, "Millrace.HandlerOff");
        }
        let answer = lambda.invoke(&parse(SQS)).await.unwrap();
        assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2);
    });
}
