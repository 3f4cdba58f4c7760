//! Authentication and authorization: `Authorization: Bearer <key>`.
//!
//! A handler states its scope in its signature, so that none can forget to
//! check: `caller: Allowed<EventsWrite>`. Checked before the body is read.

use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;

use super::record::record_refused_login;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::api_key::{self, Scope};
use crate::model::audit::{Actor, AuditContext};
use crate::model::id::{KeyId, ProjectId};

/// The caller's key, known and allowed to do what `S` names.
#[derive(Debug)]
pub struct Allowed<S> {
    /// The key's project: all that the caller can see.
    pub project: ProjectId,
    /// The public id of its key, for the audit log and the rate limit.
    pub key: KeyId,
    /// Events a second it may publish; the configured default if none.
    pub rate_limit: Option<NonZeroU32>,
    scope: PhantomData<S>,
}

impl<S> Allowed<S> {
    /// The caller, as who changes something of the project at `now`.
    pub fn by(&self, now: Timestamp) -> AuditContext {
        AuditContext {
            project: self.project.clone(),
            actor: Actor::Key(self.key.clone()),
            at: now,
        }
    }
}

/// A scope, as a type.
pub trait Needs {
    /// What the caller's key must be allowed to do.
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
        let text = bearer(parts)?;
        let grant = if text.starts_with(api_key::PREFIX) {
            app.projection.grant(api_key::hash(text)).await?
        } else {
            None
        };
        let Some(grant) = grant else {
            return Err(unknown_api_key(app, text));
        };
        if !grant.scopes.contains(&S::SCOPE) {
            let needed = S::SCOPE.as_str();
            return Err(Error::Forbidden(
                format!("the API key lacks the scope {needed}").into(),
            ));
        }
        Ok(Self {
            project: grant.project,
            key: grant.key,
            rate_limit: grant.rate_limit,
            scope: PhantomData,
        })
    }
}

/// The caller has the admin key.
#[derive(Debug)]
pub struct Admin;

impl Admin {
    /// The caller, as who changes something of `project` at `now`.
    pub fn by(&self, project: ProjectId, now: Timestamp) -> AuditContext {
        AuditContext {
            project,
            actor: Actor::Admin,
            at: now,
        }
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self> {
        let text = bearer(parts)?;
        if app.is_admin_key(text).await? {
            return Ok(Self);
        }
        record_refused_login(app, parts).await;
        let is_api_key = text.starts_with(api_key::PREFIX)
            && matches!(app.projection.grant(api_key::hash(text)).await, Ok(Some(_)));
        Err(if is_api_key {
            let detail = "the admin key is needed here; this is the API key of a project";
            Error::Forbidden(detail.into())
        } else {
            Error::Unauthenticated("the admin key is needed here; this key is not known".into())
        })
    }
}

/// Why a key that is no project's is refused: it may be the admin key, which has no
/// project. Nothing is said of that while it is not known.
fn unknown_api_key(app: &App, text: &str) -> Error {
    if app.is_known_admin_key(text) {
        let detail = "the API key of a project (mr_…) is needed here; this is the admin key";
        return Error::Forbidden(detail.into());
    }
    Error::Unauthenticated("the API key is not known".into())
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
