//! Audit entries of what changes no configuration: secrets that are read, attempts
//! that people ask for, logins that are refused.

use std::time::Duration;

use axum::extract::MatchedPath;
use http::request::Parts;
use serde_json::{Value, json};

use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::store::audit_log::{self, NewAuditEntry};

/// What an entry may hold up what needs no PostgreSQL.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Writes that `by` read the secret of `subject`. Whoever asks is given it after that
/// and not without.
///
/// # Errors
/// [`Error::Unavailable`] when the database does not answer.
pub(super) async fn record_secret_read(app: &App, by: &AuditContext, subject: &str) -> Result<()> {
    let entry = entry(by, "endpoint.read_secret", subject, None);
    audit_log::record(&app.postgres, entry).await
}

/// Writes what `by` had done to `subject`, once it is under way: that goes on without
/// PostgreSQL, and then the log is told what the audit log was not.
pub(super) async fn record_best_effort(
    app: &App,
    by: &AuditContext,
    action: &'static str,
    subject: &str,
    after: Option<Value>,
) {
    let written = audit_log::record(&app.postgres, entry(by, action, subject, after));
    if let Err(error) = in_time(written).await {
        let (cause, actor, project) = (error.causes(), by.actor.to_string(), &by.project);
        tracing::warn!(
            %error, cause, action, subject, actor, project.id = %project, "audit entry not written"
        );
    }
}

/// Takes note of a login as the admin that was refused: one entry a minute at most,
/// with how many there were since the last. What was sent is in none.
pub(super) async fn record_refused_login(app: &App, parts: &Parts) {
    let at = app::now();
    let Some(refused) = app.refused_logins.count(at) else {
        return;
    };
    let route = parts.extensions.get::<MatchedPath>();
    let route = route.map_or("-", MatchedPath::as_str);
    let after = json!({
        "refused": refused,
        "latest_method": parts.method.as_str(),
        "latest_route": route,
    });
    let written = audit_log::record_refused_login(&app.postgres, at, after);
    if let Err(error) = in_time(written).await {
        let cause = error.causes();
        tracing::warn!(%error, cause, refused, "audit entry of refused logins not written");
    }
}

fn entry<'a>(
    by: &'a AuditContext,
    action: &'static str,
    subject: &'a str,
    after: Option<Value>,
) -> NewAuditEntry<'a> {
    NewAuditEntry {
        by,
        action,
        subject,
        before: None,
        after,
    }
}

async fn in_time(written: impl Future<Output = Result<()>>) -> Result<()> {
    let bounded = tokio::time::timeout(TIME_MAX, written).await;
    bounded.unwrap_or_else(|_| {
        Err(Error::Unavailable {
            what: "the control-plane database",
            source: anyhow::anyhow!("no answer within {TIME_MAX:?}"),
        })
    })
}
