//! The endpoints that a key leaves behind when it is revoked: those it made, and those
//! whose URL it was the last to set. The audit log knows them.

use tokio_postgres::types::ToSql;

use super::Endpoint;
use crate::error::Result;
use crate::model::audit::AuditContext;
use crate::model::endpoint::EndpointState;
use crate::model::id::KeyId;
use crate::store::audit_log::NewAuditEntry;
use crate::store::change::{Audit, Change};
use crate::store::outbox::Subject;

/// Endpoints that one revocation names, and disables.
pub const LEFT_MAX: usize = 100;

/// What becomes of the endpoints of a key that is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointsChoice {
    /// They go on.
    Keep,
    /// They are disabled.
    Disable,
}

/// What a key that is revoked leaves behind.
#[derive(Debug)]
pub struct LeftBehind {
    /// Its endpoints as they were, those that are enabled first, up to [`LEFT_MAX`].
    pub before: Vec<Endpoint>,
    /// The same as they are now.
    pub after: Vec<Endpoint>,
    /// There are more that are enabled or, where they are kept, more at all.
    pub has_more: bool,
}

const MADE_BY: &str = "\
    select e.* from endpoints e \
    where e.project_id = $1 and e.state <> 'deleted' \
        and e.id in (select subject from audit_log where project_id = $1 and actor = $2) \
        and (exists (select from audit_log a \
                where a.project_id = $1 and a.subject = e.id and a.actor = $2 \
                    and a.action = 'endpoint.create') \
            or $2 = (select a.actor from audit_log a \
                where a.project_id = $1 and a.subject = e.id and a.action like 'endpoint.%' \
                    and a.after ? 'url' \
                order by a.id desc limit 1)) \
    order by e.state = 'enabled' desc, e.id limit $3 for update of e";

const DISABLE: &str = "\
    update endpoints set state = 'disabled', updated_at = $2, version = version + 1 \
    where id = any($1)";

/// Finds what `key` leaves behind and, if that is the `choice`, disables it within the
/// transaction. Cost: two statements, and two more for each endpoint that is disabled.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does not
/// answer.
pub(in crate::store) async fn settle(
    tx: &mut Change<'_>,
    by: &AuditContext,
    key: &KeyId,
    choice: EndpointsChoice,
) -> Result<LeftBehind> {
    let limit = i64::try_from(LEFT_MAX + 1).unwrap_or(i64::MAX);
    let values: &[&(dyn ToSql + Sync)] = &[&by.project.as_str(), &key.as_str(), &limit];
    let rows = tx.query(MADE_BY, values).await?;
    let mut before: Vec<_> = rows.iter().map(Endpoint::read).collect::<Result<_>>()?;
    let further = before.split_off(before.len().min(LEFT_MAX));
    let is_enabled = |endpoint: &Endpoint| endpoint.state == EndpointState::Enabled;
    let (after, has_more) = match choice {
        EndpointsChoice::Keep => (before.clone(), !further.is_empty()),
        EndpointsChoice::Disable => (
            disable(tx, by, &before).await?,
            further.iter().any(is_enabled),
        ),
    };
    Ok(LeftBehind {
        before,
        after,
        has_more,
    })
}

/// Disables those that are enabled; all as they are then.
async fn disable(
    tx: &mut Change<'_>,
    by: &AuditContext,
    endpoints: &[Endpoint],
) -> Result<Vec<Endpoint>> {
    let is_enabled = |endpoint: &&Endpoint| endpoint.state == EndpointState::Enabled;
    let enabled = endpoints.iter().filter(is_enabled);
    let ids: Vec<_> = enabled.map(|endpoint| endpoint.id.as_str()).collect();
    tx.execute(DISABLE, &[&ids, &by.at]).await?;
    let mut disabled = Vec::with_capacity(endpoints.len());
    for before in endpoints {
        let mut endpoint = before.clone();
        if endpoint.state == EndpointState::Enabled {
            endpoint.state = EndpointState::Disabled;
            (endpoint.updated_at, endpoint.version) = (by.at, endpoint.version + 1);
            let audit = Audit::Entry(NewAuditEntry {
                by,
                action: "endpoint.update",
                subject: endpoint.id.as_str(),
                before: Some(before.audit_value()),
                after: Some(endpoint.audit_value()),
            });
            tx.enlist(audit, Subject::Endpoint(&endpoint.id)).await?;
        }
        disabled.push(endpoint);
    }
    Ok(disabled)
}

/// Every statement above, for the test that prepares them.
pub const STATEMENTS: &[&str] = &[MADE_BY, DISABLE];
