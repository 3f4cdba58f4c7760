//! The due index: everything with work left, by when.

use std::time::Duration;

use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, Select};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::dynamo::{
    Conditional, Dynamo, Item, ItemExt, n, nonce, s, unavailable, update_if, update_or_seen,
};
use super::keys;
use crate::error::{Error, Result};
use crate::model::delivery::DeliveryState;
use crate::model::id::{DeliveryId, EndpointId};
use crate::model::job::Job;

/// Times the lease of what is swept again and again is doubled: work that waits
/// behind a backlog is enqueued ever more rarely, not at every sweep.
const DOUBLINGS_MAX: u32 = 6;

/// Something due, as the index knows it.
#[derive(Debug)]
pub struct DueItem {
    pub(super) pk: String,
    pub(super) sk: String,
    pub(super) due_sk: String,
    swept: u32,
}

impl DueItem {
    /// When it was due; none if its sort key cannot be read.
    pub fn at(&self) -> Option<Timestamp> {
        keys::time_of_sort(&self.due_sk)
    }

    /// The id that its partition key is: of an event (of a delivery too), an endpoint,
    /// a recovery or a meter.
    pub fn subject(&self) -> &str {
        &self.pk
    }

    /// Times it was swept and enqueued since its last attempt.
    pub fn swept(&self) -> u32 {
        self.swept
    }

    /// The endpoint, if it is a delivery.
    pub fn endpoint(&self) -> Option<EndpointId> {
        keys::endpoint_of_delivery(&self.sk)
    }

    /// The delivery that waits for its attempt, if it is one.
    fn late_delivery(&self) -> Option<DeliveryId> {
        let is_notice = keys::is_notice_subject(self.sort_subject());
        keys::delivery_of(&self.pk, &self.sk).filter(|_| !is_notice)
    }

    /// What its due sort key names.
    fn sort_subject(&self) -> &str {
        keys::subject_of_due_sort(&self.due_sk).unwrap_or_default()
    }

    fn read(item: &Item) -> Result<Self> {
        Ok(Self {
            pk: item.str("pk")?.to_owned(),
            sk: item.str("sk")?.to_owned(),
            due_sk: item.str("due_sk")?.to_owned(),
            swept: item
                .num_opt("swept")
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
        })
    }

    /// Its lease when it is claimed now: `base`, doubled for each time it was claimed
    /// already and `ahead` times more.
    pub fn lease(&self, base: Duration, ahead: u32) -> Duration {
        let doublings = self.swept.saturating_add(ahead).min(DOUBLINGS_MAX);
        base.saturating_mul(1 << doublings)
    }
}

/// The longest that something enqueued is left to its worker.
pub fn lease_max(base: Duration) -> Duration {
    base.saturating_mul(1 << DOUBLINGS_MAX)
}

/// Up to `limit` things of due partition `shard` that are due at `until`, the
/// most overdue first. One query for each MiB of index.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn query(
    dynamo: &Dynamo,
    shard: u8,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<DueItem>> {
    Ok(page(dynamo, shard, until, limit, None).await?.items)
}

/// Where a page of a due partition ended.
#[derive(Debug)]
pub struct DuePosition(Item);

/// A page of a due partition.
#[derive(Debug, Default)]
pub struct DuePage {
    /// What is due, the most overdue first.
    pub items: Vec<DueItem>,
    /// Rows among them that cannot be read, and are left out.
    pub unreadable: usize,
    /// Where the next page begins; none if nothing more is due.
    pub next: Option<DuePosition>,
}

/// As [`query`], after `after`, and with what can be said of the rest. A row that
/// cannot be read is passed over.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn page(
    dynamo: &Dynamo,
    shard: u8,
    until: Timestamp,
    limit: usize,
    after: Option<DuePosition>,
) -> Result<DuePage> {
    partition(dynamo, &keys::due(shard), until, limit, after).await
}

