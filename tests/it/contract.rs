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
        assert_eq!(answer.json["field"], "method");
        let detail = answer.problem(405);
        let expected = "invalid: method: expected POST, GET, HEAD; got DELETE";
        assert_eq!(detail, expected);

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
fn the_root_says_what_this_is_to_people_and_to_programs() {
    run(async {
        let harness = Harness::new().await;
        let ask = async |method: Method, accept: &str| {
            let request = Request::builder().method(method).uri("/");
            let request = request.header("accept", accept).body(Body::empty());
            harness.send(request.unwrap()).await
        };
        let page = ask(Method::GET, "text/html,application/xml;q=0.9,*/*;q=0.8").await;
        assert_eq!(page.status, StatusCode::OK);
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        let html = String::from_utf8(page.bytes.to_vec()).unwrap();
        for part in [
            "Millrace",
            env!("CARGO_PKG_VERSION"),
            "\"/docs\"",
            "\"/openapi.json\"",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for accept in ["*/*", "application/json"] {
            let answer = ask(Method::GET, accept).await;
            assert_eq!(answer.headers["content-type"], "application/json");
            assert_eq!(answer.headers["vary"], "accept");
            let service = answer.expect(StatusCode::OK);
            assert_eq!(service["name"], "Millrace");
            assert_eq!(service["version"], env!("CARGO_PKG_VERSION"));
            for link in ["docs", "openapi", "health"] {
                let path = service[link].as_str().unwrap();
                assert_eq!(harness.get(path).await.status, StatusCode::OK, "{path}");
            }
        }
        let head = ask(Method::HEAD, "text/html").await;
        assert_eq!((head.status, head.bytes.len()), (StatusCode::OK, 0));
    });
}

#[test]
fn a_slash_at_the_end_changes_nothing() {
    run(async {
        let harness = Harness::new().await;
        for path in [
            "/docs",
            "/health",
            "/health/ready",
            "/openapi.json",
            "/v1/events",
            "/v1/endpoints",
        ] {
            for method in [Method::GET, Method::HEAD] {
                let of = async |path: &str| {
                    let asked = harness.request(method.clone(), path, &harness.key, Value::Null);
                    asked.await
                };
                let (plain, slash) = (of(path).await, of(&format!("{path}/")).await);
                assert_eq!(plain.status, StatusCode::OK, "{method} {path}");
                assert_eq!(slash.status, StatusCode::OK, "{method} {path}/");
                assert_eq!(plain.bytes, slash.bytes, "{method} {path}/");
            }
        }
        let health = millrace::http::health_router(harness.app.clone());
        let mut apart = harness.beside().build().await;
        apart.router = health;
        for path in ["/health/", "/health/ready/"] {
            assert_eq!(apart.get(path).await.status, StatusCode::OK, "{path}");
        }
        let icon = harness.get("/favicon.ico").await;
        assert_eq!(icon.status, StatusCode::NO_CONTENT);
        assert!(
            icon.headers["cache-control"]
                .to_str()
                .unwrap()
                .contains("max-age")
        );
        harness.get("//").await.problem(404);
    });
}
