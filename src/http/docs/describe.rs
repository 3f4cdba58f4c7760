//! The OpenAPI document, as the annotations beside the handlers make it.
//!
//! Annotations say what is an operation's own. What follows from its shape, and what
//! generators of clients need, is added here, for all operations alike.

use http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::idempotency;
use super::webhooks::{self, SCHEMAS};
use crate::config::tests::hold_file;
use crate::http::problem::{Problem, Problems};
use crate::http::routes;
use crate::model::window::Width;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Events in once, signed webhooks out. Times are RFC 3339 in UTC; \
            errors are problem+json (RFC 9457), which name the field and repeat no value; \
            lists are pages with an opaque cursor, which is read in its own list alone. In a \
            PATCH what is absent stays, and null puts a field back to what it is on a \
            resource made without it; what a resource always has refuses null.",
        license(name = "MIT", identifier = "MIT"),
        contact(name = "Whoever runs the instance that serves this document"),
    ),
    servers(
        (url = "/", description = "The instance that serves this document"),
        (url = "http://127.0.0.1:8080", description = "`cargo run` on a laptop"),
    ),
    components(schemas(Problem, Width)),
    tags(
        (name = "events", description = "Publish events and look at them"),
        (name = "endpoints", description = "Where webhooks go"),
        (name = "deliveries", description = "What became of each event at each endpoint"),
        (name = "meters", description = "What is counted for billing and metrics"),
        (name = "recoveries", description = "Sending again, in bulk, what failed or never went"),
        (name = "event types", description = "What kinds of events there are, and what their data must satisfy"),
        (name = "projects", description = "Projects and their API keys; needs the admin key"),
        (name = "audit", description = "Who changed what of the configuration, and when"),
        (name = "health", description = "Whether it is alive and ready"),
        (name = "docs", description = "This description, for machines and for people"),
        (name = "webhooks", description = "What your customers' endpoints are sent"),
    ),
    modifiers(&Routes),
)]
struct ApiDoc;

/// The operations of all routes, and how one authenticates.
struct Routes;

impl Modify for Routes {
    fn modify(&self, document: &mut Document) {
        document.merge(routes::RouteDocs::openapi());
        idempotency::describe(document);
        let components = document.components.get_or_insert_default();
        for (name, what) in [
            ("api_key", "An API key of a project, mr_…; scopes as named"),
            ("admin_key", "The admin key"),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(what.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}

/// The whole document.
pub(super) fn described() -> Value {
    let mut document = serde_json::to_value(ApiDoc::openapi()).expect("it is plain JSON");
    name_pages(&mut document["components"]["schemas"]);
    rename_references(&mut document);
    simplify(&mut document);
    let schemas = document["components"]["schemas"].clone();
    for (_, method, operation) in super::operations_mut(&mut document["paths"]) {
        simplify_parameters(operation);
        if method == "post" {
            relieve_of_body(&schemas, operation);
        }
        complete(operation);
    }
    document["webhooks"] = webhooks::described();
    document
}

/// A page of `T`s as a component `TPage` whose items refer to `T`: the annotations
/// write `T` out in each.
fn name_pages(schemas: &mut Value) {
    let names: Vec<String> = keys(schemas);
    for name in names {
        let Some(row) = name.strip_prefix(PAGE_PREFIX) else {
            continue;
        };
        let mut page = schemas[&name].take();
        assert!(schemas[row].is_object(), "no component {row} for {name}");
        page["properties"]["data"]["items"] = json!({ "$ref": format!("{SCHEMAS}{row}") });
        let schemas = schemas.as_object_mut().expect("components are an object");
        schemas.remove(&name);
        schemas.insert(format!("{row}Page"), page);
    }
}

const PAGE_PREFIX: &str = "Page_";

fn keys(object: &Value) -> Vec<String> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, _)| name.clone()).collect()
}

/// Calls `change` with every value within `value`, the inner ones first.
fn for_each(value: &mut Value, change: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Object(members) => members
            .values_mut()
            .for_each(|member| for_each(member, change)),
        Value::Array(items) => items.iter_mut().for_each(|item| for_each(item, change)),
        _ => {}
    }
    change(value);
}

fn rename_references(document: &mut Value) {
    for_each(document, &mut |value| {
        let Some(reference) = value["$ref"].as_str() else {
            return;
        };
        let page = reference.strip_prefix(SCHEMAS);
        if let Some(row) = page.and_then(|name| name.strip_prefix(PAGE_PREFIX)) {
            value["$ref"] = format!("{SCHEMAS}{row}Page").into();
        }
    });
}

