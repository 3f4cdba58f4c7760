//! The way in: to the project that is there, or to the list of them.

use axum::response::{IntoResponse, Redirect, Response};

use crate::console::pages::projects;
use crate::console::refusal::Refusal;
use crate::console::visit::Visitor;

/// Goes to the overview of the project that the session is of, or to the list of all.
pub async fn home(visitor: Visitor) -> Response {
    match visitor.session.project() {
        Some(project) => Redirect::to(&format!("/console/{project}")).into_response(),
        None => {
            let only = projects::only(&visitor).await;
            let to = only.map_or_else(|| projects::PATH.to_owned(), |id| format!("/console/{id}"));
            Redirect::to(&to).into_response()
        }
    }
}

/// Whatever else is asked for.
pub async fn unknown(_: Visitor) -> Refusal {
    Refusal::not_found("there is no such page in the console")
}
