//! Erasures: what is deleted for good, how far that is, and asking for another. One call
//! of the API.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use crate::console::form::{Form, form_tokens};
use crate::console::inputs;
use crate::console::layout::{self, Page, Section, page, page_of_no_project, see_other};
use crate::console::listing::List;
use crate::console::pairs::{Pairs, href, segment};
use crate::console::parts::{self, Field, TimeFormat, Tone};
use crate::console::refusal::Refusal;
use crate::console::visit::{View, Visitor};
use crate::model::api_key::Scope;

#[derive(Deserialize)]
struct Erasure {
    id: String,
    kind: String,
    event_id: Option<String>,
    tenant: Option<String>,
    state: String,
    progress: Progress,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Progress {
    events: u64,
    deliveries: u64,
    endpoints: u64,
    usage_rows: u64,
}

/// What an erasure is asked of, in forms.
const KINDS: [(&str, &str, &str); 3] = [
    (
        "tenant",
        "A tenant",
        "Its events, endpoints, keys and usage, all that came until now",
    ),
    (
        "event",
        "An event",
        "With its deliveries, out of the archive too",
    ),
    (
        "project",
        "This project",
        "With everything in it; its keys stop working at once",
    ),
];

/// `GET …/erasures`.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let asked = asked("/v1/erasures", &view.query);
    let list: List<Erasure> = view.get(&asked).await?;
    let path = view.path("erasures");
    if view.part() == Some("erasures") {
        return Ok(layout::part(table(&path, &view, &list)));
    }
    let body = html! {
        (table(&path, &view, &list))
        @if view.may(Scope::EventsWrite) {
            div.acts { a.btn.danger href=(view.path("erasures/new")) { "Erase for good" } }
        }
    };
    Ok(page(
        &view,
        Page {
            meta: meta(),
            crumbs: &[("Settings", view.path("settings"))],
            body,
            ..Page::new("Erasures", Section::Settings)
        },
    ))
}

/// `GET /console/projects/{project}/erasures`: also of a project that is gone.
pub async fn list_of_project(
    visitor: Visitor,
    Path(project): Path<String>,
) -> Result<Response, Refusal> {
    let project = segment(&project);
    let asked = asked(&format!("/v1/projects/{project}/erasures"), &visitor.query);
    let list: List<Erasure> = visitor.get(&asked).await?;
    let path = format!("/console/projects/{project}/erasures");
    if visitor.part() == Some("erasures") {
        return Ok(layout::part(table(&path, &visitor, &list)));
    }
    Ok(page_of_no_project(
        &visitor,
        Page {
            meta: meta(),
            crumbs: &[("Projects", "/console/projects".to_owned())],
            body: table(&path, &visitor, &list),
            ..Page::new("Erasures", Section::None)
        },
    ))
}

fn asked(path: &str, query: &Pairs) -> String {
    href(
        path,
        &[("limit", Some("50")), ("cursor", query.get("cursor"))],
    )
}

fn meta() -> Markup {
    html! { span { "What is deleted for good, wherever it was put" } }
}

fn table(path: &str, visitor: &Visitor, list: &List<Erasure>) -> Markup {
    let is_under_way = list.data.iter().any(|erasure| erasure.state != "done");
    let (live, source) = match is_under_way {
        true => {
            let cursor = ("cursor", visitor.query.get("cursor"));
            (
                Some("swap"),
                Some(href(path, &[("part", Some("erasures")), cursor])),
            )
        }
        false => (None, None),
    };
    html! {
        div #erasures.card data-live=[live] data-src=[source] {
            @if list.data.is_empty() {
                (parts::empty(
                    "Nothing was erased",
                    html! { "A tenant, an event or the whole project can be deleted for good here." },
                    html! {},
                ))
            } @else {
                table.table.cards {
                    caption.sr { "Erasures, the newest first" }
                    thead { tr {
                        th scope="col" { "Of" } th scope="col" { "Progress" } th.w10 scope="col" { "State" }
                        th.w11 scope="col" { "Asked " span.zone { "UTC" } } th.w10 scope="col" { "Id" }
                    } }
                    tbody { @for erasure in &list.data { (row(erasure)) } }
                }
            }
            (parts::pager(path, &visitor.query, list.next_cursor.as_deref()))
        }
    }
}

fn row(erasure: &Erasure) -> Markup {
    let (tone, sign, word) = match erasure.state.as_str() {
        "done" => (Tone::Ok, "check", "Done"),
        "settling" => (Tone::Info, "clock", "Settling"),
        _ => (Tone::Info, "clock", "Running"),
    };
    html! {
        tr id=(erasure.id) {
            td.lead {
                @match (&erasure.tenant, &erasure.event_id, erasure.kind.as_str()) {
                    (Some(tenant), _, _) => { "Tenant " (parts::cut(tenant)) },
                    (_, Some(event), _) => { "Event " (parts::id(event)) },
                    (_, _, "tenant") => "A tenant, whose name is forgotten",
                    _ => "The project",
                }
            }
            td data-l="so far" { (progress(erasure)) }
            td.end { (parts::state(tone, sign, word)) }
            td data-l="asked" { (parts::time(erasure.created_at, TimeFormat::Full)) }
            td.hide { (parts::id(&erasure.id)) }
        }
    }
}

