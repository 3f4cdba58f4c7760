//! An event: what it says, and what became of it at each endpoint.

mod card;
pub mod endpoint;

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::endpoint::Endpoint;
use crate::app;
use crate::console::delivery::Delivery;
use crate::console::layout::{Page, Section, page, part};
use crate::console::listing::shortened;
use crate::console::pairs::{href, segment};
use crate::console::parts::{self, TimeFormat, copy, empty, icon};
use crate::console::refusal::Refusal;
use crate::console::visit::View;
use crate::model::api_key::Scope;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::model::time::Time;

/// Deliveries on a page; a page of one delivery alone has it whole.
const DELIVERIES_MAX: usize = 12;
/// Characters of the event that are shown, which are up to six of HTML each.
const EVENT_CHARS_MAX: usize = 4_000;
/// Bytes of an event that is put into a button that copies it.
const COPIED_BYTES_MAX: usize = 3_000;
/// How long an event may take to be given its deliveries.
const FAN_OUT_S: i64 = 60;

/// What the page shows of an event.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    received_at: Time,
    expires_at: Time,
    event: Box<RawValue>,
    deliveries: Vec<Delivery>,
}

/// The attributes that are shown by themselves.
#[derive(Debug, Deserialize)]
struct Attributes {
    id: String,
    source: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    tenant: Option<String>,
    time: Option<String>,
    datacontenttype: Option<String>,
    dataschema: Option<String>,
    traceparent: Option<String>,
}

/// The page of an event, or with `?endpoint=` of it at one endpoint. One call of the API, or
/// two at once, then one for each endpoint shown, all at once.
pub async fn show(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let id = event_id(&path)?;
    let only = view
        .query
        .get("endpoint")
        .and_then(|text| text.parse::<EndpointId>().ok());
    let event = read(&view, &id, only.as_ref()).await?;
    let endpoints = endpoints(&view, &event.deliveries).await;
    if view.part() == Some("deliveries") {
        return Ok(part(deliveries(&view, &event, &endpoints, only.as_ref())));
    }
    let attributes: Result<Attributes, _> = serde_json::from_str(event.event.get());
    let attributes = attributes.map_err(|_| Refusal::not_found("the event cannot be read"))?;
    let title = shortened(&attributes.event_type);
    let body = html! {
        div.wide {
            (deliveries(&view, &event, &endpoints, only.as_ref()))
            div.stack { (payload(&view, &event)) (facts(&event, &attributes)) }
        }
    };
    let crumbs = [("Events", view.path("events"))];
    Ok(page(
        &view,
        Page {
            crumbs: &crumbs,
            meta: meta(&view, &event, &attributes),
            acts: acts(&view, &event),
            live: card::live(&event.deliveries),
            body,
            ..Page::new(&title, Section::Events)
        },
    ))
}

/// The event as it is sent, whole.
pub async fn json(
    view: View,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let id = event_id(&path)?;
    let event: Event = view.get(&format!("/v1/events/{id}")).await?;
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{id}.json\""));
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/cloudevents+json"),
        ),
        (CONTENT_DISPOSITION, disposition.expect("an id is ASCII")),
    ];
    Ok((headers, event.event.get().to_owned()).into_response())
}

/// The id in the path.
///
/// # Errors
/// A [`Refusal`] when it is none.
pub fn event_id(path: &BTreeMap<String, String>) -> Result<EventId, Refusal> {
    let id = path.get("id").and_then(|text| text.parse().ok());
    id.ok_or_else(|| Refusal::not_found("there is no such event in this project"))
}

/// The event, with the deliveries that are to be shown.
async fn read(view: &View, id: &EventId, only: Option<&EndpointId>) -> Result<Event, Refusal> {
    let path = format!("/v1/events/{id}");
    let Some(endpoint) = only else {
        return view.get(&path).await;
    };
    let delivery = format!("/v1/deliveries/{}", DeliveryId::new(id, endpoint));
    let (event, delivery) = tokio::try_join!(view.get(&path), view.get(&delivery))?;
    Ok(Event {
        deliveries: vec![delivery],
        ..event
    })
}

/// The endpoints of the deliveries that are shown, as far as they are known.
async fn endpoints(view: &View, deliveries: &[Delivery]) -> Vec<Endpoint> {
    let shown = deliveries.iter().take(DELIVERIES_MAX);
    let ids: BTreeSet<_> = shown.map(|one| one.endpoint_id.as_str()).collect();
    let one = async |id: &&str| view.get(&format!("/v1/endpoints/{}", segment(id))).await;
    let found: Vec<Result<Endpoint, Refusal>> = join_all(ids.iter().map(one)).await;
    found.into_iter().filter_map(Result::ok).collect()
}

fn meta(view: &View, event: &Event, attributes: &Attributes) -> Markup {
    let to = |name: &str, value: &str| href(&view.path("events"), &[(name, Some(value))]);
    html! {
        @if let Some(tenant) = &attributes.tenant {
            span { "for " a.plain href=(to("tenant", tenant)) { bdi { (shortened(tenant)) } } }
        }
        @if let Some(subject) = &attributes.subject {
            span { "about " a.plain href=(to("subject", subject)) { bdi { (shortened(subject)) } } }
        }
        span { "received " (parts::time(event.received_at.0, TimeFormat::FullSeconds)) " " span.zone { "UTC" } }
    }
}

