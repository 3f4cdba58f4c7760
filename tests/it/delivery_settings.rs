//! Delivery settings of endpoints: refused by name when they make no sense, and
//! the format of the body.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::fixtures::{create_endpoint, endpoint_path, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let mut refusals = String::new();
        for body in [
            json!({ "rate_limit": 0 }),
            json!({ "rate_limit": 1001 }),
            json!({ "max_concurrency": 0 }),
            json!({ "body_format": "xml" }),
            json!({ "headers": { "Content-Type": "a" } }),
            json!({ "headers": { "webhook-id": "a" } }),
            json!({ "headers": { "x-a": "s3cret\r\nx-b: c" } }),
            json!({ "headers": { "x-a\r\nx-b": "s3cret" } }),
            json!({ "headers": { "x-a": 5 } }),
            json!({ "auth": { "type": "digest" } }),
            json!({ "auth": { "type": "bearer", "token": "s3cret s3cret" } }),
            json!({ "auth": { "type": "bearer", "token": 5 } }),
            json!({ "headers": { "authorization": "a" }, "auth": { "type": "bearer", "token": "b" } }),
        ] {
            let mut body = body;
            body["url"] = "https://example.com".into();
            let problem = harness.post("/v1/endpoints", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        assert!(!refusals.contains("s3cret"));
        insta::assert_snapshot!(refusals, @r#"
        invalid: rate_limit: expected null or 1 to 1000
        invalid: rate_limit: expected null or 1 to 1000
        invalid: max_concurrency: expected null or 1 to 1000
        invalid: body_format: expected one of cloudevents, data, got a string of 3 characters
        invalid: headers.…: expected a header that says nothing of the connection or the body, nor is set by Millrace
        invalid: headers.webhook-id: expected a header that says nothing of the connection or the body, nor is set by Millrace
        invalid: headers.x-a: expected visible ASCII characters, and spaces only between them
        invalid: headers.…: expected the name of a header, up to 100 characters
        invalid: headers.x-a: expected a string
        invalid: auth.type: expected one of basic, bearer, got a string of 6 characters
        invalid: auth.token: expected 1 to 4096 visible ASCII characters without spaces
        invalid: auth.token: expected a string
        invalid: headers.authorization: expected either this or auth, got both
        "#);
    });
}

#[test]
fn data_alone_is_sent_in_binary_mode_and_signed_as_sent() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let body = json!({
            "url": receiver.url, "body_format": "data", "headers": { "x-a": "b" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        assert_eq!(endpoint["body_format"], "data");
        let event = json!({
            "specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid",
            "subject": "Nr. 7 ä", "data": { "n": 1 },
        });
        let request = http::Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/cloudevents+json")
            .body(event.to_string().into());
        harness
            .send(request.unwrap())
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;

        let received = receiver.only();
        assert_eq!(received.json(), json!({ "n": 1 }));
        assert_eq!(received.header("content-type"), "application/json");
        assert_eq!(received.header("ce-type"), "order.paid");
        assert_eq!(received.header("ce-source"), "/shop");
        assert_eq!(received.header("ce-subject"), "Nr.%207%20%C3%A4");
        let webhook = standardwebhooks::Webhook::new(endpoint["secret"].as_str().unwrap()).unwrap();
        webhook.verify(&received.body, &received.headers).unwrap();
    });
}

#[test]
fn the_whole_event_is_sent_as_the_content_type_asked_for() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let given = |content_type: Value| {
            let mut body = json!({ "url": receiver.url });
            body["content_type"] = content_type;
            body
        };
        let cloudevents = "application/cloudevents+json";
        let by_default = create_endpoint(&harness, json!({ "url": receiver.url })).await;
        assert_eq!(by_default["content_type"], cloudevents);
        let json = create_endpoint(&harness, given("application/json".into())).await;
        assert_eq!(json["content_type"], "application/json");
        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.received();
        let mut sent: Vec<_> = received.iter().map(|r| r.header("content-type")).collect();
        sent.sort_unstable();
        assert_eq!(sent, [cloudevents, "application/json"]);
        assert_eq!(received[0].json(), received[1].json());

        // Changed, and back to the default.
        let path = endpoint_path(&json);
        harness
            .delete(&endpoint_path(&by_default))
            .await
            .expect(StatusCode::NO_CONTENT);
        let change = json!({ "content_type": null });
        let changed = harness.patch(&path, change).await.expect(StatusCode::OK);
        assert_eq!(changed["content_type"], cloudevents);
        harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver.received()[2].header("content-type"), cloudevents);
    });
}

#[test]
fn data_has_a_content_type_of_its_own() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let data = json!({ "url": "http://127.0.0.1:9/", "body_format": "data" });
        let created = create_endpoint(&harness, data.clone()).await;
        assert_eq!(created["content_type"], Value::Null);
        let mut both = data;
        for content_type in ["application/json", "application/cloudevents+json"] {
            both["content_type"] = content_type.into();
            let refused = harness
                .post("/v1/endpoints", both.clone())
                .await
                .problem(400);
            insta::allow_duplicates! { insta::assert_snapshot!(refused, @"invalid: content_type: expected with body_format cloudevents only: with data the content type is the event's datacontenttype") };
            let change = json!({ "content_type": content_type });
            harness
                .patch(&endpoint_path(&created), change)
                .await
                .problem(400);
        }
        let other = json!({ "url": "http://127.0.0.1:9/", "content_type": "text/plain" });
        let refused = harness.post("/v1/endpoints", other).await.problem(400);
        assert!(refused.starts_with("invalid: content_type: "), "{refused}");
        // It goes with the format it belongs to.
        let json = json!({ "url": "http://127.0.0.1:9/", "content_type": "application/json" });
        let path = endpoint_path(&create_endpoint(&harness, json).await);
        for (format, shown) in [
            ("data", Value::Null),
            ("cloudevents", "application/cloudevents+json".into()),
        ] {
            let changed = harness.patch(&path, json!({ "body_format": format })).await;
            assert_eq!(changed.expect(StatusCode::OK)["content_type"], shown);
        }
        let back = json!({ "body_format": "cloudevents", "content_type": "application/json" });
        harness.patch(&path, back).await.expect(StatusCode::OK);
    });
}
