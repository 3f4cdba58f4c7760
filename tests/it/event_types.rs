//! Event types: registered, changed, deleted; and events validated by their
//! schemas.

use axum::body::Body;
use http::{Request, StatusCode};
use millrace::jobs::sweep;
use millrace::model::audit::{Actor, AuditContext};
use millrace::model::event_type::ValidationMode;
use millrace::model::id::ProjectId;
use millrace::store::event_types::{self, Quota};
use serde_json::{Value, json};

use crate::support::fixtures::{OUTBOX, assert_as_documented};
use crate::support::harness::{ALL_SCOPES, Answer, Harness, config, run};
use crate::support::receiver::Receiver;

/// What `invoice.paid` must satisfy in most tests.
fn invoice() -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "items": {
                "type": "array",
                "items": { "properties": { "price": { "type": "number", "minimum": 0 } } },
            },
        },
    })
}

async fn register(harness: &Harness, name: &str, more: Value) -> Value {
    let mut body = json!({ "name": name, "schema": invoice() });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let registered = harness.post("/v1/event-types", body).await;
    registered.expect(StatusCode::CREATED)
}

async fn publish(harness: &Harness, event_type: &str, data: Value) -> Answer {
    let body = json!({ "type": event_type, "data": data });
    harness.post("/v1/events", body).await
}

fn good() -> Value {
    json!({ "items": [{ "price": 5 }] })
}

fn bad() -> Value {
    json!({ "items": [{ "price": 5 }, { "price": "much" }] })
}

