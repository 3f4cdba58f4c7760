//! The address of whoever sends a request: the peer's, or behind proxies that are
//! trusted the one that the last of them wrote down.
//!
//! The host says who the peer is; the frame around all routes makes a client of it;
//! `auth` counts what failed by it. What a client says of itself counts for nothing.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::auth_failures::Source;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who handed a request to this process: an extension of the request, of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The other end of a connection.
    Connection(IpAddr),
    /// The other end of the connection to the gateway that invoked this function.
    Gateway(IpAddr),
}

impl Peer {
    fn address(self) -> IpAddr {
        match self {
            Self::Connection(address) | Self::Gateway(address) => address.to_canonical(),
        }
    }
}

/// Where a request is from, by its `peer` and its `headers`, where those proxies are
/// believed that are in `trusted`.
///
/// `X-Forwarded-For` is read from its end, where the nearest proxy has written, up to
/// the first address that is no trusted proxy's: what stands before it anybody may have
/// made up.
pub fn source(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Source {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut nearest = peer.address();
    if is_trusted(nearest) {
        let values = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
        for hop in hops {
            // One that cannot be read is no client's to know: its proxy stands for it.
            let Some(address) = address(hop) else { break };
            nearest = address;
            if !is_trusted(nearest) {
                break;
            }
        }
    }
    Source::from(network(nearest))
}

/// The address of a hop, which some write down with a port.
pub fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let bare = match bare {
        Some((bare, _)) => bare,
        None => match hop.split_once(':') {
            Some((bare, port)) if !port.contains(':') => bare,
            _ => hop,
        },
    };
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

/// An IPv6 address stands for the network it can choose from.
fn network(address: IpAddr) -> IpAddr {
    const INTERFACE: u128 = u64::MAX as u128;
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !INTERFACE).into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn forwarded(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_client_is_who_the_last_trusted_proxy_saw() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (peer, forwarded_for, expected) in [
            ("203.0.113.1", &["198.51.100.7"] as &[&str], "203.0.113.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.2.3.4", "198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["[2001:db8:1:2:3:4:5:6]:80"], "2001:db8:1:2::"),
            ("fd00::1", &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
            ("2001:db8:1:2:3::9", &[], "2001:db8:1:2::"),
        ] {
            let peer = Peer::Connection(peer.parse().unwrap());
            let found = source(peer, &forwarded(forwarded_for), &trusted);
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(found, Source::from(expected), "{peer:?} {forwarded_for:?}");
        }
    }
}
