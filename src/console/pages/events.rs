//! The list of events, the newest first: filtered, live, as CSV.

use axum::response::Response;
use futures_util::future::join_all;
use jiff::SignedDuration;
use maud::{Markup, html};
use serde::Deserialize;

use crate::app;
use crate::console::delivery::{Delivery, summary};
use crate::console::export::{self, Table};
use crate::console::inputs;
use crate::console::inputs::filter;
use crate::console::layout::{Live, Page, Section, page, part};
use crate::console::listing::{List, Span, name, shortened, span_fields, written};
use crate::console::pairs::href;
use crate::console::parts::{self, TimeFormat, empty, icon, pager};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::csv::{Cell, write_row};
use crate::model::rfc3339;
use crate::model::time::Time;

/// Rows of a page: each asks for its deliveries.
const ROWS: &str = "25";
/// Rows that are asked for to bring a page up to date.
const NEWER_ROWS: &str = "50";
/// Deliveries of an event that are looked at for its column.
const DELIVERIES_LIMIT: u32 = 20;
/// How far back a page that is brought up to date looks, beyond its newest row: rows come a
/// little out of order, and what became of the latest is still changing.
const OVERLAP_S: i64 = 20;

/// A row.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    event_id: String,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    subject: Option<String>,
    tenant: Option<String>,
    time: Option<String>,
    received_at: Time,
}

/// The page of events. One call of the API, then one for each row: what became of it.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let is_part = view.part().is_some();
    let limit = if is_part { NEWER_ROWS } else { ROWS };
    let found: Result<List<Event>, Refusal> = view.get(&asked(&view, limit)).await;
    let (found, refused) = match found {
        Ok(found) => (found, None),
        Err(refusal) if refusal.is_about_input() && !is_part => {
            let none = List {
                data: vec![],
                next_cursor: None,
            };
            (none, Some(refusal))
        }
        Err(refusal) => return Err(refusal),
    };
    let states = states(&view, &found.data).await;
    match view.part() {
        Some("rows") => return Ok(part(tbody(&view, &found, &states))),
        Some("list") => return Ok(part(card(&view, &found, &states))),
        _ => {}
    }
    let mut response = page(&view, whole(&view, &found, &states, refused.as_ref()));
    if let Some(refusal) = &refused {
        *response.status_mut() = refusal.status_code();
    }
    Ok(response)
}

/// The events that the page lists as CSV, up to 10,000 of them.
pub async fn csv(view: View) -> Result<Response, Refusal> {
    let path = asked(&view, "100");
    let table = Table {
        name: "events",
        heads: &[
            "received_at",
            "id",
            "type",
            "tenant",
            "subject",
            "source",
            "event_id",
            "time",
        ],
        write: |out, event: &Event| {
            let received = written(event.received_at.0);
            let optional =
                |text: &'_ Option<String>| text.as_ref().map_or("", |text| text).to_owned();
            let texts = [&event.tenant, &event.subject].map(optional);
            let time = optional(&event.time);
            write_row(
                out,
                [
                    Cell::Plain(&received),
                    Cell::Plain(&event.id),
                    Cell::Text(&event.event_type),
                    cell(event.tenant.as_ref(), &texts[0]),
                    cell(event.subject.as_ref(), &texts[1]),
                    Cell::Text(&event.source),
                    Cell::Text(&event.event_id),
                    cell(event.time.as_ref(), &time),
                ],
            );
        },
    };
    export::csv(view, path, table).await
}

fn cell<'a>(given: Option<&String>, text: &'a str) -> Cell<'a> {
    given.map_or(Cell::Empty, |_| Cell::Text(text))
}

/// What the API is asked for.
fn asked(view: &View, limit: &str) -> String {
    let query = &view.query;
    let span = Span::of(query, app::now());
    href(
        "/v1/events",
        &[
            ("limit", Some(limit)),
            ("type", query.get("type")),
            ("tenant", query.get("tenant")),
            ("subject", query.get("subject")),
            ("since", span.since.as_deref()),
            ("until", span.until.as_deref()),
            ("cursor", query.get("cursor")),
        ],
    )
}

/// What became of each event, as far as it can be told.
async fn states(view: &View, events: &[Event]) -> Vec<Option<Markup>> {
    let one = async |event: &Event| {
        let path = format!(
            "/v1/deliveries?event_id={}&limit={DELIVERIES_LIMIT}",
            event.id
        );
        let found: Result<List<Delivery>, _> = view.get(&path).await;
        found.ok().and_then(|found| summary(&found.data))
    };
    join_all(events.iter().map(one)).await
}

fn whole<'a>(
    view: &'a View,
    found: &List<Event>,
    states: &[Option<Markup>],
    refused: Option<&Refusal>,
) -> Page<'a> {
    let kept = view.console.app.config.retention_days;
    let csv: Vec<_> = view
        .query
        .iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    let csv: Vec<_> = csv
        .into_iter()
        .filter(|(name, _)| !matches!(*name, "cursor" | "done"))
        .collect();
    Page {
        meta: html! {
            span { "Everything published to " bdi { (view.project_name) } ", the newest first" }
            span { "kept " (kept) " days" }
        },
        acts: html! {
            a.btn href=(href(&view.path("events.csv"), &csv)) { (icon("download")) "CSV" }
            @if view.may(Scope::EventsWrite) {
                a.btn.primary href=(view.path("send")) { (icon("send")) "Send event" }
            }
        },
        live: if view.query.get("cursor").is_none() {
            Live::Yes
        } else {
            Live::No
        },
        body: html! {
            (filters(view))
            @match refused {
                Some(refusal) => (inputs::refused(refusal)),
                None => (card(view, found, states)),
            }
        },
        ..Page::new("Events", Section::Events)
    }
}

