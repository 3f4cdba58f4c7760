//! Credentials of endpoints: sent with each request, never shown, sealed wherever
//! they are kept.

use http::{Method, StatusCode};
use millrace::app;
use millrace::jobs;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::authority::Authority;
use crate::support::fixtures::{create_endpoint, endpoint_path, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

#[test]
fn headers_and_credentials_are_sent_and_never_shown() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        let body = json!({
            "url": receiver.url,
            "headers": { "X-Api-Key": "s3cret-key", "x-env": "prod" },
            "auth": { "type": "basic", "username": "s3cret-user", "password": "s3cret-pass" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        insta::assert_json_snapshot!(
            json!({ "headers": endpoint["headers"], "auth": endpoint["auth"] }), @r#"
        {
          "auth": {
            "type": "basic"
          },
          "headers": {
            "X-Api-Key": "********",
            "x-env": "********"
          }
        }
        "#);
        let fetched = harness.get(&endpoint_path(&endpoint)).await;
        assert!(!String::from_utf8_lossy(&fetched.bytes).contains("s3cret"));
        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.only();
        assert_eq!(received.header("x-api-key"), "s3cret-key");
        assert_eq!(received.header("x-env"), "prod");
        // "s3cret-user:s3cret-pass"
        let basic = "Basic czNjcmV0LXVzZXI6czNjcmV0LXBhc3M=";
        assert_eq!(received.header("authorization"), basic);
        assert_eq!(
            received.header("content-type"),
            "application/cloudevents+json"
        );

        // What a change does not name stays; what it names is replaced as a whole.
        let changes = json!({ "auth": { "type": "bearer", "token": "t0ken" } });
        harness
            .patch(&endpoint_path(&endpoint), changes)
            .await
            .expect(StatusCode::OK);
        let changes = json!({ "headers": { "x-env": "test" } });
        let changed = harness
            .patch(&endpoint_path(&endpoint), changes)
            .await
            .expect(StatusCode::OK);
        assert_eq!(changed["auth"]["type"], "bearer");
        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.received().remove(1);
        assert_eq!(received.header("authorization"), "Bearer t0ken");
        assert_eq!(received.header("x-env"), "test");
        assert!(!received.headers.contains_key("x-api-key"));

        let none = json!({ "auth": null, "headers": {} });
        let changed = harness
            .patch(&endpoint_path(&endpoint), none)
            .await
            .expect(StatusCode::OK);
        assert_eq!(changed["headers"], json!({}));
        assert_eq!(changed["auth"], Value::Null);
    });
}

#[test]
fn secrets_are_sealed_in_both_stores() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let body = json!({
            "url": "http://127.0.0.1:9/", "headers": { "x-a": "s3cret-value" },
        });
        let endpoint = create_endpoint(&harness, body).await;
        let id = endpoint["id"].as_str().unwrap();
        let client = harness.app.postgres.get().await.unwrap();
        let query = "select row_to_json(e)::text, e.extras_sealed from endpoints e where id = $1";
        let row = client.query_one(query, &[&id]).await.unwrap();
        let (text, sealed): (String, Vec<u8>) = (row.get(0), row.get(1));
        drop(client);
        assert!(!text.contains("s3cret") && text.contains("x-a"), "{text}");
        assert!(!sealed.windows(6).any(|window| window == b"s3cret"));
        let items = harness.app.dynamo.client.query();
        let items = items
            .table_name(&harness.app.dynamo.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(
                ":pk",
                aws_sdk_dynamodb::types::AttributeValue::S(format!("project#{}", harness.project)),
            );
        let items = format!("{:?}", items.send().await.unwrap().items());
        assert!(items.contains(id) && !items.contains("s3cret"), "{items}");

        // Without its key nothing is sent rather than something else.
        let other = harness.beside().key_ring([9; 32]).build().await;
        other.publish("a").await;
        let failed = jobs::worker::drain(&other.app, app::now()).await;
        assert_eq!(failed.len(), 1);
    });
}

#[test]
fn a_header_goes_out_in_the_case_it_was_given_in() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let headers = json!({ "X-API-Key": "a", "SOAPAction": "b", "x-env": "c" });
        let endpoint = create_endpoint(&harness, json!({ "url": url, "headers": headers })).await;
        let shown = endpoint["headers"].as_object().unwrap();
        let names: Vec<_> = shown.keys().collect();
        assert_eq!(names, ["SOAPAction", "X-API-Key", "x-env"]);
        harness.publish("a").await;
        let receive = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![];
            while !request.ends_with(b"}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let (request, ()) = tokio::join!(receive, harness.drain());
        for header in ["X-API-Key: a", "SOAPAction: b", "x-env: c"] {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{request}");
        }
        let twice = json!({ "headers": { "X-A": "1", "x-a": "2" } });
        let refused = harness
            .patch(&endpoint_path(&endpoint), twice)
            .await
            .problem(400);
        assert!(refused.contains("expected each header once"), "{refused}");
    });
}

