//! The program as a person at a terminal sees it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::binary::{ANY_PORT, request_to, wait};
use crate::support::harness::run;
use crate::support::receiver::{Receiver, Reply};

/// Longest that anything is waited for.
const SHOWN_MAX: Duration = Duration::from_secs(60);
/// What Ctrl-C sends.
const CTRL_C: &[u8] = b"\x03";
/// Runs its arguments on a terminal of their own, joined to its stdin and stdout.
const SPAWN: &str = "import os, pty, sys; \
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A server at a terminal.
struct Terminal {
    child: Child,
    shown: Arc<Mutex<String>>,
    url: String,
    key: String,
}

impl Terminal {
    /// A first start with the variables `env`, and its greeting read; none without a
    /// Python, which makes the terminal.
    #[expect(clippy::print_stdout, reason = "a test says what it leaves out")]
    async fn start(data: &Path, env: &[(&str, &str)]) -> Option<Self> {
        let path = std::env::var("PATH").unwrap();
        let child = Command::new("python3")
            .args(["-c", SPAWN, env!("CARGO_BIN_EXE_millrace"), "serve"])
            .env_clear()
            .envs([("PATH", path.as_str()), ("TZ", "UTC"), ANY_PORT])
            .env("MILLRACE_DATA_DIR", data)
            .env("MILLRACE_DELIVERY__RETRY_SCHEDULE_S", "0,3")
            .env("MILLRACE_DELIVERY__RETRY_JITTER", "0")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            println!("python3 is not installed: no terminal is tried");
            return None;
        };
        let mut from = child.stdout.take().unwrap();
        let shown = Arc::<Mutex<String>>::default();
        let kept = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..read]);
                *kept.lock().unwrap() += &text;
            }
        });
        let mut terminal = Self {
            child,
            shown,
            url: String::new(),
            key: String::new(),
        };
        terminal.shows("listening").await;
        let greeting = terminal.text();
        let (_, url) = greeting.split_once("Millrace is up at ").unwrap();
        terminal.url = url.split_whitespace().next().unwrap().to_owned();
        let (_, key) = greeting.split_once("export MILLRACE_KEY=").unwrap();
        terminal.key = key.lines().next().unwrap().trim().to_owned();
        Some(terminal)
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits for a line that has `text`; that line.
    async fn shows(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let shown = self.text();
            let mut lines = shown
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            if let Some(line) = lines.find(|line| line.contains(text)) {
                return line.trim_end().to_owned();
            }
            let late = begun.elapsed() > SHOWN_MAX;
            assert!(!late, "{text:?} is not shown:\n{shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn press(&mut self, keys: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(keys).unwrap();
        stdin.flush().unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        wait(&mut self.child, SHOWN_MAX).expect("it ends").code()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let sent = request_to(&self.url, Method::POST, path, &self.key, body);
        let (status, answer) = sent.await.unwrap();
        assert!(status.is_success(), "{status} {answer}");
        answer
    }

    /// Publishes an event of `event_type` to an endpoint at `url` alone.
    async fn deliver(&self, url: &str, event_type: &str) {
        let endpoint = json!({ "url": url, "event_types": [event_type] });
        self.post("/v1/endpoints", endpoint).await;
        self.post("/v1/events", json!({ "type": event_type, "data": {} }))
            .await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal goes, and what runs on it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line without its time, which must be one.
fn timeless(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap();
    let is_time = |c: char| c.is_ascii_digit() || c == ':';
    assert!(time.len() == 8 && time.chars().all(is_time), "{line}");
    rest
}

#[test]
fn each_attempt_is_one_short_line_with_a_colour_if_there_are_any() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut terminal) = Terminal::start(dir.path(), &[]).await else {
            return;
        };
        let receiver = Receiver::start([Reply::Status(500), Reply::Status(503)]).await;
        let host = receiver.url["http://".len()..].replace("/hook", "");
        let url = format!("http://{host}/hook/secret?token=secret");
        terminal.deliver(&url, "user.created").await;
        let line = terminal.shows("✗").await;
        assert_eq!(
            timeless(&line),
            format!("✗ user.created → {host} 500, again in 3 s")
        );
        let line = terminal.shows("given up").await;
        assert_eq!(
            timeless(&line),
            format!("✗ user.created → {host} 503, given up")
        );
        terminal
            .post("/v1/events", json!({ "type": "user.created", "data": {} }))
            .await;
        let line = terminal.shows("✓").await;
        let (line, took) = timeless(&line).split_once(" 200 ").unwrap();
        assert_eq!(line, format!("✓ user.created → {host}"));
        assert!(took.ends_with(" ms"), "{took}");
        // Port 1 is reserved and refuses at once.
        terminal
            .deliver("http://127.0.0.1:1/", "user.deleted")
            .await;
        let line = terminal.shows("user.deleted").await;
        assert_eq!(
            timeless(&line),
            "✗ user.deleted → 127.0.0.1:1 connection refused, again in 3 s"
        );
        let refused = request_to(
            &terminal.url,
            Method::GET,
            "/v1/events",
            "mr_no",
            Value::Null,
        );
        assert_eq!(refused.await.unwrap().0, StatusCode::UNAUTHORIZED);
        terminal.shows("request refused: ").await;
        let shown = terminal.text();
        assert!(!shown.contains("secret"), "{shown}");
        assert!(
            !shown.contains('{') || !shown.contains("\"message\""),
            "{shown}"
        );
        // There is no TERM.
        assert!(!shown.contains('\u{1b}'), "{shown}");

        drop(terminal);
        let dir = tempfile::tempdir().unwrap();
        let colour = [("TERM", "xterm"), ("LC_ALL", "C")];
        let mut terminal = Terminal::start(dir.path(), &colour).await.unwrap();
        terminal.deliver(&receiver.url, "user.created").await;
        let line = terminal.shows("user.created ->").await;
        assert!(
            line.contains("\u{1b}[32mok\u{1b}[0m user.created -> "),
            "{line:?}"
        );
    });
}

#[test]
fn ctrl_c_says_what_it_waits_for_and_a_second_one_ends_at_once() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let release = Arc::new(Notify::new());
        let receiver = Receiver::start([Reply::When(release.clone(), 200)]).await;
        let Some(mut terminal) = Terminal::start(dir.path(), &[]).await else {
            return;
        };
        terminal.deliver(&receiver.url, "user.created").await;
        while receiver.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        terminal.press(CTRL_C);
        let line = terminal.shows("Stopping").await;
        assert_eq!(
            line,
            "Stopping: 1 delivery is under way; Ctrl-C again to stop at once"
        );
        let begun = Instant::now();
        terminal.press(CTRL_C);
        assert_eq!(terminal.exit_code(), Some(130));
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!terminal.text().contains("stopped"), "it did not drain");
    });
}

#[test]
fn ctrl_c_with_nothing_under_way_ends_without_ado() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut terminal) = Terminal::start(dir.path(), &[]).await else {
            return;
        };
        let begun = Instant::now();
        terminal.press(CTRL_C);
        assert_eq!(terminal.exit_code(), Some(0));
        let took = begun.elapsed();
        // Well below a second on a machine that does nothing else.
        assert!(took < Duration::from_secs(5), "{took:?}");
        terminal.shows("stopped").await;
        assert!(!terminal.text().contains("Stopping"), "{}", terminal.text());
    });
}
