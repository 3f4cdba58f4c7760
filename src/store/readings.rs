//! Readings in DynamoDB: what meters read of an event, one item beside it, due from
//! the moment it is written until it is counted, then deleted.
//!
//! Written with the event, or by its fan-out where the meters were not known at
//! accept; read and deleted by the meter job. It is never changed, so writing it
//! again and deleting it again do no harm.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::dynamo::{Dynamo, Item, ItemExt, b, ms, n, put_new, s, update_if};
use super::events::StoredEvent;
use super::{batch, due, keys};
use crate::error::{Error, Result};
use crate::model::decimal::Decimal;
use crate::model::id::EventId;
use crate::model::meter::{EventReadings, Measure, Reading, usage_tenant};

pub use super::due::DueItem;

/// Readings about to be written.
#[derive(Debug)]
pub struct NewReadings<'a> {
    pub(super) event: &'a EventId,
    pub(super) tenant: Option<&'a str>,
    pub(super) received: Timestamp,
    pub(super) expires: Timestamp,
    pub(super) metered: &'a EventReadings,
}

impl<'a> NewReadings<'a> {
    /// Readings of a stored event.
    pub fn of_stored(event: &'a StoredEvent, metered: &'a EventReadings) -> Self {
        Self {
            event: &event.id,
            tenant: event.tenant.as_deref(),
            received: event.received,
            expires: event.expires,
            metered,
        }
    }
}

/// The item, unless no meter counts the event.
pub(super) fn new_item(new: &NewReadings<'_>) -> Option<Item> {
    if new.metered.readings.is_empty() {
        return None;
    }
    let mut item = Item::with_capacity(9);
    item.insert("pk".into(), s(new.event.as_str()));
    item.insert("sk".into(), s(keys::READINGS));
    if let Some(tenant) = new.tenant {
        item.insert("tenant".into(), s(usage_tenant(tenant)));
    }
    item.insert("at".into(), ms(new.metered.at));
    item.insert("received".into(), ms(new.received));
    item.insert("ttl".into(), n(new.expires.as_second()));
    let readings = new.metered.readings.iter().map(to_attribute);
    item.insert("readings".into(), AttributeValue::L(readings.collect()));
    item.insert("due_pk".into(), s(keys::due_of_readings(new.event)));
    let due = keys::due_sort(new.received, new.event.as_str());
    item.insert("due_sk".into(), s(due));
    Some(item)
}

fn to_attribute(reading: &Reading) -> AttributeValue {
    let mut map = HashMap::from([("meter".to_owned(), s(reading.meter.as_str()))]);
    map.insert("group".into(), s(&reading.group));
    match &reading.measure {
        Measure::One => {}
        Measure::Number(value) => drop(map.insert("value".into(), s(value.as_str()))),
        Measure::Unique(hash) => drop(map.insert("hash".into(), b(*hash))),
        Measure::Skipped => drop(map.insert("skipped".into(), AttributeValue::Bool(true))),
    }
    AttributeValue::M(map)
}

/// Writes the readings of an event that was kept without them. Doing it again
/// changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put(dynamo: &Dynamo, new: &NewReadings<'_>) -> Result<()> {
    if let Some(item) = new_item(new) {
        put_new(dynamo, item).await?;
    }
    Ok(())
}

/// Readings as they are kept.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct StoredReadings {
    pub event: EventId,
    /// The extension attribute `tenant` of the event.
    pub tenant: Option<String>,
    /// When the event was received.
    pub received: Timestamp,
    /// Until when it is kept.
    pub expires: Timestamp,
    pub metered: EventReadings,
}