fn filters(view: &View) -> Markup {
    let query = &view.query;
    html! {
        form.filters role="search" aria-label="Filter events" action=(view.path("events")) {
            div.field {
                label.sr for="f-type" { "Type" }
                input #f-type.mono name="type" value=(query.text("type")) placeholder="Type: invoice.*"
                    autocomplete="off" spellcheck="false" data-first-filter;
            }
            (filter("tenant", "Tenant", query.text("tenant"), None, "text"))
            (filter("subject", "Subject", query.text("subject"), None, "text"))
            (span_fields(query))
            button.btn { "Filter" }
            @if is_filtered(view) { div.end { a.btn.quiet href=(view.path("events")) { "Clear" } } }
        }
    }
}

fn is_filtered(view: &View) -> bool {
    let names = ["type", "tenant", "subject", "period", "since", "until"];
    names.iter().any(|name| view.query.get(name).is_some())
}

/// The address of a part of the page.
fn part_path(view: &View, wanted: &str, since: Option<&str>) -> String {
    let query = &view.query;
    let since = since.or(query.get("since"));
    href(
        &view.path("events"),
        &[
            ("part", Some(wanted)),
            ("type", query.get("type")),
            ("tenant", query.get("tenant")),
            ("subject", query.get("subject")),
            ("period", query.get("period").filter(|_| since.is_none())),
            ("since", since),
        ],
    )
}

fn card(view: &View, found: &List<Event>, states: &[Option<Markup>]) -> Markup {
    let is_first = view.query.get("cursor").is_none() && view.query.get("until").is_none();
    if found.data.is_empty() {
        let live = is_first.then_some("swap");
        let source = part_path(view, "list", None);
        return html! {
            div.card #list data-live=[live] data-src=(source) {
                (nothing(view, found.next_cursor.is_some()))
                (pager(&view.path("events"), &view.query, found.next_cursor.as_deref()))
            }
        };
    }
    html! {
        div.card #list {
            table.table.cards data-rows {
                caption.sr { "Events, the newest first" }
                thead {
                    tr {
                        th.w7 scope="col" { "Received " span.zone { "UTC" } }
                        th scope="col" { "Type" }
                        th scope="col" { "Tenant" }
                        th scope="col" { "Subject" }
                        th.w11 scope="col" { "Deliveries" }
                        th.w10 scope="col" { "Id" }
                    }
                }
                (tbody(view, found, states))
            }
            (pager(&view.path("events"), &view.query, found.next_cursor.as_deref()))
        }
    }
}

/// The rows, and where newer ones are asked for.
fn tbody(view: &View, found: &List<Event>, states: &[Option<Markup>]) -> Markup {
    let is_live = view.query.get("cursor").is_none() && view.query.get("until").is_none();
    let source = part_path(view, "rows", newer_since(view, found).as_deref());
    html! {
        tbody #rows data-live=[is_live.then_some("rows")] data-src=(source) data-noun="events" {
            @for (event, state) in found.data.iter().zip(states) { (row(view, event, state.as_ref())) }
        }
    }
}

/// From when on events are newer than what is shown, or still change: nothing that would
/// stand below it.
fn newer_since(view: &View, found: &List<Event>) -> Option<String> {
    let asked = Span::of(&view.query, app::now()).since;
    let (first, last) = (found.data.first()?, found.data.last()?);
    let mut since = first.received_at.0 - SignedDuration::from_secs(OVERLAP_S);
    if found.next_cursor.is_some() {
        since = since.max(last.received_at.0 + SignedDuration::from_millis(1));
    }
    let asked = asked.and_then(|asked| rfc3339::parse(&asked));
    Some(written(asked.map_or(since, |asked| since.max(asked))))
}

fn row(view: &View, event: &Event, state: Option<&Markup>) -> Markup {
    html! {
        tr id=(event.id) {
            td.end { (parts::time(event.received_at.0, TimeFormat::Time)) }
            td.lead { a.row.mono href=(view.path_of("events", &event.id)) { bdi { (shortened(&event.event_type)) } } }
            td data-l="for" { (name(event.tenant.as_deref())) }
            td data-l="about" { (name(event.subject.as_deref())) }
            td { @match state { Some(state) => (state), None => span.faint { "none" } } }
            td.hide { (parts::id(&event.id)) }
        }
    }
}

/// What stands where no event is.
fn nothing(view: &View, is_more: bool) -> Markup {
    if is_more {
        let text = html! { "Among the events that were looked through none matches. There are older ones." };
        return empty("None so far", text, html! {});
    }
    if is_filtered(view) {
        let text = html! {
            "A type is exact, or ends in " code { ".*" } "; tenant and subject are exact. "
            "Without a filter all events are shown."
        };
        let acts = html! { a.btn href=(view.path("events")) { "Show all events" } };
        return empty("No event matches", text, acts);
    }
    let text = html! {
        "An event appears here the moment it is accepted, with every attempt and answer. "
        "Programs send them with " code { "POST /v1/events" } "."
    };
    let acts = html! {
        @if view.may(Scope::EventsWrite) {
            a.btn.primary href=(view.path("send")) { (icon("send")) "Send one from here" }
        }
        a.btn href="/docs" { "API documentation" }
    };
    empty("No events yet", text, acts)
}
