//! Previews of recoveries: they say what the recovery then begins, whatever is asked for,
//! and look at no more than so many rows.

use http::StatusCode;
use millrace::app;
use millrace::model::access::Access;
use millrace::model::id::{EndpointId, ProjectId, RecoveryId};
use millrace::model::recovery::{Recovery, RecoveryKind};
use millrace::store::recovery_selection::{self as selection, COUNT_MAX};
use millrace::store::timeline::READ_MAX;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, create_endpoint, endpoint_path, finish_recovery, seconds_ago,
};
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};

async fn preview(harness: &Harness, query: &str) -> Value {
    let path = format!("/v1/recoveries/preview?{query}");
    harness.get(&path).await.expect(StatusCode::OK)
}

async fn publish(harness: &Harness, event_type: &str, tenant: &str) {
    let body = json!({ "type": event_type, "tenant": tenant, "data": {} });
    harness.publish_body(body).await;
    harness.drain().await;
}

#[test]
fn a_preview_says_what_the_recovery_then_begins() {
    run(async {
        let config = config_without_retries(1000);
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start(vec![Reply::Status(500); 3]).await;
        let made = harness.endpoint(&receiver.url, &["order.*"]).await;
        let id = made["id"].as_str().unwrap();
        for (event_type, tenant) in [
            ("order.paid", "a"),
            ("order.paid", "b"),
            ("order.sent", "a"),
            ("order.paid", "a"),
        ] {
            publish(&harness, event_type, tenant).await;
        }
        publish(&harness, "user.made", "a").await;
        let since = seconds_ago(3600);
        let at = format!("endpoint_id={id}&since={since}");

        let missing = json!({ "event_types": ["*"] });
        let path = endpoint_path(&made);
        harness.patch(&path, missing).await.expect(StatusCode::OK);
        let cases = [
            (
                "kind=replay_missing",
                format!("{path}/replay-missing"),
                json!({ "since": since }),
            ),
            (
                "kind=retry&state=failed&type=order.sent&tenant=a",
                "/v1/deliveries/retry".to_owned(),
                json!({
                    "endpoint_id": id, "since": since, "state": "failed",
                    "type": "order.sent", "tenant": "a",
                }),
            ),
            (
                "kind=recover",
                format!("{path}/recover"),
                json!({ "since": since }),
            ),
        ];
        let mut counts = vec![];
        for (query, path, body) in cases {
            let told = preview(&harness, &format!("{query}&{at}")).await;
            assert_eq!(told["is_exact"], true, "{query}");
            let begun = harness.post(&path, body).await.expect(StatusCode::ACCEPTED);
            assert_eq!(begun["progress"], 0.0);
            let ended = finish_recovery(&harness, &begun).await;
            assert_eq!(ended["resent"], told["count"], "{query}: {ended}");
            assert_eq!(ended["progress"], 1.0);
            counts.push(told["count"].as_u64().unwrap());
            // Then there is nothing left to begin.
            let told = preview(&harness, &format!("{query}&{at}")).await;
            assert_eq!(told["count"], 0, "{query}");
        }
        assert_eq!(counts, [1, 1, 2]);
        assert_eq!(receiver.received().len(), 4 + 1 + 1 + 2);
    });
}

#[test]
fn pending_deliveries_and_a_period_are_counted_as_they_are_asked_for() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        let made = harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        let id = made["uid"].as_str().or(made["id"].as_str()).unwrap();
        let count = async |query: String| {
            let path = format!("kind=recover&endpoint_id={id}{query}");
            preview(&harness, &path).await["count"].clone()
        };
        let since = seconds_ago(3600);
        assert_eq!(count(format!("&since={since}")).await, 0);
        let pending = format!("&since={since}&include_pending=true");
        assert_eq!(count(pending.clone()).await, 1);
        assert_eq!(
            count(format!("{pending}&until={}", seconds_ago(60))).await,
            0
        );
        // One that takes nothing now has its number too.
        let off = json!({ "state": "disabled" });
        let path = endpoint_path(&made);
        harness.patch(&path, off).await.expect(StatusCode::OK);
        assert_eq!(count(pending).await, 1);
    });
}

