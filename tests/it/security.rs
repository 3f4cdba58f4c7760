//! Attacks on the program as a process: secrets in its log, requests that two
//! readers understand differently, clients that hold on, and text that wants to be
//! a header.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::Served;
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// Every secret that is in use anywhere in the test, by what it is.
type Secrets = Vec<(&'static str, String)>;

/// Status and body of an answer.
async fn ask(
    served: &Served,
    method: Method,
    path: &str,
    key: &str,
    body: Value,
) -> (StatusCode, Value) {
    let answer = served.request(method, path, key, body).await;
    answer.expect("an answer")
}

fn text_of(json: &Value, name: &str) -> String {
    let text = json[name].as_str();
    text.unwrap_or_else(|| panic!("{name} in {json}"))
        .to_owned()
}

/// A day's work with every kind of secret, good and bad requests; the secrets and
/// every body of a refusal.
async fn scenario(served: &Served, admin: &str, receiver: &Receiver) -> (Secrets, Vec<String>) {
    let mut secrets: Secrets = vec![("admin key", admin.to_owned())];
    let mut refusals = Vec::new();
    let (status, project) = ask(
        served,
        Method::POST,
        "/v1/projects",
        admin,
        json!({ "name": "s" }),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{project}");
    let keys = format!("/v1/projects/{}/keys", text_of(&project, "id"));
    let scopes = json!([
        "events:write",
        "events:read",
        "endpoints:write",
        "endpoints:read"
    ]);
    let (_, created) = ask(
        served,
        Method::POST,
        &keys,
        admin,
        json!({ "name": "k", "scopes": scopes }),
    )
    .await;
    let key = text_of(&created, "key");
    secrets.push(("API key", key.clone()));

    let own = "whsec_c2VjcmV0LW9mLXRoZS1jdXN0b21lci1pbi10aGUtbG9nPw==";
    let with_login = receiver
        .url
        .replace("http://", "http://someone:url-passw0rd@");
    let endpoint = json!({ "url": receiver.url, "event_types": ["*"], "secret": own });
    let (status, endpoint) = ask(served, Method::POST, "/v1/endpoints", &key, endpoint).await;
    assert_eq!(status, StatusCode::CREATED, "{endpoint}");
    secrets.push(("signing secret", text_of(&endpoint, "secret")));
    let id = text_of(&endpoint, "id");
    for path in ["secret", "rotate-secret"] {
        let method = if path == "secret" {
            Method::GET
        } else {
            Method::POST
        };
        let (_, secret) = ask(
            served,
            method,
            &format!("/v1/endpoints/{id}/{path}"),
            &key,
            json!({}),
        )
        .await;
        secrets.push(("rotated secret", text_of(&secret, "secret")));
    }
    let login = json!({ "url": with_login, "event_types": ["*"] });
    let (status, answer) = ask(served, Method::POST, "/v1/endpoints", &key, login).await;
    if status != StatusCode::CREATED {
        refusals.push(answer.to_string());
    }
    secrets.push(("password in a URL", "url-passw0rd".to_owned()));

    let payload = "the-payload-is-nobodys-business";
    secrets.push(("payload", payload.to_owned()));
    for n in 0..4 {
        let event = json!({ "type": "a.b", "data": { "n": n, "note": payload } });
        let (status, answer) = ask(served, Method::POST, "/v1/events", &key, event).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    let wrong = "mr_wrong-but-maybe-a-typo-of-a-real-one";
    secrets.push(("unknown key", wrong.to_owned()));
    let bad_secret = "whsec_not-base64-but-secret-all-the-same";
    secrets.push(("malformed secret", bad_secret.to_owned()));
    for (method, path, key, body) in [
        (Method::GET, "/v1/events", wrong, Value::Null),
        (Method::GET, "/v1/projects", key.as_str(), Value::Null),
        (Method::POST, "/v1/projects", wrong, json!({ "name": "x" })),
        (
            Method::POST,
            "/v1/events",
            key.as_str(),
            json!({ "type": 7, "data": payload }),
        ),
        (
            Method::POST,
            "/v1/events",
            key.as_str(),
            json!({ "typ": "a", "data": payload }),
        ),
        (
            Method::POST,
            "/v1/events",
            key.as_str(),
            json!({ "type": "a", "specversion": "9", "data": payload }),
        ),
        (
            Method::POST,
            "/v1/endpoints",
            key.as_str(),
            json!({ "url": receiver.url, "secret": bad_secret }),
        ),
    ] {
        let (status, answer) = ask(served, method.clone(), path, key, body).await;
        assert!(
            status.is_client_error() && answer["code"].is_string(),
            "{method} {path}: {status} {answer}"
        );
        refusals.push(answer.to_string());
    }
    (secrets, refusals)
}

#[test]
fn no_secret_is_in_the_log_or_in_a_refusal() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let admin = "mradmin_0123456789abcdef0123456789abcdef0123456789abcdef";
        let served = Served::start(
            &dir.path().join("data"),
            &[
                ("MILLRACE_LOG__LEVEL", "trace,hyper=info,h2=info"),
                ("MILLRACE_ADMIN_KEY", admin),
                ("MILLRACE_DELIVERY__RETRY_SCHEDULE_S", "0,1,1"),
            ],
        );
        // One that fails, so that failures are logged too.
        let receiver = Receiver::start([Reply::Status(500), Reply::Status(503)]).await;
        let (secrets, refusals) = scenario(&served, admin, &receiver).await;
        receiver.reached(6).await;
        std::thread::sleep(Duration::from_millis(300));
        let log = served.output();
        // The first start shows the default project's key on purpose.
        assert!(
            log.contains("attempt failed"),
            "failures are logged:\n{log}"
        );
        for (what, secret) in &secrets {
            assert!(!log.contains(secret), "the log has the {what}");
            let bare = secret
                .split_once('_')
                .map_or(secret.as_str(), |(_, bare)| bare);
            assert!(
                !log.contains(bare),
                "the log has the {what} without its prefix"
            );
            for refusal in &refusals {
                assert!(
                    !refusal.contains(secret),
                    "a refusal has the {what}: {refusal}"
                );
            }
        }
    });
}