/// How many things of due partition `shard` are due at `until`, up to `limit`. One query
/// for each MiB of index, which is 128 read units.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn count_due(
    dynamo: &Dynamo,
    shard: u8,
    until: Timestamp,
    limit: usize,
) -> Result<usize> {
    let partition = keys::due(shard);
    let mut counted = 0;
    let mut start = None;
    loop {
        let counts = rows(dynamo, &partition, until, limit - counted).select(Select::Count);
        let output = counts.set_exclusive_start_key(start).send().await;
        let output = output.map_err(unavailable)?;
        counted += usize::try_from(output.count()).unwrap_or(0);
        start = output.last_evaluated_key;
        if start.is_none() || counted >= limit {
            return Ok(counted);
        }
    }
}

/// As [`page`], of the due partition called `partition`.
pub(super) async fn partition(
    dynamo: &Dynamo,
    partition: &str,
    until: Timestamp,
    limit: usize,
    after: Option<DuePosition>,
) -> Result<DuePage> {
    let mut page = DuePage::default();
    let mut start = after.map(|DuePosition(key)| key);
    loop {
        let left = limit - page.items.len() - page.unreadable;
        let output = rows(dynamo, partition, until, left).set_exclusive_start_key(start);
        let output = output.send().await.map_err(unavailable)?;
        for item in output.items() {
            match DueItem::read(item) {
                Ok(due) => page.items.push(due),
                Err(error) => {
                    let cause = error.causes();
                    tracing::error!(partition, %error, cause, "due row unreadable");
                    page.unreadable += 1;
                }
            }
        }
        start = output.last_evaluated_key;
        if start.is_none() || page.items.len() + page.unreadable >= limit {
            page.next = start.map(DuePosition);
            return Ok(page);
        }
    }
}

fn rows(dynamo: &Dynamo, partition: &str, until: Timestamp, limit: usize) -> QueryFluentBuilder {
    dynamo
        .client
        .query()
        .table_name(&dynamo.table)
        .index_name("due")
        .key_condition_expression("due_pk = :pk and due_sk < :bound")
        .expression_attribute_values(":pk", s(partition))
        .expression_attribute_values(":bound", s(keys::due_bound(until)))
        .limit(i32::try_from(limit).unwrap_or(i32::MAX))
}

/// Claims `due` until `until`, when its lease ends ([`DueItem::lease`]); none if it is
/// done or another sweeper has claimed it. One conditional write; two of an item whose
/// count of claims is no number, which then begins anew.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer; [`Error::Internal`] of an item
/// that cannot be read, which is claimed and so in nobody's way until `until`.
pub async fn claim(dynamo: &Dynamo, due: &DueItem, until: Timestamp) -> Result<Option<Job>> {
    let counted = claim_update(dynamo, due, COUNT_CLAIM).expression_attribute_values(":zero", n(0));
    let item = match claimed(counted, due, until).await {
        // Else it would be the first of its partition for ever.
        Err(Error::Internal(_)) => {
            let anew = claim_update(dynamo, due, "swept = :one");
            claimed(anew, due, until).await?
        }
        claimed => claimed?,
    };
    item.as_ref().map_or(Ok(None), job)
}

/// Sends the claim of `due` that `update` is, but for its condition and its values; the
/// item, if this has claimed it: be it by an update whose answer was lost, which the
/// client then sends again.
pub(super) async fn claimed(
    update: UpdateItemFluentBuilder,
    due: &DueItem,
    until: Timestamp,
) -> Result<Option<Item>> {
    let claim = nonce();
    let update = update
        .condition_expression("due_sk = :old")
        .expression_attribute_values(":old", s(&due.due_sk))
        .expression_attribute_values(":next", s(keys::due_sort(until, due.sort_subject())))
        .expression_attribute_values(":claim", claim.clone())
        .return_values(ReturnValue::AllNew);
    Ok(match update_or_seen(update).await? {
        Conditional::Done(item) => item,
        Conditional::Refused(seen) => seen.filter(|item| item.get("claimed_by") == Some(&claim)),
    })
}

const COUNT_CLAIM: &str = "swept = if_not_exists(swept, :zero) + :one";

