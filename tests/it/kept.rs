//! A data directory that the version before has written: it is served as it was,
//! and what was left undone is done. `kept/README.md` says what is in it.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use millrace::app;
use millrace::config::Config;
use millrace::host::start;
use millrace::model::audit::{Actor, AuditContext};
use millrace::store::{endpoints, projector};
use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::binary::{Served, first_key};
use crate::support::harness::run;
use crate::support::receiver::{Received, Receiver};

const DATA: &[u8] = include_bytes!("kept/data.tar.zst");
/// What is called how: keys by their names, ids by what they are of.
const NAMES: &str = include_str!("kept/names.json");
/// What the version before answered from the directory as it is kept.
const ANSWERS: &str = include_str!("kept/answers.jsonl");
/// What it answered of usage once it had done what was left.
const USAGE: &str = include_str!("kept/usage.jsonl");
/// The events as they were published, but for those of a batch.
const PUBLISHED: &str = include_str!("kept/published.jsonl");
/// The authority of the client certificate that an endpoint has.
const AUTHORITY: &str = include_str!("kept/authority.pem");

/// Fields that answers have since.
const ADDED: [&str; 12] = [
    "content_type",
    "events_skipped",
    "expires_at",
    "include_pending",
    "matched",
    "metadata",
    "progress",
    "rejected",
    "skipped",
    "state",
    "tenant",
    "uid",
];

/// As long as the version before was told to keep events for.
const RETENTION: (&str, &str) = ("MILLRACE_RETENTION_DAYS", "3650");
/// Leaves what is due alone.
const HTTP_ALONE: (&str, &str) = ("MILLRACE_HANDLERS", "http");
/// Longest that something may take that needs no more than a sweep.
const DONE_MAX: Duration = Duration::from_secs(60);

/// Deliveries that are left to be made, by their events: a retry that is due, a
/// first attempt, what a person asked for, what waits for an endpoint to be enabled,
/// what recoveries send, and an event whose endpoints nobody has looked for.
const LEFT: [(&str, &[&str]); 13] = [
    ("digits", &RETRIED),
    ("digits", &["dressed"]),
    ("later", &RETRIED),
    ("uncounted1", &["plain", "dressed"]),
    ("uncounted2", &["plain"]),
    ("gone", &["gone"]),
    ("wait", &["disabled"]),
    ("bad", &["retried"]),
    ("lost1", &["recovered"]),
    ("lost2", &["recovered"]),
    ("lost3", &["recovered"]),
    ("lost4", &["recovered"]),
    ("wide", &WIDE),
];
const RETRIED: [&str; 6] = [
    "bearer",
    "mutual",
    "rotated",
    "lapsed",
    "asymmetric",
    "given",
];
const WIDE: [&str; 14] = [
    "plain",
    "dressed",
    "bearer",
    "mutual",
    "rotated",
    "lapsed",
    "asymmetric",
    "given",
    "failing",
    "recovered",
    "retried",
    "disabled",
    "gone",
    "given_up",
];

/// The names of what is kept.
struct Names(Value);

impl Names {
    fn read() -> Self {
        Self(serde_json::from_str(NAMES).unwrap())
    }

    fn get(&self, of: &str, name: &str) -> &str {
        let found = self.0[of][name].as_str();
        found.unwrap_or_else(|| panic!("{of}: there is no {name}"))
    }

    fn key(&self, name: &str) -> &str {
        self.get("keys", name)
    }
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
}

/// Lays the kept directory out at `data`.
fn unpack(data: &Path) {
    let unpacked = zstd::Decoder::new(DATA).unwrap();
    tar::Archive::new(unpacked).unpack(data).unwrap();
}

fn start(data: &Path, env: &[(&str, &str)]) -> Served {
    let served = Served::start(data, &[&[RETENTION], env].concat());
    assert_eq!(first_key(&served.greeting), None, "{}", served.greeting);
    served
}

