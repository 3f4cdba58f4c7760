//! The list of endpoints.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;

use super::Endpoint;
use crate::app::App;
use crate::error::Result;
use crate::http::auth::{Allowed, EndpointsRead};
use crate::http::extract::{Json, Query};
use crate::http::page::{self, List, Page};
use crate::http::problem::Problems;
use crate::model::access::Access;
use crate::model::endpoint::EndpointState;
use crate::model::event;
use crate::model::id::EndpointId;
use crate::store::endpoints::{self, EndpointFilter};

/// A state that a list of endpoints may be narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListedState {
    /// It takes events.
    Enabled,
    /// Paused by a person.
    Disabled,
    /// It answered 410.
    Gone,
    /// It failed for days on end.
    Failed,
}

impl From<ListedState> for EndpointState {
    fn from(state: ListedState) -> Self {
        match state {
            ListedState::Enabled => Self::Enabled,
            ListedState::Disabled => Self::Disabled,
            ListedState::Gone => Self::Gone,
            ListedState::Failed => Self::Failed,
        }
    }
}

/// What a list of endpoints is narrowed to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListEndpoints {
    /// Only those of this tenant.
    tenant: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<ListedState>,
    /// Only those that take events and do nothing but fail, whose statistics have a
    /// `failing_since`; false, only the others.
    failing: Option<bool>,
    /// Rows in a page.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List endpoints, the oldest first.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", params(ListEndpoints),
    operation_id = "listEndpoints",
    responses((status = 200, body = Page<Endpoint>), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Allowed<EndpointsRead>,
    Query(query): Query<ListEndpoints>,
) -> Result<Json<Page<Endpoint>>> {
    let (access, limit) = (&caller.access, page::limit(query.limit)?);
    let tenant = query.tenant.as_deref();
    let state = query.state.map(EndpointState::from);
    let list = list_of(access, &query);
    let after = page::id_position::<EndpointId>(list, query.cursor.as_deref())?;
    tenant.map_or(Ok(()), event::check_tenant)?;
    let failing = match query.failing {
        Some(is_failing) => Some((failing_within(&app, access).await?, is_failing)),
        None => None,
    };
    let filter = EndpointFilter {
        tenant,
        state,
        failing: failing.as_ref().map(|(ids, is_one)| (&ids[..], *is_one)),
    };
    let rows = endpoints::list(&app.postgres, access, &filter, &after, limit as i64 + 1).await?;
    let page = Page::from_lookahead(list, rows, limit, |row| row.id.to_string(), Endpoint::from);
    Ok(Json(page))
}

/// The list that `query` asks for. What it does not narrow is not named: positions in the
/// lists that were there before go on.
fn list_of(access: &Access, query: &ListEndpoints) -> List {
    let list = List::of("listEndpoints", access.project()).with("tenant", query.tenant.as_deref());
    let state = query.state.map(EndpointState::from);
    let failing = query
        .failing
        .map(|failing| if failing { "true" } else { "false" });
    let more = [
        ("state", state.map(EndpointState::as_str)),
        ("failing", failing),
    ];
    let given = more.into_iter().filter(|(_, value)| value.is_some());
    given.fold(list, |list, (selector, value)| list.with(selector, value))
}

/// The endpoints that take events and do nothing but fail, as this process knows them:
/// nothing is read that delivering has not read.
async fn failing_within(app: &App, access: &Access) -> Result<Vec<String>> {
    let project_config = app.projection.project_config(access.project()).await?;
    let targets = &project_config.targets;
    let ids = targets.ids_within(access).into_iter();
    let is_failing = |id: &EndpointId| {
        let target = targets.get(id);
        let enabled = target.filter(|target| target.state == EndpointState::Enabled);
        enabled.is_some_and(|target| target.failure_streak().is_some())
    };
    Ok(ids.filter(is_failing).map(|id| id.to_string()).collect())
}
