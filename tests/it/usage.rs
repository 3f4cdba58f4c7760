//! Usage queries: windows, tenants, groups, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use millrace::app;
use millrace::config::Config;
use millrace::model::decimal::Decimal;
use millrace::model::id::{EventId, MeterId};
use millrace::model::meter::{Aggregation, Measure, Reading};
use millrace::model::window::{self, Width, Window};
use millrace::store::usage::report::{self, GroupFilter, UsageQuery};
use millrace::store::usage::{self, UsageEntry, prune};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::harness::{self, Harness, run};

/// A harness whose events may be years late.
async fn accepting_late_events() -> Harness {
    let mut config = harness::config();
    let toml = "[meters]\nlate_days_max = 3650\n[database]\nurl = \"postgresql://u@db/m\"";
    config.meters = Config::from_toml(toml).unwrap().meters;
    Harness::builder().config(config).build().await
}

async fn publish(harness: &Harness, time: &str, tenant: Option<&str>, data: Value) {
    let mut body = json!({ "type": "a", "time": time, "data": data });
    if let Some(tenant) = tenant {
        body["tenant"] = tenant.into();
    }
    harness.publish_body(body).await;
}

fn new_meter(name: &str, aggregation: &str) -> Value {
    let mut body = json!({
        "name": name, "event_type": "a", "aggregation": aggregation, "group_by": ["/plan", "/seats"],
    });
    if aggregation != "count" {
        body["value"] = "/n".into();
    }
    body
}

/// Rows as text: start and end, tenant, group, value as it was written.
fn describe(rows: &Value) -> String {
    let rows = rows.as_array().unwrap().iter();
    let row = |row: &Value| {
        let time = |name: &str| row[name].as_str().unwrap()[..16].to_owned();
        let (start, end) = (time("start"), time("end"));
        format!(
            "{start} {end} {} {} {}\n",
            row["tenant"], row["group"], row["value"]
        )
    };
    rows.map(row).collect()
}

