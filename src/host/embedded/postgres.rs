//! PostgreSQL in process, on a socket in the data directory.
//!
//! A socket in a private directory, and not a port: there is no password, so
//! the directory's mode is what keeps the machine's other users out.
//!
//! Each connection is served by a backend of its own, one after the other: a
//! second connection waits until the first is closed. So the pool has one.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use pglite_oxide::{DataDirArchiveFormat, Pglite, PgliteProxy};

use crate::error::causes;
use crate::host::data_dir::unreadable;

pub(super) const DIRECTORY: &str = "postgres";
/// PostgreSQL's own naming, which clients derive from directory and port.
const SOCKET: &str = ".s.PGSQL.5432";
/// What a socket's path may have on every Unix, with the zero at its end.
const SOCKET_PATH_MAX: usize = 104;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A PostgreSQL in this process, until it is stopped or dropped.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    url: String,
    socket: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the cluster of the data directory `dir`, or makes it first (a second).
///
/// What is committed is with the operating system before its answer: it
/// outlives the process, however that ends, but not a loss of power.
///
/// # Errors
/// The cluster cannot be made, or is there and cannot be used, which a first
/// connection finds out.
pub async fn start_postgres(dir: &Path) -> anyhow::Result<EmbeddedPostgres> {
    let dir = fs::canonicalize(dir).with_context(|| unreadable(dir))?;
    let root = dir.join(DIRECTORY);
    let made = root.clone();
    tokio::task::spawn_blocking(move || make_if_missing(&made)).await??;
    check_markers(&root)?;
    let started = listen(&dir, PgliteProxy::new(&root))?;
    match started.probe().await.with_context(|| unreadable(&root)) {
        Ok(()) => Ok(started),
        Err(error) => {
            started.stop().await;
            Err(error)
        }
    }
}

impl EmbeddedPostgres {
    /// A connection string for `tokio_postgres::Config`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops once the connection that is open has closed: close the pool first.
    /// Not needed for the data's sake.
    pub async fn stop(mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }

    async fn probe(&self) -> anyhow::Result<()> {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls)
            .await
            .map_err(|error| anyhow!("{}", said(&error)))?;
        let connection = tokio::spawn(connection);
        let answered = client.simple_query("select 1").await;
        drop(client);
        // Its backend shuts down behind it, before the next connection is let in.
        let _ = connection.await;
        answered.map_err(|error| anyhow!("{}", said(&error)))?;
        Ok(())
    }

    fn ask_to_stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread if it is waiting for a connection.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl Drop for EmbeddedPostgres {
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// PostgreSQL's own words, of which the error's are none.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => fatal(error.message()).unwrap_or_else(|| error.message().trim().to_owned()),
        None => error.to_string(),
    }
}

/// What a backend that did not start gave as its reason, of all that it and the
/// engine around it printed.
fn fatal(printed: &str) -> Option<String> {
    let after = |marks: [&str; 2]| {
        let found = |line: &str| {
            let split = marks.iter().find_map(|mark| line.split_once(mark));
            split.map(|(_, text)| text.trim().to_owned())
        };
        printed.lines().find_map(found)
    };
    let reason = after(["FATAL:", "PANIC:"])?;
    Some(match after(["DETAIL:"; 2]) {
        Some(detail) => format!("{reason}: {detail}"),
        None => reason,
    })
}

/// Makes a cluster that is complete in itself, and gives it its name at the end.
///
/// Left alone, the engine keeps in `root` only what differs from a template in
/// the user's cache directory, and refuses it once the template is another: an
/// upgrade would lock the data out.
fn make_if_missing(root: &Path) -> anyhow::Result<()> {
    if root.exists() {
        return Ok(());
    }
    let scratch = root.with_extension("making");
    // Of an earlier start that was cut short; it has never been in use.
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| unreadable(&scratch));
        }
        _ => {}
    }
    let failed = || format!("data_dir: cannot create {}", root.display());
    make(&scratch).with_context(failed)?;
    fs::rename(&scratch, root).with_context(failed)
}

fn make(root: &Path) -> anyhow::Result<()> {
    let mut template = Pglite::builder().temporary().open()?;
    let archive = template.dump_data_dir_with_format(DataDirArchiveFormat::Tar)?;
    template.close()?;
    let mut cluster = Pglite::builder()
        .path(root)
        .load_data_dir_archive(archive)
        .open()?;
    cluster.close()
}

const CLUSTER: &str = "tmp/pglite/base";
/// Without these two files the engine takes the cluster for an unfinished one,
/// and removes it.
const MARKERS: [&str; 2] = ["PG_VERSION", "global/pg_control"];

/// The files of the cluster in `dir` that every backend begins with.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let cluster = dir.join(DIRECTORY).join(CLUSTER);
    MARKERS.map(|marker| cluster.join(marker)).into()
}

fn check_markers(root: &Path) -> anyhow::Result<()> {
    let cluster = root.join(CLUSTER);
    for marker in MARKERS {
        let path = cluster.join(marker);
        if !path.is_file() {
            bail!("{}: {marker} is missing", unreadable(root));
        }
    }
    Ok(())
}

fn listen(dir: &Path, proxy: PgliteProxy) -> anyhow::Result<EmbeddedPostgres> {
    let socket_dir = socket_dir(dir)?;
    let socket = socket_dir.join(SOCKET);
    let failed = || format!("data_dir: cannot listen at {}", socket.display());
    // The data directory is ours alone, so a socket in it is a dead process's.
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(failed);
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket).with_context(failed)?;
    let stopped = Arc::new(AtomicBool::new(false));
    let asked = stopped.clone();
    let thread = thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || serve(&listener, &proxy, &asked))
        .context("cannot start the embedded PostgreSQL's thread")?;
    Ok(EmbeddedPostgres {
        url: url(&socket_dir),
        socket,
        stopped,
        thread: Some(thread),
    })
}

/// One connection after the other. Its end, however rude, is that connection's
/// affair: the next finds a new backend.
fn serve(listener: &UnixListener, proxy: &PgliteProxy, stopped: &AtomicBool) {
    while !stopped.load(Ordering::SeqCst) {
        match catch_unwind(AssertUnwindSafe(|| proxy.accept_unix_once(listener))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let cause = causes(error.as_ref());
                tracing::debug!(%error, cause, "embedded postgres connection ended");
                thread::sleep(ACCEPT_BACKOFF);
            }
            Err(_) => tracing::error!("embedded postgres panicked: restarting"),
        }
    }
}

/// The data directory, or a private one elsewhere where its path is too long.
fn socket_dir(dir: &Path) -> anyhow::Result<PathBuf> {
    if dir.join(SOCKET).as_os_str().len() < SOCKET_PATH_MAX {
        return Ok(dir.to_owned());
    }
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let name = format!("millrace-{}-{}", std::process::id(), nanos.as_nanos());
    let private = std::env::temp_dir().join(name);
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(&private)
        .with_context(|| format!("data_dir: cannot create {}", private.display()))?;
    Ok(private)
}

fn url(socket_dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let bytes = socket_dir.as_os_str().as_bytes();
    let host: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    format!("postgresql://postgres@{host}:5432/postgres?sslmode=disable")
}