#[test]
fn an_event_type_lives() {
    run(async {
        let harness = Harness::new().await;
        // As it is given, with its order and spaces.
        let text = r#"{"name":"a.b","description":"x","schema":{"type": "object","required":[]}}"#;
        let request = Request::post("/v1/event-types")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/json")
            .body(Body::from(text));
        let created = harness.send(request.unwrap()).await;
        let kept = r#""schema":{"type": "object","required":[]}"#;
        assert!(String::from_utf8_lossy(&created.bytes).contains(kept));
        let created = created.expect(StatusCode::CREATED);
        insta::assert_json_snapshot!(created, {
            ".created_at" => "[time]", ".updated_at" => "[time]",
        }, @r#"
        {
          "created_at": "[time]",
          "description": "x",
          "metadata": {},
          "name": "a.b",
          "schema": {
            "required": [],
            "type": "object"
          },
          "schema_version": 1,
          "updated_at": "[time]",
          "validate": "reject"
        }
        "#);
        let body = json!({ "name": "a.b" });
        let taken = harness.post("/v1/event-types", body).await.problem(409);
        assert_eq!(
            taken,
            "conflict: name: an event type of that name exists already"
        );

        let path = "/v1/event-types/a.b";
        assert_eq!(harness.get(path).await.expect(StatusCode::OK), created);
        let changes = json!({ "schema": { "type": "array" }, "validate": "warn" });
        let changed = harness.patch(path, changes).await.expect(StatusCode::OK);
        assert_eq!(changed["schema_version"], 2);
        assert_eq!(changed["validate"], "warn");
        assert_eq!(changed["description"], "x");
        // The same schema again is no other version.
        let changes = json!({ "schema": { "type": "array" }, "description": "y" });
        let same = harness.patch(path, changes).await.expect(StatusCode::OK);
        assert_eq!(same["schema_version"], 2);
        let none = harness.patch(path, json!({ "schema": null })).await;
        let none = none.expect(StatusCode::OK);
        assert_eq!(
            (&none["schema"], &none["schema_version"], &none["validate"]),
            (&Value::Null, &Value::Null, &json!("off"))
        );

        let versions = async || {
            let listed = harness.get(&format!("{path}/versions")).await;
            let listed = listed.expect(StatusCode::OK)["data"].clone();
            let rows = listed.as_array().unwrap();
            rows.iter()
                .map(|row| format!("{} {}", row["version"], row["schema"]))
                .collect::<Vec<_>>()
        };
        let both = [
            r#"2 {"type":"array"}"#,
            r#"1 {"required":[],"type":"object"}"#,
        ];
        assert_eq!(versions().await, both);
        let page = harness.get(&format!("{path}/versions?limit=1")).await;
        let page = page.expect(StatusCode::OK);
        let next = page["next_cursor"].as_str().unwrap();
        let next = harness.get(&format!("{path}/versions?cursor={next}")).await;
        assert_eq!(next.expect(StatusCode::OK)["data"][0]["version"], 1);

        harness.delete(path).await.expect(StatusCode::NO_CONTENT);
        for answer in [
            harness.get(path).await,
            harness.delete(path).await,
            harness.patch(path, json!({})).await,
            harness.get(&format!("{path}/versions")).await,
        ] {
            assert_eq!(answer.problem(404), "not_found: event type not found");
        }
        let again = json!({ "name": "a.b", "schema": {} });
        let again = harness.post("/v1/event-types", again).await;
        assert_eq!(again.expect(StatusCode::CREATED)["schema_version"], 3);
        assert_eq!(versions().await.len(), 3);
    });
}

#[test]
fn event_types_are_listed_by_name_and_belong_to_their_project() {
    run(async {
        let harness = Harness::new().await;
        let long = "z".repeat(255);
        for name in ["b", "a:1", "B", &long] {
            register(&harness, name, json!({})).await;
        }
        let (mut names, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/event-types?limit=1{cursor}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            names.extend(
                page["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|t| t["name"].clone()),
            );
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(names, ["B", "a:1", "b", &long]);
        let stranger = harness.new_project(&ALL_SCOPES).await.key;
        let theirs = harness
            .request(http::Method::GET, "/v1/event-types", &stranger, Value::Null)
            .await;
        assert_eq!(theirs.expect(StatusCode::OK)["data"], json!([]));
        harness.get("/v1/event-types/%00").await.problem(404);
    });
}

#[test]
fn a_malformed_event_type_is_refused_by_name() {
    run(async {
        let harness = Harness::new().await;
        let mut refusals = String::new();
        for body in [
            json!({}),
            json!({ "name": "a b" }),
            json!({ "name": "millrace.mine" }),
            json!({ "name": "a", "description": "x".repeat(501) }),
            json!({ "name": "a", "validate": "reject" }),
            json!({ "name": "a", "schema": {}, "validate": "maybe" }),
            json!({ "name": "a", "schema": [] }),
            json!({ "name": "a", "schema": { "type": "number", "minimum": "0" } }),
            json!({ "name": "a", "schema": { "$schema": "http://json-schema.org/draft-06/schema#" } }),
            json!({ "name": "a", "schema": { "items": { "$ref": "https://example.com/a" } } }),
            json!({ "name": "a", "schema": { "title": "x".repeat(70_000) } }),
            json!({ "name": "a", "colour": "blue" }),
        ] {
            let problem = harness.post("/v1/event-types", body).await.problem(400);
            refusals.push_str(&format!("{problem}\n"));
        }
        insta::assert_snapshot!(refusals, @r#"
        invalid: name: expected a value, got nothing: it is required
        invalid: name: expected 1 to 255 letters, digits, '.', '_', '-' or ':'
        invalid: name: the prefix "millrace." is reserved
        invalid: description: expected up to 500 characters, none of them NUL
        invalid: validate: expected off, as the event type has no schema
        invalid: validate: expected one of reject, warn, off, got a string of 5 characters
        invalid: schema: expected a JSON object
        invalid: schema/minimum: expected number
        invalid: schema/$schema: expected https://json-schema.org/draft/2020-12/schema (or nothing, which means it) or http://json-schema.org/draft-07/schema#
        invalid: schema/items/$ref: expected a reference to a place in this schema, beginning with #; nothing is fetched from elsewhere
        invalid: schema: expected up to 65536 bytes, got 70012
        invalid: colour: not known here, expected one of name, description, schema, validate, metadata
        "#);
        let listed = harness.get("/v1/event-types").await.expect(StatusCode::OK);
        assert_eq!(listed["data"], json!([]));
    });
}

#[test]
fn a_project_has_so_many_types_and_so_much_schema() {
    run(async {
        let harness = Harness::new().await;
        let mut strict = config();
        strict.event_types.per_project_max = 2;
        strict.event_types.schema_bytes_per_project_max = 40;
        let strict = harness.beside().config(strict).build().await;
        let title = |len: usize| json!({ "title": "x".repeat(len) });
        let make = async |name: &str, schema: Value| {
            let body = json!({ "name": name, "schema": schema });
            strict.post("/v1/event-types", body).await
        };
        make("a", title(8)).await.expect(StatusCode::CREATED);
        assert_eq!(
            make("b", title(20)).await.problem(409),
            "conflict: schema: the project's schemas have 20 bytes, of 40 that they may have; \
             this one 32"
        );
        make("b", title(8)).await.expect(StatusCode::CREATED);
        assert_eq!(
            make("c", json!({})).await.problem(409),
            "conflict: the project has 2 event types, its limit"
        );
        // A schema makes room for the one in its place, a deleted type for another.
        let grown = json!({ "schema": title(7) });
        let grown = strict.patch("/v1/event-types/b", grown).await;
        grown.expect(StatusCode::OK);
        let grown = json!({ "schema": title(9) });
        strict.patch("/v1/event-types/b", grown).await.problem(409);
        let deleted = strict.delete("/v1/event-types/a").await;
        deleted.expect(StatusCode::NO_CONTENT);
        make("c", title(8)).await.expect(StatusCode::CREATED);
    });
}

#[test]
fn what_the_schema_does_not_allow_is_refused_and_told_once_an_hour() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let types = ["invoice.paid", "millrace.schema.rejected"];
        harness.endpoint(&receiver.url, &types).await;
        register(&harness, "invoice.paid", json!({})).await;

        publish(&harness, "invoice.paid", good())
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.only().json()["data"], good());
        for _ in 0..2 {
            let refused = publish(&harness, "invoice.paid", bad()).await;
            assert_eq!(refused.json["field"], "data/items/1/price");
            assert_eq!(
                refused.problem(400),
                "invalid: data/items/1/price: expected number"
            );
        }
        let without = harness
            .post("/v1/events", json!({ "type": "invoice.paid" }))
            .await;
        assert_eq!(
            without.problem(400),
            "invalid: data: expected JSON, as the event's type has a schema"
        );
        publish(&harness, "other", bad())
            .await
            .expect(StatusCode::ACCEPTED);
        // Another instance publishes no second operational event for the same hour.
        let another = harness.beside().build().await;
        publish(&another, "invoice.paid", bad()).await.problem(400);
        another.drain().await;

        harness.drain().await;
        let received = receiver.received();
        let published: Vec<_> = received[1..].iter().map(|sent| sent.json()).collect();
        // At the turn of the hour there are two.
        assert!((1..=2).contains(&published.len()), "{published:?}");
        published.iter().for_each(assert_as_documented);
        insta::assert_json_snapshot!(published[0], { ".id" => "[id]" }, @r#"
        {
          "data": {
            "path": "data/items/1/price",
            "schema_version": 1,
            "type": "invoice.paid",
            "validate": "reject"
          },
          "datacontenttype": "application/json",
          "id": "[id]",
          "source": "/v1/event-types/invoice.paid",
          "specversion": "1.0",
          "type": "millrace.schema.rejected"
        }
        "#);
        let line = harness.app.telemetry.metrics.take(millrace::app::now());
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(line["schema_rejected"], 3);
    });
}

#[test]
fn with_warn_it_is_accepted_and_told_of_with_off_it_is_not_looked_at() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness
            .endpoint(&receiver.url, &["millrace.schema.rejected"])
            .await;
        register(&harness, "warned", json!({ "validate": "warn" })).await;
        register(&harness, "ignored", json!({ "validate": "off" })).await;
        for event_type in ["warned", "ignored"] {
            publish(&harness, event_type, bad())
                .await
                .expect(StatusCode::ACCEPTED);
        }
        harness.drain().await;
        let published = receiver.only().json();
        assert_eq!(published["source"], "/v1/event-types/warned");
        assert_eq!(published["data"]["validate"], "warn");
        assert!(!published.to_string().contains("much"));
    });
}

