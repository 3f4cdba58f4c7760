//! Every route of the console, by everybody who may come: nobody, a viewer, an operator,
//! somebody with a tenant's key, somebody of another project.
//!
//! The routes are read from where they are registered, so that a new one is walked too.

use std::collections::BTreeSet;
use std::path::Path;

use http::{Method, StatusCode};
use millrace::app;
use millrace::model::session::{Person, Role, Session, SessionToken};
use millrace::store::sessions;
use serde_json::{Value, json};

use crate::support::browser::{Browser, location, text};
use crate::support::harness::{ADMIN_KEY, ALL_SCOPES, Answer, Harness, run};
use crate::support::receiver::Receiver;

/// The path of every route below `/console`, as its module registers it.
fn routes() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/mod.rs");
    let source = std::fs::read_to_string(file).unwrap();
    let mut found = BTreeSet::new();
    for registered in source.split(".route(").skip(1) {
        let (before, after) = registered.split_once('"').unwrap();
        let path = after.split_once('"').unwrap().0;
        // Those of one endpoint are spelled by their ends.
        let path = match before.trim() {
            "" => path.to_owned(),
            "&of(" => format!("/{{project}}/endpoints/{{id}}{path}"),
            other => panic!("a route spelled {other}: say here what it is"),
        };
        if !path.starts_with("/assets") {
            let below = path.strip_prefix("/console").unwrap_or(&path);
            found.insert(below.to_owned());
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

/// The answer, unless the route has no such method.
fn answered(answer: Answer) -> Option<Answer> {
    (answer.status != StatusCode::METHOD_NOT_ALLOWED).then_some(answer)
}

/// Those that are for whoever has not signed in yet.
const OPEN: [&str; 2] = ["/sign-in", "/links"];
/// Those that end a session, and change nothing else.
const OUT: [&str; 2] = ["/sign-out", "/sign-out-everywhere"];

/// What a project has, and what of it is told in pages.
struct World {
    project: String,
    endpoint: String,
    event: String,
    delivery: String,
    meter: String,
    recovery: String,
    key: String,
    receiver: Receiver,
}

fn id_of(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

impl World {
    /// Things of the project, each of which carries `mark`, those that can be `tenant`'s.
    async fn make(harness: &Harness, mark: &str, tenant: Option<&str>) -> Self {
        let receiver = Receiver::start([]).await;
        let endpoint = json!({
            "url": format!("{}/{mark}", receiver.url), "tenant": tenant,
            "event_types": [format!("{mark}.*")], "description": mark,
        });
        let endpoint = harness.post("/v1/endpoints", endpoint).await;
        let endpoint = id_of(&endpoint.expect(StatusCode::CREATED));
        let mut event = json!({
            "type": format!("{mark}.made"), "subject": mark, "data": { "who": mark },
        });
        if let Some(tenant) = tenant {
            event["tenant"] = tenant.into();
        }
        let event = harness.publish_body(event).await;
        harness.drain().await;
        let list = format!("/v1/deliveries?endpoint_id={endpoint}");
        let deliveries = harness.get(&list).await.expect(StatusCode::OK);
        let delivery = id_of(&deliveries["data"][0]);
        let since = app::now() - jiff::SignedDuration::from_hours(1);
        let recovery = json!({ "since": since });
        let path = format!("/v1/endpoints/{endpoint}/recover");
        let recovery = harness.post(&path, recovery).await;
        let recovery = id_of(&recovery.expect(StatusCode::ACCEPTED));
        harness.drain().await;
        let meter = json!({
            "name": format!("{mark} meter"), "event_type": format!("{mark}.*"),
            "aggregation": "count",
        });
        let meter = harness.new_meter(meter).await;
        let body = json!({ "name": format!("{mark}.made"), "schema": {}, "validate": "off" });
        let registered = harness.post("/v1/event-types", body).await;
        registered.expect(StatusCode::CREATED);
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": mark, "scopes": ["events:read"], "tenant": tenant });
        let key = harness.as_admin(Method::POST, &keys, body).await;
        Self {
            project: harness.project.clone(),
            endpoint,
            event,
            delivery,
            meter,
            recovery,
            key: id_of(&key.expect(StatusCode::CREATED)),
            receiver,
        }
    }

    /// The address of `route` about these things.
    fn address(&self, route: &str, mark: &str) -> String {
        let named = |prefix: &str| match prefix {
            "events" => &self.event,
            "deliveries" => &self.delivery,
            "endpoints" => &self.endpoint,
            "meters" => &self.meter,
            "recoveries" => &self.recovery,
            "keys" => &self.key,
            other => panic!("{route}: say here what the id of {other} is"),
        };
        let parts: Vec<_> = route.split('/').collect();
        let mut filled = Vec::new();
        for (place, part) in parts.iter().enumerate() {
            filled.push(match *part {
                "{project}" => self.project.clone(),
                "{name}" => format!("{mark}.made"),
                "{operation}" => "listDeliveries".to_owned(),
                "{id}" => named(parts[place - 1]).clone(),
                part if part.starts_with('{') => panic!("{route}: say here what {part} is"),
                part => part.to_owned(),
            });
        }
        let address = format!("/console{}", filled.join("/"));
        match address.strip_suffix('/') {
            Some(address) => address.to_owned(),
            None => address,
        }
    }

    /// Everything that can be changed of a project, as the API has it.
    async fn state(&self, harness: &Harness) -> Value {
        let mut state = json!({});
        for path in [
            "/v1/endpoints",
            "/v1/event-types",
            "/v1/meters",
            "/v1/recoveries",
            "/v1/erasures",
            "/v1/events",
        ] {
            state[path] = harness.get(path).await.expect(StatusCode::OK);
        }
        for path in [
            format!("/v1/events/{}", self.event),
            format!("/v1/endpoints/{}/secret", self.endpoint),
        ] {
            state[&path] = harness.get(&path).await.expect(StatusCode::OK);
        }
        let keys = format!("/v1/projects/{}/keys", self.project);
        let keys = harness.as_admin(Method::GET, &keys, Value::Null).await;
        state["keys"] = keys.expect(StatusCode::OK);
        state
    }
}

async fn signed_in_as(harness: &Harness, session: Session) -> Browser<'_> {
    let token = SessionToken::new(&session, harness.app.random());
    sessions::put(&harness.app.dynamo, &token, &session)
        .await
        .unwrap();
    let mut browser = Browser::new(harness);
    browser
        .cookies
        .insert("millrace".into(), token.expose().into());
    browser
}

async fn with_role(harness: &Harness, role: Role) -> Browser<'_> {
    let person = Person::User {
        name: format!("{role:?}").into(),
    };
    signed_in_as(harness, Session::with_role(person, role, app::now())).await
}

/// What a form of any page may have, filled in so that it would do something.
fn fields(world: &World, mark: &str) -> Vec<(&'static str, String)> {
    let new = format!("{mark}.new");
    vec![
        ("name", new.clone()),
        ("confirm", format!("{mark}.made")),
        ("scopes", "events:read".into()),
        ("endpoints", "disable".into()),
        ("url", format!("{}/changed", world.receiver.url)),
        ("event_types", "*".into()),
        ("types", "*".into()),
        ("type", new.clone()),
        ("data", "{}".into()),
        ("event_type", new),
        ("aggregation", "count".into()),
        ("description", "changed".into()),
        ("schema", "{}".into()),
        ("validate", "off".into()),
        ("kind", "tenant".into()),
        ("subject", format!("{mark}.made")),
        ("since", "2020-01-01T00:00:00Z".into()),
        ("endpoint_id", world.endpoint.clone()),
        ("endpoint", world.endpoint.clone()),
        ("state", "failed".into()),
    ]
}

fn borrowed<'a>(fields: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect()
}

