//! Races: other instances with an older projection, people who act while an attempt
//! is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use millrace::jobs::sweep;
use millrace::model::audit::{Actor, AuditContext};
use millrace::model::delivery::DeliveryState;
use millrace::model::endpoint::{EndpointState, PendingDisable};
use millrace::model::event;
use millrace::model::id::{EndpointId, ProjectId};
use millrace::store::config_projection::health::{Disabling, Reason};
use millrace::store::deliveries::{self, HeldLease, ReplayFrom, ReplayOutcome, StoredDelivery};
use millrace::store::{endpoints, projector};
use millrace::{app, publish};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::fixtures::{
    OUTBOX, config_without_retries, finish_recovery, forget_queue, only_delivery, project_endpoint,
    project_endpoints, seconds_ago,
};
use crate::support::harness::{Harness, config, run};
use crate::support::receiver::{Receiver, Reply};

/// The state of an endpoint in the configuration projection.
async fn projected(harness: &Harness, id: &EndpointId) -> EndpointState {
    let project = harness.project.parse().unwrap();
    let config = harness
        .app
        .projection
        .project_config(&project)
        .await
        .unwrap();
    config.targets.get(id).unwrap().state
}

fn id(endpoint: &Value) -> EndpointId {
    endpoint["id"].as_str().unwrap().parse().unwrap()
}

#[test]
fn an_endpoint_made_elsewhere_a_moment_ago_gets_what_is_for_it() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.beside().build().await;
        let project: ProjectId = harness.project.parse().unwrap();
        let config = other.app.projection.project_config(&project).await.unwrap();
        assert_eq!(config.targets.matching("a", None).count(), 0);

        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let published = harness.publish("a").await;
        forget_queue(&harness);
        other.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(receiver.only().header("webhook-id"), published);
        assert_eq!(
            only_delivery(&harness, &published).await["state"],
            "delivered"
        );

        // Nor is it unknown to a third one's API.
        let third = harness.beside().build().await;
        third.app.projection.project_config(&project).await.unwrap();
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await["id"].clone();
        let list = format!("/v1/deliveries?endpoint_id={}", endpoint.as_str().unwrap());
        third.get(&list).await.expect(StatusCode::OK);
    });
}

#[test]
fn a_delivery_waits_for_its_endpoints_projection_and_ends_without_one() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let project = harness.project.parse().unwrap();
        let send = async |endpoint: &EndpointId| {
            let event = json!({
                "specversion": "1.0", "type": "a", "source": "/", "id": endpoint.as_str(),
            });
            let event = event::parse_structured(event.to_string().as_bytes()).unwrap();
            let now = app::now();
            let sent =
                publish::publish_to_endpoint(&harness.app, &project, &event, endpoint, now).await;
            harness.drain().await;
            sent.unwrap().id.to_string()
        };
        let late = EndpointId::new(0, harness.app.random());
        let sent = send(&late).await;
        assert_eq!(only_delivery(&harness, &sent).await["state"], "pending");
        project_endpoint(&harness, late, &receiver.url).await;
        harness.sweep_after(Duration::from_secs(31)).await;
        assert_eq!(receiver.only().header("webhook-id"), sent);

        let never = EndpointId::new(0, harness.app.random());
        let sent = send(&never).await;
        harness.sweep_after(Duration::from_secs(25 * 3600)).await;
        assert_eq!(only_delivery(&harness, &sent).await["state"], "canceled");
    });
}

#[test]
fn an_endpoint_changed_while_it_answers_410_stays_enabled_everywhere() {
    run(async {
        let harness = Harness::new().await;
        let release = Arc::new(Notify::new());
        let receiver = Receiver::start([Reply::When(release.clone(), 410)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", id(&endpoint));
        harness.publish("a").await;
        tokio::join!(harness.drain(), async {
            receiver.reached(1).await;
            let changed = harness.patch(&path, json!({ "description": "moved" }));
            changed.await.expect(StatusCode::OK);
            release.notify_one();
        });
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "enabled");
        assert_eq!(
            projected(&harness, &id(&endpoint)).await,
            EndpointState::Enabled
        );
        harness.publish("b").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 2);
    });
}

