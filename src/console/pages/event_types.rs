//! The catalog of event types: which there are, and of one its schema, an example, its
//! versions and who takes it.

pub mod edit;

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::meter::definition::Meter;
use crate::console::example;
use crate::console::layout::{self, Page, Section};
use crate::console::pairs::{href, segment};
use crate::console::parts::{self, TimeFormat, Tone, cut, icon};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::filter::TypePattern;
use crate::model::time::Time;

/// Characters of a schema that are shown.
const SCHEMA_CHARS_MAX: usize = 16_000;
/// Takers that are shown, of each kind.
const TAKERS_MAX: usize = 20;

/// An event type, as its pages show it.
#[derive(Debug, Deserialize)]
pub struct EventType {
    /// Its name.
    pub name: String,
    /// A note for people.
    pub description: String,
    /// The schema in force.
    pub schema: Option<Box<RawValue>>,
    /// Its number.
    pub schema_version: Option<u64>,
    /// What becomes of data that does not satisfy it.
    pub validate: String,
    created_at: Time,
    updated_at: Time,
}

#[derive(Deserialize)]
struct Types {
    data: Vec<EventType>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Versions {
    data: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
    schema: Box<RawValue>,
    created_at: Time,
}

#[derive(Deserialize)]
struct Endpoints {
    data: Vec<Endpoint>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Endpoint {
    id: String,
    url: String,
    description: String,
    event_types: Vec<String>,
    tenant: Option<String>,
    state: String,
}

#[derive(Deserialize)]
struct Meters {
    data: Vec<Meter>,
}

/// Shows a page of event types by name: one request.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let cursor = view.query.get("cursor");
    let asked = href(
        "/v1/event-types",
        &[("limit", Some("50")), ("cursor", cursor)],
    );
    let page: Types = view.get(&asked).await?;
    let acts = html! {
        @if view.may(Scope::EndpointsWrite) {
            a.btn.primary href=(view.path("event-types/new")) { (icon("plus")) "New event type" }
        }
    };
    let body = html! {
        @if page.data.is_empty() && cursor.is_none() {
            div.card { (none(&view)) }
        } @else {
            div.card {
                (table(&view, &page.data))
                (parts::pager(&view.path("event-types"), &view.query, page.next_cursor.as_deref()))
            }
        }
    };
    Ok(layout::page(
        &view,
        Page {
            meta: html! { span { "What kinds of events there are, and what their data must satisfy" } },
            acts,
            body,
            ..Page::new("Event types", Section::EventTypes)
        },
    ))
}

fn none(view: &View) -> Markup {
    let text = html! {
        "Events of any type are accepted as they come. A type in the catalog has a description, and \
         a schema that the data of its events is held against before they are kept."
    };
    let acts = html! {
        @if view.may(Scope::EndpointsWrite) {
            a.btn.primary href=(view.path("event-types/new")) { (icon("plus")) "New event type" }
        }
        a.btn href=(view.path("send")) { "Send an event" }
    };
    parts::empty("No event types yet", text, acts)
}

fn table(view: &View, types: &[EventType]) -> Markup {
    html! {
        table.table.cards data-rows {
            thead { tr {
                th scope="col" { "Type" }
                th scope="col" { "Description" }
                th.w6 scope="col" { "Schema" }
                th.w6 scope="col" { "Changed" }
            } }
            tbody {
                @for of in types {
                    tr {
                        td.lead { a.row.cut.mono href=(view.path_of("event-types", &of.name)) title=(of.name) { bdi { (of.name) } } }
                        td data-l="description" { @if of.description.is_empty() { span.faint { "none" } } @else { (cut(&of.description)) } }
                        td.end { (schema_word(of)) }
                        td data-l="changed" { (parts::time(of.updated_at.0, TimeFormat::Date)) }
                    }
                }
            }
        }
    }
}

/// Which schema is in force, and what becomes of data that does not satisfy it.
fn schema_word(of: &EventType) -> Markup {
    let Some(version) = of.schema_version.filter(|_| of.schema.is_some()) else {
        return html! { span.faint { "none" } };
    };
    match &*of.validate {
        "reject" => html! { "version " (version) },
        "warn" => html! { "version " (version) ", warns" },
        _ => html! { "version " (version) ", off" },
    }
}

/// Shows one event type: the type, its versions, the endpoints and the meters at once.
pub async fn show(
    view: View,
    Path((_, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let path = format!("/v1/event-types/{}", segment(&name));
    let versions = format!("{path}/versions?limit=50");
    let (of, versions, endpoints, meters) = tokio::join!(
        view.get::<EventType>(&path),
        view.get::<Versions>(&versions),
        view.get::<Endpoints>("/v1/endpoints?limit=100"),
        view.get::<Meters>("/v1/meters?limit=100"),
    );
    let of = of?;
    let versions = versions.map_or_else(|_| vec![], |versions| versions.data);
    let body = html! {
        div.wide {
            div.stack { (schema(&view, &of, &versions)) }
            div.stack {
                (takers(&view, &of, endpoints.ok(), meters.ok()))
                (rows_of_versions(&view, &of, &versions))
            }
        }
    };
    let at = |rest: &str| format!("{}/{rest}", view.path_of("event-types", &of.name));
    let acts = html! {
        @if view.may(Scope::EventsWrite) {
            a.btn.primary href=(href(&view.path("send"), &[("type", Some(&of.name))])) { (icon("send")) "Send one" }
        }
        a.btn href=(href(&view.path("events"), &[("type", Some(&of.name))])) { "Its events" }
        @if view.may(Scope::EndpointsWrite) {
            a.btn href=(at("edit")) { "Edit" }
            a.btn.danger href=(at("delete")) { "Delete" }
        }
    };
    let meta = html! {
        @if !of.description.is_empty() { span { bdi { (of.description) } } }
        span { (validation(&of)) }
        span { "since " (parts::time(of.created_at.0, TimeFormat::Date)) }
    };
    Ok(layout::page(
        &view,
        Page {
            crumbs: &[("Event types", view.path("event-types"))],
            meta,
            acts,
            body,
            ..Page::new(&of.name, Section::EventTypes)
        },
    ))
}

fn validation(of: &EventType) -> &'static str {
    match (&of.schema, &*of.validate) {
        (None, _) => "no schema: any data is accepted",
        (_, "reject") => "data that does not satisfy the schema is refused",
        (_, "warn") => "data that does not satisfy the schema is accepted, and told",
        _ => "data is not held against the schema",
    }
}

/// The schema that is asked for, by its number, or else the one in force; and an example.
fn schema(view: &View, of: &EventType, versions: &[Version]) -> Markup {
    let asked = view
        .query
        .get("version")
        .and_then(|text| text.parse::<u64>().ok());
    let asked = asked.and_then(|number| versions.iter().find(|one| one.version == number));
    let (number, text) = match (asked, &of.schema) {
        (Some(one), _) => (Some(one.version), Some(one.schema.get())),
        (None, Some(schema)) => (of.schema_version, Some(schema.get())),
        (None, None) => (None, None),
    };
    let Some(text) = text else {
        let hint = html! { "Its events are accepted whatever their data is." };
        let acts = html! {
            @if view.may(Scope::EndpointsWrite) {
                a.btn href=(format!("{}/edit", view.path_of("event-types", &of.name))) { "Add a schema" }
            }
        };
        return html! { div.card { (parts::empty("No schema", hint, acts)) } };
    };
    let title = match number {
        Some(number) if of.schema_version == Some(number) => format!("Schema, version {number}"),
        Some(number) => format!("Schema, version {number}, not in force"),
        None => "Schema".to_owned(),
    };
    let example =
        serde_json::from_str::<Value>(text).map(|schema| example::of(&schema).to_string());
    html! {
        (parts::code(&title, text, parts::json(text, SCHEMA_CHARS_MAX)))
        @if let Ok(example) = &example {
            (parts::code("Example of its data", example, parts::json(example, SCHEMA_CHARS_MAX)))
        }
    }
}

fn rows_of_versions(view: &View, of: &EventType, versions: &[Version]) -> Markup {
    let at = view.path_of("event-types", &of.name);
    html! {
        @if !versions.is_empty() {
            section.card aria-labelledby="versions" {
                header { h2 #versions { "Versions" } }
                ul.rows {
                    @for one in versions {
                        li {
                            (icon("types"))
                            p {
                                a href=(href(&at, &[("version", Some(&one.version.to_string()))])) { "Version " (one.version) }
                                @if of.schema_version == Some(one.version) { " · in force" }
                                br;
                                span.soft { "since " (parts::time(one.created_at.0, TimeFormat::Full)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn is_taken(patterns: &[String], name: &str) -> bool {
    let patterns = patterns
        .iter()
        .filter_map(|text| TypePattern::parse(text).ok());
    patterns.into_iter().any(|pattern| pattern.matches(name))
}

/// Who gets its events, of the endpoints and meters that the API lists first.
fn takers(
    view: &View,
    of: &EventType,
    endpoints: Option<Endpoints>,
    meters: Option<Meters>,
) -> Markup {
    let has_more = endpoints
        .as_ref()
        .is_some_and(|page| page.next_cursor.is_some());
    let endpoints = endpoints.into_iter().flat_map(|page| page.data);
    let endpoints = endpoints.filter(|endpoint| is_taken(&endpoint.event_types, &of.name));
    let endpoints: Vec<Endpoint> = endpoints.collect();
    let meters = meters.into_iter().flat_map(|page| page.data);
    let meters = meters.filter(|meter| is_taken(std::slice::from_ref(&meter.event_type), &of.name));
    let meters: Vec<Meter> = meters.collect();
    html! {
        section.card aria-labelledby="who" {
            header { h2 #who { "Who takes it" } }
            @if endpoints.is_empty() && meters.is_empty() {
                p.in.soft { "No endpoint takes events of this type, and no meter counts them." }
            } @else {
                ul.rows {
                    @for endpoint in endpoints.iter().take(TAKERS_MAX) { (endpoint_row(view, endpoint)) }
                    @for meter in meters.iter().take(TAKERS_MAX) {
                        li {
                            (icon("meters"))
                            p { a href=(view.path_of("meters", &meter.id)) { bdi { (meter.name) } } br; span.soft { (meter.counts()) } }
                        }
                    }
                }
            }
            @if has_more || endpoints.len() > TAKERS_MAX {
                footer { span { "Of the first 100 endpoints, up to " (TAKERS_MAX) " are shown" } }
            }
        }
    }
}

fn endpoint_row(view: &View, endpoint: &Endpoint) -> Markup {
    let name = match &*endpoint.description {
        "" => &endpoint.url,
        description => description,
    };
    let is_off = endpoint.state != "enabled";
    html! {
        li {
            (icon("endpoints"))
            p {
                a.cut href=(view.path_of("endpoints", &endpoint.id)) title=(endpoint.url) { bdi { (name) } }
                br;
                span.soft {
                    @match &endpoint.tenant {
                        Some(tenant) => { "of tenant " bdi { (tenant) } }
                        None => { "of every tenant" }
                    }
                    @if is_off { " · " (parts::state(Tone::Off, "minus", "Disabled")) }
                }
            }
        }
    }
}