#[test]
fn each_event_of_a_batch_is_held_against_its_own_type() {
    run(async {
        let harness = Harness::new().await;
        register(&harness, "invoice.paid", json!({})).await;
        let event = |id: &str, data: Value| {
            json!({
                "specversion": "1.0", "id": id, "source": "/", "type": "invoice.paid",
                "data": data,
            })
        };
        let mut other = event("3", bad());
        other["type"] = "other".into();
        let batch = json!([event("1", bad()), event("2", good()), other]);
        let request = Request::post("/v1/events")
            .header("authorization", format!("Bearer {}", harness.key))
            .header("content-type", "application/cloudevents-batch+json")
            .body(Body::from(batch.to_string()));
        let answer = harness.send(request.unwrap()).await;
        let data = answer.expect(StatusCode::ACCEPTED)["data"].clone();
        assert_eq!(data[0]["error"]["field"], "data/items/1/price");
        assert_eq!(data[1]["duplicate"], false);
        assert_eq!(data[2]["duplicate"], false);
    });
}

#[test]
fn what_was_accepted_answers_the_same_whatever_the_schema_says_since() {
    run(async {
        let harness = Harness::new().await;
        let event = json!({
            "specversion": "1.0", "id": "1", "source": "/", "type": "invoice.paid",
            "data": bad(),
        });
        let before = harness.post("/v1/events", event.clone()).await;
        let before = before.expect(StatusCode::ACCEPTED);
        register(&harness, "invoice.paid", json!({})).await;
        let after = harness.post("/v1/events", event.clone()).await;
        let after = after.expect(StatusCode::ACCEPTED);
        assert_eq!(after["id"], before["id"]);
        assert_eq!(after["duplicate"], true);
        let mut other = event;
        other["data"]["more"] = 1.into();
        harness.post("/v1/events", other).await.problem(400);
    });
}

