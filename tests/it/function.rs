//! The program as a function's process, driven by a Runtime API of the test's
//! own, with an AWS that answers by script: what it does at its start, what it
//! says of failures, how it ends.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::binary::command;
use crate::support::harness::run;

const ALB: &str = include_str!("payloads/alb.json");
const REQUEST_ID: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";
const TRACE: &str = "67891233abcdef012345678912345600";
/// Longest that anything here may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server of a few lines; how many connected, and its address.
async fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> Listening
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answered.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // One that breaks off is of a process that was ended.
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    Listening {
        address,
        connections,
    }
}

struct Listening {
    address: String,
    connections: Arc<AtomicUsize>,
}

impl Listening {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// What the Runtime API hands out and was given.
#[derive(Default)]
struct Lambda {
    payloads: Mutex<VecDeque<String>>,
    /// Something is to be handed out.
    more: Notify,
    /// The function asks for work.
    asked: Notify,
    /// The end of the path, and what was posted there.
    answers: Mutex<Vec<Answered>>,
    answered: Notify,
}

impl Lambda {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let response = Response::builder();
        if path.ends_with("/extension/register") {
            let response = response.header("lambda-extension-identifier", "e");
            return response.body(Full::default()).unwrap();
        }
        if path.ends_with("/extension/event/next") {
            return std::future::pending().await;
        }
        if parts.method == Method::GET {
            self.asked.notify_one();
            let payload = loop {
                if let Some(payload) = self.payloads.lock().unwrap().pop_front() {
                    break payload;
                }
                self.more.notified().await;
            };
            let deadline = millrace::app::now().as_millisecond() + 20_000;
            return response
                .header("lambda-runtime-aws-request-id", REQUEST_ID)
                .header("lambda-runtime-deadline-ms", deadline)
                .header(
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:r:1:function:f",
                )
                .header(
                    "lambda-runtime-trace-id",
                    format!("Root=1-{}-{};Sampled=0", &TRACE[..8], &TRACE[8..]),
                )
                .body(payload.into())
                .unwrap();
        }
        let body = body.collect().await.unwrap().to_bytes();
        let end = path.rsplit('/').next().unwrap().to_owned();
        let body = serde_json::from_slice(&body).unwrap();
        self.answers
            .lock()
            .unwrap()
            .push(Answered { kind: end, body });
        self.answered.notify_one();
        response.status(202).body(Full::default()).unwrap()
    }
}

/// An AWS that answers every call with one body, once it may.
struct Aws {
    answer: Value,
    called: Notify,
    /// Held back until then, if at all.
    release: Option<Notify>,
}

impl Aws {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        request.into_body().collect().await.unwrap();
        self.called.notify_one();
        if let Some(release) = &self.release {
            release.notified().await;
        }
        let response = Response::builder().header("content-type", "application/x-amz-json-1.1");
        response.body(self.answer.to_string().into()).unwrap()
    }
}

/// A function's process and all around it; killed when this is dropped.
struct Function {
    lambda: Arc<Lambda>,
    aws: Arc<Aws>,
    aws_listening: Listening,
    database: Listening,
    child: Child,
    said: Option<JoinHandle<String>>,
}

impl Function {
    /// Started, and waiting for work.
    async fn start(answer: Value, release: Option<Notify>) -> Self {
        let lambda: Arc<Lambda> = Arc::default();
        let api = lambda.clone();
        let api = serve(move |request| api.clone().answer(request)).await;
        let aws = Arc::new(Aws {
            answer,
            called: Notify::new(),
            release,
        });
        let answering = aws.clone();
        let aws_listening = serve(move |request| answering.clone().answer(request)).await;
        // Never answers: it only counts.
        let database = serve(|_| std::future::pending()).await;
        let url = format!("postgresql://u:p@{}/m", database.address);
        let endpoint = format!("http://{}", aws_listening.address);
        let env = [
            ("AWS_LAMBDA_RUNTIME_API", api.address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "millrace"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("MILLRACE_AWS__ENDPOINT_URL", &endpoint),
            ("MILLRACE_DATABASE__URL", &url),
            (
                "MILLRACE_KEY_RING__SECRET_ARN",
                "arn:aws:secretsmanager:eu-west-1:1:secret:ring",
            ),
            (
                "MILLRACE_ADMIN_KEY_SECRET_ARN",
                "arn:aws:secretsmanager:eu-west-1:1:secret:admin",
            ),
            ("MILLRACE_SQS__FAN_OUT_URL", "http://127.0.0.1:1/1/fan-out"),
            ("MILLRACE_SQS__DELIVER_URL", "http://127.0.0.1:1/1/deliver"),
            ("MILLRACE_LOG__FORMAT", "json"),
        ];
        let mut child = command(&[], &env).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let said = std::thread::spawn(move || {
            let lines = stdout.lines().map(Result::unwrap);
            lines.fold(String::new(), |text, line| text + &line + "\n")
        });
        within(lambda.asked.notified()).await;
        Self {
            lambda,
            aws,
            aws_listening,
            database,
            child,
            said: Some(said),
        }
    }

    fn give(&self, payload: &Value) {
        let mut payloads = self.lambda.payloads.lock().unwrap();
        payloads.push_back(payload.to_string());
        self.lambda.more.notify_one();
    }

    /// What the one invocation so far was answered with.
    async fn answer(&self) -> Answered {
        within(self.lambda.answered.notified()).await;
        let answers = self.lambda.answers.lock().unwrap();
        let [answer] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        answer.clone()
    }

    fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.child.id());
        let sent = std::process::Command::new("sh")
            .args(["-c", &kill])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ends it, if that has not been begun.
    async fn end(&mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < TIMEOUT, "it lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let said = self.said.take().unwrap().join().unwrap();
        let lines = said.lines().filter(|line| !line.contains("\"_aws\""));
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        Ended {
            code: status.code(),
            log: lines.collect(),
        }
    }
}

