//! How many endpoints a project may have, counted while nobody else makes one.

use crate::error::{Error, Result};
use crate::model::id::ProjectId;
use crate::store::change::Change;

pub(super) const LOCK_PROJECT: &str =
    "select id from projects where id = $1 and erased_at is null for no key update";

/// Lets no one else make an endpoint of the project, or give one its uid, until the end
/// of `tx`: two at once would both be the last that is allowed.
pub(super) async fn lock_project(tx: &Change<'_>, project: &ProjectId) -> Result<()> {
    let row = tx.query_opt(LOCK_PROJECT, &[&project.as_str()]).await?;
    row.map(drop)
        .ok_or_else(|| Error::not_found("project", project))
}

// Counts no further than it has to.
pub(super) const COUNT: &str = "\
    select count(*) from (select from endpoints \
        where project_id = $1 and state <> 'deleted' limit $2) as existing";

/// Refuses one more than the project may have; `tx` has it locked.
pub(super) async fn check_count(
    tx: &Change<'_>,
    project: &ProjectId,
    per_project_max: u32,
) -> Result<()> {
    let most = i64::from(per_project_max);
    let existing = tx.query_one(COUNT, &[&project.as_str(), &most]).await?;
    if existing.get::<_, i64>(0) < most {
        return Ok(());
    }
    let detail = format!(
        "the project has {per_project_max} endpoints, its limit (endpoints.per_project_max): \
         delete one first"
    );
    Err(Error::Conflict(detail.into()))
}
