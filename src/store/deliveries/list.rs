//! Lists of deliveries: the timelines of endpoints, or the indexes of one state.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::item::{StoredDelivery, id_of};
use crate::error::{Error, Result};
use crate::model::delivery::DeliveryState;
use crate::model::filter::TypePattern;
use crate::model::id::{DeliveryId, EndpointId, EventId};
use crate::store::dynamo::{Dynamo, Item, ItemExt, has_expired, keys_of};
use crate::store::keys::{self, Listing};
use crate::store::timeline::{self, IndexPartition, TimelineRange};

/// Whose deliveries to list.
#[derive(Debug, Clone, Copy)]
pub enum Receivers<'a> {
    /// Those to this endpoint. A position is the time and the event.
    One(&'a EndpointId),
    /// Those to any of these. A position is the time, the event and the endpoint.
    AnyOf(&'a [EndpointId]),
}

impl Receivers<'_> {
    fn all(&self) -> &[EndpointId] {
        match self {
            Self::One(endpoint) => std::slice::from_ref(*endpoint),
            Self::AnyOf(endpoints) => endpoints,
        }
    }

    /// Where an index row of theirs lies.
    fn position(self) -> timeline::Position {
        match self {
            Self::One(_) => |row| row.str("tl_sk").map(Cow::Borrowed),
            Self::AnyOf(_) => |row| {
                let endpoint = id_of(row)?.endpoint();
                Ok(keys::delivery_position(row.str("tl_sk")?, &endpoint).into())
            },
        }
    }

    /// Where the index row of a delivery to one of them lies.
    fn position_of(self, row: &StoredDelivery) -> String {
        let sort = keys::timeline_sort(row.created, &row.id.event());
        match self {
            Self::One(_) => sort,
            Self::AnyOf(_) => keys::delivery_position(&sort, &row.id.endpoint()),
        }
    }
}

/// What a list of deliveries is narrowed to.
#[derive(Debug, Clone)]
pub struct DeliveryFilter<'a> {
    /// Only those to these endpoints.
    pub to: Receivers<'a>,
    /// Only those in this state when they are read, whatever the index says.
    pub state: Option<DeliveryState>,
    /// Of events of these types.
    pub event_type: Option<TypePattern>,
    /// Of exactly this tenant's events.
    pub tenant: Option<&'a str>,
    /// A pending delivery that is not late yet was created after this.
    pub fresh: Timestamp,
}

impl DeliveryFilter<'_> {
    /// The partitions to read.
    fn sources(&self) -> Vec<IndexPartition> {
        let to = self.to.all().iter();
        to.flat_map(|endpoint| self.sources_of(endpoint)).collect()
    }

    fn sources_of(&self, endpoint: &EndpointId) -> Vec<IndexPartition> {
        let timeline = || {
            IndexPartition::sharded(Listing::Timeline, |shard| {
                keys::timeline_of_endpoint(endpoint, shard)
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
                let late = in_state(endpoint, DeliveryState::Pending);
                late.into_iter().chain(fresh).collect()
            }
            Some(state) => in_state(endpoint, state),
        }
    }

    /// Whether an index row is of an event that is asked for.
    fn is_of_event(&self, row: &Item) -> bool {
        let is_of_type = |pattern: &TypePattern| {
            let event_type = row.str_opt("type");
            event_type.is_some_and(|event_type| pattern.matches(event_type))
        };
        let is_of_tenant = |tenant| row.str_opt("tenant") == Some(tenant);
        self.event_type.as_ref().is_none_or(is_of_type) && self.tenant.is_none_or(is_of_tenant)
    }
}

fn in_state(endpoint: &EndpointId, state: DeliveryState) -> Vec<IndexPartition> {
    IndexPartition::sharded(Listing::Detail, |shard| {
        keys::deliveries_in(endpoint, state, shard)
    })
}

/// The fewest index rows read at a time once those read first were not enough.
const STEP_MIN: usize = 100;

/// A page of a list.
#[derive(Debug)]
pub struct DeliveryPage {
    /// The deliveries, the newest first.
    pub rows: Vec<StoredDelivery>,
    /// Where the next page begins; none if there is no next.
    pub next: Option<String>,
    /// Index rows looked at.
    pub examined: usize,
}

