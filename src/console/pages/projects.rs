//! Projects: the list of all, and a new one. One call of the API.

use axum::response::{IntoResponse, Response};
use http::Method;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use crate::console::form::{Form, form_tokens};
use crate::console::inputs;
use crate::console::layout::{Page, Section, page_of_no_project, see_other};
use crate::console::listing::List;
use crate::console::pairs::href;
use crate::console::parts::{self, Field, TimeFormat};
use crate::console::refusal::Refusal;
use crate::console::visit::Visitor;

/// The address of the list.
pub const PATH: &str = "/console/projects";

#[derive(Deserialize)]
struct Project {
    id: String,
    name: String,
    created_at: Timestamp,
}

/// The only project there is, if there is only one that the visitor may see.
pub async fn only(visitor: &Visitor) -> Option<String> {
    let list = visitor.get::<List<Project>>("/v1/projects?limit=2").await;
    let mut projects = list.ok()?.data;
    let last = projects.pop()?;
    projects.is_empty().then_some(last.id)
}

/// `GET /console/projects`.
pub async fn list(visitor: Visitor) -> Result<Response, Refusal> {
    show(&visitor, "", None).await
}

/// `POST /console/projects`.
pub async fn create(visitor: Visitor, form: Form) -> Result<Response, Refusal> {
    let name = form.text("name");
    let body = json!({ "name": name });
    let made = visitor.send(Method::POST, "/v1/projects", Some(&body), Some(form.once()));
    match made.await {
        Ok(project) => {
            let id = project["id"].as_str().unwrap_or_default();
            Ok(see_other(&format!("/console/{id}"), "project"))
        }
        Err(refusal) if refusal.is_about_input() => show(&visitor, name, Some(&refusal)).await,
        Err(refusal) => Err(refusal),
    }
}

async fn show(
    visitor: &Visitor,
    name: &str,
    refusal: Option<&Refusal>,
) -> Result<Response, Refusal> {
    let asked = href(
        "/v1/projects",
        &[
            ("limit", Some("50")),
            ("cursor", visitor.query.get("cursor")),
        ],
    );
    let list: List<Project> = visitor.get(&asked).await?;
    let meta = html! { span { "Each has its own events, endpoints, meters and keys" } };
    let body = html! {
        @if let Some(refusal) = refusal { (inputs::refused(refusal)) }
        div.card {
            @if list.data.is_empty() {
                (parts::empty("No project yet", html! { "Events are published to a project." }, html! {}))
            } @else {
                (table(&list))
            }
            (parts::pager(PATH, &visitor.query, list.next_cursor.as_deref()))
        }
        @if visitor.is_admin() { (new(visitor, name, refusal)) }
    };
    let page = Page {
        meta,
        body,
        ..Page::new("Projects", Section::None)
    };
    let mut response = page_of_no_project(visitor, page).into_response();
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    Ok(response)
}

fn table(list: &List<Project>) -> Markup {
    html! {
        table.table.cards {
            caption.sr { "Projects, the oldest first" }
            thead { tr { th scope="col" { "Name" } th.w11 scope="col" { "Created" } th.w11 scope="col" { "Id" } } }
            tbody {
                @for project in &list.data {
                    tr {
                        td.lead { a.row href={ "/console/" (project.id) } { (parts::cut(&project.name)) } }
                        td.end { (parts::time(project.created_at, TimeFormat::Date)) }
                        td.hide { (parts::id(&project.id)) }
                    }
                }
            }
        }
    }
}

fn new(visitor: &Visitor, name: &str, refusal: Option<&Refusal>) -> Markup {
    let error = refusal.filter(|refusal| refusal.field.as_deref() == Some("name"));
    html! {
        section.card aria-labelledby="new-h" {
            header { h2 #new-h { "New project" } }
            form.form.in method="post" action=(PATH) {
                (form_tokens(visitor))
                (parts::field(&Field {
                    name: "name",
                    label: "Name",
                    value: name,
                    hint: "Unique: prod, staging",
                    error: error.map(|refusal| refusal.detail.as_str()),
                    is_required: true,
                    ..Field::default()
                }))
                div.acts { button.btn.primary { "Create project" } }
            }
        }
    }
}
