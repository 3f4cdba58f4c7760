//! The selection of a recovery: which deliveries, or events, it has of what is kept.
//!
//! The job that sends them again and the preview that counts them for a person ask here,
//! so that the one begins what the other has told of.

use jiff::{SignedDuration, Timestamp};

use super::deliveries::{self, DeliveryIdScan};
use super::dynamo::Dynamo;
use super::events::{self, EventRow, EventScan};
use super::timeline::{READ_MAX, TimelineRange};
use crate::error::Result;
use crate::model::access::Access;
use crate::model::endpoint::Target;
use crate::model::filter::TypePattern;
use crate::model::id::EndpointId;
use crate::model::recovery::{HELD_DAYS, Recovery, RecoveryKind};

/// The next deliveries to `endpoint`, up to `limit`, that `recovery` begins anew: by the
/// states that the index has them in. Cost: that of [`deliveries::scan_ids`].
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn deliveries(
    dynamo: &Dynamo,
    recovery: &Recovery,
    endpoint: &EndpointId,
    limit: usize,
) -> Result<DeliveryIdScan> {
    // One that is none was not refused once, and no event is of it.
    let pattern = recovery.event_type.as_deref().map(TypePattern::for_list);
    let is_of_type = |event_type: &str| match &pattern {
        Some(Ok(pattern)) => pattern.matches(event_type),
        Some(Err(_)) => false,
        None => true,
    };
    let wanted = |event_type: &str, tenant: Option<&str>| {
        is_of_type(event_type)
            && (recovery.tenant.is_none() || recovery.tenant.as_deref() == tenant)
    };
    let states = recovery.resent_states();
    let range = range(recovery, limit);
    deliveries::scan_ids(dynamo, endpoint, &states, &range, wanted).await
}

/// The events that `recovery` sends to `target`, of the next `limit` that match its filter
/// as it is: those that have no delivery to it and have not outlived their
/// `retention_days`. Cost: that of [`events::scan`] and one BatchGetItem per 100.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn missing_events(
    dynamo: &Dynamo,
    recovery: &Recovery,
    target: &Target,
    retention_days: u32,
    limit: usize,
    now: Timestamp,
) -> Result<EventScan> {
    let matches =
        |event_type: &str, tenant: Option<&str>| target.filter.matches(event_type, tenant);
    let mut range = range(recovery, limit);
    range.since = Some(recovery.pass_since(target.version));
    // What it looked at is told to whoever asked for it, who may see one tenant alone.
    let tenant = recovery.tenant.as_deref().map(Into::into);
    let access = Access::new(recovery.project.clone(), tenant);
    let mut page = events::scan(dynamo, &access, &range, matches).await?;
    let ids = page.rows.iter().map(|row| &row.id);
    let missing = deliveries::missing(dynamo, ids, &target.id).await?;
    page.rows
        .retain(|row| missing.contains(&row.id) && is_deliverable(row, retention_days, now));
    Ok(page)
}

/// Whether an event has not outlived its deliveries: one that is kept for a late archive
/// alone does, and would be delivered a second time.
fn is_deliverable(event: &EventRow, retention_days: u32, now: Timestamp) -> bool {
    let held = SignedDuration::from_hours(24 * i64::from(HELD_DAYS));
    event.expires > now
        && (event.expires - held > now || events::expiry(event.received, retention_days) > now)
}

/// The part of the timeline that the next page is taken from.
fn range(recovery: &Recovery, limit: usize) -> TimelineRange {
    TimelineRange {
        since: Some(recovery.since),
        until: Some(recovery.until),
        after: recovery.cursor.clone(),
        limit,
    }
}

/// As many are counted, and no more.
pub const COUNT_MAX: usize = 1_000;

/// How many a recovery has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionCount {
    /// How many there are among those looked at.
    pub count: usize,
    /// Whether all were looked at.
    pub is_exact: bool,
    /// Rows looked at.
    pub examined: usize,
}

/// Counts what `recovery`, which has not begun, has at `target`: up to [`COUNT_MAX`],
/// among the newest [`READ_MAX`] rows or a page more. Cost: that of a few pages of it,
/// however much is kept.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn count(
    dynamo: &Dynamo,
    mut recovery: Recovery,
    target: &Target,
    retention_days: u32,
    now: Timestamp,
) -> Result<SelectionCount> {
    let (mut count, mut examined) = (0, 0);
    while count < COUNT_MAX && examined < READ_MAX {
        let limit = COUNT_MAX - count;
        let (found, looked_at, next) = match recovery.kind {
            RecoveryKind::ReplayMissing => {
                let page =
                    missing_events(dynamo, &recovery, target, retention_days, limit, now).await?;
                (page.rows.len(), page.examined, page.next)
            }
            _ => {
                let page = deliveries(dynamo, &recovery, &target.id, limit).await?;
                (page.ids.len(), page.examined, page.next)
            }
        };
        count += found;
        examined += looked_at;
        recovery.cursor = next;
        if recovery.cursor.is_none() {
            break;
        }
    }
    Ok(SelectionCount {
        count,
        is_exact: recovery.cursor.is_none(),
        examined,
    })
}
