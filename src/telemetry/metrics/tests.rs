use std::time::Duration;

use serde_json::{Value, json};

use super::histogram::BUCKETS;
use super::*;

/// What CloudWatch takes: the embedded metric format's rules, as a JSON Schema.
const SCHEMA: &str = include_str!("emf.schema.json");

fn metrics() -> Metrics {
    let toml = "[database]\nurl = \"postgresql://u@db/m\"\n[telemetry]\nmetrics = \"emf\"";
    Metrics::new(&Config::from_toml(toml).unwrap())
}

fn line(metrics: &Metrics) -> Option<String> {
    metrics.take(Timestamp::from_second(1_700_000_000).unwrap())
}

/// The document, if it is what CloudWatch takes.
fn checked(line: &str) -> Value {
    assert!(line.ends_with('\n') && line.lines().count() == 1, "{line}");
    let document: Value = serde_json::from_str(line).unwrap();
    let found = problems(&document);
    assert!(found.is_empty(), "{found:?}\n{line}");
    document
}

fn problems(document: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let mut found: Vec<String> = validator
        .iter_errors(document)
        .map(|error| error.to_string())
        .collect();
    // What a schema cannot say: what the directives name is there.
    for directive in document["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            let value = document.get(name).filter(|value| !value.is_string());
            found.extend(value.is_none().then(|| format!("no {name}")));
        }
        for name in directive["Dimensions"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|set| {
                let names = set.as_array().unwrap();
                names.iter().map(|name| name.as_str().unwrap())
            })
        {
            let is_text = document[name].is_string();
            found.extend((!is_text).then(|| format!("no dimension {name}")));
        }
    }
    found
}

#[test]
fn a_line_holds_what_happened_and_nothing_else() {
    let metrics = metrics();
    assert_eq!(line(&metrics), None);
    metrics.accepted.add_one();
    metrics.accepted.add_one();
    metrics.backlog.record(0);
    for latency_ms in [20, 20, 20, 850] {
        metrics
            .attempt_latency
            .record(Duration::from_millis(latency_ms));
    }
    let metric = |name: &str, unit: &str| json!({ "Name": name, "Unit": unit });
    let expected = json!({
        "_aws": {
            "Timestamp": 1_700_000_000_000_u64,
            "CloudWatchMetrics": [{
                "Namespace": "Millrace",
                "Dimensions": [["service"]],
                "Metrics": [
                    metric("accepted", "Count"),
                    metric("attempt_latency_ms", "Milliseconds"),
                    metric("backlog", "Count"),
                ],
            }],
        },
        "service": "millrace",
        "accepted": 2,
        "attempt_latency_ms": {
            "Values": [20.0, 850.0],
            "Counts": [3, 1],
            "Max": 850.0,
            "Min": 20.0,
            "Count": 4,
            "Sum": 910.0,
        },
        "backlog": 0,
    });
    assert_eq!(checked(&line(&metrics).unwrap()), expected);
    assert_eq!(line(&metrics), None, "it begins anew");
}

#[test]
fn a_line_of_everything_fits_the_format() {
    let metrics = metrics();
    for counter in [
        &metrics.accepted,
        &metrics.duplicates,
        &metrics.schema_rejected,
        &metrics.delivered,
        &metrics.failed,
        &metrics.metered,
        &metrics.meter_skipped,
        &metrics.unreadable,
        &metrics.records_refused,
        &metrics.breaker_deferred,
        &metrics.breakers_opened,
    ] {
        counter.add_one();
    }
    // From a microsecond to a year: more than there are buckets.
    let mut duration = Duration::from_micros(1);
    while duration < Duration::from_hours(24 * 365) {
        metrics.attempt_latency.record(duration);
        metrics.delivery_lag.record(duration);
        metrics.delivery_time.record(duration);
        duration = duration.mul_f64(1.1);
    }
    metrics.backlog.record(7);
    metrics.backlog.record(3);
    metrics.breakers_open.record(2);
    let document = checked(&line(&metrics).unwrap());
    let names: Vec<&str> = document["_aws"]["CloudWatchMetrics"][0]["Metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|metric| metric["Name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 16);
    assert_eq!(document["backlog"], 7);
    let lag = &document["delivery_lag_ms"];
    assert_eq!(lag["Values"].as_array().unwrap().len(), BUCKETS);
    assert_eq!(lag["Min"], 0.001);
}

fn series(name: &str, group: &[(&str, &str)]) -> Series {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Series {
        name: name.to_owned(),
        project: "prj_1".into(),
        group: group.iter().map(owned).collect(),
    }
}

const ONE: StatisticSet = StatisticSet {
    count: 1,
    sum: 2.5,
    min: 2.5,
    max: 2.5,
};

