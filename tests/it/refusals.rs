//! The words of refusals: every route is given what it cannot use, and no answer says
//! it in the words of a library.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::harness::{ADMIN_KEY, Answer, Harness, run};

/// What serde, serde_json, jiff, url, base64, the standard library and axum say, and
/// what only a programmer reads.
const LIBRARY_WORDS: [&str; 62] = [
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "did not match any",
    "sequence",
    "expected struct",
    "newtype",
    "tuple",
    "untagged",
    "internally tagged",
    "unit variant",
    "floating point",
    "expected a map",
    "EOF",
    "at line",
    "column",
    "trailing characters",
    "trailing comma",
    "recursion limit",
    "expected value",
    "expected ident",
    "key must be",
    "lone leading",
    "hex escape",
    "while parsing",
    "control character (",
    "invalid escape",
    "invalid number",
    "invalid digit",
    "number too",
    "number out of",
    "cannot parse",
    "failed to",
    "Failed to",
    "parse error",
    "serde",
    "jiff",
    "Some(",
    "None)",
    "Err(",
    "Error {",
    "u32",
    "usize",
    "i64",
    "f64",
    "invalid port",
    "relative URL",
    "cannot-be-a-base",
    "domain character",
    "Invalid byte",
    "Invalid symbol",
    "Invalid last",
    "Invalid padding",
    "invalid utf-8",
    "valid UTF-8",
    "fancy_regex",
    "does not exist",
    "`",
];

/// Fails if the answer is a refusal in other words than the API's, or none of ours.
fn check(what: &str, answer: &Answer) {
    if answer.status.is_success() {
        return;
    }
    assert!(answer.status.is_client_error(), "{what}: {}", answer.json);
    let detail = answer.json["detail"].as_str();
    assert!(detail.is_some_and(|text| !text.is_empty()), "{what}");
    let mut said = answer.json.clone();
    // At random, and so any word now and then.
    said.as_object_mut().unwrap().remove("request_id");
    let text = said.to_string();
    for words in LIBRARY_WORDS {
        assert!(!text.contains(words), "{what}: {words:?} in {text}");
    }
    assert!(text.len() < 4096, "{what}: {text}");
}

/// Bodies that are no JSON object, or not one of any route.
fn bodies() -> Vec<Vec<u8>> {
    let deep = format!(r#"{{"data": {}{}}}"#, "[".repeat(300), "]".repeat(300));
    let texts = [
        "{",
        "[",
        "\"a",
        "{\"a\": 1,}",
        "{\"a\" 1}",
        "{'a': 1}",
        "{a: 1}",
        "{\"a\": tru}",
        "{\"a\": 01}",
        "{\"a\": 1e999}",
        "{\"a\": \"\\x\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\n\"}",
        "{} {}",
        "[]",
        "[1]",
        "[[]]",
        "[{}]",
        "\"text\"",
        "5",
        "true",
        "null",
        "{\"nothing_of_ours\": 1}",
        "\u{feff}{}",
        "nonsense",
        "a=b&c=d",
        &*deep,
    ];
    let texts = texts.iter().map(|text| text.as_bytes().to_vec());
    texts.chain([b"{\"a\": \"\xff\"}".to_vec()]).collect()
}

/// Values of which each field refuses some.
const VALUES: [&str; 20] = [
    "null",
    "5",
    "-1",
    "0",
    "1.5",
    "1e999",
    "true",
    "\"\"",
    "\"x y\"",
    "\"*a\"",
    "\"\\u0000\"",
    "\"http://[::1\"",
    "\"https://a:99999\"",
    "[]",
    "[1]",
    "[[]]",
    "{}",
    "{\"a\": {}}",
    "[{\"pointer\": 5}]",
    "{\"type\": \"nobody\"}",
];

const QUERY_VALUES: [&str; 15] = [
    "",
    "x",
    "-1",
    "0",
    "1.5",
    "101",
    "99999999999999999999",
    "true",
    "%00",
    "%FF",
    "yesterday",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:00+01:00",
    "a%2A",
    "ep_1",
];

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap(),
        None => schema,
    }
}

