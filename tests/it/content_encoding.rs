//! `Content-Encoding`: compressed bodies of every route and in every content mode are
//! what they are without it, within the limits, and what cannot be decoded is refused.

use std::io::Write;

use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::request::Builder;
use http::{Method, Request, StatusCode};
use millrace::http::idempotency::ROUTES;
use serde_json::{Value, json};

use crate::support::harness::{ADMIN_KEY, Answer, Harness, run};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn request(harness: &Harness, method: Method, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", harness.key))
}

async fn publish(harness: &Harness, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = request(harness, Method::POST, "/v1/events");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Body::from(body)).unwrap()).await
}

async fn event(harness: &Harness, accepted: &Answer) -> Value {
    let path = format!("/v1/events/{}", accepted.json["id"].as_str().unwrap());
    harness.get(&path).await.expect(StatusCode::OK)["event"].take()
}

#[test]
fn every_content_mode_takes_gzip() {
    run(async {
        let harness = Harness::new().await;
        let whole = json!({ "specversion": "1.0", "id": "s", "source": "/s", "type": "a.b", "data": { "n": 1 } });
        let binary = [
            ("ce-specversion", "1.0"),
            ("ce-id", "b"),
            ("ce-source", "/s"),
            ("ce-type", "a.b"),
        ];
        for (content_type, more, body) in [
            (
                "application/json",
                &[] as &[_],
                json!({ "type": "a.b", "data": { "n": 1 } }),
            ),
            ("application/cloudevents+json", &[], whole.clone()),
            ("application/json", &binary, json!({ "n": 1 })),
        ] {
            for coding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
                let mut headers =
                    vec![("content-type", content_type), ("content-encoding", coding)];
                headers.extend(more);
                let accepted = publish(&harness, &headers, gzip(body.to_string().as_bytes())).await;
                assert_eq!(
                    accepted.status,
                    StatusCode::ACCEPTED,
                    "{content_type}: {}",
                    accepted.json
                );
                let event = event(&harness, &accepted).await;
                assert_eq!(event["data"], json!({ "n": 1 }), "{content_type}, {coding}");
            }
        }
        let batch = json!([whole]).to_string();
        for (path, content_type) in [
            ("/v1/events", "application/cloudevents-batch+json"),
            ("/v1/events", "application/json"),
            ("/v1/events/batch", "application/cloudevents-batch+json"),
            ("/v1/events/batch", "application/json"),
        ] {
            let request = request(&harness, Method::POST, path)
                .header("content-type", content_type)
                .header("content-encoding", "gzip")
                .body(Body::from(gzip(batch.as_bytes())));
            let answer = harness.send(request.unwrap()).await;
            let answer = answer.expect(StatusCode::ACCEPTED);
            assert_eq!(answer["rejected"], 0, "{path} {content_type}: {answer}");
        }
        let answer = publish(
            &harness,
            &[
                ("content-type", "application/json"),
                ("content-encoding", "identity"),
            ],
            json!({ "type": "a.b" }).to_string().into(),
        );
        answer.await.expect(StatusCode::ACCEPTED);
    });
}

