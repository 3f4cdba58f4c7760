//! Recoveries in DynamoDB: due while they run, their progress in the item itself.

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;

use super::dynamo::{
    self, Conditional, Dynamo, Item, ItemExt, keys_of, ms, n, s, update_if, update_once,
    update_or_seen,
};
use super::keys::{self, Listing};
use super::timeline::{self, IndexPartition, TimelineRange};
use crate::error::{Error, Result};
use crate::model::access::Access;
use crate::model::id::RecoveryId;
use crate::model::recovery::{Day, Recovery, RecoveryPass, RecoveryState};

/// Keeps a recovery that is not there yet, due at `due`; false if it is. One
/// conditional write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn put_new(
    dynamo: &Dynamo,
    recovery: &Recovery,
    due: Timestamp,
    expires: Timestamp,
) -> Result<bool> {
    let mut item = write(recovery);
    item.insert("ttl".into(), n(expires.as_second()));
    let id = &recovery.id;
    item.insert("due_pk".into(), s(keys::due_of_recovery(id)));
    item.insert("due_sk".into(), s(keys::due_sort(due, id.as_str())));
    dynamo::put_new(dynamo, item).await
}

fn write(recovery: &Recovery) -> Item {
    let id = &recovery.id;
    let mut item = Item::from([
        ("pk".into(), s(id.as_str())),
        ("sk".into(), s(keys::RECOVERY)),
        ("project".into(), s(recovery.project.as_str())),
        ("kind".into(), s(recovery.kind.as_str())),
        ("since".into(), ms(recovery.since)),
        ("until".into(), ms(recovery.until)),
        ("state".into(), s(recovery.state.as_str())),
        ("page".into(), n(recovery.page)),
        ("examined".into(), number(recovery.examined)),
        ("resent".into(), number(recovery.resent)),
        ("created".into(), ms(recovery.created)),
        ("updated".into(), ms(recovery.updated)),
        (
            "tl_pk".into(),
            s(keys::timeline_of_recoveries(&recovery.project)),
        ),
        ("tl_sk".into(), s(keys::recovery_sort(recovery.created, id))),
    ]);
    let texts = [
        ("endpoint", recovery.endpoint.as_ref().map(|id| id.as_str())),
        (
            "deliveries",
            recovery.deliveries.map(|state| state.as_str()),
        ),
        ("type", recovery.event_type.as_deref()),
        ("tenant", recovery.tenant.as_deref()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            item.insert(name.into(), s(text));
        }
    }
    if recovery.includes_pending {
        item.insert("pending".into(), AttributeValue::Bool(true));
    }
    item
}

/// What `pass` says of the second; it is absent at the first.
const SECOND_PASS: i64 = 2;

fn number(count: u64) -> AttributeValue {
    n(i64::try_from(count).unwrap_or(i64::MAX))
}

fn read(item: &Item) -> Result<Recovery> {
    let opt = |name: &str| item.str_opt(name).map(str::to_owned);
    let count = |name: &str| u64::try_from(item.num(name)?).map_err(Error::internal);
    let endpoint = item.str_opt("endpoint").map(str::parse);
    let deliveries = item.str_opt("deliveries").map(str::parse);
    Ok(Recovery {
        id: item.parse("pk")?,
        project: item.parse("project")?,
        kind: item.parse("kind")?,
        endpoint: endpoint.transpose().map_err(Error::internal)?,
        deliveries: deliveries.transpose().map_err(Error::internal)?,
        includes_pending: item.contains_key("pending"),
        event_type: opt("type"),
        tenant: opt("tenant"),
        since: item.time("since")?,
        until: item.time("until")?,
        state: item.parse("state")?,
        page: u32::try_from(item.num("page")?).map_err(Error::internal)?,
        cursor: opt("pos"),
        pass: match item.num_opt("pass") {
            Some(SECOND_PASS) => RecoveryPass::Second,
            _ => RecoveryPass::First,
        },
        endpoint_version: item.num_opt("endpoint_version"),
        held_until: item
            .num_opt("held_until")
            .and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        examined: count("examined")?,
        resent: count("resent")?,
        skipped: item
            .num_opt("skipped")
            .and_then(|skipped| u64::try_from(skipped).ok())
            .unwrap_or(0),
        error: opt("why"),
        created: item.time("created")?,
        updated: item.time("updated")?,
    })
}

/// The recovery `id`, or none. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get(dynamo: &Dynamo, id: &RecoveryId) -> Result<Option<Recovery>> {
    let item = dynamo.get(id.as_str(), keys::RECOVERY).await?;
    item.as_ref().map(read).transpose()
}

/// What a page of a recovery came to.
#[derive(Debug, Clone, Default)]
pub struct PageResult {
    /// Rows looked at, those that were not wanted included.
    pub examined: usize,
    /// Deliveries begun, or events archived.
    pub resent: usize,
    /// Those that could not be read, and were passed over.
    pub skipped: usize,
    /// Writes that this took, by which it is paced.
    pub written: usize,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
    /// The version of the endpoint that it went by.
    pub endpoint_version: Option<i64>,
    /// After the last page, when the second pass is due, if there is to be one.
    pub second_pass: Option<Timestamp>,
}

