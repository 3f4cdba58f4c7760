//! The list of deliveries, of the whole project: by state, endpoint, type, tenant and time.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::event::endpoint::Endpoint;
use crate::app;
use crate::console::delivery::Delivery;
use crate::console::export::{self, Table};
use crate::console::inputs;
use crate::console::inputs::{filter, filter_choice};
use crate::console::layout::{Page, Section, form, page};
use crate::console::listing::{List, Span, came, name, shortened, span_fields, written};
use crate::console::pairs::href;
use crate::console::parts::{self, empty, icon, pager};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::console::why;
use crate::model::api_key::Scope;
use crate::model::csv::{Cell, write_row};
use crate::model::id::DeliveryId;

/// The states, and their words.
const STATES: [(&str, &str); 5] = [
    ("", "Any state"),
    ("pending", "Pending"),
    ("delivered", "Delivered"),
    ("failed", "Failed"),
    ("canceled", "Canceled"),
];
/// What a list is narrowed by.
const FILTERS: [&str; 8] = [
    "state",
    "endpoint_id",
    "event_id",
    "type",
    "tenant",
    "period",
    "since",
    "until",
];

/// The page of deliveries. Two calls of the API at once: the deliveries, and the endpoints
/// for their names.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let path = asked(&view, "50");
    let (found, endpoints) = tokio::join!(view.get(&path), endpoints(&view));
    let found: Result<List<Delivery>, Refusal> = found;
    let (body, status) = match found {
        Ok(found) => (card(&view, &found, &endpoints), None),
        Err(refusal) if refusal.is_about_input() || is_about_filter(&view, &refusal) => {
            (inputs::refused(&refusal), Some(refusal.status_code()))
        }
        Err(refusal) => return Err(refusal),
    };
    let mut response = page(
        &view,
        Page {
            meta: html! { span { "What became of each event at each endpoint, the newest first" } },
            acts: acts(&view),
            body: html! { (filters(&view, &endpoints)) (body) },
            ..Page::new("Deliveries", Section::Deliveries)
        },
    );
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    Ok(response)
}

/// An endpoint or an event that is not there is a filter that finds nothing.
fn is_about_filter(view: &View, refusal: &Refusal) -> bool {
    let named = ["endpoint_id", "event_id"];
    refusal.status == 404 && named.iter().any(|name| view.query.get(name).is_some())
}

/// The deliveries that the page lists as CSV, up to 10,000 of them.
pub async fn csv(view: View) -> Result<Response, Refusal> {
    let path = asked(&view, "100");
    let table = Table {
        name: "deliveries",
        heads: &[
            "created_at",
            "id",
            "event_id",
            "endpoint_id",
            "type",
            "tenant",
            "state",
            "attempts_made",
            "last_status",
            "last_error",
            "next_attempt_at",
        ],
        write: line,
    };
    export::csv(view, path, table).await
}

fn line(out: &mut String, delivery: &Delivery) {
    let last = delivery.attempts.last();
    let created = written(delivery.created_at.0);
    let made = delivery.attempts_made.to_string();
    let status = last
        .and_then(|last| last.status)
        .map(|status| status.to_string());
    let next = delivery.next_attempt_at.map(|at| written(at.0));
    let text = |text: Option<&'_ String>| text.cloned();
    let (tenant, error) = (
        text(delivery.tenant.as_ref()),
        text(last.and_then(|last| last.error.as_ref())),
    );
    write_row(
        out,
        [
            Cell::Plain(&created),
            Cell::Plain(&delivery.id),
            Cell::Plain(&delivery.event_id),
            Cell::Plain(&delivery.endpoint_id),
            Cell::Text(&delivery.event_type),
            tenant.as_deref().map_or(Cell::Empty, Cell::Text),
            Cell::Plain(delivery.state.as_str()),
            Cell::Plain(&made),
            status.as_deref().map_or(Cell::Empty, Cell::Plain),
            error.as_deref().map_or(Cell::Empty, Cell::Text),
            next.as_deref().map_or(Cell::Empty, Cell::Plain),
        ],
    );
}

/// Goes to the delivery on the page of its event.
pub async fn show(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let id = delivery_id(&path)?;
    Ok(Redirect::to(&address(&view, &id)).into_response())
}

/// The id in the path.
///
/// # Errors
/// A [`Refusal`] when it is none.
pub fn delivery_id(path: &BTreeMap<String, String>) -> Result<DeliveryId, Refusal> {
    let id = path.get("id").and_then(|text| text.parse().ok());
    id.ok_or_else(|| Refusal::not_found("there is no such delivery in this project"))
}

/// Where a delivery is shown, whole.
pub fn address(view: &View, id: &DeliveryId) -> String {
    let (event, endpoint) = (id.event(), id.endpoint());
    view.path(&format!("events/{event}?endpoint={endpoint}#{id}"))
}

/// The oldest endpoints, for their names; none if they cannot be had.
pub async fn endpoints(view: &View) -> Vec<Endpoint> {
    let found: Result<List<Endpoint>, _> = view.get("/v1/endpoints?limit=100").await;
    found.map(|found| found.data).unwrap_or_default()
}

/// What the API is asked for.
fn asked(view: &View, limit: &str) -> String {
    let query = &view.query;
    let span = Span::of(query, app::now());
    href(
        "/v1/deliveries",
        &[
            ("limit", Some(limit)),
            ("state", query.get("state")),
            ("endpoint_id", query.get("endpoint_id")),
            ("event_id", query.get("event_id")),
            ("type", query.get("type")),
            ("tenant", query.get("tenant")),
            ("since", span.since.as_deref()),
            ("until", span.until.as_deref()),
            ("cursor", query.get("cursor")),
        ],
    )
}

