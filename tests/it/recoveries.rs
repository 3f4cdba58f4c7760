//! Recoveries: what they resend and what not, how fast, and what becomes of one
//! when its worker dies between any two steps.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use insta::assert_json_snapshot;
use jiff::Timestamp;
use millrace::app;
use millrace::config::Config;
use millrace::jobs::recover::{self, PageOutcome};
use millrace::jobs::sweep;
use millrace::model::id::{DeliveryId, EventId, RecoveryId};
use millrace::store::deliveries::{self, HeldLease, ReplayFrom};
use millrace::store::recoveries;
use serde_json::{Value, json};

use crate::support::fixtures::{
    config_without_retries, finish_recovery, forget_queue, seconds_ago, show_recovery,
};
use crate::support::harness::{ALL_SCOPES, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// An endpoint at which `failed` deliveries have failed and `delivered` have not.
struct Scene {
    harness: Harness,
    receiver: Receiver,
    endpoint: String,
    failed: Vec<String>,
}

impl Scene {
    async fn new(config: Config, failed: usize, delivered: usize) -> Self {
        let harness = Harness::builder().config(config).build().await;
        let receiver = Receiver::start(vec![Reply::Status(500); failed]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let mut scene = Self {
            endpoint: endpoint["id"].as_str().unwrap().to_owned(),
            harness,
            receiver,
            failed: vec![],
        };
        for n in 0..failed + delivered {
            let event = scene.harness.publish("a").await;
            scene.harness.drain().await;
            if n < failed {
                scene.failed.push(event);
            }
        }
        scene
    }

    fn path(&self, what: &str) -> String {
        format!("/v1/endpoints/{}/{what}", self.endpoint)
    }

    async fn recover(&self) -> Value {
        let body = json!({ "since": seconds_ago(3600) });
        let answer = self.harness.post(&self.path("recover"), body).await;
        answer.expect(StatusCode::ACCEPTED)
    }

    /// Times each failed event came, from the first attempt on.
    fn came(&self) -> Vec<usize> {
        let mut times = BTreeMap::<String, usize>::new();
        for received in self.receiver.received() {
            *times
                .entry(received.header("webhook-id").into())
                .or_default() += 1;
        }
        self.failed.iter().map(|event| times[event]).collect()
    }

    /// That each failed event came once more, and nothing else did.
    async fn expect_recovered(&self, recovery: &Value) -> Value {
        let fetched = finish_recovery(&self.harness, recovery).await;
        assert_eq!(fetched["state"], "done", "{fetched}");
        assert_eq!(self.came(), vec![2; self.failed.len()]);
        fetched
    }
}

fn id(recovery: &Value) -> RecoveryId {
    recovery["id"].as_str().unwrap().parse().unwrap()
}

/// The page a worker would do next, without what records it.
async fn page(scene: &Scene, recovery: &Value) -> usize {
    let app = &scene.harness.app;
    let kept = recoveries::get(&app.dynamo, &id(recovery)).await.unwrap();
    match recover::run_page(app, &kept.unwrap(), app::now()).await {
        Ok(PageOutcome::Stepped(step)) => step.resent,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_failed_is_resent_and_nothing_else() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 5, 3).await;
        let recovery = scene.recover().await;
        assert_json_snapshot!(recovery, {
            ".id" => "rec_…", ".endpoint_id" => "ep_…", ".since" => "…", ".until" => "…",
            ".created_at" => "…", ".updated_at" => "…",
        }, @r#"
        {
          "created_at": "…",
          "delivery_state": "failed",
          "endpoint_id": "ep_…",
          "error": null,
          "examined": 0,
          "id": "rec_…",
          "include_pending": false,
          "kind": "recover",
          "progress": 0.0,
          "resent": 0,
          "since": "…",
          "skipped": 0,
          "state": "running",
          "tenant": null,
          "type": null,
          "until": "…",
          "updated_at": "…"
        }
        "#);
        let fetched = scene.expect_recovered(&recovery).await;
        assert_eq!(
            (&fetched["examined"], &fetched["resent"]),
            (&json!(5), &json!(5))
        );
        assert_eq!(scene.receiver.received().len(), 8 + 5);

        // All is delivered now: another finds nothing.
        let another = scene.recover().await;
        let fetched = finish_recovery(&scene.harness, &another).await;
        assert_eq!(
            (&fetched["examined"], &fetched["resent"]),
            (&json!(0), &json!(0))
        );
    });
}

#[test]
fn only_its_period_is_resent() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 3, 0).await;
        let resent = async |body: Value| {
            let answer = scene.harness.post(&scene.path("recover"), body).await;
            let recovery = answer.expect(StatusCode::ACCEPTED);
            finish_recovery(&scene.harness, &recovery).await["resent"].clone()
        };
        assert_eq!(
            resent(json!({ "since": seconds_ago(3600), "until": seconds_ago(1800) })).await,
            0
        );
        let fetched = scene
            .harness
            .get(&format!("/v1/events/{}", scene.failed[1]))
            .await;
        let middle = fetched.expect(StatusCode::OK)["deliveries"][0]["created_at"].clone();
        assert_eq!(resent(json!({ "since": middle })).await, 2);
        assert_eq!(scene.came(), [1, 2, 2]);
        assert_eq!(
            resent(json!({ "since": seconds_ago(3600), "until": middle })).await,
            1
        );
        assert_eq!(scene.came(), [2, 2, 2]);
    });
}