fn stop(mut served: Served) {
    served.signal("TERM");
    assert_eq!(served.wait(DONE_MAX), Some(0), "{}", served.output());
}

async fn get(served: &Served, path: &str, key: &str) -> (StatusCode, Value) {
    let answer = served.request(Method::GET, path, key, Value::Null).await;
    answer.unwrap_or_else(|| panic!("GET {path}: no answer"))
}

async fn ok(served: &Served, method: Method, path: &str, key: &str, body: Value) -> Value {
    let answer = served.request(method, path, key, body).await;
    let (status, answer) = answer.unwrap();
    assert!(status.is_success(), "{path}: {status} {answer}");
    answer
}

/// What is answered otherwise than in the `kept` answers; empty if nothing is.
async fn differing(served: &Served, names: &Names, kept: &str) -> String {
    let mut found = String::new();
    for kept in lines(kept) {
        let path = kept["path"].as_str().unwrap();
        let key = names.key(kept["key"].as_str().unwrap());
        let (status, mut body) = get(served, path, key).await;
        let mut expected = kept["body"].clone();
        for body in [&mut body, &mut expected] {
            take_texts(body);
            take_cursor(body);
        }
        take_added(&mut body, &expected);
        // A key of the wrong kind is told as that since.
        let is_told = status == StatusCode::FORBIDDEN && body["code"] == "forbidden";
        if kept["key"] == "admin" && kept["status"] == 401 && is_told {
            continue;
        }
        if kept["status"] != status.as_u16() || expected != body {
            let kept = (&kept["status"], expected);
            found += &format!(
                "GET {path}\n  was {} {}\n  is {status} {body}\n",
                kept.0, kept.1
            );
        }
    }
    found
}

/// Takes out of a problem what is another each time, and what is there for people
/// alone and may be put in better words.
fn take_texts(body: &mut Value) {
    let is_problem = body["type"]
        .as_str()
        .is_some_and(|kind| kind.starts_with("urn:millrace:problem:"));
    if let Some(problem) = body.as_object_mut().filter(|_| is_problem) {
        problem.remove("request_id");
        problem.remove("title");
        problem.remove("detail");
    }
}

/// Of a cursor it is kept that there is one: what it holds is nobody's but Millrace's.
fn take_cursor(body: &mut Value) {
    if let Some(cursor) = body
        .get_mut("next_cursor")
        .filter(|cursor| cursor.is_string())
    {
        *cursor = Value::from("a cursor");
    }
}

