//! The back-fill of a meter: how far it has come.

use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use crate::console::pairs::segment;
use crate::console::parts::{self, TimeFormat, Tone, number};
use crate::console::visit::View;
use crate::model::time::Time;

/// A back-fill, as the API tells of it.
#[derive(Debug, Deserialize)]
pub struct Progress {
    state: String,
    since: Time,
    until: Time,
    reached: Time,
    events_read: u64,
    events_counted: u64,
    events_skipped: u64,
    finished_at: Option<Time>,
}

/// The last back-fill of the meter, if there is one that may be seen.
pub async fn get(view: &View, id: &str) -> Option<Progress> {
    let path = format!("/v1/meters/{}/backfill", segment(id));
    view.get(&path).await.ok()
}

/// How far it is, brought up to date while it runs.
pub fn card(view: &View, id: &str, progress: Option<&Progress>) -> Markup {
    let Some(progress) = progress else {
        return html! {};
    };
    let is_running = progress.state == "running";
    let source = format!("{}?part=backfill", view.path_of("meters", id));
    html! {
        section.card #backfill aria-labelledby="bf" data-live=[is_running.then_some("swap")] data-src=[is_running.then_some(source)] {
            header {
                h2 #bf { "Counting older events" }
                @if is_running { (parts::state(Tone::Info, "clock", "Running")) } @else { (parts::state(Tone::Ok, "check", "Done")) }
            }
            div.in.stack {
                (bar(progress, is_running))
                p.small.soft.num {
                    @if is_running {
                        "Back to " (parts::time(progress.reached.0, TimeFormat::Full)) " of "
                        (parts::time(progress.since.0, TimeFormat::Full)) " · "
                    } @else if let Some(finished) = &progress.finished_at {
                        (parts::time(finished.0, TimeFormat::Full)) " · "
                    }
                    (number(progress.events_read)) " read, " (number(progress.events_counted)) " counted"
                    @if progress.events_skipped > 0 { ", " (number(progress.events_skipped)) " could not be read" }
                }
            }
        }
    }
}

fn bar(progress: &Progress, is_running: bool) -> Markup {
    let percent = if is_running { done(progress) } else { 100 };
    let class = if is_running { "" } else { "is-ok" };
    html! {
        progress.(class) value=(percent) max="100" aria-label={ "Back-fill: " (percent) " per cent of the time span" } {}
    }
}

/// Of the time that it is to read, how much it has, in per cent.
fn done(progress: &Progress) -> i64 {
    let length = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs();
    let whole = length(progress.since.0, progress.until.0).max(1);
    (length(progress.reached.0, progress.until.0) * 100 / whole).clamp(0, 99)
}
