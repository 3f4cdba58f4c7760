//! Every key of the DynamoDB table. Nothing else builds one.
//!
//! | item | `pk` | `sk` | `tl_pk` / `tl_sk` | `type_pk`, `tenant_pk`, `detail_pk` | `due_pk` / `due_sk` | `ttl` | written by | read by |
//! |---|---|---|---|---|---|---|---|---|
//! | event | `evt_…` | `event` | `prj_…#<shard>` / `<received>#evt_…` | its type; its tenant and its subject if it has them | while a fan-out or replay is left | retention | accept, replay | deliver, fan out, recoveries, archive, events API |
//! | delivery | `evt_…` | `delivery#ep_…` | `ep_…#<shard>` / `<created>#evt_…` | `detail_pk` alone: its state, once that is failed, canceled or late | while pending, or failed and not told of yet | with its event | accept, fan out, deliver, retry, recoveries | deliver, recoveries, deliveries API |
//! | recovery | `rec_…` | `recovery` | `prj_…#recoveries` / `<created>#rec_…` | – | while running | retention | recoveries API, archive | recover, recoveries API |
//! | archived day | `archive` | `day#<date>` | – | – | – | a retention later | archive | archive |
//! | endpoint | `project#prj_…` | `endpoint#ep_…` | – | – | – | a day after deletion | projection, deliver (410) | accept, fan out, deliver |
//! | event type | `project#prj_…` | `type#<name>` | – | – | – | a day after deletion | projection | accept |
//! | API key | `key#<sha-256>` | `key` | – | – | – | a day after revocation | projection | every request |
//! | revision | `project#prj_…` | `care!revision` | – | – | – | – | projection, deliver (410) | accept, fan out, deliver |
//! | failures | `project#prj_…` | `care#ep_…` | – | – | – | a year | deliver (a run of failures begins, goes on, ends) | accept, deliver, stats |
//! | pending disable | `ep_…` | `disable` | – | – | until Postgres knows | – | deliver (410, days of failure) | sweep |
//! | pace | `ep_…` | `pace` | – | – | – | a day after its last slot | deliver (with a rate limit): slots, and places behind them | deliver |
//! | meter | `project#prj_…` | `meter#mtr_…` | – | – | – | a day after deletion | projection | accept, fan out |
//! | readings | `evt_…` | `meter` | – | – | `meter#<shard>` / `<received>#evt_…`, until counted | with its event | accept, fan out | meter |
//! | back-fill | `mtr_…` | `backfill` | – | – | `meter#0` / `<due>#mtr_…`, while it runs | a month after its end | meters API, meter | meter, meters API |
//! | erased project | `project#prj_…` | `erased` | – | – | – | – | erasure | accept, fan out |
//! | change marker | `control_plane` | `changed` | – | – | – | – | control-plane changes, once a minute | sweep |
//! | activity | `activity#prj_…` | `slot#<time>`, `hour#<time>` | – | – | – | 50 hours; 90 days, or the retention if that is longer | every process, now and then | activity API |
//! | endpoint's failures | `activity#prj_…` | `failing#<hour>#ep_…` | – | – | – | as an hour's activity | every process, now and then | activity API |
//! | sentinel | `sentinel` | `sentinel` | – | – | – | – | nobody | readiness |
//! | session | `session#<sha-256>` | `session` | – | – | – | a while after it is over | signing in and out, pages | pages of the console |
//! | void sessions | `sessions#<hash of who>` | `void` | – | – | – | when the last of them is over | signing out everywhere | pages of the console |
//! | link that signs in once | `link#<sha-256>` | `link` | – | – | – | a while after its time | start, `millrace console` | signing in |
//! | idempotency key | `idempotency#<project or admin>#<hash>` | `idempotency` | – | – | – | a day | requests with the header | the same requests again |
//!
//! Times in sort keys are milliseconds since 1970 in 13 digits, so that text
//! sorts as time does. An event's key is a hash, so no partition runs hot; the
//! indexes are spread over the shards below, of which DynamoDB gives each
//! 1,000 writes a second. What is to be counted has due partitions of its own,
//! which the sweeper does not see: nothing is enqueued for it.
//!
//! A delivery has its attempts in `attempts`, and beside that in `sent`, by their numbers,
//! what is kept of the headers of their requests.
//!
//! DynamoDB deletes what has expired by its `ttl` within days. Until then whoever reads
//! an item or puts one treats it as absent, by the second as DynamoDB does; only
//! readings are counted however late, and erasures delete it all the same. `nonce` and
//! `claimed_by` tell a write whose answer was lost, and which is sent again, from
//! another's.
//!
//! `type_pk`, `tenant_pk` and `detail_pk` each make an index of their own with
//! `tl_sk`, for lists narrowed to one value. An item without the attribute is not
//! in the index and pays nothing for it. An event and a delivery never compete
//! for `detail_pk`, so its subject and a delivery's state share one. A value
//! given by publishers is hashed: it may be longer than a key.

