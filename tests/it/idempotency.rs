//! Idempotency keys: a request that is sent again is answered as before, and what it
//! asks for is done once, whatever gets lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::config::interceptors::{
    BeforeSerializationInterceptorContextMut, FinalizerInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::operation::put_item::PutItemInput;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use insta::assert_snapshot;
use millrace::app;
use millrace::http::idempotency::{Caller, ROUTES};
use millrace::store::dynamo::Dynamo;
use millrace::store::keys;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::fixtures::{forget_queue, only_delivery, seconds_ago};
use crate::support::harness::{ADMIN_KEY, ALL_SCOPES, Answer, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// A POST of `body` with the idempotency key `key`.
fn keyed(path: &str, bearer: &str, key: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header("authorization", format!("Bearer {bearer}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Body::from(body.to_string()))
        .unwrap()
}

async fn post(harness: &Harness, path: &str, key: &str, body: &Value) -> Answer {
    harness.send(keyed(path, &harness.key, key, body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer
        .headers
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true")
}

/// The key's item.
async fn item(
    harness: &Harness,
    scope: &str,
    key: &str,
) -> Option<BTreeMap<String, AttributeValue>> {
    let Dynamo { client, table } = &harness.app.dynamo;
    let get = client.get_item().table_name(table).consistent_read(true);
    let get = get
        .key("pk", AttributeValue::S(keys::idempotency(scope, key)))
        .key("sk", AttributeValue::S(keys::IDEMPOTENCY.into()));
    let item = get.send().await.unwrap().item?;
    Some(item.into_iter().collect())
}

/// Changes the key's item as `expression` says, with `:at` in milliseconds.
async fn change(harness: &Harness, scope: &str, key: &str, expression: &str, at: i64) {
    let Dynamo { client, table } = &harness.app.dynamo;
    let update = client.update_item().table_name(table);
    let update = update
        .key("pk", AttributeValue::S(keys::idempotency(scope, key)))
        .key("sk", AttributeValue::S(keys::IDEMPOTENCY.into()))
        .update_expression(expression)
        .expression_attribute_values(":at", AttributeValue::N(at.to_string()));
    update.send().await.unwrap();
}

/// As if the process had died between what it did and keeping its answer.
async fn lose_answer(harness: &Harness, scope: &str, key: &str) {
    let lose = "set lease_ends = :at remove http_status, sealed_answer, media_type";
    change(harness, scope, key, lose, 0).await;
}

/// A request for each route: its path, and a body.
struct Requests {
    routes: Vec<(&'static str, String, Value)>,
    receiver: Receiver,
}

impl Requests {
    /// On things of their own, so that each can be asked for once.
    async fn new(harness: &Harness) -> Self {
        let receiver = Receiver::start([Reply::Status(500)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["given"]).await;
        let endpoint = endpoint["id"].as_str().unwrap().to_owned();
        let event = harness.publish("given").await;
        harness.drain().await;
        let delivery = only_delivery(harness, &event).await;
        let delivery = delivery["id"].as_str().unwrap().to_owned();
        let meter = json!({ "name": "given", "event_type": "*", "aggregation": "count" });
        let meter = harness.new_meter(meter).await;
        let recovery = json!({ "since": seconds_ago(60) });
        let path = format!("/v1/endpoints/{endpoint}/recover");
        let recovery = harness
            .post(&path, recovery)
            .await
            .expect(StatusCode::ACCEPTED);
        let recovery = recovery["id"].as_str().unwrap().to_owned();
        let other = harness.publish("given").await;
        let since = json!({ "since": seconds_ago(60) });
        let name = format!("p{:?}", std::time::Instant::now());
        let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let of =
            |route: &'static str, id: &str, body: Value| (route, route.replace("{id}", id), body);
        let retry = json!({ "endpoint_id": endpoint, "state": "failed", "since": seconds_ago(60) });
        let routes = vec![
            of(
                "/v1/events",
                "",
                json!({ "type": "new", "data": { "n": 1 } }),
            ),
            of(
                "/v1/events/batch",
                "",
                json!([{ "type": "batch" }, { "type": "batch" }]),
            ),
            of("/v1/events/{id}/replay", &other, json!({})),
            of("/v1/deliveries/retry", "", retry),
            of("/v1/deliveries/{id}/retry", &delivery, json!({})),
            of("/v1/endpoints/{id}/recover", &endpoint, since.clone()),
            of("/v1/endpoints/{id}/replay-missing", &endpoint, since),
            of("/v1/recoveries/{id}/cancel", &recovery, json!({})),
            of(
                "/v1/endpoints",
                "",
                json!({ "url": receiver.url, "uid": "made" }),
            ),
            of("/v1/endpoints/{id}/rotate-secret", &endpoint, json!({})),
            of("/v1/endpoints/{id}/test", &endpoint, json!({})),
            of("/v1/event-types", "", json!({ "name": "made" })),
            of(
                "/v1/meters",
                "",
                json!({ "name": "made", "event_type": "*", "aggregation": "count" }),
            ),
            of("/v1/meters/{id}/backfill", &meter, json!({})),
            of("/v1/projects", "", json!({ "name": name })),
            of(
                "/v1/projects/{id}/keys",
                &harness.project,
                json!({ "name": "made", "scopes": ["events:read"] }),
            ),
        ];
        let walked: BTreeSet<_> = routes.iter().map(|(route, ..)| *route).collect();
        let all: BTreeSet<_> = ROUTES.iter().map(|(route, _)| *route).collect();
        assert_eq!(walked, all, "every route is walked");
        Self { routes, receiver }
    }
}

/// The bearer and the scope of keys of a route.
fn caller<'a>(harness: &'a Harness, route: &str) -> (&'a str, &'a str) {
    match ROUTES.iter().find(|(path, _)| *path == route).unwrap().1 {
        Caller::Admin => (ADMIN_KEY, "admin"),
        _ => (&harness.key, &harness.project),
    }
}

/// How often a secret was rotated.
async fn rotations(harness: &Harness) -> usize {
    let log = harness
        .get("/v1/audit-log?limit=100")
        .await
        .expect(StatusCode::OK);
    let entries = log["data"].as_array().unwrap().iter();
    entries
        .filter(|entry| entry["action"] == "endpoint.rotate_secret")
        .count()
}

#[test]
fn every_post_of_the_api_takes_a_key_and_says_so() {
    run(async {
        let harness = Harness::new().await;
        let document = harness.get("/openapi.json").await.expect(StatusCode::OK);
        let paths = document["paths"].as_object().unwrap();
        let mut posts = BTreeSet::new();
        for (path, item) in paths {
            let Some(operation) = item.get("post") else {
                continue;
            };
            let listed = ROUTES.iter().find(|(route, _)| route == path);
            let (_, caller) = listed.unwrap_or_else(|| panic!("POST {path} takes no key"));
            let needed = match caller {
                Caller::Admin => json!([{ "admin_key": [] }]),
                Caller::Events => json!([{ "api_key": ["events:write"] }]),
                Caller::Endpoints => json!([{ "api_key": ["endpoints:write"] }]),
                Caller::Meters => json!([{ "api_key": ["meters:write"] }]),
            };
            assert_eq!(operation["security"], needed, "{path}");
            let parameters = operation["parameters"].as_array().unwrap();
            let named = |p: &&Value| p["name"] == "Idempotency-Key" && p["in"] == "header";
            assert!(parameters.iter().find(named).is_some(), "{path}");
            assert!(operation["responses"]["422"].is_object(), "{path}");
            posts.insert(path.as_str());
        }
        assert_eq!(
            posts.len(),
            ROUTES.len(),
            "there is a route that is no POST"
        );
    });
}

#[test]
fn the_same_request_is_answered_the_same_and_done_once() {
    run(async {
        let harness = Harness::new().await;
        let requests = Requests::new(&harness).await;
        for (route, path, body) in &requests.routes {
            let (bearer, _) = caller(&harness, route);
            let send = async |key: &str| harness.send(keyed(path, bearer, key, body)).await;
            let first = send(route).await;
            assert!(first.status.is_success(), "{route}: {:?}", first.bytes);
            assert!(!is_replayed(&first), "{route}");
            // A slash at the end changes nothing.
            for path in [path.clone(), path.clone(), format!("{path}/")] {
                let again = harness.send(keyed(&path, bearer, route, body)).await;
                assert_eq!(again.status, first.status, "{route}");
                assert_eq!(again.bytes, first.bytes, "{route}");
                assert_eq!(again.headers["content-type"], first.headers["content-type"]);
                assert!(is_replayed(&again), "{route}");
            }
        }
        let count = async |path: &str| {
            let listed = harness.get(path).await.expect(StatusCode::OK);
            listed["data"].as_array().unwrap().len()
        };
        assert_eq!(count("/v1/events?type=new").await, 1);
        assert_eq!(count("/v1/events?type=batch").await, 2);
        assert_eq!(count("/v1/endpoints").await, 2);
        assert_eq!(count("/v1/meters").await, 2);
        assert_eq!(count("/v1/recoveries").await, 4);
        assert_eq!(rotations(&harness).await, 1);
        let tests = "/v1/events?type=millrace.endpoint.test";
        assert_eq!(count(tests).await, 1);
        forget_queue(&harness);
        drop(requests.receiver);
    });
}

#[test]
fn what_was_made_before_its_answer_was_lost_is_found_again() {
    run(async {
        let harness = Harness::new().await;
        let requests = Requests::new(&harness).await;
        for (route, path, body) in &requests.routes {
            let (bearer, scope) = caller(&harness, route);
            let send = async || harness.send(keyed(path, bearer, route, body)).await;
            let first = send().await;
            lose_answer(&harness, scope, route).await;
            let again = send().await;
            assert_eq!(again.status, first.status, "{route}: {:?}", again.bytes);
            // Ids and secrets above all; what goes on meanwhile may have gone on.
            for name in [
                "id",
                "uid",
                "secret",
                "key",
                "event_id",
                "delivery_id",
                "started_at",
            ] {
                let (first, again) = (&first.json[name], &again.json[name]);
                assert_eq!(first, again, "{route}: {name}");
            }
            assert!(!is_replayed(&again), "{route}");
            let kept = send().await;
            assert!(is_replayed(&kept) && kept.bytes == again.bytes, "{route}");
        }
        assert_eq!(rotations(&harness).await, 1);
        // The key that was given again is the one that works.
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "made", "scopes": ["events:read"] });
        let key = harness
            .send(keyed(&keys, ADMIN_KEY, "/v1/projects/{id}/keys", &body))
            .await;
        let key = key.json["key"].as_str().unwrap().to_owned();
        let listed = harness
            .request(Method::GET, "/v1/events", &key, Value::Null)
            .await;
        listed.expect(StatusCode::OK);
        forget_queue(&harness);
        drop(requests.receiver);
    });
}

#[test]
fn another_request_under_the_same_key_is_refused() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "name": "a", "event_type": "*", "aggregation": "count" });
        post(&harness, "/v1/meters", "k", &body)
            .await
            .expect(StatusCode::CREATED);
        let other = json!({ "name": "b", "event_type": "*", "aggregation": "count" });
        let refused = post(&harness, "/v1/meters", "k", &other).await.problem(422);
        assert_snapshot!(refused, @"idempotency_key_reused: this Idempotency-Key was used for another request, of another path or body: use a new key for a new request");
        // Another route with the same body; the same event as another thing.
        post(&harness, "/v1/event-types", "k", &body)
            .await
            .problem(422);
        let event = json!({ "type": "a", "specversion": "1.0", "id": "structured", "source": "/" });
        post(&harness, "/v1/events", "e", &event)
            .await
            .expect(StatusCode::ACCEPTED);
        let mut structured = keyed("/v1/events", &harness.key, "e", &event);
        let media = "application/cloudevents+json".parse().unwrap();
        structured.headers_mut().insert("content-type", media);
        harness.send(structured).await.problem(422);
        let binary = |id: &str| {
            let mut request = keyed("/v1/events", &harness.key, "bin", &json!({}));
            for (name, value) in [
                ("specversion", "1.0"),
                ("id", id),
                ("source", "/"),
                ("type", "a"),
            ] {
                let name = http::HeaderName::try_from(format!("ce-{name}")).unwrap();
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            request
        };
        harness.send(binary("1")).await.expect(StatusCode::ACCEPTED);
        assert!(is_replayed(&harness.send(binary("1")).await));
        harness.send(binary("2")).await.problem(422);
        let meters = harness.get("/v1/meters").await.expect(StatusCode::OK);
        assert_eq!(meters["data"].as_array().unwrap().len(), 1);
        forget_queue(&harness);
    });
}

