//! Transactions of DynamoDB, tried again when they meet one another or are throttled.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::TransactWriteItem;

use super::dynamo::{Dynamo, DynamoErrorKind, Item, backoff, is_throttle, kind, unavailable};
use crate::error::Result;

/// Tries of a transaction that meets another one on the same items, or is throttled.
const TRIES_MAX: u32 = 5;
/// The wait before the second try, which doubles.
const CONTENTION_WAIT: Duration = Duration::from_millis(20);
const THROTTLED_WAIT: Duration = Duration::from_millis(100);

/// How a transaction ended that DynamoDB answered.
#[derive(Debug)]
pub(super) enum TransactOutcome {
    /// It took place.
    Committed,
    /// An item's condition did not hold; what is there, if that was asked for.
    ConditionFailed(Option<Item>),
}

/// Writes `items` together or not at all.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does
/// not answer, throttles, or other transactions on the same items go on.
pub(super) async fn transact(
    dynamo: &Dynamo,
    items: Vec<TransactWriteItem>,
) -> Result<TransactOutcome> {
    for tries in 1.. {
        let request = dynamo
            .client
            .transact_write_items()
            .set_transact_items(Some(items.clone()))
            .send();
        let Err(error) = request.await else {
            return Ok(TransactOutcome::Committed);
        };
        match cancel_reason(&error) {
            Some(CancelReason::Condition(old)) => return Ok(TransactOutcome::ConditionFailed(old)),
            Some(CancelReason::Contention) if tries < TRIES_MAX => {
                tokio::time::sleep(backoff(CONTENTION_WAIT, tries)).await;
            }
            // Its SDK tries a throttled call again, but not a transaction that was
            // canceled because one of its writes was throttled.
            Some(CancelReason::Throttled) if tries < TRIES_MAX => {
                tokio::time::sleep(backoff(THROTTLED_WAIT, tries)).await;
            }
            _ => return Err(unavailable(error)),
        }
    }
    unreachable!("the last try returns")
}

#[derive(Debug, PartialEq)]
enum CancelReason {
    Condition(Option<Item>),
    Contention,
    Throttled,
}

/// Why a transaction did not take place, when that was an item's condition, another
/// transaction on the same items or a throttle. A condition decides, whatever else
/// there was: trying again would end the same.
fn cancel_reason<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<CancelReason> {
    let canceled = match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(canceled) => canceled,
        _ => {
            return (kind(error) == DynamoErrorKind::Contention)
                .then_some(CancelReason::Contention);
        }
    };
    let reasons = canceled.cancellation_reasons();
    let with = |code| reasons.iter().find(|reason| reason.code() == Some(code));
    match with("ConditionalCheckFailed") {
        Some(refused) => Some(CancelReason::Condition(refused.item().cloned())),
        None if with("TransactionConflict").is_some() => Some(CancelReason::Contention),
        None => {
            let mut codes = reasons.iter().filter_map(|reason| reason.code());
            codes.any(is_throttle).then_some(CancelReason::Throttled)
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::CancellationReason;
    use aws_sdk_dynamodb::types::error::TransactionCanceledException;

    use super::*;

    fn canceled_by(codes: [&str; 2]) -> Option<CancelReason> {
        let reason = |code| CancellationReason::builder().code(code).build();
        let error = TransactionCanceledException::builder()
            .set_cancellation_reasons(Some(codes.map(reason).into()))
            .build();
        let error = TransactWriteItemsError::TransactionCanceledException(error);
        cancel_reason(&SdkError::service_error(error, ()))
    }

    #[test]
    fn only_a_failed_condition_is_an_answer() {
        let condition = Some(CancelReason::Condition(None));
        assert_eq!(canceled_by(["ConditionalCheckFailed", "None"]), condition);
        let condition = Some(CancelReason::Condition(None));
        assert_eq!(canceled_by(["None", "ConditionalCheckFailed"]), condition);
        let contention = Some(CancelReason::Contention);
        assert_eq!(canceled_by(["TransactionConflict", "None"]), contention);
        assert_eq!(canceled_by(["None", "TransactionConflict"]), contention);
        assert_eq!(canceled_by(["ValidationError", "None"]), None);
        for throttled in [
            "ThrottlingError",
            "ProvisionedThroughputExceeded",
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
        ] {
            let canceled = canceled_by(["None", throttled]);
            assert_eq!(canceled, Some(CancelReason::Throttled), "{throttled}");
            // What decides is what trying again does not change.
            let canceled = canceled_by([throttled, "ConditionalCheckFailed"]);
            assert_eq!(canceled, Some(CancelReason::Condition(None)), "{throttled}");
        }
    }
}
