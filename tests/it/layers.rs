//! The code's own rules: imports point one way, keys are built in one file, SQL
//! is in one layer.

mod rings;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millrace::aws::actions;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|end| end == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Every source file, by its path below `src/`, with its text.
fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    assert!(found.len() > 30, "{found:?}");
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        (name, std::fs::read_to_string(&path).unwrap())
    };
    let is_test =
        |(name, _): &(String, String)| name.ends_with("tests.rs") || name.contains("/tests/");
    found
        .into_iter()
        .map(read)
        .filter(|file| !is_test(file))
        .collect()
}

/// The layers, the lowest first: each may import itself and those before it.
const LAYERS: [&str; 19] = [
    "error",
    "config",
    "model",
    "rate_limits",
    "auth_failures",
    "validation",
    "assets",
    "sender",
    "aws",
    "store",
    "telemetry",
    "queue",
    "admission",
    "app",
    "publish",
    "operational_events",
    "accept",
    "http",
    "host",
];

/// The layers that `file` may import.
fn may_import(file: &str) -> Vec<&'static str> {
    let own = match file.split(['/', '.']).next().unwrap() {
        "lib" | "main" => "host",
        // Beside http: none imports another.
        "jobs" | "console" => "http",
        own => own,
    };
    let place = LAYERS.iter().position(|layer| *layer == own);
    let place = place.unwrap_or_else(|| panic!("src/{file} has no layer: give {own} one here"));
    let beside = if file.starts_with("console") {
        "console"
    } else {
        "jobs"
    };
    let mut layers = LAYERS[..=place].to_vec();
    if file.starts_with("jobs") || file.starts_with("console") {
        layers.pop();
        layers.push(beside);
    }
    if own == "host" {
        layers.extend(["jobs", "console"]);
    }
    if file.starts_with("model") {
        layers.retain(|layer| ["error", "model"].contains(layer));
    }
    layers
}

#[test]
fn imports_point_one_way() {
    for (file, text) in all() {
        let allowed = may_import(&file);
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            for imported in line.split("crate::").skip(1) {
                let layer = imported
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next();
                let layer = layer.unwrap();
                assert!(
                    layer.is_empty() || allowed.contains(&layer),
                    "src/{file} imports {layer}: {line}"
                );
            }
        }
    }
}

#[test]
fn no_files_import_each_other() {
    let files = all();
    let files = files.iter().map(|(path, text)| (&**path, &**text));
    let rings = rings::rings(&rings::imports(files));
    assert!(rings.is_empty(), "files that import each other: {rings:#?}");
}

/// That the rule can fail, for each way of writing an import.
#[test]
fn a_ring_of_files_is_found() {
    let rings = |files: &[(&str, &str)]| rings::rings(&rings::imports(files.iter().copied()));
    let ring = |names: &[&str]| {
        vec![
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        ]
    };
    let leaf = ("a/leaf.rs", "pub fn f() {}");
    // A parent that declares, and a child that asks it for nothing.
    let sound = [("a.rs", "mod leaf;\npub fn g() { leaf::f() }"), leaf];
    assert_eq!(rings(&sound), Vec::<Vec<String>>::new());
    for child in [
        "use super::g;",
        "#[cfg(test)]\nmod tests;\nuse super::g;",
        "use crate::a::g;",
        "use crate::{b, a::{self as c, g}};",
        "fn f() { super::g() }",
        "fn f() { let x = r#\"a \" b\"#; crate::a::g::<'static>(x, '\"') }",
    ] {
        let found = rings(&[sound[0], ("a/leaf.rs", child)]);
        assert_eq!(found, ring(&["a", "a::leaf"]), "{child}");
    }
    let far = [
        ("a/mod.rs", "pub mod x;\npub mod y;"),
        ("a/x.rs", "use super::y::{Y, Z as W};"),
        ("a/y.rs", "fn y() -> crate::b::B { todo!() }"),
        ("b.rs", "pub use crate::a::x;"),
    ];
    assert_eq!(rings(&far), ring(&["a::x", "a::y", "b"]));
    for harmless in [
        "//! As [`crate::a::x`].\nuse std::fmt;",
        "const TEXT: &str = \"crate::a::x\";",
        "pub fn b() {}\n#[cfg(test)]\nmod tests {\n    use crate::a::x;\n}",
    ] {
        let found = rings(&[far[0], far[1], far[2], ("b.rs", harmless)]);
        assert_eq!(found, Vec::<Vec<String>>::new(), "{harmless}");
    }
}

#[test]
fn only_the_store_speaks_to_stores() {
    for (file, text) in all() {
        let text = text.split("#[cfg(test)]").next().unwrap();
        let in_store = file.starts_with("store/");
        let connects = file.starts_with("host/");
        // Whether a URL can be read is for who will read it to say.
        let reads_url = file == "config/check.rs";
        assert!(
            in_store || connects || !text.contains("aws_sdk_dynamodb::"),
            "src/{file} calls DynamoDB outside src/store"
        );
        assert!(
            in_store || connects || reads_url || !text.contains("tokio_postgres::"),
            "src/{file} calls PostgreSQL outside src/store"
        );
        assert!(
            in_store || !text.contains("aws_sdk_secretsmanager::"),
            "src/{file} calls Secrets Manager outside src/store"
        );
        assert!(
            file.starts_with("queue/") || !text.contains("aws_sdk_sqs::"),
            "src/{file} calls SQS outside src/queue"
        );
        for literal in [
            "\"delivery#",
            "\"endpoint#",
            "\"project#",
            "\"key#",
            "\"due#",
            "\"type#",
            "\"meter#",
        ] {
            let built = text.contains(&format!("format!({literal}"));
            assert!(file == "store/keys.rs" || !built, "src/{file} builds a key");
        }
        assert!(!text.contains(".scan()"), "src/{file} scans");
    }
}

