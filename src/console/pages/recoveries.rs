//! Recoveries: the list, one, and its end before its time.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};

use super::endpoint::shown::{Listed, Recovery};
use crate::console::form::{Form, form_tokens};
use crate::console::inputs::refused;
use crate::console::layout::{Live, Page, Section, page, part, see_other};
use crate::console::pairs::{href, segment};
use crate::console::parts::{TimeFormat, Tone, empty, id, note, number, pager, short, time};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;

type Named = Path<(String, String)>;

/// Rows of a page.
const ROWS: &str = "50";

/// `…/recoveries`: one call of the API.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let cursor = view.query.get("cursor");
    let path = href(
        "/v1/recoveries",
        &[("limit", Some(ROWS)), ("cursor", cursor)],
    );
    let listed: Listed<Recovery> = view.get(&path).await?;
    if view.part().is_some() {
        return Ok(part(rows(&view, &listed)));
    }
    let body = html! {
        div.card {
            @if listed.data.is_empty() {
                (empty(
                    "No recoveries yet",
                    html! { "A recovery sends again, in bulk, what failed or never went at an endpoint. Open the endpoint and choose Recover." },
                    html! { a.btn href=(view.path("endpoints")) { "To the endpoints" } },
                ))
            } @else {
                table.table.cards {
                    caption.sr { "Recoveries, the newest first" }
                    thead {
                        tr {
                            th scope="col" { "What" }
                            th.w7 scope="col" { "Begun " span.zone { "UTC" } }
                            th.w10 scope="col" { "Endpoint" }
                            th.w7 scope="col" { "State" }
                            th.w11 scope="col" { "Progress" }
                            th.num.w6 scope="col" { "Sent" }
                        }
                    }
                    (rows(&view, &listed))
                }
            }
            (pager(&view.path("recoveries"), &view.query, listed.next_cursor.as_deref()))
        }
    };
    Ok(page(
        &view,
        Page {
            meta: html! { span { "What failed or never went, sent again in bulk" } },
            live: Live::Yes,
            body,
            ..Page::new("Recoveries", Section::Recoveries)
        },
    ))
}

/// The rows, which are asked for again while one of them goes on.
fn rows(view: &View, listed: &Listed<Recovery>) -> Markup {
    let live = listed
        .data
        .iter()
        .any(Recovery::is_running)
        .then_some("swap");
    let source = href(
        &view.path("recoveries"),
        &[("cursor", view.query.get("cursor")), ("part", Some("rows"))],
    );
    html! {
        tbody #rows data-live=[live] data-src=(source) {
            @for recovery in &listed.data { (row(view, recovery)) }
        }
    }
}

fn row(view: &View, recovery: &Recovery) -> Markup {
    html! {
        tr id=(recovery.id) {
            td.lead { a.row href=(view.path_of("recoveries", &recovery.id)) { (recovery.what()) } }
            td.end { (time(recovery.created_at, TimeFormat::Full)) }
            td data-l="at" {
                @match &recovery.endpoint_id {
                    Some(id) => a.plain.over.mono href=(view.path_of("endpoints", id)) { (short(id)) },
                    None => span.faint { "the archive" },
                }
            }
            td { (recovery.state()) }
            td.w11 { (recovery.bar()) }
            td.num data-l="sent" { (number(recovery.resent)) }
        }
    }
}

/// `…/recoveries/{id}`: one call of the API.
pub async fn show(view: View, Path((_, named)): Named) -> Result<Response, Refusal> {
    let recovery = find(&view, &named).await?;
    if view.part().is_some() {
        return Ok(part(now(&view, &recovery)));
    }
    Ok(shown(&view, &recovery, None))
}

/// `POST …/recoveries/{id}/cancel`: one call of the API.
pub async fn cancel(view: View, Path((_, named)): Named, form: Form) -> Result<Response, Refusal> {
    let path = format!("/v1/recoveries/{}/cancel", segment(&named));
    match view
        .send(Method::POST, &path, None, Some(form.once()))
        .await
    {
        Ok(_) => Ok(see_other(&view.path_of("recoveries", &named), "canceled")),
        Err(refusal) if refusal.is_about_input() => {
            let recovery = find(&view, &named).await?;
            Ok(shown(&view, &recovery, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

async fn find(view: &View, named: &str) -> Result<Recovery, Refusal> {
    view.get(&format!("/v1/recoveries/{}", segment(named)))
        .await
}

fn shown(view: &View, recovery: &Recovery, refusal: Option<&Refusal>) -> Response {
    let body = html! {
        @if let Some(refusal) = refusal { (refused(refusal)) }
        (now(view, recovery))
        (what(view, recovery))
    };
    let crumbs = [("Recoveries", view.path("recoveries"))];
    let mut response = page(
        view,
        Page {
            crumbs: &crumbs,
            meta: html! { span { (id(&recovery.id)) } },
            live: Live::Yes,
            body,
            ..Page::new(recovery.what(), Section::Recoveries)
        },
    );
    if let Some(refusal) = refusal {
        *response.status_mut() = refusal.status_code();
    }
    response
}

/// How far it is: swapped for a newer one of itself while it goes on.
fn now(view: &View, recovery: &Recovery) -> Markup {
    let here = view.path_of("recoveries", &recovery.id);
    let live = recovery.is_running().then_some("swap");
    let may_cancel =
        recovery.is_running() && recovery.kind != "archive" && view.may(Scope::EventsWrite);
    html! {
        div.stack #now data-live=[live] data-src=(href(&here, &[("part", Some("now"))])) {
            @if let Some(error) = &recovery.error {
                (note(Tone::Bad, "It could not go on", html! { bdi { (error) } "." }, html! {}))
            }
            div.card {
                header {
                    h2 { (recovery.state()) }
                    @if may_cancel {
                        form method="post" action={ (here) "/cancel" } {
                            (form_tokens(view))
                            button.btn.slim.danger { "Cancel" }
                        }
                    }
                }
                div.in.stack {
                    (recovery.bar())
                    p.small.soft.num {
                        (number(recovery.resent)) " sent again, " (number(recovery.examined)) " looked at"
                        @if recovery.skipped > 0 { ", " (number(recovery.skipped)) " could not be read" }
                        " · went on " (time(recovery.updated_at, TimeFormat::FullSeconds))
                    }
                }
            }
        }
    }
}

/// What it was asked to do.
fn what(view: &View, recovery: &Recovery) -> Markup {
    html! {
        section.card aria-labelledby="what" {
            header { h2 #what { "What it does" } }
            dl.kv.in {
                dt { "Endpoint" }
                dd {
                    @match &recovery.endpoint_id {
                        Some(id) => a href=(view.path_of("endpoints", id)) { code { (id) } },
                        None => span.faint { "none: events go to the archive" },
                    }
                }
                dt { "Since" } dd { (time(recovery.since, TimeFormat::FullSeconds)) }
                dt { "Until" } dd { (time(recovery.until, TimeFormat::FullSeconds)) }
                dt { "Type" }
                dd { @match &recovery.event_type { Some(one) => code { bdi { (one) } }, None => span.faint { "all" } } }
                dt { "Tenant" }
                dd { @match &recovery.tenant { Some(one) => bdi { (one) }, None => span.faint { "all" } } }
                @if recovery.include_pending { dt { "Pending" } dd { "attempted now, too" } }
                dt { "Begun" } dd { (time(recovery.created_at, TimeFormat::FullSeconds)) }
            }
        }
    }
}
