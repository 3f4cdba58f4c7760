//! Outages of the control plane's database: what goes on without it, and what is
//! made up for afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[cfg(feature = "embedded")]
use http::Method;
use http::StatusCode;
use millrace::app;
use millrace::aws::actions::{self, Role};
use millrace::jobs::idle_watch::IdleWatch;
use millrace::jobs::{erase, meter, sweep};
use millrace::model::audit::{Actor, AuditContext};
use millrace::store::dynamo::Dynamo;
use millrace::store::endpoints;
use millrace::store::postgres::Postgres;
use serde_json::{Value, json};

use crate::support::fixtures::OUTBOX;
#[cfg(feature = "embedded")]
use crate::support::harness::ALL_SCOPES;
use crate::support::harness::{Harness, run};
use crate::support::receiver::{Receiver, Reply};
#[cfg(feature = "embedded")]
use crate::support::relay::{Fate, Relay};
use crate::support::stores::{self, counting};

#[test]
fn events_are_accepted_and_delivered_without_postgres() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;

        let cut_off = harness.beside().without_postgres().build().await;
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

/// A database that counts who connects to it, and answers nobody.
async fn counting_database() -> (Postgres, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connected = Arc::new(AtomicUsize::new(0));
    let counted = connected.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let url = format!("postgresql://nobody@{address}/none?sslmode=disable");
    (stores::postgres(&url, 1), connected)
}

#[test]
fn readiness_reads_an_item_a_second_and_leaves_the_database_alone() {
    run(async {
        let harness = Harness::new().await;
        let (dynamo, requests) = counting(&harness.app.dynamo);
        let (postgres, connected) = counting_database().await;
        let asked = harness.beside().dynamo(dynamo).postgres(postgres);
        let asked = asked.build().await;
        let begun = Instant::now();
        for _ in 0..100 {
            let checks = (0..5).map(|_| asked.get("/health/ready"));
            for ready in futures_util::future::join_all(checks).await {
                assert_eq!(ready.expect(StatusCode::OK)["status"], "degraded");
            }
        }
        let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
        let reads = requests.load(Ordering::Relaxed);
        assert!((1..=seconds + 2).contains(&reads), "{reads} in {seconds} s");
        let looks = connected.load(Ordering::SeqCst);
        assert!((1..=2 + seconds / 30).contains(&looks), "{looks} looks");
    });
}

#[test]
fn readiness_needs_a_table_that_is_read_and_nothing_of_its_control_plane() {
    run(async {
        let harness = Harness::new().await;
        let config = harness.app.dynamo.client.config().clone();
        let elsewhere = Dynamo::new(config, "there_is_no_such_table");
        let asked = harness.beside().dynamo(elsewhere).build().await;
        let ready = asked.get("/health/ready").await;
        let ready = ready.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready["status"], "unavailable");
        assert_eq!(ready["event_store"], "down");
        for role in [Role::Api, Role::Worker] {
            assert!(!actions::of(role).contains("dynamodb:DescribeTable"));
        }
    });
}

#[test]
fn an_idle_process_asks_the_database_nothing() {
    run(async {
        let harness = Harness::new().await;
        let (postgres, connected) = counting_database().await;
        let idle = harness.beside().postgres(postgres).build().await;
        let watches = [(); 2].map(|()| IdleWatch::new(Duration::ZERO));
        for watch in &watches {
            assert!(watch.is_look_due(&idle.app).await.unwrap(), "the first");
            watch.looked(false);
        }
        // What its loops do in an hour.
        let [outbox, erasures] = watches;
        for _ in 0..360 {
            let repaired = sweep::repair_outbox_if_due(&idle.app, &outbox).await;
            assert_eq!(repaired.unwrap(), 0);
            let erased = erase::run_due_if_any(&idle.app, &erasures, app::now()).await;
            assert_eq!(erased.unwrap(), None);
            sweep::sweep(&idle.app, app::now()).await.unwrap();
            meter::meter(&idle.app, app::now()).await.unwrap();
        }
        assert_eq!(connected.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_change_of_another_process_wakes_who_looks_for_what_it_leaves() {
    run(async {
        let _turn = OUTBOX.lock().await;
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let sweeper = harness.beside().build().await;
        let watch = IdleWatch::new(Duration::ZERO);
        assert!(watch.is_look_due(&sweeper.app).await.unwrap(), "the first");
        watch.looked(false);
        assert!(!watch.is_look_due(&sweeper.app).await.unwrap());
        // It dies after the commit.
        let writer = harness.beside().build().await;
        narrow_and_die(&writer, &endpoint).await;
        assert!(watch.is_look_due(&sweeper.app).await.unwrap());
        assert_eq!(matching(&sweeper).await, 1);
        sweep::repair_outbox(&sweeper.app, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(matching(&sweeper).await, 0);
    });
}

#[test]
fn gone_is_obeyed_at_once_and_told_later() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(410)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());

        let cut_off = harness.beside().without_postgres().build().await;
        cut_off.publish("a").await;
        let failed = millrace::jobs::worker::drain(&cut_off.app, app::now()).await;
        assert_eq!(
            failed.len(),
            1,
            "the control plane is out of reach: {failed:?}"
        );
        cut_off.publish("b").await;
        cut_off.drain().await;
        assert_eq!(receiver.received().len(), 1);

        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "enabled", "the disable is still pending");
        harness.sweep_after(Duration::from_secs(6)).await;
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "gone");
    });
}