/// Calls that commit to PostgreSQL, or write to it without a transaction, and the
/// files that may make them. A control-plane change goes through `change.rs`, which
/// asks for its audit entry and its outbox row.
const COMMITS: [(&str, &[&str]); 5] = [
    // Counting usage changes nothing that people configure, nor does a role's grants.
    (
        ".transaction()",
        &[
            "store/change.rs",
            "store/usage.rs",
            "store/postgres/app_role.rs",
            "store/postgres/session.rs",
        ],
    ),
    (
        ".commit()",
        &[
            "store/change.rs",
            "store/usage.rs",
            "store/postgres/app_role.rs",
            "store/postgres/session.rs",
        ],
    ),
    // Reads of one moment.
    (".build_transaction()", &["store/postgres/session.rs"]),
    // Refused logins are no change either.
    (
        "client.execute(",
        &[
            "store/audit_log.rs",
            "store/outbox.rs",
            "store/usage/prune.rs",
            "store/erasures/counted.rs",
        ],
    ),
    // Migrations and settings.
    ("client.batch_execute(", &["store/postgres.rs"]),
];

/// Those of [`COMMITS`] in `text` that `file` may not make.
fn stray_commits(file: &str, text: &str) -> Vec<&'static str> {
    let text: String = text.split_whitespace().collect();
    let calls = COMMITS.iter().filter(|(call, _)| text.contains(call));
    let stray = calls.filter(|(_, files)| !files.contains(&file));
    stray.map(|(call, _)| *call).collect()
}

#[test]
fn no_control_plane_change_is_committed_by_itself() {
    let bad = "let tx = client\n    .transaction().await?; tx.commit().await";
    let found = stray_commits("store/endpoints.rs", bad);
    assert_eq!(found, [".transaction()", ".commit()"]);
    for (file, text) in all() {
        let found = stray_commits(&file, &text);
        assert!(found.is_empty(), "src/{file} commits by itself: {found:?}");
    }
}

/// The calls of `tracing`'s macros in `text`, each to its end.
fn log_calls(text: &str) -> impl Iterator<Item = &str> {
    let calls = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    text.split("tracing::").skip(1).filter_map(move |rest| {
        calls.iter().find(|call| rest.starts_with(*call))?;
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            c == ')' && depth == 0
        });
        Some(&rest[..end.unwrap_or(rest.len())])
    })
}

/// An error's own text is what clients are told: "the event store is unavailable".
/// Why is what lies behind it.
#[test]
fn an_error_is_logged_with_its_causes() {
    let lacks_cause = |call: &&str| call.contains("%error") && !call.contains("cause");
    let bad = r#"tracing::warn!(%error, "no"); tracing::warn!(%error, cause, "yes");"#;
    assert_eq!(log_calls(bad).filter(lacks_cause).count(), 1);
    for (file, text) in all() {
        let found: Vec<_> = log_calls(&text).filter(lacks_cause).collect();
        assert!(
            found.is_empty(),
            "src/{file} logs an error without its causes: {found:?}"
        );
        assert!(
            !text.contains("std::error::Error::source("),
            "src/{file} reads a source by itself: Error::causes() does"
        );
    }
}

#[test]
fn every_module_says_what_it_owns_and_stays_readable() {
    for (file, text) in all() {
        assert!(text.starts_with("//!"), "src/{file} opens without //!");
        let lines = text.lines().count();
        assert!(lines <= 620, "src/{file} has {lines} lines: split it");
    }
}

#[test]
fn every_call_of_aws_is_listed_for_policies() {
    let mut called = BTreeSet::new();
    for (_, text) in all() {
        if !text.contains("aws_sdk_") {
            continue;
        }
        for after in text.split("client").skip(1) {
            let Some(method) = after.trim_start().strip_prefix('.') else {
                continue;
            };
            let end = method.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            let (name, rest) = method.split_at(end.unwrap_or_default());
            if rest.starts_with("()") && name != "clone" {
                called.insert(name.to_owned());
            }
        }
    }
    let listed = actions::DYNAMODB
        .iter()
        .chain(actions::SQS)
        .chain(actions::SECRETS_MANAGER);
    let listed: BTreeSet<String> = listed.map(|call| call.method.to_owned()).collect();
    assert_eq!(called, listed);
}

/// What the roles of `deploy/` may call is what the code calls, no more and no
/// less.
#[test]
fn every_role_may_do_what_it_does() {
    use actions::Role;
    use std::collections::{BTreeMap, BTreeSet};

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/actions.json");
    let text = std::fs::read_to_string(path).unwrap();
    let written: BTreeMap<String, BTreeSet<&str>> = serde_json::from_str(&text).unwrap();
    let mut function = actions::of(Role::Api);
    function.extend(actions::of(Role::Worker));
    function.extend(actions::SQS_MAPPING);
    let called = [
        ("api".to_owned(), actions::of(Role::Api)),
        ("worker".to_owned(), actions::of(Role::Worker)),
        ("migrate".to_owned(), actions::of(Role::Migrate)),
        ("lambda".to_owned(), function),
    ];
    assert_eq!(written, BTreeMap::from(called));
}
