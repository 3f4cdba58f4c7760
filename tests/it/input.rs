//! What comes from outside, whatever it is: no input is an error of the server's, no
//! refusal and no log repeats what was sent, and null means the same everywhere. Each is
//! tried in every place of every request that the OpenAPI document describes.

use std::io::Write;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::instrument::WithSubscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use url::form_urlencoded::byte_serialize;

use crate::support::harness::{Answer, Harness, run};
use crate::support::probes::{Fixtures, Operation, Place, is_nullable, operations};

/// JSON that some part behind the API cannot hold, or no part expects.
fn hostile_json() -> Vec<String> {
    let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let texts = [
        r#""\u0000""#,
        r#""a\u0000b""#,
        r#""\ud800""#,
        r#""\uffff\ufffe""#,
        r#""""#,
        r#""0000-01-01T00:00:00Z""#,
        r#""9999-12-31T23:59:59.999999999Z""#,
        r#"{"\u0000":"\u0000"}"#,
        r#"["\u0000"]"#,
        "[]",
        "{}",
        "null",
        "NaN",
        "-0",
        "0.1e1",
        "1e400",
        "-1e-400",
        "9223372036854775808",
        "18446744073709551616",
        "12345678901234567890.5",
    ];
    let texts = texts.iter().map(|text| (*text).to_owned());
    let long = [
        format!("\"{}\"", "x".repeat(70_000)),
        "9".repeat(5_000),
        deep(100),
        deep(200),
    ];
    texts.chain(long).collect()
}

/// Texts for paths and queries, escaped.
fn hostile_text() -> Vec<String> {
    let texts = [
        "",
        "%00",
        "a%00b",
        "%FF",
        "%ED%A0%80",
        "%EF%BF%BF",
        "%20",
        "..",
        "a%2Fb",
        "1e400",
        "-0",
        "18446744073709551616",
        "NaN",
        "0000-01-01T00:00:00Z",
        "-009999-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "AAAA",
        "*",
        "a.*",
    ];
    let texts = texts.iter().map(|text| (*text).to_owned());
    texts
        .chain([300, 3_000].map(|len| "x".repeat(len)))
        .collect()
}

fn hostile_headers() -> Vec<String> {
    let texts = [
        "", "a", "é", "%00", "%C0%A0", "1e400", "\"", ";", "a/b;c=\"",
    ];
    let texts = texts.iter().map(|text| (*text).to_owned());
    texts.chain(["x".repeat(5_000)]).collect()
}

fn assert_no_fault(what: &str, answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.bytes);
    assert!(answer.status.as_u16() < 500, "{what}: {text}");
    if !answer.status.is_success() {
        let media_type = &answer.headers["content-type"];
        assert_eq!(media_type, "application/problem+json", "{what}: {text}");
    }
}

fn named(operation: &Operation, place: &Place, value: &str) -> String {
    let value: String = value.chars().take(60).collect();
    format!("{} {place:?} {value}", operation.id)
}

#[test]
fn no_input_is_an_error_of_the_servers() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let mut fixtures = Fixtures::new(&harness).await;
        let (json, text, headers) = (hostile_json(), hostile_text(), hostile_headers());
        let mut sent = 0;
        for operation in operations() {
            for place in operation.places() {
                let values = match &place {
                    Place::Body(_) | Place::Name(_) => &json,
                    Place::Query(_) | Place::Path(_) => &text,
                    Place::Header(_) => &headers,
                };
                for value in values {
                    let probe = fixtures.probe(&harness, &operation, &place, value);
                    if let Some(answer) = Box::pin(probe).await {
                        assert_no_fault(&named(&operation, &place, value), &answer);
                        sent += 1;
                    }
                }
            }
        }
        assert!(sent > 3_000, "{sent}");
    });
}