#[test]
fn no_more_than_the_rate_is_begun_in_a_second() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 5, 0).await;
        let recovery = scene.recover().await;
        scene.harness.drain().await;
        let resent = |came: Vec<usize>| came.iter().filter(|times| **times == 2).count();
        assert_eq!(resent(scene.came()), 2);
        let start = app::now();
        for (after_ms, expected) in [(500, 2), (1100, 4), (1600, 4), (2300, 5)] {
            let now = start + Duration::from_millis(after_ms);
            sweep::sweep(&scene.harness.app, now).await.unwrap();
            scene.harness.drain_at(now).await;
            assert_eq!(resent(scene.came()), expected, "after {after_ms} ms");
        }
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn a_recovery_whose_first_message_is_lost_is_swept() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 3, 0).await;
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn a_page_begun_in_part_is_finished_and_begins_nothing_twice() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 4, 0).await;
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        // What a worker did before it died: one of four, its message lost too.
        let app = &scene.harness.app;
        let kept = recoveries::get(&app.dynamo, &id(&recovery)).await.unwrap();
        let event: EventId = scene.failed[2].parse().unwrap();
        let delivery = DeliveryId::new(&event, &scene.endpoint.parse().unwrap());
        let (from, due) = (ReplayFrom::Ended, app::now());
        deliveries::replay(&app.dynamo, &delivery, from, kept.unwrap().created, due)
            .await
            .unwrap();
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn a_page_begun_and_not_recorded_is_done_again_and_begins_nothing_twice() {
    run(async {
        for is_delivered_between in [false, true] {
            let scene = Scene::new(config_without_retries(2), 5, 0).await;
            let recovery = scene.recover().await;
            forget_queue(&scene.harness);
            assert_eq!(page(&scene, &recovery).await, 2);
            if is_delivered_between {
                scene.harness.drain().await;
            } else {
                forget_queue(&scene.harness);
            }
            scene.expect_recovered(&recovery).await;
        }
    });
}

#[test]
fn what_fails_again_is_not_resent_by_the_same_page_again() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 2, 0).await;
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        scene
            .receiver
            .script([Reply::Status(500), Reply::Status(500)]);
        assert_eq!(page(&scene, &recovery).await, 2);
        scene.harness.drain().await;
        // Failed again, they are where the page looks, which was not recorded: it
        // counts them and begins none.
        assert_eq!(page(&scene, &recovery).await, 2);
        scene.harness.drain().await;
        assert_eq!(scene.came(), [2, 2]);
        scene.expect_recovered(&recovery).await;
        // It is one recovery that resends them once.
        let another = scene.recover().await;
        finish_recovery(&scene.harness, &another).await;
        assert_eq!(scene.came(), [3, 3]);
    });
}

#[test]
fn a_page_recorded_whose_next_is_not_enqueued_is_swept() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 6, 0).await;
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        for page in 0..2 {
            let now = app::now();
            recover::recover(&scene.harness.app, &id(&recovery), page, now)
                .await
                .unwrap();
            forget_queue(&scene.harness);
        }
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn a_message_twice_or_late_does_nothing() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 5, 0).await;
        let other = scene
            .harness
            .beside()
            .config(config_without_retries(2))
            .build()
            .await;
        let recovery = scene.recover().await;
        let (id, now) = (id(&recovery), app::now());
        let (one, two) = tokio::join!(
            recover::recover(&scene.harness.app, &id, 0, now),
            recover::recover(&other.app, &id, 0, now),
        );
        one.and(two).unwrap();
        recover::recover(&scene.harness.app, &id, 0, now)
            .await
            .unwrap();
        recover::recover(&scene.harness.app, &id, 7, now)
            .await
            .unwrap();
        forget_queue(&other);
        scene.harness.drain().await;
        let kept = recoveries::get(&scene.harness.app.dynamo, &id)
            .await
            .unwrap();
        assert_eq!(kept.unwrap().page, 1);
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn cancelled_it_ends_before_its_next_page() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 5, 0).await;
        let recovery = scene.recover().await;
        scene.harness.drain().await;
        let path = format!("/v1/recoveries/{}/cancel", id(&recovery));
        let canceled = scene.harness.post(&path, Value::Null).await;
        let canceled = canceled.expect(StatusCode::OK);
        assert_eq!(
            (&canceled["state"], &canceled["resent"]),
            (&json!("canceled"), &json!(2))
        );
        scene.harness.sweep_after(Duration::from_secs(3600)).await;
        assert_eq!(scene.came().iter().sum::<usize>(), 5 + 2);
        assert_eq!(show_recovery(&scene.harness, &recovery).await, canceled);
        let again = scene.harness.post(&path, Value::Null).await.problem(409);
        assert_eq!(again, "conflict: the recovery does not run any more");
    });
}