/// Records the page after the `recovery.page`th, and when the next is due, in one
/// conditional write. False if another worker has recorded it, or the recovery
/// has been canceled.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn advance(
    dynamo: &Dynamo,
    recovery: &Recovery,
    step: &PageResult,
    now: Timestamp,
    due: Timestamp,
) -> Result<bool> {
    let mut set = "set page = page + :one, examined = examined + :examined, \
                   resent = resent + :resent, updated = :now"
        .to_owned();
    let mut update = running(dynamo, &recovery.id)
        .condition_expression("#state = :running and page = :page")
        .expression_attribute_values(":page", n(recovery.page))
        .expression_attribute_values(":one", n(1))
        .expression_attribute_values(":examined", number(step.examined as u64))
        .expression_attribute_values(":resent", number(step.resent as u64))
        .expression_attribute_values(":now", ms(now));
    if step.skipped > 0 {
        set += ", skipped = if_not_exists(skipped, :zero) + :skipped";
        update = update
            .expression_attribute_values(":zero", n(0))
            .expression_attribute_values(":skipped", number(step.skipped as u64));
    }
    if let Some(version) = step.endpoint_version {
        set += ", endpoint_version = if_not_exists(endpoint_version, :version)";
        update = update.expression_attribute_values(":version", n(version));
    }
    let update = match (&step.next, step.second_pass) {
        (Some(next), _) => update
            .update_expression(format!("{set}, pos = :pos, due_sk = :due remove swept"))
            .expression_attribute_values(":pos", s(next))
            .expression_attribute_values(":due", s(keys::due_sort(due, recovery.id.as_str()))),
        (None, Some(_)) => update
            .update_expression(format!(
                "{set}, pass = :second, due_sk = :due remove pos, swept"
            ))
            .expression_attribute_values(":second", n(SECOND_PASS))
            .expression_attribute_values(":due", s(keys::due_sort(due, recovery.id.as_str()))),
        (None, None) => update
            .update_expression(format!(
                "{set}, #state = :done remove due_pk, due_sk, swept"
            ))
            .expression_attribute_values(":done", s(RecoveryState::Done.as_str())),
    };
    let (page, updated) = (recovery.page + 1, now.as_millisecond());
    update_once(update, |seen| {
        seen.num_opt("page") == Some(page.into()) && seen.num_opt("updated") == Some(updated)
    })
    .await
}

/// Moves the due time of a recovery whose page cannot be done yet; false if it runs no
/// more, or has gone on.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn defer(dynamo: &Dynamo, recovery: &Recovery, until: Timestamp) -> Result<bool> {
    let due = keys::due_sort(until, recovery.id.as_str());
    update_if(
        running(dynamo, &recovery.id)
            .update_expression("set due_sk = :due remove swept")
            .condition_expression("#state = :running and page = :page")
            .expression_attribute_values(":page", n(recovery.page))
            .expression_attribute_values(":due", s(due)),
    )
    .await
}

/// Ends a running recovery that cannot go on.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn fail(dynamo: &Dynamo, id: &RecoveryId, why: &str, now: Timestamp) -> Result<bool> {
    update_once(
        running(dynamo, id)
            .update_expression(
                "set #state = :failed, why = :why, updated = :now remove due_pk, due_sk, swept",
            )
            .condition_expression("#state = :running")
            .expression_attribute_values(":failed", s(RecoveryState::Failed.as_str()))
            .expression_attribute_values(":why", s(why))
            .expression_attribute_values(":now", ms(now)),
        |seen| ended_at(seen, RecoveryState::Failed, now),
    )
    .await
}

/// Ends a recovery before its next page; none if it does not run.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn cancel(dynamo: &Dynamo, id: &RecoveryId, now: Timestamp) -> Result<Option<Recovery>> {
    let update = running(dynamo, id)
        .update_expression("set #state = :canceled, updated = :now remove due_pk, due_sk, swept")
        .condition_expression("#state = :running")
        .expression_attribute_values(":canceled", s(RecoveryState::Canceled.as_str()))
        .expression_attribute_values(":now", ms(now))
        .return_values(ReturnValue::AllNew);
    let canceled = match update_or_seen(update).await? {
        Conditional::Done(item) => item,
        Conditional::Refused(seen) => {
            seen.filter(|seen| ended_at(seen, RecoveryState::Canceled, now))
        }
    };
    canceled.as_ref().map(read).transpose()
}

/// Whether a recovery has ended in `state` at `at`: by a write whose answer was lost.
fn ended_at(item: &Item, state: RecoveryState, at: Timestamp) -> bool {
    item.str_opt("state") == Some(state.as_str())
        && item.num_opt("updated") == Some(at.as_millisecond())
}

