//! Webhooks as a receiver sees them: signatures other people's code verifies,
//! retries, and the ways a receiver can misbehave.

use std::time::Duration;

use http::StatusCode;
use millrace::app;
use serde_json::{Value, json};

use crate::support::fixtures::only_delivery;
use crate::support::harness::{Harness, config, run};
use crate::support::receiver::{Received, Receiver, Reply};

fn verify(secret: &Value, received: &Received) {
    let webhook = standardwebhooks::Webhook::new(secret.as_str().unwrap()).unwrap();
    webhook.verify(&received.body, &received.headers).unwrap();
}

async fn deliveries(harness: &Harness, event: &str) -> Vec<Value> {
    let fetched = harness
        .get(&format!("/v1/events/{event}"))
        .await
        .expect(StatusCode::OK);
    fetched["deliveries"].as_array().unwrap().clone()
}

#[test]
fn an_event_arrives_signed_as_a_cloud_event() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["user.*"]).await;
        let id = harness.publish("user.created").await;
        harness.publish("order.placed").await;
        harness.drain().await;

        let received = receiver.only();
        verify(&endpoint["secret"], &received);
        assert_eq!(received.header("webhook-id"), id);
        assert_eq!(
            received.header("content-type"),
            "application/cloudevents+json"
        );
        assert!(received.header("user-agent").starts_with("Millrace/"));
        let event = cloudevents::event::Event::try_from_json(&received.body);
        assert_eq!(event["type"], "user.created");
        assert_eq!(event["data"], json!({ "n": 1 }));

        let delivery = only_delivery(&harness, &id).await;
        assert_eq!(delivery["state"], "delivered");
        assert_eq!(delivery["attempts"][0]["status"], 200);
        assert_eq!(delivery["next_attempt_at"], Value::Null);
    });
}

/// Reads a body with the CloudEvents SDK and gives it back as plain JSON.
trait TryFromJson {
    fn try_from_json(body: &[u8]) -> Value;
}

impl TryFromJson for cloudevents::event::Event {
    fn try_from_json(body: &[u8]) -> Value {
        let event: Self = serde_json::from_slice(body).unwrap();
        serde_json::to_value(event).unwrap()
    }
}

#[test]
fn a_rotated_secret_signs_beside_the_new_one_for_a_day() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let rotated = harness
            .post(&format!("{path}/rotate-secret"), json!({}))
            .await;
        let rotated = rotated.expect(StatusCode::OK);
        assert_ne!(rotated["secret"], endpoint["secret"]);
        let current = harness
            .get(&format!("{path}/secret"))
            .await
            .expect(StatusCode::OK);
        assert_eq!(current, rotated);

        harness.publish("a").await;
        harness.drain().await;
        let received = receiver.only();
        verify(&endpoint["secret"], &received);
        verify(&rotated["secret"], &received);
        assert_eq!(received.header("webhook-signature").split(' ').count(), 2);

        let tomorrow = app::now() + Duration::from_secs(24 * 3600 + 1);
        let project = harness.project.parse().unwrap();
        let config = harness
            .app
            .projection
            .project_config(&project)
            .await
            .unwrap();
        let target = config
            .targets
            .get(&endpoint["id"].as_str().unwrap().parse().unwrap())
            .unwrap();
        assert_eq!(target.active_secrets(tomorrow).count(), 1);
    });
}

#[test]
fn a_failed_attempt_is_made_again_with_the_same_id() {
    run(async {
        let harness = Harness::new().await;
        // Closed on the connection that was kept, and on that of the request's own that
        // it was sent on then.
        let replies = [Reply::Status(500), Reply::Close, Reply::Close];
        let receiver = Receiver::start(replies).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let id = harness.publish("a").await;
        harness.drain().await;
        let delivery = only_delivery(&harness, &id).await;
        assert_eq!(delivery["state"], "pending");

        harness.sweep_after(Duration::from_secs(1)).await;
        assert_eq!(receiver.received().len(), 1, "not before its time");
        harness.sweep_after(Duration::from_secs(8)).await;
        harness.sweep_after(Duration::from_secs(8 + 400)).await;
        let received = receiver.received();
        assert_eq!(received.len(), 4);
        for attempt in &received {
            verify(&endpoint["secret"], attempt);
            assert_eq!(attempt.header("webhook-id"), id);
        }
        let delivery = only_delivery(&harness, &id).await;
        assert_eq!(delivery["state"], "delivered");
        let attempts = delivery["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 3);
        assert_eq!(attempts[0]["status"], 500);
        assert!(attempts[1]["error"].is_string());
    });
}

#[test]
fn the_schedule_ends() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start(vec![Reply::Status(503); 20]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let id = harness.publish("a").await;
        harness.drain().await;
        for day in 1..=10 {
            harness
                .sweep_after(Duration::from_secs(day * 30 * 3600))
                .await;
        }
        assert_eq!(receiver.received().len(), 10);
        let delivery = only_delivery(&harness, &id).await;
        assert_eq!(delivery["state"], "failed");
        assert_eq!(delivery["attempts_made"], 10);
    });
}

