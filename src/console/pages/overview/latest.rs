//! The latest events of a project, and what its meters have counted this month.

use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::period::{List, part_path};
use crate::console::pairs::href;
use crate::console::parts::{TimeFormat, cut, empty, icon, time};
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::time::Time;

/// Meters whose usage is shown.
const METERS: usize = 4;

#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub id: String,
    #[serde(rename = "type")]
    event_type: String,
    tenant: Option<String>,
    received_at: Time,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meter {
    pub id: String,
    pub name: String,
    aggregation: String,
    pub value: Option<String>,
    skipped: Option<i64>,
}

impl Meter {
    /// Events that it matched and could not count.
    pub fn skipped(&self) -> u64 {
        self.skipped
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0)
    }
}

/// What a meter has counted in a window.
#[derive(Debug, Deserialize)]
pub(super) struct Usage {
    value: Box<RawValue>,
}

/// The latest events, which are brought up to date by themselves.
pub(super) fn events(view: &View, events: &[Event]) -> Markup {
    html! {
        div #latest.card data-live="swap" data-src=(part_path(view, "latest")) {
            header { h2 { "Latest events" } a.small href=(view.path("events")) { "All events" } }
            @if events.is_empty() {
                (empty("No events", html! { "None that came lately is kept." }, html! {
                    @if view.may(Scope::EventsWrite) { a.btn href=(view.path("send")) { (icon("send")) "Send event" } }
                }))
            } @else {
                table.table.cards {
                    thead { tr {
                        th scope="col" { "Type" }
                        th scope="col" { "Tenant" }
                        th.num.w5 scope="col" { "Received" }
                    } }
                    tbody data-rows {
                        @for event in events {
                            tr {
                                td.lead { a.row.mono href=(view.path_of("events", &event.id)) { (cut(&event.event_type)) } }
                                td data-l="tenant" {
                                    @match &event.tenant { Some(tenant) => (cut(tenant)), None => span.faint { "none" } }
                                }
                                td.end.num { (time(event.received_at.0, TimeFormat::Time)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the first few `meters` have counted in the month that holds `now`. A call for
/// each, at once.
pub(super) async fn usage_of(view: &View, meters: &[Meter], now: Timestamp) -> Vec<Option<Usage>> {
    let one = async |meter: &Meter| {
        let path = format!("/v1/meters/{}/usage", meter.id);
        let pairs = [("from", now.to_string()), ("window", "month".to_owned())];
        let pairs = pairs
            .each_ref()
            .map(|(name, value)| (*name, Some(value.as_str())));
        let month: List<Usage> = view.get(&href(&path, &pairs)).await.ok()?;
        Some(month.data.into_iter().next())
    };
    let found = join_all(meters.iter().take(METERS).map(one)).await;
    found.into_iter().map(Option::flatten).collect()
}

/// The usage of this month.
pub(super) fn usage(
    view: &View,
    meters: &[Meter],
    usage: &[Option<Usage>],
    now: Timestamp,
) -> Markup {
    let month = now.to_zoned(TimeZone::UTC).strftime("%B").to_string();
    html! {
        @if view.may(Scope::MetersRead) {
            div.card {
                header { h2 { "Usage in " (month) } a.small href=(view.path("meters")) { "All meters" } }
                @if meters.is_empty() {
                    (empty("No meters", html! { "A meter counts events and adds up what is in them, to bill or to look at." }, html! {
                        @if view.may(Scope::MetersWrite) { a.btn href=(view.path("meters/new")) { "New meter" } }
                    }))
                } @else {
                    table.table {
                        thead { tr { th scope="col" { "Meter" } th.num scope="col" { "So far" } } }
                        tbody {
                            @for (meter, usage) in meters.iter().zip(usage) {
                                tr {
                                    td {
                                        a.row href=(view.path_of("meters", &meter.id)) { (cut(&meter.name)) }
                                        small.faint { (what(meter)) }
                                    }
                                    td.num { b { (usage.as_ref().map_or_else(|| "–".to_owned(), written)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `sum of /units`.
fn what(meter: &Meter) -> Markup {
    let aggregation = meter.aggregation.replace('_', " ");
    html! { (aggregation) @if let Some(pointer) = &meter.value { " of " bdi { (pointer) } } }
}

/// A decimal number with a comma at each three digits before its point, and all of them.
fn written(usage: &Usage) -> String {
    let text = usage.value.get();
    let (sign, text) = text
        .strip_prefix('-')
        .map_or(("", text), |rest| ("−", rest));
    let (whole, rest) = text.split_at(text.find(['.', 'e', 'E']).unwrap_or(text.len()));
    let mut out = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_written_with_all_its_digits() {
        for (json, expected) in [
            ("0", "0"),
            ("21192840", "21,192,840"),
            ("-1000.5", "−1,000.5"),
            ("182904.500000000001", "182,904.500000000001"),
        ] {
            let value = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(written(&Usage { value }), expected);
        }
    }
}