/// A path of that form that names nothing.
fn path_of(form: &str, project: &str) -> String {
    let prefixes = [
        ("/v1/events/", "evt_", 32),
        ("/v1/endpoints/", "ep_", 26),
        ("/v1/deliveries/", "dlv_", 58),
        ("/v1/meters/", "mtr_", 26),
        ("/v1/recoveries/", "rec_", 26),
    ];
    let prefix = prefixes
        .iter()
        .find(|(begins, ..)| form.starts_with(begins));
    let id = match prefix {
        Some((_, prefix, len)) => format!("{prefix}{}", "0".repeat(*len)),
        None => project.to_owned(),
    };
    let path = form.replace("{id}", &id).replace("{name}", "nothing");
    path.replace("{key_id}", "key_00000000000000000000000000")
}

async fn send(
    harness: &Harness,
    method: &Method,
    path: &str,
    headers: &[(&str, &[u8])],
    body: impl Into<Body>,
) -> Answer {
    let is_admins = path.starts_with("/v1/projects");
    let key = if is_admins { ADMIN_KEY } else { &harness.key };
    let mut request = Request::builder().method(method.clone()).uri(path);
    if !headers.iter().any(|(name, _)| *name == "authorization") {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(body.into()).unwrap()).await
}

const JSON: (&str, &[u8]) = ("content-type", b"application/json");

#[test]
fn no_route_speaks_in_the_words_of_a_library() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        let document = harness.get("/openapi.json").await.expect(StatusCode::OK);
        let mut refused = 0;
        let mut see = |what: &str, answer: &Answer| {
            check(what, answer);
            refused += usize::from(!answer.status.is_success());
        };
        for (form, item) in document["paths"].as_object().unwrap() {
            let path = path_of(form, &harness.project);
            for (method, operation) in item.as_object().unwrap() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else {
                    continue;
                };
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let name = parameter["name"].as_str().unwrap();
                    if parameter["in"] != "query" {
                        continue;
                    }
                    for value in QUERY_VALUES {
                        let path = format!("{path}?{name}={value}");
                        let answer = send(&harness, &method, &path, &[], "").await;
                        see(&format!("{method} {path}"), &answer);
                    }
                    let twice = format!("{path}?{name}=a&{name}=b&nothing_of_ours=1");
                    see(&twice, &send(&harness, &method, &twice, &[], "").await);
                }
                let content = operation["requestBody"]["content"].as_object();
                for (_, media) in content.into_iter().flatten() {
                    let schema = resolve(&document, &media["schema"]);
                    let fields = schema["properties"].as_object();
                    for name in fields.into_iter().flat_map(|fields| fields.keys()) {
                        for value in VALUES {
                            let body = format!("{{\"{name}\": {value}}}");
                            let what = format!("{method} {path} {body}");
                            see(&what, &send(&harness, &method, &path, &[JSON], body).await);
                        }
                    }
                }
                if content.is_none() {
                    continue;
                }
                for body in bodies() {
                    let what = format!("{method} {path} {}", String::from_utf8_lossy(&body));
                    see(&what, &send(&harness, &method, &path, &[JSON], body).await);
                }
                for kind in [
                    &b"text/plain"[..],
                    b"application/json; charset=utf-16",
                    b"\xff",
                    b";",
                ] {
                    let headers = [("content-type", kind)];
                    let what = format!("{method} {path} as {kind:?}");
                    see(&what, &send(&harness, &method, &path, &headers, "{}").await);
                }
            }
        }
        assert!(refused > 1000, "{refused}");
    });
}

#[test]
fn no_mode_of_publishing_does_either() {
    run(async {
        let mut harness = Harness::new().await;
        harness.leaves_jobs = true;
        for content_type in [
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "application/json",
        ] {
            let headers = [("content-type", content_type.as_bytes())];
            let event = |member: &str| {
                format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{member}}}"#)
            };
            let events = [
                r#""data":1,"data":2"#,
                r#""data_base64":"AAE""#,
                r#""data_base64":"A-_=""#,
                r#""data":1e999"#,
                r#""time":"yesterday""#,
                r#""x":[]"#,
                r#""x":1e999"#,
                r#""dataschema":"x y""#,
                r#""subject":"\ud800""#,
                r#""datacontenttype":";""#,
            ];
            let events = events.map(event).into_iter();
            let events = events.flat_map(|event| [format!("[{event}]"), event]);
            for body in bodies().into_iter().chain(events.map(String::into_bytes)) {
                let what = format!("{content_type} {}", String::from_utf8_lossy(&body));
                let answer = send(&harness, &Method::POST, "/v1/events", &headers, body).await;
                check(&what, &answer);
            }
        }
        let attributes: [(&str, &[u8]); 4] = [
            ("ce-specversion", b"1.0"),
            ("ce-id", b"1"),
            ("ce-source", b"/s"),
            ("ce-type", b"t"),
        ];
        for wrong in [
            ("content-type", &b"application/json"[..]),
            ("content-type", b"\xff"),
            ("ce-time", b"1"),
            ("ce-ext", b"%C0"),
            ("ce-dataschema", b"a b"),
        ] {
            let headers = [&attributes[..], &[wrong]].concat();
            let answer = send(&harness, &Method::POST, "/v1/events", &headers, "{").await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong:?}");
            check(&format!("{wrong:?}"), &answer);
        }
    });
}

