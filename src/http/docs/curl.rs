//! The curl lines of the page: each works as it stands, after those before it.
//!
//! What a line takes from another is a shell variable: [`SETS`] says which line sets
//! it, the page's introduction sets the others. A test holds every line to it, and
//! `tests/docs/run` executes them.

use std::fmt::Write;

use serde_json::Value;

use super::schema;

/// What the introduction has a reader set, besides the address: name and example.
/// `TODAY` keeps the examples from growing old. Nothing is said in comments, which not
/// every shell takes from a terminal.
pub(super) const SET_BY_READER: [(&str, &str); 4] = [
    ("MILLRACE_KEY", "mr_…"),
    ("ADMIN_KEY", "…"),
    ("WEBHOOK_URL", "https://example.com/webhooks"),
    ("TODAY", "$(date -u +%Y-%m-%dT00:00:00Z)"),
];

/// Variables that a line sets: its method and path, the name, and how the id that is
/// in the answer begins.
const SETS: [(&str, &str, &str, &str); 9] = [
    ("post", "/v1/events", "EVENT_ID", "evt_"),
    ("post", "/v1/endpoints", "ENDPOINT_ID", "ep_"),
    ("get", "/v1/deliveries", "DELIVERY_ID", "dlv_"),
    ("post", "/v1/endpoints/{id}/recover", "RECOVERY_ID", "rec_"),
    ("post", "/v1/meters", "METER_ID", "mtr_"),
    ("post", "/v1/projects", "PROJECT_ID", "prj_"),
    ("post", "/v1/projects/{id}/keys", "KEY_ID", "key_"),
    ("delete", "/v1/events/{id}", "ERASURE_ID", "ers_"),
    ("delete", "/v1/projects/{id}", "PROJECT_ERASURE_ID", "ers_"),
];

/// What stands for a field or a parameter whose value no document can know.
const FIELDS: [(&str, &str); 7] = [
    ("endpoint_id", "$ENDPOINT_ID"),
    ("endpoint", "$ENDPOINT_ID"),
    ("event_id", "$EVENT_ID"),
    ("from", "$TODAY"),
    ("since", "$TODAY"),
    ("url", "$WEBHOOK_URL"),
    ("name", "invoice.paid"),
];

/// What must be there before a section's lines work: its tag, and the paths that are
/// posted to.
pub(super) const PREPARED: [(&str, &[&str]); 1] =
    [("deliveries", &["/v1/endpoints", "/v1/events"])];

/// A command that calls a route.
pub(super) fn line(document: &Value, method: &str, path: &str) -> String {
    let operation = &document["paths"][path][method];
    let mut out = "curl".to_owned();
    let set = SETS.iter().find(|set| (set.0, set.1) == (method, path));
    if set.is_some() {
        // In a pipe it would show its progress.
        out.push_str(" -sS");
    }
    let body = body(operation);
    if method != "get" && (method != "post" || body.is_none()) {
        let _ = write!(out, " -X {}", method.to_uppercase());
    }
    let _ = write!(out, " \"$MILLRACE_URL{}\"", target(operation, path));
    if let Some(key) = key(operation) {
        let _ = write!(out, " \\\n  -H \"Authorization: Bearer ${key}\"");
    }
    if let Some((media, body)) = body {
        let example = schema::example_text(document, body);
        let _ = write!(
            out,
            " \\\n  -H \"Content-Type: {media}\" \\\n  -d '{}'",
            with_variables(&example)
        );
    }
    match set {
        Some((_, _, name, prefix)) => format!(
            "{name}=$({out} |\n  tee /dev/stderr | sed -n 's/.*\"id\":\"\\({prefix}[^\"]*\\)\".*/\\1/p')"
        ),
        None => out,
    }
}

/// Whether the line of a route sets a variable.
pub(super) fn sets_variable(method: &str, path: &str) -> bool {
    SETS.iter().any(|set| (set.0, set.1) == (method, path))
}

/// The variable with the key that the route takes.
fn key(operation: &Value) -> Option<&'static str> {
    let schemes = operation["security"][0].as_object()?;
    let scheme = schemes.keys().next()?;
    Some(match scheme.as_str() {
        "admin_key" => "ADMIN_KEY",
        _ => "MILLRACE_KEY",
    })
}

/// The request body in plain JSON, if it has one, else in what it has first.
pub(super) fn body(operation: &Value) -> Option<(&str, &Value)> {
    let content = operation["requestBody"]["content"].as_object()?;
    let json = content.get_key_value("application/json");
    let (media, content) = json.or_else(|| content.iter().next())?;
    Some((media, &content["schema"]))
}

/// The path with its parameters and whatever the query needs.
fn target(operation: &Value, path: &str) -> String {
    let mut out = path.to_owned();
    let mut query = vec![];
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        let example = parameter["example"].as_str();
        if parameter["in"] == "path" {
            let value = match name {
                "id" => format!("${}", id_variable(path)),
                "key_id" => "$KEY_ID".to_owned(),
                "erasure_id" => "$PROJECT_ERASURE_ID".to_owned(),
                _ => known(name).or(example).unwrap_or(name).to_owned(),
            };
            out = out.replace(&format!("{{{name}}}"), &value);
        } else if parameter["in"] == "query" && (example.is_some() || parameter["required"] == true)
        {
            let value = known(name).or(example).unwrap_or_default();
            query.push(format!("{name}={value}"));
        }
    }
    if query.is_empty() {
        return out;
    }
    format!("{out}?{}", query.join("&"))
}

