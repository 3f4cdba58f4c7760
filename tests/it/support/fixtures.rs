//! Fixtures of several test modules: configurations, endpoints, deliveries,
//! recoveries and meters to begin with.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use http::StatusCode;
use millrace::app;
use millrace::config::Config;
use millrace::model::endpoint::EndpointState;
use millrace::model::id::EndpointId;
use millrace::model::operational_event::CATALOG;
use millrace::model::signature::{Scheme, Secret};
use millrace::queue::Queue;
use millrace::store::dynamo::Dynamo;
use millrace::store::endpoints::{Endpoint, SealedEndpoint, SealedSecret, seal_secret};
use serde_json::{Value, json};

use super::harness::{self, Harness};
use super::receiver::{Receiver, Reply};

/// The outbox is one for all tests, and whoever repairs it does so into the
/// tables of one test.
pub static OUTBOX: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Changes show at once; whatever opens a breaker has to be said.
pub fn uncached_config() -> Config {
    let mut config = harness::config();
    config.cache.ttl = Duration::ZERO;
    config.delivery.breaker_failures = 0;
    config
}

/// Creates the endpoint of `body`; the answer.
pub async fn create_endpoint(harness: &Harness, body: Value) -> Value {
    let created = harness.post("/v1/endpoints", body).await;
    created.expect(StatusCode::CREATED)
}

/// The path of an endpoint.
pub fn endpoint_path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

pub async fn endpoint_stats(harness: &Harness, endpoint: &Value) -> Value {
    let path = format!("{}/stats", endpoint_path(endpoint));
    harness.get(&path).await.expect(StatusCode::OK)
}

/// The one delivery of an event.
pub async fn only_delivery(harness: &Harness, event: &str) -> Value {
    let fetched = harness.get(&format!("/v1/events/{event}")).await;
    let fetched = fetched.expect(StatusCode::OK);
    assert_eq!(
        fetched["deliveries"].as_array().unwrap().len(),
        1,
        "{fetched}"
    );
    fetched["deliveries"][0].clone()
}

/// A script of so many answers 500.
pub fn failures(times: usize) -> Vec<Reply> {
    vec![Reply::Status(500); times]
}

/// What a listener for operational events has heard, by type.
pub fn received_types(listener: &Receiver) -> Vec<String> {
    let types = listener
        .received()
        .into_iter()
        .map(|received| received.json()["type"].clone());
    types
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// The data of an operational event satisfies the schema that the catalog has of its
/// type.
pub fn assert_as_documented(event: &Value) {
    let entry = CATALOG
        .iter()
        .find(|entry| event["type"] == entry.event_type);
    let entry = entry.unwrap_or_else(|| panic!("not in the catalog: {event}"));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&(entry.schema)())
        .unwrap();
    let errors: Vec<_> = validator.iter_errors(&event["data"]).collect();
    assert!(errors.is_empty(), "{event}: {errors:?}");
    let example = entry.example_event();
    let (example, data) = (&example["data"], &event["data"]);
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(example), names(data), "{}", entry.event_type);
}

/// Projects `count` endpoints as the outbox would.
pub async fn project_endpoints(harness: &Harness, url: &str, count: usize) {
    for _ in 0..count {
        let id = EndpointId::new(app::now().as_millisecond(), harness.app.random());
        project_endpoint(harness, id, url).await;
    }
}

/// Projects the endpoint `id` as the outbox would.
pub async fn project_endpoint(harness: &Harness, id: EndpointId, url: &str) {
    let now = app::now();
    let secret = Secret::generate(Scheme::V1, harness.app.random());
    let key_ring = harness.app.key_ring.get().await.unwrap();
    let sealed = seal_secret(&key_ring, harness.app.random(), &id, &secret);
    let endpoint = Endpoint {
        id,
        project: harness.project.parse().unwrap(),
        url: url.to_owned(),
        uid: None,
        description: String::new(),
        metadata: millrace::model::metadata::Metadata::default(),
        event_types: vec!["*".into()],
        tenant: None,
        state: EndpointState::Enabled,
        delivery_settings: Default::default(),
        credentials_sealed: None,
        credentials_redacted: Default::default(),
        enabled_at: now,
        created_at: now,
        updated_at: now,
        version: 1,
    };
    let secrets = vec![SealedSecret {
        sealed,
        expires_at: None,
    }];
    let sealed = SealedEndpoint { endpoint, secrets };
    harness.app.projection.put_endpoint(&sealed).await.unwrap();
}

/// Loses all that is queued, as a crash would.
pub fn forget_queue(harness: &Harness) {
    let Queue::Local(queue) = &harness.app.queue else {
        return;
    };
    while let Some(mut taken) = queue.try_next(app::now()) {
        drop(taken.take());
    }
}

/// One attempt a round, and pages of up to `per_second_max`.
pub fn config_without_retries(per_second_max: u32) -> Config {
    let mut config = harness::config();
    config.delivery.retry_schedule = vec![Duration::ZERO];
    config.recovery.per_second_max = per_second_max;
    config
}

/// The time so many seconds ago, as requests write it.
pub fn seconds_ago(seconds: i64) -> String {
    (app::now() - jiff::SignedDuration::from_secs(seconds)).to_string()
}

pub async fn show_recovery(harness: &Harness, recovery: &Value) -> Value {
    let path = format!("/v1/recoveries/{}", recovery["id"].as_str().unwrap());
    harness.get(&path).await.expect(StatusCode::OK)
}

/// Lets time pass until the recovery has ended; the recovery.
pub async fn finish_recovery(harness: &Harness, recovery: &Value) -> Value {
    harness.drain().await;
    for minute in 1..60 {
        let fetched = show_recovery(harness, recovery).await;
        if fetched["state"] != "running" {
            return fetched;
        }
        harness.sweep_after(Duration::from_secs(60 * minute)).await;
    }
    panic!("it never ends");
}

/// Everything that was ever counted, in one row.
pub async fn total_usage(harness: &Harness, meter: &str) -> Value {
    let rows = harness
        .usage(meter, "from=2016-01-01T00:00:00Z&window=month")
        .await;
    let rows = rows.as_array().unwrap().clone();
    assert!(rows.len() <= 1, "{rows:?}");
    rows.into_iter()
        .next()
        .map_or(json!(0), |row| row["value"].clone())
}

/// A meter of the sum of `n` of orders.
pub async fn sum_meter(harness: &Harness) -> String {
    let body =
        json!({ "name": "sum", "event_type": "order.*", "aggregation": "sum", "value": "/n" });
    harness.new_meter(body).await
}

/// Publishes an order with that `n`.
pub async fn publish_order(harness: &Harness, id: &str, n: i64) -> String {
    let body = json!({ "type": "order.paid", "id": id, "source": "/s", "data": { "n": n } });
    harness.publish_body(body).await
}

/// All items of a partition.
pub async fn items_of(dynamo: &Dynamo, pk: &str) -> Vec<HashMap<String, AttributeValue>> {
    let found = dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
        .send()
        .await
        .unwrap();
    found.items.unwrap()
}

/// Lets the time of all items in a partition be over.
pub async fn expire(dynamo: &Dynamo, pk: &str) {
    let items = items_of(dynamo, pk).await;
    let now = AttributeValue::N(app::now().as_second().to_string());
    for item in items {
        let key = ["pk", "sk"].map(|name| (name.to_owned(), item[name].clone()));
        dynamo
            .client
            .update_item()
            .table_name(&dynamo.table)
            .set_key(Some(HashMap::from(key)))
            .update_expression("set #ttl = :now")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now", now.clone())
            .send()
            .await
            .unwrap();
    }
}
