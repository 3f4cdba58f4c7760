//! Endpoints by the uid that their owner gave them: named, made and replaced.

use http::{Method, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::fixtures::{endpoint_path, forget_queue, seconds_ago};
use crate::support::harness::{ALL_SCOPES, Answer, Harness, run};
use crate::support::receiver::Receiver;

const URL: &str = "http://127.0.0.1:9/";

async fn put(harness: &Harness, name: &str, body: Value) -> Answer {
    let path = format!("/v1/endpoints/{name}");
    harness
        .request(Method::PUT, &path, &harness.key, body)
        .await
}

async fn count(harness: &Harness, path: &str) -> usize {
    let listed = harness.get(path).await.expect(StatusCode::OK);
    listed["data"].as_array().unwrap().len()
}

#[test]
fn a_uid_names_its_endpoint_wherever_an_id_does() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let body = json!({ "url": receiver.url, "uid": "customer-42.main" });
        let created = harness.post("/v1/endpoints", body).await;
        let created = created.expect(StatusCode::CREATED);
        assert_eq!(created["uid"], "customer-42.main");
        let id = &created["id"];
        let path = "/v1/endpoints/customer-42.main";
        let fetched = harness.get(path).await.expect(StatusCode::OK);
        assert_eq!(&fetched["id"], id);
        let changed = harness.patch(path, json!({ "description": "d" })).await;
        assert_eq!(&changed.expect(StatusCode::OK)["id"], id);
        let secret = harness.get(&format!("{path}/secret")).await;
        assert_eq!(secret.expect(StatusCode::OK)["secret"], created["secret"]);
        let rotated = harness
            .post(&format!("{path}/rotate-secret"), json!({}))
            .await;
        let rotated = rotated.expect(StatusCode::OK);
        let secret = harness.get(&format!("{path}/secret")).await;
        assert_eq!(secret.expect(StatusCode::OK)["secret"], rotated["secret"]);
        let tested = harness.post(&format!("{path}/test"), json!({})).await;
        tested.expect(StatusCode::ACCEPTED);
        forget_queue(&harness);

        let event = harness.publish("a").await;
        let deliveries = "/v1/deliveries?endpoint_id=customer-42.main";
        assert_eq!(count(&harness, deliveries).await, 2);
        let stats = harness.get(&format!("{path}/stats")).await;
        assert_eq!(stats.expect(StatusCode::OK)["latest"]["deliveries"], 2);
        let replay = json!({ "endpoint_id": "customer-42.main" });
        let replay = harness
            .post(&format!("/v1/events/{event}/replay"), replay)
            .await;
        replay.expect(StatusCode::ACCEPTED);
        let since = json!({ "since": seconds_ago(60) });
        for bulk in ["recover", "replay-missing"] {
            let begun = harness.post(&format!("{path}/{bulk}"), since.clone()).await;
            assert_eq!(&begun.expect(StatusCode::ACCEPTED)["endpoint_id"], id);
        }
        let retry = json!({ "endpoint_id": "customer-42.main", "state": "failed", "since": seconds_ago(60) });
        let begun = harness.post("/v1/deliveries/retry", retry).await;
        assert_eq!(&begun.expect(StatusCode::ACCEPTED)["endpoint_id"], id);
        forget_queue(&harness);

        // What the data plane answers needs no PostgreSQL.
        let cut_off = harness.beside().without_postgres().build().await;
        assert_eq!(count(&cut_off, deliveries).await, 2);
        cut_off
            .get(&format!("{path}/stats"))
            .await
            .expect(StatusCode::OK);

        harness.delete(path).await.expect(StatusCode::NO_CONTENT);
        harness.get(path).await.problem(404);
        harness.get(deliveries).await.problem(404);
    });
}

#[test]
fn a_uid_is_known_to_every_instance_at_once() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.beside().build().await;
        // It has the project in its cache.
        other
            .get("/v1/deliveries?endpoint_id=late")
            .await
            .problem(404);
        let body = json!({ "url": URL, "uid": "late" });
        harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        assert_eq!(count(&other, "/v1/deliveries?endpoint_id=late").await, 0);
        other
            .get("/v1/endpoints/late/stats")
            .await
            .expect(StatusCode::OK);
    });
}

