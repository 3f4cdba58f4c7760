//! Projects, keys and what a key may do; every route against every scope and
//! against another project.

use http::{Method, StatusCode};
use millrace::store::api_keys::KEYS_MAX;
use serde_json::{Value, json};

use crate::support::harness::{ADMIN_KEY, ALL_SCOPES, Harness, run};
use crate::support::receiver::Receiver;

#[test]
fn a_key_is_shown_once_and_works_until_revoked() {
    run(async {
        let harness = Harness::new().await;
        let path = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "ci", "scopes": ["events:read", "events:read"] });
        let created = harness
            .as_admin(Method::POST, &path, body)
            .await
            .expect(StatusCode::CREATED);
        assert_eq!(created["scopes"], json!(["events:read"]));
        let key = created["key"].as_str().unwrap();
        assert!(key.starts_with("mr_") && key.starts_with(created["hint"].as_str().unwrap()));

        let read = async || {
            harness
                .request(Method::GET, "/v1/events", key, Value::Null)
                .await
        };
        read().await.expect(StatusCode::OK);
        let listed = harness.as_admin(Method::GET, &path, Value::Null).await;
        assert!(!String::from_utf8_lossy(&listed.bytes).contains(key));

        let revoke = format!("{path}/{}", created["id"].as_str().unwrap());
        let revoked = harness.as_admin(Method::DELETE, &revoke, Value::Null).await;
        revoked.expect(StatusCode::NO_CONTENT);
        read().await.problem(401);
    });
}

#[test]
fn projects_need_the_admin_key_and_unique_names() {
    run(async {
        let harness = Harness::new().await;
        harness.get("/v1/projects").await.problem(403);
        let path = format!("/v1/projects/{}", harness.project);
        let project = harness.as_admin(Method::GET, &path, Value::Null).await;
        let project = project.expect(StatusCode::OK);
        let body = json!({ "name": project["name"] });
        let taken = harness
            .as_admin(Method::POST, "/v1/projects", body)
            .await
            .problem(409);
        assert_eq!(
            taken,
            "conflict: name: a project of that name exists already"
        );
        let nameless = json!({ "name": "" });
        harness
            .as_admin(Method::POST, "/v1/projects", nameless)
            .await
            .problem(400);
        let nobody = "/v1/projects/prj_00000000000000000000000000/keys";
        let body = json!({ "name": "x", "scopes": ALL_SCOPES });
        harness
            .as_admin(Method::POST, nobody, body)
            .await
            .problem(404);
    });
}

/// An operation of the OpenAPI document.
#[derive(Debug)]
struct Operation {
    method: Method,
    path: String,
    /// The scheme it asks for, with its scopes.
    security: Value,
}

fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(millrace::http::docs::OPENAPI).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            if operation.get("responses").is_some() {
                let security = operation["security"][0].clone();
                operations.push(Operation {
                    method,
                    path: path.clone(),
                    security,
                });
            }
        }
    }
    assert!(operations.len() >= 20, "{operations:?}");
    operations
}

#[test]
fn every_route_refuses_a_key_without_its_scope() {
    run(async {
        let harness = Harness::new().await;
        for operation in operations() {
            let Operation {
                method,
                path,
                security,
            } = operation;
            let path = path
                .replace("{key_id}", "key_00000000000000000000000000")
                .replace("{id}", "ep_00000000000000000000000000")
                .replace("{name}", "nothing");
            let ask = async |key: &str| {
                harness
                    .request(method.clone(), &path, key, Value::Null)
                    .await
            };
            if let Some(scopes) = security.get("api_key") {
                let needed = scopes[0].as_str().unwrap();
                let others: Vec<_> = ALL_SCOPES.into_iter().filter(|s| *s != needed).collect();
                let key = harness.new_key(&harness.project, &others).await;
                let refused = ask(&key).await.problem(403);
                assert!(refused.contains(needed), "{method} {path}: {refused}");
                ask("").await.problem(401);
                ask("mr_nobody").await.problem(401);
                ask(ADMIN_KEY).await.problem(403);
            } else if security.get("admin_key").is_some() {
                ask("").await.problem(401);
                ask("mr_nobody").await.problem(401);
                ask(&harness.key).await.problem(403);
            } else {
                assert_eq!(
                    ask("").await.status,
                    StatusCode::OK,
                    "{method} {path} is open"
                );
            }
        }
    });
}

