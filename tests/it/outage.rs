//! With the control plane's database out of reach.

use http::StatusCode;
use millrace::jobs::sweep;
use millrace::model::audit::{Actor, By};
use millrace::model::id::ProjectId;
use serde_json::json;

use crate::harness::{Harness, run};
use crate::receiver::{Receiver, Reply};

#[test]
fn events_are_accepted_and_delivered_without_postgres() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;

        let cut_off = harness.without_postgres();
        let id = cut_off.publish("a").await;
        cut_off.drain().await;
        assert_eq!(receiver.only().header("webhook-id"), id);
        cut_off
            .get(&format!("/v1/events/{id}"))
            .await
            .expect(StatusCode::OK);
        let list = format!(
            "/v1/deliveries?endpoint_id={}",
            endpoint["id"].as_str().unwrap()
        );
        cut_off.get(&list).await.expect(StatusCode::OK);

        let refused = cut_off.get("/v1/endpoints").await;
        assert_eq!(refused.headers["retry-after"], "5");
        assert_eq!(
            refused.problem(503),
            "unavailable: the control-plane database is unavailable"
        );
        let body = json!({ "url": receiver.url });
        cut_off.post("/v1/endpoints", body).await.problem(503);

        let ready = cut_off.get("/health/ready").await.expect(StatusCode::OK);
        let expected =
            json!({ "status": "degraded", "event_store": "up", "control_plane": "down" });
        assert_eq!(ready, expected);
        let ready = harness.get("/health/ready").await.expect(StatusCode::OK);
        assert_eq!(ready["status"], "ready");
        harness.get("/health").await.expect(StatusCode::OK);
    });
}

#[test]
fn gone_is_obeyed_at_once_and_told_later() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(410)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());

        let cut_off = harness.without_postgres();
        cut_off.publish("a").await;
        let failed = millrace::jobs::worker::drain(&cut_off.app, millrace::app::now()).await;
        assert_eq!(
            failed.len(),
            1,
            "the control plane could not be told: {failed:?}"
        );
        cut_off.publish("b").await;
        cut_off.drain().await;
        assert_eq!(receiver.received().len(), 1);

        let shown = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(shown["state"], "enabled", "nobody has told it yet");
        harness.sweep_after(std::time::Duration::from_secs(6)).await;
        let shown = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(shown["state"], "gone");
    });
}

#[test]
fn a_change_whose_writer_died_is_projected_by_the_sweeper() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let id = endpoint["id"].as_str().unwrap().parse().unwrap();
        let project: ProjectId = harness.project.parse().unwrap();
        // The change is committed and its writer goes no further.
        let by = By {
            project: project.clone(),
            actor: Actor::Admin,
            at: millrace::app::now(),
        };
        let change =
            millrace::store::endpoints::update(&harness.app.postgres, &by, &id, |endpoint| {
                endpoint.event_types = vec!["only.this".into()];
                Ok(())
            });
        drop(change.await.unwrap());
        let matching = async || {
            let view = harness.app.plane.view(&project).await.unwrap();
            view.targets.matching("a", None).count()
        };
        assert_eq!(matching().await, 1);
        let repaired = async || sweep::repair(&harness.app, std::time::Duration::ZERO).await;
        while repaired().await.unwrap() > 0 {}
        assert_eq!(matching().await, 0);
    });
}
