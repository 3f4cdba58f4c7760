//! A sender against receivers on loopback.

mod answers;
mod kept;
mod receiver;

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use receiver::{OK, Receiver, Reply};

pub fn config() -> SenderConfig {
    SenderConfig {
        allow_private_targets: true,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        response_bytes_max: 64 * 1024,
        response_kept_bytes: 16,
        user_agent: HeaderValue::from_static("millrace/test"),
        idle_per_host_max: 8,
        idle_max: 100,
        extra_roots: vec![],
    }
}

fn public_only() -> Sender {
    Sender::new(SenderConfig {
        allow_private_targets: false,
        ..config()
    })
}

async fn post(sender: &Sender, url: &Url) -> Result<Response, SendError> {
    let headers = HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/cloudevents+json"),
    )]);
    sender
        .post(url, headers, Bytes::from_static(b"{\"a\":1}"), None)
        .await
        .outcome
}

async fn post_to(reply: Reply) -> Result<Response, SendError> {
    let receiver = Receiver::start(reply).await;
    post(&Sender::new(config()), &receiver.url()).await
}

fn blocked(address: impl Into<IpAddr>) -> SendError {
    SendError::Blocked {
        address: address.into(),
    }
}

#[tokio::test]
async fn a_post_arrives_whole() {
    let receiver = Receiver::start(OK).await;
    let response = post(&Sender::new(config()), &receiver.url()).await.unwrap();
    assert_eq!((response.status, &*response.body_head), (200, "ok"));
    assert_eq!(response.retry_after, None);

    let request = &receiver.requests()[0];
    assert!(request.starts_with("POST /in?key=hidden HTTP/1.1\r\n"));
    assert!(request.contains("\r\nuser-agent: millrace/test\r\n"));
    assert!(request.contains("\r\ncontent-type: application/cloudevents+json\r\n"));
    assert!(request.contains(&format!("\r\nhost: {}\r\n", receiver.address)));
    assert!(!request.contains("accept-encoding"));
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"));
}

#[tokio::test]
async fn a_post_without_content_says_so() {
    let receiver = Receiver::start(OK).await;
    let (sender, url) = (Sender::new(config()), receiver.url());
    for body in [Bytes::new(), Bytes::from_static(b"x")] {
        let sent = sender.post(&url, HeaderMap::new(), body, None);
        sent.await.outcome.unwrap();
    }
    let requests = receiver.requests();
    for (request, length) in requests.iter().zip([0, 1]) {
        let header = format!("\r\ncontent-length: {length}\r\n");
        assert_eq!(request.matches(&header).count(), 1, "{request}");
        assert!(!request.contains("transfer-encoding"));
    }
}

