//! The frame around all routes, and the OpenAPI document.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::documented::document;
use crate::support::harness::{ADMIN_KEY, Harness, run};

#[test]
fn errors_are_problems_with_the_requests_id() {
    run(async {
        let harness = Harness::new().await;
        let answer = harness.get("/v1/nowhere").await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.json["request_id"], Value::String(id));
        assert_eq!(
            answer.problem(404),
            "not_found: a route of that path not found"
        );

        let answer = harness.delete("/v1/events").await;
        let allow = answer.headers["allow"].to_str().unwrap().to_owned();
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
        assert_eq!(answer.json["field"], "method");
        let detail = answer.problem(405);
        let expected = "invalid: method: expected POST, GET, HEAD, got another";
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
        assert_eq!(page.status, StatusCode::SEE_OTHER);
        assert_eq!(page.headers["location"], "/console");
        assert_eq!(page.headers["vary"], "accept");
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
        assert_eq!((head.status, head.bytes.len()), (StatusCode::SEE_OTHER, 0));
    });
}

/// An operation that takes a body, with one that is taken.
struct Posted {
    method: Method,
    path: String,
    schema: Value,
    body: Value,
}

/// Every operation that takes an object, on things that are there.
async fn posted(harness: &Harness) -> Vec<Posted> {
    let created = async |path: &str, body: Value| {
        let created = harness.post(path, body).await;
        created.expect(StatusCode::CREATED)["id"]
            .as_str()
            .map(str::to_owned)
    };
    let endpoint = created("/v1/endpoints", json!({ "url": "http://127.0.0.1:9/" })).await;
    let meter = json!({ "name": "m", "event_type": "a", "aggregation": "count" });
    let meter = created("/v1/meters", meter).await;
    created("/v1/event-types", json!({ "name": "a", "schema": {} })).await;
    let event = harness.publish("b").await;
    let since = "2026-01-01T00:00:00Z";
    let mut posted = vec![];
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let Some(pointer) = schema["$ref"].as_str() else {
                continue;
            };
            let schema = document().pointer(pointer.trim_start_matches('#')).unwrap();
            let id = match path.split('/').nth(2).unwrap() {
                "endpoints" => endpoint.as_deref().unwrap(),
                "meters" => meter.as_deref().unwrap(),
                "events" => &event,
                "projects" => &harness.project,
                _ => "",
            };
            let body = match (&**path, &**method) {
                // Of a type without a schema.
                ("/v1/events", "post") => json!({ "type": "b", "data": {} }),
                ("/v1/meters", "post") => {
                    json!({ "name": "n", "event_type": "a", "aggregation": "count" })
                }
                ("/v1/deliveries/retry", _) => {
                    json!({ "endpoint_id": endpoint, "state": "failed", "since": since })
                }
                (path, _) if path.ends_with("/recover") || path.ends_with("/replay-missing") => {
                    json!({ "since": since })
                }
                _ => match &schema["examples"][0] {
                    Value::Null => json!({}),
                    example => example.clone(),
                },
            };
            posted.push(Posted {
                method: method.to_uppercase().parse().unwrap(),
                path: path.replace("{id}", id).replace("{name}", "a"),
                schema: schema.clone(),
                body,
            });
        }
    }
    posted
}

impl Posted {
    /// Whether a request is refused for `field`, were it `value`.
    async fn is_refused(&self, harness: &Harness, field: &str, value: Value) -> bool {
        let mut body = self.body.clone();
        body[field] = value;
        let key = if self.path.starts_with("/v1/projects") {
            ADMIN_KEY
        } else {
            &harness.key
        };
        let method = self.method.clone();
        let answer = harness.request(method, &self.path, key, body).await;
        let named = answer.json["field"].as_str().unwrap_or_default();
        answer.status == StatusCode::BAD_REQUEST && named.starts_with(field)
    }

    fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.schema["properties"].as_object().unwrap().iter()
    }
}

#[test]
fn null_is_taken_where_the_document_says_so_and_nowhere_else() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let posted = posted(&harness).await;
        assert!(posted.len() > 10);
        for operation in &posted {
            for (field, schema) in operation.fields() {
                let is_any = schema["type"].is_null()
                    && schema["oneOf"].is_null()
                    && schema["$ref"].is_null();
                let alternatives = schema["oneOf"].as_array().into_iter().flatten();
                let takes_null = is_any
                    || alternatives.chain([schema]).any(|one| match &one["type"] {
                        Value::Array(types) => types.contains(&json!("null")),
                        one => one == "null",
                    });
                let is_refused = operation.is_refused(&harness, field, Value::Null).await;
                let (method, path) = (&operation.method, &operation.path);
                assert_eq!(is_refused, !takes_null, "{method} {path}, null as {field}");
            }
        }
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

#[test]
fn the_bounds_that_the_document_gives_are_those_that_hold() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        for operation in &posted(&harness).await {
            for (field, schema) in operation.fields() {
                let number = |name: &str| schema[name].as_i64();
                let mut tried = vec![];
                if let (Some(min), Some(max)) = (number("minimum"), number("maximum")) {
                    tried.extend([(json!(min), false), (json!(max), false)]);
                    tried.extend([(json!(min - 1), true), (json!(max + 1), true)]);
                }
                if let Some(max) = schema["maxLength"].as_u64() {
                    let text = |len: u64| json!("a".repeat(usize::try_from(len).unwrap()));
                    tried.extend([(text(max), false), (text(max + 1), true)]);
                }
                if schema["minLength"] == 1 {
                    tried.push((json!(""), true));
                }
                if schema["minItems"] == 1 {
                    tried.push((json!([]), true));
                }
                for (value, expected) in tried {
                    let is_refused = operation.is_refused(&harness, field, value.clone()).await;
                    let (method, path) = (&operation.method, &operation.path);
                    assert_eq!(is_refused, expected, "{method} {path}, {field}: {value}");
                }
            }
        }
    });
}

#[test]
fn data_is_any_json() {
    run(async {
        let harness = Harness::new().await;
        for data in [
            json!({ "a": 1 }),
            json!([1, "a"]),
            json!("text"),
            json!(1.5),
            json!(true),
            Value::Null,
        ] {
            let id = harness
                .publish_body(json!({ "type": "a", "data": data }))
                .await;
            let event = harness.get(&format!("/v1/events/{id}")).await;
            assert_eq!(event.expect(StatusCode::OK)["event"]["data"], data);
        }
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
        assert!(!evil.contains("<script>") && !evil.contains("$(id)"));
    });
}
