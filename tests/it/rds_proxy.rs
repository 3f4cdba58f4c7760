//! PostgreSQL behind RDS Proxy: what a session sends is nothing that the proxy would
//! pin it to one connection of the database for, or refuse.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace::app;
use millrace::host::embedded::start_postgres;
use millrace::jobs::{erase, meter, sweep};
use millrace::store::postgres::{Options, Postgres};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{TcpListener, UnixStream};

use crate::support::harness::{Harness, config, run};
use crate::support::probes::{Fixtures, Place, operations};
use crate::support::stores;

/// The longest statement that the proxy does not pin a session for.
const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// What a statement begins with that changes its session.
const PINNING_WORDS: [&str; 10] = [
    "set",
    "reset",
    "prepare",
    "execute",
    "deallocate",
    "discard",
    "listen",
    "declare",
    "load",
    "lock",
];
/// What a statement holds that does.
const PINNING_PARTS: [&str; 9] = [
    "set_config(",
    "nextval(",
    "setval(",
    "currval(",
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "pg_advisory_unlock",
    "create temp",
    "create temporary",
];

/// What sessions sent.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<SentSoFar>>);

#[derive(Default)]
struct SentSoFar {
    /// What pins a session.
    pinning: Vec<String>,
    statements: BTreeSet<String>,
}

impl Sent {
    fn take_pinning(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().pinning)
    }

    fn startup(&self, message: &[u8]) {
        let mut texts = message[8..].split(|byte| *byte == 0);
        // Its command-line options the proxy refuses.
        if texts.any(|text| text == b"options") {
            self.0.lock().unwrap().pinning.push("options".to_owned());
        }
    }

    fn message(&self, kind: u8, body: &[u8]) {
        let mut texts = body.split(|byte| *byte == 0);
        let mut text = || String::from_utf8_lossy(texts.next().unwrap()).into_owned();
        let (name, statement) = match kind {
            b'P' => (text(), text()),
            b'Q' => (String::new(), text()),
            _ => return,
        };
        let lower = statement.to_lowercase();
        let parts = lower.split(';').map(str::trim_start);
        let begins = |part: &str| {
            part.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let begins_badly = parts
            .map(begins)
            .any(|word| PINNING_WORDS.contains(&&*word));
        let is_pinning = !name.is_empty()
            || statement.len() > STATEMENT_BYTES_MAX
            || begins_badly
            || PINNING_PARTS.iter().any(|part| lower.contains(part));
        let mut sent = self.0.lock().unwrap();
        if is_pinning {
            sent.pinning.push(format!("{name}: {statement}"));
        }
        sent.statements.insert(statement);
    }
}

/// Passes sessions on to the PostgreSQL at `socket`, and notes what they send.
async fn watch(listener: TcpListener, socket: PathBuf, sent: Sent) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let (socket, sent) = (socket.clone(), sent.clone());
        tokio::spawn(async move {
            let far = UnixStream::connect(socket).await.unwrap();
            let (near_in, mut near_out) = near.into_split();
            let (mut far_in, far_out) = far.into_split();
            tokio::select! {
                _ = pass_on(near_in, far_out, &sent) => {}
                _ = tokio::io::copy(&mut far_in, &mut near_out) => {}
            }
        });
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sent: &Sent,
) -> std::io::Result<()> {
    let mut kind = None;
    loop {
        let length = from.read_u32().await?;
        let mut message = length.to_be_bytes().to_vec();
        message.resize(length as usize, 0);
        from.read_exact(&mut message[4..]).await?;
        match kind {
            None => sent.startup(&message),
            Some(kind) => sent.message(kind, &message[4..]),
        }
        if let Some(kind) = kind {
            to.write_u8(kind).await?;
        }
        to.write_all(&message).await?;
        kind = Some(from.read_u8().await?);
    }
}

/// That what would pin a session is noticed.
async fn assert_noticed(url: &str, sent: &Sent) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client.query("select 1", &[]).await.unwrap();
    client
        .batch_execute("select 2; set work_mem = 4096")
        .await
        .unwrap();
    client
        .batch_execute("select pg_advisory_lock(1)")
        .await
        .unwrap();
    client
        .batch_execute("select pg_advisory_xact_lock(1)")
        .await
        .unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let noticed = sent.take_pinning();
    assert_eq!(noticed.len(), 3, "{noticed:?}");
}

/// Asks for everything that there is to ask for.
async fn tour(harness: &Harness) {
    let mut fixtures = Fixtures::new(harness).await;
    let mut operations = operations();
    // Nothing is answered for a project that is closed.
    operations.sort_by_key(|operation| operation.id == "eraseProject");
    let mut done = 0;
    for operation in operations {
        let place = Place::Header("x-nothing".into());
        let probe = fixtures.probe(harness, &operation, &place, "1");
        let answer = Box::pin(probe).await.unwrap();
        assert!(
            !answer.status.is_server_error(),
            "{}: {answer:?}",
            operation.id
        );
        done += usize::from(answer.status.is_success());
    }
    assert!(done > 30, "{done}");
}

#[test]
fn nothing_that_a_session_sends_pins_it_to_a_connection() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let server = start_postgres(dir.path()).await.unwrap();
        let direct = stores::postgres(server.url(), 1);
        // On a task of its own: a debug build's frames fill a test's stack.
        let migrating = tokio::spawn(async move { direct.migrate().await });
        assert!(!migrating.await.unwrap().unwrap().is_empty());

        let (listener, sent) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Sent::default(),
        );
        let address = listener.local_addr().unwrap();
        let socket = std::fs::canonicalize(dir.path())
            .unwrap()
            .join(".s.PGSQL.5432");
        tokio::spawn(watch(listener, socket, sent.clone()));
        let url = format!("postgresql://postgres@{address}/postgres?sslmode=disable");
        assert_noticed(&url, &sent).await;

        // The role's default, as a migration leaves it: the embedded PostgreSQL, which runs
        // without a postmaster, gives its sessions none but the server's.
        let statement_timeout = Duration::ZERO;
        let postgres = Postgres::new(&Options {
            url: url.into(),
            login: None,
            ca_file: None,
            pool_size: 1,
            connect_timeout: Duration::from_secs(10),
            statement_timeout,
        });
        let postgres = postgres.unwrap();
        let builder = Harness::builder().config(config()).postgres(postgres);
        let mut harness = builder.build().await;
        harness.leaves_jobs = true;
        let meter = json!({ "name": "m", "event_type": "a", "aggregation": "count" });
        harness.new_meter(meter).await;
        harness.publish("a").await;
        assert_eq!(harness.meter().await, 1);
        harness.sweep_after(Duration::from_secs(60)).await;
        tour(&harness).await;
        harness.drain().await;
        sweep::repair_outbox(&harness.app, Duration::ZERO)
            .await
            .unwrap();
        erase::run_due(&harness.app, app::now()).await.unwrap();
        meter::prune(&harness.app, app::now()).await.unwrap();

        assert_eq!(sent.take_pinning(), Vec::<String>::new());
        let seen = sent.0.lock().unwrap().statements.len();
        assert!(seen > 40, "{seen}");
    });
}
