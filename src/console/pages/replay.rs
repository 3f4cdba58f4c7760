//! The page that asks to which endpoints an event is sent again.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::html;
use serde_json::json;

use super::deliveries::endpoints;
use super::event::event_id;
use crate::console::form::Form;
use crate::console::inputs;
use crate::console::inputs::{Errors, select};
use crate::console::layout::{Page, Section, form, page, see_other};
use crate::console::parts::{icon, id};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::id::EventId;

/// What a page needs to see that an event is there.
#[derive(serde::Deserialize)]
struct Event {}

/// The page that asks. Two calls of the API at once.
pub async fn ask(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let event = event_id(&path)?;
    let chosen = view.query.text("endpoint").to_owned();
    show(&view, &event, &chosen, None).await
}

/// Replays the event. One call of the API.
pub async fn begin(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
    form: Form,
) -> Result<Response, Refusal> {
    let event = event_id(&path)?;
    let body = match form.get("endpoint_id") {
        Some(endpoint) => json!({ "endpoint_id": endpoint }),
        None => json!({}),
    };
    let to = format!("/v1/events/{event}/replay");
    match view
        .send(Method::POST, &to, Some(&body), Some(form.once()))
        .await
    {
        Ok(_) => Ok(see_other(
            &view.path(&format!("events/{event}")),
            "replayed",
        )),
        Err(refusal) if refusal.is_about_input() || refusal.status == 404 => {
            show(&view, &event, form.text("endpoint_id"), Some(refusal)).await
        }
        Err(refusal) => Err(refusal),
    }
}

async fn show(
    view: &View,
    event: &EventId,
    chosen: &str,
    refused: Option<Refusal>,
) -> Result<Response, Refusal> {
    let path = format!("/v1/events/{event}");
    let (found, endpoints) = tokio::join!(view.get::<Event>(&path), endpoints(view));
    found?;
    let names: Vec<_> = endpoints
        .iter()
        .map(|one| (one.id.as_str(), one.name()))
        .collect();
    let is_known = chosen.is_empty() || names.iter().any(|(id, _)| *id == chosen);
    let other = (!is_known).then_some((chosen, chosen));
    let options = [("", "All that take its type and tenant now")].into_iter();
    let options = options
        .chain(names.iter().map(|(id, name)| (*id, name.as_str())))
        .chain(other);
    let error = Errors(refused.as_ref()).of("endpoint_id");
    let here = view.path(&format!("events/{event}"));
    let fields = html! {
        (select("endpoint_id", "To", options, chosen, error.as_deref()))
        div.acts {
            button.btn.primary { (icon("retry")) "Replay the event" }
            a.btn href=(here) { "Cancel" }
        }
    };
    let crumbs = [("Events", view.path("events")), ("Event", here.clone())];
    let mut response = page(
        view,
        Page {
            crumbs: &crumbs,
            meta: html! { span { (id(event.as_str())) } },
            body: html! {
                @if let Some(refusal) = &refused { (inputs::refused(refusal)) }
                div.card { div.in.stack {
                    p { "Deliveries that have ended begin anew, with the same " code { "webhook-id" } ", so that a "
                        "receiver can tell it has the event already. Those that are still tried go on as they are." }
                    (form(view, &view.path(&format!("events/{event}/replay")), fields))
                } }
            },
            ..Page::new("Replay this event?", Section::Events)
        },
    );
    if let Some(refusal) = &refused {
        *response.status_mut() = refusal.status_code();
    }
    Ok(response)
}
