//! The activity API: what happened in a project over time, and which endpoints fail.

use std::sync::Arc;

use axum::extract::State;
use futures_util::future;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::auth::{EndpointsRead, EventsRead, WholeProject};
use super::extract::{Json, Query};
use super::problem::Problems;
use crate::app::{self, App};
use crate::error::{Error, Result};
use crate::model::activity::{ActivityCounts, Counted, Distribution, EndpointFailures, Width};
use crate::model::endpoint::{EndpointState, Target};
use crate::model::id::EndpointId;
use crate::model::time::Time;
use crate::store::activity;

/// Endpoints in an answer, unless another number is asked for, and at most.
const ENDPOINTS_DEFAULT: usize = 10;
const ENDPOINTS_MAX: usize = 50;
/// Waiting deliveries of an endpoint that are counted.
const WAITING_MAX: usize = 1_000;

/// Which time to look at.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AskActivity {
    /// The first window is the one that holds this time: at most 2 days before `until` for
    /// windows of `5m`, 92 days for wider ones, and 750 windows. If absent, an hour before
    /// for `5m`, a day for `hour`, a week for `6h` and 30 days for `day`.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// The last window is the one that ends at this time, or holds it; now, if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// How wide windows are: an hour, if absent.
    #[param(inline, value_type = Option<Width>)]
    window: Option<Width>,
}

/// What happened in a project.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ActivityReport {
    /// Each window, the earliest first, those in which nothing happened too.
    windows: Vec<ActivityPeriod>,
    /// All of them together.
    total: ActivityPeriod,
}

/// What happened in a span of time, about: seconds late, and a little more or less where
/// an instance was killed or had to write twice.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ActivityPeriod {
    /// When it begins.
    start: Time,
    /// When the next one begins.
    end: Time,
    /// Events that were accepted, Millrace's own (`millrace.…`) among them.
    accepted: u64,
    /// Events that had been published before, with the same content.
    duplicates: u64,
    /// Attempts by what they came to.
    attempts: AttemptCounts,
    /// Deliveries that ended, by how.
    deliveries: DeliveryOutcomes,
    /// How long attempts took, from connecting to the end of the answer or the timeout;
    /// null if there was none.
    #[schema(required)]
    attempt_ms: Option<DurationPercentiles>,
    /// How late first attempts began, since their event came; null if there was none.
    #[schema(required)]
    lag_ms: Option<DurationPercentiles>,
}

/// Attempts by what they came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AttemptCounts {
    /// Answered 2xx.
    succeeded: u64,
    /// Answered otherwise, or not.
    failed: u64,
}

/// Deliveries that ended, by how.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeliveryOutcomes {
    /// Delivered by the first attempt.
    delivered_at_once: u64,
    /// Delivered by a later one.
    delivered_later: u64,
    /// Given up.
    failed: u64,
}

/// Percentiles of durations in milliseconds, each off by a tenth at most.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DurationPercentiles {
    /// Half took no longer.
    p50: u64,
    /// 95 of 100 took no longer.
    p95: u64,
    /// 99 of 100 took no longer.
    p99: u64,
}

/// See what happened in the project over time.
///
/// Counts of events and deliveries, and percentiles of durations, by windows of UTC.
/// They are there seconds after what they count, for 90 days, or as long as events are if
/// that is longer. They are for people to look at: what is billed is counted by meters,
/// exactly.
#[utoipa::path(get, path = "/v1/activity", tag = "events",
    operation_id = "getActivity",
    params(AskActivity),
    responses((status = 200, body = ActivityReport), Problems),
    security(("api_key" = ["events:read"])))]
pub async fn get(
    State(app): State<Arc<App>>,
    caller: WholeProject<EventsRead>,
    Query(query): Query<AskActivity>,
) -> Result<Json<ActivityReport>> {
    let width = query.window.unwrap_or(Width::Hour);
    let (since, until) = bounds(query.since, query.until, width.default_span());
    let windows = width.windows(since, until)?;
    let (from, to) = match (windows.first(), windows.last()) {
        (Some((from, _)), Some((_, to))) => (*from, *to),
        _ => (since, until),
    };
    let counted = activity::list(&app.dynamo, &caller.project, width.span(), from, to).await?;
    let mut total = ActivityCounts::default();
    let mut periods = Vec::with_capacity(windows.len());
    for (start, end) in windows {
        let mut counts = ActivityCounts::default();
        for (_, span) in counted.range(start..end) {
            counts.merge(span);
        }
        total.merge(&counts);
        periods.push(ActivityPeriod::new(start, end, &counts));
    }
    Ok(Json(ActivityReport {
        windows: periods,
        total: ActivityPeriod::new(from, to, &total),
    }))
}

fn bounds(
    since: Option<Time>,
    until: Option<Time>,
    default: SignedDuration,
) -> (Timestamp, Timestamp) {
    let until = until.map_or_else(app::now, |until| until.0);
    let before = || until.saturating_sub(default).unwrap_or(Timestamp::MIN);
    (since.map_or_else(before, |since| since.0), until)
}

impl ActivityPeriod {
    fn new(start: Timestamp, end: Timestamp, counts: &ActivityCounts) -> Self {
        Self {
            start: start.into(),
            end: end.into(),
            accepted: counts.of(Counted::Accepted),
            duplicates: counts.of(Counted::Duplicate),
            attempts: AttemptCounts {
                succeeded: counts.of(Counted::AttemptSucceeded),
                failed: counts.of(Counted::AttemptFailed),
            },
            deliveries: DeliveryOutcomes {
                delivered_at_once: counts.of(Counted::DeliveredAtOnce),
                delivered_later: counts.of(Counted::DeliveredLater),
                failed: counts.of(Counted::Failed),
            },
            attempt_ms: percentiles(&counts.attempt),
            lag_ms: percentiles(&counts.lag),
        }
    }
}

