//! Finding: an id leads to its page; anything else is looked for where people may mean it.

use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::deliveries::address;
use super::event::endpoint::Endpoint;
use crate::console::layout::{Page, Section, page};
use crate::console::listing::{List, came, name, shortened};
use crate::console::pairs::{href, segment};
use crate::console::parts::{self, empty};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::id::{
    DeliveryId, EndpointId, ErasureId, EventId, KeyId, MeterId, ProjectId, RecoveryId,
};
use crate::model::time::Time;

/// Rows of each kind that are shown.
const ROWS_MAX: usize = 10;

/// An event in what was found.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    tenant: Option<String>,
    subject: Option<String>,
    received_at: Time,
}

/// What was found, of each kind.
#[derive(Default)]
struct Found {
    endpoints: Vec<Endpoint>,
    events: Vec<(&'static str, Vec<Event>)>,
}

/// Goes to what an id is of; else the page of what was found. Six calls of the API at once.
pub async fn find(view: View) -> Result<Response, Refusal> {
    let wanted = view.query.text("q").trim().to_owned();
    if let Some(to) = of_id(&view, &wanted) {
        return Ok(Redirect::to(&to).into_response());
    }
    let found = match wanted.is_empty() {
        true => Found::default(),
        false => look_for(&view, &wanted).await,
    };
    let body = html! {
        form.filters role="search" aria-label="Find in this project" action=(view.path("find")) {
            div.field {
                label.sr for="f-q" { "Id, URL, tenant, subject or type" }
                input #f-q name="q" type="search" value=(wanted) placeholder="Id, URL, tenant, subject or type" data-first-filter;
            }
            button.btn { "Find" }
        }
        (results(&view, &wanted, &found))
    };
    Ok(page(
        &view,
        Page {
            body,
            ..Page::new("Find", Section::None)
        },
    ))
}

/// The page of what `wanted` is the id of.
fn of_id(view: &View, wanted: &str) -> Option<String> {
    let is = |rest: &str| Some(view.path(rest));
    if let Ok(delivery) = wanted.parse::<DeliveryId>() {
        return Some(address(view, &delivery));
    }
    if let Ok(id) = wanted.parse::<EventId>() {
        return is(&format!("events/{id}"));
    }
    if let Ok(id) = wanted.parse::<EndpointId>() {
        return is(&format!("endpoints/{id}"));
    }
    if let Ok(id) = wanted.parse::<MeterId>() {
        return is(&format!("meters/{id}"));
    }
    if let Ok(id) = wanted.parse::<RecoveryId>() {
        return is(&format!("recoveries/{id}"));
    }
    if wanted.parse::<KeyId>().is_ok() {
        return is("keys");
    }
    if wanted.parse::<ErasureId>().is_ok() {
        return is("erasures");
    }
    let project = wanted.parse::<ProjectId>().ok()?;
    Some(format!("/console/{project}"))
}

/// Looks where `wanted` may stand. What cannot be asked for like this is not found.
async fn look_for(view: &View, wanted: &str) -> Found {
    let limit = ROWS_MAX.to_string();
    let endpoints = |pairs: &[(&str, Option<&str>)]| href("/v1/endpoints", pairs);
    let events = |name: &str| {
        href(
            "/v1/events",
            &[("limit", Some(&*limit)), (name, Some(wanted))],
        )
    };
    let (of_tenant, all) = (
        endpoints(&[("limit", Some(&*limit)), ("tenant", Some(wanted))]),
        endpoints(&[("limit", Some("100"))]),
    );
    let by_uid = format!("/v1/endpoints/{}", segment(wanted));
    let paths = ["tenant", "subject", "type"].map(events);
    let (uid, of_tenant, all, tenants, subjects, types) = tokio::join!(
        view.get::<Endpoint>(&by_uid),
        view.get::<List<Endpoint>>(&of_tenant),
        view.get::<List<Endpoint>>(&all),
        view.get::<List<Event>>(&paths[0]),
        view.get::<List<Event>>(&paths[1]),
        view.get::<List<Event>>(&paths[2]),
    );
    let rows = |list: Result<List<Endpoint>, _>| list.map(|list| list.data).unwrap_or_default();
    let mut found: Vec<_> = uid.into_iter().chain(rows(of_tenant)).collect();
    let wanted = wanted.to_lowercase();
    let named = rows(all).into_iter().filter(|one| {
        one.url.to_lowercase().contains(&wanted) || one.name().to_lowercase().contains(&wanted)
    });
    for one in named {
        if found.iter().all(|other| other.id != one.id) {
            found.push(one);
        }
    }
    found.truncate(ROWS_MAX);
    let events = |list: Result<List<Event>, _>| list.map(|list| list.data).unwrap_or_default();
    Found {
        endpoints: found,
        events: vec![
            ("tenant", events(tenants)),
            ("subject", events(subjects)),
            ("type", events(types)),
        ],
    }
}

fn results(view: &View, wanted: &str, found: &Found) -> Markup {
    let is_none =
        found.endpoints.is_empty() && found.events.iter().all(|(_, events)| events.is_empty());
    if is_none {
        let text = html! {
            "An id leads to its page, whole. Other words are looked for as the tenant, subject or type of events, "
            "as the uid or tenant of endpoints, and in the URLs and descriptions of the oldest 100 of them."
        };
        return html! {
            div.card {
                @if wanted.is_empty() { (empty("What are you looking for?", text, html! {})) }
                @else { (empty("Nothing found", html! { "No " bdi.mono { (shortened(wanted)) } " is here. " (text) }, html! {})) }
            }
        };
    }
    html! {
        div.stack {
            @if !found.endpoints.is_empty() { (endpoints(view, &found.endpoints)) }
            @for (by, events) in &found.events {
                @if !events.is_empty() { (events_by(view, by, wanted, events)) }
            }
        }
    }
}

fn endpoints(view: &View, found: &[Endpoint]) -> Markup {
    html! {
        section.card aria-labelledby="endpoints" {
            header { h2 #endpoints { "Endpoints" } }
            table.table.cards data-rows {
                caption.sr { "Endpoints that match" }
                thead { tr { th scope="col" { "Endpoint" } th scope="col" { "URL" } th scope="col" { "Tenant" } th scope="col" { "Uid" } } }
                tbody {
                    @for one in found {
                        tr {
                            td.lead { a.row href=(view.path_of("endpoints", &one.id)) { bdi { (one.name()) } } }
                            td data-l="at" { (parts::mid(&shortened(&one.url))) }
                            td data-l="for" { (name(one.tenant.as_deref())) }
                            td.hide { (name(one.uid.as_deref())) }
                        }
                    }
                }
            }
        }
    }
}

fn events_by(view: &View, by: &str, wanted: &str, events: &[Event]) -> Markup {
    let all = href(&view.path("events"), &[(by, Some(wanted))]);
    html! {
        section.card aria-labelledby={ "by-" (by) } {
            header {
                h2 id={ "by-" (by) } { "Events of this " (by) }
                a.btn.slim href=(all) { "Show all" }
            }
            table.table.cards data-rows {
                caption.sr { "Events of this " (by) ", the newest first" }
                thead { tr { th.w11 scope="col" { "Received" } th scope="col" { "Type" } th scope="col" { "Tenant" } th scope="col" { "Subject" } } }
                tbody {
                    @for event in events {
                        tr {
                            td.end { (came(event.received_at)) }
                            td.lead { a.row.mono href=(view.path_of("events", &event.id)) { bdi { (shortened(&event.event_type)) } } }
                            td data-l="for" { (name(event.tenant.as_deref())) }
                            td data-l="about" { (name(event.subject.as_deref())) }
                        }
                    }
                }
            }
        }
    }
}