#[test]
fn a_meter_is_a_line_for_each_group_and_adds_up_in_each() {
    let metrics = metrics();
    let paid = || series("revenue", &[("/plan", "pro"), ("/country", "null")]);
    metrics.kpis.add(paid(), ONE);
    let more = StatisticSet {
        count: 3,
        sum: 6.0,
        min: -1.0,
        max: 4.0,
    };
    metrics.kpis.add(paid(), more);
    let expected = json!({
        "_aws": {
            "Timestamp": 1_700_000_000_000_u64,
            "CloudWatchMetrics": [{
                "Namespace": "Millrace/Meters",
                "Dimensions": [["project"], ["project", "/plan", "/country"]],
                "Metrics": [{ "Name": "revenue", "Unit": "None" }],
            }],
        },
        "service": "millrace",
        "project": "prj_1",
        "/plan": "pro",
        "/country": "null",
        "revenue": {
            "Values": [2.125],
            "Counts": [4],
            "Max": 4.0,
            "Min": -1.0,
            "Count": 4,
            "Sum": 8.5,
        },
    });
    assert_eq!(checked(&line(&metrics).unwrap()), expected);
    assert_eq!(line(&metrics), None, "it begins anew");
}

#[test]
fn only_so_many_groups_are_series_of_their_own() {
    let toml = "[database]\nurl = \"postgresql://u@db/m\"\n[telemetry]\nkpi_series_max = 2";
    let metrics = Metrics::new(&Config::from_toml(toml).unwrap());
    let dimension_sets = |plans: &[&str]| -> Vec<usize> {
        for plan in plans {
            metrics.kpis.add(series("revenue", &[("/plan", plan)]), ONE);
        }
        let lines = line(&metrics).unwrap();
        let documents = lines.lines().map(|line| checked(&format!("{line}\n")));
        documents
            .map(|document| {
                let sets = &document["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
                sets.as_array().unwrap().len()
            })
            .collect()
    };
    // What is no dimension in CloudWatch counts in the total alone.
    assert_eq!(dimension_sets(&["", "é", "\t", "tab\tbed"]), [1]);
    assert_eq!(dimension_sets(&["free", "pro", "free"]), [2, 2]);
    assert_eq!(dimension_sets(&["team", "more"]), [1]);
    assert_eq!(dimension_sets(&["pro", "team"]), [1, 2]);
    metrics.kpis.add(
        series("revenue", &[]),
        StatisticSet {
            sum: f64::INFINITY,
            ..ONE
        },
    );
    assert_eq!(line(&metrics), None);
}

#[test]
fn what_is_done_now_and_then_is_begun_once_in_its_interval() {
    let (pace, minute) = (Pace::default(), Duration::from_mins(1));
    let at = |s: i64| Timestamp::from_second(1_700_000_000 + s).unwrap();
    let begun = [0, 0, 59, 60, 61, 119, 120].map(|s| pace.begin(at(s), minute));
    assert_eq!(begun, [true, false, false, true, false, false, true]);
    // A clock that was put back does not stop it for as long as it was ahead.
    assert!(pace.begin(at(-3600), minute));
}

#[test]
fn a_distribution_keeps_its_sum_and_its_shape() {
    let histogram = Histogram::default();
    for ms in 1..=1000 {
        histogram.record(Duration::from_millis(ms));
    }
    let taken = histogram.take().unwrap();
    assert_eq!(taken.count(), 1000);
    assert!((taken.sum() - 500_500.0).abs() < 1e-6);
    assert_eq!((taken.min, taken.max), (1.0, 1000.0));
    let mut below = 0;
    let median = taken.values().find(|(_, count)| {
        below += count;
        below >= 500
    });
    let (median, _) = median.unwrap();
    assert!((median / 500.0 - 1.0).abs() < 0.125, "{median}");
    assert!(histogram.take().is_none());
}

#[test]
fn the_schema_refuses_what_cloudwatch_refuses() {
    let metrics = metrics();
    metrics.accepted.add_one();
    metrics.attempt_latency.record(Duration::from_millis(1));
    let good = checked(&line(&metrics).unwrap());
    let bad = |change: fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        problems(&document)
    };
    let changes: [fn(&mut Value); 7] = [
        |d| d["_aws"]["Timestamp"] = json!("now"),
        |d| d["_aws"]["CloudWatchMetrics"][0]["Namespace"] = json!(""),
        |d| d["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"] = json!("ms"),
        |d| d["accepted"] = json!("one"),
        |d| d["attempt_latency_ms"]["Values"] = json!(vec![1; 101]),
        |d| d["service"] = json!(7),
        |d| {
            d.as_object_mut().unwrap().remove("accepted");
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        assert!(!bad(change).is_empty(), "change {at} went through");
    }
}