#[test]
fn a_change_whose_writer_died_is_projected_by_the_sweeper() {
    run(async {
        let _turn = OUTBOX.lock().await;
        let harness = Harness::new().await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        narrow_and_die(&harness, &endpoint).await;
        assert_eq!(matching(&harness).await, 1);
        sweep::repair_outbox(&harness.app, Duration::ZERO)
            .await
            .unwrap();
        assert_eq!(matching(&harness).await, 0);
    });
}

#[test]
fn a_change_that_cannot_be_projected_holds_up_no_other() {
    run(async {
        let _turn = OUTBOX.lock().await;
        let harness = Harness::new().await;
        let too_large = harness.endpoint("http://127.0.0.1:9/", &["large"]).await;
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        let id = too_large["id"].as_str().unwrap();
        let sql = async |statement: &str| {
            let client = harness.app.postgres.get().await.unwrap();
            client.batch_execute(statement).await.unwrap();
        };
        sql(&format!(
            "insert into outbox (kind, subject_id) values ('of_a_newer_version', '{id}'); \
             update endpoints set url = repeat('x', 500000), version = 2 where id = '{id}'; \
             insert into outbox (kind, subject_id) values ('endpoint', '{id}')"
        ))
        .await;
        narrow_and_die(&harness, &endpoint).await;
        let repaired = sweep::repair_outbox(&harness.app, Duration::ZERO).await;
        sql(&format!("delete from outbox where subject_id = '{id}'")).await;
        assert!(repaired.unwrap() > 0);
        assert_eq!(matching(&harness).await, 0);
    });
}

/// As the table's partition of one project throttles.
#[cfg(feature = "embedded")]
#[test]
fn changes_that_the_event_store_does_not_take_hold_up_no_other() {
    run(async {
        let _turn = OUTBOX.lock().await;
        let store = stores::embedded_readable_dynamo();
        let harness = Harness::builder().dynamo(store.dynamo.clone());
        let harness = harness.build().await;
        let hot = harness.new_project(&ALL_SCOPES).await;
        for _ in 0..9 {
            let body = json!({ "url": "http://127.0.0.1:9/", "event_types": ["*"] });
            let made = harness.request(Method::POST, "/v1/endpoints", &hot.key, body);
            let made = made.await.expect(StatusCode::CREATED);
            narrow_and_die_in(&harness, &hot.id, &made).await;
        }
        let endpoint = harness.endpoint("http://127.0.0.1:9/", &["*"]).await;
        narrow_and_die(&harness, &endpoint).await;
        let partition = format!("project#{}", hot.id);
        let relay = Relay::new(move |operation, body| match operation {
            "PutItem" if body.contains(&partition) => Fate::Lost,
            _ => Fate::Passed,
        });
        let beside = harness.beside().dynamo(store.relayed(&relay));
        let beside = beside.build().await;
        let repaired = sweep::repair_outbox(&beside.app, Duration::ZERO).await;
        assert!(repaired.unwrap() > 0);
        assert_eq!(matching(&beside).await, 0);
        // They are not forgotten.
        let repaired = sweep::repair_outbox(&harness.app, Duration::ZERO).await;
        assert!(repaired.unwrap() >= 9);
    });
}

/// Commits a change of an endpoint's filter and goes no further.
async fn narrow_and_die(harness: &Harness, endpoint: &Value) {
    narrow_and_die_in(harness, &harness.project, endpoint).await;
}

async fn narrow_and_die_in(harness: &Harness, project: &str, endpoint: &Value) {
    let id = endpoint["id"].as_str().unwrap().parse().unwrap();
    let by = AuditContext {
        project: project.parse().unwrap(),
        actor: Actor::Admin,
        at: app::now(),
    };
    let change = endpoints::update(&harness.app.postgres, &by, &id, |endpoint| {
        endpoint.event_types = vec!["only.this".into()];
        Ok(())
    });
    drop(change.await.unwrap());
}

/// How many endpoints an event of type `a` would go to.
async fn matching(harness: &Harness) -> usize {
    let project = harness.project.parse().unwrap();
    let config = harness
        .app
        .projection
        .project_config(&project)
        .await
        .unwrap();
    config.targets.matching("a", None).count()
}
