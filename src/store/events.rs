//! Events in DynamoDB: written once, under a condition; read back in full or as a
//! page of a timeline.

use std::collections::{HashMap, HashSet};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{
    self, Dynamo, Item, ItemExt, KEPT, b, ms, n, now_s, s, update_if, update_once,
};
use super::keys::{self, Listing};
use super::timeline::{self, IndexPartition, TimelineRange};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::event::{self, Event};
use crate::model::filter::TypePattern;
use crate::model::id::{EndpointId, EventId, ProjectId};
use crate::model::meter::EventReadings;

/// An event about to be kept.
#[derive(Debug)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct NewEvent<'a> {
    /// Derived from project, source and CloudEvent id.
    pub id: &'a EventId,
    pub project: &'a ProjectId,
    pub event: &'a Event,
    pub received: Timestamp,
    /// From when on DynamoDB may delete it: the end of its retention.
    pub expires: Timestamp,
    /// What meters read of it; none while it is not known which there are.
    pub metered: Option<EventReadings>,
}

/// The item of `new`; with `fan_out_due`, its fan-out is left to a job.
pub(super) fn new_item(new: &NewEvent<'_>, fan_out_due: Option<Timestamp>) -> Item {
    let event = new.event;
    let mut item = Item::with_capacity(16);
    item.insert("pk".into(), s(new.id.as_str()));
    item.insert("sk".into(), s(keys::EVENT));
    item.insert("project".into(), s(new.project.as_str()));
    for (name, value) in event.listed() {
        item.insert(name.into(), s(value));
    }
    item.insert("received".into(), ms(new.received));
    let body = String::from_utf8(event.body().to_vec()).expect("a CloudEvent's JSON is UTF-8");
    item.insert("body".into(), s(body));
    item.insert("fp".into(), b(*event.fingerprint()));
    item.insert("ttl".into(), n(new.expires.as_second()));
    let shard = keys::timeline_shard(new.id);
    item.insert(
        "tl_pk".into(),
        s(keys::timeline_of_project(new.project, shard)),
    );
    item.insert("tl_sk".into(), s(keys::timeline_sort(new.received, new.id)));
    let facets = [
        (Listing::Type, Some(event.event_type())),
        (Listing::Tenant, event.tenant()),
        (Listing::Detail, event.subject()),
    ];
    for (listing, value) in facets {
        if let Some(value) = value {
            let partition = keys::events_by(listing, new.project, value, shard);
            item.insert(listing.attribute().into(), s(partition));
        }
    }
    if let Some(due) = fan_out_due {
        item.insert("fan".into(), s(PendingFanOut::New.to_text()));
        item.insert("due_pk".into(), s(keys::due_of_event(new.id)));
        item.insert("due_sk".into(), s(keys::due_sort(due, new.id.as_str())));
        if new.metered.is_some() {
            item.insert("metered".into(), AttributeValue::Bool(true));
        }
    }
    item
}

/// What differs between the event in `item` and `again`, by name: see
/// [`event::differences`].
pub(super) fn differences(item: &Item, again: &Event) -> Result<Vec<String>> {
    if item.bytes_opt("fp") == Some(again.fingerprint().as_slice()) {
        return Ok(vec![]);
    }
    event::differences(&StoredEvent::read(item)?.event()?, again)
}

/// An event as it was kept.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct StoredEvent {
    pub id: EventId,
    pub project: ProjectId,
    pub event_type: String,
    /// The extension attribute `tenant`.
    pub tenant: Option<String>,
    pub received: Timestamp,
    /// From when on DynamoDB may delete it.
    pub expires: Timestamp,
    /// The CloudEvent in structured mode.
    pub body: Bytes,
    /// The fan-out that is left to do.
    pub pending_fan_out: Option<PendingFanOut>,
    /// Meters have read it, or none counts it.
    pub is_metered: bool,
    fingerprint: [u8; 32],
}

