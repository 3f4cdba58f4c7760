//! How an endpoint does: what is wrong, in a sentence; the facts; what runs; what came
//! last.

use jiff::Timestamp;
use maud::{Markup, html};

use super::ask::address;
use super::shown::{Attempt, Delivery, Endpoint, Recovery, Stats};
use crate::app;
use crate::console::form::form_tokens;
use crate::console::pairs::href;
use crate::console::parts::{TimeFormat, Tone, cut, duration, empty, note, number, short, time};
use crate::console::visit::View;
use crate::model::api_key::Scope;

/// What is known of an endpoint beside its settings.
pub struct Health {
    /// None where that cannot be told now, or the session may not see it.
    pub stats: Option<Stats>,
    /// The latest, the newest first.
    pub deliveries: Vec<Delivery>,
    /// Recoveries that run there.
    pub running: Vec<Recovery>,
}

impl Health {
    /// The element that is swapped for a newer one of itself: note, facts, what runs.
    pub fn now(&self, view: &View, endpoint: &Endpoint) -> Markup {
        html! {
            div.stack #health data-live="swap" data-src=(href(&address(view, &endpoint.id, ""), &[("part", Some("health"))])) {
                (self.wrong(view, endpoint))
                @if let Some(stats) = &self.stats { (facts(stats)) }
                @for recovery in &self.running { (running(view, recovery)) }
            }
        }
    }

    /// What is not well, if anything is, and what Millrace does about it.
    fn wrong(&self, view: &View, endpoint: &Endpoint) -> Markup {
        let seen = html! {
            @if let Some(delivery) = self.deliveries.iter().find(|one| one.failure().is_some()) {
                a.btn.slim href=(event_address(view, delivery)) { "See its last answer" }
            }
        };
        match &*endpoint.state {
            "disabled" => note(
                Tone::Off,
                "It is turned off",
                html! { "New events pass it by. Deliveries that were pending wait, and go on once it is turned on." },
                html! {},
            ),
            "gone" => note(
                Tone::Bad,
                "It answered 410 Gone, and Millrace turned it off",
                html! { "New events pass it by, and what was pending waits. Turn it on once it takes webhooks again, then recover what failed." },
                seen,
            ),
            "failed" => note(
                Tone::Bad,
                "It failed for days, and Millrace turned it off",
                html! { "New events pass it by, and what was pending waits. Mend it, turn it on, then recover what failed." },
                seen,
            ),
            _ => self.failing(seen),
        }
    }

    /// What is not well with an endpoint that takes events.
    fn failing(&self, seen: Markup) -> Markup {
        let Some(stats) = &self.stats else {
            return html! {};
        };
        let last = self.deliveries.iter().find_map(Delivery::failure);
        let what = last.map_or_else(|| "It does not answer as it should".to_owned(), said);
        match (&*stats.breaker.state, stats.failing_since) {
            ("open", since) => note(
                Tone::Bad,
                &format!("{what}, and Millrace leaves it alone for now"),
                html! {
                    (number(stats.breaker.failures.into())) " attempts in a row failed"
                    @if let Some(since) = since { ", since " (time(since, TimeFormat::Full)) } ". "
                    @if let Some(at) = stats.breaker.retry_at {
                        "One attempt at " (time(at, TimeFormat::Time)) " will tell whether it is back; as soon as it answers 2xx, all that waits is sent. "
                    }
                    "Until then no attempt is spent."
                },
                seen,
            ),
            (_, Some(since)) => note(
                Tone::Warn,
                &format!("{what}: nothing but failures"),
                html! {
                    "Since " (time(since, TimeFormat::Full)) " no attempt was answered 2xx. Each delivery is tried again, ever more rarely"
                    @if let Some(at) = stats.disabled_at { "; should it go on like this, Millrace turns the endpoint off on " (time(at, TimeFormat::Full)) } "."
                },
                seen,
            ),
            _ => html! {},
        }
    }

    /// The element of the latest deliveries, which is swapped for a newer one of itself.
    pub fn latest(&self, view: &View, endpoint: &Endpoint) -> Markup {
        let all = href(
            &view.path("deliveries"),
            &[("endpoint_id", Some(&endpoint.id))],
        );
        let source = href(
            &address(view, &endpoint.id, ""),
            &[("part", Some("deliveries"))],
        );
        html! {
            div.card #latest data-live="swap" data-src=(source) {
                header { h2 { "Latest deliveries" } a.small href=(all) { "All deliveries" } }
                @if self.deliveries.is_empty() {
                    (empty("No deliveries yet", html! { "An event that matches its types makes one. A test event does, whatever its types." }, html! {}))
                } @else {
                    table.table.cards {
                        caption.sr { "The latest deliveries to this endpoint" }
                        thead {
                            tr {
                                th.w7 scope="col" { "Event " span.zone { "UTC" } }
                                th scope="col" { "Type" }
                                th.w7 scope="col" { "State" }
                                th.num.w5 scope="col" { "Attempts" }
                                th.w6 scope="col" { "Answer" }
                                th.num.w5 scope="col" { "In" }
                            }
                        }
                        tbody { @for delivery in &self.deliveries { (row(view, endpoint, delivery)) } }
                    }
                }
            }
        }
    }
}

