//! What every request's head must be, whatever it asks for: understood in one way by
//! all who read it, this process and the proxies before it.
//!
//! Asked by the frame around all routes before anything else is done. On Lambda the
//! gateway has read the head before, and hands on what it found: the same rules hold,
//! but that it need not hand on the `Host`.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Version};

use super::client_address::Peer;
use crate::error::{Error, Result};

/// The lengths of a body contradict each other: an extension of the request, of the
/// host's, which alone sees them.
#[derive(Debug, Clone, Copy)]
pub struct AmbiguousLength;

/// Headers of which one reader might take the first and another one the last, as they
/// are written in refusals. Of `Idempotency-Key` its own rules say more.
const SINGLE: [(HeaderName, &str); 4] = [
    (HOST, "Host"),
    (AUTHORIZATION, "Authorization"),
    (CONTENT_TYPE, "Content-Type"),
    (CONTENT_LENGTH, "Content-Length"),
];

/// Headers that are read here or by proxies, beside those in [`SINGLE`].
const READ: [&str; 14] = [
    "accept",
    "connection",
    "content-encoding",
    "expect",
    "forwarded",
    "idempotency-key",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "x-amzn-trace-id",
    "x-real-ip",
    "x-request-id",
];
/// Beginnings of such names.
const READ_PREFIXES: [&str; 3] = ["ce-", "content-", "x-forwarded-"];

/// Checks a request's head.
///
/// # Errors
/// [`Error::Invalid`], which names the header.
pub fn check(parts: &Parts) -> Result<()> {
    if parts.extensions.get::<AmbiguousLength>().is_some() {
        let detail = "expected either this or Transfer-Encoding, not both";
        return Err(Error::invalid("Content-Length", detail));
    }
    for (name, written) in SINGLE {
        if parts.headers.get_all(name).iter().nth(1).is_some() {
            return Err(Error::invalid(written, "expected it once"));
        }
    }
    check_host(parts)?;
    check_authorization(&parts.headers)?;
    check_names(&parts.headers)
}

const HOST_EXPECTED: &str = "expected a host, with a port or without";

/// RFC 9112 §3.2.
fn check_host(parts: &Parts) -> Result<()> {
    let Some(host) = parts.headers.get(HOST) else {
        let peer = parts.extensions.get::<Peer>();
        let is_read_here = matches!(peer, Some(Peer::Connection(_)));
        if is_read_here && parts.version == Version::HTTP_11 {
            return Err(Error::invalid("Host", HOST_EXPECTED));
        }
        return Ok(());
    };
    if host.to_str().is_ok_and(is_host) {
        Ok(())
    } else {
        Err(Error::invalid("Host", HOST_EXPECTED))
    }
}

/// Whether `text` is a host, with a port or without. A comma is allowed in one, and
/// stands in none: it joins two.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else {
        return false;
    };
    let port = text.strip_prefix(authority.host()).unwrap_or("?");
    let port = match port.strip_prefix(':') {
        Some(port) => port.is_empty() || authority.port_u16().is_some_and(|port| port > 0),
        None => port.is_empty(),
    };
    port && !authority.host().is_empty() && !text.contains(['@', ','])
}

/// Some gateways join the values of a header that is sent twice.
fn check_authorization(headers: &HeaderMap) -> Result<()> {
    let value = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let begins = |value: &[u8]| {
        value
            .get(..7)
            .is_some_and(|b| b.eq_ignore_ascii_case(b"bearer "))
    };
    match value {
        // No token has a comma (RFC 6750 §2.1).
        Some(value) if begins(value) && value.contains(&b',') => {
            Err(Error::invalid("Authorization", "expected it once"))
        }
        _ => Ok(()),
    }
}

