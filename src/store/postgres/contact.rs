//! The contact with the database: what became of the last use of it, so that whoever
//! wants to know need not ask the database.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a use that is given up must have waited to say something of the database.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// What is known of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Whether it gave a connection that works.
    pub is_up: bool,
    /// When it did or did not.
    pub at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct ContactLog {
    last: Mutex<Option<Contact>>,
    uses: AtomicU64,
}

impl ContactLog {
    pub(super) fn last(&self) -> Option<Contact> {
        *self.last.lock().expect("nothing panics with it")
    }

    /// Makes nothing known of it.
    pub(super) fn forget(&self) {
        *self.last.lock().expect("nothing panics with it") = None;
    }

    /// Uses so far, but for those in the background.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    pub(super) fn count_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins a use.
    pub(super) fn begin(&self) -> Attempt<'_> {
        Attempt {
            log: self,
            begun: Instant::now(),
        }
    }

    fn record(&self, is_up: bool) {
        let at = Instant::now();
        *self.last.lock().expect("nothing panics with it") = Some(Contact { is_up, at });
    }
}

/// A use under way. Dropped after a while without an outcome, it is a failure: whoever
/// waited has given up.
pub(super) struct Attempt<'a> {
    log: &'a ContactLog,
    begun: Instant,
}

impl Attempt<'_> {
    pub(super) fn end(self, is_up: bool) {
        self.log.record(is_up);
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.begun.elapsed() >= GIVEN_UP_AFTER {
            self.log.record(false);
        }
    }
}
