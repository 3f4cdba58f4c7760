//! The fields of a PATCH: what is absent stays, and null clears.
//!
//! One rule for every field of every resource: null puts it back to what it is on a
//! resource that was made without it. What a resource is always made with, or always
//! has, cannot be cleared, and null is refused as any other value is that it cannot have.

use serde::{Deserialize, Deserializer};

/// Reads a field that can be cleared, telling null from absent.
///
/// # Errors
/// As the format that it is read from.
pub(super) fn clearable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Reads a field that cannot be cleared: null is no value of it.
///
/// # Errors
/// As the format that it is read from.
pub(super) fn lasting<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
