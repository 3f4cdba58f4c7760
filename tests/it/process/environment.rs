//! The environment that the program is started in: what is configuration, what is
//! for others, and what is neither.

use insta::assert_snapshot;

use crate::support::binary::{ANY_PORT, Served, run_to_end};
use crate::support::harness::run;

/// What clients of the API, its examples and its tests set.
const CLIENTS: [(&str, &str); 3] = [
    ("MILLRACE_URL", "http://127.0.0.1:8080"),
    ("MILLRACE_KEY", "mr_01"),
    ("MILLRACE_BIN", "target/debug/millrace"),
];

fn refused(env: &[(&str, &str)], file: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("millrace.toml"), file).unwrap();
    let mut said = String::new();
    for args in [
        &["serve"][..],
        &["doctor"],
        &["migrate"],
        &["config"],
        &["keys", "create"],
    ] {
        let ended = run_to_end(dir.path(), args, env);
        assert_eq!(
            (ended.code, &*ended.stdout),
            (Some(1), ""),
            "{}",
            ended.stderr
        );
        assert!(said.is_empty() || said == ended.stderr, "{}", ended.stderr);
        said = ended.stderr;
    }
    said
}

#[test]
fn what_clients_read_is_ignored_by_every_command() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        for args in [
            &["config"][..],
            &["openapi"],
            &["doctor"],
            &["migrate"],
            &["keys", "create"],
        ] {
            let ended = run_to_end(dir.path(), args, &CLIENTS);
            assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        }
        Served::start(&dir.path().join("data"), &CLIENTS);
    });
}

#[test]
fn a_near_name_is_told_the_right_one_and_all_are_at_once() {
    let env = [
        ANY_PORT,
        ("MILLRACE_PORT", "8081"),
        ("MILLRACE_DATABASE_URL", "postgresql://u:hunter2@db/m"),
        ("MILLRACE_LISTEN", ""),
        ("MILLRACE_LOG_LEVEL", "debug"),
        ("MILLRACE_http__listen", "127.0.0.1:1"),
        ("MILLRACE_KEYS", "mr_01"),
    ];
    assert_snapshot!(refused(&env, "port = 8081\n[http]\nprot = 1\n[postgres]\nhost = \"db\""), @"
    millrace: configuration:
      http.prot: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      port: unknown key in millrace.toml; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      postgres.host: unknown key in millrace.toml; did you mean database.host (MILLRACE_DATABASE__HOST)?
      MILLRACE_DATABASE_URL: unknown key in the environment; did you mean database.url (MILLRACE_DATABASE__URL)?
      MILLRACE_KEYS: unknown key in the environment; did you mean cache.keys_max (MILLRACE_CACHE__KEYS_MAX)?
      MILLRACE_LISTEN: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      MILLRACE_LOG_LEVEL: unknown key in the environment; did you mean log.level (MILLRACE_LOG__LEVEL)?
      MILLRACE_PORT: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
      MILLRACE_http__listen: unknown key in the environment; did you mean http.listen (MILLRACE_HTTP__LISTEN)?
    ");
}

#[test]
fn an_admin_key_that_takes_the_place_of_the_stored_one_is_told() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let stop = |mut served: Served| {
            served.signal("TERM");
            served.wait(std::time::Duration::from_secs(20));
            served
                .output()
                .replace(&dir.path().display().to_string(), "<dir>")
        };
        let told = |output: &str| {
            let line = output
                .lines()
                .find(|line| line.starts_with("The admin key is that"));
            line.map(str::to_owned)
        };
        assert_eq!(told(&stop(Served::start(&data, &[]))), None);
        let stored = std::fs::read_to_string(data.join("admin_key")).unwrap();
        let same = ("MILLRACE_ADMIN_KEY", stored.as_str());
        assert_eq!(told(&stop(Served::start(&data, &[same]))), None);
        let other = "0123456789abcdef0123456789abcdef";
        let said = stop(Served::start(&data, &[("MILLRACE_ADMIN_KEY", other)]));
        assert!(!said.contains(other) && !said.contains(&stored));
        assert_snapshot!(told(&said).unwrap(), @"The admin key is that of the configuration (admin_key, MILLRACE_ADMIN_KEY), and not the one in <dir>/data/admin_key");
    });
}
