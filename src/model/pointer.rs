//! JSON pointers (RFC 6901) into an event's `data`, as they are written. Where they lead
//! is found by [`PointerSet`](super::pointer_set::PointerSet).

use std::fmt;

use crate::error::Invalid;

/// How long a pointer may be, in bytes.
pub(super) const LEN_MAX: usize = 255;
/// How deep a pointer may lead: finding it takes as many calls, one in another.
const STEPS_MAX: usize = 16;

/// A place in a JSON document: `/items/0/price`, or the empty text for the whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    /// Unescaped.
    steps: Box<[Box<str>]>,
}

impl Pointer {
    /// Reads a pointer in its string form (RFC 6901 §3).
    ///
    /// # Errors
    /// [`Invalid`] without a field: longer than 255 bytes, deeper than 16, not
    /// beginning with `/`, a `~` that is neither `~0` nor `~1`, or a NUL.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > LEN_MAX || text.contains('\0') {
            let detail = format!("expected up to {LEN_MAX} bytes, none of them NUL");
            return Err(Invalid::body(detail));
        }
        let steps = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').map(unescaped).collect::<Result<_, _>>()?,
            None if text.is_empty() => Vec::new(),
            None => return Err(not_one()),
        };
        if steps.len() > STEPS_MAX {
            let detail = format!("expected a JSON pointer of up to {STEPS_MAX} steps");
            return Err(Invalid::body(detail));
        }
        Ok(Self {
            text: text.into(),
            steps: steps.into(),
        })
    }

    /// As [`Pointer::parse`], for the text of `field`, which the error then names.
    ///
    /// # Errors
    /// As [`Pointer::parse`].
    pub fn parse_field(field: impl Into<String>, text: &str) -> Result<Self, Invalid> {
        Self::parse(text).map_err(|invalid| Invalid::new(field.into(), invalid.detail))
    }

    /// The pointer as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names and indexes it goes by, unescaped.
    pub(super) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| &**step)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

fn not_one() -> Invalid {
    Invalid::body("expected a JSON pointer (RFC 6901) into data, such as \"/total\"")
}

fn unescaped(step: &str) -> Result<Box<str>, Invalid> {
    let mut out = String::with_capacity(step.len());
    let mut parts = step.split('~');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (escaped, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(not_one()),
        };
        out.push(escaped);
        out.push_str(rest);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_are_unescaped() {
        let pointer = Pointer::parse("/a~1b/m~0n//~01").unwrap();
        assert!(pointer.steps().eq(["a/b", "m~n", "", "~1"]));
        assert_eq!(Pointer::parse("").unwrap().steps().count(), 0);
    }

    #[test]
    fn what_is_no_pointer() {
        for text in ["a", "a/b", "/~", "/a~2", "/~/0", "#/a", " /a"] {
            let refused = Pointer::parse(text).unwrap_err().to_string();
            assert!(refused.starts_with("expected a JSON pointer"), "{text}");
        }
        assert!(Pointer::parse(&format!("/{}", "a".repeat(255))).is_err());
        assert!(Pointer::parse("/a\0").is_err());
        assert!(Pointer::parse(&"/a".repeat(16)).is_ok());
        assert!(Pointer::parse(&"/a".repeat(17)).is_err());
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(text in any::<String>()) {
            if let Ok(pointer) = Pointer::parse(&text) {
                prop_assert_eq!(pointer.as_str(), text);
            }
        }
    }
}
