//! Business metrics: what meters marked `metric` have newly counted.
//!
//! A series is a meter and, if it has groups, one of them. CloudWatch bills by the
//! series, so that a process publishes only so many groups by themselves, for as
//! long as it lives; the others add to their meter's series alone.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::emf::{Document, PROJECT, StatisticSet};

/// What is published by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// The meter's name: the metric's.
    pub name: String,
    /// The project's id.
    pub project: String,
    /// The pointer and the value of each part of the group; none for the meter as
    /// a whole.
    pub group: Vec<(String, String)>,
}

impl Series {
    /// Whether CloudWatch takes the group as dimensions: ASCII, and not blank.
    fn has_dimensions(&self) -> bool {
        let fits = |text: &str, len_max: usize| {
            text.len() <= len_max
                && !text.trim().is_empty()
                && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
        };
        let mut parts = self.group.iter();
        !self.group.is_empty() && parts.all(|(name, value)| fits(name, 250) && fits(value, 1_000))
    }
}

/// What was counted since the lines before.
#[derive(Debug)]
pub struct Kpis {
    series_max: usize,
    state: Mutex<KpiState>,
}

#[derive(Debug, Default)]
struct KpiState {
    /// Groups that have a series.
    known: HashSet<Series>,
    pending: BTreeMap<Series, StatisticSet>,
}

impl Kpis {
    /// None, and up to `series_max` groups with a series of their own.
    pub(super) fn new(series_max: usize) -> Self {
        Self {
            series_max,
            state: Mutex::default(),
        }
    }

    /// Adds what was newly counted of `series`.
    pub fn add(&self, mut series: Series, more: StatisticSet) {
        if ![more.sum, more.min, more.max].iter().all(|n| n.is_finite()) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = state.known.len() < self.series_max;
        if !series.has_dimensions() || !(has_room || state.known.contains(&series)) {
            series.group.clear();
        } else {
            state.known.insert(series.clone());
        }
        let sum = state.pending.entry(series).or_insert(StatisticSet {
            count: 0,
            sum: 0.0,
            min: more.min,
            max: more.max,
        });
        sum.count += more.count;
        sum.sum += more.sum;
        sum.min = sum.min.min(more.min);
        sum.max = sum.max.max(more.max);
    }

    /// A line for each series, with its line feed, and begins anew.
    pub(super) fn take(&self, service: &str, now: Timestamp, lines: &mut String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        for (series, sum) in pending {
            let mut document = Document::of_project(service, now, &series.project);
            // The meter as a whole, and then this group of it.
            document.dimension_set(vec![PROJECT.to_owned()]);
            if !series.group.is_empty() {
                let names = series.group.iter().map(|(name, _)| name.clone());
                let set = std::iter::once(PROJECT.to_owned()).chain(names);
                document.dimension_set(set.collect());
                for (name, value) in series.group {
                    document.dimension(name, value);
                }
            }
            document.statistic_set(series.name, &sum);
            lines.extend(document.into_line());
        }
    }
}
