//! PostgreSQL and DynamoDB Local in containers, where a Docker engine is there.
//!
//! By the `docker` command: two containers and their ports are all there is to
//! it. A shell stays beside them that removes them when this process ends, in
//! whatever way it does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const POSTGRES: &str = "postgres:15-alpine";
const DYNAMODB: &str = "amazon/dynamodb-local:2.5.2";
/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(30);
const PASSWORD: &str = "millrace";

/// Where the stores are that run in containers.
#[derive(Debug)]
pub struct Containers {
    pub database_url: String,
    pub dynamodb_url: String,
}

/// The containers of this run, started when first asked for; none without an
/// engine, or with one that has not the images and cannot get them.
pub fn containers() -> Option<&'static Containers> {
    static CONTAINERS: OnceLock<Option<Containers>> = OnceLock::new();
    let started = CONTAINERS.get_or_init(|| {
        docker(&["info", "--format", "{{.ServerVersion}}"]).ok()?;
        let started = start();
        started
            .inspect_err(|why| say(&format!("{why}: embedded stores instead")))
            .ok()
    });
    started.as_ref()
}

/// Past the test runner's capture.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "docker: {text}");
}

fn start() -> Result<Containers, String> {
    let password = format!("POSTGRES_PASSWORD={PASSWORD}");
    let publish = ["--publish", "127.0.0.1::5432", "--env", &password, POSTGRES];
    let unsafe_and_fast = ["-c", "fsync=off", "-c", "max_connections=200"];
    let postgres = run(&[&publish[..], &unsafe_and_fast].concat())?;
    remove_at_the_end(&postgres);
    let dynamodb = run(&["--publish", "127.0.0.1::8000", DYNAMODB])?;
    remove_at_the_end(&dynamodb);
    let postgres = port(&docker(&["port", &postgres, "5432/tcp"])?)?;
    let dynamodb = port(&docker(&["port", &dynamodb, "8000/tcp"])?)?;
    until_it_answers(dynamodb)?;
    say(&format!("tests run on {POSTGRES} and {DYNAMODB}"));
    Ok(Containers {
        database_url: format!(
            "postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres}/postgres?sslmode=disable"
        ),
        dynamodb_url: format!("http://127.0.0.1:{dynamodb}"),
    })
}

/// Starts a container; its id.
fn run(arguments: &[&str]) -> Result<String, String> {
    docker(&[&["run", "--detach", "--rm"], arguments].concat())
}

fn docker(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    let ended = command.output().map_err(|error| error.to_string())?;
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    // With no engine there, `info` is content all the same and says nothing.
    match (ended.status.success(), text(&ended.stdout)) {
        (true, said) if !said.is_empty() => Ok(said),
        _ => Err(text(&ended.stderr)),
    }
}

/// Waits for an HTTP server behind a port that is open before it is.
fn until_it_answers(port: u16) -> Result<(), String> {
    let answers = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        stream.read_exact(&mut [0]).ok()
    };
    let begun = Instant::now();
    while answers().is_none() {
        if begun.elapsed() > START_MAX {
            return Err(format!("port {port} does not answer"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Leaves a shell that waits for the end of its input, which is the end of this
/// process.
fn remove_at_the_end(container: &str) {
    let script = format!("cat >/dev/null; docker rm --force --volumes {container}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::piped());
    let shell = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // Its end of the pipe stays open as long as we live.
    std::mem::forget(shell);
}

/// The port on this machine, of what `docker port` says: an address a line.
fn port(said: &str) -> Result<u16, String> {
    let ports = said
        .lines()
        .filter_map(|line| line.trim().rsplit(':').next()?.parse().ok());
    ports
        .clone()
        .next()
        .ok_or_else(|| format!("no port in {said:?}"))
}

#[test]
fn a_port_is_read_of_what_docker_says() {
    assert_eq!(port("127.0.0.1:49153"), Ok(49153));
    assert_eq!(port("0.0.0.0:49154\n[::]:49154\n"), Ok(49154));
    assert_eq!(port("[::1]:8000"), Ok(8000));
    let none = port("Error: No public port '5432/tcp' published").unwrap_err();
    assert!(none.starts_with("no port in "), "{none}");
    assert!(port("").is_err());
}