impl StoredEvent {
    pub(super) fn read(item: &Item) -> Result<Self> {
        Ok(Self {
            id: item.parse("pk")?,
            project: item.parse("project")?,
            event_type: item.str("type")?.to_owned(),
            tenant: item.str_opt("tenant").map(str::to_owned),
            received: item.time("received")?,
            expires: Timestamp::from_second(item.num("ttl")?).map_err(Error::internal)?,
            body: event::with_json_data(Bytes::copy_from_slice(item.str("body")?.as_bytes())),
            pending_fan_out: item
                .str_opt("fan")
                .map(PendingFanOut::from_text)
                .transpose()?,
            is_metered: item.contains_key("metered"),
            fingerprint: item
                .bytes_opt("fp")
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| Error::internal(anyhow::anyhow!("an event without fp")))?,
        })
    }

    /// The CloudEvent that its body is.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be read, which is a defect.
    pub fn event(&self) -> Result<Event> {
        Event::from_stored(self.body.clone(), self.fingerprint)
    }
}

/// A fan-out an event is waiting for, kept with it until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingFanOut {
    /// The first one: deliveries that are not there yet.
    New,
    /// A replay: deliveries begin a new round, once per replay.
    Replay {
        /// When it was asked for; also its name.
        at: Timestamp,
        /// To this endpoint only.
        only: Option<EndpointId>,
    },
    /// A replay to the endpoints of the event's own tenant: a key that is for that one
    /// alone has asked for it. A version that does not know it leaves it to others.
    ReplayToTenant {
        /// When it was asked for; also its name.
        at: Timestamp,
    },
}

/// What stands for the event's tenant in place of an endpoint.
const TO_TENANT: &str = "tenant";

impl PendingFanOut {
    fn to_text(&self) -> String {
        match self {
            Self::New => "new".into(),
            Self::Replay { at, only: None } => format!("replay#{}", at.as_millisecond()),
            Self::Replay {
                at,
                only: Some(endpoint),
            } => {
                format!("replay#{}#{endpoint}", at.as_millisecond())
            }
            Self::ReplayToTenant { at } => format!("replay#{}#{TO_TENANT}", at.as_millisecond()),
        }
    }

    /// When a replay was asked for; none of the first fan-out.
    pub fn replayed_at(&self) -> Option<Timestamp> {
        match self {
            Self::New => None,
            Self::Replay { at, .. } | Self::ReplayToTenant { at } => Some(*at),
        }
    }

    fn from_text(text: &str) -> Result<Self> {
        let unreadable = || Error::internal(anyhow::anyhow!("unreadable fan-out {text:?}"));
        if text == "new" {
            return Ok(Self::New);
        }
        let rest = text.strip_prefix("replay#").ok_or_else(unreadable)?;
        let (at, to) = match rest.split_once('#') {
            Some((at, to)) => (at, Some(to)),
            None => (rest, None),
        };
        let at = at
            .parse()
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let at = at.ok_or_else(unreadable)?;
        if to == Some(TO_TENANT) {
            return Ok(Self::ReplayToTenant { at });
        }
        let only = to.map(str::parse).transpose().map_err(Error::internal)?;
        Ok(Self::Replay { at, only })
    }
}

/// The event `id`, or none. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get(dynamo: &Dynamo, id: &EventId) -> Result<Option<StoredEvent>> {
    let item = dynamo.get(id.as_str(), keys::EVENT).await?;
    item.as_ref().map(StoredEvent::read).transpose()
}

/// As [`get`], though it has expired.
///
/// # Errors
/// As [`get`].
pub async fn get_with_expired(dynamo: &Dynamo, id: &EventId) -> Result<Option<StoredEvent>> {
    let item = dynamo.get_with_expired(id.as_str(), keys::EVENT).await?;
    item.as_ref().map(StoredEvent::read).transpose()
}

/// The event `id`, if `access` reaches it. One consistent read.
///
/// # Errors
/// [`Error::NotFound`] if there is none, or it is another project's or tenant's;
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get_of(dynamo: &Dynamo, access: &Access, id: &EventId) -> Result<StoredEvent> {
    let event = get(dynamo, id).await?;
    let own = event.filter(|event| access.covers_in(&event.project, event.tenant.as_deref()));
    own.ok_or_else(|| Error::not_found("event", id))
}

/// Where an event lies in time: what is known of one of which the rest cannot be read.
#[derive(Debug)]
pub struct EventPlace {
    /// Which it is.
    pub id: EventId,
    /// When it came.
    pub received: Timestamp,
}

