//! The form of an endpoint: to add one, and to change one.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};

use super::ask::{address, api_path, endpoint, framed, with_status};
use super::fields;
use super::shown::Endpoint;
use crate::console::form::{Form, form_tokens};
use crate::console::inputs::refused;
use crate::console::layout::{Page, Section, page, see_other};
use crate::console::pairs::Pairs;
use crate::console::refusal::Refusal;
use crate::console::visit::View;

type Named = Path<(String, String)>;

/// `GET …/endpoints/new`. No call of the API.
pub async fn new(view: View) -> Response {
    let typed = Pairs::parse(b"body_format=cloudevents");
    adding(&view, &typed, None)
}

/// `POST …/endpoints/new`. One call of the API.
pub async fn create(view: View, form: Form) -> Result<Response, Refusal> {
    let body = match fields::body(&form.pairs, None, has_tenant(&view)) {
        Ok(body) => body,
        Err(refusal) => return Ok(adding(&view, &form.pairs, Some(&refusal))),
    };
    let made = view.send(
        Method::POST,
        "/v1/endpoints",
        Some(&body),
        Some(form.once()),
    );
    match made.await {
        Ok(made) => {
            let id = made["id"].as_str().unwrap_or_default();
            Ok(see_other(&address(&view, id, ""), "created"))
        }
        Err(refusal) if refusal.is_about_input() => Ok(adding(&view, &form.pairs, Some(&refusal))),
        Err(refusal) => Err(refusal),
    }
}

/// `GET …/endpoints/{id}/edit`. One call of the API.
pub async fn edit(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    Ok(changing(&view, &found, &fields::of(&found), None))
}

/// `POST …/endpoints/{id}/edit`. Two calls of the API.
pub async fn update(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    let body = match fields::body(&form.pairs, Some(&found), has_tenant(&view)) {
        Ok(body) => body,
        Err(refusal) => return Ok(changing(&view, &found, &form.pairs, Some(&refusal))),
    };
    match view
        .send(Method::PATCH, &api_path(&id, ""), Some(&body), None)
        .await
    {
        Ok(_) => Ok(see_other(&address(&view, &found.id, ""), "saved")),
        Err(refusal) if refusal.is_about_input() => {
            Ok(changing(&view, &found, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Whether a tenant can be chosen: a session of one tenant has that one.
fn has_tenant(view: &View) -> bool {
    view.session.reach.tenant().is_none()
}

fn adding(view: &View, typed: &Pairs, refusal: Option<&Refusal>) -> Response {
    let back = view.path("endpoints");
    let fields = fields::shown(typed, None, has_tenant(view), refusal);
    let body = form(
        view,
        &view.path("endpoints/new"),
        &back,
        "Add the endpoint",
        fields,
        refusal,
    );
    let crumbs = [("Endpoints", back)];
    let shown = page(
        view,
        Page {
            crumbs: &crumbs,
            meta: html! { span { "Its signing secret is shown on its page" } },
            body,
            ..Page::new("Add an endpoint", Section::Endpoints)
        },
    );
    with_status(shown, refusal)
}

fn changing(view: &View, found: &Endpoint, typed: &Pairs, refusal: Option<&Refusal>) -> Response {
    let fields = fields::shown(typed, Some(found), has_tenant(view), refusal);
    let (to, back) = (
        address(view, &found.id, "/edit"),
        address(view, &found.id, ""),
    );
    let body = form(view, &to, &back, "Save", fields, refusal);
    with_status(framed(view, found, "Edit", body), refusal)
}

fn form(
    view: &View,
    to: &str,
    back: &str,
    deed: &str,
    fields: Markup,
    refusal: Option<&Refusal>,
) -> Markup {
    html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        form.card method="post" action=(to) {
            (form_tokens(view))
            div.in.form { (fields) }
            footer {
                a.btn href=(back) { "Cancel" }
                button.btn.primary { (deed) }
            }
        }
    }
}