/// Values of every kind that are told from all else in an answer; none is a name.
const MARKED_TEXTS: [&str; 3] = [
    "sK-9f8E7d6C5b4A3z2Y1x",
    "https://u:sK-9f8E7d6C5b4A3z2Y1x@localhost:99999/#sK-9f8E7d6C5b4A3z2Y1x",
    "sK-9f8E7d6C5b4A3z2Y1x\n\u{1}*",
];
const MARKS: [&str; 2] = ["9f8E7d6C5b4A3z2Y1x", "8675309867530986"];

fn marked_json() -> Vec<String> {
    let texts = MARKED_TEXTS.map(|text| json!(text).to_string());
    let others = [
        "8675309867530986".to_owned(),
        "-8675309867530986.5".to_owned(),
        json!([MARKED_TEXTS[0]]).to_string(),
        json!({ MARKED_TEXTS[0]: MARKED_TEXTS[0] }).to_string(),
        // What is no JSON is not repeated either.
        MARKED_TEXTS[0].to_owned(),
    ];
    texts.into_iter().chain(others).collect()
}

/// Log lines of every level.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

fn assert_not_repeated(what: &str, answer: &Answer, logged: &str) {
    let headers = format!("{:?}", answer.headers);
    let body = String::from_utf8_lossy(&answer.bytes);
    for mark in MARKS {
        // What was accepted is shown to whoever sent it.
        if !answer.status.is_success() {
            assert!(!body.contains(mark), "{what}: {body}");
            assert!(!headers.contains(mark), "{what}: {headers}");
        }
        assert!(!logged.contains(mark), "{what}: {logged}");
    }
}

#[test]
fn no_refusal_and_no_log_repeats_what_was_sent() {
    let captured = Captured::default();
    let subscriber = |lines: Captured| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(move || lines.clone())
            .finish()
            // Those of libraries are held back in a process of its own, whatever its level.
            .with(Targets::new().with_target("millrace", LevelFilter::TRACE))
    };
    // With one alone, what a thread without it logs first is never logged by any other.
    let _second = tracing::Dispatch::new(subscriber(Captured::default()));
    let subscriber = subscriber(captured.clone());
    let test = async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let mut fixtures = Fixtures::new(&harness).await;
        let escaped = MARKED_TEXTS.map(|text| byte_serialize(text.as_bytes()).collect::<String>());
        let headers = [
            MARKED_TEXTS[0].to_owned(),
            format!("Basic {}", MARKED_TEXTS[0]),
        ];
        let (mut refused, mut logs) = (0, 0);
        for operation in operations() {
            for place in operation.places() {
                let values = match &place {
                    Place::Body(_) | Place::Name(_) => marked_json(),
                    Place::Query(_) | Place::Path(_) => escaped.to_vec(),
                    Place::Header(_) => headers.to_vec(),
                };
                for value in values {
                    captured.take();
                    let probe = fixtures.probe(&harness, &operation, &place, &value);
                    let Some(answer) = Box::pin(probe).await else {
                        continue;
                    };
                    let logged = captured.take();
                    let what = named(&operation, &place, &value);
                    assert_not_repeated(&what, &answer, &logged);
                    refused += usize::from(!answer.status.is_success());
                    logs += usize::from(logged.contains("request refused"));
                }
            }
        }
        assert!(refused > 800 && logs > 800, "{refused} {logs}");
        for (method, path) in [
            ("GET", "/sK-9f8E7d6C5b4A3z2Y1x"),
            ("GET", "/v1/sK-9f8E7d6C5b4A3z2Y1x"),
            ("sK-9f8E7d6C5b4A3z2Y1x", "/v1/events"),
            ("sK-9f8E7d6C5b4A3z2Y1x", "/nowhere"),
        ] {
            let method: Method = method.parse().unwrap();
            let answer = harness.request(method, path, "", Value::Null).await;
            assert!(answer.status.is_client_error());
            assert_not_repeated(path, &answer, &captured.take());
        }
    };
    run(test.with_subscriber(subscriber));
}

