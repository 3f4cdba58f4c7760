//! The forms of an event type: new, edit and delete. A schema is sent as it was typed.

use axum::body::Bytes;
use axum::extract::Path;
use axum::response::Response;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Serialize;
use serde_json::value::RawValue;

use super::EventType;
use crate::console::form::Form;
use crate::console::inputs::refused;
use crate::console::inputs::{Errors, editor, select};
use crate::console::json::lay_out;
use crate::console::layout::{self, Page, Section, see_other};
use crate::console::pairs::{Pairs, segment};
use crate::console::parts::{Field, field};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::parse_error;

const VALIDATE: [(&str, &str); 4] = [
    ("", "Refuse it, if there is a schema"),
    ("reject", "Refuse it"),
    ("warn", "Accept it, and publish millrace.schema.rejected"),
    ("off", "Accept it: do not look"),
];

/// What the API is sent: all that a form can say.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    description: &'a str,
    schema: Option<&'a RawValue>,
    validate: Option<&'a str>,
}

impl<'a> Body<'a> {
    fn read(form: &'a Pairs) -> Result<Self, Refusal> {
        let schema = form.get("schema").filter(|text| !text.trim().is_empty());
        let schema = schema.map(serde_json::from_str::<&RawValue>).transpose();
        let schema = schema.map_err(|error| {
            let detail = format!("expected JSON: {}", parse_error::syntax(&error));
            of_field("schema", detail)
        })?;
        Ok(Self {
            name: None,
            description: form.text("description"),
            schema,
            validate: form.get("validate"),
        })
    }

    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("it is plain JSON").into()
    }
}

fn of_field(name: &str, detail: impl Into<String>) -> Refusal {
    let title = "Invalid request";
    let mut refusal = Refusal::new(StatusCode::BAD_REQUEST, "invalid", title, detail);
    refusal.field = Some(name.to_owned());
    refusal
}

/// The form of a new event type, with the name that the address gives.
pub async fn new(view: View) -> Response {
    new_page(&view, &view.query, None)
}

