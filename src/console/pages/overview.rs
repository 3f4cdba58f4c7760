//! The overview of a project: what needs attention, what happened over time, and the
//! latest events; of a project without any, the first steps.
//!
//! Five calls of the API at once: activity of the period and of the one before, endpoints
//! that fail, the latest events, meters. With meters, the usage of four of them in a
//! second round. Only the activity must be there: what else cannot be had is left out.
//! Each part that is brought up to date makes those calls only that it shows.

mod attention;
mod charts;
mod first_steps;
mod latest;
mod period;

use axum::response::Response;
use futures_util::future;
use jiff::Timestamp;
use maud::html;
use serde::de::DeserializeOwned;

use crate::app;
use crate::console::layout::{self, Live, Page, Section, page};
use crate::console::pairs::href;
use crate::console::parts::{TimeFormat, icon, time};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use attention::Failing;
use charts::Activity;
use latest::{Event, Meter, Usage};
use period::{List, Period};

/// The latest events shown.
const EVENTS: usize = 8;

/// What the page is made of.
struct Overview {
    period: Period,
    activity: Activity,
    before: Option<Activity>,
    failing: Option<Failing>,
    events: Option<Vec<Event>>,
    meters: Vec<Meter>,
    usage: Vec<Option<Usage>>,
}

/// The overview of the project, or the part of it that is asked for.
///
/// # Errors
/// The API's refusal to tell what happened.
pub async fn overview(view: View) -> Result<Response, Refusal> {
    let (period, now) = (Period::of(&view), app::now());
    match view.part() {
        Some("todo") => {
            let (failing, meters) = future::join(failing(&view, period, now), meters(&view)).await;
            return Ok(layout::part(attention::section(
                &view,
                failing.as_ref(),
                &meters,
            )));
        }
        Some("charts") => {
            let (activity, before) = activity(&view, period, now).await?;
            return Ok(layout::part(charts::section(
                &view,
                period,
                &activity,
                before.as_ref(),
            )));
        }
        Some("latest") => {
            let events = events(&view).await.unwrap_or_default();
            return Ok(layout::part(latest::events(&view, &events)));
        }
        Some("first") => {
            let events = events(&view).await.unwrap_or_default();
            return Ok(layout::part(first_steps::arrival(&view, events.first())));
        }
        _ => {}
    }
    let found = Overview::load(&view, period, now).await?;
    if found.is_new() {
        return Ok(page(&view, first_steps::page(&view)));
    }
    Ok(page(&view, whole(&view, &found, now)))
}

impl Overview {
    async fn load(view: &View, period: Period, now: Timestamp) -> Result<Self, Refusal> {
        let (activity, failing, events, meters) = future::join4(
            activity(view, period, now),
            failing(view, period, now),
            events(view),
            meters(view),
        )
        .await;
        let (activity, before) = activity?;
        let usage = latest::usage_of(view, &meters, now).await;
        Ok(Self {
            period,
            activity,
            before,
            failing,
            events,
            meters,
            usage,
        })
    }

    /// Whether there is nothing to show yet.
    fn is_new(&self) -> bool {
        let is_without = self.events.as_ref().is_some_and(Vec::is_empty);
        is_without
            && self.activity.is_empty()
            && self.before.as_ref().is_none_or(Activity::is_empty)
    }
}

fn whole<'a>(view: &View, found: &Overview, now: Timestamp) -> Page<'a> {
    let failing = found.failing.as_ref();
    Page {
        meta: html! { span { "updated " (time(now, TimeFormat::Time)) } },
        acts: html! {
            nav.seg aria-label="Period" {
                @for period in Period::ALL {
                    @let current = (period == found.period).then_some("true");
                    a href=(href(&view.path(""), &[("period", Some(period.name()))])) aria-current=[current] { (period.word()) }
                }
            }
            @if view.may(Scope::EventsWrite) {
                a.btn.primary href=(view.path("send")) { (icon("send")) "Send event" }
            }
        },
        live: Live::Yes,
        body: html! {
            (attention::section(view, failing, &found.meters))
            (charts::section(view, found.period, &found.activity, found.before.as_ref()))
            section.wide {
                (latest::events(view, found.events.as_deref().unwrap_or_default()))
                div.stack {
                    (attention::failed_most(view, found.period, failing))
                    (latest::usage(view, &found.meters, &found.usage, now))
                }
            }
        },
        ..Page::new("Overview", Section::Overview)
    }
}

/// What happened in the period, and in the one before if that can be told.
async fn activity(
    view: &View,
    period: Period,
    now: Timestamp,
) -> Result<(Activity, Option<Activity>), Refusal> {
    let asked = |until: Timestamp| {
        let (since, until) = ((until - period.span()).to_string(), until.to_string());
        let window = ("window", Some(period.window()));
        let pairs = [window, ("since", Some(&*since)), ("until", Some(&*until))];
        href("/v1/activity", &pairs)
    };
    let (of_period, of_before) = (asked(now), asked(now - period.span()));
    let (now, before) = future::join(view.get(&of_period), view.get(&of_before)).await;
    Ok((now?, before.ok()))
}

async fn failing(view: &View, period: Period, now: Timestamp) -> Option<Failing> {
    let since = (now - period.span()).to_string();
    let path = href("/v1/activity/endpoints", &[("since", Some(&since))]);
    if_allowed(view, Scope::EndpointsRead, &path).await
}

async fn events(view: &View) -> Option<Vec<Event>> {
    let path = format!("/v1/events?limit={EVENTS}");
    let found: Option<List<Event>> = if_allowed(view, Scope::EventsRead, &path).await;
    found.map(|found| found.data)
}

async fn meters(view: &View) -> Vec<Meter> {
    let found: Option<List<Meter>> =
        if_allowed(view, Scope::MetersRead, "/v1/meters?limit=100").await;
    found.map(|found| found.data).unwrap_or_default()
}

/// What the API answers; nothing where it would refuse, or cannot.
async fn if_allowed<T: DeserializeOwned>(view: &View, scope: Scope, path: &str) -> Option<T> {
    if !view.may(scope) {
        return None;
    }
    view.get(path).await.ok()
}
