//! Deliveries that wait behind one disabled endpoint: what they ask of the store
//! while nothing else happens.

use std::time::Duration;

use anyhow::ensure;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use millrace::app;
use millrace::config::Handler;
use millrace::jobs::sweep::sweep;
use millrace::jobs::worker;
use millrace::model::delivery::DISABLED_RECHECK_DELAY;
use millrace::model::event::{PlainDefaults, parse_plain};
use millrace::model::id::{EndpointId, EventId, ProjectId};
use millrace::store::accept::{self, Plan};
use millrace::store::events::NewEvent;
use serde_json::json;

use super::say;
use super::world::{self, World};

/// Writes under way while what waits is written.
const FILLING: usize = 64;
const MINUTE: Duration = Duration::from_secs(60);

/// Has `waiting` deliveries wait and counts a minute's calls, by a clock that does
/// not wait: each sweep is made at the time at which a process would make it.
pub async fn measure(waiting: u64, with_calls: bool) -> anyhow::Result<()> {
    let handlers = [Handler::Http, Handler::FanOut, Handler::Deliver];
    let world = World::start(None, Some(&handlers)).await?;
    let project = world.project().await?;
    let url = format!("{}/taken/0", world.receiver());
    let made = json!({ "url": url, "event_types": ["*"] });
    let endpoint: EndpointId = world::text(&project.post("/v1/endpoints", &made).await?, "id")?
        .parse()
        .map_err(|_| anyhow::anyhow!("no id of an endpoint"))?;
    let path = format!("/v1/endpoints/{endpoint}");
    project
        .patch(&path, &json!({ "state": "disabled" }))
        .await?;

    let began = app::now();
    let fill = Fill {
        world: &world,
        project: project
            .id
            .parse()
            .map_err(|_| anyhow::anyhow!("no id of a project"))?,
        endpoint,
        began,
    };
    stream::iter(0..waiting)
        .map(|n| fill.accept(n, due(began, n, waiting)))
        .buffer_unordered(FILLING)
        .try_collect::<()>()
        .await?;
    world.calls.take();

    let (mut swept, mut now) = (0, began);
    while now < began + MINUTE {
        now += world.app.config.sweep.interval;
        swept += sweep(&world.app, now).await?.enqueued;
        let failed = worker::drain(&world.app, now).await;
        ensure!(failed.is_empty(), "jobs failed: {failed:?}");
    }
    let tally = world.calls.take();
    say(&format!(
        "\n{waiting} deliveries behind a disabled endpoint, a minute: {swept} looked at, {}",
        tally.dynamo()
    ))?;
    if with_calls {
        for line in tally.lines(1) {
            say(&format!("  a minute: {line}"))?;
        }
    }
    Ok(())
}

/// When the delivery number `n` of `waiting` is looked at again: they came one after
/// another, and so they are spread over the time that each waits.
fn due(began: Timestamp, n: u64, waiting: u64) -> Timestamp {
    began + DISABLED_RECHECK_DELAY.mul_f64(n as f64 / waiting as f64)
}

struct Fill<'a> {
    world: &'a World,
    project: ProjectId,
    endpoint: EndpointId,
    began: Timestamp,
}

impl Fill<'_> {
    async fn accept(&self, n: u64, due: Timestamp) -> anyhow::Result<()> {
        let (id, received) = (format!("waiting-{n}"), self.began);
        let defaults = PlainDefaults {
            id: &id,
            source: "/orders",
            time: received,
        };
        let body = json!({ "type": "order.paid", "data": { "note": "x".repeat(200) } });
        let event = parse_plain(body.to_string().as_bytes(), defaults)
            .map_err(|invalid| anyhow::anyhow!("{invalid}"))?;
        let new = NewEvent {
            id: &EventId::derive(&self.project, "/orders", &id),
            project: &self.project,
            event: &event,
            received,
            expires: received + Duration::from_hours(24 * 30),
            metered: None,
        };
        let to = Plan::Inline(std::slice::from_ref(&self.endpoint), due);
        accept::accept(&self.world.app.dynamo, &new, &to).await?;
        Ok(())
    }
}
