//! The failures of authentication: how many each address has had lately, in this
//! process.
//!
//! Asked by `http::auth` before a key that is not known yet is looked up, so that an
//! address that guesses costs no store anything. Keys that were good lately are not
//! asked for here: whoever shares an address with someone who guesses goes on working.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::rate_limit::Rate;
use crate::rate_limits::RateLimits;

/// Addresses remembered; the least recently seen are forgotten first.
const SOURCES_MAX: u64 = 10_000;

/// What a failure is worth: an address that has used up its failures has another one
/// after so many seconds.
const FAILURE_S: u32 = 6;

/// Where requests come from: an IPv4 address, or a network of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(address)
    }
}

/// What failed lately, by where it came from; bounded.
#[derive(Debug, Clone)]
pub struct AuthFailures {
    sources: RateLimits<Source>,
    /// None where nothing is counted.
    rate: Option<Rate>,
}

impl AuthFailures {
    /// Up to `failures_max` at once of one source; 0 counts nothing.
    pub fn new(failures_max: u32) -> Self {
        let burst = NonZeroU32::new(failures_max.saturating_mul(FAILURE_S));
        Self {
            sources: RateLimits::new(SOURCES_MAX),
            rate: burst.map(|burst| Rate {
                per_second: NonZeroU32::MIN,
                burst,
            }),
        }
    }

    /// Whether another key of `source` may be looked at, at `now`.
    ///
    /// # Errors
    /// With how long it takes until one may.
    pub async fn check(&self, source: Source, now: Timestamp) -> Result<(), Duration> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let wait = self.sources.wait(&source, rate, now, FAILURE_S).await;
        wait.map_or(Ok(()), Err)
    }

    /// Counts a failure of `source` at `now`.
    pub async fn count(&self, source: Source, now: Timestamp) {
        if let Some(rate) = self.rate {
            self.sources.admit(&source, rate, now, FAILURE_S).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn source(n: u8) -> Source {
        IpAddr::from([192, 0, 2, n]).into()
    }

    #[tokio::test]
    async fn an_address_has_its_failures_and_then_one_now_and_then() {
        let failures = AuthFailures::new(3);
        let begun = Timestamp::UNIX_EPOCH;
        for _ in 0..3 {
            assert!(failures.check(source(1), begun).await.is_ok());
            failures.count(source(1), begun).await;
        }
        let wait = failures.check(source(1), begun).await.unwrap_err();
        assert_eq!(wait, Duration::from_secs(6));
        assert!(failures.check(source(2), begun).await.is_ok());
        // To ask costs nothing, and what is counted beyond the bound neither.
        for _ in 0..9 {
            failures.count(source(1), begun).await;
        }
        let later = begun + SignedDuration::from_secs(6);
        assert!(failures.check(source(1), later).await.is_ok());
        failures.count(source(1), later).await;
        assert!(failures.check(source(1), later).await.is_err());
    }

    #[tokio::test]
    async fn without_a_bound_nothing_is_counted() {
        let failures = AuthFailures::new(0);
        for _ in 0..1000 {
            failures.count(source(1), Timestamp::UNIX_EPOCH).await;
        }
        let now = Timestamp::UNIX_EPOCH;
        assert!(failures.check(source(1), now).await.is_ok());
    }
}
