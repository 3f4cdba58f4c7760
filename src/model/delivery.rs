//! A delivery: one event to one endpoint, and what becomes of it.
//!
//! ```text
//!            2xx                          ┌───────────┐
//!          ┌─────────────────────────────▶│ delivered │
//! ┌─────────┐  schedule exhausted, 410    ├───────────┤
//! │ pending │────────────────────────────▶│  failed   │
//! └─────────┘  endpoint deleted           ├───────────┤
//!          └─────────────────────────────▶│ canceled  │
//!                                         └───────────┘
//! ```
//!
//! While its endpoint is disabled or gone a pending delivery waits: until that is
//! enabled, or until it is forgotten with its event when its retention is over.
//!
//! While pending a delivery has a due time; no other state has one, but that a failed
//! one has until the operational event about it is published. Only a person's retry or
//! replay leaves a final state, and begins a new round of the schedule.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::retry::Schedule;
use super::sent_headers::SentHeaders;
use super::time::Time;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// An attempt is due now or later.
    Pending,
    /// The endpoint answered 2xx.
    Delivered,
    /// The schedule is exhausted, or the endpoint is gone (410).
    Failed,
    /// The endpoint was deleted first.
    Canceled,
}

impl DeliveryState {
    /// The name in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = UnknownDeliveryState;

    fn from_str(text: &str) -> Result<Self, UnknownDeliveryState> {
        match text {
            "pending" => Ok(Self::Pending),
            "delivered" => Ok(Self::Delivered),
            "failed" => Ok(Self::Failed),
            "canceled" => Ok(Self::Canceled),
            _ => Err(UnknownDeliveryState),
        }
    }
}

/// Not the name of a [`DeliveryState`].
#[derive(Debug, thiserror::Error)]
#[error("expected pending, delivered, failed or canceled")]
pub struct UnknownDeliveryState;

/// One HTTP try, as its delivery keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When the request was sent.
    pub at: Time,
    /// From the first byte sent, connecting included, to the last byte read.
    pub duration_ms: u64,
    /// The answer's status; absent when none came.
    pub status: Option<u16>,
    /// Why none came.
    pub error: Option<String>,
    /// The first bytes of the answer's body, as text.
    pub response: Option<String>,
    /// The request's headers; none if a version that kept none made it.
    pub sent: Option<SentHeaders>,
}

/// Attempts kept in a delivery; older ones are dropped, their count is kept.
pub const ATTEMPTS_KEPT_MAX: usize = 12;

/// How long a delivery to a disabled endpoint waits before it looks again.
pub const DISABLED_RECHECK_DELAY: Duration = Duration::from_mins(15);

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Progress {
    /// Attempts made in all: also which attempt a queued message is about.
    pub attempts_made: u32,
    /// `attempts_made` when the current round of the schedule began: 0, or later after a
    /// person's retry or replay.
    pub round_start: u32,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// An answer with this status, and the `Retry-After` it asked for.
    Response {
        /// HTTP status.
        status: u16,
        /// Parsed `Retry-After`, whatever the status.
        retry_after: Option<Duration>,
    },
    /// No answer: refused, timed out, closed, blocked.
    NoResponse,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done: 2xx.
    Delivered,
    /// Try again after this long.
    Retry(Duration),
    /// The schedule is exhausted.
    Exhausted,
    /// 410: the endpoint wants no more, now or ever.
    Gone,
}

/// Judges an attempt (Standard Webhooks 1.0, "Considerations for webhook
/// producers"): 2xx is success, 410 disables the endpoint, and all else is tried again
/// while the schedule lasts, not before the `Retry-After` of whatever answer has one.
///
/// `progress` is as it was before the attempt; `random` is so, in `0..1`.
pub fn judge(
    progress: Progress,
    outcome: AttemptOutcome,
    schedule: &Schedule,
    random: f64,
) -> Verdict {
    let retry_after = match outcome {
        AttemptOutcome::Response {
            status: 200..=299, ..
        } => return Verdict::Delivered,
        AttemptOutcome::Response { status: 410, .. } => return Verdict::Gone,
        AttemptOutcome::Response { retry_after, .. } => retry_after,
        AttemptOutcome::NoResponse => None,
    };
    let made_in_round = progress.attempts_made.saturating_sub(progress.round_start) + 1;
    match schedule.delay_after(made_in_round, retry_after, random) {
        Some(delay) => Verdict::Retry(delay),
        None => Verdict::Exhausted,
    }
}

impl Verdict {
    /// The state a delivery is in after it.
    pub fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Retry(_) => DeliveryState::Pending,
            Self::Exhausted | Self::Gone => DeliveryState::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(made: u32, round_start: u32, status: u16) -> Verdict {
        let outcome = AttemptOutcome::Response {
            status,
            retry_after: Some(Duration::from_secs(77)),
        };
        judge(
            Progress {
                attempts_made: made,
                round_start,
            },
            outcome,
            &Schedule::default(),
            0.5,
        )
    }

    #[test]
    fn answers_are_judged_by_status() {
        assert_eq!(after(0, 0, 204), Verdict::Delivered);
        assert_eq!(after(0, 0, 410), Verdict::Gone);
        // Whatever is tried again is so when it asks for.
        for status in [100, 302, 400, 404, 409, 429, 500, 502, 503] {
            let later = Verdict::Retry(Duration::from_secs(77));
            assert_eq!(after(0, 0, status), later, "{status}");
        }
    }

    #[test]
    fn without_an_answer_the_schedule_decides() {
        let progress = Progress::default();
        let (outcome, schedule) = (AttemptOutcome::NoResponse, Schedule::default());
        let verdict = judge(progress, outcome, &schedule, 0.5);
        assert_eq!(verdict, Verdict::Retry(Duration::from_secs(5)));
    }

    #[test]
    fn a_round_ends_after_ten_attempts_and_a_new_one_begins_at_the_start() {
        assert_eq!(after(9, 0, 500), Verdict::Exhausted);
        assert_eq!(after(10, 10, 500), Verdict::Retry(Duration::from_secs(77)));
        assert_eq!(after(19, 10, 500), Verdict::Exhausted);
    }
}
