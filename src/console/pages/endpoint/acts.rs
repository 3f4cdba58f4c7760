//! Turning an endpoint on and off, and deleting it.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use serde_json::json;

use super::ask::{Question, address, api_path, endpoint, other_name, question};
use super::shown::Endpoint;
use crate::console::form::Form;
use crate::console::inputs::Errors;
use crate::console::layout::see_other;
use crate::console::parts::{Field, field};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

type Named = Path<(String, String)>;

/// `GET …/endpoints/{id}/disable`. One call of the API.
pub async fn ask_disable(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    Ok(question(&view, &found, disabling(), None))
}

/// `POST …/endpoints/{id}/disable`. One call of the API.
pub async fn disable(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    switch(&view, &id, &form, "disabled").await
}

/// `GET …/endpoints/{id}/enable`. One call of the API.
pub async fn ask_enable(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    Ok(question(&view, &found, enabling(), None))
}

/// `POST …/endpoints/{id}/enable`. One call of the API.
pub async fn enable(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    switch(&view, &id, &form, "enabled").await
}

async fn switch(view: &View, id: &str, form: &Form, state: &str) -> Result<Response, Refusal> {
    let body = json!({ "state": state });
    let path = api_path(id, "");
    let changed = view.send(Method::PATCH, &path, Some(&body), Some(form.once()));
    match changed.await {
        Ok(_) => Ok(see_other(&address(view, id, ""), state)),
        Err(refusal) if refusal.is_about_input() => {
            let found = endpoint(view, id).await?;
            let asked = if state == "enabled" {
                enabling()
            } else {
                disabling()
            };
            Ok(question(view, &found, asked, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn disabling() -> Question<'static> {
    Question {
        title: "Turn it off?",
        body: html! {
            p { "New events pass it by; recover them later with “Send what never went”." }
            p { "What is pending waits until the endpoint is turned on, or is forgotten with its event." }
        },
        deed: "Turn off",
        is_danger: true,
        to: "/disable",
    }
}

fn enabling() -> Question<'static> {
    Question {
        title: "Turn it on?",
        body: html! { p { "New events are sent to it, and what is pending goes on: up to 500 deliveries at once, more within 15 minutes." } },
        deed: "Turn on",
        is_danger: false,
        to: "/enable",
    }
}

/// `GET …/endpoints/{id}/delete`. One call of the API.
pub async fn ask_delete(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    Ok(question(&view, &found, deleting(&found, "", None), None))
}

/// `POST …/endpoints/{id}/delete`. Two calls of the API.
pub async fn delete(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    let typed = form.text("name");
    if typed.trim() != found.name().trim() {
        let refusal = other_name();
        let asked = deleting(&found, typed, Some(&refusal));
        return Ok(question(&view, &found, asked, Some(&refusal)));
    }
    view.send(Method::DELETE, &api_path(&id, ""), None, None)
        .await?;
    Ok(see_other(&view.path("endpoints"), "deleted"))
}

fn deleting<'a>(found: &Endpoint, typed: &str, refusal: Option<&Refusal>) -> Question<'a> {
    let error = Errors(refusal).of("name");
    Question {
        title: "Delete this endpoint?",
        body: html! {
            p { "Nothing is sent to it any more, and its pending deliveries are canceled. Its attempts stay with their events." }
            (name_field(found.name(), typed, error.as_deref()))
        },
        deed: "Delete endpoint",
        is_danger: true,
        to: "/delete",
    }
}

fn name_field(name: &str, typed: &str, error: Option<&str>) -> Markup {
    html! {
        p.small.soft { "Its name is " strong { bdi { (name) } } "." }
        (field(&Field {
            name: "name",
            label: "Type its name",
            value: typed,
            error,
            is_required: true,
            ..Field::default()
        }))
    }
}
