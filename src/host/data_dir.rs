//! The data directory: one process at a time, private files.
//!
//! Holds the embedded stores and the secrets that are generated on a laptop.
//! Nothing of its user's in it is ever deleted by this program: what cannot be
//! read is named, and the user decides.

mod private;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;

use private::{private_file, write_atomically};

use crate::app::data_files;

/// What this program writes and reads; another number is another layout.
const FORMAT: &str = "1";
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";
/// There while a process has the stores open, and after one that was cut short. Holds
/// the address of one that serves.
const OPEN_FILE: &str = "open";

/// A data directory, locked for this process for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    was_unclean_shutdown: bool,
    lock: File,
}

/// A data directory, or a file in it that is needed, is gone or another's by now:
/// nothing may be written to what is in its place. Whoever ends with this leaves all
/// that is open to the end of the process.
#[derive(Debug, thiserror::Error)]
#[error(
    "data_dir: {} was removed or replaced while in use ({} is gone): nothing can be kept any \
     more; restore it from a backup, or start again to begin anew",
    .dir.display(), .file.display()
)]
pub struct DataDirLost {
    /// The directory, as configured.
    pub dir: PathBuf,
    /// What was found to be gone.
    pub file: PathBuf,
}

/// Creates `path` if it is not there and locks it for this process. It and what is in
/// it are made this user's alone, whoever made them; files that this process makes
/// from here on are too.
///
/// # Errors
/// It cannot be created or written, another process holds it, or another
/// version of the program has laid it out.
pub fn open_data_dir(path: &Path) -> anyhow::Result<DataDir> {
    private::set_umask();
    create_private(path).with_context(|| {
        let path_text = path.display();
        format!("data_dir: cannot create {path_text}; set MILLRACE_DATA_DIR to a writable place")
    })?;
    let lock = lock(path)?;
    let open = path.join(OPEN_FILE);
    let dir = DataDir {
        path: path.to_owned(),
        was_unclean_shutdown: open.exists(),
        lock,
    };
    dir.check_format()?;
    write_atomically(&open, "")
        .with_context(|| format!("data_dir: cannot write {}", open.display()))?;
    let left = private::make(path, &open).with_context(|| unreadable(path))?;
    left.warn();
    Ok(dir)
}

/// A data directory as others see it.
#[derive(Debug, PartialEq, Eq)]
pub enum DataDirStatus {
    /// It is not there, or nothing is in it.
    Nothing,
    /// The process of this id has it.
    InUse(String),
    /// It is there, and no process has it.
    Free,
}

/// Looks at a data directory and leaves it as it is.
///
/// # Errors
/// It cannot be read.
pub fn look(path: &Path) -> anyhow::Result<DataDirStatus> {
    let mut lock = match File::open(path.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DataDirStatus::Nothing),
        Err(error) => return Err(error).with_context(|| unreadable(path)),
    };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(DataDirStatus::InUse(holder(&mut lock)?)),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| unreadable(path)),
        Ok(()) => Ok(DataDirStatus::Free),
    }
}

/// Where the process that has the directory open serves, if it does by now.
pub fn address(path: &Path) -> Option<SocketAddr> {
    fs::read_to_string(path.join(OPEN_FILE)).ok()?.parse().ok()
}

/// The id that the holder of a lock left in it.
fn holder(lock: &mut File) -> std::io::Result<String> {
    let mut pid = String::new();
    lock.rewind()?;
    lock.read_to_string(&mut pid)?;
    Ok(pid.trim().to_owned())
}

impl DataDir {
    /// The directory's path, as configured.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last process that had it did not end in good order: was killed,
    /// or lost its power.
    pub fn was_unclean_shutdown(&self) -> bool {
        self.was_unclean_shutdown
    }

    /// Unlocks it, its stores closed.
    pub fn close(self) {
        // What is left behind costs the next start a look at its stores.
        let _ = fs::remove_file(self.path.join(OPEN_FILE));
    }

    /// That the directory is still the one that this process has locked.
    ///
    /// # Errors
    /// It was removed, or another is in its place.
    pub fn ensure_kept(&self) -> Result<(), DataDirLost> {
        let file = self.lock_file();
        if data_files::is_at(&self.lock, &file) {
            return Ok(());
        }
        let dir = self.path.clone();
        Err(DataDirLost { dir, file })
    }