/// The update of a claim that counts it by `count`. A delivery is late, so the list of
/// what is pending looks for it there.
fn claim_update(dynamo: &Dynamo, due: &DueItem, count: &str) -> UpdateItemFluentBuilder {
    let set = format!("set due_sk = :next, claimed_by = :claim, {count}");
    let update = dynamo
        .update(&due.pk, &due.sk)
        .expression_attribute_values(":one", n(1));
    match due.late_delivery() {
        Some(id) => update
            .update_expression(format!("{set}, detail_pk = :in"))
            .expression_attribute_values(":in", s(keys::delivery_in(&id, DeliveryState::Pending))),
        None => update.update_expression(set),
    }
}

/// Which deliveries to an endpoint are brought forward, and to when.
#[derive(Debug)]
pub struct BringForward<'a> {
    /// Where they go.
    pub endpoint: &'a EndpointId,
    /// Their new due time; what is due earlier is left as it is.
    pub to: Timestamp,
    /// Nothing is looked at that is due later than this.
    pub until: Timestamp,
    /// Things looked at in each due partition, the most overdue first.
    pub scan_max: usize,
    /// The most deliveries to bring forward.
    pub deliveries_max: usize,
}

/// Brings deliveries forward; how many. One query for each due partition and one
/// conditional write for each delivery.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer for one of them; the others
/// have been brought forward.
pub async fn bring_forward(dynamo: &Dynamo, asked: &BringForward<'_>) -> Result<usize> {
    let (to, sk) = (asked.to, keys::delivery(asked.endpoint));
    let (mut brought, mut failed) = (0, None);
    for shard in 0..keys::DUE_SHARDS {
        let due = match query(dynamo, shard, asked.until, asked.scan_max).await {
            Ok(due) => due,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        let is_later = |due: &DueItem| due.sk == sk && due.at().is_some_and(|at| at > to);
        let later: Vec<_> = due.into_iter().filter(is_later).collect();
        let moves: Vec<_> = later
            .iter()
            .take(asked.deliveries_max - brought)
            .map(|due| set_due(dynamo, due, to))
            .collect();
        let mut moved = stream::iter(moves).buffer_unordered(MOVES_MAX);
        while let Some(moved) = moved.next().await {
            match moved {
                Ok(is_moved) => brought += usize::from(is_moved),
                Err(error) => failed = Some(error),
            }
        }
    }
    failed.map_or(Ok(brought), Err)
}

/// Conditional writes at a time.
const MOVES_MAX: usize = 16;

async fn set_due(dynamo: &Dynamo, due: &DueItem, at: Timestamp) -> Result<bool> {
    let update = dynamo
        .update(&due.pk, &due.sk)
        .update_expression("set due_sk = :next")
        .condition_expression("due_sk = :old")
        .expression_attribute_values(":old", s(&due.due_sk))
        .expression_attribute_values(":next", s(keys::due_sort(at, due.sort_subject())));
    update_if(update).await
}

/// What is to be done for a due item; none if this version knows no such kind.
fn job(item: &Item) -> Result<Option<Job>> {
    Ok(Some(match item.str("sk")? {
        keys::EVENT => Job::FanOut {
            event: item.parse("pk")?,
        },
        keys::DISABLE => Job::Disable {
            endpoint: item.parse("pk")?,
        },
        keys::RECOVERY => Job::Recover {
            recovery: item.parse("pk")?,
            page: count(item, "page")?,
        },
        sk if keys::is_delivery(sk) => {
            let pk = item.str("pk")?;
            let delivery = keys::delivery_of(pk, sk);
            let unreadable = || anyhow::anyhow!("{pk} {sk} is the key of no delivery");
            Job::Deliver {
                delivery: delivery.ok_or_else(|| Error::internal(unreadable()))?,
                attempts_made: count(item, "made")?,
                payload: None,
            }
        }
        // A newer version's, which must not be in the way of the others.
        _ => return Ok(None),
    }))
}

fn count(item: &Item, name: &str) -> Result<u32> {
    u32::try_from(item.num(name)?).map_err(Error::internal)
}
