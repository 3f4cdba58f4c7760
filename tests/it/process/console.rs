//! The links into the console that a start and `millrace console` print.

use http::StatusCode;
use http::header::{COOKIE, SET_COOKIE};
use serde_json::Value;

use crate::support::binary::{Served, link_token, run_to_end};
use crate::support::harness::run;

/// The status of signing in with the link of that `token`, by a browser.
async fn follow(served: &Served, token: &str) -> u16 {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = client.build_http::<http_body_util::Full<bytes::Bytes>>();
    let url = format!("{}/console/sign-in", served.url);
    let door = http::Request::get(&url).body(Default::default()).unwrap();
    let door = client.request(door).await.unwrap();
    let cookie = door.headers()[SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let secret = cookie.split_once('=').unwrap().1;
    let form = format!("door={secret}&token={token}");
    let form = http::Request::post(&url)
        .header(COOKIE, &cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into())
        .unwrap();
    client.request(form).await.unwrap().status().as_u16()
}

#[test]
fn a_link_into_the_console_is_printed_at_the_start_and_on_demand() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let served = Served::start(&dir.path().join("data"), &[]);
        let first = link_token(&served.greeting).unwrap();
        let printed = run_to_end(dir.path(), &["console"], &[]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        let second = link_token(&printed.stdout).unwrap();
        let expected = format!("{}/console/sign-in?token={second}\n", served.url);
        assert_eq!(printed.stdout, expected);
        for token in [first, second] {
            assert_eq!(follow(&served, &token).await, 303);
            assert_eq!(follow(&served, &token).await, 401, "it works once");
            let logged = served.output();
            let logged = logged.lines().filter(|line| line.starts_with('{'));
            assert!(logged.into_iter().all(|line| !line.contains(&token)));
        }
        let other = [(
            "MILLRACE_ADMIN_KEY",
            "mradmin_0123456789abcdefghijklmnopqrstuv",
        )];
        // The key that the running one made lies in the data directory.
        assert_eq!(run_to_end(dir.path(), &["console"], &other).code, Some(0));
        let path = "/health";
        let up = served
            .request(http::Method::GET, path, "", Value::Null)
            .await;
        assert_eq!(up.unwrap().0, StatusCode::OK);
    });
}

#[test]
fn without_a_server_there_is_no_link() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let refused = run_to_end(dir.path(), &["console"], &[]);
        assert_eq!(refused.code, Some(1));
        assert!(
            refused.stderr.contains("no Millrace serves on"),
            "{}",
            refused.stderr
        );
        assert!(!dir.path().join("data").exists());
    });
}