#[test]
fn gone_is_told_whatever_the_clocks_say() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(410)]).await;
        let endpoint = id(&harness.endpoint(&receiver.url, &["*"]).await);
        // By the clock of whoever changed it, that was in an hour.
        let by = AuditContext {
            project: harness.project.parse().unwrap(),
            actor: Actor::Admin,
            at: app::now() + Duration::from_secs(3600),
        };
        let postgres = &harness.app.postgres;
        let changed = endpoints::update(postgres, &by, &endpoint, |_| Ok(())).await;
        projector::apply(postgres, &harness.app.projection, changed.unwrap()).await;

        harness.publish("a").await;
        harness.drain().await;
        let path = format!("/v1/endpoints/{endpoint}");
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "gone");
        assert_eq!(projected(&harness, &endpoint).await, EndpointState::Gone);
    });
}

#[test]
fn a_word_is_not_taken_back_for_an_older_one() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = id(&harness.endpoint("http://127.0.0.1:9/", &["*"]).await);
        let project = harness.project.parse().unwrap();
        let projection = &harness.app.projection;
        let (at, version) = (app::now(), 1);
        let disabling = Disabling {
            endpoint: &endpoint,
            version,
            reason: Reason::Gone,
            at,
            due: at,
        };
        let disabled = projection.disable(&project, disabling).await;
        assert!(disabled.unwrap());
        // Nor is the endpoint turned on by what PostgreSQL does not know yet.
        let turn = OUTBOX.lock().await;
        let postgres = &harness.app.postgres;
        let client = postgres.get().await.unwrap();
        let add = "insert into outbox (kind, subject_id) values ('endpoint', $1)";
        client.execute(add, &[&endpoint.as_str()]).await.unwrap();
        drop(client);
        let projected_again = projector::project_pending(postgres, projection, Duration::ZERO);
        assert!(projected_again.await.unwrap() > 0);
        drop(turn);
        assert_eq!(projected(&harness, &endpoint).await, EndpointState::Gone);
        let pending = PendingDisable {
            version,
            at,
            state: EndpointState::Gone,
            project: Some(project),
            failing_since: None,
        };
        let older = PendingDisable {
            version: 0,
            ..pending.clone()
        };
        projection
            .clear_pending_disable(&endpoint, &older)
            .await
            .unwrap();
        assert_eq!(
            projection.pending_disable(&endpoint).await.unwrap(),
            Some(pending.clone())
        );
        projection
            .clear_pending_disable(&endpoint, &pending)
            .await
            .unwrap();
        assert_eq!(projection.pending_disable(&endpoint).await.unwrap(), None);
    });
}

#[test]
fn the_wait_before_a_retry_begins_when_the_attempt_ends() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Slow(Duration::from_secs(30))]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        let delivery = only_delivery(&harness, &event).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["error"], "timed out after 2 s");
        let time = |at: &Value| at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let waited = time(&delivery["next_attempt_at"]).duration_since(time(&attempt["at"]));
        // Two seconds, and then five, or a tenth less.
        assert!(waited.as_millis() >= 6_500, "{waited}");
    });
}

#[test]
fn each_wait_is_as_configured_the_first_too() {
    run(async {
        let mut config = config();
        config.delivery.retry_schedule = [60, 100].map(Duration::from_secs).into();
        config.delivery.retry_jitter = 0.0;
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        for (later_s, attempts) in [(58, 0), (61, 1), (160, 1), (163, 2)] {
            harness.sweep_after(Duration::from_secs(later_s)).await;
            assert_eq!(receiver.received().len(), attempts, "after {later_s} s");
        }
        // Nor does a fan-out go ahead of it.
        project_endpoints(&harness, &receiver.url, 30).await;
        harness.publish("b").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 2);
        harness.sweep_after(Duration::from_secs(61)).await;
        assert_eq!(receiver.received().len(), 2 + 31);
    });
}

