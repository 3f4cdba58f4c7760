//! The key ring, and what it seals. An input is a ring on a line, then a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace::model::seal::KeyRing;
use millrace_fuzz::line_and_rest;
use secrecy::ExposeSecret;

const AAD: &[u8] = b"ep_1";

fuzz_target!(|input: &[u8]| {
    let Some((json, value)) = line_and_rest(input) else {
        return;
    };
    let ring = match KeyRing::parse(json) {
        Ok(ring) => ring,
        Err(invalid) => return assert!(invalid.to_string().len() <= 256, "{invalid}"),
    };
    let written = ring.to_json();
    let again = KeyRing::parse(written.expose_secret()).expect("what is written is read");
    assert_eq!(again.to_json().expose_secret(), written.expose_secret());

    // Nobody without a key made what opens.
    assert!(ring.open(AAD, value.as_bytes()).is_err());
    let mut sealed = ring.seal([0; 12], AAD, value.as_bytes());
    let opened = again.open(AAD, &sealed).expect("the same ring opens it");
    assert_eq!(opened.expose_secret(), value.as_bytes());
    assert!(!again.is_stale(&sealed));
    assert!(again.open(b"ep_2", &sealed).is_err());
    let at = value.len() % sealed.len();
    sealed[at] ^= 1;
    assert!(again.open(AAD, &sealed).is_err(), "byte {at} was changed");
});
