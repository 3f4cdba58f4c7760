//! Authentication and authorization: `Authorization: Bearer <key>`.
//!
//! A handler states its scope in its signature, so that none can forget to
//! check: `caller: Allowed<EventsWrite>`. Checked before the body is read. Lookups take
//! the [`Access`] it gives, which may be one tenant's; what is the whole project's alone
//! takes a [`WholeProject`] instead, which such a key does not get.
//!
//! A request that this process makes itself, for somebody who is signed in to the
//! console, has a [`SessionCaller`] in its extensions in place of the header. The same
//! rules hold for both.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;

use crate::app::App;
use crate::app::authentication::{grant, record_refused_login, unauthenticated};
use crate::auth_failures::Source;
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::api_key::{self, Scope};
use crate::model::audit::{Actor, AuditContext};
use crate::model::id::ProjectId;
use crate::model::session::SessionCaller;
use crate::store::retry_quota;

/// The caller, known and allowed to do what `S` names.
#[derive(Debug)]
pub struct Allowed<S> {
    /// All that the caller can see.
    pub access: Access,
    /// Who it is, for the audit log and the rate limit.
    pub actor: Actor,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
    scope: PhantomData<S>,
}

impl<S> Allowed<S> {
    /// The caller, as who changes something of the project at `now`.
    pub fn by(&self, now: Timestamp) -> AuditContext {
        AuditContext {
            project: self.access.project().clone(),
            actor: self.actor.clone(),
            at: now,
        }
    }
}

/// As [`Allowed`], for what is the whole project's: no key that is for one tenant alone.
#[derive(Debug)]
pub struct WholeProject<S> {
    /// The caller's project.
    pub project: ProjectId,
    caller: Allowed<S>,
}

impl<S> WholeProject<S> {
    /// All that the caller can see, which is the whole project.
    pub fn access(&self) -> &Access {
        &self.caller.access
    }

    /// The caller, as who changes something of the project at `now`.
    pub fn by(&self, now: Timestamp) -> AuditContext {
        self.caller.by(now)
    }
}

/// A scope, as a type.
pub trait Needs {
    /// What the caller must be allowed to do.
    const SCOPE: Scope;
}

macro_rules! needs {
    ($($name:ident),*) => {$(
        #[doc = concat!("[`Scope::", stringify!($name), "`].")]
        #[derive(Debug)]
        pub struct $name;
        impl Needs for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )*};
}
needs!(
    EventsWrite,
    EventsRead,
    EndpointsWrite,
    EndpointsRead,
    MetersWrite,
    MetersRead
);

impl<S: Needs> FromRequestParts<Arc<App>> for Allowed<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let caller = match parts.extensions.get::<SessionCaller>() {
            Some(session) => Self::of_session(session)?,
            None => Self::of_key(app, parts).await?,
        };
        let project = caller.access.project();
        retry_quota::charge_to(&match caller.access.tenant() {
            Some(tenant) => format!("{project}/{tenant}"),
            None => project.to_string(),
        });
        Ok(caller)
    }
}

impl<S: Needs> Allowed<S> {
    fn of_session(session: &SessionCaller) -> Result<Self> {
        let Some(access) = session.access.clone() else {
            let detail = "this is of a project, and the session is in none";
            return Err(Error::Forbidden(detail.into()));
        };
        check_scope::<S>("session", &session.scopes)?;
        Ok(Self {
            access,
            actor: session.actor.clone(),
            rate_limit: session.rate_limit,
            scope: PhantomData,
        })
    }

    async fn of_key(app: &App, parts: &Parts) -> Result<Self> {
        let text = bearer(parts)?;
        let Some(grant) = grant(app, source(parts), text).await? else {
            return Err(unknown_api_key(app, parts, text).await);
        };
        check_scope::<S>("API key", &grant.scopes)?;
        Ok(Self {
            actor: match grant.tenant.clone() {
                Some(tenant) => Actor::TenantKey(grant.key, tenant),
                None => Actor::Key(grant.key),
            },
            access: Access::new(grant.project, grant.tenant),
            rate_limit: grant.rate_limit,
            scope: PhantomData,
        })
    }
}

