//! Connections to the control plane's database: TLS, and those that fell silent. The
//! other end is a server that knows as much of PostgreSQL's protocol as these tests
//! ask it; that the real one gets along with us is for the tests with
//! `MILLRACE_TEST_DATABASE_URL`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace::error::Error;
use millrace::store::postgres::{Options, Postgres};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::authority::Authority;
use crate::support::harness::run;

const SSL_REQUEST: u32 = 80_877_103;

/// What it answers to the question after `statement_timeout`, in milliseconds.
const LIMIT: &str = "7000";

/// A server that lets everybody in and has nothing to say.
#[derive(Clone)]
struct Server {
    port: u16,
    tls: Option<TlsAcceptor>,
    connections: Arc<AtomicUsize>,
    /// Connections below this number do not answer any more.
    silent_below: Arc<AtomicUsize>,
    queries: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            tls,
            connections: Arc::default(),
            silent_below: Arc::default(),
            queries: Arc::default(),
        };
        tokio::spawn(server.clone().serve(listener));
        server
    }

    fn queries(&self) -> Vec<String> {
        self.queries.lock().unwrap().clone()
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = self.clone();
            // A client that is not content leaves.
            tokio::spawn(async move { drop(server.connection(stream).await) });
        }
    }

    async fn connection(self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = startup(&mut stream).await?;
        if head != SSL_REQUEST {
            return self.session(stream).await;
        }
        match &self.tls {
            Some(tls) => {
                stream.write_all(b"S").await?;
                let mut stream = tls.accept(stream).await?;
                head = startup(&mut stream).await?;
                assert_ne!(head, SSL_REQUEST);
                self.session(stream).await
            }
            None => {
                stream.write_all(b"N").await?;
                startup(&mut stream).await?;
                self.session(stream).await
            }
        }
    }

    async fn session(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&message(b'R', &[0; 4])).await?;
        stream.write_all(&message(b'Z', b"I")).await?;
        loop {
            let kind = stream.read_u8().await?;
            let length = stream.read_u32().await? as usize;
            let mut text = vec![0; length - 4];
            stream.read_exact(&mut text).await?;
            if number < self.silent_below.load(Ordering::SeqCst) {
                continue;
            }
            if kind != b'Q' {
                return Ok(());
            }
            let query = String::from_utf8_lossy(&text[..text.len() - 1]).into_owned();
            let answer = match query.as_str() {
                "" => message(b'I', b""),
                asked if asked.starts_with("select setting") => setting(),
                _ => message(b'C', b"SET\0"),
            };
            self.queries.lock().unwrap().push(query);
            stream.write_all(&answer).await?;
            stream.write_all(&message(b'Z', b"I")).await?;
        }
    }
}

