//! API keys that end by themselves, and what a key that is revoked leaves behind.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use http::{Method, Request, StatusCode};
use millrace::app;
use millrace::model::api_key::{self, Scope};
use millrace::model::audit::{Actor, AuditContext};
use millrace::model::id::{KeyId, ProjectId};
use millrace::store::api_keys::{self, ApiKey};
use millrace::store::{keys, projector};
use serde_json::{Value, json};

use crate::support::fixtures::{endpoint_path, received_types};
use crate::support::harness::{ALL_SCOPES, Answer, Harness, run};
use crate::support::receiver::Receiver;

const HOUR: Duration = Duration::from_secs(3600);

async fn create(harness: &Harness, more: Value) -> Answer {
    let mut body = json!({ "name": "ci", "scopes": ALL_SCOPES });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let path = format!("/v1/projects/{}/keys", harness.project);
    harness.as_admin(Method::POST, &path, body).await
}

async fn key(harness: &Harness) -> Value {
    create(harness, json!({})).await.expect(StatusCode::CREATED)
}

async fn listed(harness: &Harness, id: &Value) -> Value {
    let path = format!("/v1/projects/{}/keys", harness.project);
    let page = harness.as_admin(Method::GET, &path, Value::Null).await;
    let page = page.expect(StatusCode::OK);
    let rows = page["data"].as_array().unwrap();
    rows.iter().find(|row| row["id"] == *id).unwrap().clone()
}

/// A key that was made two hours ago and expired an hour later; its text.
pub async fn expired(harness: &Harness, text: &str) -> ApiKey {
    let at = app::now() - 2 * HOUR;
    let project: ProjectId = harness.project.parse().unwrap();
    let row = ApiKey {
        id: KeyId::new(at.as_millisecond(), harness.app.random()),
        project: project.clone(),
        name: "old".into(),
        hash: api_key::hash(text),
        hint: api_key::hint(text).to_owned(),
        scopes: Scope::ALL.into(),
        rate_limit: None,
        tenant: None,
        expires_at: Some(at + HOUR),
        created_at: at,
        revoked_at: None,
        version: 1,
    };
    let by = AuditContext {
        project,
        actor: Actor::Admin,
        at,
    };
    let created = api_keys::create(&harness.app.postgres, &by, row.clone()).await;
    projector::apply(
        &harness.app.postgres,
        &harness.app.projection,
        created.unwrap(),
    )
    .await;
    row
}

#[test]
fn a_key_ends_when_it_was_said_to() {
    run(async {
        let harness = Harness::new().await;
        let ends = app::now() + HOUR;
        let made = create(&harness, json!({ "expires_at": ends.to_string() })).await;
        let made = made.expect(StatusCode::CREATED);
        assert_eq!(
            (&made["state"], &made["tenant"]),
            (&json!("active"), &Value::Null)
        );
        let shown = made["expires_at"].as_str().unwrap().parse().unwrap();
        assert!(ends.duration_since(shown).unsigned_abs() < Duration::from_millis(1));
        let text = made["key"].as_str().unwrap();
        let asked = harness.request(Method::GET, "/v1/events", text, Value::Null);
        asked.await.expect(StatusCode::OK);
        // From the same instance, which has cached it, an hour later.
        let projection = &harness.app.projection;
        let at = async |now| projection.grant(api_key::hash(text), now).await.unwrap();
        assert!(at(shown - Duration::from_millis(1)).await.is_some());
        assert!(at(shown).await.is_none());
        assert!(at(shown + HOUR).await.is_none());
        assert!(at(app::now()).await.is_some());
        let row = listed(&harness, &made["id"]).await;
        assert_eq!(
            (&row["state"], &row["expires_at"]),
            (&made["state"], &made["expires_at"])
        );
    });
}

#[test]
fn an_expired_key_is_refused_by_every_route_and_listed_as_that() {
    run(async {
        let harness = Harness::new().await;
        let text = "mr_expired_0123456789";
        let row = expired(&harness, text).await;
        for path in ["/v1/events", "/v1/endpoints", "/v1/meters", "/v1/audit-log"] {
            let refused = harness.request(Method::GET, path, text, Value::Null).await;
            let refused = refused.problem(401);
            assert_eq!(refused, "unauthenticated: the API key is not known");
        }
        for (path, body) in [
            ("/v1/events", json!({ "type": "a" })),
            ("/v1/endpoints", json!({ "url": "https://example.com/" })),
        ] {
            let refused = harness
                .request(Method::POST, path, text, body.clone())
                .await;
            refused.problem(401);
            let request = Request::post(path)
                .header("authorization", format!("Bearer {text}"))
                .header("content-type", "application/json")
                .header("idempotency-key", "one");
            let refused = harness
                .send(request.body(body.to_string().into()).unwrap())
                .await;
            refused.problem(401);
        }
        // It is no project's key any more.
        let admin = harness
            .request(Method::GET, "/v1/projects", text, Value::Null)
            .await;
        admin.problem(401);
        let id = json!(row.id);
        assert_eq!(listed(&harness, &id).await["state"], "expired");
        let path = format!("/v1/projects/{}/keys/{}", harness.project, row.id);
        let revoked = harness.as_admin(Method::DELETE, &path, Value::Null).await;
        revoked.expect(StatusCode::NO_CONTENT);
        assert_eq!(listed(&harness, &id).await["state"], "revoked");
    });
}