    /// Tells others, by [`address`], where this process serves.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn set_address(&self, address: SocketAddr) -> anyhow::Result<()> {
        write_private(&self.path.join(OPEN_FILE), &address.to_string())
    }

    /// Makes what the engines have made since it was opened this user's alone: they
    /// give some of it a mode of its own.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn make_private(&self) -> anyhow::Result<()> {
        let made = private::make(&self.path, &self.path.join(OPEN_FILE));
        made.map(drop).with_context(|| unreadable(&self.path))
    }

    /// The file that tells this directory from another in its place.
    pub fn lock_file(&self) -> PathBuf {
        self.path.join(LOCK_FILE)
    }

    /// As [`secret_file`], in this directory.
    ///
    /// # Errors
    /// As [`secret_file`].
    pub fn secret_file(
        &self,
        name: &str,
        make: impl FnOnce() -> String,
    ) -> anyhow::Result<SecretString> {
        secret_file(&self.path.join(name), make)
    }

    fn check_format(&self) -> anyhow::Result<()> {
        let path = self.path.join(FORMAT_FILE);
        match fs::read_to_string(&path) {
            Ok(found) if found.trim() == FORMAT => Ok(()),
            Ok(found) => bail!(
                "data_dir: {} has format {:?} and this version reads {FORMAT:?}; \
                 run the version that wrote it or set MILLRACE_DATA_DIR",
                self.path.display(),
                found.trim().chars().take(20).collect::<String>(),
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => write_atomically(&path, FORMAT)
                .with_context(|| format!("data_dir: cannot write {}", path.display())),
            Err(error) => Err(error).with_context(|| unreadable(&path)),
        }
    }
}

/// The secret in the file `path`, which is written from `make` (mode 0600) if it
/// is not there. Either the whole secret is on disk afterwards, or nothing.
///
/// # Errors
/// The file cannot be read or written, or it is empty or not UTF-8.
pub fn secret_file(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<SecretString> {
    if let Some(secret) = read_secret(path)? {
        return Ok(secret);
    }
    let secret = make();
    write_private(path, &secret)?;
    Ok(secret.into())
}

/// The secret in the file `path`, if that is there.
///
/// # Errors
/// The file cannot be read, or it is empty or not UTF-8.
pub fn read_secret(path: &Path) -> anyhow::Result<Option<SecretString>> {
    let secret = match fs::read_to_string(path) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| unreadable(path)),
    };
    if secret.is_empty() {
        bail!("{}: it is empty", unreadable(path));
    }
    Ok(Some(secret.into()))
}

/// Writes a file for this user alone (mode 0600), whole or not at all.
///
/// # Errors
/// It cannot be written.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    write_atomically(path, text)
        .with_context(|| format!("data_dir: cannot write {}", path.display()))
}

/// The first words of every message about a file that cannot be used.
pub fn unreadable(path: &Path) -> String {
    let path = path.display();
    format!("data_dir: cannot read {path}; restore it from a backup or move it away to begin anew")
}

fn create_private(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Takes the lock file and leaves this process's id in it for who comes next.
/// The lock is the system's and ends with the process, however that ends.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(LOCK_FILE);
    let dir_text = dir.display();
    let mut file = private_file()
        .read(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("data_dir: cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let pid = holder(&mut file)?;
            bail!(
                "data_dir: {dir_text} is in use by another Millrace (pid {}); \
                 stop it or set MILLRACE_DATA_DIR",
                pid,
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("data_dir: cannot lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        (temporary, path)
    }

    fn message(path: &Path) -> String {
        let error = format!("{:#}", open_data_dir(path).unwrap_err());
        error.replace(&path.display().to_string(), "<dir>")
    }

    #[test]
    #[cfg(unix)]
    fn the_directory_and_its_secrets_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_temporary, path) = fresh();
        let dir = open_data_dir(&path).unwrap();
        dir.secret_file("key", || "s".into()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("key")), 0o600);
    }

    #[test]
    fn a_secret_is_made_once() {
        let (_temporary, path) = fresh();
        let dir = open_data_dir(&path).unwrap();
        let first = dir.secret_file("key", || "one".into()).unwrap();
        let second = dir.secret_file("key", || "two".into()).unwrap();
        assert_eq!(first.expose_secret(), "one");
        assert_eq!(second.expose_secret(), "one");
        let names = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name());
        assert!(!names.into_iter().any(|name| name == "key.tmp"));
    }

    #[test]
    fn a_second_holder_is_refused_and_told_of_the_first() {
        let (_temporary, path) = fresh();
        let held = open_data_dir(&path).unwrap();
        let pid = std::process::id();
        assert_eq!(
            message(&path),
            format!(
                "data_dir: <dir> is in use by another Millrace (pid {pid}); stop it or set MILLRACE_DATA_DIR"
            )
        );
        drop(held);
        open_data_dir(&path).unwrap();
    }

    #[test]
    fn another_format_is_left_alone() {
        let (_temporary, path) = fresh();
        drop(open_data_dir(&path).unwrap());
        fs::write(path.join(FORMAT_FILE), "2").unwrap();
        assert_eq!(
            message(&path),
            "data_dir: <dir> has format \"2\" and this version reads \"1\"; run the version that wrote it or set MILLRACE_DATA_DIR"
        );
        assert_eq!(fs::read_to_string(path.join(FORMAT_FILE)).unwrap(), "2");
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        fs::write(&path, "").unwrap();
        assert!(message(&path).starts_with("data_dir: cannot create <dir>; set MILLRACE_DATA_DIR"));
    }

    #[test]
    fn an_empty_secret_is_not_a_secret() {
        let (_temporary, path) = fresh();
        let dir = open_data_dir(&path).unwrap();
        fs::write(path.join("key"), "\n").unwrap();
        let error = dir.secret_file("key", || "new".into()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("data/key; restore it from a backup")
        );
    }
}
