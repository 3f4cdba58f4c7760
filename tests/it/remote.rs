//! Stores on another machine: behind TCP, where they can hang and be cut off.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use insta::assert_snapshot;
use millrace::host::embedded::{EmbeddedDynamo, EmbeddedPostgres, start_postgres};
use millrace::store::postgres::Postgres;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

use crate::support::binary::{Served, create_endpoint, first_key, run_to_end};
use crate::support::harness::{Harness, config, run};
use crate::support::receiver::Receiver;
use crate::support::stores;

/// What a network does with the bytes it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// It takes connections and passes nothing on.
    Hung,
    /// It ends all connections, and new ones at once.
    Down,
}

/// A PostgreSQL of its own, reached over a network of its own.
struct RemotePostgres {
    address: SocketAddr,
    link: watch::Sender<Link>,
    _server: EmbeddedPostgres,
    dir: tempfile::TempDir,
}

impl RemotePostgres {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = start_postgres(dir.path()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (link, state) = watch::channel(Link::Up);
        let socket = std::fs::canonicalize(dir.path()).unwrap();
        tokio::spawn(forward(listener, socket.join(".s.PGSQL.5432"), state));
        Self {
            address,
            link,
            _server: server,
            dir,
        }
    }

    fn url(&self) -> String {
        format!(
            "postgresql://postgres@{}/postgres?sslmode=disable",
            self.address
        )
    }

    /// A migrated pool of one connection.
    async fn pool(&self) -> Postgres {
        let pool = stores::postgres(&self.url(), 1);
        // On a task of its own: a debug build's frames fill a test's stack.
        let migrated = pool.clone();
        let migrated = tokio::spawn(async move { migrated.migrate().await });
        migrated.await.unwrap().unwrap();
        pool
    }
}

async fn forward(listener: TcpListener, to: PathBuf, link: watch::Receiver<Link>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (to, mut link) = (to.clone(), link.clone());
        tokio::spawn(async move {
            if link.wait_for(|link| *link != Link::Hung).await.is_err() {
                return;
            }
            if *link.borrow() == Link::Down {
                return;
            }
            let far = UnixStream::connect(to).await.unwrap();
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            let mut down = link.clone();
            tokio::select! {
                () = pump(near_in, far_out, link.clone()) => {}
                () = pump(far_in, near_out, link) => {}
                _ = down.wait_for(|link| *link == Link::Down) => {}
            }
        });
    }
}

/// Passes bytes on while the link does.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut link: watch::Receiver<Link>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let up = link.wait_for(|link| *link == Link::Up).await.is_ok();
        if !up || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// The URL of a DynamoDB over TCP.
async fn remote_dynamodb() -> String {
    let dynamodb = EmbeddedDynamo::memory().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let dynamodb = dynamodb.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| answer(&dynamodb, request));
                // Whoever is killed breaks off.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    url
}

async fn answer(
    dynamodb: &EmbeddedDynamo,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = http::Request::from_parts(parts, SdkBody::from(body));
    let request = HttpRequest::try_from(request).unwrap();
    let response = dynamodb.call(request).await.unwrap();
    let body = response.body().bytes().unwrap().to_vec();
    Ok(http::Response::builder()
        .status(response.status().as_u16())
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::new(body.into()))
        .unwrap())
}

/// A TCP port that takes connections and never answers.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut accepted_streams = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            accepted_streams.push(accepted);
        }
    });
    address
}

/// The steps of a start of which the log says `message`.
fn steps(log: &str, message: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["message"] == message);
    lines
        .map(|line| line["step"].as_str().unwrap().to_owned())
        .collect()
}

/// Publishes and delivers an event, which takes no control plane; how long the
/// two took.
async fn publish_and_deliver(harness: &Harness, receiver: &Receiver) -> Duration {
    let before = receiver.received().len();
    let begun = Instant::now();
    harness.publish("a").await;
    harness.drain().await;
    assert_eq!(receiver.received().len(), before + 1);
    begun.elapsed()
}

#[test]
fn a_database_that_dies_or_hangs_in_use_holds_up_no_event_and_is_found_again() {
    run(async {
        let remote = RemotePostgres::start().await;
        let mut config = config();
        // Of a request to a database that hangs, and enough for any other.
        config.http.request_timeout = Duration::from_secs(5);
        let harness = Harness::builder()
            .config(config)
            .postgres(remote.pool().await);
        let harness = tokio::spawn(harness.build());
        let harness = harness.await.unwrap();
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;

        // Its pooled connection is open when it dies.
        remote.link.send(Link::Down).unwrap();
        assert_snapshot!(
            harness.get("/v1/endpoints").await.problem(503),
            @"unavailable: the control-plane database is unavailable"
        );
        publish_and_deliver(&harness, &receiver).await;
        let ready = harness.get("/health/ready").await.expect(StatusCode::OK);
        assert_eq!(ready["status"], "degraded");
        remote.link.send(Link::Up).unwrap();
        harness.get("/v1/endpoints").await.expect(StatusCode::OK);

        // The connection stays, and no answer comes.
        remote.link.send(Link::Hung).unwrap();
        assert_snapshot!(
            harness.get("/v1/endpoints").await.problem(503),
            @"unavailable: an answer in time is unavailable"
        );
        publish_and_deliver(&harness, &receiver).await;
        remote.link.send(Link::Up).unwrap();
        harness.get("/v1/endpoints").await.expect(StatusCode::OK);
        let ready = harness.get("/health/ready").await.expect(StatusCode::OK);
        assert_eq!(ready["status"], "ready");
    });
}

