//! An installation of which a part is missing: lost, moved away, or never made.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use http::{Method, StatusCode};
use insta::assert_snapshot;
use millrace::app;
use millrace::config::Config;
use millrace::host::embedded::start_dynamodb;
use millrace::host::start;
use millrace::model::api_key;
use millrace::model::audit::Actor;
use millrace::model::id::ProjectId;
use millrace::store::dynamo;
use millrace::store::keys;
use millrace::store::projects::{self, Project};
use serde_json::{Value, json};

use crate::support::binary::{ANY_PORT, Served, create_endpoint, first_key, run_to_end};
use crate::support::harness::{config, run};
use crate::support::receiver::Receiver;

/// Publishes an event with `key` and waits until `receiver` has been sent `sent`
/// in all.
async fn publish(served: &Served, key: &str, receiver: &Receiver, sent: usize) {
    let event = json!({ "type": "a" });
    let published = served.request(Method::POST, "/v1/events", key, event).await;
    let (status, answer) = published.unwrap();
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    receiver.reached(sent).await;
}

fn stop(mut served: Served) {
    served.signal("TERM");
    assert_eq!(served.wait(Duration::from_secs(60)), Some(0));
}

/// Moves the event store away, with the files SQLite keeps beside it.
fn lose_events(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("dynamodb.sqlite") {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn keys_and_endpoints_outlive_the_event_store() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let receiver = Receiver::start([]).await;
        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        create_endpoint(&served, &key, &receiver.url).await;
        publish(&served, &key, &receiver, 1).await;
        stop(served);

        lose_events(&data);
        let served = Served::start(&data, &[]);
        assert_eq!(first_key(&served.greeting), None);
        publish(&served, &key, &receiver, 2).await;
        stop(served);

        std::fs::remove_dir_all(data.join("postgres")).unwrap();
        let refused = run_to_end(dir.path(), &["serve"], &[ANY_PORT]);
        let said = refused
            .stderr
            .replace(&dir.path().display().to_string(), "<dir>");
        assert_snapshot!(said, @"millrace: data_dir: <dir>/data/postgres is missing, and the keys and endpoints in dynamodb.sqlite are managed by no other; restore it from a backup or move both away to begin anew");
        assert_eq!(refused.code, Some(1));

        lose_events(&data);
        let served = Served::start(&data, &[]);
        assert_ne!(first_key(&served.greeting), Some(key));
    });
}

#[test]
fn what_an_older_version_left_out_of_the_event_store_is_projected_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let receiver = Receiver::start([]).await;
        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        let body = json!({ "url": receiver.url, "content_type": "application/json" });
        let made = served.request(Method::PUT, "/v1/endpoints/own", &key, body);
        let made = made.await.unwrap().1;
        stop(served);

        let engine = start_dynamodb(&data).unwrap();
        let dynamo = dynamo::connect_embedded(&config(), engine.http_client());
        let id = made["id"].as_str().unwrap().parse().unwrap();
        let get = async |pk: AttributeValue, sk: AttributeValue| {
            let get = dynamo.client.get_item().table_name(&dynamo.table);
            let got = get.key("pk", pk).key("sk", sk).send().await;
            got.unwrap().item.unwrap()
        };
        let pk = AttributeValue::S(keys::key(&api_key::hash(&key)));
        let grant = get(pk, AttributeValue::S(keys::KEY.into())).await;
        let project = grant["project"].as_s().unwrap().parse().unwrap();
        let pk = AttributeValue::S(keys::project(&project));
        let sort = AttributeValue::S(keys::endpoint(&id));
        let item = get(pk.clone(), sort.clone()).await;
        assert!(item.contains_key("uid") && item.contains_key("content_type"));
        let update = dynamo.client.update_item().table_name(&dynamo.table);
        let update = update
            .key("pk", pk)
            .key("sk", sort)
            .update_expression("remove uid, content_type");
        update.send().await.unwrap();
        drop((engine, dynamo));

        let migrated = run_to_end(dir.path(), &["migrate", "--reproject"], &[]);
        assert_eq!(migrated.code, Some(0), "{}", migrated.stderr);
        let served = Served::start(&data, &[]);
        publish(&served, &key, &receiver, 1).await;
        assert_eq!(receiver.only().header("content-type"), "application/json");
        let stats = served.request(Method::GET, "/v1/endpoints/own/stats", &key, Value::Null);
        assert_eq!(stats.await.unwrap().0, StatusCode::OK);
        stop(served);
    });
}

