//! Meters: created, changed, deleted; and each event counted once, whatever
//! happens in between.

use std::time::Duration;

use http::StatusCode;
use jiff::SignedDuration;
use millrace::app;
use millrace::config::Config;
use millrace::jobs::{self, Done, meter};
use millrace::model::event;
use millrace::model::id::EventId;
use millrace::model::job::Job;
use millrace::store::accept::{self, Plan};
use millrace::store::events::{self, NewEvent};
use millrace::store::usage;
use millrace::store::{keys, meters, readings};
use serde_json::{Value, json};

use crate::support::fixtures::{publish_order, sum_meter, total_usage};
use crate::support::harness::{self, Harness, run};
use crate::support::receiver::Receiver;

#[test]
fn a_meter_lives() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({
            "name": "revenue",
            "description": "for invoices",
            "event_type": "invoice.*",
            "aggregation": "sum",
            "value": "/total",
            "group_by": ["/currency", "/plan"],
            "filters": [
                { "pointer": "/test", "exists": false },
                { "pointer": "/status", "in": ["paid", 1.50, null] },
                { "pointer": "/a~1b", "equals": null },
            ],
        });
        let created = harness
            .post("/v1/meters", body.clone())
            .await
            .expect(StatusCode::CREATED);
        insta::assert_json_snapshot!(created, {
            ".id" => "[id]", ".created_at" => "[time]", ".updated_at" => "[time]",
        }, @r#"
        {
          "aggregation": "sum",
          "created_at": "[time]",
          "description": "for invoices",
          "event_type": "invoice.*",
          "filters": [
            {
              "exists": false,
              "pointer": "/test"
            },
            {
              "in": [
                "paid",
                1.5,
                null
              ],
              "pointer": "/status"
            },
            {
              "equals": null,
              "pointer": "/a~1b"
            }
          ],
          "group_by": [
            "/currency",
            "/plan"
          ],
          "id": "[id]",
          "metadata": {},
          "metric": false,
          "name": "revenue",
          "skipped": 0,
          "updated_at": "[time]",
          "value": "/total"
        }
        "#);
        let path = format!("/v1/meters/{}", created["id"].as_str().unwrap());
        assert_eq!(harness.get(&path).await.expect(StatusCode::OK), created);
        let taken = harness.post("/v1/meters", body).await.problem(409);
        assert_eq!(taken, "conflict: name: a meter of that name exists already");

        let changes = json!({ "name": "income", "metric": true });
        let changed = harness.patch(&path, changes).await.expect(StatusCode::OK);
        assert_eq!(
            (&changed["name"], &changed["metric"]),
            (&json!("income"), &json!(true))
        );
        assert_eq!(changed["filters"], created["filters"]);
        for field in ["event_type", "aggregation", "value", "group_by", "filters"] {
            let fixed = harness
                .patch(&path, json!({ field: "x" }))
                .await
                .problem(400);
            assert_eq!(
                fixed,
                format!(
                    "invalid: {field}: it is fixed: create another meter and fill it back instead"
                )
            );
        }

        let other = json!({ "name": "other", "event_type": "*", "aggregation": "count" });
        harness.new_meter(other).await;
        let page = harness
            .get("/v1/meters?limit=1")
            .await
            .expect(StatusCode::OK);
        assert_eq!(page["data"], json!([changed]));
        let cursor = page["next_cursor"].as_str().unwrap();
        let page = harness.get(&format!("/v1/meters?cursor={cursor}")).await;
        assert_eq!(page.expect(StatusCode::OK)["data"][0]["name"], "other");

        harness.delete(&path).await.expect(StatusCode::NO_CONTENT);
        harness.delete(&path).await.problem(404);
        let id = created["id"].as_str().unwrap();
        let log = harness.get(&format!("/v1/audit-log?subject={id}")).await;
        let log = log.expect(StatusCode::OK);
        let actions: Vec<_> = log["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["action"].as_str().unwrap())
            .collect();
        assert_eq!(actions, ["meter.delete", "meter.update", "meter.create"]);
        let (before, after) = (&log["data"][1]["before"], &log["data"][1]["after"]);
        assert_eq!(before, &json!({ "name": "revenue", "metric": false }));
        assert_eq!(after, &json!({ "name": "income", "metric": true }));
        harness.get(&path).await.problem(404);
        harness
            .get(&format!(
                "{path}/usage?from=2026-01-01T00:00:00Z&window=month"
            ))
            .await
            .problem(404);
        harness
            .new_meter(json!({ "name": "income", "event_type": "a", "aggregation": "count" }))
            .await;
    });
}