/// Whether a form did what it says: one is sent on, and told so.
fn is_done(answer: &Answer) -> bool {
    answer.status == StatusCode::SEE_OTHER && !location(answer).starts_with("/console/sign-in")
}

#[test]
fn nobody_sees_or_changes_anything_without_a_session() {
    run(async {
        let harness = Harness::new().await;
        let world = World::make(&harness, "wholemark", None).await;
        let before = world.state(&harness).await;
        let fields = fields(&world, "wholemark");
        for route in routes() {
            if OPEN.contains(&&*route) {
                continue;
            }
            let path = world.address(&route, "wholemark");
            let mut nobody = Browser::new(&harness);
            if let Some(answer) = answered(nobody.get(&path).await) {
                assert_eq!(answer.status, StatusCode::SEE_OTHER, "GET {path}");
                assert!(
                    location(&answer).starts_with("/console/sign-in?next="),
                    "GET {path}"
                );
                assert!(!text(&answer).contains("wholemark"), "GET {path}");
            }
            let posted = nobody.post_as_is(&path, &borrowed(&fields)).await;
            if let Some(answer) = answered(posted) {
                assert!(!is_done(&answer), "POST {path}: {}", answer.status);
                assert!(!text(&answer).contains(&world.endpoint), "POST {path}");
            }
        }
        assert_eq!(world.state(&harness).await, before);
    });
}