use jiff::Timestamp;

use crate::model::activity::Span;
use crate::model::delivery::DeliveryState;
use crate::model::id::{DeliveryId, EndpointId, EventId, MeterId, ProjectId, RecoveryId, base32};

/// Partitions a project's or an endpoint's timeline is spread over. A page of a
/// listing reads every one of them.
pub const TIMELINE_SHARDS: u8 = 4;
/// Partitions of the due index. A sweep reads every one of them.
pub const DUE_SHARDS: u8 = 8;

/// Partitions of the due index that hold what is to be counted.
pub const METER_SHARDS: u8 = 8;

const DELIVERY_PREFIX: &str = "delivery#";
const ENDPOINT_PREFIX: &str = "endpoint#";
const ENDPOINT_HEALTH_PREFIX: &str = "care#";
const METER_PREFIX: &str = "meter#";
const NOTICE_PREFIX: &str = "notice#";
const FAILURES_PREFIX: &str = "failing#";
const TYPE_PREFIX: &str = "type#";

/// Partition of what is said of the control plane as a whole.
pub const CONTROL_PLANE: &str = "control_plane";
/// Sort key of when a change of it last began.
pub const CHANGED: &str = "changed";
/// Partition and sort key of an item that is never there: to read it shows that reading
/// works.
pub const SENTINEL: &str = "sentinel";

/// Sort key of the number that rises with each change of a project's configuration.
/// Just below the runs of failures, so that one query reads both.
pub const CONFIG_REVISION: &str = "care!revision";
/// Above the sort keys of all runs of failures: '$' follows '#'.
pub const ENDPOINT_HEALTH_END: &str = "care$";

/// Sort key of an event.
pub const EVENT: &str = "event";
/// Sort key of an API key.
pub const KEY: &str = "key";
/// Sort key of a pending disable: of an endpoint that Postgres has yet to disable.
pub const DISABLE: &str = "disable";
/// Sort key of when an endpoint's next attempt may be made.
pub const PACE: &str = "pace";

/// Sort key of what meters read of an event, below it.
pub const READINGS: &str = "meter";
/// Sort key of a meter's back-fill.
pub const BACKFILL: &str = "backfill";
/// Sort key of an idempotency key.
pub const IDEMPOTENCY: &str = "idempotency";
/// Sort key of a session.
pub const SESSION: &str = "session";
/// Sort key of from when on all sessions of a person are void.
pub const VOID: &str = "void";
/// Sort key of a link that signs in once.
pub const LINK: &str = "link";
/// Sort key of what is left in the partition of a project that is erased.
pub const ERASED: &str = "erased";
/// Sort key of a recovery.
pub const RECOVERY: &str = "recovery";
/// Partition of the days whose archiving is planned.
pub const ARCHIVE: &str = "archive";
/// Above the sort keys of all deliveries of an event: '$' follows '#'.
pub const DELIVERIES_END: &str = "delivery$";

/// The last time that a sort key can begin with, in milliseconds.
const MILLIS_MAX: i64 = 9_999_999_999_999;

/// Above every sort key that begins with a time: '~' follows every digit.
pub const TIMES_END: &str = "~";
/// Below every sort key that begins with a time, but for times long past.
pub const TIMES_START: &str = "0";