#[test]
fn what_is_no_end_and_no_tenant_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let now = app::now();
        for wrong in [
            json!(now.to_string()),
            json!((now - HOUR).to_string()),
            json!("1970-01-01T00:00:00Z"),
            json!("2999-01-31"),
            json!("2999-01-31T00:00:00"),
            json!("tomorrow"),
            json!(""),
            json!(4_102_444_800_u64),
            json!({}),
        ] {
            let refused = create(&harness, json!({ "expires_at": wrong })).await;
            assert_eq!(refused.status, 400, "{wrong}");
            assert_eq!(refused.json["field"], "expires_at", "{wrong}");
        }
        for wrong in [
            json!(""),
            json!("x".repeat(129)),
            json!("a\u{0}b"),
            json!(5),
            json!([]),
        ] {
            let refused = create(&harness, json!({ "tenant": wrong })).await;
            assert_eq!(refused.status, 400, "{wrong}");
            assert_eq!(refused.json["field"], "tenant", "{wrong}");
        }
        let longest = "\u{e9}".repeat(128);
        for right in [
            json!({ "expires_at": null, "tenant": null }),
            json!({ "expires_at": "9999-12-30T21:59:59.999Z", "tenant": longest }),
            json!({ "expires_at": "2999-01-31T12:00:00+02:00" }),
        ] {
            let made = create(&harness, right.clone())
                .await
                .expect(StatusCode::CREATED);
            let row = listed(&harness, &made["id"]).await;
            assert_eq!(row["tenant"], right["tenant"]);
            assert_eq!(row["expires_at"].is_null(), right["expires_at"].is_null());
        }
        let path = format!("/v1/projects/{}/audit-log?limit=2", harness.project);
        let log = harness.as_admin(Method::GET, &path, Value::Null).await;
        let log = log.expect(StatusCode::OK)["data"].clone();
        assert_eq!(log[0]["after"]["expires_at"], "2999-01-31T10:00:00.000Z");
        assert_eq!(log[1]["after"]["tenant"], longest);
    });
}

/// What the version before reads of a key, in either store, are its `scopes`.
#[test]
fn a_version_that_knows_no_restrictions_grants_a_restricted_key_nothing() {
    run(async {
        let harness = Harness::new().await;
        let ends = (app::now() + HOUR).to_string();
        for (more, granted) in [
            (json!({}), ALL_SCOPES.len()),
            (json!({ "tenant": "acme" }), 0),
            (json!({ "expires_at": ends }), 0),
            (json!({ "tenant": "acme", "expires_at": ends }), 0),
        ] {
            let made = create(&harness, more).await.expect(StatusCode::CREATED);
            let client = harness.app.postgres.get().await.unwrap();
            let select = "select scopes from api_keys where id = $1";
            let id = made["id"].as_str().unwrap();
            let row = client.query_one(select, &[&id]).await.unwrap();
            drop(client);
            assert_eq!(row.get::<_, Vec<String>>("scopes").len(), granted);
            let pk = keys::key(&api_key::hash(made["key"].as_str().unwrap()));
            let dynamo = &harness.app.dynamo;
            let get = dynamo.client.get_item().table_name(&dynamo.table);
            let get = get.key("pk", AttributeValue::S(pk));
            let get = get.key("sk", AttributeValue::S(keys::KEY.into()));
            let item = get.send().await.unwrap().item.unwrap();
            let scopes = item
                .get("scopes")
                .map(|scopes| scopes.as_l().unwrap().len());
            assert_eq!(scopes.unwrap_or_default(), granted);
            // This one reads them all.
            assert_eq!(
                listed(&harness, &made["id"]).await["scopes"],
                json!(ALL_SCOPES)
            );
        }
    });
}

