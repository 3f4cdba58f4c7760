//! Audit entries of what changes no configuration: secrets that are read, attempts
//! that people ask for.

use serde_json::Value;

use crate::app::App;
use crate::app::authentication::in_time;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::store::audit_log::{self, NewAuditEntry};

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