/// A resource of each kind that can be changed, with every field that can be given, and
/// one with none of them.
async fn changeable(harness: &Harness, operation: &str) -> (String, Value) {
    let (path, full, bare) = match operation {
        "updateEndpoint" => (
            "/v1/endpoints",
            json!({
                "url": "https://example.com/full", "uid": "full", "description": "d",
                "event_types": ["a"], "tenant": "t", "state": "disabled", "rate_limit": 5,
                "max_concurrency": 5, "content_type": "application/json",
                "headers": { "x-a": "b" }, "auth": { "type": "bearer", "token": "t" },
                "metadata": { "a": "b" },
            }),
            json!({ "url": "https://example.com/bare" }),
        ),
        "updateMeter" => (
            "/v1/meters",
            json!({
                "name": "full", "event_type": "a", "aggregation": "sum", "value": "/a",
                "description": "d", "metric": true, "metadata": { "a": "b" },
            }),
            json!({ "name": "bare", "event_type": "a", "aggregation": "count" }),
        ),
        "updateEventType" => (
            "/v1/event-types",
            json!({
                "name": "full", "description": "d", "schema": {}, "validate": "warn",
                "metadata": { "a": "b" },
            }),
            json!({ "name": "bare" }),
        ),
        other => panic!("no resource for {other}: add one"),
    };
    let full = harness.post(path, full).await.expect(StatusCode::CREATED);
    let bare = harness.post(path, bare).await.expect(StatusCode::CREATED);
    let id = full["id"].as_str().or(full["name"].as_str()).unwrap();
    (format!("{path}/{id}"), bare)
}