#[test]
fn other_routes_take_it_too() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = json!({ "url": "https://example.com/", "event_types": ["*"] });
        let created = harness.post("/v1/endpoints", endpoint.clone()).await;
        let id = created.expect(StatusCode::CREATED)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        for (method, path, body, status) in [
            (Method::POST, "/v1/endpoints", endpoint.clone(), 201),
            (Method::PUT, "/v1/endpoints/by-me", endpoint, 201),
            (
                Method::PATCH,
                &*format!("/v1/endpoints/{id}"),
                json!({ "description": "x" }),
                200,
            ),
            (
                Method::POST,
                "/v1/event-types",
                json!({ "name": "a.b" }),
                201,
            ),
        ] {
            let request = request(&harness, method.clone(), path)
                .header("content-type", "application/json")
                .header("content-encoding", "gzip")
                .body(Body::from(gzip(body.to_string().as_bytes())));
            let answer = harness.send(request.unwrap()).await;
            assert_eq!(
                answer.status.as_u16(),
                status,
                "{method} {path}: {}",
                answer.json
            );
        }
    });
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    run(async {
        let harness = Harness::new().await;
        let json = ("content-type", "application/json");
        let body = json!({ "type": "a.b", "data": { "n": 1 } }).to_string();
        for coding in [
            "br",
            "deflate",
            "zstd",
            "compress",
            "gzip, gzip",
            "gzip, br",
            "nonsense",
            "*",
        ] {
            let headers = [json, ("content-encoding", coding)];
            let refused = publish(&harness, &headers, body.clone().into()).await;
            assert_eq!(refused.headers["accept-encoding"], "gzip", "{coding}");
            assert_eq!(refused.json["field"], "Content-Encoding", "{coding}");
            assert!(refused.problem(415).contains("expected gzip"), "{coding}");
        }
        // What is refused for its type has a coding that would do.
        let refused = publish(
            &harness,
            &[("content-type", "text/plain")],
            body.clone().into(),
        )
        .await;
        assert!(!refused.headers.contains_key("accept-encoding"));
        refused.problem(415);
        let coded = [json, ("content-encoding", "gzip")];
        let whole = gzip(body.as_bytes());
        for wrong in [
            body.clone().into_bytes(),
            whole[..whole.len() - 1].to_vec(),
            whole[..12].to_vec(),
            vec![],
            [&*whole, b"behind it"].concat(),
        ] {
            let refused = publish(&harness, &coded, wrong).await.problem(400);
            assert!(refused.contains("the body: expected gzip"), "{refused}");
        }
        let bytes_max = harness.app.config.http.body_bytes_max;
        let bomb = gzip(&vec![b' '; bytes_max + 1]);
        let refused = publish(&harness, &coded, bomb).await.problem(413);
        assert!(refused.contains("once it is decoded"), "{refused}");
        let events = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(events["data"], json!([]));
    });
}

#[test]
fn a_repeated_request_is_the_same_in_any_coding() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({ "type": "a.b", "data": { "n": 1 } }).to_string();
        let keyed = async |coding: Option<&str>, body: Vec<u8>| {
            let mut headers = vec![
                ("content-type", "application/json"),
                ("idempotency-key", "k"),
            ];
            headers.extend(coding.map(|coding| ("content-encoding", coding)));
            publish(&harness, &headers, body).await
        };
        let first = keyed(Some("gzip"), gzip(body.as_bytes())).await;
        assert_eq!(first.status, StatusCode::ACCEPTED, "{}", first.json);
        assert_eq!(event(&harness, &first).await["data"], json!({ "n": 1 }));
        for (coding, body) in [
            (Some("x-gzip"), gzip(body.as_bytes())),
            (
                Some("gzip"),
                [gzip(&body.as_bytes()[..5]), gzip(&body.as_bytes()[5..])].concat(),
            ),
            (Some("identity"), body.clone().into()),
            (None, body.into()),
        ] {
            let again = keyed(coding, body).await;
            assert_eq!(again.headers["idempotent-replayed"], "true", "{coding:?}");
            assert_eq!(again.json, first.json, "{coding:?}");
        }
        let other = json!({ "type": "a.c" }).to_string();
        keyed(Some("gzip"), gzip(other.as_bytes()))
            .await
            .problem(422);
    });
}

/// Every POST reads the header where it reads a body, with an idempotency key or without.
#[test]
fn no_route_keeps_compressed_bytes() {
    run(async {
        let harness = Harness::new().await;
        for (path, caller) in ROUTES {
            let path = path.replace("{id}", "evt_00000000000000000000000000000000");
            let key = match caller {
                millrace::http::idempotency::Caller::Admin => ADMIN_KEY,
                _ => &harness.key,
            };
            for idempotency_key in [None, Some("k")] {
                let mut request = Request::post(&path)
                    .header("authorization", format!("Bearer {key}"))
                    .header("content-type", "application/json")
                    .header("content-encoding", "br");
                if let Some(idempotency_key) = idempotency_key {
                    request = request.header("idempotency-key", idempotency_key);
                }
                let refused = harness.send(request.body(Body::from("{}")).unwrap()).await;
                let expected = match idempotency_key {
                    // What is kept with the key is kept of what was asked.
                    Some(_) => &[415u16] as &[u16],
                    // What is not there, or takes no body, may be said first.
                    None => &[415, 404],
                };
                let status = refused.status.as_u16();
                assert!(
                    expected.contains(&status),
                    "{path}: {status} {}",
                    refused.json
                );
            }
        }
    });
}
