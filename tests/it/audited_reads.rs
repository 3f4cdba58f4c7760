//! The audit log beside changes: secrets that are read, attempts that people ask for,
//! logins that are refused.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::fixtures::{endpoint_path, forget_queue, only_delivery, seconds_ago};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};
use crate::support::stores;

/// A harness on a database of its own, and that.
async fn on_own_database() -> (Harness, stores::Shared) {
    let own = stores::own_postgres().await;
    let harness = Harness::builder().postgres(own.owner.clone());
    (harness.build().await, own)
}

/// The newest entry of what was done to `subject`.
async fn newest(harness: &Harness, subject: &Value) -> Value {
    let subject = subject.as_str().unwrap();
    let path = format!("/v1/audit-log?limit=1&subject={subject}");
    let mut listed = harness.get(&path).await.expect(StatusCode::OK);
    listed["data"][0].take()
}

#[test]
fn whoever_reads_a_secret_is_in_the_audit_log() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("https://example.com", &["*"]).await;
        let path = format!("{}/secret", endpoint_path(&endpoint));
        let secret = harness.get(&path).await.expect(StatusCode::OK);
        let entry = newest(&harness, &endpoint["id"]).await;
        assert_eq!(entry["action"], "endpoint.read_secret");
        assert!(entry["actor"].as_str().unwrap().starts_with("key_"));
        assert_eq!(
            (&entry["before"], &entry["after"]),
            (&Value::Null, &Value::Null)
        );
        let secret = secret["secret"].as_str().unwrap();
        assert!(!entry.to_string().contains(secret));

        // Nobody who may not read it is said to have.
        let stranger = harness.new_key(&harness.project, &["endpoints:read"]).await;
        let refused = harness.request(Method::GET, &path, &stranger, Value::Null);
        refused.await.problem(403);
        assert_eq!(newest(&harness, &endpoint["id"]).await["id"], entry["id"]);
    });
}

#[test]
fn a_secret_whose_reading_cannot_be_written_down_is_not_given() {
    run(async {
        let (harness, own) = on_own_database().await;
        let endpoint = harness.endpoint("https://example.com", &["*"]).await;
        let full = "alter table audit_log add constraint no_more check (id < 0) not valid";
        let client = own.owner.get().await.unwrap();
        client.batch_execute(full).await.unwrap();
        drop(client);
        let path = format!("{}/secret", endpoint_path(&endpoint));
        let answer = harness.get(&path).await;
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("whsec_"));
        answer.problem(500);
    });
}

#[test]
fn what_people_have_sent_again_is_in_the_audit_log() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(200)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        let delivery = only_delivery(&harness, &event).await["id"].clone();
        let path = endpoint_path(&endpoint);
        let id = &endpoint["id"];

        let tested = harness.post(&format!("{path}/test"), json!({})).await;
        let tested = tested.expect(StatusCode::ACCEPTED);
        let entry = newest(&harness, id).await;
        assert_eq!(entry["action"], "endpoint.test");
        assert_eq!(entry["after"], json!({ "event_id": tested["event_id"] }));

        let since = json!({ "since": seconds_ago(60) });
        let mut begun = Value::Null;
        for (route, action) in [
            ("recover", "endpoint.recover"),
            ("replay-missing", "endpoint.replay_missing"),
        ] {
            let path = format!("{path}/{route}");
            let answer = harness.post(&path, since.clone()).await;
            begun = answer.expect(StatusCode::ACCEPTED);
            let entry = newest(&harness, id).await;
            assert_eq!(entry["action"], action);
            assert_eq!(entry["after"]["recovery_id"], begun["id"]);
            assert_eq!(entry["after"]["since"], begun["since"]);
        }
        let cancel = format!("/v1/recoveries/{}/cancel", begun["id"].as_str().unwrap());
        harness
            .post(&cancel, json!({}))
            .await
            .expect(StatusCode::OK);
        let entry = newest(&harness, &begun["id"]).await;
        assert_eq!(entry["action"], "recovery.cancel");

        let retry = json!({ "endpoint_id": id, "state": "failed", "since": seconds_ago(60) });
        let retried = harness.post("/v1/deliveries/retry", retry).await;
        retried.expect(StatusCode::ACCEPTED);
        let entry = newest(&harness, id).await;
        assert_eq!(entry["action"], "endpoint.retry_deliveries");
        assert_eq!(entry["after"]["delivery_state"], "failed");

        let one = format!("/v1/deliveries/{}/retry", delivery.as_str().unwrap());
        harness
            .post(&one, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(
            newest(&harness, &delivery).await["action"],
            "delivery.retry"
        );

        let replay = format!("/v1/events/{event}/replay");
        let replayed = harness.post(&replay, json!({ "endpoint_id": id })).await;
        replayed.expect(StatusCode::ACCEPTED);
        let entry = newest(&harness, &event.into()).await;
        assert_eq!(entry["action"], "event.replay");
        assert_eq!(&entry["after"]["endpoint_id"], id);
        forget_queue(&harness);
    });
}

