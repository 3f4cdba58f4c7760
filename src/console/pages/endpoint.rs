//! The page of an endpoint: what is wrong with it first, then how it does, then what it
//! is set to.

pub mod acts;
mod ask;
pub mod edit;
mod fields;
mod health;
pub mod resend;
pub mod secret;
pub mod shown;
pub mod test;

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};

use self::ask::{address, api_path, endpoint};
use self::health::Health;
use self::shown::{Delivery, Endpoint, Listed, Recovery, Stats};
use crate::console::form::form_tokens;
use crate::console::layout::{Live, Page, Section, page, part};
use crate::console::pairs::href;
use crate::console::parts::{TimeFormat, copy, icon, id, mid, short, time};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;

/// Deliveries shown.
const DELIVERIES: &str = "10";
/// Recoveries looked at for those that run at this endpoint.
const RECOVERIES: &str = "20";

/// `…/endpoints/{id}`: four calls of the API, of which only the first must succeed; as
/// many for a part that is asked for by itself.
pub async fn show(
    view: View,
    Path((_, named)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let stats_path = api_path(&named, "/stats");
    let deliveries_path = href(
        "/v1/deliveries",
        &[("endpoint_id", Some(&named)), ("limit", Some(DELIVERIES))],
    );
    let recoveries_path = href("/v1/recoveries", &[("limit", Some(RECOVERIES))]);
    let (endpoint, stats, deliveries, recoveries) = tokio::join!(
        endpoint(&view, &named),
        view.get::<Stats>(&stats_path),
        view.get::<Listed<Delivery>>(&deliveries_path),
        view.get::<Listed<Recovery>>(&recoveries_path),
    );
    let endpoint = endpoint?;
    let recoveries = recoveries.unwrap_or_default().data.into_iter();
    let of_it = recoveries.filter(|one| one.endpoint_id.as_deref() == Some(&*endpoint.id));
    let health = Health {
        stats: stats.ok(),
        deliveries: deliveries.unwrap_or_default().data,
        running: of_it.filter(Recovery::is_running).collect(),
    };
    Ok(match view.part() {
        Some("health") => part(health.now(&view, &endpoint)),
        Some("deliveries") => part(health.latest(&view, &endpoint)),
        _ => whole(&view, &endpoint, &health),
    })
}

fn whole(view: &View, endpoint: &Endpoint, health: &Health) -> Response {
    let body = html! {
        (health.now(view, endpoint))
        div.wide {
            (health.latest(view, endpoint))
            (settings(view, endpoint))
        }
    };
    let crumbs = [("Endpoints", view.path("endpoints"))];
    page(
        view,
        Page {
            crumbs: &crumbs,
            meta: meta(endpoint),
            acts: acts(view, endpoint),
            live: Live::Yes,
            body,
            ..Page::new(endpoint.name(), Section::Endpoints)
        },
    )
}

fn meta(endpoint: &Endpoint) -> Markup {
    html! {
        span { span.id { code { (mid(&endpoint.url)) } (copy(&endpoint.url, "Copy the URL")) } }
        @if let Some(tenant) = &endpoint.tenant { span { "for " bdi { (tenant) } } }
        span { (id(&endpoint.id)) }
    }
}

/// What can be done: of it, what the session may.
fn acts(view: &View, endpoint: &Endpoint) -> Markup {
    let to = |rest: &str| address(view, &endpoint.id, rest);
    let (may_write, may_send) = (
        view.may(Scope::EndpointsWrite),
        view.may(Scope::EventsWrite),
    );
    html! {
        @if may_write && endpoint.is_enabled() {
            form method="post" action=(to("/test")) {
                (form_tokens(view))
                button.btn { (icon("send")) "Send test" }
            }
        }
        @if may_write && !endpoint.is_enabled() {
            form method="post" action=(to("/enable")) {
                (form_tokens(view))
                button.btn.primary { (icon("check")) "Turn on" }
            }
        }
        @if may_send { a.btn href=(to("/recover")) { (icon("retry")) "Recover" } }
        @if may_write || may_send {
            details.menu name="menu" {
                summary.btn aria-label="More actions" { (icon("dots")) }
                ul {
                    @if may_send { li { a href=(to("/replay-missing")) { "Send what never went" } } }
                    @if may_write {
                        li { a href=(to("/edit")) { "Edit" } }
                        li { a href=(to("/rotate")) { "Rotate the secret" } }
                        @if endpoint.is_enabled() { li { a href=(to("/disable")) { "Turn off" } } }
                        li { a.danger href=(to("/delete")) { "Delete" } }
                    }
                }
            }
        }
    }
}

fn settings(view: &View, endpoint: &Endpoint) -> Markup {
    let to = |rest: &str| address(view, &endpoint.id, rest);
    let may_write = view.may(Scope::EndpointsWrite);
    html! {
        section.card aria-labelledby="set" {
            header {
                h2 #set { "Settings" }
                @if may_write { a.small href=(to("/edit")) { "Edit" } }
            }
            dl.kv.in {
                dt { "Takes" }
                dd { @for takes in &endpoint.event_types { span.tag.mono { bdi { (takes) } } " " } }
                dt { "Tenant" } dd { (or_none(endpoint.tenant.as_deref())) }
                dt { "Your id" } dd { (or_none(endpoint.uid.as_deref())) }
                dt { "Body" } dd { (body_of(endpoint)) }
                dt { "Rate" } dd { (rate(endpoint)) }
                dt { "Secret" }
                dd {
                    @if may_write {
                        form method="post" action=(to("/secret")) {
                            (form_tokens(view))
                            code { "whsec_••••••••" } " "
                            button.btn.slim { "Show" }
                        }
                    } @else { code { "••••••••" } }
                }
                dt { "Sign-in" }
                dd {
                    @match &endpoint.auth {
                        Some(auth) => { (auth.kind) ", values hidden" },
                        None => span.faint { "none" },
                    }
                }
                dt { "Headers" }
                dd {
                    @if endpoint.headers.is_empty() { span.faint { "none" } }
                    @for name in endpoint.headers.keys() { code { bdi { (name) } } " " }
                }
                dt { "Certificate" }
                dd {
                    @match &endpoint.client_certificate {
                        Some(one) => code title=(one.sha256) { (short(&one.sha256)) },
                        None => span.faint { "none" },
                    }
                }
                @for (name, value) in &endpoint.metadata {
                    dt { bdi { (name) } } dd { bdi { (value) } }
                }
                dt { "Created" } dd { (time(endpoint.created_at, TimeFormat::Date)) }
                dt { "Changed" } dd { (time(endpoint.updated_at, TimeFormat::Date)) }
            }
        }
    }
}

fn or_none(text: Option<&str>) -> Markup {
    html! {
        @match text {
            Some(text) => bdi { (text) },
            None => span.faint { "none" },
        }
    }
}

fn body_of(endpoint: &Endpoint) -> Markup {
    html! {
        @match endpoint.content_type.as_deref() {
            Some(content_type) => { "CloudEvent in JSON, as " code { (content_type) } },
            None => "the event's data, its attributes as headers",
        }
    }
}

fn rate(endpoint: &Endpoint) -> Markup {
    html! {
        @match endpoint.rate_limit {
            Some(rate) => { (rate) " a second" },
            None => span.faint { "no limit" },
        }
        @if let Some(most) = endpoint.max_concurrency { ", " (most) " at once" }
    }
}
