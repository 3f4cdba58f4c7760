//! The stores tests stand on. Those of this process; or, where a Docker engine is
//! there, PostgreSQL and an emulator of AWS in containers, unless
//! `MILLRACE_TEST_STORES` is `embedded` (it may be `containers`: then no others do); or
//! those of `MILLRACE_TEST_DATABASE_URL` (any database of a PostgreSQL server whose user
//! may create others and roles; with TLS, by an authority of the PEM file
//! `MILLRACE_TEST_DATABASE_CA_FILE`, unless it says `sslmode=disable`) and `MILLRACE_TEST_DYNAMODB_URL` (DynamoDB's API, with any
//! credentials).
//!
//! PostgreSQL is slow to start, so it is shared and projects keep tests apart.
//! The due index is one for all projects, so each test has a table of its own.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::interceptors::BeforeSerializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{BehaviorVersion, ConfigBag, Credentials, Intercept, Region};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::types::AttributeValue;
use millrace::aws::clients;
use millrace::store::dynamo::Dynamo;
use millrace::store::postgres::{AppRole, Options, Postgres, Session};
use millrace::store::secrets::{CachedSecret, Login};
use url::Url;

use super::containers::{self, Containers};

/// What a run's databases are called, before the seconds since 1970.
const DATABASE_PREFIX: &str = "millrace_test_";
/// The role that serves, on a server: the tests are its statements.
const APP_ROLE: &str = "millrace_test_app";
const APP_PASSWORD: &str = "only of tests";
/// How old another run's database is before that run is presumed dead.
const STALE_S: i64 = 3600;
/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(20);

static POSTGRES: tokio::sync::OnceCell<Shared> = tokio::sync::OnceCell::const_new();

pub struct Shared {
    /// As the role that serves, where there are roles.
    pub postgres: Postgres,
    /// As the role that migrates.
    pub owner: Postgres,
    #[cfg(feature = "embedded")]
    _server: Option<(
        millrace::host::embedded::EmbeddedPostgres,
        tempfile::TempDir,
    )>,
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn database_url() -> Option<String> {
    let given = set("MILLRACE_TEST_DATABASE_URL");
    given.or_else(|| Some(containers()?.database_url.clone()))
}

fn dynamodb_url() -> Option<String> {
    let given = set("MILLRACE_TEST_DYNAMODB_URL");
    given.or_else(|| Some(containers()?.aws_url.clone()))
}

/// Where SQS and S3 are, if anywhere.
pub fn aws_url() -> Option<String> {
    let given = set("MILLRACE_TEST_SQS_URL");
    given.or_else(|| Some(containers()?.aws_url.clone()))
}

/// All the stores in containers, unless any is chosen.
fn containers() -> Option<&'static Containers> {
    let given = ["MILLRACE_TEST_DATABASE_URL", "MILLRACE_TEST_DYNAMODB_URL"];
    match set("MILLRACE_TEST_STORES").as_deref() {
        Some("containers") => Some(containers::containers().unwrap()),
        None if given.iter().all(|name| set(name).is_none()) => containers::containers().ok(),
        _ => None,
    }
}

/// What there is to set before tests can run, if anything.
pub fn missing_variable() -> Option<&'static str> {
    match (database_url(), dynamodb_url()) {
        _ if cfg!(feature = "embedded") => None,
        (None, _) => Some("MILLRACE_TEST_DATABASE_URL"),
        (_, None) => Some("MILLRACE_TEST_DYNAMODB_URL"),
        _ => None,
    }
}

/// The database of this run, migrated: on a server as the role that serves.
pub async fn shared_postgres() -> Postgres {
    shared().await.postgres.clone()
}

/// The same as the role that migrates.
pub async fn owner_postgres() -> Postgres {
    shared().await.owner.clone()
}

async fn shared() -> &'static Shared {
    let start = async || match database_url() {
        Some(url) => server(&url).await,
        None => {
            let shared = embedded_postgres().await;
            migrate(&shared.owner).await;
            shared
        }
    };
    // On the heap: every test's future holds this one.
    Box::pin(POSTGRES.get_or_init(start)).await
}

/// A database of its own without any of Millrace's tables.
pub async fn unmigrated_postgres() -> Shared {
    match database_url() {
        Some(url) => shared_as(postgres(&url, 1), None),
        None => embedded_postgres().await,
    }
}

/// A database of its own with Millrace's tables, as the role that migrates.
pub async fn own_postgres() -> Shared {
    let shared = match database_url() {
        Some(url) => shared_as(postgres(new_database(&url).await.as_str(), 1), None),
        None => embedded_postgres().await,
    };
    migrate(&shared.owner).await;
    shared
}

/// On a task of its own: a debug build's frames fill a test's stack.
async fn migrate(owner: &Postgres) {
    let owner = owner.clone();
    let migrated = tokio::spawn(async move { owner.migrate().await });
    migrated.await.unwrap().unwrap();
}

