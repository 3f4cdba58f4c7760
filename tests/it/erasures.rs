//! Erasures: what is left after one is what docs/erasure.md names, and others' things
//! are as they were.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use http::{Method, StatusCode};
use jiff::Timestamp;
use millrace::app;
use millrace::config::Config;
#[cfg(feature = "embedded")]
use millrace::jobs::fan_out;
use millrace::jobs::recover::archive;
use millrace::jobs::{activity, erase};
use millrace::model::access::Access;
use millrace::model::erasure::ErasureState;
use millrace::model::event::{Event, PlainDefaults, parse_plain};
use millrace::model::id::{DeliveryId, ErasureId, EventId};
use millrace::model::recovery::Day;
use millrace::store::accept::{self, Plan};
use millrace::store::deliveries::{self, NewDelivery};
use millrace::store::erasures;
use millrace::store::events::{self, NewEvent};
use millrace::store::objects::Objects;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::bucket::{self, Bucket};
use crate::support::fixtures::{
    config_without_retries, create_endpoint, forget_queue, seconds_ago,
};
#[cfg(feature = "embedded")]
use crate::support::gate::Gate;
use crate::support::harness::{ALL_SCOPES, Builder, Harness, Project, config, run};
use crate::support::receiver::{Receiver, Reply};
use crate::support::sigv4;
use crate::support::stores::{self, ReadableDynamo};

/// What no value of a test has but the one to be erased.
const MARKER: &str = "erase-this-marker";
/// The same of another test: rows of usage do not say whose they are.
const TENANT: &str = "erase-this-tenant";

/// A harness on an event store all of which can be read.
struct Searched {
    harness: Harness,
    store: ReadableDynamo,
}

impl Searched {
    async fn new() -> Self {
        Self::of(Harness::builder()).await
    }

    async fn of(builder: Builder) -> Self {
        let store = stores::readable_dynamo();
        let harness = builder.dynamo(store.dynamo.clone()).build().await;
        Self { harness, store }
    }
}

/// Every row of the control plane but the audit log's, as text after its table's name.
async fn rows(harness: &Harness) -> BTreeSet<String> {
    let client = harness.app.postgres.get().await.unwrap();
    let tables = "select table_name::text from information_schema.tables \
        where table_schema = 'public' and table_type = 'BASE TABLE'";
    let mut found = BTreeSet::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let table: &str = table.get(0);
        if table == "audit_log" {
            continue;
        }
        let rows = format!("select t::text from {table} t");
        for row in client.query(&rows, &[]).await.unwrap() {
            found.insert(format!("{table}: {}", row.get::<_, &str>(0)));
        }
    }
    found
}

fn containing(all: &BTreeSet<String>, parts: &[&str]) -> BTreeSet<String> {
    let has_part = |text: &&String| parts.iter().any(|part| text.contains(part));
    all.iter().filter(has_part).cloned().collect()
}

/// Fails if anything but `kept` is left that contains one of `parts`.
async fn assert_erased(searched: &Searched, parts: &[&str], kept: &[&str]) {
    for left in [searched.store.rows().await, rows(&searched.harness).await] {
        let mut left = containing(&left, parts);
        left.retain(|text| !kept.iter().any(|kept| text.contains(kept)));
        assert!(left.is_empty(), "{left:#?}");
    }
}

fn id_of(erasure: &Value) -> ErasureId {
    erasure["id"].as_str().unwrap().parse().unwrap()
}

/// The erasure as whoever has the admin key sees it.
async fn shown(harness: &Harness, erasure: &Value) -> Value {
    let (project, id) = (&erasure["project_id"], &erasure["id"]);
    let path = format!(
        "/v1/projects/{}/erasures/{}",
        project.as_str().unwrap(),
        id.as_str().unwrap()
    );
    let shown = harness.as_admin(Method::GET, &path, Value::Null).await;
    shown.expect(StatusCode::OK)
}

/// Goes on with the erasure at `now` until there is nothing to do then.
async fn go_on(harness: &Harness, erasure: &Value, mut now: Timestamp) -> Timestamp {
    while Box::pin(erase::run(&harness.app, &id_of(erasure), now))
        .await
        .unwrap()
    {
        now += Duration::from_secs(10);
    }
    now
}

/// Lets time pass until the erasure is done; the erasure.
async fn finish(harness: &Harness, erasure: &Value) -> Value {
    let mut now = app::now();
    for _ in 0..100 {
        now = go_on(harness, erasure, now).await;
        let shown = shown(harness, erasure).await;
        if shown["state"] == "done" {
            assert_ne!(shown["finished_at"], Value::Null);
            return shown;
        }
        now += Duration::from_secs(60);
    }
    panic!("it never ends");
}

async fn erase_tenant(harness: &Harness, tenant: &str) -> Value {
    let erased = harness.delete(&format!("/v1/tenants/{tenant}")).await;
    erased.expect(StatusCode::ACCEPTED)
}

async fn erase_event(harness: &Harness, event: &str) -> Value {
    let erased = harness.delete(&format!("/v1/events/{event}")).await;
    erased.expect(StatusCode::ACCEPTED)
}

async fn erase_project(harness: &Harness, project: &str) -> Value {
    let path = format!("/v1/projects/{project}");
    let erased = harness.as_admin(Method::DELETE, &path, Value::Null).await;
    erased.expect(StatusCode::ACCEPTED)
}

