//! The preview of a recovery: how many it would begin, before it is asked for.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{Period, RetryableState, planned};
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::auth::{Allowed, EventsRead};
use crate::http::extract::{Json, Query};
use crate::http::problem::Problems;
use crate::http::{lookup, page};
use crate::model::access::Access;
use crate::model::endpoint::EndpointState;
use crate::model::endpoint_ref::EndpointRef;
use crate::model::id::RecoveryId;
use crate::model::recovery::{Recovery, RecoveryKind};
use crate::model::time::Time;
use crate::store::recovery_selection::{self as selection, SelectionCount};

/// A kind of recovery that a person begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreviewedKind {
    /// As `POST /v1/endpoints/{id}/recover` does.
    Recover,
    /// As `POST /v1/endpoints/{id}/replay-missing` does.
    ReplayMissing,
    /// As `POST /v1/deliveries/retry` does.
    Retry,
}

/// The recovery that is thought of.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewRecovery {
    /// What it would do.
    #[param(inline, example = "recover")]
    kind: PreviewedKind,
    /// At this endpoint, by its id or its uid.
    #[param(value_type = String, example = "ep_…")]
    endpoint_id: EndpointRef,
    /// Of what was created at or after this time,
    #[param(value_type = String, format = DateTime)]
    since: Time,
    /// and before this; absent, as the recovery of this kind has it.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// With `recover` alone: pending deliveries too.
    include_pending: Option<bool>,
    /// With `retry`, which needs it, alone: deliveries in this state.
    #[param(inline)]
    state: Option<RetryableState>,
    /// With `retry` alone: of events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// With `retry` alone: of this tenant's events.
    tenant: Option<String>,
}

/// How many deliveries a recovery would begin.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RecoveryPreview {
    /// Deliveries that it would begin, as far as they were counted.
    count: usize,
    /// Whether all of its time was looked at; if not, there may be more of them.
    is_exact: bool,
    /// Rows looked at.
    examined: usize,
}

impl From<SelectionCount> for RecoveryPreview {
    fn from(counted: SelectionCount) -> Self {
        Self {
            count: counted.count,
            is_exact: counted.is_exact,
            examined: counted.examined,
        }
    }
}

/// See how many deliveries a recovery would begin, without beginning it.
///
/// Counted as the recovery itself chooses them, the newest first: up to 1,000, among the
/// newest 2,000 rows or a few more. What changes until it is begun changes the number, and
/// a pending delivery whose attempt is just under way is counted and then left alone.
#[utoipa::path(get, path = "/v1/recoveries/preview", tag = "recoveries",
    operation_id = "previewRecovery",
    params(PreviewRecovery),
    responses((status = 200, body = RecoveryPreview), Problems,
        (status = 404, description = "The endpoint is not there, or another project's")),
    security(("api_key" = ["events:read"])))]
pub async fn preview(
    State(app): State<Arc<App>>,
    caller: Allowed<EventsRead>,
    Query(query): Query<PreviewRecovery>,
) -> Result<Json<RecoveryPreview>> {
    let access = &caller.access;
    let recovery = recovery_of(&app, access, &query)?;
    let id = lookup::endpoint(&app, access, &query.endpoint_id).await?;
    let current = app.projection.current_endpoint(access.project(), &id);
    let current = current.await?;
    let target = current.filter(|target| target.state != EndpointState::Deleted);
    let target = target.ok_or_else(|| Error::not_found("endpoint", &id))?;
    let days = app.config.retention_days;
    let counted = selection::count(&app.dynamo, recovery, &target, days, app::now());
    Ok(Json(counted.await?.into()))
}

/// The recovery that `query` describes, which is never begun.
fn recovery_of(app: &App, access: &Access, query: &PreviewRecovery) -> Result<Recovery> {
    let kind = query.kind;
    let misplaced = [
        (
            "include_pending",
            query.include_pending.is_some(),
            PreviewedKind::Recover,
            "recover",
        ),
        (
            "state",
            query.state.is_some(),
            PreviewedKind::Retry,
            "retry",
        ),
        (
            "type",
            query.event_type.is_some(),
            PreviewedKind::Retry,
            "retry",
        ),
        (
            "tenant",
            query.tenant.is_some(),
            PreviewedKind::Retry,
            "retry",
        ),
    ];
    for (field, is_given, of, name) in misplaced {
        if is_given && kind != of {
            return Err(Error::invalid(
                field,
                format!("expected only with kind {name}"),
            ));
        }
    }
    page::type_pattern(query.event_type.as_deref())?;
    let id = RecoveryId::new(app::now().as_millisecond(), app.random());
    let period = Period {
        since: query.since,
        until: query.until,
    };
    let mut recovery = planned(app, id, access, kind.into(), &period)?;
    recovery.includes_pending = query.include_pending.unwrap_or_default();
    if kind == PreviewedKind::Retry {
        let state = query.state.ok_or_else(|| {
            Error::invalid("state", "expected failed or canceled with kind retry")
        })?;
        recovery.deliveries = Some(state.into());
        let tenant = access.narrow(query.tenant.as_deref())?;
        recovery.tenant = tenant.map(str::to_owned);
        recovery.event_type = query.event_type.clone();
    }
    Ok(recovery)
}

impl From<PreviewedKind> for RecoveryKind {
    fn from(kind: PreviewedKind) -> Self {
        match kind {
            PreviewedKind::Recover => Self::Recover,
            PreviewedKind::ReplayMissing => Self::ReplayMissing,
            PreviewedKind::Retry => Self::Retry,
        }
    }
}
