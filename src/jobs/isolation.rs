//! The isolation of work from the worker that runs it: a panic and a hang are
//! failures of the work alone.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;

use crate::error::{Error, Result};

/// Longest that all calls of a job or a sweep to the stores may take.
pub(super) const STORE_CALLS_TIMEOUT: Duration = Duration::from_mins(5);

/// Waits for `work`, which fails if it panics or takes longer than `timeout`.
///
/// # Errors
/// Those of `work`; [`Error::Unavailable`] after `timeout`, [`Error::Internal`]
/// after a panic.
pub(super) async fn catch_panic_and_timeout<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    // A job's future is large: it is moved once.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    match tokio::time::timeout(timeout, work).await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(panicked(panic)),
        // As on a connection whose other end is gone.
        Err(_) => Err(Error::Unavailable {
            what: "an answer in time",
            source: anyhow::anyhow!("given up after {} s", timeout.as_secs_f64()),
        }),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Error {
    let panic = panic.downcast::<&str>().map(|text| text.to_string());
    let panic = panic.or_else(|other| other.downcast::<String>().map(|text| *text));
    Error::internal(anyhow::anyhow!("panicked: {}", panic.unwrap_or_default()))
}
