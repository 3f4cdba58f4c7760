//! The door: signing in with a key or a link that works once, and signing out.
//!
//! Whoever signs in gets a new session, and the one that the browser came with ends, so
//! that nobody can be given one to use that another knows. The form of the door is
//! bound to the browser by a cookie of its own: before there is a session, there is no
//! other secret that a page of another site could not send.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::header::{HeaderValue, RETRY_AFTER, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use serde_json::json;
use subtle::ConstantTimeEq;

use super::document;
use super::form::{self, Form};
use super::inputs;
use super::layout;
use super::link;
use super::pairs::{Pairs, href};
use super::refusal::Refusal;
use super::state::Console;
use super::visit::{self, SIGN_IN, Visitor};
use crate::app::authentication::{self, KeyHolder, in_time};
use crate::app::{self, App};
use crate::auth_failures::Source;
use crate::error::Error;
use crate::model::id::{base32, is_base32};
use crate::model::session::{AGE_MAX, Person, Reach, Role, Session, SessionToken};
use crate::store::audit_log::{self, SessionEntry};
use crate::store::sessions;

/// Bytes of the form of the door.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// The cookie that binds the form of the door to the browser.
const DOOR_COOKIE: &str = "__Host-millrace-door";
/// The same on a laptop, where there is no TLS.
const LOOPBACK_DOOR_COOKIE: &str = "millrace-door";
/// Characters of its value: 128 bits.
const DOOR_LEN: usize = 26;
/// Where one is after signing in, unless one wanted to go elsewhere.
const HOME: &str = "/console";
/// What is done, in the address of the page after it.
const SIGNED_IN: &str = "signed-in";

/// What the door shows.
struct Door<'a> {
    headers: &'a HeaderMap,
    /// The value of its cookie and its form.
    secret: String,
    /// What the address says: `next`, where one wants to go; `token`, of a link.
    asked: Pairs,
    refusal: Option<Refusal>,
}

impl<'a> Door<'a> {
    fn new(app: &App, headers: &'a HeaderMap, asked: Pairs) -> Self {
        let known = known_secret(headers).map(str::to_owned);
        Self {
            headers,
            secret: known.unwrap_or_else(|| base32(&app.random::<16>())),
            asked,
            refusal: None,
        }
    }

    fn refused(self, refusal: Refusal) -> Self {
        let refusal = Some(refusal);
        Self { refusal, ..self }
    }

    fn into_response(self) -> Response {
        let foot = html! {
            "On a laptop, open the link that " code { "millrace serve" } " printed, or that "
            code { "millrace console" } " prints." br; "It works once."
        };
        let theme = visit::theme(self.headers);
        let mut response = document::door("Sign in", theme, self.main(), foot);
        if let Some(refusal) = &self.refusal {
            *response.status_mut() = refusal.status_code();
        }
        let name = door_cookie(self.headers);
        let cookie = cookie(self.headers, name, &self.secret, AGE_MAX.as_secs());
        response.headers_mut().append(SET_COOKIE, cookie);
        response
    }

    fn main(&self) -> Markup {
        let link = self.asked.get("token");
        let of_key = self.refusal.as_ref();
        let of_key = of_key.filter(|refusal| refusal.field.as_deref() == Some("key"));
        html! {
            div {
                h1 { "Sign in" }
                p.small.soft { "The console: events, webhooks and usage" }
            }
            @if let Some(refusal) = &self.refusal { (inputs::refused(refusal)) }
            @if let Some(token) = link {
                form.form method="post" action=(SIGN_IN) {
                    (self.hidden())
                    input type="hidden" name="token" value=(token);
                    button.btn.primary { "Sign in with this link" }
                }
                p.or { "or with a key" }
            }
            form.form method="post" action=(SIGN_IN) {
                (self.hidden())
                div.field {
                    label for="key" { "API key or admin key" }
                    input #key.mono name="key" type="password" placeholder="mr_…" required
                        autocomplete="current-password" spellcheck="false"
                        aria-invalid=[of_key.map(|_| "true")] aria-describedby="key-h";
                    span.hint #key-h {
                        "It is exchanged for a session and not kept here. What you may do \
                         follows from its scopes."
                    }
                }
                button.btn.primary[link.is_none()] { "Sign in with this key" }
            }
        }
    }

    fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="door" value=(self.secret);
            @if let Some(next) = self.asked.get("next") {
                input type="hidden" name="next" value=(next);
            }
        }
    }
}

