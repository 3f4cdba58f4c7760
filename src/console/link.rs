//! Links that sign in once: printed by the start on a laptop and by `millrace console`,
//! made for whoever has the admin key.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::pairs::href;
use super::state::Console;
use super::visit::SIGN_IN;
use crate::app::authentication::{self, KeyHolder};
use crate::app::{self, App};
use crate::auth_failures::Source;
use crate::error::{Error, Result};
use crate::model::session::{LINK_AGE_MAX, Person, Role, Session, format_link, is_link, link_hash};
use crate::model::time::Time;
use crate::store::dynamo::Dynamo;
use crate::store::sessions;

/// Where the process that serves is asked for a link.
pub const PATH: &str = "/console/links";

/// A link that signs in once, as the admin.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its address on any host of this Millrace.
    pub path: String,
    /// From when on it does nothing.
    pub ends: Timestamp,
}

/// Makes a link of 32 `random` bytes. One write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn make(dynamo: &Dynamo, random: [u8; 32]) -> Result<Link> {
    let (token, now) = (format_link(random), app::now());
    let session = Session::with_role(Person::Link, Role::Admin, now);
    let ends = now.saturating_add(LINK_AGE_MAX).map_err(Error::internal)?;
    sessions::put_link(dynamo, &link_hash(&token), &session, ends).await?;
    Ok(Link {
        path: href(SIGN_IN, &[("token", Some(&token))]),
        ends,
    })
}

/// `POST /console/links`, for the admin key: `{"path", "expires_at"}`.
///
/// # Errors
/// [`Error::Unauthenticated`] and [`Error::Forbidden`] of another key;
/// [`Error::Unavailable`].
pub async fn create(State(console): State<Arc<Console>>, request: Request) -> Result<Json<Value>> {
    let app = &console.app;
    let source = request.extensions().get::<Source>().copied();
    match authentication::key_holder(app, source, bearer(request.headers())?).await {
        Ok(KeyHolder::Admin) => {}
        Ok(KeyHolder::Project(_)) => {
            let detail = "the admin key is needed here; this is the API key of a project";
            return Err(Error::Forbidden(detail.into()));
        }
        Err(error) => {
            authentication::record_refused_login(app, "POST", PATH).await;
            return Err(error);
        }
    }
    let link = make(&app.dynamo, app.random()).await?;
    Ok(Json(
        json!({ "path": link.path, "expires_at": Time(link.ends) }),
    ))
}

fn bearer(headers: &HeaderMap) -> Result<&str> {
    let value = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let key = value.and_then(|value| value.strip_prefix("Bearer "));
    key.ok_or_else(|| {
        Error::Unauthenticated("expected the header Authorization: Bearer <admin key>".into())
    })
}

/// The session that the link of that `token` begins, which is used up by that.
///
/// # Errors
/// [`Error::Unauthenticated`] when there is no such link, or not any more;
/// [`Error::TooManyUnauthenticated`] when too many of those came from `source`;
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub(super) async fn take(app: &App, source: Option<Source>, token: &str) -> Result<Session> {
    authentication::check_failures(app, source).await?;
    let found = if is_link(token) {
        sessions::take_link(&app.dynamo, &link_hash(token), app::now()).await?
    } else {
        None
    };
    if let Some(session) = found {
        return Ok(session);
    }
    authentication::count_failure(app, source).await;
    let detail = "the link was used, or its hour is over; `millrace console` prints another";
    Err(Error::Unauthenticated(detail.into()))
}