#[test]
fn a_malformed_meter_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let mut refusals = String::new();
        for (name, value) in [
            ("name", json!("")),
            ("name", json!(" a")),
            ("name", json!("a\u{0}")),
            ("description", json!("\u{0}")),
            ("event_type", json!("a.*.b")),
            ("aggregation", json!("median")),
            ("aggregation", json!("count")),
            ("value", json!(null)),
            ("value", json!("total")),
            ("group_by", json!(["a"])),
            ("filters", json!([{ "pointer": "/a", "equals": [] }])),
            ("filters", json!([{ "pointer": "/a", "in": 1 }])),
            ("filters", json!([{ "pointer": "/a", "matches": "x" }])),
            ("colour", json!("blue")),
        ] {
            let mut body =
                json!({ "name": "n", "event_type": "a", "aggregation": "sum", "value": "/n" });
            body[name] = value;
            let problem = harness.post("/v1/meters", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        for (name, aggregation) in [
            ("project", "sum"),
            ("/a", "sum"),
            ("Übernachtungen", "sum"),
            ("n", "unique_count"),
        ] {
            let body = json!({
                "name": name, "event_type": "a", "aggregation": aggregation, "value": "/n", "metric": true,
            });
            let problem = harness.post("/v1/meters", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        insta::assert_snapshot!(refusals, @r#"
        invalid: name: expected 1 to 100 characters, no control characters and no space at either end
        invalid: name: expected 1 to 100 characters, no control characters and no space at either end
        invalid: name: expected 1 to 100 characters, no control characters and no space at either end
        invalid: description: expected up to 500 characters, none of them NUL
        invalid: event_type: expected an event type, a prefix that ends in ".*", or "*"
        invalid: aggregation: expected one of count, sum, average, min, max, unique_count, latest, got a string of 6 characters
        invalid: value: expected none: a count is of events; a filter with exists asks for a value
        invalid: value: expected a JSON pointer (RFC 6901) into data, such as "/total"
        invalid: value: expected a JSON pointer (RFC 6901) into data, such as "/total"
        invalid: group_by[0]: expected a JSON pointer (RFC 6901) into data, such as "/total"
        invalid: filters[0].equals: expected a string, number, Boolean or null of up to 1024 bytes
        invalid: filters[0].in: expected an array, got a number
        invalid: filters[0].matches: not known here, expected one of pointer, equals, in, exists
        invalid: colour: not known here, expected one of name, description, event_type, aggregation, value, group_by, filters, metric, metadata
        invalid: name: expected the name of a metric: ASCII, not beginning with a slash, and not "_aws", "project" or "service"
        invalid: name: expected the name of a metric: ASCII, not beginning with a slash, and not "_aws", "project" or "service"
        invalid: name: expected the name of a metric: ASCII, not beginning with a slash, and not "_aws", "project" or "service"
        invalid: metric: expected false: unique counts of several minutes do not add up
        "#);
    });
}

#[test]
fn a_project_has_so_many_meters() {
    run(async {
        let harness = Harness::new().await;
        let body =
            |n: i64| json!({ "name": format!("{n}"), "event_type": "a", "aggregation": "count" });
        let first = harness.new_meter(body(0)).await;
        for n in 1..meters::METERS_MAX {
            harness.new_meter(body(n)).await;
        }
        let refused = harness
            .post("/v1/meters", body(meters::METERS_MAX))
            .await
            .problem(409);
        assert_eq!(
            refused,
            "conflict: a project has at most 100 meters: delete one first"
        );
        // An event that all of them count is still one item and one row each.
        harness.publish("a").await;
        assert_eq!(harness.meter().await, 100);
        assert_eq!(total_usage(&harness, &first).await, 1);
        harness
            .delete(&format!("/v1/meters/{first}"))
            .await
            .expect(StatusCode::NO_CONTENT);
        harness.new_meter(body(meters::METERS_MAX)).await;
    });
}

#[test]
fn an_event_counts_once_however_often_it_comes() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        for _ in 0..3 {
            publish_order(&harness, "1", 5).await;
        }
        publish_order(&harness, "2", 7).await;
        harness.publish("user.created").await;
        assert_eq!(harness.meter().await, 2);
        publish_order(&harness, "1", 5).await;
        assert_eq!(harness.meter().await, 0);
        assert_eq!(total_usage(&harness, &meter).await, 12);
    });
}

