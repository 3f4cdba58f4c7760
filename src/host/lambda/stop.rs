//! The end of a function's process: SIGTERM, which Lambda sends because
//! [`extension`](super::extension) is registered, and some hundred milliseconds
//! later the end.

use std::pin::Pin;
use std::time::Duration;

use tokio_util::task::TaskTracker;

/// For the answer of an invocation that has just ended to reach Lambda.
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// Goes on with `polling` until no invocation is `in_flight` and the answers are
/// out, for at most `timeout`; not at all if none is.
pub async fn finish(
    mut polling: Pin<&mut impl Future>,
    in_flight: &TaskTracker,
    timeout: Duration,
) {
    in_flight.close();
    let answered = async {
        // One more may have come while the last one was answered.
        while !in_flight.is_empty() {
            in_flight.wait().await;
            tokio::time::sleep(ANSWER_TIME).await;
        }
    };
    tokio::select! {
        // Idle, it is not asked for more.
        biased;
        done = tokio::time::timeout(timeout, answered) => if done.is_err() {
            tracing::warn!(invocations = in_flight.len(), "shutdown timed out: invocations aborted, will be retried");
        },
        _ = polling.as_mut() => {}
    }
}
