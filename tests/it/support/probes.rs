//! Probes: for each place of each request that the OpenAPI document describes, a request
//! that is right but for that place.
//!
//! The places are read from the document, so that what is added to the API is probed too.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::documented::document;
use super::harness::{ADMIN_KEY, Answer, Harness};

/// Stands in a body where the value goes, which may be none that `Value` holds.
const HERE: &str = "@@here@@";
/// Of a schema that refers to itself no more is filled in.
const DEPTH_MAX: usize = 6;

/// An operation of the document.
pub struct Operation {
    pub method: Method,
    /// `/v1/events/{id}`.
    pub form: &'static str,
    pub id: &'static str,
    value: &'static Value,
}

/// Every operation under `/v1`.
pub fn operations() -> Vec<Operation> {
    let mut found = vec![];
    for (form, item) in document()["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let id = value["operationId"].as_str();
            if let Some(id) = id.filter(|_| form.starts_with("/v1/")) {
                found.push(Operation {
                    method,
                    form,
                    id,
                    value,
                });
            }
        }
    }
    assert!(found.len() > 40);
    found
}

/// Where in a request a value goes.
#[derive(Debug, Clone)]
pub enum Place {
    /// In place of the value at this JSON pointer of the body.
    Body(String),
    /// In place of the name of a member of the object at this JSON pointer.
    Name(String),
    Query(&'static str),
    Path(&'static str),
    Header(String),
}

impl Operation {
    /// The body's schema, if it has one.
    fn body(&self) -> Option<&'static Value> {
        let content = self.value["requestBody"]["content"].as_object()?;
        content.values().next().map(|media| &media["schema"])
    }

    /// The properties of the body.
    pub fn properties(&self) -> &'static Map<String, Value> {
        let schema = resolved(self.body().unwrap());
        schema["properties"].as_object().unwrap()
    }

    /// Every place of its requests.
    pub fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::Header("Authorization".into())];
        for parameter in self.value["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            places.push(match parameter["in"].as_str().unwrap() {
                "query" => Place::Query(name),
                "path" => Place::Path(name),
                _ => Place::Header(name.into()),
            });
        }
        if self.method == Method::GET {
            places.push(Place::Query("unknown"));
        }
        if let Some(schema) = self.body() {
            places.push(Place::Header("Content-Type".into()));
            add_places(schema, "", 0, &mut places);
        }
        if self.id.starts_with("publishEvent") {
            let attributes = ["id", "source", "type", "subject", "time", "tenant", "ext"];
            places.extend(attributes.map(|name| Place::Header(format!("ce-{name}"))));
        }
        places
    }

    /// A body that is right.
    fn sample(&self, fixtures: &Fixtures) -> Option<Value> {
        let mut body = sample(self.body()?, 0);
        let unique = format!("n{}", fixtures.serial);
        if self.id.starts_with("create") && body["name"].is_string() {
            body["name"] = json!(unique);
        }
        if body["endpoint_id"].is_string() {
            body["endpoint_id"] = json!(fixtures.endpoint);
        }
        if self.id == "startMeterBackfill" {
            body["since"] = json!("2026-01-01T00:00:00Z");
        }
        Some(body)
    }
}

fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(reference) => document().pointer(&reference[1..]).unwrap(),
        None => schema,
    }
}

