//! The console's overview: what needs attention, what happened over time, the latest
//! events, and the first steps where there are none.

use http::StatusCode;
use millrace::jobs::activity;
use serde_json::json;

use crate::support::browser::{Browser, text};
use crate::support::fixtures::{create_endpoint, failures, uncached_config};
use crate::support::harness::{ADMIN_KEY, ALL_SCOPES, Harness, run};
use crate::support::receiver::{Receiver, Reply};

/// Markup, each kind of quote, letters that turn the text around: nothing of it may become
/// a part of the page.
const HOSTILE: &str = "\"><script>alert(1)</script>'&amp;\u{202e}\u{1f9ea}";

async fn overview(browser: &mut Browser<'_>, query: &str) -> String {
    let path = format!("/console/{}{query}", browser.harness.project);
    let answer = browser.get(&path).await;
    let page = text(&answer);
    assert_eq!(answer.status, StatusCode::OK, "{page}");
    page
}

fn assert_has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "no {part} in {page}");
    }
}

#[test]
fn a_project_without_events_shows_the_first_steps_until_one_comes() {
    run(async {
        let harness = Harness::new().await;
        let mut browser = Browser::signed_in(&harness, ADMIN_KEY).await;
        let page = overview(&mut browser, "").await;
        let path = format!("/console/{}", harness.project);
        assert_has(
            &page,
            &[
                "Three steps to the first webhook",
                "curl http://localhost/v1/events",
                "Waiting for the first event",
                &format!("href=\"{path}/endpoints/new\""),
                &format!("href=\"{path}/send\""),
            ],
        );
        let part = overview(&mut browser, "?part=first").await;
        assert!(
            part.contains(" id=\"first\"") && !part.contains("<main"),
            "{part}"
        );
        assert!(part.contains("data-live=\"swap\""), "{part}");
        let event = harness.publish("a").await;
        let part = overview(&mut browser, "?part=first").await;
        assert!(
            !part.contains("data-live"),
            "it does not change any more: {part}"
        );
        assert_has(&part, &[&format!("{path}/events/{event}")]);
        let page = overview(&mut browser, "").await;
        assert_has(&page, &["Latest events", &event]);
        assert!(!page.contains("Three steps"), "{page}");
    });
}

#[test]
fn what_is_wrong_is_said_first_and_in_sentences() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let (dead, gone) = (
            Receiver::start(failures(9)).await,
            Receiver::start([Reply::Status(410)]).await,
        );
        let dead = harness.endpoint(&dead.url, &["a"]).await;
        let gone = harness.endpoint(&gone.url, &["b"]).await;
        let mut browser = Browser::signed_in(&harness, ADMIN_KEY).await;
        for event_type in ["a", "a", "b"] {
            harness.publish(event_type).await;
        }
        harness.drain().await;
        let meter =
            json!({ "name": "Calls", "event_type": "a", "aggregation": "sum", "value": "/x" });
        harness.new_meter(meter).await;
        harness.publish("a").await;
        harness.drain().await;
        harness.meter().await;
        activity::flush(&harness.app).await;
        let page = overview(&mut browser, "").await;
        let link = |endpoint: &serde_json::Value| {
            let id = endpoint["id"].as_str().unwrap();
            format!("/console/{}/endpoints/{id}", harness.project)
        };
        assert_has(
            &page,
            &[
                "Needs attention <span class=\"count is-bad\">3</span>",
                " answered 410 Gone and is turned off. Nothing waits for it. Enable it once",
                " fails since <time",
                "3 deliveries wait, none is lost.",
                " if that goes on.",
                "could not count 1 event since",
                &link(&dead),
                &link(&gone),
                "Failed most",
            ],
        );
        let place = |text: &str| page.find(text).unwrap();
        assert!(place("Needs attention") < place("Events accepted"));
        assert!(place("Events accepted") < place("Latest events"));
        // An endpoint that is mended needs none any more.
        for endpoint in [&dead, &gone] {
            let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
            harness.delete(&path).await;
        }
        let part = overview(&mut browser, "?part=todo").await;
        assert!(
            part.contains(" id=\"todo\"") && !part.contains("<main"),
            "{part}"
        );
        assert_has(&part, &["could not count"]);
        assert!(!part.contains("410"), "{part}");
    });
}

