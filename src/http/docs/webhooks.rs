//! What endpoints are sent, as `webhooks` of the OpenAPI document.

use serde_json::{Map, Value, json};

use crate::model::filter::TEST_TYPE;
use crate::model::operational_event::{CATALOG, CatalogEntry};

/// What references to components begin with.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// Every webhook, by its event's type; `event` is that of a publisher's own.
pub(super) fn described() -> Value {
    let mut webhooks = Map::new();
    webhooks.insert("event".into(), publishers_own());
    for entry in &CATALOG {
        webhooks.insert(entry.event_type.into(), operational(entry));
    }
    webhooks.into()
}

fn publishers_own() -> Value {
    let schema = json!({ "$ref": format!("{SCHEMAS}CloudEvent") });
    let example = json!({
        "specversion": "1.0",
        "id": "inv-1042",
        "source": "/billing",
        "type": "invoice.paid",
        "time": "2026-01-31T12:00:00Z",
        "data": { "invoice": "in_42", "amount": 1200 },
    });
    let description = "Each event that matches an endpoint's filter, as it was published. \
        With `body_format: data` the body is its `data` alone, and its attributes are \
        `ce-` headers.";
    let summary = "An event was published.";
    post("receiveEvent", summary, description, &schema, &example)
}

fn operational(entry: &CatalogEntry) -> Value {
    let mut data = (entry.schema)();
    leave_out_forbidden(&mut data);
    let schema = json!({ "allOf": [
        { "$ref": format!("{SCHEMAS}CloudEvent") },
        {
            "type": "object",
            "required": ["type", "data"],
            "properties": {
                "type": { "type": "string", "enum": [entry.event_type] },
                "data": data,
            },
        },
    ] });
    let summary = entry.description.split_inclusive(". ").next();
    let mut description = entry.description.to_owned();
    if entry.event_type != TEST_TYPE {
        description += " Sent to the endpoints that ask for it by name.";
    }
    post(
        &operation_id(entry.event_type),
        summary.unwrap_or_default().trim_end(),
        &description,
        &schema,
        &entry.example_event(),
    )
}

/// Leaves out the members that are never there, which generators make something of.
fn leave_out_forbidden(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let Some(properties) = properties else {
        return;
    };
    properties.retain(|_, schema| *schema != false);
    properties.values_mut().for_each(leave_out_forbidden);
}

/// `receiveEndpointFailing` of `millrace.endpoint.failing`.
fn operation_id(event_type: &str) -> String {
    let words = event_type.split(['.', '_']).skip(1);
    let capitalized = words.map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    });
    format!("receive{}", capitalized.collect::<String>())
}

fn post(id: &str, summary: &str, description: &str, schema: &Value, example: &Value) -> Value {
    let header = |name: &str, description: &str, example: &str| {
        json!({
            "name": name, "in": "header", "required": true, "description": description,
            "schema": { "type": "string" }, "example": example,
        })
    };
    json!({ "post": {
        "operationId": id,
        "tags": ["webhooks"],
        "summary": summary,
        "description": description,
        "security": [],
        "parameters": [
            header("webhook-id", "The event's id, the same on every attempt", "evt_…"),
            header("webhook-timestamp", "When it was sent, in seconds since 1970", "1769860800"),
            header("webhook-signature", "Standard Webhooks signatures, with spaces between", "v1,…"),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/cloudevents+json": { "schema": schema, "example": example } },
        },
        "responses": {
            "2XX": { "description": "It is taken." },
            "410": { "description": "The endpoint wants no more, and is turned off." },
            "default": { "description": "It is tried again, by the retry schedule." },
        },
    } })
}
