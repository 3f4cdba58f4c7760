//! The server as a process of its own, and what the kernel says it uses.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const START_WAIT_MAX: Duration = Duration::from_secs(60);
/// Linux counts a process's CPU time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);
const PAGE_BYTES: u64 = 4096;

/// A server with a data directory of its own, both gone when it is dropped.
pub struct Server {
    child: Child,
    address: String,
    data_dir: TempDir,
    /// How many processors it may use, if not all.
    cores: Option<usize>,
}

impl Server {
    /// Starts a server with no data, on so many `cores`, and waits until it is
    /// healthy.
    pub async fn start_new(cores: Option<usize>) -> anyhow::Result<Self> {
        let data_dir = tempfile::tempdir()?;
        // Free now, and nobody but a test would take it in between.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = spawn(&data_dir, &address, cores)?;
        let mut server = Self {
            child,
            address,
            data_dir,
            cores,
        };
        server.healthy().await?;
        Ok(server)
    }

    /// Stops the server, as its owner would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let stopped = Command::new("kill").arg(self.pid().to_string()).status()?;
        ensure!(stopped.success(), "cannot signal the server");
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again with the data it has; how long from the start of the process
    /// to its first healthy answer.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.child = spawn(&self.data_dir, &self.address, self.cores)?;
        self.healthy().await?;
        Ok(started.elapsed())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn admin_key(&self) -> anyhow::Result<String> {
        let path = self.data_dir().join("admin_key");
        let key = std::fs::read_to_string(&path);
        Ok(key
            .with_context(|| path.display().to_string())?
            .trim()
            .to_owned())
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.path().join("data")
    }

    async fn healthy(&mut self) -> anyhow::Result<()> {
        super::wait_until("the server's start", START_WAIT_MAX, async || {
            is_healthy(&self.address).await.unwrap_or(false)
        })
        .await?;
        ensure!(
            self.child.try_wait()?.is_none(),
            "the server ended; is the port taken?"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(data_dir: &TempDir, address: &str, cores: Option<usize>) -> anyhow::Result<Child> {
    // What the caller's shell says of Millrace is not what is measured, but for
    // the way to measure something else: MILLRACE_LOAD_BINARY.
    let binary = std::env::var("MILLRACE_LOAD_BINARY");
    let binary = binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_millrace"));
    let mut command = match cores {
        None => Command::new(binary),
        Some(cores) => {
            // It becomes what it starts.
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", &format!("0-{}", cores - 1), binary]);
            command
        }
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLRACE_")) {
        command.env_remove(name);
    }
    command
        .env("MILLRACE_DATA_DIR", data_dir.path().join("data"))
        .env("MILLRACE_HTTP__LISTEN", address)
        .env("MILLRACE_LOG__LEVEL", "warn")
        .current_dir(data_dir)
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| binary.to_owned())
}

async fn is_healthy(address: &str) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /health/ready HTTP/1.1\r\nhost: load\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// In user and kernel mode, since its start.
    pub cpu: Duration,
    /// Now.
    pub rss_bytes: u64,
}

impl Usage {
    /// Of `pid`, as `/proc` has it.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The second field, the name, may hold spaces; it ends at the last ')'.
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        // utime, stime and rss are fields 14, 15 and 24; the first here is 3.
        let number = |n: usize| -> anyhow::Result<u64> {
            Ok(fields.get(n - 3).context(path.clone())?.parse()?)
        };
        let ticks = u32::try_from(number(14)? + number(15)?)?;
        Ok(Self {
            cpu: TICK * ticks,
            rss_bytes: number(24)? * PAGE_BYTES,
        })
    }
}
