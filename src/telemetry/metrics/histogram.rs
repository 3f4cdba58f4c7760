//! A distribution of durations in a hundred buckets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Buckets: what one metric may have of distinct values in an EMF document.
pub const BUCKETS: usize = 100;
/// How much wider each bucket is than the one before. From 1 ms on, 100 of them
/// reach 24 days; CloudWatch itself keeps percentiles to about 10 %.
const GROWTH: f64 = 1.245;

/// Durations, in buckets that widen with them.
///
/// Each bucket stands for the mean of what fell into it, so that sum and average
/// are exact and a percentile is off by less than a bucket's width. One lock,
/// held for a few additions: what is taken out then fits together.
#[derive(Debug, Default)]
pub struct Histogram(Mutex<Option<Box<HistogramSnapshot>>>);

/// What a [`Histogram`] held, in milliseconds.
#[derive(Debug, Clone)]
pub struct HistogramSnapshot {
    buckets: [Bucket; BUCKETS],
    pub min: f64,
    pub max: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    count: u64,
    sum: f64,
}

impl Histogram {
    /// Takes note of a duration.
    pub fn record(&self, duration: Duration) {
        let value = duration.as_secs_f64() * 1e3;
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = taken.get_or_insert_with(|| {
            Box::new(HistogramSnapshot {
                buckets: [Bucket::default(); BUCKETS],
                min: f64::INFINITY,
                max: 0.0,
            })
        });
        let bucket = &mut taken.buckets[bucket_of(value)];
        bucket.count += 1;
        bucket.sum += value;
        taken.min = taken.min.min(value);
        taken.max = taken.max.max(value);
    }

    /// What was seen since the last time, if anything.
    pub(super) fn take(&self) -> Option<Box<HistogramSnapshot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl HistogramSnapshot {
    /// Each bucket that holds something: the mean and how many.
    pub fn values(&self) -> impl Iterator<Item = (f64, u64)> {
        let filled = self.buckets.iter().filter(|bucket| bucket.count > 0);
        #[expect(clippy::cast_precision_loss, reason = "2^53 durations are never seen")]
        filled.map(|bucket| (bucket.sum / bucket.count as f64, bucket.count))
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    pub fn sum(&self) -> f64 {
        self.buckets.iter().map(|bucket| bucket.sum).sum()
    }
}

fn bucket_of(value: f64) -> usize {
    if value < 1.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small number, not negative"
    )]
    let above = (value.ln() / GROWTH.ln()) as usize;
    (1 + above).min(BUCKETS - 1)
}
