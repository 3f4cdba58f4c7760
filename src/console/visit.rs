//! A visit: which session a request comes with, and what page of which project it asks
//! for.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::pairs::{Pairs, href, segment};
use super::refusal::Refusal;
use super::state::Console;
use crate::app::{self, App};
use crate::error::Error;
use crate::model::api_key::Scope;
use crate::model::id::ProjectId;
use crate::model::session::{Person, Session, SessionCaller, SessionToken};
use crate::store::sessions;

/// Where one signs in.
pub const SIGN_IN: &str = "/console/sign-in";

/// Who asks, and with which session.
#[derive(Clone)]
pub struct Visitor {
    /// What every page is given.
    pub console: Arc<Console>,
    /// The session, which is not over.
    pub session: Arc<Session>,
    /// Events a second that the session's key may publish, if it is a key's.
    rate_limit: Option<NonZeroU32>,
    token: SessionToken,
    /// The headers it came with.
    pub(super) headers: HeaderMap,
    /// The address that was asked for, with its query.
    pub address: String,
    /// What the query says.
    pub query: Pairs,
    /// `light` or `dark`, if that was chosen and not the system's.
    pub theme: Option<&'static str>,
    /// Whether the keys of the keyboard do anything here.
    pub keys: bool,
}

/// A page's request: a visitor, and the project in the path.
#[derive(Clone)]
pub struct View {
    visitor: Visitor,
    /// The project that the page shows.
    pub project: ProjectId,
    /// Its name; its id where that is not known now.
    pub project_name: Arc<str>,
    /// The session as the API is asked with it.
    caller: SessionCaller,
}

impl std::ops::Deref for View {
    type Target = Visitor;

    fn deref(&self) -> &Visitor {
        &self.visitor
    }
}

impl Visitor {
    /// The secret of the session.
    pub(super) fn token(&self) -> &SessionToken {
        &self.token
    }

    /// What goes into every form of this session.
    pub fn csrf_token(&self) -> String {
        self.token.csrf_token()
    }

    /// Whether the session may do what `scope` names. To hide what would be refused: it
    /// is the API that refuses.
    pub fn may(&self, scope: Scope) -> bool {
        self.session.scopes.contains(&scope)
    }

    /// Whether the session may do what the admin key may.
    pub fn is_admin(&self) -> bool {
        self.session.is_admin
    }

    /// The element that is asked for instead of the whole page, if one is.
    pub fn part(&self) -> Option<&str> {
        self.query.get("part")
    }

    /// This visitor at a page of `project`, if the session reaches it.
    pub async fn at(self, project: ProjectId) -> Option<View> {
        let caller = SessionCaller {
            rate_limit: self.rate_limit,
            ..self.session.caller(&project)?
        };
        let project_name = self.console.project_name(&project).await?;
        Some(View {
            visitor: self,
            project,
            project_name,
            caller,
        })
    }
}

impl View {
    /// The address of a page of this project: `""` is its overview, `"events"`, ….
    pub fn path(&self, rest: &str) -> String {
        match rest {
            "" => format!("/console/{}", self.project),
            rest => format!("/console/{}/{rest}", self.project),
        }
    }

    /// The address of a page of this project about `subject`: `"event-types"`, a name.
    pub fn path_of(&self, rest: &str, subject: &str) -> String {
        self.path(&format!("{rest}/{}", segment(subject)))
    }

    /// The session as the API is asked with it.
    pub(super) fn caller(&self) -> SessionCaller {
        self.caller.clone()
    }
}

/// Why there is no visit: nobody has signed in, or the store of the sessions is out of
/// reach.
#[derive(Debug)]
pub enum NoVisit {
    /// To the door, and back from there to where one wanted to go.
    SignIn(String),
    /// The page of a problem.
    Refused(Refusal),
}

impl IntoResponse for NoVisit {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(address) => Redirect::to(&address).into_response(),
            Self::Refused(refusal) => refusal.into_response(),
        }
    }
}

impl FromRequestParts<Arc<Console>> for Visitor {
    type Rejection = NoVisit;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, NoVisit> {
        let uri = parts.extensions.get::<OriginalUri>();
        let uri = uri.map_or(&parts.uri, |OriginalUri(uri)| uri);
        let address = uri.path_and_query().map_or("/console", |at| at.as_str());
        let address = address.to_owned();
        let found = signed_in(&console.app, &parts.headers).await;
        let found = found.map_err(|_| NoVisit::Refused(out_of_reach()))?;
        let Some(SignedIn {
            token,
            session,
            rate_limit,
        }) = found
        else {
            // What a form asked for is done from its page, and not on the way back.
            let next = (parts.method == http::Method::GET).then_some(&*address);
            return Err(NoVisit::SignIn(href(SIGN_IN, &[("next", next)])));
        };
        let query = Pairs::parse(uri.query().unwrap_or_default().as_bytes());
        Ok(Self {
            console: console.clone(),
            session: Arc::new(session),
            rate_limit,
            token,
            headers: parts.headers.clone(),
            address,
            query,
            theme: theme(&parts.headers),
            keys: cookie(&parts.headers, "keys") != Some("off"),
        })
    }
}

