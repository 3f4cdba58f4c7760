//! A delivery as its event's page shows it: why, where it is in its schedule, and its
//! attempts, the latest first.

use std::time::Duration;

use jiff::Timestamp;
use maud::{Markup, html};

use super::endpoint::Endpoint;
use crate::console::delivery::{Attempt, Delivery, Standing};
use crate::console::layout::{Live, form};
use crate::console::parts::{self, TimeFormat, Tone, duration, icon, id, state, time};
use crate::console::visit::View;
use crate::console::why;
use crate::model::api_key::Scope;

/// What there is room for on a page: fewer attempts in full, the more deliveries there are.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    attempts: usize,
    chars: usize,
}

impl Room {
    /// What each of `deliveries` has.
    pub fn among(deliveries: usize) -> Self {
        match deliveries {
            0..=1 => Self {
                attempts: 12,
                chars: 1_000,
            },
            2..=3 => Self {
                attempts: 3,
                chars: 1_000,
            },
            _ => Self {
                attempts: 1,
                chars: 500,
            },
        }
    }
}

/// Whether a page of `deliveries` changes by itself.
pub fn live(deliveries: &[Delivery]) -> Live {
    match deliveries.iter().any(Delivery::is_pending) {
        true => Live::Yes,
        false => Live::No,
    }
}

/// The `n`th delivery of a page.
pub fn card(
    view: &View,
    n: usize,
    delivery: &Delivery,
    endpoint: Option<&Endpoint>,
    room: Room,
    now: Timestamp,
) -> Markup {
    let to = view.path_of("endpoints", &delivery.endpoint_id);
    html! {
        article.card #(delivery.id) aria-labelledby={ "d" (n) } {
            header {
                h3 id={ "d" (n) } {
                    a.plain href=(to) {
                        @match endpoint {
                            Some(endpoint) => bdi { (endpoint.name()) },
                            None => code { (parts::short(&delivery.endpoint_id)) },
                        }
                    }
                }
                span.acts {
                    (mark(delivery, endpoint))
                    @if view.may(Scope::EventsWrite) { (retry(view, delivery)) }
                }
            }
            (reason(delivery, endpoint, view, now))
            (rail(delivery, view))
            @if !delivery.attempts.is_empty() {
                ol.tries reversed aria-label="Attempts, the latest first" {
                    @for (back, attempt) in delivery.attempts.iter().rev().enumerate() {
                        @let number = (delivery.attempts_made as usize).saturating_sub(back);
                        (tried(n, number, back, attempt, room, &delivery.event_id))
                    }
                }
            }
            footer {
                (id(&delivery.id))
                @if room.attempts < delivery.attempts.len() {
                    a.small href={ (view.path("events")) "/" (delivery.event_id) "?endpoint=" (delivery.endpoint_id) } { "Every attempt in full" }
                }
            }
        }
    }
}

fn mark(delivery: &Delivery, endpoint: Option<&Endpoint>) -> Markup {
    let is_off = endpoint.is_some_and(|endpoint| why::is_off(endpoint.state));
    match delivery.attempts.last() {
        _ if delivery.is_pending() && is_off => Standing::Waiting.mark(),
        Some(last) if delivery.standing() == Standing::Delivered => {
            let text = format!("Delivered in {}", duration(last.duration_ms));
            state(Tone::Ok, "check", &text)
        }
        _ => delivery.standing().mark(),
    }
}

fn retry(view: &View, delivery: &Delivery) -> Markup {
    let to = view.path(&format!("deliveries/{}/retry", delivery.id));
    form(
        view,
        &to,
        html! { button.btn.slim { (icon("retry")) "Retry now" } },
    )
}

fn delays(view: &View) -> (&[Duration], f64) {
    let delivery = &view.console.app.config.delivery;
    (&delivery.retry_schedule, delivery.retry_jitter)
}

/// Why it has not arrived, and what comes next.
fn reason(delivery: &Delivery, endpoint: Option<&Endpoint>, view: &View, now: Timestamp) -> Markup {
    let why = why::of(delivery, endpoint.map(|endpoint| endpoint.state));
    let next = next(delivery, view, now);
    html! {
        @if why.is_some() || next.is_some() {
            div.in {
                div.why {
                    @if let Some(why) = why {
                        p {
                            strong { (why.what) }
                            @if let Some(says) = why.says { " It says “" bdi { (says) } "”." }
                            " " (why.turn)
                        }
                    }
                    @if let Some(next) = next { p { (next) } }
                }
            }
        }
    }
}

