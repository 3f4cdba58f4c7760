//! The signals that end the process: the first lets it finish what is under way,
//! the second ends it at once.

use std::io;
use std::time::Duration;

use crate::telemetry;

/// For the last lines of the log when nothing else is waited for.
const FLUSH_MAX: Duration = Duration::from_millis(200);

/// A wish that the process end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: ctrl-c.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl StopSignal {
    /// The exit code of a process that it ended at once, as shells have it.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// The signals from when it was made: none is lost between two looks.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Begins to listen: from here on no signal ends the process by itself.
    ///
    /// # Errors
    /// The process may not listen for signals.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next.
    ///
    /// # Errors
    /// None here.
    pub async fn next(&mut self) -> io::Result<StopSignal> {
        tokio::select! {
            _ = self.interrupt.recv() => Ok(StopSignal::Interrupt),
            _ = self.terminate.recv() => Ok(StopSignal::Terminate),
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// None here.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for ctrl-c: there are no signals.
    ///
    /// # Errors
    /// The process may not listen for it.
    pub async fn next(&mut self) -> io::Result<StopSignal> {
        tokio::signal::ctrl_c().await?;
        Ok(StopSignal::Interrupt)
    }
}

/// Ends the process at the next signal, whatever is under way. What that was is
/// still due at the next start.
pub async fn exit_at_next(mut signals: Signals) {
    if let Ok(signal) = signals.next().await {
        telemetry::flush_log(FLUSH_MAX);
        std::process::exit(signal.exit_code());
    }
}

/// What a stop waits for, as a sentence; nothing if it waits for nothing.
pub fn waits_for(requests: usize, deliveries: usize) -> Option<String> {
    let counted = |count: usize, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {many}")),
    };
    let requests = counted(requests, "request", "requests");
    let deliveries = counted(deliveries, "delivery", "deliveries");
    let (what, verb) = match (requests, deliveries) {
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) if one.starts_with("1 ") => (one, "is"),
        (Some(some), None) | (None, Some(some)) => (some, "are"),
        (Some(requests), Some(deliveries)) => (format!("{requests} and {deliveries}"), "are"),
    };
    Some(format!(
        "Stopping: {what} {verb} under way; Ctrl-C again to stop at once"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_what_it_waits_for() {
        let said = |requests, deliveries| waits_for(requests, deliveries).unwrap_or_default();
        assert_eq!(
            said(3, 2),
            "Stopping: 3 requests and 2 deliveries are under way; Ctrl-C again to stop at once"
        );
        assert_eq!(
            said(1, 0),
            "Stopping: 1 request is under way; Ctrl-C again to stop at once"
        );
        assert_eq!(
            said(0, 12),
            "Stopping: 12 deliveries are under way; Ctrl-C again to stop at once"
        );
        assert_eq!(
            said(1, 1),
            "Stopping: 1 request and 1 delivery are under way; Ctrl-C again to stop at once"
        );
        assert_eq!(waits_for(0, 0), None);
    }
}
