//! The OpenAPI document, held against every request that is accepted and every answer
//! given in a test.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use millrace::http::docs::OPENAPI;
use serde_json::{Value, json};

use super::harness::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(OPENAPI).unwrap());

/// The document that is served.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// A request, as far as the document speaks of it.
pub struct Sent {
    /// `GET`.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// Without parameters; empty without a body.
    pub media_type: String,
    /// The body, if it is JSON and was given whole.
    pub body: Option<Value>,
}

/// Fails unless the document says that `sent` may be answered like this and, where it
/// was accepted, that it may be sent.
pub fn check(sent: &Sent, answer: &Answer) {
    let Some((path, operation)) = operation(sent) else {
        // Nothing it describes: a path or method that is not there, or a test's own.
        return;
    };
    let name = format!("{} {path}", sent.method);
    let request = &operation["requestBody"]["content"];
    if !sent.media_type.is_empty() && request[&sent.media_type].is_null() {
        // CloudEvents in the modes that the description speaks of.
        return;
    }
    // Of which a part may be refused.
    let is_batch = sent.body.as_ref().is_some_and(Value::is_array);
    if path == "/v1/events" && is_batch {
        return;
    }
    if answer.status.is_success()
        && !is_batch
        && let Some(body) = &sent.body
        && !request.is_null()
    {
        let at = format!("{name}, its body");
        validate(&at, &request[&sent.media_type]["schema"], body);
    }
    let status = answer.status.as_str();
    let response = &operation["responses"][status];
    let text = String::from_utf8_lossy(&answer.bytes);
    assert!(
        response.is_object(),
        "{name} does not say that it may answer {status}: {text}"
    );
    if response["content"].is_null() {
        assert!(
            text.is_empty(),
            "{name} says that {status} has no body: {text}"
        );
        return;
    }
    let media_type = answer.headers.get("content-type");
    let media_type = media_type.map_or("", |value| essence(value.to_str().unwrap()));
    if media_type == "text/csv" {
        // For spreadsheets, as the description says: in the document it would make the
        // answer one of two types for every client that is generated.
        assert!(operation["description"].to_string().contains("text/csv"));
        return;
    }
    let content = &response["content"][media_type];
    assert!(
        content.is_object(),
        "{name} does not say that {status} may be {media_type}"
    );
    if media_type.ends_with("json") {
        validate(
            &format!("{name}, {status}"),
            &content["schema"],
            &answer.json,
        );
    }
    operational_event(&answer.json["event"]);
}

/// A media type without its parameters.
pub fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Fails unless an operational event is as the webhook of its type says.
fn operational_event(event: &Value) {
    let event_type = event["type"].as_str().unwrap_or_default();
    if event_type.starts_with("millrace.") {
        let body = &DOCUMENT["webhooks"][event_type]["post"]["requestBody"];
        let schema = &body["content"]["application/cloudevents+json"]["schema"];
        assert!(schema.is_object(), "no webhook says what {event_type} is");
        validate(event_type, schema, event);
    }
}

/// The operation that a request is for, and its path.
fn operation(sent: &Sent) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object()?.iter();
    // A slash at the end changes nothing.
    let given = sent.path.strip_suffix('/').filter(|path| path.len() > 1);
    let given = given.unwrap_or(&sent.path);
    let matching = paths.filter(|(path, _)| matches(path, given));
    // One that is spelt out comes before one with parameters.
    let (path, item) = matching.min_by_key(|(path, _)| path.matches('{').count())?;
    let operation = item.get(sent.method.to_lowercase())?;
    Some((path, operation))
}

fn matches(path: &str, given: &str) -> bool {
    let (path, given) = (path.split('/'), given.split('/'));
    let is_same = |(part, given): (&str, &str)| part == given || part.starts_with('{');
    path.clone().count() == given.clone().count() && path.zip(given).all(is_same)
}

fn validate(name: &str, schema: &Value, value: &Value) {
    let errors: Vec<_> = validator(schema)
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        errors.is_empty(),
        "{name}, is not as the document says: {errors:?}\n{value:#}"
    );
}

/// Compiled once for all tests.
fn validator(schema: &Value) -> Arc<Validator> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let entry = compiled.entry(schema.to_string());
    let validator = entry.or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = DOCUMENT["components"].clone();
        whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        Arc::new(jsonschema::validator_for(&whole).unwrap())
    });
    validator.clone()
}