fn acts(view: &View, event: &Event) -> Markup {
    let json = event.event.get();
    html! {
        @if json.len() <= COPIED_BYTES_MAX {
            button.btn type="button" data-copy=(curl(json)) { (icon("copy")) "Copy as curl" }
        }
        @if view.may(Scope::EventsWrite) {
            a.btn href=(view.path(&format!("events/{}/replay", event.id))) { (icon("retry")) "Replay" }
        }
    }
}

/// The command that publishes the event; the key is in the environment of who runs it.
fn curl(json: &str) -> String {
    let quoted = json.replace('\'', "'\\''");
    format!(
        "curl \"$MILLRACE_URL/v1/events\" -H \"Authorization: Bearer $MILLRACE_KEY\" \
         -H 'Content-Type: application/cloudevents+json' -d '{quoted}'"
    )
}

/// What became of it, renewed while something is under way.
fn deliveries(
    view: &View,
    event: &Event,
    endpoints: &[Endpoint],
    only: Option<&EndpointId>,
) -> Markup {
    let now = app::now();
    let is_live = event.deliveries.iter().any(Delivery::is_pending)
        || event.deliveries.is_empty() && is_fresh(event, now);
    let here = view.path(&format!("events/{}", event.id));
    let source = href(
        &here,
        &[
            ("part", Some("deliveries")),
            ("endpoint", only.map(EndpointId::as_str)),
        ],
    );
    let of_event = href(&view.path("deliveries"), &[("event_id", Some(&event.id))]);
    html! {
        div.stack #deliveries data-live=[is_live.then_some("swap")] data-src=(source) {
            h2.sr { "Deliveries" }
            @if only.is_some() { p.small { a href=(here) { "Show the event at all its endpoints" } } }
            @if event.deliveries.is_empty() { div.card { (nowhere(is_fresh(event, now))) } }
            @for (n, delivery) in event.deliveries.iter().take(DELIVERIES_MAX).enumerate() {
                @let endpoint = endpoints.iter().find(|endpoint| endpoint.id == delivery.endpoint_id);
                (card::card(view, n, delivery, endpoint, card::Room::among(event.deliveries.len()), now))
            }
            @if event.deliveries.len() > DELIVERIES_MAX {
                p { a.btn href=(of_event) { "Show all its deliveries" } }
            }
        }
    }
}

fn is_fresh(event: &Event, now: Timestamp) -> bool {
    now.duration_since(event.received_at.0).as_secs() < FAN_OUT_S
}

fn nowhere(is_fresh: bool) -> Markup {
    if is_fresh {
        let text =
            html! { "It is kept. What becomes of it at endpoints appears here in a moment." };
        return empty("No delivery yet", text, html! {});
    }
    let text = html! {
        "No endpoint took its type and tenant when it came. An endpoint that does so now gets it by "
        "Replay, or by sending all that it missed."
    };
    empty("For no endpoint", text, html! {})
}

fn payload(view: &View, event: &Event) -> Markup {
    let json = event.event.get();
    let whole = view.path(&format!("events/{}/event.json", event.id));
    html! {
        div.code {
            header {
                span { "The event" }
                @if json.len() <= COPIED_BYTES_MAX { (copy(json, "Copy the event")) }
                a.small href=(whole) { "Download" }
            }
            pre tabindex="0" role="group" aria-label="The event as JSON" { code { (parts::json(json, EVENT_CHARS_MAX)) } }
        }
    }
}

fn facts(event: &Event, attributes: &Attributes) -> Markup {
    let optional = [
        ("Happened", &attributes.time),
        ("Content type", &attributes.datacontenttype),
        ("Data schema", &attributes.dataschema),
        ("Trace", &attributes.traceparent),
    ];
    html! {
        section.card aria-labelledby="about" {
            header { h2 #about { "Attributes" } }
            dl.kv.in {
                dt { "Id" } dd { (parts::id(&event.id)) }
                dt { "Published as" }
                dd { code { bdi { (shortened(&attributes.source)) } } " " code { bdi { (shortened(&attributes.id)) } } }
                @for (name, value) in optional {
                    @if let Some(value) = value { dt { (name) } dd { bdi { (shortened(value)) } } }
                }
                dt { "Received" } dd { (parts::time(event.received_at.0, TimeFormat::FullSeconds)) }
                dt { "Kept until" } dd { (parts::time(event.expires_at.0, TimeFormat::Date)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_quotes_whatever_an_event_holds() {
        let made = curl(r#"{"a":"it's $HOME `x`"}"#);
        assert!(
            made.ends_with(r#"-d '{"a":"it'\''s $HOME `x`"}'"#),
            "{made}"
        );
        assert!(made.contains("$MILLRACE_KEY"));
    }
}
