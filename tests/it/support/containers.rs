//! The stores in containers, where a Docker engine is there: PostgreSQL, and an
//! emulator of DynamoDB, SQS and S3.
//!
//! They have to be gone when the tests end, and a static is never dropped. So
//! another process of this binary keeps them: it ends, and `testcontainers` removes
//! them, when its input does, which is when this process ends in whatever way.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use testcontainers::bollard::models::PortBinding;
use testcontainers::core::{Healthcheck, IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt, TestcontainersError,
};

const POSTGRES: (&str, &str) = ("postgres", "17");
const POSTGRES_PORT: u16 = 5432;
/// The release that `tests/ministack` installs.
const MINISTACK: (&str, &str) = ("ministackorg/ministack", "1.5.33");
const MINISTACK_PORT: u16 = 4566;
const PASSWORD: &str = "millrace";
/// How long an image may take to be fetched, and its server to answer.
const START_MAX: Duration = Duration::from_secs(300);
/// What the keeper's lines begin with, among those of the test runner.
const SAYS: &str = "containers: ";
const KEEPER: &str = "support::containers::keeps_the_containers_of_the_process_that_started_it";

/// Where the stores are that run in containers.
#[derive(Debug)]
pub struct Containers {
    pub database_url: String,
    /// Of every service of AWS's.
    pub aws_url: String,
    _keeper: Child,
}

/// The containers of this run, started when first asked for; none, and why, without
/// an engine or with one that has not the images and cannot get them.
pub fn containers() -> Result<&'static Containers, &'static str> {
    static CONTAINERS: OnceLock<Result<Containers, String>> = OnceLock::new();
    let started = CONTAINERS.get_or_init(|| {
        let started = start();
        match &started {
            Ok(_) => say(&format!("tests run on {POSTGRES:?} and {MINISTACK:?}")),
            Err(why) => say(&format!("skipped: stores in containers, as {why}")),
        }
        started
    });
    started.as_ref().map_err(String::as_str)
}

/// Past the test runner's capture.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{SAYS}{text}");
}

fn start() -> Result<Containers, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut command = Command::new(std::env::current_exe().map_err(text)?);
    command.args(["--exact", KEEPER, "--ignored", "--nocapture"]);
    // In a group of its own: Ctrl-C is for the tests, whose end it then sees.
    command.process_group(0).stdin(Stdio::piped());
    // The test runner says on its output what takes long, this too, and would end with
    // the containers there once nobody reads that.
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut keeper = command.spawn().map_err(text)?;
    let output = keeper.stderr.take().expect("it is piped");
    let said = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once(SAYS).map(|(_, said)| said.to_owned()));
    let said = said.unwrap_or_else(|| "their keeper ended and said nothing".to_owned());
    let urls = said
        .split_once(' ')
        .filter(|_| said.starts_with("postgresql://"));
    let Some((database_url, aws_url)) = urls else {
        let _ = keeper.wait();
        return Err(said);
    };
    Ok(Containers {
        database_url: database_url.to_owned(),
        aws_url: aws_url.to_owned(),
        _keeper: keeper,
    })
}

#[test]
#[ignore = "a process of its own, which the tests start where there is an engine"]
fn keeps_the_containers_of_the_process_that_started_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match started().await {
            Ok((urls, _containers)) => {
                tell(&urls);
                let ended =
                    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut vec![]));
                let _ = ended.await;
            }
            // On one line, as all that is said here.
            Err(error) => tell(&error.to_string().replace('\n', " ")),
        }
    });
}

/// To the process that waits for it.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n{SAYS}{text}");
}

type Running = ContainerAsync<GenericImage>;

async fn started() -> Result<(String, [Running; 2]), TestcontainersError> {
    let (postgres, ministack) = tokio::try_join!(postgres().start(), ministack().start())?;
    let url = async |container: &Running, port: u16| {
        let port = container.get_host_port_ipv4(port.tcp()).await?;
        Ok::<_, TestcontainersError>(format!("127.0.0.1:{port}"))
    };
    let database = url(&postgres, POSTGRES_PORT).await?;
    let aws = url(&ministack, MINISTACK_PORT).await?;
    let urls = format!(
        "postgresql://postgres:{PASSWORD}@{database}/postgres?sslmode=disable http://{aws}"
    );
    Ok((urls, [postgres, ministack]))
}

fn postgres() -> ContainerRequest<GenericImage> {
    let (name, tag) = POSTGRES;
    let answers = ["pg_isready", "--host=127.0.0.1", "--username=postgres"];
    image(name, tag, POSTGRES_PORT, Healthcheck::cmd(answers))
        .with_env_var("POSTGRES_PASSWORD", PASSWORD)
        .with_cmd(["-c", "fsync=off", "-c", "max_connections=200"])
}

fn ministack() -> ContainerRequest<GenericImage> {
    let (name, tag) = MINISTACK;
    let health = format!("http://127.0.0.1:{MINISTACK_PORT}/_ministack/health");
    let ask = format!("import urllib.request; urllib.request.urlopen('{health}', timeout=2)");
    let answers = Healthcheck::cmd(["python3", "-c", ask.as_str()]);
    image(name, tag, MINISTACK_PORT, answers)
}

/// Its port is published to loopback alone: the password is no secret.
fn image(name: &str, tag: &str, port: u16, answers: Healthcheck) -> ContainerRequest<GenericImage> {
    let answers = answers
        .with_interval(Duration::from_millis(500))
        .with_retries(600);
    GenericImage::new(name, tag)
        .with_exposed_port(port.tcp())
        .with_wait_for(WaitFor::healthcheck())
        .with_startup_timeout(START_MAX)
        .with_health_check(answers)
        .with_host_config_modifier(move |host| {
            let loopback = PortBinding {
                host_ip: Some("127.0.0.1".to_owned()),
                host_port: None,
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(format!("{port}/tcp"), Some(vec![loopback]))].into());
        })
}
