//! URLs of endpoints: one that is taken leads, for whoever reads it next, to the
//! host that was looked at.
#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use millrace::sender::{PrivateTargets, check_url, is_public};
use url::{Host, Url};

fuzz_target!(|input: &[u8]| {
    let url = std::str::from_utf8(input).ok();
    let Some(url) = url.and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    let checked = check_url(&url, PrivateTargets::Refused);
    if let Err(invalid) = checked {
        assert_eq!(invalid.field.as_deref(), Some("url"));
        assert!(invalid.detail.len() <= 256, "{invalid}");
        return;
    }
    check_url(&url, PrivateTargets::Allowed)
        .expect("what is public is taken where private ones are, too");
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url));
    // The sender reads it as one of these.
    let uri: Uri = url.as_str().parse().expect("it fits in a request");
    assert_eq!(uri.scheme_str(), Some("https"));
    assert_eq!(uri.host(), url.host_str());
    assert_eq!(uri.port_u16(), url.port());
    match url.host().expect("there is a host") {
        Host::Domain(name) => assert_ne!(name, "localhost"),
        Host::Ipv4(address) => assert!(is_public(address.into())),
        Host::Ipv6(address) => assert!(is_public(address.into())),
    }
});
