//! One meter: its usage in a period as a figure, a chart and a table, by tenant or
//! group; how it counts; and its back-fill.

mod backfill;
pub mod definition;
pub mod edit;
mod figure;
pub mod period;
pub mod report;
mod shares;

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use http::HeaderMap;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LINK};
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use self::definition::Meter;
use self::period::{CHOICES, Period};
use self::report::Question;

use crate::app;
use crate::console::api::Answer;
use crate::console::inputs;
use crate::console::inputs::{filter, filter_choice};
use crate::console::layout::{self, Section};
use crate::console::pairs::{href, segment};
use crate::console::parts::{self, TimeFormat, Tone, icon, number};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::window;

/// Pages of a table that is downloaded: 1,000 rows each.
const CSV_PAGES_MAX: usize = 1_000;
/// Values that are offered for a filter.
const OFFERED_MAX: &str = "50";

/// What the address of the page asks for.
struct Asked {
    zone_name: String,
    zone: TimeZone,
    period: Period,
    split: Option<String>,
}

impl Asked {
    fn read(view: &View) -> Self {
        let query = &view.query;
        let named = query
            .get("tz")
            .and_then(|name| Some((name, window::zone(name).ok()?)));
        let (name, zone) = named.unwrap_or(("UTC", TimeZone::UTC));
        let split = match query.get("by") {
            Some("none") => None,
            by => Some(by.unwrap_or("tenant").to_owned()),
        };
        Self {
            period: Period::read(query, &zone, app::now()),
            zone_name: name.to_owned(),
            zone,
            split,
        }
    }

    fn question<'a>(&'a self, view: &'a View, meter: &'a str) -> Question<'a> {
        Question {
            meter,
            period: &self.period,
            time_zone: &self.zone_name,
            split: self.split.as_deref(),
            filters: report::filters(&view.query),
        }
    }
}

/// Shows a meter: the meter, its back-fill, its tenants and five reports at once, then
/// one report for each of the five largest groups.
pub async fn show(view: View, Path((_, id)): Path<(String, String)>) -> Result<Response, Refusal> {
    if view.part() == Some("backfill") {
        let progress = backfill::get(&view, &id).await;
        return Ok(layout::part(backfill::card(&view, &id, progress.as_ref())));
    }
    let asked = Asked::read(&view);
    let question = asked.question(&view, &id);
    let path = format!("/v1/meters/{}", segment(&id));
    let (meter, report, progress, tenants) = tokio::join!(
        view.get::<Meter>(&path),
        report::load(&view, &question),
        backfill::get(&view, &id),
        tenants(&view, &question),
    );
    let meter = meter?;
    let body = html! {
        (filters(&view, &meter, &asked, &tenants))
        @match &report {
            Ok(report) => (figure::figure(&meter, &asked.period, &asked.zone, report)),
            Err(refusal) => (inputs::refused(refusal)),
        }
        div.wide {
            @if let Ok(report) = &report { (shares::table(&view, &meter, &question, report)) } @else { div {} }
            div.stack {
                (skipped(&view, &meter))
                (facts(&meter))
                (backfill::card(&view, &id, progress.as_ref()))
            }
        }
    };
    Ok(layout::page(
        &view,
        layout::Page {
            crumbs: &[("Meters", view.path("meters"))],
            meta: meta(&meter),
            acts: acts(&view, &meter),
            body,
            ..layout::Page::new(&meter.name, Section::Meters)
        },
    ))
}

fn meta(meter: &Meter) -> Markup {
    html! {
        span { (meter.counts()) " of " code { bdi { (meter.event_type) } } }
        @if !meter.group_by.is_empty() {
            span { "by " @for pointer in &meter.group_by { code { bdi { (pointer) } } " " } }
        }
        @if !meter.description.is_empty() { span { bdi { (meter.description) } } }
    }
}

