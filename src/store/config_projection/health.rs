//! An endpoint's health in the data plane: since when it fails, and that it was
//! disabled for it.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use jiff::{SignedDuration, Timestamp};

use super::ConfigProjection;
use crate::error::{Error, Result};
use crate::model::endpoint::{EndpointState, PendingDisable};
use crate::model::failure_streak::FailureStreak;
use crate::model::id::{EndpointId, ProjectId};
use crate::store::dynamo::{
    DynamoErrorKind, Item, ItemExt, kind, ms, n, now_s, s, unavailable, update_if, update_once,
};
use crate::store::keys;
use crate::store::transact::{self, TransactOutcome};

/// How long a run of failures is stored that nothing ends, since its endpoint was
/// deleted.
const FAILURE_STREAK_KEPT: SignedDuration = SignedDuration::from_hours(365 * 24);

/// Why an endpoint is disabled by the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It answered 410.
    Gone,
    /// Nothing but failures since this.
    Failing(Timestamp),
}

impl Reason {
    fn state(self) -> EndpointState {
        match self {
            Self::Gone => EndpointState::Gone,
            Self::Failing(_) => EndpointState::Failed,
        }
    }
}

/// An endpoint to be disabled.
#[derive(Debug, Clone, Copy)]
pub struct Disabling<'a> {
    /// Which endpoint.
    pub endpoint: &'a EndpointId,
    /// The version that was called: a later one is not disabled.
    pub version: i64,
    /// What is wrong with it.
    pub reason: Reason,
    /// When it is disabled.
    pub at: Timestamp,
    /// When the control plane is told at the latest: then the sweeper does it.
    pub due: Timestamp,
}

