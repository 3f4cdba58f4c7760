//! The editor that sends an event: a type with its schema and example, the data, and what
//! the API says of it at the line where it is.

use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::console::example;
use crate::console::form::{Form, form_tokens};
use crate::console::inputs::Errors;
use crate::console::layout::{Page, Section, page, see_other};
use crate::console::lines::line_of;
use crate::console::listing::{List, shortened};
use crate::console::pairs::{Pairs, segment};
use crate::console::parts::{self, Field, field, icon};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::parse_error;

/// Lines of the editor.
const ROWS_MIN: usize = 12;
const ROWS_MAX: usize = 200;
/// Characters of a schema and an example that are shown.
const SHOWN_CHARS_MAX: usize = 3_000;
/// The `source` of what a person sends from here.
const SOURCE: &str = "/console";
/// What is in the editor where nothing better is known.
const DATA: &str = "{\n  \"note\": \"Sent by hand from the console\"\n}";
/// The fields of an event beside its data, in the API's words.
const FIELDS: [&str; 6] = ["type", "tenant", "subject", "source", "id", "time"];

/// A type of the catalog.
#[derive(Debug, Deserialize)]
struct EventType {
    name: String,
    #[serde(default)]
    schema: Option<Box<RawValue>>,
    #[serde(default)]
    schema_version: Option<i64>,
}

/// A name of the catalog.
#[derive(Debug, Deserialize)]
struct TypeName {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    id: String,
    duplicate: bool,
}

/// The page. Two calls of the API at once: the names of the catalog, and the type.
pub async fn show(view: View) -> Result<Response, Refusal> {
    let (names, of_type) = tokio::join!(names(&view), of_type(&view, view.query.get("type")));
    let data = of_type
        .as_ref()
        .and_then(example_of)
        .unwrap_or_else(|| DATA.to_owned());
    let typed = typed(&view.query, &data);
    Ok(whole(&view, &typed, &names, of_type.as_ref(), None))
}

/// Sends what was typed, or fills the editor with the type's example. One call of the API,
/// two at once where the form is shown again.
pub async fn submit(view: View, form: Form) -> Result<Response, Refusal> {
    let refused = match form.get("use") {
        Some(_) => None,
        None => match send(&view, &form).await {
            Ok(accepted) => {
                let done = if accepted.duplicate {
                    "duplicate"
                } else {
                    "sent"
                };
                let to = view.path_of("events", &accepted.id);
                return Ok(see_other(&to, done));
            }
            Err(refusal) if refusal.is_about_input() => Some(refusal),
            Err(refusal) => return Err(refusal),
        },
    };
    let (names, of_type) = tokio::join!(names(&view), of_type(&view, form.get("type")));
    let example = of_type
        .as_ref()
        .filter(|_| refused.is_none())
        .and_then(example_of);
    let data = example.unwrap_or_else(|| form.text("data").to_owned());
    let typed = typed(&form.pairs, &data);
    let mut response = whole(&view, &typed, &names, of_type.as_ref(), refused.as_ref());
    if let Some(refusal) = &refused {
        *response.status_mut() = refusal.status_code();
    }
    Ok(response)
}

/// What stands in the fields.
struct Typed<'a> {
    fields: &'a Pairs,
    data: String,
}

fn typed<'a>(fields: &'a Pairs, data: &str) -> Typed<'a> {
    // What a browser sends ends its lines as HTTP does.
    let data = data.replace("\r\n", "\n");
    Typed { fields, data }
}

async fn send(view: &View, form: &Form) -> Result<Accepted, Refusal> {
    let body = body(form)?;
    let answer = view
        .ask(Method::POST, "/v1/events", Some(body), Some(form.once()))
        .await;
    let answer = answer.succeeded()?;
    serde_json::from_slice(&answer).map_err(|_| {
        let detail = "the answer of the API cannot be read";
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            detail,
        )
    })
}

/// The event in JSON, its data as it was typed: no number of it becomes another.
fn body(form: &Form) -> Result<Bytes, Refusal> {
    let mut members = Vec::new();
    for name in FIELDS {
        if let Some(value) = form.get(name) {
            members.push(format!("\"{name}\":{}", serde_json::Value::from(value)));
        }
    }
    if !form.text("data").trim().is_empty() {
        let data: Result<&RawValue, _> = serde_json::from_str(form.text("data"));
        let data = data.map_err(|error| {
            let detail = format!("expected JSON: {}", parse_error::syntax(&error));
            let mut refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid",
                "Invalid request",
                detail,
            );
            refusal.field = Some("data".to_owned());
            refusal
        })?;
        members.push(format!("\"data\":{data}"));
    }
    Ok(Bytes::from(format!("{{{}}}", members.join(","))))
}

