//! The report of usage: what was counted, by window, tenant and group.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use crate::error::Result;
use crate::model::id::MeterId;
use crate::model::meter::Aggregation;
use crate::model::window::{Width, Window};
use crate::store::postgres::{Postgres, classify};

/// What to report.
#[derive(Debug)]
pub struct UsageQuery<'a> {
    /// Which meter's usage.
    pub meter: &'a MeterId,
    /// What it makes of values.
    pub aggregation: Aggregation,
    /// How wide the windows are.
    pub width: Width,
    /// The windows, the earliest first.
    pub windows: &'a [Window],
    /// Only this tenant's usage; that of no tenant if empty.
    pub tenant: Option<&'a str>,
    /// Whether each tenant has rows of its own.
    pub by_tenant: bool,
    /// The positions in the meter's `group_by` by which rows are grouped; none for
    /// totals.
    pub by_group: Option<&'a [i32]>,
    /// Only rows that follow this one.
    pub after: Option<&'a UsageCursor>,
    /// Rows to return at most.
    pub limit: usize,
}

/// The position of a row: rows are in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageCursor {
    /// When the row's window begins.
    pub start: Timestamp,
    /// The tenant; empty for none, and where tenants have no rows of their own.
    pub tenant: String,
    /// The group as a JSON array; empty in totals.
    pub group: String,
}

/// A row of usage. Windows of which nothing was counted have none.
#[derive(Debug)]
pub struct UsageRow {
    /// Its window, tenant and group.
    pub position: UsageCursor,
    /// When the window ends.
    pub end: Timestamp,
    /// The value, a decimal number.
    pub value: String,
}

// Both begin and end alike: a row of `r` for each tenant and group asked for.
const USAGE: &str = "\
    select w.starts, w.ends, r.tenant, r.grp, r.value \
    from unnest($2::timestamptz[], $3::timestamptz[]) as w (starts, ends) \
    cross join lateral ( \
        select case when $6::boolean then u.tenant else '' end as tenant, g.grp, \
            trim_scale(case $8::text \
                when 'count' then sum(u.count) \
                when 'sum' then sum(u.sum) \
                when 'average' then round( \
                    (sum(u.sum) + 0.000000000000000000000000000000) / sum(u.count), 12) \
                when 'min' then min(u.min) \
                when 'max' then max(u.max) \
                when 'latest' then \
                    (array_agg(u.latest order by u.latest_at desc, u.latest_event desc))[1] \
            end)::text as value \
        from usage u cross join lateral ( \
            select case when $7::int[] is null then '' when u.grp = 'other' then u.grp else ( \
                select '[' || coalesce(string_agg((u.grp::json -> p.place)::text, ',' \
                    order by p.n), '') || ']' \
                from unnest($7::int[]) with ordinality as p (place, n) \
            ) end as grp \
        ) g \
        where u.meter_id = $1 and u.grain = $4 and u.bucket >= w.starts and u.bucket < w.ends \
            and ($5::text is null or u.tenant = $5) \
        group by 1, 2 \
    ) r \
    where $9::timestamptz is null or (w.starts, r.tenant, r.grp) > ($9, $10::text, $11::text) \
    order by w.starts, r.tenant, r.grp limit $12";

const UNIQUE: &str = "\
    select w.starts, w.ends, r.tenant, r.grp, r.value \
    from unnest($2::timestamptz[], $3::timestamptz[]) as w (starts, ends) \
    cross join lateral ( \
        select case when $6::boolean then u.tenant else '' end as tenant, g.grp, \
            count(distinct u.hash)::text as value \
        from usage_unique u cross join lateral ( \
            select case when $7::int[] is null then '' when u.grp = 'other' then u.grp else ( \
                select '[' || coalesce(string_agg((u.grp::json -> p.place)::text, ',' \
                    order by p.n), '') || ']' \
                from unnest($7::int[]) with ordinality as p (place, n) \
            ) end as grp \
        ) g \
        where u.meter_id = $1 and u.grain = $4 and u.bucket >= w.starts and u.bucket < w.ends \
            and ($5::text is null or u.tenant = $5) \
        group by 1, 2 \
    ) r \
    where $8::timestamptz is null or (w.starts, r.tenant, r.grp) > ($8, $9::text, $10::text) \
    order by w.starts, r.tenant, r.grp limit $11";

/// The rows of usage that `query` asks for. Cost: a range of the index for
/// each window.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when the database
/// does not answer, or not within `database.statement_timeout_s`.
pub async fn usage(postgres: &Postgres, query: &UsageQuery<'_>) -> Result<Vec<UsageRow>> {
    let client = postgres.get().await?;
    // Windows before the position have nothing to add.
    let from = query.after.map(|after| after.start);
    let windows = query.windows.iter();
    let windows: Vec<&Window> = windows
        .filter(|window| from.is_none_or(|from| window.start >= from))
        .collect();
    let starts: Vec<Timestamp> = windows.iter().map(|window| window.start).collect();
    let ends: Vec<Timestamp> = windows.iter().map(|window| window.end).collect();
    let meter = query.meter.as_str();
    let grain: i16 = match query.width {
        Width::Minute => 1,
        Width::Hour | Width::Day | Width::Month => 15,
    };
    let aggregation = query.aggregation.as_str();
    let (tenant, group) = match query.after {
        Some(after) => (after.tenant.as_str(), after.group.as_str()),
        None => ("", ""),
    };
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &meter,
        &starts,
        &ends,
        &grain,
        &query.tenant,
        &query.by_tenant,
        &query.by_group,
    ];
    let statement = match query.aggregation {
        Aggregation::UniqueCount => UNIQUE,
        _ => {
            values.push(&aggregation);
            USAGE
        }
    };
    values.extend([&from as &(dyn ToSql + Sync), &tenant, &group, &limit]);
    let rows = client.query(statement, &values).await.map_err(classify)?;
    let row = |row: tokio_postgres::Row| UsageRow {
        position: UsageCursor {
            start: row.get("starts"),
            tenant: row.get("tenant"),
            group: row.get("grp"),
        },
        end: row.get("ends"),
        value: row.get("value"),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Every statement above, for the test that prepares them.
pub(super) const STATEMENTS: &[&str] = &[USAGE, UNIQUE];
