//! The data directory: nobody else's to read, and noticed when it is gone.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::binary::{Served, create_endpoint, first_key, run_to_end};
use crate::support::harness::run;
use crate::support::receiver::{Receiver, Reply};

/// Longest that a loss may go unnoticed, and the end after it take.
const NOTICED_MAX: Duration = Duration::from_secs(10);

/// All below `dir`, and it, whose mode lets anybody but its owner do anything.
fn open_to_others(dir: &Path) -> Vec<(PathBuf, u32)> {
    let found = std::fs::symlink_metadata(dir).unwrap();
    let mode = found.permissions().mode() & 0o777;
    let private = if found.is_dir() { 0o700 } else { 0o600 };
    let mut open = Vec::new();
    if mode != private {
        open.push((dir.to_owned(), mode));
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(dir).unwrap() {
            open.extend(open_to_others(&entry.unwrap().path()));
        }
    }
    // One says enough.
    open.truncate(3);
    open
}

async fn use_it(served: &Served, key: &str) {
    let receiver = Receiver::start([]).await;
    create_endpoint(served, key, &receiver.url).await;
    let event = json!({ "type": "a" });
    let published = served.request(Method::POST, "/v1/events", key, event);
    assert_eq!(published.await.unwrap().0, StatusCode::ACCEPTED);
    receiver.reached(1).await;
}

#[test]
fn what_is_in_it_is_private_whoever_made_it_and_whatever_the_umask() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let set = |path: &Path, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, mode).unwrap();
        };
        set(&data, 0o755);
        let served = Served::start_without_umask(&data);
        let key = first_key(&served.greeting).unwrap();
        use_it(&served, &key).await;
        assert_eq!(open_to_others(&data), []);
        for file in ["dynamodb.sqlite-wal", "dynamodb.sqlite-shm", "lock", "open"] {
            assert!(data.join(file).exists(), "{file}");
        }
        let ignored = std::fs::read_to_string(data.join(".gitignore")).unwrap();
        assert_eq!(ignored, "*\n");
        drop(served);

        // As an earlier version has left it, and after its process was killed.
        let loosened = [
            "",
            "dynamodb.sqlite",
            "dynamodb.sqlite-wal",
            "key_ring.json",
        ];
        for name in loosened {
            set(
                &data.join(name),
                if name.is_empty() { 0o775 } else { 0o644 },
            );
        }
        set(&data.join("postgres"), 0o755);
        let cluster = data.join("postgres/tmp/pglite/base");
        set(&cluster.join("PG_VERSION"), 0o666);
        let served = Served::start_without_umask(&data);
        use_it(&served, &key).await;
        assert_eq!(open_to_others(&data), []);
    });
}

#[test]
fn a_directory_of_other_things_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let other = dir.path().join("openapi.json");
    std::fs::write(&other, "{}").unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
    // `run_to_end` names a directory below; this is the one it works in.
    let file = dir.path().join("millrace.toml");
    std::fs::write(&file, "data_dir = \".\"").unwrap();
    let mut command = crate::support::binary::command(&["migrate"], &[]);
    let ended = command.current_dir(dir.path()).output().unwrap();
    assert!(ended.status.success());
    assert_eq!((mode(dir.path()), mode(&other)), (0o755, 0o644));
    assert!(!dir.path().join(".gitignore").exists());
    assert_eq!(mode(&dir.path().join("dynamodb.sqlite")), 0o600);
    assert_eq!(open_to_others(&dir.path().join("postgres")), []);
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    assert!(said.contains("its own mode is left as it is"), "{said}");
}

/// Loses data under a process that serves, and holds what it says and does.
async fn assert_noticed(dir: &Path, lose: impl FnOnce(&Path)) {
    let data = dir.join("data");
    let mut served = Served::start(&data, &[]);
    let key = first_key(&served.greeting).unwrap();
    use_it(&served, &key).await;
    lose(&data);
    // From the first request on, whether or not it was noticed before.
    let event = json!({ "type": "a" });
    let published = served.request(Method::POST, "/v1/events", &key, event);
    if let Some((status, answer)) = published.await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        assert_eq!(answer["detail"], "the data directory is unavailable");
    }
    let ready = served.request(Method::GET, "/health/ready", &key, Value::Null);
    if let Some((status, ready)) = ready.await {
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{ready}");
        assert_eq!(ready["status"], "unavailable", "{ready}");
    }
    assert_eq!(served.wait(NOTICED_MAX), Some(1));
    let output = served.output();
    let told = format!(
        "millrace: data_dir: {} was removed or replaced while in use",
        data.display()
    );
    assert_eq!(output.matches(&told).count(), 1, "{output}");
    let logged = output.matches("data directory lost: stopping").count();
    assert_eq!(logged, 1, "{output}");
}

