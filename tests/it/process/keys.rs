//! `millrace keys create`, whether or not a server has the data directory open.

use std::path::Path;

use http::{Method, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::binary::{Ended, Served, first_key, run_to_end};
use crate::support::harness::run;

fn create(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ended {
    run_to_end(dir, &[&["keys", "create"], args].concat(), env)
}

/// The key, of a command that prints nothing else.
fn made(ended: Ended) -> String {
    assert_eq!((ended.code, &*errors(&ended)), (Some(0), ""));
    let key = ended.stdout.strip_suffix('\n').unwrap();
    assert!(key.starts_with("mr_") && !key.contains(char::is_whitespace));
    assert!(!ended.stderr.contains(key), "no key is in a log");
    key.to_owned()
}

/// What it wrote to stderr beside its log.
fn errors(ended: &Ended) -> String {
    let lines = ended.stderr.split_inclusive('\n');
    lines.filter(|line| !line.starts_with('{')).collect()
}

fn refused(dir: &Path, ended: Ended) -> String {
    assert_ne!((ended.code, &*ended.stdout), (Some(0), ""));
    let mut said = errors(&ended).replace(&dir.display().to_string(), "<dir>");
    for (begin, end) in [("(pid ", ")"), ("(prj_", ")")] {
        let parts: Vec<_> = said.split(begin).map(str::to_owned).collect();
        said = parts[0].clone();
        for part in &parts[1..] {
            let (_, after) = part.split_once(end).unwrap();
            said += &format!("{begin}…{end}{after}");
        }
    }
    format!("exit code {}\n{said}", ended.code.unwrap())
}

async fn publish(served: &Served, key: &str) -> StatusCode {
    let event = json!({ "type": "a" });
    let published = served.request(Method::POST, "/v1/events", key, event);
    published.await.unwrap().0
}

#[test]
fn a_server_that_runs_is_asked_where_it_listens() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // Its port is in no configuration that the command sees.
        let served = Served::start(&data, &[]);
        let first = first_key(&served.greeting).unwrap();
        let key = made(create(dir.path(), &[], &[]));
        assert_ne!(key, first);
        assert_eq!(publish(&served, &key).await, StatusCode::ACCEPTED);
        let args = ["--name", "reader", "--scopes", "events:read,endpoints:read"];
        let reader = made(create(dir.path(), &args, &[]));
        assert_eq!(publish(&served, &reader).await, StatusCode::FORBIDDEN);
        let read = served.request(Method::GET, "/v1/endpoints", &reader, Value::Null);
        assert_eq!(read.await.unwrap().0, StatusCode::OK);

        let admin = std::fs::read_to_string(data.join("admin_key")).unwrap();
        let project = json!({ "name": "staging" });
        let project = served.request(Method::POST, "/v1/projects", &admin, project);
        let project = project.await.unwrap().1["id"].as_str().unwrap().to_owned();
        assert_snapshot!(refused(dir.path(), create(dir.path(), &[], &[])), @"
        exit code 1
        millrace: --project: expected one of the projects there are: default (prj_…), staging (prj_…)
        ");
        let unknown = create(dir.path(), &["--project", "prod"], &[]);
        assert_snapshot!(refused(dir.path(), unknown), @r#"
        exit code 1
        millrace: --project: there is no project "prod"; there are default (prj_…), staging (prj_…)
        "#);
        let of = |project: &str| {
            let args = ["--project", project, "--name", "other"];
            made(create(dir.path(), &args, &[]))
        };
        of("staging");
        of(&project);
        let keys = format!("/v1/projects/{project}/keys");
        let keys = served.request(Method::GET, &keys, &admin, Value::Null);
        let keys = keys.await.unwrap().1["data"].as_array().unwrap().clone();
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| key["name"] == "other"));

        drop(served);
        // Killed, it has left its address behind; so have its stores their projects.
        assert_snapshot!(refused(dir.path(), create(dir.path(), &[], &[])), @"
        exit code 1
        millrace: --project: expected one of the projects there are: default (prj_…), staging (prj_…)
        ");
        let key = of("default");
        let served = Served::start(&data, &[]);
        assert_eq!(publish(&served, &key).await, StatusCode::ACCEPTED);
        assert_eq!(publish(&served, &first).await, StatusCode::ACCEPTED);
    });
}

#[test]
fn a_stored_admin_key_that_is_not_used_stops_nothing() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let admin = ("MILLRACE_ADMIN_KEY", "0123456789abcdef0123456789abcdef");
        for held in [&b""[..], b"\xff\xfe"] {
            std::fs::create_dir_all(&data).unwrap();
            std::fs::write(data.join("admin_key"), held).unwrap();
            let served = Served::start(&data, &[admin]);
            assert!(
                !served.greeting.contains("admin_key"),
                "{}",
                served.greeting
            );
            let key = made(create(dir.path(), &[], &[admin]));
            assert_eq!(publish(&served, &key).await, StatusCode::ACCEPTED);
            drop(served);
            made(create(dir.path(), &[], &[admin]));
        }
        // One in a secret is not known to be another.
        std::fs::write(data.join("admin_key"), "mradmin_stored").unwrap();
        let arn = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:admin";
        let served = Served::start(&data, &[("MILLRACE_ADMIN_KEY_SECRET_ARN", arn)]);
        assert!(
            !served.greeting.contains("admin key is that"),
            "{}",
            served.greeting
        );
        drop(served);
        let served = Served::start(&data, &[admin]);
        assert!(
            served.greeting.contains("admin key is that"),
            "{}",
            served.greeting
        );
    });
}

