//! What the program writes to whoever does not read it: a reader that is gone, one
//! that stops, a disk that is full.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::{
    ANY_PORT, Served, command, first_key, listening, request_to, run_to_end, signal, wait,
};
use crate::support::harness::run;

/// Longest that an end may take.
const END_MAX: Duration = Duration::from_secs(20);
/// Lines that no pipe holds: each refused request is one.
const MANY: usize = 2000;
const ADMIN_KEY: &str = "mradmin_0123456789abcdef0123456789abcdef";

/// A server that writes both its streams to one pipe, as after `2>&1 |`; read up to
/// where it listens.
struct Piped {
    child: Child,
    url: String,
    reader: BufReader<PipeReader>,
}

impl Piped {
    fn start(data: &Path) -> Self {
        let (reader, stdout) = pipe().unwrap();
        let stderr = stdout.try_clone().unwrap();
        let child = command(&["serve"], &[ANY_PORT])
            .env("MILLRACE_DATA_DIR", data)
            .env("MILLRACE_ADMIN_KEY", ADMIN_KEY)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(reader);
        let address = loop {
            let mut line = String::new();
            let read = reader.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it does not listen");
            if let Some(address) = listening(&line) {
                break address;
            }
        };
        Self {
            child,
            url: format!("http://{address}"),
            reader,
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Requests that are each logged, and one that writes.
async fn serves(url: &str, requests: usize) {
    for _ in 0..requests {
        let refused = request_to(url, Method::GET, "/v1/events", "mr_no", Value::Null);
        let refused = tokio::time::timeout(END_MAX, refused).await.unwrap();
        assert_eq!(refused.unwrap().0, StatusCode::UNAUTHORIZED);
    }
    let project = json!({ "name": "still here" });
    let created = request_to(url, Method::POST, "/v1/projects", ADMIN_KEY, project);
    let (status, answer) = created.await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

#[test]
fn a_log_whose_reader_is_gone_ends_no_request_and_no_stop() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let mut piped = Piped::start(dir.path());
        let (nobody, _) = pipe().unwrap();
        drop(std::mem::replace(&mut piped.reader, BufReader::new(nobody)));
        serves(&piped.url, 20).await;
        signal(&piped.child, "INT");
        let ended = wait(&mut piped.child, END_MAX).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{ended}");
    });
}

#[test]
fn a_log_whose_reader_stops_holds_up_no_request_and_no_stop() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let mut piped = Piped::start(dir.path());
        serves(&piped.url, MANY).await;
        signal(&piped.child, "TERM");
        let ended = wait(&mut piped.child, END_MAX).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{ended}");

        // And one that goes on again has missed nothing that there was room for.
        let dir = tempfile::tempdir().unwrap();
        let mut piped = Piped::start(dir.path());
        serves(&piped.url, MANY).await;
        signal(&piped.child, "TERM");
        let mut text = String::new();
        piped.reader.read_to_string(&mut text).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let told = |message: &str| {
            lines
                .iter()
                .filter(|line| line["message"] == message)
                .count()
        };
        assert_eq!((told("request refused"), told("stopped")), (MANY, 1));
    });
}

/// Waits until a server is ready that cannot say so, and uses it.
async fn serves_at_last(child: &mut Child, url: &str) {
    let ready = async || {
        let asked = request_to(url, Method::GET, "/health/ready", "", Value::Null);
        asked
            .await
            .is_some_and(|(status, _)| status == StatusCode::OK)
    };
    while !ready().await {
        assert_eq!(child.try_wait().unwrap(), None, "it does not start");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    serves(url, 20).await;
}

#[test]
fn a_full_disk_ends_no_request() {
    let full = || OpenOptions::new().write(true).open("/dev/full");
    if full().is_err() {
        println!("there is no /dev/full here: not tried");
        return;
    }
    run(async {
        let dir = tempfile::tempdir().unwrap();
        // Nothing tells the port that it would choose itself.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let mut child = command(&["serve"], &[("MILLRACE_HTTP__LISTEN", &listen)])
            .env("MILLRACE_DATA_DIR", dir.path())
            .env("MILLRACE_ADMIN_KEY", ADMIN_KEY)
            .stdout(full().unwrap())
            .stderr(full().unwrap())
            .spawn()
            .unwrap();
        serves_at_last(&mut child, &format!("http://{listen}")).await;
        signal(&child, "TERM");
        let ended = wait(&mut child, END_MAX).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{ended}");
    });
}

const COMMANDS: [&[&str]; 6] = [
    &["migrate"],
    &["doctor"],
    &["config"],
    &["openapi"],
    &["--help"],
    &["--version"],
];

#[test]
fn a_command_whose_reader_is_gone_ends_quietly_and_well() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str], stdout: Stdio, stderr: Stdio| {
        let child = command(args, &[("MILLRACE_LOG__LEVEL", "debug")])
            .env("MILLRACE_DATA_DIR", dir.path().join("data"))
            .current_dir(dir.path())
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        child.unwrap().wait_with_output().unwrap()
    };
    let gone = || Stdio::from(pipe().unwrap().1);
    for args in COMMANDS {
        let ended = run(args, gone(), Stdio::piped());
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {}", ended.status);
        let stderr = String::from_utf8(ended.stderr).unwrap();
        let says_so = stderr.contains("panicked") || stderr.contains("millrace: ");
        assert!(!says_so, "{args:?}: {stderr}");
        let ended = run(args, gone(), gone());
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {}", ended.status);
    }
    // What fails does so still.
    let ended = run(&["serv"], gone(), gone());
    assert_eq!(ended.status.code(), Some(2));
    let ended = run(&["config", "--config", "no.toml"], gone(), gone());
    assert_eq!(ended.status.code(), Some(1));
    if let Ok(full) = OpenOptions::new().write(true).open("/dev/full") {
        let ended = run(&["openapi"], full.into(), Stdio::piped());
        assert_eq!(
            ended.status.code(),
            Some(1),
            "what is lost on a disk is told"
        );
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert!(stderr.starts_with("millrace: stdout: "), "{stderr}");
    }
}

