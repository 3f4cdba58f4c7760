//! Lists: pages that know whether they are the last, patterns of types, and the
//! deliveries of a whole project.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use millrace::model::delivery::DeliveryState;
use millrace::model::id::DeliveryId;
use millrace::store::deliveries;
use serde_json::{Value, json};

use crate::support::fixtures::{config_without_retries, forget_queue, seconds_ago};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};
use crate::support::stores::counting;

/// Every row of a list, in pages of `limit`, of which none but the first may be empty
/// and none but the last may be short.
async fn all(harness: &Harness, path: &str, limit: usize) -> Vec<Value> {
    let mut rows = vec![];
    let mut cursor = String::new();
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}limit={limit}{cursor}");
        let page = harness.get(&path).await.expect(StatusCode::OK);
        let data = page["data"].as_array().unwrap();
        assert!(cursor.is_empty() || !data.is_empty(), "{path} is empty");
        rows.extend(data.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(data.len(), limit, "{path} is short");
                cursor = format!("&cursor={next}");
            }
            None => return rows,
        }
    }
}

fn ids(rows: &[Value]) -> Vec<&str> {
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_page_with_the_last_row_says_so() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(1000))
            .build()
            .await;
        let receiver = Receiver::start(vec![Reply::Status(500); 6]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let mut event = String::new();
        for n in 0..6 {
            let body = json!({ "type": "a.b", "tenant": "t", "subject": "s", "data": n });
            event = harness.publish_body(body).await;
            harness.drain().await;
        }
        for _ in 0..6 {
            let body = json!({ "since": seconds_ago(3600), "until": seconds_ago(1800) });
            let path = format!("/v1/endpoints/{endpoint}/recover");
            harness.post(&path, body).await.expect(StatusCode::ACCEPTED);
            harness.drain().await;
            let body = json!({ "name": "test", "scopes": ["events:read"] });
            let path = format!("/v1/projects/{}/keys", harness.project);
            let made = harness.as_admin(http::Method::POST, &path, body).await;
            made.expect(StatusCode::CREATED);
        }
        for name in ["a", "b", "c", "d", "e", "f"] {
            let body = json!({ "name": name });
            harness
                .post("/v1/event-types", body)
                .await
                .expect(StatusCode::CREATED);
        }
        for path in [
            "/v1/events?type=a.b".to_owned(),
            "/v1/events?type=a.*".to_owned(),
            "/v1/events?tenant=t&type=*".to_owned(),
            "/v1/events?subject=s".to_owned(),
            format!("/v1/deliveries?endpoint_id={endpoint}"),
            format!("/v1/deliveries?endpoint_id={endpoint}&state=failed"),
            format!("/v1/deliveries?endpoint_id={endpoint}&tenant=t&type=a.*"),
            "/v1/deliveries".to_owned(),
            "/v1/deliveries?state=failed".to_owned(),
            "/v1/recoveries".to_owned(),
            "/v1/event-types".to_owned(),
        ] {
            for limit in [1, 2, 3, 4, 6, 7] {
                assert_eq!(
                    all(&harness, &path, limit).await.len(),
                    6,
                    "{path} by {limit}"
                );
            }
        }
        let one = format!("/v1/deliveries?event_id={event}");
        for (query, rows) in [("", 1), ("&state=failed", 1), ("&state=delivered", 0)] {
            assert_eq!(all(&harness, &format!("{one}{query}"), 1).await.len(), rows);
        }
    });
}

#[test]
fn the_deliveries_of_an_event_are_found_by_state_page_by_page() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(1000))
            .build()
            .await;
        let fine = Receiver::start([]).await;
        let failing = Receiver::start(vec![Reply::Status(500); 9]).await;
        for n in 0..9 {
            let receiver = if n % 3 == 0 { &failing } else { &fine };
            harness.endpoint(&receiver.url, &["*"]).await;
        }
        let event = harness.publish("a").await;
        harness.drain().await;
        let of = async |query: &str, limit| {
            all(
                &harness,
                &format!("/v1/deliveries?event_id={event}{query}"),
                limit,
            )
            .await
        };
        for limit in [1, 2, 3, 6] {
            assert_eq!(of("&state=failed", limit).await.len(), 3);
            assert_eq!(of("&state=delivered", limit).await.len(), 6);
            assert_eq!(of("", limit).await.len(), 9);
            assert_eq!(of("&state=pending", limit).await.len(), 0);
        }
    });
}