fn acts(view: &View) -> Markup {
    let query = &view.query;
    let kept = query.iter().filter(|(name, _)| FILTERS.contains(name));
    let kept: Vec<_> = kept.map(|(name, value)| (name, Some(value))).collect();
    let is_many = matches!(query.get("state"), Some("failed" | "canceled"))
        && query.get("event_id").is_none();
    html! {
        @if is_many && view.may(Scope::EventsWrite) {
            a.btn href=(href(&view.path("deliveries/retry"), &kept)) { (icon("retry")) "Retry all that match…" }
        }
        a.btn href=(href(&view.path("deliveries.csv"), &kept)) { (icon("download")) "CSV" }
    }
}

fn filters(view: &View, endpoints: &[Endpoint]) -> Markup {
    let query = &view.query;
    html! {
        form.filters role="search" aria-label="Filter deliveries" action=(view.path("deliveries")) {
            div.field {
                label.sr for="f-state" { "State" }
                select #f-state name="state" data-first-filter {
                    @for (value, word) in STATES { option value=(value) selected[value == query.text("state")] { (word) } }
                }
            }
            (endpoint_filter(query.text("endpoint_id"), endpoints))
            @if let Some(event) = query.get("event_id") { (filter("event_id", "Event", event, None, "text")) }
            (filter("type", "Type: invoice.*", query.text("type"), None, "text"))
            (filter("tenant", "Tenant", query.text("tenant"), None, "text"))
            (span_fields(query))
            button.btn { "Filter" }
            @if is_filtered(view) { div.end { a.btn.quiet href=(view.path("deliveries")) { "Clear" } } }
        }
    }
}

/// A choice of endpoints where that is all of them, or holds the one that is asked for.
fn endpoint_filter(chosen: &str, endpoints: &[Endpoint]) -> Markup {
    const CHOICES_MAX: usize = 50;
    let is_known = chosen.is_empty() || endpoints.iter().any(|endpoint| endpoint.id == chosen);
    if !is_known || endpoints.len() > CHOICES_MAX {
        return filter(
            "endpoint_id",
            "Endpoint: its id or uid",
            chosen,
            None,
            "text",
        );
    }
    let names: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.id.as_str(), endpoint.name()))
        .collect();
    let options = names.iter().map(|(id, name)| (*id, name.as_str()));
    filter_choice(
        "endpoint_id",
        "Endpoint",
        [("", "Any endpoint")].into_iter().chain(options),
        chosen,
    )
}

fn is_filtered(view: &View) -> bool {
    FILTERS.iter().any(|name| view.query.get(name).is_some())
}

fn card(view: &View, found: &List<Delivery>, endpoints: &[Endpoint]) -> Markup {
    let path = view.path("deliveries");
    html! {
        div.card {
            @if found.data.is_empty() {
                (nothing(view, found.next_cursor.is_some()))
            } @else {
                table.table.cards data-rows {
                    caption.sr { "Deliveries, the newest first" }
                    thead {
                        tr {
                            th.w11 scope="col" { "Created " span.zone { "UTC" } }
                            th scope="col" { "Type" }
                            th scope="col" { "Endpoint" }
                            th scope="col" { "Tenant" }
                            th scope="col" { "State" }
                            th scope="col" { "Last answer" }
                            th.w7 scope="col" { "" span.sr { "What to do" } }
                        }
                    }
                    tbody { @for delivery in &found.data { (row(view, delivery, endpoints)) } }
                }
            }
            (pager(&path, &view.query, found.next_cursor.as_deref()))
        }
    }
}

fn row(view: &View, delivery: &Delivery, endpoints: &[Endpoint]) -> Markup {
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint.id == delivery.endpoint_id);
    let to = view.path(&format!("deliveries/{}", delivery.id));
    let last = delivery.attempts.last();
    let answer = last.map(|last| match (last.status, &last.error) {
        (Some(status), _) => format!("{status} {}", why::reason(status).unwrap_or_default()),
        (None, error) => error.clone().unwrap_or_default(),
    });
    html! {
        tr id=(delivery.id) {
            td.end { (came(delivery.created_at)) }
            td.lead { a.row.mono href=(to) { bdi { (shortened(&delivery.event_type)) } } }
            td data-l="to" {
                @match endpoint {
                    Some(endpoint) => (name(Some(&endpoint.name()))),
                    None => code { (parts::short(&delivery.endpoint_id)) },
                }
            }
            td data-l="for" { (name(delivery.tenant.as_deref())) }
            td { (delivery.standing().mark()) }
            td data-l="answer" { (name(answer.as_deref())) }
            td.hide {
                @if view.may(Scope::EventsWrite) && !delivery.is_pending() {
                    (form(view, &view.path(&format!("deliveries/{}/retry", delivery.id)),
                        html! { button.btn.slim.over { (icon("retry")) "Retry" } }))
                }
            }
        }
    }
}

fn nothing(view: &View, is_more: bool) -> Markup {
    if is_more {
        let text = html! { "Among the deliveries that were looked through none matches. There are older ones." };
        return empty("None so far", text, html! {});
    }
    if is_filtered(view) {
        let text = html! { "A type is exact, or ends in " code { ".*" } "; a tenant is exact. Without a filter all deliveries are shown." };
        let acts = html! { a.btn href=(view.path("deliveries")) { "Show all deliveries" } };
        return empty("No delivery matches", text, acts);
    }
    let text =
        html! { "Each event becomes a delivery at every endpoint that takes its type and tenant." };
    let acts = html! {
        @if view.may(Scope::EndpointsWrite) { a.btn.primary href=(view.path("endpoints/new")) { "Add an endpoint" } }
        @if view.may(Scope::EventsWrite) { a.btn href=(view.path("send")) { (icon("send")) "Send an event" } }
    };
    empty("No deliveries yet", text, acts)
}
