//! The first steps of a project in which nothing has happened: where webhooks go, how an
//! event is published, and that it arrives.

use maud::{Markup, html};

use super::latest::Event;
use super::period::part_path;
use crate::console::layout::{Live, Page, Section};
use crate::console::parts::{copy, cut, icon};
use crate::console::visit::{View, is_loopback};
use crate::model::api_key::Scope;

/// The page.
pub(super) fn page<'a>(view: &View) -> Page<'a> {
    let address = address(view);
    Page {
        meta: html! { span { (cut(&view.project_name)) } span { "about two minutes" } },
        live: Live::Yes,
        body: html! {
            div.wide {
                ol.steps {
                    (receive(view))
                    (publish(view, &address))
                    li {
                        h2 { "Watch it arrive" }
                        (arrival(view, None))
                    }
                }
                div.stack { (facts(view, &address)) (then(view)) }
            }
        },
        ..Page::new("Three steps to the first webhook", Section::Overview)
    }
}

/// Where this is reached, as the browser has it.
fn address(view: &View) -> String {
    let host = view.headers.get("host").and_then(|host| host.to_str().ok());
    let scheme = if is_loopback(&view.headers) {
        "http"
    } else {
        "https"
    };
    format!("{scheme}://{}", host.unwrap_or("localhost:8080"))
}

fn receive(view: &View) -> Markup {
    html! {
        li {
            h2 { "Receive" }
            p.soft {
                "An endpoint is a URL that events are posted to, each request signed. Millrace "
                "keeps every event and tries again for three days, whatever the URL answers."
            }
            @if view.may(Scope::EndpointsWrite) {
                p { a.btn href=(view.path("endpoints/new")) { "Add an endpoint" } }
            }
        }
    }
}

fn publish(view: &View, address: &str) -> Markup {
    let curl = format!(
        r#"curl {address}/v1/events \
  -H "Authorization: Bearer $MILLRACE_KEY" \
  -H 'Content-Type: application/json' \
  -d '{{"type": "user.created", "tenant": "quillmere", "data": {{"plan": "pro"}}}}'"#
    );
    let python = format!(
        r#"import os, requests

requests.post(
    "{address}/v1/events",
    headers={{"Authorization": "Bearer " + os.environ["MILLRACE_KEY"]}},
    json={{"type": "user.created", "tenant": "quillmere", "data": {{"plan": "pro"}}}},
).raise_for_status()"#
    );
    html! {
        li {
            h2 { "Publish" }
            p.soft { "Once for each thing that happens in your product. Publishing the same again changes nothing." }
            div.switch.stack {
                div.seg role="radiogroup" aria-label="Language" {
                    input type="radio" name="lang" id="l1" checked; label for="l1" { "curl" }
                    input type="radio" name="lang" id="l2"; label for="l2" { "Python" }
                }
                div.panes { (code("curl", &curl)) (code("Python", &python)) }
            }
            @if view.may(Scope::EventsWrite) {
                p.small.soft { "Or " a href=(view.path("send")) { "send one from here" } "." }
            }
        }
    }
}

fn code(title: &str, text: &str) -> Markup {
    html! {
        div {
            div.code.fold {
                header { span { (title) } (copy(text, &format!("Copy {title}"))) }
                pre tabindex="0" role="group" aria-label=(title) { code { (text) } }
            }
        }
    }
}

/// Whether the first event has come, which is brought up to date by itself until it has.
pub(super) fn arrival(view: &View, first: Option<&Event>) -> Markup {
    match first {
        None => html! {
            div #first.card.empty data-live="swap" data-src=(part_path(view, "first")) {
                p { span.live { "Waiting for the first event" } }
                p.small { "It appears here the moment it is accepted, with every attempt and answer." }
            }
        },
        Some(event) => html! {
            div #first.card.empty {
                p { (icon("check")) " The first event is here" }
                p { a.btn.primary href=(view.path_of("events", &event.id)) { "Open the event" } }
            }
        },
    }
}

fn facts(view: &View, address: &str) -> Markup {
    html! {
        section.card aria-labelledby="you" {
            header { h2 #you { "Your Millrace" } }
            dl.kv.in {
                dt { "Address" }
                dd { span.id { code { (address) } (copy(address, "Copy the address")) } }
                dt { "Project" }
                dd { (cut(&view.project_name)) }
                @if view.is_admin() {
                    dt { "Key" }
                    dd { a href=(view.path("keys")) { "Keys of the project" } }
                }
                dt { "Version" }
                dd { (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
}

fn then(view: &View) -> Markup {
    let steps = [
        (
            Scope::EndpointsWrite,
            "endpoints",
            "endpoints/new",
            "Add an endpoint",
            " for a customer’s URL",
        ),
        (
            Scope::EndpointsWrite,
            "types",
            "event-types/new",
            "Register a type",
            " so that wrong events are refused",
        ),
        (
            Scope::MetersWrite,
            "meters",
            "meters/new",
            "Create a meter",
            " to count and bill",
        ),
    ];
    let steps: Vec<_> = steps.into_iter().filter(|step| view.may(step.0)).collect();
    html! {
        @if !steps.is_empty() {
            section.card aria-labelledby="then" {
                header { h2 #then { "Then" } }
                ul.rows {
                    @for (_, sign, rest, link, why) in steps {
                        li { (icon(sign)) p { a href=(view.path(rest)) { (link) } (why) } }
                    }
                }
            }
        }
    }
}
