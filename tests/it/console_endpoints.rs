//! The console's pages of endpoints and recoveries, as a browser without script meets them.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use millrace::app;
use millrace::model::api_key::Scope;
use millrace::model::id::ProjectId;
use millrace::model::session::{Person, Reach, Role, Session, SessionToken};
use millrace::store::sessions;
use serde_json::json;
use url::form_urlencoded;

use crate::support::fixtures::{config_without_retries, create_endpoint, endpoint_path, failures};
use crate::support::harness::{Answer, Harness, run};
use crate::support::receiver::Receiver;

/// What people call an endpoint who mean no good.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}";

/// A browser that is signed in.
struct Browser<'a> {
    harness: &'a Harness,
    token: SessionToken,
}

impl<'a> Browser<'a> {
    async fn new(harness: &'a Harness, session: Session) -> Self {
        let token = SessionToken::new(&session, harness.app.random());
        let kept = sessions::put(&harness.app.dynamo, &token, &session);
        kept.await.unwrap();
        Self { harness, token }
    }

    async fn admin(harness: &'a Harness) -> Self {
        let session = Session::with_role(Person::Link, Role::Admin, app::now());
        Self::new(harness, session).await
    }

    /// One that reaches what of the project `tenant` reaches, with `scopes`.
    async fn of(harness: &'a Harness, tenant: Option<&str>, scopes: &[Scope]) -> Self {
        let project: ProjectId = harness.project.parse().unwrap();
        let reach = match tenant {
            Some(tenant) => Reach::Tenant(project, tenant.into()),
            None => Reach::Project(project),
        };
        let session = Session::new(Person::Customer, reach, scopes.into(), app::now());
        Self::new(harness, session).await
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> Answer {
        let address = match path.starts_with("/console") {
            true => path.to_owned(),
            false => format!("/console/{}/{path}", self.harness.project),
        };
        let request = Request::builder()
            .method(method)
            .uri(address)
            .header(header::HOST, "127.0.0.1")
            .header(header::COOKIE, format!("millrace={}", self.token.expose()))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.harness.send(request.body(body).unwrap()).await
    }

    /// The page at `path`.
    async fn get(&self, path: &str) -> String {
        let answer = self.ask(Method::GET, path, Body::empty()).await;
        let page = String::from_utf8(answer.bytes.to_vec()).unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{path}: {page}");
        assert!(
            !page.contains("<script>alert") && !page.contains("<img"),
            "{page}"
        );
        page
    }

    /// Sends a form with `fields`; the answer.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("csrf", &self.token.csrf_token());
        form.extend_pairs(fields);
        self.ask(Method::POST, path, Body::from(form.finish()))
            .await
    }

    /// Sends a form that is taken; where it leads.
    async fn done(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields).await;
        let page = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}: {page}");
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    /// Sends a form that is refused with `status`; the page that says so.
    async fn refused(&self, path: &str, fields: &[(&str, &str)], status: u16) -> String {
        let answer = self.post(path, fields).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        String::from_utf8(answer.bytes.to_vec()).unwrap()
    }
}

