//! Publishing: every mode, every refusal, and what a repeat answers.

use axum::body::Body;
use http::{Request, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::fixtures::{project_endpoints, uncached_config};
use crate::support::harness::{Answer, Harness, run};

fn cloud_event(id: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": "/orders",
        "type": "order.placed",
        "subject": "order 7",
        "tenant": "acme",
        "time": "2026-03-01T10:00:00Z",
        "datacontenttype": "application/json",
        "data": { "total": 12.50, "currency": "EUR" },
    })
}

async fn publish_as(harness: &Harness, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {}", harness.key))
        .header("content-type", content_type)
        .body(body.into())
        .unwrap();
    harness.send(request).await
}

async fn publish_structured(harness: &Harness, event: &Value) -> Answer {
    publish_as(
        harness,
        "application/cloudevents+json; charset=UTF-8",
        event.to_string(),
    )
    .await
}

#[test]
fn an_event_is_kept_and_shown_as_it_came() {
    run(async {
        let harness = Harness::new().await;
        let answer = publish_structured(&harness, &cloud_event("1")).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        assert_eq!(answer["duplicate"], false);

        let id = answer["id"].as_str().unwrap();
        let fetched = harness
            .get(&format!("/v1/events/{id}"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(fetched["event"], cloud_event("1"));
        assert_eq!(fetched["deliveries"], json!([]));
    });
}

#[test]
fn a_repeat_answers_the_same_and_other_content_is_refused() {
    run(async {
        let harness = Harness::new().await;
        let first = publish_structured(&harness, &cloud_event("1")).await;
        let first = first.expect(StatusCode::ACCEPTED);

        let again = publish_structured(&harness, &cloud_event("1")).await;
        let again = again.expect(StatusCode::ACCEPTED);
        assert_eq!(again, json!({ "id": first["id"], "duplicate": true }));

        let mut other = cloud_event("1");
        other["data"]["total"] = json!(13);
        let refused = publish_structured(&harness, &other).await.problem(409);
        assert_snapshot!(refused, @"conflict: id: an event with this source and id was published before with other content; it differs in data");
    });
}

#[test]
fn a_repeat_is_recognised_when_the_event_has_deliveries() {
    run(async {
        let harness = Harness::new().await;
        let receiver = crate::support::receiver::Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        for duplicate in [false, true] {
            let answer = publish_structured(&harness, &cloud_event("1")).await;
            assert_eq!(answer.expect(StatusCode::ACCEPTED)["duplicate"], duplicate);
            harness.drain().await;
        }
        let mut other = cloud_event("1");
        other["data"] = json!(null);
        publish_structured(&harness, &other).await.problem(409);
        assert_eq!(receiver.received().len(), 1);
    });
}

#[test]
fn binary_mode_is_the_same_event() {
    run(async {
        let harness = Harness::new().await;
        let event = cloud_event("1");
        let structured = publish_structured(&harness, &event)
            .await
            .expect(StatusCode::ACCEPTED);
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/json")
            .header("ce-specversion", "1.0")
            .header("ce-id", "1")
            .header("ce-source", "/orders")
            .header("ce-type", "order.placed")
            .header("ce-subject", "order%207")
            .header("ce-tenant", "acme")
            .header("ce-time", "2026-03-01T10:00:00Z")
            .body(Body::from(event["data"].to_string()))
            .unwrap();
        let binary = harness.send(request).await.expect(StatusCode::ACCEPTED);
        assert_eq!(binary, json!({ "id": structured["id"], "duplicate": true }));
    });
}

#[test]
fn a_batch_answers_for_each_event() {
    run(async {
        let harness = Harness::new().await;
        let mut broken = cloud_event("2");
        broken["source"] = json!("");
        let batch = json!([cloud_event("1"), broken, cloud_event("3"), cloud_event("1")]);
        let answer = publish_as(
            &harness,
            "application/cloudevents-batch+json",
            batch.to_string(),
        )
        .await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        let data = answer["data"].as_array().unwrap();
        assert_eq!(data.len(), 4);
        assert_eq!(answer["rejected"], 1);
        assert_eq!(data[1]["error"]["field"], "source");
        assert_eq!(data[2]["duplicate"], false);
        assert_eq!(data[0]["id"], data[3]["id"]);
        // The two are accepted side by side: either may be first.
        let duplicates = [&data[0], &data[3]].map(|item| item["duplicate"] == true);
        assert_ne!(duplicates[0], duplicates[1]);
    });
}

#[test]
fn a_batch_of_which_nothing_is_valid_is_refused_with_each_reason() {
    run(async {
        let harness = Harness::new().await;
        publish_structured(&harness, &cloud_event("taken"))
            .await
            .expect(StatusCode::ACCEPTED);
        let mut conflict = cloud_event("taken");
        conflict["data"] = json!("other");
        let mut nameless = cloud_event("2");
        nameless["id"] = json!(null);
        let batch = json!([5, nameless, conflict]);
        let as_batch = async |content_type: &str, body: Value| {
            publish_as(&harness, content_type, body.to_string()).await
        };
        let cloud_events = "application/cloudevents-batch+json";
        let answer = as_batch(cloud_events, batch).await;
        let errors = answer.json["errors"].clone();
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let refused = answer.problem(400);
        assert_snapshot!(refused, @"invalid: none of the 3 events of the batch was accepted; errors says why of each");
        insta::assert_json_snapshot!(errors, @r#"
        [
          {
            "code": "invalid",
            "detail": "expected a CloudEvent in JSON, got a number",
            "index": 0
          },
          {
            "code": "invalid",
            "detail": "id: expected a non-empty string of at most 512 characters (CloudEvents 1.0 §3.1), got nothing",
            "field": "id",
            "index": 1
          },
          {
            "code": "conflict",
            "detail": "id: an event with this source and id was published before with other content; it differs in data",
            "index": 2
          }
        ]
        "#);
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);

        // One that is valid is enough for 202, and none at all is a valid batch.
        let answer = as_batch(cloud_events, json!([5, cloud_event("3")])).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        assert_eq!(
            (
                &answer["rejected"],
                answer["data"].as_array().unwrap().len()
            ),
            (&json!(1), 2)
        );
        for content_type in [cloud_events, "application/json"] {
            let answer = as_batch(content_type, json!([])).await;
            assert_eq!(
                answer.expect(StatusCode::ACCEPTED),
                json!({ "data": [], "rejected": 0 })
            );
        }
        let plain = json!([{ "data": 1 }, { "type": "millrace.x" }]);
        let errors = &as_batch("application/json", plain).await.json["errors"];
        assert_eq!(
            (&errors[0]["index"], &errors[0]["field"]),
            (&json!(0), &json!("type"))
        );
        assert_eq!(
            (&errors[1]["index"], &errors[1]["field"]),
            (&json!(1), &json!("type"))
        );
    });
}

#[test]
fn a_json_array_is_a_batch_of_either_form() {
    run(async {
        let harness = Harness::new().await;
        let batch = json!([
            { "type": "user.created", "data": { "n": 1 } },
            cloud_event("1"),
            { "type": "user.created", "id": "mine", "source": "/app" },
            { "type": "user.created", "dta": 1 },
        ]);
        for content_type in [
            "application/json",
            " Application/JSON ; Charset = \"utf-8\" ; a = b",
        ] {
            let body = format!(" \n\t{batch}");
            let answer = publish_as(&harness, content_type, body).await;
            let answer = answer.expect(StatusCode::ACCEPTED);
            assert_eq!(answer["rejected"], 1);
            assert_eq!(answer["data"][3]["error"]["field"], "dta");
            assert!(answer["data"][0]["id"].is_string() && answer["data"][2]["id"].is_string());
        }
        let again = publish_structured(&harness, &cloud_event("1")).await;
        assert_eq!(again.expect(StatusCode::ACCEPTED)["duplicate"], true);
        // Plain events without an id are new ones each time.
        let listed = harness
            .get("/v1/events?type=user.*")
            .await
            .expect(StatusCode::OK);
        assert_eq!(listed["data"].as_array().unwrap().len(), 3);

        // An array as one CloudEvent is none, nor is an object a batch.
        let structured = "application/cloudevents+json";
        let refused = publish_as(&harness, structured, "[]").await.problem(400);
        assert_snapshot!(refused, @r#"invalid: expected a CloudEvent in JSON, got an array"#);
        let batch = "application/cloudevents-batch+json";
        let refused = publish_as(&harness, batch, "{}").await.problem(400);
        assert_snapshot!(refused, @"invalid: expected a JSON array of CloudEvents, got an object");
        // In binary mode the body is the data, whatever it is.
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/json")
            .header("ce-specversion", "1.0")
            .header("ce-id", "array")
            .header("ce-source", "/s")
            .header("ce-type", "t")
            .body(Body::from("[1]"));
        let answer = harness
            .send(request.unwrap())
            .await
            .expect(StatusCode::ACCEPTED);
        let path = format!("/v1/events/{}", answer["id"].as_str().unwrap());
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["event"]["data"], json!([1]));
    });
}

#[test]
fn an_accepted_event_says_how_many_endpoints_it_is_for() {
    run(async {
        let mut harness = Harness::builder().config(uncached_config()).build().await;
        harness.leaves_jobs = true;
        let receiver = crate::support::receiver::Receiver::start([]).await;
        let matched = async |event: Value| {
            let answer = harness.post("/v1/events", event).await;
            answer.expect(StatusCode::ACCEPTED)["matched"].clone()
        };
        assert_eq!(matched(json!({ "type": "user.created" })).await, 0);
        harness.endpoint(&receiver.url, &["user.*"]).await;
        harness
            .endpoint(&receiver.url, &["user.created", "order.*"])
            .await;
        assert_eq!(matched(json!({ "type": "user.created" })).await, 2);
        assert_eq!(matched(json!({ "type": "user.deleted" })).await, 1);
        assert_eq!(matched(json!({ "type": "invoice.paid" })).await, 0);
        let disabled = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", disabled["id"].as_str().unwrap());
        harness
            .patch(&path, json!({ "state": "disabled" }))
            .await
            .expect(StatusCode::OK);
        assert_eq!(matched(json!({ "type": "invoice.paid" })).await, 0);

        let batch = json!([
            { "type": "order.paid", "id": "1" }, { "type": "nothing" }, { "type": "user.created" },
        ]);
        let answer = harness
            .post("/v1/events", batch)
            .await
            .expect(StatusCode::ACCEPTED);
        let found = [0, 1, 2].map(|n| answer["data"][n]["matched"].clone());
        assert_eq!(found, [json!(1), json!(0), json!(2)]);
        // What it was for when it came is not kept with it.
        let again = json!({ "type": "order.paid", "id": "1" });
        let again = harness
            .post("/v1/events", again)
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(
            (&again["duplicate"], again.get("matched")),
            (&json!(true), None)
        );
        // However many they are.
        project_endpoints(&harness, &receiver.url, 30).await;
        assert_eq!(matched(json!({ "type": "user.created" })).await, 32);
    });
}

#[test]
fn the_plain_form_needs_a_type_only() {
    run(async {
        let harness = Harness::new().await;
        let id = harness.publish("user.created").await;
        let fetched = harness
            .get(&format!("/v1/events/{id}"))
            .await
            .expect(StatusCode::OK);
        let event = &fetched["event"];
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], "user.created");
        assert_eq!(event["source"], "/");
        assert_eq!(event["data"], json!({ "n": 1 }));
        assert!(event["id"].is_string() && event["time"].is_string());

        // A retry of the plain form is one too, though its time is filled in anew.
        let body = json!({ "type": "a", "id": "mine", "data": 1 });
        for duplicate in [false, true] {
            let answer = harness.post("/v1/events", body.clone()).await;
            assert_eq!(answer.expect(StatusCode::ACCEPTED)["duplicate"], duplicate);
        }
    });
}

