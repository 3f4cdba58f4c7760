//! The deletion of items: an event with all that lies below it, what is kept beside an
//! endpoint or a meter, deliveries without an event, a project's projection.
//!
//! Index rows go with their items. All of it may be done again, to no effect.

use jiff::{SignedDuration, Timestamp};

use crate::error::Result;
use crate::model::access::Access;
use crate::model::erasure::{Erasure, ErasureProgress, ErasureState};
use crate::model::id::{DeliveryId, EndpointId, EventId, MeterId, ProjectId};
use crate::store::dynamo::{Dynamo, Item, ItemExt, s, unavailable};
use crate::store::events::{self, EventFilter, EventPlace};
use crate::store::keys::{self, Listing};
use crate::store::timeline::{self, IndexPartition, TimelineRange};
use crate::store::{backfills, batch, deliveries, recoveries};

/// How long before an erasure began a delivery may have been made by a job that was
/// under way then and wrote it after.
const UNDER_WAY: SignedDuration = SignedDuration::from_mins(15);
/// Sort keys read at a time at least: more than an event has that are no deliveries.
const READ_MIN: usize = 25;
/// Rows of a page of a list.
const PAGE_MAX: usize = 100;

/// Items that were deleted.
#[derive(Debug, Default)]
pub struct DeletedItems {
    /// What they were.
    pub progress: ErasureProgress,
    /// How many they were, whatever they were.
    pub items: usize,
    /// There are more than were to be deleted at once.
    pub has_more: bool,
}

/// Deletes up to about `limit` items of an event: its deliveries and readings, and at
/// last its own, by which lists find it. Consistent.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer; what is left is found the next time.
pub async fn delete_event(dynamo: &Dynamo, id: &EventId, limit: usize) -> Result<DeletedItems> {
    let mut deleted = DeletedItems::default();
    let mut is_gone = false;
    loop {
        let left = limit.saturating_sub(deleted.items).max(READ_MIN);
        let (below, is_last) = page_of(dynamo, id.as_str(), left).await?;
        let has_event = below.iter().any(|sk| sk == keys::EVENT);
        // Published again since: a new one.
        if has_event && is_gone {
            return Ok(deleted);
        }
        // The event last: what is below one that is not listed would not be found.
        let others = below.iter().filter(|sk| *sk != keys::EVENT);
        let others = others.map(|sk| (id.as_str(), sk.as_str()));
        batch::delete(dynamo, others).await?;
        if is_last && has_event {
            batch::delete(dynamo, std::iter::once((id.as_str(), keys::EVENT))).await?;
            is_gone = true;
        }
        let counted = below.iter().filter(|sk| is_last || *sk != keys::EVENT);
        for sk in counted {
            deleted.items += 1;
            count(&mut deleted.progress, sk);
        }
        // Looked at once more after the event is gone: a fan-out may have been quicker.
        if is_last && below.is_empty() {
            return Ok(deleted);
        }
        if deleted.items >= limit {
            deleted.has_more = true;
            return Ok(deleted);
        }
    }
}

fn count(progress: &mut ErasureProgress, sk: &str) {
    match sk {
        keys::EVENT => progress.events += 1,
        keys::READINGS => progress.readings += 1,
        sk if keys::is_delivery(sk) => progress.deliveries += 1,
        _ => {}
    }
}

/// Up to `limit` sort keys of a partition, and whether those are all. Consistent.
async fn page_of(dynamo: &Dynamo, pk: &str, limit: usize) -> Result<(Vec<String>, bool)> {
    let query = dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .key_condition_expression("pk = :pk")
        .projection_expression("sk")
        .expression_attribute_values(":pk", s(pk))
        .consistent_read(true)
        .limit(i32::try_from(limit).unwrap_or(i32::MAX));
    let output = query.send().await.map_err(unavailable)?;
    let sks = output.items().iter();
    let sks = sks.map(|item| item.str("sk").map(str::to_owned));
    let is_last = output.last_evaluated_key().is_none_or(|key| key.is_empty());
    Ok((sks.collect::<Result<_>>()?, is_last))
}

/// A page of the events to erase, the newest first, and where the next begins. As late
/// as the index is. Those of a tenant are read from its own index, and at last from the
/// whole project's: an event that an early version kept is in no other.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn list_events(
    dynamo: &Dynamo,
    erasure: &Erasure,
    after: Option<&str>,
) -> Result<(Vec<EventPlace>, Option<String>)> {
    let access = Access::to_project(&erasure.project);
    let range = range(erasure, after);
    let tenant = erasure.tenant();
    let is_last_look = erasure.state == ErasureState::Settling;
    let filter = EventFilter {
        tenant: tenant.filter(|_| !is_last_look).map(str::to_owned),
        ..EventFilter::default()
    };
    let is_wanted = |of: Option<&str>| tenant.is_none() || of == tenant;
    events::list_places(dynamo, &access, &filter, &range, is_wanted).await
}

/// Where a list goes on after `row`.
pub fn position_after(row: &EventPlace) -> String {
    keys::timeline_sort(row.received, &row.id)
}