#[test]
fn a_key_that_nobody_can_read_is_an_error_that_says_how_to_revoke_it() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let unread = |stdout: Stdio| {
            let child = command(&["keys", "create"], &[])
                .env("MILLRACE_DATA_DIR", &data)
                .current_dir(dir.path())
                .stdout(stdout)
                .spawn();
            let ended = child.unwrap().wait_with_output().unwrap();
            let stderr = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(1), "{stderr}");
            assert!(!stderr.contains("mr_"), "{stderr}");
            let (_, told) = stderr.split_once("millrace: stdout: the key ").unwrap();
            let (_, told) = told.split_once(" DELETE ").unwrap();
            told.split_once(':').unwrap().0.to_owned()
        };
        let gone = || Stdio::from(pipe().unwrap().1);
        let mut paths = vec![unread(gone())];
        let served = Served::start(&data, &[]);
        paths.push(unread(gone()));
        if let Ok(full) = OpenOptions::new().write(true).open("/dev/full") {
            paths.push(unread(full.into()));
        }
        let admin = std::fs::read_to_string(data.join("admin_key")).unwrap();
        for path in paths {
            let revoked = served.request(Method::DELETE, &path, &admin, Value::Null);
            assert_eq!(revoked.await.unwrap().0, StatusCode::NO_CONTENT, "{path}");
        }
    });
}

/// A pipe that takes no more, and its reader, which does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    // Ends when the reader does.
    std::thread::spawn(move || while filler.write_all(&[b'x'; 4096]).is_ok() {});
    std::thread::sleep(Duration::from_millis(200));
    (reader, writer)
}

#[test]
fn an_error_that_nobody_reads_does_not_keep_a_command_from_ending() {
    let (_reader, stderr) = full_pipe();
    let mut child = command(&["config", "--config", "no.toml"], &[])
        .stderr(stderr)
        .spawn()
        .unwrap();
    let ended = wait(&mut child, END_MAX);
    let _ = child.kill();
    assert_eq!(ended.expect("it ends").code(), Some(1));
}

#[test]
fn a_first_start_whose_reader_has_stopped_serves_and_the_next_tells_of_the_key() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (_reader, stdout) = full_pipe();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let mut child = command(&["serve"], &[("MILLRACE_HTTP__LISTEN", &listen)])
            .env("MILLRACE_DATA_DIR", dir.path())
            .env("MILLRACE_ADMIN_KEY", ADMIN_KEY)
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        serves_at_last(&mut child, &format!("http://{listen}")).await;
        signal(&child, "TERM");
        let ended = wait(&mut child, END_MAX).expect("it ends");
        assert_eq!(ended.code(), Some(0), "{ended}");

        let served = Served::start(dir.path(), &[]);
        let key = first_key(&served.greeting).expect("nobody was told of it");
        let asked = served.request(Method::GET, "/v1/events", &key, Value::Null);
        assert_eq!(asked.await.unwrap().0, StatusCode::OK);
    });
}

#[test]
fn a_command_waits_for_a_slow_reader_of_a_pipe_that_does_not_block() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let whole = run_to_end(dir.path(), &["openapi"], &[]).stdout;
        assert!(whole.len() > 100_000, "no pipe is to hold it");
        let (stdout, reader) = tokio::net::unix::pipe::pipe().unwrap();
        let mut child = command(&["openapi"], &[])
            .stdout(stdout.into_nonblocking_fd().unwrap())
            .spawn()
            .unwrap();
        // Long enough for it to find the pipe full.
        assert!(wait(&mut child, Duration::from_millis(500)).is_none());
        let mut text = String::new();
        let mut reader = std::fs::File::from(reader.into_blocking_fd().unwrap());
        reader.read_to_string(&mut text).unwrap();
        assert!(text == whole, "{} of {} bytes", text.len(), whole.len());
        assert_eq!(wait(&mut child, END_MAX).unwrap().code(), Some(0));
    });
}

#[test]
fn stdout_of_a_command_is_its_output_alone() {
    let dir = tempfile::tempdir().unwrap();
    let loud = [
        ("MILLRACE_LOG__LEVEL", "trace"),
        ("MILLRACE_LOG__FORMAT", "human"),
    ];
    let migrated = run_to_end(dir.path(), &["migrate"], &loud);
    assert_eq!(migrated.stdout, "both stores are up to date\n");
    assert!(migrated.stderr.contains("starting"), "{}", migrated.stderr);
    let doctor = run_to_end(dir.path(), &["doctor"], &loud[..1]);
    for line in doctor.stdout.lines() {
        assert!(line.starts_with("ok    "), "{line}");
    }
    assert!(doctor.stdout.lines().count() > 5, "{}", doctor.stdout);
    // In JSON, for it is no terminal.
    for line in doctor.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    assert!(!doctor.stderr.is_empty(), "it was asked to log all");
}
