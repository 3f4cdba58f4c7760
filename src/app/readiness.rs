//! The readiness of the stores as this process knows it: however many ask, the event
//! store is read once a second, and the control plane's database looked at only where
//! nothing has shown for long whether it answers.

use std::time::{Duration, Instant};

use moka::future::Cache;

use crate::store::dynamo::Dynamo;
use crate::store::postgres::{Contact, Postgres};
use crate::store::table;

/// Longest a store may take to be called ready.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of the event store holds.
const EVENT_STORE_HOLDS: Duration = Duration::from_secs(1);
/// How long the database is believed to answer that did when it was last used. Many
/// times what a serverless one takes to pause: a look wakes it.
const UP_HOLDS: Duration = Duration::from_hours(6);
/// How long it is believed to be out of reach.
const DOWN_HOLDS: Duration = Duration::from_secs(30);

/// What is known of the stores.
#[derive(Debug)]
pub struct StoreReadiness {
    event_store: Cache<(), bool>,
    /// Held while the database is looked at.
    look: tokio::sync::Mutex<()>,
}

impl Default for StoreReadiness {
    fn default() -> Self {
        Self {
            event_store: Cache::builder()
                .max_capacity(1)
                .time_to_live(EVENT_STORE_HOLDS)
                .build(),
            look: tokio::sync::Mutex::default(),
        }
    }
}

impl StoreReadiness {
    /// Whether the event store is read from. At most one read a second.
    pub async fn is_event_store_up(&self, dynamo: &Dynamo) -> bool {
        let read = async {
            let read = tokio::time::timeout(PING_TIMEOUT, table::ping(dynamo)).await;
            matches!(read, Ok(Ok(())))
        };
        self.event_store.get_with((), read).await
    }

    /// Whether the database answered when it was last used. Looks at it before its first
    /// use, every half a minute while it does not, and a few times a day.
    pub async fn is_control_plane_up(&self, postgres: &Postgres) -> bool {
        let _one = self.look.lock().await;
        if is_look_due(postgres.last_contact(), Instant::now()) {
            let look = postgres.in_background();
            let _ = tokio::time::timeout(PING_TIMEOUT, look.ping()).await;
        }
        postgres.last_contact().is_some_and(|last| last.is_up)
    }
}

fn is_look_due(last: Option<Contact>, now: Instant) -> bool {
    last.is_none_or(|last| {
        let holds = if last.is_up { UP_HOLDS } else { DOWN_HOLDS };
        now.duration_since(last.at) >= holds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_looked_at_before_its_first_use_and_rarely_after() {
        let at = Instant::now();
        let last = |is_up| Some(Contact { is_up, at });
        let after = |seconds| at + Duration::from_secs(seconds);
        assert!(is_look_due(None, at));
        assert!(!is_look_due(last(true), after(6 * 3600 - 1)));
        assert!(is_look_due(last(true), after(6 * 3600)));
        assert!(!is_look_due(last(false), after(29)));
        assert!(is_look_due(last(false), after(30)));
    }
}