/// Says what it says in the way that generators understand.
fn simplify(document: &mut Value) {
    for_each(document, &mut |value| {
        let Some(schema) = value.as_object_mut() else {
            return;
        };
        // That names are strings is true of all JSON.
        schema.remove("propertyNames");
        // A description belongs to the field, not to one of its alternatives.
        let is_nullable = schema
            .get("oneOf")
            .and_then(Value::as_array)
            .is_some_and(|list| list.len() == 2 && list[1] == json!({ "type": "null" }));
        if is_nullable && let Some(of) = schema["oneOf"][0].as_object_mut() {
            let description = of.remove("description");
            description.map(|text| schema.entry("description").or_insert(text));
        }
    });
}

/// A parameter is absent or has a value: there is no null in a URL.
fn simplify_parameters(operation: &mut Value) {
    let parameters = operation.get_mut("parameters");
    let parameters = parameters.and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let schema = &mut parameter["schema"];
        let alternatives = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        if let Some(alternatives) = alternatives {
            alternatives.retain(|one| *one != json!({ "type": "null" }));
            if let [only] = &mut **alternatives {
                *schema = only.take();
            }
        }
    }
}

/// A body of which nothing is required may be left out.
fn relieve_of_body(schemas: &Value, operation: &mut Value) {
    let Some(body) = operation.get_mut("requestBody") else {
        return;
    };
    let reference = body["content"]["application/json"]["schema"]["$ref"].as_str();
    if let Some(name) = reference.and_then(|reference| reference.strip_prefix(SCHEMAS))
        && schemas[name]["required"].is_null()
    {
        body["required"] = false.into();
    }
}

/// Adds to an operation what follows from its shape.
fn complete(operation: &mut Value) {
    if operation["description"].is_null() {
        operation["description"] = operation["summary"].clone();
    }
    if operation["security"] == json!([{}]) {
        operation["security"] = json!([]);
    }
    let possible = |status: &str| can_happen(status, operation);
    let impossible: Vec<_> = Problems::responses()
        .into_iter()
        .filter(|(status, _)| !possible(status))
        .map(|(status, response)| (status, description(&response)))
        .collect();
    let responses = operation["responses"]
        .as_object_mut()
        .expect("there are responses");
    // Those that are described otherwise an operation has by its own saying.
    responses.retain(|status, response| {
        let by_shape = impossible.iter().find(|(name, _)| name == status);
        by_shape.is_none_or(|(_, text)| response["description"] != **text)
    });
    for (status, response) in responses {
        let code = StatusCode::from_bytes(status.as_bytes()).expect("a status");
        if response["description"].is_null() {
            response["description"] = code.canonical_reason().unwrap_or("The answer").into();
        }
        let is_problem = code.is_client_error() || code.is_server_error();
        if is_problem && response["content"].is_null() {
            let problem = json!({ "schema": { "$ref": format!("{SCHEMAS}Problem") } });
            response["content"] = json!({ "application/problem+json": problem });
        }
        if matches!(code.as_u16(), 429 | 503) && is_problem_only(response) {
            let seconds = json!({ "type": "integer", "minimum": 1, "maximum": 86_400 });
            response["headers"]["Retry-After"] = json!({
                "description": "Seconds after which the same request may work",
                "schema": seconds,
            });
        }
    }
}

fn is_problem_only(response: &Value) -> bool {
    response["content"]["application/problem+json"].is_object()
}

fn description(response: &RefOr<utoipa::openapi::Response>) -> String {
    match response {
        RefOr::T(response) => response.description.clone(),
        RefOr::Ref(_) => String::new(),
    }
}

/// Whether an operation of this shape may answer with a problem of `status`.
fn can_happen(status: &str, operation: &Value) -> bool {
    let parameters = || operation["parameters"].as_array().into_iter().flatten();
    let takes_body = operation["requestBody"].is_object();
    match status {
        // What is no id of its kind names nothing.
        "400" => takes_body || parameters().any(|parameter| parameter["in"] != "path"),
        "404" => parameters().any(|parameter| parameter["in"] == "path"),
        "413" | "415" => takes_body,
        // All others: whoever needs a key reads stores, and what reads none cannot fail.
        _ => operation["security"] != json!([]),
    }
}

#[test]
fn the_file_says_what_the_annotations_say() {
    let made = serde_json::to_string_pretty(&described()).unwrap() + "\n";
    hold_file("http/openapi.json", &made, "openapi");
}
