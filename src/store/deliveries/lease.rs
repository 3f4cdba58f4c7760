//! The lease of a pending delivery: its due time, which a worker moves only while it is
//! the one that the worker saw.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use jiff::Timestamp;

use super::item::StoredDelivery;
use crate::error::Result;
use crate::model::delivery::DeliveryState;
use crate::model::id::DeliveryId;
use crate::store::dynamo::{Dynamo, Item, ItemExt, ms, n, s, update_if, update_once};
use crate::store::keys;

/// What a worker holds of a pending delivery: what it may move its due time by, as long
/// as nobody else has taken it up or begun it anew.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct HeldLease<'a> {
    pub id: &'a DeliveryId,
    pub attempts_made: u32,
    /// Its due time, as the worker saw it.
    pub due: Timestamp,
}

/// Moves a pending delivery's due time without an attempt: its endpoint is
/// disabled, its circuit breaker is open, or its rate limit has no slot. One that it was
/// given before is not its own any more, and how late its first attempt is then says
/// nothing of this service. Nothing that it needs is missing. False if the lease is not
/// the worker's any more.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn defer(dynamo: &Dynamo, held: HeldLease<'_>, until: Timestamp) -> Result<bool> {
    let update = held
        .update(dynamo, until)
        .update_expression(
            "set due_sk = :due, detail_pk = :in, untimed = :yes \
             remove swept, slot, absent_since",
        )
        .expression_attribute_values(":yes", n(1))
        .expression_attribute_values(":in", s(held.within()));
    update_once(update, |seen| held.is_moved(seen, until)).await
}

/// As [`defer`], where it is not the endpoint that is waited for: how late the first
/// attempt is then tells of it.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn defer_timed(dynamo: &Dynamo, held: HeldLease<'_>, until: Timestamp) -> Result<bool> {
    let update = held
        .update(dynamo, until)
        .update_expression("set due_sk = :due, detail_pk = :in remove swept, slot, absent_since")
        .expression_attribute_values(":in", s(held.within()));
    update_once(update, |seen| held.is_moved(seen, until)).await
}

/// As [`defer`], for a delivery that its endpoint's rate limit has given `slot`:
/// whoever attempts it then need not ask for one.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn defer_for_slot(
    dynamo: &Dynamo,
    held: HeldLease<'_>,
    until: Timestamp,
    slot: Timestamp,
) -> Result<bool> {
    let update = held
        .update(dynamo, until)
        .update_expression(
            "set due_sk = :due, slot = :slot, detail_pk = :in, untimed = :yes \
             remove swept, absent_since",
        )
        .expression_attribute_values(":yes", n(1))
        .expression_attribute_values(":in", s(held.within()))
        .expression_attribute_values(":slot", ms(slot));
    update_once(update, |seen| held.is_moved(seen, until)).await
}

/// As [`defer_timed`], for a delivery whose event or endpoint is not here at `now`, nor was
/// since whatever is noted already.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn defer_missing(
    dynamo: &Dynamo,
    held: HeldLease<'_>,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    let update = held
        .update(dynamo, until)
        .update_expression(
            "set due_sk = :due, detail_pk = :in, \
             absent_since = if_not_exists(absent_since, :now) remove swept",
        )
        .expression_attribute_values(":in", s(held.within()))
        .expression_attribute_values(":now", ms(now));
    update_once(update, |seen| held.is_moved(seen, until)).await
}

/// Notes that a pending delivery is held back for its endpoint's sake, and leaves its due
/// time: how late it is then says nothing of this service. As [`defer`] does.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn hold_back(dynamo: &Dynamo, id: &DeliveryId, attempts_made: u32) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            .update_expression("set untimed = :yes")
            .expression_attribute_values(":yes", n(1)),
    )
    .await
}

/// Moves a pending delivery's due time because its attempt is under way.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not answer.
pub async fn renew_lease(dynamo: &Dynamo, held: HeldLease<'_>, until: Timestamp) -> Result<bool> {
    let update = held
        .update(dynamo, until)
        // Swept at least once: a process that starts after a crash knows by this
        // that a queue had it, and need not wait for the lease to end.
        .update_expression("set due_sk = :due, swept = if_not_exists(swept, :one)")
        .expression_attribute_values(":one", n(1));
    update_once(update, |seen| held.is_moved(seen, until)).await
}

impl StoredDelivery {
    /// What whoever has read it may move its due time by.
    pub fn lease(&self) -> HeldLease<'_> {
        HeldLease {
            id: &self.id,
            attempts_made: self.progress.attempts_made,
            due: self.due.unwrap_or_default(),
        }
    }
}

impl HeldLease<'_> {
    /// An update to the due time `until`, by whoever has the lease.
    fn update(self, dynamo: &Dynamo, until: Timestamp) -> UpdateItemFluentBuilder {
        guarded(dynamo, self.id, self.attempts_made)
            .condition_expression(format!("{GUARD} and due_sk = :held"))
            .expression_attribute_values(":held", s(self.sort(self.due)))
            .expression_attribute_values(":due", s(self.sort(until)))
    }

    fn sort(self, due: Timestamp) -> String {
        keys::due_sort(due, self.id.as_str())
    }

    /// The index of its state.
    fn within(self) -> String {
        keys::delivery_in(self.id, DeliveryState::Pending)
    }

    /// Whether it is moved to `until` already, by a write whose answer was lost.
    fn is_moved(self, seen: &Item, until: Timestamp) -> bool {
        seen.str_opt("due_sk") == Some(&*self.sort(until))
            && seen.num_opt("made") == Some(self.attempts_made.into())
    }
}

/// While what it is of is the delivery's next attempt.
pub(super) const GUARD: &str = "#state = :pending and made = :made";

/// An update that takes place only while the delivery is pending and attempt
/// `attempts_made` is its next.
pub(super) fn guarded(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
) -> UpdateItemFluentBuilder {
    dynamo
        .update(id.event().as_str(), keys::delivery(&id.endpoint()))
        .condition_expression(GUARD)
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":pending", s(DeliveryState::Pending.as_str()))
        .expression_attribute_values(":made", n(attempts_made))
}
