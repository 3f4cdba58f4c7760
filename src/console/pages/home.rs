//! The way in: to the project that is there, or to the list of them.

use axum::response::{IntoResponse, Redirect, Response};

use crate::console::api::Refusal;

use crate::console::visit::Visitor;

/// Goes to the overview of the project that the session is of, or to the list of all.
pub async fn home(visitor: Visitor) -> Response {
    match visitor.session.project() {
        Some(project) => Redirect::to(&format!("/console/{project}")).into_response(),
        None => Redirect::to("/console/projects").into_response(),
    }
}

/// Whatever else is asked for.
pub async fn unknown(_: Visitor) -> Refusal {
    Refusal::not_found("there is no such page in the console")
}