/// A project with some of everything that is kept of one: counted and uncounted events
/// of a tenant and of none, delivered and failed, endpoints that live and that are
/// deleted, recoveries, a back-fill, event types. `tenant` is all over it.
async fn furnish(harness: &Harness, key: &str, url: &str, tenant: &str) -> Vec<String> {
    let post = async |path: &str, body: Value| {
        let answer = harness.request(Method::POST, path, key, body).await;
        assert!(answer.status.is_success(), "{:?}", answer.json);
        answer.json
    };
    let all = json!({ "url": url, "event_types": ["*"], "description": tenant });
    let all = post("/v1/endpoints", all).await;
    let one = json!({
        "url": format!("{url}?{tenant}"), "event_types": ["*"], "tenant": tenant,
        "rate_limit": 100, "uid": tenant, "headers": { "x-key": tenant },
    });
    let one = post("/v1/endpoints", one).await;
    let former = json!({ "url": url, "event_types": ["x"], "tenant": tenant });
    let former = post("/v1/endpoints", former).await;
    let path = format!("/v1/endpoints/{}", former["id"].as_str().unwrap());
    let deleted = harness
        .request(Method::DELETE, &path, key, Value::Null)
        .await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let schema = json!({ "title": tenant });
    let event_type = json!({ "name": "erased.type", "schema": schema, "validate": "warn" });
    post("/v1/event-types", event_type).await;
    let meters = [
        json!({ "name": "unique", "event_type": "a.*", "aggregation": "unique_count",
            "value": "/n", "group_by": ["/who"] }),
        json!({ "name": "all", "event_type": "*", "aggregation": "count" }),
    ];
    let mut meter = Value::Null;
    for body in meters {
        meter = post("/v1/meters", body).await;
    }
    let mut ids = vec![];
    for tenant in [Some(tenant), None, Some("other")] {
        for n in 0..3 {
            let mut event = json!({
                "type": "a.b", "subject": tenant,
                "data": { "n": n, "who": tenant, "text": tenant },
            });
            match tenant {
                Some(tenant) => event["tenant"] = tenant.into(),
                None => drop(event.as_object_mut().unwrap().remove("subject")),
            }
            ids.push(
                post("/v1/events", event).await["id"]
                    .as_str()
                    .unwrap()
                    .into(),
            );
        }
        harness.drain().await;
        harness.meter().await;
    }
    let path = format!("/v1/endpoints/{}/recover", all["id"].as_str().unwrap());
    post(&path, json!({ "since": seconds_ago(3600) })).await;
    let retry = json!({
        "endpoint_id": one["id"], "state": "failed", "since": seconds_ago(3600),
        "tenant": tenant,
    });
    post("/v1/deliveries/retry", retry).await;
    let path = format!("/v1/meters/{}/backfill", meter["id"].as_str().unwrap());
    post(&path, json!({ "since": seconds_ago(3600) })).await;
    harness.drain().await;
    // Not counted, and waiting for a retry.
    let last = json!({ "type": "a.c", "tenant": tenant, "data": { "n": 9, "who": tenant } });
    ids.push(
        post("/v1/events", last).await["id"]
            .as_str()
            .unwrap()
            .into(),
    );
    harness.drain().await;
    activity::flush(&harness.app).await;
    ids
}

/// The tenant's endpoints fail once each.
fn failing() -> Vec<Reply> {
    vec![Reply::Status(500); 4]
}

#[test]
fn nothing_is_left_of_a_project_and_others_are_as_they_were() {
    run(async {
        let receiver = Receiver::start(failing()).await;
        let searched = Searched::new().await;
        let harness = &searched.harness;
        let other = harness.new_project(&ALL_SCOPES).await;
        let others = furnish(harness, &other.key, &receiver.url, MARKER).await;
        // Nothing of it is left to do for whoever else sweeps and counts in these stores.
        harness.sweep_after(Duration::from_secs(60)).await;
        harness.meter().await;
        let Project { id, key } = harness.new_project(&ALL_SCOPES).await;
        let events = furnish(harness, &key, &receiver.url, MARKER).await;
        let path = format!("/v1/projects/{id}/keys");
        let keys = harness.as_admin(Method::GET, &path, Value::Null).await;
        let key_id = keys.expect(StatusCode::OK)["data"][0]["id"].clone();
        let mut of_others = vec![other.id.as_str(), harness.project.as_str()];
        of_others.extend(others.iter().map(String::as_str));
        let before = [searched.store.rows().await, rows(harness).await];
        let before = before.map(|all| containing(&all, &of_others));
        assert!(before[0].len() > 30 && before[1].len() > 10);

        let erasure = erase_project(harness, &id).await;
        assert_eq!(erasure["kind"], "project");
        assert_eq!(erasure["state"], "running");
        // Its keys stop at once, and the same is asked for again to no effect.
        let refused = harness.request(Method::GET, "/v1/events", &key, Value::Null);
        assert_eq!(refused.await.status, StatusCode::UNAUTHORIZED);
        let again = erase_project(harness, &id).await;
        assert_eq!(again["id"], erasure["id"]);
        for path in ["", "/keys"] {
            let path = format!("/v1/projects/{id}{path}");
            let gone = harness.as_admin(Method::GET, &path, Value::Null).await;
            assert_eq!(gone.status, StatusCode::NOT_FOUND, "{path}");
        }
        // Who erased it can be read.
        let path = format!("/v1/projects/{id}/audit-log");
        let log = harness.as_admin(Method::GET, &path, Value::Null).await;
        let newest = log.expect(StatusCode::OK)["data"][0].clone();
        let (action, actor) = (json!("project.erase"), json!("admin"));
        assert_eq!((&newest["action"], &newest["actor"]), (&action, &actor));
        let path = format!("{path}?subject=nothing");
        let none = harness.as_admin(Method::GET, &path, Value::Null).await;
        assert_eq!(none.expect(StatusCode::OK)["data"], json!([]));
        let path = format!("/v1/projects/{id}/keys");
        let key = json!({ "name": "late", "scopes": ["events:read"] });
        let refused = harness.as_admin(Method::POST, &path, key).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND);

        let done = finish(harness, &erasure).await;
        let progress = &done["progress"];
        assert_eq!(progress["events"], events.len(), "{progress}");
        assert_eq!(progress["endpoints"], 2, "{progress}");
        assert_eq!(progress["recoveries"], 2, "{progress}");
        for counted in ["deliveries", "readings", "usage_rows"] {
            assert!(progress[counted].as_u64().unwrap() > 0, "{progress}");
        }
        let mut erased = vec![id.as_str(), key_id.as_str().unwrap()];
        erased.extend(events.iter().map(String::as_str));
        // What is left is what docs/erasure.md names.
        let left = containing(&searched.store.rows().await, &erased);
        let marker = [format!("project#{id}"), "erased".to_owned()];
        let is_marker = |row: &String| marker.iter().all(|part| row.contains(part));
        assert!(!left.is_empty() && left.iter().all(is_marker), "{left:#?}");
        let left = containing(&rows(harness).await, &erased);
        let is_record = |row: &String| row.starts_with("erasures: ");
        assert!(left.iter().all(is_record), "{left:#?}");
        let after = [searched.store.rows().await, rows(harness).await];
        let after = after.map(|all| containing(&all, &of_others));
        assert_eq!(before, after);

        let path = format!("/v1/projects/{id}");
        let gone = harness.as_admin(Method::DELETE, &path, Value::Null).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        let path = format!("/v1/projects/{id}/erasures");
        let list = harness.as_admin(Method::GET, &path, Value::Null).await;
        let list = list.expect(StatusCode::OK);
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
        let client = harness.app.postgres.get().await.unwrap();
        let entries = "select action from audit_log where project_id = $1 order by id desc limit 1";
        let last = client.query_one(entries, &[&id]).await.unwrap();
        assert_eq!(last.get::<_, &str>(0), "erasure.finish");
    });
}

