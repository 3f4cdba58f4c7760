//! The list of endpoints: those that fail first.

use axum::response::Response;
use maud::{Markup, html};

use super::endpoint::shown::{Endpoint, Listed};
use crate::console::inputs::{filter, filter_choice};
use crate::console::layout::{Page, Section, page};
use crate::console::pairs::href;
use crate::console::parts::{cut, empty, icon, mid, pager};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;

/// Rows of those that fail, above the others.
const FAILING_MAX: &str = "20";
/// Rows of a page.
const ROWS: &str = "50";

/// `…/endpoints`: two calls of the API on the first page, one on the others.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let query = &view.query;
    let (tenant, state) = (query.get("tenant"), query.get("state"));
    // Those that fail stand above the first page, and on no other.
    let is_first = query.get("cursor").is_none() && matches!(state, None | Some("enabled"));
    let (failing, rest) = tokio::join!(
        async {
            if !is_first {
                return Listed::default();
            }
            // Without it the others are listed all the same.
            let failing = ask(&view, state, Some("true"), FAILING_MAX).await;
            failing.unwrap_or_default()
        },
        rest(&view, state)
    );
    let rest = rest?;
    let is_new = failing.data.is_empty() && rest.data.is_empty();
    let body = html! {
        (filters(tenant, state))
        @if is_new {
            (nothing(&view, tenant.is_some() || state.is_some()))
        } @else {
            div.card {
                (table(&view, &failing.data, &rest.data, state == Some("failing")))
                (pager(&view.path("endpoints"), query, rest.next_cursor.as_deref()))
            }
        }
    };
    let acts = html! {
        @if view.may(Scope::EndpointsWrite) {
            a.btn.primary href=(view.path("endpoints/new")) { (icon("plus")) "Add an endpoint" }
        }
    };
    let meta = html! {
        span { "Where webhooks go" }
        @if failing.next_cursor.is_some() {
            span { a href=(href(&view.path("endpoints"), &[("state", Some("failing"))])) { "All that fail" } }
        }
    };
    Ok(page(
        &view,
        Page {
            acts,
            meta,
            body,
            ..Page::new("Endpoints", Section::Endpoints)
        },
    ))
}

/// The page that is asked for, but for those that stand above it.
async fn rest(view: &View, state: Option<&str>) -> Result<Listed<Endpoint>, Refusal> {
    if state == Some("failing") {
        return ask(view, state, Some("true"), ROWS).await;
    }
    match ask(view, state, Some("false"), ROWS).await {
        // Who fails is not known now.
        Err(refusal) if refusal.status >= 500 && view.query.get("cursor").is_none() => {
            ask(view, state, None, ROWS).await
        }
        answer => answer,
    }
}

/// A page of the API's list.
async fn ask(
    view: &View,
    state: Option<&str>,
    failing: Option<&str>,
    limit: &str,
) -> Result<Listed<Endpoint>, Refusal> {
    let state = state.filter(|state| *state != "failing");
    let cursor = view.query.get("cursor").filter(|_| limit == ROWS);
    let path = href(
        "/v1/endpoints",
        &[
            ("tenant", view.query.get("tenant")),
            ("state", state),
            ("failing", failing),
            ("limit", Some(limit)),
            ("cursor", cursor),
        ],
    );
    view.get(&path).await
}

fn filters(tenant: Option<&str>, state: Option<&str>) -> Markup {
    const STATES: [(&str, &str); 6] = [
        ("", "Any state"),
        ("failing", "Failing"),
        ("enabled", "Enabled"),
        ("disabled", "Turned off"),
        ("gone", "Gone"),
        ("failed", "Turned off: failed"),
    ];
    html! {
        form.filters role="search" aria-label="Filter endpoints" {
            (filter_choice("state", "State", STATES, state.unwrap_or_default()))
            (filter("tenant", "Tenant", tenant.unwrap_or_default(), None, "text"))
            button.btn { "Filter" }
        }
    }
}

fn nothing(view: &View, is_filtered: bool) -> Markup {
    if is_filtered {
        let text = html! { "Nothing here is in that state, or of that tenant." };
        let acts = html! { a.btn href=(view.path("endpoints")) { "Show all" } };
        return html! { div.card { (empty("No endpoint matches", text, acts)) } };
    }
    let text = html! {
        "An endpoint is a URL that takes webhooks: yours, or a customer's. Events that match its "
        "types are sent to it, signed, and tried again until it answers 2xx."
    };
    let acts = html! {
        @if view.may(Scope::EndpointsWrite) {
            a.btn.primary href=(view.path("endpoints/new")) { "Add an endpoint" }
        }
    };
    html! { div.card { (empty("No endpoints yet", text, acts)) } }
}

fn table(view: &View, failing: &[Endpoint], rest: &[Endpoint], all_fail: bool) -> Markup {
    html! {
        table.table.cards {
            caption.sr { "Endpoints, those that fail first" }
            thead {
                tr {
                    th scope="col" { "Endpoint" }
                    th.w11 scope="col" { "State" }
                    th.w10 scope="col" { "Takes" }
                    th.w10 scope="col" { "Tenant" }
                    th.num.w6 scope="col" { "Rate" }
                }
            }
            tbody {
                @for endpoint in failing { (row(view, endpoint, true)) }
                @for endpoint in rest { (row(view, endpoint, all_fail)) }
            }
        }
    }
}

fn row(view: &View, endpoint: &Endpoint, is_failing: bool) -> Markup {
    let takes = endpoint.event_types.join(", ");
    html! {
        tr id=(endpoint.id) {
            td.lead {
                a.row href=(view.path_of("endpoints", &endpoint.id)) { (cut(endpoint.name())) }
                div.faint.mono { (mid(&endpoint.url)) }
            }
            td.end { (endpoint.state(is_failing)) }
            td.mono data-l="takes" { (cut(&takes)) }
            td data-l="for" {
                @match &endpoint.tenant {
                    Some(tenant) => (cut(tenant)),
                    None => span.faint { "the project" },
                }
            }
            td.num.hide {
                @match endpoint.rate_limit {
                    Some(rate) => { (rate) "/s" },
                    None => span.faint { "no limit" },
                }
            }
        }
    }
}
