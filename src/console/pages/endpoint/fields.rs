//! The fields of an endpoint's form: as they are shown, and as the API is told them.
//!
//! Nothing is checked here that the API checks: what is no number is sent as it was typed,
//! and refused in the API's words.

use http::StatusCode;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::shown::Endpoint;
use crate::console::inputs::{Errors, select, tick};
use crate::console::pairs::{Pairs, href};
use crate::console::parts::{Field, field, icon};
use crate::console::refusal::Refusal;

const FORMATS: [(&str, &str); 2] = [
    ("cloudevents", "The whole event in JSON"),
    ("data", "Its data, attributes as headers"),
];
const CONTENT_TYPES: [(&str, &str); 2] = [
    (
        "application/cloudevents+json",
        "application/cloudevents+json",
    ),
    ("application/json", "application/json"),
];
const SCHEMES: [(&str, &str); 2] = [("v1", "HMAC-SHA256 (v1)"), ("v1a", "Ed25519 (v1a)")];

/// What stands in the fields of `endpoint`'s form at first.
pub fn of(endpoint: &Endpoint) -> Pairs {
    let metadata = endpoint.metadata.iter();
    let metadata: Vec<_> = metadata
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let (rate, most) = (
        endpoint.rate_limit.map(|n| n.to_string()),
        endpoint.max_concurrency.map(|n| n.to_string()),
    );
    let query = href(
        "",
        &[
            ("url", Some(&endpoint.url)),
            ("description", Some(&endpoint.description)),
            ("event_types", Some(&endpoint.event_types.join("\n"))),
            ("tenant", endpoint.tenant.as_deref()),
            ("uid", endpoint.uid.as_deref()),
            ("rate_limit", rate.as_deref()),
            ("max_concurrency", most.as_deref()),
            ("body_format", Some(&endpoint.body_format)),
            ("content_type", endpoint.content_type.as_deref()),
            ("metadata", Some(&metadata.join("\n"))),
        ],
    );
    Pairs::parse(query.trim_start_matches('?').as_bytes())
}

/// The body of the API's request: to create one, or to change the one that was `before`.
///
/// # Errors
/// A [`Refusal`] of a header or a note that is there twice, which JSON cannot say.
pub fn body(typed: &Pairs, before: Option<&Endpoint>, has_tenant: bool) -> Result<Value, Refusal> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        // What is left empty is not said of a new one, and cleared of another.
        if value.is_some() || before.is_some() {
            body.insert(name.to_owned(), value.unwrap_or(Value::Null));
        }
    };
    let text = |name: &str| typed.get(name).map(|text| Value::from(text.trim()));
    set("url", Some(typed.text("url").trim().into()));
    for name in ["description", "uid"] {
        set(name, text(name));
    }
    if has_tenant {
        set("tenant", text("tenant"));
    }
    let types = typed.text("event_types");
    let types: Vec<_> = types
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|one| !one.is_empty())
        .collect();
    set("event_types", (!types.is_empty()).then(|| json!(types)));
    for name in ["rate_limit", "max_concurrency"] {
        set(name, typed.get(name).map(number));
    }
    set("body_format", text("body_format"));
    let has_content_type = typed.get("body_format") != Some("data");
    set(
        "content_type",
        text("content_type").filter(|_| has_content_type),
    );
    set("metadata", metadata(typed, before)?);
    if before.is_none() {
        set("scheme", text("scheme"));
        set("secret", text("secret"));
    }
    credentials(typed, &mut body)?;
    Ok(Value::Object(body))
}

/// A number; what is none, as it was typed.
fn number(text: &str) -> Value {
    let text = text.trim();
    text.parse::<u64>()
        .map_or_else(|_| text.into(), Value::from)
}

/// The notes, those that are gone as null.
fn metadata(typed: &Pairs, before: Option<&Endpoint>) -> Result<Option<Value>, Refusal> {
    let mut notes = lines("metadata", typed.text("metadata"))?;
    for name in before.iter().flat_map(|before| before.metadata.keys()) {
        notes.entry(name).or_insert(Value::Null);
    }
    Ok((!notes.is_empty()).then_some(Value::Object(notes)))
}

