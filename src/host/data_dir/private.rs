//! The modes of the data directory and its files: this user's alone.
//!
//! A directory may be there before the first start, made by hand or as a volume, and
//! the engines make files as the process's umask has it. What is another user's, and
//! a directory of more than Millrace's data, is left as it is, with a warning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The files that this program makes, beside those of the engines.
const OWN: [&str; 9] = [
    "admin_key",
    "first-api-key",
    "first-api-key.new",
    "format",
    "key_ring.json",
    "lock",
    "open",
    "postgres",
    "postgres.making",
];
/// What the names of the engines' files begin with.
const OWN_PREFIXES: [&str; 2] = ["dynamodb.sqlite", ".s.PGSQL."];
/// Keeps everything out of a repository that the directory is in, itself too.
const GITIGNORE: &str = "*\n";
const GITIGNORE_FILE: &str = ".gitignore";

/// What may be there and is no other thing: a file system of its own has the latter.
const BESIDE_OWN: [&str; 2] = [GITIGNORE_FILE, "lost+found"];

/// Has whatever this process makes be this user's alone: the embedded engines give
/// no mode of their own.
pub(super) fn set_umask() {
    #[cfg(all(unix, feature = "embedded"))]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// What others may do that this process does not or cannot take from them.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The directory, as it is for other things too.
    shared: Option<PathBuf>,
    /// Files of another user's.
    files: Vec<PathBuf>,
}

impl Left {
    pub fn warn(&self) {
        if let Some(path) = &self.shared {
            let path = path.display();
            tracing::warn!(%path, "data directory is for other things too: its own mode is left as it is");
        }
        if let Some(path) = self.files.first() {
            let (path, count) = (path.display(), self.files.len());
            tracing::warn!(%path, count, "files of the data directory are another user's: others may read them");
        }
    }
}

/// Takes from others what they may do in `dir` and with the files in it that are this
/// program's. `made` is a file that this process has made: its owner is this user.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn make(dir: &Path, made: &Path) -> io::Result<Left> {
    let dir = &fs::canonicalize(dir)?;
    let is_shared = is_shared(dir)?;
    if !is_shared && !dir.join(GITIGNORE_FILE).exists() {
        // A convenience: without it nothing else is worse.
        let _ = write_atomically(&dir.join(GITIGNORE_FILE), GITIGNORE);
    }
    let mut left = Left {
        shared: is_shared.then(|| dir.clone()),
        files: vec![],
    };
    #[cfg(unix)]
    {
        let mut modes = modes::Modes::of_user_of(made)?;
        if !is_shared {
            modes.tighten(dir);
            modes.tighten(&dir.join(GITIGNORE_FILE));
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if is_own(&entry.file_name().to_string_lossy()) {
                modes.tighten_all(&entry.path());
            }
        }
        left.files = modes.left;
    }
    #[cfg(not(unix))]
    let _ = (made, &mut left);
    Ok(left)
}

/// Writes beside `path` and renames, so that a crash leaves no half of it.
pub(super) fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = beside(path);
    // One of an earlier process, cut short, may have been made for others to read.
    let _ = fs::remove_file(&beside);
    let mut file = private_file().truncate(true).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name, too, must be on disk before anything relies on the secret.
    match path.parent() {
        Some(dir) if cfg!(unix) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// What the name of a file ends with that is not whole yet.
const BESIDE: &str = ".tmp";

/// Where a file is written before it has its name: `open.tmp`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(BESIDE);
    path.with_file_name(name)
}

pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn is_own(name: &str) -> bool {
    let name = name.strip_suffix(BESIDE).unwrap_or(name);
    OWN.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a directory is also for other things, to be left to whoever needs it: one
/// that has any, the one this process works in or one above that, or one for
/// everybody, as /tmp is.
fn is_shared(dir: &Path) -> io::Result<bool> {
    let works_in = std::env::current_dir().is_ok_and(|working| working.starts_with(dir));
    let is_shared = works_in || has_others(dir)?;
    #[cfg(unix)]
    return Ok(is_shared || modes::is_for_all(dir)?);
    #[cfg(not(unix))]
    Ok(is_shared)
}

fn has_others(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !is_own(&name) && !BESIDE_OWN.contains(&&*name) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(unix)]
mod modes {
    use std::fs::{self, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    /// The sticky bit.
    const FOR_ALL: u32 = 0o1000;
    const DIRECTORY: u32 = 0o700;
    const FILE: u32 = 0o600;

    pub fn is_for_all(dir: &Path) -> io::Result<bool> {
        Ok(fs::metadata(dir)?.mode() & FOR_ALL != 0)
    }

    /// Makes files `user`'s alone, and keeps those it cannot.
    pub struct Modes {
        user: u32,
        pub left: Vec<PathBuf>,
    }

    impl Modes {
        pub fn of_user_of(made: &Path) -> io::Result<Self> {
            let user = fs::symlink_metadata(made)?.uid();
            Ok(Self { user, left: vec![] })
        }

        /// [`Self::tighten`] for `path` and all below it.
        pub fn tighten_all(&mut self, path: &Path) {
            self.tighten(path);
            let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
            // What goes in the meantime, as files of a database do, needs no mode.
            let entries = is_dir.then(|| fs::read_dir(path).into_iter().flatten());
            for entry in entries.into_iter().flatten().flatten() {
                self.tighten_all(&entry.path());
            }
        }

        pub fn tighten(&mut self, path: &Path) {
            let Ok(found) = fs::symlink_metadata(path) else {
                return;
            };
            let wanted = if found.is_dir() { DIRECTORY } else { FILE };
            if found.is_symlink() || found.mode() & 0o777 & !wanted == 0 {
                return;
            }
            let is_ours = found.uid() == self.user;
            if !is_ours || fs::set_permissions(path, Permissions::from_mode(wanted)).is_err() {
                self.left.push(path.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_read_is_closed_and_what_is_not_ours_is_left() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        let below = dir.join("postgres/tmp");
        fs::create_dir_all(&below).unwrap();
        let (own, engine, nested) = (
            dir.join("key_ring.json"),
            dir.join("dynamodb.sqlite-wal"),
            below.join("PG_VERSION"),
        );
        let elsewhere = tempfile::tempdir().unwrap();
        let outside = elsewhere.path().join("outside");
        for path in [&own, &engine, &nested, &outside] {
            fs::write(path, "").unwrap();
            set(path, 0o755);
        }
        std::os::unix::fs::symlink(&outside, dir.join("postgres/link")).unwrap();
        set(dir, 0o755);
        set(&below, 0o777);
        make(dir, &own).unwrap();
        assert_eq!([mode(dir), mode(&below)], [0o700; 2]);
        assert_eq!([mode(&own), mode(&engine), mode(&nested)], [0o600; 3]);
        assert_eq!(mode(&outside), 0o755);
        assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "*\n");
        assert_eq!(mode(&dir.join(".gitignore")), 0o600);
    }

    #[test]
    fn a_directory_that_has_other_things_keeps_its_mode() {
        for other in ["index.html", "postgresql", ".git", "assets/"] {
            let temporary = tempfile::tempdir().unwrap();
            let (dir, key) = (temporary.path(), temporary.path().join("admin_key"));
            let foreign = dir.join(other.trim_end_matches('/'));
            if other.ends_with('/') {
                fs::create_dir(&foreign).unwrap();
            } else {
                fs::write(&foreign, "").unwrap();
            }
            fs::write(&key, "").unwrap();
            let all = [dir, &foreign, &key];
            for path in all {
                set(path, 0o755);
            }
            let left = make(dir, &key).unwrap();
            assert_eq!(all.map(mode), [0o755, 0o755, 0o600], "{other}");
            assert!(!dir.join(".gitignore").exists(), "{other}");
            assert!(left.shared.is_some(), "{other}");
        }
        // A new volume is for nothing else, nor is one that has been used.
        let temporary = tempfile::tempdir().unwrap();
        let (dir, key) = (temporary.path(), temporary.path().join("open"));
        fs::create_dir(dir.join("lost+found")).unwrap();
        for own in [".gitignore", "open", "admin_key.tmp", "dynamodb.sqlite-shm"] {
            fs::write(dir.join(own), "").unwrap();
        }
        set(dir, 0o755);
        make(dir, &key).unwrap();
        assert_eq!(mode(dir), 0o700);
    }

    #[test]
    fn a_directory_for_everybody_keeps_its_mode() {
        let temporary = tempfile::tempdir().unwrap();
        let (dir, key) = (temporary.path(), temporary.path().join("admin_key"));
        fs::write(&key, "").unwrap();
        set(&key, 0o644);
        set(dir, 0o1777);
        make(dir, &key).unwrap();
        assert_eq!((mode(dir), mode(&key)), (0o1777, 0o600));
        assert!(!dir.join(".gitignore").exists());
    }
}
