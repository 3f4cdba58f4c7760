//! API keys: the list, a new one, which is shown once, and revoking one.
//!
//! One call of the API for the list. To revoke one, it is looked for in the list: a call
//! for each hundred keys.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::console::form::{Form, form_tokens};
use crate::console::inputs;
use crate::console::layout::{Page, Section, page, see_other};
use crate::console::listing::List;
use crate::console::pairs::{Pairs, href, segment};
use crate::console::parts::{self, Field, TimeFormat, Tone};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;

/// Pages of the list that are looked through for one key.
const PAGES_MAX: usize = 20;

#[derive(Deserialize)]
struct Key {
    id: String,
    name: String,
    hint: String,
    scopes: Vec<String>,
    rate_limit: Option<u32>,
    tenant: Option<String>,
    state: String,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
}

fn path(view: &View) -> String {
    format!("/v1/projects/{}/keys", view.project)
}

/// `GET …/keys`.
pub async fn list(view: View) -> Result<Response, Refusal> {
    if !view.is_admin() {
        return Ok(page(
            &view,
            Page {
                body: parts::note(
                    Tone::Info,
                    "API keys are the admin's",
                    html! { "Sign in with the admin key, or as an admin, to see, make and revoke them." },
                    html! {},
                ),
                ..Page::new("API keys", Section::Keys)
            },
        ));
    }
    let cursor = view.query.get("cursor");
    let asked = href(&path(&view), &[("limit", Some("50")), ("cursor", cursor)]);
    let list: List<Key> = view.get(&asked).await?;
    let new = html! { a.btn.primary href=(view.path("keys/new")) { "New key" } };
    let body = html! {
        div.card {
            @if list.data.is_empty() {
                (parts::empty(
                    "No key yet",
                    html! { "A program publishes and reads with an API key." },
                    html! { (new) },
                ))
            } @else {
                (table(&view, &list))
            }
            (parts::pager(&view.path("keys"), &view.query, list.next_cursor.as_deref()))
        }
    };
    let meta =
        html! { span { "What programs publish and read with; expired and revoked ones too" } };
    Ok(page(
        &view,
        Page {
            meta,
            acts: new,
            body,
            ..Page::new("API keys", Section::Keys)
        },
    ))
}

