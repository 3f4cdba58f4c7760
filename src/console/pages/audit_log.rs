//! The audit log: who changed what. One call of the API; an entry opens in place.

use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::console::layout::{Page, Section, page};
use crate::console::listing::List;
use crate::console::pairs::href;
use crate::console::parts::{self, TimeFormat};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

/// Characters of a change that are shown.
const CHANGE_CHARS_MAX: usize = 20_000;

#[derive(Deserialize)]
struct Entry {
    id: i64,
    at: Timestamp,
    actor: String,
    action: String,
    subject: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// `GET …/audit-log`.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let (subject, cursor) = (view.query.get("subject"), view.query.get("cursor"));
    let pairs = [
        ("limit", Some("50")),
        ("subject", subject),
        ("cursor", cursor),
    ];
    let list: List<Entry> = view.get(&href("/v1/audit-log", &pairs)).await?;
    let body = html! {
        form.filters role="search" aria-label="Filter the audit log" action=(view.path("audit-log")) {
            div.field {
                label.sr for="subject" { "Subject" }
                input #subject.mono name="subject" value=[subject] placeholder="Id or event type"
                    autocomplete="off" data-first-filter;
            }
            button.btn { "Filter" }
            @if subject.is_some() { a.btn.quiet href=(view.path("audit-log")) { "Clear" } }
        }
        div.card {
            @if list.data.is_empty() {
                (empty(&view, subject))
            } @else {
                (table(&view, &list))
            }
            (parts::pager(&view.path("audit-log"), &view.query, list.next_cursor.as_deref()))
        }
    };
    let meta = html! { span { "Who changed the configuration, read a secret, had something sent again or signed in" } };
    Ok(page(
        &view,
        Page {
            meta,
            body,
            ..Page::new("Audit log", Section::AuditLog)
        },
    ))
}

fn empty(view: &View, subject: Option<&str>) -> Markup {
    match subject {
        Some(subject) => parts::empty(
            "Nothing was done to that",
            html! { "No entry is of " bdi { (subject) } ": expected a whole id, or an event type's name." },
            html! { a.btn.slim href=(view.path("audit-log")) { "Show all" } },
        ),
        None => parts::empty(
            "Nothing was changed yet",
            html! { "Every change of endpoints, event types, meters and keys will be here." },
            html! {},
        ),
    }
}

fn table(view: &View, list: &List<Entry>) -> Markup {
    let open: Option<i64> = view.query.get("open").and_then(|id| id.parse().ok());
    html! {
        table.table.cards {
            caption.sr { "Audit log, the newest first" }
            thead { tr {
                th.w11 scope="col" { "When " span.zone { "UTC" } }
                th scope="col" { "Action" }
                th scope="col" { "What" }
                th scope="col" { "Who" }
            } }
            tbody {
                @for entry in &list.data {
                    tr id={ "a" (entry.id) } {
                        td.end { (parts::time(entry.at, TimeFormat::FullSeconds)) }
                        td.lead { a.row.mono href=(address(view, entry, open)) { (entry.action) } }
                        td data-l="of" { (subject(&entry.subject)) }
                        td data-l="by" { (actor(&entry.actor)) }
                    }
                    @if open == Some(entry.id) {
                        tr { td colspan="4" { (change(entry)) } }
                    }
                }
            }
        }
    }
}

/// The address of the page with `entry` opened; closed if it is.
fn address(view: &View, entry: &Entry, open: Option<i64>) -> String {
    let id = entry.id.to_string();
    let opened = (open != Some(entry.id)).then_some(&*id);
    let pairs = [
        ("subject", view.query.get("subject")),
        ("cursor", view.query.get("cursor")),
        ("open", opened),
    ];
    format!("{}#a{id}", href(&view.path("audit-log"), &pairs))
}

fn subject(text: &str) -> Markup {
    match text.split_once('_') {
        Some((_, rest)) if rest.len() >= 16 => parts::id(text),
        _ => parts::cut(text),
    }
}

fn actor(text: &str) -> Markup {
    match text {
        "admin" => html! { "The admin" },
        "millrace" => html! { "Millrace" },
        "unknown" => html! { span.faint { "unknown" } },
        key if key.starts_with("key_") => parts::id(key),
        other => parts::cut(other),
    }
}

fn change(entry: &Entry) -> Markup {
    let side = |title: &str, value: Option<&Value>| match value {
        Some(value) => {
            let text = value.to_string();
            parts::code(title, &text, parts::json(&text, CHANGE_CHARS_MAX))
        }
        None => html! { p.small.faint { (title) ": nothing" } },
    };
    html! {
        div.two {
            (side("Before", entry.before.as_ref()))
            (side("After", entry.after.as_ref()))
        }
    }
}