#[test]
fn what_is_no_event_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let mut refusals = String::new();
        let mut refuse = async |what: &str, content_type: &str, body: String, status: u16| {
            let problem = publish_as(&harness, content_type, body)
                .await
                .problem(status);
            refusals.push_str(&format!("{what} => {status} {problem}\n"));
        };
        let structured = "application/cloudevents+json";
        let with = |name: &str, value: Value| {
            let mut event = cloud_event("1");
            event[name] = value;
            event.to_string()
        };
        let without = |name: &str| {
            let mut event = cloud_event("1");
            event.as_object_mut().unwrap().remove(name);
            event.to_string()
        };
        refuse("malformed", structured, "{".into(), 400).await;
        refuse("no id", structured, without("id"), 400).await;
        refuse("no type", structured, without("type"), 400).await;
        refuse(
            "version",
            structured,
            with("specversion", json!("0.3")),
            400,
        )
        .await;
        refuse("time", structured, with("time", json!("yesterday")), 400).await;
        refuse("name", structured, with("Bad-Name", json!("x")), 400).await;
        refuse("float", structured, with("ext", json!(1.5)), 400).await;
        refuse(
            "control",
            structured,
            with("subject", json!("a\u{1}b")),
            400,
        )
        .await;
        refuse(
            "both data",
            structured,
            with("data_base64", json!("aGk=")),
            400,
        )
        .await;
        refuse(
            "reserved",
            structured,
            with("type", json!("millrace.x")),
            400,
        )
        .await;
        refuse(
            "plain unknown",
            "application/json",
            json!({"type": "a", "dta": 1}).to_string(),
            400,
        )
        .await;
        refuse("avro", "application/cloudevents+avro", String::new(), 415).await;
        refuse("xml", "application/xml", "<a/>".into(), 415).await;
        let many = Value::Array(vec![cloud_event("1"); 101]).to_string();
        refuse(
            "batch of 101",
            "application/cloudevents-batch+json",
            many,
            413,
        )
        .await;
        refuse(
            "large",
            structured,
            with("data", json!("x".repeat(262_144))),
            413,
        )
        .await;
        refuse(
            "body",
            structured,
            with("data", json!("x".repeat(1_100_000))),
            413,
        )
        .await;
        assert_snapshot!(refusals, @r#"
        malformed => 400 invalid: expected a CloudEvent in JSON: it ends too early
        no id => 400 invalid: id: expected a non-empty string of at most 512 characters (CloudEvents 1.0 §3.1), got nothing
        no type => 400 invalid: type: expected a non-empty string of at most 255 characters (CloudEvents 1.0 §3.1), got nothing
        version => 400 invalid: specversion: expected "1.0" (CloudEvents 1.0 §3.1), got a string of 3 characters
        time => 400 invalid: time: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        name => 400 invalid: …: expected an attribute name of a-z and 0-9, other than data (CloudEvents 1.0 §3)
        float => 400 invalid: ext: expected a string, a Boolean or an integer of 32 bits (JSON event format §2.2), got a number with a fraction or exponent
        control => 400 invalid: subject: expected no control characters and no Unicode noncharacters (CloudEvents 1.0 §2, String), got a string of 3 characters
        both data => 400 invalid: data_base64: expected either this or data, got both (JSON event format §3.1.1)
        reserved => 400 invalid: type: the prefix "millrace." is reserved
        plain unknown => 400 invalid: dta: expected one of type, data, id, source, subject, tenant, time, datacontenttype, dataschema; other attributes need a whole CloudEvent, with "specversion": "1.0"
        avro => 415 unsupported_media_type: Content-Type: expected application/cloudevents+json, application/cloudevents-batch+json, application/json, or any with the event's attributes in ce- headers; JSON in UTF-8; got another
        xml => 415 unsupported_media_type: Content-Type: expected application/cloudevents+json, application/cloudevents-batch+json, application/json, or any with the event's attributes in ce- headers; JSON in UTF-8; got another
        batch of 101 => 413 too_large: the batch: expected at most 100 events, got 101
        large => 413 too_large: the event: expected at most 262144 bytes, got 262328
        body => 413 too_large: the body is larger than 1048576 bytes
        "#);
        let listed = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(listed["data"], json!([]), "nothing was half-written");
    });
}