#[test]
fn an_event_that_nobody_counts_costs_nothing_more() {
    run(async {
        let harness = Harness::new().await;
        sum_meter(&harness).await;
        let id = harness.publish("user.created").await;
        let query = harness
            .app
            .dynamo
            .client
            .query()
            .table_name(&harness.app.dynamo.table);
        let query = query
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", aws_sdk_dynamodb::types::AttributeValue::S(id));
        let items = query.send().await.unwrap().items.unwrap();
        assert_eq!(items.len(), 1, "the event alone");
        assert!(!items[0].contains_key("metered"));
    });
}

/// What is due to be counted, as the job reads it.
async fn due(harness: &Harness) -> Vec<readings::StoredReadings> {
    let mut stored = Vec::new();
    for shard in 0..keys::METER_SHARDS {
        let due = readings::query(&harness.app.dynamo, shard, app::now(), 1000).await;
        let due = due.unwrap().readings;
        let loaded = readings::get(&harness.app.dynamo, &due).await.unwrap();
        stored.extend(loaded.readable);
    }
    stored
}

/// The first half of the job: counted, and not deleted.
async fn count_and_die(harness: &Harness) -> u64 {
    let stored = due(harness).await;
    let entries = usage::entries(&stored);
    let counted = usage::count(&harness.app.postgres, &entries, 1_000).await;
    counted.unwrap().newly_counted
}

#[test]
fn a_job_that_dies_between_its_steps_counts_once() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        for n in 0..10 {
            publish_order(&harness, &n.to_string(), n).await;
        }
        // Counted, and dead before the readings were deleted; twice.
        assert_eq!(count_and_die(&harness).await, 10);
        assert_eq!(count_and_die(&harness).await, 0);
        let left = due(&harness).await;
        assert_eq!(left.len(), 10);
        // Some deleted, and dead before the rest; some deleted twice.
        let events: Vec<_> = left.iter().take(4).map(|stored| &stored.event).collect();
        for _ in 0..2 {
            readings::delete(&harness.app.dynamo, &events)
                .await
                .unwrap();
        }
        assert_eq!(harness.meter().await, 0);
        assert_eq!(due(&harness).await.len(), 0);
        assert_eq!(total_usage(&harness, &meter).await, 45);
    });
}

#[test]
fn several_that_count_at_once_count_once() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        let more = json!({ "name": "count", "event_type": "*", "aggregation": "count", "group_by": ["/n"] });
        let count = harness.new_meter(more).await;
        let others = [
            harness.beside().build().await,
            harness.beside().build().await,
        ];
        for n in 0..60 {
            publish_order(&harness, &n.to_string(), n).await;
        }
        let now = app::now();
        let runs = tokio::try_join!(
            meter::meter(&harness.app, now),
            meter::meter(&others[0].app, now),
            meter::meter(&others[1].app, now),
        );
        let runs = runs.unwrap();
        assert_eq!(runs.0.counted + runs.1.counted + runs.2.counted, 120);
        assert_eq!(harness.meter().await, 0);
        assert_eq!(total_usage(&harness, &meter).await, 1770);
        assert_eq!(total_usage(&harness, &count).await, 60);
    });
}

#[test]
fn what_comes_while_postgres_is_down_is_counted_later() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        let cut_off = harness.beside().without_postgres().build().await;
        for n in 0..5 {
            publish_order(&cut_off, &n.to_string(), 2).await;
        }
        let failed = meter::meter(&cut_off.app, app::now()).await.unwrap_err();
        assert_eq!(
            failed.to_string(),
            "the control-plane database is unavailable"
        );
        assert_eq!(due(&harness).await.len(), 5, "nothing is lost or put off");
        assert_eq!(harness.meter().await, 5);
        assert_eq!(total_usage(&harness, &meter).await, 10);
    });
}

