//! A load run: how many events a running Millrace accepts and delivers, how fast,
//! and what that costs.
//!
//! `cargo bench --bench load -- [--seconds 10] [--warm-up 2] [--concurrency 1,16,64]
//! [--endpoints 1] [--idle-seconds 10] [--url URL --admin-key KEY [--pid PID]]`
//!
//! With `--isolation [--slow-endpoints 1] [--slow-events 4000] [--slow-answer-s 25]
//! [--per-second 50]` it measures instead what slow endpoints cost the others.
//!
//! With `--scale [endpoints,stored,backlog,cores] [--scale-endpoints 1,10,100,1000]
//! [--scale-stored 0,10000,100000,1000000] [--scale-backlog 0,1000,10000,100000]
//! [--plots DIR]` it measures how that changes as one thing grows.
//!
//! It starts the binary that cargo built beside it, as a process of its own with a
//! new data directory, creates an endpoint that leads to a sink in this process,
//! and publishes over kept-alive connections, each waiting for its answer before
//! the next event (a closed loop). The sink counts each `webhook-id` once and takes
//! the end-to-end time from an instant inside the event's data. Everything printed
//! was measured in this run. It fails when an accepted event is not delivered.

#[path = "load/isolation.rs"]
mod isolation;
#[path = "load/plot.rs"]
mod plot;
#[path = "load/process.rs"]
mod process;
#[path = "load/publish.rs"]
mod publish;
#[path = "load/scale.rs"]
mod scale;
#[path = "load/sink.rs"]
mod sink;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use process::{Server, Usage};
use publish::{Client, Published};
use sink::Sink;