#[test]
fn a_retry_without_a_wait_is_made_at_once() {
    run(async {
        let mut config = config();
        config.delivery.retry_schedule = vec![Duration::ZERO; 3];
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start([Reply::Status(500), Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 3);
        assert_eq!(only_delivery(&harness, &event).await["state"], "delivered");
    });
}

#[test]
fn a_retry_asked_for_during_the_last_attempt_is_made() {
    run(async {
        let mut config = config();
        config.delivery.retry_schedule = vec![Duration::ZERO; 2];
        config.delivery.timeout = Duration::from_secs(10);
        let harness = Harness::builder().config(config).build().await;
        let release = Arc::new(Notify::new());
        let script = [Reply::Status(500), Reply::When(release.clone(), 500)];
        let receiver = Receiver::start(script).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        let pending = only_delivery(&harness, &event).await;
        let path = format!("/v1/deliveries/{}/retry", pending["id"].as_str().unwrap());
        tokio::join!(harness.drain(), async {
            receiver.reached(2).await;
            let asked = harness.post(&path, Value::Null).await;
            asked.expect(StatusCode::ACCEPTED);
            release.notify_one();
        });
        assert_eq!(only_delivery(&harness, &event).await["state"], "pending");
        harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(receiver.received().len(), 3);
        assert_eq!(only_delivery(&harness, &event).await["state"], "delivered");
    });
}

#[test]
fn a_slow_attempt_is_not_made_elsewhere_too() {
    run(async {
        let mut config = config();
        config.delivery.timeout = Duration::from_secs(30);
        config.sweep.lease = Duration::from_secs(1);
        let harness = Harness::builder().config(config).build().await;
        let other = harness.beside().build().await;
        let release = Arc::new(Notify::new());
        let receiver = Receiver::start([Reply::When(release.clone(), 200)]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        let due = |delivery: &Value| -> jiff::Timestamp {
            delivery["next_attempt_at"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        };
        let first = due(&only_delivery(&harness, &event).await);
        tokio::join!(harness.drain(), async {
            receiver.reached(1).await;
            let begun = Instant::now();
            while due(&only_delivery(&harness, &event).await) == first {
                assert!(begun.elapsed() < Duration::from_secs(10), "not renewed");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let later = first + Duration::from_secs(20);
            let swept = sweep::sweep(&other.app, later).await.unwrap();
            assert_eq!(swept.enqueued, 0, "its lease is renewed");
            // After a crash the next process finds the lease and takes it over.
            let swept = sweep::reclaim_leases(&other.app, later).await.unwrap();
            assert_eq!(swept.enqueued, 1);
            forget_queue(&other);
            release.notify_one();
        });
        assert_eq!(only_delivery(&harness, &event).await["state"], "delivered");
    });
}

/// The store's first delivery of `event`, the only one.
async fn stored(harness: &Harness, event: &str) -> StoredDelivery {
    let id = only_delivery(harness, event).await["id"].clone();
    let id = id.as_str().unwrap().parse().unwrap();
    let stored = deliveries::get(&harness.app.dynamo, &id).await;
    stored.unwrap().unwrap()
}

#[test]
fn who_waited_too_long_moves_nothing_that_another_has_taken_up() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        forget_queue(&harness);
        let seen = stored(&harness, &event).await;
        let held = HeldLease {
            id: &seen.id,
            attempts_made: 0,
            due: seen.due.unwrap(),
        };
        // A person wants it now; then a sweeper takes it up.
        let dynamo = &harness.app.dynamo;
        let later = app::now() + Duration::from_secs(900);
        let asked = app::now() + Duration::from_secs(7);
        deliveries::retry(dynamo, &seen.id, asked).await.unwrap();
        assert!(!deliveries::defer(dynamo, held, later).await.unwrap());
        let slot = deliveries::defer_for_slot(dynamo, held, later, later).await;
        assert!(!slot.unwrap());
        let renewed = deliveries::renew_lease(dynamo, held, later).await;
        assert!(!renewed.unwrap());
        harness.sweep_after(Duration::from_secs(8)).await;
        assert_eq!(receiver.received().len(), 1);
    });
}

/// What a worker holds that carried the event along, and has not looked again.
#[test]
fn a_late_job_leaves_what_a_person_asked_for() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", id(&endpoint));
        let event = harness.publish("a").await;
        let disabled = harness.patch(&path, json!({ "state": "disabled" })).await;
        disabled.expect(StatusCode::OK);
        let seen = stored(&harness, &event).await;
        let asked = app::now() + Duration::from_secs(7);
        let retried = deliveries::retry(&harness.app.dynamo, &seen.id, asked).await;
        retried.unwrap();
        // The job waits for a quarter of an hour, but for its own delivery alone.
        harness.drain().await;
        let due = stored(&harness, &event).await.due.unwrap();
        assert_eq!(due.as_millisecond(), asked.as_millisecond());
    });
}

