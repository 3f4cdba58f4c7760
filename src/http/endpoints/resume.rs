//! What follows when an endpoint is enabled: its held deliveries go on.

use jiff::Timestamp;

use crate::app::App;
use crate::model::delivery::DISABLED_RECHECK_DELAY;
use crate::model::id::EndpointId;
use crate::store::config_projection::current::view_age_max;
use crate::store::due::{self, BringForward};

/// Makes deliveries due that wait for an endpoint which was just enabled, as far as
/// that is little work: the others are due within [`DISABLED_RECHECK_DELAY`].
pub(super) async fn resume(app: &App, id: &EndpointId, now: Timestamp) {
    // Not before every instance knows that it is enabled.
    let at = now + view_age_max(&app.config);
    let until = now + DISABLED_RECHECK_DELAY;
    let resume = BringForward {
        endpoint: id,
        to: at,
        until,
        scan_max: RESUME_SCAN_MAX,
        deliveries_max: RESUMED_MAX,
    };
    match due::bring_forward(&app.dynamo, &resume).await {
        Ok(deliveries) => tracing::info!(endpoint.id = %id, deliveries, "endpoint enabled"),
        Err(error) => {
            let cause = error.causes();
            tracing::warn!(endpoint.id = %id, %error, cause, "failed to resume held deliveries");
        }
    }
}

/// Deliveries brought forward when an endpoint is enabled.
const RESUMED_MAX: usize = 500;
/// Due items read for them, in each due partition.
const RESUME_SCAN_MAX: usize = 1000;
