//! The archive: the events of a day, written to S3 before they expire. At the
//! emulator of `MILLRACE_TEST_SQS_URL`, which has S3 too, and at a receiver.

use std::io::Read;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use flate2::read::GzDecoder;
use http::{Method, StatusCode};
use jiff::Timestamp;
use millrace::app::{self, App};
use millrace::config::Config;
use millrace::jobs::recover::archive;
use millrace::model::event::{Event, PlainDefaults, parse_plain};
use millrace::model::id::EventId;
use millrace::model::recovery::Day;
use millrace::store::accept::{self, Plan};
use millrace::store::events::{self, NewEvent};
use millrace::store::objects::Objects;
use serde_json::{Value, json};

use crate::support::fixtures::{expire, finish_recovery, forget_queue};
use crate::support::harness::{Harness, config, run};
use crate::support::receiver::{Received, Receiver, Reply};
use crate::support::stores;

pub fn archiving(url: &str, bucket: &str) -> Config {
    let mut config = config();
    config.archive.bucket = bucket.into();
    config.archive.endpoint_url = url.into();
    config
}

pub fn objects(config: &Config) -> Option<Objects> {
    let credentials = Credentials::from_keys("AKID", "secret", Some("session".into()));
    Objects::with_credentials(config, SharedCredentialsProvider::new(credentials)).unwrap()
}

pub fn base(receiver: &Receiver) -> String {
    receiver.url.trim_end_matches("/hook").to_owned()
}

/// Keeps `count` events as if they had come at `at` and after; their ids.
async fn keep(app: &App, project: &str, at: Timestamp, count: u32) -> Vec<String> {
    let project = project.parse().unwrap();
    let mut ids = vec![];
    for n in 0..count {
        let received = at + Duration::from_millis(n.into());
        let event: Event = parse_plain(
            json!({ "type": "a", "data": { "n": n } })
                .to_string()
                .as_bytes(),
            PlainDefaults {
                id: &format!("{at}/{n}"),
                source: "/",
                time: received,
            },
        )
        .unwrap();
        let id = EventId::derive(&project, event.source(), event.id());
        let new = NewEvent {
            id: &id,
            project: &project,
            event: &event,
            received,
            expires: events::expiry(received, 30),
            metered: None,
        };
        accept::accept(&app.dynamo, &new, &Plan::Inline(&[], received))
            .await
            .unwrap();
        ids.push(id.to_string());
    }
    ids
}

/// The day that is archived at `now`, before the one after it is.
fn day(now: Timestamp) -> Day {
    Day::expiring(now, 30)[0]
}

