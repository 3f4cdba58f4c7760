//! The activity of projects, written down: what this process counted is added to what is
//! kept of each project.
//!
//! Called by the host: now and then while a process lives, at the end of an invocation of
//! Lambda, and at the end of both. Nothing else waits for it. A process in which nothing
//! happened writes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::isolation::{STORE_CALLS_TIMEOUT, catch_panic_and_timeout};
use super::outcome::report;
use crate::app::App;
use crate::error::Result;
use crate::store::activity;
use crate::telemetry::activity::{ActivityWrite, Added};

/// Between two writes of a process: what happened is seen that much later. Each is paid
/// for, but in the embedded store.
const INTERVAL: Duration = Duration::from_secs(15);
const EMBEDDED_INTERVAL: Duration = Duration::from_secs(2);
/// Between two writes of an invocation, which a request waits for.
const INVOCATION_INTERVAL: Duration = Duration::from_secs(30);
/// How long an invocation waits for them, and the end of a process.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Writes under way.
const WRITES_MAX: usize = 16;

/// Writes down what was counted now and then until `stop` is cancelled, and then for the
/// last time.
pub async fn run(app: Arc<App>, stop: CancellationToken) {
    let interval = if app.config.uses_embedded_dynamodb() {
        EMBEDDED_INTERVAL
    } else {
        INTERVAL
    };
    loop {
        let slept = stop.run_until_cancelled(tokio::time::sleep(interval));
        let is_over = slept.await.is_none();
        let timeout = if is_over {
            TIMEOUT
        } else {
            STORE_CALLS_TIMEOUT
        };
        let flushed = async {
            flush(&app).await;
            Ok(())
        };
        if let Err(error) = catch_panic_and_timeout(timeout, flushed).await {
            report("activity", "flush", &error);
        }
        if is_over {
            return;
        }
    }
}

/// Writes down what was counted if that was not done for half a minute, as an invocation
/// ends.
pub async fn flush_if_due(app: &App, now: Timestamp) {
    let activity = &app.telemetry.activity;
    if !activity.is_empty() && activity.flushes.begin(now, INVOCATION_INTERVAL) {
        flush_in_time(app).await;
    }
}

/// Writes down what was counted, as a process ends.
pub async fn flush_in_time(app: &App) {
    // What there was no time for is lost: the counts are about what happened.
    let _ = tokio::time::timeout(TIMEOUT, flush(app)).await;
}

/// Writes down what was counted; how many items that were. What the store refuses is kept
/// for the next time.
pub async fn flush(app: &App) -> usize {
    let writes = app.telemetry.activity.take();
    let count = writes.len();
    let mut written = stream::iter(writes)
        .map(|write| async move {
            let written = add(app, &write).await;
            (write, written)
        })
        .buffer_unordered(WRITES_MAX);
    let mut refused = None;
    while let Some((write, written)) = written.next().await {
        if let Err(error) = written {
            // One that it will never take would be sent for ever.
            if error.is_outage() {
                app.telemetry.activity.put_back(write);
            }
            refused = Some(error);
        }
    }
    if let Some(error) = refused {
        report("activity", "write", &error);
    }
    count
}

async fn add(app: &App, write: &ActivityWrite) -> Result<()> {
    let (dynamo, days) = (&app.dynamo, app.config.retention_days);
    match &write.added {
        Added::Counts(span, start, counts) => {
            activity::add(dynamo, &write.project, (*span, *start), counts, days).await
        }
        Added::Failures(hour, failures) => {
            activity::add_failures(dynamo, &write.project, *hour, failures, days).await
        }
    }
}
