//! The signing secret of an endpoint: shown when it is asked for, and made anew.

use axum::extract::Path;
use axum::response::Response;
use http::Method;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::ask::{Question, address, api_path, endpoint, framed, question};
use super::shown::Endpoint;
use crate::console::form::Form;
use crate::console::inputs::{Errors, select};
use crate::console::pairs::Pairs;
use crate::console::parts::{Field, Tone, code, field, note};
use crate::console::refusal::Refusal;
use crate::console::visit::View;

type Named = Path<(String, String)>;

/// `GET …/endpoints/{id}/secret`: asks first, as showing it is noted in the audit log. One
/// call of the API.
pub async fn ask_secret(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    let asked = Question {
        title: "Show the signing secret?",
        body: html! { p { "Who has it can sign webhooks that this endpoint takes for genuine. The audit log says who looked." } },
        deed: "Show the secret",
        is_danger: false,
        to: "/secret",
    };
    Ok(question(&view, &found, asked, None))
}

/// `POST …/endpoints/{id}/secret`. Two calls of the API.
pub async fn show(view: View, Path((_, id)): Named, _: Form) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    let secret: Value = view.get(&api_path(&id, "/secret")).await?;
    let text =
        html! { "Its receiver verifies webhooks with it. That it was shown is in the audit log." };
    Ok(shown(&view, &found, "Signing secret", text, &secret))
}

/// `GET …/endpoints/{id}/rotate`. One call of the API.
pub async fn ask_rotate(view: View, Path((_, id)): Named) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    Ok(question(
        &view,
        &found,
        rotating(&Pairs::default(), None),
        None,
    ))
}

/// `POST …/endpoints/{id}/rotate`. Two calls of the API.
pub async fn rotate(view: View, Path((_, id)): Named, form: Form) -> Result<Response, Refusal> {
    let found = endpoint(&view, &id).await?;
    let given = ["scheme", "secret"].into_iter();
    let given = given.filter_map(|name| Some((name.to_owned(), form.get(name)?.into())));
    let body = Value::Object(given.collect::<Map<_, _>>());
    let path = api_path(&id, "/rotate-secret");
    match view
        .send(Method::POST, &path, Some(&body), Some(form.once()))
        .await
    {
        Ok(secret) => {
            let text = html! { "For 24 hours webhooks are signed with the old one too: give this one to the receiver until then." };
            Ok(shown(&view, &found, "New signing secret", text, &secret))
        }
        Err(refusal) if refusal.is_about_input() => {
            let asked = rotating(&form.pairs, Some(&refusal));
            Ok(question(&view, &found, asked, Some(&refusal)))
        }
        Err(refusal) => Err(refusal),
    }
}

fn rotating<'a>(typed: &Pairs, refusal: Option<&Refusal>) -> Question<'a> {
    const SCHEMES: [(&str, &str); 3] = [
        ("", "As it is"),
        ("v1", "HMAC-SHA256 (v1)"),
        ("v1a", "Ed25519 (v1a)"),
    ];
    let errors = Errors(refusal);
    Question {
        title: "Rotate the secret?",
        body: html! {
            p { "A new secret signs from now on. For 24 hours the old one signs too, so that the receiver can be changed in its own time." }
            (select("scheme", "Signed by", SCHEMES, typed.text("scheme"), errors.of("scheme").as_deref()))
            // What was typed is not shown again: it is a secret.
            (field(&Field {
                name: "secret",
                label: "A secret of your own",
                hint: "whsec_… or whsk_…; left empty, one is made",
                error: errors.of("secret").as_deref(),
                is_mono: true,
                ..Field::default()
            }))
        },
        deed: "Rotate the secret",
        is_danger: false,
        to: "/rotate",
    }
}

/// The page with a secret, which no cache keeps.
fn shown(view: &View, found: &Endpoint, title: &str, text: Markup, secret: &Value) -> Response {
    let value = secret["secret"].as_str().unwrap_or_default();
    let scheme = secret["scheme"].as_str().unwrap_or_default();
    let back = html! { a.btn.slim href=(address(view, &found.id, "")) { "Back to the endpoint" } };
    let body = html! {
        (note(Tone::Ok, title, text, back))
        (code(&format!("Secret ({scheme})"), value, html! { (value) }))
    };
    framed(view, found, title, body)
}
