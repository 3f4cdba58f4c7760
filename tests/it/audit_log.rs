//! The audit log: every change of the configuration with who, what and when, and
//! not one secret.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::fixtures::assert_as_documented;
use crate::support::harness::{ALL_SCOPES, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// The log as lines: action, actor's kind, before, after; the newest first.
async fn log(harness: &Harness, filter: &str) -> Vec<String> {
    let path = format!("/v1/audit-log?limit=100{filter}");
    let listed = harness.get(&path).await.expect(StatusCode::OK);
    let line = |entry: &Value| {
        let actor = entry["actor"].as_str().unwrap();
        let actor = actor.split('_').next().unwrap();
        let (before, after) = (&entry["before"], &entry["after"]);
        format!("{} by {actor}: {before} -> {after}", entry["action"])
    };
    listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(line)
        .collect()
}

#[test]
fn what_is_done_to_an_endpoint_is_written_down_without_its_secrets() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({
            "url": "https://example.com/hook?token=hunter2",
            "secret": "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==",
        });
        let created = harness.post("/v1/endpoints", body).await;
        let id = created.expect(StatusCode::CREATED)["id"].clone();
        let id = id.as_str().unwrap();
        let path = format!("/v1/endpoints/{id}");
        let changes = json!({ "state": "disabled", "description": "" });
        harness.patch(&path, changes).await.expect(StatusCode::OK);
        let rotate = format!("{path}/rotate-secret");
        let rotated = harness.post(&rotate, json!({})).await;
        let secret = rotated.expect(StatusCode::OK)["secret"].clone();
        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.delete(&path).await.problem(404);

        let listed = harness.get("/v1/audit-log").await;
        let text = String::from_utf8_lossy(&listed.bytes).into_owned();
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVy"),
            "{text}"
        );
        assert!(!text.contains(secret.as_str().unwrap()), "{text}");

        let lines = log(&harness, &format!("&subject={id}")).await.join("\n");
        let until = lines.split("_until\":").nth(1).unwrap();
        let until = until.split('}').next().unwrap();
        insta::assert_snapshot!(lines.replace(until, "[time]"), @r#"
        "endpoint.delete" by key: {"auth_type":null,"body_format":"cloudevents","client_certificate_sha256":null,"content_type":"application/cloudevents+json","description":"","event_types":["*"],"header_names":[],"max_concurrency":null,"metadata":{},"rate_limit":null,"state":"disabled","tenant":null,"uid":null,"url":"https://example.com/hook?token=***"} -> null
        "endpoint.rotate_secret" by key: null -> {"former_signs_until":[time]}
        "endpoint.update" by key: {"state":"enabled"} -> {"state":"disabled"}
        "endpoint.create" by key: null -> {"auth_type":null,"body_format":"cloudevents","client_certificate_sha256":null,"content_type":"application/cloudevents+json","description":"","event_types":["*"],"header_names":[],"max_concurrency":null,"metadata":{},"rate_limit":null,"state":"enabled","tenant":null,"uid":null,"url":"https://example.com/hook?token=***"}
        "#);
    });
}

#[test]
fn projects_and_keys_are_the_admins_doing() {
    run(async {
        let harness = Harness::new().await;
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "ci", "scopes": ["events:write"], "rate_limit": 5 });
        let created = harness.as_admin(Method::POST, &keys, body).await;
        let created = created.expect(StatusCode::CREATED);
        let revoke = format!("{keys}/{}", created["id"].as_str().unwrap());
        for _ in 0..2 {
            let revoked = harness.as_admin(Method::DELETE, &revoke, Value::Null).await;
            revoked.expect(StatusCode::NO_CONTENT);
        }
        let path = format!("/v1/projects/{}/audit-log", harness.project);
        let listed = harness.as_admin(Method::GET, &path, Value::Null).await;
        let text = String::from_utf8_lossy(&listed.bytes).into_owned();
        assert!(!text.contains(created["key"].as_str().unwrap()), "{text}");
        let data = listed.expect(StatusCode::OK)["data"].clone();
        let actions: Vec<_> = data
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["action"])
            .collect();
        // The key's second revocation changed nothing.
        assert_eq!(
            actions,
            ["key.revoke", "key.create", "key.create", "project.create"]
        );
        assert!(
            data.as_array()
                .unwrap()
                .iter()
                .all(|e| e["actor"] == "admin")
        );
        insta::assert_json_snapshot!(data[1], {
            ".id" => "[id]", ".at" => "[time]", ".subject" => "[key]", ".after.hint" => "[hint]",
        }, @r#"
        {
          "action": "key.create",
          "actor": "admin",
          "after": {
            "hint": "[hint]",
            "name": "ci",
            "rate_limit": 5,
            "scopes": [
              "events:write"
            ]
          },
          "at": "[time]",
          "before": null,
          "id": "[id]",
          "subject": "[key]"
        }
        "#);
        let nobody = "/v1/projects/prj_00000000000000000000000000/audit-log";
        harness
            .as_admin(Method::GET, nobody, Value::Null)
            .await
            .problem(404);
    });
}