/// How long deliveries may lag behind the last answer.
const DELIVERY_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
struct Arguments {
    /// Measured at each level, after the warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// At each level, not measured.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Publishers at once: a level each.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    concurrency: Vec<usize>,
    /// Endpoints that each event goes to.
    #[arg(long, default_value_t = 1)]
    endpoints: usize,
    /// Watched with nothing to do; 0 leaves it out.
    #[arg(long, default_value_t = 10)]
    idle_seconds: u64,
    /// Measure what slow endpoints cost the others, and nothing else.
    #[arg(long)]
    isolation: bool,
    /// How many of them.
    #[arg(long, default_value_t = 1)]
    slow_endpoints: usize,
    /// Events for them, all in all.
    #[arg(long, default_value_t = 4000)]
    slow_events: usize,
    /// How long each takes to answer.
    #[arg(long, default_value_t = 25)]
    slow_answer_s: u64,
    /// Events a second for everybody else.
    #[arg(long, default_value_t = 50)]
    per_second: u32,
    /// Measure what changes as these grow, and nothing else.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_values = ["endpoints", "stored", "backlog", "cores"])]
    scale: Vec<scale::Axis>,
    /// Endpoints of a project.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    scale_endpoints: Vec<usize>,
    /// Events kept before.
    #[arg(long, value_delimiter = ',', default_value = "0,10000,100000,1000000")]
    scale_stored: Vec<u64>,
    /// Deliveries left behind.
    #[arg(long, value_delimiter = ',', default_value = "0,1000,10000,100000")]
    scale_backlog: Vec<u64>,
    /// Where plots of that are drawn.
    #[arg(long)]
    plots: Option<std::path::PathBuf>,
    /// A running server, instead of one started here.
    #[arg(long, requires = "admin_key")]
    url: Option<String>,
    /// Its admin key.
    #[arg(long)]
    admin_key: Option<String>,
    /// Its process, to measure what it uses.
    #[arg(long)]
    pid: Option<u32>,
    /// Cargo gives this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !arguments.scale.is_empty() {
        let scale = scale::Scale {
            axes: &arguments.scale,
            endpoints: &arguments.scale_endpoints,
            stored: &arguments.scale_stored,
            backlog: &arguments.scale_backlog,
            plots: arguments.plots.as_deref(),
        };
        return scale.run(arguments).await;
    }
    let mut server = None;
    let (url, admin_key, pid) = match (&arguments.url, &arguments.admin_key) {
        (Some(url), Some(key)) => (url.clone(), key.clone(), arguments.pid),
        _ => {
            let started = Server::start_new(None).await?;
            let (url, key, pid) = (started.url(), started.admin_key()?, started.pid());
            server = Some(started);
            (url, key, Some(pid))
        }
    };
    let sink = Sink::listen().await?;
    if arguments.isolation {
        let key = set_up(&url, &admin_key, &sink, 0).await?;
        let case = isolation::Case {
            endpoints: arguments.slow_endpoints.max(1),
            events: arguments.slow_events,
            answers_after: Duration::from_secs(arguments.slow_answer_s),
            per_second: arguments.per_second.max(1),
            measured: Duration::from_secs(arguments.seconds),
        };
        return isolation::run(&case, &url, &key, &sink).await;
    }
    let key = set_up(&url, &admin_key, &sink, arguments.endpoints).await?;

    say(&format!(
        "{:>11} {:>10} {:>11} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8}",
        "concurrency",
        "accepted/s",
        "delivered/s",
        "accept",
        "",
        "end to end",
        "",
        "CPU/event",
        "RSS"
    ))?;
    say(&format!(
        "{:>11} {:>10} {:>11} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8}",
        "", "", "", "p50 ms", "p99 ms", "p50 ms", "p99 ms", "µs", "MiB"
    ))?;
    for concurrency in &arguments.concurrency {
        let at = (url.as_str(), key.as_str());
        let endpoints = arguments.endpoints;
        let wait_max = DELIVERY_WAIT_MAX;
        let level = level(arguments, *concurrency, endpoints, at, &sink, pid, wait_max).await?;
        say(&level.row())?;
    }
    if let Some(pid) = pid.filter(|_| arguments.idle_seconds > 0) {
        let before = Usage::of(pid)?;
        tokio::time::sleep(Duration::from_secs(arguments.idle_seconds)).await;
        let used = Usage::of(pid)?.cpu.saturating_sub(before.cpu);
        let percent = used.as_secs_f64() / arguments.idle_seconds as f64 * 100.0;
        say(&format!(
            "idle over {} s: {percent:.2} % of one core",
            arguments.idle_seconds
        ))?;
    }
    if let Some(mut server) = server {
        server.stop()?;
        let took = server.start().await?;
        say(&format!(
            "start to first healthy answer, with this data: {:.0} ms",
            took.as_secs_f64() * 1e3
        ))?;
    }
    Ok(())
}

/// A project, a key and endpoints that lead to the sink; the key.
async fn set_up(
    url: &str,
    admin_key: &str,
    sink: &Sink,
    endpoints: usize,
) -> anyhow::Result<String> {
    let mut admin = Client::connect(url, admin_key).await?;
    // Names are unique, and a server that is given may know others already.
    let name = format!("load {}", jiff::Timestamp::now());
    let project = admin.post("/v1/projects", &json!({ "name": name })).await?;
    let id = text(&project, "id")?;
    let scopes = ["events:write", "endpoints:write"];
    let new_key = json!({ "name": "load", "scopes": scopes });
    let key = admin
        .post(&format!("/v1/projects/{id}/keys"), &new_key)
        .await?;
    let key = text(&key, "key")?;
    let mut client = Client::connect(url, &key).await?;
    for n in 0..endpoints {
        let to = json!({ "url": format!("{}/{n}", sink.url()), "event_types": ["*"] });
        client.post("/v1/endpoints", &to).await?;
    }
    Ok(key)
}

fn text(value: &Value, name: &str) -> anyhow::Result<String> {
    let found = value[name].as_str();
    Ok(found
        .with_context(|| format!("no {name} in {value}"))?
        .to_owned())
}

