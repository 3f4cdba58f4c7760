//! Back-fills of a meter from the events that are kept.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use millrace::jobs::{backfill, meter};
use millrace::model::meter::{Definition, Meter};
use millrace::store::meters;
use millrace::store::timeline::TimelineRange;
use serde_json::json;

use crate::support::fixtures::{publish_order, sum_meter, total_usage};
use crate::support::harness::{Harness, run};

#[test]
fn a_meter_is_filled_back_from_the_events_that_are_kept() {
    run(async {
        let harness = Harness::new().await;
        for n in 0..30 {
            publish_order(&harness, &n.to_string(), n).await;
            harness.publish("user.created").await;
        }
        let meter = sum_meter(&harness).await;
        let path = format!("/v1/meters/{meter}/backfill");
        harness.get(&path).await.problem(404);
        publish_order(&harness, "30", 30).await;
        assert_eq!(harness.meter().await, 1, "it counts from here on");

        let started = harness
            .post(&path, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(
            (&started["state"], &started["events_read"]),
            (&json!("running"), &json!(0))
        );
        assert_eq!(started["reached"], started["until"]);
        let twice = harness.post(&path, json!({})).await.problem(409);
        assert_eq!(twice, "conflict: a back-fill of this meter is running");
        assert_eq!(
            harness.meter().await,
            0,
            "other instances are given time to know the meter"
        );
        harness.meter_after(Duration::from_secs(20)).await;
        let done = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(
            (
                &done["state"],
                &done["events_read"],
                &done["events_counted"]
            ),
            (&json!("done"), &json!(61), &json!(30))
        );
        assert_eq!(done["reached"], done["since"]);
        assert_eq!(total_usage(&harness, &meter).await, 465);

        // Again, in a span of its own: there is nothing to add.
        let span = json!({ "since": "2020-01-01T00:00:00Z", "until": app::now().to_string() });
        harness.post(&path, span).await.expect(StatusCode::ACCEPTED);
        harness.meter().await;
        let done = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(
            (&done["state"], &done["events_counted"]),
            (&json!("done"), &json!(0))
        );
        assert_eq!(total_usage(&harness, &meter).await, 465);
        let mut refusals = String::new();
        for body in [
            json!({ "until": "2999-01-01T00:00:00Z" }),
            json!({ "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z" }),
            json!({ "since": "yesterday" }),
        ] {
            refusals.push_str(&format!(
                "{}\n",
                harness.post(&path, body).await.problem(400)
            ));
        }
        insta::assert_snapshot!(refusals, @r#"
        invalid: until: expected a time that is not in the future; leave it out for now
        invalid: since: expected a time before until
        invalid: since: expected an RFC 3339 timestamp with a zone, as 2026-01-31T12:00:00Z, got a string of 9 characters
        "#);
    });
}

#[test]
fn a_back_fill_goes_on_where_it_broke_off() {
    run(async {
        let harness = Harness::new().await;
        for n in 0..25 {
            publish_order(&harness, &n.to_string(), n).await;
        }
        let id = sum_meter(&harness).await;
        let project = harness.project.parse().unwrap();
        let row = meters::get(&harness.app.postgres, &project, &id.parse().unwrap())
            .await
            .unwrap();
        let meter = Meter {
            id: row.id,
            definition: Definition::new(&row.spec).unwrap(),
        };
        let (mut after, mut read, mut counted) = (None, 0, 0);
        loop {
            let range = TimelineRange {
                since: None,
                until: None,
                after: after.clone(),
                limit: 10,
            };
            let page =
                || backfill::backfill_page(&harness.app, &meter, &project, &range, app::now());
            let cut_off = harness.beside().without_postgres().build().await;
            let failed =
                backfill::backfill_page(&cut_off.app, &meter, &project, &range, app::now());
            failed.await.unwrap_err();
            let first = page().await.unwrap();
            // Its position was not kept, so that it is read again.
            let again = page().await.unwrap();
            assert_eq!((again.read, again.counted), (first.read, 0));
            read += first.read;
            counted += first.counted;
            after = first.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((read, counted), (25, 25));
        assert_eq!(total_usage(&harness, &id).await, 300);
    });
}

#[test]
fn a_back_fill_ends_with_its_meter_and_waits_for_postgres() {
    run(async {
        let harness = Harness::new().await;
        publish_order(&harness, "1", 1).await;
        let meter = sum_meter(&harness).await;
        let path = format!("/v1/meters/{meter}/backfill");
        let span = json!({ "until": app::now().to_string() });
        harness.post(&path, span).await.expect(StatusCode::ACCEPTED);
        // Taken by an instance that cannot go on; its lease runs out.
        let cut_off = harness.beside().without_postgres().build().await;
        let run = meter::meter(&cut_off.app, app::now()).await.unwrap();
        assert_eq!((run.found, run.counted), (1, 0));
        assert_eq!(
            meter::meter(&harness.app, app::now()).await.unwrap().found,
            0
        );
        harness.meter_after(Duration::from_mins(2)).await;
        assert_eq!(
            harness.get(&path).await.expect(StatusCode::OK)["events_counted"],
            1
        );

        let span = json!({ "until": app::now().to_string() });
        harness.post(&path, span).await.expect(StatusCode::ACCEPTED);
        harness
            .delete(&format!("/v1/meters/{meter}"))
            .await
            .expect(StatusCode::NO_CONTENT);
        assert_eq!(harness.meter().await, 0);
        harness.get(&path).await.problem(404);
    });
}