#[test]
fn events_are_listed_by_the_patterns_that_endpoints_have() {
    run(async {
        let harness = Harness::new().await;
        for event_type in [
            "user.created",
            "user.created.late",
            "user",
            "users.x",
            "order.paid",
        ] {
            harness.publish(event_type).await;
        }
        let types = async |query: &str| {
            let rows = all(&harness, &format!("/v1/events?{query}"), 2).await;
            let types = rows
                .iter()
                .map(|row| row["type"].as_str().unwrap().to_owned());
            let mut types: Vec<_> = types.collect();
            types.sort_unstable();
            types.join(" ")
        };
        assert_eq!(types("type=user.*").await, "user.created user.created.late");
        assert_eq!(types("type=user.created.*").await, "user.created.late");
        assert_eq!(types("type=user").await, "user");
        assert_eq!(types("type=nothing.*").await, "");
        let every = "order.paid user user.created user.created.late users.x";
        assert_eq!(types("type=*").await, every);
        assert_eq!(types("type=%2A").await, every);
        // Whatever type without a star an event may have.
        for given in [" user ", ".", "a b", "ä."] {
            harness.publish(given).await;
            let asked: String = url::form_urlencoded::byte_serialize(given.as_bytes()).collect();
            assert_eq!(types(&format!("type={asked}")).await, given);
            let path = format!("/v1/deliveries?type={asked}");
            harness.get(&path).await.expect(StatusCode::OK);
        }
        for bad in ["", "a%07b", "us*", "*.created", "user.*.x", "**"] {
            for list in ["events", "deliveries"] {
                let answer = harness.get(&format!("/v1/{list}?type={bad}")).await;
                assert_eq!(answer.json["field"], "type", "{bad}: {}", answer.json);
                answer.problem(400);
            }
        }
    });
}

#[test]
fn what_is_rare_among_many_is_found_with_few_reads() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(1000))
            .build()
            .await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let first = harness.publish("a").await;
        harness.drain().await;
        // The rest has failed since.
        let batch: Vec<_> = (0..100)
            .map(|n| json!({ "type": "a", "data": n }))
            .collect();
        for _ in 0..3 {
            let answer = harness.post("/v1/events/batch", json!(batch)).await;
            let answer = answer.expect(StatusCode::ACCEPTED);
            forget_queue(&harness);
            for event in answer["data"].as_array().unwrap() {
                let event = event["id"].as_str().unwrap().parse().unwrap();
                let id = DeliveryId::new(&event, &endpoint.parse().unwrap());
                let ended =
                    deliveries::end(&harness.app.dynamo, &id, 0, DeliveryState::Failed).await;
                assert!(ended.unwrap());
            }
        }
        let (counted, requests) = counting(&harness.app.dynamo);
        let reader = harness.beside().dynamo(counted).build().await;
        for path in [
            format!("/v1/deliveries?endpoint_id={endpoint}&state=delivered&limit=1"),
            "/v1/deliveries?state=delivered&limit=1".to_owned(),
        ] {
            requests.store(0, Ordering::Relaxed);
            let page = reader.get(&path).await.expect(StatusCode::OK);
            assert_eq!(page["data"][0]["event_id"], *first);
            assert_eq!(page["next_cursor"], Value::Null);
            let requests = requests.load(Ordering::Relaxed);
            assert!(requests < 80, "{path}: {requests} requests");
        }
        // All of them, by a page in whose rows read there are more than are wanted.
        let path = format!("/v1/deliveries?endpoint_id={endpoint}&state=failed");
        assert_eq!(all(&reader, &path, 7).await.len(), 300);
    });
}

/// A project of `count` endpoints with three events: at every third endpoint all
/// deliveries have failed, at every third they wait for a retry, and at the others they
/// were made.
async fn project(count: usize) -> (Harness, Vec<String>) {
    let mut config = crate::support::harness::config();
    config.cache.ttl = Duration::ZERO;
    let mut harness = Harness::builder().config(config).build().await;
    harness.leaves_jobs = true;
    let fine = Receiver::start([]).await;
    let failing = Receiver::start(vec![Reply::Status(500); count * 3]).await;
    let mut endpoints = vec![];
    for n in 0..count {
        let receiver = if n % 3 == 1 { &fine } else { &failing };
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        endpoints.push(endpoint["id"].as_str().unwrap().to_owned());
    }
    for (event_type, tenant) in [("a.x", "t"), ("a.y", "u"), ("b", "t")] {
        let body = json!({ "type": event_type, "tenant": tenant });
        let event = harness.publish_body(body).await.parse().unwrap();
        harness.drain().await;
        for endpoint in endpoints.iter().step_by(3) {
            let id = DeliveryId::new(&event, &endpoint.parse().unwrap());
            let state = DeliveryState::Failed;
            let ended = deliveries::end(&harness.app.dynamo, &id, 1, state).await;
            assert!(ended.unwrap());
        }
    }
    (harness, endpoints)
}