fn percentiles(distribution: &Distribution) -> Option<DurationPercentiles> {
    Some(DurationPercentiles {
        p50: distribution.percentile(50)?,
        p95: distribution.percentile(95)?,
        p99: distribution.percentile(99)?,
    })
}

/// Which endpoints to look at.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AskEndpoints {
    /// Count failures from the hour on that holds this time, at most 92 days before
    /// `until`; a day before, if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Time>,
    /// Up to the hour that ends at this time, or holds it; now, if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Time>,
    /// Endpoints at most: 10, if absent.
    #[param(minimum = 1, maximum = 50)]
    limit: Option<usize>,
}

/// Endpoints that fail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FailingEndpoints {
    /// First those that fail now or were disabled for it, the longest first, then those
    /// that failed at some time, the most often first.
    endpoints: Vec<FailingEndpoint>,
    /// There are more that fail now than are shown.
    has_more: bool,
}

/// An endpoint that fails now, or did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FailingEndpoint {
    /// The endpoint's id.
    endpoint_id: EndpointId,
    /// Where it is.
    #[schema(format = "uri")]
    url: String,
    /// The tenant it is for; null if for the whole project.
    #[schema(required)]
    tenant: Option<String>,
    /// Whether it takes events.
    #[schema(value_type = EndpointState)]
    state: EndpointState,
    /// Since when there was nothing but failures; null if its last attempt went well. A
    /// little late.
    #[schema(required)]
    failing_since: Option<Time>,
    /// When it will be disabled, should it go on like this.
    #[schema(required)]
    disabled_at: Option<Time>,
    /// When it is tried again, while the circuit breaker of the instance that answers is
    /// open.
    #[schema(required)]
    retry_at: Option<Time>,
    /// Deliveries that wait for it: for another attempt, or for the endpoint to be enabled.
    /// About, and up to 1,000: more are 1,000.
    waiting: usize,
    /// Attempts at it that failed in the time asked for, about.
    failed_attempts: u64,
    /// Deliveries to it that were given up in that time, about.
    failed_deliveries: u64,
}

/// See which endpoints fail now, and which failed most.
///
/// Of many that fail in the same seconds, those that fail most are counted, so that the
/// tenth of them may be missing here; its own statistics and deliveries are complete.
#[utoipa::path(get, path = "/v1/activity/endpoints", tag = "endpoints",
    operation_id = "listFailingEndpoints",
    params(AskEndpoints),
    responses((status = 200, body = FailingEndpoints), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn endpoints(
    State(app): State<Arc<App>>,
    caller: WholeProject<EndpointsRead>,
    Query(query): Query<AskEndpoints>,
) -> Result<Json<FailingEndpoints>> {
    let limit = match query.limit.unwrap_or(ENDPOINTS_DEFAULT) {
        limit @ 1..=ENDPOINTS_MAX => limit,
        _ => {
            let detail = format!("expected 1 to {ENDPOINTS_MAX}");
            return Err(Error::invalid("limit", detail));
        }
    };
    let (since, until) = bounds(query.since, query.until, Width::Hour.default_span());
    let windows = Width::Day.windows(since, until)?;
    let to = windows.last().map_or(until, |(_, end)| *end).min(until);
    let (project, from) = (&caller.project, Width::Hour.start(since));
    let (failures, config) = future::try_join(
        activity::list_failures(&app.dynamo, project, from, to),
        app.projection.project_config(project),
    )
    .await?;
    let mut failing: Vec<&Target> = config.targets.iter().filter(|t| is_failing(t)).collect();
    failing.sort_by_key(|target| (since_when(target), target.id.clone()));
    let has_more = failing.len() > limit;
    let others = failures
        .iter()
        .filter_map(|row| config.targets.get(&row.endpoint));
    let others =
        others.filter(|target| target.state != EndpointState::Deleted && !is_failing(target));
    let shown: Vec<_> = failing.into_iter().chain(others).take(limit).collect();
    let rows = shown.into_iter().map(|target| row(&app, target, &failures));
    Ok(Json(FailingEndpoints {
        endpoints: future::try_join_all(rows).await?,
        has_more,
    }))
}

fn is_failing(target: &Target) -> bool {
    match target.state {
        EndpointState::Enabled => target.failure_streak().is_some(),
        EndpointState::Gone | EndpointState::Failed => true,
        EndpointState::Disabled | EndpointState::Deleted => false,
    }
}

/// Those that were disabled for it come first.
fn since_when(target: &Target) -> Option<Timestamp> {
    let failing = target.failure_streak();
    let failing = failing.filter(|_| target.state == EndpointState::Enabled);
    failing.map(|failing| failing.since)
}

async fn row(app: &App, target: &Target, failures: &[EndpointFailures]) -> Result<FailingEndpoint> {
    let failed = failures.iter().find(|row| row.endpoint == target.id);
    let since = since_when(target);
    let disable_after = app.config.disable_after();
    Ok(FailingEndpoint {
        endpoint_id: target.id.clone(),
        url: target.url.to_string(),
        tenant: target.filter.tenant().map(str::to_owned),
        state: target.state,
        failing_since: since.map(Time),
        disabled_at: since
            .zip(disable_after)
            .map(|(since, after)| Time(since + after)),
        retry_at: app
            .admission
            .breaker_status(target, app::now())
            .retry_at
            .map(Time),
        waiting: activity::count_waiting(&app.dynamo, &target.id, WAITING_MAX).await?,
        failed_attempts: failed.map_or(0, |row| row.attempts),
        failed_deliveries: failed.map_or(0, |row| row.deliveries),
    })
}
