//! Many items in one call: what BatchGetItem and BatchWriteItem ask of a caller.

use std::time::Duration;

use aws_sdk_dynamodb::types::{DeleteRequest, KeysAndAttributes, WriteRequest};

use super::dynamo::{Dynamo, Item, s, unavailable};
use crate::error::{Error, Result};

/// Keys of one BatchGetItem.
const GETS_MAX: usize = 100;
/// Writes of one BatchWriteItem.
const WRITES_MAX: usize = 25;
/// Rounds for what DynamoDB left unprocessed.
const ROUNDS_MAX: u32 = 5;

/// The items at `wanted`, pairs of `pk` and `sk` that are all different; those
/// that are there, in no order. What was written just now may be missing.
pub(super) async fn get<'a>(
    dynamo: &Dynamo,
    wanted: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Item>> {
    read(dynamo, wanted, false).await
}

/// As [`get`], but nothing is missing, at twice the price.
pub(super) async fn get_consistent<'a>(
    dynamo: &Dynamo,
    wanted: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Item>> {
    read(dynamo, wanted, true).await
}

async fn read<'a>(
    dynamo: &Dynamo,
    wanted: impl Iterator<Item = (&'a str, &'a str)>,
    is_consistent: bool,
) -> Result<Vec<Item>> {
    let wanted: Vec<Item> = wanted.map(key).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for chunk in wanted.chunks(GETS_MAX) {
        let mut keys = chunk.to_vec();
        for round in 0..ROUNDS_MAX {
            pause(round).await;
            let asked = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(is_consistent);
            let output = dynamo
                .client
                .batch_get_item()
                .request_items(&dynamo.table, asked.build().map_err(Error::internal)?)
                .send()
                .await
                .map_err(unavailable)?;
            found.extend(output.responses.unwrap_or_default().into_values().flatten());
            let left = output.unprocessed_keys.unwrap_or_default();
            keys = left.into_values().flat_map(|left| left.keys).collect();
            if keys.is_empty() {
                break;
            }
        }
        if !keys.is_empty() {
            return Err(unprocessed("BatchGetItem", keys.len()));
        }
    }
    Ok(found)
}

/// Deletes the items at `doomed`, pairs of `pk` and `sk` that are all different,
/// whether they are there or not.
pub(super) async fn delete<'a>(
    dynamo: &Dynamo,
    doomed: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let doomed = doomed.map(|at| {
        let delete = DeleteRequest::builder().set_key(Some(key(at)));
        let delete = delete.build().map_err(Error::internal)?;
        Ok(WriteRequest::builder().delete_request(delete).build())
    });
    let doomed: Vec<WriteRequest> = doomed.collect::<Result<_>>()?;
    for chunk in doomed.chunks(WRITES_MAX) {
        let mut writes = chunk.to_vec();
        for round in 0..ROUNDS_MAX {
            pause(round).await;
            let output = dynamo
                .client
                .batch_write_item()
                .request_items(&dynamo.table, writes)
                .send()
                .await
                .map_err(unavailable)?;
            let left = output.unprocessed_items.unwrap_or_default();
            writes = left.into_values().flatten().collect();
            if writes.is_empty() {
                break;
            }
        }
        if !writes.is_empty() {
            return Err(unprocessed("BatchWriteItem", writes.len()));
        }
    }
    Ok(())
}

fn key((pk, sk): (&str, &str)) -> Item {
    Item::from([("pk".into(), s(pk)), ("sk".into(), s(sk))])
}

async fn pause(round: u32) {
    if round > 0 {
        tokio::time::sleep(Duration::from_millis(20 << round)).await;
    }
}

fn unprocessed(call: &str, left: usize) -> Error {
    Error::Unavailable {
        what: "the event store",
        source: anyhow::anyhow!("{call} left {left} items unprocessed"),
    }
}
