//! Deliveries in DynamoDB: below their event, with a due time while pending, and
//! in the index of their state once that is failed, canceled or late.

mod item;
mod list;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::Timestamp;

pub(super) use self::item::new_item;
use self::item::write_attempt;
pub use self::item::{NewDelivery, StoredDelivery};
use self::list::report_unreadable;
pub use self::list::{
    DeliveryFilter, DeliveryIdScan, DeliveryPage, Receivers, list, missing, scan_ids,
};
use super::dynamo::{
    self, Dynamo, DynamoErrorKind, ItemExt, kind, ms, n, s, unavailable, update_if,
};
use super::events::StoredEvent;
use super::timeline::READ_MAX;
use super::{batch, keys};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::delivery::{ATTEMPTS_KEPT_MAX, Attempt, DeliveryState, Progress};
use crate::model::id::{DeliveryId, EndpointId, EventId};

/// Writes a delivery that is not there yet; false if it is. One write unit and
/// one for each index.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put_new(dynamo: &Dynamo, new: &NewDelivery<'_>) -> Result<bool> {
    dynamo::put_new(dynamo, new_item(new)).await
}

/// Deletes deliveries, whether they are there or not: those of an event that is gone.
/// One write unit of each, and one for each index.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn delete(dynamo: &Dynamo, ids: &[DeliveryId]) -> Result<()> {
    let keys: Vec<_> = ids
        .iter()
        .map(|id| (id.event(), keys::delivery(&id.endpoint())))
        .collect();
    let keys = keys.iter().map(|(event, sk)| (event.as_str(), &**sk));
    batch::delete(dynamo, keys).await
}

/// The delivery `id`, or none. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get(dynamo: &Dynamo, id: &DeliveryId) -> Result<Option<StoredDelivery>> {
    let item = dynamo
        .get(id.event().as_str(), keys::delivery(&id.endpoint()))
        .await?;
    item.as_ref().map(StoredDelivery::read).transpose()
}

/// The delivery `id`, if `access` reaches its event; whether it reaches its endpoint is
/// for whoever knows that. One consistent read.
///
/// # Errors
/// [`Error::NotFound`] if there is none, or it is another project's or tenant's;
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get_of(dynamo: &Dynamo, access: &Access, id: &DeliveryId) -> Result<StoredDelivery> {
    let delivery = get(dynamo, id).await?;
    let is_own = |row: &StoredDelivery| access.covers_in(&row.project, row.tenant.as_deref());
    let own = delivery.filter(is_own);
    own.ok_or_else(|| Error::not_found("delivery", id))
}

/// The delivery `id`, or none, and its event, or none. One call, two consistent
/// reads.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get_with_event(
    dynamo: &Dynamo,
    id: &DeliveryId,
) -> Result<(Option<StoredDelivery>, Option<StoredEvent>)> {
    let (event, sk) = (id.event(), keys::delivery(&id.endpoint()));
    let both = dynamo.get_both(event.as_str(), [&sk, keys::EVENT]);
    let [delivery, event] = both.await?;
    Ok((
        delivery.as_ref().map(StoredDelivery::read).transpose()?,
        event.as_ref().map(StoredEvent::read).transpose()?,
    ))
}

/// Up to `limit` deliveries of an event in the order of their endpoints' ids, those in
/// `state` and after `after` only, and the endpoint after which the next begin; none if
/// there are no more. Of one state, up to [`READ_MAX`] are looked at, and then it is not
/// known.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn of_event(
    dynamo: &Dynamo,
    event: &EventId,
    state: Option<DeliveryState>,
    after: Option<&EndpointId>,
    limit: usize,
) -> Result<(Vec<StoredDelivery>, Option<EndpointId>)> {
    let after = keys::deliveries_after(after);
    // The one to begin after is read too, and one more than wanted.
    let step = state.map_or(limit + 2, |_| OF_EVENT_STEP);
    let mut rows = Vec::new();
    let (mut start, mut last, mut looked_at) = (None, None, 0);
    loop {
        let output = dynamo
            .client
            .query()
            .table_name(&dynamo.table)
            .key_condition_expression("pk = :pk and sk between :after and :end")
            .expression_attribute_values(":pk", s(event.as_str()))
            .expression_attribute_values(":after", s(&after))
            .expression_attribute_values(":end", s(keys::DELIVERIES_END))
            .limit(i32::try_from(step).unwrap_or(i32::MAX))
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(unavailable)?;
        for item in output.items() {
            if item.str("sk")? == after {
                continue;
            }
            let row = match StoredDelivery::read(item) {
                Ok(row) => row,
                Err(error) => {
                    report_unreadable(item, &error);
                    looked_at += 1;
                    continue;
                }
            };
            let is_wanted = state.is_none_or(|state| row.state == state);
            if is_wanted && rows.len() == limit {
                return Ok((rows, last));
            }
            looked_at += 1;
            last = Some(row.id.endpoint());
            if is_wanted {
                rows.push(row);
            }
        }
        start = output.last_evaluated_key;
        if start.is_none() {
            return Ok((rows, None));
        }
        if looked_at >= READ_MAX {
            return Ok((rows, last));
        }
    }
}

