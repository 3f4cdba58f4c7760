//! The activity of projects: counts of spans of time, which processes add to.
//!
//! An item for each five minutes and each hour of a project in which something happened,
//! and one for each hour and endpoint that failed in it. What is added is a number, in one
//! write. A write whose answer was lost is sent again and may then count twice, and a
//! process that is killed takes along what it had not written: the counts are about what
//! happened, for people to look at, and nothing is decided or billed by them.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::Select;
use futures_util::future;
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{Dynamo, Item, ItemExt, kept, n, s, unavailable};
use super::keys::{self, Listing};
use crate::error::{Error, Result};
use crate::model::activity::{
    ActivityCounts, Counted, Distribution, EndpointFailures, SLOT_KEPT, Span,
};
use crate::model::delivery::DeliveryState;
use crate::model::id::{EndpointId, ProjectId};

/// Days that an hour is kept, at least.
const DAYS_MIN: u32 = 90;
/// Rows of failures that one question reads at most: those of the latest hours.
const FAILURES_MAX: usize = 10_000;
/// What the attributes with buckets begin with: of attempts' durations, and of how late
/// first attempts were.
const ATTEMPT: &str = "t";
const LAG: &str = "l";

/// The attribute with a count.
fn attribute(what: Counted) -> &'static str {
    match what {
        Counted::Accepted => "accepted",
        Counted::Duplicate => "duplicates",
        Counted::AttemptSucceeded => "attempts_ok",
        Counted::AttemptFailed => "attempts_failed",
        Counted::DeliveredAtOnce => "at_once",
        Counted::DeliveredLater => "later",
        Counted::Failed => "failed",
    }
}

/// Adds to what is counted of a project in the span that begins at `start`. One write, of
/// a kilobyte or two.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer;
/// it may have been added all the same.
pub async fn add(
    dynamo: &Dynamo,
    project: &ProjectId,
    (span, start): (Span, Timestamp),
    counts: &ActivityCounts,
    retention_days: u32,
) -> Result<()> {
    let mut added: Vec<_> = Counted::ALL
        .into_iter()
        .map(|what| (attribute(what).to_owned(), counts.of(what)))
        .filter(|(_, count)| *count > 0)
        .collect();
    for (prefix, distribution) in [(ATTEMPT, &counts.attempt), (LAG, &counts.lag)] {
        let buckets = distribution.buckets();
        added.extend(buckets.map(|(bucket, count)| (format!("{prefix}{bucket}"), count)));
    }
    let kept = match span {
        Span::Slot => SLOT_KEPT,
        Span::Hour => hours_kept(retention_days),
    };
    let update = dynamo.update(keys::activity(project), keys::activity_in(span, start));
    send(update, &added, start + kept).await
}

/// Adds to an endpoint's failures in an hour. One write.
///
/// # Errors
/// As [`add`].
pub async fn add_failures(
    dynamo: &Dynamo,
    project: &ProjectId,
    hour: Timestamp,
    failures: &EndpointFailures,
    retention_days: u32,
) -> Result<()> {
    let sort = keys::failures(hour, Some(&failures.endpoint));
    let added = [
        ("attempts".to_owned(), failures.attempts),
        ("deliveries".to_owned(), failures.deliveries),
    ];
    let update = dynamo.update(keys::activity(project), sort);
    send(update, &added, hour + hours_kept(retention_days)).await
}

fn hours_kept(retention_days: u32) -> SignedDuration {
    SignedDuration::from_hours(i64::from(retention_days.max(DAYS_MIN)) * 24)
}

async fn send(
    mut update: UpdateItemFluentBuilder,
    added: &[(String, u64)],
    expires: Timestamp,
) -> Result<()> {
    let clauses: Vec<_> = added
        .iter()
        .map(|(name, _)| format!("#{name} :{name}"))
        .collect();
    for (name, count) in added {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        update = update
            .expression_attribute_names(format!("#{name}"), name)
            .expression_attribute_values(format!(":{name}"), n(count));
    }
    update
        .update_expression(format!("set #ttl = :ttl add {}", clauses.join(", ")))
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":ttl", n(expires.as_second()))
        .send()
        .await
        .map_err(unavailable)?;
    Ok(())
}