/// `GET /console/sign-in`. A link that works once is not used up by looking at it: programs
/// that preview links do that.
pub async fn show(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let asked = Pairs::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let next = next(&asked).to_owned();
    let is_by_link = asked.get("token").is_some();
    let was_just = next.contains(&format!("done={SIGNED_IN}"));
    let door = Door::new(&console.app, &parts.headers, asked);
    let door = match visit::signed_in(&console.app, &parts.headers).await {
        Ok(Some(_)) if !is_by_link => return Redirect::to(&next).into_response(),
        Ok(None) if was_just && !visit::has_session_cookie(&parts.headers) => {
            door.refused(cookie_not_kept())
        }
        Ok(_) => door,
        Err(error) => door.refused(refusal_of(&error)),
    };
    door.into_response()
}

/// `POST /console/sign-in`.
pub async fn submit(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let app = &console.app;
    match try_sign_in(app, &parts, body).await {
        Ok((token, next)) => {
            let mut response = layout::see_other(&next, SIGNED_IN);
            let cookie = session_cookie(&parts.headers, token.expose(), AGE_MAX.as_secs());
            response.headers_mut().append(SET_COOKIE, cookie);
            response
        }
        Err(refused) => {
            let (asked, refusal, wait_s) = *refused;
            // What was a key is not shown again; a link that was refused is of no use.
            let kept = asked.get("next").map(str::to_owned);
            let kept = href("", &[("next", kept.as_deref())]);
            let kept = Pairs::parse(kept.trim_start_matches('?').as_bytes());
            let door = Door::new(app, &parts.headers, kept).refused(refusal);
            let mut response = door.into_response();
            if let Some(wait_s) = wait_s {
                let wait = HeaderValue::from(wait_s);
                response.headers_mut().insert(RETRY_AFTER, wait);
            }
            response
        }
    }
}

/// What was filled in, why nobody is signed in for it, and the seconds to wait before
/// trying again.
type Refused = Box<(Pairs, Refusal, Option<u64>)>;

async fn try_sign_in(
    app: &App,
    parts: &Parts,
    body: Body,
) -> Result<(SessionToken, String), Refused> {
    let refused = |asked: &Pairs, refusal| Box::new((asked.clone(), refusal, None));
    visit::check_origin(parts).map_err(|refusal| refused(&Pairs::default(), refusal))?;
    let form = form::pairs(body, FORM_BYTES_MAX).await;
    let form = form.map_err(|refusal| refused(&Pairs::default(), refusal))?;
    if !is_of_this_browser(&parts.headers, form.text("door")) {
        return Err(refused(&form, not_of_this_browser()));
    }
    let source = parts.extensions.get::<Source>().copied();
    let signed_in = async {
        let session = authenticate(app, source, &form).await?;
        begin(app, &parts.headers, &session).await
    };
    let token = signed_in.await.map_err(|error| {
        let wait_s = match &error {
            Error::TooManyUnauthenticated { retry_after } => {
                Some(retry_after.as_millis().div_ceil(1_000) as u64)
            }
            _ => None,
        };
        Box::new((form.clone(), refusal_of(&error), wait_s))
    })?;
    Ok((token, next(&form).to_owned()))
}

