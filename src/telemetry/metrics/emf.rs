//! One line in CloudWatch's Embedded Metric Format.
//!
//! A document says in `_aws` which of its own members are metrics. A distribution
//! is an object of `Values` and `Counts` with `Max`, `Min`, `Count` and `Sum`
//! beside them: the form the AWS exporter of the OpenTelemetry collector writes
//! for histograms.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::NAMESPACE;
use super::histogram::Taken;

/// The name of the one dimension.
const DIMENSION: &str = "service";

/// A document being filled.
pub struct Document {
    now: Timestamp,
    metrics: Vec<Definition>,
    members: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

impl Document {
    /// One without metrics.
    pub fn new(service: &str, now: Timestamp) -> Self {
        let mut members = Map::new();
        members.insert(DIMENSION.into(), service.into());
        Self {
            now,
            metrics: vec![],
            members,
        }
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
    pub fn distribution(&mut self, name: &'static str, taken: Option<Box<Taken>>) {
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

    /// The line with its line feed, if it has a metric.
    pub fn into_line(mut self) -> Option<String> {
        if self.metrics.is_empty() {
            return None;
        }
        let directive = json!({
            "Namespace": NAMESPACE,
            "Dimensions": [[DIMENSION]],
            "Metrics": self.metrics,
        });
        let metadata = json!({
            "Timestamp": self.now.as_millisecond(),
            "CloudWatchMetrics": [directive],
        });
        self.members.insert("_aws".into(), metadata);
        Some(format!("{}\n", Value::Object(self.members)))
    }

    fn add(&mut self, name: &'static str, unit: &'static str, value: Value) {
        self.metrics.push(Definition { name, unit });
        self.members.insert(name.into(), value);
    }
}

/// To a microsecond: what is beyond is noise, and a line is paid by the byte.
fn rounded(milliseconds: f64) -> f64 {
    (milliseconds * 1e3).round() / 1e3
}