impl EventPlace {
    /// Of an index row.
    fn read(item: &Item) -> Result<Self> {
        let sort = item.str("tl_sk")?;
        Ok(Self {
            id: item.parse("pk")?,
            received: keys::time_of_sort(sort)
                .ok_or_else(|| Error::internal(anyhow::anyhow!("unreadable tl_sk {sort:?}")))?,
        })
    }
}

/// The place of the event `id`, or none, whatever else its item says. One consistent
/// read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn place(dynamo: &Dynamo, id: &EventId) -> Result<Option<EventPlace>> {
    let item = dynamo.get(id.as_str(), keys::EVENT).await?;
    let received = item.map(|item| item.time("received")).transpose()?;
    Ok(received.map(|received| EventPlace {
        id: id.clone(),
        received,
    }))
}

/// As [`place`], if `access` reaches the event.
///
/// # Errors
/// As [`get_of`].
pub async fn place_of(dynamo: &Dynamo, access: &Access, id: &EventId) -> Result<EventPlace> {
    let item = dynamo.get(id.as_str(), keys::EVENT).await?;
    let missing = || Error::not_found("event", id);
    let item = item.ok_or_else(missing)?;
    if !access.covers_in(&item.parse("project")?, item.str_opt("tenant")) {
        return Err(missing());
    }
    Ok(EventPlace {
        id: id.clone(),
        received: item.time("received")?,
    })
}

/// Whether `event` is kept already, as `id`. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn is_kept(dynamo: &Dynamo, id: &EventId, event: &Event) -> Result<bool> {
    let item = dynamo.get(id.as_str(), keys::EVENT).await?;
    let differences = item.map(|item| differences(&item, event)).transpose()?;
    Ok(differences.is_some_and(|differences| differences.is_empty()))
}

/// Clears the fan-out `fan_out` of an event; false if another has taken its place, or
/// the event is gone.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn clear_fan_out(dynamo: &Dynamo, id: &EventId, fan_out: &PendingFanOut) -> Result<bool> {
    let update = dynamo
        .update(id.as_str(), keys::EVENT)
        .update_expression("remove fan, due_pk, due_sk, swept")
        .condition_expression("fan = :fan")
        .expression_attribute_values(":fan", s(fan_out.to_text()));
    update_if(update).await
}

/// Asks for a replay of an event at `now`: durable once this returns. False when the
/// event is not there, or still waits for a fan-out or an earlier replay.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn request_replay(
    dynamo: &Dynamo,
    id: &EventId,
    fan_out: &PendingFanOut,
    now: Timestamp,
    due: Timestamp,
) -> Result<bool> {
    update_once(
        dynamo
            .update(id.as_str(), keys::EVENT)
            .update_expression("set fan = :fan, due_pk = :due_pk, due_sk = :due_sk remove swept")
            .condition_expression(format!("{KEPT} and attribute_not_exists(fan)"))
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":now_s", now_s(now))
            .expression_attribute_values(":fan", s(fan_out.to_text()))
            .expression_attribute_values(":due_pk", s(keys::due_of_event(id)))
            .expression_attribute_values(":due_sk", s(keys::due_sort(due, id.as_str()))),
        |seen| seen.str_opt("fan") == Some(&*fan_out.to_text()),
    )
    .await
}

/// An event in a list: what the timeline index has of it.
#[derive(Debug)]
#[expect(missing_docs, reason = "attributes of the index")]
pub struct EventRow {
    pub id: EventId,
    pub received: Timestamp,
    /// The CloudEvents `id`, which the publisher gave.
    pub ce_id: String,
    pub event_type: String,
    pub source: String,
    pub subject: Option<String>,
    /// The extension attribute `tenant`.
    pub tenant: Option<String>,
    /// The CloudEvents `time`, as its publisher wrote it.
    pub time: Option<String>,
    /// From when on DynamoDB may delete it.
    pub expires: Timestamp,
}

impl EventRow {
    fn read(item: &Item) -> Result<Self> {
        let EventPlace { id, received } = EventPlace::read(item)?;
        Ok(Self {
            id,
            received,
            ce_id: item.str("ce_id")?.to_owned(),
            event_type: item.str("type")?.to_owned(),
            source: item.str("source")?.to_owned(),
            subject: item.str_opt("subject").map(str::to_owned),
            tenant: item.str_opt("tenant").map(str::to_owned),
            time: item.str_opt("time").map(str::to_owned),
            expires: Timestamp::from_second(item.num("ttl")?).map_err(Error::internal)?,
        })
    }
}

