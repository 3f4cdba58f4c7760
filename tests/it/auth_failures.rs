//! Keys that are not known: what they cost the stores, and what an address that sends
//! too many of them is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use http::{Request, StatusCode};
use millrace::http::client_address::Peer;
use millrace::model::api_key;
use serde_json::json;

use crate::api_keys::expired;
use crate::support::harness::{self, ADMIN_KEY, Answer, Harness, run};
use crate::support::stores::counting;

const FAILURES_MAX: u32 = 5;
const CLIENT: &str = "203.0.113.7";

/// An instance that bears a few failures, and how often it asked the event store.
async fn instance(trusted_proxies: &[&str]) -> (Harness, Harness, Arc<AtomicUsize>) {
    let base = Harness::new().await;
    let (counted, requests) = counting(&base.app.dynamo);
    let mut config = harness::config();
    config.http.auth_failures_max = FAILURES_MAX;
    config.http.trusted_proxies = trusted_proxies
        .iter()
        .map(|net| (*net).to_owned())
        .collect();
    let instance = base.beside().dynamo(counted).config(config).build().await;
    (base, instance, requests)
}

fn unknown_key(n: u32) -> String {
    let mut random = [9; 32];
    random[..4].copy_from_slice(&n.to_be_bytes());
    api_key::format_key(random)
}

struct Client<'a> {
    harness: &'a Harness,
    peer: Peer,
    forwarded_for: &'a str,
}

impl<'a> Client<'a> {
    fn at(harness: &'a Harness, address: &str) -> Self {
        let peer = Peer::Connection(address.parse::<IpAddr>().unwrap());
        let forwarded_for = "";
        Self {
            harness,
            peer,
            forwarded_for,
        }
    }

    async fn ask(&self, path: &str, key: &str) -> Answer {
        let mut request = Request::get(path)
            .header("host", "a")
            .header("authorization", format!("Bearer {key}"))
            .extension(self.peer);
        if !self.forwarded_for.is_empty() {
            request = request.header("x-forwarded-for", self.forwarded_for);
        }
        self.harness
            .send(request.body(Body::empty()).unwrap())
            .await
    }

    /// Uses up what is borne.
    async fn fail(&self) {
        for n in 0..FAILURES_MAX {
            self.ask("/v1/events", &unknown_key(n)).await.problem(401);
        }
    }
}