#[test]
fn a_key_is_its_projects_and_answers_only_who_may_ask() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        let first = post(&harness, "/v1/endpoints", "k", &body).await;
        let first = first.expect(StatusCode::CREATED);
        // Another key of the project, which may ask the same.
        let same = harness
            .new_key(&harness.project, &["endpoints:write"])
            .await;
        let answer = harness
            .send(keyed("/v1/endpoints", &same, "k", &body))
            .await;
        assert!(is_replayed(&answer) && answer.json == first);
        // One that may not, one that is none, and one of another project.
        let lesser = harness
            .new_key(&harness.project, &["endpoints:read", "events:write"])
            .await;
        harness
            .send(keyed("/v1/endpoints", &lesser, "k", &body))
            .await
            .problem(403);
        harness
            .send(keyed("/v1/endpoints", "mr_none", "k", &body))
            .await
            .problem(401);
        let other = harness.new_project(&ALL_SCOPES).await;
        let answer = harness
            .send(keyed("/v1/endpoints", &other.key, "k", &body))
            .await;
        assert!(!is_replayed(&answer));
        assert_ne!(answer.expect(StatusCode::CREATED)["id"], first["id"]);
    });
}

#[test]
fn a_request_under_way_is_answered_when_it_is_done() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        let first = post(&harness, "/v1/endpoints", "k", &body).await;
        let first = first.expect(StatusCode::CREATED);
        let later = app::now().as_millisecond() + 60_000;
        let under_way = "set lease_ends = :at remove http_status, sealed_answer, media_type";
        change(&harness, &harness.project, "k", under_way, later).await;
        let refused = post(&harness, "/v1/endpoints", "k", &body).await;
        assert_eq!(refused.headers["retry-after"], "1");
        assert_snapshot!(refused.problem(409), @"idempotency_key_in_use: a request with this Idempotency-Key is under way: send the same again for its answer");
        change(&harness, &harness.project, "k", "set lease_ends = :at", 0).await;
        let done = post(&harness, "/v1/endpoints", "k", &body).await;
        assert_eq!(done.expect(StatusCode::CREATED)["id"], first["id"]);
    });
}

