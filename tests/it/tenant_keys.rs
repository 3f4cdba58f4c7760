//! Keys that are for one tenant alone: what they see and change of a project that has
//! other tenants, and things of its own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::documented::document;
use crate::support::fixtures::{seconds_ago, uncached_config};
use crate::support::harness::{ALL_SCOPES, Answer, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// A key with every scope, for `tenant` alone.
async fn tenant_key(harness: &Harness, tenant: &str) -> String {
    let path = format!("/v1/projects/{}/keys", harness.project);
    let body = json!({ "name": "of a tenant", "scopes": ALL_SCOPES, "tenant": tenant });
    let made = harness.as_admin(Method::POST, &path, body).await;
    let made = made.expect(StatusCode::CREATED);
    assert_eq!(made["tenant"], tenant);
    made["key"].as_str().unwrap().to_owned()
}

/// One tenant's things in a project, or what is nobody's; all of it carries `mark`.
struct World {
    tenant: Option<&'static str>,
    mark: &'static str,
    receiver: Receiver,
    endpoint: String,
    uid: String,
    event: String,
    delivery: String,
    recovery: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl World {
    async fn make(harness: &Harness, tenant: Option<&'static str>, mark: &'static str) -> Self {
        let receiver = Receiver::start([]).await;
        let uid = format!("{mark}-uid");
        let endpoint = json!({
            "url": format!("{}/{mark}", receiver.url), "uid": uid, "tenant": tenant,
            "event_types": ["order.*"], "description": mark, "metadata": { "note": mark },
            "headers": { format!("x-{mark}"): "1" },
        });
        let endpoint = harness.post("/v1/endpoints", endpoint).await;
        let endpoint = text(&endpoint.expect(StatusCode::CREATED)["id"]);
        let event = json!({
            "specversion": "1.0", "type": "order.paid", "id": format!("{mark}-1"),
            "source": format!("/{mark}"), "subject": "one", "data": { "who": mark, "n": 1 },
        });
        let event = harness.publish_body(with_tenant(event, tenant)).await;
        harness.drain().await;
        let deliveries = format!("/v1/deliveries?endpoint_id={endpoint}");
        let deliveries = harness.get(&deliveries).await.expect(StatusCode::OK);
        let of_it = deliveries["data"].as_array().unwrap().iter();
        let delivery = of_it.clone().find(|row| row["event_id"] == event.as_str());
        let delivery = text(&delivery.unwrap()["id"]);
        let retry = json!({
            "endpoint_id": endpoint, "state": "failed", "since": seconds_ago(3600),
            "tenant": tenant,
        });
        let recovery = harness.post("/v1/deliveries/retry", retry).await;
        let recovery = text(&recovery.expect(StatusCode::ACCEPTED)["id"]);
        harness.drain().await;
        Self {
            tenant,
            mark,
            receiver,
            endpoint,
            uid,
            event,
            delivery,
            recovery,
        }
    }

    /// What must not be told to others.
    fn telling(&self) -> Vec<String> {
        let mut told = vec![
            self.mark.to_owned(),
            self.endpoint.clone(),
            self.event.clone(),
            self.delivery.clone(),
            self.recovery.clone(),
            self.receiver.url.replace("http://", ""),
        ];
        told.extend(self.tenant.map(str::to_owned));
        told
    }
}

fn with_tenant(mut event: Value, tenant: Option<&str>) -> Value {
    if let Some(tenant) = tenant {
        event["tenant"] = tenant.into();
    }
    event
}

/// A request with a tenant's key.
struct Probe {
    path: String,
    body: Value,
    /// What it is answered.
    status: u16,
}

fn probe(path: String, body: Value, status: u16) -> Probe {
    Probe { path, body, status }
}

/// What a tenant's key is answered by an operation.
enum Decision {
    /// The whole project's: 403 whatever is asked.
    Project(Value),
    /// These.
    Answers(Vec<Probe>),
}

/// The worlds of a project: that of the key, and the others.
struct Worlds {
    own: World,
    /// An endpoint of the same tenant, to be deleted.
    spare: String,
    others: [World; 2],
    meter: String,
    replayed: String,
}

impl Worlds {
    async fn make(harness: &Harness) -> Self {
        let body = json!({
            "name": "orders", "event_type": "order.*", "aggregation": "sum", "value": "/n",
            "group_by": ["/who"], "metadata": { "note": "wholemark" },
        });
        let meter = harness.new_meter(body).await;
        let body = json!({
            "name": "order.paid", "schema": {}, "validate": "off",
            "metadata": { "note": "wholemark" },
        });
        let registered = harness.post("/v1/event-types", body).await;
        registered.expect(StatusCode::CREATED);
        let whole = World::make(harness, None, "wholemark").await;
        let own = World::make(harness, Some("acme"), "acmemark").await;
        let other = World::make(harness, Some("brilltenant"), "brillmark").await;
        // One of another tenant's events at an endpoint of this one, as a person may
        // have it sent.
        let across = json!({ "endpoint_id": own.endpoint });
        let replay = format!("/v1/events/{}/replay", other.event);
        let across = harness.post(&replay, across).await;
        across.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let spare = json!({ "url": own.receiver.url, "tenant": "acme", "event_types": ["never"] });
        let spare = harness.post("/v1/endpoints", spare).await;
        let spare = text(&spare.expect(StatusCode::CREATED)["id"]);
        let replayed = json!({ "type": "order.paid", "tenant": "acme", "data": { "n": 1 } });
        let replayed = harness.publish_body(replayed).await;
        // Of each kind of thing, the own ones lie around those of others.
        let retry = json!({
            "endpoint_id": own.endpoint, "state": "failed", "since": seconds_ago(3600),
            "tenant": "acme",
        });
        let retry = harness.post("/v1/deliveries/retry", retry).await;
        retry.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        harness.meter().await;
        Self {
            own,
            spare,
            others: [other, whole],
            meter,
            replayed,
        }
    }

    /// A request of `path` for each way to name an endpoint of others, answered 404, and
    /// for the own one, answered `status`.
    fn endpoints(&self, path: &str, body: &Value, status: u16) -> Decision {
        let path = |named: &str| path.replace("{id}", named);
        let names = self
            .others
            .iter()
            .flat_map(|world| [&world.endpoint, &world.uid]);
        let others = names.map(|name| probe(path(name), body.clone(), 404));
        let own = [&self.own.endpoint, &self.own.uid];
        let own = own.map(|name| probe(path(name), body.clone(), status));
        Decision::Answers(others.chain(own).collect())
    }

    /// The same for what has an id only.
    fn by_id(&self, path: &str, id: impl Fn(&World) -> &String, status: u16) -> Decision {
        let at = |world: &World| path.replace("{id}", id(world));
        let others = self
            .others
            .iter()
            .map(|world| probe(at(world), json!({}), 404));
        let own = probe(at(&self.own), json!({}), status);
        Decision::Answers(others.chain([own]).collect())
    }

    /// A list, whole, narrowed in each of `ways`, and to other tenants.
    fn list(&self, path: &str, ways: &[String]) -> Decision {
        let mut probes = vec![probe(path.to_owned(), Value::Null, 200)];
        probes.push(probe(format!("{path}?limit=1"), Value::Null, 200));
        probes.extend(
            ways.iter()
                .map(|way| probe(format!("{path}?{way}"), Value::Null, 200)),
        );
        Decision::Answers(probes)
    }

    fn list_by_tenant(&self, path: &str, ways: &[String]) -> Decision {
        let Decision::Answers(mut probes) = self.list(path, ways) else {
            unreachable!("a list answers");
        };
        let of =
            |tenant: &str, status| probe(format!("{path}?tenant={tenant}"), Value::Null, status);
        probes.extend([of("acme", 200), of("brilltenant", 403), of("nobody", 403)]);
        Decision::Answers(probes)
    }

    /// What is decided of an operation; none where nothing is.
    fn decision(&self, operation: &str) -> Option<Decision> {
        let [other, whole] = &self.others;
        let since = json!({ "since": seconds_ago(3600) });
        let project = |body: Value| Some(Decision::Project(body));
        let url = format!("{}/acmemark", self.own.receiver.url);
        let event = |tenant: Value| json!({ "type": "order.paid", "tenant": tenant, "data": {} });
        Some(match operation {
            // The whole project's.
            "GET /v1/activity" | "GET /v1/activity/endpoints" => return project(Value::Null),
            "GET /v1/audit-log" | "GET /v1/meters/{id}/backfill" => return project(Value::Null),
            "GET /v1/erasures"
            | "GET /v1/erasures/{id}"
            | "DELETE /v1/events/{id}"
            | "DELETE /v1/tenants/{tenant}" => return project(Value::Null),
            "POST /v1/event-types" => return project(json!({ "name": "new" })),
            "PATCH /v1/event-types/{name}" => return project(json!({ "description": "x" })),
            "DELETE /v1/event-types/{name}" | "DELETE /v1/meters/{id}" => {
                return project(Value::Null);
            }
            "POST /v1/meters" => {
                let meter = json!({ "name": "a", "event_type": "a", "aggregation": "count" });
                return project(meter);
            }
            "PATCH /v1/meters/{id}" => return project(json!({ "name": "x" })),
            "POST /v1/meters/{id}/backfill" => return project(json!({})),
            "GET /v1/source-addresses" => {
                Decision::Answers(vec![probe("/v1/source-addresses".into(), Value::Null, 200)])
            }
            // The catalog, which is for all.
            "GET /v1/event-types" | "GET /v1/meters" => {
                self.list(operation.trim_start_matches("GET "), &[])
            }
            "GET /v1/event-types/{name}" | "GET /v1/event-types/{name}/versions" => {
                let path = operation.trim_start_matches("GET ");
                let path = path.replace("{name}", "order.paid");
                Decision::Answers(vec![probe(path, Value::Null, 200)])
            }
            "GET /v1/meters/{id}" => {
                let path = format!("/v1/meters/{}", self.meter);
                Decision::Answers(vec![probe(path, Value::Null, 200)])
            }
            // The tenant's own.
            "GET /v1/meters/{id}/usage" => {
                let path = format!("/v1/meters/{}/usage", self.meter);
                let asked = |more: &str, status| {
                    let from = seconds_ago(7200);
                    let query = format!("from={from}&window=hour{more}");
                    probe(format!("{path}?{query}"), Value::Null, status)
                };
                Decision::Answers(vec![
                    asked("", 200),
                    asked("&group_by=tenant", 200),
                    asked("&group_by=tenant,/who&limit=1", 200),
                    asked("&group_by=/who", 200),
                    asked("&tenant=acme", 200),
                    asked("&tenant=brilltenant", 403),
                    asked("&tenant=", 403),
                    asked("&tenant=acme&tenant=brilltenant", 403),
                    asked("&group_by=tenant&group[/who]=x", 200),
                ])
            }
            "GET /v1/meters/{id}/values" => {
                let path = format!("/v1/meters/{}/values", self.meter);
                let asked = |dimension: &str| {
                    let query = format!("from={}&dimension={dimension}", seconds_ago(7200));
                    probe(format!("{path}?{query}"), Value::Null, 200)
                };
                Decision::Answers(vec![asked("tenant"), asked("/who")])
            }
            "GET /v1/events" => self.list_by_tenant(
                "/v1/events",
                &[
                    "type=order.paid".into(),
                    "type=order.*&limit=1".into(),
                    "subject=one".into(),
                    "subject=one&limit=1".into(),
                    format!("until={}", seconds_ago(-60)),
                ],
            ),
            "GET /v1/endpoints" => {
                let ways = ["state=enabled", "failing=true", "failing=false&limit=1"];
                self.list_by_tenant("/v1/endpoints", &ways.map(str::to_owned))
            }
            "GET /v1/recoveries" => self.list("/v1/recoveries", &[]),
            "GET /v1/deliveries" => {
                let own = &self.own;
                let ways = [
                    "state=delivered".into(),
                    "state=pending".into(),
                    "type=order.paid&limit=1".into(),
                    format!("endpoint_id={}", own.endpoint),
                    format!("endpoint_id={}", own.uid),
                    format!("event_id={}", own.event),
                    format!("event_id={}&limit=1", own.event),
                    format!("event_id={}&state=delivered", own.event),
                    format!("endpoint_id={}&limit=1", own.endpoint),
                    format!("endpoint_id={}&limit=1&state=delivered", own.endpoint),
                    "limit=1&state=delivered".into(),
                ];
                let Decision::Answers(mut probes) = self.list_by_tenant("/v1/deliveries", &ways)
                else {
                    unreachable!("a list answers");
                };
                for world in &self.others {
                    for by in [
                        format!("endpoint_id={}", world.endpoint),
                        format!("endpoint_id={}", world.uid),
                        format!("event_id={}", world.event),
                    ] {
                        probes.push(probe(format!("/v1/deliveries?{by}"), Value::Null, 404));
                    }
                }
                Decision::Answers(probes)
            }
            "GET /v1/events/{id}" => self.by_id("/v1/events/{id}", |world| &world.event, 200),
            "POST /v1/events/{id}/replay" => {
                let path = "/v1/events/{id}/replay";
                let by_id = self.by_id(path, |world| &world.event, 202);
                let Decision::Answers(mut probes) = by_id else {
                    unreachable!("an id is answered");
                };
                let path = path.replace("{id}", &self.replayed);
                let to = |named: &str| json!({ "endpoint_id": named });
                for world in &self.others {
                    probes.push(probe(path.clone(), to(&world.endpoint), 404));
                    probes.push(probe(path.clone(), to(&world.uid), 404));
                }
                probes.push(probe(path, to(&self.own.uid), 202));
                Decision::Answers(probes)
            }
            "GET /v1/deliveries/{id}" | "POST /v1/deliveries/{id}/retry" => {
                let (path, status) = match operation.split_once(' ').unwrap() {
                    ("GET", path) => (path, 200),
                    (_, path) => (path, 202),
                };
                let by_id = self.by_id(path, |world| &world.delivery, status);
                let Decision::Answers(mut probes) = by_id else {
                    unreachable!("an id is answered");
                };
                // Of its event to the project's endpoint, and of another's to its own.
                for (event, endpoint) in [(&self.own, whole), (other, &self.own)] {
                    let delivery = delivery_id(&event.event, &endpoint.endpoint);
                    probes.push(probe(path.replace("{id}", &delivery), json!({}), 404));
                }
                Decision::Answers(probes)
            }
            "GET /v1/recoveries/preview" => {
                let at = |named: &str, more: &str| {
                    let since = seconds_ago(3600);
                    let query = format!("endpoint_id={named}&since={since}&{more}");
                    format!("/v1/recoveries/preview?{query}")
                };
                let mut probes = vec![];
                for kind in [
                    "kind=recover",
                    "kind=replay_missing",
                    "kind=retry&state=failed",
                ] {
                    for named in [&self.own.endpoint, &self.own.uid] {
                        probes.push(probe(at(named, kind), Value::Null, 200));
                    }
                    for world in &self.others {
                        probes.push(probe(at(&world.endpoint, kind), Value::Null, 404));
                        probes.push(probe(at(&world.uid, kind), Value::Null, 404));
                    }
                }
                let of = |tenant: &str| format!("kind=retry&state=failed&tenant={tenant}");
                let own = &self.own.endpoint;
                probes.push(probe(at(own, &of("acme")), Value::Null, 200));
                probes.push(probe(at(own, &of("brilltenant")), Value::Null, 403));
                Decision::Answers(probes)
            }
            "GET /v1/recoveries/{id}" => {
                self.by_id("/v1/recoveries/{id}", |world| &world.recovery, 200)
            }
            // The own one has ended.
            "POST /v1/recoveries/{id}/cancel" => {
                self.by_id("/v1/recoveries/{id}/cancel", |world| &world.recovery, 409)
            }
            "POST /v1/deliveries/retry" => {
                let retry = |endpoint: &str, tenant: Value| {
                    json!({
                        "endpoint_id": endpoint, "state": "failed", "since": seconds_ago(3600),
                        "tenant": tenant,
                    })
                };
                let path = || "/v1/deliveries/retry".to_owned();
                Decision::Answers(vec![
                    probe(path(), retry(&self.own.endpoint, Value::Null), 202),
                    probe(path(), retry(&self.own.uid, "acme".into()), 202),
                    probe(path(), retry(&self.own.uid, "brilltenant".into()), 403),
                    probe(path(), retry(&other.endpoint, Value::Null), 404),
                    probe(path(), retry(&other.uid, "acme".into()), 404),
                    probe(path(), retry(&whole.uid, Value::Null), 404),
                ])
            }
            "POST /v1/events" => Decision::Answers(vec![
                probe("/v1/events".into(), event("acme".into()), 202),
                probe("/v1/events".into(), event("brilltenant".into()), 403),
                probe("/v1/events".into(), event(Value::Null), 400),
                probe("/v1/events".into(), json!([event("acme".into())]), 202),
                probe(
                    "/v1/events".into(),
                    json!([event("brilltenant".into())]),
                    400,
                ),
            ]),
            "POST /v1/events/batch" => {
                let mixed = [
                    event("acme".into()),
                    event("brilltenant".into()),
                    event(Value::Null),
                ];
                Decision::Answers(vec![probe("/v1/events/batch".into(), json!(mixed), 202)])
            }
            "POST /v1/endpoints" => {
                let new = |more: Value| {
                    let mut body = json!({ "url": url, "event_types": ["never"] });
                    for (name, value) in more.as_object().unwrap() {
                        body[name] = value.clone();
                    }
                    probe("/v1/endpoints".into(), body, 201)
                };
                let refused = |more: Value, status| Probe {
                    status,
                    ..new(more)
                };
                Decision::Answers(vec![
                    new(json!({})),
                    new(json!({ "tenant": "acme" })),
                    refused(json!({ "tenant": "brilltenant" }), 403),
                    refused(json!({ "uid": other.uid }), 409),
                    refused(json!({ "uid": whole.uid }), 409),
                ])
            }
            "PATCH /v1/endpoints/{id}" => {
                let path = "/v1/endpoints/{id}";
                let by_name = self.endpoints(path, &json!({ "event_types": ["order.*"] }), 200);
                let Decision::Answers(mut probes) = by_name else {
                    unreachable!("an id is answered");
                };
                let own = path.replace("{id}", &self.own.endpoint);
                for (body, status) in [
                    (json!({ "tenant": "acme" }), 200),
                    (json!({ "tenant": "brilltenant" }), 403),
                    (json!({ "tenant": null }), 400),
                    (json!({ "uid": other.uid }), 409),
                ] {
                    probes.push(probe(own.clone(), body, status));
                }
                Decision::Answers(probes)
            }
            "PUT /v1/endpoints/{id}" => {
                let at = |named: &str| format!("/v1/endpoints/{named}");
                let body = || json!({ "url": url, "event_types": ["order.*"] });
                let mut moved = body();
                moved["tenant"] = "brilltenant".into();
                Decision::Answers(vec![
                    probe(at(&self.own.uid), body(), 200),
                    probe(at(&self.own.endpoint), body(), 200),
                    probe(at("acme-new"), body(), 201),
                    probe(at(&self.own.uid), moved.clone(), 403),
                    probe(at("acme-newer"), moved, 403),
                    probe(at(&other.endpoint), body(), 404),
                    probe(at(&whole.endpoint), body(), 404),
                    // As for one who makes it: it is taken.
                    probe(at(&other.uid), body(), 409),
                    probe(at(&whole.uid), body(), 409),
                ])
            }
            "DELETE /v1/endpoints/{id}" => {
                let at = |named: &str| format!("/v1/endpoints/{named}");
                let mut probes = vec![probe(at(&self.spare), Value::Null, 204)];
                for world in &self.others {
                    probes.push(probe(at(&world.endpoint), Value::Null, 404));
                    probes.push(probe(at(&world.uid), Value::Null, 404));
                }
                Decision::Answers(probes)
            }
            "GET /v1/endpoints/{id}"
            | "GET /v1/endpoints/{id}/secret"
            | "GET /v1/endpoints/{id}/stats" => {
                self.endpoints(operation.trim_start_matches("GET "), &Value::Null, 200)
            }
            "POST /v1/endpoints/{id}/recover" | "POST /v1/endpoints/{id}/replay-missing" => {
                self.endpoints(operation.trim_start_matches("POST "), &since, 202)
            }
            "POST /v1/endpoints/{id}/rotate-secret" => {
                self.endpoints(operation.trim_start_matches("POST "), &json!({}), 200)
            }
            "POST /v1/endpoints/{id}/test" => {
                self.endpoints(operation.trim_start_matches("POST "), &json!({}), 202)
            }
            _ => return None,
        })
    }

    /// What the project's key sees of what is not the tenant's.
    async fn of_others(&self, harness: &Harness) -> Value {
        let mut seen = vec![];
        for path in [
            "/v1/endpoints",
            "/v1/events?limit=100",
            "/v1/deliveries?limit=100",
            "/v1/recoveries?limit=100",
            "/v1/meters",
            "/v1/event-types",
        ] {
            let mut page = harness.get(path).await.expect(StatusCode::OK);
            assert_eq!(page["next_cursor"], Value::Null, "{path}");
            let rows = page["data"].as_array_mut().unwrap();
            rows.retain(|row| row["tenant"] != "acme");
            for meter in rows.iter_mut().filter(|row| row["skipped"].is_number()) {
                meter["skipped"].take();
            }
            seen.push(page["data"].take());
        }
        for world in &self.others {
            let path = format!("/v1/endpoints/{}/secret", world.endpoint);
            seen.push(harness.get(&path).await.expect(StatusCode::OK));
        }
        let of_others = |world: &World| {
            let received = world.receiver.received().into_iter();
            let others = received.filter(|received| received.json()["tenant"] != "acme");
            others.count()
        };
        seen.push(json!(self.others.each_ref().map(of_others)));
        seen.into()
    }
}

fn delivery_id(event: &str, endpoint: &str) -> String {
    let (event, endpoint) = (event.replace("evt_", ""), endpoint.replace("ep_", ""));
    format!("dlv_{event}{endpoint}")
}

/// An answer's text, cursors decoded.
fn told(answer: &Answer) -> String {
    let mut text = String::from_utf8_lossy(&answer.bytes).into_owned();
    for (_, value) in &answer.headers {
        text += "\n";
        text += value.to_str().unwrap_or_default();
    }
    if let Some(cursor) = answer.json["next_cursor"].as_str() {
        let cursor = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        // A digest, and then the position in text.
        text += &String::from_utf8_lossy(&cursor);
    }
    text
}

/// Every operation that takes a project's key, as `GET /v1/events/{id}`.
fn operations() -> Vec<String> {
    let mut operations = vec![];
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"][0].get("api_key").is_some() {
                operations.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    assert!(operations.len() > 30, "{operations:?}");
    operations
}

/// Fails for an operation of which nothing is decided in [`Worlds::decision`]: say there
/// what a tenant's key is answered.
#[test]
fn no_operation_tells_a_tenant_of_others_or_changes_what_is_theirs() {
    run(async {
        let harness = Harness::new().await;
        let worlds = Worlds::make(&harness).await;
        let key = tenant_key(&harness, "acme").await;
        // They are there, for whoever may see them.
        let [other, whole] = &worlds.others;
        for (event, endpoint) in [(&worlds.own, whole), (other, &worlds.own)] {
            let delivery = delivery_id(&event.event, &endpoint.endpoint);
            let seen = harness.get(&format!("/v1/deliveries/{delivery}")).await;
            seen.expect(StatusCode::OK);
        }
        let before = worlds.of_others(&harness).await;
        let telling: Vec<_> = worlds.others.iter().flat_map(World::telling).collect();
        let ids = [&worlds.own, &worlds.others[0], &worlds.others[1]];
        for operation in operations() {
            let decision = worlds.decision(&operation);
            let decision = decision
                .unwrap_or_else(|| panic!("{operation}: decide what a tenant's key is answered"));
            let (method, path) = operation.split_once(' ').unwrap();
            let method: Method = method.parse().unwrap();
            let probes = match decision {
                Decision::Answers(probes) => probes,
                Decision::Project(body) => {
                    let path = path
                        .replace("{id}", &worlds.meter)
                        .replace("{tenant}", "brilltenant");
                    vec![probe(path.replace("{name}", "order.paid"), body, 403)]
                }
            };
            for Probe { path, body, status } in probes {
                let asked = format!("{method} {path} {body}");
                let body = match method.as_str() {
                    "GET" | "DELETE" => Value::Null,
                    _ => body,
                };
                let answer = harness.request(method.clone(), &path, &key, body).await;
                let mut told = told(&answer);
                assert_eq!(answer.status, status, "{asked}: {told}");
                let mut cursor = answer.json["next_cursor"].clone();
                while let Some(after) = cursor.as_str() {
                    let and = if path.contains('?') { '&' } else { '?' };
                    let next = format!("{path}{and}cursor={after}");
                    let next = harness.request(Method::GET, &next, &key, Value::Null).await;
                    told += &self::told(&next);
                    cursor = next.expect(StatusCode::OK)["next_cursor"].clone();
                }
                // What is asked for by its name may be named again.
                for name in ids.iter().flat_map(|world| [&world.uid, &world.delivery]) {
                    if asked.contains(name.as_str()) {
                        told = told.replace(name.as_str(), "");
                    }
                }
                for name in &telling {
                    let is_told = told.contains(name.as_str()) && !asked.contains(name.as_str());
                    assert!(!is_told, "{asked}: told of {name}: {told}");
                }
                // One replay at a time, and no more recoveries than may run.
                harness.drain().await;
            }
        }
        assert_eq!(worlds.of_others(&harness).await, before);
    });
}

#[test]
fn what_is_counted_for_a_tenant_is_its_own() {
    run(async {
        let harness = Harness::new().await;
        let worlds = Worlds::make(&harness).await;
        let key = tenant_key(&harness, "acme").await;
        let get = async |path: &str| {
            let answer = harness.request(Method::GET, path, &key, Value::Null).await;
            answer.expect(StatusCode::OK)
        };
        let rows = async |path: &str| get(path).await["data"].as_array().unwrap().clone();
        // Two of its events, each of one.
        let usage = format!("/v1/meters/{}/usage?window=day", worlds.meter);
        let usage = format!("{usage}&from={}&group_by=tenant", seconds_ago(3600));
        let counted: f64 = rows(&usage)
            .await
            .iter()
            .map(|row| row["value"].as_f64().unwrap())
            .sum();
        assert_eq!(counted, 2.0);
        let events = rows("/v1/events").await;
        assert_eq!(events.len(), 2, "{events:?}");
        let deliveries = rows("/v1/deliveries").await;
        assert_eq!(deliveries.len(), 2, "{deliveries:?}");
        assert_eq!(rows("/v1/endpoints").await.len(), 2);
        let recoveries = rows("/v1/recoveries").await;
        assert_eq!(recoveries.len(), 2);
        assert_eq!(recoveries[1]["id"], worlds.own.recovery);
        let stats = get(&format!("/v1/endpoints/{}/stats", worlds.own.endpoint)).await;
        assert_eq!(stats["latest"]["deliveries"], 2, "not what was sent across");
        let event = get(&format!("/v1/events/{}", worlds.own.event)).await;
        assert_eq!(event["deliveries"].as_array().unwrap().len(), 1);
        let meter = get(&format!("/v1/meters/{}", worlds.meter)).await;
        assert_eq!(
            (&meter["skipped"], &meter["metadata"]),
            (&Value::Null, &json!({}))
        );
        let event_type = get("/v1/event-types/order.paid").await;
        assert_eq!(event_type["metadata"], json!({}));

        // Three endpoints take it, one of them its own.
        let event = json!({ "type": "order.paid", "tenant": "acme" });
        let published = harness
            .request(Method::POST, "/v1/events", &key, event)
            .await;
        assert_eq!(published.expect(StatusCode::ACCEPTED)["matched"], 1);
        // A recovery looks at its events alone.
        let path = format!("/v1/endpoints/{}/replay-missing", worlds.own.endpoint);
        let since = json!({ "since": seconds_ago(3600) });
        let begun = harness.request(Method::POST, &path, &key, since).await;
        let begun = begun.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        // Its second look comes once every instance knows the endpoint.
        harness.sweep_after(std::time::Duration::from_mins(1)).await;
        let path = format!("/v1/recoveries/{}", text(&begun["id"]));
        let ended = get(&path).await;
        assert_eq!(
            (&ended["state"], &ended["tenant"]),
            (&json!("done"), &json!("acme"))
        );
        assert_eq!(ended["examined"], 3, "{ended}");
    });
}

#[test]
fn a_tenant_publishes_for_itself_in_every_form() {
    run(async {
        let harness = Harness::new().await;
        let key = tenant_key(&harness, "acme").await;
        let send = async |headers: &[(&str, &str)], body: Value| {
            let mut request = Request::post("/v1/events");
            let bearer = format!("Bearer {key}");
            for (name, value) in headers.iter().chain(&[("authorization", bearer.as_str())]) {
                request = request.header(*name, *value);
            }
            harness
                .send(request.body(body.to_string().into()).unwrap())
                .await
        };
        let plain = [("content-type", "application/json")];
        let structured = [("content-type", "application/cloudevents+json")];
        let whole = |tenant: Value| {
            let mut event = json!({ "specversion": "1.0", "id": "1", "source": "/s", "type": "a" });
            if !tenant.is_null() {
                event["tenant"] = tenant;
            }
            event
        };
        for (tenant, status) in [
            (json!("acme"), 202),
            (json!("brill"), 403),
            (Value::Null, 400),
        ] {
            let in_plain = json!({ "type": "a", "tenant": tenant });
            assert_eq!(send(&plain, in_plain).await.status, status);
            assert_eq!(
                send(&structured, whole(tenant.clone())).await.status,
                status
            );
            let mut binary = vec![
                ("ce-specversion", "1.0"),
                ("ce-id", "2"),
                ("ce-source", "/s"),
            ];
            binary.extend([("ce-type", "a"), ("content-type", "application/json")]);
            binary.extend(tenant.as_str().map(|tenant| ("ce-tenant", tenant)));
            assert_eq!(send(&binary, json!({})).await.status, status);
        }
        let absent = send(&structured, whole(Value::Null)).await;
        assert_eq!(absent.json["field"], "tenant");
        let batch = [("content-type", "application/cloudevents-batch+json")];
        let events = json!([
            whole("acme".into()),
            whole("brill".into()),
            whole(Value::Null)
        ]);
        let answer = send(&batch, events).await.expect(StatusCode::ACCEPTED);
        assert_eq!(answer["rejected"], 2);
        assert_eq!(answer["data"][0]["duplicate"], true);
        assert_eq!(answer["data"][1]["error"]["status"], 403);
        assert_eq!(answer["data"][2]["error"]["field"], "tenant");
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        let tenants: Vec<_> = listed["data"].as_array().unwrap().iter().collect();
        assert_eq!(tenants.len(), 3);
        assert!(tenants.iter().all(|event| event["tenant"] == "acme"));
    });
}

#[test]
fn what_identifies_an_event_does_so_for_each_tenant() {
    run(async {
        let harness = Harness::new().await;
        let keys = [
            tenant_key(&harness, "acme").await,
            tenant_key(&harness, "brill").await,
        ];
        let [acme, brill] = &keys;
        let publish = async |key: &str, tenant: &str, n: u32| {
            let event = json!({
                "specversion": "1.0", "id": "1", "source": "/s", "type": "a", "tenant": tenant,
                "data": { "n": n },
            });
            harness
                .request(Method::POST, "/v1/events", key, event)
                .await
        };
        // Whoever comes first takes nothing from those after.
        let mut ids = std::collections::BTreeSet::new();
        for (key, tenant) in [(acme, "acme"), (brill, "brill"), (&harness.key, "acme")] {
            let first = publish(key, tenant, 1).await.expect(StatusCode::ACCEPTED);
            assert_eq!(first["duplicate"], false, "{tenant}");
            let again = publish(key, tenant, 1).await.expect(StatusCode::ACCEPTED);
            assert_eq!(
                (&again["duplicate"], &again["id"]),
                (&json!(true), &first["id"])
            );
            ids.insert(text(&first["id"]));
            let other = publish(key, tenant, 2).await.problem(409);
            assert!(other.ends_with("it differs in data"), "{other}");
        }
        assert_eq!(ids.len(), 3);
    });
}

#[test]
fn no_answer_is_given_again_to_another_tenant() {
    run(async {
        let harness = Harness::new().await;
        let keys = [
            harness.key.clone(),
            tenant_key(&harness, "acme").await,
            tenant_key(&harness, "brill").await,
        ];
        let post = async |key: &str, path: &str, body: Value| {
            let request = Request::post(path)
                .header("authorization", format!("Bearer {key}"))
                .header("content-type", "application/json")
                .header("idempotency-key", "the same");
            harness
                .send(request.body(body.to_string().into()).unwrap())
                .await
        };
        let body = json!({ "url": "https://example.com/", "event_types": ["never"] });
        let mut made = vec![];
        for key in &keys {
            let answer = post(key, "/v1/endpoints", body.clone()).await;
            assert!(!answer.headers.contains_key("idempotent-replayed"));
            made.push(answer.expect(StatusCode::CREATED));
            let again = post(key, "/v1/endpoints", body.clone()).await;
            assert!(again.headers.contains_key("idempotent-replayed"));
            assert_eq!(Some(&again.json), made.last());
        }
        let tenants: Vec<_> = made.iter().map(|endpoint| &endpoint["tenant"]).collect();
        assert_eq!(tenants, [&Value::Null, &json!("acme"), &json!("brill")]);
        assert!(made[0]["id"] != made[1]["id"] && made[1]["id"] != made[2]["id"]);
        // Two keys of one tenant are one caller, as those of a project are.
        let second = tenant_key(&harness, "acme").await;
        let again = post(&second, "/v1/endpoints", body.clone()).await;
        assert_eq!(again.json, made[1]);
    });
}

#[test]
fn a_tenants_replay_goes_to_its_own_endpoints() {
    run(async {
        let harness = Harness::new().await;
        let worlds = Worlds::make(&harness).await;
        let key = tenant_key(&harness, "acme").await;
        let [other, whole] = &worlds.others;
        let counts = || [&worlds.own, other, whole].map(|world| world.receiver.received().len());
        let before = counts();
        let replay = format!("/v1/events/{}/replay", worlds.own.event);
        let replayed = harness
            .request(Method::POST, &replay, &key, json!({}))
            .await;
        replayed.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(counts(), [before[0] + 1, before[1], before[2]]);
        // The project's key has it sent to all that match.
        harness
            .post(&replay, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(counts(), [before[0] + 2, before[1], before[2] + 1]);
    });
}

#[test]
fn a_tenant_sees_its_test_and_none_of_the_failures_of_others() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let key = tenant_key(&harness, "acme").await;
        let [own, whole] = [
            Receiver::start([]).await,
            Receiver::start([Reply::Status(410)]).await,
        ];
        let endpoint = json!({
            "url": own.url, "event_types": ["millrace.delivery.exhausted", "order"],
        });
        let made = harness
            .request(Method::POST, "/v1/endpoints", &key, endpoint)
            .await;
        let made = made.expect(StatusCode::CREATED);
        let path = format!("/v1/endpoints/{}/test", text(&made["id"]));
        let tested = harness.request(Method::POST, &path, &key, json!({})).await;
        let tested = tested.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let path = format!("/v1/deliveries/{}", text(&tested["delivery_id"]));
        let delivery = harness.request(Method::GET, &path, &key, Value::Null).await;
        assert_eq!(delivery.expect(StatusCode::OK)["state"], "delivered");

        // The project's endpoint fails for good with an event of the tenant.
        let failing = harness.endpoint(&whole.url, &["order"]).await;
        let event = json!({ "type": "order", "tenant": "acme" });
        harness.publish_body(event).await;
        harness.drain().await;
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        let types: Vec<_> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["type"])
            .collect();
        assert!(
            types.contains(&&json!("millrace.delivery.exhausted")),
            "{types:?}"
        );
        let events = harness
            .request(Method::GET, "/v1/events", &key, Value::Null)
            .await;
        let sent: Vec<_> = own
            .received()
            .iter()
            .map(|received| received.json().to_string())
            .collect();
        assert_eq!(sent.len(), 2, "its test and its order: {sent:?}");
        for told in [told(&events), sent.concat()] {
            assert!(!told.contains(failing["id"].as_str().unwrap()), "{told}");
        }
    });
}

#[test]
fn an_endpoint_that_is_given_to_another_tenant_is_gone() {
    run(async {
        let harness = Harness::new().await;
        let key = tenant_key(&harness, "acme").await;
        let body = json!({ "url": "https://example.com/", "event_types": ["never"] });
        let made = harness
            .request(Method::POST, "/v1/endpoints", &key, body)
            .await;
        let path = format!(
            "/v1/endpoints/{}",
            text(&made.expect(StatusCode::CREATED)["id"])
        );
        let get = async || harness.request(Method::GET, &path, &key, Value::Null).await;
        get().await.expect(StatusCode::OK);
        let moved = harness.patch(&path, json!({ "tenant": "brill" })).await;
        moved.expect(StatusCode::OK);
        get().await.problem(404);
        let stats = format!("{path}/stats");
        let stats = harness
            .request(Method::GET, &stats, &key, Value::Null)
            .await;
        stats.problem(404);
    });
}
