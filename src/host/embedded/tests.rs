use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio_postgres::NoTls;

use super::in_process::tests::{TABLE, client, create_table, text};
use super::*;

/// Where the process that is to be killed works; set by the test that kills it.
const CHILD_DIR: &str = "TEST_CHILD_DIR";

async fn postgres(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn message<T: std::fmt::Debug>(result: anyhow::Result<T>, dir: &Path) -> String {
    let error = format!("{:#}", result.unwrap_err());
    error.replace(&dir.canonicalize().unwrap().display().to_string(), "<dir>")
}

/// The files of a directory with their sizes, to see that nothing was touched.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dynamodb.sqlite");
    std::fs::write(
        &path,
        "not a database, but a text that is long enough to be taken for one",
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(
        message(
            start_dynamodb(&dir.path().canonicalize().unwrap()),
            dir.path()
        ),
        "data_dir: cannot read <dir>/dynamodb.sqlite; restore it from a backup or move it away \
         to begin anew: it is no SQLite database"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn postgres_keeps_its_data_and_outlives_a_rude_client() {
    let dir = tempfile::tempdir().unwrap();
    let started = start_postgres(dir.path()).await.unwrap();
    let (client, connection) = tokio_postgres::connect(started.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client
        .batch_execute("create table t (n int); insert into t values (1)")
        .await
        .unwrap();
    client
        .batch_execute("begin; insert into t values (2)")
        .await
        .unwrap();
    let slow = client.simple_query("select pg_sleep(0.2), repeat('x', 1000000)");
    let _ = tokio::time::timeout(Duration::from_millis(20), slow).await;
    connection.abort();
    drop(client);

    let client = postgres(started.url()).await;
    let rows = client.query("select n from t", &[]).await.unwrap();
    assert_eq!(rows.len(), 1, "an unfinished transaction leaves nothing");
    drop(client);
    started.stop().await;

    let started = start_postgres(dir.path()).await.unwrap();
    let rows = postgres(started.url())
        .await
        .query("select n from t", &[])
        .await
        .unwrap();
    assert_eq!(rows[0].get::<_, i32>(0), 1);
}

#[tokio::test]
async fn a_damaged_cluster_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    start_postgres(dir.path()).await.unwrap().stop().await;
    let control = dir
        .path()
        .join("postgres/tmp/pglite/base/global/pg_control");
    let whole = std::fs::read(&control).unwrap();
    let prefix = "data_dir: cannot read <dir>/postgres; restore it from a backup or move it away to begin anew: ";

    std::fs::write(&control, &whole[..100]).unwrap();
    let damaged = message(start_postgres(dir.path()).await, dir.path());
    assert!(
        damaged.starts_with(prefix) && damaged.contains("pg_control"),
        "{damaged}"
    );

    std::fs::remove_file(&control).unwrap();
    let before = listing(&dir.path().join("postgres"));
    let missing = message(start_postgres(dir.path()).await, dir.path());
    assert_eq!(missing, format!("{prefix}global/pg_control is missing"));
    assert_eq!(listing(&dir.path().join("postgres")), before);
}

#[tokio::test]
async fn a_long_path_has_its_socket_elsewhere() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("a".repeat(120));
    std::fs::create_dir(&dir).unwrap();
    let started = start_postgres(&dir).await.unwrap();
    postgres(started.url())
        .await
        .simple_query("select 1")
        .await
        .unwrap();
}

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else {
        return;
    };
    let dynamodb = client(&start_dynamodb(&dir).unwrap());
    create_table(&dynamodb).await;
    let started = start_postgres(&dir).await.unwrap();
    let client = postgres(started.url()).await;
    client
        .batch_execute("create table t (n int)")
        .await
        .unwrap();
    for n in 0..i32::MAX {
        client
            .execute("insert into t values ($1)", &[&n])
            .await
            .unwrap();
        let put = dynamodb.put_item().table_name(TABLE).item("pk", text(n));
        put.item("sk", text("event")).send().await.unwrap();
        println!("\nwritten {n}");
    }
}

#[tokio::test]
async fn what_was_answered_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("host::embedded::tests::child_that_writes_until_it_is_killed")
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let written = output
        .lines()
        .filter_map(|line| line.unwrap().strip_prefix("written ")?.parse::<i32>().ok())
        .find(|n| *n >= 200)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    let dynamodb = client(&start_dynamodb(dir.path()).unwrap());
    for n in 0..=written {
        let get = dynamodb.get_item().table_name(TABLE).key("pk", text(n));
        let got = get.key("sk", text("event")).send().await.unwrap();
        assert!(got.item().is_some(), "item {n} of {written} is lost");
    }
    let started = start_postgres(dir.path()).await.unwrap();
    let client = postgres(started.url()).await;
    let count = "select count(*) from t where n <= $1";
    let found: i64 = client.query_one(count, &[&written]).await.unwrap().get(0);
    assert_eq!(found, i64::from(written) + 1);
}
