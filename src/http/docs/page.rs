//! The documentation page, rendered from the OpenAPI document.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::header::HeaderValue;
use serde_json::Value;
use url::form_urlencoded;

use super::html::{Path, Prose, Text};
use super::{answer, curl, schema};
use crate::assets::{DOCS_SCRIPT, DOCS_STYLE};

/// Methods in the order a reader meets them: make, list, look, change, remove.
const METHODS: [&str; 5] = ["post", "get", "put", "patch", "delete"];

/// Stands for the address the page is asked at. No text of the document can be it,
/// since all of it is escaped.
pub(super) const ADDRESS: &str = "<!--address-->";

/// What lets the page have its style and its script, and nothing else. No text becomes
/// elements.
pub(super) const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'",
);

struct Route<'a> {
    method: &'a str,
    path: &'a str,
    operation: &'a Value,
}

/// The security scheme of a route, and the scope it takes.
struct Security<'a> {
    scheme: &'a str,
    scope: Option<&'a str>,
}

impl<'a> Route<'a> {
    fn id(&self) -> &'a str {
        self.operation["operationId"].as_str().unwrap_or_default()
    }

    fn tag(&self) -> &'a str {
        self.operation["tags"][0].as_str().unwrap_or_default()
    }

    fn summary(&self) -> &'a str {
        let summary = self.operation["summary"].as_str().unwrap_or_default();
        summary.trim_end_matches('.')
    }

    fn parameters(&self) -> impl Iterator<Item = &'a Value> {
        self.operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
    }

    fn security(&self) -> Option<Security<'a>> {
        let (scheme, scopes) = self.operation["security"][0].as_object()?.iter().next()?;
        let scope = scopes[0].as_str();
        Some(Security { scheme, scope })
    }

    fn responses(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.operation["responses"]
            .as_object()
            .into_iter()
            .flatten()
    }
}

pub(super) fn render(document: &Value) -> String {
    let routes = routes(document);
    let tags = tags(document, &routes);
    let title = document["info"]["title"].as_str().unwrap_or_default();
    let mut out = String::with_capacity(256 * 1024);
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{} API</title><link rel=\"stylesheet\" href=\"{}\">\
         <script src=\"{}\" defer></script></head><body>",
        Text(title),
        DOCS_STYLE.path(),
        DOCS_SCRIPT.path()
    );
    write_contents(&mut out, title, &tags, &routes);
    out.push_str("<main>");
    write_introduction(&mut out, document);
    for (tag, description) in &tags {
        let _ = write!(
            out,
            "<section id=\"{0}\"><h2>{0}</h2><p class=\"lead\">{1}</p>",
            Text(tag),
            Prose(description)
        );
        write_preparation(&mut out, document, tag);
        for route in routes.iter().filter(|route| route.tag() == *tag) {
            write_route(&mut out, document, route);
        }
        out.push_str("</section>");
    }
    write_webhooks(&mut out, document);
    write_errors(&mut out, document, &routes);
    out.push_str("</main></body></html>");
    out
}

fn routes(document: &Value) -> Vec<Route<'_>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let routes = paths.flat_map(|(path, item)| {
        let there = METHODS.iter().filter(|method| item[**method].is_object());
        there.map(move |method| Route {
            method,
            path,
            operation: &item[method],
        })
    });
    let mut routes: Vec<_> = routes.collect();
    // Last in its section, so that what the other examples use is still there; but first
    // if they use what it answers.
    routes.sort_by_key(|route| match route.method {
        "delete" if curl::sets_variable(route.method, route.path) => 0,
        "delete" => 2,
        _ => 1,
    });
    routes
}

/// Tags with what they are about, in the document's order; those it does not
/// describe come last.
fn tags<'a>(document: &'a Value, routes: &[Route<'a>]) -> Vec<(&'a str, &'a str)> {
    let text = |tag: &'a Value, name: &str| tag[name].as_str().unwrap_or_default();
    let described = document["tags"].as_array().into_iter().flatten();
    let mut tags: Vec<_> = described
        .map(|tag| (text(tag, "name"), text(tag, "description")))
        .filter(|(name, _)| routes.iter().any(|route| route.tag() == *name))
        .collect();
    for route in routes {
        if !tags.iter().any(|(name, _)| *name == route.tag()) {
            tags.push((route.tag(), ""));
        }
    }
    tags
}