/// An endpoint with all that may go along with its webhooks.
async fn endpoint_with_everything(harness: &Harness, url: &str) -> String {
    let certificate = Authority::new().certify("millrace.example").json();
    let body = json!({
        "url": url,
        "headers": { "x-api-key": "s3cret-key" },
        "auth": { "type": "bearer", "token": "s3cret-token" },
        "client_certificate": certificate,
    });
    endpoint_path(&create_endpoint(harness, body).await)
}

#[test]
fn credentials_do_not_go_to_another_origin_unless_given_again() {
    run(async {
        let harness = Harness::new().await;
        let old = "https://old.example/hook";
        let path = endpoint_with_everything(&harness, old).await;
        let everything = "headers: expected again with a url of another scheme, host or port, \
            or null for none: headers, auth, client_certificate";
        for url in [
            "https://new.example/hook",
            "https://old.example:8443/hook",
            "http://old.example/hook",
            "https://old.example.new.example/hook",
            "https://8.8.8.8/hook",
        ] {
            let refused = harness.patch(&path, json!({ "url": url })).await;
            let refused = refused.problem(400);
            assert!(refused.ends_with(everything), "{url}: {refused}");
        }
        let other = "https://new.example/hook";
        let auth = json!({ "type": "basic", "username": "u", "password": "p" });
        for (given, missing) in [
            (json!({ "headers": {} }), "auth, client_certificate"),
            (json!({ "auth": auth }), "headers, client_certificate"),
            (
                json!({ "headers": { "x-a": "b" }, "auth": null }),
                "client_certificate",
            ),
        ] {
            let mut changes = given;
            changes["url"] = other.into();
            let refused = harness.patch(&path, changes).await.problem(400);
            assert!(refused.ends_with(&format!(": {missing}")), "{refused}");
        }
        let unchanged = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(unchanged["url"], old);

        let changes =
            json!({ "url": other, "headers": null, "auth": auth, "client_certificate": null });
        let changed = harness.patch(&path, changes).await.expect(StatusCode::OK);
        assert_eq!(changed["url"], other);
        assert_eq!(changed["headers"], json!({}));
        assert_eq!(changed["auth"], json!({ "type": "basic" }));
        assert_eq!(changed["client_certificate"], Value::Null);
    });
}

#[test]
fn credentials_stay_where_the_origin_does() {
    run(async {
        let harness = Harness::new().await;
        let path = endpoint_with_everything(&harness, "https://old.example/hook").await;
        for url in [
            "https://old.example/other?a=b",
            "https://old.example:443/hook",
            "https://OLD.Example/hook",
            "https://old.example./hook",
        ] {
            let changed = harness.patch(&path, json!({ "url": url })).await;
            let changed = changed.expect(StatusCode::OK);
            assert_eq!(changed["auth"]["type"], "bearer", "{url}");
            assert_eq!(changed["headers"], json!({ "x-api-key": "********" }));
            assert!(changed["client_certificate"].is_object());
        }
        // One that has none is free to go anywhere.
        let bare = json!({ "url": "https://old.example/" });
        let bare = endpoint_path(&create_endpoint(&harness, bare).await);
        let moved = harness
            .patch(&bare, json!({ "url": "https://new.example/" }))
            .await;
        moved.expect(StatusCode::OK);
    });
}

#[test]
fn a_replacement_keeps_no_credential_that_it_does_not_give() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (old, new) = (Receiver::start([]).await, Receiver::start([]).await);
        let path = "/v1/endpoints/customer";
        let put = async |body: Value| harness.request(Method::PUT, path, &harness.key, body).await;
        let token = json!({ "type": "bearer", "token": "s3cret" });
        let made = put(json!({ "url": old.url, "auth": token, "headers": { "x-a": "s3cret" } }));
        made.await.expect(StatusCode::CREATED);
        put(json!({ "url": new.url })).await.expect(StatusCode::OK);
        harness.publish("a").await;
        harness.drain().await;
        assert!(old.received().is_empty());
        let received = new.only();
        assert!(!received.headers.contains_key("authorization"));
        assert!(!received.headers.contains_key("x-a"));
    });
}
