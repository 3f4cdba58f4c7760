//! The errors of an attempt that got no response, as the endpoint's owner reads them.
//!
//! Owns the mapping from the errors of hyper, rustls and the system. The texts
//! are stored with the attempt and shown: they must never hold a URL, a header or
//! a body.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// How much of a TLS error's text is kept, in characters.
const REASON_CHARS_MAX: usize = 200;

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant shows its fields")]
pub enum SendError {
    /// The URL does not fit in an HTTP request.
    #[error("URL is not valid")]
    InvalidUrl,
    /// None of the host's addresses is public; this is the first of them.
    #[error("address {address} is not public")]
    Blocked { address: IpAddr },
    /// The host name has no address, or none was found.
    #[error("host name not resolved")]
    Dns,
    /// No connection: "connection refused", "network unreachable", ….
    #[error("{reason}")]
    Connect { reason: &'static str },
    /// No connection in time.
    #[error("no connection after {}", display(*after))]
    ConnectTimeout { after: Duration },
    /// No TLS session: a bad certificate, no common version, not TLS at all.
    #[error("TLS failed: {reason}")]
    Tls { reason: String },
    /// No complete response in time.
    #[error("timed out after {}", display(*after))]
    Timeout { after: Duration },
    /// The receiver closed the connection before its response was complete.
    #[error("connection closed before the response was complete")]
    Closed,
    /// What came back is not an HTTP/1.1 response, or its head is over 64 KiB.
    #[error("response is not valid HTTP/1.1")]
    InvalidResponse,
}

impl SendError {
    pub(super) fn connect(error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::ConnectionReset => "connection reset",
            io::ErrorKind::HostUnreachable => "host unreachable",
            io::ErrorKind::NetworkUnreachable => "network unreachable",
            io::ErrorKind::TimedOut => "connection timed out",
            _ => "connection failed",
        };
        Self::Connect { reason }
    }

    pub(crate) fn request(error: &hyper_util::client::legacy::Error) -> Self {
        if let Some(known) = classify(error) {
            return known;
        }
        // The connector says why it failed, so a failure to connect without a
        // known cause is the TLS handshake's.
        if error.is_connect() {
            return Self::Tls {
                reason: "the handshake was cut short".to_owned(),
            };
        }
        Self::Closed
    }

    pub(super) fn body(error: &hyper::Error) -> Self {
        classify(error).unwrap_or(Self::Closed)
    }
}

/// The first cause, from the outside in, that says something.
fn classify(error: &(dyn Error + 'static)) -> Option<SendError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<SendError>() {
            return Some(error.clone());
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(SendError::Tls {
                reason: error.to_string().chars().take(REASON_CHARS_MAX).collect(),
            });
        }
        if error.downcast_ref().is_some_and(hyper::Error::is_parse) {
            return Some(SendError::InvalidResponse);
        }
        // An io::Error's source() skips the error it wraps.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

fn display(limit: Duration) -> String {
    match limit.subsec_millis() {
        0 => format!("{} s", limit.as_secs()),
        _ => format!("{} ms", limit.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_and_plain() {
        let timeout = |after| SendError::Timeout { after }.to_string();
        assert_eq!(timeout(Duration::from_secs(30)), "timed out after 30 s");
        assert_eq!(
            timeout(Duration::from_millis(1500)),
            "timed out after 1500 ms"
        );
        let address = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(
            SendError::Blocked { address }.to_string(),
            "address 10.0.0.1 is not public"
        );
        let refused = SendError::connect(&io::ErrorKind::ConnectionRefused.into());
        assert_eq!(refused.to_string(), "connection refused");
    }

    #[test]
    fn a_cause_is_found_however_deep() {
        let tls = rustls::Error::HandshakeNotComplete;
        let nested = io::Error::other(io::Error::other(tls.clone()));
        let reason = tls.to_string();
        assert_eq!(classify(&nested), Some(SendError::Tls { reason }));
        assert_eq!(classify(&io::Error::other("?")), None);
    }
}