impl FromRequestParts<Arc<Console>> for View {
    type Rejection = NoVisit;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, NoVisit> {
        let visitor = Visitor::from_request_parts(parts, console).await?;
        let nowhere = || NoVisit::Refused(Refusal::not_found("there is no such project"));
        let params = RawPathParams::from_request_parts(parts, console).await;
        let params = params.map_err(|_| nowhere())?;
        let project = params.iter().find(|(name, _)| *name == "project");
        let project = project.and_then(|(_, text)| text.parse().ok());
        visitor
            .at(project.ok_or_else(nowhere)?)
            .await
            .ok_or_else(nowhere)
    }
}

/// A session that is not over, and whose key, if it is a key's, is in force.
pub(super) struct SignedIn {
    pub token: SessionToken,
    pub session: Session,
    rate_limit: Option<NonZeroU32>,
}

/// Who is signed in, by the cookie; nobody if none is. One read, and at most one write a
/// minute.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the store of the
/// sessions does not answer.
pub(super) async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Option<SignedIn>, Error> {
    let Some(token) = token(headers) else {
        return Ok(None);
    };
    let now = app::now();
    let Some(session) = sessions::find(&app.dynamo, &token, now).await? else {
        return Ok(None);
    };
    let mut rate_limit = None;
    if let Person::Key { hash, .. } = &session.person {
        let Some(grant) = app.projection.grant(*hash, now).await? else {
            return Ok(None);
        };
        rate_limit = grant.rate_limit;
    }
    if session.is_to_be_touched(now) {
        sessions::touch(&app.dynamo, &token, &session, now).await?;
    }
    Ok(Some(SignedIn {
        token,
        session,
        rate_limit,
    }))
}

/// That nobody can be let in for now.
pub(super) fn out_of_reach() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "Sessions are out of reach",
        "the store of the sessions does not answer, so nobody can be let in now. Events are \
         accepted and delivered all the same",
    )
}

/// The name of the session's cookie where the browser takes secure ones.
pub const SECURE_COOKIE: &str = "__Host-millrace";
/// Its name on a laptop, where there is no TLS.
pub const LOOPBACK_COOKIE: &str = "millrace";

/// Whether the request was sent to this machine itself, where there is no TLS.
pub fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(http::header::HOST);
    let host = host.and_then(|value| value.to_str().ok());
    let authority = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    authority
        .is_some_and(|authority| matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// What the session's cookie is called where the request was sent to.
pub(super) fn session_cookie_name(headers: &HeaderMap) -> &'static str {
    if is_loopback(headers) {
        LOOPBACK_COOKIE
    } else {
        SECURE_COOKIE
    }
}

/// Whether there is a cookie of a session, in force or not.
pub(super) fn has_session_cookie(headers: &HeaderMap) -> bool {
    token(headers).is_some()
}

/// The token in the session's cookie.
pub(super) fn token(headers: &HeaderMap) -> Option<SessionToken> {
    SessionToken::parse(cookie(headers, session_cookie_name(headers))?)
}

/// The value of the cookie `name`.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(http::header::COOKIE).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value)
}

/// The theme that was chosen, by its cookie.
pub fn theme(headers: &HeaderMap) -> Option<&'static str> {
    match cookie(headers, "theme") {
        Some("light") => Some("light"),
        Some("dark") => Some("dark"),
        _ => None,
    }
}

/// Whether `given` is the token of forms of the session that the request comes with.
pub(super) fn is_csrf_token(parts: &Parts, given: &str) -> bool {
    token(&parts.headers).is_some_and(|token| token.is_csrf_token(given))
}

/// Refuses what a browser says is of another origin.
pub(super) fn check_origin(parts: &Parts) -> Result<(), Refusal> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().ok());
    let of_site = text("sec-fetch-site").is_none_or(|site| site == Some("same-origin"));
    let host = text("host").flatten();
    let of_host = text("origin").is_none_or(|origin| {
        let host_of = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
        origin.and_then(host_of).as_deref() == host
    });
    if of_site && of_host {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "Not sent from this site",
        "nothing was changed: the form was sent from a page of another site",
    ))
}
