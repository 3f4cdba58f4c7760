//! Deliveries as pages read them from the API: where one stands, in a word, and what of
//! its round of attempts is over.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use maud::Markup;
use serde::Deserialize;

use super::parts::{Tone, state};
use crate::model::delivery::DeliveryState;
use crate::model::time::Time;

/// What a page shows of a delivery.
#[derive(Debug, Clone, Deserialize)]
pub struct Delivery {
    pub id: String,
    pub event_id: String,
    pub endpoint_id: String,
    pub event_type: String,
    pub tenant: Option<String>,
    pub state: DeliveryState,
    pub attempts_made: u32,
    pub attempts: Vec<Attempt>,
    pub created_at: Time,
    pub next_attempt_at: Option<Time>,
}

/// What a page shows of an attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct Attempt {
    pub at: Time,
    pub duration_ms: u64,
    #[serde(default)]
    pub status: Option<u16>,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub response: Option<String>,
    #[serde(default)]
    pub request_headers: Option<BTreeMap<String, String>>,
}

impl Attempt {
    /// Whether it was answered with 2xx.
    pub fn succeeded(&self) -> bool {
        matches!(self.status, Some(200..=299))
    }

    /// When its answer was there, or given up.
    fn ended(&self) -> Timestamp {
        let took = Duration::from_millis(self.duration_ms);
        self.at.0.checked_add(took).unwrap_or(self.at.0)
    }
}

/// Where a delivery stands, as people read it. The later, the more it wants to be looked
/// at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Delivered,
    Canceled,
    Pending,
    Waiting,
    Retrying,
    Failed,
}

impl Standing {
    /// Its tone, sign and word.
    fn shown(self) -> (Tone, &'static str, &'static str) {
        match self {
            Self::Delivered => (Tone::Ok, "check", "Delivered"),
            Self::Canceled => (Tone::Off, "minus", "Canceled"),
            Self::Pending => (Tone::Info, "clock", "Pending"),
            Self::Waiting => (Tone::Warn, "pause", "Waiting"),
            Self::Retrying => (Tone::Warn, "retry", "Retrying"),
            Self::Failed => (Tone::Bad, "x", "Failed"),
        }
    }

    /// It, as a mark.
    pub fn mark(self) -> Markup {
        let (tone, sign, word) = self.shown();
        state(tone, sign, word)
    }
}

impl Delivery {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        match self.state {
            DeliveryState::Delivered => Standing::Delivered,
            DeliveryState::Canceled => Standing::Canceled,
            DeliveryState::Failed => Standing::Failed,
            DeliveryState::Pending if self.attempts_made == 0 => Standing::Pending,
            DeliveryState::Pending => Standing::Retrying,
        }
    }

    /// Whether it will change by itself.
    pub fn is_pending(&self) -> bool {
        self.state == DeliveryState::Pending
    }

    /// How many attempts were made in the round that is not over, or was the last. A round
    /// is what `delays` says, unless a person began a new one, which is known by an attempt
    /// that came sooner than it was due by more than `jitter`. `None` where the attempts
    /// that would tell are not kept any more.
    pub fn round(&self, delays: &[Duration], jitter: f64) -> Option<usize> {
        if self.attempts_made as usize != self.attempts.len() {
            return None;
        }
        let mut made = 0;
        let mut ended: Option<Timestamp> = None;
        let begun = self.attempts.iter().map(|attempt| (attempt.at.0, true));
        let next = self.next_attempt_at.map(|next| (next.0, false));
        let ends = self.attempts.iter().map(Attempt::ended);
        let mut ends = ends.map(Some).chain([None]);
        for (at, is_made) in begun.chain(next) {
            if let Some(ended) = ended {
                let due = delays
                    .get(made)
                    .map(|delay| delay.mul_f64((1.0 - jitter).max(0.0)));
                let waited = Duration::try_from(at.duration_since(ended)).unwrap_or_default();
                // Clocks of two instances, and what is written in milliseconds.
                let is_new = due.is_none_or(|due| waited + Duration::from_secs(2) < due);
                if is_new {
                    made = 0;
                }
            }
            made += usize::from(is_made);
            ended = ends.next().flatten();
        }
        Some(made)
    }
}