fn lines(object: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(object).read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The archives of a project.
async fn archives(harness: &Harness) -> Vec<Value> {
    let listed = harness.get("/v1/recoveries").await.expect(StatusCode::OK);
    let rows = listed["data"].as_array().unwrap().clone();
    assert!(rows.iter().all(|row| row["kind"] == "archive"));
    rows
}

/// Those of this project among the objects put.
fn puts(receiver: &Receiver, project: &str) -> Vec<(String, Received)> {
    let received = receiver.received().into_iter();
    let named = received.map(|put| (put.path.clone(), put));
    named.filter(|(path, _)| path.contains(project)).collect()
}

#[test]
fn a_day_is_written_once_before_it_expires() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "events-bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let now = app::now();
        let day = day(now);
        let kept = keep(&harness.app, &harness.project, day.start(), 3).await;
        // One whose time is over, and which is still there, is not lost.
        expire(&harness.app.dynamo, &kept[0]).await;
        keep(
            &harness.app,
            &harness.project,
            day.start() - Duration::from_millis(2),
            2,
        )
        .await;
        keep(
            &harness.app,
            &harness.project,
            Day::expiring(now, 30)[1].end(),
            2,
        )
        .await;

        assert!(archive::plan(&harness.app, now).await.unwrap() >= 2);
        assert_eq!(
            archive::plan(&harness.app, now).await.unwrap(),
            0,
            "planned already"
        );
        harness.drain().await;
        let rows = archives(&harness).await;
        assert_eq!(rows.len(), 2, "two days are about to expire");
        let of_day = rows.iter().find(|row| row["resent"] == 3).unwrap();
        assert_eq!(
            (&of_day["state"], &of_day["endpoint_id"]),
            (&json!("done"), &Value::Null)
        );

        let puts = puts(&store, &harness.project);
        let [(path, put)] = puts.as_slice() else {
            panic!("{puts:?}")
        };
        let project = &harness.project;
        let expected =
            format!("/events-bucket/events/project%3D{project}/day%3D{day}/part-00001.jsonl.gz");
        assert_eq!((&put.method, path), (&Method::PUT, &expected));
        assert_eq!(put.header("content-type"), "application/gzip");
        let hash = ring::digest::digest(&ring::digest::SHA256, &put.body);
        let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(put.header("x-amz-content-sha256"), hash);
        assert_eq!(put.header("x-amz-security-token"), "session");
        let authorization = put.header("authorization");
        let date = &put.header("x-amz-date")[..8];
        let scope = format!("AWS4-HMAC-SHA256 Credential=AKID/{date}/us-east-1/s3/aws4_request, ");
        assert!(authorization.starts_with(&scope), "{authorization}");
        for signed in [
            "host",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-security-token",
        ] {
            assert!(authorization.contains(signed), "{authorization}");
        }
        let lines = lines(&put.body);
        let ids: Vec<_> = lines.iter().rev().map(|line| line["id"].clone()).collect();
        assert_eq!(ids, kept, "the newest first");
        assert_eq!(lines[2]["received_at"], format!("{:.3}", day.start()));
        let fetched = harness
            .get(&format!("/v1/events/{}", kept[2]))
            .await
            .expect(StatusCode::OK);
        assert_eq!(lines[0]["event"], fetched["event"]);
    });
}

#[test]
fn a_refused_object_is_written_later_and_again_it_is_the_same() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let now = app::now();
        keep(&harness.app, &harness.project, day(now).start(), 1_050).await;
        archive::plan(&harness.app, now).await.unwrap();
        forget_queue(&harness);
        let rows = archives(&harness).await;
        let first = rows
            .iter()
            .find(|row| row["since"] == format!("{:.3}", day(now).start()));
        let first = first.unwrap();
        let id = first["id"].as_str().unwrap().parse().unwrap();
        let recover =
            async |page| millrace::jobs::recover::recover(&harness.app, &id, page, now).await;
        store.script([Reply::Status(403)]);
        let refused = recover(0).await.unwrap_err();
        assert_eq!(refused.to_string(), "the archive is unavailable");

        // A worker that dies after the object, before the record.
        let kept = millrace::store::recoveries::get(&harness.app.dynamo, &id)
            .await
            .unwrap();
        let page = millrace::jobs::recover::run_page(&harness.app, &kept.unwrap(), now).await;
        page.unwrap();
        let done = finish_recovery(&harness, first).await;
        assert_eq!(
            (&done["state"], &done["resent"]),
            (&json!("done"), &json!(1_050))
        );

        let puts = puts(&store, &harness.project);
        let parts: Vec<_> = puts
            .iter()
            .map(|(path, put)| (path.rsplit('/').next().unwrap(), &put.body))
            .collect();
        let names: Vec<_> = parts.iter().map(|(name, _)| *name).collect();
        let (one, two) = ("part-00001.jsonl.gz", "part-00002.jsonl.gz");
        assert_eq!(names, [one, one, one, two]);
        assert_eq!(parts[0].1, parts[2].1);
        assert_eq!(parts[1].1, parts[2].1);
        assert_eq!(
            (lines(parts[2].1).len(), lines(parts[3].1).len()),
            (1_000, 50)
        );

        let path = format!("/v1/recoveries/{id}/cancel");
        let refused = harness.post(&path, Value::Null).await.problem(409);
        assert!(
            refused.contains("an archive cannot be canceled"),
            "{refused}"
        );
    });
}

