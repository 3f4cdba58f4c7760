//! The wait for something that is not here, and may not be here yet: an item that is
//! not replicated, or not projected. Only what stays away for long counts as gone.

use std::time::Duration;

use jiff::SignedDuration;

/// How long something is waited for: as long as what is deleted leaves a tombstone, so
/// that afterwards nothing says any more whether it ever was.
pub const ABSENCE_MAX: SignedDuration = SignedDuration::from_hours(24);

const RECHECK_DELAY_MIN: Duration = Duration::from_secs(5);
const RECHECK_DELAY_MAX: Duration = Duration::from_mins(30);

/// How long until the next look for what has been missing for `waited`: as long again,
/// from 5 s to half an hour; none once it counts as gone.
pub fn recheck_delay(waited: SignedDuration) -> Option<Duration> {
    if waited > ABSENCE_MAX {
        return None;
    }
    let waited = Duration::try_from(waited).unwrap_or_default();
    Some(waited.clamp(RECHECK_DELAY_MIN, RECHECK_DELAY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_for_long_is_looked_for_rarely_and_then_no_more() {
        let (mut waited, mut looks) = (SignedDuration::ZERO, 0);
        while let Some(delay) = recheck_delay(waited) {
            assert!(delay >= RECHECK_DELAY_MIN && delay <= RECHECK_DELAY_MAX);
            waited += SignedDuration::try_from(delay).unwrap();
            looks += 1;
        }
        assert!(waited > ABSENCE_MAX && waited < ABSENCE_MAX + SignedDuration::from_hours(1));
        assert!((50..70).contains(&looks), "{looks} looks");
        // A clock that is behind the one that noted it.
        let ahead = recheck_delay(SignedDuration::from_secs(-60));
        assert_eq!(ahead, Some(RECHECK_DELAY_MIN));
    }
}