#[test]
fn what_an_older_version_projected_of_a_key_is_made_good() {
    run(async {
        let harness = Harness::new().await;
        let made = create(&harness, json!({ "tenant": "acme" })).await;
        let made = made.expect(StatusCode::CREATED);
        let text = made["key"].as_str().unwrap();
        let postgres = &harness.app.postgres;
        let row = api_keys::get(postgres, made["id"].as_str().unwrap()).await;
        let row = row.unwrap().unwrap();
        // It came first, and read no scopes.
        let older = ApiKey {
            scopes: vec![],
            tenant: None,
            ..row.clone()
        };
        let projection = &harness.app.projection;
        projection.put_key(&older).await.unwrap();
        let get = async || {
            let asked = harness.request(Method::GET, "/v1/events", text, Value::Null);
            asked.await
        };
        get().await.problem(403);
        projection.put_key(&row).await.unwrap();
        get().await.expect(StatusCode::OK);
    });
}

/// Revokes `key`; the status and the answer.
async fn revoke(harness: &Harness, key: &Value, query: &str) -> Answer {
    let (project, id) = (&harness.project, key["id"].as_str().unwrap());
    let path = format!("/v1/projects/{project}/keys/{id}{query}");
    harness.as_admin(Method::DELETE, &path, Value::Null).await
}

async fn send(harness: &Harness, key: &Value, method: Method, path: &str, body: Value) -> Value {
    let key = key["key"].as_str().unwrap();
    let answer = harness.request(method, path, key, body).await;
    assert!(answer.status.is_success(), "{path}: {}", answer.status);
    answer.json
}

/// The ids that an answer names, with their states.
fn left(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = answer["endpoints"].as_array().unwrap().iter();
    let mut left: Vec<_> = rows
        .map(|row| (text(&row["id"]), text(&row["state"])))
        .collect();
    left.sort_unstable();
    left
}

struct Made {
    leaked: Value,
    /// Endpoints that are the key's by one way or another.
    of_key: Vec<Value>,
    /// Those that it may have touched and that are others'.
    others: Vec<Value>,
}

/// Endpoints of a key, and of others, at `url`.
async fn make(harness: &Harness, url: &str) -> Made {
    let (leaked, other) = (key(harness).await, key(harness).await);
    let body = |path: &str| json!({ "url": format!("{url}/{path}"), "event_types": ["order"] });
    let create = async |key: &Value, path: &str| {
        send(harness, key, Method::POST, "/v1/endpoints", body(path)).await
    };
    let patch = async |key: &Value, endpoint: &Value, body: Value| {
        send(harness, key, Method::PATCH, &endpoint_path(endpoint), body).await
    };
    let created = create(&leaked, "created").await;
    let put = send(
        harness,
        &leaked,
        Method::PUT,
        "/v1/endpoints/put",
        body("put"),
    )
    .await;
    // Its maker's, wherever it goes since.
    let moved = create(&leaked, "moved").await;
    patch(&other, &moved, body("moved/on")).await;
    // Another's, until its URL was set.
    let taken = create(&other, "taken").await;
    patch(&leaked, &taken, body("taken/over")).await;
    let replaced = create(&other, "replaced").await;
    let path = endpoint_path(&replaced);
    send(harness, &leaked, Method::PUT, &path, body("replaced/by")).await;
    // Described since by another, which is no new URL.
    patch(&other, &taken, json!({ "description": "ours" })).await;

    let untouched = create(&other, "untouched").await;
    let described = create(&other, "described").await;
    patch(&leaked, &described, json!({ "description": "mine" })).await;
    let same = create(&other, "same").await;
    patch(&leaked, &same, body("same")).await;
    let back = create(&other, "back").await;
    patch(&leaked, &back, body("back/not")).await;
    patch(&other, &back, body("back")).await;
    let deleted = create(&leaked, "deleted").await;
    harness.delete(&endpoint_path(&deleted)).await;
    Made {
        leaked,
        of_key: vec![created, put, moved, taken, replaced],
        others: vec![untouched, described, same, back],
    }
}