/// The objects of a page are written side by side: none of them waits for another. Each
/// costs one request, and a day as many as it has thousands of events, and eight a page.
#[test]
fn what_a_first_page_leaves_of_a_day_is_written_side_by_side() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let (now, project) = (app::now(), harness.project.clone());
        let start = day(now).start();
        let hour = Duration::from_secs(3600);
        let mut kept = vec![];
        for n in 0..8 {
            kept.extend(keep(&harness.app, &project, start + hour * 2 * n + hour, 3).await);
        }
        kept.extend(keep(&harness.app, &project, start + hour * 17, 1_000).await);
        archive::plan(&harness.app, now).await.unwrap();
        forget_queue(&harness);
        let rows = archives(&harness).await;
        let row = rows
            .iter()
            .find(|row| row["since"] == format!("{start:.3}"))
            .unwrap();
        let id = row["id"].as_str().unwrap().parse().unwrap();
        let recover = |page| millrace::jobs::recover::recover(&harness.app, &id, page, now);
        Box::pin(recover(0)).await.unwrap();
        assert_eq!(puts(&store, &project).len(), 1);

        let held: Vec<_> = (0..8)
            .map(|_| std::sync::Arc::new(tokio::sync::Notify::new()))
            .collect();
        store.script(held.iter().map(|held| Reply::When(held.clone(), 200)));
        let release = async {
            store.reached(1 + 8).await;
            held.iter().for_each(|held| held.notify_one());
        };
        let (page, ()) = tokio::join!(Box::pin(recover(1)), release);
        page.unwrap();
        let done = finish_recovery(&harness, row).await;
        assert_eq!(
            (&done["state"], &done["resent"], &done["skipped"]),
            (&json!("done"), &json!(1_024), &json!(0))
        );
        let puts = puts(&store, &project);
        let mut names: Vec<_> = puts.iter().map(|(path, _)| path.clone()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 9, "one request an object");
        assert!(names[8].ends_with("part-00002-8.jsonl.gz"), "{names:?}");
        let written = puts.iter().flat_map(|(_, put)| lines(&put.body));
        let mut written: Vec<_> = written
            .map(|line| line["id"].as_str().unwrap().to_owned())
            .collect();
        written.sort_unstable();
        kept.sort_unstable();
        assert_eq!(written, kept, "each once");
    });
}

#[test]
fn an_unreadable_event_keeps_no_other_out_of_the_archive() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let now = app::now();
        let kept = keep(&harness.app, &harness.project, day(now).start(), 5).await;
        let (dynamo, s) = (&harness.app.dynamo, |text: &str| {
            aws_sdk_dynamodb::types::AttributeValue::S(text.into())
        });
        for (event, change) in [
            (&kept[0], "set body = :x"),
            (&kept[2], "set received = :x"),
            (&kept[3], "set ce_id = :x remove fp"),
        ] {
            let update = dynamo.client.update_item().table_name(&dynamo.table);
            let update = update.key("pk", s(event)).key("sk", s("event"));
            update
                .update_expression(change)
                .expression_attribute_values(":x", s("no JSON"))
                .send()
                .await
                .unwrap();
        }
        archive::plan(&harness.app, now).await.unwrap();
        harness.drain().await;
        let rows = archives(&harness).await;
        let row = rows.iter().find(|row| row["skipped"] == 3).unwrap();
        assert_eq!(
            (&row["state"], &row["resent"], &row["examined"]),
            (&json!("done"), &json!(2), &json!(5))
        );
        let puts = puts(&store, &harness.project);
        let ids: Vec<_> = lines(&puts[0].1.body)
            .iter()
            .map(|line| line["id"].clone())
            .collect();
        assert_eq!(ids, [&*kept[4], &kept[1]]);
    });
}