/// Deliveries of an event read at a time to find those in one state.
const OF_EVENT_STEP: usize = 256;

/// As [`of_event`], of those to `endpoints` alone, which are in the order of their ids.
/// Nothing is read of the others, and no position is one of theirs. One BatchGetItem
/// per 100 endpoints.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn of_event_to(
    dynamo: &Dynamo,
    event: &EventId,
    endpoints: &[EndpointId],
    state: Option<DeliveryState>,
    after: Option<&EndpointId>,
    limit: usize,
) -> Result<(Vec<StoredDelivery>, Option<EndpointId>)> {
    let first = endpoints.partition_point(|id| after.is_some_and(|after| id <= after));
    let left = &endpoints[first..];
    let looked_at = &left[..left.len().min(READ_MAX)];
    let of = |endpoint: &EndpointId| (event.to_string(), keys::delivery(endpoint));
    let keys: Vec<_> = looked_at.iter().map(of).collect();
    let mut rows = Vec::new();
    for item in dynamo.batch_get(&keys, None).await? {
        let row = StoredDelivery::read(&item).inspect_err(|error| report_unreadable(&item, error));
        let Ok(row) = row else {
            continue;
        };
        if state.is_none_or(|state| row.state == state) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| row.id.endpoint());
    if rows.len() > limit {
        rows.truncate(limit);
        let last = rows.last().map(|row| row.id.endpoint());
        return Ok((rows, last));
    }
    let is_last = looked_at.len() == left.len();
    let last = looked_at.last().filter(|_| !is_last).cloned();
    Ok((rows, last))
}

/// What an attempt changed.
#[derive(Debug)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct AttemptRecord<'a> {
    pub id: &'a DeliveryId,
    /// Its progress before the attempt.
    pub before: Progress,
    /// Attempts kept so far, the oldest first.
    pub kept: &'a [Attempt],
    pub attempt: &'a Attempt,
    /// The delivery's state after the attempt.
    pub state: DeliveryState,
    /// When the next one is due, if the state is pending.
    pub due: Option<Timestamp>,
}

/// Records an attempt, the state and the next due time in one conditional write;
/// false if another worker has recorded the same attempt, or a person has asked
/// for a new round meanwhile, which then begins with that attempt made again. A
/// failure costs one write unit more, for the index of states.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn record(dynamo: &Dynamo, recorded: &AttemptRecord<'_>) -> Result<bool> {
    let drop = (recorded.kept.len() + 1).saturating_sub(ATTEMPTS_KEPT_MAX);
    let attempts = recorded.kept.iter().skip(drop).chain([recorded.attempt]);
    let attempts = attempts.map(write_attempt).collect();
    let mut set = vec!["#state = :state, made = :next, attempts = :attempts"];
    let mut remove = vec!["swept, slot, absent_since"];
    let mut update = guarded(dynamo, recorded.id, recorded.before.attempts_made)
        .condition_expression(format!("{GUARD} and round_start = :round_start"))
        .expression_attribute_values(":round_start", n(recorded.before.round_start))
        .expression_attribute_values(":state", s(recorded.state.as_str()))
        .expression_attribute_values(":next", n(recorded.before.attempts_made + 1))
        .expression_attribute_values(":attempts", AttributeValue::L(attempts));
    match recorded.due {
        Some(due) => {
            set.push("due_sk = :due");
            let due = keys::due_sort(due, recorded.id.as_str());
            update = update.expression_attribute_values(":due", s(due));
        }
        None => remove.push("due_pk, due_sk"),
    }
    match recorded.state {
        // Most are, and most never were in the index.
        DeliveryState::Delivered => remove.push("detail_pk"),
        state => {
            set.push("detail_pk = :in");
            let within = keys::delivery_in(recorded.id, state);
            update = update.expression_attribute_values(":in", s(within));
        }
    }
    let (set, remove) = (set.join(", "), remove.join(", "));
    update_if(update.update_expression(format!("set {set} remove {remove}"))).await
}