#[test]
fn nothing_is_left_of_a_tenant_and_its_project_goes_on() {
    run(async {
        let receiver = Receiver::start(failing()).await;
        let searched = Searched::new().await;
        let harness = &searched.harness;
        let events = furnish(harness, &harness.key, &receiver.url, TENANT).await;
        let [of_tenant, rest] = [&events[..3], &events[3..9]];
        let erasure = erase_tenant(harness, TENANT).await;
        assert_eq!(erasure["tenant"], TENANT);
        let again = erase_tenant(harness, TENANT).await;
        assert_eq!(again["id"], erasure["id"]);
        // It comes back: what comes later stays.
        let later = json!({ "type": "later", "tenant": "returned", "data": {} });
        let later = harness.publish_body(later).await;
        harness.drain().await;

        let done = finish(harness, &erasure).await;
        assert_eq!(done["tenant"], Value::Null);
        assert_eq!(done["progress"]["events"], 4, "{done}");
        assert_eq!(done["progress"]["endpoints"], 1, "{done}");
        assert_eq!(done["progress"]["recoveries"], 1, "{done}");
        assert!(
            done["progress"]["usage_rows"].as_u64().unwrap() > 0,
            "{done}"
        );
        let mut erased = vec![of_tenant[0].as_str(), of_tenant[1].as_str()];
        erased.extend([of_tenant[2].as_str(), events[9].as_str(), TENANT]);
        // The other endpoint's description and the schema are the project's own; that an
        // event was counted is remembered by its id.
        let kept = ["event_type", "usage_seen", "endpoints: (", "schema"];
        assert_erased(&searched, &erased, &kept).await;
        let own = containing(&rows(harness).await, &[&harness.project]);
        let own = containing(&own, &[TENANT]);
        let endpoints = own.iter().filter(|row| row.starts_with("endpoints: "));
        assert_eq!(endpoints.count(), 1, "{own:#?}");
        for event in rest.iter().chain([&later]) {
            let path = format!("/v1/events/{event}");
            let kept = harness.get(&path).await.expect(StatusCode::OK);
            assert_eq!(kept["deliveries"].as_array().unwrap().len(), 1, "{kept}");
        }
        let listed = harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
        let again = erase_tenant(harness, TENANT).await;
        assert_ne!(again["id"], erasure["id"]);
        let done = finish(harness, &again).await;
        assert_eq!(done["progress"]["events"], 0);
    });
}

#[test]
fn what_a_tenant_publishes_after_its_erasure_began_stays() {
    run(async {
        let receiver = Receiver::start([]).await;
        let harness = Harness::new().await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = json!({ "type": "a", "tenant": "acme", "data": {} });
        let before = harness.publish_body(event.clone()).await;
        harness.drain().await;
        let erasure = erase_tenant(&harness, "acme").await;
        let own = json!({ "url": receiver.url, "event_types": ["*"], "tenant": "acme" });
        let own = create_endpoint(&harness, own).await;
        let after = harness.publish_body(event).await;
        harness.drain().await;
        finish(&harness, &erasure).await;
        let gone = harness.get(&format!("/v1/events/{before}")).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        let kept = harness.get(&format!("/v1/events/{after}")).await;
        let kept = kept.expect(StatusCode::OK);
        assert_eq!(kept["deliveries"].as_array().unwrap().len(), 2, "{kept}");
        let path = format!("/v1/endpoints/{}", own["id"].as_str().unwrap());
        harness.get(&path).await.expect(StatusCode::OK);
    });
}

