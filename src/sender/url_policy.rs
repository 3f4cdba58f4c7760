//! The URLs that an endpoint may have.
//!
//! Owns what the URL alone shows. Called by the API when an endpoint is
//! written. It must not look names up: what a name stands for is checked when a
//! webhook is sent, each time.

use std::net::IpAddr;

use http::Uri;
use url::{Host, ParseError, Url};

use super::address::is_public;
use crate::error::Invalid;

/// The longest URL an endpoint may have.
const URL_BYTES_MAX: usize = 2048;

/// Whether an endpoint may lead to an address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateTargets {
    /// It may, and by http too: on a laptop, or by `delivery.allow_private_targets`.
    Allowed,
    /// It may not.
    Refused,
}

/// Reads a URL that an endpoint is to have.
///
/// # Errors
/// [`Invalid`], which names `url` and says what is wrong with it.
pub fn parse_url(text: &str) -> Result<Url, Invalid> {
    Url::parse(text).map_err(|error| {
        let expected = match error {
            ParseError::EmptyHost => "with a host",
            ParseError::IdnaError | ParseError::InvalidDomainCharacter => "with a valid host name",
            ParseError::InvalidPort => "with a port from 0 to 65535",
            ParseError::InvalidIpv4Address => "with a valid IPv4 address",
            ParseError::InvalidIpv6Address => "with a valid IPv6 address",
            _ => "such as https://example.com/webhooks",
        };
        Invalid::new("url", format!("expected an absolute URL {expected}"))
    })
}

/// Checks a URL that an endpoint is to have.
///
/// What its name resolves to is checked when a webhook is sent, each time.
///
/// # Errors
/// [`Invalid`], which names `url`: not https (or http, where private targets are
/// allowed), over 2048 bytes, with credentials or a fragment, without a host, or, where
/// they are refused, with a host that is `localhost` or an address that is not public.
pub fn check_url(url: &Url, private_targets: PrivateTargets) -> Result<(), Invalid> {
    let allow_private = private_targets == PrivateTargets::Allowed;
    let refuse = |detail: &'static str| Err(Invalid::new("url", detail));
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        _ if allow_private => return refuse("expected an https or http URL"),
        _ => return refuse("expected an https URL"),
    }
    if url.as_str().len() > URL_BYTES_MAX {
        return refuse("expected at most 2048 bytes");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("expected no user name or password; webhooks are signed instead");
    }
    if url.fragment().is_some() {
        return refuse("expected no fragment (the part after \"#\")");
    }
    if Uri::try_from(url.as_str()).is_err() {
        return refuse("expected a URL that fits in an HTTP request");
    }
    match url.host() {
        None => refuse("expected a host"),
        Some(_) if allow_private => Ok(()),
        Some(Host::Domain(name)) if is_localhost(name) => refuse("expected a public host"),
        Some(Host::Domain(_)) => Ok(()),
        Some(Host::Ipv4(address)) => check_address(address.into()),
        Some(Host::Ipv6(address)) => check_address(address.into()),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn check_address(address: IpAddr) -> Result<(), Invalid> {
    if is_public(address) {
        return Ok(());
    }
    Err(Invalid::new(
        "url",
        "expected a public host; this address is not public",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_when_an_endpoint_is_written() {
        use PrivateTargets::{Allowed, Refused};
        let check = |text: &str, private_targets| {
            let checked = check_url(&text.parse().unwrap(), private_targets);
            checked.map_err(|invalid| invalid.to_string())
        };
        for fine in [
            "https://example.com",
            "https://example.com:8443/in?a=b",
            "https://8.8.8.8/",
            "https://[2a00:1450:4001::64]/",
            "https://notlocalhost.com/",
            "https://münchen.example/{x}|y?z=`\"'",
        ] {
            assert_eq!(check(fine, Refused), Ok(()), "{fine}");
        }
        for (bad, detail) in [
            ("http://example.com/", "an https URL"),
            ("ftp://example.com/", "an https URL"),
            ("mailto:a@example.com", "an https URL"),
            ("https://user@example.com/", "no user name"),
            ("https://:pass@example.com/", "no user name"),
            ("https://example.com/#top", "no fragment"),
            ("https://localhost/", "a public host"),
            ("https://LOCALHOST./", "a public host"),
            ("https://a.localhost:1/", "a public host"),
            ("https://10.0.0.1/", "this address is not public"),
            ("https://0x7f.1/", "this address is not public"),
            ("https://[::1]/", "this address is not public"),
            ("https://[::ffff:10.0.0.1]/", "is not public"),
        ] {
            let text = check(bad, Refused).unwrap_err();
            assert!(text.starts_with("url: "), "{text}");
            assert!(text.contains(detail), "{bad}: {text}");
        }
        let long = |len: usize| format!("https://example.com/{:x<1$}", "", len - 20);
        assert_eq!(check(&long(2048), Refused), Ok(()));
        assert!(check(&long(2049), Refused).unwrap_err().contains("2048"));

        for fine in [
            "http://localhost:3000/",
            "http://127.0.0.1/",
            "https://10.0.0.1/",
        ] {
            assert_eq!(check(fine, Allowed), Ok(()), "{fine}");
        }
        for bad in [
            "ftp://localhost/",
            "http://u:p@localhost/",
            "http://localhost/#a",
        ] {
            assert!(check(bad, Allowed).is_err(), "{bad}");
        }
    }
}