/// Many servers take an underscore in a name for a hyphen, so that a header of one name
/// may pass a proxy that would have replaced or removed one of the other. What is read
/// nowhere may be called what it likes.
fn check_names(headers: &HeaderMap) -> Result<()> {
    for name in headers.keys().map(HeaderName::as_str) {
        // Of attributes their own rules say more.
        if !name.contains('_') || name.starts_with("ce-") {
            continue;
        }
        let meant = name.replace('_', "-");
        let is_single = SINGLE.iter().any(|(single, _)| *single == *meant);
        let begins = READ_PREFIXES.iter().any(|begin| meant.starts_with(begin));
        if is_single || begins || READ.contains(&&*meant) {
            let detail = "expected a name with hyphens, not underscores";
            return Err(Error::invalid(name.to_owned(), detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderValue, Request};

    use super::*;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::new(());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(name, value);
        }
        request.into_parts().0
    }

    /// The header that a refusal names.
    fn refused(headers: &[(&str, &str)]) -> Option<String> {
        match check(&parts(headers)) {
            Ok(()) => None,
            Err(Error::Invalid(invalid)) => Some(invalid.field.unwrap().into_owned()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port_maybe() {
        for host in [
            "a",
            "api.example.com",
            "api.example.com:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "a:",
            "a_b",
            "xn--nxasmq6b",
        ] {
            assert_eq!(refused(&[("host", host)]), None, "{host}");
        }
        for host in [
            "", " ", "a b", "a/b", "a?b", "a#b", "user@a", "a:99999", "a:0", "a:b", "a:1:2", "[",
            "[::1", "::1", ":80", "a,b", "http://a", "a\\b", "\u{e9}", "a\t", "<a>", "[::1]a",
        ] {
            assert_eq!(
                refused(&[("host", host)]).as_deref(),
                Some("Host"),
                "{host}"
            );
        }
    }

    #[test]
    fn a_connection_of_http_1_1_names_its_host() {
        let mut bare = parts(&[]);
        assert!(check(&bare).is_ok(), "of no connection");
        bare.extensions
            .insert(Peer::Gateway(Ipv4Addr::LOCALHOST.into()));
        assert!(check(&bare).is_ok(), "of a gateway");
        bare.extensions
            .insert(Peer::Connection(Ipv4Addr::LOCALHOST.into()));
        assert!(check(&bare).is_err());
        bare.version = Version::HTTP_10;
        assert!(check(&bare).is_ok(), "of HTTP/1.0");
    }

    #[test]
    fn what_stands_once_is_refused_twice() {
        for (name, value, written) in [
            ("host", "a", "Host"),
            ("authorization", "Bearer a", "Authorization"),
            ("content-type", "application/json", "Content-Type"),
            ("content-length", "1", "Content-Length"),
        ] {
            assert_eq!(refused(&[(name, value)]), None, "{name}");
            assert_eq!(
                refused(&[(name, value), (name, value)]).as_deref(),
                Some(written)
            );
        }
        let joined = [("authorization", "bearer a, Bearer b")];
        assert_eq!(refused(&joined).as_deref(), Some("Authorization"));
        let digest = [("authorization", "Digest realm=\"a\", nonce=\"b\"")];
        assert_eq!(refused(&digest), None, "commas of another scheme");
        assert_eq!(refused(&[("accept", "a/b"), ("accept", "c/d")]), None);
    }

    #[test]
    fn names_that_proxies_confuse_with_what_is_read_are_refused() {
        for name in [
            "x_forwarded_for",
            "x-forwarded_for",
            "X_Forwarded_Proto",
            "ce_id",
            "ce_tenant",
            "content_type",
            "content_length",
            "content_encoding",
            "transfer_encoding",
            "idempotency_key",
            "x_request_id",
            "x_amzn_trace_id",
        ] {
            let refused = refused(&[(name, "1")]);
            assert_eq!(refused.as_deref(), Some(&*name.to_lowercase()));
        }
        for name in [
            "x_api_gateway",
            "sec_ch_ua",
            "x-forwarded-for",
            "ce-id",
            "ce-my_ext",
            "_",
        ] {
            assert_eq!(refused(&[(name, "1")]), None, "{name}");
        }
    }

    #[test]
    fn lengths_that_contradict_are_refused() {
        let mut both = parts(&[("host", "a")]);
        both.extensions.insert(AmbiguousLength);
        assert!(check(&both).is_err());
    }
}