#[test]
fn a_change_of_schema_counts_from_the_next_event_on() {
    run(async {
        let harness = Harness::new().await;
        register(&harness, "invoice.paid", json!({})).await;
        let path = "/v1/event-types/invoice.paid";
        let refused = async || publish(&harness, "invoice.paid", bad()).await.status == 400;
        assert!(refused().await);
        harness
            .patch(path, json!({ "schema": {} }))
            .await
            .expect(StatusCode::OK);
        assert!(!refused().await);
        harness
            .patch(path, json!({ "schema": invoice() }))
            .await
            .expect(StatusCode::OK);
        assert!(refused().await);
        harness
            .patch(path, json!({ "validate": "off" }))
            .await
            .expect(StatusCode::OK);
        assert!(!refused().await);
        harness
            .patch(path, json!({ "validate": "reject" }))
            .await
            .expect(StatusCode::OK);
        assert!(refused().await);
        harness.delete(path).await.expect(StatusCode::NO_CONTENT);
        assert!(!refused().await);
        register(&harness, "invoice.paid", json!({})).await;
        assert!(refused().await, "it came back above its tombstone");
    });
}

#[test]
fn events_are_held_against_their_schemas_without_postgres() {
    run(async {
        let harness = Harness::new().await;
        register(&harness, "invoice.paid", json!({})).await;
        let cut_off = harness.beside().without_postgres().build().await;
        publish(&cut_off, "invoice.paid", bad()).await.problem(400);
        publish(&cut_off, "invoice.paid", good())
            .await
            .expect(StatusCode::ACCEPTED);
        cut_off.get("/v1/event-types").await.problem(503);
    });
}

#[test]
fn a_registration_whose_writer_died_is_projected_by_the_sweeper() {
    run(async {
        let _turn = OUTBOX.lock().await;
        let harness = Harness::new().await;
        register(&harness, "invoice.paid", json!({})).await;
        publish(&harness, "invoice.paid", bad()).await.problem(400);
        let project: ProjectId = harness.project.parse().unwrap();
        let by = AuditContext {
            project,
            actor: Actor::Admin,
            at: millrace::app::now(),
        };
        let quota = Quota {
            types_max: 10,
            schema_bytes_max: 10_000,
        };
        let postgres = &harness.app.postgres;
        let change = event_types::update(postgres, &by, "invoice.paid", quota, |spec| {
            spec.validate = ValidationMode::Off;
            Ok(())
        });
        drop(change.await.unwrap());
        publish(&harness, "invoice.paid", bad()).await.problem(400);
        let repaired = async || sweep::repair_outbox(&harness.app, std::time::Duration::ZERO).await;
        while repaired().await.unwrap() > 0 {}
        publish(&harness, "invoice.paid", bad())
            .await
            .expect(StatusCode::ACCEPTED);
    });
}

#[test]
fn a_schema_that_this_version_cannot_use_does_not_silence_its_events() {
    run(async {
        let harness = Harness::new().await;
        let project: ProjectId = harness.project.parse().unwrap();
        let at = millrace::app::now();
        let spec = |schema: &str| event_types::Spec {
            description: String::new(),
            schema: Some(schema.to_owned()),
            validate: ValidationMode::Reject,
            metadata: millrace::model::metadata::Metadata::default(),
        };
        // As a newer version might have written them, past the checks of this one.
        for (name, schema) in [("future", r#"{ "$schema": "urn:future" }"#), ("odd", "{")] {
            let event_type = event_types::EventType {
                project: project.clone(),
                name: name.to_owned(),
                spec: spec(schema),
                schema_version: Some(1),
                created_at: at,
                updated_at: at,
                deleted_at: None,
                version: 1,
            };
            harness
                .app
                .projection
                .put_event_type(&event_type)
                .await
                .unwrap();
            publish(&harness, name, bad())
                .await
                .expect(StatusCode::ACCEPTED);
        }
        register(&harness, "invoice.paid", json!({})).await;
        publish(&harness, "invoice.paid", bad()).await.problem(400);
    });
}

#[test]
fn what_is_done_to_an_event_type_is_written_down_by_number() {
    run(async {
        let harness = Harness::new().await;
        register(&harness, "invoice.paid", json!({})).await;
        let path = "/v1/event-types/invoice.paid";
        let changes = json!({ "schema": {}, "validate": "warn" });
        harness.patch(path, changes).await.expect(StatusCode::OK);
        harness.delete(path).await.expect(StatusCode::NO_CONTENT);
        let listed = harness.get("/v1/audit-log?subject=invoice.paid").await;
        let listed = listed.expect(StatusCode::OK)["data"].clone();
        let lines: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| {
                format!(
                    "{}: {} -> {}",
                    entry["action"], entry["before"], entry["after"]
                )
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        "event_type.delete": {"description":"","metadata":{},"schema_version":2,"validate":"warn"} -> null
        "event_type.update": {"schema_version":1,"validate":"reject"} -> {"schema_version":2,"validate":"warn"}
        "event_type.create": null -> {"description":"","metadata":{},"schema_version":1,"validate":"reject"}
        "#);
    });
}