#[test]
fn a_form_without_its_token_changes_nothing_whoever_sends_it() {
    run(async {
        let harness = Harness::new().await;
        let world = World::make(&harness, "wholemark", None).await;
        let before = world.state(&harness).await;
        let fields = fields(&world, "wholemark");
        let mut admin = Browser::signed_in(&harness, ADMIN_KEY).await;
        let mut forms = 0;
        for route in routes() {
            if OPEN.contains(&&*route) {
                continue;
            }
            let path = world.address(&route, "wholemark");
            let posted = admin.post_as_is(&path, &borrowed(&fields)).await;
            if let Some(answer) = answered(posted) {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "POST {path}");
                forms += 1;
            }
        }
        assert!(forms > 20, "{forms}");
        assert_eq!(world.state(&harness).await, before);
        let still = admin
            .get(&format!("/console/{}/settings", world.project))
            .await;
        assert_eq!(still.status, StatusCode::OK);
    });
}

#[test]
fn a_viewer_sees_every_page_and_changes_nothing() {
    run(async {
        let harness = Harness::new().await;
        let world = World::make(&harness, "wholemark", None).await;
        let before = world.state(&harness).await;
        let fields = fields(&world, "wholemark");
        let mut viewer = with_role(&harness, Role::Viewer).await;
        for route in routes() {
            if OPEN.contains(&&*route) || OUT.contains(&&*route) {
                continue;
            }
            let path = world.address(&route, "wholemark");
            if let Some(answer) = answered(viewer.get(&path).await) {
                assert!(
                    !answer.status.is_server_error(),
                    "GET {path}: {}",
                    text(&answer)
                );
            }
            let posted = viewer.post(&path, &borrowed(&fields)).await;
            if let Some(answer) = answered(posted) {
                let status = answer.status;
                assert!(
                    !is_done(&answer) && !status.is_server_error(),
                    "POST {path}: {status}"
                );
            }
        }
        harness.drain().await;
        assert_eq!(world.state(&harness).await, before);
        // Not what the admin's pages show either.
        for path in ["keys", "keys/new"] {
            let path = format!("/console/{}/{path}", world.project);
            assert!(
                !text(&viewer.get(&path).await).contains(&world.key),
                "{path}"
            );
        }
        assert_eq!(viewer.get("/console/projects").await.status, StatusCode::OK);
        let mut operator = with_role(&harness, Role::Operator).await;
        for (path, status) in [
            (format!("/console/{}/keys/new", world.project), 403),
            ("/console/projects".to_owned(), 403),
            (format!("/console/{}/erasures/new", world.project), 303),
        ] {
            let answer = operator.post(&path, &borrowed(&fields)).await;
            assert_eq!(answer.status.as_u16(), status, "{path}: {}", text(&answer));
        }
        let mut admin = with_role(&harness, Role::Admin).await;
        let path = format!("/console/{}/keys/new", world.project);
        let made = admin
            .post(&path, &[("name", "made"), ("scopes", "events:read")])
            .await;
        assert_eq!(made.status, StatusCode::OK, "{}", text(&made));
        let entries = format!("/v1/projects/{}/audit-log", world.project);
        let entries = harness.as_admin(Method::GET, &entries, Value::Null).await;
        let entries = entries.expect(StatusCode::OK);
        let of = |action: &str| {
            let mut all = entries["data"].as_array().unwrap().iter();
            all.find(|entry| entry["action"] == action).unwrap()["actor"].clone()
        };
        assert_eq!(of("key.create"), "user:Admin");
        assert_eq!(of("tenant.erase"), "user:Operator");
        let mut harness = harness;
        harness.leaves_jobs = true;
    });
}

