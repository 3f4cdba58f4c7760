//! The IP addresses that a webhook may go to.
//!
//! Owns the table of addresses that are not public, after IANA's special-purpose
//! registries (RFC 6890). Called by the connector for every address it is about
//! to dial and by [`super::check_url`] for literal ones. It must not look names up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not globally reachable: first address, prefix bits.
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // "this network"
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, cloud metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// IANA hands out global unicast addresses from here alone.
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What of [`GLOBAL_UNICAST_V6`] is not globally reachable.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 3] = [
    // IETF protocol assignments: Teredo, benchmarking, ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation, twice.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// IPv4-mapped addresses: the kernel dials the IPv4 address in the last 32 bits.
const MAPPED: (Ipv6Addr, u32) = (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// NAT64 (RFC 6052): a gateway dials the IPv4 address in the last 32 bits.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
/// 6to4 (RFC 3056): a relay tunnels to the IPv4 address after the first 16 bits.
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Whether `address` is reachable by anyone on the internet, as far as its number
/// tells.
///
/// IPv6 addresses that stand for an IPv4 one (mapped, NAT64, 6to4) are as public
/// as that one. IPv4-compatible addresses, NAT64's local-use prefix, Teredo and
/// whatever IANA has not handed out are not public.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !NOT_PUBLIC_V4.iter().any(|(network, bits)| {
        let shift = u32::BITS - bits;
        address.to_bits() >> shift == network.to_bits() >> shift
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    if is_in(address, MAPPED) || is_in(address, NAT64) {
        return is_public_v4(v4_at(bits, 96));
    }
    if is_in(address, SIX_TO_FOUR) {
        return is_public_v4(v4_at(bits, 16));
    }
    is_in(address, GLOBAL_UNICAST_V6) && !NOT_PUBLIC_V6.iter().any(|net| is_in(address, *net))
}

fn is_in(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    let shift = u128::BITS - bits;
    address.to_bits() >> shift == network.to_bits() >> shift
}

/// The IPv4 address that begins at bit `at` of an IPv6 one.
fn v4_at(bits: u128, at: u32) -> Ipv4Addr {
    let octets = (bits << at).to_be_bytes();
    Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_public_text(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn the_edges_of_every_ipv4_range_are_blocked() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.255",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.255",
            "224.0.0.0",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
        ] {
            assert!(!is_public_text(text), "{text}");
        }
    }

    #[test]
    fn their_neighbours_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "223.255.255.255",
            "2600::1",
            "2001:200::1",
            "2001:db7:ffff::1",
            "2001:db9::1",
            "3ffe::1",
            "3fff:1000::1",
            "2a00:1450:4001::64",
        ] {
            assert!(is_public_text(text), "{text}");
        }
    }

    #[test]
    fn special_ipv6_is_blocked() {
        for text in [
            "::",
            "::1",
            "::2",
            "fc00::",
            "fdff::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "feff::1",
            "ff02::1",
            "2001::1",
            "2001:1ff:ffff::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "5f00::1",
            "4000::1",
            "1fff::1",
            "64:ff9b:1::8.8.8.8",
            "64:ff9a::8.8.8.8",
            "::8.8.8.8",
        ] {
            assert!(!is_public_text(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_ipv4_address_decides(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let low = u128::from(bits);
            for embedded in [
                MAPPED.0.to_bits() | low,
                NAT64.0.to_bits() | low,
                SIX_TO_FOUR.0.to_bits() | (low << 80),
            ] {
                let v6 = Ipv6Addr::from_bits(embedded);
                prop_assert_eq!(is_public(v6.into()), is_public(v4.into()), "{}", v6);
            }
        }

        #[test]
        fn what_the_standard_library_calls_local_is_blocked(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let is_local = v4.is_private() || v4.is_loopback() || v4.is_link_local()
                || v4.is_multicast() || v4.is_documentation() || v4.is_broadcast()
                || v4.is_unspecified();
            prop_assert!(!(is_local && is_public(v4.into())));
        }
    }
}
