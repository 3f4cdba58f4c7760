use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    /// Tells that `/slow` is being served.
    entered: Arc<Notify>,
    /// Lets `/slow` answer.
    release: Arc<Notify>,
    requests: TaskTracker,
    report: JoinHandle<DrainReport>,
}

fn options() -> ServeOptions {
    ServeOptions {
        header_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(20),
        connections_max: 8,
        drain_timeout: Duration::from_secs(20),
        drain_grace: Duration::ZERO,
    }
}

async fn start(options: ServeOptions) -> Server {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (entered.clone(), release.clone());
    let slow = move || async move {
        enter.notify_one();
        wait.notified().await;
        "late"
    };
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/slow", get(slow));
    let shutdown = CancellationToken::new();
    let requests = TaskTracker::new();
    let stop = shutdown.clone();
    let report = tokio::spawn(serve(listener, router, options, stop, requests.clone()));
    Server {
        address,
        shutdown,
        entered,
        release,
        requests,
        report,
    }
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// What arrives until `end` has.
async fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn under_way(server: &Server) -> TcpStream {
    let mut stream = connect(server).await;
    let request = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    server.entered.notified().await;
    stream
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let server = start(options()).await;
    let mut stream = connect(&server).await;
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let answer = read_to(&mut stream, "hello").await;
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_request_may_have_as_many_headers_as_an_event_has_attributes() {
    let server = start(options()).await;
    let mut stream = connect(&server).await;
    let attributes: String = (0..5_000).map(|n| format!("ce-x{n}: y\r\n")).collect();
    let long = format!("ce-long: {}\r\n", "y".repeat(65_000));
    for headers in [attributes, long] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_to(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way_and_closes_what_is_idle() {
    let server = start(options()).await;
    let mut idle = connect(&server).await;
    idle.write_all(GET).await.unwrap();
    read_to(&mut idle, "hello").await;
    let mut busy = under_way(&server).await;
    assert_eq!(server.requests.len(), 1);
    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
    server.release.notify_one();
    let answer = rest(&mut busy).await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("late"),
        "{answer}"
    );
    assert_eq!(server.report.await.unwrap().aborted, 0);
}

#[tokio::test]
async fn in_the_grace_of_a_drain_requests_are_taken_one_a_connection() {
    let drain_grace = Duration::from_millis(600);
    let server = start(ServeOptions {
        drain_grace,
        ..options()
    })
    .await;
    let mut known = connect(&server).await;
    known.write_all(GET).await.unwrap();
    read_to(&mut known, "hello").await;
    let mut idle = connect(&server).await;
    idle.write_all(GET).await.unwrap();
    read_to(&mut idle, "hello").await;
    server.shutdown.cancel();
    let mut new = connect(&server).await;
    for stream in [&mut known, &mut new] {
        stream.write_all(GET).await.unwrap();
        let answer = rest(stream).await;
        assert!(
            answer.contains("connection: close") && answer.ends_with("hello"),
            "{answer}"
        );
    }
    let report = server.report.await.unwrap();
    assert!(
        report.aborted == 0 && report.took >= drain_grace,
        "{report:?}"
    );
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_drain_nobody_is_connected_to_has_no_grace() {
    let drain_grace = Duration::from_secs(20);
    let server = start(ServeOptions {
        drain_grace,
        ..options()
    })
    .await;
    server.shutdown.cancel();
    let report = server.report.await.unwrap();
    assert!(report.took < Duration::from_secs(5), "{report:?}");
}

#[tokio::test]
async fn a_drain_gives_up_at_its_deadline() {
    let drain_timeout = Duration::from_millis(20);
    let server = start(ServeOptions {
        drain_timeout,
        ..options()
    })
    .await;
    let mut busy = under_way(&server).await;
    server.shutdown.cancel();
    let report = server.report.await.unwrap();
    assert_eq!(report.aborted, 1);
    assert!(report.took >= drain_timeout);
    assert_eq!(rest(&mut busy).await, "");
}

#[tokio::test]
async fn a_client_slow_with_its_headers_is_cut_off() {
    let server = start(ServeOptions {
        header_timeout: Duration::from_millis(150),
        ..options()
    })
    .await;
    let mut silent = connect(&server).await;
    let mut first = connect(&server).await;
    first.write_all(b"GET / HT").await.unwrap();
    let mut second = connect(&server).await;
    second.write_all(GET).await.unwrap();
    read_to(&mut second, "hello").await;
    second.write_all(b"GET / HT").await.unwrap();
    for stream in [&mut silent, &mut first, &mut second] {
        assert_eq!(rest(stream).await, "");
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_but_not_its_own() {
    let server = start(ServeOptions {
        header_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(500),
        ..options()
    })
    .await;
    let mut stream = connect(&server).await;
    stream.write_all(GET).await.unwrap();
    read_to(&mut stream, "hello").await;
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(began.elapsed() > Duration::from_millis(300));
}

#[tokio::test]
async fn a_slow_answer_is_not_taken_for_slow_headers() {
    let server = start(ServeOptions {
        header_timeout: Duration::from_millis(150),
        ..options()
    })
    .await;
    let mut busy = under_way(&server).await;
    let waited = tokio::time::timeout(Duration::from_millis(300), busy.read_u8()).await;
    assert!(waited.is_err());
    server.release.notify_one();
    read_to(&mut busy, "late").await;
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_place() {
    let server = start(ServeOptions {
        connections_max: 1,
        ..options()
    })
    .await;
    let first = under_way(&server).await;
    let mut second = connect(&server).await;
    second.write_all(GET).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), second.read_u8()).await;
    assert!(waited.is_err());
    drop(first);
    server.release.notify_one();
    read_to(&mut second, "hello").await;
}

#[tokio::test]
async fn an_occupied_port_is_named_with_the_way_out() {
    let taken = bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let held = std::net::TcpListener::bind(taken).unwrap();
    let error = bind(&taken.to_string()).await.unwrap_err().to_string();
    drop(held);
    assert_eq!(
        error.replace(&taken.port().to_string(), "<port>"),
        "http.listen: 127.0.0.1:<port> is in use by another program; stop it or set MILLRACE_HTTP__LISTEN"
    );
    let error = bind("192.0.2.1:1").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "http.listen: 192.0.2.1:1 is no address of this machine; set MILLRACE_HTTP__LISTEN"
    );
}
