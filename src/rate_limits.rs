//! Rate limits, of API keys and others: how much of its rate each has used, in this
//! process.
//!
//! Asked by the API before anything is written or looked up. Each instance of Millrace counts
//! for itself: asking a store for every event would cost more than the event.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::model::audit::Actor;
use crate::model::rate_limit::Rate;

/// How long a key that publishes nothing is remembered: longer than any debt lasts,
/// which is a whole batch at one event a second.
const IDLE_KEPT: Duration = Duration::from_secs(600);

/// What each key that is limited has used; bounded, the least recently used are
/// forgotten first.
#[derive(Clone)]
pub struct RateLimits<K = Actor> {
    keys: Cache<K, Arc<Mutex<Option<Timestamp>>>>,
}

/// What a key has left after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// The rate of the key.
    pub rate: Rate,
    /// Events it may publish at once now.
    pub remaining: u32,
    /// How long until a refused request gets through; of one that did, until the
    /// whole burst is there again.
    pub wait: Duration,
    /// Whether the request gets through.
    pub is_admitted: bool,
}

impl<K> std::fmt::Debug for RateLimits<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimits").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> RateLimits<K> {
    /// Remembers up to `keys_max` keys.
    pub fn new(keys_max: u64) -> Self {
        let keys = Cache::builder()
            .max_capacity(keys_max)
            // The default would rather not remember a new key than forget an old one.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(IDLE_KEPT)
            .build();
        Self { keys }
    }

    /// Lets `cost` events of `key` through at `now`, all of them or none.
    pub async fn admit(&self, key: &K, rate: Rate, now: Timestamp, cost: u32) -> RateLimitStatus {
        let paid = self
            .keys
            .get_with_by_ref(key, async { Arc::default() })
            .await;
        // A time is never half-written, even by whoever panicked with the lock.
        let mut paid = paid.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = rate.admit(*paid, now, cost);
        let until = match admitted {
            Ok(paid_until) => *paid.insert(paid_until),
            Err(retry_at) => retry_at,
        };
        RateLimitStatus {
            rate,
            remaining: rate.remaining(*paid, now),
            wait: until
                .duration_since(now)
                .max(SignedDuration::ZERO)
                .unsigned_abs(),
            is_admitted: admitted.is_ok(),
        }
    }

    /// How long until `cost` of `key` would get through; none if it would at `now`.
    /// Uses nothing up.
    pub async fn wait(&self, key: &K, rate: Rate, now: Timestamp, cost: u32) -> Option<Duration> {
        let paid = self.keys.get(key).await?;
        let paid = *paid.lock().unwrap_or_else(PoisonError::into_inner);
        let retry_at = rate.admit(paid, now, cost).err()?;
        Some(retry_at.duration_since(now).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::id::KeyId;

    fn key(n: u8) -> KeyId {
        KeyId::new(i64::from(n), [n; 10])
    }

    #[tokio::test]
    async fn keys_are_counted_apart() {
        let limits = RateLimits::new(100);
        let rate = Rate::with_burst_for(NonZeroU32::new(2).unwrap(), 0);
        let now = Timestamp::UNIX_EPOCH;
        let (one, other) = (key(1), key(2));
        let first = limits.admit(&one, rate, now, 2).await;
        assert!(first.is_admitted && first.remaining == 0);
        assert_eq!(first.wait, Duration::from_secs(1));
        let refused = limits.admit(&one, rate, now, 1).await;
        assert!(!refused.is_admitted);
        assert_eq!(refused.wait, Duration::from_millis(500));
        assert!(limits.admit(&other, rate, now, 2).await.is_admitted);
        let later = now + refused.wait;
        assert!(limits.admit(&one, rate, later, 1).await.is_admitted);
    }

    #[tokio::test]
    async fn the_least_recently_used_are_forgotten_first() {
        let limits = RateLimits::new(2);
        let rate = Rate::with_burst_for(NonZeroU32::MIN, 0);
        let now = Timestamp::UNIX_EPOCH;
        for n in 1..=3 {
            assert!(limits.admit(&key(n), rate, now, 1).await.is_admitted);
            limits.keys.run_pending_tasks().await;
        }
        assert!(!limits.admit(&key(3), rate, now, 1).await.is_admitted);
        assert!(limits.keys.entry_count() <= 2);
    }
}
