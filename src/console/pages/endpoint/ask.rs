//! Pages that ask before something is done to an endpoint, and what they are made of.

use axum::response::Response;
use http::StatusCode;
use maud::{Markup, html};

use super::shown::Endpoint;
use crate::console::form::form_tokens;
use crate::console::inputs::refused;
use crate::console::layout::{Page, Section, page};
use crate::console::pairs::segment;
use crate::console::refusal::Refusal;
use crate::console::visit::View;

/// A question, and the button that does it.
pub struct Question<'a> {
    /// What is asked: the page's heading.
    pub title: &'a str,
    /// What will come of it, and fields.
    pub body: Markup,
    /// What the button says.
    pub deed: &'a str,
    /// Whether it takes something away.
    pub is_danger: bool,
    /// The last part of the address that it is sent to.
    pub to: &'a str,
}

/// The path of the API's endpoint `id`, with what follows.
pub fn api_path(id: &str, rest: &str) -> String {
    format!("/v1/endpoints/{}{rest}", segment(id))
}

/// The address of the page of the endpoint `id`, with what follows.
pub fn address(view: &View, id: &str, rest: &str) -> String {
    format!("{}{rest}", view.path_of("endpoints", id))
}

/// The endpoint `id`.
pub async fn endpoint(view: &View, id: &str) -> Result<Endpoint, Refusal> {
    view.get(&api_path(id, "")).await
}

/// The page of a question about `endpoint`, which was refused before with `refusal`.
pub fn question(
    view: &View,
    endpoint: &Endpoint,
    question: Question<'_>,
    refusal: Option<&Refusal>,
) -> Response {
    let back = address(view, &endpoint.id, "");
    let action = address(view, &endpoint.id, question.to);
    let deed = if question.is_danger {
        "danger primary"
    } else {
        "primary"
    };
    let body = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        form.card method="post" action=(action) {
            (form_tokens(view))
            div.in.form { (question.body) }
            footer {
                a.btn href=(back) { "Keep as it is" }
                button class={ "btn " (deed) } { (question.deed) }
            }
        }
    };
    with_status(framed(view, endpoint, question.title, body), refusal)
}

/// A page below that of `endpoint`.
pub fn framed(view: &View, endpoint: &Endpoint, title: &str, body: Markup) -> Response {
    let crumbs = [
        ("Endpoints", view.path("endpoints")),
        (endpoint.name(), address(view, &endpoint.id, "")),
    ];
    page(
        view,
        Page {
            crumbs: &crumbs,
            meta: html! { span.mono { bdi { (endpoint.url) } } },
            body,
            ..Page::new(title, Section::Endpoints)
        },
    )
}

/// `response`, with the status of what was refused.
pub fn with_status(mut response: Response, refusal: Option<&Refusal>) -> Response {
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

/// That a name was not typed as it is.
pub fn other_name() -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid",
        "Not deleted",
        "expected the name of this endpoint, as it stands above",
    );
    refusal.field = Some("name".to_owned());
    refusal
}
