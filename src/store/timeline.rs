//! Pages of the indexes by time: a merge of shards, the newest first.

use std::borrow::Cow;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{Dynamo, Item, ItemExt, s, unavailable};
use super::keys::{self, Listing};
use crate::error::Result;

/// Index rows one page may look at when a filter drops most of them: the page is
/// then short, and its cursor goes on from there.
pub const READ_MAX: usize = 2_000;

/// How long the indexes may lag behind what was written.
pub const INDEX_LAG: SignedDuration = SignedDuration::from_secs(2);

/// The most rows read from one shard at a time, while a filter drops most.
const STEP_MAX: usize = 256;

/// The most bytes of rows in a page, give or take a row: attributes of events may have
/// 64 KiB each, and an answer of Lambda's 6 MB.
const PAGE_BYTES_MAX: usize = 1_048_576;

/// Partitions read at a time.
const READS_MAX: usize = 16;

/// Which part of a timeline to list.
#[derive(Debug, Clone)]
pub struct TimelineRange {
    /// Only what came at or after this.
    pub since: Option<Timestamp>,
    /// Only what came before this.
    pub until: Option<Timestamp>,
    /// Only what follows this position, as a former page gave it.
    pub after: Option<String>,
    /// Rows in a page: 1 to 100 of a list, more where they are counted.
    pub limit: usize,
}

/// A page and where the next begins.
pub(super) struct TimelinePage {
    pub items: Vec<Item>,
    /// None if no row that is kept follows; also set where it is not known, after
    /// [`READ_MAX`] rows or [`PAGE_BYTES_MAX`] bytes.
    pub next: Option<String>,
    /// Where the last of `items` lies, if it is known that one that is kept follows: the
    /// next page may begin here too, for who must not see where those between lie.
    pub last_kept: Option<String>,
    /// Rows looked at up to there, those that were dropped included.
    pub examined: usize,
}

/// A partition that a page is made of.
#[derive(Debug)]
pub(super) struct IndexPartition {
    pub listing: Listing,
    pub partition: String,
    /// Nothing older is read of this one.
    pub since: Option<Timestamp>,
}

impl IndexPartition {
    /// The partitions that `partition` names for each shard.
    pub fn sharded(listing: Listing, partition: impl Fn(u8) -> String) -> Vec<Self> {
        (0..keys::TIMELINE_SHARDS)
            .map(|shard| Self {
                listing,
                partition: partition(shard),
                since: None,
            })
            .collect()
    }
}

/// One shard's rows, read ahead.
struct Shard<'a> {
    source: &'a IndexPartition,
    position: Position,
    /// Rows read and not yet taken, the newest last.
    ahead: Vec<Item>,
    /// The position below which the next read begins.
    below: String,
    /// The sort key it ends at.
    since: String,
    /// Rows of the next read.
    step: usize,
    /// No more rows to read.
    is_exhausted: bool,
}

/// Where a row lies in a list: it begins with the row's `tl_sk`, and no two rows of a
/// partition have the same.
pub(super) type Position = fn(&Item) -> Result<Cow<'_, str>>;

/// By the sort key alone: time and event.
fn by_event(row: &Item) -> Result<Cow<'_, str>> {
    row.str("tl_sk").map(Cow::Borrowed)
}

/// Merges `sources` into a page of the rows that `keep` keeps. A row that several
/// of them have is there once.
pub(super) async fn page(
    dynamo: &Dynamo,
    sources: &[IndexPartition],
    range: &TimelineRange,
    keep: impl Fn(&Item) -> bool,
) -> Result<TimelinePage> {
    page_by(dynamo, sources, range, READ_MAX, by_event, keep).await
}

