//! Back-fills in DynamoDB: one item for each meter, due while there are events
//! left to read.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::due::{self, DueItem};
use super::dynamo::{
    Conditional, Dynamo, Item, ItemExt, ms, n, nonce, put_once, s, unavailable, update_once,
};
use super::keys;
use crate::error::{Error, Result};
use crate::model::id::{MeterId, ProjectId};

/// How long the outcome of a back-fill is shown.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// A back-fill: the events a project received in a span of time, read by one meter,
/// the newest first.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "attributes of the item")]
pub struct Backfill {
    pub meter: MeterId,
    pub project: ProjectId,
    /// Only events received at or after this.
    pub since: Timestamp,
    /// Only events received before this.
    pub until: Timestamp,
    /// Where the next page begins; none before the first.
    pub position: Option<String>,
    /// Events looked at, of whatever type.
    pub read: i64,
    /// Readings that were not counted before.
    pub counted: i64,
    /// Events that could not be read or counted.
    pub skipped: i64,
    /// When it was asked for.
    pub started: Timestamp,
    /// None while it runs.
    pub finished: Option<Timestamp>,
    /// Its due sort key as of the last claim: whoever has that may go on with it.
    lease_token: Option<String>,
}

impl Backfill {
    /// One that is yet to begin.
    pub fn new(
        meter: &MeterId,
        project: &ProjectId,
        received: Range<Timestamp>,
        now: Timestamp,
    ) -> Self {
        Self {
            meter: meter.clone(),
            project: project.clone(),
            since: received.start,
            until: received.end,
            position: None,
            read: 0,
            counted: 0,
            skipped: 0,
            started: now,
            finished: None,
            lease_token: None,
        }
    }

    /// The time down to which events are counted.
    pub fn reached(&self) -> Timestamp {
        let position = self.position.as_deref().and_then(keys::time_of_sort);
        match self.finished {
            Some(_) => self.since,
            None => position.unwrap_or(self.until),
        }
    }

    fn read_item(item: &Item) -> Result<Self> {
        let finished = item.num_opt("finished").map(Timestamp::from_millisecond);
        Ok(Self {
            meter: item.parse("pk")?,
            project: item.parse("project")?,
            since: item.time("since")?,
            until: item.time("until")?,
            position: item.str_opt("position").map(str::to_owned),
            read: item.num("read")?,
            counted: item.num("counted")?,
            skipped: item.num_opt("skipped").unwrap_or(0),
            started: item.time("started")?,
            finished: finished.transpose().map_err(Error::internal)?,
            lease_token: item.str_opt("due_sk").map(str::to_owned),
        })
    }
}

/// Writes a new back-fill that is due at `due`; false if the meter has one that
/// runs. One that is done is replaced.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn start(dynamo: &Dynamo, new: &Backfill, due: Timestamp) -> Result<bool> {
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put
        .item("pk", s(new.meter.as_str()))
        .item("sk", s(keys::BACKFILL))
        .item("project", s(new.project.as_str()))
        .item("since", ms(new.since))
        .item("until", ms(new.until))
        .item("read", n(0))
        .item("counted", n(0))
        .item("started", ms(new.started))
        .item("due_pk", s(keys::due_of_backfill()))
        .item("due_sk", s(keys::due_sort(due, new.meter.as_str())))
        .condition_expression("attribute_not_exists(due_pk)");
    let put = put_once(put, &nonce()).await?;
    Ok(matches!(put, Conditional::Done(())))
}

/// The last back-fill of a meter, if it had one. One consistent read.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn get(dynamo: &Dynamo, meter: &MeterId) -> Result<Option<Backfill>> {
    let item = dynamo.get(meter.as_str(), keys::BACKFILL).await?;
    item.as_ref().map(Backfill::read_item).transpose()
}

/// Claims a back-fill that is due, until `lease_ends`; none if it is done or
/// another has it. One conditional write.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn claim(
    dynamo: &Dynamo,
    due: &DueItem,
    lease_ends: Timestamp,
) -> Result<Option<Backfill>> {
    let update = dynamo
        .update(&due.pk, &due.sk)
        .update_expression("set due_sk = :next, claimed_by = :claim");
    let claimed = due::claimed(update, due, lease_ends).await?;
    claimed.as_ref().map(Backfill::read_item).transpose()
}

/// Records how far a back-fill has come, for whoever claimed it: due again at `due`,
/// or done where `finished` is set. False if another has claimed it meanwhile, or
/// its meter is deleted.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn advance(dynamo: &Dynamo, backfill: &mut Backfill, due: Timestamp) -> Result<bool> {
    let lease_token = backfill.lease_token.clone().unwrap_or_default();
    let update = dynamo
        .update(backfill.meter.as_str(), keys::BACKFILL)
        .condition_expression("due_sk = :held")
        .expression_attribute_names("#position", "position")
        .expression_attribute_names("#read", "read")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":held", s(lease_token))
        .expression_attribute_values(":read", n(backfill.read))
        .expression_attribute_values(":counted", n(backfill.counted))
        .expression_attribute_values(":skipped", n(backfill.skipped));
    let update = match (backfill.finished, &backfill.position) {
        (Some(finished), _) => {
            let expires = finished.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
            update
                .update_expression(
                    "set #read = :read, counted = :counted, skipped = :skipped, finished = :finished, #ttl = :ttl \
                     remove #position, due_pk, due_sk",
                )
                .expression_attribute_values(":finished", ms(finished))
                .expression_attribute_values(":ttl", n(expires.as_second()))
        }
        (None, position) => {
            let next = keys::due_sort(due, backfill.meter.as_str());
            backfill.lease_token = Some(next.clone());
            update
                .update_expression(
                    "set #read = :read, counted = :counted, skipped = :skipped, #position = :position, \
                     due_sk = :next remove #ttl",
                )
                .expression_attribute_values(":position", s(position.clone().unwrap_or_default()))
                .expression_attribute_values(":next", s(next))
        }
    };
    let (finished, next) = (backfill.finished, backfill.lease_token.as_deref());
    update_once(update, |seen| match finished {
        Some(at) => seen.num_opt("finished") == Some(at.as_millisecond()),
        None => seen.str_opt("due_sk") == next,
    })
    .await
}

/// Deletes the back-fill of a meter that is deleted.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn forget(dynamo: &Dynamo, meter: &MeterId) -> Result<()> {
    let delete = dynamo.client.delete_item().table_name(&dynamo.table);
    let delete = delete
        .key("pk", s(meter.as_str()))
        .key("sk", s(keys::BACKFILL));
    delete.send().await.map_err(unavailable)?;
    Ok(())
}
