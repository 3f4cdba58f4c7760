//! The code's own rules: imports point one way, keys are built in one file, SQL
//! is in one layer.

use std::path::{Path, PathBuf};

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

/// A file's layer, and the layers it may import.
fn may_import(file: &str) -> &'static [&'static str] {
    match file.split(['/', '.']).next().unwrap() {
        "model" => &["model", "error"],
        "error" | "config" => &["error", "config"],
        "store" => &["store", "model", "error", "config"],
        "queue" => &["queue", "model", "store", "error", "config"],
        "sender" => &["sender", "model", "error", "config"],
        "telemetry" => &["telemetry", "store", "model", "error", "config"],
        "app" => &[
            "store",
            "queue",
            "sender",
            "telemetry",
            "model",
            "error",
            "config",
            "app",
        ],
        "accept" => &[
            "accept",
            "app",
            "store",
            "queue",
            "telemetry",
            "model",
            "error",
            "config",
        ],
        "http" => &[
            "http",
            "accept",
            "app",
            "store",
            "queue",
            "sender",
            "telemetry",
            "model",
            "error",
            "config",
        ],
        "jobs" => &[
            "jobs",
            "accept",
            "app",
            "store",
            "queue",
            "sender",
            "telemetry",
            "model",
            "error",
            "config",
        ],
        "host" => &[
            "host",
            "http",
            "jobs",
            "accept",
            "app",
            "store",
            "queue",
            "sender",
            "telemetry",
            "model",
            "error",
            "config",
        ],
        "lib" | "main" => &["host", "http", "telemetry", "config"],
        other => panic!("src/{other} has no layer: give it one here and in ARCHITECTURE.md"),
    }
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
        for literal in [
            "\"delivery#",
            "\"endpoint#",
            "\"project#",
            "\"key#",
            "\"due#",
        ] {
            let built = text.contains(&format!("format!({literal}"));
            assert!(file == "store/keys.rs" || !built, "src/{file} builds a key");
        }
        assert!(!text.contains(".scan()"), "src/{file} scans");
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
