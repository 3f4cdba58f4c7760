//! Items that this version cannot read, damaged or of a newer one: what is done with
//! many goes on without them, and says how many they are.

use aws_sdk_dynamodb::types::AttributeValue;
use http::StatusCode;
use millrace::app;
use millrace::jobs::erase;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, endpoint_path, finish_recovery, publish_order, seconds_ago,
    show_recovery, sum_meter, total_usage,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// What makes an event's item unreadable: an attribute, and what it is set to; without
/// that it is removed.
const DAMAGES: [(&str, Option<&str>); 6] = [
    ("type", None),
    ("fp", None),
    ("source", None),
    ("received", Some("yesterday")),
    ("body", Some("{\"no json")),
    ("fan", Some("of a newer version")),
];

async fn damage(harness: &Harness, pk: &str, sk: &str, (name, text): (&str, Option<&str>)) {
    let dynamo = &harness.app.dynamo;
    let s = |text: &str| AttributeValue::S(text.into());
    let update = dynamo.client.update_item().table_name(&dynamo.table);
    let update = update
        .key("pk", s(pk))
        .key("sk", s(sk))
        .expression_attribute_names("#name", name);
    let update = match text {
        Some(text) => update
            .update_expression("set #name = :text")
            .expression_attribute_values(":text", s(text)),
        None => update.update_expression("remove #name"),
    };
    update.send().await.unwrap();
}

/// The ids of the events kept, the newest first; all of them can be read.
async fn listed(harness: &Harness) -> Vec<Value> {
    let page = harness.get("/v1/events").await.expect(StatusCode::OK);
    let rows = page["data"].as_array().unwrap().iter();
    rows.map(|row| row["id"].clone()).collect()
}

#[test]
fn a_back_fill_goes_on_without_them() {
    run(async {
        let harness = Harness::new().await;
        for n in 0..8 {
            publish_order(&harness, &n.to_string(), 1).await;
        }
        let events = listed(&harness).await;
        for (event, damaged) in events.iter().zip(DAMAGES) {
            damage(&harness, event.as_str().unwrap(), "event", damaged).await;
        }
        let meter = sum_meter(&harness).await;
        let path = format!("/v1/meters/{meter}/backfill");
        let span = json!({ "until": app::now().to_string() });
        let begun = harness.post(&path, span).await.expect(StatusCode::ACCEPTED);
        assert_eq!(begun["events_skipped"], 0);
        harness.meter().await;
        let done = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(
            (&done["state"], &done["events_read"]),
            (&json!("done"), &json!(8))
        );
        assert_eq!(
            (&done["events_counted"], &done["events_skipped"]),
            (&json!(2), &json!(6))
        );
        assert_eq!(total_usage(&harness, &meter).await, 2);
        // Those whose rows lack something are in no list, and the others are.
        assert_eq!(listed(&harness).await.len(), 6);
    });
}

#[test]
fn a_recovery_goes_on_without_them() {
    run(async {
        let config = config_without_retries(1000);
        let harness = Harness::builder().config(config).build().await;
        for _ in 0..3 {
            harness.publish("a").await;
        }
        let events = listed(&harness).await;
        damage(&harness, events[1].as_str().unwrap(), "event", DAMAGES[0]).await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["a"]).await;
        let path = endpoint_path(&endpoint);
        let body = json!({ "since": seconds_ago(3600) });
        let asked = harness
            .post(&format!("{path}/replay-missing"), body.clone())
            .await;
        let recovery = asked.expect(StatusCode::ACCEPTED);
        assert_eq!(recovery["skipped"], 0);
        let done = finish_recovery(&harness, &recovery).await;
        assert_eq!(
            (&done["state"], &done["resent"], &done["skipped"]),
            (&json!("done"), &json!(2), &json!(1))
        );
        assert_eq!(receiver.received().len(), 2);

        // Nor without a delivery.
        receiver.script(vec![Reply::Status(500); 2]);
        let failed = [harness.publish("a").await, harness.publish("a").await];
        harness.drain().await;
        let id = endpoint["id"].as_str().unwrap();
        let sk = format!("delivery#{id}");
        damage(&harness, &failed[0], &sk, ("type", None)).await;
        damage(&harness, &failed[0], &sk, ("created", Some("x"))).await;
        let asked = harness.post(&format!("{path}/recover"), body).await;
        let recovery = asked.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        let done = show_recovery(&harness, &recovery).await;
        assert_eq!(
            (&done["state"], &done["resent"]),
            (&json!("done"), &json!(1))
        );
        assert_eq!(receiver.received().len(), 5);
        let list = format!("/v1/deliveries?endpoint_id={id}");
        let page = harness.get(&list).await.expect(StatusCode::OK);
        assert_eq!(page["data"].as_array().unwrap().len(), 3);
        let page = harness.get("/v1/recoveries").await.expect(StatusCode::OK);
        assert_eq!(page["data"].as_array().unwrap().len(), 2);
        let asked = recovery["id"].as_str().unwrap();
        damage(&harness, asked, "recovery", ("kind", Some("newer"))).await;
        let page = harness.get("/v1/recoveries").await.expect(StatusCode::OK);
        assert_eq!(page["data"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn an_erasure_takes_them_with_it() {
    run(async {
        let harness = Harness::new().await;
        let mut events = vec![];
        for _ in DAMAGES {
            let body = json!({ "type": "a", "tenant": "acme", "data": {} });
            events.push(harness.publish_body(body).await);
        }
        let alone = harness.publish("a").await;
        for (event, damaged) in events.iter().zip(DAMAGES) {
            damage(&harness, event, "event", damaged).await;
        }
        damage(&harness, &alone, "event", ("body", Some("{\"no json"))).await;
        for path in ["/v1/tenants/acme".to_owned(), format!("/v1/events/{alone}")] {
            let begun = harness.delete(&path).await.expect(StatusCode::ACCEPTED);
            let id = begun["id"].as_str().unwrap();
            let path = format!("/v1/erasures/{id}");
            let mut now = app::now();
            let done = loop {
                Box::pin(erase::run(&harness.app, &id.parse().unwrap(), now))
                    .await
                    .unwrap();
                now += std::time::Duration::from_secs(60);
                let shown = harness.get(&path).await.expect(StatusCode::OK);
                if shown["state"] == "done" {
                    break shown;
                }
            };
            assert_ne!(done["progress"]["events"], 0);
        }
        for event in events.iter().chain([&alone]) {
            harness
                .get(&format!("/v1/events/{event}"))
                .await
                .problem(404);
        }
    });
}