fn alternatives(schema: &'static Value) -> Vec<&'static Value> {
    let schema = resolved(schema);
    match schema["oneOf"].as_array() {
        Some(all) => all.iter().flat_map(alternatives).collect(),
        None => vec![schema],
    }
}

/// Whether null is one of the values that `schema` describes.
pub fn is_nullable(schema: &'static Value) -> bool {
    let is_null = |schema: &Value| match &schema["type"] {
        Value::Array(types) => types.contains(&json!("null")),
        one => one == "null",
    };
    alternatives(schema).into_iter().any(is_null)
}

/// Adds the places at and below `at`.
fn add_places(schema: &'static Value, at: &str, depth: usize, places: &mut Vec<Place>) {
    places.push(Place::Body(at.to_owned()));
    if depth > DEPTH_MAX {
        return;
    }
    for schema in alternatives(schema) {
        let properties = schema["properties"].as_object();
        for (name, schema) in properties.into_iter().flatten() {
            add_places(schema, &format!("{at}/{name}"), depth + 1, places);
        }
        if properties.is_some() || schema["additionalProperties"].is_object() {
            places.push(Place::Name(at.to_owned()));
        }
        if schema["additionalProperties"].is_object() {
            let of_members = &schema["additionalProperties"];
            add_places(of_members, &format!("{at}/member"), depth + 1, places);
        }
        if schema["items"].is_object() {
            add_places(&schema["items"], &format!("{at}/0"), depth + 1, places);
        }
    }
}

/// A value that `schema` describes: its example, or the least there is.
fn sample(schema: &'static Value, depth: usize) -> Value {
    let schema = alternatives(schema)[0];
    let example = &schema["examples"][0];
    if !example.is_null() {
        return example.clone();
    }
    if !schema["enum"][0].is_null() {
        return schema["enum"][0].clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[0].as_str(),
        kind => kind.as_str(),
    };
    match (kind, schema["format"].as_str()) {
        (Some("object"), _) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let required = required.filter(|_| depth < DEPTH_MAX);
            let named = required.map(|name| {
                let name = name.as_str().unwrap();
                let value = sample(&schema["properties"][name], depth + 1);
                (name.to_owned(), value)
            });
            Value::Object(named.collect())
        }
        (Some("array"), _) => json!([sample(&schema["items"], depth + 1)]),
        (Some("integer" | "number"), _) => json!(1),
        (Some("boolean"), _) => json!(true),
        (_, Some("date-time")) => json!("2026-01-01T00:00:00Z"),
        (_, Some("uri")) => json!("https://example.com/"),
        _ => json!("a"),
    }
}

/// What the paths of requests name, of which there is one each.
pub struct Fixtures {
    endpoint: String,
    event_type: String,
    meter: String,
    event: String,
    recovery: String,
    key: String,
    erasure: String,
    /// Counts the requests, for names that nothing else has.
    serial: usize,
}

impl Fixtures {
    pub async fn new(harness: &Harness) -> Self {
        let mut fixtures = Self {
            endpoint: String::new(),
            event_type: String::new(),
            meter: String::new(),
            event: String::new(),
            recovery: String::new(),
            key: String::new(),
            erasure: String::new(),
            serial: 0,
        };
        fixtures.renew(harness).await;
        fixtures
    }

    /// Makes them all anew: what was there was changed, or is in use.
    pub async fn renew(&mut self, harness: &Harness) {
        self.serial += 1;
        let name = format!("fixture.{}", self.serial);
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        self.endpoint = id(harness.endpoint("http://127.0.0.1:9/", &[&name]).await);
        let body = json!({ "name": name, "schema": {} });
        let made = harness.post("/v1/event-types", body).await;
        made.expect(StatusCode::CREATED);
        if !self.meter.is_empty() {
            harness.delete(&format!("/v1/meters/{}", self.meter)).await;
        }
        let body = json!({ "name": name, "event_type": name, "aggregation": "count" });
        self.meter = harness.new_meter(body).await;
        self.event = harness.publish("fixture").await;
        let path = format!("/v1/endpoints/{}/recover", self.endpoint);
        let body = json!({ "since": "2026-01-01T00:00:00Z" });
        let begun = harness.post(&path, body).await;
        self.recovery = id(begun.expect(StatusCode::ACCEPTED));
        let path = format!("/v1/recoveries/{}/cancel", self.recovery);
        harness.post(&path, Value::Null).await;
        let path = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": name, "scopes": ["events:read"] });
        let made = harness.as_admin(Method::POST, &path, body).await;
        self.key = id(made.expect(StatusCode::CREATED));
        let path = format!("/v1/tenants/{name}");
        let begun = harness.delete(&path).await;
        self.erasure = id(begun.expect(StatusCode::ACCEPTED));
        self.event_type = name;
    }

    /// The path of `operation`, with `value` in place of the parameter `of`.
    fn path(&self, harness: &Harness, form: &str, of: Option<(&str, &str)>) -> String {
        let delivery = format!("dlv_{}{}", &self.event[4..], &self.endpoint[3..]);
        let first = form.split('/').nth(2).unwrap_or_default();
        let id = match first {
            "events" => &self.event,
            "endpoints" => &self.endpoint,
            "deliveries" => &delivery,
            "meters" => &self.meter,
            "recoveries" => &self.recovery,
            "erasures" => &self.erasure,
            _ => &harness.project,
        };
        let known = [
            ("id", id.as_str()),
            ("name", &self.event_type),
            ("key_id", &self.key),
            ("erasure_id", &self.erasure),
            ("tenant", "fixture"),
        ];
        let mut path = form.to_owned();
        for (name, right) in known {
            let value = of.filter(|(of, _)| *of == name).map(|(_, value)| value);
            path = path.replace(&format!("{{{name}}}"), value.unwrap_or(right));
        }
        assert!(!path.contains('{'), "no fixture for {form}");
        path
    }

