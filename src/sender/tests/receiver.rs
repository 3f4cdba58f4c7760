//! A webhook receiver on loopback that behaves as it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use url::Url;

/// What a receiver does with a request.
#[derive(Clone, Copy)]
pub enum Reply {
    /// Answers, and waits for the next request.
    Answer(&'static str),
    /// Answers, and closes the connection without having said so.
    AnswerAndClose(&'static str),
    /// Answers, and resets the connection.
    AnswerAndReset(&'static str),
    /// Answers with a body that never ends.
    Endless,
    /// Writes this again and again.
    Repeat(&'static str),
    Silence,
    Close,
}

pub const OK: Reply = Reply::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

pub struct Receiver {
    pub address: SocketAddr,
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// Told each time a connection is over.
    pub closed: Notify,
}

impl Receiver {
    pub async fn start(reply: Reply) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
            closed: Notify::new(),
        });
        let this = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                this.connections.fetch_add(1, Ordering::SeqCst);
                let this = this.clone();
                tokio::spawn(async move { this.serve(stream, reply).await });
            }
        });
        receiver
    }

    async fn serve(&self, mut stream: TcpStream, reply: Reply) -> io::Result<()> {
        while let Some(request) = read_request(&mut stream).await? {
            self.requests.lock().unwrap().push(request);
            match reply {
                Reply::Answer(text) => stream.write_all(text.as_bytes()).await?,
                Reply::AnswerAndClose(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    break;
                }
                Reply::AnswerAndReset(text) => {
                    stream.write_all(text.as_bytes()).await?;
                    stream.set_zero_linger()?;
                    break;
                }
                Reply::Repeat(text) => while stream.write_all(text.as_bytes()).await.is_ok() {},
                Reply::Endless => self.write_endlessly(&mut stream).await?,
                Reply::Silence => std::future::pending().await,
                Reply::Close => break,
            }
        }
        drop(stream);
        self.closed.notify_one();
        Ok(())
    }

    async fn write_endlessly(&self, stream: &mut TcpStream) -> io::Result<()> {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await?;
        loop {
            let chunk = format!("{:x}\r\n{}\r\n", 1000, "x".repeat(1000));
            if let Err(error) = stream.write_all(chunk.as_bytes()).await {
                self.closed.notify_one();
                return Err(error);
            }
        }
    }

    pub fn url(&self) -> Url {
        self.url_at("127.0.0.1")
    }

    pub fn url_at(&self, host: &str) -> Url {
        let port = self.address.port();
        format!("http://{host}:{port}/in?key=hidden")
            .parse()
            .unwrap()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request with its body, or nothing when the sender is done.
pub async fn read_request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        request.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return Ok(Some(request));
            }
        }
    }
}
