//! The API explorer: a request of the API's documentation, tried in the session's project.
//!
//! The documentation knows of no session and the API takes no cookies, so a form of the
//! console asks, as every page does. What may be asked is what the OpenAPI document
//! describes below `/v1/`; who may not is refused by the API, and shown that.

use std::sync::OnceLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::Value;

use crate::console::api::Answer;
use crate::console::form::Form;
use crate::console::inputs::refused;
use crate::console::inputs::{Errors, editor};
use crate::console::layout::{self, Page, Section, page};
use crate::console::pages::projects;
use crate::console::pairs::{Pairs, href, segment};
use crate::console::parts::{Field, Tone, code, field, json, state};
use crate::console::refusal::Refusal;
use crate::console::visit::{View, Visitor};

/// The field of the body.
const BODY: &str = "body";
/// Characters of an answer that are shown.
const CHARS_MAX: usize = 20_000;

/// A request that can be tried.
struct Operation {
    id: String,
    method: Method,
    path: String,
    summary: String,
    parameters: Vec<Parameter>,
    takes_body: bool,
}

/// What its path or its query is made of.
struct Parameter {
    name: String,
    is_in_path: bool,
    is_required: bool,
    description: String,
}

/// Goes to the form of a request in the project that the session is of or that is the only
/// one, or to the list of projects.
pub async fn of_session(visitor: Visitor, Path(operation): Path<String>) -> Response {
    let project = match visitor.session.project() {
        Some(project) => Some(project.to_string()),
        None => projects::only(&visitor).await,
    };
    let Some(project) = project else {
        return Redirect::to(projects::PATH).into_response();
    };
    let path = format!("/console/{project}/api/{}", segment(&operation));
    let pairs: Vec<_> = visitor.query.iter().collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (*name, Some(*value)))
        .collect();
    Redirect::to(&href(&path, &pairs)).into_response()
}

/// The form of a request, with what the address gives. It sends nothing.
pub async fn show(view: View, Path((_, id)): Path<(String, String)>) -> Result<Response, Refusal> {
    let operation = find(&view, &id).await?;
    Ok(explorer(&view, operation, &view.query, html! {}, None))
}

/// Sends the request: one.
pub async fn send(
    view: View,
    Path((_, id)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Refusal> {
    let operation = find(&view, &id).await?;
    let target = match target(operation, &form.pairs) {
        Ok(target) => target,
        Err(refusal) => {
            let mut page = explorer(&view, operation, &form.pairs, html! {}, Some(&refusal));
            *page.status_mut() = refusal.status_code();
            return Ok(page);
        }
    };
    let body = form.get(BODY).filter(|_| operation.takes_body);
    let body = body.map(|body| body.to_owned().into());
    let once = (operation.method == Method::POST).then(|| form.once());
    let answer = view
        .ask(operation.method.clone(), &target, body, once)
        .await;
    let answer = answered(operation, &target, &answer);
    Ok(explorer(&view, operation, &form.pairs, answer, None))
}

/// The operation of that id. The document is read once: it is of the build.
async fn find(view: &View, id: &str) -> Result<&'static Operation, Refusal> {
    static OPERATIONS: OnceLock<Vec<Operation>> = OnceLock::new();
    let known = match OPERATIONS.get() {
        Some(known) => known,
        None => {
            let document: Value = view.get("/openapi.json").await?;
            OPERATIONS.get_or_init(|| operations(&document))
        }
    };
    let found = known.iter().find(|operation| operation.id == id);
    found.ok_or_else(|| Refusal::not_found("the API has no such request"))
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths = paths.filter(|(path, _)| path.starts_with("/v1/"));
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.filter_map(|(method, operation)| read(path, method, operation))
    });
    all.collect()
}

fn read(path: &str, method: &str, operation: &Value) -> Option<Operation> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let parameters = parameters.filter(|parameter| parameter["in"] != "header");
    let parameters = parameters.map(|parameter| Parameter {
        name: text(&parameter["name"]),
        is_in_path: parameter["in"] == "path",
        is_required: parameter["required"] == true,
        description: text(&parameter["description"]),
    });
    Some(Operation {
        id: text(&operation["operationId"]),
        method: method.to_uppercase().parse().ok()?,
        path: path.to_owned(),
        summary: text(&operation["summary"]).trim_end_matches('.').to_owned(),
        parameters: parameters.collect(),
        takes_body: operation["requestBody"].is_object(),
    })
}