/// An answer to an invocation: `response` or `error`, and its body.
#[derive(Clone, Debug)]
struct Answered {
    kind: String,
    body: Value,
}

/// A process that ended.
struct Ended {
    code: Option<i32>,
    log: Vec<Value>,
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(TIMEOUT, future).await;
    done.expect("it happens in time")
}

/// A request for `path` as a load balancer writes it.
fn get(path: &str) -> Value {
    let key = format!("Bearer mr_{}", "a".repeat(52));
    let mut payload: Value = serde_json::from_str(&ALB.replace("Bearer KEY", &key)).unwrap();
    payload["path"] = path.into();
    payload
}

#[test]
fn it_starts_and_ends_idle_without_a_connection_to_anything() {
    run(async {
        let mut function = Function::start(json!({}), None).await;
        let connections = || {
            let (aws, database) = (&function.aws_listening, &function.database);
            (aws.connections(), database.connections())
        };
        assert_eq!(connections(), (0, 0), "at the first poll for work");
        function.give(&get("/health"));
        let answer = function.answer().await.body;
        assert_eq!(answer["statusCode"], 200);
        assert_eq!(connections(), (0, 0), "after a request that needs none");
        let begun = Instant::now();
        function.terminate();
        assert_eq!(function.end().await.code, Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn told_to_end_it_answers_what_it_has_in_hand() {
    run(async {
        let mut function = Function::start(json!({}), Some(Notify::new())).await;
        function.give(&get("/v1/events"));
        // It waits for DynamoDB now.
        within(function.aws.called.notified()).await;
        function.terminate();
        // Longer than a signal takes.
        tokio::time::sleep(Duration::from_millis(300)).await;
        function.aws.release.as_ref().unwrap().notify_one();
        let Answered { kind, body: answer } = function.answer().await;
        // There is no such key.
        assert_eq!((&*kind, &answer["statusCode"]), ("response", &json!(401)));
        assert_eq!(function.end().await.code, Some(0));
    });
}

#[test]
fn a_failed_invocation_is_one_line_with_its_ids() {
    run(async {
        let mut function = Function::start(json!({}), None).await;
        function.give(&json!({ "secret": "hunter2" }));
        let Answered { kind, body: answer } = function.answer().await;
        assert_eq!(kind, "error");
        assert_eq!(
            answer["errorType"], "Millrace.UnreadablePayload",
            "{answer}"
        );
        function.terminate();
        let lines = function.end().await.log;
        let [line] = lines.as_slice() else {
            panic!("{lines:#?}")
        };
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["message"], "invocation failed");
        assert_eq!(line["lambda.request_id"], REQUEST_ID);
        assert_eq!(line["trace.id"], TRACE);
        assert_eq!(line["error"], answer["errorMessage"]);
        assert_eq!(line["error.type"], answer["errorType"]);
        assert!(!line.to_string().contains("hunter2"));
    });
}

#[test]
fn a_secret_of_another_shape_is_named_and_not_shown() {
    run(async {
        let arn = "arn:aws:secretsmanager:eu-west-1:1:secret:admin";
        let secret = json!({ "ARN": arn, "Name": "admin", "SecretString": "hunter2" });
        let mut function = Function::start(secret, None).await;
        function.give(&get("/v1/projects"));
        let answer = function.answer().await.body;
        assert_eq!(answer["statusCode"], 500, "{answer}");
        let problem: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(problem["code"], "internal", "{problem}");
        assert!(!answer.to_string().contains("secretsmanager"), "{answer}");
        function.terminate();
        let lines = function.end().await.log;
        let [line] = lines.as_slice() else {
            panic!("{lines:#?}")
        };
        assert_eq!(line["message"], "request failed");
        assert_eq!(line["request.id"], problem["request_id"]);
        assert_eq!(line["lambda.request_id"], REQUEST_ID);
        let cause = format!("secret {arn}: expected plain text of at least 32 characters");
        assert_eq!(line["cause"], cause);
        assert!(!line.to_string().contains("hunter2"));
    });
}