/// What was measured at one level.
struct Level {
    concurrency: usize,
    accepted_per_s: f64,
    delivered_per_s: f64,
    accept: Histogram<u64>,
    end_to_end: Histogram<u64>,
    /// CPU time of the server for each event, and its memory, if it was watched.
    used: Option<(Duration, u64)>,
}

impl Level {
    fn row(&self) -> String {
        let ms = |times: &Histogram<u64>, q| times.value_at_quantile(q) as f64 / 1e3;
        let (cpu, rss) = match self.used {
            Some((cpu, rss)) => (cpu.as_micros().to_string(), (rss / (1 << 20)).to_string()),
            None => ("-".into(), "-".into()),
        };
        format!(
            "{:>11} {:>10.0} {:>11.0} {:>9.1} {:>9.1} {:>10.1} {:>10.1} {cpu:>9} {rss:>8}",
            self.concurrency,
            self.accepted_per_s,
            self.delivered_per_s,
            ms(&self.accept, 0.5),
            ms(&self.accept, 0.99),
            ms(&self.end_to_end, 0.5),
            ms(&self.end_to_end, 0.99),
        )
    }
}

/// Publishes as `concurrency` publishers with the key of a project each of whose
/// events goes to so many `endpoints`, and waits until all have arrived.
async fn level(
    arguments: &Arguments,
    concurrency: usize,
    endpoints: usize,
    (url, key): (&str, &str),
    sink: &Sink,
    pid: Option<u32>,
    wait_max: Duration,
) -> anyhow::Result<Level> {
    let warm_up = Duration::from_secs(arguments.warm_up);
    let begins = Instant::now() + warm_up;
    let ends = begins + Duration::from_secs(arguments.seconds);
    let publishers: Vec<_> = (0..concurrency)
        .map(|_| {
            tokio::spawn(publish::publish_until(
                url.to_owned(),
                key.to_owned(),
                begins,
                ends,
            ))
        })
        .collect();

    tokio::time::sleep_until(begins.into()).await;
    let (usage_before, delivered_before) =
        (pid.map(Usage::of).transpose()?, sink.begin_measuring());
    tokio::time::sleep_until(ends.into()).await;
    let (end_to_end, delivered) = sink.end_measuring();
    let usage = pid.map(Usage::of).transpose()?;
    let took = begins.elapsed().as_secs_f64();

    let mut accept = publish::histogram();
    let mut ids = Vec::new();
    let mut accepted = 0;
    for publisher in publishers {
        let published: Published = publisher.await??;
        accept.add(&published.times)?;
        accepted += published.measured;
        ids.extend(published.ids);
    }
    sink.wait_for(&ids, endpoints, wait_max).await?;
    ensure!(
        accepted > 0,
        "no event was accepted within {} s",
        arguments.seconds
    );
    ensure!(
        !end_to_end.is_empty(),
        "no event was delivered within {} s",
        arguments.seconds
    );
    let used = match (usage_before, usage) {
        (Some(before), Some(after)) => {
            let cpu = after.cpu.saturating_sub(before.cpu);
            Some((cpu / u32::try_from(accepted)?, after.rss_bytes))
        }
        _ => None,
    };
    Ok(Level {
        concurrency,
        accepted_per_s: accepted as f64 / took,
        delivered_per_s: (delivered - delivered_before) as f64 / took,
        accept,
        end_to_end,
        used,
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}

/// Waits for `done`, and gives up after `wait_max`.
async fn wait_until(
    what: &str,
    wait_max: Duration,
    mut done: impl AsyncFnMut() -> bool,
) -> anyhow::Result<()> {
    let ends = Instant::now() + wait_max;
    while !done().await {
        if Instant::now() > ends {
            bail!("{what} took more than {} s", wait_max.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Microseconds on a clock that publisher and sink share.
fn micros_now() -> u64 {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let elapsed = BEGAN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

type Shared<T> = Arc<std::sync::Mutex<T>>;