fn acts(view: &View, meter: &Meter) -> Markup {
    let at = |rest: &str| format!("{}{rest}", view.path_of("meters", &meter.id));
    let kept: Vec<_> = view
        .query
        .iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    html! {
        a.btn href=(href(&at("/usage.csv"), &kept)) { (icon("download")) "CSV" }
        @if view.may(Scope::MetersWrite) {
            a.btn href=(at("/backfill")) { "Count older events" }
            a.btn href=(at("/edit")) { "Edit" }
            a.btn.danger href=(at("/delete")) { "Delete" }
        }
    }
}

#[derive(Deserialize)]
struct Values {
    data: Vec<OneValue>,
}

#[derive(Deserialize)]
struct OneValue {
    value: Value,
}

/// Tenants there is usage of, to choose from; none if that cannot be told.
async fn tenants(view: &View, question: &Question<'_>) -> Vec<String> {
    let span = question.period.span;
    let path = format!("/v1/meters/{}/values", segment(question.meter));
    let (from, to) = (span.start.to_string(), span.end.to_string());
    let query = [
        ("dimension", Some("tenant")),
        ("from", Some(&*from)),
        ("to", Some(&*to)),
        ("limit", Some(OFFERED_MAX)),
    ];
    let values: Option<Values> = view.get(&href(&path, &query)).await.ok();
    let values = values.into_iter().flat_map(|values| values.data);
    values
        .filter_map(|one| one.value.as_str().map(str::to_owned))
        .collect()
}

fn filters(view: &View, meter: &Meter, asked: &Asked, tenants: &[String]) -> Markup {
    let query = &view.query;
    let period = &asked.period;
    let words: Vec<String> = meter
        .group_by
        .iter()
        .map(|pointer| format!("by {pointer}"))
        .collect();
    let pointers = meter.group_by.iter().zip(&words);
    let pointers = pointers.map(|(pointer, word)| (pointer.as_str(), word.as_str()));
    let splits = [("tenant", "by tenant")].into_iter().chain(pointers);
    let splits = splits.chain([("none", "not split")]);
    let day = |date: jiff::civil::Date| date.to_string();
    let (first, last) = period
        .days
        .map_or_else(Default::default, |(a, b)| (day(a), day(b)));
    let chosen: Vec<&str> = query
        .all("tenant")
        .filter(|tenant| !tenant.is_empty())
        .collect();
    html! {
        form.filters aria-label="What to show" action=(view.path_of("meters", &meter.id)) {
            (filter_choice("period", "Period", CHOICES, period.name))
            @if period.name == "custom" || query.get("period") == Some("custom") {
                (filter("from", "From", &first, None, "date"))
                (filter("to", "To", &last, None, "date"))
            }
            @for tenant in &chosen { (filter("tenant", "Tenant", tenant, Some("tenants"), "text")) }
            (filter("tenant", if chosen.is_empty() { "All tenants" } else { "One more tenant" }, "", Some("tenants"), "text"))
            @for pointer in &meter.group_by {
                @let name = format!("group[{pointer}]");
                (filter(&name, pointer, query.text(&name), None, "text"))
            }
            (filter_choice("by", "Split by", splits, asked.split.as_deref().unwrap_or("none")))
            (filter_choice("window", "Column", [("hour", "by hour"), ("day", "by day"), ("month", "by month")], period.width.as_str()))
            (filter("tz", "Time zone", &asked.zone_name, None, "text"))
            div.end { button.btn { "Show" } }
            datalist #tenants { @for tenant in tenants { option value=(tenant) {} } }
        }
    }
}

fn skipped(view: &View, meter: &Meter) -> Markup {
    let Some(skipped) = meter.skipped.filter(|skipped| *skipped > 0) else {
        return html! {};
    };
    let title = match skipped {
        1 => "1 event was not counted".to_owned(),
        many => format!("{} events were not counted", number(many)),
    };
    let text = html! {
        "There was nothing at " code { bdi { (meter.value.as_deref().unwrap_or("/")) } }
        ", or no value that counts. They were delivered all the same."
    };
    let events = href(&view.path("events"), &[("type", Some(&meter.event_type))]);
    parts::note(
        Tone::Warn,
        &title,
        text,
        html! { a.btn.slim href=(events) { "Its events" } },
    )
}

