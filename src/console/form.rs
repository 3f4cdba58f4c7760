//! Forms: what a page sends, with the two tokens that make it one of the session's own
//! and one that is done once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use http::header::HeaderValue;
use http_body_util::{BodyExt, Limited};
use maud::{Markup, html};

use super::pairs::Pairs;
use super::refusal::Refusal;
use super::state::Console;
use super::visit::{self, Visitor};
use crate::model::id::{base32, is_base32};

/// Times that a body may be as long in a form as it is in JSON: each byte may be three.
const ENCODED: usize = 3;
/// Bytes of a form beside its largest field.
const BESIDE: usize = 64 * 1024;
const CSRF: &str = "csrf";
const ONCE: &str = "once";

/// What makes a form that is sent twice be done once: its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once(String);

impl Once {
    /// Of a new form.
    pub fn new(random: [u8; 16]) -> Self {
        Self(base32(&random))
    }

    fn read(text: &str) -> Option<Self> {
        (text.len() == 26 && is_base32(text)).then(|| Self(text.to_owned()))
    }

    /// The header `Idempotency-Key`.
    pub fn key(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("console-{}", self.0)).expect("base 32 is ASCII")
    }
}

/// A form that came from a page of this session.
#[derive(Debug)]
pub struct Form {
    /// Its fields.
    pub pairs: Pairs,
    once: Once,
}

impl Form {
    /// The value of `name`, if it was filled in.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.get(name)
    }

    /// The value of `name` as it was typed.
    pub fn text(&self, name: &str) -> &str {
        self.pairs.text(name)
    }

    /// Whether the box of `name` was ticked.
    pub fn is_ticked(&self, name: &str) -> bool {
        self.pairs.get(name).is_some()
    }

    /// What makes it be done once.
    pub fn once(&self) -> &Once {
        &self.once
    }
}

impl FromRequest<Arc<Console>> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        visit::check_origin(&parts)?;
        let bytes_max = console.app.config.http.body_bytes_max * ENCODED + BESIDE;
        let pairs = pairs(body, bytes_max).await?;
        if !visit::is_csrf_token(&parts, pairs.text(CSRF)) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not sent from a page of this session",
                "nothing was changed: the form is of another session, or older than this one. \
                 Open its page again and send it from there",
            ));
        }
        let once = Once::read(pairs.text(ONCE));
        let once = once.unwrap_or_else(|| Once::new(console.app.random()));
        Ok(Self { pairs, once })
    }
}

/// The fields of `body`, of up to `bytes_max`.
///
/// # Errors
/// A [`Refusal`] when it is larger or breaks off.
pub(super) async fn pairs(body: Body, bytes_max: usize) -> Result<Pairs, Refusal> {
    let read = Limited::new(body, bytes_max).collect().await;
    let body = read.map_err(|_| {
        let detail = format!("expected a form of up to {bytes_max} bytes, whole");
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "Too large",
            detail,
        )
    })?;
    Ok(Pairs::parse(&body.to_bytes()))
}

/// The hidden fields of every form that changes something.
pub fn form_tokens(visitor: &Visitor) -> Markup {
    let once = Once::new(visitor.console.app.random());
    html! {
        input type="hidden" name=(CSRF) value=(visitor.csrf_token());
        input type="hidden" name=(ONCE) value=(once.0);
    }
}

/// The hidden fields of a form that is shown again: it is the same form still, unless
/// what was refused is not what will be sent.
pub fn csrf_field(token: &str) -> Markup {
    html! { input type="hidden" name=(CSRF) value=(token); }
}