fn shared_as(owner: Postgres, app: Option<Postgres>) -> Shared {
    Shared {
        postgres: app.unwrap_or_else(|| owner.clone()),
        owner,
        #[cfg(feature = "embedded")]
        _server: None,
    }
}

/// A pool; of one connection, as the embedded database wants it.
pub fn postgres(url: &str, pool_size: usize) -> Postgres {
    postgres_as(None, url, pool_size)
}

fn postgres_as(login: Option<Login>, url: &str, pool_size: usize) -> Postgres {
    Postgres::new(&Options {
        url: url.to_owned().into(),
        login: login.map(CachedSecret::fixed),
        ca_file: set("MILLRACE_TEST_DATABASE_CA_FILE").map(Into::into),
        pool_size,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
    })
    .unwrap()
}

#[cfg(feature = "embedded")]
async fn embedded_postgres() -> Shared {
    let dir = tempfile::tempdir().unwrap();
    let server = millrace::host::embedded::start_postgres(dir.path()).await;
    let server = server.unwrap();
    let owner = postgres(server.url(), 1);
    Shared {
        postgres: owner.clone(),
        owner,
        _server: Some((server, dir)),
    }
}

#[cfg(not(feature = "embedded"))]
async fn embedded_postgres() -> Shared {
    unreachable!("no test runs while a variable is missing")
}

/// A database of this run's own on the server at `url`, migrated.
async fn server(url: &str) -> Shared {
    let url = new_database(url).await;
    let owner = postgres(url.as_str(), 2);
    migrate(&owner).await;
    let app_role = AppRole {
        name: APP_ROLE.to_owned(),
        password: Some(APP_PASSWORD.into()),
    };
    Box::pin(owner.prepare_app_role(&app_role)).await.unwrap();
    let login = Login {
        username: app_role.name,
        password: APP_PASSWORD.into(),
    };
    shared_as(owner, Some(postgres_as(Some(login), url.as_str(), 8)))
}

