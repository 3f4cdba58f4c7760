//! The API's documentation in the console: requests tried in a session's project, and the
//! files that the pages are made of.

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::support::browser::{Browser, location, text};
use crate::support::harness::{Harness, run};

#[test]
fn a_request_is_tried_in_the_sessions_project_as_the_api_would_answer_it() {
    run(async {
        let harness = Harness::new().await;
        let mut browser = Browser::signed_in(&harness, &harness.key).await;
        let at = |operation: &str| format!("/console/{}/api/{operation}", harness.project);

        let sent = browser.get("/console/api/publishEvent?body=%7B%7D").await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER);
        assert_eq!(
            location(&sent),
            format!("{}?body=%7B%7D", at("publishEvent"))
        );
        let form = browser.get(location(&sent)).await;
        assert_eq!(form.status, StatusCode::OK);
        assert!(text(&form).contains("{}</textarea>"), "{}", text(&form));
        let none = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(none["data"], json!([]), "looking sends nothing");

        // A form that is sent twice publishes once.
        let body = r#"{"type":"invoice.paid","data":{"by":"<script>"}}"#;
        let fields = [("body", body), ("once", "aaaaaaaaaaaaaaaaaaaaaaaaaa")];
        for _ in 0..2 {
            let answer = browser.post(&at("publishEvent"), &fields).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(text(&answer).contains("</svg>202<"), "{}", text(&answer));
            assert!(!text(&answer).contains("<script>"));
        }
        let events = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(events["data"].as_array().unwrap().len(), 1);

        let id = events["data"][0]["id"].as_str().unwrap().to_owned();
        let answer = browser.post(&at("getEvent"), &[("id", &id)]).await;
        assert!(text(&answer).contains(&id) && text(&answer).contains("invoice.paid"));
        let answer = browser.post(&at("getEvent"), &[("id", "../events")]).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(text(&answer).contains("404"), "{}", text(&answer));
        let answer = browser.post(&at("getEvent"), &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);

        for unknown in ["getLiveness", "getService", "nothing", "..%2Fevents"] {
            let answer = browser.get(&at(unknown)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{unknown}");
        }
        harness.drain().await;
    });
}

#[test]
fn what_a_session_may_not_is_refused_when_it_is_tried() {
    run(async {
        let harness = Harness::new().await;
        let reader = harness.new_key(&harness.project, &["events:read"]).await;
        let mut browser = Browser::signed_in(&harness, &reader).await;
        let at = |operation: &str| format!("/console/{}/api/{operation}", harness.project);
        let body = r#"{"type":"invoice.paid"}"#;
        let answer = browser.post(&at("publishEvent"), &[("body", body)]).await;
        assert!(text(&answer).contains("403"), "{}", text(&answer));
        let answer = browser
            .post(&at("createProject"), &[("body", r#"{"name":"a"}"#)])
            .await;
        assert!(text(&answer).contains("403"), "{}", text(&answer));

        let operation = at("publishEvent");
        let forged = browser.post_as_is(&operation, &[("body", body)]).await;
        assert_eq!(forged.status, StatusCode::FORBIDDEN);
        let other = Harness::new().await;
        let elsewhere = format!("/console/{}/api/listEvents", other.project);
        assert_ne!(other.project, harness.project);
        let answer = browser.post(&elsewhere, &[]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let events = harness.get("/v1/events").await.expect(StatusCode::OK);
        assert_eq!(events["data"], json!([]));
        let mut stranger = Browser::new(&harness);
        let answer = stranger.get("/console/api/listEvents").await;
        assert!(location(&answer).starts_with("/console/sign-in?next="));
    });
}

#[test]
fn assets_are_kept_for_good_by_their_names_and_pages_are_not_kept() {
    run(async {
        let harness = Harness::new().await;
        let mut browser = Browser::signed_in(&harness, &harness.key).await;
        let docs = harness.request(Method::GET, "/docs", "", Value::Null).await;
        let console = browser.get(&format!("/console/{}", harness.project)).await;
        let mut seen = 0;
        for page in [text(&docs), text(&console)] {
            for path in page.split('"').filter(|text| text.starts_with("/assets/")) {
                for (accepted, coding) in [("gzip, br", Some("gzip")), ("identity", None)] {
                    let request = Request::get(path).header("accept-encoding", accepted);
                    let asset = harness.send(request.body(Body::empty()).unwrap()).await;
                    assert_eq!(asset.status, StatusCode::OK, "{path}");
                    let header = |name: &str| asset.headers.get(name).map(|v| v.to_str().unwrap());
                    let forever = "public, max-age=31536000, immutable";
                    assert_eq!(header("cache-control"), Some(forever), "{path}");
                    assert_eq!(header("content-encoding"), coding, "{path}");
                    assert_eq!(header("vary"), Some("accept-encoding"), "{path}");
                    assert_eq!(header("set-cookie"), None, "{path}");
                }
                seen += 1;
            }
        }
        assert!(seen >= 5, "{seen}");
        let missing = harness.get("/assets/console.aaaaaaaaaaaaaaaa.js").await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        assert_eq!(missing.headers["cache-control"], "no-store");
        for path in [
            "/console",
            "/console/sign-in",
            &format!("/console/{}", harness.project),
        ] {
            let page = browser.get(path).await;
            assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        }
    });
}
