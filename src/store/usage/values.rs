//! The values of a dimension that usage was counted under: a meter's tenants, or what
//! stood at one of the pointers it groups by.

use tokio_postgres::types::ToSql;

use super::report::QUARTERS;
use crate::error::Result;
use crate::model::id::MeterId;
use crate::model::window::Window;
use crate::store::postgres::{Postgres, classify};

/// Which values to look for.
#[derive(Debug)]
pub struct ValuesQuery<'a> {
    /// Of which meter.
    pub meter: &'a MeterId,
    /// When they were counted.
    pub window: Window,
    /// The place in the meter's `group_by`; none for tenants.
    pub place: Option<i32>,
    /// Only usage of these tenants.
    pub tenants: Option<&'a [String]>,
    /// What they begin with; a value that is no string, its JSON. Null with nothing only.
    pub prefix: &'a str,
    /// Only those that follow this one.
    pub after: Option<&'a str>,
    /// How many at most.
    pub limit: usize,
}

const VALUES: &str = "\
    select distinct v.value \
    from usage u cross join lateral ( \
        select \
            case when $4::int is null then u.tenant when u.grp = 'other' then null \
                else (u.grp::json -> $4)::text end as value, \
            case when $4::int is null then u.tenant when u.grp = 'other' then null \
                else coalesce(u.grp::json ->> $4, '') end as written \
    ) v \
    where u.meter_id = $1 and u.grain = $8 and u.bucket >= $2 and u.bucket < $3 \
        and ($5::text[] is null or u.tenant = any($5)) \
        and v.value is not null and starts_with(v.written, $6::text) \
        and ($7::text is null or v.value > $7) \
    order by v.value limit $9";

/// The values that `query` asks for, in the order of their texts: a tenant as it is,
/// empty for none, any other as JSON. Groups beyond a meter's bound have none. Cost: the
/// range of the index that the window is.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database
/// does not answer, or not within `database.statement_timeout_s`.
pub async fn values(postgres: &Postgres, query: &ValuesQuery<'_>) -> Result<Vec<String>> {
    let client = postgres.get().await?;
    let meter = query.meter.as_str();
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let Window { start, end } = query.window;
    let values: [&(dyn ToSql + Sync); 9] = [
        &meter,
        &start,
        &end,
        &query.place,
        &query.tenants,
        &query.prefix,
        &query.after,
        &QUARTERS,
        &limit,
    ];
    let rows = client.query(VALUES, &values).await.map_err(classify)?;
    Ok(rows.into_iter().map(|row| row.get("value")).collect())
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[VALUES];
