//! Metadata of endpoints, event types and meters: kept, merged, given back, and sent to
//! nobody.

use http::{Method, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

/// The list of each kind, what one is made of, and the name of what it is known by.
fn kinds(url: &str) -> [(&'static str, Value, &'static str); 3] {
    let meter = json!({ "name": "m", "event_type": "*", "aggregation": "count" });
    [
        ("/v1/endpoints", json!({ "url": url }), "id"),
        ("/v1/event-types", json!({ "name": "t" }), "name"),
        ("/v1/meters", meter, "id"),
    ]
}

fn with(mut body: Value, metadata: Value) -> Value {
    body["metadata"] = metadata;
    body
}

#[test]
fn metadata_is_merged_and_shown_wherever_its_resource_is() {
    run(async {
        let harness = Harness::new().await;
        for (list, body, known_by) in kinds("http://127.0.0.1:9/") {
            let given = json!({ "plan": "pro", "crm id": "7", "é": "" });
            let created = harness.post(list, with(body, given.clone())).await;
            let created = created.expect(StatusCode::CREATED);
            assert_eq!(created["metadata"], given, "{list}");
            let path = format!("{list}/{}", created[known_by].as_str().unwrap());
            let shown =
                async || harness.get(&path).await.expect(StatusCode::OK)["metadata"].clone();
            assert_eq!(shown().await, given);
            let listed = harness.get(list).await.expect(StatusCode::OK);
            assert_eq!(listed["data"][0]["metadata"], given);
            // Another change leaves it alone.
            let changed = harness.patch(&path, json!({ "description": "d" })).await;
            assert_eq!(changed.expect(StatusCode::OK)["metadata"], given);
            let change = json!({ "metadata": { "plan": "free", "crm id": null, "new": "n" } });
            let merged = json!({ "plan": "free", "é": "", "new": "n" });
            let changed = harness.patch(&path, change).await.expect(StatusCode::OK);
            assert_eq!(changed["metadata"], merged);
            assert_eq!(shown().await, merged);
            let log = harness
                .get("/v1/audit-log?limit=1")
                .await
                .expect(StatusCode::OK);
            assert_eq!(log["data"][0]["before"]["metadata"], given);
            assert_eq!(log["data"][0]["after"]["metadata"], merged);
            let emptied = harness.patch(&path, json!({ "metadata": null })).await;
            assert_eq!(emptied.expect(StatusCode::OK)["metadata"], json!({}));
        }
    });
}

#[test]
fn a_type_that_is_registered_again_begins_without_metadata() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "name": "t", "metadata": { "a": "b" } });
        harness
            .post("/v1/event-types", body)
            .await
            .expect(StatusCode::CREATED);
        harness
            .delete("/v1/event-types/t")
            .await
            .expect(StatusCode::NO_CONTENT);
        let again = harness
            .post("/v1/event-types", json!({ "name": "t" }))
            .await;
        assert_eq!(again.expect(StatusCode::CREATED)["metadata"], json!({}));
    });
}

#[test]
fn metadata_out_of_bounds_is_refused_by_its_key() {
    run(async {
        let harness = Harness::new().await;
        let pairs =
            |count: usize| -> Value { (0..count).map(|n| (n.to_string(), json!("v"))).collect() };
        for (list, body, known_by) in kinds("http://127.0.0.1:9/") {
            let mut refusals = String::new();
            for metadata in [
                json!("text"),
                json!([]),
                json!({ "a": 1 }),
                json!({ "a": { "b": "c" } }),
                json!({ "a": "v".repeat(501) }),
                json!({ "a": "\0" }),
                json!({ "": "v" }),
                json!({ "k".repeat(41): "v" }),
                json!({ "\u{7}": "v" }),
                pairs(51),
            ] {
                let refused = harness.post(list, with(body.clone(), metadata)).await;
                refusals.push_str(&format!("{}\n", refused.problem(400)));
            }
            insta::allow_duplicates! { assert_snapshot!(refusals, @r#"
            invalid: metadata: expected an object of up to 50 keys and strings
            invalid: metadata: expected an object of up to 50 keys and strings
            invalid: metadata.a: expected a string of up to 500 characters, none of them NUL, or null to remove it
            invalid: metadata.a: expected a string of up to 500 characters, none of them NUL, or null to remove it
            invalid: metadata.a: expected a string of up to 500 characters, none of them NUL, or null to remove it
            invalid: metadata.a: expected a string of up to 500 characters, none of them NUL, or null to remove it
            invalid: metadata: expected keys of 1 to 40 characters, none of them a control, got an empty string
            invalid: metadata: expected keys of 1 to 40 characters, none of them a control, got a string of 41 characters
            invalid: metadata: expected keys of 1 to 40 characters, none of them a control, got a string of 1 character
            invalid: metadata: expected up to 50 keys, got 51
            "#) };
            let created = harness.post(list, with(body, pairs(50))).await;
            let created = created.expect(StatusCode::CREATED);
            let path = format!("{list}/{}", created[known_by].as_str().unwrap());
            let one_more = json!({ "metadata": { "more": "v" } });
            harness.patch(&path, one_more).await.problem(400);
            let in_place = json!({ "metadata": { "0": null, "more": "v".repeat(500) } });
            harness.patch(&path, in_place).await.expect(StatusCode::OK);
        }
    });
}

#[test]
fn receivers_are_sent_no_metadata() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        for (list, body, _) in kinds(&receiver.url) {
            let body = with(body, json!({ "internal": "not-for-receivers" }));
            let body = match list {
                "/v1/endpoints" => {
                    let path = "/v1/endpoints/main";
                    harness.request(Method::PUT, path, &harness.key, body).await
                }
                _ => harness.post(list, body).await,
            };
            body.expect(StatusCode::CREATED);
        }
        harness.publish("t").await;
        harness.drain().await;
        let received = receiver.only();
        let sent = format!("{:?} {}", received.headers, received.json());
        assert!(!sent.contains("not-for-receivers"), "{sent}");
    });
}