#[test]
fn a_list_is_the_newest_first_and_pages_hold_everything_once() {
    run(async {
        let harness = Harness::new().await;
        let mut published = Vec::new();
        for n in 0..23 {
            let event_type = if n % 3 == 0 { "a.three" } else { "a.other" };
            let mut body = json!({ "type": event_type, "tenant": format!("t{}", n % 2) });
            if n % 5 == 0 {
                body["subject"] = json!(format!("é {}", "x".repeat(n as usize * 40)));
            }
            let answer = harness
                .post("/v1/events", body)
                .await
                .expect(StatusCode::ACCEPTED);
            published.push((answer["id"].clone(), event_type, n % 2));
        }
        let ids = async |query: &str| {
            let mut ids = Vec::new();
            let mut cursor = String::new();
            loop {
                let path = format!("/v1/events?limit=5{query}{cursor}");
                let page = harness.get(&path).await.expect(StatusCode::OK);
                let rows = page["data"].as_array().unwrap();
                let is_first = cursor.is_empty();
                assert!(is_first || !rows.is_empty(), "a cursor leads to rows");
                let times: Vec<_> = rows
                    .iter()
                    .map(|row| row["received_at"].to_string())
                    .collect();
                assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
                ids.extend(rows.iter().map(|row| row["id"].clone()));
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => return ids,
                }
            }
        };
        let expect = |keep: &dyn Fn(&str, i32) -> bool| -> Vec<Value> {
            let kept = published
                .iter()
                .filter(|(_, kind, tenant)| keep(kind, *tenant));
            kept.map(|(id, ..)| id.clone()).collect()
        };
        let same = |mut got: Vec<Value>, mut wanted: Vec<Value>| {
            got.sort_by_key(Value::to_string);
            wanted.sort_by_key(Value::to_string);
            assert_eq!(got, wanted);
        };
        same(ids("").await, expect(&|_, _| true));
        same(
            ids("&type=a.three").await,
            expect(&|kind, _| kind == "a.three"),
        );
        same(
            ids("&tenant=t1&type=a.other").await,
            expect(&|k, t| k == "a.other" && t == 1),
        );
        same(ids("&tenant=t1").await, expect(&|_, t| t == 1));
        same(ids("&tenant=t2").await, vec![]);
        let subject = format!("&subject=%C3%A9%20{}", "x".repeat(400));
        same(ids(&subject).await, vec![published[10].0.clone()]);
        same(
            ids(&format!("{subject}&tenant=t0&type=a.other")).await,
            vec![published[10].0.clone()],
        );
        same(ids(&format!("{subject}&tenant=t1")).await, vec![]);
        same(ids(&format!("{subject}x")).await, vec![]);
        same(ids("&until=2020-01-01T00:00:00Z").await, vec![]);
        same(
            ids("&type=a.three&until=2020-01-01T00:00:00Z").await,
            vec![],
        );
        same(
            ids("&since=2020-01-01T00:00:00Z").await,
            expect(&|_, _| true),
        );
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("cursor=%21", "cursor"),
            ("cursor=aGVsbG8", "cursor"),
            ("since=yesterday", "since"),
            (
                "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
                "since",
            ),
            ("kind=x", "kind"),
        ] {
            let answer = harness.get(&format!("/v1/events?{query}")).await;
            assert_eq!(answer.status, 400, "{query}");
            let named = answer.json["field"] == field
                || answer.json["detail"].as_str().unwrap().contains(field);
            assert!(named, "{query}: {}", answer.json);
        }
    });
}

