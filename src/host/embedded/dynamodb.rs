//! DynamoDB on SQLite, in process.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpClient};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::shared::IntoShared;
use dynoxide::Database;
use dynoxide::storage::Storage;
use rusqlite::Connection;

use super::engine::Engine;
use super::in_process::InProcess;
use crate::host::data_dir::unreadable;

const QUICK_CHECK: &str = "pragma quick_check(1)";
/// What every SQLite database begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";
pub(super) const FILE: &str = "dynamodb.sqlite";

/// A DynamoDB in this process; clones are the same one.
#[derive(Debug, Clone)]
pub struct EmbeddedDynamo {
    engine: InProcess,
    /// None in memory.
    path: Option<PathBuf>,
}

/// Opens the database of the data directory `dir`, or makes it.
///
/// A commit is with the operating system before its answer: it outlives the
/// process, however that ends. It reaches the disk at the next checkpoint, so a
/// loss of power may cost the last moments, and never the file.
///
/// # Errors
/// The file cannot be read, written or understood.
pub fn start_dynamodb(dir: &Path) -> anyhow::Result<EmbeddedDynamo> {
    let path = dir.join(FILE);
    let name = path.to_str().context("data_dir: its path is not UTF-8")?;
    is_there(dir)?;
    let engine = open(|| Storage::new(name), Some(&path)).with_context(|| unreadable(&path))?;
    Ok(EmbeddedDynamo {
        engine,
        path: Some(path),
    })
}

/// The files that SQLite keeps open in `dir` for as long as the database is.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    ["", "-wal", "-shm"]
        .map(|end| dir.join(format!("{FILE}{end}")))
        .into()
}

/// Whether `dir` has a database. An empty file is one that SQLite has yet to write to.
///
/// # Errors
/// The file cannot be read, or is no database. The engine's own message would send
/// the reader after an encryption key.
pub(super) fn is_there(dir: &Path) -> anyhow::Result<bool> {
    let path = dir.join(FILE);
    let head = match head(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        head => head.with_context(|| unreadable(&path))?,
    };
    if !head.is_empty() && head != MAGIC {
        bail!("{}: it is no SQLite database", unreadable(&path));
    }
    Ok(true)
}

/// Reads all of the database of `dir` for pages that are damaged: work for after a
/// crash, for it takes about a second for each gigabyte.
///
/// # Errors
/// The file cannot be read, or is damaged; it is left as it is.
pub(super) async fn check_integrity(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(FILE);
    tracing::info!("unclean shutdown: checking event store integrity");
    let looked_at = path.clone();
    let found = tokio::task::spawn_blocking(move || {
        let conn = Connection::open(looked_at)?;
        conn.query_row(QUICK_CHECK, [], |row| row.get::<_, String>(0))
    });
    let found = found.await?.with_context(|| unreadable(&path))?;
    match found.as_str() {
        "ok" => Ok(()),
        damage => bail!("{}: {}", unreadable(&path), damage.replace('\n', " ")),
    }
}

impl EmbeddedDynamo {
    /// One that is gone with the last clone, for tests. Nothing in it expires.
    ///
    /// # Errors
    /// SQLite does not start.
    pub fn memory() -> anyhow::Result<Self> {
        let engine = open(Storage::memory, None)?;
        Ok(Self { engine, path: None })
    }

    /// What an SDK client is built with to talk to this database.
    pub fn http_client(&self) -> SharedHttpClient {
        self.engine.clone().into_shared()
    }

    /// Removes what has passed its time to live, which AWS does by itself, and
    /// returns how many items that were. Reads every item of the table, a page
    /// at a time with other calls in between, so call it seldom.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn sweep_ttl(&self) -> anyhow::Result<usize> {
        let Some(path) = self.path.clone() else {
            return Ok(0);
        };
        let swept = tokio::task::spawn_blocking(move || {
            // A connection of its own: the other's calls go on in between.
            let path = path.to_str().unwrap_or_default();
            Database::new(path)?.sweep_ttl()
        });
        swept
            .await?
            .context("the embedded DynamoDB cannot remove what has expired")
    }
}

/// Answers a request of the DynamoDB API, whoever brings it.
impl HttpConnector for EmbeddedDynamo {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.engine.call(request)
    }
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let whole = MAGIC.len() as u64;
    File::open(path)?.take(whole).read_to_end(&mut head)?;
    Ok(head)
}

fn open(
    storage: impl FnOnce() -> dynoxide::Result<Storage>,
    path: Option<&Path>,
) -> anyhow::Result<InProcess> {
    InProcess::new(Engine::new(storage()?, path)?)
}
