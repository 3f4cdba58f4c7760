//! How it scales: by endpoints, by events kept, by work left behind, by cores.
//!
//! Each step has a server of its own. The events that are kept, and the deliveries
//! that are left behind, are written into its data directory while it is stopped,
//! by the store's own functions.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use jiff::Timestamp;
use millrace::config::Config;
use millrace::host::embedded::start_dynamodb;
use millrace::model::event::{PlainDefaults, parse_plain};
use millrace::model::id::{EndpointId, EventId, ProjectId};
use millrace::store::accept::{self, Plan};
use millrace::store::dynamo::{self, Dynamo};
use millrace::store::events::NewEvent;
use serde_json::json;

use super::plot::Plot;
use super::process::Server;
use super::publish::{self, Client};
use super::sink::Sink;
use super::{Arguments, DELIVERY_WAIT_MAX, Level, level, micros_now, say, text, wait_until};

/// Publishers at once.
const CONCURRENCY: usize = 16;
/// Deliveries of one measurement of fan-out, however many endpoints share them.
const FAN_OUT_DELIVERIES: usize = 10_000;
/// How long a backlog may take.
const BACKLOG_WAIT_MAX: Duration = Duration::from_secs(900);
/// Writes under way while a data directory is filled.
const FILLING: usize = 64;
const CORES_MAX: usize = 4;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// Of one project: one of them takes each event, or all do.
    Endpoints,
    /// Events kept before.
    Stored,
    /// Deliveries that were due before the server started.
    Backlog,
    /// Processors the server may use.
    Cores,
}

/// How far, and where the plots go.
pub struct Scale<'a> {
    pub axes: &'a [Axis],
    pub endpoints: &'a [usize],
    pub stored: &'a [u64],
    pub backlog: &'a [u64],
    pub plots: Option<&'a Path>,
}

