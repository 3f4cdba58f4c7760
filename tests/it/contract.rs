//! The frame around all routes, and the OpenAPI document.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::support::harness::{Harness, run};

#[test]
fn errors_are_problems_with_the_requests_id() {
    run(async {
        let harness = Harness::new().await;
        let answer = harness.get("/v1/nowhere").await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.json["request_id"], Value::String(id));
        assert_eq!(answer.problem(404), "not_found: GET /v1/nowhere not found");

        let answer = harness.delete("/v1/events").await;
        let allow = answer.headers["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
        answer.problem(405);

        let mine = Request::get("/health")
            .header("x-request-id", "mine-1234")
            .body(Body::empty());
        let answer = harness.send(mine.unwrap()).await;
        assert_eq!(answer.headers["x-request-id"], "mine-1234");
    });
}

#[test]
fn a_panic_is_an_answer_that_says_nothing_of_it() {
    run(async {
        let mut harness = Harness::new().await;
        async fn panics() -> StatusCode {
            panic!("a secret of ours")
        }
        let routes = axum::Router::new().route("/panics", axum::routing::get(panics));
        harness.router = millrace::http::with_middleware(routes, harness.app.clone());
        let answer = harness.get("/panics").await;
        assert!(answer.headers.contains_key("x-request-id"));
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("secret"));
        assert_eq!(answer.problem(500), "internal: internal error");
    });
}

#[test]
fn a_request_without_a_body_where_one_is_needed_says_what_is_missing() {
    run(async {
        let harness = Harness::new().await;
        let problem = harness
            .post("/v1/endpoints", Value::Null)
            .await
            .problem(400);
        assert!(problem.contains("url"), "{problem}");
    });
}

#[test]
fn the_document_describes_every_route_and_every_reference_resolves() {
    run(async {
        let harness = Harness::new().await;
        let document = harness.get("/openapi.json").await.expect(StatusCode::OK);
        assert_eq!(
            document["openapi"].as_str().unwrap().split('.').next(),
            Some("3")
        );
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1) {
            let pointer = format!("/{}", reference.split('"').next().unwrap());
            assert!(document.pointer(&pointer).is_some(), "{pointer}");
        }
        let page = harness.request(Method::GET, "/docs", "", Value::Null).await;
        assert_eq!(page.status, StatusCode::OK);
    });
}

#[test]
fn the_page_names_the_address_it_was_asked_at() {
    run(async {
        let harness = Harness::new().await;
        let page = async |headers: &[(&str, &str)]| {
            let mut request = Request::get("/docs");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = harness.send(request).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.headers["cache-control"], "private, max-age=300");
            String::from_utf8(answer.bytes.to_vec()).unwrap()
        };
        let local = page(&[("host", "localhost:9090")]).await;
        assert!(local.contains("<pre>export MILLRACE_URL=http://localhost:9090\n"));
        let public = page(&[
            ("host", "10.0.0.7:8080"),
            ("x-forwarded-host", "api.example.com"),
            ("x-forwarded-proto", "https"),
        ]);
        let public = public.await;
        assert!(public.contains("<pre>export MILLRACE_URL=https://api.example.com\n"));
        let evil = page(&[("host", "a.example"), ("x-forwarded-host", "$(id)<script>")]).await;
        assert!(evil.contains("<pre>export MILLRACE_URL=http://a.example\n"));
        assert!(!evil.contains("<script"));
    });
}
