//! The item of a delivery: as a new one is written, and as it is read.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::sent;
use crate::error::{Error, Result};
use crate::model::delivery::{Attempt, DeliveryState, Progress};
use crate::model::id::{DeliveryId, EndpointId, EventId, ProjectId};
use crate::store::dynamo::{Item, ItemExt, ms, n, s};
use crate::store::events::{EventRow, StoredEvent};
use crate::store::keys;

/// A delivery about to be written.
#[derive(Debug)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct NewDelivery<'a> {
    pub event: &'a EventId,
    pub endpoint: &'a EndpointId,
    pub project: &'a ProjectId,
    pub event_type: &'a str,
    /// The extension attribute `tenant` of its event.
    pub tenant: Option<&'a str>,
    pub created: Timestamp,
    /// From when on DynamoDB may delete it, with its event.
    pub expires: Timestamp,
    /// When the sweeper enqueues it, unless a worker is done first.
    pub due: Timestamp,
}

impl<'a> NewDelivery<'a> {
    /// A delivery of a stored event.
    pub fn of_stored(
        event: &'a StoredEvent,
        endpoint: &'a EndpointId,
        created: Timestamp,
        due: Timestamp,
    ) -> Self {
        Self {
            event: &event.id,
            endpoint,
            project: &event.project,
            event_type: &event.event_type,
            tenant: event.tenant.as_deref(),
            created,
            expires: event.expires,
            due,
        }
    }

    /// A delivery of a listed event of `project`.
    pub fn of_listed(
        project: &'a ProjectId,
        event: &'a EventRow,
        endpoint: &'a EndpointId,
        created: Timestamp,
        due: Timestamp,
    ) -> Self {
        Self {
            event: &event.id,
            endpoint,
            project,
            event_type: &event.event_type,
            tenant: event.tenant.as_deref(),
            created,
            expires: event.expires,
            due,
        }
    }

    fn id(&self) -> DeliveryId {
        DeliveryId::new(self.event, self.endpoint)
    }
}

pub(in crate::store) fn new_item(new: &NewDelivery<'_>) -> Item {
    let mut item = Item::with_capacity(14);
    item.insert("pk".into(), s(new.event.as_str()));
    item.insert("sk".into(), s(keys::delivery(new.endpoint)));
    item.insert("project".into(), s(new.project.as_str()));
    item.insert("type".into(), s(new.event_type));
    if let Some(tenant) = new.tenant {
        item.insert("tenant".into(), s(tenant));
    }
    item.insert("state".into(), s(DeliveryState::Pending.as_str()));
    item.insert("made".into(), n(0));
    item.insert("round_start".into(), n(0));
    item.insert("created".into(), ms(new.created));
    item.insert("ttl".into(), n(new.expires.as_second()));
    let id = new.id();
    let shard = keys::timeline_shard(new.event);
    item.insert(
        "tl_pk".into(),
        s(keys::timeline_of_endpoint(new.endpoint, shard)),
    );
    item.insert(
        "tl_sk".into(),
        s(keys::timeline_sort(new.created, new.event)),
    );
    item.insert("due_pk".into(), s(keys::due_of_delivery(&id)));
    item.insert("due_sk".into(), s(keys::due_sort(new.due, id.as_str())));
    item
}

/// A delivery as it is kept.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct StoredDelivery {
    pub id: DeliveryId,
    pub project: ProjectId,
    /// The CloudEvents `type` of its event.
    pub event_type: String,
    /// The extension attribute `tenant` of its event.
    pub tenant: Option<String>,
    pub state: DeliveryState,
    pub progress: Progress,
    /// The latest attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// When it was first written.
    pub created: Timestamp,
    /// When the next attempt is due; while one is queued, a little later. Whoever took it
    /// up has it until then.
    pub due: Option<Timestamp>,
    /// It failed for good, and the operational event that says so is yet to be published.
    pub owes_notice: bool,
    /// When its endpoint's rate limit has a place for it, if it was given one.
    pub slot: Option<Timestamp>,
    /// Since when its event or its endpoint is looked for and not here.
    pub missing_since: Option<Timestamp>,
    /// From when on DynamoDB may delete it, with its event.
    pub expires: Option<Timestamp>,
    /// It was made long after its event, or held back for its endpoint's sake: how late
    /// its next attempt is says nothing.
    pub is_untimed: bool,
}

impl StoredDelivery {
    pub(super) fn read(item: &Item) -> Result<Self> {
        let state = item.parse("state")?;
        let due = item.str_opt("due_sk").and_then(keys::time_of_sort);
        let made = u32::try_from(item.num("made")?).map_err(Error::internal)?;
        Ok(Self {
            id: id_of(item)?,
            project: item.parse("project")?,
            event_type: item.str("type")?.to_owned(),
            tenant: item.str_opt("tenant").map(str::to_owned),
            state,
            progress: Progress {
                attempts_made: made,
                round_start: u32::try_from(item.num("round_start")?).map_err(Error::internal)?,
            },
            attempts: read_attempts(item, made)?,
            created: item.time("created")?,
            due: due.filter(|_| state == DeliveryState::Pending),
            owes_notice: due.is_some() && state == DeliveryState::Failed,
            slot: item
                .num_opt("slot")
                .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            missing_since: item
                .num_opt("absent_since")
                .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            expires: item
                .num_opt("ttl")
                .and_then(|s| Timestamp::from_second(s).ok()),
            is_untimed: item.contains_key("untimed"),
        })
    }
}

/// The delivery that an item or index row is about.
pub(super) fn id_of(item: &Item) -> Result<DeliveryId> {
    let (pk, sk) = (item.str("pk")?, item.str("sk")?);
    keys::delivery_of(pk, sk)
        .ok_or_else(|| Error::internal(anyhow::anyhow!("{pk} {sk} is the key of no delivery")))
}

fn read_attempts(item: &Item, made: u32) -> Result<Vec<Attempt>> {
    let Some(AttributeValue::L(list)) = item.get("attempts") else {
        return Ok(vec![]);
    };
    let maps = list.iter().filter_map(|value| value.as_m().ok());
    let mut attempts: Vec<_> = maps.map(read_attempt).collect::<Result<_>>()?;
    sent::read(item, made, &mut attempts);
    Ok(attempts)
}

fn read_attempt(map: &Item) -> Result<Attempt> {
    Ok(Attempt {
        at: map.time("at")?.into(),
        duration_ms: u64::try_from(map.num("duration_ms")?).map_err(Error::internal)?,
        status: map
            .num_opt("status")
            .and_then(|status| u16::try_from(status).ok()),
        error: map.str_opt("error").map(str::to_owned),
        response: map.str_opt("response").map(str::to_owned),
        sent: None,
    })
}

pub(super) fn write_attempt(attempt: &Attempt) -> AttributeValue {
    let mut map = HashMap::with_capacity(5);
    map.insert("at".into(), ms(attempt.at.0));
    map.insert(
        "duration_ms".into(),
        n(i64::try_from(attempt.duration_ms).unwrap_or(i64::MAX)),
    );
    if let Some(status) = attempt.status {
        map.insert("status".into(), n(status));
    }
    for (name, text) in [("error", &attempt.error), ("response", &attempt.response)] {
        if let Some(text) = text {
            map.insert(name.into(), s(text));
        }
    }
    AttributeValue::M(map)
}
