//! Rate limits of API keys: how many events each may publish.

use std::ops::Range;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use millrace::config::Config;
use serde_json::{Value, json};

use crate::support::harness::{Answer, Harness, config, run};

/// The id of a key of the harness's project, limited to `per_second`.
async fn limited(harness: &Harness, per_second: Value) -> String {
    let path = format!("/v1/projects/{}/keys", harness.project);
    let scopes = ["events:write", "events:read"];
    let body = json!({ "name": "limited", "scopes": scopes, "rate_limit": per_second });
    let key = harness.as_admin(Method::POST, &path, body).await;
    let key = key.expect(StatusCode::CREATED);
    key["key"].as_str().unwrap().to_owned()
}

/// Publishes a batch of the events numbered `numbers`.
async fn batch(harness: &Harness, key: &str, numbers: Range<usize>) -> Answer {
    let event =
        |n: usize| json!({ "specversion": "1.0", "id": n.to_string(), "source": "/", "type": "a" });
    let batch: Vec<_> = numbers.map(event).collect();
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/cloudevents-batch+json")
        .body(Body::from(serde_json::to_vec(&batch).unwrap()));
    harness.send(request.unwrap()).await
}

async fn one(harness: &Harness, key: &str) -> Answer {
    let body = json!({ "type": "a" });
    harness.request(Method::POST, "/v1/events", key, body).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |v| v.to_str().unwrap())
}

#[test]
fn a_key_is_told_where_it_stands_and_refused_when_it_goes_on() {
    run(async {
        let harness = Harness::new().await;
        let key = limited(&harness, json!(1)).await;
        let answer = one(&harness, &key).await;
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            r#""key";q=100;w=100;qu="events""#
        );
        assert_eq!(header(&answer, "ratelimit"), r#""key";r=99;t=1"#);
        answer.expect(StatusCode::ACCEPTED);

        batch(&harness, &key, 0..98)
            .await
            .expect(StatusCode::ACCEPTED);
        let refused = batch(&harness, &key, 98..158).await;
        // The 98 and the 60 less the one or two that are left, less what has passed.
        let retry: u64 = header(&refused, "retry-after").parse().unwrap();
        assert!((50..=59).contains(&retry), "{retry}");
        let state = header(&refused, "ratelimit");
        assert!(state.ends_with(&format!(";t={retry}")), "{state}");
        assert_eq!(refused.problem(429), "rate_limited: too many requests");

        // The 99 before it, and nothing of the batch that was refused.
        let kept = harness
            .get("/v1/events?limit=100")
            .await
            .expect(StatusCode::OK);
        assert_eq!(kept["data"].as_array().unwrap().len(), 99);
        assert_eq!(header(&one(&harness, &harness.key).await, "ratelimit"), "");
    });
}

#[test]
fn what_is_malformed_counts_too() {
    run(async {
        let harness = Harness::new().await;
        let key = limited(&harness, json!(1)).await;
        let bad = harness
            .request(Method::POST, "/v1/events", &key, json!({ "type": "" }))
            .await;
        assert_eq!(header(&bad, "ratelimit"), r#""key";r=99;t=1"#);
        bad.problem(400);
    });
}

#[test]
fn a_key_without_a_limit_has_the_configured_one() {
    run(async {
        let harness = Harness::new().await;
        let mut strict: Config = config();
        strict.http.events_per_second_max = 200;
        let strict = harness.beside().config(strict).build().await;
        let answer = one(&strict, &harness.key).await;
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            r#""key";q=200;w=1;qu="events""#
        );
        answer.expect(StatusCode::ACCEPTED);
        let own = limited(&harness, json!(300)).await;
        let answer = one(&strict, &own).await;
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            r#""key";q=300;w=1;qu="events""#
        );
        answer.expect(StatusCode::ACCEPTED);
    });
}

#[test]
fn a_limit_is_listed_and_checked() {
    run(async {
        let harness = Harness::new().await;
        limited(&harness, json!(7)).await;
        let path = format!("/v1/projects/{}/keys", harness.project);
        let keys = harness.as_admin(Method::GET, &path, Value::Null).await;
        let keys = keys.expect(StatusCode::OK);
        assert_eq!(keys["data"][0]["rate_limit"], Value::Null);
        assert_eq!(keys["data"][1]["rate_limit"], 7);
        for bad in [json!(0), json!(1_000_001), json!(-1), json!(1.5)] {
            let body = json!({ "name": "x", "scopes": ["events:write"], "rate_limit": bad });
            let problem = harness
                .as_admin(Method::POST, &path, body)
                .await
                .problem(400);
            assert!(problem.contains("rate_limit"), "{problem}");
        }
    });
}