/// Moves a pending delivery's due time without an attempt: its endpoint is
/// disabled, or its circuit breaker is open.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn defer(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
    until: Timestamp,
) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            .update_expression("set due_sk = :due, detail_pk = :in remove swept")
            .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Pending)))
            .expression_attribute_values(":due", s(keys::due_sort(until, id.as_str()))),
    )
    .await
}

/// As [`defer`], for a delivery that its endpoint's rate limit has given `slot`:
/// whoever attempts it then need not ask for one.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn defer_for_slot(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
    until: Timestamp,
    slot: Timestamp,
) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            .update_expression("set due_sk = :due, slot = :slot, detail_pk = :in remove swept")
            .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Pending)))
            .expression_attribute_values(":due", s(keys::due_sort(until, id.as_str())))
            .expression_attribute_values(":slot", ms(slot)),
    )
    .await
}

/// As [`defer`], for a delivery whose event or endpoint is not here at `now`, nor was
/// since whatever is noted already.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn defer_missing(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            .update_expression(
                "set due_sk = :due, detail_pk = :in, \
                 absent_since = if_not_exists(absent_since, :now) remove swept",
            )
            .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Pending)))
            .expression_attribute_values(":due", s(keys::due_sort(until, id.as_str())))
            .expression_attribute_values(":now", ms(now)),
    )
    .await
}

/// Moves a pending delivery's due time because its attempt is under way.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn renew_lease(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
    until: Timestamp,
) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            // Swept at least once: a process that starts after a crash knows by this
            // that a queue had it, and need not wait for the lease to end.
            .update_expression("set due_sk = :due, swept = if_not_exists(swept, :one)")
            .expression_attribute_values(":one", n(1))
            .expression_attribute_values(":due", s(keys::due_sort(until, id.as_str()))),
    )
    .await
}

/// Ends a pending delivery without an attempt, in `state`.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn end(
    dynamo: &Dynamo,
    id: &DeliveryId,
    attempts_made: u32,
    state: DeliveryState,
) -> Result<bool> {
    update_if(
        guarded(dynamo, id, attempts_made)
            .update_expression("set #state = :state, detail_pk = :in remove due_pk, due_sk, swept")
            .expression_attribute_values(":in", s(keys::delivery_in(id, state)))
            .expression_attribute_values(":state", s(state.as_str())),
    )
    .await
}

const GUARD: &str = "#state = :pending and made = :made";

/// An update that takes place only while the delivery is pending and attempt
/// `attempts_made` is its next.
fn guarded(dynamo: &Dynamo, id: &DeliveryId, attempts_made: u32) -> UpdateItemFluentBuilder {
    dynamo
        .update(id.event().as_str(), keys::delivery(&id.endpoint()))
        .condition_expression(GUARD)
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":pending", s(DeliveryState::Pending.as_str()))
        .expression_attribute_values(":made", n(attempts_made))
}