/// As [`page`], of rows that are told apart by more than time and event, and of which
/// `read_max` are looked at.
pub(super) async fn page_by(
    dynamo: &Dynamo,
    sources: &[IndexPartition],
    range: &TimelineRange,
    read_max: usize,
    position: Position,
    keep: impl Fn(&Item) -> bool,
) -> Result<TimelinePage> {
    let below = match (&range.after, range.until) {
        (Some(after), Some(until)) => after.clone().min(keys::time_bound(until)),
        (Some(after), None) => after.clone(),
        (None, Some(until)) => keys::time_bound(until),
        (None, None) => keys::TIMES_END.to_owned(),
    };
    let mut shards: Vec<_> = sources
        .iter()
        .map(|source| Shard {
            source,
            position,
            ahead: vec![],
            below: below.clone(),
            since: match source.since.max(range.since) {
                Some(since) => keys::time_bound(since),
                None => keys::TIMES_START.to_owned(),
            },
            // A share each and a little more: the shards are even, so few are read
            // again, though one row more is looked for than there is to be.
            step: range.limit / sources.len() + 4,
            is_exhausted: false,
        })
        .collect();

    let mut items = Vec::with_capacity(range.limit);
    let (mut looked_at, mut bytes) = (0, 0);
    let mut last: Option<String> = None;
    let mut last_kept = None;
    while looked_at < read_max && bytes < PAGE_BYTES_MAX {
        refill(dynamo, &mut shards).await?;
        let Some(row) = newest(&mut shards) else {
            last = None;
            break;
        };
        let place = position(&row)?;
        if last.as_deref() == Some(&*place) {
            looked_at += 1;
            continue;
        }
        let is_kept = keep(&row);
        if is_kept && items.len() == range.limit {
            // The next page begins with it, so there is one.
            let kept = items.last().map(position).transpose()?;
            last_kept = kept.map(Cow::into_owned);
            break;
        }
        looked_at += 1;
        last = Some(place.into_owned());
        if is_kept {
            bytes += text_bytes(&row);
            items.push(row);
        }
    }
    Ok(TimelinePage {
        items,
        next: last,
        last_kept,
        examined: looked_at,
    })
}

/// What the texts of a row take.
fn text_bytes(row: &Item) -> usize {
    let texts = row.values().filter_map(|value| value.as_s().ok());
    texts.map(String::len).sum()
}

/// Reads on in every shard that has nothing ahead and is not exhausted.
async fn refill(dynamo: &Dynamo, shards: &mut [Shard<'_>]) -> Result<()> {
    let empty = shards
        .iter_mut()
        .filter(|shard| shard.ahead.is_empty() && !shard.is_exhausted);
    let reads: Vec<_> = empty.map(|shard| read(dynamo, shard)).collect();
    let mut reads = stream::iter(reads).buffer_unordered(READS_MAX);
    while reads.try_next().await?.is_some() {}
    Ok(())
}

async fn read(dynamo: &Dynamo, shard: &mut Shard<'_>) -> Result<()> {
    if shard.below <= shard.since {
        shard.is_exhausted = true;
        return Ok(());
    }
    let limit = i32::try_from(shard.step).unwrap_or(i32::MAX);
    // A shard that is read again so soon has a filter that drops most.
    shard.step = (shard.step * 2).min(STEP_MAX);
    let listing = shard.source.listing;
    let output = dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .index_name(listing.index())
        .key_condition_expression("#pk = :pk and tl_sk between :since and :below")
        .expression_attribute_names("#pk", listing.attribute())
        .expression_attribute_values(":pk", s(&shard.source.partition))
        .expression_attribute_values(":since", s(&shard.since))
        .expression_attribute_values(":below", s(&shard.below))
        .scan_index_forward(false)
        // One more, because "between" includes the row the last page ended with. A
        // position begins with the sort key, so that one is a bound of it.
        .limit(limit.saturating_add(1))
        .send()
        .await
        .map_err(unavailable)?;
    shard.is_exhausted = output.last_evaluated_key().is_none_or(|key| key.is_empty());
    let mut rows = output.items.unwrap_or_default();
    rows.retain(|row| (shard.position)(row).is_ok_and(|place| *place < *shard.below));
    if let Some(last) = rows.last() {
        shard.below = (shard.position)(last)?.into_owned();
    }
    rows.reverse();
    shard.ahead = rows;
    Ok(())
}

/// Takes the newest row of all shards; each must have one ahead or be exhausted.
fn newest(shards: &mut [Shard<'_>]) -> Option<Item> {
    shards
        .iter_mut()
        .filter(|shard| !shard.ahead.is_empty())
        .max_by(|a, b| place_of(a).cmp(&place_of(b)))?
        .ahead
        .pop()
}

fn place_of<'a>(shard: &'a Shard<'_>) -> Option<Cow<'a, str>> {
    (shard.position)(shard.ahead.last()?).ok()
}
