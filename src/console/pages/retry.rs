//! Retrying: one delivery, or all that match.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use jiff::SignedDuration;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::deliveries::{address, delivery_id, endpoints};
use super::event::endpoint::Endpoint;
use crate::app;
use crate::console::delivery::Delivery;
use crate::console::form::Form;
use crate::console::inputs;
use crate::console::inputs::select;
use crate::console::layout::{Page, Section, form, page, see_other};
use crate::console::listing::{Span, shortened, written};
use crate::console::pairs::{Pairs, href};
use crate::console::parts::{icon, id, number};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

/// What the retry of many is narrowed by, as the API calls it.
const NARROWED: [&str; 6] = ["endpoint_id", "state", "since", "until", "type", "tenant"];

/// How many a recovery would begin.
#[derive(Debug, Deserialize)]
struct Preview {
    count: u64,
    is_exact: bool,
}

#[derive(Debug, Deserialize)]
struct Begun {
    id: String,
}

/// The page that asks before a delivery is attempted now. One call of the API.
pub async fn ask_one(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let delivery = delivery_id(&path)?;
    let found: Delivery = view.get(&format!("/v1/deliveries/{delivery}")).await?;
    let fields = html! {
        div.acts {
            button.btn.primary { (icon("retry")) "Retry now" }
            a.btn href=(address(&view, &delivery)) { "Cancel" }
        }
    };
    let to = view.path(&format!("deliveries/{delivery}/retry"));
    let crumbs = [("Deliveries", view.path("deliveries"))];
    Ok(page(
        &view,
        Page {
            crumbs: &crumbs,
            meta: html! { span { (id(delivery.as_str())) } },
            body: html! {
                div.card { div.in.stack {
                    p { (found.standing().mark()) " after " (found.attempts_made) " attempts. It is attempted at once, and begins a new round of the schedule if that fails." }
                    (form(&view, &to, fields))
                } }
            },
            ..Page::new("Retry this delivery?", Section::Deliveries)
        },
    ))
}

/// Attempts a delivery now. One call of the API.
pub async fn one(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
    form: Form,
) -> Result<Response, Refusal> {
    let delivery = delivery_id(&path)?;
    let to = format!("/v1/deliveries/{delivery}/retry");
    view.send(Method::POST, &to, None, Some(form.once()))
        .await?;
    Ok(see_other(&address(&view, &delivery), "retried"))
}

/// The page that asks before all that match are attempted again, and says how many they
/// are. Two calls of the API at once.
pub async fn ask_many(view: View) -> Result<Response, Refusal> {
    let wanted = wanted(&view, &view.query);
    show(&view, &wanted, None).await
}