#[test]
fn nothing_is_sent_to_the_endpoint_that_had_a_uid_before() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.beside().build().await;
        let body = json!({ "url": URL, "uid": "a" });
        let first = harness.post("/v1/endpoints", body).await;
        let first = first.expect(StatusCode::CREATED);
        let event = harness.publish("x").await;
        forget_queue(&harness);
        // It has the project in its cache.
        assert_eq!(count(&other, "/v1/deliveries?endpoint_id=a").await, 1);
        let path = format!("/v1/endpoints/{}", first["id"].as_str().unwrap());
        let changed = harness.patch(&path, json!({ "uid": "b" })).await;
        changed.expect(StatusCode::OK);
        let second = put(&harness, "a", json!({ "url": URL })).await;
        let second = second.expect(StatusCode::CREATED);

        let path = format!("/v1/events/{event}/replay");
        let replayed = other.post(&path, json!({ "endpoint_id": "a" })).await;
        replayed.expect(StatusCode::ACCEPTED);
        other.drain().await;
        let second_id = second["id"].as_str().unwrap();
        let to_second = format!("/v1/deliveries?endpoint_id={second_id}");
        assert_eq!(count(&harness, &to_second).await, 1);

        let since = json!({ "since": seconds_ago(60) });
        for what in ["recover", "replay-missing"] {
            let path = format!("/v1/endpoints/a/{what}");
            let begun = other.post(&path, since.clone()).await;
            let begun = begun.expect(StatusCode::ACCEPTED);
            assert_eq!(begun["endpoint_id"], second["id"], "{what}");
        }
        let mut retry = since.clone();
        retry["endpoint_id"] = "a".into();
        retry["state"] = "failed".into();
        let begun = other.post("/v1/deliveries/retry", retry).await;
        let begun = begun.expect(StatusCode::ACCEPTED);
        assert_eq!(begun["endpoint_id"], second["id"]);
        forget_queue(&other);

        // Without PostgreSQL what is known in the event store counts.
        let cut_off = harness.beside().without_postgres().build().await;
        let begun = cut_off.post("/v1/endpoints/b/recover", since).await;
        assert_eq!(
            begun.expect(StatusCode::ACCEPTED)["endpoint_id"],
            first["id"]
        );
        forget_queue(&cut_off);
    });
}

#[test]
fn a_uid_is_one_endpoints_of_a_project() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": URL, "uid": "one" });
        let first = harness.post("/v1/endpoints", body.clone()).await;
        let first = first.expect(StatusCode::CREATED);
        let taken = harness.post("/v1/endpoints", body.clone()).await;
        assert_snapshot!(taken.problem(409), @"conflict: uid: an endpoint of that uid exists already");
        let second = harness.endpoint(URL, &["*"]).await;
        assert_eq!(second["uid"], Value::Null);
        let path = endpoint_path(&second);
        harness
            .patch(&path, json!({ "uid": "one" }))
            .await
            .problem(409);
        // Another project's is another's.
        let project = harness.new_project(&ALL_SCOPES).await;
        let named = harness.request(Method::GET, "/v1/endpoints/one", &project.key, Value::Null);
        named.await.problem(404);
        let made = harness.request(Method::POST, "/v1/endpoints", &project.key, body);
        made.await.expect(StatusCode::CREATED);
        // Given up, and given with the endpoint's end, it is free.
        let given_up = harness
            .patch(&endpoint_path(&first), json!({ "uid": null }))
            .await;
        assert_eq!(given_up.expect(StatusCode::OK)["uid"], Value::Null);
        harness
            .patch(&path, json!({ "uid": "one" }))
            .await
            .expect(StatusCode::OK);
        harness
            .delete("/v1/endpoints/one")
            .await
            .expect(StatusCode::NO_CONTENT);
        let body = json!({ "url": URL, "uid": "one" });
        harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        assert_eq!(count(&harness, "/v1/endpoints").await, 2);
    });
}

