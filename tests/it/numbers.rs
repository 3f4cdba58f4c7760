//! Numbers of events' data: they count as they are written, in whatever mode they
//! come, and come back as they were sent.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, StatusCode};
use millrace::store::dynamo::Dynamo;
use millrace::store::keys;
use serde_json::json;

use crate::support::harness::{Answer, Harness, run};

/// A POST of `body` as it is.
async fn post(harness: &Harness, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let request = Request::post(path).header("authorization", format!("Bearer {}", harness.key));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    harness.send(request.body(Body::from(body)).unwrap()).await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.bytes).unwrap()
}

/// What is answered to `data` in each mode, under one source and id.
async fn publish_in_every_mode(harness: &Harness, data: &str) -> Vec<Answer> {
    let whole = |data: String| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{data}}}"#)
    };
    let plain = format!(r#"{{"id":"1","source":"/s","type":"t","data":{data}}}"#);
    let bytes = whole(format!(r#""data_base64":"{}""#, STANDARD.encode(data)));
    let json = ("content-type", "application/json");
    let structured = ("content-type", "application/cloudevents+json");
    let attributes = [
        json,
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    vec![
        post(harness, "/v1/events", &[json], plain).await,
        post(
            harness,
            "/v1/events",
            &[structured],
            whole(format!(r#""data":{data}"#)),
        )
        .await,
        post(harness, "/v1/events", &attributes, data.to_owned()).await,
        post(harness, "/v1/events", &[structured], bytes).await,
    ]
}

#[test]
fn the_same_numbers_are_a_duplicate_and_others_a_conflict() {
    run(async {
        for (first, same, other) in [
            (
                "12345678901234567.89",
                &["12345678901234567.890", "1234567890123456789e-2"][..],
                &["12345678901234567.90", "12345678901234567"][..],
            ),
            (
                "1",
                &["1.0", "1e0", "10e-1", "0.1E+1"],
                &["1.1", "-1", "true"],
            ),
            ("-0", &["0", "0.0", "0e9", "-0e-9"], &["1e-400"]),
            ("1E300", &["10e299"], &["1.0000000000000000001e300"]),
            (
                "123456789012345678901234567890",
                &["123456789012345678901234567890.0"],
                &["123456789012345678901234567891"],
            ),
        ] {
            let harness = Harness::new().await;
            let data = |number: &str| format!(r#"{{"a":"x","n":[{{"b":{number}}}]}}"#);
            let answers = publish_in_every_mode(&harness, &data(first)).await;
            for (n, answer) in answers.into_iter().enumerate() {
                assert_eq!(answer.expect(StatusCode::ACCEPTED)["duplicate"], n > 0);
            }
            for again in same {
                for answer in publish_in_every_mode(&harness, &data(again)).await {
                    let answer = answer.expect(StatusCode::ACCEPTED);
                    assert_eq!(answer["duplicate"], true, "{first} {again}");
                }
            }
            for again in other {
                for answer in publish_in_every_mode(&harness, &data(again)).await {
                    let problem = answer.problem(409);
                    assert!(
                        problem.ends_with("it differs in data"),
                        "{again}: {problem}"
                    );
                }
            }
        }
    });
}

/// A batch tells its own events apart by the same rule.
#[test]
fn a_batch_tells_numbers_apart_too() {
    run(async {
        let harness = Harness::new().await;
        let event = |n: &str| format!(r#"{{"id":"1","source":"/s","type":"t","data":{n}}}"#);
        let numbers = [
            "12345678901234567.89",
            "12345678901234567.890",
            "12345678901234567.9",
        ];
        let first = post(
            &harness,
            "/v1/events/batch",
            &[("content-type", "application/json")],
            format!("[{}]", event(numbers[0])),
        );
        first.await.expect(StatusCode::ACCEPTED);
        let batch = format!("[{}]", numbers.map(event).join(","));
        let json = [("content-type", "application/json")];
        let answer = post(&harness, "/v1/events/batch", &json, batch).await;
        let answer = answer.expect(StatusCode::ACCEPTED);
        assert_eq!(answer["data"][0]["duplicate"], true);
        assert_eq!(answer["data"][1]["duplicate"], true);
        assert_eq!(answer["data"][2]["error"]["code"], "conflict");
    });
}

/// Earlier versions made other fingerprints of fractions.
#[test]
fn an_event_kept_with_another_fingerprint_is_known_again_exactly() {
    run(async {
        let harness = Harness::new().await;
        let first = &publish_in_every_mode(&harness, r#"{"n":12345678901234567.89}"#).await[0];
        let id = first.json["id"].as_str().unwrap().to_owned();
        let Dynamo { client, table } = &harness.app.dynamo;
        let update = client.update_item().table_name(table);
        let update = update
            .key("pk", AttributeValue::S(id.clone()))
            .key("sk", AttributeValue::S(keys::EVENT.into()))
            .update_expression("set fp = :other")
            .expression_attribute_values(":other", AttributeValue::B(Blob::new([7; 32])));
        update.send().await.unwrap();
        for answer in publish_in_every_mode(&harness, r#"{"n":12345678901234567.890}"#).await {
            let answer = answer.expect(StatusCode::ACCEPTED);
            assert_eq!(answer, json!({ "id": id, "duplicate": true }));
        }
        for answer in publish_in_every_mode(&harness, r#"{"n":12345678901234567.90}"#).await {
            answer.problem(409);
        }
    });
}

#[test]
fn a_schema_compares_numbers_as_they_are_written() {
    run(async {
        let harness = Harness::new().await;
        let json = [("content-type", "application/json")];
        let schema = r#"{"properties":{"n":{"maximum":12345678901234567.89,"multipleOf":0.01}}}"#;
        let registration = format!(r#"{{"name":"t","schema":{schema}}}"#);
        let registered = post(&harness, "/v1/event-types", &json, registration).await;
        assert!(text(&registered).contains(schema), "{}", text(&registered));
        for (data, words) in [
            (
                r#"{"n":12345678901234567.90}"#,
                "invalid: data/n: expected 12345678901234567.89 or less",
            ),
            (
                r#"{"n":0.30000000000000004}"#,
                "invalid: data/n: expected a multiple of 0.01",
            ),
        ] {
            for answer in publish_in_every_mode(&harness, data).await.drain(..3) {
                assert_eq!(answer.problem(400), words);
            }
        }
        let fits = publish_in_every_mode(&harness, r#"{"n":12345678901234567.89}"#).await;
        let fits = fits.into_iter().next().unwrap();
        fits.expect(StatusCode::ACCEPTED);
    });
}

#[test]
fn numbers_come_back_as_they_were_sent() {
    run(async {
        let harness = Harness::new().await;
        let data = r#"{"n":[12345678901234567.890,1.0,-0,1E300,10e-1],"$serde_json::private::Number":"1","$serde_json::private::RawValue":"1"}"#;
        let answers = publish_in_every_mode(&harness, data).await;
        let id = answers[0].json["id"].as_str().unwrap().to_owned();
        for answer in answers {
            answer.expect(StatusCode::ACCEPTED);
        }
        let kept = harness.get(&format!("/v1/events/{id}")).await;
        assert!(text(&kept).contains(data), "{}", text(&kept));
        let renamed = data.replace("private::Number", "private::Numbers");
        for answer in publish_in_every_mode(&harness, &renamed).await {
            answer.problem(409);
        }
    });
}