/// What is said of headers, authentication and certificate. What is left empty stays.
fn credentials(typed: &Pairs, body: &mut Map<String, Value>) -> Result<(), Refusal> {
    let headers = lines("headers", typed.text("headers"))?;
    let none = |name: &str| typed.get(name).is_some();
    if !headers.is_empty() || none("headers_none") {
        body.insert("headers".to_owned(), Value::Object(headers));
    }
    let auth = match typed.text("auth") {
        "none" => Some(Value::Null),
        "basic" => Some(json!({
            "type": "basic", "username": typed.text("username"), "password": typed.text("password"),
        })),
        "bearer" => Some(json!({ "type": "bearer", "token": typed.text("token") })),
        _ => None,
    };
    if let Some(auth) = auth {
        body.insert("auth".to_owned(), auth);
    }
    let (certificate, key) = (typed.text("certificate"), typed.text("private_key"));
    if none("certificate_none") {
        body.insert("client_certificate".to_owned(), Value::Null);
    } else if !certificate.is_empty() || !key.is_empty() {
        let pair = json!({ "certificate": certificate, "private_key": key });
        body.insert("client_certificate".to_owned(), pair);
    }
    Ok(())
}

/// Names and values, `name: value` in each line of the field `name`.
fn lines(name: &str, text: &str) -> Result<Map<String, Value>, Refusal> {
    let mut found = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        if found.insert(key.to_owned(), value.into()).is_some() {
            let mut refusal = Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Not saved",
                "expected each name once",
            );
            refusal.field = Some(name.to_owned());
            return Err(refusal);
        }
    }
    Ok(found)
}

/// The fields, with what was typed and what was refused of it.
pub fn shown(
    typed: &Pairs,
    before: Option<&Endpoint>,
    has_tenant: bool,
    refusal: Option<&Refusal>,
) -> Markup {
    let errors = Errors(refusal);
    let one = |name: &str, label: &str, hint: &str, placeholder: &str, rows: Option<u8>| {
        let error = errors.of(name);
        field(&Field {
            name,
            label,
            hint,
            placeholder,
            rows,
            value: typed.text(name),
            error: error.as_deref(),
            is_mono: name != "description" && name != "tenant",
            is_required: name == "url",
        })
    };
    let pick = |name: &str, label: &str, options: &'static [(&'static str, &'static str)]| {
        let error = errors.of(name);
        select(
            name,
            label,
            options.iter().copied(),
            typed.text(name),
            error.as_deref(),
        )
    };
    html! {
        (one("url", "URL", "Where webhooks go", "https://example.com/webhooks", None))
        (one("description", "Description", "What people call it", "", None))
        (one("event_types", "Takes", "Event types, one a line: exact, or invoice.* for all that begin so; empty for all", "invoice.*", Some(3)))
        div.pair {
            @if has_tenant { (one("tenant", "Tenant", "Only this customer's events; empty for all", "", None)) }
            (one("uid", "Your id", "A name of your own for it in the API", "", None))
        }
        div.pair {
            (one("rate_limit", "Attempts a second", "1 to 1,000; empty for no limit", "", None))
            (one("max_concurrency", "Attempts at once", "1 to 1,000; empty for the default", "", None))
        }
        div.pair {
            (pick("body_format", "Body", &FORMATS))
            (pick("content_type", "Content type", &CONTENT_TYPES))
        }
        (one("metadata", "Notes", "For your own programs: name: value, one a line", "", Some(3)))
        @if before.is_none() {
            div.pair {
                (pick("scheme", "Signed by", &SCHEMES))
                (hidden("secret", "A secret of your own", "whsec_…; empty, one is made", errors))
            }
        }
        (credentials_shown(typed, before, errors))
    }
}

fn credentials_shown(typed: &Pairs, before: Option<&Endpoint>, errors: Errors<'_>) -> Markup {
    let names: Vec<_> = before.iter().flat_map(|one| one.headers.keys()).collect();
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    let hint = if names.is_empty() {
        "Sent along: name: value, one a line; never shown again".to_owned()
    } else {
        let names = names.join(", ");
        format!("It has {names}. What stands here replaces them all; empty, they stay")
    };
    let auth = before.and_then(|before| before.auth.as_ref());
    let first = if auth.is_some() { "As it is" } else { "None" };
    let options = [
        ("", first),
        ("none", "None from now on"),
        ("basic", "User and password"),
        ("bearer", "Token"),
    ];
    let has_certificate = before.is_some_and(|before| before.client_certificate.is_some());
    let opened = ["headers", "auth", "client_certificate"]
        .iter()
        .any(|name| errors.of(name).is_some());
    let text = |name: &str, label: &str, hint: &str, error: Option<String>| {
        field(&Field {
            name,
            label,
            hint,
            value: typed.text(name),
            error: error.as_deref(),
            is_mono: true,
            rows: Some(3),
            ..Field::default()
        })
    };
    html! {
        details open[opened] {
            summary { "Headers, sign-in and certificate" }
            div.form {
                (text("headers", "Headers", &hint, errors.of("headers")))
                @if !names.is_empty() { (tick("headers_none", "Send none of them any more", typed.get("headers_none").is_some(), "", None)) }
                (select("auth", "Sign-in", options, typed.text("auth"), errors.of("auth").as_deref()))
                div.pair {
                    (field(&Field { name: "username", label: "User", value: typed.text("username"), ..Field::default() }))
                    (hidden("password", "Password", "With user and password", errors))
                    (hidden("token", "Token", "With a token", errors))
                }
                (text("certificate", "TLS client certificate", "In PEM, with those it is signed by", errors.of("client_certificate")))
                (hidden_lines("private_key", "Its private key", "In PEM; never shown again"))
                @if has_certificate { (tick("certificate_none", "Use no certificate any more", typed.get("certificate_none").is_some(), "", None)) }
            }
        }
    }
}