#[test]
fn the_deliveries_of_a_project_are_listed_by_state() {
    run(async {
        let (harness, endpoints) = project(9).await;
        for limit in [1, 2, 4, 5, 9, 10, 100] {
            for state in ["failed", "delivered", "pending"] {
                let path = format!("/v1/deliveries?state={state}");
                let rows = all(&harness, &path, limit).await;
                assert_eq!(rows.len(), 9, "{state} by {limit}");
                assert!(rows.iter().all(|row| row["state"] == state), "{state}");
                let mut found = ids(&rows);
                found.dedup();
                assert_eq!(found.len(), 9, "{state} by {limit}");
                let times: Vec<_> = rows.iter().map(|row| row["created_at"].as_str()).collect();
                assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
            }
            assert_eq!(all(&harness, "/v1/deliveries", limit).await.len(), 27);
        }
        let failed = async |query: &str| {
            let path = format!("/v1/deliveries?state=failed{query}");
            all(&harness, &path, 2).await.len()
        };
        assert_eq!(failed("&type=a.*").await, 6);
        assert_eq!(failed("&type=a.y").await, 3);
        assert_eq!(failed("&tenant=u").await, 3);
        assert_eq!(failed("&tenant=u&type=b").await, 0);
        assert_eq!(failed("&until=2020-01-01T00:00:00Z").await, 0);
        assert_eq!(failed("&since=2020-01-01T00:00:00Z").await, 9);

        // Canceled, by the endpoint's end.
        let path = format!("/v1/endpoints/{}", endpoints[2]);
        harness.delete(&path).await;
        let pending = all(&harness, "/v1/deliveries?state=pending", 100).await;
        let of_deleted = pending
            .iter()
            .find(|row| row["endpoint_id"] == *endpoints[2]);
        let id: DeliveryId = of_deleted.unwrap()["id"].as_str().unwrap().parse().unwrap();
        let dynamo = &harness.app.dynamo;
        let kept = deliveries::get(dynamo, &id).await.unwrap().unwrap();
        let made = kept.progress.attempts_made;
        let ended = deliveries::end(dynamo, &id, made, DeliveryState::Canceled).await;
        assert!(ended.unwrap());
        let canceled = all(&harness, "/v1/deliveries?state=canceled", 1).await;
        assert_eq!(ids(&canceled), [id.as_str()]);

        // Nobody else's, and no cursor but a page's.
        let other = harness.new_project(&["events:read"]).await;
        let path = "/v1/deliveries?state=failed";
        let listed = harness
            .request(http::Method::GET, path, &other.key, Value::Null)
            .await;
        let nothing = json!({ "data": [], "next_cursor": null });
        assert_eq!(listed.expect(StatusCode::OK), nothing);
        for query in [
            "cursor=aGVsbG8",
            "cursor=!",
            "cursor=",
            "state=lost",
            "limit=0",
        ] {
            let answer = harness.get(&format!("/v1/deliveries?{query}")).await;
            assert_eq!(answer.json["field"], query.split('=').next().unwrap());
            answer.problem(400);
        }
        let both = format!(
            "/v1/deliveries?event_id={}&endpoint_id={}",
            id.event(),
            endpoints[0]
        );
        harness.get(&both).await.problem(400);
    });
}

#[test]
fn a_project_with_many_endpoints_is_listed_a_group_at_a_time() {
    run(async {
        let (harness, endpoints) = project(75).await;
        for (state, limit) in [
            ("failed", 10),
            ("failed", 25),
            ("failed", 100),
            ("pending", 100),
        ] {
            let path = format!("/v1/deliveries?state={state}");
            let rows = all(&harness, &path, limit).await;
            let mut found = ids(&rows);
            found.dedup();
            assert_eq!((rows.len(), found.len()), (75, 75), "{state} by {limit}");
            let place = |row: &Value| {
                let id = row["endpoint_id"].as_str().unwrap();
                endpoints
                    .iter()
                    .position(|endpoint| endpoint == id)
                    .unwrap()
                    / 16
            };
            assert!(rows.iter().map(place).is_sorted());
        }
    });
}
