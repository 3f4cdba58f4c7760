//! What an event costs: requests to AWS, DynamoDB's capacity units, the money that
//! they are, and allocations.
//!
//! `cargo bench --bench cost -- [--sqs-url URL] [--events 200] [--allocations 2000]
//! [--idle-seconds 30] [--waiting 10000] [--calls] [--accept-only EVENTS [--heap-profile FILE]]`
//!
//! The router, the workers and a PostgreSQL are in this process; DynamoDB's double,
//! which answers with the units that a call consumed by DynamoDB's rules, and the
//! endpoints' receiver are a process of their own, so that nothing of theirs is
//! counted. With the URL of an SQS (`tests/ministack start`) jobs go through it as on
//! AWS; without, through the queue in the process, and requests to SQS are missing.
//! Numbers of requests, units and allocations do not depend on the machine.

#[path = "cost/allocations.rs"]
mod allocations;
#[path = "cost/calls.rs"]
mod calls;
#[path = "cost/double.rs"]
mod double;
#[path = "cost/waiting.rs"]
mod waiting;
#[path = "cost/world.rs"]
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use futures_util::{StreamExt, TryStreamExt, stream};
use millrace::config::Handler;
use millrace::jobs::worker;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use calls::Tally;
use world::World;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

#[derive(Debug, Parser)]
struct Arguments {
    /// An SQS, such as that of `tests/ministack start`.
    #[arg(long)]
    sqs_url: Option<String>,
    /// Of each kind.
    #[arg(long, default_value_t = 200)]
    events: u64,
    /// Events whose allocations are counted; 0 leaves it out.
    #[arg(long, default_value_t = 2_000)]
    allocations: u64,
    /// Watched with nothing to do; 0 leaves it out.
    #[arg(long, default_value_t = 30)]
    idle_seconds: u64,
    /// Deliveries that wait behind a disabled endpoint; 0 leaves it out.
    #[arg(long, default_value_t = 10_000)]
    waiting: u64,
    /// Say which calls they are.
    #[arg(long)]
    calls: bool,
    /// Only accept, as many as this, for a profiler to look on; and nothing else.
    #[arg(long)]
    accept_only: Option<u64>,
    /// With it: write where the allocations are made, for DHAT's viewer.
    #[arg(long, requires = "accept_only")]
    heap_profile: Option<PathBuf>,
    /// Be DynamoDB's double and the receiver.
    #[arg(long, hide = true)]
    double: bool,
    /// Cargo gives this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // One thread: what runs is what was asked for, and nothing beside it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.double {
        true => runtime.block_on(double::serve()),
        false => runtime.block_on(run(&arguments)),
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(events) = arguments.accept_only {
        return allocations::accept_only(events, arguments.heap_profile.as_deref()).await;
    }
    let handlers = [Handler::Http, Handler::FanOut, Handler::Deliver];
    let world = World::start(arguments.sqs_url.as_deref(), Some(&handlers)).await?;
    say(
        "| event | published | DynamoDB requests | write units | read units | SQS requests | $ per million |",
    )?;
    say("|---|---|---|---|---|---|---|")?;
    for case in CASES {
        for at_once in [1, 64] {
            let tally = case.measure(&world, arguments.events, at_once).await?;
            let how = match at_once {
                1 => "one by one".to_owned(),
                _ => format!("{at_once} at once"),
            };
            say(&format!(
                "| {} | {how} | {} |",
                case.name,
                tally.row(arguments.events)
            ))?;
            if arguments.calls {
                for line in tally.lines(arguments.events) {
                    say(&format!("|   {line} | | | | | | |"))?;
                }
            }
        }
    }
    if arguments.idle_seconds > 0 {
        idle(arguments).await?;
    }
    if arguments.waiting > 0 {
        waiting::measure(arguments.waiting, arguments.calls).await?;
    }
    if arguments.allocations > 0 {
        allocations::measure(arguments.allocations).await?;
    }
    Ok(())
}

/// A kind of event, by what is done about it.
struct Case {
    name: &'static str,
    endpoints: usize,
    path: &'static str,
    is_metered: bool,
    /// Published again after all is done, which is what is measured.
    is_repeated: bool,
}

const PLAIN: Case = Case {
    name: "for nobody",
    endpoints: 0,
    path: "/taken",
    is_metered: false,
    is_repeated: false,
};

const CASES: &[Case] = &[
    PLAIN,
    Case {
        name: "for nobody, the second time",
        is_repeated: true,
        ..PLAIN
    },
    Case {
        name: "for nobody, counted by a meter",
        is_metered: true,
        ..PLAIN
    },
    Case {
        name: "to one endpoint",
        endpoints: 1,
        ..PLAIN
    },
    Case {
        name: "to one endpoint, counted by a meter",
        endpoints: 1,
        is_metered: true,
        ..PLAIN
    },
    Case {
        name: "to one endpoint that fails once",
        endpoints: 1,
        path: "/failing-once",
        ..PLAIN
    },
    Case {
        name: "to 10 endpoints",
        endpoints: 10,
        ..PLAIN
    },
    Case {
        name: "to 100 endpoints",
        endpoints: 100,
        ..PLAIN
    },
];

impl Case {
    async fn measure(&self, world: &World, events: u64, at_once: usize) -> anyhow::Result<Tally> {
        let project = world.project().await?;
        for n in 0..self.endpoints {
            let url = format!("{}{}/{n}", world.receiver(), self.path);
            project
                .post(
                    "/v1/endpoints",
                    &json!({ "url": url, "event_types": ["*"] }),
                )
                .await?;
        }
        if self.is_metered {
            let meter =
                json!({ "name": "events", "event_type": "order.paid", "aggregation": "count" });
            project.post("/v1/meters", &meter).await?;
        }
        // Known from here on, as they are to a process that has served a while.
        project.publish("warm-up").await?;
        world.work().await?;
        if self.is_repeated {
            self.publish(world, &project, events, at_once).await?;
        }
        world.calls.take();
        self.publish(world, &project, events, at_once).await?;
        Ok(world.calls.take())
    }

    async fn publish(
        &self,
        world: &World,
        project: &world::Project<'_>,
        events: u64,
        at_once: usize,
    ) -> anyhow::Result<()> {
        let publish = async |n: u64| {
            project.publish(&n.to_string()).await?;
            match at_once {
                1 => world.work().await,
                _ => Ok(()),
            }
        };
        stream::iter(0..events)
            .map(publish)
            .buffer_unordered(at_once)
            .try_collect::<()>()
            .await?;
        world.work().await?;
        world.meter().await
    }
}

/// What a process with every handler asks of AWS while nothing happens.
async fn idle(arguments: &Arguments) -> anyhow::Result<()> {
    let world = World::start(arguments.sqs_url.as_deref(), None).await?;
    let stop = CancellationToken::new();
    let workers = match arguments.sqs_url {
        Some(_) => None,
        None => Some(worker::start(&world.app, &stop)),
    };
    // Past what it does once, when it starts.
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.calls.take();
    tokio::time::sleep(Duration::from_secs(arguments.idle_seconds)).await;
    let tally = world.calls.take();
    drop(workers);
    let months = arguments.idle_seconds as f64 / (365.25 / 12.0 * 86_400.0);
    say(&format!(
        "\nidle, a month of one process: {}",
        tally.bill(1.0 / months)
    ))?;
    if arguments.calls {
        for line in tally.lines(arguments.idle_seconds) {
            say(&format!("  a second: {line}"))?;
        }
    }
    Ok(())
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("stdout")
}