fn facts(meter: &Meter) -> Markup {
    html! {
        section.card aria-labelledby="how" {
            header { h2 #how { "How it counts" } }
            dl.kv.in {
                dt { "Events" } dd { code { bdi { (meter.event_type) } } }
                dt { "Value" } dd { (meter.counts()) }
                dt { "Only if" }
                dd {
                    @if meter.filters.is_empty() { span.faint { "none" } }
                    @for filter in &meter.filters { div { (condition(filter)) } }
                }
                dt { "Told apart" }
                dd {
                    "tenant" @for pointer in &meter.group_by { ", " code { bdi { (pointer) } } }
                }
                dt { "CloudWatch" } dd { @if meter.metric { "published by group" } @else { span.faint { "none" } } }
                dt { "Counts since" } dd { (parts::time(meter.created_at.0, TimeFormat::Date)) }
                dt { "Id" } dd { (parts::id(&meter.id)) }
            }
        }
    }
}

/// A filter of a meter in words.
fn condition(filter: &Value) -> Markup {
    let pointer = filter["pointer"].as_str().unwrap_or_default();
    html! {
        code { bdi { (pointer) } } " "
        @if let Some(values) = filter["in"].as_array() {
            "is one of " @for value in values { code { bdi { (value) } } " " }
        } @else if let Some(exists) = filter["exists"].as_bool() {
            @if exists { "is there" } @else { "is not there" }
        } @else {
            "is " code { bdi { (filter["equals"]) } }
        }
    }
}

/// The usage that the page shows, as a file: by the same filters, columns and groups.
pub async fn csv(view: View, Path((_, id)): Path<(String, String)>) -> Result<Response, Refusal> {
    let asked = Asked::read(&view);
    let question = asked.question(&view, &id);
    let by = question.split.map(|by| ("group_by", by));
    let only: Vec<_> = by.into_iter().collect();
    let width = asked.period.width.as_str();
    let address = report::address(&question, width, asked.period.span, &only);
    let first = view.csv(&address).await;
    let next = next_page(&first);
    let first = first.succeeded()?;
    let mut headers = HeaderMap::new();
    let media = HeaderValue::from_static("text/csv; charset=utf-8");
    let file = HeaderValue::from_static("attachment; filename=\"usage.csv\"");
    headers.insert(CONTENT_TYPE, media);
    headers.insert(CONTENT_DISPOSITION, file);
    Ok((headers, Body::from_stream(pages(view, first, next))).into_response())
}

/// The pages from `first` on, each asked for when the one before is taken.
fn pages(
    view: View,
    first: Bytes,
    next: Option<String>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    let begin = (view, Some(first), next, 0);
    stream::try_unfold(begin, async |(view, page, next, count)| {
        if let Some(page) = page {
            return Ok(Some((page, (view, None, next, count))));
        }
        let Some(address) = next.filter(|_| count < CSV_PAGES_MAX) else {
            return Ok(None);
        };
        let answer = view.csv(&address).await;
        let next = next_page(&answer);
        // What breaks off is seen to: the browser says that the file is not whole.
        let page = answer
            .succeeded()
            .map_err(|refusal| std::io::Error::other(refusal.detail))?;
        let end = page.windows(2).position(|pair| pair == b"\r\n");
        let rows = page.slice(end.map_or(0, |end| end + 2)..);
        Ok(Some((rows, (view, None, next, count + 1))))
    })
}

/// Where the API says that the next page is.
fn next_page(answer: &Answer) -> Option<String> {
    let link = answer.headers.get(LINK)?.to_str().ok()?;
    let path = link.strip_prefix('<')?.split_once('>')?.0;
    Some(path.to_owned())
}
