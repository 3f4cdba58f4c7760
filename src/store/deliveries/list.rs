//! Lists of deliveries: an endpoint's timeline, or the index of one state.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::item::{StoredDelivery, id_of};
use crate::error::Result;
use crate::model::delivery::DeliveryState;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::store::dynamo::{Dynamo, Item, ItemExt, keys_of};
use crate::store::keys::{self, Listing};
use crate::store::timeline::{self, IndexPartition, TimelineRange};

/// What a list of deliveries is narrowed to.
#[derive(Debug)]
pub struct DeliveryFilter<'a> {
    /// Only those to this endpoint.
    pub endpoint: &'a EndpointId,
    /// Only those in this state when they are read, whatever the index says.
    pub state: Option<DeliveryState>,
    /// Of exactly this tenant's events.
    pub tenant: Option<&'a str>,
    /// A pending delivery that is not late yet was created after this.
    pub fresh: Timestamp,
}

impl DeliveryFilter<'_> {
    /// The partitions to read.
    fn sources(&self) -> Vec<IndexPartition> {
        let timeline = || {
            IndexPartition::sharded(Listing::Timeline, |shard| {
                keys::timeline_of_endpoint(self.endpoint, shard)
            })
        };
        match self.state {
            // Most deliveries succeed at once and are never in the index of states.
            None | Some(DeliveryState::Delivered) => timeline(),
            Some(DeliveryState::Pending) => {
                // What nobody has touched yet is not in it either, but in the
                // timeline's last moments: whatever is due for longer has been swept.
                let fresh = timeline().into_iter().map(|source| IndexPartition {
                    since: Some(self.fresh),
                    ..source
                });
                let late = in_state(self.endpoint, DeliveryState::Pending);
                late.into_iter().chain(fresh).collect()
            }
            Some(state) => in_state(self.endpoint, state),
        }
    }
}

fn in_state(endpoint: &EndpointId, state: DeliveryState) -> Vec<IndexPartition> {
    IndexPartition::sharded(Listing::Detail, |shard| {
        keys::deliveries_in(endpoint, state, shard)
    })
}

/// A page of an endpoint's deliveries, the newest first, and where the next
/// begins. Cost: an index page per shard and one BatchGetItem per 100 rows,
/// however many deliveries there are; for those delivered or of one tenant, up to
/// [`timeline::READ_MAX`] rows are looked at before a short page is answered.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer.
pub async fn list(
    dynamo: &Dynamo,
    filter: &DeliveryFilter<'_>,
    range: &TimelineRange,
) -> Result<(Vec<StoredDelivery>, Option<String>)> {
    let sources = filter.sources();
    let keep = |row: &Item| {
        filter
            .tenant
            .is_none_or(|tenant| row.str_opt("tenant") == Some(tenant))
    };
    let mut rows = Vec::with_capacity(range.limit);
    let mut range = range.clone();
    let wanted = range.limit;
    let mut looked_at = 0;
    loop {
        let page = timeline::page(dynamo, &sources, &range, keep).await?;
        looked_at += page.examined;
        for row in load_full(dynamo, &page.items).await? {
            if filter.state.is_none_or(|state| row.state == state) {
                rows.push(row);
            }
        }
        range.after = page.next;
        if range.after.is_none() || rows.len() >= wanted || looked_at >= timeline::READ_MAX {
            return Ok((rows, range.after));
        }
        range.limit = wanted - rows.len();
    }
}

/// The items of index rows in full and in the rows' order; those deleted since are
/// left out.
async fn load_full(dynamo: &Dynamo, rows: &[Item]) -> Result<Vec<StoredDelivery>> {
    let mut found = HashMap::with_capacity(rows.len());
    for item in dynamo.batch_get(&keys_of(rows)?, None).await? {
        let row = StoredDelivery::read(&item)?;
        found.insert(row.id.clone(), row);
    }
    let mut in_order = Vec::with_capacity(rows.len());
    for row in rows {
        in_order.extend(found.remove(&id_of(row)?));
    }
    Ok(in_order)
}

/// Part of the index of a state that was scanned.
#[derive(Debug)]
pub struct DeliveryIdScan {
    /// The deliveries found there, which may be in another state by now.
    pub ids: Vec<DeliveryId>,
    /// Where the next part begins.
    pub next: Option<String>,
    /// Deliveries looked at, those that were not wanted included.
    pub examined: usize,
}

/// The next deliveries to `endpoint` that failed or were canceled and that
/// `wanted` wants by their type and tenant, the newest first. Cost: an index page
/// per shard.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer.
pub async fn scan_ids(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    state: DeliveryState,
    range: &TimelineRange,
    wanted: impl Fn(&str, Option<&str>) -> bool,
) -> Result<DeliveryIdScan> {
    let keep = |item: &Item| {
        let event_type = item.str_opt("type");
        event_type.is_some_and(|event_type| wanted(event_type, item.str_opt("tenant")))
    };
    let page = timeline::page(dynamo, &in_state(endpoint, state), range, keep).await?;
    Ok(DeliveryIdScan {
        ids: page.items.iter().map(id_of).collect::<Result<_>>()?,
        next: page.next,
        examined: page.examined,
    })
}

/// Which of `events` have no delivery to `endpoint`. One BatchGetItem per 100.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer.
pub async fn missing(
    dynamo: &Dynamo,
    events: impl Iterator<Item = &EventId> + Clone,
    endpoint: &EndpointId,
) -> Result<HashSet<EventId>> {
    let keys: Vec<_> = events
        .clone()
        .map(|event| (event.to_string(), keys::delivery(endpoint)))
        .collect();
    let mut missing: HashSet<EventId> = events.cloned().collect();
    for item in dynamo.batch_get(&keys, Some("pk, sk")).await? {
        missing.remove(&id_of(&item)?.event());
    }
    Ok(missing)
}
