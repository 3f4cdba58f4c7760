//! The API's description: OpenAPI 3.1 for machines, a page for people.
//!
//! Both are made from the annotations beside the handlers, once, when first asked
//! for. The page is whole in itself: no script, nothing loaded from elsewhere, and
//! a policy that would not allow it.

mod html;
mod page;
mod schema;

use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use utoipa::openapi::{OpenApi, RefOr};

/// Both change with the program only, but under the same URL.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The OpenAPI 3.1 document of this API.
#[utoipa::path(get, path = "/openapi.json", tag = "docs", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn openapi() -> Response {
    static JSON: OnceLock<Bytes> = OnceLock::new();
    let json = JSON.get_or_init(|| {
        let json = super::openapi().to_json();
        json.expect("the document has no map with odd keys").into()
    });
    let content_type = HeaderValue::from_static("application/json");
    (
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, CACHE)],
        json.clone(),
    )
        .into_response()
}

/// The page you are looking at.
#[utoipa::path(get, path = "/docs", tag = "docs", security(()),
    responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
pub async fn page() -> Response {
    static PAGE: OnceLock<(Bytes, HeaderValue)> = OnceLock::new();
    let (html, policy) = PAGE.get_or_init(|| {
        let document = serde_json::to_value(super::openapi());
        let html = page::render(&document.expect("the document has no map with odd keys"));
        let policy = HeaderValue::from_str(&page::policy()).expect("a hash is ASCII");
        (html.into(), policy)
    });
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, CACHE),
        (CONTENT_SECURITY_POLICY, policy.clone()),
    ];
    (headers, html.clone()).into_response()
}

/// Adds what the annotations leave out and OpenAPI requires: operation ids that
/// are unique, `events_list` for `list` in `events`, and a description for each
/// response.
pub(super) fn complete(document: &mut OpenApi) {
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

fn reason(status: &str) -> &'static str {
    let status = StatusCode::from_bytes(status.as_bytes()).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or("The answer")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::page;

    fn document() -> Value {
        serde_json::to_value(crate::http::openapi()).unwrap()
    }

    fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter()
                .map(move |(method, operation)| (path, method, operation))
        })
    }

    #[test]
    fn every_operation_is_described_as_openapi_requires() {
        let document = document();
        let mut ids = HashSet::new();
        for (path, method, operation) in operations(&document) {
            assert!(
                ids.insert(operation["operationId"].as_str()),
                "{method} {path}"
            );
            assert!(operation["summary"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let description = response["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{method} {path} {status}");
            }
        }
    }

    #[test]
    fn every_route_is_on_the_page() {
        let document = document();
        let html = page::render(&document);
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(html.contains(&format!("id=\"{id}\"")), "{method} {path}");
            let plain = path.replace(['{', '}'], "");
            let text = html
                .replace("<var>", "")
                .replace("</var>", "")
                .replace(['{', '}'], "");
            assert!(text.contains(&plain), "{path}");
        }
    }

    #[test]
    fn the_page_loads_nothing() {
        let html = page::render(&document());
        for loads in [
            "src=",
            "url(",
            "@import",
            "<link",
            "<script",
            "<iframe",
            "href=\"http",
            "href=\"//",
        ] {
            assert!(!html.contains(loads), "{loads}");
        }
        assert!(page::policy().starts_with("default-src 'none'; style-src 'sha256-"));
    }

    #[test]
    fn what_the_document_says_is_text() {
        let evil = "<img src=x> & \"q\" `<blink>`";
        let mut document = document();
        document["info"]["description"] = evil.into();
        document["paths"]["/v1/events"]["post"]["summary"] = evil.into();
        document["paths"]["/v1/events"]["post"]["description"] = evil.into();
        document["paths"]["/v1/events"]["get"]["parameters"][0]["name"] = evil.into();
        document["components"]["schemas"]["EventBody"]["properties"]["id"]["description"] =
            evil.into();
        let html = page::render(&document);
        assert!(!html.contains("<img") && !html.contains("<blink>"));
        assert!(
            html.matches("&lt;img src=x&gt; &amp; &quot;q&quot;")
                .count()
                >= 5
        );
    }
}