#[test]
fn a_page_under_way_when_it_is_cancelled_is_not_recorded() {
    run(async {
        let scene = Scene::new(config_without_retries(2), 3, 0).await;
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        let dynamo = &scene.harness.app.dynamo;
        let before = recoveries::get(dynamo, &id(&recovery))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(page(&scene, &recovery).await, 2);
        recoveries::cancel(dynamo, &before.id, app::now())
            .await
            .unwrap()
            .unwrap();
        let (step, now) = (recoveries::PageResult::default(), app::now());
        assert!(
            !recoveries::advance(dynamo, &before, &step, now, now)
                .await
                .unwrap()
        );
        scene.harness.drain().await;
        assert_eq!(
            show_recovery(&scene.harness, &recovery).await["state"],
            "canceled"
        );
    });
}

#[test]
fn events_that_match_now_and_never_went_are_sent() {
    run(async {
        let harness = Harness::builder()
            .config(config_without_retries(2))
            .build()
            .await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["a"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        for event_type in ["a", "b", "c", "b", "a", "b", "b"] {
            harness.publish(event_type).await;
            harness.drain().await;
        }
        assert_eq!(receiver.received().len(), 2);
        let wider = json!({ "event_types": ["a", "b"] });
        harness.patch(&path, wider).await.expect(StatusCode::OK);

        let since = json!({ "since": seconds_ago(3600) });
        let path = format!("{path}/replay-missing");
        let recovery = harness
            .post(&path, since.clone())
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(recovery["kind"], "replay_missing");
        // A worker dies after its first page, before it is recorded.
        forget_queue(&harness);
        let kept = recoveries::get(&harness.app.dynamo, &id(&recovery))
            .await
            .unwrap();
        let begun = recover::run_page(&harness.app, &kept.unwrap(), app::now()).await;
        assert!(matches!(begun, Ok(PageOutcome::Stepped(step)) if step.resent == 2));
        forget_queue(&harness);
        let fetched = finish_recovery(&harness, &recovery).await;
        assert_eq!(
            (&fetched["state"], &fetched["examined"]),
            (&json!("done"), &json!(7))
        );
        let types: Vec<_> = receiver
            .received()
            .iter()
            .map(|r| r.json()["type"].clone())
            .collect();
        let count = |wanted: &str| types.iter().filter(|found| *found == wanted).count();
        assert_eq!((count("a"), count("b"), count("c")), (2, 4, 0));

        let again = harness
            .post(&path, since)
            .await
            .expect(StatusCode::ACCEPTED);
        assert_eq!(finish_recovery(&harness, &again).await["resent"], 0);
        assert_eq!(receiver.received().len(), 6);
    });
}

#[test]
fn a_recovery_of_an_endpoint_that_is_deleted_fails() {
    run(async {
        let scene = Scene::new(config_without_retries(1), 3, 0).await;
        let recovery = scene.recover().await;
        scene.harness.drain().await;
        let path = format!("/v1/endpoints/{}", scene.endpoint);
        scene
            .harness
            .delete(&path)
            .await
            .expect(StatusCode::NO_CONTENT);
        let fetched = finish_recovery(&scene.harness, &recovery).await;
        assert_eq!(fetched["state"], "failed");
        assert_eq!(
            fetched["error"],
            format!("endpoint {} was deleted", scene.endpoint)
        );
        assert_eq!(fetched["resent"], 1);
        let body = json!({ "since": seconds_ago(60) });
        scene
            .harness
            .post(&scene.path("recover"), body)
            .await
            .problem(404);
    });
}

#[test]
fn recovering_works_without_the_control_plane() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 3, 0).await;
        let cut_off = scene.harness.beside().without_postgres().build().await;
        let body = json!({ "since": seconds_ago(3600) });
        let answer = cut_off.post(&scene.path("recover"), body).await;
        let recovery = answer.expect(StatusCode::ACCEPTED);
        let fetched = finish_recovery(&cut_off, &recovery).await;
        assert_eq!(
            (&fetched["state"], &fetched["resent"]),
            (&json!("done"), &json!(3))
        );
        let listed = cut_off.get("/v1/recoveries").await.expect(StatusCode::OK);
        assert_eq!(listed["data"][0], fetched);
    });
}