#[test]
fn of_many_at_once_one_is_done() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        let sent = (0..12).map(|_| post(&harness, "/v1/endpoints", "k", &body));
        let answers = futures_util::future::join_all(sent).await;
        let last = post(&harness, "/v1/endpoints", "k", &body).await;
        let last = last.expect(StatusCode::CREATED);
        let mut made = 0;
        for answer in answers {
            match answer.status {
                StatusCode::CREATED => {
                    made += usize::from(!is_replayed(&answer));
                    assert_eq!(answer.json, last);
                }
                _ => assert!(answer.problem(409).starts_with("idempotency_key_in_use")),
            }
        }
        assert_eq!(made, 1);
        let listed = harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn who_hangs_up_is_answered_the_next_time() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        let request = keyed("/v1/endpoints", &harness.key, "k", &body);
        let mut sent = Box::pin(harness.router.clone().oneshot(request));
        while item(&harness, &harness.project, "k").await.is_none() {
            let _ = futures_util::poll!(&mut sent);
        }
        drop(sent);
        let answer = loop {
            let answer = post(&harness, "/v1/endpoints", "k", &body).await;
            if answer.status != StatusCode::CONFLICT {
                break answer;
            }
            tokio::task::yield_now().await;
        };
        answer.expect(StatusCode::CREATED);
        let listed = harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_refusal_frees_the_key() {
    run(async {
        let harness = Harness::new().await;
        let meter = |name: &str| json!({ "name": name, "event_type": "*", "aggregation": "count" });
        post(&harness, "/v1/meters", "a", &meter("taken"))
            .await
            .expect(StatusCode::CREATED);
        for (status, path, body) in [
            (400, "/v1/meters", json!({ "name": 5 })),
            (400, "/v1/meters", meter("")),
            (409, "/v1/meters", meter("taken")),
            (404, "/v1/endpoints/none/test", json!({})),
        ] {
            let refused = post(&harness, path, "k", &body).await;
            refused.problem(status);
            let kept = item(&harness, &harness.project, "k").await.unwrap();
            assert_eq!(
                kept["expires_ms"],
                AttributeValue::N("0".into()),
                "{status}"
            );
        }
        let created = post(&harness, "/v1/meters", "k", &meter("free")).await;
        assert!(!is_replayed(&created));
        created.expect(StatusCode::CREATED);
    });
}