impl ConfigProjection {
    /// Records that a run of failures of `endpoint` began at `since`, unless one is
    /// recorded that did after `enabled_at`: since when it fails. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn record_failing(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        since: Timestamp,
        enabled_at: Timestamp,
    ) -> Result<Timestamp> {
        let update = self
            .begin_streak(project, endpoint, since)
            .condition_expression(
                "attribute_not_exists(failing_since) or failing_since < :enabled \
                 or #ttl <= :now_s",
            )
            .expression_attribute_values(":enabled", ms(enabled_at))
            .expression_attribute_values(":now_s", now_s(since))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(since),
            Err(error) if kind(&error) == DynamoErrorKind::Condition => {
                match error.into_service_error() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => {
                        let known = failed.item().map(|item| item.time("failing_since"));
                        known.unwrap_or(Ok(since))
                    }
                    other => Err(Error::internal(other)),
                }
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Records that another run of failures began at `since`, in place of `before`,
    /// which nothing is known to have continued. False if that is not recorded any
    /// more. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn record_failing_anew(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        since: Timestamp,
        before: FailureStreak,
    ) -> Result<bool> {
        update_once(
            self.begin_streak(project, endpoint, since)
                .condition_expression("failing_since = :before")
                .expression_attribute_values(":before", ms(before.since)),
            |seen| seen.num_opt("failing_since") == Some(since.as_millisecond()),
        )
        .await
    }

    fn begin_streak(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        since: Timestamp,
    ) -> UpdateItemFluentBuilder {
        let ends = since
            .saturating_add(FAILURE_STREAK_KEPT)
            .unwrap_or(Timestamp::MAX);
        self.dynamo
            .update(keys::project(project), keys::endpoint_health(endpoint))
            .update_expression(
                "set failing_since = :since, failed_at = :since, #ttl = :ttl remove told",
            )
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":since", ms(since))
            .expression_attribute_values(":ttl", n(ends.as_second()))
    }

    /// Records that the run of failures since `since` went on at `at`. False if it
    /// has ended. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn record_still_failing(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        since: Timestamp,
        at: Timestamp,
    ) -> Result<bool> {
        update_if(
            self.dynamo
                .update(keys::project(project), keys::endpoint_health(endpoint))
                .update_expression("set failed_at = :at")
                .condition_expression("failing_since = :since")
                .expression_attribute_values(":at", ms(at))
                .expression_attribute_values(":since", ms(since)),
        )
        .await
    }

    /// Deletes the run of failures of `endpoint`: it worked at `at`. One that began
    /// later is another. One conditional write.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn clear_failing(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        at: Timestamp,
    ) -> Result<()> {
        let delete = self.dynamo.client.delete_item();
        let delete = delete
            .table_name(&self.dynamo.table)
            .key("pk", s(keys::project(project)))
            .key("sk", s(keys::endpoint_health(endpoint)))
            .condition_expression("failing_since <= :at")
            .expression_attribute_values(":at", ms(at));
        match delete.send().await {
            Err(error) if kind(&error) != DynamoErrorKind::Condition => Err(unavailable(error)),
            _ => Ok(()),
        }
    }

    /// Records that the owner of `endpoint` was warned at `at` of the failures since
    /// `since`. False if that run of failures has ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn record_warned(
        &self,
        project: &ProjectId,
        endpoint: &EndpointId,
        since: Timestamp,
        at: Timestamp,
    ) -> Result<bool> {
        update_if(
            self.dynamo
                .update(keys::project(project), keys::endpoint_health(endpoint))
                .update_expression("set told = :told, failed_at = :at")
                .expression_attribute_values(":at", ms(at))
                .condition_expression("failing_since = :since")
                .expression_attribute_values(":told", AttributeValue::Bool(true))
                .expression_attribute_values(":since", ms(since)),
        )
        .await
    }

    /// Stops deliveries to an endpoint, at once and without the control plane, and
    /// writes a [`PendingDisable`] for it. False if the endpoint was not enabled, is
    /// of another version than the one that was called, or has not failed since
    /// then after all. One transaction.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn disable(&self, project: &ProjectId, disabling: Disabling<'_>) -> Result<bool> {
        let Disabling {
            endpoint: id,
            version,
            reason,
            at,
            due,
        } = disabling;
        let table = &self.dynamo.table;
        let update = Update::builder()
            .table_name(table)
            .key("pk", s(keys::project(project)))
            .key("sk", s(keys::endpoint(id)))
            .update_expression("set #state = :state")
            .condition_expression("#state = :enabled and version = :version")
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":state", s(reason.state().as_str()))
            .expression_attribute_values(":enabled", s(EndpointState::Enabled.as_str()))
            .expression_attribute_values(":version", n(version))
            .build()
            .map_err(Error::internal)?;
        let mut put = Put::builder()
            .table_name(table)
            .item("pk", s(id.as_str()))
            .item("sk", s(keys::DISABLE))
            .item("version", n(version))
            .item("at", ms(at))
            .item("state", s(reason.state().as_str()))
            .item("project", s(project.as_str()))
            .item("due_pk", s(keys::due(0)))
            .item("due_sk", s(keys::due_sort(due, id.as_str())));
        let mut writes = vec![TransactWriteItem::builder().update(update).build()];
        if let Reason::Failing(since) = reason {
            put = put.item("failing_since", ms(since));
            // Another process may have seen it work since this one read it.
            let failures = Delete::builder()
                .table_name(table)
                .key("pk", s(keys::project(project)))
                .key("sk", s(keys::endpoint_health(id)))
                .condition_expression("failing_since = :since")
                .expression_attribute_values(":since", ms(since))
                .build()
                .map_err(Error::internal)?;
            writes.push(TransactWriteItem::builder().delete(failures).build());
        }
        let put = put.build().map_err(Error::internal)?;
        writes.push(TransactWriteItem::builder().put(put).build());
        let transacted = transact::transact(&self.dynamo, writes).await;
        self.invalidate(project);
        let is_disabled = matches!(transacted?, TransactOutcome::Committed);
        if is_disabled && let Err(error) = self.count_change(project).await {
            // Other processes see it when the control plane is told, or in a minute.
            let cause = error.causes();
            tracing::warn!(endpoint.id = %id, %error, cause, "failed to announce that an endpoint is disabled");
        }
        Ok(is_disabled)
    }

    /// The pending disable of an endpoint; none once the control plane knows.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn pending_disable(&self, id: &EndpointId) -> Result<Option<PendingDisable>> {
        let item = self.dynamo.get(id.as_str(), keys::DISABLE).await?;
        item.as_ref().map(read_pending_disable).transpose()
    }

    /// Deletes a pending disable that the control plane knows, unless another has
    /// taken its place.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when DynamoDB does not answer.
    pub async fn clear_pending_disable(
        &self,
        id: &EndpointId,
        pending: &PendingDisable,
    ) -> Result<()> {
        let delete = self.dynamo.client.delete_item();
        let delete = delete.table_name(&self.dynamo.table);
        let delete = delete
            .key("pk", s(id.as_str()))
            .key("sk", s(keys::DISABLE))
            .condition_expression("version = :version")
            .expression_attribute_values(":version", n(pending.version));
        match delete.send().await {
            Err(error) if kind(&error) != DynamoErrorKind::Condition => Err(unavailable(error)),
            _ => Ok(()),
        }
    }
}

fn read_pending_disable(item: &Item) -> Result<PendingDisable> {
    Ok(PendingDisable {
        version: item.num("version")?,
        at: item.time("at")?,
        state: match item.str_opt("state") {
            Some(_) => item.parse("state")?,
            None => EndpointState::Gone,
        },
        project: match item.str_opt("project") {
            Some(_) => Some(item.parse("project")?),
            None => None,
        },
        failing_since: match item.num_opt("failing_since") {
            Some(_) => Some(item.time("failing_since")?),
            None => None,
        },
    })
}