/// The names of the catalog, as far as a page of it; none if they cannot be had.
async fn names(view: &View) -> Vec<TypeName> {
    let found: Result<List<TypeName>, _> = view.get("/v1/event-types?limit=100").await;
    found.map(|found| found.data).unwrap_or_default()
}

async fn of_type(view: &View, name: Option<&str>) -> Option<EventType> {
    let path = format!("/v1/event-types/{}", segment(name?));
    view.get(&path).await.ok()
}

/// An example of the type's data, if it has a schema.
fn example_of(of_type: &EventType) -> Option<String> {
    let schema = serde_json::from_str(of_type.schema.as_ref()?.get()).ok()?;
    let made = example::of(&schema);
    (!made.is_null()).then(|| format!("{made:#}"))
}

fn whole(
    view: &View,
    typed: &Typed<'_>,
    names: &[TypeName],
    of_type: Option<&EventType>,
    refused: Option<&Refusal>,
) -> Response {
    let crumbs = [("Events", view.path("events"))];
    let body = html! {
        @if let Some(refusal) = refused { (not_sent(refusal)) }
        form.wide method="post" action=(view.path("send")) {
            (form_tokens(view))
            div.stack {
                (fields(typed.fields, names, Errors(refused)))
                (editor(&typed.data, refused))
                (rest(typed.fields, Errors(refused)))
                div.acts {
                    @if view.may(Scope::EventsWrite) {
                        button.btn.primary { (icon("send")) "Send event" }
                    } @else {
                        button.btn.primary disabled title="It takes the scope events:write" { (icon("send")) "Send event" }
                    }
                }
            }
            (catalog(of_type))
        }
    };
    page(
        view,
        Page {
            crumbs: &crumbs,
            meta: html! { span { "A real one: it is kept, delivered and counted in " bdi { (view.project_name) } } },
            body,
            ..Page::new("Send an event", Section::Events)
        },
    )
}

/// What is wrong, without the place that it may begin with.
fn detail(refusal: &Refusal) -> &str {
    let place = refusal.field.as_deref().unwrap_or_default();
    let rest = refusal.detail.strip_prefix(place);
    rest.and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(&refusal.detail)
}

fn not_sent(refusal: &Refusal) -> Markup {
    let place = refusal.field.as_deref().unwrap_or_default();
    let id = place.split('/').next().unwrap_or_default();
    html! {
        div.note.is-bad #errors role="alert" tabindex="-1" {
            (icon("alert"))
            div {
                h2 { "Not sent: " (refusal.title) }
                p {
                    @if !place.is_empty() { a href={ "#" (id) } { bdi { (shortened(place)) } } ": " }
                    (detail(refusal)) ". Nothing was kept, delivered or counted."
                }
            }
        }
    }
}

fn fields(given: &Pairs, names: &[TypeName], errors: Errors<'_>) -> Markup {
    let of_type = errors.of("type");
    let (tenant, subject) = (errors.of("tenant"), errors.of("subject"));
    html! {
        div.pair {
            div.field {
                label for="type" { "Type" }
                input #type.mono name="type" value=(given.text("type")) list="types" placeholder="invoice.paid"
                    aria-invalid=[of_type.as_ref().map(|_| "true")] aria-describedby="type-e" autocomplete="off" spellcheck="false";
                @match &of_type {
                    Some(error) => span.error #type-e { (icon("alert")) span { (error) } },
                    None => span.hint #type-e { "What kind of thing happened" },
                }
            }
            datalist #types { @for one in names { option value=(one.name) {} } }
            (field(&Field {
                name: "tenant", label: "Tenant", value: given.text("tenant"),
                hint: "The customer it is for; empty for nobody’s", error: tenant.as_deref(), ..Field::default()
            }))
            (field(&Field {
                name: "subject", label: "Subject", value: given.text("subject"),
                hint: "What it happened to", error: subject.as_deref(), ..Field::default()
            }))
        }
    }
}

