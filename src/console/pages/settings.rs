//! Settings: what the project is, and what this Millrace is configured to do. One call of
//! the API; the rest is the configuration, which is shown whole to an admin alone, with
//! its secrets masked.

use std::time::Duration;

use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::config::Config;
use crate::console::layout::{Page, Section, page};
use crate::console::parts;
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::session::{AGE_MAX, IDLE_MAX};

#[derive(Deserialize)]
struct SourceAddresses {
    addresses: Vec<String>,
}

/// `GET …/settings`.
pub async fn show(view: View) -> Result<Response, Refusal> {
    let addresses = match view.may(Scope::EndpointsRead) {
        true => {
            view.get::<SourceAddresses>("/v1/source-addresses")
                .await?
                .addresses
        }
        false => vec![],
    };
    let config = &view.console.app.config;
    let body = html! {
        div.two {
            (project(&view))
            (session(&view))
            (limits(config))
            (delivery(config, &addresses))
        }
        @if view.is_admin() { (effective(config)) }
    };
    let acts = html! {
        @if view.session.reach.tenant().is_none() {
            a.btn href=(view.path("erasures")) { "Erasures" }
        }
        @if view.is_admin() { a.btn href="/console/projects" { "All projects" } }
    };
    Ok(page(
        &view,
        Page {
            acts,
            body,
            ..Page::new("Settings", Section::Settings)
        },
    ))
}

fn card(id: &str, title: &str, rows: Markup) -> Markup {
    html! {
        section.card aria-labelledby=(id) {
            header { h2 id=(id) { (title) } }
            dl.kv.in { (rows) }
        }
    }
}

fn project(view: &View) -> Markup {
    let rows = html! {
        dt { "Name" } dd { bdi { (view.project_name) } }
        dt { "Id" } dd { (parts::id(view.project.as_str())) }
        dt { "Version" } dd { "Millrace " (env!("CARGO_PKG_VERSION")) }
    };
    card("s-project", "Project", rows)
}

fn session(view: &View) -> Markup {
    let session = &view.session;
    let rows = html! {
        dt { "Signed in as" } dd { bdi { (session.name()) } }
        dt { "Sees" } dd {
            @match (session.project(), session.reach.tenant()) {
                (_, Some(tenant)) => { "what is of " bdi { (tenant) } },
                (Some(_), None) => "this project",
                (None, None) => "all projects",
            }
        }
        dt { "May" } dd {
            @if view.is_admin() { "everything" } @else {
                @for scope in session.scopes.iter() { code { (scope.as_str()) } " " }
            }
        }
        dt { "Ends" } dd {
            (parts::time(session.ends, parts::TimeFormat::Full)) ", or when it idles for "
            (length(IDLE_MAX.unsigned_abs()))
        }
        dt { "At most" } dd { (length(AGE_MAX.unsigned_abs())) }
    };
    card("s-session", "Session", rows)
}

fn limits(config: &Config) -> Markup {
    let rows = html! {
        dt { "Events are kept" } dd { (config.retention_days) " days" }
        dt { "Largest event" } dd { (parts::number(config.http.body_bytes_max as u64)) " bytes" }
        dt { "Events a second" } dd {
            @match config.http.events_per_second_max {
                0 => "no limit but a key's own",
                max => { (parts::number(max.into())) " a key, unless it has its own limit" },
            }
        }
    };
    card("s-limits", "Limits", rows)
}

fn delivery(config: &Config, addresses: &[String]) -> Markup {
    let delivery = &config.delivery;
    let rows = html! {
        dt { "Attempts" } dd {
            @for (place, wait) in delivery.retry_schedule.iter().enumerate() {
                @if place > 0 { ", " }
                @if wait.is_zero() { "at once" } @else { "after " (length(*wait)) }
            }
        }
        dt { "Waits for an answer" } dd { (length(delivery.timeout)) }
        dt { "Come from" } dd {
            @if addresses.is_empty() { span.faint { "addresses that are not known, or change" } }
            @for address in addresses { code { (address) } " " }
        }
    };
    card("s-delivery", "Webhooks", rows)
}

fn length(time: Duration) -> String {
    parts::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// What is in force, as whoever runs this Millrace has it from `millrace config`.
fn effective(config: &Config) -> Markup {
    let text = config.masked_toml();
    html! {
        section aria-labelledby="s-config" {
            h2.sr #s-config { "Configuration" }
            (parts::code("Configuration in force, secrets masked", &text, html! { (text) }))
        }
    }
}