/// What the listener answers to raw bytes, until it closes or is silent.
fn raw(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_that_could_be_read_in_two_ways_are_read_in_none() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let served = Served::start(dir.path(), &[]);
        let address = served.url.strip_prefix("http://").unwrap();
        let smuggled = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = smuggled.len();
        let ambiguous = [
            (
                "both lengths, chunked first",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{smuggled}"
                ),
            ),
            (
                "two different lengths",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"
                ),
            ),
            (
                "a length with a sign",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: +{length}\r\n\r\n{smuggled}"
                ),
            ),
            (
                "chunked that is not last",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
                ),
            ),
            (
                "a folded header",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nX: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}"
                ),
            ),
            (
                "space before the colon",
                format!(
                    "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length : {length}\r\n\r\n{smuggled}"
                ),
            ),
            (
                "a NUL in a header",
                "GET /health HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(),
            ),
        ];
        for (what, bytes) in ambiguous {
            let answer = raw(address, bytes.as_bytes());
            let answers = answer.matches("HTTP/1.1 ").count();
            let healthy = answer.matches("HTTP/1.1 200").count();
            assert!(answers <= 1, "{what}: a second request was seen: {answer}");
            assert_eq!(healthy, 0, "{what}: {answer}");
        }
        // The same bytes as two requests are two.
        let answer = raw(address, format!("{smuggled}{smuggled}").as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    });
}

#[test]
fn clients_that_hold_on_are_let_go_and_others_served() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let served = Served::start(
            dir.path(),
            &[
                ("MILLRACE_HTTP__CONNECTIONS_MAX", "4"),
                ("MILLRACE_HTTP__HEADER_TIMEOUT_S", "1"),
                ("MILLRACE_HTTP__REQUEST_TIMEOUT_S", "2"),
            ],
        );
        let address = served.url.strip_prefix("http://").unwrap();
        // Headers that never end, and a body that never comes: every place there is.
        let slow: Vec<_> = [
            "GET /health HTTP/1.1\r\nHost: a\r\nX: ",
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        ]
        .into_iter()
        .cycle()
        .take(4)
        .map(|begun| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
        let begun = Instant::now();
        let (status, _) = served
            .request(Method::GET, "/health", "", Value::Null)
            .await
            .expect("it is served when a place is free");
        assert_eq!(status, StatusCode::OK);
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        for mut stream in slow {
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut rest = Vec::new();
            stream
                .read_to_end(&mut rest)
                .expect("it is closed, not left open");
        }
    });
}

/// Text with every character that ends or splits a header.
const INJECTION: &str = "a\r\nX-Injected: 1\r\n\r\nbody";

#[test]
fn text_never_becomes_a_header() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        // What an event carries goes into the body, if it is accepted at all.
        for name in [
            "id",
            "source",
            "type",
            "subject",
            "tenant",
            "datacontenttype",
        ] {
            let mut event =
                json!({ "specversion": "1.0", "id": "i", "source": "/s", "type": "t", "data": 1 });
            event[name] = INJECTION.into();
            let answer = harness.post("/v1/events", event).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
            assert!(!answer.headers.contains_key("x-injected"), "{name}");
        }
        // A request id that is no token is not echoed; nor can a path be.
        let request = http::Request::get("/v1/%0d%0aX-Injected:%201")
            .header("x-request-id", "not a token")
            .body(axum::body::Body::empty());
        let answer = harness.send(request.unwrap()).await;
        assert!(!answer.headers.contains_key("x-injected"));
        assert_ne!(answer.headers["x-request-id"], "not a token");
        harness.drain().await;
        assert!(receiver.received().is_empty());
        // Nor can an endpoint's URL bring one along.
        for url in [
            format!("{}\r\nX-Injected: 1", receiver.url),
            format!("{}?a=\r\nX-Injected:%201", receiver.url),
        ] {
            let created = harness.post("/v1/endpoints", json!({ "url": url })).await;
            if created.status == StatusCode::CREATED {
                let stored = created.json["url"].as_str().unwrap();
                assert!(!stored.contains(['\r', '\n']), "{stored:?}");
            }
        }
    });
}

/// Secrets are compared by `subtle` or `ring`, or looked up by their hash.
#[test]
fn secrets_are_compared_in_constant_time() {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    assert!(read("src/app.rs").contains(".ct_eq("), "the admin key");
    let session = read("src/model/session.rs");
    assert!(session.contains(".ct_eq("), "what forms carry");
    let auth = read("src/app/authentication.rs");
    assert!(
        auth.contains("api_key::hash(text)"),
        "API keys by their hash"
    );
    // Nothing that is compared with == may be secret text.
    for file in [
        "src/app.rs",
        "src/app/authentication.rs",
        "src/console/sign_in.rs",
        "src/console/form.rs",
        "src/http/auth.rs",
        "src/model/session.rs",
        "src/model/api_key.rs",
        "src/store/secrets.rs",
    ] {
        let text = read(file);
        let text = text.split("#[cfg(test)]").next().unwrap();
        for line in text
            .lines()
            .filter(|line| line.contains("==") || line.contains("!="))
        {
            assert!(
                !line.contains("expose_secret") && !line.contains("key_text"),
                "{file} compares a secret: {line}"
            );
        }
    }
}