/// Publishes in binary mode, with `headers` beside what every event has.
async fn publish_binary(
    harness: &Harness,
    id: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Answer {
    let mut request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {}", harness.key))
        .header("ce-specversion", "1.0")
        .header("ce-id", id)
        .header("ce-source", "/billing")
        .header("ce-type", "invoice.paid");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    harness.send(request.body(Body::from(body)).unwrap()).await
}

#[test]
fn binary_mode_without_a_content_type_is_json_if_its_body_is() {
    run(async {
        let harness = Harness::new().await;
        let schema = json!({ "type": "object", "required": ["total"] });
        let event_type = json!({ "name": "invoice.paid", "schema": schema });
        let made = harness.post("/v1/event-types", event_type).await;
        made.expect(StatusCode::CREATED);
        let first = publish_binary(&harness, "1", &[], r#"{"total": 12.50}"#).await;
        let first = first.expect(StatusCode::ACCEPTED);
        let kept = harness
            .get(&format!("/v1/events/{}", first["id"].as_str().unwrap()))
            .await
            .expect(StatusCode::OK);
        assert_eq!(kept["event"]["data"], json!({ "total": 12.5 }));
        assert!(kept["event"].get("data_base64").is_none(), "{kept}");

        // The same event in the other modes.
        let json = [("content-type", "application/json")];
        let again = publish_binary(&harness, "1", &json, r#"{"total":12.5}"#).await;
        assert_eq!(again.expect(StatusCode::ACCEPTED)["duplicate"], true);
        let whole = json!({
            "specversion": "1.0", "id": "1", "source": "/billing", "type": "invoice.paid",
            "data": { "total": 12.5 },
        });
        let again = publish_structured(&harness, &whole).await;
        assert_eq!(again.expect(StatusCode::ACCEPTED)["duplicate"], true);
        let mut plain = whole;
        plain.as_object_mut().unwrap().remove("specversion");
        let again = harness.post("/v1/events", plain).await;
        assert_eq!(again.expect(StatusCode::ACCEPTED)["duplicate"], true);
        publish_binary(&harness, "2", &[], "12").await.problem(400);
    });
}

#[test]
fn a_repeat_may_have_another_time_and_another_trace() {
    run(async {
        let harness = Harness::new().await;
        let receiver = crate::support::receiver::Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let sent = [
            ("ce-time", "2026-01-31T12:00:00Z"),
            ("ce-traceparent", "00-1"),
        ];
        let first = publish_binary(&harness, "1", &sent, "{}").await;
        let first = first.expect(StatusCode::ACCEPTED);
        for again in [
            &[("ce-time", "2026-01-31T12:00:01.5Z")][..],
            &[("ce-traceparent", "00-2"), ("ce-tracestate", "a=b")],
            &[],
        ] {
            let again = publish_binary(&harness, "1", again, "{}").await;
            let again = again.expect(StatusCode::ACCEPTED);
            assert_eq!(again["id"], first["id"]);
            assert_eq!(again["duplicate"], true);
        }
        harness.drain().await;
        assert_eq!(receiver.only().json()["time"], "2026-01-31T12:00:00Z");
        assert_eq!(receiver.only().json()["traceparent"], "00-1");

        let other = [("ce-subject", "s3cret"), ("ce-tenant", "s3cret")];
        let refused = publish_binary(&harness, "1", &other, "[\"s3cret\"]").await;
        assert_snapshot!(refused.problem(409), @"conflict: id: an event with this source and id was published before with other content; it differs in subject, tenant, data");
    });
}

#[test]
fn what_was_kept_as_bytes_is_known_again_as_json() {
    run(async {
        let harness = Harness::new().await;
        let mut bytes = cloud_event("1");
        let data = bytes.as_object_mut().unwrap().remove("data").unwrap();
        bytes["data_base64"] = base64_of(data.to_string().as_bytes()).into();
        bytes.as_object_mut().unwrap().remove("datacontenttype");
        let first = publish_structured(&harness, &bytes).await;
        let first = first.expect(StatusCode::ACCEPTED);
        let mut again = cloud_event("1");
        again.as_object_mut().unwrap().remove("datacontenttype");
        let again = publish_structured(&harness, &again).await;
        let again = again.expect(StatusCode::ACCEPTED);
        assert_eq!(
            (&again["id"], &again["duplicate"]),
            (&first["id"], &true.into())
        );
    });
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_batch_has_a_path_of_its_own_and_takes_plain_events() {
    run(async {
        let harness = Harness::new().await;
        let events = json!([
            { "type": "a", "data": [1, 2] },
            { "data": 1 },
            { "specversion": "1.0", "id": "1", "source": "/s", "type": "b", "ext": true },
        ]);
        let answer = harness.post("/v1/events/batch", events.clone()).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        let [plain, refused, whole] = [0, 1, 2].map(|n| &answer["data"][n]);
        assert_eq!(refused["error"]["field"], "type");
        assert_eq!(whole["duplicate"], false);
        let event = harness
            .get(&format!("/v1/events/{}", plain["id"].as_str().unwrap()))
            .await;
        assert_eq!(event.expect(StatusCode::OK)["event"]["data"], json!([1, 2]));

        // Of whole CloudEvents only, under their own media type, by either path.
        let whole = json!([{ "type": "a" }, events[2]]).to_string();
        for path in ["/v1/events", "/v1/events/batch"] {
            let request = Request::post(path)
                .header("authorization", format!("Bearer {}", harness.key))
                .header("content-type", "application/cloudevents-batch+json")
                .body(Body::from(whole.clone()));
            let answer = harness
                .send(request.unwrap())
                .await
                .expect(StatusCode::ACCEPTED);
            assert_eq!(answer["data"][0]["error"]["code"], "invalid", "{path}");
            assert_eq!(answer["data"][1]["duplicate"], true, "{path}");
        }

        let one = json!({ "type": "a" });
        let problem = harness.post("/v1/events/batch", one).await.problem(400);
        assert!(problem.contains("array"), "{problem}");
        for media_type in ["application/cloudevents+json", "text/plain"] {
            let request = Request::post("/v1/events/batch")
                .header("authorization", format!("Bearer {}", harness.key))
                .header("content-type", media_type)
                .body(Body::from("[]"));
            let problem = harness.send(request.unwrap()).await.problem(415);
            let expected = "application/json or application/cloudevents-batch+json";
            assert!(problem.contains(expected), "{problem}");
            assert!(problem.ends_with("; got another"), "{problem}");
        }
    });
}