#[tokio::test]
async fn a_failure_keeps_retry_after_and_the_first_of_the_body() {
    let response = post_to(Reply::Answer(
        "HTTP/1.1 503 No\r\nretry-after: 120\r\ncontent-length: 26\r\n\r\nout of \x07order\nand so forth!",
    ))
    .await
    .unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(response.retry_after.as_deref(), Some("120"));
    assert_eq!(response.body_head, "out of \u{fffd}order\nan");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Receiver::start(OK).await;
    let location: &'static str = Box::leak(
        format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            target.url()
        )
        .into(),
    );
    let response = post_to(Reply::Answer(location)).await.unwrap();
    assert_eq!(response.status, 307);
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn an_endless_body_is_cut_and_its_connection_closed() {
    let receiver = Receiver::start(Reply::Endless).await;
    let sender = Sender::new(config());
    let response = post(&sender, &receiver.url()).await.unwrap();
    assert_eq!(response.body_head, "x".repeat(16));
    receiver.closed.notified().await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_not_waited_for() {
    let response = post_to(Reply::Answer(
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nonly the beginning",
    ))
    .await
    .unwrap();
    assert_eq!(response.body_head, "only the beginni");
}

#[tokio::test]
async fn silence_times_out() {
    let receiver = Receiver::start(Reply::Silence).await;
    let timeout = Duration::from_millis(50);
    let sender = Sender::new(SenderConfig {
        timeout,
        ..config()
    });
    let attempted = sender
        .post(&receiver.url(), HeaderMap::new(), Bytes::new(), None)
        .await;
    let error = attempted.outcome.unwrap_err();
    assert_eq!(error, SendError::Timeout { after: timeout });
    assert_eq!(error.to_string(), "timed out after 50 ms");
    assert!(attempted.latency >= timeout);
}

#[tokio::test]
async fn what_is_not_http_is_said_so() {
    for garbage in ["SSH-2.0-OpenSSH_9.9\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
        let outcome = post_to(Reply::Answer(garbage)).await;
        assert_eq!(outcome, Err(SendError::InvalidResponse), "{garbage}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = post(&Sender::new(config()), &url.parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "connection refused");
}

#[tokio::test]
async fn a_receiver_without_tls_is_said_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let error = post(&Sender::new(config()), &url.parse().unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("TLS failed: "), "{error}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let receiver = Receiver::start(OK).await;
    let sender = Sender::new(config());
    for _ in 0..5 {
        post(&sender.clone(), &receiver.url()).await.unwrap();
    }
    assert_eq!(receiver.connections(), 1);
    assert_eq!(receiver.requests().len(), 5);
}

#[tokio::test]
async fn a_connection_closed_between_requests_costs_no_attempt() {
    let reply = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let receiver = Receiver::start(Reply::AnswerAndClose(reply)).await;
    let sender = Sender::new(config());
    for _ in 0..20 {
        post(&sender, &receiver.url()).await.unwrap();
        receiver.closed.notified().await;
    }
    assert_eq!(receiver.connections(), 20);
}

#[tokio::test]
async fn private_literals_are_blocked() {
    let receiver = Receiver::start(OK).await;
    let sender = public_only();
    let loopback = Ipv4Addr::LOCALHOST;
    for host in ["127.0.0.1", "0x7f.1", "2130706433", "017700000001", "127.1"] {
        let outcome = post(&sender, &receiver.url_at(host)).await;
        assert_eq!(outcome, Err(blocked(loopback)), "{host}");
    }
    for host in [
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ] {
        let address: IpAddr = host.parse().unwrap();
        let outcome = post(&sender, &receiver.url_at(&format!("[{host}]"))).await;
        assert_eq!(outcome, Err(blocked(address)), "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_of_a_private_address_is_blocked() {
    let receiver = Receiver::start(OK).await;
    let error = post(&public_only(), &receiver.url_at("localhost"))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Blocked { .. }), "{error}");
    assert!(!error.to_string().contains("hidden"));

    let config = SenderConfig {
        allow_private_targets: false,
        ..config()
    };
    let metadata = IpAddr::from([169, 254, 169, 254]);
    let sender = Sender::with_resolver(config, Arc::new(move |_| Ok(vec![metadata])));
    let outcome = post(&sender, &receiver.url_at("hooks.example.com")).await;
    assert_eq!(outcome, Err(blocked(metadata)));
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_without_an_address_is_said_so() {
    let url = "http://hooks.example.com/".parse().unwrap();
    for found in [Ok(vec![]), Err(())] {
        let resolve = move |_: &str| found.clone().map_err(|()| io::Error::other("no"));
        let sender = Sender::with_resolver(config(), Arc::new(resolve));
        assert_eq!(post(&sender, &url).await, Err(SendError::Dns));
    }
}

const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A sender whose guard takes one loopback address for public and another for
/// private, with a resolver that gives `answers` in turn and counts them.
fn guarded(answers: Vec<Vec<IpAddr>>) -> (Sender, Arc<AtomicUsize>) {
    let look_ups = Arc::new(AtomicUsize::new(0));
    let count = look_ups.clone();
    let resolve: Arc<Resolve> = Arc::new(move |host| {
        assert_eq!(host, "hooks.example.com");
        Ok(answers[count.fetch_add(1, Ordering::SeqCst)].clone())
    });
    let sender = Sender::guarded(config(), Resolver::Custom(resolve), |ip| ip != FORBIDDEN);
    (sender, look_ups)
}

#[tokio::test]
async fn a_name_is_looked_up_once_a_connection_so_rebinding_gains_nothing() {
    let reply = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::start(Reply::Answer(reply)).await;
    let url = receiver.url_at("hooks.example.com");
    let (sender, look_ups) = guarded(vec![vec![ALLOWED], vec![FORBIDDEN]]);

    // Were there a second look-up before dialling, it would give the other address.
    assert_eq!(post(&sender, &url).await.unwrap().status, 200);
    assert_eq!(look_ups.load(Ordering::SeqCst), 1);
    assert_eq!(post(&sender, &url).await, Err(blocked(FORBIDDEN)));
    assert_eq!(look_ups.load(Ordering::SeqCst), 2);
    assert_eq!(receiver.connections(), 1);
}

#[tokio::test]
async fn a_pooled_connection_needs_no_look_up() {
    let receiver = Receiver::start(OK).await;
    let (sender, look_ups) = guarded(vec![vec![ALLOWED]]);
    for _ in 0..3 {
        let url = receiver.url_at("hooks.example.com");
        assert_eq!(post(&sender, &url).await.unwrap().status, 200);
    }
    assert_eq!(look_ups.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_are_dialled() {
    let allowed = Receiver::start(OK).await;
    let url = allowed.url_at("hooks.example.com");
    let (sender, _) = guarded(vec![vec![FORBIDDEN, ALLOWED, FORBIDDEN]]);
    assert_eq!(post(&sender, &url).await.unwrap().status, 200);

    // The first has no listener: the next is tried.
    let dead = IpAddr::from([127, 0, 0, 3]);
    let (sender, _) = guarded(vec![vec![dead, ALLOWED]]);
    assert_eq!(post(&sender, &url).await.unwrap().status, 200);
}

#[tokio::test]
async fn header_names_are_written_as_they_are_spelled() {
    let receiver = Receiver::start(OK).await;
    let map = HeaderMap::from_iter([
        (
            http::HeaderName::from_static("x-api-key"),
            HeaderValue::from_static("a"),
        ),
        (
            http::HeaderName::from_static("soapaction"),
            HeaderValue::from_static("b"),
        ),
        (
            http::HeaderName::from_static("x-lower"),
            HeaderValue::from_static("c"),
        ),
    ]);
    let spelled = vec!["X-API-Key".to_owned(), "SOAPAction".to_owned()];
    let headers = RequestHeaders { map, spelled };
    let sender = Sender::new(config());
    let (url, body) = (receiver.url(), Bytes::from_static(b"{}"));
    let sent = sender.post(&url, headers, body, None).await;
    assert_eq!(sent.outcome.unwrap().status, 200);
    let request = &receiver.requests()[0];
    for header in [
        "X-API-Key: a",
        "SOAPAction: b",
        "x-lower: c",
        "user-agent: millrace/test",
        "content-length: 2",
    ] {
        assert!(request.contains(&format!("\r\n{header}\r\n")), "{request}");
    }
}
