//! SQS on loopback: what of it workers use, over its JSON protocol, with the long polls
//! and the idle connections of the real one, to whoever signs as it wants it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millrace::app;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::sigv4::Account;

/// How long a connection may be unused. AWS's are closed after some 20 seconds.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct SqsServer {
    pub url: String,
    state: Arc<Mutex<State>>,
    /// Changes whenever a message comes or goes.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    queues: HashMap<String, Vec<Message>>,
    polls: Vec<Poll>,
    refusals: Vec<String>,
    next: u64,
}

struct Message {
    receipt: String,
    body: String,
    visible: Instant,
    receives: u32,
}

/// A ReceiveMessage.
#[derive(Debug, Clone)]
pub struct Poll {
    /// The name of its queue.
    pub queue: String,
    /// How long it asked to wait.
    pub wait: Duration,
    pub end: PollEnd,
}

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollEnd {
    UnderWay,
    /// After its wait, with nothing.
    Empty,
    /// With messages.
    Messages,
    /// By whoever polled.
    CutOff,
}

/// Marks a poll that is dropped before it is answered as cut off.
struct PollGuard {
    server: SqsServer,
    at: usize,
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        let poll = &mut self.server.lock().polls[self.at];
        if poll.end == PollEnd::UnderWay {
            poll.end = PollEnd::CutOff;
        }
    }
}