#[test]
fn a_refusal_names_the_field_and_what_was_expected() {
    run(async {
        let harness = Harness::new().await;
        let mut said = String::new();
        for (method, path, body) in [
            (Method::POST, "/v1/endpoints", "{"),
            (Method::POST, "/v1/endpoints", "[]"),
            (Method::POST, "/v1/endpoints", "{}"),
            (Method::POST, "/v1/endpoints", r#"{"url": 5}"#),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"url": "x", "nothing": 5}"#,
            ),
            (Method::POST, "/v1/endpoints", r#"{"url": "example.com"}"#),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"url": "https://a:99999/"}"#,
            ),
            (Method::POST, "/v1/endpoints", r#"{"url": "https:///"}"#),
            (Method::POST, "/v1/endpoints", r#"{"event_types": {}}"#),
            (Method::POST, "/v1/endpoints", r#"{"event_types": [5]}"#),
            (Method::POST, "/v1/endpoints", r#"{"scheme": "v3"}"#),
            (Method::POST, "/v1/endpoints", r#"{"rate_limit": -5}"#),
            (Method::POST, "/v1/endpoints", r#"{"headers": {"a": 5}}"#),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"auth": {"type": "basic"}}"#,
            ),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"auth": {"type": "basic", "username": 5}}"#,
            ),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"auth": {"type": "bearer", "username": "a"}}"#,
            ),
            (
                Method::POST,
                "/v1/endpoints",
                r#"{"auth": {"type": "digest"}}"#,
            ),
            (Method::POST, "/v1/endpoints", r#"{"auth": "basic"}"#),
            (
                Method::POST,
                "/v1/meters",
                r#"{"filters": [{"pointer": "/a", "in": 5}]}"#,
            ),
            (
                Method::POST,
                "/v1/event-types",
                r##"{"name": "a", "schema": {"$ref": "#/b"}}"##,
            ),
            (
                Method::POST,
                "/v1/deliveries/retry",
                r#"{"since": "yesterday"}"#,
            ),
            (Method::GET, "/v1/events?since=2026-01-01", ""),
            (Method::GET, "/v1/events?limit=ten", ""),
            (Method::GET, "/v1/deliveries?state=lost", ""),
            (Method::DELETE, "/v1/events", ""),
            (Method::PUT, "/health", ""),
        ] {
            let answer = send(&harness, &method, path, &[JSON], body).await;
            let status = answer.status.as_u16();
            let problem = answer.problem(status);
            said.push_str(&format!("{method} {path} {body} => {status} {problem}\n"));
        }
        let as_text = [("content-type", &b"text/plain"[..])];
        for headers in [&as_text[..], &[]] {
            let answer = send(&harness, &Method::POST, "/v1/endpoints", headers, "{}").await;
            said.push_str(&answer.problem(415));
            said.push('\n');
        }
        assert_snapshot!(said, @r##"
        POST /v1/endpoints { => 400 invalid: the body: expected JSON: it ends too early
        POST /v1/endpoints [] => 400 invalid: the body: expected a JSON object, got an array
        POST /v1/endpoints {} => 400 invalid: url: expected a value, got nothing: it is required
        POST /v1/endpoints {"url": 5} => 400 invalid: url: expected a string, got a number
        POST /v1/endpoints {"url": "x", "nothing": 5} => 400 invalid: nothing: not known here, expected one of url, uid, description, state, event_types, tenant, scheme, secret, rate_limit, max_concurrency, body_format, content_type, headers, auth, client_certificate, metadata
        POST /v1/endpoints {"url": "example.com"} => 400 invalid: url: expected an absolute URL such as https://example.com/webhooks
        POST /v1/endpoints {"url": "https://a:99999/"} => 400 invalid: url: expected an absolute URL with a port from 0 to 65535
        POST /v1/endpoints {"url": "https:///"} => 400 invalid: url: expected an absolute URL with a host
        POST /v1/endpoints {"event_types": {}} => 400 invalid: event_types: expected an array, got an object
        POST /v1/endpoints {"event_types": [5]} => 400 invalid: event_types[0]: expected a string, got a number
        POST /v1/endpoints {"scheme": "v3"} => 400 invalid: scheme: expected one of v1, v1a, got a string of 2 characters
        POST /v1/endpoints {"rate_limit": -5} => 400 invalid: rate_limit: expected a whole number of 0 or more, got a negative number
        POST /v1/endpoints {"headers": {"a": 5}} => 400 invalid: headers.a: expected a string
        POST /v1/endpoints {"auth": {"type": "basic"}} => 400 invalid: auth.username: expected a value, got nothing: it is required
        POST /v1/endpoints {"auth": {"type": "basic", "username": 5}} => 400 invalid: auth.username: expected a string
        POST /v1/endpoints {"auth": {"type": "bearer", "username": "a"}} => 400 invalid: auth.username: not known here, expected one of type, token
        POST /v1/endpoints {"auth": {"type": "digest"}} => 400 invalid: auth.type: expected one of basic, bearer, got a string of 6 characters
        POST /v1/endpoints {"auth": "basic"} => 400 invalid: auth: expected an object, got a string
        POST /v1/meters {"filters": [{"pointer": "/a", "in": 5}]} => 400 invalid: filters[0].in: expected an array, got a number
        POST /v1/event-types {"name": "a", "schema": {"$ref": "#/b"}} => 400 invalid: schema: expected every $ref to lead to a place in this schema
        POST /v1/deliveries/retry {"since": "yesterday"} => 400 invalid: since: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        GET /v1/events?since=2026-01-01  => 400 invalid: since: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 10 characters
        GET /v1/events?limit=ten  => 400 invalid: limit: expected a whole number of 0 or more
        GET /v1/deliveries?state=lost  => 400 invalid: state: expected one of pending, delivered, failed, canceled, got a string of 4 characters
        DELETE /v1/events  => 405 invalid: method: expected POST, GET, HEAD, got another
        PUT /health  => 405 invalid: method: expected GET, HEAD, got another
        unsupported_media_type: Content-Type: expected application/json, in UTF-8; got another
        unsupported_media_type: Content-Type: expected application/json, in UTF-8; got none
        "##);
    });
}

#[test]
fn a_key_of_the_wrong_kind_is_told_as_that() {
    run(async {
        let harness = Harness::new().await;
        let ask = async |path: &str, key: &str| {
            harness.request(Method::GET, path, key, Value::Null).await
        };
        let refused = ask("/v1/events", ADMIN_KEY).await.problem(403);
        assert_snapshot!(refused, @r#"forbidden: the API key of a project (mr_…) is needed here; this is the admin key"#);
        let refused = ask("/v1/projects", &harness.key).await.problem(403);
        assert_snapshot!(refused, @"forbidden: the admin key is needed here; this is the API key of a project");
        // What is no key at all is told no more than that.
        let refused = ask("/v1/projects", "mr_nobody").await.problem(401);
        assert_snapshot!(refused, @"unauthenticated: the admin key is needed here; this key is not known");
        let refused = ask("/v1/events", "mradmin_nobody").await.problem(401);
        assert_snapshot!(refused, @"unauthenticated: the API key is not known");
        // Nor is a key that was revoked.
        let path = format!("/v1/projects/{}/keys", harness.project);
        let body = json!({ "name": "gone", "scopes": ["events:read"] });
        let made = harness.as_admin(Method::POST, &path, body).await;
        let made = made.expect(StatusCode::CREATED);
        let key = made["key"].as_str().unwrap();
        let path = format!("{path}/{}", made["id"].as_str().unwrap());
        let revoked = harness.as_admin(Method::DELETE, &path, Value::Null).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
        ask("/v1/projects", key).await.problem(401);
    });
}