impl Scale<'_> {
    pub async fn run(&self, arguments: &Arguments) -> anyhow::Result<()> {
        for axis in self.axes {
            match axis {
                Axis::Endpoints => self.endpoints(arguments).await?,
                Axis::Stored => self.stored(arguments).await?,
                Axis::Backlog => self.backlog(arguments).await?,
                Axis::Cores => self.cores(arguments).await?,
            }
        }
        Ok(())
    }

    fn draw(&self, file: &str, plot: &Plot<'_>) -> anyhow::Result<()> {
        match self.plots {
            Some(dir) => plot.draw(&dir.join(file)),
            None => Ok(()),
        }
    }

    async fn endpoints(&self, arguments: &Arguments) -> anyhow::Result<()> {
        say(
            "\n| endpoints | one takes each event: accepted/s | p99 ms | all take it: deliveries/s | accept p99 ms |",
        )?;
        say("|---|---|---|---|---|")?;
        let (mut accepted, mut delivered) = (vec![], vec![]);
        for endpoints in self.endpoints {
            let server = Server::start_new(None).await?;
            let sink = Sink::listen().await?;
            let one = Project::new(&server, &sink, *endpoints, false).await?;
            let level = one.level(arguments, &server, &sink).await?;
            let all = Project::new(&server, &sink, *endpoints, true).await?;
            let (per_s, accept) = all.fan_out(&server, &sink, *endpoints).await?;
            say(&format!(
                "| {endpoints} | {:.0} | {:.1} | {per_s:.0} | {:.1} |",
                level.accepted_per_s,
                ms(&level.accept, 0.99),
                ms(&accept, 0.99),
            ))?;
            accepted.push(level.accepted_per_s);
            delivered.push(per_s);
        }
        self.draw(
            "endpoints.svg",
            &Plot {
                title: "Endpoints of a project",
                x: "endpoints",
                y: "per second",
                steps: &names(self.endpoints),
                series: &[
                    ("accepted, one takes each event", accepted),
                    ("delivered, all take each event", delivered),
                ],
            },
        )
    }

    async fn stored(&self, arguments: &Arguments) -> anyhow::Result<()> {
        say(
            "\n| stored | accepted/s | accept p50 ms | p99 ms | end to end p99 ms | start ms | list page ms |",
        )?;
        say("|---|---|---|---|---|---|---|")?;
        let (mut accepted, mut p99, mut pages) = (vec![], vec![], vec![]);
        let mut server = Server::start_new(None).await?;
        let sink = Sink::listen().await?;
        let project = Project::new(&server, &sink, 1, true).await?;
        let mut filled = 0;
        for stored in self.stored {
            server.stop()?;
            fill(&server, &project, filled..*stored, None).await?;
            filled = *stored;
            let took = server.start().await?;
            let level = project.level(arguments, &server, &sink).await?;
            let page = project.page(&server).await?;
            say(&format!(
                "| {stored} | {:.0} | {:.1} | {:.1} | {:.1} | {:.0} | {:.1} |",
                level.accepted_per_s,
                ms(&level.accept, 0.5),
                ms(&level.accept, 0.99),
                ms(&level.end_to_end, 0.99),
                took.as_secs_f64() * 1e3,
                page.as_secs_f64() * 1e3,
            ))?;
            accepted.push(level.accepted_per_s);
            p99.push(ms(&level.accept, 0.99));
            pages.push(page.as_secs_f64() * 1e3);
        }
        let steps = names(self.stored);
        let plot = |title, y, series| Plot {
            title,
            x: "events kept before",
            y,
            steps: &steps,
            series,
        };
        let series = [("accepted", accepted)];
        self.draw(
            "stored-accepted.svg",
            &plot("Events kept: throughput", "per second", &series),
        )?;
        let series = [
            ("accept, 99th percentile", p99),
            ("a page of the list", pages),
        ];
        self.draw(
            "stored-latency.svg",
            &plot("Events kept: latency", "ms", &series),
        )
    }

    async fn backlog(&self, arguments: &Arguments) -> anyhow::Result<()> {
        say(
            "\n| backlog | drained in s | deliveries/s | new events meanwhile: accept p99 ms | end to end p50 ms | p99 ms |",
        )?;
        say("|---|---|---|---|---|---|")?;
        let (mut p50, mut p99, mut drained) = (vec![], vec![], vec![]);
        for backlog in self.backlog {
            let mut server = Server::start_new(None).await?;
            let (sink, behind) = (Sink::listen().await?, Sink::listen().await?);
            let left = Project::new(&server, &behind, 1, true).await?;
            let fresh = Project::new(&server, &sink, 1, true).await?;
            server.stop()?;
            fill(&server, &left, 0..*backlog, Some(Timestamp::now())).await?;
            server.start().await?;
            let begun = Instant::now();
            let drain = async {
                wait_until("the backlog", BACKLOG_WAIT_MAX, async || {
                    behind.delivered() >= *backlog
                })
                .await?;
                anyhow::Ok(begun.elapsed())
            };
            let (took, steady) = tokio::try_join!(drain, fresh.steady(arguments, &server, &sink))?;
            let per_s = *backlog as f64 / took.as_secs_f64();
            say(&format!(
                "| {backlog} | {:.1} | {per_s:.0} | {:.1} | {:.1} | {:.1} |",
                took.as_secs_f64(),
                ms(&steady.accept, 0.99),
                ms(&steady.end_to_end, 0.5),
                ms(&steady.end_to_end, 0.99),
            ))?;
            p50.push(ms(&steady.end_to_end, 0.5));
            p99.push(ms(&steady.end_to_end, 0.99));
            drained.push(per_s);
        }
        self.draw(
            "backlog.svg",
            &Plot {
                title: "Another project's new events beside a backlog",
                x: "deliveries left behind",
                y: "end to end, ms",
                steps: &names(self.backlog),
                series: &[("median", p50), ("99th percentile", p99)],
            },
        )
    }

    async fn cores(&self, arguments: &Arguments) -> anyhow::Result<()> {
        say("\n| cores | accepted/s | delivered/s | accept p99 ms | CPU/event µs |")?;
        say("|---|---|---|---|---|")?;
        let there = std::thread::available_parallelism()?.get();
        let cores: Vec<usize> = (1..=CORES_MAX.min(there)).collect();
        let (mut accepted, mut delivered) = (vec![], vec![]);
        for cores in &cores {
            let server = Server::start_new(Some(*cores)).await?;
            let sink = Sink::listen().await?;
            let project = Project::new(&server, &sink, 1, true).await?;
            let level = project.level(arguments, &server, &sink).await?;
            let cpu = level.used.map_or(0, |(cpu, _)| cpu.as_micros());
            say(&format!(
                "| {cores} | {:.0} | {:.0} | {:.1} | {cpu} |",
                level.accepted_per_s,
                level.delivered_per_s,
                ms(&level.accept, 0.99),
            ))?;
            accepted.push(level.accepted_per_s);
            delivered.push(level.delivered_per_s);
        }
        if there < CORES_MAX {
            say(&format!(
                "there are {there} cores here, and publishers and receiver share them"
            ))?;
        }
        self.draw(
            "cores.svg",
            &Plot {
                title: "Cores of the server",
                x: "cores",
                y: "per second",
                steps: &names(&cores),
                series: &[("accepted", accepted), ("delivered", delivered)],
            },
        )
    }
}

/// A project with a key and endpoints that lead to the sink.
struct Project {
    id: ProjectId,
    key: String,
    endpoint: EndpointId,
}

impl Project {
    /// All `endpoints` take every event, or only the first of them.
    async fn new(
        server: &Server,
        sink: &Sink,
        endpoints: usize,
        all: bool,
    ) -> anyhow::Result<Self> {
        let mut admin = Client::connect(&server.url(), &server.admin_key()?).await?;
        let name = format!("scale {}", Timestamp::now());
        let project = admin.post("/v1/projects", &json!({ "name": name })).await?;
        let id = text(&project, "id")?;
        let scopes = ["events:write", "events:read", "endpoints:write"];
        let key = json!({ "name": "scale", "scopes": scopes });
        let key = admin.post(&format!("/v1/projects/{id}/keys"), &key).await?;
        let key = text(&key, "key")?;
        let mut client = Client::connect(&server.url(), &key).await?;
        let mut first = None;
        for n in 0..endpoints {
            let types = match n == 0 || all {
                true => "*".to_owned(),
                false => format!("other.{n}"),
            };
            let to = json!({ "url": format!("{}/{n}", sink.url()), "event_types": [types] });
            let made = client.post("/v1/endpoints", &to).await?;
            first.get_or_insert(text(&made, "id")?);
        }
        Ok(Self {
            id: id.parse()?,
            key,
            endpoint: first.context("no endpoints")?.parse()?,
        })
    }

