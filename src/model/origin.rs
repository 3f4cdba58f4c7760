//! The origin of a URL: scheme, host and port, which decide who is sent what goes
//! there (RFC 6454 §4).

use url::{Host, Url};

/// Whether both lead to the same scheme, host and port.
///
/// The parser has written the host in lower case and in Punycode by then, and left out
/// the port that the scheme has anyway. A full stop at the end of a name changes how it
/// is looked up, not whose it is.
pub fn is_same(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.port_or_known_default() == b.port_or_known_default()
        && is_same_host(a, b)
}

fn is_same_host(a: &Url, b: &Url) -> bool {
    match (a.host(), b.host()) {
        (Some(Host::Domain(a)), Some(Host::Domain(b))) => without_root(a) == without_root(b),
        (a, b) => a == b,
    }
}

fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_same_however_it_is_written() {
        let is_same = |a: &str, b: &str| is_same(&a.parse().unwrap(), &b.parse().unwrap());
        for (a, b) in [
            ("https://a.example/x?y=1", "https://a.example/z"),
            ("https://a.example", "https://a.example:443/"),
            ("http://a.example", "http://a.example:80/"),
            ("https://A.Example/", "HTTPS://a.eXample/"),
            ("https://a.example./", "https://a.example/"),
            (
                "https://münchen.example/",
                "https://xn--mnchen-3ya.example/",
            ),
            ("https://a%2Eexample/", "https://a.example/"),
            ("https://0x8.8.2056/", "https://8.8.8.8/"),
            ("https://[2a00:0:0::1]/", "https://[2a00::1]/"),
        ] {
            assert!(is_same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("https://a.example/", "http://a.example/"),
            ("https://a.example/", "http://a.example:443/"),
            ("https://a.example/", "https://a.example:8443/"),
            ("https://a.example/", "https://b.example/"),
            ("https://a.example/", "https://a.example.b.example/"),
            ("https://a.example/", "https://www.a.example/"),
            ("https://8.8.8.8/", "https://[::ffff:8.8.8.8]/"),
        ] {
            assert!(!is_same(a, b), "{a} {b}");
        }
    }
}