#[test]
fn another_projects_things_are_not_there() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let endpoint = endpoint["id"].as_str().unwrap();
        let event = harness.publish("a").await;
        harness.drain().await;
        let fetched = harness
            .get(&format!("/v1/events/{event}"))
            .await
            .expect(StatusCode::OK);
        let delivery = fetched["deliveries"][0]["id"].as_str().unwrap();
        let meter = json!({ "name": "a", "event_type": "a", "aggregation": "count" });
        let meter = harness.new_meter(meter).await;

        let since = json!({ "since": "2026-01-01T00:00:00Z" });
        let recover = format!("/v1/endpoints/{endpoint}/recover");
        let recovery = harness
            .post(&recover, since)
            .await
            .expect(StatusCode::ACCEPTED);
        let recovery = recovery["id"].as_str().unwrap();
        harness.drain().await;
        let body = json!({ "name": "a", "schema": {} });
        let registered = harness.post("/v1/event-types", body).await;
        registered.expect(StatusCode::CREATED);

        let stranger = harness.new_project(&ALL_SCOPES).await.key;
        for operation in operations() {
            let Operation {
                method,
                path,
                security,
            } = operation;
            if security.get("api_key").is_none() {
                continue;
            }
            let path = match path.as_str() {
                // Of nothing that is there.
                "/v1/events/batch" => continue,
                p if p.starts_with("/v1/events/") => p.replace("{id}", &event),
                p if p.starts_with("/v1/endpoints/") => p.replace("{id}", endpoint),
                p if p.starts_with("/v1/event-types/") => p.replace("{name}", "a"),
                p if p.starts_with("/v1/deliveries/") => p.replace("{id}", delivery),
                p if p.starts_with("/v1/meters/") => p.replace("{id}", &meter),
                p if p.starts_with("/v1/recoveries/") => p.replace("{id}", recovery),
                "/v1/deliveries" => format!("/v1/deliveries?endpoint_id={endpoint}"),
                _ => continue,
            };
            let since = "2026-01-01T00:00:00Z";
            let path = match path.rsplit('/').next().unwrap() {
                "usage" => format!("{path}?from={since}&window=month"),
                "values" => format!("{path}?from={since}&dimension=tenant"),
                "preview" => format!("{path}?kind=recover&endpoint_id={endpoint}&since={since}"),
                _ => path,
            };
            let body = match path.rsplit('/').next().unwrap() {
                "recover" | "replay-missing" => json!({ "since": "2026-01-01T00:00:00Z" }),
                "retry" if path == "/v1/deliveries/retry" => json!({
                    "since": "2026-01-01T00:00:00Z", "endpoint_id": endpoint, "state": "failed",
                }),
                _ => json!({}),
            };
            let answer = harness
                .request(method.clone(), &path, &stranger, body)
                .await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
        }
        let listed = harness
            .request(Method::GET, "/v1/events", &stranger, Value::Null)
            .await;
        assert_eq!(listed.expect(StatusCode::OK)["data"], json!([]));
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn a_project_has_so_many_keys() {
    run(async {
        let harness = Harness::new().await;
        let keys = format!("/v1/projects/{}/keys", harness.project);
        // One is the harness's own.
        let fill = "insert into api_keys (id, project_id, name, hash, hint, scopes, created_at) \
            select 'key_' || lpad(n::text, 26, '0'), $1, 'n', sha256(($1 || n)::bytea), 'h', '{}', now() \
            from generate_series(1, $2::bigint - 2) n";
        let client = harness.app.postgres.get().await.unwrap();
        client
            .query(fill, &[&harness.project.as_str(), &KEYS_MAX])
            .await
            .unwrap();
        drop(client);
        let body = json!({ "name": "a", "scopes": ["events:read"] });
        let create = async || harness.as_admin(Method::POST, &keys, body.clone()).await;
        let (one, two) = tokio::join!(create(), create());
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT]);
        let made = [one, two]
            .into_iter()
            .find(|answer| answer.status == StatusCode::CREATED);
        let made = made.unwrap().expect(StatusCode::CREATED);
        let refused = create().await.problem(409);
        assert_eq!(
            refused,
            "conflict: the project has 1000 keys, its limit: revoke one first"
        );
        let revoke = format!("{keys}/{}", made["id"].as_str().unwrap());
        let revoked = harness.as_admin(Method::DELETE, &revoke, Value::Null).await;
        revoked.expect(StatusCode::NO_CONTENT);
        create().await.expect(StatusCode::CREATED);
    });
}