#[test]
fn what_failed_on_our_side_may_be_tried_again() {
    run(async {
        let harness = Harness::new().await;
        let cut_off = harness.beside().without_postgres().build().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        for _ in 0..2 {
            let refused = post(&cut_off, "/v1/endpoints", "k", &body).await;
            assert_eq!(refused.headers["retry-after"], "5");
            refused.problem(503);
        }
        // It may have been done, so it is still the same request.
        let other = json!({ "url": "http://127.0.0.1:9/other" });
        post(&harness, "/v1/endpoints", "k", &other)
            .await
            .problem(422);
        let created = post(&harness, "/v1/endpoints", "k", &body).await;
        assert!(!is_replayed(&created));
        created.expect(StatusCode::CREATED);
        // Events need no more than the event store.
        let event = json!({ "type": "a" });
        let first = post(&cut_off, "/v1/events", "e", &event).await;
        let first = first.expect(StatusCode::ACCEPTED);
        let again = post(&harness, "/v1/events", "e", &event).await;
        assert!(is_replayed(&again) && again.json == first);
        forget_queue(&cut_off);
    });
}

/// Fails every write of an event of this type, as long as it is told to.
#[derive(Debug, Clone, Default)]
struct Broken(Arc<AtomicBool>);

const BROKEN_TYPE: &str = "of.no.luck";