fn owned(env: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    owned.collect()
}

#[test]
fn it_serves_on_stores_of_other_machines() {
    run(async {
        let remote = RemotePostgres::start().await;
        let (database, dynamodb) = (remote.url(), remote_dynamodb().await);
        let env = [
            ("MILLRACE_DATABASE__URL", database.as_str()),
            ("MILLRACE_DATABASE__POOL_SIZE", "1"),
            ("MILLRACE_AWS__ENDPOINT_URL", dynamodb.as_str()),
            ("MILLRACE_ADMIN_KEY", "0123456789abcdef0123456789abcdef"),
            ("MILLRACE_DELIVERY__ALLOW_PRIVATE_TARGETS", "true"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ];
        let data = remote.dir.path().join("data");
        let mut served = Served::start(&data, &env);
        let first = first_key(&served.greeting).unwrap();
        assert!(!served.output().contains(&first), "no key is in a log");
        let greeting = served
            .greeting
            .replace(&served.url, "<url>")
            .replace(&remote.dir.path().display().to_string(), "<dir>");
        let begun = steps(&greeting, "starting");
        assert_eq!(begun, ["the control-plane database", "the event store"]);
        let lines = greeting.lines().filter(|line| !line.starts_with('{'));
        let lines: Vec<_> = lines.take(4).collect();
        assert_snapshot!(lines.join("\n"), @"

        Millrace is up at <url>  (API documentation: <url>/docs)
        Secrets lie in <dir>/data
        API keys: millrace keys create
        ");
        assert!(!greeting.contains("admin key"), "it is the user's own");

        let receiver = Receiver::start([]).await;
        create_endpoint(&served, &first, &receiver.url).await;
        let event = json!({ "type": "a" });
        let published = served
            .request(Method::POST, "/v1/events", &first, event)
            .await;
        assert_eq!(published.unwrap().0, StatusCode::ACCEPTED);
        receiver.reached(1).await;
        served.signal("TERM");
        assert_eq!(served.wait(Duration::from_secs(20)), Some(0));

        // Another key is made in the stores, and nothing elsewhere.
        let (dir, direct) = (remote.dir.path().join("elsewhere"), owned(&env));
        let made = tokio::task::spawn_blocking(move || {
            std::fs::create_dir(&dir).unwrap();
            let env: Vec<_> = direct.iter().map(|(n, v)| (&**n, &**v)).collect();
            let made = run_to_end(&dir, &["keys", "create"], &env);
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
            made
        });
        let made = made.await.unwrap();
        assert_eq!((made.code, &*made.stderr), (Some(0), ""));
        let key = made.stdout.strip_suffix('\n').unwrap();
        assert!(key.starts_with("mr_") && key != first);

        let served = Served::start(&data, &env);
        assert_eq!(first_key(&served.greeting), None);
        let list = served
            .request(Method::GET, "/v1/endpoints", key, Value::Null)
            .await;
        assert_eq!(list.unwrap().1["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn doctor_says_what_migrate_is_to_mend() {
    run(async {
        let remote = RemotePostgres::start().await;
        let (database, dynamodb) = (remote.url(), remote_dynamodb().await);
        let env = |table: &'static str| {
            let aws = [
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
            ];
            let common = [
                ("MILLRACE_DATABASE__URL", database.clone()),
                ("MILLRACE_DATABASE__POOL_SIZE", "1".into()),
                ("MILLRACE_AWS__ENDPOINT_URL", dynamodb.clone()),
                ("MILLRACE_DYNAMODB__TABLE", table.into()),
                ("MILLRACE_LOG__LEVEL", "off".into()),
            ];
            common
                .into_iter()
                .chain(aws.map(|(name, value)| (name, value.into())))
        };
        let dir = remote.dir.path().to_owned();
        let millrace = async |args: &'static [&str], table| {
            let (dir, env): (_, Vec<(&str, String)>) = (dir.clone(), env(table).collect());
            let ended = tokio::task::spawn_blocking(move || {
                let env: Vec<_> = env.iter().map(|(name, value)| (*name, &**value)).collect();
                run_to_end(&dir, args, &env)
            });
            let ended = ended.await.unwrap();
            let mut lines: Vec<_> = ended.stdout.lines().map(str::to_owned).collect();
            // There are ever more of them.
            let pending = |line: &str| line.ends_with(" is not applied");
            lines.dedup_by(|next, line| pending(next) && pending(line));
            format!(
                "exit code {}\n{}{}",
                ended.code.unwrap(),
                lines.join("\n"),
                ended.stderr
            )
        };
        assert_snapshot!(millrace(&["doctor"], "one").await, @r#"
        exit code 1
        ok    configuration: 6 handlers
        ok    control-plane database
        WRONG migrations: V1__control_plane is not applied
              fix: run `millrace migrate`
        ok    event store
        WRONG table: there is no table "one"
              fix: run `millrace migrate` if it is missing; else create it as deploy/ does
        ?     keys and endpoints in the event store: not checked, because of the above
        ok    clock
        "#);
        assert!(!dir.join("data").exists(), "it makes nothing");
        assert_snapshot!(millrace(&["migrate"], "one").await, @"
        exit code 0
        both stores are up to date
        ");
        assert_snapshot!(millrace(&["doctor"], "one").await, @"
        exit code 0
        ok    configuration: 6 handlers
        ok    control-plane database
        ok    migrations
        ok    event store
        ok    table
        ok    keys and endpoints in the event store
        ok    clock
        ");

        let pool = remote.pool().await;
        let client = pool.get().await.unwrap();
        let configured = "\
            insert into projects values ('prj_00000000000000000000000000', 'p', now()); \
            insert into endpoints (id, project_id, url, event_types, state, created_at, updated_at) \
            values ('ep_00000000000000000000000000', 'prj_00000000000000000000000000', \
                'https://example.com/', '{*}', 'enabled', now(), now()); \
            insert into outbox (kind, subject_id, created_at) \
            values ('endpoint', 'ep_00000000000000000000000001', now() - interval '1 day')";
        client.batch_execute(configured).await.unwrap();
        drop(client);
        drop(pool);
        let report = millrace(&["doctor"], "one").await;
        let waited = report.find(" s\n").unwrap();
        let waits = report[..waited].rfind(' ').unwrap() + 1;
        assert_snapshot!(report.replace(&report[waits..waited], "<waited>"), @"
        exit code 1
        ok    configuration: 6 handlers
        ok    control-plane database
        ok    migrations
        ok    event store
        ok    table
        WRONG keys and endpoints in the event store: 1 on the way, the first for <waited> s
        WRONG keys and endpoints in the event store: 1 of the latest missing or old: ep_00000000000000000000000000
              fix: see that a process with the handler `sweep` runs; if it does, run `millrace migrate --reproject`
        ok    clock
        ");
        assert_snapshot!(millrace(&["migrate", "--reproject"], "one").await, @"
        exit code 0
        both stores are up to date
        ");
        assert_snapshot!(millrace(&["doctor"], "one").await, @"
        exit code 0
        ok    configuration: 6 handlers
        ok    control-plane database
        ok    migrations
        ok    event store
        ok    table
        ok    keys and endpoints in the event store
        ok    clock
        ");
    });
}

#[test]
fn a_start_on_an_event_store_that_is_not_there_ends_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let env = [
        ("MILLRACE_HTTP__LISTEN", "127.0.0.1:0"),
        // Port 1 is reserved and refuses at once.
        ("MILLRACE_DYNAMODB__ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let ended = run_to_end(dir.path(), &["serve"], &env);
    assert_eq!(ended.code, Some(1));
    assert_snapshot!(ended.stderr, @r#"millrace: dynamodb.table: the table "millrace" cannot be created or read; check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials: describing the DynamoDB table: dispatch failure: io error: client error (Connect): connection refused"#);
}

#[test]
fn a_start_on_stores_that_hang_says_what_it_waits_for_and_ends() {
    run(async {
        let silent = silent().await;
        let dynamodb = format!("http://{silent}");
        let database = format!("postgresql://u@{silent}/m?sslmode=disable");
        let start = |name: &'static str, url: String| {
            tokio::task::spawn_blocking(move || {
                let dir = tempfile::tempdir().unwrap();
                let env = [
                    ("MILLRACE_HTTP__LISTEN", "127.0.0.1:0"),
                    ("MILLRACE_LOG__FORMAT", "json"),
                    ("AWS_ACCESS_KEY_ID", "test"),
                    ("AWS_SECRET_ACCESS_KEY", "test"),
                    (name, &url),
                ];
                run_to_end(dir.path(), &["serve"], &env)
            })
        };
        let (event_store, database) = tokio::join!(
            start("MILLRACE_DYNAMODB__ENDPOINT_URL", dynamodb),
            start("MILLRACE_DATABASE__URL", database),
        );
        let (event_store, database) = (event_store.unwrap(), database.unwrap());
        for (ended, step) in [
            (&event_store, "the event store"),
            (&database, "the control-plane database"),
        ] {
            assert_eq!(ended.code, Some(1));
            let waits = steps(&ended.stdout, "still starting");
            let waits = waits.iter().filter(|waited| *waited == step).count();
            assert!(waits >= 2, "{}", ended.stdout);
        }
        assert_snapshot!(event_store.stderr, @r#"millrace: dynamodb.table: the table "millrace" cannot be created or read; check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials: describing the DynamoDB table: request has timed out: operation timeout (all attempts including retries) occurred after 12s"#);
        assert_snapshot!(database.stderr, @"millrace: database.url: the control-plane database cannot be migrated; check MILLRACE_DATABASE__URL and that it is running: no connection within database.connect_timeout_s");
    });
}