#[test]
fn what_is_not_archived_in_time_is_told_and_kept_for_longer() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let hour = Duration::from_secs(3600);
        let start = day(app::now()).start();
        let early = keep(&harness.app, &harness.project, start, 2).await;
        let later = keep(&harness.app, &harness.project, start + 20 * hour, 2).await;
        let gone = keep(&harness.app, &harness.project, start + hour, 1).await;
        archive::plan(&harness.app, start + 29 * 24 * hour + hour)
            .await
            .unwrap();
        forget_queue(&harness);
        let expires = async |event: &str| {
            let (dynamo, s) = (&harness.app.dynamo, |text: &str| {
                aws_sdk_dynamodb::types::AttributeValue::S(text.into())
            });
            let get = dynamo.client.get_item().table_name(&dynamo.table);
            let get = get.key("pk", s(event)).key("sk", s("event"));
            let item = get.send().await.unwrap().item;
            let second: Option<i64> = item.map(|item| item["ttl"].as_n().unwrap().parse().unwrap());
            second
        };
        let second = |at: Timestamp| Some(at.as_second());
        let (month, week) = (30 * 24 * hour, 7 * 24 * hour);
        let watch = async |at| {
            let found = archive::watch(&harness.app, at).await.unwrap();
            (found.late >= 1, found.held)
        };
        assert_eq!(watch(start + month - 13 * hour).await, (false, 0));
        // Late, but nothing expires for hours.
        assert_eq!(watch(start + month - 11 * hour).await, (true, 0));
        assert_eq!(expires(&early[0]).await, second(start + month));
        let events = millrace::store::events::keep_until;
        let erased = gone[0].parse().unwrap();
        assert!(!events(&harness.app.dynamo, &erased, start).await.unwrap());
        assert_eq!(watch(start + month - hour).await, (true, 3));
        assert_eq!(watch(start + month - hour).await, (true, 0), "once");
        assert_eq!(expires(&early[0]).await, second(start + month + week));
        let received = start + 20 * hour;
        assert_eq!(expires(&later[0]).await, second(received + month));
        assert_eq!(watch(start + month + 18 * hour).await, (true, 2));
        assert_eq!(expires(&later[1]).await, second(received + month + week));

        // Written at last, it is late no more.
        let rows = archives(&harness).await;
        for row in &rows {
            finish_recovery(&harness, row).await;
        }
        assert_eq!(lines(&puts(&store, &harness.project)[0].1.body).len(), 5);
        assert_eq!(watch(start + month + 18 * hour).await, (false, 0));
    });
}

#[test]
fn what_cannot_be_planned_now_is_planned_later() {
    run(async {
        let store = Receiver::start([]).await;
        let config = archiving(&base(&store), "bucket");
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config.clone())
            .archive(signer)
            .build()
            .await;
        let now = app::now();
        let cut_off = harness
            .beside()
            .config(config.clone())
            .archive(objects(&config))
            .without_postgres()
            .build()
            .await;
        assert!(archive::plan(&cut_off.app, now).await.is_err());
        assert!(archives(&harness).await.is_empty());
        let planned = archive::plan(&harness.app, now).await.unwrap();
        assert!(planned >= 2, "{planned}");
        harness.drain().await;
        assert!(
            puts(&store, &harness.project).is_empty(),
            "there is nothing to write"
        );

        let without = harness.beside().build().await;
        let later = now + Duration::from_secs(86_400);
        assert_eq!(archive::plan(&without.app, later).await.unwrap(), 0);
    });
}

#[test]
fn an_emulated_s3_takes_it() {
    run(async {
        let Some(url) = stores::aws_url() else {
            return;
        };
        let bucket = format!("archive-{}", app::now().as_millisecond());
        let config = archiving(&url, &bucket);
        let signer = objects(&config);
        let harness = Harness::builder()
            .config(config)
            .archive(signer)
            .build()
            .await;
        let raw = async |method: &str, path: &str| {
            let url: url::Url = format!("{url}/{path}").parse().unwrap();
            let (host, port) = (url.host_str().unwrap(), url.port().unwrap());
            exchange(&format!("{host}:{port}"), method, url.path()).await
        };
        raw("PUT", &bucket).await;
        let now = app::now();
        let kept = keep(&harness.app, &harness.project, day(now).start(), 2).await;
        archive::plan(&harness.app, now).await.unwrap();
        harness.drain().await;
        let project = &harness.project;
        let day = day(now);
        let key = format!("{bucket}/events/project={project}/day={day}/part-00001.jsonl.gz");
        let lines = lines(&raw("GET", &key).await);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["id"], kept[0]);
    });
}

/// The body of the answer to a bare request.
async fn exchange(address: &str, method: &str, path: &str) -> bytes::Bytes {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::TokioIo;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", address)
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert!(
        response.status().is_success(),
        "{method} {path}: {}",
        response.status()
    );
    response.into_body().collect().await.unwrap().to_bytes()
}
