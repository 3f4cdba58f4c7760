//! Logins as the admin that were refused: how many, and when the audit log was last
//! told of them, so that nobody can fill it by failing.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Between two entries of the audit log.
const INTERVAL_MIN: SignedDuration = SignedDuration::from_mins(1);

/// Counted since the last entry of this process.
#[derive(Debug, Default)]
pub struct RefusedLogins(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    told_at: Option<Timestamp>,
}

impl RefusedLogins {
    /// Counts one at `now`; how many there are to be told of, if it is time for that.
    pub fn count(&self, now: Timestamp) -> Option<u64> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.count += 1;
        let is_due = untold
            .told_at
            .is_none_or(|told_at| now.duration_since(told_at).abs() >= INTERVAL_MIN);
        if !is_due {
            return None;
        }
        untold.told_at = Some(now);
        Some(std::mem::take(&mut untold.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_a_minute_says_how_many_there_were() {
        let refused = RefusedLogins::default();
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let told: Vec<_> = [0, 1, 30, 59, 60, 61, 119, 3600]
            .map(|s| refused.count(at(s)))
            .into();
        let expected = [Some(1), None, None, None, Some(4), None, None, Some(3)];
        assert_eq!(told, expected);
        // A clock that was set back does not silence it for long.
        assert_eq!(refused.count(at(0)), Some(1));
    }
}