/// Begins a new round for a delivery in any state, due at `due`; none if there
/// is no such delivery.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn retry(
    dynamo: &Dynamo,
    id: &DeliveryId,
    due: Timestamp,
) -> Result<Option<StoredDelivery>> {
    let update = new_round(dynamo, id, due)
        .update_expression(format!("{NEW_ROUND}{REMOVE}"))
        .condition_expression("attribute_exists(pk)")
        .return_values(ReturnValue::AllNew);
    match update.send().await {
        Ok(output) => output.attributes().map(StoredDelivery::read).transpose(),
        Err(error) if kind(&error) == DynamoErrorKind::Condition => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

/// What a replay did to one delivery.
#[derive(Debug)]
pub enum ReplayOutcome {
    /// It begins a new round.
    NewRound(Progress),
    /// This replay has begun it before.
    AlreadyReplayed,
    /// It is pending anyway, or not in the state asked for, or a later replay has
    /// begun it.
    NotEligible,
    /// There is no delivery of this event to this endpoint yet.
    Missing,
}

/// Until when work that is not claimed may be in the queue or with a worker, by when it
/// is due: what is due later waits.
#[derive(Debug, Clone, Copy)]
pub struct InHandUntil {
    /// The first attempt of a round.
    pub first: Timestamp,
    /// One that follows another.
    pub retry: Timestamp,
}

/// Which deliveries a replay may take.
#[derive(Debug, Clone, Copy)]
pub enum ReplayFrom<'a> {
    /// Those that have ended.
    Ended,
    /// Those in one of these states, which may be pending; but for those pending whose
    /// attempt may be under way, by `in_hand`: it would be made twice.
    #[expect(missing_docs, reason = "said above")]
    States {
        states: &'a [DeliveryState],
        in_hand: InHandUntil,
    },
}

/// Begins a new round for a delivery that is one of `from`, once per replay `at`.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn replay(
    dynamo: &Dynamo,
    id: &DeliveryId,
    from: ReplayFrom<'_>,
    at: Timestamp,
    due: Timestamp,
) -> Result<ReplayOutcome> {
    let mut update = new_round(dynamo, id, due);
    let is_eligible = match from {
        ReplayFrom::Ended => "#state <> :pending".to_owned(),
        ReplayFrom::States { states, in_hand } => {
            let names: Vec<_> = (0..states.len()).map(|n| format!(":from{n}")).collect();
            let is_among = format!("#state in ({})", names.join(", "));
            for (name, state) in names.into_iter().zip(states) {
                update = update.expression_attribute_values(name, s(state.as_str()));
            }
            if states.contains(&DeliveryState::Pending) {
                update = update
                    .expression_attribute_values(":first", s(keys::due_bound(in_hand.first)))
                    .expression_attribute_values(":retry", s(keys::due_bound(in_hand.retry)));
                format!("{is_among} and {WAITS}")
            } else {
                is_among
            }
        }
    };
    let update = update
        .update_expression(format!("{NEW_ROUND}, replayed = :at{REMOVE}"))
        .condition_expression(format!(
            "attribute_exists(pk) and {is_eligible} \
             and (attribute_not_exists(replayed) or replayed < :at)"
        ))
        .expression_attribute_values(":at", ms(at))
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    match update.send().await {
        Ok(output) => {
            let item = output.attributes().ok_or_else(no_attributes)?;
            Ok(ReplayOutcome::NewRound(
                StoredDelivery::read(item)?.progress,
            ))
        }
        Err(error) if kind(&error) == DynamoErrorKind::Condition => {
            match error.into_service_error() {
                UpdateItemError::ConditionalCheckFailedException(e) => Ok(match e.item() {
                    Some(old) if old.num_opt("replayed") == Some(at.as_millisecond()) => {
                        ReplayOutcome::AlreadyReplayed
                    }
                    Some(_) => ReplayOutcome::NotEligible,
                    None => ReplayOutcome::Missing,
                }),
                other => Err(Error::internal(other)),
            }
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// It is not pending, or nobody has claimed it and it is due later than what may be in
/// a worker's hands.
const WAITS: &str = "(#state <> :pending or (attribute_not_exists(swept) and \
     ((made = round_start and due_sk > :first) or (made <> round_start and due_sk > :retry))))";

const REMOVE: &str = " remove swept, absent_since";
const NEW_ROUND: &str = "set #state = :pending, round_start = made, \
     due_pk = :due_pk, due_sk = :due, detail_pk = :in";

fn new_round(dynamo: &Dynamo, id: &DeliveryId, due: Timestamp) -> UpdateItemFluentBuilder {
    dynamo
        .update(id.event().as_str(), keys::delivery(&id.endpoint()))
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":pending", s(DeliveryState::Pending.as_str()))
        .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Pending)))
        .expression_attribute_values(":due_pk", s(keys::due_of_delivery(id)))
        .expression_attribute_values(":due", s(keys::due_sort(due, id.as_str())))
}

fn no_attributes() -> Error {
    Error::internal(anyhow::anyhow!("an update returned no attributes"))
}