/// The URL of a database of this run's own on the server at `url`. It stays when the
/// run ends, for no code runs then; the next run drops it.
async fn new_database(url: &str) -> Url {
    let admin = postgres(url, 1);
    let client = answering(&admin).await;
    let now_s = millrace::app::now().as_second();
    let listed = "select datname::text from pg_database where datname like $1";
    let pattern = format!("{DATABASE_PREFIX}%");
    for row in client.query(listed, &[&pattern]).await.unwrap() {
        let name: String = row.get(0);
        let made_s = name.strip_prefix(DATABASE_PREFIX);
        let made_s = made_s.and_then(|rest| rest.split('_').next()?.parse::<i64>().ok());
        if made_s.is_some_and(|made_s| made_s < now_s - STALE_S) {
            // Another run may be doing the same.
            let _ = client
                .batch_execute(&format!("drop database if exists {name}"))
                .await;
        }
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{DATABASE_PREFIX}{now_s}_{}_{next}", std::process::id());
    client
        .batch_execute(&format!("create database {name}"))
        .await
        .unwrap();
    let mut own = Url::parse(url).unwrap();
    own.set_path(&name);
    own
}

/// A connection, once the server has started; in a container it takes a while.
async fn answering(admin: &Postgres) -> Session {
    let begun = std::time::Instant::now();
    loop {
        match admin.get().await {
            Ok(client) => return client,
            Err(error) if begun.elapsed() > START_MAX => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// A DynamoDB and the name of a table that is not there yet.
pub fn dynamo() -> Dynamo {
    let Some(url) = dynamodb_url() else {
        return embedded_dynamo();
    };
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("test", "test", None))
        .endpoint_url(url)
        .http_client(clients::http_client(Path::new("")).unwrap())
        .build();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let run = (
        std::process::id(),
        millrace::app::now().as_millisecond(),
        next,
    );
    Dynamo::new(
        config,
        format!("millrace-test-{}-{}-{}", run.0, run.1, run.2),
    )
}

/// A DynamoDB all of which can be read, as Millrace itself never does.
pub struct ReadableDynamo {
    pub dynamo: Dynamo,
    #[cfg(feature = "embedded")]
    embedded: Option<Embedded>,
}

/// One in this process, and its directory: it has no scan.
#[cfg(feature = "embedded")]
struct Embedded {
    engine: millrace::host::embedded::EmbeddedDynamo,
    dir: tempfile::TempDir,
}

/// One with the name of a table that is not there yet.
pub fn readable_dynamo() -> ReadableDynamo {
    #[cfg(feature = "embedded")]
    if dynamodb_url().is_none() {
        return embedded_readable_dynamo();
    }
    ReadableDynamo {
        dynamo: dynamo(),
        #[cfg(feature = "embedded")]
        embedded: None,
    }
}

/// One in this process, whatever stores there are.
#[cfg(feature = "embedded")]
pub fn embedded_readable_dynamo() -> ReadableDynamo {
    let dir = tempfile::tempdir().unwrap();
    let engine = millrace::host::embedded::start_dynamodb(dir.path()).unwrap();
    let config = super::harness::config();
    ReadableDynamo {
        dynamo: millrace::store::dynamo::connect_embedded(&config, engine.http_client()),
        embedded: Some(Embedded { engine, dir }),
    }
}

impl ReadableDynamo {
    /// Every item, and of an embedded one every row of an index, as text.
    pub async fn rows(&self) -> BTreeSet<String> {
        #[cfg(feature = "embedded")]
        if let Some(Embedded { dir, .. }) = &self.embedded {
            return sqlite_rows(&dir.path().join("dynamodb.sqlite"));
        }
        scan(&self.dynamo).await
    }

    /// The same embedded store, reached through `gate`.
    #[cfg(feature = "embedded")]
    pub fn behind(&self, gate: &super::gate::Gate) -> Dynamo {
        let engine = &self.embedded.as_ref().unwrap().engine;
        let config = super::harness::config();
        millrace::store::dynamo::connect_embedded(&config, gate.before(engine))
    }

    /// The same embedded store, reached through `relay`.
    #[cfg(feature = "embedded")]
    pub fn relayed(&self, relay: &super::relay::Relay) -> Dynamo {
        let engine = &self.embedded.as_ref().unwrap().engine;
        let config = super::harness::config();
        millrace::store::dynamo::connect_embedded(&config, relay.before(engine))
    }
}

async fn scan(dynamo: &Dynamo) -> BTreeSet<String> {
    let (mut found, mut start) = (BTreeSet::new(), None);
    loop {
        let scan = dynamo.client.scan().table_name(&dynamo.table);
        let scan = scan.set_exclusive_start_key(start).send().await.unwrap();
        for item in scan.items() {
            found.insert(text_of_members(item));
        }
        start = scan.last_evaluated_key;
        if start.is_none() {
            return found;
        }
    }
}

/// The members of a map in one order, whatever order they came in.
fn text_of_members(members: &HashMap<String, AttributeValue>) -> String {
    let members = members.iter();
    let mut members: Vec<_> = members
        .map(|(name, value)| format!("({name:?}, {})", text_of(value)))
        .collect();
    members.sort();
    members.join(" ")
}

fn text_of(value: &AttributeValue) -> String {
    match value {
        AttributeValue::M(members) => format!("M({})", text_of_members(members)),
        AttributeValue::L(items) => {
            let items: Vec<_> = items.iter().map(text_of).collect();
            format!("L({})", items.join(", "))
        }
        AttributeValue::Ss(items) => {
            let items: BTreeSet<_> = items.iter().collect();
            format!("Ss({items:?})")
        }
        other => format!("{other:?}"),
    }
}

#[cfg(feature = "embedded")]
fn sqlite_rows(path: &Path) -> BTreeSet<String> {
    let database = rusqlite::Connection::open(path).unwrap();
    let strings = |statement: &str| -> Vec<String> {
        let mut statement = database.prepare(statement).unwrap();
        let columns = statement.column_count();
        let text = |row: &rusqlite::Row<'_>| {
            let value = |column| match row.get_ref(column)? {
                rusqlite::types::ValueRef::Text(text) | rusqlite::types::ValueRef::Blob(text) => {
                    Ok(String::from_utf8_lossy(text).into_owned())
                }
                other => Ok(format!("{other:?}")),
            };
            let values: rusqlite::Result<Vec<String>> = (0..columns).map(value).collect();
            values.map(|values| values.join(" "))
        };
        let rows = statement.query_map([], text).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let tables = strings("select name from sqlite_master where type = 'table'");
    let rows = tables.iter().flat_map(|table| {
        let rows = strings(&format!("select * from \"{table}\""));
        rows.into_iter().map(move |row| format!("{table}: {row}"))
    });
    rows.collect()
}

#[cfg(feature = "embedded")]
fn embedded_dynamo() -> Dynamo {
    let engine = millrace::host::embedded::EmbeddedDynamo::memory().unwrap();
    millrace::store::dynamo::connect_embedded(&super::harness::config(), engine.http_client())
}

#[cfg(not(feature = "embedded"))]
fn embedded_dynamo() -> Dynamo {
    unreachable!("no test runs while a variable is missing")
}

/// The same event store, and how many requests it was asked.
pub fn counting(dynamo: &Dynamo) -> (Dynamo, Arc<AtomicUsize>) {
    #[derive(Debug)]
    struct Counter(Arc<AtomicUsize>);
    impl Intercept for Counter {
        fn name(&self) -> &'static str {
            "counter"
        }

        fn read_before_execution(
            &self,
            _: &BeforeSerializationInterceptorContextRef<'_>,
            _: &mut ConfigBag,
        ) -> Result<(), BoxError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let requests = Arc::new(AtomicUsize::new(0));
    let config = dynamo.client.config().to_builder();
    let config = config.interceptor(Counter(requests.clone())).build();
    (Dynamo::new(config, &dynamo.table), requests)
}
