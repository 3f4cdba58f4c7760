//! The end of a connection whose client may still be sending: it is read from for a
//! while after its last answer.
//!
//! To close at once would make the system answer what still arrives with a reset, and a
//! client that sees one loses the answer with it, though that came first.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long is read on at most.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long is waited for more.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// How much is read at most: some times the largest body there may be.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Says that no more will be sent, and reads on until the client has said so too, or
/// has had its time or sent its fill. How much was read.
pub async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes_max: usize) -> usize {
    let mut read = 0;
    if stream.shutdown().await.is_err() {
        return read;
    }
    let reading = async {
        let mut buffer = vec![0; BUFFER_BYTES];
        while read < bytes_max {
            match timeout(IDLE_MAX, stream.read(&mut buffer)).await {
                Ok(Ok(more @ 1..)) => read += more,
                _ => break,
            }
        }
    };
    let _ = timeout(TIME_MAX, reading).await;
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_still_sent_is_read_to_its_end() {
        let (mut client, server) = tokio::io::duplex(100);
        let closing = tokio::spawn(close(server, BYTES_MAX));
        client.write_all(&[0; 12_345]).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it is told first");
        drop(client);
        assert_eq!(closing.await.unwrap(), 12_345);
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_bounded() {
        let (mut client, server) = tokio::io::duplex(100);
        let closing = tokio::spawn(close(server, 1000));
        while client.write_all(&[0; 100]).await.is_ok() {}
        assert_eq!(closing.await.unwrap(), 1000);
    }
}
