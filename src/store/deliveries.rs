//! Deliveries in DynamoDB: below their event, with a due time while pending, and
//! in the index of their state once that is failed, canceled or late.

mod item;
mod lease;
mod list;
mod sent;

use std::borrow::Cow;

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;

pub(super) use self::item::new_item;
use self::item::write_attempt;
pub use self::item::{NewDelivery, StoredDelivery};
use self::lease::{GUARD, guarded};
pub use self::lease::{
    HeldLease, defer, defer_for_slot, defer_missing, defer_timed, hold_back, renew_lease,
};
use self::list::report_unreadable;
pub use self::list::{
    DeliveryFilter, DeliveryIdScan, DeliveryPage, Receivers, list, missing, scan_ids,
};
use super::dynamo::{
    self, Conditional, Dynamo, Item, ItemExt, KEPT, has_expired, ms, n, now_s, s, unavailable,
    update_if, update_or_seen,
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

/// As [`put_new`], long after the delivery's event: how late its first attempt is says
/// nothing of this service.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put_late(dynamo: &Dynamo, new: &NewDelivery<'_>) -> Result<bool> {
    let mut item = new_item(new);
    item.insert("untimed".into(), n(1));
    dynamo::put_new(dynamo, item).await
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

/// The delivery `id`, or none, and its event, or none, though they have expired: what is
/// left to do for them ends. One call, two consistent reads.
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
    let now = Timestamp::now();
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
            if item.str("sk")? == after || has_expired(item, now) {
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
#[derive(Debug, Clone, Copy)]
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
    /// When the next one is due, if the state is pending; if it is failed, when the
    /// operational event that says so is published at the latest, if one is to be.
    pub due: Option<Timestamp>,
}

/// What became of the record of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It is written.
    Recorded,
    /// It was written before, by a call whose answer was lost.
    RecordedBefore,
    /// Another worker has recorded the same attempt, or a person has asked for a new
    /// round meanwhile, which then begins with that attempt made again.
    Superseded,
}

/// Records an attempt, the state and the next due time in one conditional write, and
/// tells the attempt that is recorded already from another's: it may be called until it
/// answers. A failure costs one write unit more, for the index of states.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer: it may have taken place.
pub async fn record(dynamo: &Dynamo, recorded: &AttemptRecord<'_>) -> Result<RecordOutcome> {
    let update = record_update(dynamo, recorded);
    Ok(match update_or_seen(update).await? {
        Conditional::Done(_) => RecordOutcome::Recorded,
        Conditional::Refused(Some(seen)) if keeps(&seen, recorded) => RecordOutcome::RecordedBefore,
        Conditional::Refused(_) => RecordOutcome::Superseded,
    })
}

/// Whether `item` keeps the very attempt: its time to the millisecond, what it took and
/// what was answered.
fn keeps(item: &Item, recorded: &AttemptRecord<'_>) -> bool {
    let attempt = write_attempt(recorded.attempt);
    match item.get("attempts") {
        Some(AttributeValue::L(kept)) => kept.contains(&attempt),
        _ => false,
    }
}

fn record_update(dynamo: &Dynamo, recorded: &AttemptRecord<'_>) -> UpdateItemFluentBuilder {
    let drop = (recorded.kept.len() + 1).saturating_sub(ATTEMPTS_KEPT_MAX);
    let attempts = recorded.kept.iter().skip(drop).chain([recorded.attempt]);
    let attempts: Vec<_> = attempts.collect();
    let made = recorded.before.attempts_made + 1;
    let headers = sent::write(&attempts, made);
    let attempts = attempts.into_iter().map(write_attempt).collect();
    let mut set = vec!["#state = :state, made = :next, attempts = :attempts"];
    let mut remove = vec!["swept, slot, absent_since, untimed"];
    let mut update = guarded(dynamo, recorded.id, recorded.before.attempts_made)
        .condition_expression(format!("{GUARD} and round_start = :round_start"))
        .expression_attribute_values(":round_start", n(recorded.before.round_start))
        .expression_attribute_values(":state", s(recorded.state.as_str()))
        .expression_attribute_values(":next", n(made))
        .expression_attribute_values(":attempts", AttributeValue::L(attempts));
    if let Some(headers) = headers {
        set.push("sent = :sent");
        update = update.expression_attribute_values(":sent", headers);
    }
    match recorded.due {
        Some(due) => {
            set.push("due_sk = :due");
            let due = keys::due_sort(due, &subject(recorded));
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
    update.update_expression(format!("set {set} remove {remove}"))
}

/// What the due sort key names of what is left to do after an attempt.
fn subject(recorded: &AttemptRecord<'_>) -> Cow<'static, str> {
    match recorded.state {
        DeliveryState::Failed => keys::notice_subject(recorded.id).into(),
        _ => recorded.id.to_string().into(),
    }
}

/// Notes that the operational event which says that a delivery failed for good is
/// published: nothing is left to do for it. False if a person has begun another round.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn clear_notice(dynamo: &Dynamo, id: &DeliveryId, attempts_made: u32) -> Result<bool> {
    let update = dynamo
        .update(id.event().as_str(), keys::delivery(&id.endpoint()))
        // An older version that claimed it took it for a pending one.
        .update_expression("set detail_pk = :in remove due_pk, due_sk, swept")
        .condition_expression("#state = :failed and made = :made and attribute_exists(due_pk)")
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":failed", s(DeliveryState::Failed.as_str()))
        .expression_attribute_values(":made", n(attempts_made))
        .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Failed)));
    update_if(update).await
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
        .condition_expression(KEPT)
        .return_values(ReturnValue::AllNew);
    let begun = match update_or_seen(update).await? {
        Conditional::Done(item) => item,
        Conditional::Refused(_) => None,
    };
    begun.as_ref().map(StoredDelivery::read).transpose()
}