#[test]
fn what_is_no_key_reaches_no_store() {
    run(async {
        let (_base, instance, requests) = instance(&[]).await;
        let key = unknown_key(1);
        for path in ["/v1/events", "/v1/projects"] {
            for text in [
                "mr_",
                "mr_nobody",
                &key[..key.len() - 1],
                &format!("{key}0"),
                &key.to_uppercase(),
                &format!("{}u", &key[..key.len() - 1]),
                &"mr_".repeat(300),
                "whsec_aGVsbG8=",
            ] {
                // None of an address that failed before.
                instance
                    .request(http::Method::GET, path, text, serde_json::Value::Null)
                    .await
                    .problem(401);
            }
        }
        assert_eq!(requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn an_address_that_guesses_costs_no_look_up_and_locks_nobody_out() {
    run(async {
        let (base, instance, requests) = instance(&[]).await;
        let client = Client::at(&instance, CLIENT);
        client
            .ask("/v1/events", &instance.key)
            .await
            .expect(StatusCode::OK);
        client.fail().await;
        requests.store(0, Ordering::Relaxed);
        for n in 100..130 {
            // Whoever is to have an admin key, too.
            let path = ["/v1/events", "/v1/projects"][n % 2];
            let refused = client
                .ask(path, &unknown_key(u32::try_from(n).unwrap()))
                .await;
            let retry_after = refused.headers["retry-after"].to_str().unwrap();
            assert!((1..=6).contains(&retry_after.parse::<u32>().unwrap()));
            assert!(refused.problem(429).starts_with("rate_limited: "));
        }
        assert_eq!(requests.load(Ordering::Relaxed), 0);
        // Known keys go on working from there, and so does one that is made meanwhile.
        client
            .ask("/v1/events", &instance.key)
            .await
            .expect(StatusCode::OK);
        client
            .ask("/v1/projects", ADMIN_KEY)
            .await
            .expect(StatusCode::OK);
        let new = instance.new_key(&instance.project, &["events:read"]).await;
        client.ask("/v1/events", &new).await.expect(StatusCode::OK);
        // What failed was this address.
        let other = Client::at(&instance, "203.0.113.8");
        other.ask("/v1/events", &unknown_key(1)).await.problem(401);
        // One of another instance's is not known here, and has to wait for its turn.
        let elsewhere = base.new_key(&base.project, &["events:read"]).await;
        client.ask("/v1/events", &elsewhere).await.problem(429);
        other
            .ask("/v1/events", &elsewhere)
            .await
            .expect(StatusCode::OK);
        client
            .ask("/v1/events", &elsewhere)
            .await
            .expect(StatusCode::OK);
    });
}

#[test]
fn a_key_that_is_revoked_is_known_no_more() {
    run(async {
        let (_base, instance, requests) = instance(&[]).await;
        let client = Client::at(&instance, CLIENT);
        let key = instance.new_key(&instance.project, &["events:read"]).await;
        client.ask("/v1/events", &key).await.expect(StatusCode::OK);
        let path = format!("/v1/projects/{}/keys", instance.project);
        let keys = instance
            .as_admin(http::Method::GET, &path, json!(null))
            .await;
        let keys = keys.expect(StatusCode::OK);
        let hint = api_key::hint(&key);
        let listed = keys["data"].as_array().unwrap().iter();
        let id = listed
            .filter(|row| row["hint"] == hint)
            .find_map(|row| row["id"].as_str());
        let path = format!("{path}/{}", id.unwrap());
        let revoked = instance
            .as_admin(http::Method::DELETE, &path, json!(null))
            .await;
        assert!(revoked.status.is_success(), "{}", revoked.json);
        client.ask("/v1/events", &key).await.problem(401);
        for n in 1..FAILURES_MAX {
            client.ask("/v1/events", &unknown_key(n)).await.problem(401);
        }
        requests.store(0, Ordering::Relaxed);
        client.ask("/v1/events", &key).await.problem(429);
        assert_eq!(requests.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_key_that_has_expired_locks_its_successor_out_of_nothing() {
    run(async {
        let (base, instance, _) = instance(&[]).await;
        let client = Client::at(&instance, CLIENT);
        let key = unknown_key(1);
        expired(&instance, &key).await;
        for _ in 0..=FAILURES_MAX {
            for path in ["/v1/events", "/v1/projects"] {
                client.ask(path, &key).await.problem(401);
            }
        }
        // Another instance's, not known here yet.
        let successor = base.new_key(&base.project, &["events:read"]).await;
        let asked = client.ask("/v1/events", &successor).await;
        asked.expect(StatusCode::OK);
    });
}

#[test]
fn behind_trusted_proxies_it_is_the_client_that_fails() {
    run(async {
        let (_base, instance, _) = instance(&["10.0.0.0/8"]).await;
        let through = |forwarded_for| Client {
            forwarded_for,
            ..Client::at(&instance, "10.0.0.1")
        };
        through("192.0.2.1, 203.0.113.7").fail().await;
        let made_up = through("192.0.2.2, 203.0.113.7");
        made_up
            .ask("/v1/events", &unknown_key(99))
            .await
            .problem(429);
        let another = through("203.0.113.7, 203.0.113.8");
        another
            .ask("/v1/events", &unknown_key(99))
            .await
            .problem(401);
        // Who is no proxy is believed nothing.
        let direct = Client {
            forwarded_for: "203.0.113.9",
            ..Client::at(&instance, CLIENT)
        };
        direct
            .ask("/v1/events", &unknown_key(99))
            .await
            .problem(429);
    });
}