#[test]
fn what_has_expired_is_gone_soon_after_a_start() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        let event = json!({ "type": "a" });
        let published = served
            .request(Method::POST, "/v1/events", &key, event)
            .await;
        let id = published.unwrap().1["id"].as_str().unwrap().to_owned();
        stop(served);

        // Kept for longer than it was to be.
        let engine = start_dynamodb(&data).unwrap();
        let dynamo = dynamo::connect_embedded(&config(), engine.http_client());
        let update = dynamo.client.update_item().table_name(&dynamo.table);
        let update = update
            .key("pk", AttributeValue::S(id.clone()))
            .key("sk", AttributeValue::S("event".into()))
            .update_expression("set #ttl = :past")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":past", AttributeValue::N("1".into()));
        update.send().await.unwrap();
        drop((engine, dynamo));

        let served = Served::start(&data, &[]);
        let path = format!("/v1/events/{id}");
        let begun = Instant::now();
        loop {
            let fetched = served.request(Method::GET, &path, &key, Value::Null).await;
            if fetched.unwrap().0 == StatusCode::NOT_FOUND {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it is there yet");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[test]
fn damage_is_found_after_a_crash() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        for _ in 0..200 {
            let event = json!({ "type": "a", "data": "x".repeat(2000) });
            let published = served
                .request(Method::POST, "/v1/events", &key, event)
                .await;
            assert_eq!(published.unwrap().0, StatusCode::ACCEPTED);
        }
        stop(served);
        let served = Served::start(&data, &[]);
        assert!(
            !served.greeting.contains("unclean shutdown"),
            "{}",
            served.greeting
        );
        served.signal("KILL");
        drop(served);

        let file = data.join("dynamodb.sqlite");
        // What is in the log beside it would cover the damage.
        let conn = rusqlite::Connection::open(&file).unwrap();
        let logged = conn.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()));
        logged.unwrap();
        drop(conn);
        let whole = std::fs::read(&file).unwrap();
        assert!(whole.len() > 200 * 2000, "{}", whole.len());
        let mut damaged = whole.clone();
        let page = damaged.len() / 2 / 4096 * 4096;
        damaged[page..page + 4 * 4096].fill(0xff);
        std::fs::write(&file, damaged).unwrap();
        let refused = run_to_end(dir.path(), &["serve"], &[ANY_PORT]);
        let begins = format!(
            "millrace: data_dir: cannot read {}; restore it",
            file.display()
        );
        assert!(refused.stderr.starts_with(&begins), "{}", refused.stderr);
        assert_eq!(refused.code, Some(1));

        std::fs::write(&file, whole).unwrap();
        let served = Served::start(&data, &[]);
        assert!(
            served.greeting.contains("unclean shutdown"),
            "{}",
            served.greeting
        );
    });
}

#[test]
fn a_first_start_cut_short_leaves_nobody_without_a_key() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let config = Config::from_toml(&format!("data_dir = {data_dir:?}")).unwrap();
        let started = start::assemble(config).await.unwrap();
        let app = started.app.clone();
        start::migrate(&app.postgres, &app.dynamo).await.unwrap();
        let now = app::now();
        let project = Project {
            id: ProjectId::new(now.as_millisecond(), app.random()),
            name: "default".into(),
            created_at: now,
        };
        projects::create(&app.postgres, Actor::Millrace, &project)
            .await
            .unwrap();
        // Here it was killed.
        let first = start::first_project(&app).await.unwrap().unwrap();
        assert_eq!(first.project, project.id);
        let grant = app
            .projection
            .grant(api_key::hash(&first.key), app::now())
            .await
            .unwrap();
        assert_eq!(grant.unwrap().project, project.id);
        assert!(start::first_project(&app).await.unwrap().is_none());
        drop(app);
        started.stop().await.unwrap();
    });
}
