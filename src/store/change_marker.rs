//! The marker of control-plane changes: an item in DynamoDB that says that one has
//! begun, so that whoever projects what others left behind asks PostgreSQL only then,
//! and a database that nobody uses may pause.
//!
//! Written before the transaction of a change, read by the sweeper.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::dynamo::{Dynamo, Item, ItemExt, ms, s, unavailable};
use super::keys;
use crate::error::Result;

/// How long a process lets its last marker stand for more changes. Whoever reads it
/// looks for several times as long.
const STANDS: Duration = Duration::from_secs(60);

/// Marks the changes of a process.
#[derive(Debug)]
pub(super) struct ChangeMarker {
    dynamo: Dynamo,
    written: Mutex<Option<Instant>>,
}

impl ChangeMarker {
    pub(super) fn new(dynamo: Dynamo) -> Self {
        Self {
            dynamo,
            written: Mutex::default(),
        }
    }

    /// Marks that a change is about to be made. One write a minute, whatever changes.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::error::Error::Unavailable) when DynamoDB does not
    /// answer: the change could not be projected either.
    pub(super) async fn mark(&self) -> Result<()> {
        let begun = Instant::now();
        if self.stands(begun) {
            return Ok(());
        }
        let put = self.dynamo.client.put_item().table_name(&self.dynamo.table);
        let put = put.set_item(Some(item(Timestamp::now())));
        put.send().await.map_err(unavailable)?;
        *self.written.lock().expect("nothing panics with it") = Some(begun);
        Ok(())
    }

    fn stands(&self, now: Instant) -> bool {
        let written = *self.written.lock().expect("nothing panics with it");
        written.is_some_and(|written| now.duration_since(written) < STANDS)
    }
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