fn table(view: &View, list: &List<Key>) -> Markup {
    html! {
        table.table.cards {
            caption.sr { "API keys, the oldest first" }
            thead { tr {
                th scope="col" { "Name" }
                th.w10 scope="col" { "Begins with" }
                th scope="col" { "May" }
                th scope="col" { "Tenant" }
                th.w10 scope="col" { "State" }
                th.w10 scope="col" { "Created" }
                th.w8 scope="col" { span.sr { "Revoke" } }
            } }
            tbody {
                @for key in &list.data {
                    tr id=(key.id) {
                        td.lead { (parts::cut(&key.name)) }
                        td data-l="begins" { code { (key.hint) "…" } }
                        td data-l="may" {
                            span.cut title=(key.scopes.join(", ")) { (scopes(&key.scopes)) }
                            @if let Some(limit) = key.rate_limit {
                                span.small.faint { (parts::number(limit.into())) " events a second" }
                            }
                        }
                        td data-l="for" {
                            @match &key.tenant {
                                Some(tenant) => (parts::cut(tenant)),
                                None => span.faint { "the project" },
                            }
                        }
                        td.end { (state(key)) }
                        td data-l="created" { (parts::time(key.created_at, TimeFormat::Date)) }
                        td {
                            @if key.state != "revoked" {
                                a.btn.slim.danger href=(view.path(&format!("keys/{}/revoke", key.id))) { "Revoke" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn scopes(scopes: &[String]) -> String {
    if scopes.len() == Scope::ALL.len() {
        "everything".to_owned()
    } else {
        scopes.join(", ")
    }
}

fn state(key: &Key) -> Markup {
    let shown = match key.state.as_str() {
        "active" => parts::state(Tone::Ok, "check", "Active"),
        "expired" => parts::state(Tone::Off, "clock", "Expired"),
        _ => parts::state(Tone::Off, "x", "Revoked"),
    };
    html! {
        (shown)
        @if let (Some(at), "active") = (key.expires_at, key.state.as_str()) {
            " " span.faint { "until " (parts::time(at, TimeFormat::Date)) }
        }
    }
}

/// `GET …/keys/new`.
pub async fn new(view: View) -> Response {
    let mut filled = Pairs::default();
    for scope in Scope::ALL {
        filled.push("scopes", scope.as_str());
    }
    form_page(&view, &filled, None)
}

fn form_page(view: &View, filled: &Pairs, refusal: Option<&Refusal>) -> Response {
    let error = |name: &str| {
        let of_it = refusal.filter(|refusal| refusal.field.as_deref() == Some(name));
        of_it.map(|refusal| refusal.detail.as_str())
    };
    let field = |name, label, hint| Field {
        name,
        label,
        hint,
        value: filled.text(name),
        error: error(name),
        ..Field::default()
    };
    let body = html! {
        @if let Some(refusal) = refusal { (inputs::refused(refusal)) }
        div.card { form.form.in method="post" action=(view.path("keys/new")) {
            (form_tokens(view))
            (parts::field(&Field { is_required: true, ..field("name", "Name", "What people call it: backend") }))
            fieldset.field {
                legend { "May" }
                @for scope in Scope::ALL {
                    @let is_chosen = filled.all("scopes").any(|chosen| chosen == scope.as_str());
                    label.tick {
                        input type="checkbox" name="scopes" value=(scope.as_str()) checked[is_chosen];
                        " " code { (scope.as_str()) }
                    }
                }
                @if let Some(error) = error("scopes") { span.error { (parts::icon("alert")) span { (error) } } }
            }
            div.pair {
                (parts::field(&field("tenant", "Tenant", "Only what is this tenant's; empty: the whole project")))
                (parts::field(&field("rate_limit", "Events a second", "Empty: the default")))
            }
            (parts::field(&Field {
                placeholder: "2030-01-31T12:00:00Z",
                is_mono: true,
                ..field("expires_at", "Expires", "In UTC; empty: never")
            }))
            div.acts {
                button.btn.primary { "Create key" }
                a.btn.quiet href=(view.path("keys")) { "Cancel" }
            }
        } }
    };
    let crumbs = [("API keys", view.path("keys"))];
    let mut response = page(
        view,
        Page {
            crumbs: &crumbs,
            body,
            ..Page::new("New API key", Section::Keys)
        },
    );
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

/// `POST …/keys/new`: the key is in the answer, and nowhere after.
pub async fn create(view: View, form: Form) -> Result<Response, Refusal> {
    let mut body = json!({
        "name": form.text("name"),
        "scopes": form.pairs.all("scopes").collect::<Vec<_>>(),
    });
    for name in ["tenant", "expires_at"] {
        if let Some(value) = form.get(name) {
            body[name] = value.trim().into();
        }
    }
    if let Some(limit) = form.get("rate_limit") {
        // What is no number is refused by the API, in its words.
        let number = limit.trim().parse::<u64>();
        body["rate_limit"] = number.map_or_else(|_| limit.into(), Value::from);
    }
    let path = path(&view);
    let made = view.send(Method::POST, &path, Some(&body), Some(form.once()));
    match made.await {
        Ok(made) => Ok(created(&view, &made)),
        Err(refusal) if refusal.is_about_input() => {
            Ok(form_page(&view, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn created(view: &View, made: &Value) -> Response {
    let text = |name: &str| made[name].as_str().unwrap_or_default();
    let key = text("key");
    let body = html! {
        section.note.is-ok {
            (parts::icon("check"))
            div {
                h2 { "This is the key " bdi { (text("name")) } }
                p { "It is shown this once: copy it to where it is used." }
            }
        }
        (parts::code("API key", key, html! { (key) }))
        div.acts { a.btn.primary href=(view.path("keys")) { "To all keys" } }
    };
    let crumbs = [("API keys", view.path("keys"))];
    page(
        view,
        Page {
            crumbs: &crumbs,
            body,
            ..Page::new("API key created", Section::Keys)
        },
    )
}

/// `GET …/keys/{id}/revoke`.
pub async fn ask_to_revoke(
    view: View,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let key = find(&view, &id).await?;
    let action = view.path(&format!("keys/{}/revoke", key.id));
    let body = html! {
        div.card { form.form.in method="post" action=(action) {
            (form_tokens(&view))
            p.small.soft {
                "Whoever uses " code { (key.hint) "…" } " is refused from now on, other instances within a \
                 minute. This cannot be undone."
            }
            fieldset.field {
                legend { "Endpoints that were made with it" }
                label.tick { input type="radio" name="endpoints" value="keep" checked; " Go on as they are" }
                label.tick { input type="radio" name="endpoints" value="disable"; " Are turned off: the key leaked" }
            }
            div.acts {
                button.btn.danger.primary { "Revoke key" }
                a.btn href=(view.path("keys")) { "Keep it" }
            }
        } }
    };
    let title = format!("Revoke {}?", key.name);
    let crumbs = [("API keys", view.path("keys"))];
    Ok(page(
        &view,
        Page {
            crumbs: &crumbs,
            body,
            ..Page::new(&title, Section::Keys)
        },
    ))
}

async fn find(view: &View, id: &str) -> Result<Key, Refusal> {
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let asked = href(
            &path(view),
            &[("limit", Some("100")), ("cursor", cursor.as_deref())],
        );
        let list: List<Key> = view.get(&asked).await?;
        if let Some(key) = list.data.into_iter().find(|key| key.id == id) {
            return Ok(key);
        }
        cursor = list.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Err(Refusal::not_found("there is no such API key"))
}

/// `POST …/keys/{id}/revoke`.
pub async fn revoke(
    view: View,
    Path((_, id)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let at = format!("{}/{}", path(&view), segment(&id));
    let asked = href(&at, &[("endpoints", form.get("endpoints"))]);
    let answer = view.ask(Method::DELETE, &asked, None, None).await;
    let status = answer.status;
    answer.succeeded()?;
    let done = if status == StatusCode::NO_CONTENT {
        "revoked"
    } else {
        "revoked-endpoints"
    };
    Ok(see_other(&view.path("keys"), done).into_response())
}
