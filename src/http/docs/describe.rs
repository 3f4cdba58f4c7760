//! The OpenAPI document, as the annotations beside the handlers make it.

use http::StatusCode;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr};
use utoipa::{Modify, OpenApi};

use super::idempotency;
use crate::config::tests::hold_file;
use crate::http::{problem, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Millrace",
        description = "Events in once, signed webhooks out. Times are RFC 3339 in UTC; \
            errors are problem+json (RFC 9457); lists are pages with an opaque cursor.",
        license(name = "MIT", identifier = "MIT"),
    ),
    components(schemas(problem::Problem)),
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
    ),
    modifiers(&DocumentAddon),
)]
struct ApiDoc;

/// What the annotations leave out: how one authenticates and, as OpenAPI requires
/// them, operation ids that are unique, `events_list` for `list` in `events`, and a
/// description of each response.
struct DocumentAddon;

impl Modify for DocumentAddon {
    fn modify(&self, document: &mut Document) {
        document.merge(routes::RouteDocs::openapi());
        idempotency::describe(document);
        let components = document.components.get_or_insert_default();
        for (name, what) in [
            ("api_key", "An API key, mr_…"),
            ("admin_key", "The admin key"),
        ] {
            let mut scheme = Http::new(HttpAuthScheme::Bearer);
            scheme.description = Some(what.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
        for path in document.paths.paths.values_mut() {
            let operations = [
                &mut path.get,
                &mut path.put,
                &mut path.post,
                &mut path.patch,
                &mut path.delete,
            ];
            for operation in operations.into_iter().flatten() {
                let tag = operation.tags.iter().flatten().next();
                if let (Some(tag), Some(id)) = (tag, &mut operation.operation_id) {
                    *id = format!("{tag}_{id}").replace('-', "_");
                }
                for (status, response) in &mut operation.responses.responses {
                    if let RefOr::T(response) = response
                        && response.description.is_empty()
                    {
                        reason(status).clone_into(&mut response.description);
                    }
                }
            }
        }
    }
}

fn reason(status: &str) -> &'static str {
    let status = StatusCode::from_bytes(status.as_bytes()).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("The answer")
}

#[test]
fn the_file_says_what_the_annotations_say() {
    let made = ApiDoc::openapi().to_pretty_json().unwrap() + "\n";
    hold_file("http/openapi.json", &made, "openapi");
}
