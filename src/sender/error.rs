//! The errors of an attempt that got no response, as the endpoint's owner reads them.
//!
//! Owns the mapping from the errors of hyper, rustls and the system. The texts
//! are stored with the attempt and shown: they must never hold a URL, a header or
//! a body.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

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
    Tls {
        reason: &'static str,
        #[source]
        cause: Option<TlsCause>,
    },
    /// No complete response in time.
    #[error("timed out after {}", display(*after))]
    Timeout { after: Duration },
    /// The receiver closed the connection before its response was complete.
    #[error("connection closed before the response was complete")]
    Closed,
    /// What came back is not an HTTP/1.1 response.
    #[error("response is not valid HTTP/1.1")]
    InvalidResponse,
    /// The status line and the headers are longer than is read of them.
    #[error("response headers are larger than 64 KiB")]
    HeadTooLarge,
    /// One 1xx response after the other, and no other.
    #[error("more than 32 interim responses (1xx)")]
    TooManyInterim,
}

/// What rustls says of a failure, for the log: it is shown to nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsCause(String);

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
                reason: "the handshake was cut short",
                cause: None,
            };
        }
        Self::Closed
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
                reason: tls_reason(error),
                cause: Some(TlsCause(error.to_string())),
            });
        }
        let http = error.downcast_ref::<hyper::Error>();
        if http.is_some_and(hyper::Error::is_parse_too_large) {
            return Some(SendError::HeadTooLarge);
        }
        if http.is_some_and(hyper::Error::is_parse) {
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

/// Why there is no TLS session, for whoever runs the receiver.
fn tls_reason(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error as Tls};
    match error {
        Tls::InvalidCertificate(certificate) => match certificate {
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "its certificate is for another host name"
            }
            Certificate::UnknownIssuer => {
                "its certificate is of an authority that is not known here"
            }
            Certificate::Revoked => "its certificate is revoked",
            Certificate::BadSignature => "its certificate has a signature that is not its issuer's",
            _ => "its certificate is not valid",
        },
        Tls::NoCertificatesPresented => "it has no certificate",
        Tls::AlertReceived(alert) => match alert {
            Alert::CertificateRequired | Alert::NoCertificate => "it asks for a client certificate",
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied => "it refused the client certificate",
            Alert::ProtocolVersion | Alert::InsufficientSecurity => "no TLS version in common",
            Alert::UnrecognisedName => "it does not know the host name",
            Alert::HandshakeFailure => "it refused the handshake",
            _ => "it broke the handshake off",
        },
        Tls::PeerIncompatible(_) => "no TLS version or cipher suite in common",
        Tls::InvalidMessage(_)
        | Tls::InappropriateMessage { .. }
        | Tls::InappropriateHandshakeMessage { .. }
        | Tls::PeerMisbehaved(_)
        | Tls::PeerSentOversizedRecord => "what it answered is not TLS",
        _ => "the handshake failed",
    }
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
        let issuer = rustls::CertificateError::UnknownIssuer;
        let tls = rustls::Error::InvalidCertificate(issuer);
        let nested = io::Error::other(io::Error::other(tls.clone()));
        let found = classify(&nested).unwrap();
        let expected = "TLS failed: its certificate is of an authority that is not known here";
        assert_eq!(found.to_string(), expected);
        // The log has it in the library's words.
        assert_eq!(crate::error::causes(&found), Some(tls.to_string()));
        assert_eq!(classify(&io::Error::other("?")), None);
    }
}