/// A field whose value is not shown, and not sent back.
fn hidden(name: &str, label: &str, hint: &str, errors: Errors<'_>) -> Markup {
    let error = errors.of(name);
    let end = if error.is_some() { "e" } else { "h" };
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) class="mono" type="password" autocomplete="off" aria-invalid=[error.as_ref().map(|_| "true")] aria-describedby={ (name) "-" (end) };
            @match &error {
                Some(error) => span.error id={ (name) "-e" } { (icon("alert")) span { (error) } },
                None => span.hint id={ (name) "-h" } { (hint) },
            }
        }
    }
}

fn hidden_lines(name: &str, label: &str, hint: &str) -> Markup {
    field(&Field {
        name,
        label,
        hint,
        is_mono: true,
        rows: Some(3),
        ..Field::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Pairs {
        Pairs::parse(text.as_bytes())
    }

    fn before() -> Endpoint {
        serde_json::from_value(json!({
            "id": "ep_1", "uid": null, "url": "https://example.com/", "description": "",
            "event_types": ["*"], "tenant": null, "state": "enabled", "rate_limit": 5,
            "max_concurrency": null, "body_format": "cloudevents",
            "content_type": "application/json", "headers": {}, "auth": null,
            "client_certificate": null, "metadata": { "a": "1", "b": "2" },
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn what_is_left_empty_is_absent_of_a_new_one_and_cleared_of_another() {
        let form = typed("url=+https%3A%2F%2Fa.example+&tenant=&rate_limit=&event_types=");
        let new = body(&form, None, true).unwrap();
        assert_eq!(new, json!({ "url": "https://a.example" }));
        let change = body(&form, Some(&before()), true).unwrap();
        assert_eq!(change["tenant"], Value::Null);
        assert!(change.as_object().unwrap().contains_key("tenant"));
        assert_eq!(change["metadata"], json!({ "a": null, "b": null }));
        // What it is called with stays.
        assert!(!change.as_object().unwrap().contains_key("headers"));
        let of_one = body(&form, Some(&before()), false).unwrap();
        assert!(!of_one.as_object().unwrap().contains_key("tenant"));
    }

    #[test]
    fn what_is_typed_is_said_as_the_api_has_it() {
        let form = typed(
            "url=x&event_types=a.*%0D%0Ab%2C+c&rate_limit=5&max_concurrency=many&metadata=b%3A+9%0Ac%3A&\
             headers=X-A%3A+b%3Ac%0Ax-d%3A+e&auth=bearer&token=t&body_format=data&content_type=application%2Fjson",
        );
        let said = body(&form, Some(&before()), true).unwrap();
        assert_eq!(said["event_types"], json!(["a.*", "b", "c"]));
        assert_eq!(said["rate_limit"], 5);
        assert_eq!(said["max_concurrency"], "many", "for the API to refuse");
        assert_eq!(said["metadata"], json!({ "a": null, "b": "9", "c": "" }));
        assert_eq!(said["headers"], json!({ "X-A": "b:c", "x-d": "e" }));
        assert_eq!(said["auth"], json!({ "type": "bearer", "token": "t" }));
        assert_eq!(said["content_type"], Value::Null, "data has its own");
        let twice = body(&typed("url=x&headers=a%3A1%0Aa%3A2"), None, true).unwrap_err();
        assert_eq!(twice.field.as_deref(), Some("headers"));
    }

    #[test]
    fn a_form_that_is_sent_as_it_came_changes_nothing() {
        let said = body(&of(&before()), Some(&before()), true).unwrap();
        assert_eq!(said["metadata"], json!({ "a": "1", "b": "2" }));
        assert_eq!(said["content_type"], "application/json");
        assert_eq!(said["rate_limit"], 5);
        assert_eq!(said["event_types"], json!(["*"]));
    }
}
