//! The deletion of what was counted: of one tenant, or of all meters of a project.

use tokio_postgres::types::ToSql;

use crate::error::Result;
use crate::model::erasure::Erasure;
use crate::model::meter::usage_tenant;
use crate::store::postgres::{Postgres, classify};

/// Rows deleted by one statement: well within its time.
const ROWS_MAX: i64 = 5_000;

const DELETE_USAGE: &str = "\
    delete from usage where ctid = any(array( \
        select u.ctid from meters m join usage u on u.meter_id = m.id \
        where m.project_id = $1 and ($2::text is null or u.tenant = $2) limit $3))";

const DELETE_UNIQUE: &str = "\
    delete from usage_unique where ctid = any(array( \
        select u.ctid from meters m join usage_unique u on u.meter_id = m.id \
        where m.project_id = $1 and ($2::text is null or u.tenant = $2) limit $3))";

// Groups are shared by tenants: one goes with the last usage that is in it.
const DELETE_GROUPS: &str = "\
    delete from usage_groups g using meters m \
    where m.project_id = $1 and m.id = g.meter_id and not exists ( \
        select from usage u where u.meter_id = g.meter_id and u.grp = g.grp)";

const DELETE_SEEN: &str = "\
    delete from usage_seen where (meter_id, event_id, day) in ( \
        select s.meter_id, s.event_id, s.day from meters m join usage_seen s on s.meter_id = m.id \
        where m.project_id = $1 limit $2)";

/// Rows that were deleted, and whether there may be more.
#[derive(Debug, Default)]
pub struct DeletedUsage {
    /// How many they were.
    pub rows: u64,
    /// One statement's worth was deleted, so another may find more.
    pub has_more: bool,
}

/// Deletes some of what was counted of the tenant, or of the whole project with the
/// marks of what was counted. A tenant's marks stay: an event that is published again
/// must not count twice, and a mark has nothing but its id.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database does not
/// answer; what is left is deleted the next time.
pub async fn delete_usage(postgres: &Postgres, erasure: &Erasure) -> Result<DeletedUsage> {
    let client = postgres.get().await?;
    let (project, tenant) = (erasure.project.as_str(), erasure.tenant().map(usage_tenant));
    let tenant = tenant.as_deref();
    let of_tenant: &[&(dyn ToSql + Sync)] = &[&project, &tenant, &ROWS_MAX];
    let mut deleted = DeletedUsage::default();
    let mut add = |rows: u64| {
        deleted.rows += rows;
        deleted.has_more |= rows >= ROWS_MAX.unsigned_abs();
    };
    for statement in [DELETE_USAGE, DELETE_UNIQUE] {
        add(client
            .execute(statement, of_tenant)
            .await
            .map_err(classify)?);
    }
    if tenant.is_none() {
        let seen = client.execute(DELETE_SEEN, &[&project, &ROWS_MAX]).await;
        add(seen.map_err(classify)?);
    }
    // It looks at every group of the project: once, when no usage is left to go.
    if !deleted.has_more {
        let groups = client.execute(DELETE_GROUPS, &[&project]).await;
        groups.map_err(classify)?;
    }
    Ok(deleted)
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[DELETE_USAGE, DELETE_UNIQUE, DELETE_GROUPS, DELETE_SEEN];
