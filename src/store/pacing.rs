//! The pace of endpoints with a rate limit: when each may be called next, one
//! number that all processes move on; and a second for the places of attempts that found
//! no slot and ask again.

use aws_sdk_dynamodb::types::ReturnValue;
use jiff::{SignedDuration, Timestamp};

use super::dynamo::{Conditional, Dynamo, ItemExt, n, update_if, update_or_seen};
use super::keys;
use crate::error::{Error, Result};
use crate::model::id::EndpointId;
use crate::model::pacing::{AHEAD_MAX, Pace, SlotBlock};

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
        let slots = Line {
            attribute: "tat_us",
            from: now,
            to: now + AHEAD_MAX,
            block_us: micros(pace.block()),
        };
        match claim_next(dynamo, endpoint, &slots).await? {
            Next::Claimed(start) => return Ok(Some(start)),
            Next::Beyond => return Ok(None),
            Next::Before => {}
        }
        if claim_first(dynamo, endpoint, &slots).await? {
            return Ok(Some(now));
        }
        // Others were quicker at the first.
    }
    Ok(None)
}

/// Claims a block of places behind all slots, each later than [`AHEAD_MAX`]. They are no
/// slots: whoever has one asks for a slot when that is about to be.
///
/// One conditional write, or two for the first.
///
/// # Errors
/// [`Error::Unavailable`] when DynamoDB does not answer.
pub async fn claim_places(
    dynamo: &Dynamo,
    endpoint: &EndpointId,
    pace: Pace,
    now: Timestamp,
) -> Result<SlotBlock> {
    let far = now + AHEAD_MAX;
    let places = Line {
        attribute: "line_us",
        from: far,
        to: Timestamp::MAX,
        block_us: micros(pace.interval() * pace.block_places()),
    };
    let mut start = far;
    for _ in 0..TRIES_MAX {
        if let Next::Claimed(next) = claim_next(dynamo, endpoint, &places).await? {
            start = next;
            break;
        }
        if claim_first(dynamo, endpoint, &places).await? {
            break;
        }
    }
    Ok(SlotBlock::of_places(pace, start))
}

/// Times an idle endpoint's first claim may be lost to others.
const TRIES_MAX: u32 = 2;

/// A time up to which an endpoint's slots or places are given away, and what of it is
/// claimed at once.
struct Line {
    /// The attribute, in microseconds.
    attribute: &'static str,
    /// Nothing before this is given away.
    from: Timestamp,
    /// Nor anything from here on.
    to: Timestamp,
    block_us: i64,
}

/// What follows what is given away already.
enum Next {
    /// It is claimed, from here on.
    Claimed(Timestamp),
    /// It is too far ahead.
    Beyond,
    /// It is over: the first is to be claimed.
    Before,
}

/// Claims what follows what is given away already.
async fn claim_next(dynamo: &Dynamo, endpoint: &EndpointId, line: &Line) -> Result<Next> {
    let kept_from = line.to.min(line.from + AHEAD_MAX);
    let update = dynamo
        .update(endpoint.as_str(), keys::PACE)
        .update_expression("set #line = #line + :block, #ttl = :ttl")
        .condition_expression("#line > :from and #line < :to")
        .expression_attribute_names("#line", line.attribute)
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":block", n(line.block_us))
        .expression_attribute_values(":from", n(line.from.as_microsecond()))
        .expression_attribute_values(":to", n(line.to.as_microsecond()))
        .expression_attribute_values(":ttl", n(kept_until(kept_from)))
        .return_values(ReturnValue::AllNew);
    let seen = match update_or_seen(update).await? {
        Conditional::Done(item) => {
            let item = item.ok_or_else(no_attributes)?;
            let start = Timestamp::from_microsecond(item.num(line.attribute)? - line.block_us);
            return start.map(Next::Claimed).map_err(Error::internal);
        }
        Conditional::Refused(seen) => seen.and_then(|item| item.num_opt(line.attribute)),
    };
    Ok(match seen {
        Some(given) if given >= line.to.as_microsecond() => Next::Beyond,
        _ => Next::Before,
    })
}

/// Claims the first, if nothing is given away beyond it.
async fn claim_first(dynamo: &Dynamo, endpoint: &EndpointId, line: &Line) -> Result<bool> {
    let next = line.from.as_microsecond().saturating_add(line.block_us);
    let update = dynamo
        .update(endpoint.as_str(), keys::PACE)
        .update_expression("set #line = :next, #ttl = :ttl")
        .condition_expression("attribute_not_exists(#line) or #line <= :from")
        .expression_attribute_names("#line", line.attribute)
        .expression_attribute_names("#ttl", "ttl")
        .expression_attribute_values(":next", n(next))
        .expression_attribute_values(":from", n(line.from.as_microsecond()))
        .expression_attribute_values(":ttl", n(kept_until(line.from + AHEAD_MAX)));
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
