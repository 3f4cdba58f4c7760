//! Allocations of accepting and of delivering, beside those of the bare calls that
//! they make.

use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use http::StatusCode;
use serde_json::json;
use tower::ServiceExt;

use super::say;
use super::world::{World, event, request};

/// What some work allocated.
struct Allocated {
    blocks: u64,
    bytes: u64,
}

/// Looks at what `work` allocates. What is made outside of it is not counted.
async fn of(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Allocated> {
    let _profiler = dhat::Profiler::builder().testing().build();
    work.await?;
    let stats = dhat::HeapStats::get();
    Ok(Allocated {
        blocks: stats.total_blocks,
        bytes: stats.total_bytes,
    })
}

/// Nothing runs but what is called for.
async fn still() -> anyhow::Result<World> {
    World::start(None, Some(&[])).await
}

pub async fn measure(events: u64) -> anyhow::Result<()> {
    let world = &still().await?;
    say("\n| work | allocations | KB |\n|---|---|---|")?;
    let tell = |name: &str, allocated: Allocated| {
        let each = |sum: u64| sum as f64 / events as f64;
        let (blocks, kb) = (each(allocated.blocks), each(allocated.bytes) / 1e3);
        say(&format!("| {name} | {blocks:.0} | {kb:.1} |"))
    };
    tell(
        "a bare PutItem of such an item",
        of(puts(world, events)).await?,
    )?;
    for endpoints in [0, 1] {
        let project = world.project().await?;
        for n in 0..endpoints {
            let url = format!("{}/taken/{n}", world.receiver());
            project
                .post(
                    "/v1/endpoints",
                    &json!({ "url": url, "event_types": ["*"] }),
                )
                .await?;
        }
        project.publish("warm-up").await?;
        world.work().await?;
        let requests = requests(&project.key, events)?;
        let accepted = of(accept(world, requests)).await?;
        tell(&format!("accept, {endpoints} endpoints"), accepted)?;
        if endpoints > 0 {
            tell("deliver", of(world.work()).await?)?;
        }
    }
    Ok(())
}

/// Accepts, as fast as one publisher can.
pub async fn accept_only(events: u64, profile: Option<&Path>) -> anyhow::Result<()> {
    let world = &still().await?;
    let project = world.project().await?;
    project.publish("warm-up").await?;
    let requests = requests(&project.key, events)?;
    let profiler = profile.map(|file| dhat::Profiler::builder().file_name(file).build());
    let begun = std::time::Instant::now();
    accept(world, requests).await?;
    drop(profiler);
    let each = begun.elapsed() / u32::try_from(events)?;
    say(&format!("{events} accepted, {each:?} each"))
}

fn requests(key: &str, events: u64) -> anyhow::Result<Vec<http::Request<axum::body::Body>>> {
    let one = |n: u64| request(key, "/v1/events", event(&n.to_string()).to_string());
    (0..events).map(one).collect()
}

async fn accept(
    world: &World,
    requests: Vec<http::Request<axum::body::Body>>,
) -> anyhow::Result<()> {
    for request in requests {
        let answer = world.router.clone().oneshot(request).await?;
        anyhow::ensure!(answer.status() == StatusCode::ACCEPTED, "{answer:?}");
    }
    Ok(())
}

/// The least that keeping an event takes.
async fn puts(world: &World, events: u64) -> anyhow::Result<()> {
    let body = event("0").to_string();
    for n in 0..events {
        let mut put = world
            .app
            .dynamo
            .client
            .put_item()
            .table_name(&world.app.dynamo.table);
        let text = |value: &str| AttributeValue::S(value.to_owned());
        put = put
            .item("pk", text(&format!("bare{n}")))
            .item("sk", text("event"));
        for name in [
            "project", "ce_id", "type", "source", "time", "tl_pk", "tl_sk", "type_pk",
        ] {
            put = put.item(name, text("some value of thirty letters.."));
        }
        put = put
            .item("body", text(&body))
            .item("received", AttributeValue::N("1".into()));
        put.condition_expression("attribute_not_exists(pk)")
            .send()
            .await?;
    }
    Ok(())
}
