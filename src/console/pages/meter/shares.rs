//! The table of a meter's usage by tenant or group, the largest first.

use maud::{Markup, html};
use url::form_urlencoded;

use super::definition::{Meter, amount};
use super::report::{Group, Question, Report, Share, float};
use crate::console::parts;
use crate::console::visit::View;

/// Rows that are shown; the file has all.
const ROWS_MAX: usize = 50;

/// The table, or what stands in its place.
pub fn table(view: &View, meter: &Meter, question: &Question<'_>, report: &Report) -> Markup {
    let Some(by) = question.split else {
        return html! { div.stack { p.hint { "Usage is not split: its columns are in the table above." } } };
    };
    if report.shares.is_empty() {
        let text = html! { "No event that this meter counts was received in this time, by these filters." };
        return html! { div.card { (parts::empty("Nothing was counted", text, html! {})) } };
    }
    let shown = report.shares.len().min(ROWS_MAX);
    let most = report
        .shares
        .iter()
        .map(|share| float(&share.value))
        .fold(0.0, f64::max);
    let total = report.total.as_deref().map_or(0.0, float);
    let is_additive = meter.is_additive();
    let heading = match by {
        "tenant" => "Tenant",
        pointer => pointer,
    };
    html! {
        div.card {
            header {
                h2 { "By " bdi { (by) } }
                span.small.faint { (how_many(report)) }
            }
            table.table.cards data-rows {
                thead { tr {
                    th scope="col" { bdi { (heading) } }
                    th.num.w6 scope="col" aria-sort="descending" { "Usage" }
                    th.w6 scope="col" { span.sr { "Compared" } }
                    @if is_additive { th.num.w5 scope="col" { "Share" } }
                    th.num.w6 scope="col" { "Before" }
                } }
                tbody {
                    @for share in &report.shares[..shown] {
                        tr {
                            td.lead { (name(view, meter, by, &share.group)) }
                            td.num.end { (amount(&share.value)) }
                            td.hide { (bar(share, most)) }
                            @if is_additive { td.num data-l="of all" { (percent(float(&share.value), total)) } }
                            td.num data-l="before" {
                                @match &share.before { Some(value) => (amount(value)), None => span.faint { "none" } }
                            }
                        }
                    }
                }
                @if let Some(total) = &report.total {
                    tfoot { tr {
                        td.lead { "All" }
                        td.num.end { (amount(total)) }
                        td.hide {}
                        @if is_additive { td.num data-l="of all" { "100 %" } }
                        td.num data-l="before" { (report.before.as_deref().map(amount).unwrap_or_default()) }
                    } }
                }
            }
            @if shown < report.shares.len() || report.has_more {
                footer { span { "The " (shown) " with the most; the CSV has all" } }
            }
        }
    }
}

fn how_many(report: &Report) -> String {
    match (report.shares.len(), report.has_more) {
        (count, true) => format!("the first {count} by name"),
        (1, false) => "1 in all".to_owned(),
        (count, false) => format!("{count} in all"),
    }
}

fn bar(share: &Share, most: f64) -> Markup {
    let width = if most > 0.0 {
        (float(&share.value) / most).clamp(0.0, 1.0) * 100.0
    } else {
        0.0
    };
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(format!("{width:.1}")) height="6" {}
        }
    }
}

fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 {
        return "–".to_owned();
    }
    format!("{:.1} %", part / whole * 100.0)
}

/// The group, leading to its own usage split by what else there is.
fn name(view: &View, meter: &Meter, by: &str, group: &Group) -> Markup {
    let name = group.name();
    let filter = group.filter(by).filter(|(_, value)| !value.is_empty());
    let Some((parameter, value)) = filter else {
        return html! { span.faint { (name.as_deref().unwrap_or("none")) } };
    };
    let next = match by {
        "tenant" => meter.group_by.first().map_or("none", String::as_str),
        _ => "tenant",
    };
    let replaced = [parameter.as_str(), "by", "done", "part"];
    let kept = view
        .query
        .iter()
        .filter(|(name, _)| !replaced.contains(name));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query
        .extend_pairs(kept)
        .append_pair(&parameter, &value)
        .append_pair("by", next);
    let address = format!("{}?{}", view.path_of("meters", &meter.id), query.finish());
    let text = name.as_deref().unwrap_or("none");
    html! { a.row.cut href=(address) title=(text) { bdi { (text) } } }
}
