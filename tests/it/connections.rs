//! Connections: heads that are no HTTP, clients that are refused while they send, and
//! clients that take none of their answers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use millrace::host::tcp::{self, ServeOptions};
use millrace::model::api_key;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::harness::{Harness, run};

/// A listener on a port of its own, until it is dropped.
struct Listener {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Listener {
    async fn start(router: Router, options: ServeOptions) -> Self {
        let listener = tcp::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let requests = TaskTracker::new();
        tokio::spawn(tcp::serve(
            listener,
            router,
            options,
            stop.clone(),
            requests,
        ));
        Self {
            address,
            _stop: stop.drop_guard(),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Every answer to `requests`, of which the last head ends the connection.
    async fn answers(&self, requests: &str) -> String {
        let mut stream = self.connect().await;
        let requests = requests.strip_suffix("\r\n\r\n").unwrap_or(requests);
        let requests = format!("{requests}\r\nConnection: close\r\n\r\n");
        stream.write_all(requests.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }
}

fn options() -> ServeOptions {
    ServeOptions {
        header_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        write_timeout: Duration::from_secs(20),
        connections_max: 8,
        drain_timeout: Duration::ZERO,
        drain_grace: Duration::ZERO,
    }
}

/// What is sent until the end, which is no reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

fn statuses(answers: &str) -> Vec<&str> {
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads.map(|head| &head[..3]).collect()
}

/// The problem that an answer is.
fn problem(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/problem+json"), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
fn a_head_that_is_read_in_two_ways_is_refused_as_a_problem() {
    run(async {
        let harness = Harness::new().await;
        let listener = Listener::start(harness.router.clone(), options()).await;
        let key = format!("Authorization: Bearer {}", harness.key);
        for (lines, field) in [
            ("GET /v1/events HTTP/1.1", "Host"),
            ("GET /health HTTP/1.1", "Host"),
            ("GET /nothing HTTP/1.1", "Host"),
            ("GET http://a/health HTTP/1.1", "Host"),
            ("GET /health HTTP/1.1\r\nHost:", "Host"),
            ("GET /health HTTP/1.1\r\nHost: a\r\nHost: a", "Host"),
            ("GET /health HTTP/1.1\r\nhost: a\r\nHOST: b", "Host"),
            ("GET /health HTTP/1.1\r\nHost: a b", "Host"),
            ("GET /health HTTP/1.1\r\nHost: user@a", "Host"),
            ("GET /health HTTP/1.1\r\nHost: a:b", "Host"),
            (
                &*format!("GET /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\n{key}"),
                "Authorization",
            ),
            (
                &*format!(
                    "GET /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\nauthorization: Basic YTpi"
                ),
                "Authorization",
            ),
            (
                "GET /v1/events HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: b",
                "x_forwarded_for",
            ),
            ("POST /v1/events HTTP/1.1\r\nHost: a\r\nce_id: b", "ce_id"),
            (
                "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: a/b",
                "Content-Type",
            ),
        ] {
            let answer = listener.answers(lines).await;
            assert_eq!(statuses(&answer), ["400"], "{lines}: {answer}");
            let problem = problem(&answer);
            assert_eq!(problem["field"], field, "{lines}: {problem}");
            assert!(problem["request_id"].is_string(), "{lines}");
        }
        let chunked = "Transfer-Encoding: chunked";
        let both = format!("Content-Length: 5\r\n{chunked}\r\n\r\n0\r\n\r\n");
        let swapped = format!("{chunked}\r\nContent-Length: 5\r\n\r\n0\r\n\r\n");
        for lengths in [&both, &swapped] {
            let request = format!("POST /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\n{lengths}");
            let answer = listener.answers(&request).await;
            assert_eq!(statuses(&answer), ["400"], "{lengths}: {answer}");
            assert_eq!(problem(&answer)["field"], "Content-Length", "{lengths}");
            // Behind another request, too.
            let health = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
            let behind = format!("{health}{request}{health}");
            let answers = listener.answers(&behind).await;
            assert_eq!(statuses(&answers), ["200", "400"], "{lengths}: {answers}");
        }
        // What hyper itself refuses is a problem as well.
        let long = format!("GET /{} HTTP/1.1\r\nHost: a", "a".repeat(70_000));
        let many = format!("GET / HTTP/1.1\r\nHost: a{}", "\r\nA: b".repeat(9_000));
        for (lines, status) in [
            (
                "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2",
                400,
            ),
            (
                "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: +1",
                400,
            ),
            (
                "POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip",
                400,
            ),
            ("GET /health HTTP/1.1\r\nHost : a", 400),
            ("GET /health HTTP/1.1\r\nHost: a\r\nX: a\r\n b", 400),
            ("GET /health", 400),
            ("GET /a b HTTP/1.1", 400),
            (&long, 414),
            (&many, 431),
        ] {
            let answer = listener.answers(lines).await;
            let problem = problem(&answer);
            assert_eq!(problem["status"], status, "{lines}: {answer}");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        for lines in [
            "GET /health HTTP/1.0",
            "GET http://a/health HTTP/1.1\r\nHost: b",
        ] {
            let answer = listener.answers(lines).await;
            let status = answer.split(' ').nth(1);
            assert_eq!(status, Some("200"), "{lines}: {answer}");
        }
    });
}

/// Heads of requests that are refused before their body is read, and how.
fn refused(harness: &Harness, length: &str) -> Vec<(String, &'static str)> {
    let host = "HTTP/1.1\r\nHost: a";
    let key = format!("Authorization: Bearer {}", harness.key);
    let json = "Content-Type: application/json";
    let mut heads = vec![];
    for (head, status) in [
        (format!("POST /v1/events {host}\r\n{json}"), "401"),
        (
            format!("POST /v1/events {host}\r\nAuthorization: Bearer mr_no\r\n{json}"),
            "401",
        ),
        (
            format!("POST /v1/projects {host}\r\n{key}\r\n{json}"),
            "403",
        ),
        (format!("POST /nothing {host}\r\n{key}\r\n{json}"), "404"),
        (format!("PUT /v1/events {host}\r\n{key}\r\n{json}"), "405"),
        (
            format!("POST /v1/events {host}\r\n{key}\r\n{key}\r\n{json}"),
            "400",
        ),
        (
            format!("POST /v1/events {host}\r\n{key}\r\nContent-Type: text/plain"),
            "415",
        ),
        (
            format!(
                "POST /v1/events {host}\r\n{key}\r\nIdempotency-Key: k\r\nContent-Type: text/plain"
            ),
            "415",
        ),
        (
            format!("POST /v1/endpoints {host}\r\n{key}\r\nContent-Type: text/plain"),
            "415",
        ),
        (
            format!(
                "POST /v1/endpoints {host}\r\n{key}\r\nIdempotency-Key: k\r\nContent-Type: text/plain"
            ),
            "415",
        ),
        (
            format!("POST /v1/events {host}\r\n{key}\r\n{json}\r\nContent-Encoding: br"),
            "415",
        ),
        (format!("POST /v1/events {host}\r\n{key}\r\n{json}"), "413"),
        (
            format!("POST /v1/endpoints {host}\r\n{key}\r\n{json}"),
            "413",
        ),
    ] {
        heads.push((format!("{head}\r\n{length}\r\n\r\n"), status));
    }
    heads
}

#[test]
fn who_is_refused_while_sending_sees_why() {
    run(async {
        let harness = Harness::new().await;
        let listener = Listener::start(harness.router.clone(), options()).await;
        // More than the buffers of both systems hold.
        let piece = vec![b' '; 256 * 1024];
        let pieces = 48;
        let length = format!("Content-Length: {}", piece.len() * pieces);
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
        for (length, piece) in [(&*length, &piece), ("Transfer-Encoding: chunked", &chunk)] {
            for (head, status) in refused(&harness, length) {
                let mut stream = listener.connect().await;
                stream.write_all(head.as_bytes()).await.unwrap();
                for n in 0..pieces {
                    let sent = stream.write_all(piece).await;
                    sent.unwrap_or_else(|error| panic!("{head}, piece {n}: {error}"));
                }
                stream.shutdown().await.unwrap();
                let answer = rest(&mut stream).await;
                assert_eq!(statuses(&answer), [status], "{head}: {answer}");
                assert!(answer.contains("connection: close"), "{head}: {answer}");
                problem(&answer);
            }
        }
    });
}

#[test]
fn who_asks_before_sending_is_refused_at_once() {
    run(async {
        let harness = Harness::new().await;
        let listener = Listener::start(harness.router.clone(), options()).await;
        let length = "Content-Length: 2000000\r\nExpect: 100-continue";
        for (head, status) in refused(&harness, length) {
            let mut stream = listener.connect().await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert_eq!(statuses(&answer), [status], "{head}: {answer}");
        }
        let body = r#"{"type":"a.b"}"#;
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\nConnection: close\r\n\r\n",
            harness.key,
            body.len()
        );
        let mut stream = listener.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert_eq!(statuses(&answer), ["202"], "{answer}");
    });
}

#[test]
fn what_is_left_of_a_refused_body_is_no_request() {
    run(async {
        let harness = Harness::new().await;
        let listener = Listener::start(harness.router.clone(), options()).await;
        let next = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        let refused = |length: usize| {
            format!("POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
        };
        // A short one is read, and its connection goes on.
        let short = format!("{}{next}{next}", refused(next.len()));
        let answers = listener.answers(&short).await;
        assert_eq!(statuses(&answers), ["401", "200"], "{answers}");
        // Of a long one the rest is no request, though it looks like one.
        let filler = " ".repeat(100_000);
        let long = format!("{}{next}{filler}{next}", refused(next.len() + filler.len()));
        let answers = listener.answers(&long).await;
        assert_eq!(statuses(&answers), ["401"], "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
        // Nor is what follows one that was to wait until it is asked for.
        let waiting = format!(
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\n\r\n{next}{next}",
            next.len()
        );
        let answers = listener.answers(&waiting).await;
        assert_eq!(statuses(&answers), ["401"], "{answers}");
    });
}

#[test]
fn who_takes_no_answer_leaves_its_place() {
    run(async {
        let harness = Harness::new().await;
        let options = ServeOptions {
            connections_max: 2,
            write_timeout: Duration::from_millis(300),
            ..options()
        };
        let listener = Listener::start(harness.router.clone(), options).await;
        let request = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
        let mut silent = vec![];
        for _ in 0..2 {
            let mut stream = listener.connect().await;
            // Answers of many times what the systems hold for it.
            stream.write_all(&request).await.unwrap();
            silent.push(stream);
        }
        // There is a place once one of them is gone, though both are still connected.
        let answer = listener.answers("GET /health HTTP/1.1\r\nHost: a").await;
        assert_eq!(statuses(&answer), ["200"]);
        drop(silent);
    });
}

#[test]
fn a_connection_that_guesses_keys_is_slowed_down() {
    run(async {
        let harness = Harness::new().await;
        let mut config = crate::support::harness::config();
        config.http.auth_failures_max = 3;
        let harness = harness.beside().config(config).build().await;
        let listener = Listener::start(harness.router.clone(), options()).await;
        let ask = |key: &str| {
            format!("GET /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n")
        };
        let known = ask(&harness.key);
        let guesses = ask(&api_key::format_key([9; 32])).repeat(5);
        let answers = listener.answers(&format!("{known}{guesses}{known}")).await;
        assert_eq!(
            statuses(&answers),
            ["200", "401", "401", "401", "429", "429", "200"]
        );
    });
}