/// Reads the first message of a client; the code in it.
async fn startup(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<u32> {
    let length = stream.read_u32().await? as usize;
    let code = stream.read_u32().await?;
    let mut rest = vec![0; length - 8];
    stream.read_exact(&mut rest).await?;
    Ok(code)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// One row of one column.
fn setting() -> Vec<u8> {
    let field = [b"\0\x01setting\0" as &[u8], &[0; 18]].concat();
    let value = [
        b"\0\x01",
        &u32::try_from(LIMIT.len()).unwrap().to_be_bytes()[..],
        LIMIT.as_bytes(),
    ];
    [
        message(b'T', &field),
        message(b'D', &value.concat()),
        message(b'C', b"SELECT 1\0"),
    ]
    .concat()
}

fn pool(url: &str, ca_file: Option<PathBuf>, statement_timeout: Duration) -> Postgres {
    Postgres::new(&Options {
        url: url.to_owned().into(),
        login: None,
        ca_file,
        pool_size: 1,
        connect_timeout: Duration::from_secs(5),
        statement_timeout,
    })
    .unwrap()
}

const TEN_S: Duration = Duration::from_secs(10);

/// Why `server` is not connected to, by a client that trusts `ca` alone.
async fn refusal(server: &Server, host: &str, query: &str, ca: &Authority) -> String {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("postgresql://u:hunter2@{host}:{}/m{query}", server.port);
    let pool = pool(&url, Some(ca.file(dir.path())), TEN_S);
    let Err(Error::Unavailable { source, .. }) = pool.ping().await else {
        panic!("{host}{query}: connected to");
    };
    let sessions = server.connections.load(Ordering::SeqCst);
    assert_eq!(sessions, 0, "{host}{query}: a session was begun");
    let said = format!("{source:#}");
    assert!(!said.contains("hunter2"), "{said}");
    said
}

#[test]
fn a_server_of_the_authority_is_connected_to_by_its_name() {
    run(async {
        let ca = Authority::new();
        let server = Server::start(Some(ca.server("localhost", 4000))).await;
        let dir = tempfile::tempdir().unwrap();
        for query in ["", "?sslmode=prefer", "?sslmode=verify-full"] {
            let url = format!("postgresql://u@localhost:{}/m{query}", server.port);
            let pool = pool(&url, Some(ca.file(dir.path())), TEN_S);
            pool.ping().await.unwrap();
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_certificate_that_vouches_for_nothing_is_refused_with_the_reason() {
    run(async {
        let ca = Authority::new();
        let server = Server::start(Some(ca.server("localhost", 4000))).await;
        let wrong_host = refusal(&server, "127.0.0.1", "", &ca).await;
        assert!(wrong_host.contains("not valid for name"), "{wrong_host}");
        let unknown = refusal(&server, "localhost", "", &Authority::new()).await;
        assert!(
            unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"),
            "{unknown}"
        );
        let server = Server::start(Some(ca.server("localhost", 2021))).await;
        let expired = refusal(&server, "localhost", "", &ca).await;
        assert!(expired.contains("expired"), "{expired}");
    });
}

#[test]
fn nothing_is_sent_in_the_clear_unless_the_url_says_so() {
    run(async {
        let ca = Authority::new();
        let server = Server::start(None).await;
        for query in ["", "?sslmode=prefer", "?sslmode=allow", "?sslmode=require"] {
            let refused = refusal(&server, "localhost", query, &ca).await;
            assert!(refused.contains("server does not support TLS"), "{refused}");
        }
        let url = format!("postgresql://u@localhost:{}/m?sslmode=disable", server.port);
        pool(&url, None, TEN_S).ping().await.unwrap();
    });
}

#[test]
fn a_connection_sets_nothing_where_the_roles_default_will_do() {
    run(async {
        let server = Server::start(None).await;
        let url = format!("postgresql://u@localhost:{}/m?sslmode=disable", server.port);
        pool(&url, None, Duration::from_secs(7))
            .ping()
            .await
            .unwrap();
        assert!(
            server
                .queries()
                .iter()
                .all(|query| !query.starts_with("set"))
        );
        pool(&url, None, TEN_S).ping().await.unwrap();
        let set = "set statement_timeout = 10000".to_owned();
        assert!(server.queries().contains(&set), "{:?}", server.queries());
    });
}

#[test]
fn a_connection_that_fell_silent_while_unused_is_replaced() {
    run(async {
        let server = Server::start(None).await;
        let url = format!("postgresql://u@localhost:{}/m?sslmode=disable", server.port);
        let pool = pool(&url, None, TEN_S);
        pool.ping().await.unwrap();
        server.silent_below.store(1, Ordering::SeqCst);
        // As long as it takes to be no more trusted.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let again = tokio::time::timeout(Duration::from_secs(8), pool.ping()).await;
        again.expect("an answer in time").unwrap();
        assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_migration_leaves_the_limit_as_the_roles_default() {
    run(async {
        let postgres = crate::support::stores::shared_postgres().await;
        postgres.migrate().await.unwrap();
        let client = postgres.get().await.unwrap();
        let settings = "select unnest(s.setconfig) from pg_db_role_setting s \
            join pg_roles r on r.oid = s.setrole \
            join pg_database d on d.oid = s.setdatabase \
            where r.rolname = current_user and d.datname = current_database()";
        let rows = client.query(settings, &[]).await.unwrap();
        let settings: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(settings, ["statement_timeout=10000"]);
        let now = client
            .query_one("show statement_timeout", &[])
            .await
            .unwrap();
        assert_eq!(
            now.get::<_, String>(0),
            "10s",
            "also after the migration itself"
        );
    });
}

/// Of AWS's file at the address that deploy/README.md names.
const RDS_AUTHORITIES_SHA256: &str =
    "e5bb2084ccf45087bda1c9bffdea0eb15ee67f0b91646106e466714f9de3c7e3";

#[test]
fn the_images_authorities_of_rds_are_those_that_aws_publishes() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/rds-global-bundle.pem");
    let pem = std::fs::read(&file).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, &pem);
    let hex: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, RDS_AUTHORITIES_SHA256);
    pool(
        "postgresql://localhost/postgres?sslmode=verify-full",
        Some(file),
        TEN_S,
    );
}
