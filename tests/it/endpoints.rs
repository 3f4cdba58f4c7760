//! Endpoints: created, changed, tested, deleted.

use http::{Method, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::fixtures::{assert_as_documented, endpoint_path, forget_queue};
use crate::support::harness::{ALL_SCOPES, Harness, config, run};
use crate::support::receiver::Receiver;

#[test]
fn an_endpoint_lives() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({
            "url": "http://127.0.0.1:9/hook",
            "event_types": ["invoice.*", "user.created"],
            "tenant": "acme",
            "description": "billing",
        });
        let created = harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        insta::assert_json_snapshot!(created, {
            ".id" => "[id]", ".secret" => "[secret]",
            ".created_at" => "[time]", ".updated_at" => "[time]",
        }, @r#"
        {
          "auth": null,
          "body_format": "cloudevents",
          "client_certificate": null,
          "content_type": "application/cloudevents+json",
          "created_at": "[time]",
          "description": "billing",
          "event_types": [
            "invoice.*",
            "user.created"
          ],
          "headers": {},
          "id": "[id]",
          "max_concurrency": null,
          "metadata": {},
          "rate_limit": null,
          "scheme": "v1",
          "secret": "[secret]",
          "state": "enabled",
          "tenant": "acme",
          "uid": null,
          "updated_at": "[time]",
          "url": "http://127.0.0.1:9/hook"
        }
        "#);
        let path = format!("/v1/endpoints/{}", created["id"].as_str().unwrap());
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(
            fetched.get("secret"),
            None,
            "a secret is shown when asked for only"
        );

        let changed = harness
            .patch(&path, json!({ "tenant": null, "event_types": ["*"] }))
            .await;
        let changed = changed.expect(StatusCode::OK);
        assert_eq!(changed["tenant"], Value::Null);
        assert_eq!(changed["url"], fetched["url"]);

        let listed = harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        assert_eq!(listed["data"], json!([changed]));
        let none = harness
            .get("/v1/endpoints?tenant=other")
            .await
            .expect(StatusCode::OK);
        assert_eq!(none["data"], json!([]));

        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.delete(&path).await.problem(404);
        harness.get(&path).await.problem(404);
        assert_eq!(
            harness.get("/v1/endpoints").await.expect(StatusCode::OK)["data"],
            json!([])
        );
    });
}

#[test]
fn a_test_event_reaches_an_endpoint_whatever_its_filter() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["only.this"]).await;
        let path = format!("/v1/endpoints/{}/test", endpoint["id"].as_str().unwrap());
        let tested = harness
            .post(&path, Value::Null)
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.only().json()["type"], "millrace.endpoint.test");
        assert_as_documented(&receiver.only().json());
        let delivery = format!("/v1/deliveries/{}", tested["delivery_id"].as_str().unwrap());
        assert_eq!(
            harness.get(&delivery).await.expect(StatusCode::OK)["state"],
            "delivered"
        );
    });
}

#[test]
fn a_url_is_kept_as_it_was_checked() {
    run(async {
        let harness = Harness::new().await;
        let url = format!("http://127.0.0.1:9/a{}b\0", "\t".repeat(100_000));
        let created = harness.endpoint(&url, &["*"]).await;
        assert_eq!(created["url"], "http://127.0.0.1:9/ab");
        let path = format!("/v1/endpoints/{}", created["id"].as_str().unwrap());
        let url = format!("http://127.0.0.1:9/{}", "\n".repeat(100_000));
        let changed = harness.patch(&path, json!({ "url": url })).await;
        assert_eq!(changed.expect(StatusCode::OK)["url"], "http://127.0.0.1:9/");
    });
}

#[test]
fn an_endpoints_tenant_is_what_an_events_may_be_and_bounded() {
    run(async {
        let harness = Harness::new().await;
        for (tenant, is_one) in [("é".repeat(128), true), ("é".repeat(129), false)] {
            let body = json!({ "url": "http://127.0.0.1:9/", "tenant": tenant });
            let created = harness.post("/v1/endpoints", body).await.status;
            let event = json!({ "type": "a", "tenant": tenant });
            let published = harness.post("/v1/events", event).await.status;
            assert_eq!(
                (created.is_success(), published.is_success()),
                (is_one, true)
            );
        }
        let body = json!({ "url": "http://127.0.0.1:9/", "tenant": "a\0b" });
        harness.post("/v1/endpoints", body).await.problem(400);
        let listed = harness.get("/v1/endpoints?tenant=%00").await.problem(400);
        assert_snapshot!(listed, @r#"invalid: tenant: expected no control characters and no Unicode noncharacters (CloudEvents 1.0 §2, String), got a string of 1 character"#);
        forget_queue(&harness);
    });
}

#[test]
fn no_more_secrets_sign_than_a_header_and_an_item_have_room_for() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let rotate = async || {
            let path = format!("{path}/rotate-secret");
            harness.post(&path, json!({})).await
        };
        for _ in 1..5 {
            rotate().await.expect(StatusCode::OK);
        }
        assert_snapshot!(
            rotate().await.problem(409),
            @"conflict: the endpoint has 5 secrets that sign; a rotated one does for a day"
        );
        let id = endpoint["id"].as_str().unwrap();
        // A day later.
        let expired = format!(
            "update endpoint_secrets set expires_at = now() - interval '1 s' where endpoint_id = '{id}' \
             and expires_at is not null"
        );
        let client = harness.app.postgres.get().await.unwrap();
        client.batch_execute(&expired).await.unwrap();
        drop(client);
        rotate().await.expect(StatusCode::OK);
    });
}

