//! The API's description: OpenAPI 3.1 for machines, a page for people.
//!
//! The document is made of the annotations beside the handlers by a test, which
//! holds `openapi.json` to it: nothing of that is left for a process to do. The page
//! is made of the document, once, when first asked for. It is whole without script, which
//! adds search and copying; nothing is loaded from elsewhere, and its policy would not
//! allow it. Requests are tried in the console, by its session: this page knows of none.

mod answer;
#[cfg(test)]
mod conventions;
mod curl;
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
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, VARY};
use http::uri::Authority;
use serde_json::Value;

/// The OpenAPI 3.1 document of every route, as JSON.
pub const OPENAPI: &str = include_str!("openapi.json");

/// It changes with the program only, but under the same URL.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");
/// The page shows where it was asked for, which any client may say of itself: a cache
/// that others share would show them that.
const PAGE_CACHE: HeaderValue = HeaderValue::from_static("private, max-age=300");
const PAGE_VARIES: HeaderValue = HeaderValue::from_static("x-forwarded-host, x-forwarded-proto");

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
pub async fn page(headers: HeaderMap) -> Response {
    static PAGE: OnceLock<String> = OnceLock::new();
    let html = PAGE.get_or_init(|| page::render(&document()));
    let html = html.replace(page::ADDRESS, &address(&headers));
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, PAGE_CACHE),
        (VARY, PAGE_VARIES),
        (CONTENT_SECURITY_POLICY, page::POLICY),
    ];
    (headers, html).into_response()
}

/// Where the client found this API, as far as it or the proxy before it says so.
///
/// People paste it into a shell: what is not plainly a host and a port is not shown.
fn address(headers: &HeaderMap) -> String {
    let first = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim)
    };
    let host = |text: &&str| {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b".-:[]".contains(&c);
        text.bytes().all(is_plain) && text.parse::<Authority>().is_ok()
    };
    let forwarded = first("x-forwarded-host").filter(host);
    let named = forwarded.or_else(|| first(HOST.as_str()).filter(host));
    let scheme = match first("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    match named {
        Some(host) => format!("{scheme}://{host}"),
        None => "http://127.0.0.1:8080".to_owned(),
    }
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

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{address, document, page};
    use crate::assets::{DOCS_SCRIPT, DOCS_STYLE};
    use crate::model::operational_event::CATALOG;

    #[test]
    fn the_page_shows_where_it_was_asked_for_and_nothing_a_shell_would_take_otherwise() {
        let seen = |given: &[(&str, &str)]| {
            let given = given.iter().map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
            });
            address(&given.collect::<HeaderMap>())
        };
        for (given, expected) in [
            (
                &[("host", "localhost:9090")] as &[_],
                "http://localhost:9090",
            ),
            (&[("host", "[::1]:9090")], "http://[::1]:9090"),
            (
                &[("host", "api.example.com"), ("x-forwarded-proto", "https")],
                "https://api.example.com",
            ),
            (
                &[
                    ("host", "10.0.0.1"),
                    ("x-forwarded-host", "a.example, b"),
                    ("x-forwarded-proto", "https, http"),
                ],
                "https://a.example",
            ),
            (
                &[("host", "a.example"), ("x-forwarded-host", "$(id)")],
                "http://a.example",
            ),
            (
                &[("host", "a.example"), ("x-forwarded-proto", "javascript")],
                "http://a.example",
            ),
            (&[("host", "a;id")], "http://127.0.0.1:8080"),
            (&[("host", "user@a.example")], "http://127.0.0.1:8080"),
            (&[("host", "<b>")], "http://127.0.0.1:8080"),
            (&[("host", "`id`")], "http://127.0.0.1:8080"),
            (&[("host", "ä.example")], "http://127.0.0.1:8080"),
            (&[("host", "")], "http://127.0.0.1:8080"),
            (&[], "http://127.0.0.1:8080"),
        ] {
            assert_eq!(seen(given), expected, "{given:?}");
        }
        assert_eq!(page::render(&document()).matches(page::ADDRESS).count(), 1);
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
    fn every_operational_event_is_on_the_page() {
        let html = page::render(&document());
        for entry in &CATALOG {
            let name = format!("<code>{}</code></p>", entry.event_type);
            assert_eq!(html.matches(&name).count(), 1, "{}", entry.event_type);
        }
    }

    #[test]
    fn the_page_loads_its_style_and_its_script_and_nothing_else() {
        let html = page::render(&document());
        let style = format!("<link rel=\"stylesheet\" href=\"{}\">", DOCS_STYLE.path());
        let script = format!("<script src=\"{}\" defer></script>", DOCS_SCRIPT.path());
        for (loads, own) in [("<link", &style), ("<script", &script), ("src=", &script)] {
            assert_eq!(html.matches(loads).count(), 1, "{loads}");
            assert_eq!(html.matches(&**own).count(), 1, "{own}");
        }
        for loads in [
            "<style",
            "style=",
            "url(",
            "@import",
            "<iframe",
            "href=\"http",
            "href=\"//",
        ] {
            assert!(!html.contains(loads), "{loads}");
        }
        let policy = page::POLICY;
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self';"));
    }

    #[test]
    fn what_takes_a_key_can_be_tried_in_the_console() {
        let document = document();
        let html = page::render(&document);
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            let link = format!("href=\"/console/api/{id}");
            let takes_key = path.starts_with("/v1/");
            assert_eq!(html.contains(&link), takes_key, "{method} {path}");
        }
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