fn running(dynamo: &Dynamo, id: &RecoveryId) -> UpdateItemFluentBuilder {
    dynamo
        .update(id.as_str(), keys::RECOVERY)
        .expression_attribute_names("#state", "state")
        .expression_attribute_values(":running", s(RecoveryState::Running.as_str()))
}

/// A page of the recoveries that `access` reaches by what they are narrowed to, the
/// newest first, and where the next begins. Cost: an index page and one BatchGetItem.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn list(
    dynamo: &Dynamo,
    access: &Access,
    range: &TimelineRange,
) -> Result<(Vec<Recovery>, Option<String>)> {
    let (items, next) = list_with_expired(dynamo, access, range).await?;
    Ok((in_order(&dynamo::kept(items)), next))
}

/// As [`list`], those included that have expired and are still there, in no order.
pub(super) async fn list_with_expired(
    dynamo: &Dynamo,
    access: &Access,
    range: &TimelineRange,
) -> Result<(Vec<Item>, Option<String>)> {
    let source = IndexPartition {
        listing: Listing::Timeline,
        partition: keys::timeline_of_recoveries(access.project()),
        since: None,
    };
    let is_own = |row: &Item| access.covers(row.str_opt("tenant"));
    let page = timeline::page(dynamo, &[source], range, is_own).await?;
    let keys = keys_of(&page.items)?;
    let items = dynamo.batch_get_with_expired(&keys, None).await?;
    // Between them lie those of others, whose ids are no one else's to see.
    let next = match access.tenant() {
        Some(_) => page.last_kept.or(page.next),
        None => page.next,
    };
    Ok((items, next))
}

/// The recoveries in `items`, the newest first. One of a kind that only a newer version
/// knows keeps no other out of the list.
fn in_order(items: &[Item]) -> Vec<Recovery> {
    let rows = items.iter().filter_map(|item| {
        let row = read(item).inspect_err(|error| {
            let (id, cause) = (item.str_opt("pk").unwrap_or_default(), error.causes());
            tracing::error!(recovery.id = id, %error, cause, "recovery unreadable: skipped");
        });
        row.ok()
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse(keys::recovery_sort(row.created, &row.id)));
    rows
}

/// Recoveries that were asked for by their ids.
#[derive(Debug, Default)]
pub struct FoundRecoveries {
    /// Those that are there, in no order.
    pub recoveries: Vec<Recovery>,
    /// Those that are there and that this version cannot read.
    pub unreadable: usize,
}

/// Those of `ids` that are there. One consistent read of each.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get_all(dynamo: &Dynamo, ids: &[RecoveryId]) -> Result<FoundRecoveries> {
    let keys = ids.iter();
    let keys: Vec<_> = keys
        .map(|id| (id.to_string(), keys::RECOVERY.to_owned()))
        .collect();
    let items = dynamo.batch_get_consistent(&keys, None).await?;
    let recoveries = in_order(&items);
    Ok(FoundRecoveries {
        unreadable: items.len() - recoveries.len(),
        recoveries,
    })
}

/// Notes that what came before `at` of a late archive is kept for longer.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn set_held_until(dynamo: &Dynamo, id: &RecoveryId, at: Timestamp) -> Result<bool> {
    update_if(
        dynamo
            .update(id.as_str(), keys::RECOVERY)
            .update_expression("set held_until = :at")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":at", ms(at)),
    )
    .await
}

/// How far the archiving of a day is, over all projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveDay {
    /// It is not planned for every project.
    Unplanned,
    /// It is, and may be under way.
    Planned,
    /// It was done for every project when that was looked at.
    Done,
}

/// How far the archiving of `day` is. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn archive_day(dynamo: &Dynamo, day: Day) -> Result<ArchiveDay> {
    let item = dynamo.get(keys::ARCHIVE, keys::archived_day(day)).await?;
    Ok(match item {
        None => ArchiveDay::Unplanned,
        Some(item) if item.contains_key("done") => ArchiveDay::Done,
        Some(_) => ArchiveDay::Planned,
    })
}

/// Notes that `day` is archived for every project.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn set_archive_done(dynamo: &Dynamo, day: Day) -> Result<bool> {
    update_if(
        dynamo
            .update(keys::ARCHIVE, keys::archived_day(day))
            .update_expression("set done = :done")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":done", AttributeValue::Bool(true)),
    )
    .await
}

/// Whether the archiving of `day` is planned for every project.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn is_archive_planned(dynamo: &Dynamo, day: Day) -> Result<bool> {
    Ok(archive_day(dynamo, day).await? != ArchiveDay::Unplanned)
}

/// Notes that the archiving of `day` is planned for every project, until
/// `expires`.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn set_archive_planned(dynamo: &Dynamo, day: Day, expires: Timestamp) -> Result<()> {
    let item = Item::from([
        ("pk".into(), s(keys::ARCHIVE)),
        ("sk".into(), s(keys::archived_day(day))),
        ("ttl".into(), n(expires.as_second())),
    ]);
    dynamo::put_new(dynamo, item).await?;
    Ok(())
}