/// Takes out of an answer the fields that it did not have then: they may be added,
/// and none may be another or gone.
fn take_added(body: &mut Value, kept: &Value) {
    match (body, kept) {
        (Value::Object(body), Value::Object(kept)) => {
            body.retain(|field, _| kept.contains_key(field) || !ADDED.contains(&field.as_str()));
            for (field, value) in body {
                take_added(value, kept.get(field).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(body), Value::Array(kept)) => {
            for (body, kept) in body.iter_mut().zip(kept) {
                take_added(body, kept);
            }
        }
        _ => {}
    }
}

/// Waits until `what` leaves nothing to say.
async fn until_none(mut what: impl AsyncFnMut() -> String) {
    let begun = Instant::now();
    loop {
        let left = what().await;
        if left.is_empty() {
            return;
        }
        assert!(begun.elapsed() < DONE_MAX, "after {DONE_MAX:?}:\n{left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Publishes what was `published`, its body being `body`.
async fn publish(
    served: &Served,
    names: &Names,
    published: &Value,
    body: String,
) -> (StatusCode, Value) {
    let key = names.key(published["key"].as_str().unwrap());
    let mut request = http::Request::post(format!("{}/v1/events", served.url))
        .header("authorization", format!("Bearer {key}"));
    for (name, value) in published["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    let request = request.body(Bytes::from(body).into()).unwrap();
    served.send(request).await.unwrap()
}

#[test]
fn everything_is_answered_as_by_the_version_before() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        unpack(dir.path());
        let names = Names::read();
        let served = start(dir.path(), &[HTTP_ALONE]);
        let differing = differing(&served, &names, ANSWERS).await;
        assert!(differing.is_empty(), "{differing}");

        // An event is known again, and what is another under its name is refused.
        for published in lines(PUBLISHED) {
            let body = published["body"].as_str().unwrap();
            let (status, answer) = publish(&served, &names, &published, body.to_owned()).await;
            let again = json!({ "id": published["id"], "duplicate": true });
            assert_eq!((status, answer), (StatusCode::ACCEPTED, again), "{body}");
            let other = match serde_json::from_str::<Value>(body) {
                Ok(mut event) => {
                    event["type"] = json!("another");
                    event.to_string()
                }
                Err(_) => format!("{body} again"),
            };
            let (status, answer) = publish(&served, &names, &published, other.clone()).await;
            assert_eq!(status, StatusCode::CONFLICT, "{other}: {answer}");
        }
        stop(served);
    });
}

/// Those who are sent what is left: one for all endpoints but the one that has a
/// client certificate, whose receiver asks for it.
struct Receivers {
    plain: Receiver,
    mutual: Receiver,
}

impl Receivers {
    /// What came to an endpoint of an event, the latest if it came more than once.
    fn received(&self, names: &Names, event: &str, endpoint: &str) -> Received {
        let id = names.get("events", event);
        let mut received = [self.plain.received(), self.mutual.received()].concat();
        received.retain(|received| {
            received.path == format!("/hook/{endpoint}") && received.header("webhook-id") == id
        });
        let last = received.pop();
        last.unwrap_or_else(|| panic!("{event} did not come to {endpoint}"))
    }
}

/// The endpoints that are there, by name.
fn endpoints_of(names: &Names) -> impl Iterator<Item = (&String, &str)> {
    let endpoints = names.0["endpoints"].as_object().unwrap();
    let endpoints = endpoints.iter().filter(|(name, _)| *name != "deleted");
    endpoints.map(|(name, id)| (name, id.as_str().unwrap()))
}

async fn enable(served: &Served, names: &Names) {
    for (_, id) in endpoints_of(names) {
        let path = format!("/v1/endpoints/{id}");
        let changes = json!({ "state": "enabled" });
        ok(served, Method::PATCH, &path, names.key("all"), changes).await;
    }
}

/// Has every endpoint lead to the receivers, with the credentials it has: the API
/// would ask for them again.
async fn lead(data: &Path, names: &Names, receivers: &Receivers) {
    let config = Config::from_toml(&format!("data_dir = {data:?}")).unwrap();
    let started = start::assemble(config).await.unwrap();
    let app = started.app.clone();
    for (name, id) in endpoints_of(names) {
        let receiver = match name.as_str() {
            "mutual" => &receivers.mutual,
            _ => &receivers.plain,
        };
        let url = format!("{}/{name}", receiver.url);
        let by = AuditContext {
            project: names.0["project"].as_str().unwrap().parse().unwrap(),
            actor: Actor::Millrace,
            at: app::now(),
        };
        let change = |row: &mut endpoints::Endpoint| {
            row.url = url;
            Ok(())
        };
        let updated = endpoints::update(&app.postgres, &by, &id.parse().unwrap(), change).await;
        projector::apply(&app.postgres, &app.projection, updated.unwrap()).await;
    }
    drop(app);
    started.stop().await.unwrap();
}

/// The delivery of an event to an endpoint; null if there is none.
async fn delivery(served: &Served, names: &Names, event: &str, endpoint: &str) -> Value {
    let path = format!("/v1/events/{}", names.get("events", event));
    let shown = get(served, &path, names.key("all")).await.1;
    delivery_in(names, &shown, endpoint)
}

fn delivery_in(names: &Names, event: &Value, endpoint: &str) -> Value {
    let endpoint = names.get("endpoints", endpoint);
    let mut deliveries = event["deliveries"].as_array().into_iter().flatten();
    let found = deliveries.find(|delivery| delivery["endpoint_id"] == endpoint);
    found.cloned().unwrap_or_default()
}

/// The delivery as the version before answered it.
fn kept_delivery(names: &Names, event: &str, endpoint: &str) -> Value {
    let path = format!("/v1/events/{}", names.get("events", event));
    let kept = lines(ANSWERS).find(|kept| kept["path"] == path).unwrap();
    delivery_in(names, &kept["body"], endpoint)
}

async fn undelivered(served: &Served, names: &Names) -> String {
    let mut left = String::new();
    for (event, endpoints) in LEFT {
        for endpoint in endpoints {
            let delivery = delivery(served, names, event, endpoint).await;
            if delivery["state"] != "delivered" {
                left += &format!("{event} to {endpoint}: {delivery}\n");
            }
        }
    }
    // A delivery that was made already is made again.
    let replayed = delivery(served, names, "binary", "plain").await;
    if replayed["attempts_made"] != 2 || replayed["state"] != "delivered" {
        left += &format!("binary to plain: {replayed}\n");
    }
    left
}

/// Recoveries, a back-fill and a key that were on their way.
async fn unfinished(served: &Served, names: &Names) -> String {
    let mut left = String::new();
    for (recovery, resent) in [("running", 5), ("untouched", 1)] {
        let path = format!("/v1/recoveries/{}", names.get("recoveries", recovery));
        let shown = get(served, &path, names.key("all")).await.1;
        if shown["state"] != "done" || shown["resent"] != resent {
            left += &format!("{recovery}: {shown}\n");
        }
    }
    let path = format!("/v1/meters/{}/backfill", names.get("meters", "filling"));
    let shown = get(served, &path, names.key("all")).await.1;
    if shown["state"] != "done" {
        left += &format!("back-fill: {shown}\n");
    }
    let (status, _) = get(served, "/v1/events", names.key("unprojected")).await;
    if status != StatusCode::OK {
        left += &format!("the key that was not projected: {status}\n");
    }
    left
}

/// The attempts that the version before made are there, and one more.
async fn assert_attempts_go_on(served: &Served, names: &Names) {
    for (event, endpoints) in LEFT {
        for endpoint in endpoints {
            let kept = kept_delivery(names, event, endpoint);
            let now = delivery(served, names, event, endpoint).await;
            let attempts = |of: &Value| of["attempts"].as_array().cloned().unwrap_or_default();
            let (kept, now) = (attempts(&kept), attempts(&now));
            assert!(now.starts_with(&kept), "{event} to {endpoint}: {now:?}");
            assert_eq!(now.len(), kept.len() + 1, "{event} to {endpoint}: {now:?}");
        }
    }
}

fn is_signed(received: &Received, secret: &str) -> bool {
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    webhook.verify(&received.body, &received.headers).is_ok()
}

fn is_signed_by(received: &Received, public: &str) -> bool {
    let after = |text: &str, prefix| STANDARD.decode(text.strip_prefix(prefix).unwrap()).unwrap();
    let public = after(public, "whpk_").try_into().unwrap();
    let public = ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap();
    let header = |name| received.header(name);
    let head = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    let signature = after(header("webhook-signature"), "v1a,");
    let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    let signed = [head.as_bytes(), &received.body].concat();
    public.verify_strict(&signed, &signature).is_ok()
}

/// Each endpoint is called with its own secret.
async fn assert_signed(served: &Served, names: &Names, receivers: &Receivers) {
    for endpoint in WIDE {
        let path = format!("/v1/endpoints/{}/secret", names.get("endpoints", endpoint));
        let shown = get(served, &path, names.key("all")).await.1;
        let secret = shown["secret"].as_str().unwrap();
        let received = receivers.received(names, "wide", endpoint);
        let signed = match endpoint {
            "asymmetric" => is_signed_by(&received, secret),
            _ => is_signed(&received, secret),
        };
        assert!(signed, "{endpoint}: {received:?}");
    }
    // Both sign for as long as the rotated one is valid, and one does after that.
    let secret = |name| names.get("secrets", name);
    let rotated = receivers.received(names, "later", "rotated");
    assert!(is_signed(&rotated, secret("rotated_before")));
    assert!(is_signed(&rotated, secret("rotated_after")));
    let lapsed = receivers.received(names, "later", "lapsed");
    assert!(!is_signed(&lapsed, secret("lapsed_before")));
}

/// Each endpoint is called in its own way, and events are as they were published.
fn assert_sent(names: &Names, receivers: &Receivers) {
    let dressed = receivers.received(names, "digits", "dressed");
    let basic = format!("Basic {}", STANDARD.encode("mill:räce"));
    assert_eq!(dressed.header("authorization"), basic);
    assert_eq!(dressed.header("x-team"), "billing");
    assert_eq!(dressed.header("x-long"), "a b c");
    assert_eq!(dressed.header("ce-id"), "digits");
    let bearer = receivers.received(names, "digits", "bearer");
    let token = "Bearer token-of-the-kept-endpoint";
    assert_eq!(bearer.header("authorization"), token);
    assert_eq!(bearer.json()["id"], "digits");
    for received in [&dressed, &bearer] {
        let body = std::str::from_utf8(&received.body).unwrap();
        let big = r#""big":12345678901234567890.12345678901234567890"#;
        assert!(body.contains(big), "{body}");
    }
    let binary = receivers.received(names, "binary", "plain").json();
    assert_eq!(binary["data"], "hello");
    assert_eq!(binary["subject"], "café");
}

#[test]
fn work_goes_on_where_the_version_before_left_it() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        unpack(&data);
        let names = Names::read();
        let authority = Authority::new();
        let receivers = Receivers {
            plain: Receiver::start([]).await,
            mutual: Receiver::start_tls(authority.acceptor_of(AUTHORITY), []).await,
        };
        // Before anything is sent to where the receiver was when this was made.
        let served = start(&data, &[HTTP_ALONE]);
        enable(&served, &names).await;
        stop(served);
        Box::pin(lead(&data, &names, &receivers)).await;

        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, &authority.pem).unwrap();
        let ca_file = ca_file.to_str().unwrap();
        let trusting = ("MILLRACE_DELIVERY__CA_FILE", ca_file);
        let served = start(&data, &[trusting, ("MILLRACE_CACHE__TTL_S", "1")]);
        until_none(async || undelivered(&served, &names).await).await;
        until_none(async || unfinished(&served, &names).await).await;
        until_none(async || differing(&served, &names, USAGE).await).await;
        assert_attempts_go_on(&served, &names).await;
        assert_signed(&served, &names, &receivers).await;
        assert_sent(&names, &receivers);

        // A run of failures ends with the first success.
        let path = format!("/v1/endpoints/{}/stats", names.get("endpoints", "failing"));
        until_none(async || {
            let shown = get(&served, &path, names.key("all")).await.1;
            match shown["failing_since"].is_null() {
                true => String::new(),
                false => shown.to_string(),
            }
        })
        .await;

        // The latest schema of a type is in force, and a kept key publishes.
        let writer = names.key("writer");
        let refused = json!({ "type": "order.placed", "data": { "amount": 1, "region": "EU" } });
        let refused = served.request(Method::POST, "/v1/events", writer, refused);
        let (status, answer) = refused.await.unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        let sent = receivers.plain.received().len();
        let new = json!({ "type": "user.created", "data": { "new": true } });
        let new = ok(&served, Method::POST, "/v1/events", writer, new).await;
        assert_eq!(new["duplicate"], false);
        receivers.plain.reached(sent + 1).await;

        // Nothing was counted a second time meanwhile, and nothing is lost by a stop.
        stop(served);
        let served = start(&data, &[HTTP_ALONE]);
        let differing = differing(&served, &names, USAGE).await;
        assert!(differing.is_empty(), "{differing}");
        assert_eq!(undelivered(&served, &names).await, "");
    });
}