    /// A closed loop of many publishers, each event for one endpoint.
    async fn level(
        &self,
        arguments: &Arguments,
        server: &Server,
        sink: &Sink,
    ) -> anyhow::Result<Level> {
        let many = (CONCURRENCY, DELIVERY_WAIT_MAX);
        self.publish(arguments, server, sink, many).await
    }

    /// The same of one publisher.
    async fn steady(
        &self,
        arguments: &Arguments,
        server: &Server,
        sink: &Sink,
    ) -> anyhow::Result<Level> {
        let one = (1, BACKLOG_WAIT_MAX);
        self.publish(arguments, server, sink, one).await
    }

    async fn publish(
        &self,
        arguments: &Arguments,
        server: &Server,
        sink: &Sink,
        (publishers, wait_max): (usize, Duration),
    ) -> anyhow::Result<Level> {
        level(
            arguments,
            publishers,
            1,
            (&server.url(), &self.key),
            sink,
            Some(server.pid()),
            wait_max,
        )
        .await
    }

    /// Deliveries a second of some events that all `endpoints` take, and how long
    /// they took to be accepted.
    async fn fan_out(
        &self,
        server: &Server,
        sink: &Sink,
        endpoints: usize,
    ) -> anyhow::Result<(f64, Histogram<u64>)> {
        let mut client = Client::connect(&server.url(), &self.key).await?;
        let events = (FAN_OUT_DELIVERIES / endpoints).max(1);
        let before = sink.delivered();
        let (begun, mut accept) = (Instant::now(), publish::histogram());
        for n in 0..events {
            let data = json!({ "sent_us": micros_now(), "padding": publish::padding() });
            let event = json!({ "id": n.to_string(), "type": "load.event", "data": data });
            let sent = Instant::now();
            client.post("/v1/events", &event).await?;
            accept.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
        }
        let all = before + (events * endpoints) as u64;
        wait_until("the fan-out", BACKLOG_WAIT_MAX, async || {
            sink.delivered() >= all
        })
        .await?;
        let per_s = (events * endpoints) as f64 / begun.elapsed().as_secs_f64();
        Ok((per_s, accept))
    }

    /// How long a page of its events takes: the median of some.
    async fn page(&self, server: &Server) -> anyhow::Result<Duration> {
        let mut client = Client::connect(&server.url(), &self.key).await?;
        let mut took = vec![];
        for _ in 0..21 {
            let asked = Instant::now();
            client.get("/v1/events?limit=50").await?;
            took.push(asked.elapsed());
        }
        took.sort_unstable();
        Ok(took[took.len() / 2])
    }
}

/// Accepts events into the data directory of a server that is stopped; with a
/// delivery of each, if it is due.
async fn fill(
    server: &Server,
    project: &Project,
    events: std::ops::Range<u64>,
    due: Option<Timestamp>,
) -> anyhow::Result<()> {
    let config = Config::from_toml("")?;
    let engine = start_dynamodb(&server.data_dir())?;
    let dynamo = dynamo::connect_embedded(&config, engine.http_client());
    stream::iter(events)
        .map(|n| accept(&dynamo, project, n, due))
        .buffer_unordered(FILLING)
        .try_collect()
        .await
}

async fn accept(
    dynamo: &Dynamo,
    project: &Project,
    n: u64,
    due: Option<Timestamp>,
) -> anyhow::Result<()> {
    let (id, received) = (format!("kept-{n}"), Timestamp::now());
    let defaults = PlainDefaults {
        id: &id,
        source: "/load",
        time: received,
    };
    let data = json!({ "sent_us": 0, "padding": publish::padding() });
    let body = json!({ "type": "load.event", "subject": "invoice/in_1234567890", "data": data });
    let event = parse_plain(body.to_string().as_bytes(), defaults)
        .map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
    let new = NewEvent {
        id: &EventId::derive(&project.id, "/load", &id),
        project: &project.id,
        event: &event,
        received,
        expires: received + Duration::from_hours(24 * 30),
        metered: None,
    };
    let to: &[EndpointId] = match due {
        Some(_) => std::slice::from_ref(&project.endpoint),
        None => &[],
    };
    accept::accept(dynamo, &new, &Plan::Inline(to, due.unwrap_or(received))).await?;
    Ok(())
}

fn ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1e3
}

fn names<T: ToString>(steps: &[T]) -> Vec<String> {
    steps.iter().map(T::to_string).collect()
}
