//! Connections that were kept, and that the receiver closes as the next request leaves.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::receiver::read_request;
use super::*;

/// What a receiver does with the second request of its first connection.
#[derive(Clone, Copy, PartialEq)]
enum Second {
    ReadAndClose,
    ReadAndReset,
    /// Some of an answer came.
    Begin,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn listen() -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url.parse().unwrap())
}

/// Answers the first request of the first connection, treats its second so, and any
/// later connection's requests as `later` says; all requests, as they come.
fn serve(listener: TcpListener, second: Second, later: bool) -> UnboundedReceiver<String> {
    let (seen, requests) = unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let take = async |stream: &mut TcpStream| {
            let request = read_request(stream).await.ok().flatten();
            request.is_some_and(|request| seen.send(request).is_ok())
        };
        take(&mut stream).await;
        stream.write_all(ANSWER).await.unwrap();
        take(&mut stream).await;
        match second {
            Second::ReadAndClose => {}
            Second::ReadAndReset => stream.set_zero_linger().unwrap(),
            Second::Begin => stream.write_all(b"HTTP/1.1 2").await.unwrap(),
        }
        drop(stream);
        while let Ok((mut stream, _)) = listener.accept().await {
            while take(&mut stream).await && later {
                stream.write_all(ANSWER).await.unwrap();
            }
        }
    });
    requests
}

#[tokio::test]
async fn a_request_lost_on_a_kept_connection_is_sent_once_more() {
    for second in [Second::ReadAndClose, Second::ReadAndReset] {
        let (listener, url) = listen().await;
        let mut requests = serve(listener, second, true);
        let sender = Sender::new(config());
        for _ in 0..2 {
            assert_eq!(post(&sender, &url).await.unwrap().status, 200);
        }
        let mut seen = vec![];
        while let Ok(request) = requests.try_recv() {
            seen.push(request);
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(seen[1], seen[2], "the same request");
    }
}

#[tokio::test]
async fn but_not_where_an_answer_began_nor_a_third_time() {
    let (listener, url) = listen().await;
    let mut requests = serve(listener, Second::Begin, true);
    let sender = Sender::new(config());
    assert_eq!(post(&sender, &url).await.unwrap().status, 200);
    assert_eq!(post(&sender, &url).await, Err(SendError::Closed));
    requests.recv().await.unwrap();
    requests.recv().await.unwrap();
    assert!(requests.try_recv().is_err());

    let (listener, url) = listen().await;
    let mut requests = serve(listener, Second::ReadAndClose, false);
    let sender = Sender::new(config());
    assert_eq!(post(&sender, &url).await.unwrap().status, 200);
    assert_eq!(post(&sender, &url).await, Err(SendError::Closed));
    for _ in 0..3 {
        requests.recv().await.unwrap();
    }
    assert!(requests.try_recv().is_err());
}

#[tokio::test]
async fn nor_on_a_connection_of_its_own() {
    let receiver = Receiver::start(Reply::Close).await;
    let sender = Sender::new(config());
    assert_eq!(post(&sender, &receiver.url()).await, Err(SendError::Closed));
    assert_eq!(receiver.connections(), 1);
}

/// Answers one request on each connection, over TLS, and closes it when the second has
/// come, with or without saying so.
async fn serve_tls<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, says_so: bool) {
    let mut requests = 0;
    let mut some = [0; 4096];
    while let Ok(1..) = stream.read(&mut some).await {
        requests += 1;
        if requests > 1 {
            break;
        }
        stream.write_all(ANSWER).await.unwrap();
        stream.flush().await.unwrap();
    }
    if says_so {
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn over_tls_too() {
    for says_so in [true, false] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let stream = acceptor.accept(stream).await.unwrap();
                tokio::spawn(serve_tls(stream, says_so));
            }
        });
        let resolve: Arc<Resolve> = Arc::new(|_| Ok(vec![ALLOWED]));
        let config = SenderConfig {
            extra_roots: vec![made.cert.der().clone()],
            ..config()
        };
        let sender = Sender::with_resolver(config, resolve);
        let url = format!("https://localhost:{port}/").parse().unwrap();
        for _ in 0..4 {
            assert_eq!(post(&sender, &url).await.unwrap().status, 200);
        }
        // The first, one for the second that was lost on it, and so on.
        assert_eq!(connections.load(Ordering::SeqCst), 4);
    }
}

#[tokio::test]
async fn an_answer_counts_that_came_before_all_was_read() {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 1024];
        stream.read_exact(&mut some).await.unwrap();
        let answer = b"HTTP/1.1 413 Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        // With bytes that it has not read, which resets the connection.
        drop(stream);
    });
    // More than the system takes at once.
    let body = vec![b'x'; 32 << 20];
    let sent = Sender::new(config())
        .post(&url, HeaderMap::new(), body.into(), None)
        .await;
    assert_eq!(sent.outcome.unwrap().status, 413);
}

#[tokio::test]
async fn of_connections_to_many_hosts_so_many_are_kept() {
    let receiver = Receiver::start(OK).await;
    let config = SenderConfig {
        idle_max: 2,
        ..config()
    };
    let sender = Sender::with_resolver(config, Arc::new(|_| Ok(vec![ALLOWED])));
    let host = |n: usize| receiver.url_at(&format!("h{n}.example.com"));
    // Two, and the one that is in use.
    for n in 1..=5 {
        assert_eq!(post(&sender, &host(n)).await.unwrap().status, 200);
    }
    assert_eq!(post(&sender, &host(3)).await.unwrap().status, 200);
    assert_eq!(receiver.connections(), 5, "it was kept");
    assert_eq!(post(&sender, &host(5)).await.unwrap().status, 200);
    assert_eq!(receiver.connections(), 6, "it was not");
}
