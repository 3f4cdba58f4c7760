//! The list of meters, with what each has counted this month.

use axum::response::Response;
use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;

use super::meter::definition::{Meter, amount};
use super::meter::period::Period;
use super::meter::report::{Question, Total, address};
use crate::app;
use crate::console::layout::{self, Section};
use crate::console::pairs::{Pairs, href};
use crate::console::parts::{self, cut, icon};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;

/// Rows of a page: each asks for a total.
const ROWS_MAX: usize = 25;

#[derive(Deserialize)]
struct Page {
    data: Vec<Meter>,
    next_cursor: Option<String>,
}

/// Shows a page of meters: one request, and one for the total of each.
pub async fn list(view: View) -> Result<Response, Refusal> {
    let cursor = view.query.get("cursor");
    let limit = ROWS_MAX.to_string();
    let asked = href(
        "/v1/meters",
        &[("limit", Some(&*limit)), ("cursor", cursor)],
    );
    let page: Page = view.get(&asked).await?;
    let month = Period::read(&Pairs::default(), &TimeZone::UTC, app::now());
    let totals = join_all(page.data.iter().map(|meter| total(&view, meter, &month))).await;
    let acts = html! {
        @if view.may(Scope::MetersWrite) {
            a.btn.primary href=(view.path("meters/new")) { (icon("plus")) "New meter" }
        }
    };
    let body = html! {
        @if page.data.is_empty() && cursor.is_none() {
            (none(&view))
        } @else {
            div.card {
                (table(&view, &page.data, &totals, month.span.start))
                (parts::pager(&view.path("meters"), &view.query, page.next_cursor.as_deref()))
            }
        }
    };
    Ok(layout::page(
        &view,
        layout::Page {
            meta: html! { span { "Each event once, with decimal numbers and no floats" } },
            acts,
            body,
            ..layout::Page::new("Meters", Section::Meters)
        },
    ))
}

/// What a meter has counted in `month`, if that can be told.
async fn total(view: &View, meter: &Meter, month: &Period) -> Option<Total> {
    let question = Question {
        meter: &meter.id,
        period: month,
        time_zone: "UTC",
        split: None,
        filters: vec![],
    };
    let asked = address(&question, "total", month.span, &[]);
    view.get::<Total>(&asked).await.ok()
}

fn table(view: &View, meters: &[Meter], totals: &[Option<Total>], since: Timestamp) -> Markup {
    let month = since.to_zoned(TimeZone::UTC).strftime("%B").to_string();
    html! {
        table.table.cards data-rows {
            thead { tr {
                th scope="col" { "Meter" }
                th scope="col" { "Counts" }
                th scope="col" { "Events" }
                th.num scope="col" { (month) " " span.zone { "UTC" } }
            } }
            tbody {
                @for (meter, total) in meters.iter().zip(totals) {
                    tr #(meter.id) {
                        td.lead { a.row.cut href=(view.path_of("meters", &meter.id)) title=(meter.name) { bdi { (meter.name) } } }
                        td data-l="counts" { (meter.counts()) }
                        td.mono data-l="events" { (cut(&meter.event_type)) }
                        td.num.end data-l=(month) {
                            @match total {
                                Some(total) => @match total.value() {
                                    Some(value) => (amount(value)),
                                    None => span.faint { "nothing" },
                                },
                                None => span.faint title="The total cannot be told now" { "–" },
                            }
                        }
                    }
                }
            }
        }
    }
}

fn none(view: &View) -> Markup {
    let text = html! {
        "A meter turns events into usage: how many there were, or what a number in their data adds \
         up to, for each customer and plan. It can count the events that are kept already."
    };
    let acts = html! {
        @if view.may(Scope::MetersWrite) {
            a.btn.primary href=(view.path("meters/new")) { (icon("plus")) "New meter" }
        }
        a.btn href="/docs#tag-meters" { "How meters count" }
    };
    html! { div.card { (parts::empty("No meters yet", text, acts)) } }
}
