//! A document in CloudWatch's Embedded Metric Format: one line.
//!
//! A document says in `_aws` which of its own members are metrics. A distribution
//! is an object of `Values` and `Counts` with `Max`, `Min`, `Count` and `Sum`
//! beside them: the form the AWS exporter of the OpenTelemetry collector writes
//! for histograms.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::histogram::HistogramSnapshot;

/// The CloudWatch namespace of the platform's own metrics.
const NAMESPACE: &str = "Millrace";
/// The CloudWatch namespace of meters.
const METERS_NAMESPACE: &str = "Millrace/Meters";
/// The one dimension of the platform's own metrics.
const SERVICE: &str = "service";
/// The dimension that says whose meter it is.
pub const PROJECT: &str = "project";

/// Readings added up. CloudWatch keeps floats.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the fields of CloudWatch's StatisticSet")]
pub struct StatisticSet {
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

/// A document being filled.
pub struct Document {
    now: Timestamp,
    namespace: &'static str,
    dimension_sets: Vec<Vec<String>>,
    metrics: Vec<MetricDefinition>,
    members: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetricDefinition {
    name: Cow<'static, str>,
    unit: &'static str,
}

impl Document {
    /// One without metrics, by service.
    pub fn new(service: &str, now: Timestamp) -> Self {
        let mut members = Map::new();
        members.insert(SERVICE.into(), service.into());
        Self {
            now,
            namespace: NAMESPACE,
            dimension_sets: vec![vec![SERVICE.into()]],
            metrics: vec![],
            members,
        }
    }

    /// One without metrics, of a project's meters; its dimensions are to follow.
    pub fn of_project(service: &str, now: Timestamp, project: &str) -> Self {
        let mut document = Self::new(service, now);
        document.namespace = METERS_NAMESPACE;
        document.dimension_sets.clear();
        document.dimension(PROJECT.into(), project.into());
        document
    }

    /// Publishes the metrics once more, by these dimensions.
    pub fn dimension_set(&mut self, names: Vec<String>) {
        self.dimension_sets.push(names);
    }

    /// The value of a dimension.
    pub fn dimension(&mut self, name: String, value: String) {
        self.members.insert(name, value.into());
    }

    /// Adds a count, unless it is zero.
    pub fn count(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            self.add(name, "Count", count.into());
        }
    }

    /// Adds a number, zero or not, if there is one.
    pub fn peak(&mut self, name: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.add(name, "Count", number.into());
        }
    }

    /// Adds a distribution, if there is one.
    pub fn distribution(&mut self, name: &'static str, taken: Option<Box<HistogramSnapshot>>) {
        let Some(taken) = taken else { return };
        let (values, counts): (Vec<f64>, Vec<u64>) =
            taken.values().map(|(value, n)| (rounded(value), n)).unzip();
        let value = json!({
            "Values": values,
            "Counts": counts,
            "Max": rounded(taken.max),
            "Min": rounded(taken.min),
            "Count": taken.count(),
            "Sum": rounded(taken.sum()),
        });
        self.add(name, "Milliseconds", value);
    }

    /// Adds what a meter counted: each reading stands at the mean of them all.
    pub fn statistic_set(&mut self, name: String, sum: &StatisticSet) {
        #[expect(clippy::cast_precision_loss, reason = "a mean is a float all the same")]
        let mean = sum.sum / sum.count as f64;
        let value = json!({
            "Values": [mean],
            "Counts": [sum.count],
            "Max": sum.max,
            "Min": sum.min,
            "Count": sum.count,
            "Sum": sum.sum,
        });
        self.add(name, "None", value);
    }

    /// The line with its line feed, if it has a metric.
    pub fn into_line(mut self) -> Option<String> {
        if self.metrics.is_empty() {
            return None;
        }
        let directive = json!({
            "Namespace": self.namespace,
            "Dimensions": self.dimension_sets,
            "Metrics": self.metrics,
        });
        let metadata = json!({
            "Timestamp": self.now.as_millisecond(),
            "CloudWatchMetrics": [directive],
        });
        self.members.insert("_aws".into(), metadata);
        Some(format!("{}\n", Value::Object(self.members)))
    }

    fn add(&mut self, name: impl Into<Cow<'static, str>>, unit: &'static str, value: Value) {
        let name = name.into();
        self.members.insert(name.clone().into_owned(), value);
        self.metrics.push(MetricDefinition { name, unit });
    }
}

/// To a microsecond: what is beyond is noise, and a line is paid by the byte.
fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