#[test]
fn null_clears_a_field_or_is_refused_as_the_document_says() {
    run(async {
        let mut seen = String::new();
        for operation in operations() {
            if operation.method != Method::PATCH {
                continue;
            }
            for (name, schema) in operation.properties() {
                // A project each: names and uids are taken otherwise.
                let harness = Harness::new().await;
                let (path, bare) = changeable(&harness, operation.id).await;
                let answer = harness.patch(&path, json!({ name: null })).await;
                let is_cleared = answer.status.is_success();
                let what = format!("{} {name}", operation.id);
                assert_eq!(is_cleared, is_nullable(schema), "{what}: {}", answer.json);
                if is_cleared {
                    let expected = match &**name {
                        // It has a schema still.
                        "validate" => json!("reject"),
                        name => bare[name].clone(),
                    };
                    assert_eq!(answer.json[name], expected, "{what}");
                } else {
                    let problem = answer.problem(400);
                    assert!(problem.contains(&format!("{name}: expected")), "{problem}");
                }
                seen += &format!(
                    "{what}: {}\n",
                    if is_cleared { "clears" } else { "refused" }
                );
            }
        }
        insta::assert_snapshot!(seen, @"
        updateEndpoint auth: clears
        updateEndpoint body_format: clears
        updateEndpoint client_certificate: clears
        updateEndpoint content_type: clears
        updateEndpoint description: clears
        updateEndpoint event_types: clears
        updateEndpoint headers: clears
        updateEndpoint max_concurrency: clears
        updateEndpoint metadata: clears
        updateEndpoint rate_limit: clears
        updateEndpoint state: refused
        updateEndpoint tenant: clears
        updateEndpoint uid: clears
        updateEndpoint url: refused
        updateEventType description: clears
        updateEventType metadata: clears
        updateEventType schema: clears
        updateEventType validate: clears
        updateMeter description: clears
        updateMeter metadata: clears
        updateMeter metric: clears
        updateMeter name: refused
        ");
    });
}

#[test]
fn null_is_no_way_to_change_what_never_changes() {
    run(async {
        let harness = Harness::new().await;
        let (path, _) = changeable(&harness, "updateMeter").await;
        for name in ["event_type", "aggregation", "value", "group_by", "filters"] {
            let problem = harness
                .patch(&path, json!({ name: null }))
                .await
                .problem(400);
            assert!(
                problem.contains(&format!("{name}: it is fixed")),
                "{problem}"
            );
        }
    });
}

#[test]
fn a_creation_takes_null_for_what_it_need_not_have() {
    run(async {
        let harness = Harness::new().await;
        for operation in operations() {
            if !["createEndpoint", "createMeter", "createEventType"].contains(&operation.id) {
                continue;
            }
            for (name, schema) in operation.properties() {
                let mut body = json!({
                    "name": format!("{}.{name}", operation.id), "url": "https://example.com/",
                    "event_type": "a", "aggregation": "count",
                });
                let known = operation.properties();
                body.as_object_mut()
                    .unwrap()
                    .retain(|name, _| known.contains_key(name));
                body[name] = Value::Null;
                let answer = harness.post(operation.form, body).await;
                let what = format!("{} {name}: {}", operation.id, answer.json);
                assert_eq!(answer.status.is_success(), is_nullable(schema), "{what}");
            }
        }
    });
}

/// A meter may compare with whatever an event may hold, and an event may hold what no
/// text of PostgreSQL's can, nor a number of most parsers.
#[test]
fn what_postgresql_cannot_hold_is_counted_and_told_all_the_same() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let meters = [
            (
                r#""equals": "\u0000""#,
                r#"{"f": "\u0000", "g": "a\u0000b"}"#,
            ),
            (
                r#""in": ["a\u0000", 1]"#,
                r#"{"f": "a\u0000", "g": {"\u0000": 1}}"#,
            ),
            (
                r#""in": [-1e-400, 12345678901234567890.5]"#,
                r#"{"f": 12345678901234567890.5}"#,
            ),
        ];
        for (at, (filter, data)) in meters.into_iter().enumerate() {
            let meter = format!(
                r#"{{"name": "m{at}", "event_type": "t{at}", "aggregation": "unique_count",
                "value": "/f", "group_by": ["/g"],
                "filters": [{{"pointer": "/f", {filter}}}]}}"#
            );
            let made = send(&harness, "/v1/meters", meter).await;
            let made = made.expect(StatusCode::CREATED);
            let event = format!(r#"{{"type": "t{at}", "data": {data}}}"#);
            let published = send(&harness, "/v1/events", event).await;
            published.expect(StatusCode::ACCEPTED);
            let id = made["id"].as_str().unwrap();
            assert_eq!(harness.meter().await, 1, "{filter}");
            let query = "from=2026-01-01T00:00:00Z&window=month&group_by=/g";
            let usage = harness.usage(id, query).await;
            assert_eq!(usage[0]["group"], json!({ "/g": null }), "{usage}");
            let path = format!("/v1/meters/{id}");
            let renamed = harness.patch(&path, json!({ "description": "d" })).await;
            renamed.expect(StatusCode::OK);
            let deleted = harness.delete(&path).await;
            assert_eq!(deleted.status, StatusCode::NO_CONTENT);
            let log = harness.get(&format!("/v1/audit-log?subject={id}")).await;
            let log = log.expect(StatusCode::OK)["data"].take();
            assert_eq!(log.as_array().unwrap().len(), 3, "{log}");
            let told = &log[2]["after"]["filters"][0];
            assert_eq!(told, &log[0]["before"]["filters"][0]);
            let expected = [
                json!({ "pointer": "/f", "equals": "\u{2400}" }),
                json!({ "pointer": "/f", "in": ["a\u{2400}", 1] }),
            ];
            if let Some(expected) = expected.get(at) {
                assert_eq!(told, expected);
            }
        }
        let beyond = r#"{"name": "n", "event_type": "t", "aggregation": "count",
            "filters": [{"pointer": "/f", "in": [1, 1e400]}]}"#;
        let refused = send(&harness, "/v1/meters", beyond.to_owned()).await;
        let problem = refused.problem(400);
        assert!(problem.contains("filters[0].in[1]: expected"), "{problem}");
    });
}

async fn send(harness: &Harness, path: &str, body: String) -> Answer {
    let request = http::Request::post(path)
        .header("authorization", format!("Bearer {}", harness.key))
        .header("content-type", "application/json")
        .body(axum::body::Body::from(body));
    harness.send(request.unwrap()).await
}
