//! Attributes of events at the limits that CloudEvents sets: 64 KiB of them in every
//! content mode, kept, listed, delivered and counted; and times at the ends of RFC 3339.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::fixtures::{create_endpoint, endpoint_path, finish_recovery, uncached_config};
use crate::support::harness::{Answer, Harness, run};
use crate::support::receiver::Receiver;

/// Room for an event's other attributes below 64 KiB.
const LONG: usize = 65_000;

/// The attributes, each with a value that takes an event of 64 KiB.
fn long_attributes() -> Vec<(&'static str, String)> {
    let long = "y".repeat(LONG);
    vec![
        ("id", long.clone()),
        ("source", format!("/{long}")),
        ("type", long.clone()),
        ("subject", long.clone()),
        ("tenant", long.clone()),
        ("dataschema", format!("urn:{long}")),
        ("datacontenttype", format!("text/{long}")),
        ("ext", long.clone()),
        ("traceparent", long),
    ]
}

fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/s", "type": "t" })
}

async fn publish_as(harness: &Harness, content_type: &str, body: Value) -> Answer {
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {}", harness.key))
        .header("content-type", content_type)
        .body(body.to_string().into());
    harness.send(request.unwrap()).await
}

async fn publish_in_headers(harness: &Harness, event: &Value) -> Answer {
    let mut request =
        Request::post("/v1/events").header("authorization", format!("Bearer {}", harness.key));
    for (name, value) in event.as_object().unwrap() {
        let value = value.as_str().unwrap();
        request = match &**name {
            "datacontenttype" => request.header("content-type", value),
            name => request.header(format!("ce-{name}"), value),
        };
    }
    harness
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await
}

#[test]
fn an_attribute_may_take_all_of_64_kib_in_every_mode() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let whole = Receiver::start([]).await;
        create_endpoint(&harness, json!({ "url": whole.url })).await;
        let data = Receiver::start([]).await;
        let body = json!({ "url": data.url, "body_format": "data" });
        create_endpoint(&harness, body).await;
        for (name, value) in long_attributes() {
            let before = whole.received().len();
            let with = |id: &str| {
                let mut event = event(&format!("{name} {id}"));
                if name == "datacontenttype" {
                    event["data"] = "x".into();
                }
                event[name] = value.clone().into();
                if name == "id" {
                    event["source"] = format!("/{id}").into();
                }
                event
            };
            let structured = publish_as(&harness, "application/cloudevents+json", with("1")).await;
            structured.expect(StatusCode::ACCEPTED);
            let batch = "application/cloudevents-batch+json";
            let batch = publish_as(&harness, batch, json!([with("2")])).await;
            assert_eq!(batch.expect(StatusCode::ACCEPTED)["rejected"], 0);
            let mut in_headers = with("3");
            in_headers.as_object_mut().unwrap().remove("data");
            publish_in_headers(&harness, &in_headers)
                .await
                .expect(StatusCode::ACCEPTED);
            if !["ext", "traceparent"].contains(&name) {
                let mut plain = with("4");
                plain.as_object_mut().unwrap().remove("specversion");
                harness.publish_body(plain).await;
            }
            harness.drain().await;

            let sent = &whole.received()[before..];
            assert!(!sent.is_empty());
            for received in sent {
                assert_eq!(received.json()[name], value, "{name}");
            }
            for received in &data.received()[before..] {
                match name {
                    // Without data it has none.
                    "datacontenttype" if received.body.is_empty() => {}
                    "datacontenttype" => assert_eq!(received.header("content-type"), value),
                    name => assert_eq!(received.header(&format!("ce-{name}")), value),
                }
            }
        }
    });
}

#[test]
fn events_with_long_attributes_are_listed_and_found() {
    run(async {
        let harness = Harness::new().await;
        let long = "y".repeat(30_000);
        for name in ["type", "tenant", "subject"] {
            for tail in ["a", "b"] {
                let mut event = event(&format!("{name} {tail}"));
                event[name] = format!("{long}{tail}").into();
                harness.publish_body(event).await;
            }
            let page = harness.get(&format!("/v1/events?{name}={long}b")).await;
            let page = page.expect(StatusCode::OK);
            let found: Vec<_> = page["data"].as_array().unwrap().iter().collect();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0]["event_id"], format!("{name} b"));
            assert_eq!(found[0][name], format!("{long}b"));
        }
    });
}