/// What a list of events is narrowed to: those with exactly these values.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "attributes of events")]
pub struct EventFilter {
    /// Those that it stands for.
    pub event_type: Option<TypePattern>,
    pub tenant: Option<String>,
    pub subject: Option<String>,
}

impl EventFilter {
    /// The partitions to read.
    fn sources(&self, access: &Access) -> Vec<IndexPartition> {
        let project = access.project();
        if let Some(own) = access.tenant() {
            // In any other index are rows of others, of which a cursor would tell.
            return of_tenant(project, own);
        }
        // The index first that is likely to have the fewest rows beside those wanted.
        let event_type = self.event_type.as_ref().and_then(TypePattern::exact);
        let facets = [
            (Listing::Detail, self.subject.as_deref()),
            (Listing::Tenant, self.tenant.as_deref()),
            (Listing::Type, event_type),
        ];
        for (listing, value) in facets {
            if let Some(value) = value {
                return IndexPartition::sharded(listing, |shard| {
                    keys::events_by(listing, project, value, shard)
                });
            }
        }
        all_partitions(project)
    }

    fn matches(&self, item: &Item) -> bool {
        let is = |name: &str, wanted: &Option<String>| {
            wanted
                .as_deref()
                .is_none_or(|wanted| item.str_opt(name) == Some(wanted))
        };
        let is_of_type = |pattern: &TypePattern| {
            let event_type = item.str_opt("type");
            event_type.is_some_and(|event_type| pattern.matches(event_type))
        };
        self.event_type.as_ref().is_none_or(is_of_type)
            && is("tenant", &self.tenant)
            && is("subject", &self.subject)
    }
}

fn all_partitions(project: &ProjectId) -> Vec<IndexPartition> {
    IndexPartition::sharded(Listing::Timeline, |shard| {
        keys::timeline_of_project(project, shard)
    })
}

fn of_tenant(project: &ProjectId, tenant: &str) -> Vec<IndexPartition> {
    IndexPartition::sharded(Listing::Tenant, |shard| {
        keys::events_by(Listing::Tenant, project, tenant, shard)
    })
}

/// A page of the events that `access` reaches, the newest first, and where the next
/// begins.
///
/// Cost: about one index page per shard, however many events there are. The index
/// read is that of the subject if it is given, else of the tenant, else of an exact
/// type; the other conditions are tried on its rows, of which up to
/// [`timeline::READ_MAX`] are looked at before a short page is answered. Of one tenant's
/// access it is that of the tenant whatever is asked for.
///
/// # Errors
/// [`Error::Forbidden`] for a tenant that `access` does not reach;
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn list(
    dynamo: &Dynamo,
    access: &Access,
    filter: &EventFilter,
    range: &TimelineRange,
) -> Result<(Vec<EventRow>, Option<String>)> {
    access.narrow(filter.tenant.as_deref())?;
    let sources = filter.sources(access);
    let now = Timestamp::now();
    let keep = |item: &Item| filter.matches(item) && !dynamo::has_expired(item, now);
    let page = timeline::page(dynamo, &sources, range, keep).await?;
    let (rows, _) = readable(&page.items, EventRow::read);
    Ok((rows, page.next))
}

/// What `read` reads of `items`, and how many it cannot read. Another version may have
/// written those, or something has damaged them: they must not hold up the others, and
/// the log says which they are.
fn readable<T>(items: &[Item], read: impl Fn(&Item) -> Result<T>) -> (Vec<T>, usize) {
    let read = items.iter().filter_map(|item| {
        read(item)
            .inspect_err(|error| report_unreadable(item.str_opt("pk").unwrap_or_default(), error))
            .ok()
    });
    let read: Vec<_> = read.collect();
    let unreadable = items.len() - read.len();
    (read, unreadable)
}

/// Logs that an event is left out of what is done with many.
pub fn report_unreadable(id: &str, error: &Error) {
    let cause = error.causes();
    tracing::error!(event.id = id, %error, cause, "event unreadable: skipped");
}

/// Part of a timeline that was scanned.
#[derive(Debug)]
pub struct EventScan {
    /// The events that were wanted.
    pub rows: Vec<EventRow>,
    /// Where the next part begins.
    pub next: Option<String>,
    /// Events looked at, those that were not wanted included.
    pub examined: usize,
    /// Those of them that cannot be read, and are left out.
    pub unreadable: usize,
}