impl Intercept for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn modify_before_serialization(
        &self,
        context: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let put = context.input().downcast_ref::<PutItemInput>();
        let item = put.and_then(PutItemInput::item);
        let of_type = AttributeValue::S(BROKEN_TYPE.to_owned());
        let is_meant = item.is_some_and(|item| item.values().any(|value| *value == of_type));
        if is_meant && self.0.load(Ordering::Relaxed) {
            return Err("the event store is out of luck".into());
        }
        Ok(())
    }
}

#[test]
fn a_batch_that_failed_in_part_on_our_side_may_be_tried_again() {
    run(async {
        let bare = Harness::new().await;
        let broken = Broken::default();
        let Dynamo { client, table } = &bare.app.dynamo;
        let faulty = client.config().to_builder().interceptor(broken.clone());
        let faulty = Dynamo::new(faulty.build(), table);
        let harness = bare.beside().dynamo(faulty).build().await;
        let event = |id: &str, event_type: &str| json!({ "specversion": "1.0", "id": id, "source": "/", "type": event_type });
        let batch = json!([event("1", "a"), event("2", BROKEN_TYPE)]);
        let send = async || {
            let mut request = keyed("/v1/events", &harness.key, "k", &batch);
            let media = http::HeaderValue::from_static("application/cloudevents-batch+json");
            request.headers_mut().insert("content-type", media);
            harness.send(request).await
        };
        broken.0.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            let answer = send().await;
            assert!(!is_replayed(&answer));
            let items = answer.expect(StatusCode::ACCEPTED);
            assert_eq!(items["data"][1]["error"]["status"], 503);
        }
        broken.0.store(false, Ordering::Relaxed);
        let whole = send().await.expect(StatusCode::ACCEPTED);
        assert_eq!(whole["data"][0]["duplicate"], true);
        assert_eq!(whole["data"][1]["duplicate"], false);
        let again = send().await;
        assert!(is_replayed(&again) && again.json == whole);
        forget_queue(&harness);
    });
}

#[test]
fn what_was_made_and_deleted_is_not_made_again() {
    run(async {
        let harness = Harness::new().await;
        let meter = json!({ "name": "m", "event_type": "*", "aggregation": "count" });
        let endpoint = json!({ "url": "http://127.0.0.1:9/" });
        for (list, body) in [("/v1/endpoints", endpoint), ("/v1/meters", meter)] {
            let made = post(&harness, list, list, &body).await;
            let made = made.expect(StatusCode::CREATED);
            lose_answer(&harness, &harness.project, list).await;
            let path = format!("{list}/{}", made["id"].as_str().unwrap());
            harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
            for _ in 0..2 {
                post(&harness, list, list, &body).await.problem(409);
            }
        }
    });
}

#[test]
fn a_key_is_printable_and_given_once() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": "http://127.0.0.1:9/" });
        let longest = "k".repeat(255);
        for key in ["x", "a b~!\"", &longest] {
            post(&harness, "/v1/endpoints", key, &body)
                .await
                .expect(StatusCode::CREATED);
        }
        for key in ["", &"k".repeat(256), "tab\tbed"] {
            let refused = post(&harness, "/v1/endpoints", key, &body)
                .await
                .problem(400);
            assert!(refused.contains("Idempotency-Key: expected"), "{refused}");
        }
        for bytes in [&b"caf\xc3\xa9"[..], b"\xff"] {
            let mut request = keyed("/v1/endpoints", &harness.key, "x", &body);
            let value = http::HeaderValue::from_bytes(bytes).unwrap();
            request.headers_mut().insert("idempotency-key", value);
            let answer = harness.send(request).await;
            assert_eq!(answer.json["field"], "Idempotency-Key");
            answer.problem(400);
        }
        let mut twice = keyed("/v1/endpoints", &harness.key, "x", &body);
        let second = http::HeaderValue::from_static("x");
        twice.headers_mut().append("idempotency-key", second);
        assert_snapshot!(harness.send(twice).await.problem(400), @"invalid: Idempotency-Key: expected once, with 1 to 255 printable ASCII characters");
        // Who may not ask is not told what is wrong with the question.
        harness
            .send(keyed("/v1/endpoints", "mr_x", "", &body))
            .await
            .problem(401);
        // Nothing is made by reading.
        let mut get = keyed("/v1/endpoints", &harness.key, "", &body);
        *get.method_mut() = Method::GET;
        harness.send(get).await.expect(StatusCode::OK);
    });
}