#[test]
fn a_statement_that_fails_changes_nothing() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        publish_order(&harness, "1", 3).await;
        publish_order(&harness, "2", 4).await;
        // A row of the batch that the statement cannot take: no such number.
        let id: EventId = due(&harness).await[0].event.clone();
        let update = harness
            .app
            .dynamo
            .client
            .update_item()
            .table_name(&harness.app.dynamo.table);
        let s = aws_sdk_dynamodb::types::AttributeValue::S;
        let bad = update
            .key("pk", s(id.as_str().into()))
            .key("sk", s(keys::READINGS.into()))
            .update_expression("set readings[0].#group = :bad")
            .expression_attribute_names("#group", "group")
            .expression_attribute_values(":bad", s("[\"\u{0}\"]".into()));
        bad.send().await.unwrap();
        let now = app::now();
        let run = meter::meter(&harness.app, now).await.unwrap();
        // The other is counted; the bad one is out of the way, and not lost.
        assert_eq!((run.counted, due(&harness).await.len()), (1, 0));
        let later = now + SignedDuration::from_mins(6);
        assert_eq!(meter::meter(&harness.app, later).await.unwrap().found, 1);
        let sum = total_usage(&harness, &meter).await.as_i64().unwrap();
        assert!(sum == 3 || sum == 4, "{sum}");
    });
}

#[test]
fn an_event_kept_before_its_meters_were_known_is_metered_by_its_fan_out() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        let project = harness.project.parse().unwrap();
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"order.paid","tenant":"acme","data":{"n":8}}"#;
        let event = event::parse_structured(text.as_bytes()).unwrap();
        let id = EventId::derive(&project, "/s", "1");
        let now = app::now();
        let new = NewEvent {
            id: &id,
            project: &project,
            event: &event,
            received: now,
            expires: events::expiry(now, 30),
            metered: None,
        };
        accept::accept(&harness.app.dynamo, &new, &Plan::FanOut(now))
            .await
            .unwrap();
        assert_eq!(harness.meter().await, 0, "nobody has read it yet");
        let job = || Job::FanOut { event: id.clone() };
        let done = jobs::run(&harness.app, job(), None, now).await;
        assert!(matches!(done, Ok(Done::Finished)));
        assert_eq!(harness.meter().await, 1);
        // Again by the message's twin, and by a replay.
        let done = jobs::run(&harness.app, job(), None, now).await;
        assert!(matches!(done, Ok(Done::Finished)));
        let replay = format!("/v1/events/{id}/replay");
        harness
            .post(&replay, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(harness.meter().await, 0);
        let rows = harness
            .usage(&meter, "from=2020-01-01T00:00:00Z&window=month&tenant=acme")
            .await;
        assert_eq!(rows[0]["value"], 8);
    });
}

#[test]
fn a_wide_event_is_metered_with_its_write() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let meter = sum_meter(&harness).await;
        for _ in 0..=accept::INLINE_DELIVERIES_MAX {
            harness.endpoint(&receiver.url, &["order.*"]).await;
        }
        publish_order(&harness, "1", 9).await;
        assert_eq!(harness.meter().await, 1, "before its fan-out");
        harness.drain().await;
        assert_eq!(receiver.received().len(), accept::INLINE_DELIVERIES_MAX + 1);
        assert_eq!(
            due(&harness).await.len(),
            0,
            "the fan-out has nothing to add"
        );
        assert_eq!(total_usage(&harness, &meter).await, 9);
    });
}

#[test]
fn a_deleted_meter_counts_nothing_more() {
    run(async {
        let harness = Harness::new().await;
        let (deleted, meter) = (
            sum_meter(&harness).await,
            json!({
                "name": "count", "event_type": "*", "aggregation": "count",
            }),
        );
        let meter = harness.new_meter(meter).await;
        publish_order(&harness, "1", 1).await;
        harness
            .delete(&format!("/v1/meters/{deleted}"))
            .await
            .expect(StatusCode::NO_CONTENT);
        publish_order(&harness, "2", 1).await;
        assert_eq!(harness.meter().await, 2, "by the other meter");
        assert_eq!(due(&harness).await.len(), 0);
        assert_eq!(total_usage(&harness, &meter).await, 2);
    });
}

