//! The report of usage: what was counted, by window, tenant and group.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use crate::error::Result;
use crate::model::id::MeterId;
use crate::model::meter::Aggregation;
use crate::model::window::{Width, Window};
use crate::store::postgres::{Postgres, classify};

/// The grain of usage that is kept for good, in minutes: hours and days of every time
/// zone are made of it.
pub(super) const QUARTERS: i16 = 15;

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
    /// Only usage of these tenants, as it is counted under them; that of no tenant is
    /// under the empty one.
    pub tenants: Option<&'a [String]>,
    /// Only usage of these groups.
    pub groups: &'a GroupFilter,
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

/// Which groups' usage to report.
#[derive(Debug, PartialEq, Eq)]
pub enum GroupFilter {
    /// All.
    Any,
    /// What came after the meter had as many groups as it may.
    Overflow,
    /// Those that have each of these values, the JSON of its one form, at its place in
    /// the meter's `group_by`.
    Values(Vec<(i32, String)>),
}

impl GroupFilter {
    /// The places and the values, as the statements take them.
    fn columns(&self) -> (Option<Vec<i32>>, Option<Vec<&str>>) {
        match self {
            Self::Any => (None, None),
            Self::Overflow => (None, Some(vec![])),
            Self::Values(values) => {
                let values = values.iter().map(|(place, value)| (*place, value.as_str()));
                let (places, values) = values.unzip();
                (Some(places), Some(values))
            }
        }
    }
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

/// A row for each window, tenant and group asked for, with the value of that expression of
/// the rows of `u`.
macro_rules! statement {
    ($table:literal, $value:literal) => {
        concat!(
            "select w.starts, w.ends, r.tenant, r.grp, r.value ",
            "from unnest($2::timestamptz[], $3::timestamptz[]) as w (starts, ends) ",
            "cross join lateral ( ",
            "    select case when $6::boolean then u.tenant else '' end as tenant, g.grp, ",
            $value,
            " as value from ",
            $table,
            " u cross join lateral ( ",
            "        select case when $7::int[] is null then '' when u.grp = 'other' then u.grp else ( ",
            "            select '[' || coalesce(string_agg((u.grp::json -> p.place)::text, ',' ",
            "                order by p.n), '') || ']' ",
            "            from unnest($7::int[]) with ordinality as p (place, n) ",
            "        ) end as grp ",
            "    ) g ",
            "    where u.meter_id = $1 and u.grain = $4 ",
            "        and u.bucket >= w.starts and u.bucket < w.ends ",
            "        and ($5::text[] is null or u.tenant = any($5)) ",
            "        and case when $9::text[] is null then true ",
            "            when u.grp = 'other' then $8::int[] is null ",
            "            when $8::int[] is null then false ",
            "            else not exists ( ",
            "                select from unnest($8::int[], $9::text[]) as f (place, value) ",
            "                where (u.grp::json -> f.place)::text is distinct from f.value ",
            "            ) end ",
            "    group by 1, 2 ",
            ") r ",
            "where $10::timestamptz is null ",
            "    or (w.starts, r.tenant, r.grp) > ($10, $11::text, $12::text) ",
            "order by w.starts, r.tenant, r.grp limit $13"
        )
    };
}

const USAGE: &str = statement!(
    "usage",
    "trim_scale(case $14::text \
        when 'count' then sum(u.count) \
        when 'sum' then sum(u.sum) \
        when 'average' then round( \
            (sum(u.sum) + 0.000000000000000000000000000000) / sum(u.count), 12) \
        when 'min' then min(u.min) \
        when 'max' then max(u.max) \
        when 'latest' then \
            (array_agg(u.latest order by u.latest_at desc, u.latest_event desc))[1] \
    end)::text"
);

const UNIQUE: &str = statement!("usage_unique", "count(distinct u.hash)::text");

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
        Width::Hour | Width::Day | Width::Month | Width::Total => QUARTERS,
    };
    let aggregation = query.aggregation.as_str();
    let (tenant, group) = match query.after {
        Some(after) => (after.tenant.as_str(), after.group.as_str()),
        None => ("", ""),
    };
    let (places, group_values) = query.groups.columns();
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &meter,
        &starts,
        &ends,
        &grain,
        &query.tenants,
        &query.by_tenant,
        &query.by_group,
        &places,
        &group_values,
        &from,
        &tenant,
        &group,
        &limit,
    ];
    let statement = match query.aggregation {
        Aggregation::UniqueCount => UNIQUE,
        _ => {
            values.push(&aggregation);
            USAGE
        }
    };
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