#[test]
fn a_directory_that_is_removed_ends_the_process() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let remove = |data: &Path| {
            // Its files come and go while that is done.
            while std::fs::remove_dir_all(data).is_err() && data.exists() {}
        };
        assert_noticed(dir.path(), remove).await;
        let served = Served::start(&dir.path().join("data"), &[]);
        use_it(&served, &first_key(&served.greeting).unwrap()).await;
    });
}

#[test]
fn one_that_is_moved_away_does_and_what_is_in_its_place_is_not_touched() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let mut second = None;
        assert_noticed(dir.path(), |data| {
            std::fs::rename(data, dir.path().join("away")).unwrap();
            second = Some(Served::start(data, &[]));
        })
        .await;
        let second = second.unwrap();
        use_it(&second, &first_key(&second.greeting).unwrap()).await;
        // It is still known to be in use, and was not closed by the first one.
        assert!(dir.path().join("data/open").exists());
        let refused = run_to_end(dir.path(), &["migrate"], &[]);
        assert!(refused.stderr.contains("in use by another Millrace"));
    });
}

/// Every file below `dir` with what is in it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn what_is_moved_to_its_place_closed_stays_as_it_is() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        let mut served = Served::start(&closed, &[]);
        use_it(&served, &first_key(&served.greeting).unwrap()).await;
        served.signal("TERM");
        assert_eq!(served.wait(NOTICED_MAX), Some(0));
        let before = contents(&closed);
        assert_noticed(dir.path(), |data| {
            std::fs::rename(data, dir.path().join("away")).unwrap();
            std::fs::rename(&closed, data).unwrap();
        })
        .await;
        std::fs::rename(dir.path().join("data"), &closed).unwrap();
        let after = contents(&closed);
        let changed = |path: &&PathBuf| before.get(*path) != after.get(*path);
        let changed: Vec<_> = before.keys().chain(after.keys()).filter(changed).collect();
        assert!(changed.is_empty(), "{changed:?}");
    });
}

#[test]
fn one_that_drains_notices_and_leaves_what_is_in_its_place() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut drains = Served::start(&data, &[]);
        let key = first_key(&drains.greeting).unwrap();
        let receiver = Receiver::start([Reply::Slow(Duration::from_secs(60))]).await;
        create_endpoint(&drains, &key, &receiver.url).await;
        let event = json!({ "type": "a" });
        let published = drains.request(Method::POST, "/v1/events", &key, event);
        assert_eq!(published.await.unwrap().0, StatusCode::ACCEPTED);
        receiver.reached(1).await;
        drains.signal("TERM");
        let begun = std::time::Instant::now();
        while !drains.output().contains("\"stopping\"") {
            assert!(begun.elapsed() < NOTICED_MAX, "{}", drains.output());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::rename(&data, dir.path().join("away")).unwrap();
        let second = Served::start(&data, &[]);
        assert_eq!(drains.wait(NOTICED_MAX), Some(1));
        let output = drains.output();
        assert!(output.contains("was removed or replaced"), "{output}");
        assert!(data.join("open").exists());
        use_it(&second, &first_key(&second.greeting).unwrap()).await;
    });
}

#[test]
fn a_part_that_is_removed_does() {
    run(async {
        for part in [
            "lock",
            "dynamodb.sqlite",
            "dynamodb.sqlite-wal",
            "postgres/tmp/pglite/base/PG_VERSION",
            "key_ring.json",
            "admin_key",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let remove = |data: &Path| std::fs::remove_file(data.join(part)).unwrap();
            assert_noticed(dir.path(), remove).await;
        }
    });
}
