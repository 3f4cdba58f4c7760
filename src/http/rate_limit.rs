//! The rate limit of publishing, and the headers that report it.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers: what the policy
//! is in `RateLimit-Policy`, where the key stands in `RateLimit`.

use std::num::NonZeroU32;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::auth::Allowed;
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::event::BATCH_EVENTS_MAX;
use crate::model::rate_limit::Rate;
use crate::rate_limits::RateLimitStatus;

/// The header with the limit: so many events in a window of so many seconds.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The header with what is left of it, and for how many seconds.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Lets `events` of the caller through at `now`, all or none, if that keeps the
/// key's rate. None when nothing limits it.
pub async fn admit<S>(
    app: &App,
    caller: &Allowed<S>,
    now: Timestamp,
    events: usize,
) -> Option<RateLimitStatus> {
    let default = NonZeroU32::new(app.config.http.events_per_second_max);
    let per_second = caller.rate_limit.or(default)?;
    // A batch is never more than a burst, so that every one gets through in time.
    let at_once = u32::try_from(BATCH_EVENTS_MAX).unwrap_or(u32::MAX);
    let rate = Rate::with_burst_for(per_second, at_once);
    let cost = u32::try_from(events).unwrap_or(u32::MAX);
    Some(app.rate_limits.admit(&caller.actor, rate, now, cost).await)
}

/// That the request comes too soon, if it does.
///
/// # Errors
/// [`Error::RateLimited`].
pub fn check(status: Option<&RateLimitStatus>) -> Result<()> {
    match status.filter(|status| !status.is_admitted) {
        None => Ok(()),
        Some(status) => Err(Error::RateLimited {
            retry_after: status.wait,
        }),
    }
}

/// `answer`, which says where the key stands.
pub fn with_headers(
    status: Option<&RateLimitStatus>,
    answer: Result<impl IntoResponse>,
) -> Response {
    let mut response = answer.into_response();
    let Some(status) = status else {
        return response;
    };
    let RateLimitStatus { rate, .. } = status;
    let window_s = rate.burst.get() / rate.per_second;
    let policy = format!(r#""key";q={};w={window_s};qu="events""#, rate.burst);
    let wait_s = status.wait.as_millis().div_ceil(1000);
    let state = format!(r#""key";r={};t={wait_s}"#, status.remaining);
    for (name, text) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