#[test]
fn after_a_day_a_key_is_new() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "type": "a" });
        let first = post(&harness, "/v1/events", "k", &body).await;
        let first = first.expect(StatusCode::ACCEPTED);
        let kept = item(&harness, &harness.project, "k").await.unwrap();
        let number = |name: &str| kept[name].as_n().unwrap().parse::<i64>().unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(
            number("expires_ms") - number("created_ms"),
            day.as_millis() as i64
        );
        assert_eq!(number("ttl"), number("expires_ms") / 1000);
        // Removed is it some time later only.
        let now = app::now().as_millisecond();
        change(&harness, &harness.project, "k", "set expires_ms = :at", now).await;
        let other = json!({ "type": "b" });
        let answer = post(&harness, "/v1/events", "k", &other).await;
        assert!(!is_replayed(&answer));
        assert_ne!(answer.expect(StatusCode::ACCEPTED)["id"], first["id"]);
        forget_queue(&harness);
    });
}

#[test]
fn nothing_secret_is_kept_in_plain() {
    run(async {
        let harness = Harness::new().await;
        let secret = "whsec_c2VjcmV0LW9mLXRoZS1jdXN0b21lci1pbi10aGUtaXRlbT8=";
        let body = json!({ "url": "http://127.0.0.1:9/", "secret": secret });
        let created = post(&harness, "/v1/endpoints", "k", &body).await;
        assert_eq!(created.expect(StatusCode::CREATED)["secret"], secret);
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "k", "scopes": ["events:read"] });
        let key = harness.send(keyed(&keys, ADMIN_KEY, "k", &body)).await;
        let key = key.expect(StatusCode::CREATED)["key"]
            .as_str()
            .unwrap()
            .to_owned();
        for (scope, secret) in [(&*harness.project, secret), ("admin", &key)] {
            let kept = item(&harness, scope, "k").await.unwrap();
            let answer = kept["sealed_answer"].as_b().unwrap().as_ref();
            assert!(answer.len() > secret.len());
            for (name, value) in &kept {
                let bytes = match value {
                    AttributeValue::B(blob) => blob.as_ref(),
                    AttributeValue::S(text) => text.as_bytes(),
                    _ => continue,
                };
                let found = bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes());
                assert!(!found, "{name}");
            }
        }
    });
}

/// Counts calls to DynamoDB by their name.
#[derive(Debug, Default, Clone)]
struct Counter(Arc<Mutex<BTreeMap<String, u32>>>);

impl Counter {
    fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn read_after_execution(
        &self,
        _: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let metadata = config.load::<aws_smithy_runtime_api::client::orchestrator::Metadata>();
        let name = metadata.map_or("unknown", |metadata| metadata.name());
        *self.0.lock().unwrap().entry(name.to_owned()).or_default() += 1;
        Ok(())
    }
}

#[test]
fn a_key_costs_two_writes_and_none_costs_nothing() {
    run(async {
        let bare = Harness::new().await;
        let counter = Counter::default();
        let Dynamo { client, table } = &bare.app.dynamo;
        let counted = client.config().to_builder().interceptor(counter.clone());
        let counted = Dynamo::new(counted.build(), table);
        let harness = bare.beside().dynamo(counted).build().await;
        harness.publish("warm").await;
        let calls = |calls: &[(&str, u32)]| -> BTreeMap<String, u32> {
            calls
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect()
        };
        counter.take();
        harness.publish("a").await;
        assert_eq!(counter.take(), calls(&[("PutItem", 1)]));
        let event = json!({ "type": "a", "data": { "n": 1 } });
        post(&harness, "/v1/events", "k", &event)
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(counter.take(), calls(&[("PutItem", 2), ("UpdateItem", 1)]));
        assert!(is_replayed(
            &post(&harness, "/v1/events", "k", &event).await
        ));
        assert_eq!(counter.take(), calls(&[("PutItem", 1), ("GetItem", 1)]));
    });
}
