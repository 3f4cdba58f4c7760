//! `[meters]`: how usage is counted.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::units::millis;

/// `[meters]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every key")]
pub struct MetersConfig {
    #[serde(rename = "interval_ms", with = "millis")]
    pub interval: Duration,
    pub batch: usize,
    pub groups_max: u32,
    pub late_days_max: u32,
}

impl MetersConfig {
    /// How late an event may be and still count at its own time.
    pub fn late_max(&self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.late_days_max))
    }
}