/// The data, with the lines numbered; where something is wrong, that line is marked.
fn editor(data: &str, refused: Option<&Refusal>) -> Markup {
    let place = refused.and_then(|refusal| refusal.field.as_deref());
    let place = place.filter(|place| *place == "data" || place.starts_with("data/"));
    let path = place.and_then(|place| place.strip_prefix("data"));
    let line = path.map(|path| {
        line_of(data, path)
            .or_else(|| line_of_error(data))
            .unwrap_or(1)
    });
    let rows = data.lines().count().clamp(ROWS_MIN, ROWS_MAX);
    html! {
        div.field {
            label for="data" { "Data" }
            div.editor {
                ol aria-hidden="true" {
                    @for n in 1..=rows { li.is-bad[line == Some(n)] { (n) } }
                }
                textarea #data name="data" rows=(rows) spellcheck="false" autocapitalize="off"
                    aria-invalid=[line.map(|_| "true")] aria-describedby="data-e" { "\n" (data) }
            }
            @match (refused, line) {
                (Some(refusal), Some(line)) => {
                    ul.rows.card #data-e aria-label="What is wrong with the data" {
                        li.is-bad {
                            (icon("x"))
                            p {
                                a.mono href="#data" data-line=(line) { bdi { (shortened(place.unwrap_or("data"))) } }
                                ", line " (line) ": " (detail(refusal))
                            }
                        }
                    }
                }
                _ => span.hint #data-e { "Any JSON; it may be empty. Numbers are kept as they are written." },
            }
        }
    }
}

/// The line on which `data` stops being JSON.
fn line_of_error(data: &str) -> Option<usize> {
    let read: Result<&RawValue, _> = serde_json::from_str(data);
    read.err().map(|error| error.line().max(1))
}

fn rest(given: &Pairs, errors: Errors<'_>) -> Markup {
    let of = ["source", "id", "time"].map(|name| errors.of(name));
    let is_open =
        of.iter().any(Option::is_some) || given.get("id").is_some() || given.get("time").is_some();
    let source = given.get("source").unwrap_or(SOURCE);
    let one = |name, label, value, placeholder, error: &Option<String>| {
        field(&Field {
            name,
            label,
            value,
            placeholder,
            is_mono: true,
            error: error.as_deref(),
            ..Field::default()
        })
    };
    html! {
        details open[is_open] {
            summary.small.soft { "Source, id and time" }
            div.pair {
                (one("source", "Source", source, "", &of[0]))
                (one("id", "Id", given.text("id"), "made when it is sent", &of[1]))
                (one("time", "Time", given.text("time"), "now", &of[2]))
            }
        }
    }
}

/// What the catalog knows of the type.
fn catalog(of_type: Option<&EventType>) -> Markup {
    let example = of_type.and_then(example_of);
    let schema = of_type
        .and_then(|one| one.schema.as_ref())
        .map(|schema| schema.get());
    let shown = |title: &str, json: &str| {
        html! {
            div.code {
                header { span { (title) } }
                pre tabindex="0" role="group" aria-label=(title) { code { (parts::json(json, SHOWN_CHARS_MAX)) } }
            }
        }
    };
    html! {
        div.stack {
            div.acts {
                button.btn.slim name="use" value="example" formnovalidate { "Use the type’s example" }
            }
            @match (of_type, schema) {
                (Some(one), Some(schema)) => {
                    p.small.soft { "Data of " bdi.mono { (shortened(&one.name)) } " is held against its schema, version " (one.schema_version.unwrap_or(1)) "." }
                    @if let Some(example) = &example { (shown("Example", example)) }
                    (shown("Schema", schema))
                }
                (Some(one), None) => p.small.soft { bdi.mono { (shortened(&one.name)) } " has no schema: any data is taken." },
                (None, _) => p.small.soft { "A type that is in the catalog shows its schema and an example here. One that is not is sent all the same." },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_is_wrong_is_marked() {
        let refused = |field: &str| {
            let mut refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid",
                "Invalid",
                "expected a number",
            );
            refusal.field = Some(field.to_owned());
            refusal
        };
        let data = "{\n\"a\": 1,\n\"total\": \"much\"\n}";
        let marked = editor(data, Some(&refused("data/total"))).0;
        assert!(marked.contains("<li class=\"is-bad\">3</li>"), "{marked}");
        assert!(marked.contains("data-line=\"3\""));
        let broken = editor("{\n\"a\": ,\n}", Some(&refused("data"))).0;
        assert!(broken.contains("<li class=\"is-bad\">2</li>"), "{broken}");
        // What is wrong elsewhere marks no line.
        for refusal in [None, Some(refused("tenant")), Some(refused("dataschema"))] {
            assert!(!editor(data, refusal.as_ref()).0.contains("is-bad"));
        }
    }
}