/// Whose session the form asks for.
async fn authenticate(app: &App, source: Option<Source>, form: &Pairs) -> Result<Session, Error> {
    if let Some(token) = form.get("token") {
        return match link::take(app, source, token).await {
            Err(refused @ Error::Unauthenticated(_)) => {
                authentication::record_refused_login(app, "POST", SIGN_IN).await;
                Err(refused)
            }
            other => other,
        };
    }
    let key = form.text("key").trim();
    if key.is_empty() {
        return Err(Error::invalid(
            "key",
            "expected an API key or the admin key",
        ));
    }
    match authentication::key_holder(app, source, key).await {
        Ok(holder) => Ok(session_of(holder, key)),
        Err(error) => {
            if !error.is_outage() {
                authentication::record_refused_login(app, "POST", SIGN_IN).await;
            }
            Err(error)
        }
    }
}

fn session_of(holder: KeyHolder, key: &str) -> Session {
    let now = app::now();
    match holder {
        KeyHolder::Admin => Session::with_role(Person::Admin, Role::Admin, now),
        KeyHolder::Project(grant) => {
            let reach = match grant.tenant {
                None => Reach::Project(grant.project),
                Some(tenant) => Reach::Tenant(grant.project, tenant),
            };
            let hash = crate::model::api_key::hash(key);
            let person = Person::Key {
                id: grant.key,
                hash,
            };
            Session::new(person, reach, grant.scopes, now)
        }
    }
}

/// Begins `session` and ends the one that the browser came with.
async fn begin(app: &App, headers: &HeaderMap, session: &Session) -> Result<SessionToken, Error> {
    let token = SessionToken::new(session, app.random());
    sessions::put(&app.dynamo, &token, session).await?;
    if let Some(former) = visit::token(headers) {
        sessions::revoke(&app.dynamo, &former, session.created).await?;
    }
    record(app, "session.create", session, &token).await;
    Ok(token)
}

/// `POST /console/sign-out`.
pub async fn sign_out(visitor: Visitor, _: Form) -> Response {
    let app = &visitor.console.app;
    let ended = sessions::revoke(&app.dynamo, visitor.token(), app::now()).await;
    signed_out(&visitor, ended).await
}

/// `POST /console/sign-out-everywhere`: ends every session of the person.
pub async fn sign_out_everywhere(visitor: Visitor, _: Form) -> Response {
    let (app, session) = (&visitor.console.app, &visitor.session);
    // The clock of the instance that began this session may be ahead.
    let until = app::now().max(session.created);
    let ended = sessions::revoke_all(&app.dynamo, &session.subject(), until).await;
    signed_out(&visitor, ended).await
}

async fn signed_out(visitor: &Visitor, ended: Result<(), Error>) -> Response {
    if let Err(error) = ended {
        return refusal_of(&error).into_response();
    }
    let app = &visitor.console.app;
    record(app, "session.end", &visitor.session, visitor.token()).await;
    let mut response = Redirect::to(SIGN_IN).into_response();
    let cookie = visitor.session_cookie("", 0);
    response.headers_mut().append(SET_COOKIE, cookie);
    response
}

/// Takes a note of what became of a session, if PostgreSQL answers.
async fn record(app: &App, action: &'static str, session: &Session, token: &SessionToken) {
    let by = match session.person {
        Person::Admin => "admin_key",
        Person::Link | Person::Customer => "link",
        Person::Key { .. } => "api_key",
        Person::User { .. } => "identity_provider",
    };
    let id = token.session_id();
    let entry = SessionEntry {
        actor: session.actor(),
        at: app::now(),
        action,
        session: &id,
        after: (action == "session.create").then(|| json!({ "signed_in_by": by })),
    };
    let written = audit_log::record_session(&app.postgres, session.project(), entry);
    if let Err(error) = in_time(written).await {
        let cause = error.causes();
        tracing::warn!(%error, cause, action, session.id = id, "audit entry not written");
    }
}