#[test]
fn values_that_cannot_be_read_are_shown_as_skipped() {
    run(async {
        let harness = Harness::new().await;
        let meter = sum_meter(&harness).await;
        for (id, data) in [
            ("1", json!({})),
            ("2", json!({ "n": "x" })),
            ("3", json!({ "n": 4 })),
        ] {
            let body = json!({ "type": "order.paid", "id": id, "source": "/s", "data": data });
            harness.publish_body(body).await;
        }
        count_and_die(&harness).await;
        harness.meter().await;
        let fetched = harness
            .get(&format!("/v1/meters/{meter}"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(fetched["skipped"], 2);
        assert_eq!(total_usage(&harness, &meter).await, 4);
    });
}

/// A configuration with these lines in `[meters]`.
fn configured(lines: &str) -> Config {
    let mut config = harness::config();
    config.meters = Config::from_toml(&format!(
        "[meters]\n{lines}\n[database]\nurl = \"postgresql://u@db/m\""
    ))
    .unwrap()
    .meters;
    config
}

#[test]
fn groups_are_bounded_however_many_count() {
    run(async {
        let harness = Harness::builder()
            .config(configured("groups_max = 3"))
            .build()
            .await;
        let other = harness
            .beside()
            .config(configured("groups_max = 3"))
            .build()
            .await;
        let body = json!({ "name": "a", "event_type": "*", "aggregation": "count", "group_by": ["/plan"] });
        let meter = harness.new_meter(body).await;
        for n in 0..40 {
            let body = json!({ "type": "a", "data": { "plan": format!("p{}", n % 10) } });
            harness.publish_body(body).await;
            if n % 8 == 7 {
                let now = app::now();
                tokio::try_join!(
                    meter::meter(&harness.app, now),
                    meter::meter(&other.app, now)
                )
                .unwrap();
            }
        }
        harness.meter().await;
        let rows = harness
            .usage(
                &meter,
                "from=2020-01-01T00:00:00Z&window=month&group_by=/plan",
            )
            .await;
        let rows = rows.as_array().unwrap();
        let of = |row: &Value| row["value"].as_i64().unwrap();
        assert_eq!(rows.len(), 4, "{rows:?}");
        let overflow: Vec<_> = rows
            .iter()
            .filter(|row| row["group"] == json!({ "…": "other" }))
            .collect();
        assert_eq!((overflow.len(), of(overflow[0])), (1, 28));
        assert_eq!(rows.iter().map(of).sum::<i64>(), 40);
    });
}

#[test]
fn a_meter_marked_as_metric_is_published_once() {
    run(async {
        let harness = Harness::new().await;
        let body = json!({
            "name": "revenue", "event_type": "order.*", "aggregation": "sum", "value": "/n",
            "group_by": ["/plan"], "metric": true,
        });
        let meter = harness.new_meter(body).await;
        let silent = json!({ "name": "silent", "event_type": "order.*", "aggregation": "count" });
        harness.new_meter(silent).await;
        for n in 1..=4 {
            let data = json!({ "n": n, "plan": "pro" });
            let body = json!({ "type": "order.paid", "data": data });
            harness.publish_body(body).await;
        }
        harness
            .publish_body(json!({ "type": "order.paid", "data": {} }))
            .await;
        harness.meter().await;
        let lines = harness.app.telemetry.metrics.take(app::now()).unwrap();
        let lines: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines.len(),
            2,
            "the platform's own, and one series: {lines:?}"
        );
        assert_eq!(
            (&lines[0]["metered"], &lines[0]["meter_skipped"]),
            (&json!(9), &json!(1))
        );
        assert_eq!(lines[1]["project"], json!(harness.project));
        assert_eq!(lines[1]["/plan"], "pro");
        assert_eq!(lines[1]["revenue"]["Sum"], 10.0);
        assert_eq!(lines[1]["revenue"]["Count"], 4);

        // Filling back counts nothing new, and what it counts is not of now.
        let path = format!("/v1/meters/{meter}/backfill");
        harness
            .post(&path, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.meter_after(Duration::from_secs(20)).await;
        assert_eq!(harness.app.telemetry.metrics.take(app::now()), None);
    });
}
