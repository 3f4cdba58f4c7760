//! Receivers that break off, or never answer, and what that changes for others.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use millrace::jobs::worker;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::fixtures::{endpoint_path, only_delivery, uncached_config};
use crate::support::harness::{Harness, run};
use crate::support::receiver::Receiver;

/// A receiver that writes this to each request and closes the connection.
async fn writing(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 16 * 1024];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

/// The endpoint and the delivery after one attempt that was answered so.
async fn answered(harness: &Harness, answer: &str) -> (Value, Value) {
    let url = writing(answer.to_owned()).await;
    let endpoint = harness.endpoint(&url, &["*"]).await;
    let event = harness.publish("a").await;
    harness.drain().await;
    let delivery = only_delivery(harness, &event).await;
    let path = endpoint_path(&endpoint);
    let endpoint = harness.get(&path).await.expect(StatusCode::OK);
    harness.delete(&path).await;
    (endpoint, delivery)
}

#[test]
fn a_status_decides_whatever_becomes_of_the_body() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        for body in [
            "content-length: 99\r\n\r\nshort",
            "transfer-encoding: chunked\r\n\r\n5\r\nshort\r\nno chunk\r\n",
            "content-length: 5, 6\r\n\r\nshort",
        ] {
            let answer = |status: &str| format!("HTTP/1.1 {status}\r\n{body}");
            let (_, delivery) = answered(&harness, &answer("200 OK")).await;
            assert_eq!(delivery["state"], "delivered", "{body}");
            assert_eq!(delivery["attempts"][0]["status"], 200);
            assert_eq!(delivery["attempts"][0]["error"], Value::Null);

            let (_, delivery) = answered(&harness, &answer("500 No")).await;
            assert_eq!(delivery["state"], "pending", "{body}");
            assert_eq!(delivery["attempts"][0]["status"], 500);

            let (endpoint, delivery) = answered(&harness, &answer("410 Gone")).await;
            assert_eq!(delivery["state"], "failed", "{body}");
            assert_eq!(endpoint["state"], "gone", "{body}");
        }
    });
}

#[test]
fn an_answer_without_end_is_told_from_none() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        let (_, delivery) = answered(&harness, &interim).await;
        let error = &delivery["attempts"][0]["error"];
        assert_eq!(error, "more than 32 interim responses (1xx)");
        let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(300_000));
        let (_, delivery) = answered(&harness, &large).await;
        let error = &delivery["attempts"][0]["error"];
        assert_eq!(error, "response headers are larger than 64 KiB");
    });
}

/// A receiver that never answers.
struct Hanging {
    url: String,
    /// A permit for each request.
    reached: Arc<Semaphore>,
    connections: JoinHandle<()>,
}

impl Hanging {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let reached = Arc::new(Semaphore::new(0));
        let count = reached.clone();
        let connections = tokio::spawn(async move {
            let mut kept = vec![];
            while let Ok((stream, _)) = listener.accept().await {
                kept.push(stream);
                count.add_permits(1);
            }
        });
        Self {
            url,
            reached,
            connections,
        }
    }
}

#[test]
fn a_new_endpoints_first_webhook_waits_for_none_that_never_answer() {
    run(async {
        const HANGING: u32 = 70;
        let mut config = uncached_config();
        config.delivery.timeout = Duration::from_secs(50);
        let mut harness = Harness::builder().config(config).build().await;
        harness.leaves_jobs = true;
        let hanging = Hanging::start().await;
        for _ in 0..HANGING {
            harness.endpoint(&hanging.url, &["slow"]).await;
        }
        let stop = CancellationToken::new();
        let mut workers = worker::start(&harness.app, &stop);
        for _ in 0..4 {
            harness.publish("slow").await;
        }
        hanging
            .reached
            .acquire_many(HANGING)
            .await
            .unwrap()
            .forget();

        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["good"]).await;
        harness.publish("good").await;
        receiver.reached(1).await;
        assert!(
            harness.app.sender.in_flight() >= HANGING as usize,
            "while all of them wait"
        );

        // Whoever waits is told that there is no answer.
        hanging.connections.abort();
        stop.cancel();
        while workers.join_next().await.is_some() {}
    });
}