/// An index by `tl_sk`: which part of the timeline it lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// A project's events, an endpoint's deliveries, a project's recoveries.
    Timeline,
    /// A project's events of one type.
    Type,
    /// A project's events of one tenant.
    Tenant,
    /// A project's events about one subject; an endpoint's deliveries in one state.
    Detail,
}

impl Listing {
    /// The index's name in `table.json`.
    pub fn index(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Type => "type",
            Self::Tenant => "tenant",
            Self::Detail => "detail",
        }
    }

    /// The attribute with its partition.
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Timeline => "tl_pk",
            Self::Type => "type_pk",
            Self::Tenant => "tenant_pk",
            Self::Detail => "detail_pk",
        }
    }
}

/// Sort key of the delivery to `endpoint`, below its event.
pub fn delivery(endpoint: &EndpointId) -> String {
    format!("{DELIVERY_PREFIX}{endpoint}")
}

/// The endpoint that a sort key below an event names, if it is a delivery's.
pub fn endpoint_of_delivery(sort: &str) -> Option<EndpointId> {
    sort.strip_prefix(DELIVERY_PREFIX)?.parse().ok()
}

/// The sort key that those of an event's deliveries follow: all of them, or only
/// those after the one to `after`.
pub fn deliveries_after(after: Option<&EndpointId>) -> String {
    after.map_or_else(|| DELIVERY_PREFIX.to_owned(), delivery)
}

/// Partition of a project's configuration projection.
pub fn project(project: &ProjectId) -> String {
    format!("project#{project}")
}

/// Sort key of an endpoint in its project's partition.
pub fn endpoint(endpoint: &EndpointId) -> String {
    format!("{ENDPOINT_PREFIX}{endpoint}")
}

/// The endpoint that a sort key in a project's partition names, if it names one.
pub fn endpoint_of_sort(sort: &str) -> Option<&str> {
    sort.strip_prefix(ENDPOINT_PREFIX)
}

/// Sort key of a meter in its project's partition.
pub fn meter(meter: &MeterId) -> String {
    format!("{METER_PREFIX}{meter}")
}

/// The meter that a sort key in a project's partition names, if it names one.
pub fn meter_of_sort(sort: &str) -> Option<&str> {
    sort.strip_prefix(METER_PREFIX)
}

/// Sort key of an endpoint's run of failures, in its project's partition.
pub fn endpoint_health(endpoint: &EndpointId) -> String {
    format!("{ENDPOINT_HEALTH_PREFIX}{endpoint}")
}

/// The endpoint whose run of failures a sort key names, if it names one.
pub fn endpoint_of_health_sort(sort: &str) -> Option<&str> {
    sort.strip_prefix(ENDPOINT_HEALTH_PREFIX)
}

/// Sort key of an event type in its project's partition.
pub fn event_type(name: &str) -> String {
    format!("{TYPE_PREFIX}{name}")
}

/// The event type that a sort key in a project's partition names, if it names one.
pub fn event_type_of_sort(sort: &str) -> Option<&str> {
    sort.strip_prefix(TYPE_PREFIX)
}

/// Partition of a project's activity.
pub fn activity(project: &ProjectId) -> String {
    format!("activity#{project}")
}

/// Sort key of the activity in the `span` that begins at `start`.
pub fn activity_in(span: Span, start: Timestamp) -> String {
    let name = match span {
        Span::Slot => "slot",
        Span::Hour => "hour",
    };
    format!("{name}#{}", millis(start))
}

/// The start of the span that a sort key of an activity names.
pub fn start_of_activity(sort: &str) -> Option<Timestamp> {
    let (_, millis) = sort.split_once('#')?;
    Timestamp::from_millisecond(millis.parse().ok()?).ok()
}

/// Sort key of an endpoint's failures in the hour that begins at `hour`; without an
/// endpoint what those of all endpoints begin with.
pub fn failures(hour: Timestamp, endpoint: Option<&EndpointId>) -> String {
    let endpoint = endpoint.map_or("", EndpointId::as_str);
    format!("{FAILURES_PREFIX}{}#{endpoint}", millis(hour))
}