fn write_contents(out: &mut String, title: &str, tags: &[(&str, &str)], routes: &[Route<'_>]) {
    let _ = write!(
        out,
        "<nav aria-label=\"Contents\"><a class=\"home\" href=\"#top\">{}</a>\
         <form id=\"search\" role=\"search\"><input type=\"search\" aria-label=\"Search the API\" \
         placeholder=\"Search, with /\" autocomplete=\"off\" spellcheck=\"false\">\
         <small id=\"found\" aria-live=\"polite\"></small></form>",
        Text(title)
    );
    for (tag, _) in tags {
        let _ = write!(out, "<h2><a href=\"#{0}\">{0}</a></h2><ul>", Text(tag));
        for route in routes.iter().filter(|route| route.tag() == *tag) {
            let _ = write!(
                out,
                "<li><a href=\"#{0}\" title=\"{1}\"><em class=\"{2}\">{2}</em>\
                 <span>{3}</span></a></li>",
                Text(route.id()),
                Text(route.summary()),
                route.method,
                Path(short(route.path)),
            );
        }
        out.push_str("</ul>");
    }
    out.push_str(
        "<h2><a href=\"#webhooks\">webhooks</a></h2>\
         <h2><a href=\"#errors\">errors</a></h2></nav>",
    );
}

/// A path without the prefix that nearly all have.
fn short(path: &str) -> &str {
    path.strip_prefix("/v1").unwrap_or(path)
}

fn write_introduction(out: &mut String, document: &Value) {
    let info = &document["info"];
    let text = |name: &str| info[name].as_str().unwrap_or_default();
    let _ = write!(
        out,
        "<header id=\"top\"><h1>{} <small>API {}</small></h1><p class=\"lead\">{}</p>\
         <p>Machines read <a href=\"/openapi.json\">/openapi.json</a>, OpenAPI 3.1. \
         A request carries a key, <code>Authorization: Bearer mr_…</code>; each route \
         below names the scope the key needs. The examples work as they stand, in the order \
         of this page, once these are set. <code>ADMIN_KEY</code> is for projects alone and on \
         a laptop in <code>.millrace/admin_key</code>; at <code>WEBHOOK_URL</code> something \
         receives.</p><pre>export MILLRACE_URL={ADDRESS}",
        Text(text("title")),
        Text(text("version")),
        Prose(text("description")),
    );
    for (name, example) in curl::SET_BY_READER {
        let _ = write!(out, "\nexport {name}={}", Text(example));
    }
    out.push_str("</pre></header>");
}

/// What the examples of a section need to be there.
fn write_preparation(out: &mut String, document: &Value, tag: &str) {
    let Some((_, paths)) = curl::PREPARED.iter().find(|(of, _)| *of == tag) else {
        return;
    };
    out.push_str("<p>For the examples:</p>");
    for path in *paths {
        let line = curl::line(document, "post", path);
        let _ = write!(out, "<pre>{}</pre>", Text(line));
    }
}

fn write_route(out: &mut String, document: &Value, route: &Route<'_>) {
    let _ = write!(
        out,
        "<article id=\"{0}\"><h3><a href=\"#{0}\">{1}</a></h3>\
         <p class=\"route\"><em class=\"{2}\">{2}</em> <code>{3}</code>{4}{5}</p>",
        Text(route.id()),
        Prose(route.summary()),
        route.method,
        Path(route.path),
        key(route),
        try_link(document, route),
    );
    let description = route.operation["description"].as_str();
    // One that has no more to say repeats the summary, for linters.
    if let Some(description) = description.filter(|text| *text != route.operation["summary"]) {
        for paragraph in description.split("\n\n") {
            let _ = write!(out, "<p>{}</p>", Prose(paragraph));
        }
    }
    let _ = write!(
        out,
        "<pre>{}</pre>",
        Text(curl::line(document, route.method, route.path))
    );
    write_parameters(out, document, route);
    write_body(out, document, route);
    write_responses(out, document, route);
    out.push_str("</article>");
}

fn key(route: &Route<'_>) -> String {
    let Some(Security { scheme, scope }) = route.security() else {
        return "<span class=\"key open\">no key</span>".to_owned();
    };
    match (scheme, scope) {
        (_, Some(scope)) => {
            format!(
                "<span class=\"key\" title=\"the scope the key needs\">{}</span>",
                Text(scope)
            )
        }
        ("admin_key", None) => "<span class=\"key\">admin key</span>".to_owned(),
        (scheme, None) => format!("<span class=\"key\">{}</span>", Text(scheme)),
    }
}

/// The link to the console's form of the route, with the body that is shown here; none of
/// what anybody may ask for.
fn try_link(document: &Value, route: &Route<'_>) -> String {
    if route.security().is_none() {
        return String::new();
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some((_, body)) = curl::body(route.operation) {
        query.append_pair("body", &schema::example_text(document, body));
    }
    let query = query.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!(
        "<a class=\"try\" href=\"/console/api/{}{mark}{}\">Try it</a>",
        Text(route.id()),
        Text(query)
    )
}

fn write_parameters(out: &mut String, document: &Value, route: &Route<'_>) {
    if route.parameters().next().is_none() {
        return;
    }
    out.push_str("<h4>Parameters</h4><ul class=\"fields\">");
    for parameter in route.parameters() {
        let place = parameter["in"].as_str().unwrap_or_default();
        let note = match (place, parameter["required"] == true) {
            ("path", _) => "<i>in the path</i>",
            (_, true) => "",
            (_, false) => "<i>optional</i>",
        };
        let _ = write!(
            out,
            "<li><div><b>{}</b> <span>{}</span>{note}</div><div>{}</div></li>",
            Text(parameter["name"].as_str().unwrap_or_default()),
            Text(schema::kind(document, &parameter["schema"])),
            Prose(parameter["description"].as_str().unwrap_or_default())
        );
    }
    out.push_str("</ul>");
}

fn write_body(out: &mut String, document: &Value, route: &Route<'_>) {
    let Some((_, shown)) = curl::body(route.operation) else {
        return;
    };
    let content = route.operation["requestBody"]["content"].as_object();
    let media: Vec<_> = content
        .into_iter()
        .flatten()
        .map(|(media, _)| media.as_str())
        .collect();
    let _ = write!(
        out,
        "<details><summary><h4>Request body</h4> <small>{}</small></summary>",
        Text(media.join(" · "))
    );
    schema::write_fields(out, document, shown);
    out.push_str("</details>");
}

fn write_responses(out: &mut String, document: &Value, route: &Route<'_>) {
    let mut errors = String::new();
    for (status, response) in route.responses() {
        let description = response["description"].as_str().unwrap_or_default();
        let content = response["content"].as_object();
        let Some((media, content)) = content.and_then(|content| content.iter().next()) else {
            let _ = write!(
                out,
                "<p class=\"status\"><b>{}</b> {}</p>",
                Text(status),
                Prose(description)
            );
            continue;
        };
        if media == "application/problem+json" {
            let _ = write!(
                errors,
                " <a href=\"#error-{0}\" title=\"{1}\">{0}</a>",
                Text(status),
                Text(description)
            );
            continue;
        }
        let _ = write!(
            out,
            "<details><summary><h4>{}</h4> {} <small>{}</small></summary>",
            Text(status),
            Prose(description),
            Text(media)
        );
        if schema::has_fields(document, &content["schema"]) {
            schema::write_fields(out, document, &content["schema"]);
        } else {
            let kind = schema::kind(document, &content["schema"]);
            let _ = write!(out, "<p>{}</p>", Text(kind));
        }
        if media == "application/json" {
            let example = answer::text(document, &content["schema"]);
            let _ = write!(out, "<pre class=\"json\">{}</pre>", Text(example));
        }
        out.push_str("</details>");
    }
    if !errors.is_empty() {
        let _ = write!(out, "<p class=\"errors\">Problems{errors}</p>");
    }
}

fn write_webhooks(out: &mut String, document: &Value) {
    let described = document["tags"].as_array().into_iter().flatten();
    let lead = described.clone().find(|tag| tag["name"] == "webhooks");
    let lead = lead.and_then(|tag| tag["description"].as_str());
    let _ = write!(
        out,
        "<section id=\"webhooks\"><h2>webhooks</h2><p class=\"lead\">{}</p>",
        Prose(lead.unwrap_or_default())
    );
    let webhooks = document["webhooks"].as_object().into_iter().flatten();
    for (name, item) in webhooks {
        let operation = &item["post"];
        let text = |field: &str| operation[field].as_str().unwrap_or_default();
        let content = &operation["requestBody"]["content"]["application/cloudevents+json"];
        let _ = write!(
            out,
            "<article id=\"{}\"><h3>{}</h3><p class=\"route\"><code>{}</code></p><p>{}</p>\
             <pre class=\"json\">{}</pre>",
            Text(text("operationId")),
            Prose(text("summary").trim_end_matches('.')),
            Text(name),
            Prose(text("description")),
            Text(format!("{:#}", content["example"])),
        );
        out.push_str("<details><summary><h4>Body</h4></summary>");
        schema::write_fields(out, document, &content["schema"]);
        out.push_str("</details></article>");
    }
    out.push_str("</section>");
}

fn write_errors(out: &mut String, document: &Value, routes: &[Route<'_>]) {
    let mut statuses = BTreeMap::new();
    for (status, response) in routes.iter().flat_map(Route::responses) {
        if response["content"]["application/problem+json"].is_object() {
            statuses.entry(status).or_insert(response);
        }
    }
    let Some(response) = statuses.values().next() else {
        return;
    };
    out.push_str(
        "<section id=\"errors\"><h2>errors</h2><p class=\"lead\">Every error is \
         <code>application/problem+json</code> (RFC 9457).</p><article><table>",
    );
    for (status, response) in &statuses {
        let _ = write!(
            out,
            "<tr id=\"error-{0}\"><th>{0}</th><td>{1}</td></tr>",
            Text(status),
            Prose(response["description"].as_str().unwrap_or_default())
        );
    }
    out.push_str("</table><h4>Fields</h4>");
    schema::write_fields(
        out,
        document,
        &response["content"]["application/problem+json"]["schema"],
    );
    out.push_str("</article></section>");
}