#[test]
fn retry_after_is_honoured_on_429() {
    run(async {
        let harness = Harness::new().await;
        let later = Reply::With {
            status: 429,
            header: ("retry-after", "3600"),
            body: String::new(),
        };
        let receiver = Receiver::start([later]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        harness.publish("a").await;
        harness.drain().await;
        harness.sweep_after(Duration::from_secs(3500)).await;
        assert_eq!(receiver.received().len(), 1);
        harness.sweep_after(Duration::from_secs(3610)).await;
        assert_eq!(receiver.received().len(), 2);
    });
}

#[test]
fn gone_disables_the_endpoint_everywhere() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Status(410)]).await;
        let endpoint = harness.endpoint(&receiver.url, &["*"]).await;
        let id = harness.publish("a").await;
        harness.drain().await;
        assert_eq!(only_delivery(&harness, &id).await["state"], "failed");
        let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
        let fetched = harness.get(&path).await.expect(StatusCode::OK);
        assert_eq!(fetched["state"], "gone");

        let passed_by = harness.publish("b").await;
        harness.drain().await;
        assert_eq!(deliveries(&harness, &passed_by).await, Vec::<Value>::new());

        // A person enables it again.
        let enabled = harness.patch(&path, json!({ "state": "enabled" })).await;
        assert_eq!(enabled.expect(StatusCode::OK)["state"], "enabled");
        harness.publish("c").await;
        harness.drain().await;
        assert_eq!(receiver.received().len(), 2);
    });
}

#[test]
fn redirects_are_not_followed_and_large_answers_are_cut() {
    run(async {
        let harness = Harness::new().await;
        let elsewhere = Receiver::start([]).await;
        let script = [
            Reply::Redirect(elsewhere.url.clone()),
            Reply::With {
                status: 500,
                header: ("x-a", "b"),
                body: "no ".repeat(1_000_000),
            },
        ];
        let receiver = Receiver::start(script).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let redirected = harness.publish("a").await;
        harness.drain().await;
        let large = harness.publish("b").await;
        harness.drain().await;
        assert!(elsewhere.received().is_empty());
        let delivery = only_delivery(&harness, &redirected).await;
        assert_eq!(delivery["attempts"][0]["status"], 302);
        assert_eq!(delivery["state"], "pending");
        let delivery = only_delivery(&harness, &large).await;
        let kept = delivery["attempts"][0]["response"].as_str().unwrap();
        assert!(
            kept.starts_with("no no") && kept.len() <= 256,
            "{}",
            kept.len()
        );
    });
}

#[test]
fn a_slow_endpoint_times_out() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([Reply::Slow(Duration::from_secs(30))]).await;
        harness.endpoint(&receiver.url, &["*"]).await;
        let id = harness.publish("a").await;
        harness.drain().await;
        let delivery = only_delivery(&harness, &id).await;
        assert_eq!(delivery["attempts"][0]["error"], "timed out after 2 s");
    });
}

#[test]
fn a_private_address_is_not_called_where_that_is_forbidden() {
    run(async {
        let mut config = config();
        config.delivery.allow_private_targets = Some(false);
        let harness = Harness::builder().config(config).build().await;
        for url in [
            "https://127.0.0.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://localhost/",
            "http://example.com/",
        ] {
            let body = json!({ "url": url });
            let answer = harness.post("/v1/endpoints", body).await;
            assert_eq!(answer.json["field"], "url", "{url}");
            answer.problem(400);
        }
    });
}

#[test]
fn an_event_fans_out_to_a_thousand_endpoints_once() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let project = harness.project.parse().unwrap();
        for _ in 0..1000 {
            harness.endpoint(&receiver.url, &["*"]).await;
        }
        let config = harness
            .app
            .projection
            .project_config(&project)
            .await
            .unwrap();
        assert_eq!(config.targets.matching("a", None).count(), 1000);

        let id = harness.publish("a").await;
        assert!(receiver.received().is_empty());
        harness.drain().await;
        // The queue gives an endpoint's lane and the whole a bound; what it
        // refused is due.
        harness.sweep_after(Duration::from_secs(6)).await;
        assert_eq!(receiver.received().len(), 1000);

        // The same job once more changes nothing.
        let job = millrace::model::job::Job::FanOut {
            event: id.parse().unwrap(),
        };
        harness.app.queue.send(vec![job], Duration::ZERO).await;
        harness.drain().await;
        harness.sweep_after(Duration::from_secs(600)).await;
        assert_eq!(receiver.received().len(), 1000);

        let mut seen = 0;
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/deliveries?event_id={id}&limit=100{cursor}");
            let page = harness.get(&path).await.expect(StatusCode::OK);
            let rows = page["data"].as_array().unwrap();
            assert!(rows.iter().all(|row| row["state"] == "delivered"));
            seen += rows.len();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, 1000);
    });
}

