//! The catalog of operational events: each type with what it says, the JSON Schema of
//! its data and an example. It is what the documentation shows, and tests hold what is
//! published against it.

use serde_json::{Value, json};

use super::kind::OperationalEventKind;
use crate::model::filter::TEST_TYPE;

/// A type of event that Millrace itself publishes.
#[derive(Debug, Clone, Copy)]
pub struct CatalogEntry {
    /// The CloudEvents `type`.
    pub event_type: &'static str,
    /// What happened, in a sentence or two.
    pub description: &'static str,
    /// The JSON Schema (2020-12) of its `data`.
    pub schema: fn() -> Value,
    /// A `data` that satisfies it.
    pub example: fn() -> Value,
    /// The `source` of the example.
    pub source: &'static str,
}

/// Every type, in the order of what happens to an endpoint.
pub const CATALOG: [CatalogEntry; 11] = [
    CatalogEntry {
        event_type: OperationalEventKind::EndpointCreated.event_type(),
        description: "An endpoint was created. The endpoint itself is not told, unless more \
            than ten are.",
        schema: || endpoint_schema(json!({})),
        example: || json!({ "endpoint_id": ENDPOINT, "endpoint": endpoint_example() }),
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointUpdated.event_type(),
        description: "An endpoint was changed, or its signing secret was rotated. `changed` \
            names the fields; of headers, authentication, certificate and secret nothing \
            but the name is told.",
        schema: || {
            endpoint_schema(json!({
                "changed": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            }))
        },
        example: || {
            json!({
                "endpoint_id": ENDPOINT,
                "endpoint": endpoint_example(),
                "changed": ["event_types", "url"],
            })
        },
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointEnabled.event_type(),
        description: "An endpoint that was disabled takes events again.",
        schema: || endpoint_schema(json!({})),
        example: || json!({ "endpoint_id": ENDPOINT, "endpoint": endpoint_example() }),
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointUnhealthy.event_type(),
        description: "An endpoint has begun to fail: the quick retries of a delivery are used \
            up, or its circuit breaker has opened. Told once for each run of failures, \
            which the first success ends.",
        schema: || {
            object(json!({
                "endpoint_id": { "type": "string" },
                "failing_since": time(),
                "reason": { "enum": ["retries_failed", "circuit_breaker_opened"] },
                "last_attempt": attempt_schema(),
            }))
        },
        example: || {
            json!({
                "endpoint_id": ENDPOINT,
                "failing_since": "2026-01-31T12:00:00.000Z",
                "reason": "retries_failed",
                "last_attempt": attempt_example(),
            })
        },
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointFailing.event_type(),
        description: "An endpoint has done nothing but fail for three fifths of \
            `delivery.disable_after_days`, and will be disabled if it goes on.",
        schema: || {
            object(json!({
                "endpoint_id": { "type": "string" },
                "failing_since": time(),
                "disabled_at": time(),
            }))
        },
        example: || {
            json!({
                "endpoint_id": ENDPOINT,
                "failing_since": "2026-01-31T12:00:00.000Z",
                "disabled_at": "2026-02-05T12:00:00.000Z",
            })
        },
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointDisabled.event_type(),
        description: "An endpoint was disabled: it failed for days (`failing`), it answered \
            410 (`gone`), or a person asked for it (`requested`). Its deliveries wait until \
            it is enabled.",
        schema: || {
            object(json!({
                "endpoint_id": { "type": "string" },
                "reason": { "enum": ["failing", "gone", "requested"] },
                "disabled_at": time(),
                "failing_since": nullable(time()),
            }))
        },
        example: || {
            json!({
                "endpoint_id": ENDPOINT,
                "reason": "failing",
                "disabled_at": "2026-02-05T12:00:00.000Z",
                "failing_since": "2026-01-31T12:00:00.000Z",
            })
        },
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::EndpointDeleted.event_type(),
        description: "An endpoint was deleted; its pending deliveries are canceled.",
        schema: || endpoint_schema(json!({})),
        example: || json!({ "endpoint_id": ENDPOINT, "endpoint": endpoint_example() }),
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: TEST_TYPE,
        description: "The event that tests an endpoint. It goes to that endpoint alone, \
            whatever its filter.",
        schema: || object(json!({ "message": { "type": "string" } })),
        example: || json!({ "message": "A test event. Your endpoint works." }),
        source: ENDPOINT_SOURCE,
    },
    CatalogEntry {
        event_type: OperationalEventKind::DeliveryExhausted.event_type(),
        description: "A delivery failed for good: its retries are used up, or its endpoint \
            answered 410. Not told of deliveries of operational events.",
        schema: || {
            object(json!({
                "delivery_id": { "type": "string" },
                "event_id": { "type": "string" },
                "event_type": { "type": "string" },
                "endpoint_id": { "type": "string" },
                "reason": { "enum": ["schedule_exhausted", "gone"] },
                "attempts_made": { "type": "integer", "minimum": 1 },
                "last_attempt": attempt_schema(),
            }))
        },
        example: || {
            json!({
                "delivery_id": "dlv_06h0v1phq6cvwwsxv9fzf0txem4e9kq2m3r5t7v9x1z3b5d7f9",
                "event_id": "evt_4e9kq2m3r5t7v9x1z3b5d7f9h1",
                "event_type": "invoice.paid",
                "endpoint_id": ENDPOINT,
                "reason": "schedule_exhausted",
                "attempts_made": 10,
                "last_attempt": attempt_example(),
            })
        },
        source: "/v1/deliveries/dlv_06h0v1phq6cvwwsxv9fzf0txem4e9kq2m3r5t7v9x1z3b5d7f9",
    },
    CatalogEntry {
        event_type: OperationalEventKind::KeyCreated.event_type(),
        description: "An API key was created. `hint` is how its text begins, by which \
            people tell keys apart.",
        schema: || {
            object(json!({
                "id": { "type": "string" },
                "name": { "type": "string" },
                "scopes": { "type": "array", "items": { "type": "string" } },
                "hint": { "type": "string" },
            }))
        },
        example: || {
            json!({
                "id": "key_06h0v1phq6cvwwsxv9fzf0txem",
                "name": "billing",
                "scopes": ["events:write"],
                "hint": "mr_4e9kq2m3",
            })
        },
        source: "/v1/projects/prj_06h0v1phq6cvwwsxv9fzf0txem/keys/key_06h0v1phq6cvwwsxv9fzf0txem",
    },
    CatalogEntry {
        event_type: OperationalEventKind::SchemaRejected.event_type(),
        description: "An event's data did not satisfy the schema of its type: it was refused, \
            or accepted all the same where `validate` is `warn`. Told once an hour for each \
            type.",
        schema: || {
            object(json!({
                "type": { "type": "string" },
                "validate": { "enum": ["reject", "warn"] },
                "schema_version": { "type": "integer", "minimum": 1 },
                "path": { "type": "string" },
            }))
        },
        example: || {
            json!({
                "type": "invoice.paid",
                "validate": "reject",
                "schema_version": 2,
                "path": "data/total",
            })
        },
        source: "/v1/event-types/invoice.paid",
    },
];

