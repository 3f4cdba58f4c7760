//! Whose a key is that somebody comes with, and what becomes of one that is nobody's:
//! counted against where it came from, and told to the audit log.
//!
//! Asked by the API for every request and by the console for signing in.

use std::time::Duration;

use serde_json::json;

use super::{App, now};
use crate::auth_failures::Source;
use crate::error::{Error, Result};
use crate::model::api_key;
use crate::store::audit_log;
use crate::store::config_projection::Grant;

/// What an entry of the audit log may hold up what needs no PostgreSQL.
pub const AUDIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose a key is.
#[derive(Debug)]
pub enum KeyHolder {
    /// The admin's.
    Admin,
    /// A project's, or of it one tenant's.
    Project(Grant),
}

/// Whose the key of that `text` is, that somebody came with from `source`.
///
/// # Errors
/// [`Error::Unauthenticated`] when it is nobody's; [`Error::TooManyUnauthenticated`] when
/// too many of those came from there; [`Error::Unavailable`] when it cannot be known.
pub async fn key_holder(app: &App, source: Option<Source>, text: &str) -> Result<KeyHolder> {
    if let Some(grant) = grant(app, source, text).await? {
        return Ok(KeyHolder::Project(grant));
    }
    if app.is_admin_key(text).await? {
        return Ok(KeyHolder::Admin);
    }
    Err(unauthenticated(app, source, text, "the key is not known").await)
}

/// What the key of that `text` may do; none if there is none. A text that no key has
/// costs no look at a store, nor does one that nobody has come with yet from where too
/// many were not known.
///
/// # Errors
/// [`Error::TooManyUnauthenticated`]; [`Error::Unavailable`] when it is not cached and
/// DynamoDB does not answer.
pub async fn grant(app: &App, source: Option<Source>, text: &str) -> Result<Option<Grant>> {
    if !api_key::is_key(text) {
        return Ok(None);
    }
    let hash = api_key::hash(text);
    // Whoever shares an address with someone who guesses is not locked out with him.
    if !app.projection.knows_key(&hash).await {
        check_failures(app, source).await?;
    }
    app.projection.grant(hash, now()).await
}

/// The refusal of a key that is not known, which counts. One that was good and has
/// expired is no guess: whoever goes on sending it would lock the next key out.
pub async fn unauthenticated(
    app: &App,
    source: Option<Source>,
    text: &str,
    detail: &'static str,
) -> Error {
    if app.projection.knows_key(&api_key::hash(text)).await {
        return Error::Unauthenticated(detail.into());
    }
    if let Err(limited) = check_failures(app, source).await {
        return limited;
    }
    count_failure(app, source).await;
    Error::Unauthenticated(detail.into())
}

/// Counts that somebody came from `source` with what lets nobody in.
pub async fn count_failure(app: &App, source: Option<Source>) {
    if let Some(source) = source {
        app.auth_failures.count(source, now()).await;
    }
}

/// Refuses to look at what comes from `source`, if too much from there let nobody in.
///
/// # Errors
/// [`Error::TooManyUnauthenticated`].
pub async fn check_failures(app: &App, source: Option<Source>) -> Result<()> {
    let Some(source) = source else {
        return Ok(());
    };
    let checked = app.auth_failures.check(source, now()).await;
    checked.map_err(|retry_after| Error::TooManyUnauthenticated { retry_after })
}

/// Takes note of a login as the admin that was refused: one entry a minute at most,
/// with how many there were since the last. What was sent is in none.
pub async fn record_refused_login(app: &App, method: &str, route: &str) {
    let at = now();
    let Some(refused) = app.refused_logins.count(at) else {
        return;
    };
    let after = json!({
        "refused": refused,
        "latest_method": method,
        "latest_route": route,
    });
    let written = audit_log::record_refused_login(&app.postgres, at, after);
    if let Err(error) = in_time(written).await {
        let cause = error.causes();
        tracing::warn!(%error, cause, refused, "audit entry of refused logins not written");
    }
}

/// What `written` comes to, if that is known within [`AUDIT_TIMEOUT`].
///
/// # Errors
/// Its own; [`Error::Unavailable`] when it takes longer.
pub async fn in_time(written: impl Future<Output = Result<()>>) -> Result<()> {
    let bounded = tokio::time::timeout(AUDIT_TIMEOUT, written).await;
    bounded.unwrap_or_else(|_| {
        Err(Error::Unavailable {
            what: "the control-plane database",
            source: anyhow::anyhow!("no answer within {AUDIT_TIMEOUT:?}"),
        })
    })
}
