//! The source addresses API: where webhooks come from, for receivers' firewalls.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;

use super::auth::{Allowed, EndpointsRead};
use super::extract::Json;
use super::problem::Problems;
use crate::app::App;

/// Where webhooks come from.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SourceAddresses {
    /// IP addresses, and networks in CIDR notation, in the order in which whoever runs
    /// this instance gave them. Empty: they are not known, or may change.
    #[schema(example = json!(["203.0.113.7", "203.0.113.8"]))]
    addresses: Vec<String>,
}

/// Get the addresses that webhooks come from.
///
/// For firewalls that let in known addresses only; who sent a webhook its signature
/// says. Any key that may read endpoints may ask, one of a tenant too.
#[utoipa::path(get, path = "/v1/source-addresses", tag = "endpoints",
    operation_id = "getSourceAddresses",
    responses((status = 200, body = SourceAddresses), Problems),
    security(("api_key" = ["endpoints:read"])))]
pub async fn get(State(app): State<Arc<App>>, _: Allowed<EndpointsRead>) -> Json<SourceAddresses> {
    let addresses = app.config.source_addresses();
    Json(SourceAddresses { addresses })
}