/// A page of deliveries. Cost: an index page per shard of each endpoint and one
/// BatchGetItem per 100 rows, however many deliveries there are; for those delivered, of
/// one tenant or of some types, up to `read_max` rows are looked at, a hundred or more
/// at a time, before a short page is answered, of which it is not known whether it is
/// the last.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer.
pub async fn list(
    dynamo: &Dynamo,
    filter: &DeliveryFilter<'_>,
    range: &TimelineRange,
    read_max: usize,
) -> Result<DeliveryPage> {
    let sources = filter.sources();
    let position = filter.to.position();
    let mut rows = Vec::with_capacity(range.limit + 1);
    let mut range = range.clone();
    let wanted = range.limit;
    // Of one state one row more is read, which shows that there is a next page: an index
    // row alone, by which it is known otherwise, may be of another state by now.
    let asked = wanted + usize::from(filter.state.is_some());
    range.limit = asked;
    let mut examined = 0;
    loop {
        let now = Timestamp::now();
        let keep = |row: &Item| filter.is_of_event(row) && !has_expired(row, now);
        let left = read_max - examined;
        let page = timeline::page_by(dynamo, &sources, &range, left, position, keep).await?;
        examined += page.examined;
        for row in load_full(dynamo, &page.items).await? {
            if filter.state.is_none_or(|state| row.state == state) {
                rows.push(row);
            }
        }
        if rows.len() > wanted {
            rows.truncate(wanted);
            range.after = rows.last().map(|row| filter.to.position_of(row));
            break;
        }
        // Between those of one tenant lie those of others, whose ids are not its to see.
        range.after = match filter.tenant {
            Some(_) => page.last_kept.or(page.next),
            None => page.next,
        };
        if range.after.is_none() || examined >= read_max || rows.len() == asked {
            break;
        }
        // The rows after those are likely to be of another state too.
        range.limit = (asked - rows.len()).max(STEP_MIN);
    }
    Ok(DeliveryPage {
        rows,
        next: range.after,
        examined,
    })
}

/// The items of index rows in full and in the rows' order; those deleted since are
/// left out.
async fn load_full(dynamo: &Dynamo, rows: &[Item]) -> Result<Vec<StoredDelivery>> {
    let mut found = HashMap::with_capacity(rows.len());
    for item in dynamo.batch_get(&keys_of(rows)?, None).await? {
        // One that cannot be read keeps no other out of the list.
        let row = StoredDelivery::read(&item).inspect_err(|error| report_unreadable(&item, error));
        if let Ok(row) = row {
            found.insert(row.id.clone(), row);
        }
    }
    let ids = rows.iter().filter_map(|row| id_of(row).ok());
    Ok(ids.filter_map(|id| found.remove(&id)).collect())
}

/// Logs that a delivery is left out of what is done with many.
pub(super) fn report_unreadable(item: &Item, error: &Error) {
    let (event, cause) = (item.str_opt("pk").unwrap_or_default(), error.causes());
    tracing::error!(event.id = event, %error, cause, "delivery unreadable: skipped");
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
    /// Those of them that cannot be read, and are left out.
    pub unreadable: usize,
}

/// The next deliveries to `endpoint` that are in one of `states`, which are not
/// delivered, and that `wanted` wants by their type and tenant, the newest first. Those
/// pending that nobody has touched yet are not among them. Cost: an index page per
/// shard and state.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer.
pub async fn scan_ids(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    states: &[DeliveryState],
    range: &TimelineRange,
    wanted: impl Fn(&str, Option<&str>) -> bool,
) -> Result<DeliveryIdScan> {
    let now = Timestamp::now();
    let keep = |item: &Item| {
        let event_type = item.str_opt("type");
        event_type.is_some_and(|event_type| wanted(event_type, item.str_opt("tenant")))
            && !has_expired(item, now)
    };
    let sources = states.iter().flat_map(|state| in_state(endpoint, *state));
    let sources: Vec<_> = sources.collect();
    let page = timeline::page(dynamo, &sources, range, keep).await?;
    let ids = page.items.iter().filter_map(|item| {
        let id = id_of(item);
        id.inspect_err(|error| report_unreadable(item, error)).ok()
    });
    let ids: Vec<_> = ids.collect();
    Ok(DeliveryIdScan {
        unreadable: page.items.len() - ids.len(),
        ids,
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
