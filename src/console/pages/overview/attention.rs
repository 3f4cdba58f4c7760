//! What needs attention: endpoints that fail and meters that could not count, each in a
//! sentence that says what becomes of it, and where to look.

use maud::{Markup, html};
use serde::Deserialize;

use super::latest::Meter;
use super::period::{Period, part_path};
use crate::console::parts::{TimeFormat, empty, icon, mid, number, time};
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::endpoint::EndpointState;
use crate::model::time::Time;

/// Deliveries that are counted at most; so many are that many or more.
const WAITING_MAX: u64 = 1_000;
/// Endpoints in the list of those that failed most.
const MOST: usize = 5;

/// Endpoints that fail, as the API lists them.
#[derive(Debug, Deserialize)]
pub(super) struct Failing {
    endpoints: Vec<FailingEndpoint>,
    has_more: bool,
}

#[derive(Debug, Deserialize)]
struct FailingEndpoint {
    endpoint_id: String,
    url: String,
    state: EndpointState,
    failing_since: Option<Time>,
    disabled_at: Option<Time>,
    retry_at: Option<Time>,
    waiting: u64,
    failed_attempts: u64,
    failed_deliveries: u64,
}

impl FailingEndpoint {
    fn is_failing(&self) -> bool {
        self.failing_since.is_some() || self.is_off()
    }

    /// Whether Millrace has turned it off.
    fn is_off(&self) -> bool {
        matches!(self.state, EndpointState::Gone | EndpointState::Failed)
    }
}

/// The section, which is brought up to date by itself.
pub(super) fn section(view: &View, failing: Option<&Failing>, meters: &[Meter]) -> Markup {
    let endpoints = failing.map_or(&[][..], |failing| &failing.endpoints);
    let endpoints: Vec<_> = endpoints.iter().filter(|row| row.is_failing()).collect();
    let meters: Vec<_> = meters.iter().filter(|meter| meter.skipped() > 0).collect();
    let has_more = failing.is_some_and(|failing| failing.has_more);
    let count = endpoints.len() + meters.len();
    html! {
        section #todo.card aria-labelledby="todo-h" data-live="swap" data-src=(part_path(view, "todo")) {
            header {
                h2 #todo-h {
                    "Needs attention"
                    @if count > 0 {
                        " " span.count.is-bad { (count) @if has_more { "+" } }
                    }
                }
            }
            ul.rows {
                @for endpoint in &endpoints { (of_endpoint(view, endpoint)) }
                @for meter in &meters { (of_meter(view, meter)) }
                @if count == 0 {
                    @match failing {
                        Some(_) => li.is-ok { (icon("check")) p { "Nothing: no endpoint fails." } },
                        None => li { (icon("info")) p { "Whether endpoints fail is not known here." } },
                    }
                }
                @if has_more {
                    li { (icon("info")) p { "More endpoints fail than are listed here." }
                        div.acts { a.btn.slim href=(view.path("endpoints")) { "All endpoints" } } }
                }
            }
        }
    }
}

fn of_endpoint(view: &View, endpoint: &FailingEndpoint) -> Markup {
    let name = html! { strong.over { bdi { (host(&endpoint.url)) } } };
    let waiting = match endpoint.waiting {
        0 => html! { "Nothing waits for it." },
        1 => html! { "1 delivery waits, and is not lost." },
        WAITING_MAX.. => html! { (number(WAITING_MAX)) " deliveries or more wait, none is lost." },
        more => html! { (number(more)) " deliveries wait, none is lost." },
    };
    let enable = if view.may(Scope::EndpointsWrite) {
        " Enable it once it is mended."
    } else {
        ""
    };
    html! {
        li.is-bad {
            (icon("alert"))
            p {
                @match (endpoint.state, endpoint.failing_since) {
                    (EndpointState::Gone, _) => {
                        (name) " answered 410 Gone and is turned off. " (waiting) (enable)
                    },
                    (EndpointState::Failed, _) => {
                        (name) " failed for days and is turned off. " (waiting) (enable)
                    },
                    (_, since) => {
                        (name) " fails" @if let Some(since) = since { " since " (time(since.0, TimeFormat::Full)) } ". "
                        (waiting)
                        @if let Some(retry) = endpoint.retry_at { " It is tried again at " (time(retry.0, TimeFormat::Minute)) "." }
                        @if let Some(off) = endpoint.disabled_at { " It is turned off on " (time(off.0, TimeFormat::Full)) " if that goes on." }
                    },
                }
            }
            div.acts { a.btn.slim href=(view.path_of("endpoints", &endpoint.endpoint_id)) { "Open endpoint" } }
        }
    }
}

fn of_meter(view: &View, meter: &Meter) -> Markup {
    let skipped = meter.skipped();
    let events = if skipped == 1 { "event" } else { "events" };
    html! {
        li.is-warn {
            (icon("info"))
            p {
                strong.over { bdi { (meter.name) } } " could not count " (number(skipped)) " " (events)
                " since it was made: there was no value"
                @if let Some(pointer) = &meter.value { " at " code { bdi { (pointer) } } }
                "."
            }
            div.acts { a.btn.slim href=(view.path_of("meters", &meter.id)) { "Open meter" } }
        }
    }
}

/// What of a URL says whose it is: the rest may be long.
fn host(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The endpoints that failed most in the period.
pub(super) fn failed_most(view: &View, period: Period, failing: Option<&Failing>) -> Markup {
    let rows = failing.map_or(&[][..], |failing| &failing.endpoints);
    let mut rows: Vec<_> = rows.iter().filter(|row| row.failed_attempts > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.failed_attempts));
    rows.truncate(MOST);
    html! {
        div.card {
            header { h2 { "Failed most" } span.small.faint { (period.label()) } }
            @if rows.is_empty() {
                (empty("No attempt failed", html! { "Every endpoint answered each time it was tried." }, html! {}))
            } @else {
                table.table {
                    thead { tr {
                        th scope="col" { "Endpoint" }
                        th.num.w5 scope="col" { "Failed attempts" }
                        th.num.w5 scope="col" { "Given up" }
                    } }
                    tbody {
                        @for row in rows {
                            tr {
                                td { a.row href=(view.path_of("endpoints", &row.endpoint_id)) { (mid(&row.url)) } }
                                td.num { (number(row.failed_attempts)) }
                                td.num { (number(row.failed_deliveries)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_path() {
        for (url, expected) in [
            ("https://hooks.example.com/a/b?c", "hooks.example.com"),
            ("http://127.0.0.1:9000", "127.0.0.1:9000"),
            ("https://example.com?x", "example.com"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(host(url), expected);
        }
    }
}
