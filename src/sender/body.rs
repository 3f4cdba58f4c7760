//! The first of a response's body, as text to be shown.

use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

/// How long a body is read for. The status has decided by then.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Read, at most.
    pub read_bytes: usize,
    /// Handed back, at most.
    pub kept_bytes: usize,
}

/// What came of `body` until it ended, failed or was too long, or `until`, as text. Of
/// one that was not read to its end the connection is closed.
pub(super) async fn read_text(body: Incoming, limits: Limits, until: Instant) -> String {
    let until = until.min(Instant::now() + READ_TIMEOUT);
    let mut head = Vec::new();
    // Whatever becomes of the rest, this much came.
    let _ = timeout_at(until, read_head(body, limits, &mut head)).await;
    to_text(&head)
}

async fn read_head(mut body: Incoming, limits: Limits, head: &mut Vec<u8>) {
    // A body that announces more than is read costs its connection in any case.
    let read_max = if body.size_hint().lower() > limits.read_bytes as u64 {
        limits.kept_bytes
    } else {
        limits.read_bytes
    };
    let mut read = 0;
    while read < read_max
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            read += data.len();
            let room = limits.kept_bytes - head.len();
            head.extend_from_slice(&data[..room.min(data.len())]);
        }
    }
}

fn to_text(head: &[u8]) -> String {
    let whole = match std::str::from_utf8(head) {
        // A character that the limit cut in two.
        Err(error) if error.error_len().is_none() => &head[..error.valid_up_to()],
        _ => head,
    };
    String::from_utf8_lossy(whole)
        .chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_is_dropped() {
        assert_eq!(to_text(&"né".as_bytes()[..2]), "n");
        assert_eq!(to_text(b"a\xffb\r\n\0"), "a\u{fffd}b\u{fffd}\n\u{fffd}");
    }
}