#[test]
fn charts_are_of_the_period_that_is_asked_for() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start([Reply::Status(500)]).await;
        harness.endpoint(&receiver.url, &["a"]).await;
        for _ in 0..4 {
            harness.publish("a").await;
        }
        harness.drain().await;
        // Now, and not when it is due: charts end with the present.
        let path = "/v1/deliveries?state=pending";
        let pending = harness.get(path).await.expect(StatusCode::OK);
        let id = pending["data"][0]["id"].as_str().unwrap();
        let path = format!("/v1/deliveries/{id}/retry");
        harness
            .post(&path, json!({}))
            .await
            .expect(StatusCode::ACCEPTED);
        harness.drain().await;
        activity::flush(&harness.app).await;
        let mut browser = Browser::signed_in(&harness, ADMIN_KEY).await;
        for (period, columns) in [
            ("1h", 12..=13),
            ("24h", 24..=25),
            ("7d", 28..=29),
            ("30d", 30..=31),
        ] {
            let page = overview(&mut browser, &format!("?period={period}")).await;
            let current = format!("?period={period}\" aria-current=\"true\"");
            assert_has(
                &page,
                &[
                    &current,
                    "<p class=\"big\">4 <small>",
                    "there were none in",
                    "<p class=\"big\">100 % <small>of 4 deliveries that ended</small>",
                    "75 % at once",
                    "role=\"img\"",
                    " at once, 1 after a retry, 0 given up",
                    "95th percentile",
                ],
            );
            let titles = page.matches("<title>").count() - 1;
            assert!(columns.contains(&(titles / 4)), "{period}: {titles}");
            assert!(page.len() < 100_000, "{period}: {} bytes", page.len());
            let part = overview(&mut browser, &format!("?part=charts&period={period}")).await;
            assert!(
                part.contains(" id=\"charts\"") && !part.contains("<main"),
                "{part}"
            );
            assert_has(&part, &[&format!("part=charts&amp;period={period}")]);
        }
        // A period that is none is a day.
        let page = overview(&mut browser, "?period=century").await;
        assert_has(&page, &["?period=24h\" aria-current=\"true\""]);
    });
}

#[test]
fn names_of_others_stay_text() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        let receiver = Receiver::start(failures(3)).await;
        let url = format!("{}/{}", receiver.url, HOSTILE.replace(' ', ""));
        create_endpoint(&harness, json!({ "url": url, "event_types": ["a"] })).await;
        let meter = json!({ "name": HOSTILE, "event_type": "*", "aggregation": "sum",
            "value": "/\"><script>" });
        harness.new_meter(meter).await;
        let long = "x".repeat(100);
        for tenant in [HOSTILE, &long] {
            let event = json!({ "type": "a", "tenant": tenant, "data": { "n": 1 } });
            harness.publish_body(event).await;
        }
        harness.drain().await;
        harness.meter().await;
        activity::flush(&harness.app).await;
        let mut browser = Browser::signed_in(&harness, ADMIN_KEY).await;
        let page = overview(&mut browser, "").await;
        assert_has(&page, &["&lt;script&gt;alert(1)&lt;/script&gt;", &long]);
        assert!(
            !page.contains("<script>alert") && !page.contains("\"><script>"),
            "{page}"
        );
        assert!(
            !page.contains(" style=") && !page.contains(" onload="),
            "{page}"
        );
    });
}

#[test]
fn a_session_sees_what_its_key_may_and_its_own_project_alone() {
    run(async {
        let harness = Harness::builder().config(uncached_config()).build().await;
        harness.publish("a").await;
        activity::flush(&harness.app).await;
        let key = harness.new_key(&harness.project, &["events:read"]).await;
        let mut browser = Browser::signed_in(&harness, &key).await;
        let page = overview(&mut browser, "").await;
        assert_has(
            &page,
            &[
                "Whether endpoints fail is not known here",
                "Events accepted",
            ],
        );
        for hidden in ["/send\"", "Usage in"] {
            let main = page.split_once("<main").unwrap().1;
            assert!(!main.contains(hidden), "{hidden} in {main}");
        }
        let other = harness.new_project(&ALL_SCOPES).await;
        for part in [
            "",
            "?part=todo",
            "?part=charts",
            "?part=latest",
            "?part=first",
        ] {
            let answer = browser.get(&format!("/console/{}{part}", other.id)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{part}");
        }
        // Who may not see events sees why there is nothing.
        let key = harness.new_key(&harness.project, &["meters:read"]).await;
        let mut browser = Browser::signed_in(&harness, &key).await;
        let answer = browser.get(&format!("/console/{}", harness.project)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(text(&answer).contains("events:read"), "{}", text(&answer));
    });
}