/// Registers an event type: one request.
pub async fn create(view: View, form: Form) -> Result<Response, Refusal> {
    let name = form.text("name").trim();
    let body = Body::read(&form.pairs).map(|body| {
        let name = Some(name);
        Body { name, ..body }.bytes()
    });
    let made = match body {
        Ok(body) => {
            let asked = view.ask(
                Method::POST,
                "/v1/event-types",
                Some(body),
                Some(form.once()),
            );
            asked.await.succeeded()
        }
        Err(refusal) => Err(refusal),
    };
    match made {
        Ok(_) => Ok(see_other(&view.path_of("event-types", name), "type")),
        Err(refusal) if refusal.is_about_input() => {
            Ok(new_page(&view, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn new_page(view: &View, given: &Pairs, refusal: Option<&Refusal>) -> Response {
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        (field(&Field {
            name: "name", label: "Name", value: given.text("name"), hint: "The type of its events",
            error: Errors(refusal).of("name").as_deref(), placeholder: "invoice.paid", is_mono: true,
            is_required: true, rows: None,
        }))
        (shared(given, refusal))
        (buttons("Create event type", &view.path("event-types")))
    };
    let page = Page {
        crumbs: &[("Event types", view.path("event-types"))],
        body: layout::form(view, &view.path("event-types/new"), fields),
        ..Page::new("New event type", Section::EventTypes)
    };
    answer(view, page, refusal)
}

/// The fields that can be changed.
fn shared(given: &Pairs, refusal: Option<&Refusal>) -> Markup {
    let errors = Errors(refusal);
    let hint = "JSON Schema, draft 2020-12 or draft 7; empty for none. What is published from then on is held against it";
    html! {
        (field(&Field {
            name: "description", label: "Description", value: given.text("description"),
            hint: "What has happened when there is one, for people", error: errors.of("description").as_deref(),
            ..Field::default()
        }))
        (editor("schema", "Schema of its data", given.text("schema"), hint, errors.of("schema").as_deref()))
        (select("validate", "Data that does not satisfy it", VALIDATE, given.text("validate"), errors.of("validate").as_deref()))
    }
}

fn buttons(word: &str, back: &str) -> Markup {
    html! {
        div.acts {
            button.btn.primary { (word) }
            a.btn href=(back) { "Cancel" }
        }
    }
}

fn answer(view: &View, page: Page<'_>, refusal: Option<&Refusal>) -> Response {
    let mut response = layout::page(view, page);
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

fn path(name: &str) -> String {
    format!("/v1/event-types/{}", segment(name))
}

fn below(
    view: &View,
    name: &str,
    (rest, title): (&str, &str),
    fields: Markup,
    refusal: Option<&Refusal>,
) -> Response {
    let of_type = view.path_of("event-types", name);
    let action = format!("{of_type}/{rest}");
    let page = Page {
        crumbs: &[("Event types", view.path("event-types")), (name, of_type)],
        body: layout::form(view, &action, fields),
        ..Page::new(title, Section::EventTypes)
    };
    answer(view, page, refusal)
}

/// The form that changes an event type: one request.
pub async fn edit(
    view: View,
    Path((_, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let of: EventType = view.get(&path(&name)).await?;
    let schema = of.schema.as_deref().map_or_else(String::new, laid_out);
    let validate = of.schema.as_ref().map_or("", |_| &*of.validate);
    let given = Pairs::from([
        ("description", &*of.description),
        ("schema", &schema),
        ("validate", validate),
    ]);
    Ok(edit_page(&view, &of.name, &given, None))
}

/// A schema, a line for each of its parts.
fn laid_out(schema: &RawValue) -> String {
    let (tokens, _) = lay_out(schema.get(), usize::MAX);
    tokens.into_iter().map(|token| token.text).collect()
}

fn edit_page(view: &View, name: &str, given: &Pairs, refusal: Option<&Refusal>) -> Response {
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        (shared(given, refusal))
        p.hint { "Another schema is the next version. What was published before is not looked at again." }
        (buttons("Save", &view.path_of("event-types", name)))
    };
    below(view, name, ("edit", "Edit event type"), fields, refusal)
}

/// Changes an event type: one request.
pub async fn save(
    view: View,
    Path((_, name)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let saved = match Body::read(&form.pairs) {
        Ok(body) => {
            let path = path(&name);
            let asked = view.ask(Method::PATCH, &path, Some(body.bytes()), None);
            asked.await.succeeded()
        }
        Err(refusal) => Err(refusal),
    };
    match saved {
        Ok(_) => Ok(see_other(&view.path_of("event-types", &name), "type")),
        Err(refusal) if refusal.is_about_input() => {
            Ok(edit_page(&view, &name, &form.pairs, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

/// Asks whether an event type is to be deleted: one request.
pub async fn ask_to_delete(
    view: View,
    Path((_, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let of: EventType = view.get(&path(&name)).await?;
    Ok(delete_page(&view, &of.name, "", None))
}

fn delete_page(view: &View, name: &str, typed: &str, refusal: Option<&Refusal>) -> Response {
    let label = format!("Type {name} to delete it");
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        p { "Events of this type are accepted as they come from then on, whatever their data is. Its schemas are kept: registered again, their numbers go on." }
        (field(&Field {
            name: "confirm", label: &label, value: typed, error: Errors(refusal).of("confirm").as_deref(),
            is_mono: true, is_required: true, ..Field::default()
        }))
        div.acts {
            button.btn.danger.primary { "Delete event type" }
            a.btn href=(view.path_of("event-types", name)) { "Keep it" }
        }
    };
    below(
        view,
        name,
        ("delete", "Delete this event type?"),
        fields,
        refusal,
    )
}

/// Deletes an event type whose name was typed: one request.
pub async fn delete(
    view: View,
    Path((_, name)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let typed = form.text("confirm");
    if typed != name {
        let detail = "expected the name of the event type, as it is written above";
        let refusal = of_field("confirm", detail);
        return Ok(delete_page(&view, &name, typed, Some(&refusal)));
    }
    view.send(Method::DELETE, &path(&name), None, None).await?;
    Ok(see_other(&view.path("event-types"), "deleted"))
}