#[test]
fn what_cannot_be_a_uid_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let long = "u".repeat(257);
        for uid in ["", "ep_1", "a b", "a/b", "é", ".", "..", &long] {
            let body = json!({ "url": URL, "uid": uid });
            let refused = harness.post("/v1/endpoints", body).await.problem(400);
            assert!(
                refused.starts_with("invalid: uid: expected 1 to 256"),
                "{refused}"
            );
        }
        let longest = "u".repeat(256);
        for uid in ["a", "A.b_c-9", "...", "EP_1", &longest] {
            let body = json!({ "url": URL, "uid": uid });
            harness
                .post("/v1/endpoints", body)
                .await
                .expect(StatusCode::CREATED);
            let named = harness.get(&format!("/v1/endpoints/{uid}")).await;
            assert_eq!(named.expect(StatusCode::OK)["uid"], uid);
        }
        let refused = put(&harness, "a%20b", json!({ "url": URL }))
            .await
            .problem(400);
        assert!(
            refused.starts_with("invalid: uid: expected 1 to 256"),
            "{refused}"
        );
        harness.get("/v1/endpoints/a%20b").await.problem(404);
        harness.get("/v1/endpoints/ep_1").await.problem(404);
        let listed = harness
            .get("/v1/deliveries?endpoint_id=a%20b")
            .await
            .problem(400);
        assert_snapshot!(listed, @r#"invalid: endpoint_id: expected the id of an endpoint, "ep_…", or its uid"#);
    });
}

#[test]
fn put_makes_then_replaces() {
    run(async {
        let harness = Harness::new().await;
        let full = json!({
            "url": "http://127.0.0.1:9/full", "description": "d", "event_types": ["a", "b.*"],
            "tenant": "acme", "state": "disabled", "rate_limit": 5, "max_concurrency": 2,
            "content_type": "application/json", "headers": { "x-a": "1" },
            "auth": { "type": "bearer", "token": "t" }, "metadata": { "plan": "pro" },
        });
        let made = put(&harness, "main", full.clone()).await;
        let mut made = made.expect(StatusCode::CREATED);
        assert_eq!(made["uid"], "main");
        for (name, value) in full.as_object().unwrap() {
            match name.as_str() {
                "headers" => assert_eq!(made[name], json!({ "x-a": "********" })),
                "auth" => assert_eq!(made[name], json!({ "type": "bearer" })),
                _ => assert_eq!(&made[name], value, "{name}"),
            }
        }
        // The same again is the same.
        let again = put(&harness, "main", full).await.expect(StatusCode::OK);
        let secret = made["secret"].take();
        for (name, value) in again.as_object().unwrap() {
            if name != "updated_at" {
                assert_eq!(&made[name], value, "{name}");
            }
        }
        assert_eq!(again.get("secret"), None);

        // What is not given is as a new endpoint has it, but for state and secret.
        let bare = put(&harness, "main", json!({ "url": URL })).await;
        let bare = bare.expect(StatusCode::OK);
        let fresh = harness.endpoint(URL, &["*"]).await;
        for (name, value) in bare.as_object().unwrap() {
            match name.as_str() {
                "id" | "created_at" => assert_eq!(value, &made[name], "{name}"),
                "updated_at" => {}
                "uid" => assert_eq!(value, "main"),
                "state" => assert_eq!(value, "disabled"),
                _ => assert_eq!(value, &fresh[name], "{name}"),
            }
        }
        let shown = harness.get("/v1/endpoints/main/secret").await;
        assert_eq!(shown.expect(StatusCode::OK)["secret"], secret);
        let log = harness
            .get("/v1/audit-log?limit=100")
            .await
            .expect(StatusCode::OK);
        let actions: Vec<_> = log["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["action"])
            .collect();
        assert!(
            !actions.contains(&&json!("endpoint.rotate_secret")),
            "{actions:?}"
        );
    });
}

#[test]
fn put_rotates_to_another_secret_once() {
    run(async {
        let harness = Harness::new().await;
        let made = put(&harness, "main", json!({ "url": URL })).await;
        let made = made.expect(StatusCode::CREATED);
        let own = "whsec_c2VjcmV0LW9mLXRoZS1jdXN0b21lci1pbi10aGUtbG9nPw==";
        let shown = async || {
            let shown = harness.get("/v1/endpoints/main/secret").await;
            shown.expect(StatusCode::OK)
        };
        // The scheme it has stays as it is.
        let same = json!({ "url": URL, "scheme": "v1" });
        put(&harness, "main", same).await.expect(StatusCode::OK);
        assert_eq!(shown().await["secret"], made["secret"]);
        // More often than secrets may sign.
        for _ in 0..6 {
            let body = json!({ "url": URL, "secret": own });
            put(&harness, "main", body).await.expect(StatusCode::OK);
        }
        assert_eq!(shown().await["secret"], own);
        for _ in 0..6 {
            let body = json!({ "url": URL, "scheme": "v1a" });
            put(&harness, "main", body).await.expect(StatusCode::OK);
        }
        assert_eq!(shown().await["scheme"], "v1a");
        let log = harness
            .get("/v1/audit-log?limit=100")
            .await
            .expect(StatusCode::OK);
        let entries = log["data"].as_array().unwrap().iter();
        let rotations = entries.filter(|entry| entry["action"] == "endpoint.rotate_secret");
        assert_eq!(rotations.count(), 2);
        assert!(!log.to_string().contains(own));
    });
}

#[test]
fn put_by_an_id_replaces_and_never_makes() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "url": URL, "uid": "kept", "description": "d" });
        let created = harness.post("/v1/endpoints", body).await;
        let created = created.expect(StatusCode::CREATED);
        let id = created["id"].as_str().unwrap();
        let replaced = put(&harness, id, json!({ "url": URL })).await;
        let replaced = replaced.expect(StatusCode::OK);
        assert_eq!(
            (&replaced["uid"], &replaced["description"]),
            (&json!("kept"), &json!(""))
        );
        let renamed = put(&harness, id, json!({ "url": URL, "uid": "new" })).await;
        assert_eq!(renamed.expect(StatusCode::OK)["uid"], "new");
        let none = "ep_00000000000000000000000000";
        put(&harness, none, json!({ "url": URL }))
            .await
            .problem(404);
        put(&harness, "ep_1", json!({ "url": URL }))
            .await
            .problem(404);
        let contradicts = json!({ "url": URL, "uid": "other" });
        let refused = put(&harness, "new", contradicts).await.problem(400);
        assert_snapshot!(refused, @"invalid: uid: expected the uid of the path, or none; PATCH changes it");
        put(&harness, "new", json!({ "url": URL, "uid": "new" }))
            .await
            .expect(StatusCode::OK);
        put(&harness, "new", json!({})).await.problem(400);
        assert_eq!(count(&harness, "/v1/endpoints").await, 1);
        // Once deleted it is made anew.
        harness
            .delete("/v1/endpoints/new")
            .await
            .expect(StatusCode::NO_CONTENT);
        put(&harness, id, json!({ "url": URL })).await.problem(404);
        let made = put(&harness, "new", json!({ "url": URL })).await;
        assert_ne!(made.expect(StatusCode::CREATED)["id"], id);
    });
}