fn ids(endpoints: &[Value], state: &str) -> Vec<(String, String)> {
    let id = |endpoint: &Value| endpoint["id"].as_str().unwrap().to_owned();
    let mut ids: Vec<_> = endpoints
        .iter()
        .map(|e| (id(e), state.to_owned()))
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_revocation_tells_of_the_endpoints_that_go_on() {
    run(async {
        let harness = Harness::new().await;
        let made = make(&harness, "https://example.com").await;
        for query in ["", "?endpoints=keep"] {
            let answer = revoke(&harness, &made.leaked, query).await;
            let answer = answer.expect(StatusCode::OK);
            assert_eq!(answer["id"], made.leaked["id"]);
            assert_eq!(left(&answer), ids(&made.of_key, "enabled"));
            assert_eq!(answer["has_more"], false);
        }
        // A key that left nothing.
        let unused = key(&harness).await;
        revoke(&harness, &unused, "")
            .await
            .expect(StatusCode::NO_CONTENT);
        let again = revoke(&harness, &unused, "?endpoints=disable").await;
        again.expect(StatusCode::NO_CONTENT);
        for wrong in ["?endpoints=delete", "?endpoints=", "?endpoint=keep"] {
            assert_eq!(
                revoke(&harness, &unused, wrong).await.status,
                400,
                "{wrong}"
            );
        }
    });
}

#[test]
fn what_a_leaked_key_made_can_be_disabled_with_it() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let listener = Receiver::start([]).await;
        let told = ["millrace.endpoint.disabled"];
        harness.endpoint(&listener.url, &told).await;
        let made = make(&harness, &receiver.url).await;
        harness.drain().await;
        let off = json!({ "state": "disabled" });
        let off = harness.patch(&endpoint_path(&made.of_key[0]), off).await;
        off.expect(StatusCode::OK);
        harness.drain().await;
        let answer = revoke(&harness, &made.leaked, "?endpoints=disable").await;
        let answer = answer.expect(StatusCode::OK);
        assert_eq!(left(&answer), ids(&made.of_key, "disabled"));
        let asked = key_request(&harness, &made.leaked).await;
        asked.problem(401);
        for endpoint in &made.of_key {
            let fetched = harness.get(&endpoint_path(endpoint)).await;
            assert_eq!(fetched.expect(StatusCode::OK)["state"], "disabled");
        }
        for endpoint in &made.others {
            let fetched = harness.get(&endpoint_path(endpoint)).await;
            assert_eq!(fetched.expect(StatusCode::OK)["state"], "enabled");
        }
        // The data plane knows it too.
        harness.publish("order").await;
        harness.drain().await;
        let mut paths: Vec<_> = receiver.received().into_iter().map(|r| r.path).collect();
        paths.sort_unstable();
        assert_eq!(
            paths.join(" "),
            "/hook/back /hook/described /hook/same /hook/untouched"
        );
        assert_eq!(received_types(&listener), [told[0]; 5]);
        // Each has its entry, and again changes nothing.
        let entries = async || {
            let path = format!("/v1/projects/{}/audit-log?limit=100", harness.project);
            let log = harness.as_admin(Method::GET, &path, Value::Null).await;
            log.expect(StatusCode::OK)["data"]
                .as_array()
                .unwrap()
                .clone()
        };
        let log = entries().await;
        let by_admin =
            |entry: &&Value| entry["actor"] == "admin" && entry["action"] == "endpoint.update";
        let disabled: Vec<_> = log.iter().filter(by_admin).collect();
        assert_eq!(disabled.len(), 4);
        for entry in disabled {
            assert_eq!(entry["after"], json!({ "state": "disabled" }));
        }
        let again = revoke(&harness, &made.leaked, "?endpoints=disable").await;
        assert_eq!(
            left(&again.expect(StatusCode::OK)),
            ids(&made.of_key, "disabled")
        );
        assert_eq!(entries().await.len(), log.len());
    });
}

async fn key_request(harness: &Harness, key: &Value) -> Answer {
    let key = key["key"].as_str().unwrap();
    harness
        .request(Method::GET, "/v1/events", key, Value::Null)
        .await
}

#[test]
fn a_key_of_very_many_endpoints_is_revoked_with_a_hundred_at_a_time() {
    run(async {
        let harness = Harness::new().await;
        let leaked = key(&harness).await;
        for n in 0..102 {
            let body =
                json!({ "url": format!("https://example.com/{n}"), "event_types": ["never"] });
            send(&harness, &leaked, Method::POST, "/v1/endpoints", body).await;
        }
        let kept = revoke(&harness, &leaked, "").await.expect(StatusCode::OK);
        assert_eq!((left(&kept).len(), &kept["has_more"]), (100, &json!(true)));
        let first = revoke(&harness, &leaked, "?endpoints=disable").await;
        let first = first.expect(StatusCode::OK);
        assert_eq!(
            (left(&first).len(), &first["has_more"]),
            (100, &json!(true))
        );
        assert!(left(&first).iter().all(|(_, state)| state == "disabled"));
        let then = revoke(&harness, &leaked, "?endpoints=disable").await;
        let then = then.expect(StatusCode::OK);
        assert_eq!(then["has_more"], false);
        let mut enabled = 0;
        let mut path = "/v1/endpoints?limit=100".to_owned();
        loop {
            let page = harness.get(&path).await.expect(StatusCode::OK);
            let rows = page["data"].as_array().unwrap();
            enabled += rows.iter().filter(|row| row["state"] == "enabled").count();
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            path = format!("/v1/endpoints?limit=100&cursor={cursor}");
        }
        assert_eq!(enabled, 0);
    });
}