#[test]
fn a_tenants_session_sees_nothing_of_others_and_changes_nothing_of_theirs() {
    run(async {
        let harness = Harness::new().await;
        let other = World::make(&harness, "brillmark", Some("brilltenant")).await;
        let own = World::make(&harness, "acmemark", Some("acme")).await;
        let keys = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "of acme", "scopes": ALL_SCOPES, "tenant": "acme" });
        let key = harness.as_admin(Method::POST, &keys, body).await;
        let key = key.expect(StatusCode::CREATED);
        let mut acme = Browser::signed_in(&harness, key["key"].as_str().unwrap()).await;
        let before = other.state(&harness).await;
        let secret = &before[format!("/v1/endpoints/{}/secret", other.endpoint)]["secret"];
        let secret = secret.as_str().unwrap().to_owned();
        let address = other.receiver.url.replace("http://", "");
        // The catalog of event types and meters is for all.
        let telling = [
            "brilltenant",
            &other.endpoint,
            &other.event,
            &other.delivery,
            &other.recovery,
            &other.key,
            &address,
            &secret,
        ];
        let mut fields = fields(&other, "brillmark");
        // What it may write is its own: told of the other only by the other's things.
        let url = fields.iter_mut().find(|(name, _)| *name == "url").unwrap();
        url.1 = format!("{}/changed", own.receiver.url);
        for route in routes() {
            if OPEN.contains(&&*route) || OUT.contains(&&*route) {
                continue;
            }
            for (world, mark) in [(&other, "brillmark"), (&own, "acmemark")] {
                let path = world.address(&route, mark);
                if let Some(answer) = answered(acme.get(&path).await) {
                    assert!(!answer.status.is_server_error(), "GET {path}");
                    let html = text(&answer).replace(&path, "");
                    for told in telling {
                        let is_asked = path.contains(told);
                        assert!(is_asked || !html.contains(told), "GET {path} tells {told}");
                    }
                }
            }
            let path = other.address(&route, "brillmark");
            let posted = acme.post(&path, &borrowed(&fields)).await;
            assert!(!posted.status.is_server_error(), "POST {path}");
        }
        harness.drain().await;
        let after = other.state(&harness).await;
        let of_other = |state: &Value| {
            let of_it = |list: &str| {
                let rows = state[list]["data"].as_array().unwrap().iter();
                let own = |row: &&Value| !row.to_string().contains("acme");
                rows.filter(own).cloned().collect::<Vec<_>>()
            };
            let lists = ["/v1/event-types", "/v1/meters", "/v1/erasures"].map(of_it);
            let endpoint = of_it("/v1/endpoints");
            let endpoint = endpoint
                .iter()
                .find(|row| row["id"] == *other.endpoint)
                .cloned();
            let secret = state[format!("/v1/endpoints/{}/secret", other.endpoint)].clone();
            let event = state[format!("/v1/events/{}", other.event)].clone();
            json!([lists, endpoint, secret, event, state["keys"]])
        };
        assert_eq!(of_other(&after), of_other(&before));
    });
}

#[test]
fn a_session_of_another_project_finds_no_page_of_this_one() {
    run(async {
        let harness = Harness::new().await;
        let world = World::make(&harness, "wholemark", None).await;
        let before = world.state(&harness).await;
        let other = harness.new_project(&ALL_SCOPES).await;
        let fields = fields(&world, "wholemark");
        let mut stranger = Browser::signed_in(&harness, &other.key).await;
        for route in routes() {
            if !route.starts_with("/{project}") {
                continue;
            }
            let path = world.address(&route, "wholemark");
            if let Some(answer) = answered(stranger.get(&path).await) {
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "GET {path}");
            }
            let posted = stranger.post(&path, &borrowed(&fields)).await;
            if let Some(answer) = answered(posted) {
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "POST {path}");
            }
            // Nor by the way through their own project.
            let own = path.replace(&world.project, &other.id);
            if let Some(answer) = answered(stranger.get(&own).await) {
                let html = text(&answer).replace(&own, "");
                assert!(!html.contains("wholemark meter"), "GET {own}");
                assert!(!answer.status.is_server_error(), "GET {own}");
            }
        }
        assert_eq!(world.state(&harness).await, before);
    });
}