fn progress(erasure: &Erasure) -> Markup {
    let done = &erasure.progress;
    html! {
        @match erasure.state.as_str() {
            "done" => progress.is-ok value="1" max="1" aria-label="Erasure, done" {},
            "settling" => progress.is-warn value="1" max="1" aria-label="Erasure, a last look is left" {},
            _ => progress aria-label="Erasure, running" {},
        }
        p.small.soft {
            (parts::number(done.events)) " events, " (parts::number(done.deliveries)) " deliveries, "
            (parts::number(done.endpoints)) " endpoints, " (parts::number(done.usage_rows)) " rows of usage"
            @match (erasure.state.as_str(), erasure.finished_at) {
                ("settling", _) => " · a last look for what was under way is left",
                (_, Some(at)) => { " · done " (parts::time(at, TimeFormat::Full)) },
                _ => "",
            }
        }
    }
}

/// `GET …/erasures/new`.
pub async fn new(view: View) -> Response {
    form_page(&view, &view.query, None)
}

fn form_page(view: &View, filled: &Pairs, refusal: Option<&Refusal>) -> Response {
    let error = |name: &str| {
        let of_it = refusal.filter(|refusal| refusal.field.as_deref() == Some(name));
        of_it.map(|refusal| refusal.detail.as_str())
    };
    let kind = filled.get("kind").unwrap_or("tenant");
    let body = html! {
        @if let Some(refusal) = refusal { (inputs::refused(refusal)) }
        div.card { form.form.in method="post" action=(view.path("erasures/new")) {
            (form_tokens(view))
            fieldset.field {
                legend { "What is erased" }
                @for (value, label, hint) in KINDS {
                    @if value != "project" || view.is_admin() {
                        label.tick {
                            input type="radio" name="kind" value=(value) checked[kind == value];
                            " " (label) " " span.hint { (hint) }
                        }
                    }
                }
            }
            (parts::field(&Field {
                name: "subject",
                label: "Its name or id",
                value: filled.text("subject"),
                hint: "The tenant, the event's id, or the project's name",
                error: error("subject"),
                is_mono: true,
                is_required: true,
                ..Field::default()
            }))
            (parts::field(&Field {
                name: "confirm",
                label: "Once more, to erase it",
                hint: "This cannot be undone",
                error: error("confirm"),
                is_mono: true,
                is_required: true,
                ..Field::default()
            }))
            div.acts {
                button.btn.danger.primary { "Erase for good" }
                a.btn href=(view.path("erasures")) { "Keep it" }
            }
        } }
    };
    let crumbs = [("Erasures", view.path("erasures"))];
    let mut response = page(
        view,
        Page {
            crumbs: &crumbs,
            body,
            ..Page::new("Erase for good", Section::Settings)
        },
    );
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

/// `POST …/erasures/new`.
pub async fn create(view: View, form: Form) -> Result<Response, Refusal> {
    let subject = form.text("subject");
    let is_project = form.get("kind") == Some("project");
    if form.text("confirm") != subject {
        return Ok(refuse(
            &view,
            &form,
            "confirm",
            "expected the same as above",
        ));
    }
    let path = match form.get("kind") {
        Some("project") if *subject == *view.project_name => {
            format!("/v1/projects/{}", view.project)
        }
        Some("project") => {
            return Ok(refuse(
                &view,
                &form,
                "subject",
                "expected the name of this project",
            ));
        }
        Some("event") => format!("/v1/events/{}", segment(subject)),
        _ => format!("/v1/tenants/{}", segment(subject)),
    };
    match view
        .send(Method::DELETE, &path, None, Some(form.once()))
        .await
    {
        Ok(_) if is_project => {
            let gone = format!("/console/projects/{}/erasures", view.project);
            Ok(see_other(&gone, "erasing"))
        }
        Ok(_) => Ok(see_other(&view.path("erasures"), "erasing")),
        Err(refusal) if refusal.is_about_input() || refusal.status == 404 => {
            let field = Some("subject".to_owned());
            let refusal = Refusal { field, ..refusal };
            Ok(form_page(&view, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn refuse(view: &View, form: &Form, field: &str, detail: &str) -> Response {
    let status = http::StatusCode::BAD_REQUEST;
    let refusal = Refusal::new(status, "invalid", "Nothing was erased", detail);
    let field = Some(field.to_owned());
    form_page(view, &form.pairs, Some(&Refusal { field, ..refusal }))
}