fn range(erasure: &Erasure, after: Option<&str>) -> TimelineRange {
    let next_millisecond = |at: Timestamp| at.saturating_add(SignedDuration::from_millis(1)).ok();
    TimelineRange {
        since: None,
        until: erasure.until().and_then(next_millisecond),
        after: after.map(str::to_owned),
        limit: PAGE_MAX,
    }
}

/// Deletes a page of the recoveries after `after`: all of a project, or those narrowed
/// to the tenant. Where the next page begins.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_recoveries(
    dynamo: &Dynamo,
    erasure: &Erasure,
    after: Option<&str>,
) -> Result<(DeletedItems, Option<String>)> {
    let range = range(erasure, after);
    let access = Access::to_project(&erasure.project);
    let (rows, next) = recoveries::list_with_expired(dynamo, &access, &range).await?;
    let tenant = erasure.tenant();
    let wanted = rows
        .iter()
        .filter(|row| tenant.is_none() || row.str_opt("tenant") == tenant);
    let keys: Vec<_> = wanted
        .filter_map(|row| Some((row.str_opt("pk")?, keys::RECOVERY)))
        .collect();
    batch::delete(dynamo, keys.iter().copied()).await?;
    let deleted = DeletedItems {
        progress: ErasureProgress {
            recoveries: keys.len() as u64,
            ..ErasureProgress::default()
        },
        items: keys.len(),
        has_more: next.is_some(),
    };
    Ok((deleted, next))
}

/// Deletes what deliveries note beside endpoints: runs of failures, pending disables
/// and the pace.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_health(
    dynamo: &Dynamo,
    project: &ProjectId,
    endpoints: &[EndpointId],
) -> Result<()> {
    let project = keys::project(project);
    let health: Vec<_> = endpoints.iter().map(keys::endpoint_health).collect();
    let health = health.iter().map(|sk| (project.as_str(), sk.as_str()));
    let beside = endpoints
        .iter()
        .flat_map(|id| [(id.as_str(), keys::DISABLE), (id.as_str(), keys::PACE)]);
    batch::delete(dynamo, health.chain(beside)).await
}

/// Deletes the back-fills of `meters`.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_backfills(dynamo: &Dynamo, meters: &[MeterId]) -> Result<()> {
    for meter in meters {
        backfills::forget(dynamo, meter).await?;
    }
    Ok(())
}

/// Deletes a page of an endpoint's deliveries after `after` whose event is gone: a job
/// that had read the event wrote them after it. Of a project all go. Where the next
/// page begins.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_strays(
    dynamo: &Dynamo,
    erasure: &Erasure,
    endpoint: &EndpointId,
    after: Option<&str>,
) -> Result<(DeletedItems, Option<String>)> {
    let tenant = erasure.tenant();
    let since = erasure.until().map(|at| at - UNDER_WAY);
    let partition = |shard| keys::timeline_of_endpoint(endpoint, shard);
    let sources = IndexPartition::sharded(Listing::Timeline, partition);
    let range = TimelineRange {
        since,
        until: None,
        after: after.map(str::to_owned),
        limit: PAGE_MAX,
    };
    let is_wanted = |row: &Item| tenant.is_none() || row.str_opt("tenant") == tenant;
    let page = timeline::page(dynamo, &sources, &range, is_wanted).await?;
    let events = page.items.iter().filter_map(|row| row.parse("pk").ok());
    let mut gone: Vec<EventId> = events.collect();
    if tenant.is_some() {
        gone = events::missing(dynamo, &gone).await?;
    }
    let gone: Vec<_> = gone
        .iter()
        .map(|id| DeliveryId::new(id, endpoint))
        .collect();
    deliveries::delete(dynamo, &gone).await?;
    let deleted = DeletedItems {
        progress: ErasureProgress {
            deliveries: gone.len() as u64,
            ..ErasureProgress::default()
        },
        items: gone.len(),
        has_more: page.next.is_some(),
    };
    Ok((deleted, page.next))
}

/// Deletes what the data plane knows of the keys with these hashes.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_grants(dynamo: &Dynamo, key_hashes: &[[u8; 32]]) -> Result<()> {
    let grants: Vec<_> = key_hashes.iter().map(keys::key).collect();
    let grants = grants.iter().map(|pk| (pk.as_str(), keys::KEY));
    batch::delete(dynamo, grants).await
}

/// Deletes the projection of a project, its keys by their hashes included, and its
/// activity; what says that it is erased stays.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn delete_projection(
    dynamo: &Dynamo,
    project: &ProjectId,
    key_hashes: &[[u8; 32]],
) -> Result<usize> {
    delete_grants(dynamo, key_hashes).await?;
    let activity = delete_partition(dynamo, &keys::activity(project)).await?;
    let projected = delete_partition(dynamo, &keys::project(project)).await?;
    Ok(key_hashes.len() + activity + projected)
}

/// Deletes the items of a partition but for the mark of an erased project; how many there
/// were.
async fn delete_partition(dynamo: &Dynamo, partition: &str) -> Result<usize> {
    let mut items = 0;
    loop {
        let (mut below, _) = page_of(dynamo, partition, PAGE_MAX).await?;
        below.retain(|sk| sk != keys::ERASED);
        if below.is_empty() {
            return Ok(items);
        }
        items += below.len();
        let below = below.iter().map(|sk| (partition, sk.as_str()));
        batch::delete(dynamo, below).await?;
    }
}