#[test]
fn an_event_goes_with_its_deliveries_and_may_come_again() {
    run(async {
        let receiver = Receiver::start([Reply::Status(500)]).await;
        let searched = Searched::new().await;
        let harness = &searched.harness;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness
            .new_meter(json!({ "name": "n", "event_type": "*", "aggregation": "count" }))
            .await;
        let body = json!({
            "type": "a", "id": "1", "source": "/s", "subject": MARKER, "data": MARKER,
        });
        let event = harness.publish_body(body.clone()).await;
        let other = harness.publish("a").await;
        harness.drain().await;
        let erasure = erase_event(harness, &event).await;
        assert_eq!(erasure["event_id"], event.as_str());
        assert_eq!(erase_event(harness, &event).await["id"], erasure["id"]);
        go_on(harness, &erasure, app::now()).await;
        // Long before it is done.
        let shown = shown(harness, &erasure).await;
        assert_eq!(shown["state"], "settling");
        assert_erased(&searched, &[&event, MARKER], &["erasures: "]).await;
        let gone = harness.get(&format!("/v1/events/{event}")).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        // Its retry finds nothing to do.
        let sent = receiver.received().len();
        harness.sweep_after(Duration::from_secs(86_400)).await;
        assert_eq!(receiver.received().len(), sent);

        let done = finish(harness, &erasure).await;
        let progress = &done["progress"];
        for (counted, count) in [("events", 1), ("deliveries", 1), ("readings", 1)] {
            assert_eq!(progress[counted], count, "{progress}");
        }
        harness
            .get(&format!("/v1/events/{other}"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(harness.publish_body(body).await, event);
        harness.drain().await;
        let gone = harness
            .delete(&format!("/v1/events/evt_{}", "0".repeat(32)))
            .await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn an_event_that_is_published_again_stays_unless_that_is_erased_too() {
    run(async {
        let receiver = Receiver::start([]).await;
        let harness = Harness::new().await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let body = json!({ "type": "a", "id": "1", "source": "/s", "data": {} });
        let event = harness.publish_body(body.clone()).await;
        harness.drain().await;
        let path = format!("/v1/events/{event}");
        let erasure = erase_event(&harness, &event).await;
        go_on(&harness, &erasure, app::now()).await;
        assert_eq!(harness.publish_body(body.clone()).await, event);
        harness.drain().await;
        let done = finish(&harness, &erasure).await;
        assert_eq!(done["progress"]["events"], 1, "{done}");
        let kept = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(kept["deliveries"].as_array().unwrap().len(), 1, "{kept}");

        let erasure = erase_event(&harness, &event).await;
        go_on(&harness, &erasure, app::now()).await;
        assert_eq!(harness.publish_body(body).await, event);
        harness.drain().await;
        let again = erase_event(&harness, &event).await;
        assert_eq!(again["id"], erasure["id"]);
        assert_eq!(again["state"], "running");
        let done = finish(&harness, &erasure).await;
        assert_eq!(done["progress"]["events"], 2, "{done}");
        assert_eq!(harness.get(&path).await.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn a_tenant_erased_again_before_it_is_done_loses_what_came_since() {
    run(async {
        let harness = Harness::new().await;
        let erasure = erase_tenant(&harness, "hasty").await;
        let id = id_of(&erasure);
        let now = app::now();
        let postgres = &harness.app.postgres;
        let lease = now + Duration::from_secs(180);
        let claimed = erasures::claim(postgres, &id, now, lease).await.unwrap();
        let body = json!({ "type": "a", "tenant": "hasty", "data": {} });
        let between = harness.publish_body(body).await;
        harness.drain().await;
        let again = erase_tenant(&harness, "hasty").await;
        assert_eq!(again["id"], erasure["id"]);
        // Whoever was at it goes on no more.
        let claimed = claimed.unwrap();
        let (next, progress) = (claimed.after(None), &claimed.progress);
        let advanced = erasures::advance(postgres, &claimed, progress, &next, now, now).await;
        assert!(!advanced.unwrap());
        go_on(&harness, &erasure, app::now()).await;
        assert_eq!(shown(&harness, &erasure).await["state"], "settling");
        assert_eq!(erase_tenant(&harness, "hasty").await["state"], "running");
        let done = finish(&harness, &erasure).await;
        assert_eq!(done["progress"]["events"], 1, "{done}");
        let gone = harness.get(&format!("/v1/events/{between}")).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    });
}

/// Erasures of tenants `t1`, `t2`, … of a project, due in the far future.
async fn schedule(harness: &Harness, project: &str, count: i32, due: &str) -> Vec<ErasureId> {
    let insert = "insert into erasures \
        (id, project_id, kind, subject, state, step, created_at, updated_at, due_at) \
        select 'ers_' || substr($1, 5, 23) || lpad(n::text, 3, '0'), $1, 'tenant', 't' || n, \
            'running', 'keys', now(), now(), $3::text::timestamptz \
        from generate_series(1, $2) n returning id";
    let client = harness.app.postgres.get().await.unwrap();
    let rows = client.query(insert, &[&project, &count, &due]).await;
    let id = |row: tokio_postgres::Row| row.get::<_, &str>(0).parse().unwrap();
    rows.unwrap().into_iter().map(id).collect()
}

#[test]
fn a_project_has_so_many_erasures_under_way_and_holds_up_no_other() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.new_project(&["events:read"]).await;
        let many = schedule(&harness, &harness.project, 100, "2999-01-01T00:00:00Z").await;
        let one = schedule(&harness, &other.id, 1, "2999-02-01T00:00:00Z").await;
        let then = "2999-03-01T00:00:00Z".parse().unwrap();
        let postgres = &harness.app.postgres;
        let due = erasures::due(postgres, then, 100_000).await.unwrap();
        let place = |id: &ErasureId| due.iter().position(|due| due == id).unwrap();
        let before = many.iter().filter(|id| place(id) < place(&one[0]));
        assert_eq!(before.count(), 1);

        let refused = harness.delete("/v1/tenants/one-more").await.problem(409);
        let expected = "conflict: 100 erasures of the project are under way: wait for one";
        assert_eq!(refused, expected);
        let event = harness.publish("a").await;
        let refused = harness.delete(&format!("/v1/events/{event}")).await;
        refused.problem(409);
        // What is under way can be asked for again, and the project erased.
        let again = erase_tenant(&harness, "t7").await;
        assert_eq!(id_of(&again), many[6]);
        erase_project(&harness, &harness.project).await;
        forget_queue(&harness);
    });
}

#[test]
fn a_tenants_keys_end_with_it() {
    run(async {
        let searched = Searched::new().await;
        let harness = &searched.harness;
        let path = format!("/v1/projects/{}/keys", harness.project);
        let key_for = async |tenant: &str| {
            let key = json!({ "name": "a", "scopes": ["events:read"], "tenant": tenant });
            let made = harness.as_admin(Method::POST, &path, key).await;
            made.expect(StatusCode::CREATED)
        };
        let own = key_for("erase-these-keys").await;
        let other = key_for("another").await;
        let status_of = async |key: &Value| {
            let key = key["key"].as_str().unwrap();
            let answer = harness.request(Method::GET, "/v1/events", key, Value::Null);
            answer.await.status.as_u16()
        };
        assert_eq!((status_of(&own).await, status_of(&other).await), (200, 200));
        let erasure = erase_tenant(harness, "erase-these-keys").await;
        go_on(harness, &erasure, app::now()).await;
        assert_eq!((status_of(&own).await, status_of(&other).await), (401, 200));
        let later = key_for("erase-these-keys").await;
        finish(harness, &erasure).await;
        assert_eq!((status_of(&own).await, status_of(&later).await), (401, 200));
        let id = own["id"].as_str().unwrap();
        assert_erased(&searched, &[id], &[]).await;
    });
}

#[test]
fn a_tenant_of_any_length_is_erased() {
    run(async {
        let harness = Harness::new().await;
        let tenant = "x".repeat(9_000);
        let event = harness.post("/v1/events", json!({ "type": "a", "tenant": tenant }));
        let event = event.await.expect(StatusCode::ACCEPTED);
        let meter = json!({ "name": "all", "event_type": "*", "aggregation": "count" });
        let meter = harness.post("/v1/meters", meter).await;
        let meter = meter.expect(StatusCode::CREATED);
        let counted = json!({ "type": "a", "tenant": tenant, "id": "counted" });
        harness.post("/v1/events", counted).await;
        harness.drain().await;
        harness.meter().await;
        let usage = format!(
            "/v1/meters/{}/usage?from={}",
            meter["id"].as_str().unwrap(),
            seconds_ago(3600)
        );
        let before = harness.get(&usage).await.expect(StatusCode::OK);
        assert_eq!(before["data"][0]["value"], 1);
        let erasure = erase_tenant(&harness, &tenant).await;
        assert_eq!(erase_tenant(&harness, &tenant).await["id"], erasure["id"]);
        let done = finish(&harness, &erasure).await;
        assert_eq!(done["progress"]["events"], 2, "{done}");
        // Of the minute and of the quarter of an hour.
        assert_eq!(done["progress"]["usage_rows"], 2, "{done}");
        let after = harness.get(&usage).await.expect(StatusCode::OK);
        assert_eq!(after["data"], json!([]));
        let path = format!("/v1/events/{}", event["id"].as_str().unwrap());
        assert_eq!(harness.get(&path).await.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn whoever_erases_needs_the_scopes_for_it() {
    run(async {
        let harness = Harness::new().await;
        let event = harness.publish("a").await;
        harness.drain().await;
        let project = harness.project.clone();
        let tries = [
            ("events:read", format!("/v1/events/{event}"), 403),
            ("endpoints:write", format!("/v1/events/{event}"), 403),
            ("events:write", "/v1/tenants/acme".into(), 403),
            ("endpoints:write", "/v1/tenants/acme".into(), 403),
            ("events:write", format!("/v1/projects/{project}"), 403),
        ];
        for (scope, path, status) in tries {
            let key = harness.new_key(&project, &[scope]).await;
            let refused = harness.request(Method::DELETE, &path, &key, Value::Null);
            assert_eq!(refused.await.status.as_u16(), status, "{scope} {path}");
        }
        let key = harness.new_key(&project, &["events:write"]).await;
        let refused = harness.request(Method::GET, "/v1/erasures", &key, Value::Null);
        assert_eq!(refused.await.status, StatusCode::FORBIDDEN);
        let refused = harness.as_admin(Method::DELETE, "/v1/tenants/acme", Value::Null);
        assert_eq!(refused.await.status, StatusCode::FORBIDDEN);
        // Another's event is not there.
        let other = harness.new_project(&ALL_SCOPES).await;
        let path = format!("/v1/events/{event}");
        let hidden = harness.request(Method::DELETE, &path, &other.key, Value::Null);
        assert_eq!(hidden.await.status, StatusCode::NOT_FOUND);
        let nobody = "/v1/projects/prj_00000000000000000000000000";
        let gone = harness.as_admin(Method::DELETE, nobody, Value::Null).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
        for tenant in ["%00", "%0A"] {
            let refused = harness.delete(&format!("/v1/tenants/{tenant}")).await;
            assert!(refused.problem(400).contains("invalid"), "{tenant}");
        }
        let begun = erase_tenant(&harness, "%C3%A9%20%2F").await;
        assert_eq!(begun["tenant"], "é /");
        let path = format!("/v1/erasures/{}", begun["id"].as_str().unwrap());
        let hidden = harness.request(Method::GET, &path, &other.key, Value::Null);
        assert_eq!(hidden.await.status, StatusCode::NOT_FOUND);
        harness.get(&path).await.expect(StatusCode::OK);
        erase_tenant(&harness, "b").await;
        let first = harness
            .get("/v1/erasures?limit=1")
            .await
            .expect(StatusCode::OK);
        assert_eq!(first["data"][0]["tenant"], "b");
        let cursor = first["next_cursor"].as_str().unwrap();
        let next = harness
            .get(&format!("/v1/erasures?limit=1&cursor={cursor}"))
            .await;
        let next = next.expect(StatusCode::OK);
        assert_eq!(next["data"][0]["id"], begun["id"]);
        assert_eq!(next["next_cursor"], Value::Null);
        let refused = harness.get("/v1/erasures?cursor=eA").await.problem(400);
        assert!(refused.contains("next_cursor"), "{refused}");
    });
}

#[test]
fn an_attempt_under_way_brings_nothing_back() {
    run(async {
        for status in [200, 500, 410] {
            let release = Arc::new(Notify::new());
            let receiver = Receiver::start([Reply::When(release.clone(), status)]).await;
            let searched = Searched::new().await;
            let harness = &searched.harness;
            harness.endpoint(&receiver.url, &["*"]).await;
            let event = harness.publish("a").await;
            tokio::join!(harness.drain(), async {
                receiver.reached(1).await;
                let erasure = erase_event(harness, &event).await;
                go_on(harness, &erasure, app::now()).await;
                release.notify_one();
            });
            assert_erased(&searched, &[&event], &["erasures: "]).await;
        }
    });
}

#[cfg(feature = "embedded")]
#[test]
fn a_fan_out_takes_back_what_it_wrote_of_an_event_that_is_gone() {
    run(async {
        let receiver = Receiver::start([]).await;
        let (searched, gate, gated) = gated().await;
        let harness = &searched.harness;
        for _ in 0..12 {
            harness.endpoint(&receiver.url, &["*"]).await;
        }
        let event = harness.publish("a").await;
        forget_queue(harness);
        let (id, now) = (event.parse::<EventId>().unwrap(), app::now());
        let (fanned_out, ()) = tokio::join!(
            Box::pin(fan_out::fan_out(&gated.app, &id, now)),
            erase_at(harness, &event, &gate),
        );
        fanned_out.unwrap();
        forget_queue(&gated);
        assert_erased(&searched, &[&event], &["erasures: "]).await;
    });
}

#[cfg(feature = "embedded")]
#[test]
fn a_recovery_takes_back_what_it_wrote_of_an_event_that_is_gone() {
    run(async {
        let receiver = Receiver::start([]).await;
        let (searched, gate, gated) = gated().await;
        let harness = &searched.harness;
        let event = harness.publish("a").await;
        harness.drain().await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!(
            "/v1/endpoints/{}/replay-missing",
            endpoint["id"].as_str().unwrap()
        );
        let since = json!({ "since": seconds_ago(3600) });
        let begun = harness
            .post(&path, since)
            .await
            .expect(StatusCode::ACCEPTED);
        forget_queue(harness);
        let id = begun["id"].as_str().unwrap().parse().unwrap();
        let (recovered, ()) = tokio::join!(
            Box::pin(millrace::jobs::recover::recover(
                &gated.app,
                &id,
                0,
                app::now()
            )),
            erase_at(harness, &event, &gate),
        );
        recovered.unwrap();
        forget_queue(&gated);
        assert_erased(&searched, &[&event], &["erasures: "]).await;
    });
}

/// A harness and another instance, whose first write waits at the gate.
#[cfg(feature = "embedded")]
async fn gated() -> (Searched, Gate, Harness) {
    let store = stores::embedded_readable_dynamo();
    let gate = Gate::default();
    let harness = Harness::builder().dynamo(store.dynamo.clone());
    let harness = harness.build().await;
    let gated = harness.beside().dynamo(store.behind(&gate)).build().await;
    (Searched { harness, store }, gate, gated)
}

/// Erases the event while a write waits at the gate.
#[cfg(feature = "embedded")]
async fn erase_at(harness: &Harness, event: &str, gate: &Gate) {
    gate.reached().await;
    let erasure = erase_event(harness, event).await;
    go_on(harness, &erasure, app::now()).await;
    gate.release();
}

/// A job that read an event before it was erased, and died after it wrote: the last
/// look finds that.
#[test]
fn what_was_written_meanwhile_is_found_by_the_last_look() {
    run(async {
        let receiver = Receiver::start([]).await;
        let harness = Harness::builder()
            .config(config_without_retries(50))
            .build()
            .await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let body = json!({ "type": "a", "tenant": "acme", "data": {} });
        let erased = harness.publish_body(body).await;
        let kept = json!({ "type": "a", "tenant": "acme", "data": {} });
        harness.drain().await;
        let erasure = erase_tenant(&harness, "acme").await;
        go_on(&harness, &erasure, app::now()).await;
        let kept = harness.publish_body(kept).await;
        harness.drain().await;
        let (event, endpoint) = (
            erased.parse().unwrap(),
            endpoint["id"].as_str().unwrap().parse().unwrap(),
        );
        let project = harness.project.parse().unwrap();
        let now = app::now();
        let stray = NewDelivery {
            event: &event,
            endpoint: &endpoint,
            project: &project,
            event_type: "a",
            tenant: Some("acme"),
            created: now,
            expires: events::expiry(now, 30),
            due: now,
        };
        assert!(
            deliveries::put_new(&harness.app.dynamo, &stray)
                .await
                .unwrap()
        );
        let sent = receiver.received().len();
        harness.sweep_after(Duration::from_secs(60)).await;
        assert_eq!(receiver.received().len(), sent, "there is nothing to send");
        finish(&harness, &erasure).await;
        let id = DeliveryId::new(&event, &endpoint);
        let left = deliveries::get(&harness.app.dynamo, &id).await.unwrap();
        assert!(left.is_none(), "{left:?}");
        let kept = harness.get(&format!("/v1/events/{kept}")).await;
        let kept = kept.expect(StatusCode::OK);
        assert_eq!(kept["deliveries"].as_array().unwrap().len(), 1);
    });
}

/// Another instance goes on with the key and the endpoints that it knows.
#[test]
fn what_another_instance_still_accepts_is_erased_too() {
    run(async {
        let receiver = Receiver::start([]).await;
        let searched = Searched::new().await;
        let harness = &searched.harness;
        let Project { id, key } = harness.new_project(&ALL_SCOPES).await;
        let beside = harness.beside().build().await;
        let endpoint = json!({ "url": receiver.url, "event_types": ["*"] });
        let publish = async |n: i32| {
            let body = json!({ "type": "a", "data": { "n": n } });
            let answer = beside.request(Method::POST, "/v1/events", &key, body).await;
            beside.drain().await;
            answer
        };
        let created = harness.request(Method::POST, "/v1/endpoints", &key, endpoint);
        created.await.expect(StatusCode::CREATED);
        publish(0).await.expect(StatusCode::ACCEPTED);
        let erasure = erase_project(harness, &id).await;
        go_on(harness, &erasure, app::now()).await;
        let late = publish(1).await.expect(StatusCode::ACCEPTED);
        let late = late["id"].as_str().unwrap();
        let done = finish(harness, &erasure).await;
        assert_eq!(done["progress"]["events"], 2, "{done}");
        assert_erased(&searched, &[late], &[]).await;
    });
}

#[test]
fn nothing_is_accepted_for_an_erased_project_that_is_still_configured() {
    run(async {
        let harness = Harness::new().await;
        let Project { id, key: _ } = harness.new_project(&ALL_SCOPES).await;
        let erasure = erase_project(&harness, &id).await;
        let accept = async || {
            let event = plain(&id, app::now(), 0, None);
            let access = Access::to_project(&id.parse().unwrap());
            millrace::accept::accept(&harness.app, &access, &event, app::now()).await
        };
        assert_eq!(
            accept().await.unwrap_err().to_string(),
            "the project is erased"
        );
        finish(&harness, &erasure).await;
        assert_eq!(
            accept().await.unwrap_err().to_string(),
            "the project is erased"
        );
    });
}

#[test]
fn a_page_done_again_deletes_nothing_more_and_goes_on() {
    run(async {
        let receiver = Receiver::start([]).await;
        let mut few = config();
        few.erasure.per_second_max = 25;
        let searched = Searched::of(Harness::builder().config(few)).await;
        let harness = &searched.harness;
        harness.endpoint(&receiver.url, &["*"]).await;
        for n in 0..40 {
            let body = json!({ "type": "a", "tenant": "erased-in-pages", "data": { "n": n } });
            harness.publish_body(body).await;
        }
        harness.drain().await;
        let erasure = erase_tenant(harness, "erased-in-pages").await;
        let id = id_of(&erasure);
        let mut now = app::now();
        let mut most = 0;
        for _ in 0..200 {
            let lease_ends = now + Duration::from_secs(60);
            let claimed = erasures::claim(&harness.app.postgres, &id, now, lease_ends).await;
            let Some(claimed) = claimed.unwrap() else {
                now += Duration::from_secs(60);
                continue;
            };
            // A worker that dies after its page, before its record.
            Box::pin(erase::run_page(&harness.app, &claimed, now))
                .await
                .unwrap();
            let nobody = erase::run(&harness.app, &id, now).await.unwrap();
            assert!(!nobody, "it is claimed");
            now = lease_ends + Duration::from_secs(1);
            let before = shown(harness, &erasure).await;
            erase::run(&harness.app, &id, now).await.unwrap();
            let after = shown(harness, &erasure).await;
            let items = |shown: &Value| {
                let count = |name: &str| shown["progress"][name].as_u64().unwrap();
                count("events") + count("deliveries")
            };
            most = most.max(items(&after) - items(&before));
            assert!(
                !erase::run(&harness.app, &id, now).await.unwrap()
                    || items(&after) == items(&before)
            );
            if after["state"] == "done" {
                break;
            }
        }
        assert_eq!(shown(harness, &erasure).await["state"], "done");
        // 25 and what eight events that are deleted at a time go beyond.
        assert!((1..=25 + 16).contains(&most), "{most}");
        assert_erased(&searched, &["erased-in-pages"], &[]).await;
    });
}

#[test]
fn it_is_done_no_sooner_than_nothing_can_be_under_way() {
    run(async {
        let harness = Harness::new().await;
        let event = harness.publish("a").await;
        let erasure = erase_event(&harness, &event).await;
        let id = id_of(&erasure);
        go_on(&harness, &erasure, app::now()).await;
        let settle_time = erase::settle_time(&harness.app.config);
        let config = &harness.app.config;
        assert!(settle_time > config.cache.ttl + config.delivery.timeout);
        let project = harness.project.parse().unwrap();
        let kept = erasures::get(&harness.app.postgres, &project, &id)
            .await
            .unwrap();
        assert_eq!(kept.state, ErasureState::Settling);
        let ends = kept.created + settle_time;
        let early = ends - Duration::from_millis(1);
        assert!(!erase::run(&harness.app, &id, early).await.unwrap());
        go_on(&harness, &erasure, ends).await;
        let kept = erasures::get(&harness.app.postgres, &project, &id)
            .await
            .unwrap();
        assert_eq!(kept.state, ErasureState::Done);
    });
}

fn plain(id: &str, at: Timestamp, n: u32, tenant: Option<&str>) -> Event {
    let mut body = json!({ "type": "a", "data": { "n": n } });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    let defaults = PlainDefaults {
        id: &format!("{id}/{at}/{n}"),
        source: "/",
        time: at,
    };
    parse_plain(body.to_string().as_bytes(), defaults).unwrap()
}

/// Keeps an event as if it had come at `at`; its id.
async fn keep(harness: &Harness, at: Timestamp, n: u32, tenant: Option<&str>) -> String {
    let project = harness.project.parse().unwrap();
    let event = plain("kept", at, n, tenant);
    let id = EventId::derive(&project, event.source(), event.id());
    let new = NewEvent {
        id: &id,
        project: &project,
        event: &event,
        received: at,
        expires: events::expiry(at, 30),
        metered: None,
    };
    let plan = Plan::Inline(&[], at);
    accept::accept(&harness.app.dynamo, &new, &plan)
        .await
        .unwrap();
    id.to_string()
}

async fn archiving(bucket: &Bucket) -> Harness {
    let mut config: Config = config();
    config.archive.bucket = bucket::NAME.into();
    config.archive.endpoint_url = bucket.url.clone();
    let objects = Objects::with_credentials(&config, sigv4::KNOWN.provider()).unwrap();
    Harness::builder()
        .config(config)
        .archive(objects)
        .build()
        .await
}

#[test]
fn the_archive_has_no_event_that_is_erased_and_all_others() {
    run(async {
        let bucket = Bucket::start().await;
        let harness = archiving(&bucket).await;
        let now = app::now();
        let [first, second] = [0, 1].map(|n| Day::expiring(now, 30)[n]);
        let mut kept = vec![];
        for (day, n) in [(first, 0), (second, 10)] {
            let at = day.start() + Duration::from_secs(60);
            keep(&harness, at, n, Some(MARKER)).await;
            kept.push(keep(&harness, at, n + 1, Some("other")).await);
            kept.push(keep(&harness, at, n + 2, None).await);
        }
        let alone = keep(&harness, second.start(), 20, None).await;
        archive::plan(&harness.app, now).await.unwrap();
        harness.drain().await;
        let others = json!({ "id": "evt_x", "received_at": "2026-01-01T00:00:00.000Z",
            "event": { "tenant": MARKER } });
        bucket.put(
            "events/project=prj_other/day=2026-01-01/part-00001.jsonl.gz",
            std::slice::from_ref(&others),
        );
        assert_eq!(bucket.lines(&harness.project).len(), 7);

        let done = finish(&harness, &erase_event(&harness, &alone).await).await;
        assert_eq!(done["progress"]["archived_objects"], 1, "{done}");
        assert_eq!(bucket.lines(&harness.project).len(), 6);
        let done = finish(&harness, &erase_tenant(&harness, MARKER).await).await;
        assert_eq!(done["progress"]["archived_objects"], 2, "{done}");
        let lines = bucket.lines(&harness.project);
        let left: BTreeSet<_> = lines
            .iter()
            .map(|line| line["id"].as_str().unwrap())
            .collect();
        assert_eq!(left, kept.iter().map(String::as_str).collect());
        assert!(!format!("{lines:?}").contains(MARKER));
        // One that is left empty is deleted.
        let done = finish(&harness, &erase_tenant(&harness, "other").await).await;
        assert_eq!(done["progress"]["archived_objects"], 2, "{done}");
        for event in [&kept[1], &kept[3]] {
            finish(&harness, &erase_event(&harness, event).await).await;
        }
        assert_eq!(bucket.lines("prj_other"), [others]);
        assert_eq!(bucket.names().len(), 1, "{:?}", bucket.names());
    });
}

#[test]
fn a_projects_archive_is_deleted() {
    run(async {
        let bucket = Bucket::start().await;
        let harness = archiving(&bucket).await;
        let line = json!({ "id": "evt_x", "received_at": "2026-01-01T00:00:00.000Z", "event": {} });
        let project = &harness.project;
        for part in 1..=5 {
            let name = format!("events/project={project}/day=2026-01-01/part-0000{part}.jsonl.gz");
            bucket.put(&name, std::slice::from_ref(&line));
        }
        bucket.put(
            "events/project=prj_other/day=2026-01-01/part-00001.jsonl.gz",
            &[line],
        );
        let done = finish(&harness, &erase_project(&harness, project).await).await;
        assert_eq!(done["progress"]["archived_objects"], 5, "{done}");
        assert_eq!(bucket.names().len(), 1, "{:?}", bucket.names());
    });
}

#[test]
fn an_object_that_is_written_meanwhile_is_read_again() {
    run(async {
        let bucket = Bucket::start().await;
        let harness = archiving(&bucket).await;
        let line = |id: &str, tenant: &str| {
            json!({ "id": id, "received_at": "2026-01-01T00:00:00.000Z",
                "event": { "tenant": tenant } })
        };
        let [erased, kept, late] = [line("a", "acme"), line("b", "b"), line("c", "c")];
        let project = &harness.project;
        let name = format!("events/project={project}/day=2026-01-01/part-00001.jsonl.gz");
        bucket.put(&name, &[erased.clone(), kept.clone()]);
        bucket.replace_after_read(&[erased, kept.clone(), late.clone()]);
        finish(&harness, &erase_tenant(&harness, "acme").await).await;
        assert_eq!(bucket.lines(project), [kept, late]);
    });
}

#[test]
fn an_archive_that_refuses_delays_an_erasure_and_does_not_end_it() {
    run(async {
        let bucket = Bucket::start().await;
        let harness = archiving(&bucket).await;
        let line = json!({ "id": "evt_x", "received_at": "2026-01-01T00:00:00.000Z", "event": {} });
        let project = &harness.project;
        let name = format!("events/project={project}/day=2026-01-01/part-00001.jsonl.gz");
        bucket.put(&name, &[line]);
        bucket.refuse_next();
        let erasure = erase_project(&harness, project).await;
        let id = id_of(&erasure);
        let mut now = app::now();
        let refused = loop {
            match Box::pin(erase::run(&harness.app, &id, now)).await {
                Ok(has_run) => assert!(has_run, "it stopped before the archive"),
                Err(error) => break error,
            }
            now += Duration::from_secs(10);
        };
        assert_eq!(refused.to_string(), "the archive is unavailable");
        // Given back, but not at once.
        assert!(!erase::run(&harness.app, &id, now).await.unwrap());
        assert_eq!(bucket.names().len(), 1);
        finish(&harness, &erasure).await;
        assert_eq!(bucket.names().len(), 0);
    });
}

/// As versions kept it that had no index of tenants.
#[test]
fn an_event_that_is_in_no_index_of_its_tenant_is_found_at_last() {
    run(async {
        let searched = Searched::new().await;
        let harness = &searched.harness;
        let body = json!({ "type": "a", "tenant": "unindexed", "data": {} });
        let event = harness.publish_body(body).await;
        harness.drain().await;
        let dynamo = &searched.store.dynamo;
        let string = |text: &str| AttributeValue::S(text.to_owned());
        let update = dynamo.client.update_item().table_name(&dynamo.table);
        let update = update
            .key("pk", string(&event))
            .key("sk", string("event"))
            .update_expression("remove tenant_pk");
        update.send().await.unwrap();
        let erasure = erase_tenant(harness, "unindexed").await;
        finish(harness, &erasure).await;
        assert_erased(&searched, &[&event, "unindexed"], &[]).await;
    });
}

/// What whoever sweeps does: it finds by itself what is due.
#[cfg(feature = "embedded")]
#[test]
fn an_erasure_is_found_by_whoever_sweeps() {
    run(async {
        let database = stores::unmigrated_postgres().await;
        database.postgres.migrate().await.unwrap();
        let builder = Harness::builder().postgres(database.postgres.clone());
        let searched = Searched::of(builder).await;
        let harness = &searched.harness;
        let event = harness.publish("a").await;
        let other = harness.publish("b").await;
        erase_event(harness, &event).await;
        erase_event(harness, &other).await;
        let now = app::now();
        let taken = erase::run_due(&harness.app, now).await.unwrap();
        assert_eq!(taken, 2);
        assert_erased(&searched, &[&event, &other], &["erasures: "]).await;
    });
}