/// The endpoint whose failures a sort key names.
pub fn endpoint_of_failures(sort: &str) -> Option<EndpointId> {
    after_millis(sort.strip_prefix(FAILURES_PREFIX)?)?
        .parse()
        .ok()
}

/// Partition of an API key by the SHA-256 of its text.
pub fn key(hash: &[u8; 32]) -> String {
    by_hash("key", hash)
}

/// Partition of a session by the SHA-256 of its token.
pub fn session(hash: &[u8; 32]) -> String {
    by_hash("session", hash)
}

/// Partition of a link that signs in once, by the SHA-256 of its token.
pub fn link(hash: &[u8; 32]) -> String {
    by_hash("link", hash)
}

fn by_hash(noun: &str, hash: &[u8; 32]) -> String {
    let mut out = String::with_capacity(noun.len() + 1 + 64);
    out.push_str(noun);
    out.push('#');
    for byte in hash {
        use std::fmt::Write;
        write!(out, "{byte:02x}").expect("writing to a string does not fail");
    }
    out
}

/// Partition of what is true of all sessions of a person, by the hash that their tokens
/// end with.
pub fn sessions_of(person: &str) -> String {
    format!("sessions#{person}")
}

/// Partition of an idempotency key of `scope`: a project's id, that with a tenant's hash,
/// or `admin`.
pub fn idempotency(scope: &str, key: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    format!("idempotency#{scope}#{}", base32(&hash.as_ref()[..20]))
}

/// Timeline partition `shard` of a project's events.
pub fn timeline_of_project(project: &ProjectId, shard: u8) -> String {
    format!("{project}#{shard}")
}

/// Timeline partition `shard` of an endpoint's deliveries.
pub fn timeline_of_endpoint(endpoint: &EndpointId, shard: u8) -> String {
    format!("{endpoint}#{shard}")
}

/// Partition `shard` of a project's events with `value` in the attribute that
/// `listing` is about.
pub fn events_by(listing: Listing, project: &ProjectId, value: &str, shard: u8) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, value.as_bytes());
    let (about, hash) = (listing.index(), base32(&hash.as_ref()[..16]));
    format!("{project}#{about}#{hash}#{shard}")
}

/// Partition `shard` of an endpoint's deliveries in `state`.
pub fn deliveries_in(endpoint: &EndpointId, state: DeliveryState, shard: u8) -> String {
    format!("{endpoint}#{}#{shard}", state.as_str())
}

/// The same for one delivery.
pub fn delivery_in(id: &DeliveryId, state: DeliveryState) -> String {
    deliveries_in(&id.endpoint(), state, timeline_shard(&id.event()))
}

/// Whether the item with this sort key is a delivery.
pub fn is_delivery(sk: &str) -> bool {
    sk.starts_with(DELIVERY_PREFIX)
}

/// The delivery that an index row or item is about, by its `pk` and `sk`.
pub fn delivery_of(pk: &str, sk: &str) -> Option<DeliveryId> {
    let endpoint = endpoint_of_delivery(sk)?;
    Some(DeliveryId::new(&pk.parse().ok()?, &endpoint))
}

/// Timeline partition of a project's recoveries, which are few.
pub fn timeline_of_recoveries(project: &ProjectId) -> String {
    format!("{project}#recoveries")
}

/// Timeline sort key of a recovery.
pub fn recovery_sort(at: Timestamp, recovery: &RecoveryId) -> String {
    format!("{}#{recovery}", millis(at))
}

/// The recovery that a timeline sort key ends with.
pub fn recovery_of_timeline_sort(sort: &str) -> Option<RecoveryId> {
    after_millis(sort)?.parse().ok()
}

/// Sort key of a day, `2026-01-31`, whose archiving is planned.
pub fn archived_day(day: impl std::fmt::Display) -> String {
    format!("day#{day}")
}

/// The timeline shard an event and its deliveries lie in.
pub fn timeline_shard(event: &EventId) -> u8 {
    shard_seed(event.suffix()) % TIMELINE_SHARDS
}