/// When it is tried again, and how often.
fn next(delivery: &Delivery, view: &View, now: Timestamp) -> Option<Markup> {
    let (delays, jitter) = delays(view);
    let Some(at) = delivery.next_attempt_at.filter(|_| delivery.is_pending()) else {
        let is_over = delivery.standing() == Standing::Failed;
        return is_over.then(
            || html! { "Nothing more is tried by itself. Retry it when the endpoint is in order." },
        );
    };
    let left = at.0.duration_since(now).as_millis();
    let left = u64::try_from(left).unwrap_or(0);
    let rest = delivery
        .round(delays, jitter)
        .and_then(|made| delays.get(made + 1..));
    let rest = rest.filter(|rest| !rest.is_empty());
    let last = rest.and_then(|rest| at.0.checked_add(rest.iter().sum::<Duration>()).ok());
    Some(html! {
        "Next try at " (time(at.0, TimeFormat::FullSeconds))
        @if left >= 1_000 { ", in " (whole(left / 1_000 * 1_000)) }
        @if let (Some(rest), Some(last)) = (rest, last) {
            "; then " (rest.len()) " more, the last about " (time(last, TimeFormat::Full))
        }
        "."
    })
}

/// The schedule, and where in it the delivery stands.
fn rail(delivery: &Delivery, view: &View) -> Markup {
    let (delays, jitter) = delays(view);
    let is_shown = matches!(delivery.standing(), Standing::Retrying | Standing::Failed);
    let made = delivery
        .round(delays, jitter)
        .filter(|made| is_shown && *made <= delays.len());
    let Some(made) = made else {
        return html! {};
    };
    html! {
        ol.rail aria-label="Retry schedule: the delay before each attempt" {
            @for (place, delay) in delays.iter().enumerate() {
                @let word = match delay.as_millis() as u64 { 0 => "at once".to_owned(), ms => whole(ms) };
                @if place < made {
                    li.is-bad { (icon("x")) span { (word) span.sr { ", failed" } } }
                } @else if place == made && delivery.is_pending() {
                    li.is-warn { span { (word) span.sr { ", next" } } }
                } @else {
                    li { span { (word) } }
                }
            }
        }
    }
}

/// `5 s`, `30 min`: a delay without what is nothing of it.
fn whole(ms: u64) -> String {
    match ms {
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        86_400_000 => "24 h".to_owned(),
        _ => duration(ms),
    }
}

/// An attempt: what came back, before what was sent.
fn tried(
    n: usize,
    number: usize,
    back: usize,
    attempt: &Attempt,
    room: Room,
    event: &str,
) -> Markup {
    let (tone, sign) = match attempt.succeeded() {
        true => (Tone::Ok, "check"),
        false => (Tone::Bad, "x"),
    };
    let status = attempt
        .status
        .map_or("no answer".to_owned(), |status| status.to_string());
    let reason = attempt.status.and_then(why::reason);
    let say = attempt.error.as_deref().or(reason).unwrap_or_default();
    let is_open = back == 0 && !attempt.succeeded();
    html! {
        li {
            details open[is_open] {
                summary {
                    span.faint.num { (number) }
                    (time(attempt.at.0, TimeFormat::Time))
                    (state(tone, sign, &status))
                    span.say.cut.soft { (say) }
                    span.num.faint { (duration(attempt.duration_ms)) }
                    (icon("right"))
                }
                @if back < room.attempts {
                    div.stack {
                        (answer(&format!("a{n}-{number}"), attempt, room))
                        (request(&format!("r{n}-{number}"), attempt, room, event))
                    }
                } @else {
                    p.small.soft { "Its answer and request are on the page of this delivery." }
                }
            }
        }
    }
}

fn answer(id: &str, attempt: &Attempt, room: Room) -> Markup {
    let line = attempt.status.map(|status| match why::reason(status) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    });
    let title = format!("Answer, after {}", duration(attempt.duration_ms));
    let content = html! {
        @match &line {
            None => cite { "None: " (attempt.error.as_deref().unwrap_or("no answer came")) "." },
            Some(line) => {
                em { (line) }
                @if let Some(body) = &attempt.response { "\n\n" (body_of(body, room.chars)) }
            }
        }
    };
    evidence(id, &title, content)
}

/// The beginning of an answer, which may be JSON, cut off.
fn body_of(body: &str, chars_max: usize) -> Markup {
    if body.trim_start().starts_with(['{', '[']) {
        return parts::json(body, chars_max);
    }
    let short: String = body.chars().take(chars_max).collect();
    html! {
        (short)
        @if short.len() < body.len() { cite { "\n… the rest is not shown here" } }
    }
}

fn request(id: &str, attempt: &Attempt, room: Room, event: &str) -> Markup {
    let Some(headers) = &attempt.request_headers else {
        return html! {};
    };
    let content = html! {
        b { "POST" } "\n"
        @for (name, value) in headers {
            @let value: String = value.chars().take(room.chars).collect();
            b { (name) } ": " (value) "\n"
        }
        cite { "\nThe event " (parts::short(event)) ", as shown beside." }
    };
    evidence(id, "Request as sent", content)
}

/// A block of code whose text is copied as it stands there.
fn evidence(id: &str, title: &str, content: Markup) -> Markup {
    html! {
        div.code.fold {
            header {
                span { (title) }
                button.copy type="button" data-copy-from=(id) aria-label={ "Copy: " (title) } { (icon("copy")) }
            }
            pre tabindex="0" role="group" aria-label=(title) { code id=(id) { (content) } }
        }
    }
}
