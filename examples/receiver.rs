//! A receiver of webhooks. docs/receiving.md shows it from here on.
#![expect(clippy::print_stderr, reason = "it has no log")]

use std::collections::HashSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing::post};
use serde_json::Value;
use standardwebhooks::Webhook;

struct Receiver {
    webhook: Webhook,
    // A unique key in your database, so that it outlives the process.
    seen: Mutex<HashSet<String>>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if receiver.webhook.verify(&body, &headers).is_err() {
        return StatusCode::BAD_REQUEST;
    }
    let Ok(event) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let id = headers["webhook-id"]
        .to_str()
        .unwrap_or_default()
        .to_owned();
    let mut seen = receiver.seen.lock().expect("nothing panics with it");
    if !seen.contains(&id) {
        if let Err(error) = enqueue(&id, &event) {
            eprintln!("{id} comes again: {error}");
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
        seen.insert(id); // not before it is in the queue
    }
    StatusCode::NO_CONTENT
}

/// Your own queue: what takes longer than an answer goes there.
fn enqueue(id: &str, event: &Value) -> std::io::Result<()> {
    let (event_type, data) = (&event["type"], &event["data"]);
    writeln!(std::io::stdout(), "{id} {event_type} {data}")
}

#[tokio::main]
async fn main() {
    let secret = std::env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is set");
    let receiver = Receiver {
        webhook: Webhook::new(&secret).expect("a secret begins with whsec_"),
        seen: Mutex::default(),
    };
    let routes = Router::new()
        .route("/webhooks", post(receive))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(Arc::new(receiver));
    let port = std::env::var("PORT").unwrap_or_else(|_| "9000".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await;
    axum::serve(listener.expect("the port is free"), routes)
        .await
        .expect("it serves");
}
