//! The program itself as a process of its own, spoken to over TCP.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// Longest that a start may take: the first one makes the database.
const START_MAX: Duration = Duration::from_secs(60);
/// Longest that a command that ends by itself may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// A port that the system chooses.
pub const ANY_PORT: (&str, &str) = ("MILLRACE_HTTP__LISTEN", "127.0.0.1:0");

/// The binary with nothing of this process's environment but `env`.
pub fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.args(args).env_clear().envs(env.iter().copied());
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command that ended by itself left behind.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the binary to its end, with `dir` as its data directory and also where
/// it works.
pub fn run_to_end(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    let mut child = command(args, env)
        .env("MILLRACE_DATA_DIR", dir.join("data"))
        .envs(env.iter().copied())
        .current_dir(dir)
        .spawn()
        .unwrap();
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let status = wait(&mut child, COMMAND_MAX).unwrap_or_else(|| {
        child.kill().unwrap();
        panic!("{args:?} went on for {COMMAND_MAX:?}")
    });
    Ended {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        text
    })
}

pub fn wait(child: &mut Child, longest: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < longest {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Sends a process a signal: `KILL`, `TERM`, `INT`.
pub fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(sent.success(), "{kill}: {sent}");
}

/// What a process prints, read to the end so that it never waits for a reader.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    /// Keeps what comes `from` it, and shows `each` line as it comes.
    fn keep(
        &self,
        from: impl Read + Send + 'static,
        each: impl Fn(String) + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let kept = self.0.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let line = line.unwrap();
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
                drop(kept);
                each(line);
            }
        })
    }

    fn read(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A serving process; killed when this is dropped.
pub struct Served {
    pub url: String,
    /// What it printed to stdout until it listened.
    pub greeting: String,
    output: Output,
    child: Child,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Served {
    /// Starts it on the data directory `data` and a port of its own, and waits
    /// until it listens.
    pub fn start(data: &Path, env: &[(&str, &str)]) -> Self {
        Self::spawn(command(&["serve"], env), data)
    }

    /// As [`Served::start`], with every file made for everybody to read and write.
    pub fn start_without_umask(data: &Path) -> Self {
        let binary = env!("CARGO_BIN_EXE_millrace");
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$0\" serve", binary]);
        shell.env_clear().stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(shell, data)
    }

    fn spawn(mut command: Command, data: &Path) -> Self {
        let mut child = command
            .env("MILLRACE_DATA_DIR", data)
            .env("MILLRACE_HTTP__LISTEN", "127.0.0.1:0")
            .env("MILLRACE_LOG__FORMAT", "json")
            .spawn()
            .unwrap();
        let (said, heard) = mpsc::channel();
        let (output, stdout) = (Output::default(), child.stdout.take().unwrap());
        output.keep(stdout, move |line| drop(said.send(line)));
        let stderr = output.keep(child.stderr.take().unwrap(), |_| ());
        let begun = Instant::now();
        let mut greeting = String::new();
        let address = loop {
            let left = START_MAX.saturating_sub(begun.elapsed());
            let Ok(line) = heard.recv_timeout(left) else {
                let _ = child.kill();
                stderr.join().unwrap();
                panic!("it does not listen:\n{}", output.read());
            };
            if let Some(address) = listening(&line) {
                break address;
            }
            greeting += &line;
            greeting.push('\n');
        };
        Self {
            url: format!("http://{address}"),
            greeting,
            output,
            child,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// All that it has printed so far, to stdout and stderr.
    pub fn output(&self) -> String {
        self.output.read()
    }

    /// Sends it a signal: `KILL`, `TERM`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Waits for its end, which comes within `longest`; its exit code, if it was
    /// not killed.
    pub fn wait(&mut self, longest: Duration) -> Option<i32> {
        let status = wait(&mut self.child, longest);
        let status = status.unwrap_or_else(|| panic!("it lives on after {longest:?}"));
        status.code()
    }

    /// One request with `key`; none if there is no whole answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Value,
    ) -> Option<(StatusCode, Value)> {
        self.send(json_request(&self.url, method, path, key, body))
            .await
    }

    /// As [`Served::request`], of any kind.
    pub async fn send(&self, request: http::Request<Full<Bytes>>) -> Option<(StatusCode, Value)> {
        exchange(&self.client, request).await
    }
}

/// One request with `key` to a process that is not a [`Served`], on a connection of
/// its own; none if there is no whole answer.
pub async fn request_to(
    url: &str,
    method: Method,
    path: &str,
    key: &str,
    body: Value,
) -> Option<(StatusCode, Value)> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    exchange(&client, json_request(url, method, path, key, body)).await
}

fn json_request(
    url: &str,
    method: Method,
    path: &str,
    key: &str,
    body: Value,
) -> http::Request<Full<Bytes>> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{url}{path}"))
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json");
    let body = match body {
        Value::Null => Bytes::new(),
        body => body.to_string().into(),
    };
    request.body(body.into()).unwrap()
}

async fn exchange(
    client: &Client<HttpConnector, Full<Bytes>>,
    request: http::Request<Full<Bytes>>,
) -> Option<(StatusCode, Value)> {
    let (parts, body) = client.request(request).await.ok()?.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some((parts.status, json))
}

/// The key in the file that the greeting of a first start names.
pub fn first_key(greeting: &str) -> Option<String> {
    let (_, after) = greeting.split_once("It is in the file\n\n  ")?;
    Some(std::fs::read_to_string(after.lines().next()?).unwrap())
}

/// The secret of the link into the console that a start or a command printed.
pub fn link_token(printed: &str) -> Option<String> {
    let (_, after) = printed.split_once("/console/sign-in?token=")?;
    Some(after.split_whitespace().next()?.to_owned())
}

/// Creates an endpoint at `url` for all events; its id.
pub async fn create_endpoint(served: &Served, key: &str, url: &str) -> String {
    let created = served.request(Method::POST, "/v1/endpoints", key, json!({ "url": url }));
    let (status, endpoint) = created.await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{endpoint}");
    endpoint["id"].as_str().unwrap().to_owned()
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the log line that says so.
pub fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str().unwrap().to_owned())
}