/// The path and query that are asked: fields that were left empty are left out.
///
/// # Errors
/// A [`Refusal`] that names the field of the path that is empty.
fn target(operation: &Operation, given: &Pairs) -> Result<String, Refusal> {
    let mut path = operation.path.clone();
    for parameter in operation.parameters.iter().filter(|one| one.is_in_path) {
        let name = &parameter.name;
        let value = given.get(name).ok_or_else(|| {
            let detail = "expected a value: it is part of the path";
            let mut refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid",
                "Invalid request",
                detail,
            );
            refusal.field = Some(name.clone());
            refusal
        })?;
        path = path.replace(&format!("{{{name}}}"), &segment(value));
    }
    let query = operation.parameters.iter().filter(|one| !one.is_in_path);
    let query = query.flat_map(|one| {
        let values = given.all(&one.name);
        values.map(|value| (&*one.name, Some(value)))
    });
    Ok(href(&path, &query.collect::<Vec<_>>()))
}

fn explorer(
    view: &View,
    operation: &Operation,
    given: &Pairs,
    answer: Markup,
    refusal: Option<&Refusal>,
) -> Response {
    let deed = match operation.method {
        Method::DELETE => "btn danger",
        _ => "btn primary",
    };
    let fields = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        @for parameter in &operation.parameters { (parameter_field(parameter, given, refusal)) }
        @if operation.takes_body {
            (editor(BODY, "Body", given.text(BODY), "JSON. What is sent is done, in this project", None))
        }
        div.acts {
            button class=(deed) { "Send " (operation.method) }
            a.btn href={ "/docs#" (operation.id) } { "Documentation" }
        }
    };
    let action = view.path_of("api", &operation.id);
    let body = html! {
        (answer)
        (layout::form(view, &action, fields))
    };
    let page_ = Page {
        crumbs: &[("API documentation", "/docs".to_owned())],
        meta: html! { code { (operation.method) " " (operation.path) } },
        body,
        ..Page::new(&operation.summary, Section::None)
    };
    page(view, page_)
}

fn parameter_field(parameter: &Parameter, given: &Pairs, refusal: Option<&Refusal>) -> Markup {
    let hint = match parameter.is_required {
        true => parameter.description.clone(),
        false => format!("{} (optional)", parameter.description),
    };
    field(&Field {
        name: &parameter.name,
        label: &parameter.name,
        value: given.text(&parameter.name),
        hint: &hint.replace('`', ""),
        error: Errors(refusal).of(&parameter.name).as_deref(),
        is_mono: true,
        is_required: parameter.is_required,
        ..Field::default()
    })
}

/// The answer: status, what was asked, and the body.
fn answered(operation: &Operation, target: &str, answer: &Answer) -> Markup {
    let (tone, sign) = match answer.status.is_success() {
        true => (Tone::Ok, "check"),
        false => (Tone::Bad, "x"),
    };
    let media = answer.headers.get(CONTENT_TYPE);
    let media = media
        .and_then(|media| media.to_str().ok())
        .unwrap_or_default();
    let body = String::from_utf8_lossy(&answer.body);
    html! {
        section.card aria-labelledby="answer" {
            header {
                h2 #answer { "Answer" }
                (state(tone, sign, answer.status.as_str()))
            }
            div.in {
                p.small { code { (operation.method) " " (target) } }
                @if body.is_empty() {
                    p.soft { "It has no body." }
                } @else {
                    (code(media, &body, json(&body, CHARS_MAX)))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(document: &Value) -> Operation {
        operations(document).remove(0)
    }

    #[test]
    fn a_request_is_made_of_the_fields_that_were_filled_in() {
        let operation = of(&json!({ "paths": {
            "/health": { "get": { "operationId": "no" } },
            "/v1/a/{id}/b": { "get": { "operationId": "a", "parameters": [
                { "name": "id", "in": "path", "required": true },
                { "name": "type", "in": "query" },
                { "name": "tenant", "in": "query" },
                { "name": "Idempotency-Key", "in": "header" }
            ] } }
        } }));
        assert_eq!((&*operation.id, operation.takes_body), ("a", false));
        let given = Pairs::from([
            ("id", "../../v1/projects?x#y"),
            ("type", "a&b=c"),
            ("tenant", ""),
            ("csrf", "secret"),
            ("Idempotency-Key", "k"),
        ]);
        assert_eq!(
            target(&operation, &given).unwrap(),
            "/v1/a/..%2F..%2Fv1%2Fprojects%3Fx%23y/b?type=a%26b%3Dc"
        );
        let refusal = target(&operation, &Pairs::from([("id", "")])).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.field.as_deref()),
            (400, Some("id"))
        );
    }
}
