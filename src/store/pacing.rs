//! The pace of endpoints with a rate limit: when each may be called next, one
//! number that all processes move on.

use aws_sdk_dynamodb::types::ReturnValue;
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{Dynamo, DynamoErrorKind, ItemExt, kind, n, unavailable, update_if};
use super::keys;
use crate::error::{Error, Result};
use crate::model::id::EndpointId;
use crate::model::pacing::{AHEAD_MAX, Pace};

/// How long the number outlives its last slot.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Claims a block of slots for `endpoint`; when its first one is, `now` or later.
/// None if all slots before [`AHEAD_MAX`] are given away.
///
/// One conditional write, or two when the endpoint was idle.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn claim(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    pace: Pace,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    for _ in 0..TRIES_MAX {
        if let Some(start) = claim_next(dynamo, endpoint, pace, now).await? {
            return Ok(Some(start));
        }
        if claim_first(dynamo, endpoint, pace, now).await? {
            return Ok(Some(now));
        }
        // Either it is given away far ahead, or others were quicker at the first.
    }
    Ok(None)
}

/// Times an idle endpoint's first claim may be lost to others.
const TRIES_MAX: u32 = 2;

/// Claims what follows the slots that are given away already.
async fn claim_next(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    pace: Pace,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let block_us = micros(pace.block());
    let far = now + AHEAD_MAX;
    let update = dynamo
        .update(endpoint.as_str(), keys::PACE)
        .update_expression("set tat_us = tat_us + :block, #ttl = :ttl")
        .condition_expression("tat_us > :now and tat_us < :far")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":block", n(block_us))
        .expression_attribute_values(":now", n(now.as_microsecond()))
        .expression_attribute_values(":far", n(far.as_microsecond()))
        .expression_attribute_values(":ttl", n(kept_until(far)))
        .return_values(ReturnValue::AllNew);
    match update.send().await {
        Ok(output) => {
            let item = output.attributes().ok_or_else(no_attributes)?;
            let start = Timestamp::from_microsecond(item.num("tat_us")? - block_us);
            Ok(Some(start.map_err(Error::internal)?))
        }
        Err(error) if kind(&error) == DynamoErrorKind::Condition => Ok(None),
        Err(error) => Err(unavailable(error)),
    }
}

/// Claims from `now` on, if nothing is given away beyond it.
async fn claim_first(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    pace: Pace,
    now: Timestamp,
) -> Result<bool> {
    let next = now + pace.block();
    let update = dynamo
        .update(endpoint.as_str(), keys::PACE)
        .update_expression("set tat_us = :next, #ttl = :ttl")
        .condition_expression("attribute_not_exists(tat_us) or tat_us <= :now")
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":next", n(next.as_microsecond()))
        .expression_attribute_values(":now", n(now.as_microsecond()))
        .expression_attribute_values(":ttl", n(kept_until(next)));
    update_if(update).await
}

fn kept_until(at: Timestamp) -> i64 {
    at.saturating_add(KEPT)
        .unwrap_or(Timestamp::MAX)
        .as_second()
}

fn micros(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn no_attributes() -> Error {
    Error::internal(anyhow::anyhow!("an update returned no attributes"))
}
