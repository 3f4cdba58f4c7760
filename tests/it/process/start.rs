//! Starts of the program: the first one, and those on what it cannot use; and the
//! commands that end by themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::binary::{ANY_PORT, Served, first_key, link_token, run_to_end};
use crate::support::harness::run;
use crate::support::receiver::{Receiver, Reply};

/// How a command that must fail failed: the exit code, and stderr without what
/// differs from run to run.
fn refusal(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    let ended = run_to_end(dir, args, env);
    let mut said = ended.stderr.replace(&dir.display().to_string(), "<dir>");
    if let Some((before, after)) = said.split_once("(pid ") {
        let (_, after) = after.split_once(')').unwrap();
        said = format!("{before}(pid <pid>){after}");
    }
    format!("exit code {}\n{said}", ended.code.unwrap())
}

/// Every file below `dir` with its length, but for those of a running process
/// and those that opening the event store may remove.
fn listing(dir: &Path) -> BTreeSet<(PathBuf, u64)> {
    const CHANGING: [&str; 5] = ["lock", "open", "postmaster.pid", "shm", "dynamodb.sqlite"];
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if CHANGING.iter().any(|c| name.starts_with(c)) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        } else {
            found.insert((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found
}

#[test]
fn a_first_start_says_all_once_and_data_is_kept() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut served = Served::start(&data, &[]);
        let key = first_key(&served.greeting).unwrap();
        let (_, project) = served.greeting.split_once("(prj_").unwrap();
        let project = format!("prj_{}", project.split_once(')').unwrap().0);
        let greeting = served
            .greeting
            .replace(&served.url, "<url>")
            .replace(&key, "<key>")
            .replace(&project, "<project>")
            .replace(&link_token(&served.greeting).unwrap(), "<token>")
            .replace(&dir.path().display().to_string(), "<dir>");
        let greeting: Vec<_> = greeting.lines().filter(|l| !l.starts_with('{')).collect();
        assert_snapshot!(greeting.join("\n"), @r#"

        Millrace is up at <url>  (API documentation: <url>/docs)
        Console: <url>/console/sign-in?token=<token>  (signs in once, within an hour)
        Data lies in <dir>/data
        API keys: millrace keys create

        Project "default" (<project>) has an API key. It is in the file

          <dir>/data/first-api-key

          export MILLRACE_KEY=$(cat <dir>/data/first-api-key)

        Publish an event:

          curl <url>/v1/events -H "Authorization: Bearer $(cat <dir>/data/first-api-key)" \
            -H 'Content-Type: application/json' \
            -d '{"type": "hello.world", "data": {"name": "Ada"}}'

        The admin key, which creates projects and keys, is in <dir>/data/admin_key
        "#);
        assert!(!served.output().contains(&key), "no key is in a log");
        let id = paste_curl(&served, &key).await;

        let in_use = [("MILLRACE_HTTP__LISTEN", &served.url["http://".len()..])];
        let other = tempfile::tempdir().unwrap();
        let refused = refusal(other.path(), &["serve"], &in_use);
        let port = in_use[0].1;
        assert_snapshot!(refused.replace(port, "<address>"), @"
        exit code 1
        millrace: http.listen: <address> is in use by another program; stop it or set MILLRACE_HTTP__LISTEN
        ");
        assert!(
            !other.path().join("data").exists(),
            "it begins with the port"
        );
        assert_snapshot!(refusal(dir.path(), &["serve"], &[ANY_PORT]), @"
        exit code 1
        millrace: data_dir: <dir>/data is in use by another Millrace (pid <pid>); stop it or set MILLRACE_DATA_DIR
        ");
        let doctor = run_to_end(dir.path(), &["doctor"], &in_use);
        let (before, after) = doctor.stdout.split_once("(pid ").unwrap();
        let (_, after) = after.split_once(')').unwrap();
        assert_snapshot!(format!("{before}(pid <pid>){after}"), @"
        ok    configuration: 6 handlers
        ok    data directory: in use by another Millrace (pid <pid>)
        ok    stores: ready, says that one
        ");
        assert_eq!(doctor.code, Some(0));

        let begun = Instant::now();
        served.signal("TERM");
        assert_eq!(served.wait(Duration::from_secs(10)), Some(0));
        let took = begun.elapsed();
        println!("an idle process stops in {took:?}");
        // Well below a second on a machine that does nothing else.
        assert!(took < Duration::from_secs(5), "{took:?}");

        let begun = Instant::now();
        let served = Served::start(&data, &[]);
        println!("with existing data it starts in {:?}", begun.elapsed());
        assert_eq!(first_key(&served.greeting), None, "a key is told of once");
        let path = format!("/v1/events/{id}");
        let kept = served.request(Method::GET, &path, &key, Value::Null).await;
        let (status, kept) = kept.unwrap();
        assert_eq!(status, StatusCode::OK, "{kept}");
        assert_eq!(kept["event"]["data"]["name"], "Ada");
        drop(served);

        let doctor = run_to_end(dir.path(), &["doctor"], &[("MILLRACE_LOG__LEVEL", "off")]);
        assert_snapshot!(doctor.stdout, @"
        ok    configuration: 6 handlers
        ok    data directory and secrets
        ok    control-plane database
        ok    migrations
        ok    event store
        ok    table
        ok    keys and endpoints in the event store
        ");
        assert_eq!(doctor.code, Some(0));
        damaged_data_is_named_and_left_alone(dir.path());
    });
}

/// Does what the greeting says, with the program it names if that is here; the
/// event's id.
#[expect(clippy::print_stdout, reason = "a test says what it leaves out")]
async fn paste_curl(served: &Served, key: &str) -> String {
    let (_, curl) = served.greeting.split_once("Publish an event:\n\n").unwrap();
    let (curl, _) = curl.split_once("\n\n").unwrap();
    let pasted = std::process::Command::new("sh").args(["-c", curl]).output();
    let pasted = pasted.unwrap();
    let answer = match pasted.status.code() {
        Some(127) => {
            println!("curl is not installed: its line is not tried");
            let body = json!({ "type": "hello.world", "data": { "name": "Ada" } });
            let sent = served.request(Method::POST, "/v1/events", key, body);
            sent.await.unwrap().1
        }
        _ => serde_json::from_slice(&pasted.stdout).unwrap(),
    };
    assert_eq!(answer["duplicate"], false, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

fn damaged_data_is_named_and_left_alone(dir: &Path) {
    let damaged = |name: &str, damage: &dyn Fn(&Path)| {
        let path = dir.join("data").join(name);
        let whole = std::fs::read(&path).unwrap();
        damage(&path);
        let (content, before) = (std::fs::read(&path).ok(), listing(dir));
        let said = refusal(dir, &["serve"], &[ANY_PORT]);
        assert!(std::fs::read(&path).ok() == content, "{name} changed");
        let after = listing(dir);
        let changed: Vec<_> = after.symmetric_difference(&before).collect();
        assert!(changed.is_empty(), "{name}: {changed:?}");
        std::fs::write(&path, whole).unwrap();
        said
    };
    let garbage = |path: &Path| std::fs::write(path, "garbage".repeat(1000)).unwrap();
    let empty = |path: &Path| std::fs::write(path, "").unwrap();
    let newer = |path: &Path| std::fs::write(path, "2").unwrap();
    let missing = |path: &Path| std::fs::remove_file(path).unwrap();
    assert_snapshot!(damaged("dynamodb.sqlite", &garbage), @"
    exit code 1
    millrace: data_dir: cannot read <dir>/data/dynamodb.sqlite; restore it from a backup or move it away to begin anew: it is no SQLite database
    ");
    let cluster = "postgres/tmp/pglite/base";
    assert_snapshot!(damaged(&format!("{cluster}/PG_VERSION"), &missing), @"
    exit code 1
    millrace: data_dir: cannot read <dir>/data/postgres; restore it from a backup or move it away to begin anew: PG_VERSION is missing
    ");
    assert_snapshot!(damaged(&format!("{cluster}/PG_VERSION"), &garbage), @r#"
    exit code 1
    millrace: data_dir: cannot read <dir>/data/postgres; restore it from a backup or move it away to begin anew: "/base" is not a valid data directory: File "/base/PG_VERSION" does not contain valid data.
    "#);
    assert_snapshot!(damaged("format", &newer), @r#"
    exit code 1
    millrace: data_dir: <dir>/data has format "2" and this version reads "1"; run the version that wrote it or set MILLRACE_DATA_DIR
    "#);
    assert_snapshot!(damaged("admin_key", &empty), @"
    exit code 1
    millrace: data_dir: cannot read <dir>/data/admin_key; restore it from a backup or move it away to begin anew: it is empty
    ");
    assert_snapshot!(damaged("key_ring.json", &garbage), @"
    exit code 1
    millrace: data_dir: cannot read <dir>/data/key_ring.json; restore it from a backup: expected JSON, found a syntax error at line 1, column 1
    ");
    assert_snapshot!(damaged("key_ring.json", &missing), @"
    exit code 1
    millrace: data_dir: <dir>/data/key_ring.json is missing, and the secrets in dynamodb.sqlite can be read with no other; restore it from a backup or set MILLRACE_DATA_DIR to begin anew
    ");
    let well = run_to_end(dir, &["doctor"], &[]);
    assert_eq!(well.code, Some(0), "{}", well.stdout);
}

/// Configured with stores that are not there.
const NOWHERE: &[(&str, &str)] = &[
    ANY_PORT,
    ("MILLRACE_LOG__LEVEL", "off"),
    // Port 1 is reserved and refuses at once.
    (
        "MILLRACE_DATABASE__URL",
        "postgresql://u:hunter2@127.0.0.1:1/m?sslmode=disable",
    ),
    ("MILLRACE_DYNAMODB__ENDPOINT_URL", "http://127.0.0.1:1"),
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "test"),
];

#[test]
fn stores_that_do_not_answer_are_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    assert_snapshot!(refusal(dir.path(), &["serve"], NOWHERE), @"
    exit code 1
    millrace: database.url: the control-plane database cannot be migrated; check MILLRACE_DATABASE__URL and that it is running: error connecting to server: Connection refused (os error 111)
    ");
    assert_snapshot!(refusal(dir.path(), &["migrate"], NOWHERE), @"
    exit code 1
    millrace: database.url: the control-plane database cannot be migrated; check MILLRACE_DATABASE__URL and that it is running: error connecting to server: Connection refused (os error 111)
    ");
    let doctor = run_to_end(dir.path(), &["doctor"], NOWHERE);
    assert_snapshot!(doctor.stdout, @"
    ok    configuration: 6 handlers
    WRONG control-plane database: error connecting to server: Connection refused (os error 111)
          fix: check MILLRACE_DATABASE__URL and that the database is running
    ?     migrations: not checked, as the store does not answer
    WRONG event store: describing the DynamoDB table: dispatch failure: io error: client error (Connect): connection refused
          fix: check MILLRACE_DYNAMODB__TABLE, MILLRACE_AWS__ENDPOINT_URL and the credentials
    ?     table: not checked, as the store does not answer
    ?     keys and endpoints in the event store: not checked, because of the above
    ?     clock: not checked, as the database does not answer
    ");
    assert_eq!(doctor.code, Some(1));
}

#[test]
fn a_task_on_ecs_signs_as_its_role() {
    run(async {
        let role = json!({
            "AccessKeyId": "AKIDOFTHEROLE",
            "SecretAccessKey": "secret",
            "Token": "token of the role",
            "Expiration": "2999-01-01T00:00:00Z",
        });
        let role = Reply::With {
            status: 200,
            header: ("content-type", "application/json"),
            body: role.to_string(),
        };
        let aws = Receiver::start([role]).await;
        let (credentials, endpoint) = (aws.url.clone(), aws.url.replace("/hook", ""));
        let ended = tokio::task::spawn_blocking(move || {
            let dir = tempfile::tempdir().unwrap();
            let mut env = NOWHERE.to_vec();
            env.retain(|(name, _)| !name.starts_with("AWS_"));
            env.push(("MILLRACE_DYNAMODB__ENDPOINT_URL", &endpoint));
            env.push(("AWS_CONTAINER_CREDENTIALS_FULL_URI", &credentials));
            run_to_end(dir.path(), &["doctor"], &env)
        });
        assert_eq!(ended.await.unwrap().code, Some(1));
        let received = aws.received();
        assert_eq!(received[0].path, "/hook");
        let (signature, token) = ("authorization", "x-amz-security-token");
        assert!(received.len() > 1, "{received:?}");
        for asked in &received[1..] {
            let signed = asked.header(signature);
            assert!(signed.contains("Credential=AKIDOFTHEROLE/"), "{signed}");
            assert_eq!(asked.header(token), "token of the role");
        }
    });
}

#[test]
fn doctor_makes_nothing_and_finds_what_migrate_makes_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let quiet = [("MILLRACE_LOG__LEVEL", "off")];
    let doctor = run_to_end(dir.path(), &["doctor"], &quiet);
    assert_snapshot!(doctor.stdout, @"
    ok    configuration: 6 handlers
    ok    data directory: not there yet; the first start makes it and the stores in it
    ");
    assert_eq!(doctor.code, Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let migrated = run_to_end(dir.path(), &["migrate"], &quiet);
    assert_snapshot!(migrated.stdout, @"both stores are up to date");
    let doctor = run_to_end(dir.path(), &["doctor"], &quiet);
    assert_eq!(doctor.code, Some(0), "{}", doctor.stdout);
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        std::fs::write(dir.path().join("millrace.toml"), text).unwrap();
        let said = refusal(dir.path(), &[], &[]);
        std::fs::remove_file(dir.path().join("millrace.toml")).unwrap();
        said
    };
    let env = |name: &str, value: &str| refusal(dir.path(), &[], &[(name, value)]);
    assert_snapshot!(file("[http]\nlisten_adress = \"127.0.0.1:8080\""), @"
    exit code 1
    millrace: configuration:
      http.listen_adress: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
    ");
    assert_snapshot!(env("MILLRACE_HTTP__LISTN", "127.0.0.1:8080"), @"
    exit code 1
    millrace: configuration:
      MILLRACE_HTTP__LISTN: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
    ");
    assert_snapshot!(env("MILLRACE_HTTP__LISTEN", "localhost:8080"), @r#"
    exit code 1
    millrace: configuration:
      http.listen (MILLRACE_HTTP__LISTEN): a string of 14 characters given, expected an IP address, not a name: 127.0.0.1:8080
    "#);
    assert_snapshot!(env("MILLRACE_HTTP__LISTEN", "192.0.2.1:8080"), @"
    exit code 1
    millrace: http.listen: 192.0.2.1:8080 is no address of this machine; set MILLRACE_HTTP__LISTEN
    ");
    assert_snapshot!(file("retention_days = \"a month\"\n[delivery]\nretry_jitter = 2"), @r#"
    exit code 1
    millrace: configuration:
      retention_days (MILLRACE_RETENTION_DAYS): a string of 7 characters given in millrace.toml, expected a whole number, not negative
    "#);
    assert_snapshot!(file("[http\nlisten = 1"), @"
    exit code 1
    millrace: configuration:
      millrace.toml, line 1: invalid table header, expected `.`, `]`
    ");
    assert_snapshot!(env("MILLRACE_DATABASE__URL", "mysql://u:hunter2@db/m"), @"
    exit code 1
    millrace: configuration:
      database.url (MILLRACE_DATABASE__URL): expected a URL such as postgresql://user:password@host:5432/database
    ");
    assert_snapshot!(refusal(dir.path(), &["--config", "no.toml"], &[]), @"
    exit code 1
    millrace: configuration:
      cannot read no.toml: No such file or directory (os error 2)
    ");
    assert_snapshot!(env("MILLRACE_DATA_DIR", "/dev/null/data"), @"
    exit code 1
    millrace: data_dir: cannot create /dev/null/data; set MILLRACE_DATA_DIR to a writable place: Not a directory (os error 20)
    ");
    assert_snapshot!(refusal(dir.path(), &["serv"], &[]), @"
    exit code 2
    error: unrecognized subcommand 'serv'

      tip: a similar subcommand exists: 'serve'

    Usage: millrace [OPTIONS] [COMMAND]

    For more information, try '--help'.
    ");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn config_and_openapi_print_and_touch_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    let env = [
        ("MILLRACE_ADMIN_KEY", secret),
        ("MILLRACE_DATABASE__URL", "postgresql://u:hunter2@db/m"),
    ];
    let config = run_to_end(dir.path(), &["config"], &env);
    assert_eq!(config.code, Some(0), "{}", config.stderr);
    assert!(!config.stdout.contains(secret) && !config.stdout.contains("hunter2"));
    let lines: Vec<_> = config
        .stdout
        .lines()
        .filter(|l| l.contains("***"))
        .collect();
    assert_snapshot!(lines.join("\n"), @r#"
    admin_key = "***"
    url = "postgresql://u:***@db/m"
    "#);

    let openapi = run_to_end(dir.path(), &["openapi"], &[]);
    let document: Value = serde_json::from_str(&openapi.stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/v1/events"]["post"].is_object());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