#[test]
fn what_is_refused_is_not_said_to_have_been_done() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("https://example.com", &["*"]).await;
        let path = endpoint_path(&endpoint);
        let off = json!({ "state": "disabled" });
        harness.patch(&path, off).await.expect(StatusCode::OK);
        let before = newest(&harness, &endpoint["id"]).await;
        harness
            .post(&format!("{path}/test"), json!({}))
            .await
            .problem(409);
        let since = json!({ "since": seconds_ago(60) });
        harness
            .post(&format!("{path}/recover"), since)
            .await
            .problem(409);
        assert_eq!(newest(&harness, &endpoint["id"]).await, before);
    });
}

#[test]
fn what_needs_no_postgres_is_sent_again_without_it() {
    run(async {
        let harness = Harness::new().await;
        harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let event = harness.publish("a").await;
        let cut_off = harness.beside().without_postgres().build().await;
        let replay = format!("/v1/events/{event}/replay");
        let replayed = cut_off.post(&replay, json!({})).await;
        replayed.expect(StatusCode::ACCEPTED);
        forget_queue(&harness);
        forget_queue(&cut_off);
    });
}

#[test]
fn refused_admin_logins_are_told_of_without_filling_the_log() {
    run(async {
        let (harness, _own) = on_own_database().await;
        let wrong = "mradmin_wrong-wrong-wrong-wrong-wrong";
        for _ in 0..20 {
            for (method, path) in [
                (Method::POST, "/v1/projects"),
                (Method::GET, "/v1/projects"),
                (Method::GET, "/v1/admin/audit-log"),
            ] {
                let refused = harness.request(method, path, wrong, Value::Null).await;
                refused.problem(401);
            }
            // Right for another door, and refused here.
            let other = harness.request(Method::GET, "/v1/projects", &harness.key, Value::Null);
            other.await.problem(403);
        }
        let path = "/v1/admin/audit-log";
        let listed = harness.as_admin(Method::GET, path, Value::Null).await;
        let text = String::from_utf8_lossy(&listed.bytes).into_owned();
        assert!(!text.contains("wrong") && !text.contains(&harness.key[..8]));
        let listed = listed.expect(StatusCode::OK);
        insta::assert_json_snapshot!(listed, { ".data[].id" => "[id]", ".data[].at" => "[time]" }, @r#"
        {
          "data": [
            {
              "action": "admin.refuse",
              "actor": "unknown",
              "after": {
                "latest_method": "POST",
                "latest_route": "/v1/projects",
                "refused": 1
              },
              "at": "[time]",
              "before": null,
              "id": "[id]",
              "subject": "admin_key"
            }
          ],
          "next_cursor": null
        }
        "#);
        // Of the project nothing was asked.
        let own = harness.get("/v1/audit-log").await.expect(StatusCode::OK);
        assert!(!own.to_string().contains("admin.refuse"));
    });
}
