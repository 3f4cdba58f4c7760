//! The loop of a periodic task: one step after the other until the process ends,
//! whatever becomes of a step.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::isolation::{STORE_CALLS_TIMEOUT, catch_panic_and_timeout};
use super::outcome::report;
use crate::error::Result;

/// What a step is reported as and how often it is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeriodicTask {
    /// The kind of work, for the log.
    what: &'static str,
    /// Which of it, for the log.
    name: &'static str,
    /// From the end of a step that failed to the next.
    interval: Duration,
    /// The longest a step may take.
    timeout: Duration,
}

impl PeriodicTask {
    /// A task whose steps may take as long as calls to the stores may.
    pub(super) fn new(what: &'static str, name: &'static str, interval: Duration) -> Self {
        Self {
            what,
            name,
            interval,
            timeout: STORE_CALLS_TIMEOUT,
        }
    }

    /// Takes one `step` after the other until `stop` is cancelled, each followed by
    /// the pause it answers. One that fails, panics or hangs is logged, and the
    /// next is taken all the same.
    pub(super) async fn repeat<F: Future<Output = Result<Duration>>>(
        self,
        stop: &CancellationToken,
        step: impl Fn() -> F,
    ) {
        loop {
            let done = catch_panic_and_timeout(self.timeout, step()).await;
            let pause = done.unwrap_or_else(|error| {
                report(self.what, self.name, &error);
                self.interval
            });
            let slept = stop.run_until_cancelled(tokio::time::sleep(pause));
            if slept.await.is_none() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::error::Error;

    #[tokio::test]
    async fn a_loop_outlives_a_step_that_fails_or_panics_or_hangs() {
        let (stop, steps) = (CancellationToken::new(), AtomicU32::new(0));
        let step = || async {
            match steps.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("as it may happen"),
                1 => Err(Error::NotFound("anything".into())),
                2 => std::future::pending().await,
                _ => {
                    stop.cancel();
                    Ok(Duration::ZERO)
                }
            }
        };
        let task = PeriodicTask {
            timeout: Duration::from_millis(20),
            ..PeriodicTask::new("test", "test", Duration::ZERO)
        };
        task.repeat(&stop, step).await;
        assert_eq!(steps.load(Ordering::Relaxed), 4);
    }
}
