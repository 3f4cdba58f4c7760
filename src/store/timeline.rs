//! Pages of the timeline index: a merge of a partition's shards, the newest
//! first.

use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::dynamo::{Dynamo, Item, Read, s, unavailable};
use super::keys;
use crate::error::Result;

/// Index rows one page may look at when a filter drops most of them: the page is
/// then short, and its cursor goes on from there.
pub const READ_MAX: usize = 2_000;

/// Which part of a timeline to list.
#[derive(Debug, Clone)]
pub struct Range {
    /// Only what came at or after this.
    pub since: Option<Timestamp>,
    /// Only what came before this.
    pub until: Option<Timestamp>,
    /// Only what follows this position, as a former page gave it.
    pub after: Option<String>,
    /// Rows in a page, 1 to 100.
    pub limit: usize,
}

/// A page and where the next begins.
pub(super) struct Page {
    pub items: Vec<Item>,
    pub next: Option<String>,
}

/// One shard's rows, read ahead.
struct Shard<'a> {
    partition: &'a str,
    /// Rows read and not yet taken, the newest last.
    ahead: Vec<Item>,
    /// The position below which the next read begins.
    below: String,
    /// No more rows to read.
    dry: bool,
}

/// Merges `partitions` into a page of the rows that `keep` keeps.
pub(super) async fn page(
    dynamo: &Dynamo,
    partitions: &[String],
    range: &Range,
    keep: impl Fn(&Item) -> bool,
) -> Result<Page> {
    let below = match (&range.after, range.until) {
        (Some(after), Some(until)) => after.clone().min(keys::time_bound(until)),
        (Some(after), None) => after.clone(),
        (None, Some(until)) => keys::time_bound(until),
        // '~' follows every digit.
        (None, None) => "~".to_owned(),
    };
    let since = range.since.map_or(String::new(), keys::time_bound);
    let mut shards: Vec<_> = partitions
        .iter()
        .map(|partition| Shard {
            partition,
            ahead: vec![],
            below: below.clone(),
            dry: false,
        })
        .collect();
    // A share each and a little more: the shards are even, so few come back.
    let step = range.limit / shards.len() + 4;

    let mut items = Vec::with_capacity(range.limit);
    let mut looked_at = 0;
    let mut position = None;
    while items.len() < range.limit && looked_at < READ_MAX {
        refill(dynamo, &mut shards, &since, step).await?;
        let Some(row) = newest(&mut shards) else {
            return Ok(Page { items, next: None });
        };
        looked_at += 1;
        position = Some(row.str("tl_sk")?.to_owned());
        if keep(&row) {
            items.push(row);
        }
    }
    Ok(Page {
        items,
        next: position,
    })
}

/// Reads on in every shard that has nothing ahead and is not dry.
async fn refill(dynamo: &Dynamo, shards: &mut [Shard<'_>], since: &str, step: usize) -> Result<()> {
    let empty = shards
        .iter_mut()
        .filter(|shard| shard.ahead.is_empty() && !shard.dry);
    try_join_all(empty.map(|shard| read(dynamo, shard, since, step))).await?;
    Ok(())
}

async fn read(dynamo: &Dynamo, shard: &mut Shard<'_>, since: &str, step: usize) -> Result<()> {
    if shard.below.as_str() <= since {
        shard.dry = true;
        return Ok(());
    }
    let limit = i32::try_from(step).unwrap_or(i32::MAX);
    let output = dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .index_name("timeline")
        .key_condition_expression("tl_pk = :pk and tl_sk between :since and :below")
        .expression_attribute_values(":pk", s(shard.partition))
        .expression_attribute_values(":since", s(if since.is_empty() { "0" } else { since }))
        .expression_attribute_values(":below", s(&shard.below))
        .scan_index_forward(false)
        // One more, because "between" includes the row the last page ended with.
        .limit(limit.saturating_add(1))
        .send()
        .await
        .map_err(unavailable)?;
    shard.dry = output.last_evaluated_key().is_none_or(|key| key.is_empty());
    let mut rows = output.items.unwrap_or_default();
    rows.retain(|row| {
        row.str_opt("tl_sk")
            .is_some_and(|sort| sort < shard.below.as_str())
    });
    if let Some(last) = rows.last() {
        shard.below = last.str("tl_sk")?.to_owned();
    }
    rows.reverse();
    shard.ahead = rows;
    Ok(())
}

/// Takes the newest row of all shards; each must have one ahead or be dry.
fn newest(shards: &mut [Shard<'_>]) -> Option<Item> {
    shards
        .iter_mut()
        .filter(|shard| !shard.ahead.is_empty())
        .max_by(|a, b| sort_of(a).cmp(&sort_of(b)))?
        .ahead
        .pop()
}

fn sort_of<'a>(shard: &'a Shard<'_>) -> Option<&'a str> {
    shard.ahead.last()?.str_opt("tl_sk")
}