/// The last part of where a form led to, without its query.
fn last(location: &str) -> String {
    let path = location.split('?').next().unwrap();
    path.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn an_endpoint_is_added_changed_turned_off_and_on_and_deleted() {
    run(async {
        let harness = Harness::new().await;
        let browser = Browser::admin(&harness).await;
        assert!(browser.get("endpoints").await.contains("No endpoints yet"));
        let wrong = [
            ("url", "ftp://example.com/"),
            ("description", HOSTILE),
            ("rate_limit", "many"),
        ];
        let page = browser.refused("endpoints/new", &wrong, 400).await;
        assert!(page.contains("aria-invalid=\"true\"") && page.contains("role=\"alert\""));
        assert!(page.contains("value=\"ftp://example.com/\"") && page.contains("value=\"many\""));
        assert!(page.contains("alert(1)") && !page.contains("<script>alert"));

        let receiver = Receiver::start([]).await;
        let right = [
            ("url", &*receiver.url),
            ("description", HOSTILE),
            ("event_types", "order.* invoice.paid"),
            ("rate_limit", "20"),
            ("headers", "X-Api-Key: s3cret"),
            ("metadata", "team: billing"),
        ];
        let id = last(&browser.done("endpoints/new", &right).await);
        let at = |rest: &str| format!("endpoints/{id}{rest}");
        let page = browser.get(&at("")).await;
        for shown in ["order.*", "20 a second", "X-Api-Key", "billing"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(!page.contains("s3cret"));
        assert!(browser.get("endpoints").await.contains("Enabled"));

        let mut changed = right.to_vec();
        changed[2].1 = "order.paid";
        changed[4].1 = "";
        changed[5].1 = "";
        browser.done(&at("/edit"), &changed).await;
        let stored = harness.get(&format!("/v1/endpoints/{id}")).await;
        let stored = stored.expect(StatusCode::OK);
        assert_eq!(stored["event_types"], json!(["order.paid"]));
        assert_eq!(stored["metadata"], json!({}));
        assert_eq!(stored["headers"], json!({ "X-Api-Key": "********" }));

        browser.done(&at("/disable"), &[]).await;
        assert!(browser.get(&at("")).await.contains("It is turned off"));
        assert!(browser.get("endpoints?state=disabled").await.contains(&id));
        assert!(
            browser
                .get("endpoints?state=gone")
                .await
                .contains("No endpoint matches")
        );
        browser.done(&at("/enable"), &[]).await;

        let page = browser
            .refused(&at("/delete"), &[("name", "another")], 422)
            .await;
        assert!(page.contains("expected the name of this endpoint"));
        browser.done(&at("/delete"), &[("name", HOSTILE)]).await;
        let gone = browser.ask(Method::GET, &at(""), Body::empty()).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn what_is_wrong_stands_first_and_what_failed_is_recovered() {
    run(async {
        let mut config = config_without_retries(1000);
        config.cache.ttl = Duration::ZERO;
        let harness = Harness::builder().config(config).build().await;
        let (bad, good) = (
            Receiver::start(failures(2)).await,
            Receiver::start([]).await,
        );
        let well = harness.endpoint(&good.url, &["b"]).await;
        let failing = harness.endpoint(&bad.url, &["a"]).await;
        for _ in 0..2 {
            harness.publish("a").await;
            harness.drain().await;
        }
        let browser = Browser::admin(&harness).await;
        let (well, failing) = (
            well["id"].as_str().unwrap(),
            failing["id"].as_str().unwrap(),
        );
        let list = browser.get("endpoints").await;
        assert!(
            list.find(failing) < list.find(well),
            "those that fail first"
        );
        let at = |rest: &str| format!("endpoints/{failing}{rest}");
        let page = browser.get(&at("")).await;
        assert!(
            page.contains("It answers 500: nothing but failures"),
            "{page}"
        );
        assert!(page.contains("See its last answer"));
        let part = browser.get(&at("?part=health")).await;
        assert!(part.starts_with("<div") && part.contains("id=\"health\""));
        let part = browser.get(&at("?part=deliveries")).await;
        assert!(part.starts_with("<div") && part.contains("id=\"latest\""));

        let page = browser.get(&at("/recover?last=1h")).await;
        assert!(
            page.contains("2 deliveries would be sent") && page.contains("Send 2<"),
            "{page}"
        );
        let page = browser.get(&at("/replay-missing?last=1h")).await;
        assert!(page.contains("Nothing would be sent"));
        let page = browser
            .refused(&at("/recover"), &[("since", "yesterday")], 400)
            .await;
        assert!(page.contains("value=\"yesterday\"") && page.contains("id=\"since-e\""));
        let since = "2026-01-01T00:00:00Z";
        let to = browser.done(&at("/recover"), &[("since", since)]).await;
        let recovery = last(&to);
        let running = browser
            .get(&format!("recoveries/{recovery}?part=now"))
            .await;
        assert!(running.contains("data-live=\"swap\"") && running.contains("<progress"));
        assert!(browser.get(&at("")).await.contains(&recovery));
        harness.drain().await;
        let ended = browser
            .get(&format!("recoveries/{recovery}?part=now"))
            .await;
        assert!(
            !ended.contains("data-live") && ended.contains("2 sent again"),
            "{ended}"
        );
        let rows = browser.get("recoveries?part=rows").await;
        assert!(rows.starts_with("<tbody") && rows.contains(&recovery));
        let page = format!("recoveries/{recovery}/cancel");
        assert!(
            browser
                .refused(&page, &[], 409)
                .await
                .contains("does not run any more")
        );
        assert_eq!(bad.received().len(), 4);
    });
}

#[test]
fn a_test_shows_its_answer_and_a_secret_is_shown_when_it_is_asked_for() {
    run(async {
        let harness = Harness::new().await;
        let receiver = Receiver::start([]).await;
        let made = create_endpoint(&harness, json!({ "url": receiver.url })).await;
        let browser = Browser::admin(&harness).await;
        let id = made["id"].as_str().unwrap();
        let at = |rest: &str| format!("endpoints/{id}{rest}");
        let to = browser.done(&at("/test"), &[]).await;
        let waiting = browser.get(&to).await;
        assert!(waiting.contains("On its way") && waiting.contains("data-live=\"swap\""));
        harness.drain().await;
        let page = browser.get(&to).await;
        assert!(
            page.contains("It works: 200") && page.contains("webhook-signature: v1,"),
            "{page}"
        );
        let part = browser.get(&format!("{to}&part=result")).await;
        assert!(!part.contains("data-live"));

        let secret = made["secret"].as_str().unwrap();
        assert!(!browser.get(&at("")).await.contains(secret));
        assert!(!browser.get(&at("/secret")).await.contains(secret));
        let shown = browser.refused(&at("/secret"), &[], 200).await;
        assert!(shown.contains(secret));
        let audit = harness.get("/v1/audit-log").await.expect(StatusCode::OK);
        assert!(audit.to_string().contains("secret"), "{audit}");
        let wrong = [("secret", "whsec_short")];
        let page = browser.refused(&at("/rotate"), &wrong, 400).await;
        assert!(page.contains("id=\"secret-e\"") && !page.contains("whsec_short"));
        let rotated = browser
            .refused(&at("/rotate"), &[("scheme", "v1a")], 200)
            .await;
        assert!(rotated.contains("whpk_"));
    });
}

#[test]
fn whoever_may_not_sees_no_button_and_changes_nothing() {
    run(async {
        let harness = Harness::new().await;
        let url = "http://127.0.0.1:9/hook";
        let own = create_endpoint(&harness, json!({ "url": url, "tenant": "acme" })).await;
        let other = create_endpoint(&harness, json!({ "url": url, "tenant": "other" })).await;
        let reads = [Scope::EndpointsRead, Scope::EventsRead];
        let viewer = Browser::of(&harness, None, &reads).await;
        let path = endpoint_path(&own).replace("/v1/", "");
        for page in [
            "endpoints".to_owned(),
            path.clone(),
            "recoveries".to_owned(),
        ] {
            let page = viewer.get(&page).await;
            assert!(
                !page.contains("/edit") && !page.contains("endpoints/new"),
                "{page}"
            );
            assert!(!page.contains("/recover\"") && !page.contains("/secret"));
        }
        for act in [
            "/disable", "/test", "/secret", "/rotate", "/recover", "/edit", "/enable",
        ] {
            let answer = viewer.post(&format!("{path}{act}"), &[("url", url)]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{act}");
        }
        let all = [
            Scope::EndpointsRead,
            Scope::EndpointsWrite,
            Scope::EventsRead,
            Scope::EventsWrite,
        ];
        let customer = Browser::of(&harness, Some("acme"), &all).await;
        assert!(
            !customer
                .get("endpoints")
                .await
                .contains(other["id"].as_str().unwrap())
        );
        let others = endpoint_path(&other).replace("/v1/", "");
        for rest in ["", "/edit", "/recover", "/test", "/delete", "/secret"] {
            let answer = customer.ask(Method::GET, &format!("{others}{rest}"), Body::empty());
            assert_eq!(answer.await.status, StatusCode::NOT_FOUND, "{rest}");
            let fields = [("url", url), ("name", "127.0.0.1:9")];
            let answer = customer.post(&format!("{others}{rest}"), &fields).await;
            let expected = if rest.is_empty() { 405 } else { 404 };
            assert_eq!(answer.status.as_u16(), expected, "{rest}");
        }
        // What it adds is its own, whatever it says.
        let fields = [("url", url), ("tenant", "other")];
        let id = last(&customer.done("endpoints/new", &fields).await);
        let made = harness.get(&format!("/v1/endpoints/{id}")).await;
        assert_eq!(made.expect(StatusCode::OK)["tenant"], "acme");
        let left = harness
            .get(&endpoint_path(&other))
            .await
            .expect(StatusCode::OK);
        assert_eq!(left["state"], "enabled");
    });
}
