//! The name that usage is counted under for a tenant.

use std::borrow::Cow;
use std::fmt::Write;

use ring::digest;

/// Characters of a tenant that is counted under its own name. The name is part of a key
/// of usage, which has no room for a longer one.
const CHARS_MAX: usize = 128;

/// The tenant itself, or of a longer one `sha256:` and its SHA-256 in hexadecimal, which
/// is its own name here: so it may be asked for by either.
pub fn usage_tenant(tenant: &str) -> Cow<'_, str> {
    if tenant.len() <= CHARS_MAX || tenant.chars().count() <= CHARS_MAX {
        return tenant.into();
    }
    let mut name = "sha256:".to_owned();
    for byte in digest::digest(&digest::SHA256, tenant.as_bytes()).as_ref() {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_tenant_has_a_short_name_of_its_own() {
        for own in ["", "acme", &*"é".repeat(128)] {
            assert_eq!(usage_tenant(own), own);
        }
        let long = usage_tenant(&"x".repeat(129)).into_owned();
        assert_eq!(long.len(), "sha256:".len() + 64);
        assert_ne!(usage_tenant(&"x".repeat(60_000)), long);
        assert_eq!(usage_tenant(&long), long);
    }
}