/// What a replay did to one delivery.
#[derive(Debug)]
pub enum ReplayOutcome {
    /// It begins a new round.
    NewRound(Progress),
    /// This replay has begun it before.
    AlreadyReplayed,
    /// It is pending anyway, or not in the state asked for.
    NotEligible,
    /// A replay has begun it whose time is later, at this: one that was asked for after
    /// this one, or before it by a clock that is ahead. See [`replay_after`].
    BegunByLater(Timestamp),
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
    let is_next = "(attribute_not_exists(replayed) or replayed < :at)";
    let update = replay_update(dynamo, id, from, at, due, is_next);
    replay_outcome(update, at, due).await
}

/// As [`replay`], in place of the replay `later`, which [`replay`] has found to have begun
/// it: for whoever knows that this one was asked for after it, or does not mind.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn replay_after(
    dynamo: &Dynamo,
    id: &DeliveryId,
    from: ReplayFrom<'_>,
    at: Timestamp,
    due: Timestamp,
    later: Timestamp,
) -> Result<ReplayOutcome> {
    let update = replay_update(dynamo, id, from, at, due, "replayed = :later")
        .expression_attribute_values(":later", ms(later));
    replay_outcome(update, at, due).await
}

fn replay_update(
    dynamo: &Dynamo,
    id: &DeliveryId,
    from: ReplayFrom<'_>,
    at: Timestamp,
    due: Timestamp,
    is_next: &str,
) -> UpdateItemFluentBuilder {
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
    update
        .update_expression(format!("{NEW_ROUND}, replayed = :at{REMOVE}"))
        .condition_expression(format!("{KEPT} and {is_eligible} and {is_next}"))
        .expression_attribute_values(":at", ms(at))
        .return_values(ReturnValue::AllNew)
}

async fn replay_outcome(
    update: UpdateItemFluentBuilder,
    at: Timestamp,
    due: Timestamp,
) -> Result<ReplayOutcome> {
    let old = match update_or_seen(update).await? {
        Conditional::Done(item) => {
            let item = item.ok_or_else(no_attributes)?;
            let progress = StoredDelivery::read(&item)?.progress;
            return Ok(ReplayOutcome::NewRound(progress));
        }
        Conditional::Refused(old) => old.filter(|old| !has_expired(old, Timestamp::now())),
    };
    let Some(old) = old else {
        return Ok(ReplayOutcome::Missing);
    };
    let stored = StoredDelivery::read(&old)?;
    let replayed = old.num_opt("replayed");
    if replayed == Some(at.as_millisecond()) {
        // By this very write, if its answer was lost: its job is yet to be sent.
        let is_own = stored.due.map(Timestamp::as_millisecond) == Some(due.as_millisecond());
        return Ok(match is_own {
            true => ReplayOutcome::NewRound(stored.progress),
            false => ReplayOutcome::AlreadyReplayed,
        });
    }
    let later = replayed.filter(|replayed| *replayed > at.as_millisecond());
    let later = later.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(match later {
        Some(later) => ReplayOutcome::BegunByLater(later),
        None => ReplayOutcome::NotEligible,
    })
}

/// It is not pending, or nobody has claimed it and it is due later than what may be in
/// a worker's hands.
const WAITS: &str = "(#state <> :pending or (attribute_not_exists(swept) and \
     ((made = round_start and due_sk > :first) or (made <> round_start and due_sk > :retry))))";

const REMOVE: &str = " remove swept, slot, absent_since";
const NEW_ROUND: &str = "set #state = :pending, round_start = made, \
     due_pk = :due_pk, due_sk = :due, detail_pk = :in";

fn new_round(dynamo: &Dynamo, id: &DeliveryId, due: Timestamp) -> UpdateItemFluentBuilder {
    dynamo
        .update(id.event().as_str(), keys::delivery(&id.endpoint()))
        .expression_attribute_names("#state", "state")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(Timestamp::now()))
        .expression_attribute_values(":pending", s(DeliveryState::Pending.as_str()))
        .expression_attribute_values(":in", s(keys::delivery_in(id, DeliveryState::Pending)))
        .expression_attribute_values(":due_pk", s(keys::due_of_delivery(id)))
        .expression_attribute_values(":due", s(keys::due_sort(due, id.as_str())))
}

fn no_attributes() -> Error {
    Error::internal(anyhow::anyhow!("an update returned no attributes"))
}
