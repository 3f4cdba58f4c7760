//! The write that accepts an event: the event, its deliveries and what meters read
//! of it, all or nothing.
//!
//! Stands above the stores of the three: what each item holds is theirs.

use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use jiff::Timestamp;

use super::deliveries::{self, NewDelivery};
use super::dynamo::{self, Conditional, Dynamo, FREE, Item, NONCE, nonce, now_s};
use super::events::{self, NewEvent};
use super::readings::{self, NewReadings};
use super::transact::{self, TransactOutcome};
use crate::error::{Error, Result};
use crate::model::id::EndpointId;
use crate::model::meter::EventReadings;

/// Endpoints up to which an event and its deliveries are written in one
/// transaction; beyond, a fan-out job writes them. DynamoDB would allow 99, at
/// twice the write units of single puts: from four endpoints on, a step between is
/// cheaper, and up to here that is not worth its time.
pub const INLINE_DELIVERIES_MAX: usize = 10;

/// What becomes of an event's deliveries at accept.
#[derive(Debug)]
pub enum Plan<'a> {
    /// Written with it, due at the given time unless a worker is done first.
    Inline(&'a [EndpointId], Timestamp),
    /// Left to a fan-out job, due at the given time.
    FanOut(Timestamp),
}

/// How accepting an event ended.
#[derive(Debug, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// It was not there, or was there beyond its retention, and is durable now.
    New,
    /// It was already there with the same content; its `time` and its trace may be
    /// others.
    Duplicate,
    /// It was already there with other content: what differs, by name.
    Conflict(Vec<String>),
}

/// Keeps an event, what meters read of it, and its planned deliveries: one call,
/// all or nothing.
///
/// Idempotent by the event's id: a second call changes nothing and says whether
/// the content is the same; a second request of one call, whose first answer was lost,
/// is known by its nonce. Cost: 1 write unit a KB with neither deliveries nor
/// readings; twice that for the event, the readings and each delivery otherwise;
/// plus, for the indexes, two for the event, one more if it has a tenant and one if
/// it has a subject, one for the readings, and two for each delivery.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer, refuses or throttles;
/// the event may then be kept all the same, and publishing it again tells.
pub async fn accept(dynamo: &Dynamo, new: &NewEvent<'_>, plan: &Plan<'_>) -> Result<AcceptOutcome> {
    let (fan_out_due, mut others) = match plan {
        Plan::FanOut(due) => (Some(*due), vec![]),
        Plan::Inline(endpoints, due) => {
            let rows = endpoints.iter();
            let rows = rows.map(|endpoint| deliveries::new_item(&delivery(new, endpoint, *due)));
            (None, rows.collect())
        }
    };
    if let Some(metered) = &new.metered {
        others.extend(readings::new_item(&readings_of(new, metered)));
    }
    let event = events::new_item(new, fan_out_due);
    if others.is_empty() {
        put(dynamo, new, event).await
    } else {
        put_with(dynamo, new, event, others).await
    }
}

fn delivery<'a>(new: &NewEvent<'a>, endpoint: &'a EndpointId, due: Timestamp) -> NewDelivery<'a> {
    NewDelivery {
        event: new.id,
        endpoint,
        project: new.project,
        event_type: new.event.event_type(),
        tenant: new.event.tenant(),
        created: new.received,
        expires: new.expires,
        due,
    }
}

fn readings_of<'a>(new: &NewEvent<'a>, metered: &'a EventReadings) -> NewReadings<'a> {
    NewReadings {
        event: new.id,
        tenant: new.event.tenant(),
        received: new.received,
        expires: new.expires,
        metered,
    }
}

async fn put(dynamo: &Dynamo, new: &NewEvent<'_>, item: Item) -> Result<AcceptOutcome> {
    let put = dynamo
        .client
        .put_item()
        .table_name(&dynamo.table)
        .set_item(Some(item))
        .condition_expression(FREE)
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(new.received));
    match dynamo::put_once(put, &nonce()).await? {
        Conditional::Done(()) => Ok(AcceptOutcome::New),
        Conditional::Refused(old) => compare(old.as_ref(), new),
    }
}

async fn put_with(
    dynamo: &Dynamo,
    new: &NewEvent<'_>,
    mut event: Item,
    others: Vec<Item>,
) -> Result<AcceptOutcome> {
    let nonce = nonce();
    event.insert(NONCE.into(), nonce.clone());
    let mut puts = Vec::with_capacity(others.len() + 1);
    let put = Put::builder()
        .table_name(&dynamo.table)
        .set_item(Some(event))
        .condition_expression(FREE)
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":now_s", now_s(new.received))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    puts.push(transact_put(put)?);
    for item in others {
        let put = Put::builder().table_name(&dynamo.table);
        puts.push(transact_put(put.set_item(Some(item)))?);
    }
    match transact::transact(dynamo, puts).await? {
        TransactOutcome::Committed => Ok(AcceptOutcome::New),
        TransactOutcome::ConditionFailed(old) if is_by(old.as_ref(), &nonce) => {
            Ok(AcceptOutcome::New)
        }
        TransactOutcome::ConditionFailed(old) => compare(old.as_ref(), new),
    }
}

/// Whether what is there was written by the request with this nonce.
fn is_by(old: Option<&Item>, nonce: &AttributeValue) -> bool {
    old.is_some_and(|old| old.get(NONCE) == Some(nonce))
}

fn transact_put(put: PutBuilder) -> Result<TransactWriteItem> {
    let put = put.build().map_err(Error::internal)?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn compare(old: Option<&Item>, new: &NewEvent<'_>) -> Result<AcceptOutcome> {
    let old = old.ok_or_else(|| {
        Error::internal(anyhow::anyhow!(
            "a failed condition came without the old item"
        ))
    })?;
    let differences = events::differences(old, new.event)?;
    Ok(if differences.is_empty() {
        AcceptOutcome::Duplicate
    } else {
        AcceptOutcome::Conflict(differences)
    })
}
