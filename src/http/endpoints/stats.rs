//! The statistics of an endpoint: its circuit breaker, its run of failures and its
//! latest deliveries.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::http::auth::{Allowed, EndpointsRead};
use crate::http::extract::{Json, Path};
use crate::http::lookup;
use crate::http::problem::Problems;
use crate::model::breaker::BreakerState;
use crate::model::delivery::DeliveryState;
use crate::model::endpoint::{EndpointState, Target};
use crate::model::endpoint_ref::EndpointRef;
use crate::model::time::Time;
use crate::store::deliveries::{self, DeliveryFilter, Receivers, StoredDelivery};
use crate::store::timeline::{READ_MAX, TimelineRange};

/// Deliveries counted.
const LATEST_MAX: usize = 100;

/// How an endpoint does, as far as a few reads tell.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EndpointStats {
    /// Whether it takes events.
    #[schema(value_type = EndpointState)]
    state: EndpointState,
    /// Whether the instance that answers leaves it alone; each has its own view.
    breaker: BreakerStatus,
    /// Since when there was nothing but failures; null if its last attempt went
    /// well. A little late: it is written down once a minute at most.
    #[schema(required)]
    failing_since: Option<Time>,
    /// When it will be disabled, should it go on like this.
    #[schema(required)]
    disabled_at: Option<Time>,
    /// Its latest deliveries.
    latest: LatestDeliveries,
}

/// An endpoint's circuit breaker.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CircuitBreaker)]
pub struct BreakerStatus {
    /// `closed` lets attempts through, `open` none, `half_open` one.
    #[schema(value_type = BreakerState)]
    state: BreakerState,
    /// Failures in a row: no answer, 429 or 5xx.
    failures: u32,
    /// When it is tried again, while it is open.
    #[schema(required)]
    retry_at: Option<Time>,
}

/// The latest deliveries to an endpoint, up to 100, counted by state.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct LatestDeliveries {
    /// When the oldest of them was planned; null if there is none.
    #[schema(required)]
    since: Option<Time>,
    /// How many they are.
    deliveries: usize,
    /// An attempt is due now or later.
    pending: usize,
    /// It answered 2xx.
    delivered: usize,
    /// Given up.
    failed: usize,
    /// Not attempted.
    canceled: usize,
}

/// See how an endpoint does: its circuit breaker, since when it fails, its latest
/// 100 deliveries by state.
#[utoipa::path(get, path = "/v1/endpoints/{id}/stats", tag = "endpoints",
    operation_id = "getEndpointStats",
    params(("id" = String, Path, description = "ep_…, or its uid")),
    responses((status = 200, body = EndpointStats), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn stats(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Path(named): Path<EndpointRef>,
) -> Result<Json<EndpointStats>> {
    let id = lookup::endpoint(&app, &caller.access, &named).await?;
    let project = caller.access.project();
    let project_config = app.projection.project_config(project).await?;
    let target = project_config
        .targets
        .get(&id)
        .filter(|target| target.state != EndpointState::Deleted)
        .ok_or_else(|| Error::not_found("endpoint", &id))?;
    let range = TimelineRange {
        since: None,
        until: None,
        after: None,
        limit: LATEST_MAX,
    };
    let filter = DeliveryFilter {
        to: Receivers::One(&id),
        state: None,
        event_type: None,
        tenant: caller.access.tenant(),
        // Of any age: the state is not asked for.
        fresh: app::now(),
    };
    let page = deliveries::list(&app.dynamo, &filter, &range, READ_MAX).await?;
    Ok(Json(stats_of(&app, target, &page.rows)))
}

fn stats_of(app: &App, target: &Target, rows: &[StoredDelivery]) -> EndpointStats {
    let breaker = app.admission.breaker_status(target, app::now());
    let failing = target
        .failure_streak()
        .filter(|_| target.state == EndpointState::Enabled);
    let disable_after = app.config.disable_after();
    EndpointStats {
        state: target.state,
        breaker: BreakerStatus {
            state: breaker.state,
            failures: breaker.failures,
            retry_at: breaker.retry_at.map(Time),
        },
        failing_since: failing.map(|failing| failing.since.into()),
        disabled_at: failing
            .zip(disable_after)
            .map(|(failing, disable_after)| (failing.since + disable_after).into()),
        latest: count(rows),
    }
}

fn count(rows: &[StoredDelivery]) -> LatestDeliveries {
    let mut latest = LatestDeliveries {
        since: rows.iter().map(|row| row.created).min().map(Time),
        deliveries: rows.len(),
        ..LatestDeliveries::default()
    };
    for row in rows {
        *match row.state {
            DeliveryState::Pending => &mut latest.pending,
            DeliveryState::Delivered => &mut latest.delivered,
            DeliveryState::Failed => &mut latest.failed,
            DeliveryState::Canceled => &mut latest.canceled,
        } += 1;
    }
    latest
}
