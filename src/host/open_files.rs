//! The limit on open files, which connections are: raised as far as the process may,
//! since each attempt that waits for an answer holds one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The part of the limit that attempts in flight may take: a look-up has files of its
/// own, and requests, stores and connections that are kept are to have some.
const ATTEMPTS_SHARE: usize = 2;
/// The part of it that clients' connections may take.
const CONNECTIONS_SHARE: usize = 4;

/// Raises the limit; how many attempts may be in flight of those `configured`.
pub fn attempts_max(configured: usize) -> usize {
    let most = share(raised(), ATTEMPTS_SHARE);
    if most < configured {
        tracing::warn!(
            configured,
            used = most,
            "delivery.in_flight_max lowered: the limit on open files is less than twice as many"
        );
    }
    configured.min(most)
}

/// Raises the limit; how many connections may be served of those `configured`.
pub fn connections_max(configured: usize) -> usize {
    let most = share(raised(), CONNECTIONS_SHARE);
    if most < configured {
        tracing::warn!(
            configured,
            used = most,
            "http.connections_max lowered: the limit on open files is less than four times as many"
        );
    }
    configured.min(most)
}

/// The limit, raised; none if there is none.
fn raised() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let current = limit.maximum;
        // Some systems allow less than they say: then it stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
    getrlimit(Resource::Nofile).current
}

/// One of `parts` of the files, which is never nothing.
fn share(files: Option<u64>, parts: usize) -> usize {
    let files = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    (files / parts).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_the_bound_and_a_quarter_for_clients() {
        assert_eq!((attempts_max(1), connections_max(1)), (1, 1));
        let files = share(getrlimit(Resource::Nofile).current, 1);
        let most = attempts_max(usize::MAX);
        assert!(most <= files / 2 && most > 1, "{most} of {files}");
        let most = connections_max(usize::MAX);
        assert!(most <= files / 4 && most > 1, "{most} of {files}");
    }

    #[test]
    fn a_share_is_a_part_and_never_nothing() {
        for (files, parts, most) in [
            (Some(1024), ATTEMPTS_SHARE, 512),
            (Some(1024), CONNECTIONS_SHARE, 256),
            (Some(1), CONNECTIONS_SHARE, 1),
            (None, CONNECTIONS_SHARE, usize::MAX / 4),
        ] {
            assert_eq!(share(files, parts), most, "{files:?} in {parts}");
        }
    }
}