#[test]
fn a_key_knows_itself_in_the_log_and_no_other_project() {
    run(async {
        let harness = Harness::new().await;
        harness.endpoint("https://example.com", &["*"]).await;
        let listed = harness
            .get("/v1/audit-log?limit=1")
            .await
            .expect(StatusCode::OK);
        let entry = &listed["data"][0];
        assert_eq!(entry["action"], "endpoint.create");
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let keys = harness.as_admin(Method::GET, &keys, Value::Null).await;
        assert_eq!(entry["actor"], keys.expect(StatusCode::OK)["data"][0]["id"]);

        let stranger = harness.new_project(&ALL_SCOPES).await.key;
        let subject = entry["subject"].as_str().unwrap();
        let path = format!("/v1/audit-log?subject={subject}");
        let theirs = harness
            .request(Method::GET, &path, &stranger, Value::Null)
            .await;
        assert_eq!(theirs.expect(StatusCode::OK)["data"], json!([]));
    });
}

#[test]
fn an_endpoint_that_answered_410_was_disabled_by_nobody() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(410)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(
            log(&harness, "").await[0],
            r#""endpoint.disable" by millrace: {"state":"enabled"} -> {"state":"gone"}"#
        );
    });
}

#[test]
fn pages_go_from_new_to_old_without_gap_or_repeat() {
    run(async {
        let harness = Harness::new().await;
        for n in 0..5 {
            harness
                .endpoint(&format!("https://example.com/{n}"), &["*"])
                .await;
        }
        let all = harness.get("/v1/audit-log").await.expect(StatusCode::OK);
        let all = all["data"].as_array().unwrap();
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/audit-log?limit=2{cursor}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            paged.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(&paged, all);
        let ids: Vec<_> = all
            .iter()
            .map(|entry| entry["id"].as_i64().unwrap())
            .collect();
        assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
        // No list gave this one: base64 of "x".
        let problem = harness.get("/v1/audit-log?cursor=eA").await.problem(400);
        assert!(problem.contains("cursor"), "{problem}");
    });
}

#[test]
fn a_change_that_is_refused_leaves_no_trace() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("https://example.com", &["*"]).await;
        let before = log(&harness, "").await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let changes = json!({ "event_types": [] });
        harness.patch(&path, changes).await.problem(400);
        assert_eq!(log(&harness, "").await, before);
    });
}

#[test]
fn whoever_asks_is_told_of_a_new_key_but_not_the_key() {
    run(async {
        let harness = Harness::new().await;
        let unasked = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(unasked["data"], json!([]), "nobody could ask for it yet");

        let receiver = Receiver::start([]).await;
        harness
            .endpoint(&receiver.url, &["millrace.key.created"])
            .await;
        let key = harness.new_key(&harness.project, &["events:read"]).await;
        harness.drain().await;
        let published = receiver.only();
        assert!(!published.json().to_string().contains(&key));
        assert_as_documented(&published.json());
        insta::assert_json_snapshot!(published.json(), {
            ".id" => "[id]", ".source" => "[source]",
            ".data.id" => "[id]", ".data.hint" => "[hint]",
        }, @r#"
        {
          "data": {
            "hint": "[hint]",
            "id": "[id]",
            "name": "test",
            "scopes": [
              "events:read"
            ]
          },
          "datacontenttype": "application/json",
          "id": "[id]",
          "source": "[source]",
          "specversion": "1.0",
          "type": "millrace.key.created"
        }
        "#);
    });
}
