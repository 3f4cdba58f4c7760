//! The files that this process keeps data in: whether they are still those that were
//! opened.
//!
//! A file that was removed goes on taking writes for as long as it is open, and
//! nothing of them is left afterwards: a store answers as ever and is no store.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The files that are open, and those that must be found again.
#[derive(Debug)]
pub struct DataFiles {
    open: Vec<(PathBuf, FileId)>,
    needed: Vec<PathBuf>,
    lost: OnceLock<PathBuf>,
}

/// What tells a file from another of its name.
#[cfg(unix)]
type FileId = (u64, u64);
#[cfg(not(unix))]
type FileId = ();

impl DataFiles {
    /// Those of `open` as they are now, where they are there: they must stay, and stay
    /// the same; and those of `needed`, of which there must always be one.
    ///
    /// # Errors
    /// When one cannot be looked at.
    pub fn new(
        open: impl IntoIterator<Item = PathBuf>,
        needed: impl IntoIterator<Item = PathBuf>,
    ) -> std::io::Result<Self> {
        let mut known = Vec::new();
        for path in open {
            match id(&path) {
                Ok(id) => known.push((path, id)),
                Err(error) if is_missing(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            open: known,
            needed: needed.into_iter().collect(),
            lost: OnceLock::new(),
        })
    }

    /// The first file that is gone, or another; what was lost once stays lost. Costs a
    /// look at each.
    pub fn lost(&self) -> Option<&Path> {
        if self.lost.get().is_none()
            && let Some(gone) = self.gone()
        {
            return Some(self.lost.get_or_init(|| gone.to_owned()));
        }
        self.lost.get().map(PathBuf::as_path)
    }

    fn gone(&self) -> Option<&Path> {
        // What cannot be looked at may be there.
        let is_other = |path: &Path, known: &FileId| match id(path) {
            Ok(id) => id != *known,
            Err(error) => is_missing(error.kind()),
        };
        let is_gone = |path: &Path| id(path).is_err_and(|error| is_missing(error.kind()));
        let other = self.open.iter().find(|(path, id)| is_other(path, id));
        let gone = self.needed.iter().find(|path| is_gone(path));
        other.map(|(path, _)| path).or(gone).map(PathBuf::as_path)
    }
}

fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether `file`, which is open, is the one at `path`. What cannot be looked at may be.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), id(path)) {
        (Ok(held), Ok(found)) => id_of(&held) == found,
        (_, Err(error)) => !is_missing(error.kind()),
        (Err(_), Ok(_)) => true,
    }
}

fn id(path: &Path) -> std::io::Result<FileId> {
    std::fs::metadata(path).map(|found| id_of(&found))
}

#[cfg(unix)]
fn id_of(found: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    (found.dev(), found.ino())
}

#[cfg(not(unix))]
fn id_of(_: &Metadata) -> FileId {}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn files(dir: &Path) -> DataFiles {
        for name in ["lock", "data", "needed"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        let open = ["lock", "data", "not there"].map(|name| dir.join(name));
        DataFiles::new(open, [dir.join("needed")]).unwrap()
    }

    #[test]
    fn what_is_written_to_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        fs::write(dir.path().join("data"), "more").unwrap();
        // Its like is as good.
        fs::write(dir.path().join("new"), "x").unwrap();
        fs::rename(dir.path().join("new"), dir.path().join("needed")).unwrap();
        assert_eq!(files.lost(), None);
    }

    #[test]
    fn what_is_gone_or_replaced_is_lost_for_good() {
        for (name, replaced) in [("data", false), ("data", true), ("needed", false)] {
            let dir = tempfile::tempdir().unwrap();
            let files = files(dir.path());
            let path = dir.path().join(name);
            fs::rename(&path, dir.path().join("away")).unwrap();
            if replaced {
                fs::write(&path, "x").unwrap();
            }
            assert_eq!(files.lost(), Some(&*path), "{name}");
            fs::rename(dir.path().join("away"), &path).unwrap();
            assert_eq!(files.lost(), Some(&*path), "{name}");
        }
    }

    #[test]
    fn a_directory_that_is_gone_takes_its_files_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data_dir");
        fs::create_dir(&data).unwrap();
        let files = files(&data);
        fs::remove_dir_all(&data).unwrap();
        assert!(files.lost().is_some());
        fs::write(&data, "a file in its place").unwrap();
        assert!(files.lost().is_some());
    }
}