#[test]
fn without_a_server_the_stores_are_made_or_opened() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let one = made(create(dir.path(), &[], &[]));
        let other = made(create(dir.path(), &["--project", "default"], &[]));
        let served = Served::start(&dir.path().join("data"), &[]);
        assert_eq!(first_key(&served.greeting), None, "there is a key");
        for key in [one, other] {
            assert_eq!(publish(&served, &key).await, StatusCode::ACCEPTED);
        }
    });
}

#[test]
fn a_key_that_ends_and_is_for_one_tenant_is_made_with_a_server_and_without() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--tenant", "acme", "--expires-at", "2999-01-31T12:00:00Z"];
        let mut keys = vec![made(create(dir.path(), &args, &[]))];
        let data = dir.path().join("data");
        let served = Served::start(&data, &[]);
        keys.push(made(create(dir.path(), &args, &[])));
        for key in &keys {
            let publish = async |event: Value| {
                let published = served.request(Method::POST, "/v1/events", key, event);
                published.await.unwrap().0
            };
            let own = json!({ "type": "a", "tenant": "acme" });
            assert_eq!(publish(own).await, StatusCode::ACCEPTED);
            let others = json!({ "type": "a", "tenant": "brill" });
            assert_eq!(publish(others).await, StatusCode::FORBIDDEN);
        }
        let admin = std::fs::read_to_string(data.join("admin_key")).unwrap();
        let projects = served.request(Method::GET, "/v1/projects", &admin, Value::Null);
        let projects = projects.await.unwrap().1;
        let path = format!(
            "/v1/projects/{}/keys",
            projects["data"][0]["id"].as_str().unwrap()
        );
        let listed = served
            .request(Method::GET, &path, &admin, Value::Null)
            .await;
        let listed = listed.unwrap().1["data"].as_array().unwrap().clone();
        assert_eq!(listed.len(), 2);
        for key in listed {
            assert_eq!(key["expires_at"], "2999-01-31T12:00:00.000Z");
            assert_eq!(key["tenant"], "acme");
        }
    });
}

#[test]
fn several_at_once_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let path = dir.path();
        let begun: Vec<_> = (0..3)
            .map(|_| scope.spawn(move || made(create(path, &[], &[]))))
            .collect();
        let ended = begun.into_iter().map(|one| one.join().unwrap());
        ended.collect()
    });
    assert_ne!(keys[0], keys[1]);
    assert_ne!(keys[1], keys[2]);
}

#[test]
fn what_it_cannot_do_is_said_with_the_way_out() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let refused = |args: &[&str]| refused(dir.path(), create(dir.path(), args, &[]));
        assert_snapshot!(refused(&["--scopes", "events:write,nope"]), @"
        exit code 2
        error: invalid value 'nope' for '--scopes <SCOPES>': expected any of events:write, events:read, endpoints:write, endpoints:read, meters:write, meters:read

        For more information, try '--help'.
        ");
        assert_snapshot!(refused(&["--name", ""]), @"
        exit code 1
        millrace: --name: expected 1 to 100 characters, none of them a control
        ");
        assert_snapshot!(refused(&["--expires-at", "1999-01-31T12:00:00Z"]), @"
        exit code 1
        millrace: --expires-at: expected a time in the future
        ");
        assert_snapshot!(refused(&["--expires-at", "soon"]), @"
        exit code 2
        error: invalid value 'soon' for '--expires-at <TIME>': expected a time in RFC 3339, such as 2030-01-31T12:00:00Z

        For more information, try '--help'.
        ");
        let tenant = refused(&["--tenant", ""]);
        assert!(tenant.starts_with("exit code 1\nmillrace: --tenant: expected a string of 1"));
        assert!(!data.exists(), "nothing is made for what is refused");

        let admin = ("MILLRACE_ADMIN_KEY", "0123456789abcdef0123456789abcdef");
        let served = Served::start(&data, &[admin]);
        assert_snapshot!(refused(&[]), @"
        exit code 1
        millrace: data_dir: <dir>/data is in use by another Millrace (pid …), with another admin key than this configuration's; set MILLRACE_ADMIN_KEY as for that one
        ");
        let key = made(create(dir.path(), &[], &[admin]));
        assert_eq!(publish(&served, &key).await, StatusCode::ACCEPTED);
        drop(served);
        let _worker = Served::start(&data, &[admin, ("MILLRACE_HANDLERS", "deliver")]);
        let asked = create(dir.path(), &[], &[admin]);
        assert_snapshot!(super::keys::refused(dir.path(), asked), @"
        exit code 1
        millrace: data_dir: <dir>/data is in use by another Millrace (pid …), which does not serve the API; see its `handlers`
        ");
    });
}
