//! The first API key: in no log, and lost by nothing that may happen to a start.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::{ANY_PORT, Served, command, first_key};
use crate::support::harness::run;

const START_MAX: Duration = Duration::from_secs(60);

async fn assert_works(served: &Served, key: &str) {
    let event = json!({ "type": "a" });
    let published = served.request(Method::POST, "/v1/events", key, event);
    assert_eq!(published.await.unwrap().0, StatusCode::ACCEPTED);
}

fn start(data: &Path, stdout: Stdio) -> Child {
    command(&["serve"], &[ANY_PORT])
        .env("MILLRACE_DATA_DIR", data)
        .stdout(stdout)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_until(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < START_MAX, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn its_file_is_its_owners_alone_and_named_once() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        // A path that a shell must be told is one word.
        let data = dir.path().join("it's here");
        let mut served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        let file = data.join("first-api-key");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (_, export) = served.greeting.split_once("  export ").unwrap();
        let export = export.lines().next().unwrap();
        let script = format!("export {export}; printf %s \"$MILLRACE_KEY\"");
        let pasted = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(pasted.stdout).unwrap(), key);
        assert_works(&served, &key).await;
        assert!(!served.output().contains(&key[..20]));
        served.signal("TERM");
        served.wait(Duration::from_secs(20));

        let served = Served::start(&data, &[]);
        assert_eq!(first_key(&served.greeting), None);
        assert!(
            served
                .greeting
                .contains("\nAPI keys: millrace keys create\n")
        );
        assert!(!served.output().contains("first-api-key"));
    });
}

#[test]
fn a_start_that_is_killed_before_it_tells_of_the_key_leaves_that_to_the_next() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut killed = start(&data, Stdio::piped());
        wait_until(|| data.join("first-api-key.new").exists());
        killed.kill().unwrap();
        let mut greeting = String::new();
        let mut stdout = killed.stdout.take().unwrap();
        stdout.read_to_string(&mut greeting).unwrap();
        killed.wait().unwrap();
        let told = first_key(&greeting);
        println!("killed before it told of the key: {}", told.is_none());

        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).or(told).unwrap();
        assert_works(&served, &key).await;
        assert!(!data.join("first-api-key.new").exists());
    });
}

#[test]
fn a_file_that_holds_no_key_is_made_anew_or_removed() {
    run(async {
        for held in [&b""[..], b"\n", b"\xff\xfe", b"mr_cut"] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            std::fs::create_dir(&data).unwrap();
            let untold = data.join("first-api-key.new");
            std::fs::write(&untold, held).unwrap();
            let served = Served::start(&data, &[]);
            assert_works(&served, &first_key(&served.greeting).unwrap()).await;
            assert!(!untold.exists());
            drop(served);
            std::fs::write(&untold, held).unwrap();
            let served = Served::start(&data, &[]);
            assert_eq!(first_key(&served.greeting), None);
            assert!(!untold.exists());
        }
    });
}

#[test]
fn a_start_that_could_not_tell_of_the_key_leaves_that_to_the_next() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // A disk that is full takes no greeting.
        let full = std::fs::File::options().write(true).open("/dev/full");
        let Ok(full) = full else {
            return;
        };
        let mut mute = start(&data, full.into());
        wait_until(|| data.join("first-api-key").exists());
        mute.kill().unwrap();
        mute.wait().unwrap();

        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        assert_works(&served, &key).await;
        // Revoked and untold, it is told to nobody.
        let kept = data.join("first-api-key.new");
        std::fs::write(&kept, &key).unwrap();
        let admin = std::fs::read_to_string(data.join("admin_key")).unwrap();
        let get = async |path: &str| {
            let asked = served.request(Method::GET, path, &admin, Value::Null);
            asked.await.unwrap().1["data"][0]["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let keys = format!("/v1/projects/{}/keys", get("/v1/projects").await);
        let path = format!("{keys}/{}", get(&keys).await);
        let revoked = served.request(Method::DELETE, &path, &admin, Value::Null);
        assert_eq!(revoked.await.unwrap().0, StatusCode::NO_CONTENT);
        drop(served);
        let served = Served::start(&data, &[]);
        assert_eq!(first_key(&served.greeting), None);
        assert!(!kept.exists());
    });
}

/// Runs a command on a terminal of its own until it has said what `UNTIL` is, and all
/// that it said.
const ON_A_TERMINAL: &str = "
import os, pty, signal, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
while os.environ['UNTIL'].encode() not in said:
    said += os.read(terminal, 4096)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
sys.stdout.buffer.write(said)
";

#[test]
fn a_terminal_is_shown_the_key_and_nothing_is_left_of_it() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let on_a_terminal = || {
            let shown = Command::new("python3")
                .args(["-c", ON_A_TERMINAL, env!("CARGO_BIN_EXE_millrace"), "serve"])
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .env("UNTIL", "listening")
                .env("MILLRACE_LOG__FORMAT", "json")
                .env("MILLRACE_HTTP__LISTEN", "127.0.0.1:0")
                .env("MILLRACE_DATA_DIR", &data)
                .output();
            let shown = shown.expect("python3 is there, as for other tests");
            let said = String::from_utf8_lossy(&shown.stderr);
            assert!(shown.status.success(), "{said}");
            String::from_utf8(shown.stdout).unwrap()
        };
        let shown = on_a_terminal();
        let (_, key) = shown.split_once("export MILLRACE_KEY=").unwrap();
        let key = key.lines().next().unwrap();
        assert!(key.starts_with("mr_"), "{shown}");
        for file in ["first-api-key", "first-api-key.new"] {
            assert!(!data.join(file).exists(), "{file}");
        }
        assert!(!on_a_terminal().contains("MILLRACE_KEY"));
        let served = Served::start(&data, &[]);
        assert_eq!(first_key(&served.greeting), None);
        assert_works(&served, key).await;
    });
}
