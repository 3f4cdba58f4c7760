//! What a Lambda function is invoked with: whether it is a request, a queue's
//! batch, the schedule or an event, and requests on their way through a router.
#![no_main]

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Request;
use futures_util::FutureExt;
use lambda_runtime::Context;
use libfuzzer_sys::fuzz_target;
use millrace::host::lambda::payload::{self, PayloadError, PayloadKind};
use millrace::host::lambda::request;
use serde_json::Value;

/// The text of a refusal.
const REFUSAL_BYTES_MAX: usize = 1_024;

static ROUTER: LazyLock<Router> = LazyLock::new(|| Router::new().fallback(echo));

fuzz_target!(|input: &[u8]| {
    let Ok(json) = std::str::from_utf8(input) else {
        return;
    };
    let kind = checked(payload::kind(json));
    if let Ok(document) = serde_json::from_str(json) {
        marked(kind, &document);
        if !matches!(kind, Some(PayloadKind::Request(_))) {
            forged(json);
        }
    }
    match kind {
        Some(PayloadKind::Request(shape)) => {
            if let Some(request) = checked(payload::request(shape, json)) {
                let answer = request::answer(ROUTER.clone(), request, Context::default());
                let answer = answer.now_or_never().expect("there is nothing to wait for");
                serde_json::to_string(&answer).expect("an answer is JSON");
            }
        }
        Some(PayloadKind::Queue) => {
            for message in checked(payload::messages(json)).unwrap_or_default() {
                assert!(message.queue_arn.ends_with(message.queue()));
                message.sent();
            }
        }
        Some(PayloadKind::Schedule | PayloadKind::Notification) | None => {}
    }
});

fn checked<T>(read: Result<T, PayloadError>) -> Option<T> {
    read.map_err(|error| assert!(error.to_string().len() <= REFUSAL_BYTES_MAX, "{error}"))
        .ok()
}

/// A payload is what it is taken for only with the marks of it.
fn marked(kind: Option<PayloadKind>, document: &Value) {
    let has = |name: &str| document.get(name).is_some_and(|value| !value.is_null());
    match kind {
        Some(PayloadKind::Request(_)) => assert!(has("requestContext")),
        Some(PayloadKind::Queue) => {
            let is_sqs = |record: &Value| {
                record["eventSource"] == "aws:sqs" || record["EventSource"] == "aws:sqs"
            };
            let records = document["Records"].as_array();
            assert!(records.is_some_and(|records| records.iter().all(is_sqs)));
            assert!(!has("requestContext"));
        }
        Some(PayloadKind::Schedule) => {
            assert_eq!(document["detail-type"], "Scheduled Event");
            assert!(!has("requestContext"));
        }
        Some(PayloadKind::Notification) => {
            assert!(has("Records") || has("detail-type") && has("source"));
            assert!(!has("requestContext"));
        }
        None => {}
    }
}

/// With a request context, which a client cannot leave out, nothing is taken for
/// anything but a request.
fn forged(json: &str) {
    let Some(members) = json.trim_start().strip_prefix('{') else {
        return;
    };
    for context in [r#"{"http":{}}"#, r#"{"elb":{}}"#, "{}"] {
        let forged = format!(r#"{{"requestContext":{context},{members}"#);
        let kind = payload::kind(&forged).ok();
        assert!(
            matches!(kind, None | Some(PayloadKind::Request(_))),
            "{kind:?}"
        );
    }
}

async fn echo(request: Request) -> String {
    let path = request.uri().path();
    assert!(path.starts_with('/'), "{path:?}");
    path.to_owned()
}