    /// A request of `operation` that is right but for `value` in `place`: JSON in the
    /// body, as it is written elsewhere. None where HTTP has no place for it.
    pub fn request(
        &mut self,
        harness: &Harness,
        operation: &Operation,
        place: &Place,
        value: &str,
    ) -> Option<Request<Body>> {
        self.serial += 1;
        let in_path = match place {
            Place::Path(name) => Some((*name, value)),
            _ => None,
        };
        let mut path = self.path(harness, operation.form, in_path);
        if let Place::Query(name) = place {
            let mut required = match operation.id {
                "getMeterUsage" => "from=2026-01-01T00:00:00Z&".to_owned(),
                "listMeterValues" => "from=2026-01-01T00:00:00Z&dimension=tenant&".to_owned(),
                "previewRecovery" => format!(
                    "kind=retry&state=failed&since=2026-01-01T00:00:00Z&endpoint_id={}&",
                    self.endpoint
                ),
                _ => String::new(),
            };
            // One that is given twice is refused for that.
            let of_another = |pair: &&str| !pair.starts_with(&format!("{name}="));
            let others: Vec<_> = required.split_inclusive('&').filter(of_another).collect();
            required = others.concat();
            path = format!("{path}?{required}{name}={value}");
        }
        let is_admins = ["/v1/projects", "/v1/admin"]
            .iter()
            .any(|form| operation.form.starts_with(form));
        let key = if is_admins { ADMIN_KEY } else { &harness.key };
        let request = Request::builder()
            .method(operation.method.clone())
            .uri(path);
        let mut request = request.header("authorization", format!("Bearer {key}"));
        let body = operation.sample(self).map(|body| with(body, place, value));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        if let Place::Header(name) = place {
            let in_binary_mode = [
                ("ce-specversion", "1.0"),
                ("ce-id", "1"),
                ("ce-source", "/s"),
                ("ce-type", "t"),
            ];
            let headers = request.headers_mut()?;
            for (name, value) in in_binary_mode.iter().filter(|_| name.starts_with("ce-")) {
                headers.insert(*name, value.parse().unwrap());
            }
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, http::HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
        request.body(Body::from(body.unwrap_or_default())).ok()
    }

    /// Sends a probe; what it made is taken away again, and if it was in the way of what
    /// was made before, it is sent once more.
    pub async fn probe(
        &mut self,
        harness: &Harness,
        operation: &Operation,
        place: &Place,
        value: &str,
    ) -> Option<Answer> {
        let request = self.request(harness, operation, place, value)?;
        let mut answer = harness.send(request).await;
        if answer.status == StatusCode::CONFLICT {
            self.renew(harness).await;
            let request = self.request(harness, operation, place, value)?;
            answer = harness.send(request).await;
        }
        assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        if answer.status.is_success() {
            self.undo(harness, operation, &answer).await;
        }
        Some(answer)
    }

    async fn undo(&mut self, harness: &Harness, operation: &Operation, answer: &Answer) {
        let id = answer.json["id"].as_str().unwrap_or_default();
        match operation.id {
            "createMeter" => drop(harness.delete(&format!("/v1/meters/{id}")).await),
            "recoverEndpoint" | "replayMissingEvents" | "retryDeliveries" => {
                let path = format!("/v1/recoveries/{id}/cancel");
                drop(harness.post(&path, Value::Null).await);
            }
            _ => {}
        }
    }
}

/// `body` with the JSON text `value` in `place`.
fn with(mut body: Value, place: &Place, value: &str) -> String {
    match place {
        Place::Body(at) => {
            *entry(&mut body, at) = json!(HERE);
            body.to_string().replace(&format!("\"{HERE}\""), value)
        }
        Place::Name(at) if value.starts_with('"') => {
            *entry(&mut body, &format!("{at}/{HERE}")) = json!("v");
            body.to_string().replace(&format!("\"{HERE}\""), value)
        }
        _ => body.to_string(),
    }
}

/// The value at `at`, which is made with all that leads there if it is not there.
fn entry<'a>(body: &'a mut Value, at: &str) -> &'a mut Value {
    let mut found = body;
    for step in at.split('/').skip(1) {
        found = match step.parse::<usize>() {
            Ok(_) => {
                if found.as_array().is_none_or(Vec::is_empty) {
                    *found = json!([null]);
                }
                &mut found[0]
            }
            Err(_) => {
                if !found.is_object() {
                    *found = json!({});
                }
                &mut found[step]
            }
        };
    }
    found
}