#[test]
fn tenants_see_their_own_events_only() {
    run(async {
        let harness = Harness::new().await;
        let (acme, all) = (Receiver::start([]).await, Receiver::start([]).await);
        let body = json!({ "url": acme.url, "tenant": "acme" });
        harness
            .post("/v1/endpoints", body)
            .await
            .expect(StatusCode::CREATED);
        harness.endpoint(&all.url, &["*"]).await;
        for tenant in [json!("acme"), json!("other"), Value::Null] {
            let mut event = json!({ "type": "a", "tenant": tenant });
            if tenant.is_null() {
                event.as_object_mut().unwrap().remove("tenant");
            }
            harness
                .post("/v1/events", event)
                .await
                .expect(StatusCode::ACCEPTED);
        }
        harness.drain().await;
        assert_eq!((acme.received().len(), all.received().len()), (1, 3));
        assert_eq!(acme.only().json()["tenant"], "acme");
    });
}

#[test]
fn a_malformed_endpoint_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let mut refusals = String::new();
        for body in [
            json!({}),
            json!({ "url": "not a url" }),
            json!({ "url": "ftp://example.com" }),
            json!({ "url": "https://user:pass@example.com" }),
            json!({ "url": "https://example.com", "event_types": [] }),
            json!({ "url": "https://example.com", "event_types": ["a.*.b"] }),
            json!({ "url": "https://example.com", "event_types": "a" }),
            json!({ "url": "https://example.com", "tenant": "" }),
            json!({ "url": "https://example.com", "scheme": "v2" }),
            json!({ "url": "https://example.com", "secret": "whsec_c2hvcnQ=" }),
            json!({ "url": "https://example.com", "colour": "blue" }),
        ] {
            let problem = harness.post("/v1/endpoints", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        assert_snapshot!(refusals, @r#"
        invalid: url: expected a value, got nothing: it is required
        invalid: url: expected an absolute URL such as https://example.com/webhooks
        invalid: url: expected an https or http URL
        invalid: url: expected no user name or password; webhooks are signed instead
        invalid: event_types: expected 1 to 50 event types; ["*"] is all of them
        invalid: event_types[0]: expected an event type, a prefix that ends in ".*", or "*"
        invalid: event_types: expected an array, got a string
        invalid: tenant: expected a string of 1 to 128 characters, got an empty string
        invalid: scheme: expected one of v1, v1a, got a string of 2 characters
        invalid: secret: expected "whsec_" and the base64 of 24 to 64 bytes
        invalid: colour: not known here, expected one of url, uid, description, state, event_types, tenant, scheme, secret, rate_limit, max_concurrency, body_format, content_type, headers, auth, client_certificate, metadata
        "#);
    });
}

#[test]
fn a_project_has_so_many_endpoints_and_not_one_more_at_once() {
    run(async {
        let mut config = config();
        config.endpoints.per_project_max = 3;
        let harness = Harness::builder().config(config).build().await;
        let url = "https://example.com/";
        let first = harness.endpoint(url, &["*"]).await;
        harness.endpoint(url, &["*"]).await;
        // Two at once for the one place that is left, by both ways there are.
        let put = async |uid: &str| {
            let path = format!("/v1/endpoints/{uid}");
            let body = json!({ "url": url });
            harness
                .request(Method::PUT, &path, &harness.key, body)
                .await
        };
        let post = async || harness.post("/v1/endpoints", json!({ "url": url })).await;
        let answers = tokio::join!(put("a"), post(), put("b"), post());
        let answers = [answers.0, answers.1, answers.2, answers.3];
        let made = answers
            .iter()
            .filter(|answer| answer.status == StatusCode::CREATED);
        assert_eq!(made.count(), 1);
        for refused in answers
            .into_iter()
            .filter(|answer| answer.status != StatusCode::CREATED)
        {
            assert_eq!(
                refused.problem(409),
                "conflict: the project has 3 endpoints, its limit \
                (endpoints.per_project_max): delete one first"
            );
        }
        let listed = harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 3);

        // What is there may be changed and replaced, and what goes makes room.
        let path = endpoint_path(&first);
        let changed = harness.patch(&path, json!({ "description": "d" })).await;
        changed.expect(StatusCode::OK);
        let id = first["id"].as_str().unwrap();
        put(id).await.expect(StatusCode::OK);
        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.endpoint(url, &["*"]).await;
        // Another project's are its own.
        let other = harness.new_project(&ALL_SCOPES).await.key;
        let theirs = harness.request(Method::POST, "/v1/endpoints", &other, json!({ "url": url }));
        theirs.await.expect(StatusCode::CREATED);
    });
}
