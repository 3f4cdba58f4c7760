//! BatchWriteItem: deleting many items in one call, and again what it left.

use aws_sdk_dynamodb::types::{DeleteRequest, WriteRequest};

use super::dynamo::{Dynamo, Item, UNPROCESSED_WAIT, backoff, s, unavailable};
use crate::error::{Error, Result};

/// Writes that one BatchWriteItem may have.
const WRITES_MAX: usize = 25;
/// Rounds for what DynamoDB left unprocessed.
const ROUNDS_MAX: u32 = 8;

/// Deletes the items at `keys`, pairs of `pk` and `sk` that are all different,
/// whether they are there or not.
pub(super) async fn delete<'a>(
    dynamo: &Dynamo,
    keys: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<()> {
    let keys = keys.map(|at| {
        let delete = DeleteRequest::builder().set_key(Some(key(at)));
        let delete = delete.build().map_err(Error::internal)?;
        Ok(WriteRequest::builder().delete_request(delete).build())
    });
    let keys: Vec<WriteRequest> = keys.collect::<Result<_>>()?;
    for chunk in keys.chunks(WRITES_MAX) {
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
            let source = anyhow::anyhow!("BatchWriteItem left {} unprocessed", writes.len());
            return Err(Error::Unavailable {
                what: "the event store",
                source,
            });
        }
    }
    Ok(())
}

fn key((pk, sk): (&str, &str)) -> Item {
    Item::from([("pk".into(), s(pk)), ("sk".into(), s(sk))])
}

async fn pause(round: u32) {
    if round > 0 {
        tokio::time::sleep(backoff(UNPROCESSED_WAIT, round)).await;
    }
}