/// Timeline sort key: time, then event.
pub fn timeline_sort(at: Timestamp, event: &EventId) -> String {
    format!("{}#{event}", millis(at))
}

/// The event that a timeline sort key ends with.
pub fn event_of_timeline_sort(sort: &str) -> Option<EventId> {
    after_millis(sort)?.parse().ok()
}

/// Where a delivery lies among those to several endpoints: its timeline sort key, then
/// its endpoint, for deliveries of one event have the same key.
pub fn delivery_position(timeline_sort: &str, endpoint: &EndpointId) -> String {
    format!("{timeline_sort}#{endpoint}")
}

/// Whether `text` is what [`delivery_position`] gives.
pub fn is_delivery_position(text: &str) -> bool {
    let parts = text.rsplit_once('#');
    parts.is_some_and(|(sort, endpoint)| {
        event_of_timeline_sort(sort).is_some() && endpoint.parse::<EndpointId>().is_ok()
    })
}

/// The time that a timeline or due sort key begins with.
pub fn time_of_sort(sort: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(sort.get(..13)?.parse().ok()?).ok()
}

/// Due partition `shard`, one of [`DUE_SHARDS`].
pub fn due(shard: u8) -> String {
    format!("due#{shard}")
}

/// The due partition of an event's own work.
pub fn due_of_event(event: &EventId) -> String {
    due(shard_seed(event.suffix()) % DUE_SHARDS)
}

/// The due partition of a delivery: a wide fan-out lies in all of them.
pub fn due_of_delivery(delivery: &DeliveryId) -> String {
    let event = shard_seed(delivery.event().suffix());
    due(event.wrapping_add(shard_seed(delivery.endpoint().suffix())) % DUE_SHARDS)
}

/// Due partition `shard` of what is to be counted.
pub fn due_to_meter(shard: u8) -> String {
    format!("meter#{shard}")
}

/// The due partition of what meters read of an event.
pub fn due_of_readings(event: &EventId) -> String {
    due_to_meter(shard_seed(event.suffix()) % METER_SHARDS)
}

/// The due partition of back-fills: there are few.
pub fn due_of_backfill() -> String {
    due_to_meter(0)
}

/// The due partition of a recovery.
pub fn due_of_recovery(recovery: &RecoveryId) -> String {
    due(shard_seed(recovery.suffix()) % DUE_SHARDS)
}

/// Due sort key: time, then what is due.
pub fn due_sort(at: Timestamp, what: &str) -> String {
    format!("{}#{what}", millis(at))
}

/// What the due sort key of a failed delivery names whose notice is yet to be published.
pub fn notice_subject(delivery: &DeliveryId) -> String {
    format!("{NOTICE_PREFIX}{delivery}")
}

/// Whether a due sort key that names `subject` is that of a notice.
pub fn is_notice_subject(subject: &str) -> bool {
    subject.starts_with(NOTICE_PREFIX)
}

/// What a due sort key ends with.
pub fn subject_of_due_sort(sort: &str) -> Option<&str> {
    after_millis(sort)
}

/// The bound below which due sort keys are due at `now`.
pub fn due_bound(now: Timestamp) -> String {
    // '$' follows '#', so every key of this millisecond is below the bound.
    format!("{}$", millis(now))
}

/// The bound below which timeline sort keys lie before `at`.
pub fn time_bound(at: Timestamp) -> String {
    millis(at)
}

fn millis(at: Timestamp) -> String {
    // With a digit more, after 2286, text would not sort as time does any more.
    format!("{:013}", at.as_millisecond().clamp(0, MILLIS_MAX))
}

/// What follows the time in a sort key that begins with one.
fn after_millis(sort: &str) -> Option<&str> {
    let (millis, rest) = sort.split_at_checked(13)?;
    let is_time = millis.bytes().all(|byte| byte.is_ascii_digit());
    rest.strip_prefix('#').filter(|_| is_time)
}