#[test]
fn a_replay_is_made_whatever_the_clocks_say() {
    run(async {
        let harness = Harness::builder();
        let harness = harness.config(config_without_retries(100)).build().await;
        let receiver = Receiver::start([Reply::Status(200), Reply::Status(500)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let event = harness.publish("a").await;
        harness.drain().await;
        // One whose clock is an hour ahead has replayed it before.
        let ahead = app::now() + Duration::from_secs(3600);
        let seen = stored(&harness, &event).await;
        let from = ReplayFrom::Ended;
        let dynamo = &harness.app.dynamo;
        let replayed = deliveries::replay(dynamo, &seen.id, from, ahead, app::now()).await;
        assert!(matches!(replayed.unwrap(), ReplayOutcome::NewRound(_)));
        harness.sweep_after(Duration::ZERO).await;
        assert_eq!(stored(&harness, &event).await.state, DeliveryState::Failed);

        let path = format!("/v1/endpoints/{}/recover", id(&endpoint));
        let recovery = harness
            .post(&path, json!({ "since": seconds_ago(60) }))
            .await;
        let recovery = recovery.expect(StatusCode::ACCEPTED);
        assert_eq!(finish_recovery(&harness, &recovery).await["resent"], 1);
        assert_eq!(receiver.received().len(), 3);

        let replayed = deliveries::replay(dynamo, &seen.id, from, ahead, app::now()).await;
        assert!(matches!(replayed.unwrap(), ReplayOutcome::NewRound(_)));
        harness.sweep_after(Duration::ZERO).await;
        let path = format!("/v1/events/{event}/replay");
        let asked = harness.post(&path, json!({})).await;
        asked.expect(StatusCode::ACCEPTED);
        harness.drain().await;
        assert_eq!(receiver.received().len(), 5);
    });
}

#[test]
fn an_endpoint_is_enabled_anew_whatever_the_clocks_say() {
    run(async {
        let harness = Harness::new().await;
        let endpoint = id(&harness.endpoint("http://127.0.0.1:9/", &["*"]).await);
        let by = AuditContext {
            project: harness.project.parse().unwrap(),
            actor: Actor::Admin,
            at: app::now() - Duration::from_secs(3600),
        };
        let mut enabled_at = vec![];
        for state in [EndpointState::Disabled, EndpointState::Enabled] {
            let set = |endpoint: &mut endpoints::Endpoint| {
                enabled_at.push(endpoint.enabled_at);
                endpoint.state = state;
                Ok(())
            };
            let changed = endpoints::update(&harness.app.postgres, &by, &endpoint, set).await;
            let projection = &harness.app.projection;
            let row = projector::apply(&harness.app.postgres, projection, changed.unwrap()).await;
            enabled_at.push(row.enabled_at);
        }
        assert!(enabled_at.last() > enabled_at.first(), "{enabled_at:?}");
    });
}