#[test]
fn a_page_of_long_rows_ends_early_and_nothing_is_left_out() {
    run(async {
        let harness = Harness::new().await;
        for id in 0..40 {
            let mut event = event(&id.to_string());
            event["subject"] = "y".repeat(60_000).into();
            harness.publish_body(event).await;
        }
        let (mut seen, mut pages, mut cursor) = (0, 0, String::new());
        loop {
            let path = format!("/v1/events?limit=100{cursor}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            assert!(page.to_string().len() < 2_000_000);
            seen += page["data"].as_array().unwrap().len();
            pages += 1;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, 40);
        assert!(pages > 1);
    });
}

#[test]
fn usage_of_a_long_tenant_is_counted_and_found() {
    run(async {
        let harness = Harness::new().await;
        let meter = json!({ "name": "n", "event_type": "t", "aggregation": "count" });
        let meter = harness.new_meter(meter).await;
        let long = "y".repeat(30_000);
        for (id, tenant) in [("1", &*long), ("2", &*long), ("3", "acme")] {
            let mut event = event(id);
            event["tenant"] = tenant.into();
            harness.publish_body(event).await;
        }
        harness.meter().await;
        let from = "from=2026-01-01T00:00:00Z&window=month";
        let usage = harness
            .usage(&meter, &format!("{from}&tenant={long}"))
            .await;
        assert_eq!(
            (&usage[0]["value"], &usage[0]["tenant"]),
            (&json!(2), &json!(long))
        );
        let by_tenant = harness
            .usage(&meter, &format!("{from}&group_by=tenant"))
            .await;
        let tenants: Vec<_> = by_tenant.as_array().unwrap().iter().collect();
        assert_eq!(
            (&tenants[0]["tenant"], &tenants[0]["value"]),
            (&json!("acme"), &json!(1))
        );
        let name = tenants[1]["tenant"].as_str().unwrap();
        assert!(name.starts_with("sha256:") && name.len() == 71, "{name}");
        let by_name = harness
            .usage(&meter, &format!("{from}&tenant={name}"))
            .await;
        assert_eq!(by_name[0]["value"], 2);
    });
}

#[test]
fn a_schema_and_a_meter_read_json_in_base64() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let schema = json!({
            "name": "t", "validate": "reject",
            "schema": { "type": "object", "properties": { "n": { "type": "number" } }, "required": ["n"] },
        });
        harness
            .post("/v1/event-types", schema)
            .await
            .expect(StatusCode::CREATED);
        let meter = json!({ "name": "n", "event_type": "t", "aggregation": "sum", "value": "/n" });
        let meter = harness.new_meter(meter).await;
        let with = |id: &str, base64: &str| {
            let mut event = event(id);
            event["data_base64"] = base64.into();
            event
        };
        // {"n": 1.5}; {"m": 1}; no JSON at all.
        harness.publish_body(with("1", "eyJuIjogMS41fQ==")).await;
        for (id, base64) in [("2", "eyJtIjogMX0="), ("3", "AAE="), ("4", "ew==")] {
            let refused = harness.post("/v1/events", with(id, base64)).await;
            assert!(refused.problem(400).contains("data"), "{base64}");
        }
        // Again, as JSON.
        let mut again = event("1");
        again["data"] = json!({ "n": 1.5 });
        let again = harness.post("/v1/events", again).await;
        assert_eq!(again.expect(StatusCode::ACCEPTED)["duplicate"], true);
        harness.meter().await;
        let usage = harness
            .usage(&meter, "from=2026-01-01T00:00:00Z&window=month")
            .await;
        assert_eq!(usage[0]["value"], 1.5);
    });
}

#[test]
fn a_time_is_any_of_rfc_3339_and_no_other() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([]).await;
        create_endpoint(&harness, json!({ "url": receiver.url })).await;
        let times = [
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59.999999999999-23:59",
            "0000-01-01T00:00:00+23:59",
            "2016-12-31T23:59:60Z",
            "2017-01-01T00:59:60.5+01:00",
            "2026-01-31t12:00:00z",
            "2026-01-31T12:00:00-00:00",
        ];
        for (at, time) in times.into_iter().enumerate() {
            let mut event = event(&at.to_string());
            event["time"] = time.into();
            let id = harness.publish_body(event).await;
            harness.drain().await;
            assert_eq!(receiver.received()[at].json()["time"], time);
            let shown = harness.get(&format!("/v1/events/{id}")).await;
            assert_eq!(shown.expect(StatusCode::OK)["event"]["time"], time);
        }
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        let mut listed: Vec<_> = listed["data"].as_array().unwrap().iter().collect();
        listed.reverse();
        assert!(listed.iter().map(|row| &row["time"]).eq(&times));

        for time in [
            "2027-01-31T12:00:00+24:00",
            "2026-01-31T12:00:60Z",
            "2026-01-31T24:00:00Z",
            "2026-02-30T12:00:00Z",
            "2026-01-31 12:00:00Z",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00:00Z[UTC]",
        ] {
            let mut event = event("x");
            event["time"] = time.into();
            let refused = harness.post("/v1/events", event).await.problem(400);
            assert!(
                refused.contains("time: expected an RFC 3339") && !refused.contains(time),
                "{refused}"
            );
            let query = time.replace('+', "%2B").replace(' ', "%20");
            let refused = harness.get(&format!("/v1/events?since={query}")).await;
            assert!(
                refused.problem(400).contains("since: expected an RFC 3339"),
                "{time}"
            );
        }
    });
}

#[test]
fn a_query_may_ask_up_to_the_end_of_time() {
    run(async {
        let harness = Harness::new().await;
        let meter = json!({ "name": "n", "event_type": "*", "aggregation": "count" });
        let meter = harness.new_meter(meter).await;
        harness.publish_body(json!({ "type": "t" })).await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["other"]).await;
        let path = format!("{}/recover", endpoint_path(&endpoint));
        let ever = json!({ "since": "0000-01-01T00:00:00+23:59", "until": "9999-12-31T23:59:59Z" });
        let recovery = harness.post(&path, ever).await;
        let recovery = recovery.expect(StatusCode::ACCEPTED);
        finish_recovery(&harness, &recovery).await;
        for until in [
            "2286-11-20T17:46:40Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-23:59",
        ] {
            let path = format!("/v1/events?since=0000-01-01T00:00:00Z&until={until}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            assert_eq!(page["data"].as_array().unwrap().len(), 1, "{until}");
            let path = format!("/v1/deliveries?since=0000-01-01T00:00:00Z&until={until}");
            harness.get(&path).await.expect(StatusCode::OK);
            let last = format!("from=9999-12-01T00:00:00Z&to={until}&window=day");
            if until.starts_with("9999") {
                assert_eq!(harness.usage(&meter, &last).await, json!([]));
            }
        }
    });
}