fn check_scope<S: Needs>(whose: &str, scopes: &[Scope]) -> Result<()> {
    if scopes.contains(&S::SCOPE) {
        return Ok(());
    }
    let needed = S::SCOPE.as_str();
    let detail = format!("the {whose} lacks the scope {needed}");
    Err(Error::Forbidden(detail.into()))
}

impl<S: Needs> FromRequestParts<Arc<App>> for WholeProject<S> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let caller = Allowed::<S>::from_request_parts(parts, app).await?;
        if caller.access.tenant().is_some() {
            let detail = match &caller.actor {
                Actor::TenantKey(..) => {
                    "the API key is for one tenant alone; this is the whole project's"
                }
                _ => "the session is for one tenant alone; this is the whole project's",
            };
            return Err(Error::Forbidden(detail.into()));
        }
        Ok(Self {
            project: caller.access.project().clone(),
            caller,
        })
    }
}

const UNKNOWN_ADMIN: &str = "the admin key is needed here; this key is not known";

/// The caller has the admin key, or is signed in as somebody who may do as much.
#[derive(Debug)]
pub struct Admin {
    /// Who it is, for the audit log.
    pub actor: Actor,
}

impl Admin {
    /// The caller, as who changes something of `project` at `now`.
    pub fn by(&self, project: ProjectId, now: Timestamp) -> AuditContext {
        AuditContext {
            project,
            actor: self.actor.clone(),
            at: now,
        }
    }

    fn of_session(session: &SessionCaller) -> Result<Self> {
        let actor = session.actor.clone();
        if session.is_admin {
            return Ok(Self { actor });
        }
        let detail = "only an admin may do this; the session is not one's";
        Err(Error::Forbidden(detail.into()))
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        if let Some(session) = parts.extensions.get::<SessionCaller>() {
            return Self::of_session(session);
        }
        let text = bearer(parts)?;
        if app.is_admin_key(text).await? {
            let actor = Actor::Admin;
            return Ok(Self { actor });
        }
        record_refused_login(app, parts.method.as_str(), route(parts)).await;
        match grant(app, source(parts), text).await {
            Ok(Some(_)) => {
                let detail = "the admin key is needed here; this is the API key of a project";
                Err(Error::Forbidden(detail.into()))
            }
            Err(limited @ Error::TooManyUnauthenticated { .. }) => Err(limited),
            Ok(None) => Err(unauthenticated(app, source(parts), text, UNKNOWN_ADMIN).await),
            // It may be a project's: nothing is held against an address for an outage.
            Err(_) => Err(Error::Unauthenticated(UNKNOWN_ADMIN.into())),
        }
    }
}

/// The caller may see which projects there are: it has the admin key, or is signed in to
/// all of them.
#[derive(Debug)]
pub struct SeesProjects;

impl FromRequestParts<Arc<App>> for SeesProjects {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let session = parts.extensions.get::<SessionCaller>();
        if session.is_some_and(|session| session.sees_all_projects) {
            return Ok(Self);
        }
        Admin::from_request_parts(parts, app).await.map(|_| Self)
    }
}

/// Why a key that is no project's is refused: it may be the admin key, which has no
/// project. Nothing is said of that while it is not known.
async fn unknown_api_key(app: &App, parts: &Parts, text: &str) -> Error {
    if app.is_known_admin_key(text) {
        let detail = "the API key of a project (mr_…) is needed here; this is the admin key";
        return Error::Forbidden(detail.into());
    }
    let detail = "the API key is not known";
    if api_key::is_key(text) {
        unauthenticated(app, source(parts), text, detail).await
    } else {
        // It cost nothing, and no guess of this kind is ever right.
        Error::Unauthenticated(detail.into())
    }
}

fn source(parts: &Parts) -> Option<Source> {
    parts.extensions.get().copied()
}

/// The route of the request as it is documented.
fn route(parts: &Parts) -> &str {
    let route = parts.extensions.get::<MatchedPath>();
    route.map_or("-", MatchedPath::as_str)
}

fn bearer(parts: &Parts) -> Result<&str> {
    let missing =
        || Error::Unauthenticated("expected the header Authorization: Bearer <key>".into());
    let value = parts.headers.get(AUTHORIZATION).ok_or_else(missing)?;
    let (scheme, key) = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(key.trim())
}