/// What is counted of a project in the spans that begin from `since` on and before
/// `until`, by their starts. Eventually consistent; half a read unit for 4 KB, which is
/// some eight spans.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn list(
    dynamo: &Dynamo,
    project: &ProjectId,
    span: Span,
    since: Timestamp,
    until: Timestamp,
) -> Result<BTreeMap<Timestamp, ActivityCounts>> {
    let bounds = [since, until].map(|at| keys::activity_in(span, at));
    let items = read(dynamo, project, &bounds, usize::MAX).await?;
    let counted = items.iter().filter_map(|item| {
        let start = keys::start_of_activity(item.str_opt("sk")?)?;
        (start < until).then(|| (start, counts_of(item)))
    });
    Ok(counted.collect())
}

/// The endpoints of a project that failed in the hours that begin from `since` on and
/// before `until`, those that failed most first. Of more than 10,000 endpoints and hours,
/// the latest.
///
/// # Errors
/// As [`list`].
pub async fn list_failures(
    dynamo: &Dynamo,
    project: &ProjectId,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<EndpointFailures>> {
    let bounds = [since, until].map(|at| keys::failures(at, None));
    let items = read(dynamo, project, &bounds, FAILURES_MAX).await?;
    let mut found = HashMap::<EndpointId, EndpointFailures>::new();
    for item in &items {
        let endpoint = item.str_opt("sk").and_then(keys::endpoint_of_failures);
        let Some(endpoint) = endpoint else { continue };
        let failures = found.entry(endpoint.clone());
        let failures = failures.or_insert(EndpointFailures {
            endpoint,
            attempts: 0,
            deliveries: 0,
        });
        failures.attempts += count(item, "attempts");
        failures.deliveries += count(item, "deliveries");
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by(|a, b| (b.attempts, &a.endpoint).cmp(&(a.attempts, &b.endpoint)));
    Ok(found)
}

/// Up to `limit` items of a project's activity between two sort keys, the latest first.
async fn read(
    dynamo: &Dynamo,
    project: &ProjectId,
    [from, to]: &[String; 2],
    limit: usize,
) -> Result<Vec<Item>> {
    let mut items = vec![];
    let mut start = None;
    loop {
        let query = dynamo.client.query().table_name(&dynamo.table);
        let output = query
            .key_condition_expression("pk = :pk and sk between :from and :to")
            .expression_attribute_values(":pk", s(keys::activity(project)))
            .expression_attribute_values(":from", s(from))
            .expression_attribute_values(":to", s(to))
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(unavailable)?;
        items.extend(kept(output.items.unwrap_or_default()));
        start = output.last_evaluated_key.filter(|key| !key.is_empty());
        if start.is_none() || items.len() >= limit {
            items.truncate(limit);
            return Ok(items);
        }
    }
}

fn counts_of(item: &Item) -> ActivityCounts {
    let mut counts = ActivityCounts::default();
    for what in Counted::ALL {
        counts.add(what, count(item, attribute(what)));
    }
    for name in item.keys() {
        let add = |prefix, distribution: &mut Distribution| {
            let bucket = name.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
            if let Some(bucket) = bucket {
                distribution.add(bucket, count(item, name));
            }
        };
        add(ATTEMPT, &mut counts.attempt);
        add(LAG, &mut counts.lag);
    }
    counts
}

fn count(item: &Item, name: &str) -> u64 {
    let count = item.num_opt(name).unwrap_or(0);
    u64::try_from(count).unwrap_or(0)
}

/// How many deliveries to `endpoint` are pending and late, up to about `most`: one query
/// of each shard, which reads that part of them.
///
/// # Errors
/// As [`list`].
pub async fn count_waiting(dynamo: &Dynamo, endpoint: &EndpointId, most: usize) -> Result<usize> {
    let shards = usize::from(keys::TIMELINE_SHARDS);
    let limit = i32::try_from(most.div_ceil(shards)).unwrap_or(i32::MAX);
    let counts = (0..keys::TIMELINE_SHARDS).map(|shard| async move {
        let partition = keys::deliveries_in(endpoint, DeliveryState::Pending, shard);
        let query = dynamo.client.query().table_name(&dynamo.table);
        let output = query
            .index_name(Listing::Detail.index())
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", Listing::Detail.attribute())
            .expression_attribute_values(":pk", s(partition))
            .select(Select::Count)
            .limit(limit)
            .send()
            .await
            .map_err(unavailable)?;
        Ok::<_, Error>(usize::try_from(output.count()).unwrap_or(0))
    });
    Ok(future::try_join_all(counts).await?.iter().sum())
}
