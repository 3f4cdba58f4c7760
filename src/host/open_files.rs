//! The limit on open files, which connections are: raised as far as the process may,
//! since each attempt that waits for an answer holds one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The part of the limit that attempts in flight may take: a look-up has files of its
/// own, and requests, stores and connections that are kept are to have some.
const ATTEMPTS_SHARE: usize = 2;

/// Raises the limit; how many attempts may be in flight of those `configured`.
pub fn attempts_max(configured: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let current = limit.maximum;
        // Some systems allow less than they say: then it stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    let files = getrlimit(Resource::Nofile).current;
    let most = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    let most = (most / ATTEMPTS_SHARE).max(1);
    if most < configured {
        tracing::warn!(
            configured,
            used = most,
            "delivery.in_flight_max lowered: the limit on open files is less than twice as many"
        );
    }
    configured.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_the_bound() {
        assert_eq!(attempts_max(1), 1);
        let most = attempts_max(usize::MAX);
        let files = getrlimit(Resource::Nofile);
        let files = files.current.map_or(usize::MAX as u64, |files| files);
        assert!(most as u64 <= files / 2 && most > 1);
    }
}
