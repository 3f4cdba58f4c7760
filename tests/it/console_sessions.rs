//! Signing in to the console, what a session is good for, and how it ends.

use std::sync::atomic::Ordering;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use millrace::app;
use millrace::console::link;
use millrace::http::client_address::Peer;
use millrace::model::session::{Person, Role, Session, SessionToken};
use millrace::store::dynamo::Dynamo;
use millrace::store::sessions;
use serde_json::{Value, json};

use crate::support::browser::{Browser, hidden, location, text};
use crate::support::harness::{self, ADMIN_KEY, ALL_SCOPES, Answer, Harness, run};
use crate::support::stores::counting;

/// A page of the harness's project.
fn page_of(harness: &Harness) -> String {
    format!("/console/{}", harness.project)
}

fn is_sent_to_the_door(answer: &Answer) -> bool {
    answer.status == StatusCode::SEE_OTHER && location(answer).starts_with("/console/sign-in")
}

fn ago(time: SignedDuration) -> Timestamp {
    app::now() - time
}

/// A browser with a session that began and was seen as `change` says.
async fn with_session(harness: &Harness, change: impl FnOnce(&mut Session)) -> Browser<'_> {
    let mut session = Session::with_role(Person::Admin, Role::Admin, app::now());
    change(&mut session);
    let token = SessionToken::new(&session, harness.app.random());
    sessions::put(&harness.app.dynamo, &token, &session)
        .await
        .unwrap();
    let mut browser = Browser::new(harness);
    browser
        .cookies
        .insert("millrace".into(), token.expose().into());
    browser
}

async fn audit_log(harness: &Harness, path: &str) -> Vec<Value> {
    let entries = harness.as_admin(Method::GET, path, Value::Null).await;
    let entries = entries.expect(StatusCode::OK);
    entries["data"].as_array().unwrap().clone()
}

