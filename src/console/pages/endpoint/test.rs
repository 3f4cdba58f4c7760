//! The test of an endpoint: a test event is sent, and what it answered is shown.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};

use super::ask::{Question, address, api_path, endpoint, framed, question};
use super::shown::{Attempt, Delivery, Endpoint};
use crate::console::form::{Form, form_tokens};
use crate::console::layout::{part, see_other};
use crate::console::pairs::{href, segment};
use crate::console::parts::{TimeFormat, Tone, code, duration, icon, note, time};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

type Named = Path<(String, String)>;

/// `GET …/endpoints/{id}/test`: what the delivery in the query came to, or whether one is to
/// be sent. Two calls of the API, one for the part alone.
pub async fn show(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let Some(delivery) = view.query.get("delivery") else {
        let found = endpoint(&view, &id).await?;
        return Ok(question(&view, &found, asking(), None));
    };
    let path = format!("/v1/deliveries/{}", segment(delivery));
    if view.part().is_some() {
        let delivery: Delivery = view.get(&path).await?;
        return Ok(part(result(&view, &id, &delivery)));
    }
    let (found, delivery) = tokio::try_join!(endpoint(&view, &id), view.get::<Delivery>(&path))?;
    let body = html! {
        (result(&view, &id, &delivery))
        (again(&view, &found))
    };
    Ok(framed(&view, &found, "Test event", body))
}

/// `POST …/endpoints/{id}/test`. One call of the API.
pub async fn send(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    let path = api_path(&id, "/test");
    let sent = view.send(Method::POST, &path, None, Some(form.once()));
    match sent.await {
        Ok(sent) => {
            let delivery = sent["delivery_id"].as_str();
            let to = href(&address(&view, &id, "/test"), &[("delivery", delivery)]);
            Ok(see_other(&to, "tested"))
        }
        Err(refusal) if refusal.is_about_input() => {
            let found = endpoint(&view, &id).await?;
            Ok(question(&view, &found, asking(), Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn asking() -> Question<'static> {
    Question {
        title: "Send a test event?",
        body: html! { p { "An event of the type " code { "millrace.endpoint.test" } " is sent to it, signed as any other, whatever types it takes." } },
        deed: "Send test",
        is_danger: false,
        to: "/test",
    }
}

fn again(view: &View, found: &Endpoint) -> Markup {
    html! {
        form.acts method="post" action=(address(view, &found.id, "/test")) {
            (form_tokens(view))
            a.btn href=(address(view, &found.id, "")) { "Back to the endpoint" }
            button.btn { (icon("send")) "Send another" }
        }
    }
}

/// What came of a test, which is asked for again until there is an answer.
fn result(view: &View, id: &str, delivery: &Delivery) -> Markup {
    let source = href(
        &address(view, id, "/test"),
        &[("delivery", Some(&*delivery.id)), ("part", Some("result"))],
    );
    let last = delivery.attempts.last();
    let live = last.is_none().then_some("swap");
    let event = format!(
        "{}#{}",
        view.path_of("events", &delivery.event_id),
        delivery.id
    );
    let to_event = html! { a.btn.slim href=(event) { "Open the event" } };
    html! {
        div.stack #result data-live=[live] data-src=(source) {
            @match last {
                None => (note(Tone::Info, "On its way", html! { "The test event was sent " (time(delivery.created_at, TimeFormat::FullSeconds)) ". Its answer is shown here; without script, load the page again." }, to_event)),
                Some(attempt) => {
                    (verdict(attempt, to_event))
                    (evidence(attempt))
                }
            }
        }
    }
}

fn verdict(attempt: &Attempt, acts: Markup) -> Markup {
    let took = duration(attempt.duration_ms);
    match (attempt.succeeded(), attempt.status) {
        (true, Some(status)) => note(
            Tone::Ok,
            &format!("It works: {status} after {took}"),
            html! { "The endpoint took the event. Whether it verified the signature, it alone knows." },
            acts,
        ),
        (_, Some(status)) => note(
            Tone::Bad,
            &format!("It answered {status} after {took}"),
            html! { "Anything but 2xx is a failure. A test is tried again as any other delivery is." },
            acts,
        ),
        (_, None) => note(
            Tone::Bad,
            &format!("No answer after {took}"),
            html! { bdi { (attempt.answer()) } ". A test is tried again as any other delivery is." },
            acts,
        ),
    }
}

/// The answer, then the request.
fn evidence(attempt: &Attempt) -> Markup {
    let response = attempt.response.as_deref();
    let headers = attempt.request_headers.iter().flatten();
    let lines: Vec<_> = headers
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let lines = lines.join("\n");
    html! {
        @if let Some(response) = response { (code("Answer", response, html! { (response) })) }
        @if !lines.is_empty() { (code("Request headers as sent", &lines, html! { (lines) })) }
    }
}