/// Attempts all that match again. One call of the API.
pub async fn many(view: View, form: Form) -> Result<Response, Refusal> {
    let wanted = wanted(&view, &form.pairs);
    let filled = wanted
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?)));
    let body: Map<String, Value> = filled
        .map(|(name, value)| (name.to_owned(), value.as_str().into()))
        .collect();
    let begun = view
        .send(
            Method::POST,
            "/v1/deliveries/retry",
            Some(&body.into()),
            Some(form.once()),
        )
        .await;
    match begun.map(serde_json::from_value::<Begun>) {
        Ok(Ok(begun)) => Ok(see_other(
            &view.path_of("recoveries", &begun.id),
            "recovering",
        )),
        Ok(Err(_)) => Ok(see_other(&view.path("recoveries"), "recovering")),
        Err(refusal) if refusal.is_about_input() || refusal.status == 404 => {
            show(&view, &wanted, Some(refusal)).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// What is asked for, with a beginning: no event is kept for longer than the days before
/// now.
fn wanted(view: &View, given: &Pairs) -> Vec<(&'static str, Option<String>)> {
    let now = app::now();
    let kept = SignedDuration::from_hours(24 * i64::from(view.console.app.config.retention_days));
    let span = Span::of(given, now);
    let since = span
        .since
        .or_else(|| now.checked_sub(kept).ok().map(written));
    let value = |name| match name {
        "since" => since.clone(),
        "until" => span.until.clone(),
        name => given.get(name).map(str::to_owned),
    };
    NARROWED.iter().map(|name| (*name, value(name))).collect()
}

async fn show(
    view: &View,
    wanted: &[(&'static str, Option<String>)],
    refused: Option<Refusal>,
) -> Result<Response, Refusal> {
    let is_one = |name: &str| {
        wanted
            .iter()
            .any(|(given, value)| *given == name && value.is_some())
    };
    let mut pairs = vec![("kind", Some("retry"))];
    pairs.extend(wanted.iter().map(|(name, value)| (*name, value.as_deref())));
    let preview = async {
        let is_enough = refused.is_none() && is_one("endpoint_id") && is_one("state");
        match is_enough {
            true => view
                .get(&href("/v1/recoveries/preview", &pairs))
                .await
                .map(Some),
            false => Ok(None),
        }
    };
    let (preview, endpoints) = tokio::join!(preview, endpoints(view));
    let (preview, refused): (Option<Preview>, _) = match (preview, refused) {
        (Ok(preview), refused) => (preview, refused),
        (Err(refusal), _) if refusal.is_about_input() || refusal.status == 404 => {
            (None, Some(refusal))
        }
        (Err(refusal), _) => return Err(refusal),
    };
    let crumbs = [("Deliveries", view.path("deliveries"))];
    let body = html! {
        @if let Some(refusal) = &refused { (inputs::refused(refusal)) }
        div.card { div.in.stack {
            (said(wanted, &endpoints))
            @match &preview {
                Some(preview) => (confirm(view, wanted, preview)),
                None => (choose(view, wanted, &endpoints)),
            }
        } }
    };
    let mut response = page(
        view,
        Page {
            crumbs: &crumbs,
            body,
            ..Page::new("Retry all that match?", Section::Deliveries)
        },
    );
    if let Some(refusal) = &refused {
        *response.status_mut() = refusal.status_code();
    }
    Ok(response)
}

/// What they are narrowed to.
fn said(wanted: &[(&'static str, Option<String>)], endpoints: &[Endpoint]) -> Markup {
    let word = |name: &str| match name {
        "endpoint_id" => "Endpoint",
        "state" => "State",
        "since" => "Created from",
        "until" => "Created before",
        "type" => "Type",
        _ => "Tenant",
    };
    let shown = |name: &str, value: &str| match endpoints.iter().find(|one| one.id == value) {
        Some(endpoint) if name == "endpoint_id" => endpoint.name(),
        _ => shortened(value),
    };
    html! {
        dl.kv {
            @for (name, value) in wanted {
                @if let Some(value) = value { dt { (word(name)) } dd { bdi { (shown(name, value)) } } }
            }
        }
    }
}

fn confirm(view: &View, wanted: &[(&'static str, Option<String>)], preview: &Preview) -> Markup {
    if preview.count == 0 && preview.is_exact {
        return html! {
            p { "No delivery matches: there is nothing to retry." }
            div.acts { a.btn href=(view.path("deliveries")) { "Back to deliveries" } }
        };
    }
    let many = match preview.is_exact {
        true => number(preview.count),
        false => format!("more than {}", number(preview.count)),
    };
    let fields = html! {
        @for (name, value) in wanted {
            @if let Some(value) = value { input type="hidden" name=(name) value=(value); }
        }
        div.acts {
            button.btn.primary { (icon("retry")) "Retry " (many) }
            a.btn href=(view.path("deliveries")) { "Cancel" }
        }
    };
    html! {
        p { "Each is attempted again, the newest first and some a second, and begins a new round of the schedule." }
        (form(view, &view.path("deliveries/retry"), fields))
    }
}

/// Of which endpoint, and which state, where that is not said.
fn choose(
    view: &View,
    wanted: &[(&'static str, Option<String>)],
    endpoints: &[Endpoint],
) -> Markup {
    let value = |wanted_name: &str| {
        let found = wanted.iter().find(|(name, _)| *name == wanted_name);
        found
            .and_then(|(_, value)| value.as_deref())
            .unwrap_or_default()
    };
    let names: Vec<_> = endpoints
        .iter()
        .map(|one| (one.id.as_str(), one.name()))
        .collect();
    let options = names.iter().map(|(id, name)| (*id, name.as_str()));
    html! {
        p { "Deliveries are retried at one endpoint at a time, so that none is flooded." }
        form.form action=(view.path("deliveries/retry")) {
            @for name in ["since", "until", "type", "tenant"] {
                @if !value(name).is_empty() { input type="hidden" name=(name) value=(value(name)); }
            }
            (select("endpoint_id", "Endpoint", options, value("endpoint_id"), None))
            (select("state", "State", [("failed", "Failed"), ("canceled", "Canceled")], value("state"), None))
            div.acts { button.btn.primary { "Show how many" } }
        }
    }
}