#[test]
fn a_key_signs_in_and_out_again() {
    run(async {
        let harness = Harness::new().await;
        let page = page_of(&harness);
        let mut browser = Browser::new(&harness);
        let sent = browser.get(&format!("{page}?a=b")).await;
        assert!(is_sent_to_the_door(&sent));
        let door = location(&sent).to_owned();
        let door = browser.get(&door).await;
        let html = text(&door);
        let next = hidden(&html, "next").unwrap();
        assert_eq!(next, format!("{page}?a=b"));

        let fields = [("key", &*harness.key), ("next", &next)];
        let signed_in = browser.sign_in(&fields).await;
        assert_eq!(
            signed_in.status,
            StatusCode::SEE_OTHER,
            "{}",
            text(&signed_in)
        );
        assert_eq!(location(&signed_in), format!("{page}?a=b&done=signed-in"));
        let cookies: Vec<_> = signed_in.headers.get_all("set-cookie").iter().collect();
        let cookie = cookies[0].to_str().unwrap();
        assert_eq!(cookies.len(), 1);
        let (value, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Lax");
        assert!(value.starts_with("millrace=mrs_"));
        assert!(!cookie.contains(&harness.key));
        let shown = browser.get(&page).await;
        assert_eq!(shown.status, StatusCode::OK);
        assert!(!text(&shown).contains(browser.token().unwrap().expose()));
        assert_eq!(shown.headers["cache-control"], "no-store");
        // The door is behind who is in.
        let door = browser.get("/console/sign-in").await;
        assert_eq!(location(&door), "/console");

        let token = browser.token().unwrap();
        let signed_out = browser.post("/console/sign-out", &[]).await;
        assert!(is_sent_to_the_door(&signed_out));
        assert!(browser.token().is_none());
        // Nor does whoever has kept the cookie come in.
        browser
            .cookies
            .insert("millrace".into(), token.expose().into());
        assert!(is_sent_to_the_door(&browser.get(&page).await));

        let path = format!("/v1/projects/{}/audit-log", harness.project);
        let entries = audit_log(&harness, &path).await;
        let of_session = |action: &str| {
            let found = entries.iter().find(|entry| entry["action"] == action);
            found.unwrap_or_else(|| panic!("{action}")).clone()
        };
        let (begun, ended) = (of_session("session.create"), of_session("session.end"));
        assert_eq!(begun["subject"], token.session_id());
        assert_eq!(ended["subject"], token.session_id());
        assert_eq!(begun["actor"], ended["actor"]);
        assert!(begun["actor"].as_str().unwrap().starts_with("key_"));
        assert_eq!(begun["after"], json!({ "signed_in_by": "api_key" }));
        for secret in [token.expose(), &harness.key] {
            assert!(!json!(entries).to_string().contains(secret));
        }
    });
}

#[test]
fn the_cookie_is_one_of_this_host_alone_unless_it_is_this_machine() {
    run(async {
        let harness = Harness::new().await;
        for (host, name, is_secure) in [
            ("localhost", "millrace", false),
            ("localhost:8080", "millrace", false),
            ("127.0.0.1:9", "millrace", false),
            ("[::1]:80", "millrace", false),
            ("console.example.com", "__Host-millrace", true),
            ("localhost.example.com", "__Host-millrace", true),
            ("127.0.0.1.example.com", "__Host-millrace", true),
            ("192.0.2.7:8080", "__Host-millrace", true),
        ] {
            let mut browser = Browser::new(&harness);
            browser.host = host;
            let signed_in = browser.sign_in(&[("key", &harness.key)]).await;
            assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{host}");
            let cookie = signed_in.headers["set-cookie"].to_str().unwrap();
            assert!(
                cookie.starts_with(&format!("{name}=mrs_")),
                "{host}: {cookie}"
            );
            assert_eq!(cookie.ends_with("; Secure"), is_secure, "{host}: {cookie}");
            let shown = browser.get(&page_of(&harness)).await;
            assert_eq!(shown.status, StatusCode::OK, "{host}");
            // The name that a page of another host could set is not looked at.
            let other = ["__Host-millrace", "millrace"]
                .into_iter()
                .find(|n| *n != name);
            let value = browser.cookies.remove(name).unwrap();
            browser.cookies.insert(other.unwrap().into(), value);
            assert!(
                is_sent_to_the_door(&browser.get(&page_of(&harness)).await),
                "{host}"
            );
        }
    });
}

#[test]
fn a_session_ends_by_itself() {
    run(async {
        let harness = Harness::new().await;
        let page = page_of(&harness);
        let second = SignedDuration::from_secs(2);
        let idle = SignedDuration::from_mins(30);
        let oldest = SignedDuration::from_hours(12);
        for (what, created, seen, is_in_force) in [
            ("fresh", SignedDuration::ZERO, SignedDuration::ZERO, true),
            ("nearly idle", idle, idle - second, true),
            ("idle", idle, idle, false),
            ("idle for long", oldest, oldest - second, false),
            ("nearly over", oldest - second, SignedDuration::ZERO, true),
            ("over", oldest, SignedDuration::ZERO, false),
        ] {
            let mut browser = with_session(&harness, |session| {
                *session = session.clone().begun_at(ago(created));
                session.last_seen = ago(seen);
            })
            .await;
            let answer = browser.get(&page).await;
            assert_eq!(answer.status == StatusCode::OK, is_in_force, "{what}");
            assert_eq!(is_sent_to_the_door(&answer), !is_in_force, "{what}");
        }
    });
}

#[test]
fn a_session_that_is_used_does_not_idle_and_is_written_once_a_minute() {
    run(async {
        let harness = Harness::new().await;
        let (dynamo, requests) = counting(&harness.app.dynamo);
        let counted = harness.beside().dynamo(dynamo.clone()).build().await;
        let minutes = SignedDuration::from_mins(29);
        let mut browser = with_session(&counted, |session| {
            *session = session.clone().begun_at(ago(minutes));
        })
        .await;
        // One that asks the event store nothing itself.
        let page = format!("/console/{}/keys", harness.project);
        assert_eq!(browser.get(&page).await.status, StatusCode::OK);
        let token = browser.token().unwrap();
        let found = async |now| sessions::find(&dynamo, &token, now).await.unwrap();
        let later = app::now() + SignedDuration::from_mins(20);
        assert!(found(later).await.is_some(), "it was seen");
        let before = requests.load(Ordering::Relaxed);
        assert_eq!(browser.get(&page).await.status, StatusCode::OK);
        // The session, and nothing written.
        assert_eq!(requests.load(Ordering::Relaxed) - before, 1);
        let late = app::now() + SignedDuration::from_mins(31);
        assert!(found(late).await.is_none());
    });
}

#[test]
fn signing_in_begins_a_new_session_and_ends_the_one_before() {
    run(async {
        let harness = Harness::new().await;
        let page = page_of(&harness);
        let mut victim = Browser::new(&harness);
        // Somebody has put a session of theirs into the browser, and one made up.
        let attacker = Browser::signed_in(&harness, &harness.key).await;
        let planted = attacker.token().unwrap();
        victim
            .cookies
            .insert("millrace".into(), planted.expose().into());
        let admin = victim.post_admin().await;
        assert_ne!(admin.expose(), planted.expose());
        let mut attacker = attacker;
        assert!(is_sent_to_the_door(&attacker.get(&page).await));
        assert_eq!(victim.get(&page).await.status, StatusCode::OK);

        let mut victim = Browser::new(&harness);
        let session = Session::with_role(Person::Admin, Role::Admin, app::now());
        let made_up = SessionToken::new(&session, [1; 32]);
        victim
            .cookies
            .insert("millrace".into(), made_up.expose().into());
        victim.post_admin().await;
        let mut attacker = Browser::new(&harness);
        attacker
            .cookies
            .insert("millrace".into(), made_up.expose().into());
        assert!(is_sent_to_the_door(&attacker.get(&page).await));
    });
}

impl Browser<'_> {
    /// Signs in with the admin key, whoever is signed in; the new token.
    async fn post_admin(&mut self) -> SessionToken {
        let mut fresh = Browser::new(self.harness);
        let door = fresh.get("/console/sign-in").await;
        self.cookies.append(&mut fresh.cookies);
        let door = hidden(&text(&door), "door").unwrap();
        let fields = [("door", &*door), ("key", ADMIN_KEY)];
        let answer = self.post_as_is("/console/sign-in", &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", text(&answer));
        self.token().unwrap()
    }
}

#[test]
fn signing_out_everywhere_ends_all_sessions_of_one_person() {
    run(async {
        let harness = Harness::new().await;
        let page = page_of(&harness);
        let other_key = harness.new_key(&harness.project, &ALL_SCOPES).await;
        let mut first = Browser::signed_in(&harness, &harness.key).await;
        let mut second = Browser::signed_in(&harness, &harness.key).await;
        let mut other = Browser::signed_in(&harness, &other_key).await;
        let token = first.token().unwrap();
        let session = sessions::find(&harness.app.dynamo, &token, app::now()).await;
        let session = session.unwrap().unwrap();
        let out = first.post("/console/sign-out-everywhere", &[]).await;
        assert!(is_sent_to_the_door(&out));
        assert!(is_sent_to_the_door(&second.get(&page).await));
        assert_eq!(other.get(&page).await.status, StatusCode::OK);
        // Whoever signs in after that is in.
        let session = session.begun_at(app::now() + SignedDuration::from_secs(1));
        let token = SessionToken::new(&session, harness.app.random());
        sessions::put(&harness.app.dynamo, &token, &session)
            .await
            .unwrap();
        let mut again = Browser::new(&harness);
        again
            .cookies
            .insert("millrace".into(), token.expose().into());
        assert_eq!(again.get(&page).await.status, StatusCode::OK);
        assert!(is_sent_to_the_door(&second.get(&page).await));
    });
}

#[test]
fn what_is_no_token_lets_nobody_in_and_is_not_looked_up() {
    run(async {
        let base = Harness::new().await;
        let (dynamo, requests) = counting(&base.app.dynamo);
        let harness = base.beside().dynamo(dynamo).build().await;
        let page = page_of(&harness);
        let browser = Browser::signed_in(&base, ADMIN_KEY).await;
        let token = browser.token().unwrap().expose().to_owned();
        let flip = |at: usize| {
            let other = if token.as_bytes()[at] == b'a' {
                "b"
            } else {
                "a"
            };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        };
        let last = token.len() - 1;
        for forged in [
            String::new(),
            "mrs_".into(),
            token[..last].to_owned(),
            token[1..].to_owned(),
            format!("{token}a"),
            format!(" {token} x"),
            token.to_uppercase(),
            harness.key.clone(),
            ADMIN_KEY.to_owned(),
            format!("mrs_{}", "é".repeat(34)),
            "a".repeat(4_000),
        ] {
            let mut thief = Browser::new(&harness);
            thief.cookies.insert("millrace".into(), forged.clone());
            let answer = thief.get(&page).await;
            assert!(is_sent_to_the_door(&answer), "{forged}: {}", answer.status);
        }
        assert_eq!(requests.load(Ordering::Relaxed), 0);
        // Of the form of a token, and not one: in the secret, and in whose it is.
        for at in [4, 30, last - 16, last] {
            let mut thief = Browser::new(&harness);
            thief.cookies.insert("millrace".into(), flip(at));
            assert!(is_sent_to_the_door(&thief.get(&page).await), "{at}");
        }
        assert_eq!(requests.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn a_session_dies_with_its_key() {
    run(async {
        let harness = Harness::new().await;
        let (page, keys) = (
            page_of(&harness),
            format!("/v1/projects/{}/keys", harness.project),
        );
        let soon = app::now() + SignedDuration::from_secs(3_600);
        for expires_at in [None, Some(soon)] {
            let body = json!({ "name": "a", "scopes": ["events:read"], "expires_at": expires_at });
            let key = harness.as_admin(Method::POST, &keys, body).await;
            let key = key.expect(StatusCode::CREATED);
            let mut browser = Browser::signed_in(&harness, key["key"].as_str().unwrap()).await;
            assert_eq!(browser.get(&page).await.status, StatusCode::OK);
            let path = format!("{keys}/{}", key["id"].as_str().unwrap());
            let revoked = harness.as_admin(Method::DELETE, &path, Value::Null).await;
            revoked.expect(StatusCode::NO_CONTENT);
            assert!(is_sent_to_the_door(&browser.get(&page).await));
            let door = browser
                .sign_in(&[("key", key["key"].as_str().unwrap())])
                .await;
            assert_eq!(door.status, StatusCode::UNAUTHORIZED);
        }
    });
}

#[test]
fn a_session_shows_no_other_project_nor_one_that_is_not_there() {
    run(async {
        let harness = Harness::new().await;
        let other = harness.new_project(&ALL_SCOPES).await;
        let nowhere = "prj_00000000000000000000000000";
        let mut of_key = Browser::signed_in(&harness, &harness.key).await;
        let mut of_admin = Browser::signed_in(&harness, ADMIN_KEY).await;
        for (project, by_key, by_admin) in [
            (&*harness.project, 200, 200),
            (&other.id, 404, 200),
            (nowhere, 404, 404),
            ("prj_", 404, 404),
            ("no-such-page", 404, 404),
        ] {
            let path = format!("/console/{project}");
            assert_eq!(of_key.get(&path).await.status.as_u16(), by_key, "{path}");
            assert_eq!(
                of_admin.get(&path).await.status.as_u16(),
                by_admin,
                "{path}"
            );
        }
    });
}

#[test]
fn a_form_of_another_session_or_site_changes_nothing() {
    run(async {
        let harness = Harness::new().await;
        let page = page_of(&harness);
        let mut browser = Browser::signed_in(&harness, &harness.key).await;
        let other = Browser::signed_in(&harness, &harness.key).await;
        let own = browser.token().unwrap().csrf_token();
        let others = other.token().unwrap().csrf_token();
        let out = "/console/sign-out";
        let no_tokens: [&[(&str, &str)]; 4] = [
            &[],
            &[("csrf", "")],
            &[("csrf", &others)],
            &[("csrf", &own[1..])],
        ];
        for fields in no_tokens {
            let answer = browser.post_as_is(out, fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{fields:?}");
        }
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "https://evil.example"),
            ("origin", "http://localhost:1"),
            ("origin", "null"),
            ("origin", ""),
        ] {
            let mut form = browser.form(out, &[("csrf", &own)]);
            form.headers_mut().insert(name, value.parse().unwrap());
            let answer = browser.send(form).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
            let mut door = browser.form("/console/sign-in", &[("key", &harness.key)]);
            door.headers_mut().insert(name, value.parse().unwrap());
            assert_eq!(browser.send(door).await.status, StatusCode::FORBIDDEN);
        }
        assert_eq!(browser.get(&page).await.status, StatusCode::OK);
        let mut form = browser.form(out, &[("csrf", &own)]);
        let headers = form.headers_mut();
        headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
        headers.insert("origin", "http://localhost".parse().unwrap());
        assert!(is_sent_to_the_door(&browser.send(form).await));
    });
}

#[test]
fn nobody_is_signed_in_by_a_form_that_their_browser_was_not_given() {
    run(async {
        let harness = Harness::new().await;
        let mut attacker = Browser::new(&harness);
        let door = attacker.get("/console/sign-in").await;
        let door = hidden(&text(&door), "door").unwrap();
        for fields in [
            vec![("key", &*harness.key)],
            vec![("door", ""), ("key", &harness.key)],
            vec![("door", &door), ("key", &harness.key)],
        ] {
            // Neither a browser that was never here nor one that has a form of its own.
            let mut victim = Browser::new(&harness);
            for _ in 0..2 {
                let answer = victim.post_as_is("/console/sign-in", &fields).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{fields:?}");
                assert!(victim.token().is_none());
                assert!(
                    !text(&answer).contains(&harness.key),
                    "a key is not shown again"
                );
                victim.get("/console/sign-in").await;
            }
        }
    });
}

#[test]
fn a_link_signs_in_once_and_looking_at_it_does_not_use_it_up() {
    run(async {
        let harness = Harness::new().await;
        let made = link::make(&harness.app.dynamo, harness.app.random())
            .await
            .unwrap();
        let (_, token) = made.path.split_once("token=").unwrap();
        let mut browser = Browser::new(&harness);
        for _ in 0..3 {
            let door = browser.get(&made.path).await;
            assert_eq!(door.status, StatusCode::OK);
            assert_eq!(hidden(&text(&door), "token").unwrap(), token);
        }
        let fields = [("token", token), ("next", "/console/prj_1?a=b")];
        let signed_in = browser.sign_in(&fields).await;
        assert_eq!(location(&signed_in), "/console/prj_1?a=b&done=signed-in");
        assert_eq!(browser.get(&page_of(&harness)).await.status, StatusCode::OK);

        let mut second = Browser::new(&harness);
        let refused = second.sign_in(&fields).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert!(text(&refused).contains("the link was used"));
        assert!(second.token().is_none());
        let hash = millrace::model::session::link_hash(token);
        let again = sessions::take_link(&harness.app.dynamo, &hash, app::now()).await;
        assert!(again.unwrap().is_none());

        let made = link::make(&harness.app.dynamo, harness.app.random())
            .await
            .unwrap();
        let (_, token) = made.path.split_once("token=").unwrap();
        let hash = millrace::model::session::link_hash(token);
        let take = async |at| sessions::take_link(&harness.app.dynamo, &hash, at).await;
        assert!(take(made.ends).await.unwrap().is_none(), "its hour is over");
        assert!(take(app::now()).await.unwrap().is_some());
        for forged in ["", "mrl_", &token[1..], &format!("{token}0"), "<script>"] {
            let refused = second.sign_in(&[("token", forged)]).await;
            let expected = if forged.is_empty() { 400 } else { 401 };
            assert_eq!(refused.status.as_u16(), expected, "{forged}");
        }
    });
}

#[test]
fn two_who_follow_a_link_at_once_are_one_too_many() {
    run(async {
        let harness = Harness::new().await;
        let made = link::make(&harness.app.dynamo, harness.app.random())
            .await
            .unwrap();
        let (_, token) = made.path.split_once("token=").unwrap();
        let follow = async || {
            Browser::new(&harness)
                .sign_in(&[("token", token)])
                .await
                .status
        };
        let answers = futures_util::future::join_all((0..8).map(|_| follow())).await;
        let signed_in = answers
            .iter()
            .filter(|s| **s == StatusCode::SEE_OTHER)
            .count();
        assert_eq!(signed_in, 1, "{answers:?}");
    });
}

#[test]
fn a_link_is_given_for_the_admin_key_alone() {
    run(async {
        let harness = Harness::new().await;
        let ask = async |key: &str| {
            harness
                .request(Method::POST, link::PATH, key, Value::Null)
                .await
        };
        for (key, status) in [("", 401), ("mradmin_wrong", 401), (&*harness.key, 403)] {
            ask(key).await.problem(status);
        }
        let made = ask(ADMIN_KEY).await.expect(StatusCode::OK);
        let (_, token) = made["path"].as_str().unwrap().split_once("token=").unwrap();
        let signed_in = Browser::new(&harness).sign_in(&[("token", token)]).await;
        assert_eq!(signed_in.status, StatusCode::SEE_OTHER);
        let entries = audit_log(&harness, "/v1/admin/audit-log?limit=100").await;
        let of_link = entries.iter().find(|entry| {
            entry["action"] == "session.create" && entry["after"]["signed_in_by"] == "link"
        });
        assert_eq!(of_link.unwrap()["actor"], "admin");
    });
}

#[test]
fn whoever_guesses_keys_is_refused_and_whoever_has_one_is_not() {
    run(async {
        let base = Harness::new().await;
        let mut config = harness::config();
        config.http.auth_failures_max = 3;
        let harness = base.beside().config(config).build().await;
        let browser = || {
            let mut browser = Browser::new(&harness);
            browser.peer = Some(Peer::Connection([203, 0, 113, 9].into()));
            browser
        };
        let mut guesser = browser();
        let unknown = |n: u8| millrace::model::api_key::format_key([n; 32]);
        for n in 0..3 {
            let fields: [(&str, &str); 1] = match n {
                0 => [("key", &unknown(n))],
                1 => [("key", "not a key")],
                _ => [("token", &millrace::model::session::format_link([n; 32]))],
            };
            let refused = guesser.sign_in(&fields).await;
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{n}");
            assert!(
                !text(&refused).contains(fields[0].1),
                "what was sent is not shown"
            );
        }
        let limited = guesser.sign_in(&[("key", &unknown(7))]).await;
        assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(
            limited.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u32>()
                .is_ok()
        );
        let limited = guesser.sign_in(&[("key", "wrong")]).await;
        assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            guesser.sign_in(&[("key", ADMIN_KEY)]).await.status,
            StatusCode::SEE_OTHER
        );
        let mut known = Browser::new(&harness);
        known.sign_in(&[("key", &harness.key)]).await;
        let mut known = browser();
        assert_eq!(
            known.sign_in(&[("key", &harness.key)]).await.status,
            StatusCode::SEE_OTHER
        );
        let entries = audit_log(&harness, "/v1/admin/audit-log?limit=100").await;
        let refused = |entry: &Value| {
            entry["action"] == "admin.refuse"
                && entry["after"]["latest_route"] == "/console/sign-in"
        };
        assert!(entries.iter().any(refused), "{entries:?}");
    });
}

#[test]
fn without_the_store_of_sessions_the_door_says_so() {
    run(async {
        let base = Harness::new().await;
        let mut known = Browser::signed_in(&base, &base.key).await;
        let endpoint = "http://127.0.0.1:1";
        let config = base.app.dynamo.client.config().to_builder();
        let config = config.endpoint_url(endpoint).build();
        let elsewhere = Dynamo::new(config, "there_is_no_such_table");
        let cut_off = base.beside().dynamo(elsewhere).build().await;
        let mut browser = Browser::new(&cut_off);
        assert_eq!(browser.get("/console/sign-in").await.status, StatusCode::OK);
        let refused = browser.sign_in(&[("key", ADMIN_KEY)]).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text(&refused).contains("the store of the sessions does not answer"));
        known.harness = &cut_off;
        let page = known.get(&page_of(&base)).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text(&page).contains("the store of the sessions does not answer"));
        let request = Request::get("/health").body(Body::empty()).unwrap();
        assert_eq!(cut_off.send(request).await.status, StatusCode::OK);
        // PostgreSQL is not needed: only the entry of the audit log is missing.
        let no_log = base.beside().without_postgres().build().await;
        let mut browser = Browser::signed_in(&no_log, &base.key).await;
        assert_eq!(browser.get(&page_of(&base)).await.status, StatusCode::OK);
    });
}