#[test]
fn a_rotation_keeps_the_scheme_unless_another_is_asked_for() {
    run(async {
        let harness = Harness::new().await;
        for (scheme, prefix, other) in [("v1", "whsec_", "v1a"), ("v1a", "whpk_", "v1")] {
            let new = json!({ "url": "https://example.com/hook", "scheme": scheme });
            let created = harness.post("/v1/endpoints", new).await;
            let created = created.expect(StatusCode::CREATED);
            assert_eq!(created["scheme"], scheme);
            let path = format!("/v1/endpoints/{}", created["id"].as_str().unwrap());
            let rotate = async |body: Value| {
                let rotated = harness.post(&format!("{path}/rotate-secret"), body).await;
                rotated.expect(StatusCode::OK)
            };
            let kept = rotate(json!({})).await;
            assert_eq!(kept["scheme"], scheme);
            assert!(kept["secret"].as_str().unwrap().starts_with(prefix));
            assert_ne!(kept["secret"], created["secret"]);
            assert_eq!(rotate(json!({ "scheme": other })).await["scheme"], other);
            assert_eq!(rotate(json!({})).await["scheme"], other);
        }
    });
}

#[test]
fn a_secret_is_taken_without_padding_and_shown_with_it() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let canonical = "whsec_+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
        let unpadded = canonical.trim_end_matches('=');
        for given in [canonical, unpadded] {
            let new = json!({ "url": receiver.url, "secret": given, "event_types": ["none"] });
            let created = harness.post("/v1/endpoints", new).await;
            let created = created.expect(StatusCode::CREATED);
            assert_eq!(created["secret"], canonical);
            let path = format!("/v1/endpoints/{}", created["id"].as_str().unwrap());
            let shown = harness.get(&format!("{path}/secret")).await;
            assert_eq!(shown.expect(StatusCode::OK)["secret"], canonical);
        }
        let new = json!({ "url": receiver.url, "secret": unpadded });
        let created = harness.post("/v1/endpoints", new).await;
        created.expect(StatusCode::CREATED);
        harness.publish("a").await;
        harness.drain().await;
        verify(&canonical.into(), &receiver.only());
        let url_safe = unpadded.replace('+', "-").replace('/', "_");
        let new = json!({ "url": receiver.url, "secret": url_safe });
        let refused = harness.post("/v1/endpoints", new).await.problem(400);
        insta::assert_snapshot!(refused, @"invalid: secret: expected standard base64 after the prefix");
        let contradiction = json!({ "url": receiver.url, "secret": unpadded, "scheme": "v1a" });
        let refused = harness
            .post("/v1/endpoints", contradiction)
            .await
            .problem(400);
        insta::assert_snapshot!(refused, @"invalid: scheme: expected v1, which the given secret is for, or none");
    });
}

#[test]
fn any_answer_that_is_retried_says_when() {
    run(async {
        let mut config = config();
        config.delivery.breaker_failures = 0;
        let harness = Harness::builder().config(config).build().await;
        let date = httpdate_in(Duration::from_secs(1000));
        for (status, header, seconds) in [
            (500, "900", 890..=900),
            (404, "900", 890..=900),
            (302, "900", 890..=900),
            (429, "900", 890..=900),
            (502, &*date, 980..=1000),
            (500, "1", 3..=6),
            (500, "soon", 3..=6),
            (500, "9999999", 86_390..=86_400),
        ] {
            let reply = Reply::With {
                status,
                header: ("retry-after", String::leak(header.to_owned())),
                body: String::new(),
            };
            let receiver = Receiver::start([reply]).await;
            let event_type = format!("t{status}.{}", header.len());
            harness.endpoint(&receiver.url, &[&event_type]).await;
            let event = harness.publish(&event_type).await;
            harness.drain().await;
            let delivery = only_delivery(&harness, &event).await;
            let next = delivery["next_attempt_at"].as_str().unwrap();
            let next: jiff::Timestamp = next.parse().unwrap();
            let waits = next.duration_since(app::now()).as_secs();
            assert!(seconds.contains(&waits), "{status} {header}: {waits}");
        }
    });
}

/// The time after `later` as HTTP writes it.
fn httpdate_in(later: Duration) -> String {
    let at = app::now() + later;
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