const ENDPOINT: &str = "ep_06h0v1phq6cvwwsxv9fzf0txem";
const ENDPOINT_SOURCE: &str = "/v1/endpoints/ep_06h0v1phq6cvwwsxv9fzf0txem";

impl CatalogEntry {
    /// The example as a whole CloudEvent.
    pub fn example_event(&self) -> Value {
        json!({
            "specversion": "1.0",
            "id": format!("{}/1", self.event_type),
            "source": self.source,
            "type": self.event_type,
            "datacontenttype": "application/json",
            "data": (self.example)(),
        })
    }
}

/// An object of exactly these members, all of which are there.
fn object(properties: Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flatten().collect();
    let required: Vec<_> = required.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn nullable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Of an endpoint what may be shown to whoever hears of it, and `more` beside it.
fn endpoint_schema(more: Value) -> Value {
    let mut properties = json!({
        "endpoint_id": { "type": "string" },
        "endpoint": {
            "type": "object",
            "description": "The endpoint as the API shows it, without headers, \
                authentication, client certificate and metadata; what a URL has of secrets is masked.",
            "required": ["id", "uid", "url", "description", "event_types", "tenant", "state"],
            "properties": {
                "id": { "type": "string" },
                "uid": { "type": ["string", "null"] },
                "url": { "type": "string" },
                "description": { "type": "string" },
                "event_types": { "type": "array", "items": { "type": "string" } },
                "tenant": { "type": ["string", "null"] },
                "state": { "enum": ["enabled", "disabled", "gone", "failed"] },
                "rate_limit": { "type": ["integer", "null"] },
                "max_concurrency": { "type": ["integer", "null"] },
                "body_format": { "enum": ["cloudevents", "data"] },
                "content_type": { "type": ["string", "null"] },
                "created_at": time(),
                "updated_at": time(),
                "headers": false,
                "auth": false,
                "client_certificate": false,
                "metadata": false,
                "secret": false,
            },
        },
    });
    for (name, schema) in more.as_object().into_iter().flatten() {
        properties[name] = schema.clone();
    }
    object(properties)
}

fn endpoint_example() -> Value {
    json!({
        "id": ENDPOINT,
        "uid": null,
        "url": "https://example.com/webhooks",
        "description": "",
        "event_types": ["invoice.*"],
        "tenant": null,
        "state": "enabled",
        "rate_limit": null,
        "max_concurrency": null,
        "body_format": "cloudevents",
        "content_type": "application/cloudevents+json",
        "created_at": "2026-01-31T12:00:00.000Z",
        "updated_at": "2026-01-31T12:00:00.000Z",
    })
}

fn attempt_schema() -> Value {
    object(json!({
        "at": time(),
        "status": { "type": ["integer", "null"] },
        "error": { "type": ["string", "null"] },
    }))
}

fn attempt_example() -> Value {
    json!({ "at": "2026-01-31T12:05:05.000Z", "status": 503, "error": null })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::event;
    use crate::model::schema::{STEPS_MAX, Schema, Verdict};

    #[test]
    fn every_type_is_there_once_with_an_example_that_its_schema_allows() {
        let listed: BTreeSet<_> = CATALOG.iter().map(|entry| entry.event_type).collect();
        let kinds = OperationalEventKind::ALL.map(OperationalEventKind::event_type);
        let published: BTreeSet<_> = kinds.into_iter().chain([TEST_TYPE]).collect();
        assert_eq!(listed, published);
        assert_eq!(listed.len(), CATALOG.len());
        for entry in &CATALOG {
            assert!(entry.event_type.starts_with("millrace."));
            assert!(entry.description.ends_with('.'), "{}", entry.event_type);
            let schema = Schema::new(&(entry.schema)().to_string());
            let example = (entry.example)().to_string();
            let schema = schema.compile().unwrap();
            let verdict = schema.validate(Some(example.as_bytes()), STEPS_MAX);
            assert_eq!(verdict, Verdict::Satisfied, "{}", entry.event_type);
            let verdict = schema.validate(Some(b"{}"), STEPS_MAX);
            assert_ne!(verdict, Verdict::Satisfied, "{}", entry.event_type);
            let whole = entry.example_event().to_string();
            event::parse_structured(whole.as_bytes()).unwrap();
        }
    }
}
