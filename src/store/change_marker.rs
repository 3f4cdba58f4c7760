//! The marker of control-plane changes: an item in DynamoDB that says that one has
//! begun, so that whoever projects what others left behind asks PostgreSQL only then,
//! and a database that nobody uses may pause.
//!
//! Written before the transaction of a change, read by the sweeper.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::dynamo::{Dynamo, Item, ItemExt, ms, s, unavailable};
use super::keys;
use crate::error::Result;

/// How long a process lets its last marker stand for more changes. Whoever reads it
/// looks for several times as long.
const STANDS: Duration = Duration::from_secs(60);

/// How long a change waits for its marker: the event store may be out of reach, and a key
/// must be revoked all the same.
const MARK_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two tries to write a marker that a change did not wait for.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Tries, for about an hour. Later ones begin with the next change.
const RETRIES_MAX: usize = 720;

/// Marks the changes of a process.
#[derive(Debug)]
pub(super) struct ChangeMarker {
    dynamo: Dynamo,
    written: Mutex<Option<Instant>>,
    /// Whether a marker that is missing is being written aside.
    is_late: AtomicBool,
}

impl ChangeMarker {
    pub(super) fn new(dynamo: Dynamo) -> Self {
        Self {
            dynamo,
            written: Mutex::default(),
            is_late: AtomicBool::default(),
        }
    }

    /// Marks that a change is about to be made. One write a minute, whatever changes.
    /// One that DynamoDB does not take in a second is written aside as soon as it does,
    /// and the change goes on: whoever looks for it meanwhile meets the same outage, and
    /// looks on after it.
    pub(super) async fn mark(self: &Arc<Self>) {
        if self.stands(Instant::now()) || self.is_late.load(Ordering::SeqCst) {
            return;
        }
        match tokio::time::timeout(MARK_TIMEOUT, self.put()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                let cause = error.causes();
                tracing::warn!(%error, cause, "change not announced: tried again");
            }
            Err(_) => tracing::warn!("change not announced in time: tried again"),
        }
        if !self.is_late.swap(true, Ordering::SeqCst) {
            tokio::spawn(self.clone().put_late());
        }
    }

    async fn put_late(self: Arc<Self>) {
        for _ in 0..RETRIES_MAX {
            tokio::time::sleep(RETRY_INTERVAL).await;
            if self.put().await.is_ok() {
                break;
            }
        }
        self.is_late.store(false, Ordering::SeqCst);
    }

    async fn put(&self) -> Result<()> {
        let begun = Instant::now();
        announce(&self.dynamo).await?;
        *self.written.lock().expect("nothing panics with it") = Some(begun);
        Ok(())
    }

    fn stands(&self, now: Instant) -> bool {
        let written = *self.written.lock().expect("nothing panics with it");
        written.is_some_and(|written| now.duration_since(written) < STANDS)
    }
}

/// Marks a change at once, for a process that makes one and ends.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not take
/// it.
pub async fn announce(dynamo: &Dynamo) -> Result<()> {
    let put = dynamo.client.put_item().table_name(&dynamo.table);
    let put = put.set_item(Some(item(Timestamp::now())));
    put.send().await.map(drop).map_err(unavailable)
}

fn item(at: Timestamp) -> Item {
    Item::from([
        ("pk".into(), s(keys::CONTROL_PLANE)),
        ("sk".into(), s(keys::CHANGED)),
        ("at".into(), ms(at)),
    ])
}

/// When a change was last marked, by its process's clock: to be compared with what was
/// read before, not with a clock. One eventually consistent read.
///
/// # Errors
/// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
/// answer.
pub async fn last(dynamo: &Dynamo) -> Result<Option<i64>> {
    let item = dynamo
        .get_eventually(keys::CONTROL_PLANE, keys::CHANGED)
        .await?;
    Ok(item.as_ref().and_then(|item| item.num_opt("at")))
}