/// What an attempt came to, as a sentence begins.
fn said(attempt: &Attempt) -> String {
    match attempt.status {
        Some(status) => format!("It answers {status}"),
        None => "It does not answer".to_owned(),
    }
}

fn event_address(view: &View, delivery: &Delivery) -> String {
    let event = view.path_of("events", &delivery.event_id);
    format!("{event}#{}", delivery.id)
}

fn row(view: &View, endpoint: &Endpoint, delivery: &Delivery) -> Markup {
    let last = delivery.attempts.last();
    html! {
        tr {
            td.end { (time(delivery.created_at, TimeFormat::Time)) }
            td.lead { a.row.mono href=(event_address(view, delivery)) { (cut(&delivery.event_type)) } }
            td { (delivery.state(endpoint.is_enabled())) }
            td.num data-l="attempts" { (delivery.attempts_made) }
            td data-l="answer" { @match last { Some(last) => (cut(&last.answer())), None => "–" } }
            td.num data-l="in" { @match last { Some(last) => (duration(last.duration_ms)), None => "–" } }
        }
    }
}

fn facts(stats: &Stats) -> Markup {
    let latest = &stats.latest;
    let ended = latest.delivered + latest.failed;
    html! {
        dl.facts.card {
            div {
                dt { "Circuit breaker" }
                dd { @match &*stats.breaker.state { "open" => "Open", "half_open" => "Trying", _ => "Closed" } }
                dd { @match stats.breaker.retry_at { Some(at) => { "next look in " (until(at)) }, None => "attempts go through" } }
            }
            div {
                dt { "Failing" }
                dd { @match stats.failing_since { Some(since) => (age(since)), None => "No" } }
                dd { @match stats.disabled_at { Some(at) => { "turned off in " (until(at)) }, None => "its last attempt went well" } }
            }
            div {
                dt { "Pending" }
                dd.num { (number(latest.pending)) }
                dd { "of the latest " (number(latest.deliveries)) }
            }
            div {
                dt { "Delivered" }
                dd.num { (number(latest.delivered)) }
                dd { "of " (number(ended)) " that have ended" }
            }
        }
    }
}

fn age(since: Timestamp) -> String {
    duration(millis_between(since, app::now()))
}

fn until(at: Timestamp) -> String {
    duration(millis_between(app::now(), at))
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

/// A recovery that goes on.
fn running(view: &View, recovery: &Recovery) -> Markup {
    let to = view.path_of("recoveries", &recovery.id);
    html! {
        div.card {
            header {
                h2 { (recovery.what()) " since " (time(recovery.since, TimeFormat::Full)) }
                @if view.may(Scope::EventsWrite) {
                    form method="post" action={ (to) "/cancel" } {
                        (form_tokens(view))
                        button.btn.slim.danger { "Cancel" }
                    }
                }
            }
            div.in.stack {
                (recovery.bar())
                p.small.soft.num {
                    (number(recovery.resent)) " sent, " (number(recovery.examined)) " looked at · "
                    a href=(to) { code { (short(&recovery.id)) } }
                }
            }
        }
    }
}