/// The last character's place in base 36, spread evenly enough by the hash or
/// randomness it ends.
fn shard_seed(suffix: &str) -> u8 {
    // A random id ends in 128 bits' last three: the character before it is full.
    let bytes = suffix.as_bytes();
    bytes[bytes.len() - 2].wrapping_mul(7) ^ bytes[bytes.len() - 3]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn events() -> impl Iterator<Item = EventId> {
        let project = ProjectId::new(1, [1; 10]);
        (0..4000).map(move |n| EventId::derive(&project, "/test", &n.to_string()))
    }

    #[test]
    fn sort_keys_sort_by_time_and_give_it_back() {
        let event = events().next().unwrap();
        let at = Timestamp::from_millisecond(1_700_000_000_000).unwrap();
        let later = Timestamp::from_millisecond(1_700_000_000_001).unwrap();
        let sort = timeline_sort(at, &event);
        assert!(sort < timeline_sort(later, &event));
        assert_eq!(time_of_sort(&sort), Some(at));
        assert_eq!(event_of_timeline_sort(&sort).as_ref(), Some(&event));
        for forged in ["170000000000x", "+170000000000", "-170000000000"] {
            let forged = format!("{forged}#{event}");
            assert_eq!(event_of_timeline_sort(&forged), None, "{forged}");
        }
        let endpoint = EndpointId::new(2, [3; 10]);
        let position = delivery_position(&sort, &endpoint);
        assert!(is_delivery_position(&position) && position > sort);
        assert!(position < timeline_sort(later, &event));
        for forged in [
            &*sort,
            &position[1..],
            &position[..position.len() - 1],
            "",
            "#",
        ] {
            assert!(!is_delivery_position(forged), "{forged}");
        }
        let forged = sort.replace('#', "$");
        assert_eq!(event_of_timeline_sort(&forged), None, "{forged}");
        assert!(due_sort(at, "x") < due_bound(at));
        assert!(due_sort(later, "x") > due_bound(at));
    }

    #[test]
    fn a_partition_by_value_has_room_for_any_value() {
        let project = ProjectId::new(1, [1; 10]);
        let subject = "\u{10ffff}".repeat(1024);
        let long = events_by(Listing::Detail, &project, &subject, 3);
        assert!(long.len() < 100, "{long}");
        let another = events_by(Listing::Detail, &project, &subject[4..], 3);
        let tenant = events_by(Listing::Tenant, &project, &subject, 3);
        assert!(long != another && long != tenant);
    }

    #[test]
    fn a_delivery_is_known_by_its_key() {
        let event = events().next().unwrap();
        let id = DeliveryId::new(&event, &EndpointId::new(2, [3; 10]));
        assert_eq!(
            delivery_of(event.as_str(), &delivery(&id.endpoint())),
            Some(id)
        );
        assert_eq!(delivery_of(event.as_str(), EVENT), None);
    }

    #[test]
    fn times_sort_as_text_up_to_the_last() {
        let bounds = [
            "0000-01-01T00:00:00Z",
            "1970-01-01T00:00:00.001Z",
            "2026-01-31T12:00:00Z",
            "2286-11-20T17:46:39Z",
            "2286-11-20T17:46:40Z",
            "9999-12-30T22:00:00Z",
        ]
        .map(|text| time_bound(text.parse().unwrap()));
        assert!(bounds.is_sorted(), "{bounds:?}");
        assert!(
            bounds
                .iter()
                .all(|bound| bound.len() == 13 && &**bound < TIMES_END)
        );
    }

    #[test]
    fn shards_are_even() {
        let mut timeline = HashMap::<u8, u32>::new();
        let mut due = HashMap::<String, u32>::new();
        for event in events() {
            *timeline.entry(timeline_shard(&event)).or_default() += 1;
            *due.entry(due_of_event(&event)).or_default() += 1;
        }
        assert_eq!(timeline.len(), usize::from(TIMELINE_SHARDS));
        assert_eq!(due.len(), usize::from(DUE_SHARDS));
        assert!(
            timeline.values().all(|n| (700..1300).contains(n)),
            "{timeline:?}"
        );
        assert!(due.values().all(|n| (300..700).contains(n)), "{due:?}");
    }
}