/// Where one wants to go: within the console, and nowhere else.
fn next(asked: &Pairs) -> &str {
    let wanted = asked.get("next").unwrap_or(HOME);
    let below = wanted.strip_prefix(HOME);
    let is_page = below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = wanted.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    // Back at the door one would be sent there again.
    let is_door = wanted.starts_with(SIGN_IN);
    if is_page && is_plain && !is_door {
        wanted
    } else {
        HOME
    }
}

fn known_secret(headers: &HeaderMap) -> Option<&str> {
    let known = visit::cookie(headers, door_cookie(headers))?;
    (known.len() == DOOR_LEN && is_base32(known)).then_some(known)
}

fn is_of_this_browser(headers: &HeaderMap, given: &str) -> bool {
    known_secret(headers).is_some_and(|known| known.as_bytes().ct_eq(given.as_bytes()).into())
}

fn door_cookie(headers: &HeaderMap) -> &'static str {
    if visit::is_loopback(headers) {
        LOOPBACK_DOOR_COOKIE
    } else {
        DOOR_COOKIE
    }
}

fn session_cookie(headers: &HeaderMap, value: &str, max_age_s: i64) -> HeaderValue {
    cookie(
        headers,
        visit::session_cookie_name(headers),
        value,
        max_age_s,
    )
}

/// A cookie that no script reads and no other site's form brings along.
fn cookie(headers: &HeaderMap, name: &str, value: &str, max_age_s: i64) -> HeaderValue {
    let secure = if visit::is_loopback(headers) {
        ""
    } else {
        "; Secure"
    };
    let text =
        format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).expect("base 32 is ASCII")
}

impl Visitor {
    fn session_cookie(&self, value: &str, max_age_s: i64) -> HeaderValue {
        session_cookie(&self.headers, value, max_age_s)
    }
}

fn not_of_this_browser() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Not sent from this page",
        "nobody was signed in: the form is older than the page, or the browser keeps no \
         cookies. Send it again from here",
    )
}

fn cookie_not_kept() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "The browser did not keep the session",
        "its cookie is taken over HTTPS alone, and on this machine itself at \
         http://localhost or http://127.0.0.1",
    )
}

/// Why nobody is signed in, in words.
fn refusal_of(error: &Error) -> Refusal {
    let (title, detail) = match error {
        Error::Unauthenticated(detail) => ("Not signed in", detail.to_string()),
        Error::TooManyUnauthenticated { .. } => ("Too many attempts", error.to_string()),
        Error::Invalid(invalid) => {
            let refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid",
                "Not signed in",
                invalid.detail.clone(),
            );
            let field = invalid.field.as_ref().map(ToString::to_string);
            return Refusal { field, ..refusal };
        }
        other => {
            let cause = other.causes();
            tracing::warn!(error = %other, cause, "failed to sign in");
            return visit::out_of_reach();
        }
    };
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
    let refusal = Refusal::new(status, &error.code().to_string(), title, detail);
    Refusal {
        field: Some("key".to_owned()),
        ..refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_sent_to_a_page_of_the_console_alone() {
        let sent = |wanted: &str| {
            let query = href("", &[("next", Some(wanted))]);
            next(&Pairs::parse(&query.as_bytes()[1..])).to_owned()
        };
        for own in [
            "/console",
            "/console/",
            "/console?a=b",
            "/console/prj_1/events?type=a%20b",
        ] {
            assert_eq!(sent(own), own);
        }
        for other in [
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/console/",
            "javascript:alert(1)",
            "/consolex",
            "/console.evil.example",
            "/console@evil.example",
            "/v1/events",
            "/",
            "console",
            " /console/a",
            "/console/\\evil.example",
            "/console/a\r\nset-cookie: b",
            "/console/\u{e9}",
            "/console/sign-in?next=/console/sign-in",
            "/console/sign-out",
        ] {
            let expected = if other == "/console/sign-out" {
                other
            } else {
                HOME
            };
            assert_eq!(sent(other), expected, "{other}");
        }
        assert_eq!(next(&Pairs::default()), HOME);
    }
}