#[test]
fn what_makes_no_sense_is_refused_by_its_name() {
    run(async {
        let harness = Harness::new().await;
        let made = create_endpoint(&harness, json!({ "url": "http://127.0.0.1:9/" })).await;
        let id = made["id"].as_str().unwrap();
        let (since, later) = (seconds_ago(3600), seconds_ago(-3600));
        for (query, field) in [
            (format!("endpoint_id={id}&since={since}"), "kind"),
            (
                format!("kind=archive&endpoint_id={id}&since={since}"),
                "kind",
            ),
            (format!("kind=recover&since={since}"), "endpoint_id"),
            (format!("kind=recover&endpoint_id={id}"), "since"),
            (
                format!("kind=recover&endpoint_id={id}&since={later}"),
                "since",
            ),
            (
                format!("kind=recover&endpoint_id={id}&since={since}&state=failed"),
                "state",
            ),
            (
                format!("kind=recover&endpoint_id={id}&since={since}&type=a"),
                "type",
            ),
            (
                format!("kind=recover&endpoint_id={id}&since={since}&tenant=a"),
                "tenant",
            ),
            (
                format!(
                    "kind=retry&endpoint_id={id}&since={since}&state=failed&include_pending=true"
                ),
                "include_pending",
            ),
            (
                format!("kind=retry&endpoint_id={id}&since={since}"),
                "state",
            ),
            (
                format!("kind=retry&endpoint_id={id}&since={since}&state=pending"),
                "state",
            ),
            (
                format!("kind=retry&endpoint_id={id}&since={since}&state=failed&type=a%09b"),
                "type",
            ),
        ] {
            let answer = harness
                .get(&format!("/v1/recoveries/preview?{query}"))
                .await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(answer.json["field"], field, "{query}");
        }
        harness
            .delete(&endpoint_path(&made))
            .await
            .expect(StatusCode::NO_CONTENT);
        let gone = format!("/v1/recoveries/preview?kind=recover&endpoint_id={id}&since={since}");
        assert_eq!(harness.get(&gone).await.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn no_more_than_so_many_rows_are_looked_at() {
    run(async {
        let harness = Harness::new().await;
        // Deliveries of one kind that nothing has them is looked for, beside as many events.
        let made = create_endpoint(
            &harness,
            json!({ "url": "http://127.0.0.1:9/", "event_types": ["none.such"] }),
        )
        .await;
        let id: EndpointId = made["id"].as_str().unwrap().parse().unwrap();
        let batch: Vec<_> = (0..100)
            .map(|n| json!({ "specversion": "1.0", "id": n.to_string(), "source": "/s", "type": "a" }))
            .collect();
        let at = |n: usize| {
            let mut batch = batch.clone();
            batch
                .iter_mut()
                .for_each(|one| one["source"] = json!(format!("/{n}")));
            json!(batch)
        };
        for n in 0..READ_MAX / 100 + 2 {
            let answer = harness.post("/v1/events/batch", at(n)).await;
            assert!(answer.status.is_success(), "{}", answer.json);
        }
        let project: ProjectId = harness.project.parse().unwrap();
        let access = Access::to_project(&project);
        let recovery = |until| {
            let id = RecoveryId::new(0, [0; 10]);
            let since = app::now() - jiff::SignedDuration::from_hours(1);
            let project = access.project().clone();
            Recovery::new(
                id,
                project,
                RecoveryKind::ReplayMissing,
                since..until,
                app::now(),
            )
        };
        let current = async || {
            let found = harness.app.projection.current_endpoint(&project, &id).await;
            found.unwrap().unwrap()
        };
        let dynamo = &harness.app.dynamo;
        let target = current().await;
        let counted = selection::count(dynamo, recovery(app::now()), &target, 30, app::now());
        let counted = counted.await.unwrap();
        assert_eq!((counted.count, counted.is_exact), (0, false));
        assert!(
            (READ_MAX..READ_MAX + 1000).contains(&counted.examined),
            "{counted:?}"
        );

        let all = json!({ "event_types": ["*"] });
        harness
            .patch(&endpoint_path(&made), all)
            .await
            .expect(StatusCode::OK);
        let target = current().await;
        let counted = selection::count(dynamo, recovery(app::now()), &target, 30, app::now());
        let counted = counted.await.unwrap();
        assert_eq!((counted.count, counted.is_exact), (COUNT_MAX, false));
        assert!(counted.examined <= COUNT_MAX + 100, "{counted:?}");
    });
}