impl StoredReadings {
    fn read(item: &Item) -> Result<Self> {
        let Some(AttributeValue::L(list)) = item.get("readings") else {
            return Err(Error::internal(anyhow::anyhow!("readings are no list")));
        };
        let readings = list.iter().filter_map(|value| value.as_m().ok());
        Ok(Self {
            event: item.parse("pk")?,
            tenant: item.str_opt("tenant").map(str::to_owned),
            received: item.time("received")?,
            expires: Timestamp::from_second(item.num("ttl")?).map_err(Error::internal)?,
            metered: EventReadings {
                at: item.time("at")?,
                readings: readings.map(reading).collect::<Result<_>>()?,
            },
        })
    }
}

fn reading(map: &Item) -> Result<Reading> {
    let unreadable = || Error::internal(anyhow::anyhow!("unreadable value of a reading"));
    let measure = if map.contains_key("skipped") {
        Measure::Skipped
    } else if let Some(text) = map.str_opt("value") {
        Measure::Number(Decimal::parse(text).ok_or_else(unreadable)?)
    } else if let Some(hash) = map.bytes_opt("hash") {
        Measure::Unique(hash.try_into().map_err(|_| unreadable())?)
    } else {
        Measure::One
    };
    Ok(Reading {
        meter: map.parse("meter")?,
        measure,
        group: map.str("group")?.to_owned(),
    })
}

/// What is due to be counted or filled back.
#[derive(Debug, Default)]
pub struct DueMetering {
    /// For [`get`].
    pub readings: Vec<DueItem>,
    /// For [`backfills::claim`](super::backfills::claim).
    pub backfills: Vec<DueItem>,
}

/// Up to `limit` things of due partition `shard` that are due at `now`, the
/// oldest first. One query.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn query(
    dynamo: &Dynamo,
    shard: u8,
    now: Timestamp,
    limit: usize,
) -> Result<DueMetering> {
    let due = due::partition(dynamo, &keys::due_to_meter(shard), now, limit, None).await?;
    let due = due.items.into_iter();
    let (backfills, readings) = due.partition(|due| due.sk == keys::BACKFILL);
    Ok(DueMetering {
        readings,
        backfills,
    })
}

/// Readings that are due and still there.
#[derive(Debug)]
pub struct LoadedReadings<'a> {
    /// Those to be counted.
    pub readable: Vec<StoredReadings>,
    /// Those that this version cannot read; logged.
    pub unreadable: Vec<&'a DueItem>,
}

/// The readings that are due and still there. One read for each hundred.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get<'a>(dynamo: &Dynamo, due: &'a [DueItem]) -> Result<LoadedReadings<'a>> {
    let wanted = due.iter().map(|due| (due.pk.clone(), due.sk.clone()));
    let wanted: Vec<_> = wanted.collect();
    // What was read of an event is counted, however late.
    let items = dynamo.batch_get_with_expired(&wanted, None).await?;
    let (mut readable, mut unreadable) = (Vec::with_capacity(items.len()), Vec::new());
    for item in &items {
        match StoredReadings::read(item) {
            Ok(readings) => readable.push(readings),
            Err(error) => {
                let pk = item.str("pk")?;
                let cause = error.causes();
                tracing::error!(event.id = pk, %error, cause, "meter readings unreadable");
                unreadable.extend(due.iter().find(|due| due.pk == pk));
            }
        }
    }
    Ok(LoadedReadings {
        readable,
        unreadable,
    })
}

/// Deletes readings that are counted. Doing it again changes nothing.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer: they are then counted
/// again, to no effect, and deleted later.
pub async fn delete(dynamo: &Dynamo, events: &[&EventId]) -> Result<()> {
    let keys = events.iter().map(|event| (event.as_str(), keys::READINGS));
    batch::delete(dynamo, keys).await
}

/// Makes readings due only at `later`, so that they are in nobody's way.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn postpone(dynamo: &Dynamo, event: &str, later: Timestamp) -> Result<()> {
    let update = dynamo
        .update(event, keys::READINGS)
        .update_expression("set due_sk = :later")
        .condition_expression("attribute_exists(due_pk)")
        .expression_attribute_values(":later", s(keys::due_sort(later, event)));
    update_if(update).await?;
    Ok(())
}