impl SqsServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
            changed: watch::Sender::default(),
        };
        tokio::spawn(server.clone().serve(listener));
        server
    }

    /// The URL of the queue `name`, which is there when it is first used.
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/123456789012/{name}", self.url)
    }

    /// What was polled so far, in its order.
    pub fn polls(&self, queue: &str) -> Vec<Poll> {
        let state = self.lock();
        let polls = state.polls.iter().filter(|poll| poll.queue == queue);
        polls.cloned().collect()
    }

    /// Why requests were refused.
    pub fn refusals(&self) -> Vec<String> {
        self.lock().refusals.clone()
    }

    /// Messages of a queue, invisible ones too.
    pub fn messages(&self, queue: &str) -> usize {
        self.lock().queues.get(queue).map_or(0, Vec::len)
    }

    /// Sends a message, as an AWS source does.
    pub fn send(&self, queue: &str, body: &str) {
        self.push(queue, body, Duration::ZERO);
    }

    fn push(&self, queue: &str, body: &str, delay: Duration) -> String {
        let mut state = self.lock();
        state.next += 1;
        let id = format!("message-{}", state.next);
        let message = Message {
            receipt: id.clone(),
            body: body.to_owned(),
            visible: Instant::now() + delay,
            receives: 0,
        };
        state
            .queues
            .entry(queue.to_owned())
            .or_default()
            .push(message);
        drop(state);
        self.changed.send_replace(());
        id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| server.answer(request));
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(IDLE_MAX)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Ok(answer(StatusCode::BAD_REQUEST, &Value::Null));
        };
        let body = body.to_bytes();
        if let Err(why) = self.verify(&parts, &body) {
            self.lock().refusals.push(why);
            let refused = json!({ "__type": "com.amazon.coral.service#InvalidSignatureException" });
            return Ok(answer(StatusCode::FORBIDDEN, &refused));
        }
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let queue = asked["QueueUrl"].as_str().unwrap().rsplit('/').next();
        let queue = queue.unwrap().to_owned();
        let target = parts.headers["x-amz-target"].to_str().unwrap();
        let answered = match target.strip_prefix("AmazonSQS.").unwrap() {
            "SendMessageBatch" => each(&asked, |entry| {
                let delay = Duration::from_secs(entry["DelaySeconds"].as_u64().unwrap_or(0));
                let id = self.push(&queue, entry["MessageBody"].as_str().unwrap(), delay);
                json!({ "MessageId": id, "MD5OfMessageBody": "" })
            }),
            "ReceiveMessage" => self.receive(&queue, &asked).await,
            "DeleteMessageBatch" => each(&asked, |entry| {
                self.each_of(&queue, entry, None);
                json!({})
            }),
            "ChangeMessageVisibilityBatch" => each(&asked, |entry| {
                let timeout = entry["VisibilityTimeout"].as_u64().unwrap();
                self.each_of(&queue, entry, Some(Duration::from_secs(timeout)));
                json!({})
            }),
            other => panic!("{other}"),
        };
        Ok(answer(StatusCode::OK, &answered))
    }

    fn verify(&self, parts: &Parts, body: &[u8]) -> Result<(), String> {
        let host = self.url.strip_prefix("http://").unwrap();
        let verified = Account::at("sqs").verify(parts, body, host, app::now());
        verified.map_err(|refused| format!("{refused:?}"))
    }

    /// Deletes the message of an entry, or makes it invisible for a while.
    fn each_of(&self, queue: &str, entry: &Value, invisible: Option<Duration>) {
        let mut state = self.lock();
        let messages = state.queues.entry(queue.to_owned()).or_default();
        let is_meant = |message: &Message| entry["ReceiptHandle"] == message.receipt;
        match invisible {
            None => messages.retain(|message| !is_meant(message)),
            Some(timeout) => {
                let meant = messages.iter_mut().filter(|message| is_meant(message));
                meant.for_each(|message| message.visible = Instant::now() + timeout);
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    async fn receive(&self, queue: &str, asked: &Value) -> Value {
        let wait = Duration::from_secs(asked["WaitTimeSeconds"].as_u64().unwrap_or(0));
        let visibility = Duration::from_secs(asked["VisibilityTimeout"].as_u64().unwrap_or(30));
        let most = usize::try_from(asked["MaxNumberOfMessages"].as_u64().unwrap_or(1)).unwrap();
        let mut changed = self.changed.subscribe();
        let guard = self.begin_poll(queue, wait);
        let until = Instant::now() + wait;
        let taken = loop {
            let taken = self.take(queue, visibility, most);
            if !taken.is_empty() || Instant::now() >= until {
                break taken;
            }
            // What is invisible may become visible meanwhile.
            let look_again = until.min(Instant::now() + Duration::from_millis(250));
            let _ = tokio::time::timeout_at(look_again, changed.changed()).await;
        };
        let end = if taken.is_empty() {
            PollEnd::Empty
        } else {
            PollEnd::Messages
        };
        self.lock().polls[guard.at].end = end;
        json!({ "Messages": taken })
    }

    fn begin_poll(&self, queue: &str, wait: Duration) -> PollGuard {
        let mut state = self.lock();
        state.polls.push(Poll {
            queue: queue.to_owned(),
            wait,
            end: PollEnd::UnderWay,
        });
        PollGuard {
            server: self.clone(),
            at: state.polls.len() - 1,
        }
    }

    fn take(&self, queue: &str, visibility: Duration, most: usize) -> Vec<Value> {
        let now = Instant::now();
        let mut state = self.lock();
        let messages = state.queues.entry(queue.to_owned()).or_default();
        let visible = messages.iter_mut().filter(|message| message.visible <= now);
        let taken = visible.take(most).map(|message| {
            message.visible = now + visibility;
            message.receives += 1;
            json!({
                "MessageId": message.receipt,
                "ReceiptHandle": message.receipt,
                "Body": message.body,
                "MD5OfBody": "",
                "Attributes": {
                    "ApproximateReceiveCount": message.receives.to_string(),
                    "SentTimestamp": app::now().as_millisecond().to_string(),
                },
            })
        });
        taken.collect()
    }
}

/// The answer to a batch whose entries all succeed.
fn each(asked: &Value, mut act: impl FnMut(&Value) -> Value) -> Value {
    let entries = asked["Entries"].as_array().unwrap().iter();
    let done: Vec<_> = entries
        .map(|entry| {
            let mut done = act(entry);
            done["Id"] = entry["Id"].clone();
            done
        })
        .collect();
    json!({ "Successful": done, "Failed": [] })
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0");
    response.body(Full::new(body.to_string().into())).unwrap()
}