/// The next events that `access` reaches and `wanted` wants by their type and tenant,
/// the newest first, those included that have expired and are still there. Cost: as
/// [`list`].
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn scan(
    dynamo: &Dynamo,
    access: &Access,
    range: &TimelineRange,
    wanted: impl Fn(&str, Option<&str>) -> bool,
) -> Result<EventScan> {
    let keep = |item: &Item| {
        // One without a type is counted as unreadable.
        let event_type = item.str_opt("type");
        event_type.is_none_or(|event_type| wanted(event_type, item.str_opt("tenant")))
    };
    let sources = EventFilter::default().sources(access);
    let page = timeline::page(dynamo, &sources, range, keep).await?;
    let (rows, unreadable) = readable(&page.items, EventRow::read);
    Ok(EventScan {
        rows,
        next: page.next,
        examined: page.examined,
        unreadable,
    })
}

/// As [`list`], of where they lie alone, those included of which the rest cannot be read;
/// and of those that the index of the filter has, those that `wanted` wants by their
/// tenant.
///
/// # Errors
/// As [`list`].
pub async fn list_places(
    dynamo: &Dynamo,
    access: &Access,
    filter: &EventFilter,
    range: &TimelineRange,
    wanted: impl Fn(Option<&str>) -> bool,
) -> Result<(Vec<EventPlace>, Option<String>)> {
    let sources = filter.sources(access);
    let keep = |item: &Item| wanted(item.str_opt("tenant"));
    let page = timeline::page(dynamo, &sources, range, keep).await?;
    let (places, _) = readable(&page.items, EventPlace::read);
    Ok((places, page.next))
}

/// Events in full.
#[derive(Debug)]
pub struct LoadedEvents {
    /// Those that can be read.
    pub events: Vec<StoredEvent>,
    /// How many cannot.
    pub unreadable: usize,
}

/// The events of `rows` in full and in their order, as [`scan`] those included that have
/// expired; those deleted since are left out.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn load_full(dynamo: &Dynamo, rows: &[EventRow]) -> Result<LoadedEvents> {
    let keys: Vec<_> = rows
        .iter()
        .map(|row| (row.id.to_string(), keys::EVENT.to_owned()))
        .collect();
    let items = dynamo.batch_get_with_expired(&keys, None).await?;
    let (found, unreadable) = readable(&items, StoredEvent::read);
    let found = found.into_iter().map(|event| (event.id.clone(), event));
    let mut found: HashMap<_, _> = found.collect();
    let events = rows.iter().filter_map(|row| found.remove(&row.id));
    Ok(LoadedEvents {
        events: events.collect(),
        unreadable,
    })
}

/// Keeps an event until `expires`; false if it is kept for as long anyway, or is gone. A
/// write unit and one for each index.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn keep_until(dynamo: &Dynamo, id: &EventId, expires: Timestamp) -> Result<bool> {
    let update = dynamo
        .update(id.as_str(), keys::EVENT)
        .update_expression("set #ttl = :expires")
        .condition_expression("attribute_exists(pk) and #ttl < :expires")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":expires", n(expires.as_second()));
    update_if(update).await
}

/// Those of `ids` that are not kept, or not any more. One consistent read of each.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn missing(dynamo: &Dynamo, ids: &[EventId]) -> Result<Vec<EventId>> {
    let mut missing = ids.to_vec();
    missing.sort_unstable();
    missing.dedup();
    let keys = missing.iter();
    let keys: Vec<_> = keys
        .map(|id| (id.to_string(), keys::EVENT.to_owned()))
        .collect();
    let found = dynamo.batch_get_consistent(&keys, Some("pk")).await?;
    let found: HashSet<&str> = found.iter().filter_map(|item| item.str_opt("pk")).collect();
    missing.retain(|id| !found.contains(id.as_str()));
    Ok(missing)
}

/// From when on DynamoDB may delete an event received at `received`.
pub fn expiry(received: Timestamp, retention_days: u32) -> Timestamp {
    received
        .saturating_add(SignedDuration::from_hours(24 * i64::from(retention_days)))
        .unwrap_or(Timestamp::MAX)
}