/// The variable that holds the id of a path: `ENDPOINT_ID` of `/v1/endpoints/{id}/…`.
fn id_variable(path: &str) -> String {
    let (collection, _) = path.split_once("/{id}").unwrap_or((path, ""));
    let set = SETS
        .iter()
        .find(|set| set.1 == collection)
        .map(|set| set.2.to_owned());
    set.unwrap_or_else(|| {
        let noun = collection.rsplit('/').next().unwrap_or_default();
        let noun = noun.strip_suffix("ies").map_or_else(
            || noun.strip_suffix('s').unwrap_or(noun).to_owned(),
            |stem| format!("{stem}y"),
        );
        format!("{}_ID", noun.to_uppercase())
    })
}

fn known(name: &str) -> Option<&'static str> {
    let field = FIELDS.iter().find(|(field, _)| *field == name);
    field.map(|(_, value)| *value)
}

/// A JSON example as it stands between single quotes, with variables in place of what
/// no document can know.
fn with_variables(example: &str) -> String {
    let mut out = example.replace('\'', "'\\''");
    for (field, variable) in FIELDS.iter().filter(|(_, value)| value.starts_with('$')) {
        let opening = format!("\"{field}\": \"");
        let Some((before, rest)) = out.split_once(&opening) else {
            continue;
        };
        let Some((_, after)) = rest.split_once('"') else {
            continue;
        };
        out = format!("{before}{opening}'\"{variable}\"'\"{after}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{document, page};
    use super::*;

    /// The commands of the page as a reader copies them, in its order.
    fn commands() -> Vec<String> {
        let html = page::render(&document());
        let blocks = html.split("<pre>").skip(1);
        let texts = blocks.map(|block| block.split("</pre>").next().unwrap());
        let unescaped = texts.map(|text| {
            text.replace(page::ADDRESS, "http://127.0.0.1:8080")
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&")
        });
        unescaped.collect()
    }

    fn names(text: &str) -> impl Iterator<Item = &str> {
        text.split('$').skip(1).filter_map(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            let name = &rest[..end.unwrap_or(rest.len())];
            (!name.is_empty()).then_some(name)
        })
    }

    /// What is missing of the commands, if anything.
    fn unset(commands: &[String]) -> Vec<String> {
        let mut set = vec!["MILLRACE_URL".to_owned()];
        let mut missing = vec![];
        for command in commands {
            for name in names(command).filter(|name| !set.iter().any(|set| set == name)) {
                missing.push(format!("{name} in {command}"));
            }
            let assigned = command.lines().filter_map(|line| {
                let line = line.strip_prefix("export ").unwrap_or(line);
                Some(line.split_once('=')?.0.to_owned())
            });
            set.extend(assigned);
            if let Some((_, target)) = command.split_once("curl -X DELETE") {
                let target = target.lines().next().unwrap();
                let deleted = names(target).last().filter(|name| *name != "MILLRACE_URL");
                set.retain(|name| deleted != Some(name));
            }
        }
        missing
    }

    #[test]
    fn every_variable_is_set_before_it_is_used_and_nothing_is_left_to_fill_in() {
        let commands = commands();
        assert!(commands.len() > 40);
        assert_eq!(unset(&commands), Vec::<String>::new());
        for command in &commands[1..] {
            assert!(
                !command.contains(['…', '{']) || command.contains("-d '"),
                "{command}"
            );
            assert!(!command.contains('…'), "{command}");
        }
    }

    #[test]
    fn what_is_used_unset_or_after_its_end_is_found() {
        let of = |lines: &[&str]| {
            lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(unset(&of(&["curl \"$MILLRACE_URL/$A_ID\""])).len(), 1);
        let deleted = of(&[
            "A_ID=$(curl \"$MILLRACE_URL/v1/a\")",
            "curl \"$MILLRACE_URL/v1/a/$A_ID\"",
            "curl -X DELETE \"$MILLRACE_URL/v1/a/$A_ID\"",
            "curl \"$MILLRACE_URL/v1/a/$A_ID/b\"",
        ]);
        assert_eq!(unset(&deleted).len(), 1);
    }

    #[test]
    fn an_example_keeps_its_quotes_in_the_shell() {
        let example = r#"{"url": "https://example.com", "description": "Ada's"}"#;
        assert_eq!(
            with_variables(example),
            r#"{"url": "'"$WEBHOOK_URL"'", "description": "Ada'\''s"}"#
        );
    }

    #[test]
    fn an_id_is_named_after_what_it_is_of() {
        assert_eq!(id_variable("/v1/endpoints/{id}/test"), "ENDPOINT_ID");
        assert_eq!(id_variable("/v1/recoveries/{id}"), "RECOVERY_ID");
        assert_eq!(id_variable("/v1/meters/{id}"), "METER_ID");
        let operation =
            json!({ "parameters": [{ "name": "from", "in": "query", "required": true }] });
        assert_eq!(target(&operation, "/x"), "/x?from=$TODAY");
    }
}