#[test]
fn of_puts_at_once_one_makes() {
    run(async {
        let harness = Harness::new().await;
        let puts = (0..8).map(|n| {
            put(
                &harness,
                "main",
                json!({ "url": URL, "description": n.to_string() }),
            )
        });
        let answers = futures_util::future::join_all(puts).await;
        let made = |answer: &&Answer| answer.status == StatusCode::CREATED;
        assert_eq!(answers.iter().filter(made).count(), 1);
        for answer in &answers {
            assert!(answer.status.is_success(), "{:?}", answer.bytes);
            assert_eq!(answer.json["id"], answers[0].json["id"]);
        }
        assert_eq!(count(&harness, "/v1/endpoints").await, 1);
    });
}

#[test]
fn put_that_enables_lets_held_deliveries_go_on() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let url = &receiver.url;
        put(&harness, "main", json!({ "url": url }))
            .await
            .expect(StatusCode::CREATED);
        let event = harness.publish("a").await;
        let off = json!({ "url": url, "state": "disabled" });
        put(&harness, "main", off).await.expect(StatusCode::OK);
        harness.drain().await;
        assert!(receiver.received().is_empty());
        let on = json!({ "url": url, "state": "enabled" });
        put(&harness, "main", on).await.expect(StatusCode::OK);
        harness
            .sweep_after(std::time::Duration::from_secs(10))
            .await;
        assert_eq!(receiver.only().header("webhook-id"), event);
    });
}