/// How an event fares at all its endpoints: the worst of it, and how many that is.
pub fn summary(deliveries: &[Delivery]) -> Option<Markup> {
    let worst = deliveries.iter().map(Delivery::standing).max()?;
    let count = deliveries
        .iter()
        .filter(|one| one.standing() == worst)
        .count();
    let (tone, sign, word) = worst.shown();
    let word = word.to_lowercase();
    let text = match deliveries.len() {
        all if all == count => format!("{count} {word}"),
        all => format!("{count} of {all} {word}"),
    };
    Some(state(tone, sign, &text))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A delivery with attempts that began at these seconds and took none, and whose next
    /// is at `next`.
    pub fn delivery(state: DeliveryState, attempts: &[i64], next: Option<i64>) -> Delivery {
        let at = |second: i64| Time(Timestamp::from_second(1_800_000_000 + second).unwrap());
        let attempt = |second: &i64| Attempt {
            at: at(*second),
            duration_ms: 0,
            status: Some(503),
            error: None,
            response: None,
            request_headers: None,
        };
        Delivery {
            id: "dlv_1".into(),
            event_id: "evt_1".into(),
            endpoint_id: "ep_1".into(),
            event_type: "a".into(),
            tenant: None,
            state,
            attempts_made: attempts.len() as u32,
            attempts: attempts.iter().map(attempt).collect(),
            created_at: at(0),
            next_attempt_at: next.map(at),
        }
    }

    #[test]
    fn a_round_is_counted_anew_after_a_retry_by_hand() {
        let delays: Vec<_> = [0, 5, 300, 1_800].map(Duration::from_secs).into();
        let round = |attempts: &[i64], next| {
            let delivery = delivery(DeliveryState::Pending, attempts, next);
            delivery.round(&delays, 0.1)
        };
        assert_eq!(round(&[], Some(0)), Some(0));
        assert_eq!(round(&[0], Some(5)), Some(1));
        assert_eq!(round(&[0, 5, 290], Some(2_100)), Some(3));
        // Held up, not asked for.
        assert_eq!(round(&[0, 5, 4_000], Some(9_000)), Some(3));
        // By hand after the second, when the third was far off.
        assert_eq!(round(&[0, 5, 60], Some(65)), Some(1));
        // Asked for by hand, not yet made.
        assert_eq!(round(&[0, 5], Some(30)), Some(0));
        // The schedule was exhausted before the fifth.
        assert_eq!(round(&[0, 5, 305, 2_105, 9_000], Some(9_005)), Some(1));
        let mut forgotten = delivery(DeliveryState::Pending, &[0], None);
        forgotten.attempts_made = 20;
        assert_eq!(forgotten.round(&delays, 0.1), None);
    }

    #[test]
    fn the_worst_of_an_event_is_told_first() {
        let of = |states: &[DeliveryState]| {
            let all: Vec<_> = states
                .iter()
                .map(|state| delivery(*state, &[0], None))
                .collect();
            summary(&all).map(|markup| markup.0)
        };
        use DeliveryState::{Canceled, Delivered, Failed, Pending};
        assert!(of(&[Delivered, Delivered]).unwrap().contains("2 delivered"));
        assert!(
            of(&[Delivered, Failed, Pending])
                .unwrap()
                .contains("1 of 3 failed")
        );
        assert!(
            of(&[Delivered, Pending])
                .unwrap()
                .contains("1 of 2 retrying")
        );
        assert!(
            of(&[Delivered, Canceled])
                .unwrap()
                .contains("1 of 2 canceled")
        );
        assert_eq!(of(&[]), None);
    }
}