#[test]
fn recoveries_are_listed_the_newest_first_and_only_so_many_run() {
    run(async {
        let scene = Scene::new(config_without_retries(1), 0, 0).await;
        let mut asked = vec![];
        for _ in 0..10 {
            asked.insert(0, scene.recover().await["id"].clone());
        }
        let body = json!({ "since": seconds_ago(60) });
        let refused = scene
            .harness
            .post(&scene.path("recover"), body)
            .await
            .problem(409);
        assert_eq!(
            refused,
            "conflict: 10 recoveries are running: cancel one or wait for it"
        );
        let mut listed = vec![];
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/recoveries?limit=4{cursor}");
            let page = scene.harness.get(&path).await.expect(StatusCode::OK);
            listed.extend(
                page["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row["id"].clone()),
            );
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        // Ids made in one millisecond are in no order.
        let sorted = |mut ids: Vec<Value>| {
            ids.sort_by_key(Value::to_string);
            ids
        };
        assert_eq!(sorted(listed), sorted(asked));
        scene.harness.drain().await;
        let fetched = scene.harness.get("/v1/recoveries?limit=1").await;
        assert_eq!(fetched.expect(StatusCode::OK)["data"][0]["state"], "done");
        scene.recover().await;
        scene.harness.drain().await;
    });
}

#[test]
fn a_tenants_recoveries_keep_its_project_from_none() {
    run(async {
        let scene = Scene::new(config_without_retries(1), 0, 0).await;
        let retry = |tenant: &str| {
            json!({
                "endpoint_id": scene.endpoint, "state": "failed", "since": seconds_ago(60),
                "tenant": tenant,
            })
        };
        let post = async |tenant: &str| {
            let path = "/v1/deliveries/retry";
            scene.harness.post(path, retry(tenant)).await.status
        };
        for _ in 0..10 {
            assert_eq!(post("acme").await, StatusCode::ACCEPTED);
        }
        assert_eq!(post("acme").await, StatusCode::CONFLICT);
        assert_eq!(post("other").await, StatusCode::ACCEPTED);
        scene.recover().await;
        scene.harness.drain().await;
    });
}

/// While instances of two versions run, the older one sweeps what the newer wrote.
#[test]
fn due_work_of_a_kind_that_is_not_known_holds_nothing_up() {
    run(async {
        let scene = Scene::new(config_without_retries(1000), 2, 0).await;
        let dynamo = &scene.harness.app.dynamo;
        for shard in 0..millrace::store::keys::DUE_SHARDS {
            let s = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
            let due = millrace::store::keys::due_sort(app::now(), "new_1");
            let put = dynamo.client.put_item().table_name(&dynamo.table);
            put.item("pk", s(format!("new_{shard}")))
                .item("sk", s("of a newer version".into()))
                .item("due_pk", s(millrace::store::keys::due(shard)))
                .item("due_sk", s(due))
                .send()
                .await
                .unwrap();
        }
        let recovery = scene.recover().await;
        forget_queue(&scene.harness);
        scene.expect_recovered(&recovery).await;
    });
}

#[test]
fn what_is_asked_wrongly_is_refused_by_name() {
    run(async {
        let scene = Scene::new(config_without_retries(1), 0, 0).await;
        let tomorrow = app::now() + Duration::from_secs(86_400);
        let recover = scene.path("recover");
        let retry = "/v1/deliveries/retry";
        let endpoint = &scene.endpoint;
        for (path, body, expected) in [
            (&*recover, json!({}), "since"),
            (
                &recover,
                json!({ "since": tomorrow }),
                "since: expected a time in the past",
            ),
            (
                &recover,
                json!({ "since": seconds_ago(60), "until": seconds_ago(120) }),
                "since: expected a time before until",
            ),
            (&recover, json!({ "since": seconds_ago(60), "to": 1 }), "to"),
            (
                retry,
                json!({ "endpoint_id": endpoint, "since": seconds_ago(60) }),
                "state",
            ),
            (
                retry,
                json!({ "endpoint_id": endpoint, "since": seconds_ago(60), "state": "pending" }),
                "state",
            ),
        ] {
            let refused = scene.harness.post(path, body).await.problem(400);
            assert!(refused.contains(expected), "{path}: {refused}");
        }
        scene
            .harness
            .get("/v1/recoveries?cursor=aGVsbG8")
            .await
            .problem(400);
        let nobody = "/v1/recoveries/rec_00000000000000000000000000";
        scene.harness.get(nobody).await.problem(404);

        let recovery = scene.recover().await;
        let stranger = scene.harness.new_project(&ALL_SCOPES).await.key;
        let path = format!("/v1/recoveries/{}", id(&recovery));
        let ask = async |method, path: &str| {
            scene
                .harness
                .request(method, path, &stranger, Value::Null)
                .await
        };
        ask(Method::GET, &path).await.problem(404);
        ask(Method::POST, &format!("{path}/cancel"))
            .await
            .problem(404);
        let listed = ask(Method::GET, "/v1/recoveries")
            .await
            .expect(StatusCode::OK);
        assert_eq!(listed["data"], json!([]));
        scene.harness.drain().await;
        let kept: Timestamp = show_recovery(&scene.harness, &recovery).await["created_at"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(kept <= app::now());
    });
}

#[test]
fn pending_deliveries_are_brought_forward_when_asked_for() {
    run(async {
        // Two that failed for good, then two that wait for their next attempt.
        let scene = Scene::new(config_without_retries(1000), 2, 0).await;
        let mut patient = scene.harness.beside().build().await;
        patient.leaves_jobs = true;
        scene.receiver.script(vec![Reply::Status(500); 2]);
        let mut waiting = vec![];
        for _ in 0..2 {
            waiting.push(patient.publish("a").await);
            patient.drain().await;
        }
        let states = async || {
            let path = format!("/v1/deliveries?endpoint_id={}", scene.endpoint);
            let page = patient.get(&path).await.expect(StatusCode::OK);
            let rows = page["data"].as_array().unwrap().clone();
            let count = |state: &str| rows.iter().filter(|row| row["state"] == state).count();
            (count("failed"), count("pending"), count("delivered"))
        };
        assert_eq!(states().await, (2, 2, 0));
        let recover = async |body: Value| {
            let answer = patient.post(&scene.path("recover"), body).await;
            let recovery = answer.expect(StatusCode::ACCEPTED);
            finish_recovery(&patient, &recovery).await
        };
        // What failed alone, unless pending ones are asked for.
        let done = recover(json!({ "since": seconds_ago(3600) })).await;
        assert_eq!(
            (&done["include_pending"], &done["resent"]),
            (&json!(false), &json!(2))
        );
        assert_eq!(states().await, (0, 2, 2));
        let forward = json!({ "since": seconds_ago(3600), "include_pending": true });
        // One whose attempt is under way is left alone.
        let busy = waiting[0].parse().unwrap();
        let busy = DeliveryId::new(&busy, &scene.endpoint.parse().unwrap());
        let (dynamo, later) = (&patient.app.dynamo, Duration::from_mins(1));
        let held = async || HeldLease {
            id: &busy,
            attempts_made: 1,
            due: deliveries::get(dynamo, &busy)
                .await
                .unwrap()
                .unwrap()
                .due
                .unwrap(),
        };
        let renewed = deliveries::renew_lease(dynamo, held().await, app::now() + later).await;
        assert!(renewed.unwrap());
        let done = recover(forward.clone()).await;
        assert_eq!(
            (&done["include_pending"], &done["resent"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(states().await, (0, 1, 3));
        // Or was asked for by hand a moment ago.
        let due = patient.app.queue.due(app::now(), Duration::ZERO);
        deliveries::retry(dynamo, &busy, due).await.unwrap();
        assert_eq!(recover(forward.clone()).await["resent"], 0);
        let deferred = deliveries::defer(dynamo, held().await, app::now() + later * 10).await;
        assert!(deferred.unwrap());
        let done = recover(forward).await;
        assert_eq!(done["resent"], 1);
        assert_eq!(done["delivery_state"], "failed");
        assert_eq!(states().await, (0, 0, 4));
        let received = scene.receiver.received();
        for event in &waiting {
            let came = received
                .iter()
                .filter(|one| one.header("webhook-id") == *event);
            assert_eq!(came.count(), 2);
        }
        let body = json!({ "since": seconds_ago(3600), "include_pending": "yes" });
        let refused = patient
            .post(&scene.path("recover"), body)
            .await
            .problem(400);
        assert_eq!(
            refused,
            "invalid: include_pending: expected true or false, got a string"
        );
    });
}
