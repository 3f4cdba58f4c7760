//! The API's description: OpenAPI 3.1 for machines, a page for people.
//!
//! The document is made of the annotations beside the handlers by a test, which
//! holds `openapi.json` to it: nothing of that is left for a process to do. The page
//! is made of the document, once, when first asked for. It is whole in itself: no
//! script, nothing loaded from elsewhere, and a policy that would not allow it.

#[cfg(test)]
mod conventions;
#[cfg(test)]
mod describe;
mod html;
#[cfg(test)]
mod idempotency;
mod page;
mod schema;
#[cfg(test)]
mod webhooks;

use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use serde_json::Value;

/// The OpenAPI 3.1 document of every route, as JSON.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Both change with the program only, but under the same URL.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The OpenAPI 3.1 document of this API.
#[utoipa::path(get, path = "/openapi.json", tag = "docs", security(()),
    operation_id = "getOpenapi",
    responses((status = 200, description = "OpenAPI 3.1", body = BTreeMap<String, serde_json::Value>)))]
pub async fn openapi() -> Response {
    let content_type = HeaderValue::from_static("application/json");
    (
        [(CONTENT_TYPE, content_type), (CACHE_CONTROL, CACHE)],
        OPENAPI,
    )
        .into_response()
}

/// The page you are looking at.
#[utoipa::path(get, path = "/docs", tag = "docs", security(()),
    operation_id = "getDocumentation",
    responses((status = 200, description = "HTML", content_type = "text/html", body = String)))]
pub async fn page() -> Response {
    static PAGE: OnceLock<(Bytes, HeaderValue)> = OnceLock::new();
    let (html, policy) = PAGE.get_or_init(|| {
        let html = page::render(&document());
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

fn document() -> Value {
    serde_json::from_str(OPENAPI).expect("a test holds it to be JSON")
}

/// Every operation of `paths` with its path and method.
#[cfg(test)]
fn operations_mut(paths: &mut Value) -> Vec<(String, String, &mut Value)> {
    let paths = paths.as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let methods = item.as_object_mut().into_iter().flatten();
        methods.map(|(method, operation)| (path.clone(), method.clone(), operation))
    });
    operations.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::Value;

    use super::{document, page};
    use crate::model::operational_event::CATALOG;

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
    fn every_operational_event_is_on_the_page() {
        let html = page::render(&document());
        for entry in &CATALOG {
            let name = format!("<code>{}</code></p>", entry.event_type);
            assert_eq!(html.matches(&name).count(), 1, "{}", entry.event_type);
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
        document["components"]["schemas"]["EventPublish"]["properties"]["id"]["description"] =
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
