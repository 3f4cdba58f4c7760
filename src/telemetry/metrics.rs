//! Metrics: a few numbers in memory, written out as one line now and then.
//!
//! Counting costs an addition, whether or not anything is written. The line is
//! CloudWatch's Embedded Metric Format: CloudWatch turns it into metrics where
//! logs are taken in anyway, so there is no call to make and no agent to run.

mod emf;
mod histogram;
mod kpi;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::log::log_writer;
use crate::config::Config;
use emf::Document;
pub use emf::StatisticSet;
pub use histogram::Histogram;
pub use kpi::{Kpis, Series};

/// Everything that is counted, since the line before.
#[derive(Debug)]
pub struct Metrics {
    /// Events kept: each once, when its write succeeded.
    pub accepted: Counter,
    /// Events that were here already, with the same content.
    pub duplicates: Counter,
    /// Events whose data did not satisfy the schema of their type, refused or not.
    pub schema_rejected: Counter,
    /// Deliveries an endpoint answered with 2xx.
    pub delivered: Counter,
    /// Deliveries given up: the schedule exhausted, or 410.
    pub failed: Counter,
    /// Deliveries deferred because the circuit breaker of their endpoint is open.
    pub breaker_deferred: Counter,
    /// Times a circuit breaker opened, failed probes included.
    pub breakers_opened: Counter,
    /// The most circuit breakers that were open at a time in this process.
    pub breakers_open: Peak,
    /// Each attempt, from connecting to the end of the answer or its timeout.
    pub attempt_latency: Histogram,
    /// From an event's receipt to the beginning of its first attempt at one endpoint,
    /// whatever came of it.
    pub delivery_lag: Histogram,
    /// From an event's receipt to its 2xx at one endpoint, retries included.
    pub delivery_time: Histogram,
    /// The most work any one sweep knew to wait: things due that no worker has, or jobs
    /// in the in-process queue, whichever was more.
    pub backlog: Peak,
    /// Times something due could not be read by this version.
    pub unreadable: Counter,
    /// Times the store refused the record of an attempt, which is then written again.
    pub records_refused: Counter,
    /// When what is due was last counted beyond what a sweep takes.
    pub backlog_counts: Pace,
    /// The most days of projects that were not archived when their events were about to
    /// expire; none where there is no archive.
    pub archive_late: Peak,
    /// Readings of meters newly counted, each once.
    pub metered: Counter,
    /// Events a meter matched and could not read a value of.
    pub meter_skipped: Counter,
    /// What meters marked as metrics have newly counted.
    pub kpis: Kpis,
    service: Box<str>,
    is_on: bool,
}

impl Metrics {
    /// All at zero.
    pub fn new(config: &Config) -> Self {
        Self {
            accepted: Counter::default(),
            duplicates: Counter::default(),
            schema_rejected: Counter::default(),
            delivered: Counter::default(),
            failed: Counter::default(),
            breaker_deferred: Counter::default(),
            breakers_opened: Counter::default(),
            breakers_open: Peak::default(),
            attempt_latency: Histogram::default(),
            delivery_lag: Histogram::default(),
            delivery_time: Histogram::default(),
            backlog: Peak::default(),
            unreadable: Counter::default(),
            records_refused: Counter::default(),
            backlog_counts: Pace::default(),
            archive_late: Peak::default(),
            metered: Counter::default(),
            meter_skipped: Counter::default(),
            kpis: Kpis::new(config.telemetry.kpi_series_max),
            service: config.telemetry.service.as_str().into(),
            is_on: config.emits_metrics(),
        }
    }

    /// Whether they are written at all: what is only read to be counted need not be.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Writes the lines to stdout, if there is anything to say and someone to say
    /// it to, and begins anew.
    pub fn flush(&self) {
        if !self.is_on {
            return;
        }
        if let Some(lines) = self.take(Timestamp::now()) {
            // It never fails.
            let _ = log_writer().write_all(lines.as_bytes());
        }
    }

    /// The line, with its line feed, and one for each series of meters; begins
    /// anew. None when nothing happened: a metric that says nothing costs nothing.
    pub fn take(&self, now: Timestamp) -> Option<String> {
        let mut document = Document::new(&self.service, now);
        document.count("accepted", self.accepted.take());
        document.count("duplicates", self.duplicates.take());
        document.count("schema_rejected", self.schema_rejected.take());
        document.count("delivered", self.delivered.take());
        document.count("failed", self.failed.take());
        document.count("breaker_deferred", self.breaker_deferred.take());
        document.count("breakers_opened", self.breakers_opened.take());
        document.distribution("attempt_latency_ms", self.attempt_latency.take());
        document.distribution("delivery_lag_ms", self.delivery_lag.take());
        document.distribution("delivery_time_ms", self.delivery_time.take());
        document.peak("backlog", self.backlog.take());
        document.peak("breakers_open", self.breakers_open.take());
        document.count("unreadable", self.unreadable.take());
        document.count("records_refused", self.records_refused.take());
        document.peak("archive_late", self.archive_late.take());
        document.count("metered", self.metered.take());
        document.count("meter_skipped", self.meter_skipped.take());
        let mut lines = document.into_line().unwrap_or_default();
        self.kpis.take(&self.service, now, &mut lines);
        (!lines.is_empty()).then_some(lines)
    }
}

/// A number that only grows, until it is written.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Counts so many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// The largest of the numbers seen; none if none was.
#[derive(Debug, Default)]
pub struct Peak(
    /// The number and one, so that zero is none.
    AtomicU64,
);

impl Peak {
    /// Takes note of a number.
    pub fn record(&self, number: usize) {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        self.0
            .fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    fn take(&self) -> Option<u64> {
        self.0.swap(0, Ordering::Relaxed).checked_sub(1)
    }
}

/// When something that is done now and then was last begun.
#[derive(Debug, Default)]
pub struct Pace(
    /// In milliseconds since 1970; zero if it never was.
    AtomicI64,
);

impl Pace {
    /// Whether it may be begun at `now`: once in `interval`, by one of those who ask.
    pub fn begin(&self, now: Timestamp, interval: Duration) -> bool {
        let (now, interval) = (now.as_millisecond(), interval.as_millis());
        let is_over = |last: i64| u128::from(now.abs_diff(last)) >= interval;
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                is_over(last).then_some(now)
            })
            .is_ok()
    }
}