#[test]
fn usage_is_told_apart_as_asked() {
    run(async {
        let harness = accepting_late_events().await;
        let mut meters = BTreeMap::new();
        for aggregation in Aggregation::ALL {
            let name = aggregation.as_str();
            meters.insert(name, harness.new_meter(new_meter(name, name)).await);
        }
        for (time, tenant, n, plan) in [
            ("2024-05-01T10:00:00Z", Some("acme"), json!(0.1), "pro"),
            ("2024-05-01T10:59:59.999Z", Some("acme"), json!(0.2), "free"),
            ("2024-05-01T11:00:00Z", Some("zeta"), json!("10.50"), "pro"),
            ("2024-05-02T00:00:00Z", None, json!(-3), "pro"),
            ("2024-05-02T09:00:00Z", None, json!(0.2), "pro"),
        ] {
            publish(
                &harness,
                time,
                tenant,
                json!({ "n": n, "plan": plan, "seats": 1 }),
            )
            .await;
        }
        harness.meter().await;
        let day = "from=2024-05-01T10:30:00Z&to=2024-05-02T00:00:01Z";
        let mut text = String::new();
        for (aggregation, meter) in &meters {
            let rows = describe(&harness.usage(meter, day).await);
            text.push_str(&format!("{aggregation}\n{rows}"));
        }
        insta::assert_snapshot!(text, @"
        average
        2024-05-01T00:00 2024-05-02T00:00 null null 3.6
        2024-05-02T00:00 2024-05-03T00:00 null null -1.4
        count
        2024-05-01T00:00 2024-05-02T00:00 null null 3
        2024-05-02T00:00 2024-05-03T00:00 null null 2
        latest
        2024-05-01T00:00 2024-05-02T00:00 null null 10.5
        2024-05-02T00:00 2024-05-03T00:00 null null 0.2
        max
        2024-05-01T00:00 2024-05-02T00:00 null null 10.5
        2024-05-02T00:00 2024-05-03T00:00 null null 0.2
        min
        2024-05-01T00:00 2024-05-02T00:00 null null 0.1
        2024-05-02T00:00 2024-05-03T00:00 null null -3
        sum
        2024-05-01T00:00 2024-05-02T00:00 null null 10.8
        2024-05-02T00:00 2024-05-03T00:00 null null -2.8
        unique_count
        2024-05-01T00:00 2024-05-02T00:00 null null 3
        2024-05-02T00:00 2024-05-03T00:00 null null 2
        ");

        let mut text = String::new();
        for query in [
            "group_by=tenant",
            "group_by=/plan",
            "group_by=tenant,/seats,/plan",
            "tenant=acme",
            "tenant=",
            "tenant=acme&group_by=/plan&window=hour",
            "tenant=nobody",
        ] {
            let rows = harness
                .usage(&meters["sum"], &format!("{day}&{query}"))
                .await;
            text.push_str(&format!("{query}\n{}", describe(&rows)));
        }
        insta::assert_snapshot!(text, @r#"
        group_by=tenant
        2024-05-01T00:00 2024-05-02T00:00 "acme" null 0.3
        2024-05-01T00:00 2024-05-02T00:00 "zeta" null 10.5
        2024-05-02T00:00 2024-05-03T00:00 null null -2.8
        group_by=/plan
        2024-05-01T00:00 2024-05-02T00:00 null {"/plan":"free"} 0.2
        2024-05-01T00:00 2024-05-02T00:00 null {"/plan":"pro"} 10.6
        2024-05-02T00:00 2024-05-03T00:00 null {"/plan":"pro"} -2.8
        group_by=tenant,/seats,/plan
        2024-05-01T00:00 2024-05-02T00:00 "acme" {"/plan":"free","/seats":1} 0.2
        2024-05-01T00:00 2024-05-02T00:00 "acme" {"/plan":"pro","/seats":1} 0.1
        2024-05-01T00:00 2024-05-02T00:00 "zeta" {"/plan":"pro","/seats":1} 10.5
        2024-05-02T00:00 2024-05-03T00:00 null {"/plan":"pro","/seats":1} -2.8
        tenant=acme
        2024-05-01T00:00 2024-05-02T00:00 "acme" null 0.3
        tenant=
        2024-05-02T00:00 2024-05-03T00:00 null null -2.8
        tenant=acme&group_by=/plan&window=hour
        2024-05-01T10:00 2024-05-01T11:00 "acme" {"/plan":"free"} 0.2
        2024-05-01T10:00 2024-05-01T11:00 "acme" {"/plan":"pro"} 0.1
        tenant=nobody
        "#);
    });
}

#[test]
fn days_are_those_of_the_time_zone() {
    run(async {
        let harness = accepting_late_events().await;
        let meter = harness.new_meter(new_meter("count", "count")).await;
        // An event each half hour, from the eve of Berlin's day of 23 hours to its end.
        let start: Timestamp = "2024-03-30T22:00:00Z".parse().unwrap();
        for n in 0..52 {
            let time = start + SignedDuration::from_mins(30 * n);
            publish(&harness, &time.to_string(), None, json!({})).await;
        }
        harness.meter().await;
        let span = "from=2024-03-30T22:00:00Z&to=2024-04-01T00:00:00Z";
        let berlin = harness
            .usage(&meter, &format!("{span}&time_zone=Europe/Berlin"))
            .await;
        insta::assert_snapshot!(describe(&berlin), @"
        2024-03-29T23:00 2024-03-30T23:00 null null 2
        2024-03-30T23:00 2024-03-31T22:00 null null 46
        2024-03-31T22:00 2024-04-01T22:00 null null 4
        ");
        let kathmandu = format!("{span}&time_zone=Asia/Kathmandu");
        insta::assert_snapshot!(describe(&harness.usage(&meter, &kathmandu).await), @"
        2024-03-30T18:15 2024-03-31T18:15 null null 41
        2024-03-31T18:15 2024-04-01T18:15 null null 11
        ");
        let hours = "from=2024-03-31T00:00:00Z&to=2024-03-31T01:00:00Z&window=hour&time_zone=Asia/Kathmandu";
        insta::assert_snapshot!(describe(&harness.usage(&meter, hours).await), @"
        2024-03-30T23:15 2024-03-31T00:15 null null 2
        2024-03-31T00:15 2024-03-31T01:15 null null 2
        ");
        let autumn = "2024-10-27T21:59:00Z";
        publish(&harness, autumn, None, json!({})).await;
        publish(&harness, "2024-10-26T22:00:00Z", None, json!({})).await;
        harness.meter().await;
        let span = "from=2024-10-27T12:00:00Z&to=2024-10-27T13:00:00Z&time_zone=Europe/Berlin";
        insta::assert_snapshot!(describe(&harness.usage(&meter, span).await), @"2024-10-26T22:00 2024-10-27T23:00 null null 2");
        let month = "from=2024-10-27T12:00:00Z&to=2024-10-27T13:00:00Z&window=month&time_zone=Europe/Berlin";
        insta::assert_snapshot!(describe(&harness.usage(&meter, month).await), @"2024-09-30T22:00 2024-10-31T23:00 null null 2");
    });
}

#[test]
fn an_event_counts_when_it_happened_if_that_is_plausible() {
    run(async {
        let harness = Harness::new().await;
        let meter = harness.new_meter(new_meter("count", "count")).await;
        let now = app::now();
        let ago = |hours: i64| (now - SignedDuration::from_hours(hours)).to_string();
        for hours in [24 * 20, 24 * 34, 24 * 36, -2] {
            publish(&harness, &ago(hours), None, json!({})).await;
        }
        harness.meter().await;
        let minutes = format!("from={}&window=minute", ago(1));
        let rows = harness.usage(&meter, &minutes).await;
        let values = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["value"].as_i64().unwrap());
        assert_eq!(
            values.sum::<i64>(),
            2,
            "the one too late and the one too early"
        );
        for (hours, count) in [(24 * 20, 1), (24 * 34, 1), (24 * 36, 0)] {
            let hour = format!("from={}&to={}&window=hour", ago(hours), ago(hours - 1));
            let rows = harness.usage(&meter, &hour).await;
            assert_eq!(rows.as_array().unwrap().len(), count, "{hours}");
        }
    });
}

#[test]
fn pages_follow_each_other_through_odd_names() {
    run(async {
        let harness = accepting_late_events().await;
        let meter = harness.new_meter(new_meter("sum", "sum")).await;
        let names = ["a", "a\"b", "é,/~", "\u{1}", "", "null", "[]", "other"];
        for (n, plan) in names.iter().enumerate() {
            for tenant in [None, Some("ä/,\"")] {
                let time = format!("2024-05-0{}T00:00:00Z", 1 + n % 3);
                publish(&harness, &time, tenant, json!({ "n": n, "plan": plan })).await;
            }
        }
        harness.meter().await;
        let path = format!(
            "/v1/meters/{meter}/usage?from=2024-05-01T00:00:00Z&to=2024-05-04T00:00:00Z&group_by=tenant,/plan"
        );
        let whole = harness.get(&path).await.expect(StatusCode::OK);
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = harness
                .get(&format!("{path}&limit=3{cursor}"))
                .await
                .expect(StatusCode::OK);
            rows.extend(page["data"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(rows.len(), 2 * names.len());
        assert_eq!(whole["data"], json!(rows));
        let seen: BTreeSet<&str> = rows
            .iter()
            .map(|row| row["group"]["/plan"].as_str().unwrap())
            .collect();
        assert_eq!(seen, names.into_iter().collect());
    });
}

#[test]
fn a_question_that_cannot_be_answered_says_why() {
    run(async {
        let harness = Harness::new().await;
        let meter = harness.new_meter(new_meter("count", "count")).await;
        let mut refusals = String::new();
        for query in [
            "",
            "from=yesterday",
            "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
            "from=2026-01-01T00:00:00Z&window=week",
            "from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z&window=minute",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&time_zone=Mars/Olympus",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&time_zone=CEST",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&group_by=/colour",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&group_by=",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&tenant=%00",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&limit=1001",
            "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&cursor=AAAA",
            "from=2026-01-01T00:00:00Z&colour=blue",
        ] {
            let answer = harness
                .get(&format!("/v1/meters/{meter}/usage?{query}"))
                .await;
            refusals.push_str(&format!("{}\n", answer.problem(400)));
        }
        insta::assert_snapshot!(refusals, @r#"
        invalid: from: expected a value, got nothing: it is required
        invalid: from: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        invalid: from: expected a time before to
        invalid: window: expected one of minute, hour, day, month, total, got a string of 4 characters
        invalid: window: expected at most 1500 windows between from and to: ask for a shorter time or wider windows
        invalid: time_zone: expected the name of an IANA time zone, such as "Europe/Berlin" or "UTC"
        invalid: time_zone: expected the name of an IANA time zone, such as "Europe/Berlin" or "UTC"
        invalid: group_by: expected some of tenant, /plan, /seats with commas between
        invalid: group_by: expected some of tenant, /plan, /seats with commas between
        invalid: tenant: expected no NUL
        invalid: limit: expected 1 to 1000
        invalid: cursor: expected the next_cursor of a former page of this list, asked for alike
        invalid: colour: not known here, expected one of from, to, window, tenant, group, group_by, time_zone, limit, cursor
        "#);
    });
}

#[test]
fn what_is_no_longer_needed_is_forgotten() {
    run(async {
        let harness = accepting_late_events().await;
        let meter = harness
            .new_meter(new_meter("unique_count", "unique_count"))
            .await;
        let gone = harness.new_meter(new_meter("gone", "count")).await;
        let now = app::now();
        let old = now - SignedDuration::from_hours(24 * 40);
        for time in [old, now] {
            publish(&harness, &time.to_string(), None, json!({ "n": 1 })).await;
        }
        harness.meter().await;
        // As a day of 40 days ago left it.
        let reading = Reading {
            meter: meter.parse().unwrap(),
            measure: Measure::Skipped,
            group: "[null,null]".into(),
        };
        let entry = UsageEntry {
            event: &EventId::derive(&harness.project.parse().unwrap(), "/old", "1"),
            tenant: None,
            received: old,
            expires: old + SignedDuration::from_hours(24 * 30),
            at: old,
            reading: &reading,
        };
        let postgres = &harness.app.postgres;
        usage::count(postgres, std::slice::from_ref(&entry), 1_000)
            .await
            .unwrap();
        let again = usage::count(postgres, std::slice::from_ref(&entry), 1_000)
            .await
            .unwrap();
        assert_eq!(again.newly_counted, 0, "it is known");
        harness
            .delete(&format!("/v1/meters/{gone}"))
            .await
            .expect(StatusCode::NO_CONTENT);

        prune::prune(postgres, now, 30).await.unwrap();
        let again = usage::count(postgres, std::slice::from_ref(&entry), 1_000)
            .await
            .unwrap();
        assert_eq!(again.newly_counted, 0, "its day is forgotten");
        assert_eq!(again.forgotten, 1);
        prune::prune(postgres, now, 30).await.unwrap();
        let day = |at: Timestamp, window: &str| {
            let to = at + SignedDuration::from_mins(1);
            format!("from={at}&to={to}&window={window}")
        };
        let count = async |query: String| {
            let rows = harness.usage(&meter, &query).await;
            rows.as_array().unwrap().len()
        };
        assert_eq!(
            count(day(old, "minute")).await,
            0,
            "minutes are kept for 35 days"
        );
        assert_eq!(count(day(old, "hour")).await, 1);
        assert_eq!(count(day(now, "minute")).await, 1);
        let client = postgres.get().await.unwrap();
        for table in ["usage", "usage_groups"] {
            let left = format!("select count(*) from {table} where meter_id = $1");
            let left = client.query_one(&left, &[&gone]).await.unwrap();
            assert_eq!(left.get::<_, i64>(0), 0, "{table}");
        }
    });
}

/// An event as the model below has it: everything in thousandths.
#[derive(Debug, Clone)]
struct Counted {
    at: Timestamp,
    tenant: Option<&'static str>,
    plan: &'static str,
    n: i64,
}

fn events() -> impl Strategy<Value = Vec<Counted>> {
    let event = (
        0i64..200_000,
        prop::sample::select(vec![None, Some("acme"), Some("zeta")]),
        prop::sample::select(vec!["\"pro\"", "\"free\"", "null"]),
        -5_000i64..5_000,
    );
    let event = event.prop_map(|(second, tenant, plan, n)| Counted {
        at: Timestamp::from_second(1_711_800_000 + second).unwrap(),
        tenant,
        plan,
        n,
    });
    prop::collection::vec(event, 1..80)
}

/// What usage should be, one event after the other: no buckets, no database.
fn model(
    events: &[(EventId, Counted)],
    windows: &[Window],
    aggregation: Aggregation,
    (tenants, plan): (Option<&[String]>, Option<&str>),
    (by_tenant, by_plan): (bool, bool),
) -> BTreeMap<(Timestamp, String, String), String> {
    let mut groups: BTreeMap<_, Vec<&(EventId, Counted)>> = BTreeMap::new();
    for event in events {
        let counted = &event.1;
        let of = counted.tenant.unwrap_or_default();
        let window = windows
            .iter()
            .find(|w| w.start <= counted.at && counted.at < w.end);
        let Some(window) = window.filter(|_| {
            tenants.is_none_or(|tenants| tenants.iter().any(|tenant| tenant == of))
                && plan.is_none_or(|plan| plan == counted.plan)
        }) else {
            continue;
        };
        let key = (
            window.start,
            if by_tenant {
                of.to_owned()
            } else {
                String::new()
            },
            if by_plan {
                format!("[{}]", counted.plan)
            } else {
                String::new()
            },
        );
        groups.entry(key).or_default().push(event);
    }
    let value = |events: Vec<&(EventId, Counted)>| {
        let values: Vec<i128> = events.iter().map(|(_, counted)| counted.n.into()).collect();
        let (sum, count) = (values.iter().sum::<i128>(), values.len());
        let distinct: BTreeSet<_> = values.iter().collect();
        match aggregation {
            Aggregation::Count => count.to_string(),
            Aggregation::Sum => decimal(sum, 3),
            Aggregation::Average => {
                // Cut at 13 places, then rounded half away from zero.
                let cut = sum * 10i128.pow(10) / count as i128;
                decimal((cut + 5 * cut.signum()) / 10, 12)
            }
            Aggregation::Min => decimal(*values.iter().min().unwrap(), 3),
            Aggregation::Max => decimal(*values.iter().max().unwrap(), 3),
            Aggregation::UniqueCount => distinct.len().to_string(),
            Aggregation::Latest => {
                let latest = events
                    .iter()
                    .max_by_key(|(id, counted)| (counted.at, id.as_str()));
                decimal(latest.unwrap().1.n.into(), 3)
            }
        }
    };
    groups
        .into_iter()
        .map(|(key, events)| (key, value(events)))
        .collect()
}

/// `scaled` with `places` after the point, in its plain form.
fn decimal(scaled: i128, places: usize) -> String {
    Decimal::parse(&format!("{scaled}e-{places}"))
        .unwrap()
        .as_str()
        .to_owned()
}

#[test]
fn usage_agrees_with_a_model_of_it() {
    run(async {
        let harness = Harness::new().await;
        let project = harness.project.parse().unwrap();
        let mut runner = TestRunner::deterministic();
        for case in 0..8 {
            let events = events().new_tree(&mut runner).unwrap().current();
            let events: Vec<(EventId, Counted)> = events
                .into_iter()
                .enumerate()
                .map(|(n, event)| {
                    (
                        EventId::derive(&project, "/model", &format!("{case}.{n}")),
                        event,
                    )
                })
                .collect();
            let mut body = json!({ "event_type": "never", "group_by": ["/plan"], "value": "/n" });
            (body["name"], body["aggregation"]) = (format!("sum {case}").into(), "sum".into());
            let sum: MeterId = harness.new_meter(body.clone()).await.parse().unwrap();
            (body["name"], body["aggregation"]) =
                (format!("unique {case}").into(), "unique_count".into());
            let unique: MeterId = harness.new_meter(body).await.parse().unwrap();
            let reading = |meter: &MeterId, measure: Measure, counted: &Counted| Reading {
                meter: meter.clone(),
                measure,
                group: format!("[{}]", counted.plan),
            };
            let readings: Vec<(usize, Reading)> = events
                .iter()
                .enumerate()
                .flat_map(|(place, (_, counted))| {
                    let number = Decimal::parse(&format!("{}e-3", counted.n)).unwrap();
                    let mut hash = [0; 16];
                    hash[..8].copy_from_slice(&counted.n.to_be_bytes());
                    [
                        (place, reading(&sum, Measure::Number(number), counted)),
                        (place, reading(&unique, Measure::Unique(hash), counted)),
                    ]
                })
                .collect();
            let now = app::now();
            let entries: Vec<UsageEntry<'_>> = readings
                .iter()
                .map(|(place, reading)| UsageEntry {
                    event: &events[*place].0,
                    tenant: events[*place].1.tenant,
                    received: now,
                    expires: now,
                    at: events[*place].1.at,
                    reading,
                })
                .collect();
            // In batches that overlap, and once more in the other order.
            let mut fresh = 0;
            for at in (0..entries.len()).step_by(23) {
                let overlapping = at.saturating_sub(5)..entries.len().min(at + 23);
                let batch = &entries[overlapping];
                fresh += usage::count(&harness.app.postgres, batch, 1_000)
                    .await
                    .unwrap()
                    .newly_counted;
            }
            let backwards: Vec<_> = entries.iter().rev().cloned().collect();
            fresh += usage::count(&harness.app.postgres, &backwards, 1_000)
                .await
                .unwrap()
                .newly_counted;
            assert_eq!(fresh, entries.len() as u64);

            for (width, zone) in [
                (Width::Hour, "UTC"),
                (Width::Day, "Europe/Berlin"),
                (Width::Day, "Asia/Kathmandu"),
                (Width::Month, "America/St_Johns"),
                (Width::Total, "UTC"),
            ] {
                let zone = window::zone(zone).unwrap();
                let [from, to] = ["2024-03-30T13:00:00Z", "2024-04-01T12:00:00Z"];
                let [from, to] = [from, to].map(|text| text.parse().unwrap());
                let windows = window::split_into_windows(width, &zone, from, to).unwrap();
                for aggregation in Aggregation::ALL {
                    for (tenants, plan, by) in [
                        (None, None, (false, false)),
                        (None, None, (true, true)),
                        (None, None, (false, true)),
                        (Some(&["acme"][..]), None, (true, false)),
                        (Some(&[""]), None, (false, true)),
                        (Some(&["acme", "zeta"]), None, (false, false)),
                        (Some(&["acme", ""]), Some("null"), (true, false)),
                        (None, Some("\"pro\""), (false, true)),
                        (None, Some("\"none\""), (false, false)),
                    ] {
                        let tenants = tenants.map(|names| {
                            let names = names.iter().map(|name| name.to_string());
                            names.collect::<Vec<_>>()
                        });
                        let groups = plan.map_or(GroupFilter::Any, |plan| {
                            GroupFilter::Values(vec![(0, plan.into())])
                        });
                        let question = UsageQuery {
                            meter: match aggregation {
                                Aggregation::UniqueCount => &unique,
                                _ => &sum,
                            },
                            aggregation,
                            width,
                            windows: &windows,
                            tenants: tenants.as_deref(),
                            groups: &groups,
                            by_tenant: by.0,
                            by_group: by.1.then_some(&[0]),
                            after: None,
                            limit: 10_000,
                        };
                        let rows = report::usage(&harness.app.postgres, &question)
                            .await
                            .unwrap();
                        let rows: BTreeMap<_, _> = rows
                            .into_iter()
                            .map(|row| {
                                let at = row.position;
                                ((at.start, at.tenant, at.group), row.value)
                            })
                            .collect();
                        let expected = model(
                            &events,
                            &windows,
                            aggregation,
                            (tenants.as_deref(), plan),
                            by,
                        );
                        assert_eq!(rows, expected, "{question:?}");
                    }
                }
            }
        }
    });
}
